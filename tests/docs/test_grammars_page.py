"""The code on the page on small languages runs, and prints what its comments say."""

import re
from pathlib import Path


def test_the_page_does_what_it_says(run_page, capsys):
    run_page("grammars.md")
    page = (Path(__file__).parents[2] / "docs" / "grammars.md").read_text(encoding="utf-8")
    said = re.findall(r"^print\(.*\)  # (.*)$", page, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said
    assert len(said) == 5
