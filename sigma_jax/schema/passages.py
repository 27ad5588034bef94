"""When noisy learners first get somewhere: into a phase, or out of a basin of attraction."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ..solvers import EulerMaruyama, Paths, simulate_sde_ensemble
from .diffusion import Noise, stochastic_model
from .environment import Environment
from .phases import follow_phases, trajectory_margins
from .state import State
from .thresholds import Thresholds
from .vector_field import SigmaModel

Reached = Callable[[Float[Array, " times"], State], Bool[Array, "times events"]]
"""From a path's times and states to whether each event has happened at each time."""


def passage_times(
    model: SigmaModel,
    noise: Noise,
    y0: State,
    times: Float[Array, " times"],
    reached: Reached,
    *,
    key: Key[Array, ""],
    paths: int,
    steps: int,
    scheme: EulerMaruyama = EulerMaruyama(),
) -> Float[Array, "paths events"]:
    """The first of `times` (epochs) at which each event has happened; infinite if it never does.

    All paths start at `y0`. Paths are reduced to their passage times in their batch, so 10⁵ of
    them need no memory. Passages are seen at `times` only: between two of them a path may cross
    and come back, so passage times are late by up to one interval.

    **Arguments:** `reached`, what counts: `PhasesReached`, or a function such as
    `lambda ts, states: states.sigma[:, 0, 0] < 0.15`, whose result may lack the last axis;
    `steps` between successive times.

    **Raises** `ValueError` as `simulate_sde_ensemble` does.
    """
    sde = stochastic_model(model, noise, breadth=y0.breadth is not None)
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (paths, *leaf.shape)), y0)

    def first(path: Paths) -> Float[Array, " events"]:
        happened = reached(path.ts, path.ys).reshape(path.ts.size, -1)
        when = path.ts[jnp.argmax(happened, axis=0)]
        return jnp.where(jnp.any(happened, axis=0), when, jnp.inf)

    keys = jax.random.split(key, paths)
    return simulate_sde_ensemble(
        sde, starts, times, keys=keys, steps=steps, scheme=scheme, summary=first
    )


class PhasesReached(eqx.Module):
    """Whether the phase machine has been in phases 1 to 5, for `passage_times`.

    One agent. The machine moves at most one phase at each of the times; `dwell` and
    `reverse_dwell` count samples (see `follow_phases`).
    """

    environment: Environment
    thresholds: Thresholds = Thresholds()
    dwell: int = eqx.field(static=True, default=1)
    reverse_dwell: int = eqx.field(static=True, default=10)

    def __call__(self, ts: Float[Array, " times"], states: State) -> Bool[Array, "times phases"]:
        """Whether each of phases 1 to 5 is the current one or below it, at every time."""
        margins = trajectory_margins(ts, states, self.environment, self.thresholds)
        phases = follow_phases(margins, dwell=self.dwell, reverse_dwell=self.reverse_dwell)
        return phases >= jnp.arange(1, 6)
