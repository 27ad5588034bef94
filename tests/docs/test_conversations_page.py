"""The code on the conversations' page runs, and prints what its comments say."""


def test_the_page_does_what_it_says(run_page, capsys):
    run_page("conversations.md")
    assert capsys.readouterr().out == (
        "1. List the tables.\n"
        "2 on Saturday Ending.CORRECTED\n"
        "3 on Sunday None\n"
        "True\n"
        "True True\n"
        "None True\n"
    )
