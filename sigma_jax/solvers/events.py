"""`advance_until`: a state advanced until the first of several conditions crosses zero."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from .methods import Adaptive

Condition = Callable[[ArrayLike, PyTree, Any], Float[Array, ""]]


class Stop(eqx.Module):
    """Where `advance_until` stopped."""

    time: Float[Array, ""]
    y: PyTree
    which: Int[Array, ""]
    """The index of the condition that crossed zero; −1 if the end was reached first."""


def advance_until(
    vector_field: Callable[[ArrayLike, PyTree, Any], PyTree],
    y0: PyTree,
    t0: ArrayLike,
    t1: ArrayLike,
    conditions: tuple[Condition, ...],
    *,
    rising: tuple[bool | None, ...],
    args: Any = None,
    method: Adaptive = Adaptive(),
) -> Stop:
    """Advance `y0` from `t0` until a condition (t, y, args) → scalar crosses zero, or to `t1`.

    The crossing is located by root finding on the solver's own interpolant, and its time is
    differentiable. `rising[i]` asks condition i to cross upwards (True), downwards (False) or
    either way (None). A condition that starts beyond zero does not count until it crosses.

    Conditions are sampled at the ends of steps: one that crosses twice within a step is missed,
    so keep tolerances tight enough that steps are shorter than what must be seen.

    **Raises** a runtime error if the solver fails before it stops.
    """
    if len(rising) != len(conditions):
        raise ValueError(
            f"rising needs one entry a condition; got {len(rising)} for {len(conditions)}."
        )

    def watched(condition):
        return lambda t, y, args, **kwargs: condition(t, y, args)

    event = diffrax.Event(
        tuple(watched(condition) for condition in conditions),
        optimistix.Newton(rtol=1e-10, atol=1e-10),
        direction=tuple(rising),
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(vector_field),
        method.solver,
        jnp.asarray(t0),
        jnp.asarray(t1),
        None,
        y0,
        args,
        stepsize_controller=diffrax.PIDController(rtol=method.rtol, atol=method.atol),
        adjoint=method.adjoint,
        max_steps=method.max_steps,
        event=event,
    )
    assert solution.event_mask is not None  # an event was asked for
    assert solution.ts is not None
    fired = jnp.stack([jnp.asarray(mask) for mask in solution.event_mask])
    which = jnp.where(jnp.any(fired), jnp.argmax(fired), -1)
    y = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
    return Stop(time=solution.ts[-1], y=y, which=which)
