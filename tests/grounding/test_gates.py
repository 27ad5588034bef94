"""The gates against evaluations made by hand, and all of it through a ledger."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from sigma_jax.grounding import (
    Evaluation,
    JudgedProgram,
    Ledger,
    ProposedSwap,
    Replay,
    ScoredAnswer,
    SetCheck,
    compare_arms,
    gates_passed,
    judge_gates,
    provider_scores,
    read_evaluation,
    read_ledger,
    record_item,
)

SET = SetCheck({"smoke": 25, "easy": 25, "medium": 25, "hard": 25}, [])


def answers(arm, right, size=100, difficulty="easy"):
    """One answer a flag, right where it is true."""
    return [
        ScoredAnswer(
            arm=arm,
            id=f"q{number}",
            question=f"Which is {number}?",
            difficulty=difficulty,
            category="none",
            rubric="blue",
            text="It is blue." if flag else "It is red.",
            trusted=arm == "grounded",
            provider="p",
            served_bytes=size,
            exchanged_bytes=size,
            seconds=0.1,
        )
        for number, flag in enumerate(right)
    ]


def swap(delta, accepted, stranger=False, recomputed=None):
    again = delta if recomputed is None else recomputed
    return ProposedSwap("c", stranger, delta, again, accepted, 0.25)


GOOD = Evaluation(
    sets=(SET,),
    answers=(
        *answers("alone", [True] * 3 + [False] * 27),
        *answers("grounded", [True] * 20 + [False] * 10),
    ),
    programs=(JudgedProgram("a", "passed", 0.1), JudgedProgram("b", "failed", 0.3)),
    replays=(Replay("one", "ab", "ab"),),
    swaps=(swap(0.1, True), swap(0.3, False), swap(2.0, False, stranger=True)),
)


def judged(evaluation):
    return {gate.letter: gate for gate in judge_gates(evaluation)}


def test_a_good_evaluation_passes_them_all():
    gates = judge_gates(GOOD)
    assert [gate.letter for gate in gates] == list("ABCDEF")
    assert all(gate.passed for gate in gates)
    assert gates_passed(gates)
    assert [gate.required for gate in gates] == [True, True, False, True, True, True]
    assert judged(GOOD)["C"].finding.startswith("pass@1 = 50.0% of 2 problems, 0.2 s")
    assert judged(GOOD)["F"].value == pytest.approx(30 * 100 / 20)


BROKEN = {
    "A": [
        {"sets": (SetCheck({"smoke": 99, "easy": 0, "medium": 0, "hard": 0}, []),)},
        {"sets": (SetCheck({"smoke": 97, "easy": 1, "medium": 1, "hard": 0}, []),)},
        {"sets": (dataclasses.replace(SET, unresolved=["q"]),)},
        {"sets": ()},
    ],
    "B": [
        {"answers": (*answers("alone", [True] * 30), *answers("grounded", [True] * 30))},
        {"answers": (*answers("alone", [False] * 9), *answers("grounded", [True] + [False] * 8))},
        {"answers": ()},
    ],
    "D": [{"replays": (Replay("one", "ab", "ab"), Replay("two", "ab", "ac"))}, {"replays": ()}],
    "E": [
        {"swaps": (swap(0.1, True), swap(0.25, True), swap(2.0, False, stranger=True))},
        {"swaps": (swap(0.1, True), swap(0.2, False), swap(2.0, False, stranger=True))},
        {"swaps": (swap(0.1, True), swap(0.1, True, stranger=True))},
        {"swaps": (swap(0.1, True, recomputed=0.2), swap(2.0, False, stranger=True))},
        {"swaps": (swap(0.1, True, recomputed=0.102), swap(2.0, False, stranger=True))},
        {"swaps": (swap(0.1, True),)},
        {"swaps": (swap(2.0, False, stranger=True),)},
        {"swaps": ()},
    ],
    "F": [
        {
            "answers": (
                *answers("alone", [True] * 3 + [False] * 27, size=10),
                *answers("grounded", [True] * 20 + [False] * 10, size=100),
            )
        },
    ],
}


@pytest.mark.parametrize(
    ("letter", "change"), [(letter, c) for letter, changes in BROKEN.items() for c in changes]
)
def test_what_breaks_a_gate_fails_it_and_the_evaluation(letter, change):
    evaluation = dataclasses.replace(GOOD, **change)
    assert judged(evaluation)[letter].passed is not True
    assert not gates_passed(judge_gates(evaluation))


def test_what_was_not_run_says_why_and_is_not_required():
    evaluation = dataclasses.replace(GOOD, programs=(), notes=("no network",))
    assert judged(evaluation)["C"].finding == "not measured: no network"
    assert gates_passed(judge_gates(evaluation))


def test_a_kernel_that_is_never_right_costs_infinitely_much():
    kept = (*answers("alone", [False] * 9), *answers("grounded", [True] * 9))
    gate = judged(dataclasses.replace(GOOD, answers=kept))["F"]
    assert gate.passed
    assert "inf alone" in gate.finding
    both = (*answers("alone", [False] * 9), *answers("grounded", [False] * 9))
    assert judged(dataclasses.replace(GOOD, answers=both))["F"].passed is False


def test_the_interval_is_the_bootstraps_and_the_test_is_mcnemars():
    rng = np.random.default_rng(4)
    before, after = rng.random((2, 80)) < np.array([[0.3], [0.5]])
    kept = (*answers("alone", before), *answers("grounded", after))
    found = compare_arms(dataclasses.replace(GOOD, answers=kept))
    assert found is not None
    assert found.test is not None
    each = after.astype(float) - before
    draws = rng.choice(each, (20_000, 80)).mean(axis=1)
    assert found.difference.estimate == pytest.approx(each.mean())
    ends = np.quantile(draws, [0.025, 0.975])
    np.testing.assert_allclose([found.difference.low, found.difference.high], ends, atol=0.015)
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    assert found.test.p_value == pytest.approx(
        stats.binomtest(gained, gained + lost, 0.5).pvalue, rel=1e-12
    )


def test_arms_of_other_prompts_are_refused_and_difficulties_stand_apart():
    kept = (*answers("alone", [True] * 3), *answers("grounded", [True] * 4))
    with pytest.raises(ValueError, match=r"only one has \['q3'\]"):
        compare_arms(dataclasses.replace(GOOD, answers=kept))
    assert compare_arms(GOOD, difficulty="hard") is None
    easy = compare_arms(GOOD, difficulty="easy")
    assert easy is not None
    assert easy.prompts == 30


def test_an_evaluation_comes_back_from_its_ledger(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append("evaluation", {"label": "mini"})
        for item in (*GOOD.sets, *GOOD.answers, *GOOD.programs, *GOOD.replays, *GOOD.swaps):
            record_item(ledger, item)
        ledger.append("not run", {"why": "because"})
    found = read_evaluation(read_ledger(path))
    assert found == dataclasses.replace(GOOD, about={"label": "mini"}, notes=("because",))
    assert judge_gates(found) == judge_gates(GOOD)


def test_ledgers_of_no_evaluation_or_of_other_fields_are_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        record_item(ledger, SET)
    with pytest.raises(ValueError, match="records must be of one evaluation; got 0"):
        read_evaluation(read_ledger(path))
    with Ledger(path) as ledger:
        ledger.append("swap", {"delta": 1.0})
    with pytest.raises(ValueError, match="record 1 is no 'swap'"):
        read_evaluation(read_ledger(path))
    with Ledger(tmp_path / "other.jsonl") as ledger, pytest.raises(KeyError):
        record_item(ledger, GOOD)


def test_providers_are_scored_on_what_they_said_first(tmp_path):
    path = tmp_path / "ledger.jsonl"
    (alone,) = answers("alone", [False])
    (grounded,) = answers("grounded", [True])
    with Ledger(path) as ledger:
        record_item(ledger, alone)
        for provider, text in (("weak", "red"), ("strong", "blue"), ("weak", "blue")):
            about = {"question": grounded.question, "provider": provider, "text": text}
            ledger.append("reply", about)
        record_item(ledger, grounded)
    scores = provider_scores(read_ledger(path))
    assert scores == {"weak": {"q0": 0.0}, "strong": {"q0": 1.0}}
