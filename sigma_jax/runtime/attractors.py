"""Attractors: the basins that replies gather in, the known two and those found on the way."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import require_in
from ..stability import chi_squared_threshold
from .monitor import MonitorParameters

IDENTITY, DEFAULT = 0, 1
"""The first two basins; the others are numbered as they are found."""

_FAR_RATE = 0.001  # of replies of a basin that are farther from it than `far`
_GATHERED = 5  # replies in a row, far from every basin, make a new one if they are near each other
_HOLD = 3  # replies in a row before another basin is the current one
_OVERLAP = 0.6  # two basins that overlap more are one


class AttractorParameters(eqx.Module):
    """What is known of the basins before a conversation, in whitened coordinates.

    **Arguments:** `known`, where the identity and the default are, of variance 1; `contrast`,
    whether there is a default; `far`, the squared distance per channel at which a reply is far from
    a basin; `tight`, the variance that far replies may have about their mean to be a basin.
    """

    known: Float[Array, "2 d"]
    contrast: Bool[Array, ""]
    far: Float[Array, "2"]
    tight: float = 2.0
    most: int = eqx.field(static=True, default=4)
    """How many basins may be found besides the known two."""
    style_size: int = eqx.field(static=True, default=14)


class AttractorState(eqx.Module):
    """The basins, and which of them the conversation is in."""

    means: Float[Array, "k d"]
    weights: Float[Array, " k"]
    """How many replies each holds, by their shares; 0 for a place that is free."""
    current: Int[Array, ""]
    challenger: Int[Array, ""]
    challenged: Int[Array, ""]
    """For how many replies in a row the challenger has been the likeliest."""
    gathered: Int[Array, ""]
    """How many replies in a row were far from every basin."""
    gathering: Float[Array, " d"]
    """Their mean."""
    scatter: Float[Array, ""]
    """The sum of their squared distances from it, over d."""


class AttractorMeasurement(eqx.Module):
    """Where a reply is among the basins."""

    attractor: Int[Array, ""]
    shares: Float[Array, " k"]
    """The probability of each basin, given the reply."""
    found: Bool[Array, ""]
    """A new basin was found at this reply."""
    merged: Bool[Array, ""]
    """Two basins were found to be one."""


def attractor_parameters(parameters: MonitorParameters, *, most: int = 4) -> AttractorParameters:
    """The basins of a calibrated monitor: its anchor and, where there is a contrast, its default.

    **Raises** `ValueError` for a negative `most`.
    """
    require_in("most", most, 0)
    far = [chi_squared_threshold(size, _FAR_RATE) if size else np.inf for size in parameters.sizes]
    return AttractorParameters(
        known=jnp.stack([parameters.anchor, parameters.default]),
        contrast=jnp.any(parameters.default != parameters.anchor),
        far=jnp.asarray(far, parameters.dtype),
        most=int(most),
        style_size=parameters.style_size,
    )


def start_attractors(parameters: AttractorParameters) -> AttractorState:
    """In the identity's basin, with none found."""
    p, dtype = parameters, parameters.known.dtype
    none = jnp.zeros((), jnp.int32)
    size = p.known.shape[1]
    weights = jnp.zeros(2 + p.most, dtype).at[IDENTITY].set(1.0)
    return AttractorState(
        means=jnp.concatenate([p.known, jnp.zeros((p.most, size), dtype)]),
        weights=weights.at[DEFAULT].set(p.contrast.astype(dtype)),
        current=none,
        challenger=none,
        challenged=none,
        gathered=none,
        gathering=jnp.zeros(size, dtype),
        scatter=jnp.zeros((), dtype),
    )


def attractor_step(
    parameters: AttractorParameters,
    state: AttractorState,
    y: Float[ArrayLike, " d"],
    present: Bool[ArrayLike, ""],
) -> tuple[AttractorState, AttractorMeasurement]:
    """The basins after one more reply; pure, of fixed shapes.

    Shares are π_k N(y; μ_k, I), π_k by what a basin held. A reply that is far from every basin, in
    either channel, is gathered; five in a row that are near each other are a new basin. The basins
    found follow their replies and are merged where they overlap (Bhattacharyya coefficient
    exp(−‖μ_i − μ_j‖²/8) above 0.6); the known two stay where they are. The current basin changes
    after three replies in a row that another one is likelier for. An absent reply changes nothing.
    """
    p, y = parameters, jnp.asarray(y, parameters.known.dtype)
    seen = jnp.asarray(present, bool) & jnp.all(jnp.isfinite(y))
    y = jnp.where(seen, y, state.means[IDENTITY])
    squared = _distances(p, state, y)
    active = state.weights > 0
    far = jnp.all(jnp.any(squared > p.far, axis=1) | ~active)
    shares = _shares(state.weights, squared.sum(axis=1))
    learnt = _learnt(state, y, jnp.where(far, 0.0, shares))
    gathered, found = _gathered(p, learnt, y, far)
    merged, joined = _merged(gathered)
    new = _followed(merged, jnp.argmax(shares).astype(jnp.int32), far)
    new = _where(seen, new, state)
    shares = jnp.where(seen, shares, 0.0)
    return new, AttractorMeasurement(new.current, shares, found & seen, joined & seen)


def _distances(p: AttractorParameters, state: AttractorState, y: Array) -> Float[Array, "k 2"]:
    """Squared, of a reply from every basin, per channel."""
    apart = (y - state.means) ** 2
    return jnp.stack(
        [apart[:, : p.style_size].sum(axis=1), apart[:, p.style_size :].sum(axis=1)], axis=1
    )


def _shares(weights: Array, squared: Array) -> Array:
    active = weights > 0
    prior = jnp.log(jnp.where(active, weights, 1.0))
    score = jnp.where(active, prior - 0.5 * squared, -jnp.inf)
    likely = jnp.exp(score - jnp.max(score))
    return likely / jnp.sum(likely)


def _learnt(state: AttractorState, y: Array, shares: Array) -> AttractorState:
    """The basins found move towards their replies; all of them count those."""
    weights = jnp.where(state.weights > 0, state.weights + shares, 0.0)
    rate = shares / jnp.where(weights > 0, weights, 1.0)
    rate = rate.at[:2].set(0.0)
    means = state.means + rate[:, None] * (y - state.means)
    return eqx.tree_at(lambda s: (s.means, s.weights), state, (means, weights))


def _gathered(p: AttractorParameters, state: AttractorState, y: Array, far: Array):
    """The state with one more far reply, or a new basin of them, and whether there is one."""
    count = jnp.where(far, state.gathered + 1, 0)
    step = y - state.gathering
    share = 1.0 / jnp.maximum(count, 1).astype(y.dtype)
    mean = jnp.where(far, state.gathering + share * step, 0.0)
    scatter = jnp.where(far, state.scatter + (1.0 - share) * jnp.mean(step * step), 0.0)
    scatter, mean = jnp.where(count == 1, 0.0, scatter), jnp.where(count == 1, y, mean)
    full = count >= _GATHERED
    free = state.weights[2:] == 0
    found = full & (scatter / (_GATHERED - 1) < p.tight) & jnp.any(free)
    first = jnp.argmax(free) + 2 if p.most else jnp.zeros((), int)
    chosen = found & (jnp.arange(len(state.weights), dtype=first.dtype) == first)
    new = AttractorState(
        means=jnp.where(chosen[:, None], mean, state.means),
        weights=jnp.where(chosen, float(_GATHERED), state.weights),
        current=state.current,
        challenger=state.challenger,
        challenged=state.challenged,
        gathered=jnp.where(full, 0, count).astype(jnp.int32),
        gathering=jnp.where(full, 0.0, mean),
        scatter=jnp.where(full, 0.0, scatter),
    )
    return new, found


def _merged(state: AttractorState) -> tuple[AttractorState, Array]:
    """The state with the two basins that overlap most made one, if they overlap enough."""
    number = len(state.weights)
    active = state.weights > 0
    apart = jnp.sum((state.means[:, None] - state.means) ** 2, axis=-1)
    pairs = np.triu(np.ones((number, number), bool), k=1)
    pairs[IDENTITY, DEFAULT] = False
    overlap = jnp.where(pairs & active[:, None] & active, jnp.exp(-apart / 8.0), 0.0)
    best = jnp.argmax(overlap).astype(jnp.int32)
    kept, gone = best // number, best % number
    joined = overlap.max() > _OVERLAP
    total = state.weights[kept] + state.weights[gone]
    share = state.weights[gone] / jnp.where(total > 0, total, 1.0)
    moved = state.means[kept] + share * (state.means[gone] - state.means[kept])
    moved = jnp.where(kept < 2, state.means[kept], moved)
    places = jnp.arange(number, dtype=jnp.int32)
    at, out = joined & (places == kept), joined & (places == gone)
    renamed = [
        jnp.where(joined & (name == gone), kept, name).astype(jnp.int32)
        for name in (state.current, state.challenger)
    ]
    means = jnp.where(at[:, None], moved, state.means)
    weights = jnp.where(at, total, jnp.where(out, 0.0, state.weights))
    merged = eqx.tree_at(
        lambda s: (s.means, s.weights, s.current, s.challenger), state, (means, weights, *renamed)
    )
    return merged, joined


def _followed(state: AttractorState, likeliest: Array, far: Array) -> AttractorState:
    """The current basin, which changes after a few replies of another one in a row."""
    away = (likeliest != state.current) & ~far
    same = likeliest == state.challenger
    challenged = jnp.where(away, jnp.where(same, state.challenged + 1, 1), 0)
    changes = challenged >= _HOLD
    values = (
        jnp.where(changes, likeliest, state.current).astype(jnp.int32),
        jnp.where(away, likeliest, state.challenger).astype(jnp.int32),
        jnp.where(changes, 0, challenged).astype(jnp.int32),
    )
    return eqx.tree_at(lambda s: (s.current, s.challenger, s.challenged), state, values)


def _where(condition: Array, new: AttractorState, old: AttractorState) -> AttractorState:
    values: Sequence[Any] = [
        jnp.where(condition, getattr(new, name), getattr(old, name)) for name in vars(old)
    ]
    return AttractorState(*values)
