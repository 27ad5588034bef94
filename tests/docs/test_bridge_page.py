"""The code on the bridge's page runs, and prints what its comment says."""


def test_the_page_does_what_it_says(run_page, capsys):
    run_page("bridge.md")
    expected = "64 True\n['loop_2', 'loop_3', 'loop_4'] (4, 64)\n(64, 64) True False\n"
    assert capsys.readouterr().out == expected
