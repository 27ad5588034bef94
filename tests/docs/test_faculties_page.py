"""The code on the faculties' page runs, and prints what its comments say."""


def test_the_page_does_what_it_says(run_page, capsys):
    run_page("faculties.md")
    assert capsys.readouterr().out == (
        "False | accuracy without the cue is 0.07, below 0.50\nTrue\nTrue\n"
    )
