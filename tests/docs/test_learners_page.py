"""The code on the learners' page runs, and prints what its comments say."""


def test_the_page_does_what_it_says(run_page, capsys):
    run_page("learners.md")
    assert capsys.readouterr().out == (
        "{'task': 8998, 'compositional': 400, 'calibration': 100, 'familiar': 100, 'test': 200}\n"
        "0\n(2, 2) (2, 1, 3) 10\n"
    )
