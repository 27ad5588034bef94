"""Recorded conversations through the monitor, many at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._check import concrete, require_in
from .monitor import Measurement, MonitorParameters, Observation, monitor_step, start_monitor

_ROWS = 256  # at a time: their states stay in the processor's cache


def replay(
    parameters: MonitorParameters,
    y: Float[ArrayLike, "b t d"],
    present: Bool[ArrayLike, "b t"] | None = None,
    commanded: Float[ArrayLike, "b t"] | None = None,
    violations: Bool[ArrayLike, "b t k"] | None = None,
) -> Measurement:
    """The measurements `[b, t, ...]` of `b` conversations of `t` turns.

    The bits are those of `jax.jit(monitor_step)` called turn by turn, and a row's do not depend on
    the other rows. Shorter conversations are filled up with turns that are not `present`.

    **Arguments:** as the fields of `Observation`; by default every finite reply is present, nothing
    is commanded and nothing violated.

    **Raises** `ValueError` for shapes that do not match, or `commanded` outside [0, 1].
    """
    y = jnp.asarray(y, parameters.dtype)
    size, constraints = parameters.anchor.shape[0], parameters.violated.shape[0]
    if y.ndim != 3 or y.shape[2] != size:
        raise ValueError(f"y must be [b, t, {size}]; got shape {y.shape}.")
    batch = y.shape[:2]
    observations = Observation(
        y=y,
        present=_array("present", present, batch, bool, True),
        commanded=_array("commanded", commanded, batch, parameters.dtype, 0.0),
        violations=_array("violations", violations, (*batch, constraints), bool, False),
    )
    return _replayed(parameters, observations)


def _array(name: str, value, shape: tuple[int, ...], dtype, default) -> Array:
    if value is None:
        return jnp.full(shape, default, dtype)
    if np.shape(value) != shape:
        raise ValueError(f"{name} must be {list(shape)}; got shape {np.shape(value)}.")
    if dtype is not bool:
        require_in(name, value, 0.0, 1.0)
    elif (values := concrete(value)) is not None and values.dtype != bool:
        raise ValueError(f"{name} must be booleans; got {values.dtype}.")
    return jnp.asarray(value, dtype)


@jax.jit
def _replayed(parameters: MonitorParameters, observations: Observation) -> Measurement:
    rows = jax.vmap(partial(_conversation, parameters))
    count = observations.y.shape[0]
    whole = count - count % _ROWS
    parts = []
    if whole:
        # Divided here and not by `map`, which divides no array of size zero.
        blocks = jax.tree.map(
            lambda leaf: leaf[:whole].reshape(whole // _ROWS, _ROWS, *leaf.shape[1:]),
            observations,
        )
        measured = jax.lax.map(rows, blocks)
        parts.append(jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), measured))
    if whole < count:
        parts.append(rows(jax.tree.map(lambda leaf: leaf[whole:], observations)))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _conversation(parameters: MonitorParameters, observations: Observation) -> Measurement:
    """One conversation, `[t, ...]`."""

    def turn(state, observation):
        return monitor_step(parameters, state, observation)

    return jax.lax.scan(turn, start_monitor(parameters), observations)[1]
