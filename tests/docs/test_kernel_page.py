"""The code on the kernel's page runs, and what its comments say is so."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "kernel.md"


def test_the_page_does_what_it_says(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), scope)
    assert capsys.readouterr().out == "[12, 12]\nTrue\n"
    assert [len(row) for row in scope["said"].depths] == [12, 12]
