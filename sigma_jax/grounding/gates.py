"""The six acceptance gates, each a function of an evaluation's records.

Source: Σ₀-K1, acceptance gates.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import stats

from ..statistics import EffectSize, TestResult, binomial
from .evaluation import Evaluation, ScoredAnswer
from .human_eval import pass_at_k
from .prompts import DIFFICULTIES

LEAST_PROMPTS = 100
_ROUNDING = 1e-3
"""By how much a relative drift may differ from program to program: bfloat16 rounds otherwise in
each, by 2e-4 where it was seen."""
GATE_ARMS = ALONE, GROUNDED = "alone", "grounded"
"""The arms: the kernel without evidence, and the whole loop around the same kernel."""


@dataclass(frozen=True)
class Gate:
    """What one gate found."""

    letter: str
    title: str
    required: bool
    """Whether the evaluation fails with it; the others are only tracked."""
    passed: bool | None
    """None if it was not measured."""
    finding: str
    """One sentence with its numbers."""
    value: float | None
    """The number that is tracked over time; None if there is none."""


@dataclass(frozen=True)
class Accuracy:
    """How two arms answered the same prompts."""

    first: float
    """Share of right answers of the first arm."""
    second: float
    difference: EffectSize
    """The second less the first, with a 95 % bootstrap interval over prompts."""
    test: TestResult | None
    """McNemar's exact test on the prompts that one arm alone got right; None if there are none."""
    prompts: int


def judge_gates(evaluation: Evaluation) -> tuple[Gate, ...]:
    """The gates A to F, in order.

    **Raises** `ValueError` if the arms did not answer the same prompts.
    """
    return (
        golden_set_gate(evaluation),
        accuracy_gate(evaluation),
        programs_gate(evaluation),
        replay_gate(evaluation),
        swap_gate(evaluation),
        bytes_gate(evaluation),
    )


def gates_passed(gates: tuple[Gate, ...]) -> bool:
    """Whether every required gate was measured and passed."""
    return all(gate.passed is True for gate in gates if gate.required)


def golden_set_gate(evaluation: Evaluation) -> Gate:
    """A: at least 100 prompts over four difficulties, each with a source that resolves."""
    title = "the golden set is real"
    if not evaluation.sets:
        return _not_measured("A", title, required=True)
    (check,) = evaluation.sets
    count = sum(check.prompts.values())
    filled = all(check.prompts.get(difficulty, 0) > 0 for difficulty in DIFFICULTIES)
    shares = ", ".join(f"{check.prompts.get(name, 0)} {name}" for name in DIFFICULTIES)
    lost = f"{len(check.unresolved)} without their source" if check.unresolved else "all resolve"
    return Gate(
        "A",
        title,
        True,
        count >= LEAST_PROMPTS and filled and not check.unresolved,
        f"{count} prompts ({shares}), {lost}",
        float(count),
    )


def compare_arms(
    evaluation: Evaluation,
    *,
    arms: tuple[str, str] = GATE_ARMS,
    difficulty: str | None = None,
) -> Accuracy | None:
    """How two arms answered, by default the kernel alone and the loop around it.

    None without prompts.

    **Arguments:** `difficulty`, to look at its prompts only.

    **Raises** `ValueError` if the arms did not answer the same prompts.
    """
    first, second = (evaluation.arm(name) for name in arms)
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise ValueError(f"both arms must answer the same prompts; only one has {odd[:5]}.")
    ids = [i for i, answer in first.items() if difficulty in (None, answer.difficulty)]
    if not ids:
        return None
    return paired_accuracy([first[i].right for i in ids], [second[i].right for i in ids])


def paired_accuracy(first: Sequence[bool], second: Sequence[bool]) -> Accuracy:
    """How often each of two was right, and by how much they differ on the same questions.

    **Arguments:** `first` and `second`, whether each was right, question by question.

    **Raises** `ValueError` for none, or not as many of both.

    Source: McNemar (1947); Efron & Tibshirani (1993), An Introduction to the Bootstrap, §13.
    """
    before, after = np.array(first, bool), np.array(second, bool)
    if not len(before) or before.shape != after.shape:
        raise ValueError(
            "first and second must be as many, and one at least; got "
            f"{len(before)} and {len(after)}."
        )
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return Accuracy(
        first=float(before.mean()),
        second=float(after.mean()),
        difference=_difference(before, after),
        test=binomial(gained, gained + lost, 0.5) if gained + lost else None,
        prompts=len(before),
    )


def _difference(before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " n"]) -> EffectSize:
    each = after.astype(float) - before
    if len(each) < 2 or (each == each[0]).all():  # nothing to draw again
        return EffectSize(float(each.mean()), float(each.mean()), float(each.mean()))
    found = stats.bootstrap(
        (each,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(0)
    ).confidence_interval
    return EffectSize(float(each.mean()), float(found.low), float(found.high))


def accuracy_gate(evaluation: Evaluation) -> Gate:
    """B: the grounded loop answers more of the golden set than its kernel alone, beyond chance."""
    title = "grounded beats alone"
    found = compare_arms(evaluation)
    if found is None:
        return _not_measured("B", title, required=True)
    low, high = found.difference.low, found.difference.high
    p_value = 1.0 if found.test is None else found.test.p_value
    return Gate(
        "B",
        title,
        True,
        low > 0.0,
        f"{found.second:.1%} against {found.first:.1%} of {found.prompts}: "
        f"{found.difference.estimate:+.1%} [{low:+.1%}, {high:+.1%}], McNemar p = {p_value:.2g}",
        found.second,
    )


def programs_gate(evaluation: Evaluation) -> Gate:
    """C: HumanEval pass@k, tracked."""
    title = "HumanEval"
    if not evaluation.programs:
        return _not_measured("C", title, required=False, why="; ".join(evaluation.notes))
    tried = Counter(program.task for program in evaluation.programs)
    right = Counter(p.task for p in evaluation.programs if p.ending == "passed")
    samples = min(tried.values())
    shown = {
        k: float(np.mean([pass_at_k(n, right[task], k) for task, n in tried.items()]))
        for k in dict.fromkeys((1, samples))
    }
    rates = ", ".join(f"pass@{k} = {rate:.1%}" for k, rate in shown.items())
    each = sum(program.seconds for program in evaluation.programs) / len(evaluation.programs)
    finding = f"{rates} of {len(tried)} problems, {each:.2g} s a program to run"
    return Gate("C", title, False, True, finding, shown[1])


def replay_gate(evaluation: Evaluation) -> Gate:
    """D: what is run again gives the same bits."""
    title = "replay"
    if not evaluation.replays:
        return _not_measured("D", title, required=True)
    differ = [replay.case for replay in evaluation.replays if replay.first != replay.second]
    same = len(evaluation.replays) - len(differ)
    finding = f"{same} of {len(evaluation.replays)} identical to the bit"
    if differ:
        finding += f"; not: {', '.join(differ)}"
    return Gate("D", title, True, not differ, finding, same / len(evaluation.replays))


def swap_gate(evaluation: Evaluation) -> Gate:
    """E: no accepted swap at or beyond the tolerance, no refused one below; strangers refused.

    The relative drift that decided is held against the same number computed by other means.
    """
    title = "hot swaps are safe"
    swaps = evaluation.swaps
    if not swaps:
        return _not_measured("E", title, required=True)
    wrong = [swap for swap in swaps if swap.accepted != (swap.delta < swap.tolerance)]
    taken = [swap for swap in swaps if swap.stranger and swap.accepted]
    off = [
        swap
        for swap in swaps
        if not math.isclose(swap.delta, swap.recomputed, rel_tol=1e-3, abs_tol=_ROUNDING)
    ]
    accepted = [swap for swap in swaps if swap.accepted]
    largest = max((swap.delta for swap in accepted), default=0.0)
    strangers = sum(swap.stranger for swap in swaps)
    finding = (
        f"{len(accepted)} of {len(swaps)} accepted, the largest relative drift {largest:.3g} "
        f"(tolerance {swaps[0].tolerance:g}); {strangers - len(taken)} of {strangers} strangers "
        f"refused; {len(wrong)} decided otherwise than by the tolerance, {len(off)} not "
        "reproduced by other means"
    )
    good = bool(accepted) and strangers > 0 and not (wrong or taken or off)
    return Gate("E", title, True, good, finding, largest)


def bytes_gate(evaluation: Evaluation) -> Gate:
    """F: fewer bytes are served for a right answer than by the kernel alone."""
    title = "bytes for a right answer"
    costs = {}
    for arm in (ALONE, GROUNDED):
        answers = list(evaluation.arm(arm).values())
        if not answers:
            return _not_measured("F", title, required=True)
        costs[arm] = bytes_for_a_right_answer(answers)
    before, after = costs[ALONE], costs[GROUNDED]
    finding = f"{after:,.0f} bytes served grounded, {before:,.0f} alone"
    return Gate("F", title, True, after < before, finding, after if math.isfinite(after) else None)


def bytes_for_a_right_answer(answers: list[ScoredAnswer]) -> float:
    """Bytes served over right answers; infinite if none is right."""
    right = sum(answer.right for answer in answers)
    served = sum(answer.served_bytes for answer in answers)
    return served / right if right else math.inf


def _not_measured(letter: str, title: str, *, required: bool, why: str = "") -> Gate:
    finding = f"not measured: {why}" if why else "not measured"
    return Gate(letter, title, required, None, finding, None)
