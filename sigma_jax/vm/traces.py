"""What a rollout leaves behind: a row a step, a record a swap, and a diagnosis."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .intervention import Receipt

CONVERGED_SPEED = 1e-2
"""‖ẋ‖ below which a trajectory counts as converged (Σ₀-K1, stability report)."""
COVARIANCE_CEILING = 1e3
"""tr Σ / d up to which Σ counts as bounded (Σ₀-K1, eigenvalue ceiling)."""


class Trace(eqx.Module):
    """Per step, at its start unless said otherwise: arrays `[*batch, steps]`.

    Rows from the step on at which a trajectory diverged are zero, with `alive` false.
    """

    norm: Float[Array, "*batch steps"]
    """‖x‖."""
    covariance_trace: Float[Array, "*batch steps"]
    """tr Σ."""
    control_norm: Float[Array, "*batch steps"]
    """‖u‖."""
    dilation: Float[Array, "*batch steps"]
    """D = 1 + tr Σ / d."""
    speed: Float[Array, "*batch steps"]
    """‖f(x, u)‖, the drift's size."""
    cost: Float[Array, "*batch steps"]
    """The stage cost L."""
    proximity: Float[Array, "*batch steps"]
    """How near a collapse is; also the gain of the anti-collapse kick."""
    innovation: Float[Array, "*batch steps"]
    """The normalised innovation squared of the step."""
    surprise: Bool[Array, "*batch steps"]
    """Whether it is beyond the monitor's threshold."""
    active: Int[Array, "*batch steps"]
    """The node that took the step."""
    receipt: Receipt
    """What was decided about the step: each field `[*batch, steps]`."""
    alive: Bool[Array, "*batch steps"]
    """Whether the step was taken."""


class SwapRecord(eqx.Module):
    """What became of each scheduled swap: `[*batch, swaps]`, or `[swaps]` where all share it."""

    step: Int[Array, " swaps"]
    to_node: Int[Array, " swaps"]
    from_node: Int[Array, "*batch swaps"]
    delta: Float[Array, "*batch swaps"]
    """The relative drift ‖f_old − f_new‖ / ‖f_old‖ at the state and control of the step."""
    accepted: Bool[Array, "*batch swaps"]

    def rows(self, names: tuple[str, ...], tolerance: float) -> list[dict[str, Any]]:
        """A row for each swap and trajectory, in words; not for `jit`."""
        found = []
        for place in np.ndindex(np.shape(self.delta)):
            swap, delta = place[-1], float(np.asarray(self.delta)[place])
            accepted = bool(np.asarray(self.accepted)[place])
            found.append(
                {
                    "trajectory": place[0] if len(place) > 1 else 0,
                    "step": int(self.step[swap]),
                    "from": names[int(np.asarray(self.from_node)[place])],
                    "to": names[int(self.to_node[swap])],
                    "delta": delta,
                    "accepted": accepted,
                    "reason": f"relative drift {delta:.3g} is "
                    + ("" if accepted else "not ")
                    + f"below {tolerance:g}",
                }
            )
        return found


class Diagnosis(eqx.Module):
    """How each trajectory ended, from its trace. Source: Σ₀-K1, stability report."""

    diverged: Bool[Array, "*batch"]
    converged: Bool[Array, "*batch"]
    """The speed of the last step is below 1e-2."""
    covariance_bounded: Bool[Array, "*batch"]
    """tr Σ / d stayed below 10³."""
    lyapunov_falling: Bool[Array, "*batch"]
    """cost + tr Σ is lower in the last tenth of the steps than in the first."""


def diagnose(trace: Trace, dim: int) -> Diagnosis:
    """Read a diagnosis off a trace of a state of length `dim`."""
    steps = trace.norm.shape[-1]
    tenth = max(1, steps // 10)
    proxy = trace.cost + trace.covariance_trace
    diverged = ~trace.alive[..., -1]
    return Diagnosis(
        diverged=diverged,
        converged=~diverged & (trace.speed[..., -1] < CONVERGED_SPEED),
        covariance_bounded=jnp.max(trace.covariance_trace, axis=-1) < COVARIANCE_CEILING * dim,
        lyapunov_falling=~diverged
        & (jnp.mean(proxy[..., -tenth:], axis=-1) < jnp.mean(proxy[..., :tenth], axis=-1)),
    )
