"""The code on the state machine's page runs, and what its comments say is so."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "machine.md"


def test_the_page_does_what_it_says(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), scope)
    assert capsys.readouterr().out == "False True\n"
    delta = np.asarray(scope["run"].swaps.delta)
    assert (delta > 0.25).all()
    assert int(scope["end"].step) == 400
    assert int(scope["end"].diverged) == -1
