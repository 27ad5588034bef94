"""The code on the page on grounding runs, and prints what its comments say."""

from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_page_does_what_it_says(run_page, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    scope = run_page("grounding.md")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["offline True", "I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP"]
    assert "chunk" in scope["answer"].text
