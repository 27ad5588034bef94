"""H6.2: engineering the training distribution does not transfer to other compositions."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ..schema import AnalogicalTransfer
from .generalisation_gap import (
    forgetful_rates,
    gap_power,
    gap_verdicts,
    principled_practice,
)
from .population import Population, simulate_population
from .registration import FAMILY_ALPHA, Prediction, Study, Verdict

_RICHER = 1.5
_STRUCTURE = 0.8
_T_MAX, _HALF = 1.0, 0.5
_PLANNED = 500


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    return gap_verdicts(
        key,
        study,
        lambda key, treated, path: _learners(key, study.n, treated, path),
        intervention=f"a training signal {_RICHER:g} times as strong in one domain",
        tested=1,
        caveat=(
            f"How far that holds hangs on the transfer between domains, whose strength is ours "
            f"(T_max = {_T_MAX:g}, K_T = {_HALF:g}). "
        ),
        learner_must=(
            "A trained learner would have to show high exact match on the compositions that the "
            "distribution was engineered for and none on others of the same grammar."
        ),
    )


def _learners(key: Key[Array, ""], agents: int, treated: bool, path: bool) -> Population:
    """Structure-targeted learners in two domains; the first one's distribution is engineered.

    Engineering raises the training signal and, with it (Eq. 18 of the earlier paper), the
    availability of structure. On the path, depth in one domain also helps to learn the other.
    """
    engineered = np.array([_RICHER if treated else 1.0, 1.0])[:, None]
    environment: dict[str, object] = {
        "r_surface": 0.2,
        "f_learn": np.tile(engineered, (agents, 1, 1)),
        "p_a": np.tile(_STRUCTURE * engineered, (agents, 1, 1)),
    }
    if path:
        environment["p_a"] = principled_practice(engineered)
        environment["t_a"] = AnalogicalTransfer(
            t_max=jnp.asarray(_T_MAX),
            half_saturation=jnp.asarray(_HALF),
            similarity=jnp.ones((2, 2)),
        )
    return simulate_population(
        key, agents, domains=2, environment=environment, rates=forgetful_rates()
    )


H6_2 = Prediction(
    name="H6.2",
    title="Engineered distributions do not transfer coherence",
    claim="Training on engineered compositions gives skill in those and none in others.",
    null="the gap between engineered and other compositions does not widen",
    alternative="the gap widens",
    statistic="paired t of the change of the gap, one-sided",
    alpha=FAMILY_ALPHA,
    planned_n=_PLANNED,
    planned_power=gap_power(_PLANNED),
    simulation=(
        f"n learners in two domains; training signal and structure times {_RICHER:g} in the first, "
        "paired by common random numbers; familiar items are of the first, structural ones of the "
        "second. Repaired: structure follows depth, and depth in one domain helps the other."
    ),
    falsified_if="accuracy rises as much on other as on engineered compositions",
    tests=_tests,
)
