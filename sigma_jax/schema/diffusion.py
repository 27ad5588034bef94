"""The stochastic Σ-Model: Appendix B's Itô system, with noise that respects the state's box."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .._check import require_in
from ..solvers import SDE
from .derived import relative_depth
from .environment import Signal
from .state import State
from .vector_field import SigmaModel

REFERENCE_BATCH = 64.0
"""Batch size at which the amplitudes of `Noise` hold: the published experiment's."""


class Noise(eqx.Module):
    """The diffusion of Appendix B: each component has a Brownian motion of its own.

    The paper asks for a diagonal diffusion and for measurement noise that falls as 1/√B with the
    batch size B, and gives no functional form. Here dx = f dt + s √(64/B) x (1 − x) dW for a
    component x in [0, 1], and likewise for relative depth: the noise vanishes on the faces of the
    box, so that the exact solution cannot leave it, and is s/4 in the middle.

    **Arguments:** the amplitudes s, per square root of an epoch; `batch_size`, a number or, like
    an `Environment`'s signals, a function of (time, state): where it gives each domain or modality
    its own, the executive variables, which the agent has once, take their mean. Breadth, which no
    upper face bounds, has no noise.

    **Raises** `ValueError`, naming the field, for a negative amplitude or a batch size that is
    not positive.
    """

    delta: ArrayLike = 0.1
    sigma: ArrayLike = 0.1
    alpha: ArrayLike = 0.1
    self_model: ArrayLike = 0.1
    planning: ArrayLike = 0.1
    inhibition: ArrayLike = 0.1
    flexibility: ArrayLike = 0.1
    batch_size: Signal = REFERENCE_BATCH

    def __check_init__(self):
        for field in dataclasses.fields(self)[:-1]:
            require_in(f"noise.{field.name}", getattr(self, field.name), 0.0)
        if not callable(self.batch_size):
            require_in("noise.batch_size", self.batch_size, 0.0, open_low=True)

    def __call__(self, t: ArrayLike, state: State, frontier: ArrayLike = 1.0) -> State:
        """The diffusion at `state`, shaped like it, per square root of an epoch."""
        size = self.batch_size(t, state) if callable(self.batch_size) else self.batch_size
        size = jnp.asarray(size, state.sigma.dtype)
        if size.ndim == 0:
            of_agent = size
        else:
            of_agent = jnp.mean(jnp.broadcast_to(size, state.sigma.shape), axis=(-2, -1))

        def vanishing(amplitude: ArrayLike, x: Array, to_the_top: Array, size: Array) -> Array:
            scale = jnp.sqrt(REFERENCE_BATCH / size)
            return jnp.asarray(amplitude, x.dtype) * scale * x * to_the_top

        def of_domain(name: str) -> Array:
            x = getattr(state, name)
            return vanishing(getattr(self, name), x, 1.0 - x, size)

        def executive(name: str) -> Array:
            x = getattr(state, name)
            return vanishing(getattr(self, name), x, 1.0 - x, of_agent)

        room = 1.0 - relative_depth(state.delta, frontier)
        return State(
            delta=vanishing(self.delta, state.delta, room, size),
            sigma=of_domain("sigma"),
            alpha=of_domain("alpha"),
            self_model=of_domain("self_model"),
            planning=executive("planning"),
            inhibition=executive("inhibition"),
            flexibility=executive("flexibility"),
            breadth=None if state.breadth is None else jnp.zeros_like(state.breadth),
        )


class _Diffusion(eqx.Module):
    noise: Noise
    model: SigmaModel

    def __call__(self, t: ArrayLike, state: State, args: object = None) -> State:
        return self.noise(t, state, self.model.environment(t, state).frontier)


def stochastic_model(model: SigmaModel, noise: Noise, *, breadth: bool = False) -> SDE:
    """The Itô equation of `model` with `noise`, in the box [0, 1] (breadth: from 0).

    Depth is bounded by the frontier, if that is constant. A frontier that moves is not a bound
    here: the noise vanishes at it and the default depth equation does not pass it. `breadth` says
    whether the state follows breadth.

    Steps of length h need s√h well below 1 (a fifth will do for normal increments). A longer one
    can carry σ across 0, from where nothing returns: `Paths.box` counts such projections.

    Source: the paper's Appendix B (Eqs. 58 to 60).
    """
    frontier = model.environment.frontier
    # Plain numbers, from which the solver sees at once which sides of the box are open.
    lower: dict[str, Any] = dict.fromkeys((f.name for f in dataclasses.fields(State)), 0.0)
    upper: dict[str, Any] = dict.fromkeys(lower, 1.0)
    upper["delta"] = jnp.inf if callable(frontier) else frontier
    lower["breadth"], upper["breadth"] = (0.0, jnp.inf) if breadth else (None, None)
    return SDE(model, _Diffusion(noise, model), State(**lower), State(**upper))
