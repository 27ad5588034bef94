"""The code on the bridge's page runs, and prints what its comment says."""


def test_the_page_does_what_it_says(run_page, capsys):
    run_page("bridge.md")
    assert capsys.readouterr().out == "64 True\n"
