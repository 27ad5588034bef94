"""P1: coherence raises the quality of work at intersections."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Key

from ..schema import Thresholds, discovery_rate, mastery_quality
from ..statistics import cohens_d, false_positive_rate, power_of_t, welch
from .behaviour import item_accuracy
from .nulls import NULL_ALPHA, two_group_rate
from .population import Population, simulate_population
from .registration import (
    FAMILY_ALPHA,
    Picture,
    Prediction,
    Study,
    Verdict,
    decide,
    generator,
)

_EFFECT = 0.5
_PLANNED = 64


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    first, second = jax.random.split(key)
    return _registered(first, study), _repaired(second, study)


def _registered(key: Key[Array, ""], study: Study) -> Verdict:
    """Ψ of agents above and below θ_σ, at equal depth: Ψ contains the σ that groups them."""
    rng = generator(key)
    learners = _diverse(key, 2 * study.n)
    sigma, depth = learners.sigma[:, -1], learners.delta_rel[:, -1]
    high, low = _groups(sigma, _psi(sigma, depth))
    result = welch(high, low, alternative="greater")
    size = cohens_d(high, low)

    # Coherence handed out at random has nothing to do with what was learned.
    order = np.tile(np.arange(len(sigma)), (study.null_studies, 1))
    shuffled = sigma[rng.permuted(order, axis=1)]
    p_values = [
        welch(*_groups(s, psi), alternative="greater").p_value
        for s, psi in zip(shuffled, _psi(shuffled, depth), strict=True)
    ]
    null = false_positive_rate(np.array(p_values), NULL_ALPHA)
    return Verdict(
        version="as registered",
        outcome="not testable here",
        reason=(
            "A tautology: the only quality the model has is Ψ (Eq. 18), which contains the σ that "
            "defines the groups. The test also finds its effect when σ is handed out at random."
        ),
        effect="Cohen's d of Ψ, high against low coherence",
        estimate=size.estimate,
        low=size.low,
        high=size.high,
        p_value=result.p_value,
        n=result.n,
        null_rate=null,
        power=power_of_t(_EFFECT, _PLANNED, alpha=FAMILY_ALPHA, alternative="greater"),
        picture=Picture(
            "samples",
            "coherence",
            "discovery rate Ψ (per epoch)",
            {"σ below θ": (low,), "σ above θ": (high,)},
        ),
    )


def _repaired(key: Key[Array, ""], study: Study) -> Verdict:
    """Coherence itself is raised (ρ enters its equation alone); the outcome does not contain it."""
    rng = generator(key)
    raised, lowered, pool_key = jax.random.split(key, 3)
    groups = {
        "raised σ": _answers(rng, _targeted(raised, study.n, rho=0.8)),
        "lowered σ": _answers(rng, _targeted(lowered, study.n, rho=0.4)),
    }
    high, low = groups["raised σ"], groups["lowered σ"]
    result = welch(high, low, alternative="greater")
    size = cohens_d(high, low)
    power = power_of_t(_EFFECT, study.n, alpha=FAMILY_ALPHA, alternative="greater")
    standardised = dataclasses.replace(result, estimate=size.estimate, low=size.low, high=size.high)
    outcome, why = decide(standardised, FAMILY_ALPHA, power=power, minimum=_EFFECT)
    pool = _answers(rng, _targeted(pool_key, 8 * study.n, rho=0.6))
    return Verdict(
        version="repaired",
        outcome=outcome,
        reason=(
            f"{why} In the equations coherence feeds nothing but the decay of depth, so raising it "
            "alone does not change what an agent can do; attention does, and is correlated with it."
        ),
        effect="Cohen's d of items solved, raised against lowered coherence",
        estimate=size.estimate,
        low=size.low,
        high=size.high,
        p_value=result.p_value,
        n=result.n,
        null_rate=two_group_rate(
            lambda a, b: welch(a, b, alternative="greater").p_value,
            pool,
            study.n,
            study.null_studies,
            rng,
        ),
        power=power,
        picture=Picture(
            "samples", "condition", "items solved (share)", {k: (v,) for k, v in groups.items()}
        ),
    )


def _diverse(key: Key[Array, ""], agents: int) -> Population:
    """Learners in two domains under surface reward between 0.1 and 0.9."""
    surface = np.linspace(0.1, 0.9, agents)
    return simulate_population(key, agents, domains=2, environment={"r_surface": surface})


def _targeted(key: Key[Array, ""], agents: int, rho: float) -> Population:
    """Structure-targeted learners in two domains whose coherence grows at rate `rho`."""
    return simulate_population(
        key, agents, domains=2, environment={"r_surface": 0.2}, rates={"rho": rho}
    )


def _answers(rng: np.random.Generator, learners: Population) -> np.ndarray:
    return item_accuracy(rng, learners.delta_rel[:, -1], learners.alpha[:, -1])


def _psi(sigma: np.ndarray, delta_rel: np.ndarray) -> np.ndarray:
    quality = mastery_quality(sigma, delta_rel)
    return np.asarray(discovery_rate(quality))[..., 0, 1]


def _groups(sigma: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of agents whose weaker domain's coherence is above and below θ_σ."""
    coherent = sigma.min(axis=1) > Thresholds().theta_sigma
    return outcome[coherent], outcome[~coherent]


P1 = Prediction(
    name="P1",
    title="Coherence raises the quality of work at intersections",
    claim="At equal depth, agents with σ above θ_σ do better work where two domains meet.",
    null="E[quality | σ > θ_σ] − E[quality | σ < θ_σ] = 0",
    alternative="the difference is positive, with d ≥ 0.5",
    statistic="Welch's t, one-sided; Cohen's d",
    alpha=FAMILY_ALPHA,
    planned_n=_PLANNED,
    planned_power=power_of_t(_EFFECT, _PLANNED, alpha=FAMILY_ALPHA, alternative="greater"),
    simulation=(
        "Two domains; 2n learners under surface reward from 0.1 to 0.9, grouped by σ. Repaired: "
        "n learners with ρ = 0.8 against n with ρ = 0.4, and an outcome (items solved) that "
        "depends on depth and attention alone."
    ),
    falsified_if="p > 0.05 and d < 0.2 (the earlier paper); here also a powered study without it",
    tests=_tests,
)
