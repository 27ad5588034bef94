"""Where planning, inhibition and flexibility are heading, given depth and coherence."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .derived import (
    active_intersections,
    marginal_coherence,
    marginal_depth,
    mastery_set,
    relative_depth,
)
from .environment import Conditions
from .state import State
from .thresholds import Thresholds


class ExecutiveTargets(eqx.Module):
    """The executive targets P*, I*, F* (the earlier paper's Eqs. 36a–c) of the deepest domain d*.

    - P* = 0.9 below relative depth 0.65; above, 0.5 falling linearly to 0.2 at the frontier
    - I* = 0.9 below σ_critical, else 0.4
    - F* = 0.3 with fewer than two mastered domains and no active intersection, else 0.9

    As printed these jump.  `width` smooths P* and I* over ±width around the jump (cubically, so
    that an adaptive solver is not stopped by it); `width=0` is the printed form.
    """

    thresholds: Thresholds = Thresholds()
    width: float = eqx.field(static=True, default=0.02)

    def __call__(
        self, state: State, conditions: Conditions
    ) -> tuple[Float[Array, " agents"], Float[Array, " agents"], Float[Array, " agents"]]:
        """The targets (P*, I*, F*), each in [0, 1], `[agents]`."""
        depth = marginal_depth(state.delta)
        delta_rel = marginal_depth(relative_depth(state.delta, conditions.frontier))
        sigma = marginal_coherence(state.sigma)
        deepest = depth == jnp.max(depth, axis=-1, keepdims=True)
        leading_depth = jnp.max(jnp.where(deepest, delta_rel, -jnp.inf), axis=-1)
        leading_sigma = jnp.max(jnp.where(deepest, sigma, -jnp.inf), axis=-1)

        late = 0.5 - 0.3 * (leading_depth - 0.65) / 0.35
        planning = 0.9 + (late - 0.9) * self._step(leading_depth - 0.65)
        inhibition = 0.9 - 0.5 * self._step(leading_sigma - self.thresholds.sigma_critical)

        mastered = jnp.sum(mastery_set(sigma, delta_rel, self.thresholds), axis=-1)
        # Ψ > 0 needs an active pair with positive quality on both sides.
        capable = jnp.where(sigma > 0, depth, 0.0)
        active = jnp.any(active_intersections(capable, self.thresholds.theta_i), axis=(-2, -1))
        flexibility = jnp.where((mastered >= 2) | active, 0.9, 0.3)
        return planning, inhibition, flexibility.astype(planning.dtype)

    def _step(self, distance: Float[Array, " agents"]) -> Float[Array, " agents"]:
        """0 below and 1 above a threshold, smooth within ±width of it."""
        if self.width == 0:
            return (distance >= 0).astype(distance.dtype)
        share = jnp.clip(0.5 + 0.5 * distance / self.width, 0.0, 1.0)
        return share * share * (3.0 - 2.0 * share)
