"""M1 on trained learners: do interventions work without more coherence?"""

import numpy as np

from ..schema import Thresholds
from ..statistics import FalsePositiveRate, TestResult, false_positive_rate, mediation, slope
from .coupled_learners import YOKED, CoupledOutcomes, late
from .few_seeds import rise, standard_error, t_power, undecided
from .nulls import NULL_ALPHA
from .registration import (
    FAMILY_ALPHA,
    Outcome,
    Picture,
    Registration,
    Verdict,
    decide,
    numbers,
)
from .trained_study import TrainedStudy, TrainedTest

_BATCHES = ("schema loss", "full", YOKED)
"""The conditions with compositional pairs, which are the intervention; the others have none."""
_EFFECT = 0.1
"""Of an intervention at equal coherence, in shares of the test."""
_SPREAD, _SEEDS, _LEARNERS = 0.1, 8, 40
_EFFECT_NAME = "effect of compositional batches on test accuracy at equal σ̃ (share)"


def judge_interventions(outcomes: CoupledOutcomes, study: TrainedStudy) -> Verdict:
    """What compositional batches do to test accuracy beside what goes with σ̃.

    Registered before the run: M1 says that nothing is left at equal σ̃. An effect there refutes it;
    a study with power 0.8 for 0.1 that finds none supports it; if the batches do nothing at all,
    there is nothing to be mediated.
    """
    names = list(outcomes.test)
    test, sigma = (
        np.concatenate([late(curves[name]) for name in names])
        for curves in (outcomes.test, outcomes.coherence)
    )
    treated = np.repeat([float(name in _BATCHES) for name in names], study.seeds)
    picture = _picture(outcomes)
    gain = _gain(outcomes)
    total = rise(gain)
    if total.p_value >= FAMILY_ALPHA or np.ptp(test) == 0.0:
        return undecided(
            f"Compositional batches change test accuracy by {total.estimate:.3f} "
            f"[{total.low:.3f}, {total.high:.3f}] (p = {total.p_value:.2g}): no intervention "
            "worked, so there is nothing that could go through coherence.",
            _EFFECT_NAME,
            (study.seeds,),
            study.null_studies,
            picture,
        )
    result = slope(treated, test, alternative="greater", covariates=sigma)
    power = t_power(_EFFECT, standard_error(result), result.degrees_of_freedom[0])
    found, why = decide(result, FAMILY_ALPHA, power=power)
    opposite: dict[str, Outcome] = {"supported": "refuted", "refuted": "supported"}
    through = mediation(treated, sigma, test, seed=study.seed)
    return Verdict(
        version="trained learners",
        outcome=opposite.get(found, found),
        reason=(
            f"M1 says that nothing is left at equal σ̃. {why} Batches raise test accuracy by "
            f"{total.estimate:.2f} [{total.low:.2f}, {total.high:.2f}] in all, of which "
            f"{through.indirect.estimate:.2f} [{through.indirect.low:.2f}, "
            f"{through.indirect.high:.2f}] goes through σ̃. {_below(outcomes)} σ̃ is a noisy measure "
            "of coherence, which favours an effect beside it."
        ),
        effect=_EFFECT_NAME,
        **numbers(result),
        null_rate=_null(treated, sigma, test, study),
        power=power,
        picture=picture,
    )


def _gain(outcomes: CoupledOutcomes) -> np.ndarray:
    """Mean test accuracy with batches less that without, seed by seed."""

    def mean(names: list[str]) -> np.ndarray:
        return np.mean([late(outcomes.test[name]) for name in names], axis=0)

    return mean([n for n in outcomes.test if n in _BATCHES]) - mean(
        [n for n in outcomes.test if n not in _BATCHES]
    )


def _below(outcomes: CoupledOutcomes) -> str:
    """The direct falsifier: learners that gain while σ̃ stays below its critical value."""
    critical = Thresholds().sigma_critical
    base = late(outcomes.test["baseline"])
    low = {name: late(outcomes.coherence[name]) < critical for name in _BATCHES}
    gains = np.concatenate([(late(outcomes.test[n]) - base)[low[n]] for n in _BATCHES])
    plain = late(outcomes.coherence["baseline"])
    ends = f"The baseline's σ̃ ends at {plain.mean():.2f}, with {base.mean():.0%} of the test right"
    if not gains.size:
        return (
            f"{ends}; no learner with batches ends with σ̃ below {critical:g}, so the direct "
            "falsifier (an intervention that works there) cannot be seen."
        )
    return (
        f"{ends}; {gains.size} learners with batches end with σ̃ below {critical:g}, and gain "
        f"{gains.mean():.2f} on the baseline there."
    )


def _null(
    treated: np.ndarray, sigma: np.ndarray, test: np.ndarray, study: TrainedStudy
) -> FalsePositiveRate:
    """Test accuracies that are a line of σ̃ and what is left of it, in random order."""
    rng, p_values = study.generator("M1"), []
    line = np.polynomial.Polynomial.fit(sigma, test, 1)(sigma)
    left = test - line
    for _ in range(study.null_studies):
        without: TestResult = slope(
            treated, line + rng.permutation(left), alternative="greater", covariates=sigma
        )
        p_values.append(without.p_value)
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


def _picture(outcomes: CoupledOutcomes) -> Picture:
    return Picture(
        "scatter",
        "σ̃ in the last fourth of the run",
        "exact match on held-out compositions (share)",
        {
            name: (late(outcomes.coherence[name]), late(outcomes.test[name]))
            for name in outcomes.test
        },
        {"σ_critical": Thresholds().sigma_critical},
    )


INTERVENTIONS = TrainedTest(
    Registration(
        name="M1",
        title="Interventions work only through coherence",
        claim="An intervention improves generalisation only insofar as it raises coherence.",
        null="at equal σ̃, learners with compositional batches do no better on the test",
        alternative=f"at equal σ̃ they do better (by {_EFFECT:g}): M1 is wrong",
        statistic="slope of test accuracy on the intervention, given σ̃ (HC3), one-sided",
        alpha=FAMILY_ALPHA,
        planned_n=_SEEDS,
        planned_power=t_power(_EFFECT, 2.0 * _SPREAD / np.sqrt(_LEARNERS), _LEARNERS - 3),
        simulation=(
            f"{_SEEDS} seeds with compositional batches in three conditions and without in two; "
            "σ̃ from the signals alone, means over the last fourth of the run."
        ),
        falsified_if="the batches work at equal σ̃, or with σ̃ below σ_critical",
    ),
    judge_interventions,
)
