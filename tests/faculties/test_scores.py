"""Scores: intervals against Wilson's, and that silence is never scored as wrong."""

import threading
import zlib

import numpy as np
import pytest
import scipy

from sigma_jax.faculties import (
    H_AFB,
    H_PTB,
    Benchmark,
    CannotAnswer,
    Form,
    Question,
    ScriptedAgent,
    measure,
)
from sigma_jax.faculties.scores import Tally, interval_of, make_score, ratio, without_guessing

BENCHMARKS = pytest.mark.parametrize("benchmark", [H_PTB, H_AFB], ids=["h_ptb", "h_afb"])


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (37, 40), (1, 1)])
def test_one_share_has_wilsons_interval(hits: int, n: int):
    found = interval_of({"cell": Tally(hits, n, n)}, ["cell"], lambda shares: shares["cell"])
    wilson = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert found.estimate == hits / n
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=0.015)


@pytest.mark.parametrize(("one", "other"), [((56, 70), (48, 80)), ((10, 10), (0, 10))])
def test_a_difference_is_close_to_newcombes(one: tuple[int, int], other: tuple[int, int]):
    """Newcombe's table: 56/70 − 48/80 has 0.0524 to 0.3339, and 10/10 − 0/10 has 0.6075 to 1."""
    found = interval_of(
        {"one": Tally(*one, one[1]), "other": Tally(*other, other[1])},
        ["one", "other"],
        lambda shares: shares["one"] - shares["other"],
        bounds=(-1.0, 1.0),
    )
    expected = {(56, 70): (0.0524, 0.3339), (10, 10): (0.6075, 1.0)}[one]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("above", "below"), [(0.1, 0.9), (0.45, 0.9), (0.9, 1.0), (0.3, 0.6)])
def test_a_ratios_interval_holds_the_truth(above: float, below: float):
    rng, n, held = np.random.default_rng(1), 40, 0
    for _ in range(400):
        tallies = {
            "above": Tally(int(rng.binomial(n, above)), n, n),
            "below": Tally(int(rng.binomial(n, below)), n, n),
        }
        found = interval_of(
            tallies, ["above", "below"], lambda shares: ratio(shares["above"], shares["below"])
        )
        held += found.low <= above / below <= found.high
    assert held / 400 > 0.92  # two standard errors below 0.95


def test_guessing_is_taken_off():
    assert without_guessing(0.25, 4) == 0.0
    assert without_guessing(1.0, 4) == 1.0
    assert without_guessing(0.4 + 0.6 / 3, 3) == pytest.approx(0.4)
    assert without_guessing(0.4, 0) == 0.4


@BENCHMARKS
@pytest.mark.parametrize("constant", [*"ABCD", "C) or the like", "I_WALK", "A1"])
@pytest.mark.parametrize("options", [True, False])
def test_a_constant_answer_does_not_score(benchmark: Benchmark, constant: str, options: bool):
    score = measure(benchmark, lambda question: constant, size=16, options=options).score
    assert not score.measured
    assert score.why
    assert score.estimate is score.low is score.high is None


@BENCHMARKS
def test_a_guess_does_not_score(benchmark: Benchmark):
    score = measure(benchmark, ScriptedAgent(depth=0.0), size=40).score
    assert "below 0.50" in score.why
    assert score.endings == {"answered": 200}


@BENCHMARKS
def test_failures_are_counted_and_not_wrong(benchmark: Benchmark):
    able = ScriptedAgent()

    def unreliable(question: Question) -> str:
        number = zlib.crc32(question.prompt.encode()) % 12
        if number == 0:
            raise OSError("connection lost")
        if number == 1:
            raise CannotAnswer("no")
        return "" if number == 2 else "Answer: A\nAnswer: B" if number == 3 else able(question)

    score = measure(benchmark, unreliable, size=40).score
    assert score.estimate == 1.0
    assert set(score.endings) == {"answered", "raised", "declined", "empty", "several answers"}
    assert sum(score.endings.values()) == score.asked == 200
    assert score.n == score.endings["answered"] < 170
    assert score.calls.questions == 200


@BENCHMARKS
@pytest.mark.parametrize("cell", ["plain", "conflict", "familiar", "productivity"])
def test_less_than_half_answered_is_not_measured(benchmark: Benchmark, cell: str):
    able = ScriptedAgent()

    def shy(question: Question) -> str:
        return "" if question.key.cell == cell else able(question)

    measurement = measure(benchmark, shy, size=12)
    asked = {outcome.question.key.cell for outcome in measurement.outcomes}
    assert measurement.score.measured == (cell not in asked)
    if cell in asked:
        assert f"{cell}: 0 of 12" in measurement.score.why


def test_an_agent_that_hangs_has_no_score():
    release = threading.Event()

    def hanging(question: Question) -> str:
        release.wait(60.0)
        return "A"

    score = measure(H_AFB, hanging, size=8, seconds=0.02, most_late=2).score
    release.set()
    assert not score.measured
    assert score.endings == {"too late": 2, "not asked": 38}
    assert score.n == 0


@BENCHMARKS
def test_sentences_instead_of_options(benchmark: Benchmark):
    measurement = measure(benchmark, ScriptedAgent(sigma=0.5, alpha=0.5), size=40, options=False)
    assert {outcome.question.form for outcome in measurement.outcomes} == {Form.SENTENCE}
    score = measurement.score
    assert score.low is not None
    assert score.high is not None
    assert score.low <= 0.5 <= score.high


def test_a_score_has_an_estimate_or_a_reason():
    with pytest.raises(ValueError, match="give an estimate or why"):
        make_score("h", "sigma", (), estimate=None, parts={}, falsified_by="")
    with pytest.raises(ValueError, match="no answer"):
        interval_of({"cell": Tally(0, 0, 5)}, ["cell"], lambda shares: shares["cell"])
    with pytest.raises(ValueError, match="size"):
        measure(H_AFB, ScriptedAgent(), size=0)
