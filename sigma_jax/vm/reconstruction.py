"""A state kept as its largest active modes, and rebuilt from them after a collapse."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .collapse import CollapseThresholds, Modes, require_shape


class ActiveModes(eqx.Module):
    """What is kept of a state: coefficients along k orthonormal modes, the largest first."""

    coefficients: Float[Array, " k"]
    """Inner products of the state with the modes; 0 once the active modes have run out."""
    vectors: Float[Array, "d k"]


def active_modes(
    x: Float[Array, " d"],
    modes: Modes,
    count: int,
    thresholds: CollapseThresholds = CollapseThresholds(),
) -> ActiveModes:
    """The `count` largest coefficients of `x`, by absolute value, along active modes of sym A.

    Active are the modes that `project_to_attractor` removes: |rate| ≥ `thresholds.null`. For a
    given count no other choice among them leaves a smaller error (they are orthonormal).

    **Raises** `ValueError` for a count outside [1, d] and for a state that does not fit the modes.
    """
    require_shape("x", x, modes.rates.shape)
    if not 1 <= count <= modes.rates.size:
        raise ValueError(f"count must lie in [1, {modes.rates.size}]; got {count}.")
    active = jnp.abs(modes.rates) >= thresholds.null
    coefficients = jnp.where(active, modes.vectors.T @ x, 0.0)
    _, largest = jax.lax.top_k(jnp.abs(coefficients), count)
    return ActiveModes(coefficients[largest], modes.vectors[:, largest])


def reconstruct(kept: ActiveModes) -> Float[Array, " d"]:
    """The state that the kept coefficients stand for.

    The error falls with their number. With all active modes kept it is the near-null part of the
    state, which is what a collapse leaves: the projected state plus this one is the state before.
    """
    return kept.vectors @ kept.coefficients
