"""P5: heavy shortcut pressure compresses the time from mastery to the first intersection."""

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ..schema import (
    Thresholds,
    active_intersections,
    discovery_rate,
    mastery_quality,
    mastery_set,
)
from ..statistics import TestResult, cohens_d, mann_whitney, power_of_t
from .nulls import two_group_rate
from .population import HORIZON, TIMES, Population, simulate_population
from .registration import (
    ENOUGH_POWER,
    FAMILY_ALPHA,
    Outcome,
    Picture,
    Prediction,
    Study,
    Verdict,
    generator,
    numbers,
)

_HEAVY, _MODERATE = 0.5, 0.3
_LATE_PSI = 0.35
_NEVER = 2.0 * HORIZON
_EFFECT = 0.5
_PLANNED = 500
_EFFICIENCY = 3.0 / np.pi

Delays = Float[np.ndarray, " agents"]


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    heavy_key, moderate_key, pool_key, first, second = jax.random.split(key, 5)
    groups = (
        _learners(heavy_key, study.n, _HEAVY),
        _learners(moderate_key, study.n, _MODERATE),
        _learners(pool_key, 4 * study.n, _MODERATE),
    )
    return _registered(first, study, *groups), _repaired(second, study, *groups)


def _registered(
    key: Key[Array, ""], study: Study, heavy: Population, moderate: Population, pool: Population
) -> Verdict:
    """Δt of the agents that reach both events, with the model's own threshold on Ψ."""
    threshold = Thresholds().psi_minimum
    delays = [_finite(_delay(learners, threshold)) for learners in (heavy, moderate, pool)]
    result = mann_whitney(*delays[:2], alternative="less")
    both = np.concatenate(delays[:2])
    early = np.mean(both < 0)
    size = min(delays[0].size, delays[1].size)
    return Verdict(
        version="as registered",
        outcome="not testable here",
        reason=(
            f"The events come in the other order: with Ψ > {threshold:g} the intersection comes "
            f"before mastery in {early:.0%} of the {both.size} agents that reach both, since "
            f"σ > {Thresholds().theta_sigma:g} comes last. A shorter Δt then means a longer wait "
            f"from intersection to mastery (median {-np.median(delays[0]):g} epochs under heavy, "
            f"{-np.median(delays[1]):g} under moderate pressure), the opposite of the claim."
        ),
        effect="P(Δt is longer under heavy than under moderate pressure)",
        **numbers(result),
        null_rate=two_group_rate(
            lambda a, b: mann_whitney(a, b, alternative="less").p_value,
            delays[2],
            min(size, delays[2].size // 2),
            study.null_studies,
            generator(key),
        ),
        power=_power(size, "greater"),
        picture=_picture(delays[0], delays[1], "time from mastery to intersection (epochs)"),
    )


def _repaired(
    key: Key[Array, ""], study: Study, heavy: Population, moderate: Population, pool: Population
) -> Verdict:
    """A threshold that lies after mastery; who does not get there ranks last; both directions."""
    delays = [_ranked_last(_delay(learners, _LATE_PSI)) for learners in (heavy, moderate, pool)]
    result = mann_whitney(delays[0], delays[1])
    power = _power(study.n, "two-sided")
    never = [np.mean(delay == _NEVER) for delay in delays[:2]]
    order = np.mean(np.concatenate(delays[:2]) >= 0)
    quality = cohens_d(_psi(heavy)[:, -1], _psi(moderate)[:, -1])
    outcome, why = _decision(result, power)
    return Verdict(
        version="repaired",
        outcome=outcome,
        reason=(
            f"{why} With Ψ > {_LATE_PSI:g} mastery does not come after the intersection in "
            f"{order:.0%} of agents; {never[0]:.0%} under heavy and {never[1]:.0%} under moderate "
            f"pressure do not get that far in {HORIZON:g} epochs and rank last. Quality at "
            f"intersections is lower (d = {quality.estimate:.1f}) by construction: Ψ contains σ, "
            "and Eq. 28 contains Ω."
        ),
        effect="P(Δt is longer under heavy than under moderate pressure)",
        **numbers(result),
        null_rate=two_group_rate(
            lambda a, b: mann_whitney(a, b).p_value,
            delays[2],
            study.n,
            study.null_studies,
            generator(key),
        ),
        power=power,
        picture=_picture(
            delays[0],
            delays[1],
            f"time from mastery to intersection (epochs; {_NEVER:g}: not reached)",
        ),
    )


def _learners(key: Key[Array, ""], agents: int, omega: float) -> Population:
    """Structure-targeted learners in two domains under one Ω."""
    return simulate_population(
        key, agents, domains=2, environment={"r_surface": 0.2, "omega_sl": omega}
    )


def _psi(learners: Population) -> Float[np.ndarray, "agents times"]:
    """Ψ between the two domains (Eq. 18)."""
    quality = mastery_quality(learners.sigma, learners.delta_rel)
    return np.asarray(discovery_rate(quality))[..., 0, 1]


def _delay(learners: Population, psi_minimum: float) -> Delays:
    """Δt from the first mastered domain to the first active intersection with Ψ above a minimum.

    Infinite for agents that do not reach both.
    """
    thresholds = Thresholds()
    mastered = np.asarray(mastery_set(learners.sigma, learners.delta_rel, thresholds))
    active = np.asarray(active_intersections(learners.delta, thresholds.theta_i))[..., 0, 1]
    mastery = _first_time(np.any(mastered, axis=-1))
    intersection = _first_time(active & (_psi(learners) > psi_minimum))
    reached = np.isfinite(mastery) & np.isfinite(intersection)
    return np.where(reached, intersection, np.inf) - np.where(reached, mastery, 0.0)


def _first_time(event: Bool[np.ndarray, "agents times"]) -> Float[np.ndarray, " agents"]:
    return np.where(event.any(axis=1), TIMES[event.argmax(axis=1)], np.inf)


def _finite(delay: Delays) -> Delays:
    return delay[np.isfinite(delay)]


def _ranked_last(delay: Delays) -> Delays:
    """Delays with a number beyond the horizon for agents that do not reach both events."""
    return np.where(np.isfinite(delay), delay, _NEVER)


def _decision(result: TestResult, power: float) -> tuple[Outcome, str]:
    """Two-sided: the claim is that P(longer under heavy pressure) lies below one half."""
    if result.p_value < FAMILY_ALPHA and result.estimate < 0.5:
        return "supported", "Heavy pressure shortens the time from mastery to intersection."
    if result.p_value < FAMILY_ALPHA:
        return "refuted", (
            "Heavy pressure lengthens the time from mastery to intersection: Δt is longer than "
            f"under moderate pressure with probability {result.estimate:.2f}."
        )
    if power >= ENOUGH_POWER:
        return "refuted", f"A study with power {power:.2f} finds no difference."
    return "not testable here", f"The study's power is only {power:.2f}."


def _power(n: int, alternative: str) -> float:
    """Power for d = 0.5 between normal samples: a t test's with 3/π of the observations.

    Source: the asymptotic relative efficiency of the rank test (Hodges & Lehmann, 1956).
    """
    return power_of_t(
        _EFFECT, max(2, int(_EFFICIENCY * n)), alpha=FAMILY_ALPHA, alternative=alternative
    )


def _picture(heavy: Delays, moderate: Delays, ylabel: str) -> Picture:
    return Picture(
        "samples",
        "shortcut pressure",
        ylabel,
        {f"Ω = {_HEAVY:g}": (heavy,), f"Ω = {_MODERATE:g}": (moderate,)},
        {"mastery": 0.0},
    )


P5 = Prediction(
    name="P5",
    title="Shortcut pressure compresses the third phase",
    claim=(
        "Under heavy shortcut pressure less time passes from the first mastered domain to the "
        "first intersection that counts, and the work there is poorer."
    ),
    null="Δt has one distribution under heavy and moderate pressure",
    alternative="Δt is shorter under heavy pressure",
    statistic="Mann and Whitney's U, one-sided (repaired: two-sided)",
    alpha=FAMILY_ALPHA,
    planned_n=_PLANNED,
    planned_power=_power(_PLANNED, "greater"),
    simulation=(
        f"Two domains; n structure-targeted learners with Ω = {_HEAVY:g} against n with "
        f"Ω = {_MODERATE:g}. Repaired: Ψ must exceed {_LATE_PSI:g}, which lies after mastery, and "
        "agents that do not get there rank last."
    ),
    falsified_if="Δt is not shorter under heavy pressure",
    tests=_tests,
)
