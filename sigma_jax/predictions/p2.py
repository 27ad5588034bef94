"""P2: shortcut pressure lowers coherence, speeds up breadth and makes overconfident."""

import jax
import numpy as np
from jaxtyping import Array, Key

from ..statistics import TestResult, cohens_d, false_positive_rate, power_of_t, slope, welch
from .behaviour import item_accuracy
from .nulls import NULL_ALPHA
from .population import Population, simulate_population
from .registration import (
    ENOUGH_POWER,
    FAMILY_ALPHA,
    Outcome,
    Picture,
    Prediction,
    Study,
    Verdict,
    generator,
    joint_power,
)

_HEAVY, _MODERATE = 0.8, 0.3
_ASSISTANCE = 0.05
_EFFECT = 0.5
_PLANNED = 500
_DIRECTIONS = {"coherence": "less", "breadth": "greater", "overconfidence": "greater"}

Quantities = dict[str, np.ndarray]


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    first, second = jax.random.split(key)
    return _registered(first, study), _repaired(second, study)


def _registered(key: Key[Array, ""], study: Study) -> Verdict:
    """Two groups that differ in Ω alone; all three parts of the claim must hold together."""
    rng = generator(key)
    first, second = jax.random.split(key)
    heavy = _outcomes(_group(first, study.n, rng, _HEAVY))
    moderate = _outcomes(_group(second, study.n, rng, _MODERATE))
    results = _compare(heavy, moderate)
    part = _weakest(results)
    size = cohens_d(heavy[part], moderate[part])
    power = joint_power(
        power_of_t(_EFFECT, study.n, alpha=FAMILY_ALPHA, alternative="greater"), len(_DIRECTIONS)
    )
    outcome, why = _decision(part, results[part], power)
    zeta = heavy["overconfidence"].mean(), moderate["overconfidence"].mean()
    return Verdict(
        version="as registered",
        outcome=outcome,
        reason=(
            f"{why} The breadth equation does not contain Ω. Under Eq. "
            f"36 as printed M̂ settles below σ: mean ζ is {zeta[0]:.3f} under heavy and "
            f"{zeta[1]:.3f} under moderate pressure, higher only where little coherence is left."
        ),
        effect=f"Cohen's d of {part} (the weakest part), heavy against moderate Ω",
        estimate=size.estimate,
        low=size.low,
        high=size.high,
        p_value=results[part].p_value,
        n=(study.n, study.n),
        null_rate=_null_of_groups(heavy, moderate, study, rng),
        power=power,
        picture=Picture(
            "samples",
            "quantity and condition",
            "value at the end (dimensionless)",
            {
                f"{name}, {label}": (values[name],)
                for name in _DIRECTIONS
                for label, values in (("heavy", heavy), ("moderate", moderate))
            },
        ),
    )


def _repaired(key: Key[Array, ""], study: Study) -> Verdict:
    """Exposure to AI raises Ω and assistance together; confidence is held against performance."""
    rng = generator(key)
    exposure = rng.uniform(size=study.n)
    learners = simulate_population(
        key,
        study.n,
        model="inflating_self_model",
        environment={
            "omega_sl": _MODERATE + (_HEAVY - _MODERATE) * exposure,
            "assistance": _ASSISTANCE * exposure,
        },
    )
    latent = _outcomes(learners)
    solved = item_accuracy(rng, learners.delta_rel[:, -1], learners.alpha[:, -1])
    confidence = learners.self_model[:, -1, 0]
    outcomes = latent | {"overconfidence": confidence - solved}
    results = _slopes(exposure, outcomes)
    part = _weakest(results)
    # The upper and the lower half of exposure compared: no more powerful than the slope.
    power = joint_power(
        power_of_t(_EFFECT, study.n // 2, alpha=FAMILY_ALPHA, alternative="greater"),
        len(_DIRECTIONS),
    )
    outcome, why = _decision(part, results[part], power)
    zeta = slope(exposure, latent["overconfidence"]).estimate
    return Verdict(
        version="repaired",
        outcome=outcome,
        reason=(
            f"{why} Coherence (slope {results['coherence'].estimate:.2f}) and breadth "
            f"({results['breadth'].estimate:.2f}) follow the exposure by construction: their "
            "equations contain it. What can fail is overconfidence, here confidence M̂ less the "
            "share of items solved, under the self-model whose sign favours the claim: latent "
            f"ζ = M̂ − σ changes by {zeta:.2f}, but confidence itself by "
            f"{slope(exposure, confidence).estimate:.2f} and items solved by "
            f"{slope(exposure, solved).estimate:.2f}."
        ),
        effect=f"slope of {part} (the weakest part) on exposure, over its whole range",
        estimate=results[part].estimate,
        low=results[part].low,
        high=results[part].high,
        p_value=results[part].p_value,
        n=(study.n,),
        null_rate=_null_of_slopes(exposure, latent, study, rng),
        power=power,
        picture=Picture(
            "scatter",
            "exposure to AI (share of its range)",
            "value at the end (dimensionless)",
            {name: (exposure, values) for name, values in outcomes.items()},
        ),
    )


def _group(key: Key[Array, ""], agents: int, rng: np.random.Generator, omega: float) -> Population:
    """Learners under one Ω; AI assistance varies among them alike in every group."""
    assistance = _ASSISTANCE * rng.uniform(size=agents)
    return simulate_population(
        key, agents, environment={"omega_sl": omega, "assistance": assistance}
    )


def _outcomes(learners: Population) -> Quantities:
    """Coherence, breadth and the calibration error ζ = M̂ − σ (Eq. 35) at the end."""
    sigma = learners.sigma[:, -1, 0]
    return {
        "coherence": sigma,
        "breadth": learners.breadth[:, -1, 0],
        "overconfidence": learners.self_model[:, -1, 0] - sigma,
    }


def _compare(heavy: Quantities, moderate: Quantities) -> dict[str, TestResult]:
    return {
        name: welch(heavy[name], moderate[name], alternative=direction)
        for name, direction in _DIRECTIONS.items()
    }


def _slopes(exposure: np.ndarray, outcomes: Quantities) -> dict[str, TestResult]:
    return {
        name: slope(exposure, outcomes[name], alternative=direction)
        for name, direction in _DIRECTIONS.items()
    }


def _weakest(results: dict[str, TestResult]) -> str:
    """The part with the largest p-value, which is that of the joint claim (Berger, 1982)."""
    return max(results, key=lambda name: results[name].p_value)


def _decision(part: str, weakest: TestResult, power: float) -> tuple[Outcome, str]:
    """The registered decision on the joint claim, from its weakest part."""
    if weakest.p_value < FAMILY_ALPHA:
        return "supported", f"All three parts hold, {part} the least (p = {weakest.p_value:.2g})."
    if power >= ENOUGH_POWER:
        return "refuted", (
            f"In a study with power {power:.2f}, {part} does not go the claimed way (p = "
            f"{weakest.p_value:.2g})."
        )
    return "not testable here", f"The study's power is only {power:.2f}."


def _null_of_groups(
    heavy: Quantities, moderate: Quantities, study: Study, rng: np.random.Generator
):
    """Studies without the effect on breadth, the others being there: the least favourable case."""
    pool = np.concatenate([heavy["breadth"], moderate["breadth"]])
    p_values = []
    for _ in range(study.null_studies):
        groups = [
            {name: rng.choice(values, study.n) for name, values in group.items()}
            | {"breadth": rng.choice(pool, study.n)}
            for group in (heavy, moderate)
        ]
        p_values.append(max(result.p_value for result in _compare(*groups).values()))
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


def _null_of_slopes(
    exposure: np.ndarray, latent: Quantities, study: Study, rng: np.random.Generator
):
    """Studies in which overconfidence alone is permuted among the learners.

    The other two are the latent ones and hold; this is the least favourable case.
    """
    results = _slopes(exposure, latent)
    held = max(results[name].p_value for name in ("coherence", "breadth"))
    p_values = []
    for _ in range(study.null_studies):
        shuffled = rng.permutation(latent["overconfidence"])
        p_values.append(max(held, slope(exposure, shuffled, alternative="greater").p_value))
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


P2 = Prediction(
    name="P2",
    title="Shortcut pressure lowers coherence and speeds up breadth",
    claim=(
        "At equal effort, learners under heavy shortcut pressure have less coherence, more "
        "breadth and a larger calibration error ζ than learners under moderate pressure."
    ),
    null="at least one of the three differences is zero or has the other sign",
    alternative="σ lower and β higher and ζ higher",
    statistic="Welch's t for each part, joined by intersection and union (the largest p)",
    alpha=FAMILY_ALPHA,
    planned_n=_PLANNED,
    planned_power=joint_power(
        power_of_t(_EFFECT, _PLANNED, alpha=FAMILY_ALPHA, alternative="greater"), len(_DIRECTIONS)
    ),
    simulation=(
        "One domain; n learners with Ω = 0.8 against n with Ω = 0.3, equal training signal. "
        "Repaired: n learners whose exposure raises Ω from 0.3 to 0.8 and AI assistance from 0 to "
        "0.05 per epoch; confidence is compared with items solved."
    ),
    falsified_if="equal performance out of distribution at matched performance in distribution",
    tests=_tests,
)
