"""The code on the kernel's page runs, and what its comments say is so."""


def test_the_page_does_what_it_says(run_page, capsys):
    scope = run_page("kernel.md")
    assert capsys.readouterr().out == "[12, 12]\nTrue\n"
    assert [len(row) for row in scope["said"].depths] == [12, 12]
