"""The code on the state machine's page runs, and what its comments say is so."""

import numpy as np


def test_the_page_does_what_it_says(run_page, capsys):
    scope = run_page("machine.md")
    assert capsys.readouterr().out == "False True\n"
    delta = np.asarray(scope["run"].swaps.delta)
    assert (delta > 0.25).all()
    assert int(scope["end"].step) == 400
    assert int(scope["end"].diverged) == -1
