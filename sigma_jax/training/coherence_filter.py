"""The Σ-Model as the forward model of a learner's coherence, and σ̃ as its noisy observation.

The paper computes σ̃ and integrates σ, and lets the one overwrite the other, which makes the
equation idle (E-12). Here the equation predicts, with a variance, and the observation corrects.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._check import require_in
from ..schema import SURFACE_REWARD, Environment, SigmaModel, State


@dataclasses.dataclass(frozen=True)
class CoherenceNoise:
    """How far the equations and the observation are trusted; both are ours.

    **Raises** `ValueError`, naming the number, unless all are positive.
    """

    observation: float = 0.1
    """Standard deviation of σ̃ about σ."""
    process: float = 0.05
    """Standard deviation of what σ does beside its equation, in one epoch."""
    initial: float = 0.1
    """Standard deviation of σ at the start."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            require_in(f"noise.{field.name}", getattr(self, field.name), 0.0, open_low=True)


class CoherenceBelief(NamedTuple):
    """What is believed of one learner, in one domain and modality."""

    state: State
    """The Σ-Model's state, of which σ alone is observed."""
    variance: Float[Array, ""]
    """Of σ."""


def forecast(
    model: SigmaModel,
    belief: CoherenceBelief,
    share: Float[Array, ""],
    epochs: Float[Array, ""],
    noise: CoherenceNoise,
    *,
    largest_share: float = 0.4,
) -> CoherenceBelief:
    """The belief some epochs later: the Σ-Model's equations, one Runge–Kutta step of order four.

    The variance grows with the square of ∂σ(later)/∂σ, and by the process's noise.

    **Arguments:** `share` of compositional pairs in the batches: it takes the surface reward from
    the baseline's value to the structure-targeted one, which it reaches at `largest_share` (ours).
    """
    dtype = belief.variance.dtype
    targeted = jnp.clip(share / largest_share, 0.0, 1.0)
    start, end = SURFACE_REWARD["baseline"][0], SURFACE_REWARD["targeted"][0]
    environment = dataclasses.replace(model.environment, r_surface=start + (end - start) * targeted)
    model = eqx.tree_at(
        lambda m: m.environment, model, environment, is_leaf=lambda x: isinstance(x, Environment)
    )

    def flow(sigma: Array) -> tuple[Array, State]:
        later = _runge_kutta(
            model, eqx.tree_at(lambda s: s.sigma, belief.state, sigma[None, None, None]), epochs
        )
        return later.sigma[0, 0, 0], later

    sigma = belief.state.sigma[0, 0, 0]
    _, slope, later = jax.jvp(flow, (sigma,), (jnp.ones_like(sigma),), has_aux=True)
    grown = slope**2 * belief.variance + jnp.asarray(noise.process, dtype) ** 2 * epochs
    return CoherenceBelief(_in_box(later), grown)


def correct(
    belief: CoherenceBelief, observed: Float[Array, ""], noise: CoherenceNoise
) -> CoherenceBelief:
    """The belief once σ̃ is known: Kalman's correction of σ, kept in [0, 1]."""
    gain = belief.variance / (belief.variance + noise.observation**2)
    sigma = belief.state.sigma
    corrected = jnp.clip(sigma + gain * (observed - sigma), 0.0, 1.0)
    state = eqx.tree_at(lambda s: s.sigma, belief.state, corrected.astype(sigma.dtype))
    return CoherenceBelief(state, (1.0 - gain) * belief.variance)


def _runge_kutta(model: SigmaModel, state: State, epochs: Float[Array, ""]) -> State:
    def moved(rate: State, by: Array) -> State:
        return jax.tree.map(lambda x, dx: x + by * dx, state, rate)

    zero = jnp.zeros_like(epochs)
    one = model(zero, state)
    two = model(zero, moved(one, 0.5 * epochs))
    three = model(zero, moved(two, 0.5 * epochs))
    four = model(zero, moved(three, epochs))
    slope = jax.tree.map(lambda a, b, c, d: (a + 2.0 * (b + c) + d) / 6.0, one, two, three, four)
    return moved(slope, epochs)


def _in_box(state: State) -> State:
    """A single step of a long block may leave [0, 1] by its own error."""
    return jax.tree.map(lambda x: jnp.clip(x, 0.0, 1.0), state)
