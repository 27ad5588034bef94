"""P9 on trained learners: does learning speed up where they enter phase 2?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..statistics import FalsePositiveRate, break_test, false_positive_rate
from .coupled_learners import YOKED, CoupledOutcomes, Curves, Seeds
from .few_seeds import rise, rise_power, undecided
from .nulls import NULL_ALPHA
from .registration import FAMILY_ALPHA, Picture, Registration, Verdict, decide, numbers
from .trained_study import TrainedStudy, TrainedTest

_EDGE = 3
"""Checkpoints before and after a time at which the slope can be said to change."""
_EFFECT = 0.2
"""The registered change of slope, .02 percentage points a step, per 1,000 steps; and of the fit."""
_SPREAD = 0.1
"""Of the seeds' differences, as assumed when the power was planned."""
_LEAST_LEARNERS = 4
_SEEDS = 8
_UNIT = 1_000.0


class _Hinges(NamedTuple):
    """Of each learner, for each possible time of a hinge."""

    change: Float[np.ndarray, "learners times"]
    """Of the slope, per 1,000 steps."""
    fit: Float[np.ndarray, "learners times"]
    """Correlation of the series with the hinge, given the line; largest at a true upward hinge. The
    change itself is not: a hinge far from the true one has to bend more."""


def judge_entry(outcomes: CoupledOutcomes, study: TrainedStudy) -> Verdict:
    """The change of slope at the entry, against zero, the yoked learner, and other times.

    Registered before the run: all three must be positive at the family's level; the weakest
    decides.
    """
    steps, entry = outcomes.steps, outcomes.entry["full"]
    places = _places(steps)
    inside = (entry >= steps[places[0]]) & (entry <= steps[places[-1]])
    entered = ", ".join(f"{step:g}" for step in np.sort(entry))
    effect = "change of slope at the entry into phase 2, per 1,000 steps"
    if inside.sum() < _LEAST_LEARNERS:
        return undecided(
            f"The learners enter phase 2 at steps {entered}: fewer than {_LEAST_LEARNERS} of them "
            f"where a change of slope can be seen ({steps[places[0]]:g} to "
            f"{steps[places[-1]]:g}).",
            effect,
            (study.seeds,),
            study.null_studies,
            _picture(outcomes),
        )
    own, yoked = outcomes.test["full"][inside], outcomes.test[YOKED][inside]
    # A phase begins at the start of a block, which is the checkpoint before.
    at = np.searchsorted(steps, entry[inside])
    of_own, of_yoked = _hinges(steps, own), _hinges(steps, yoked)
    parts = _parts(of_own, of_yoked, at - places[0])
    tests = {name: rise(values) for name, values in parts.items()}
    weakest = max(tests, key=lambda name: tests[name].p_value)
    result = tests[weakest]
    power = rise_power(_EFFECT, float(parts[weakest].std(ddof=1)), int(inside.sum()))
    outcome, why = decide(result, FAMILY_ALPHA, power=power)
    found = "; ".join(
        f"{name} {t.estimate:.2f} [{t.low:.2f}, {t.high:.2f}]" for name, t in tests.items()
    )
    return Verdict(
        version="trained learners",
        outcome=outcome,
        reason=(
            f"{why} Entries at steps {entered}. Change of slope there, per 1,000 steps, and how "
            f"well a hinge fits there (correlation): {found}. "
            f"{_breaks(steps, own, entry[inside])} {_plain(outcomes)}"
        ),
        effect=f"{effect}: {weakest} (the weakest part)",
        **numbers(result),
        null_rate=_null(of_own, of_yoked, study),
        power=power,
        picture=_picture(outcomes),
    )


def _hinges(steps: np.ndarray, series: Curves) -> "_Hinges":
    """The change of slope at each possible time, if it were the time of the only one.

    Least squares of a line with a hinge at a given time.
    """
    x = steps / _UNIT
    line = np.linalg.qr(np.column_stack([np.ones_like(x), x]))[0]
    left = series - series @ line @ line.T
    hinges = np.maximum(x - x[_places(steps)][:, None], 0.0)
    hinges -= hinges @ line @ line.T
    scores, lengths = left @ hinges.T, np.linalg.norm(hinges, axis=1)
    size = np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-12)
    return _Hinges(scores / lengths**2, scores / lengths / size)


def _places(steps: np.ndarray) -> np.ndarray:
    return np.arange(_EDGE, steps.size - _EDGE)


def _parts(of_own: _Hinges, of_yoked: _Hinges, at: np.ndarray) -> dict[str, Seeds]:
    """The three quantities that must be positive, learner by learner."""
    rows, times = np.arange(len(at)), of_own.fit.shape[1]
    there, fit = of_own.change[rows, at], of_own.fit[rows, at]
    elsewhere = (of_own.fit.sum(axis=1) - fit) / (times - 1)
    return {
        "itself": there,
        "less the yoked learner's": there - of_yoked.change[rows, at],
        "fit less its mean at other times": fit - elsewhere,
    }


def _null(of_own: _Hinges, of_yoked: _Hinges, study: TrainedStudy) -> FalsePositiveRate:
    """Entries at random times: nothing can be particular about them."""
    rng, p_values = study.generator("P9"), []
    learners, times = of_own.fit.shape
    for _ in range(study.null_studies):
        parts = _parts(of_own, of_yoked, rng.integers(times, size=learners))
        p_values.append(max(rise(values).p_value for values in parts.values()))
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


def _breaks(steps: np.ndarray, own: Curves, entry: Seeds) -> str:
    """Where the best break of each learner is, with a p-value that knows that it was looked for."""
    found = contained = tested = 0
    for series, step in zip(own, entry, strict=True):
        if np.ptp(series) == 0.0:
            continue
        test = break_test(steps, series, alternative="greater", errors="ar1", replicates=199)
        tested += 1
        found += test.p_value <= NULL_ALPHA
        contained += test.low <= step <= test.high
    return (
        f"An upward break at an unknown time is significant at {NULL_ALPHA:g} in {found} of "
        f"{tested} learners (errors AR(1)); the best break's interval holds the entry in "
        f"{contained}."
    )


def _plain(outcomes: CoupledOutcomes) -> str:
    """What happens where a learner enters phase 2 and nothing in its training changes."""
    steps, entry = outcomes.steps, outcomes.entry["baseline"]
    places = _places(steps)
    inside = (entry >= steps[places[0]]) & (entry <= steps[places[-1]])
    if not inside.any():
        return "No baseline learner enters phase 2 where it could be seen."
    at = np.searchsorted(steps, entry[inside]) - places[0]
    change = _hinges(steps, outcomes.test["baseline"][inside]).change[np.arange(inside.sum()), at]
    return (
        f"In the baseline, whose training does not change there, {inside.sum()} learners enter "
        f"where it can be seen, and the slope changes by {change.mean():.2f}."
    )


def _picture(outcomes: CoupledOutcomes) -> Picture:
    entry = outcomes.entry["full"]
    marks = {"entry (median)": float(np.median(entry))}
    return Picture(
        "lines",
        "training step",
        "exact match on held-out compositions (mean of seeds)",
        {
            name: (outcomes.steps, outcomes.test[name].mean(axis=0))
            for name in ("full", YOKED, "baseline")
        },
        marks if np.isfinite(np.median(entry)) else {},
    )


ENTRY = TrainedTest(
    Registration(
        name="P9",
        title="Learning speeds up on entry into phase 2",
        claim="The slope of test accuracy over steps rises where a learner enters phase 2.",
        null="the slope does not change there, or does so in the yoked learner or at other times",
        alternative="it rises there, more than in the yoked learner, and a hinge fits best there",
        statistic=(
            "change of slope at the entry, learner by learner; paired t against zero and the yoked "
            "learner, and of the hinge's fit against that at other times; the largest p"
        ),
        alpha=FAMILY_ALPHA,
        planned_n=_SEEDS,
        planned_power=rise_power(_EFFECT, _SPREAD, _SEEDS),
        simulation=(
            f"{_SEEDS} seeds in the full condition, the same yoked to its batches without σ, and "
            "the baseline; 32 checkpoints of 50 held-out compositions."
        ),
        falsified_if=(
            "one of the three differences is not positive in a study with power 0.8 for "
            f"{_EFFECT} per 1,000 steps"
        ),
    ),
    judge_entry,
)
