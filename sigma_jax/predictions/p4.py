"""P4: the set of sub-tasks worth delegating expands faster than agents compensate."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..schema import FrontierGrowth, Thresholds, shortcut_set
from ..statistics import false_positive_rate, paired, power_of_t
from .nulls import NULL_ALPHA
from .population import HORIZON, TIMES, Population, simulate_population
from .registration import (
    FAMILY_ALPHA,
    Picture,
    Prediction,
    Study,
    Verdict,
    decide,
    generator,
    joint_power,
    numbers,
)

_YEAR = 20.0
_SHORTCUT_GROWTH = float(np.log(1.37) / _YEAR)
_OWN_GROWTH = float(np.log(1.10) / _YEAR)
_SCATTER = 0.005
_SUBTASKS = 50
_EFFECT = 0.5
_PLANNED = 500
_SURFACE = {"surface-rewarded": 0.8, "structure-targeted": 0.2}


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    first, second = jax.random.split(key)
    return _registered(first, study), _repaired(second, study)


def _registered(key: Key[Array, ""], study: Study) -> Verdict:
    """The growth of shortcuts against that of own depth: the theory takes both as given."""
    rng = generator(key)
    shortcut, own = _growth_rates(rng, study.n, _SHORTCUT_GROWTH, _OWN_GROWTH)
    result = paired(shortcut, own, alternative="greater")
    swapped = paired(
        *_growth_rates(rng, study.n, _OWN_GROWTH, _SHORTCUT_GROWTH), alternative="greater"
    )
    p_values = [
        paired(
            *_growth_rates(rng, study.n, _OWN_GROWTH, _OWN_GROWTH), alternative="greater"
        ).p_value
        for _ in range(study.null_studies)
    ]
    return Verdict(
        version="as registered",
        outcome="not testable here",
        reason=(
            "Both growth rates are inputs that no equation produces: the test returns what was put "
            f"in, and with the inputs exchanged the opposite ({swapped.estimate:.4f} instead of "
            f"{result.estimate:.4f} per epoch)."
        ),
        effect="growth of shortcut depth less growth of own depth (per epoch)",
        **numbers(result),
        null_rate=false_positive_rate(np.array(p_values), NULL_ALPHA),
        power=_paired_power(study.n),
        picture=Picture(
            "samples",
            "what grows",
            "growth rate put in (per epoch)",
            {"shortcuts": (shortcut,), "own depth": (own,)},
        ),
    )


def _repaired(key: Key[Array, ""], study: Study) -> Verdict:
    """The net growth of D*: sub-tasks that shortcuts win less those that the agent wins back."""
    rng = generator(key)
    start = rng.uniform(size=(study.n, _SUBTASKS))
    groups = {name: _practised(key, study.n, surface) for name, surface in _SURFACE.items()}
    sizes = {name: _delegated(start, learners) for name, learners in groups.items()}
    change = {name: size[:, -1] - size[:, 0] for name, size in sizes.items()}
    results = {
        name: paired(size[:, -1], size[:, 0], alternative="greater") for name, size in sizes.items()
    }
    weakest = max(results, key=lambda name: results[name].p_value)
    result = results[weakest]
    power = joint_power(_paired_power(study.n), len(results))
    outcome, why = decide(result, FAMILY_ALPHA, power=power)
    ungated = {
        name: _delegated(start, learners, sigma_critical=0.0) for name, learners in groups.items()
    }
    targeted = groups["structure-targeted"]
    depth = targeted.delta[:, :, 0].mean(axis=0)
    return Verdict(
        version="repaired",
        outcome=outcome,
        reason=(
            f"{why} D* changes by {results['surface-rewarded'].estimate:.2f} of the sub-tasks in "
            f"surface-rewarded and by {results['structure-targeted'].estimate:.2f} in "
            "structure-targeted agents: where coherence falls below σ_critical, Eq. 19 empties D* "
            "however far shortcuts have come; without that condition it changes by "
            f"{(ungated['surface-rewarded'][:, -1] - ungated['surface-rewarded'][:, 0]).mean():.2f}"
            f". The targeted agents' depth goes from {depth[0]:.2f} to {depth[-1]:.2f}; that "
            "shortcuts outgrow it, at 37 % against the frontier's 10 % a year, is put in."
        ),
        effect=f"change of |D*| in {weakest} agents (share of sub-tasks)",
        **numbers(result),
        null_rate=_null(change, weakest, study, rng),
        power=power,
        picture=Picture(
            "lines",
            "time (epochs)",
            "|D*| (share of sub-tasks), mean over agents",
            {name: (TIMES, size.mean(axis=0)) for name, size in sizes.items()}
            | {
                f"{name}, without σ ≥ σ_critical": (TIMES, size.mean(axis=0))
                for name, size in ungated.items()
            },
        ),
    )


def _growth_rates(
    rng: np.random.Generator, agents: int, shortcut: float, own: float
) -> tuple[Float[np.ndarray, " agents"], Float[np.ndarray, " agents"]]:
    """Both rates as every agent meets them, with the same scatter."""
    return rng.normal(shortcut, _SCATTER, agents), rng.normal(own, _SCATTER, agents)


def _practised(key: Key[Array, ""], agents: int, surface: float) -> Population:
    """Learners who start at the edge of mastery, under a frontier that grows by 10 % a year.

    The same key gives the same learners in either regime.
    """
    edge = Thresholds()
    return simulate_population(
        key,
        agents,
        environment={"r_surface": surface, "frontier": FrontierGrowth(rate=_OWN_GROWTH)},
        initial={"delta": edge.theta_delta, "sigma": edge.theta_sigma},
    )


def _delegated(
    start: Float[np.ndarray, "agents subtasks"],
    learners: Population,
    sigma_critical: float | None = None,
) -> Float[np.ndarray, "agents times"]:
    """|D*| over time, as a share of the sub-tasks: δ_S ≥ δ_A and σ ≥ σ_critical (Eq. 19)."""
    critical = Thresholds().sigma_critical if sigma_critical is None else sigma_critical
    depth = start[:, None, :] * np.exp(_SHORTCUT_GROWTH * TIMES)[:, None]
    members = shortcut_set(
        jnp.asarray(depth), jnp.asarray(learners.delta), learners.sigma[:, :, 0], critical
    )
    return np.asarray(members).mean(axis=-1)


def _paired_power(agents: int) -> float:
    """Power of a paired t for a mean difference of `_EFFECT` standard deviations of differences.

    Two groups with √2 times the effect have the same noncentrality.
    """
    effect = float(np.sqrt(2.0)) * _EFFECT
    return power_of_t(effect, agents, alpha=FAMILY_ALPHA, alternative="greater")


def _null(change: dict[str, np.ndarray], weakest: str, study: Study, rng: np.random.Generator):
    """Studies of resampled agents in which D* does not change on average where it did least."""
    centred = change | {weakest: change[weakest] - change[weakest].mean()}
    p_values = []
    for _ in range(study.null_studies):
        drawn = [rng.choice(values, study.n) for values in centred.values()]
        tests = [paired(x, np.zeros(study.n), alternative="greater").p_value for x in drawn]
        p_values.append(max(tests))
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


P4 = Prediction(
    name="P4",
    title="The shortcut set expands faster than agents compensate",
    claim="Shortcuts win sub-tasks faster than agents, by deepening, win them back.",
    null="the shortcut set D* does not grow, in one kind of agent at least",
    alternative="|D*| grows in surface-rewarded and in structure-targeted agents",
    statistic="paired t within agents, joined by intersection and union (the larger p)",
    alpha=FAMILY_ALPHA,
    planned_n=_PLANNED,
    planned_power=0.0,
    simulation=(
        f"{_SUBTASKS} sub-tasks per agent whose shortcut depths grow by 37 % a year; the frontier "
        f"grows by 10 % a year; agents start at the edge of mastery and are followed for "
        f"{HORIZON / _YEAR:g} years of {_YEAR:g} epochs, paired between the two regimes."
    ),
    falsified_if="agents trained for depth are as productive over five years or more",
    tests=_tests,
)
