"""Ready-made environment signals: schedules in time and the earlier paper's functions of state."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._check import concrete, require_in
from .state import State


class Switch(eqx.Module):
    """A piecewise-constant schedule: `values[i]` holds from `times[i-1]` until `times[i]`.

    `times` are increasing, in epochs, one fewer than `values` (scalars).  Give the same times to
    the solver (as saved times, say) so that no step straddles a jump.

    **Raises** `ValueError` if the lengths do not fit or the times do not increase.
    """

    times: tuple[ArrayLike, ...]
    values: tuple[ArrayLike, ...]

    def __check_init__(self):
        if len(self.times) + 1 != len(self.values):
            raise ValueError(
                f"Switch needs one more value than times; got {len(self.times)} times and "
                f"{len(self.values)} values."
            )
        times = concrete(self.times)
        if times is not None and (np.diff(times) <= 0).any():
            raise ValueError(f"Switch times must increase; got {self.times}.")

    def __call__(self, t: ArrayLike, state: State) -> Float[Array, ""]:
        """The value at time `t` (epochs); at a switch time, the later one."""
        del state
        value = jnp.asarray(self.values[0])
        for time, later in zip(self.times, self.values[1:], strict=True):
            value = jnp.where(jnp.asarray(t) >= time, later, value)
        return value


class Ramp(eqx.Module):
    """A schedule that goes linearly from `start` to `end` between `t0` and `t1` (epochs).

    **Raises** `ValueError` unless t1 > t0.
    """

    t0: float
    t1: float
    start: float | Array
    end: float | Array

    def __check_init__(self):
        if not self.t1 > self.t0:
            raise ValueError(f"Ramp needs t1 > t0; got t0 = {self.t0} and t1 = {self.t1}.")

    def __call__(self, t: ArrayLike, state: State) -> Float[Array, "..."]:
        """The value at time `t` (epochs), held constant before `t0` and after `t1`."""
        del state
        share = jnp.clip((jnp.asarray(t) - self.t0) / (self.t1 - self.t0), 0.0, 1.0)
        return self.start + (jnp.asarray(self.end) - self.start) * share


class FrontierGrowth(eqx.Module):
    """A frontier that recedes exponentially, Δ(t) = Δ₀ exp(λ_f t), capped at `ceiling`.

    The obsolescence rate λ_f = Δ̇/Δ (per epoch) is the rate at which relative depth falls when
    depth stands still (the earlier paper's Eqs. 9 and 10).

    **Raises** `ValueError` for a start that is not positive, a negative rate or a ceiling below
    the start.
    """

    start: float = 1.0
    rate: float = 0.0
    ceiling: float = float("inf")

    def __check_init__(self):
        require_in("frontier.start", self.start, 0.0, open_low=True)
        require_in("frontier.rate", self.rate, 0.0)
        if self.ceiling < self.start:
            raise ValueError(
                f"frontier.ceiling must be at least frontier.start = {self.start}; "
                f"got {self.ceiling}."
            )

    def __call__(self, t: ArrayLike, state: State) -> Float[Array, ""]:
        """The frontier at time `t` (epochs)."""
        del state
        return jnp.minimum(self.start * jnp.exp(self.rate * jnp.asarray(t)), self.ceiling)


class PrincipledPractice(eqx.Module):
    """P_A = p₀ f_learn χ_A (δ/Δ)^a: practice finds structure in proportion to depth.

    The earlier paper's Eq. 18, which couples depth to coherence and which the manuscript drops.
    All arguments are non-negative; `fraction` χ_A lies in [0, 1].
    """

    p0: float | Array
    f_learn: float | Array = 1.0
    fraction: float | Array = 1.0
    exponent: float | Array = 1.0
    frontier: float | Array = 1.0

    def __check_init__(self):
        require_in("p0", self.p0, 0.0)
        require_in("fraction", self.fraction, 0.0, 1.0)

    def __call__(self, t: ArrayLike, state: State) -> Float[Array, "agents domains modalities"]:
        """The availability of principled structure at `state`."""
        del t
        relative = jnp.maximum(state.delta / self.frontier, jnp.finfo(state.delta.dtype).tiny)
        return self.p0 * self.f_learn * self.fraction * relative**self.exponent


class AnalogicalTransfer(eqx.Module):
    """T_A(d) = 1 + T_max S/(K_T + S), S = Σ_{d'≠d} φ(d, d') δ_rel(d'): other domains help.

    The earlier paper's Eq. 14; T_A lies in [1, 1 + T_max].  `similarity` is φ,
    `[domains, domains]`; its diagonal is ignored.
    """

    t_max: float | Array
    half_saturation: float | Array
    similarity: Float[Array, "domains domains"]
    frontier: float | Array = 1.0

    def __check_init__(self):
        require_in("t_max", self.t_max, 0.0)
        require_in("half_saturation", self.half_saturation, 0.0, open_low=True)
        require_in("similarity", self.similarity, 0.0, 1.0)

    def __call__(self, t: ArrayLike, state: State) -> Float[Array, "agents domains modalities"]:
        """The transfer coefficient of every domain at `state`."""
        del t
        others = self.similarity * (1.0 - jnp.eye(len(self.similarity)))
        support = jnp.einsum("de,aem->adm", others, state.delta / self.frontier)
        return 1.0 + self.t_max * support / (self.half_saturation + support)


class RetrievalPractice(eqx.Module):
    """r_A = r_max exp(−μ_r τ), τ the time since the last engagement, one every `period` epochs.

    The earlier paper's Eq. 8, with engagements at 0, period, 2·period, …
    """

    r_max: float | Array
    decay: float | Array
    period: float | Array

    def __check_init__(self):
        require_in("r_max", self.r_max, 0.0, 1.0)
        require_in("decay", self.decay, 0.0)
        require_in("period", self.period, 0.0, open_low=True)

    def __call__(self, t: ArrayLike, state: State) -> Float[Array, ""]:
        """The retrieval factor at time `t` (epochs)."""
        del state
        return self.r_max * jnp.exp(-self.decay * jnp.mod(jnp.asarray(t), self.period))
