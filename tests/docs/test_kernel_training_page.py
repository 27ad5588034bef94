"""The code on the page on training runs, and prints what its comment says."""

import pytest


@pytest.mark.slow
def test_the_page_does_what_it_says(run_page, capsys):
    run_page("kernel_training.md")
    assert capsys.readouterr().out == "[ True  True]\n"
