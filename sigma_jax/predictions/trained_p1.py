"""P1 on trained learners: does coherence go with quality at intersections, at matched depth?"""

import numpy as np

from ..statistics import FalsePositiveRate, TestResult, false_positive_rate
from .coupled_learners import CoupledOutcomes, late
from .few_seeds import correlation_power, indicators, partial_correlation
from .nulls import NULL_ALPHA
from .registration import FAMILY_ALPHA, Picture, Registration, Verdict, decide, numbers
from .trained_study import TrainedStudy, TrainedTest

_EFFECT = 0.5
_LEAST = float(_EFFECT / np.sqrt(_EFFECT**2 + 4.0))
"""The correlation that d = 0.5 between two equal groups amounts to."""
_LEARNERS, _SEEDS, _CONDITIONS = 40, 8, 5


def judge_quality(outcomes: CoupledOutcomes, study: TrainedStudy) -> Verdict:
    """The partial correlation of σ̃ and test accuracy, among seeds and within conditions.

    Registered before the run: both must be positive at the family's level, the weaker decides.
    """
    names = list(outcomes.test)
    quality, depth, sigma = (
        np.concatenate([late(curves[name]) for name in names])
        for curves in (outcomes.test, outcomes.familiar, outcomes.coherence)
    )
    seeds = np.tile(np.arange(study.seeds), len(names))
    condition = np.repeat(np.arange(len(names)), study.seeds)
    tests = _tests(sigma, quality, depth, seeds, condition)
    weaker = max(tests, key=lambda name: tests[name].p_value)
    result = tests[weaker]
    power = correlation_power(_LEAST, min(t.degrees_of_freedom[0] for t in tests.values()))
    outcome, why = decide(result, FAMILY_ALPHA, power=power, minimum=_LEAST)
    found = "; ".join(
        f"{name}: {t.estimate:.2f} [{t.low:.2f}, {t.high:.2f}]" for name, t in tests.items()
    )
    return Verdict(
        version="trained learners",
        outcome=outcome,
        reason=(
            f"{why} Partial correlations of σ̃ and exact match on held-out compositions at equal "
            f"familiar accuracy: {found}. The first can be the conditions' doing (batches change "
            "both), the second cannot; so both must hold. σ̃ has the paper's fixed weights and no "
            "accuracy in it."
        ),
        effect=f"partial correlation of σ̃ and test accuracy, {weaker} (the weaker)",
        **numbers(result),
        null_rate=_null(sigma, quality, depth, seeds, condition, study),
        power=power,
        picture=Picture(
            "scatter",
            "σ̃ in the last fourth of the run",
            "exact match on held-out compositions (share)",
            {name: (late(outcomes.coherence[name]), late(outcomes.test[name])) for name in names},
        ),
    )


def _tests(
    sigma: np.ndarray,
    quality: np.ndarray,
    depth: np.ndarray,
    seeds: np.ndarray,
    condition: np.ndarray,
) -> dict[str, TestResult]:
    """Depth enters as a parabola, since it need not be linear.

    Within conditions all values are in units of their condition's standard deviation: where a
    condition varies more in both, chance correlations would otherwise count more there.
    """
    within = [_standardised(values, condition) for values in (sigma, quality, depth)]
    return {
        "among conditions": partial_correlation(
            sigma, quality, np.column_stack([depth, depth**2, indicators(seeds)])
        ),
        "within conditions": partial_correlation(
            within[0],
            within[1],
            np.column_stack([within[2], within[2] ** 2, indicators(condition)]),
        ),
    }


def _standardised(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Zero mean and unit standard deviation under each label; zeros where all are equal."""
    scaled = np.zeros_like(values)
    for label in np.unique(labels):
        group = values[labels == label]
        scaled[labels == label] = (group - group.mean()) / max(float(group.std()), 1e-9)
    return scaled


def _null(
    sigma: np.ndarray,
    quality: np.ndarray,
    depth: np.ndarray,
    seeds: np.ndarray,
    condition: np.ndarray,
    study: TrainedStudy,
) -> FalsePositiveRate:
    """Coherence handed out at random within each condition, which is where the claim is decided."""
    rng, p_values = study.generator("P1"), []
    for _ in range(study.null_studies):
        shuffled = sigma.copy()
        for label in np.unique(condition):
            shuffled[condition == label] = rng.permutation(sigma[condition == label])
        tests = _tests(shuffled, quality, depth, seeds, condition)
        p_values.append(max(t.p_value for t in tests.values()))
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


QUALITY = TrainedTest(
    Registration(
        name="P1",
        title="Coherence raises the quality of work at intersections",
        claim="At equal depth, learners with more coherence do better on held-out compositions.",
        null="the partial correlation of σ̃ and test accuracy, given familiar accuracy, is zero",
        alternative=f"positive among and within conditions, at least {_LEAST:.2f} (d = {_EFFECT})",
        statistic=(
            "partial correlation given familiar accuracy (a parabola) and seeds, and given "
            "conditions in their place; the larger p"
        ),
        alpha=FAMILY_ALPHA,
        planned_n=_SEEDS,
        planned_power=correlation_power(_LEAST, _LEARNERS - _CONDITIONS - 3),
        simulation=(
            f"{_LEARNERS} learners: {_SEEDS} seeds in each of {_CONDITIONS} conditions of the "
            "coupled run on SCAN; means over the last fourth of the run."
        ),
        falsified_if=(
            f"no such correlation in a study with power 0.8 for {_LEAST:.2f}, or a negative one"
        ),
    ),
    judge_quality,
)
