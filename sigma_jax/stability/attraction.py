"""Basins of attraction by mass simulation, at one parameter value and followed over many."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from .._check import require_in
from .flat import split_like

UNSETTLED = -1


class Basins(eqx.Module):
    """Which attractor each start goes to, and the share of starts that go to each."""

    labels: Int[Array, " starts"]
    """The attractor's place in `attractors`; −1 for a start that did not settle."""
    attractors: PyTree[Array]
    """The attractors, every leaf with a leading axis of them."""
    shares: Float[Array, " attractors"]
    """Of all starts, unsettled ones included."""
    low: Float[Array, " attractors"]
    high: Float[Array, " attractors"]
    """The Wilson 95 % interval of each share, for starts drawn independently."""
    unsettled: float
    """The share of starts that did not settle."""


class BasinShares(eqx.Module):
    """The basins' shares over a parameter; a column is one attractor, followed as it moves.

    Where an attractor is absent its share is 0 and its place in `attractors` is NaN.
    """

    parameter: Float[Array, " values"]
    labels: Int[Array, "values starts"]
    """The column of each start's attractor; −1 for a start that did not settle."""
    attractors: PyTree[Array]
    """Every leaf with leading axes of values and attractors."""
    shares: Float[Array, "values attractors"]
    low: Float[Array, "values attractors"]
    high: Float[Array, "values attractors"]
    """The Wilson 95 % interval of each share."""
    unsettled: Float[Array, " values"]


def basins(
    settle: Callable[[PyTree], PyTree],
    starts: PyTree,
    *,
    attractors: PyTree | None = None,
    settled_within: float = 1e-4,
    separation: float = 1e-2,
) -> Basins:
    """Send every start to its attractor by simulation, and count.

    Attractors are equilibria: a start counts as settled if a second call of `settle` moves its
    final state by no more than `settled_within`. One that drifts on, circles, or is not finite is
    labelled unsettled and belongs to no basin; settle for longer.

    **Arguments:**

    - `settle`: from states (every leaf with a leading axis) to their states a long time later,
      compiled by the caller; it is called twice.
    - `starts`: the starting states, drawn from the region of which the shares are to hold.
    - `attractors`: those known beforehand, with a leading axis; they come first. Settled states
      away from all of them make further ones.
    - `settled_within`, `separation`: the motion that is still rest, and the distance within which
      two states are one attractor. Both are in the largest component, as a share of the range
      that starts and final states span in it.

    **Raises** `ValueError` for leaves without a common leading axis, and for a `separation` that
    is not above `settled_within`.
    """
    require_in("settled_within", settled_within, 0.0, open_low=True)
    require_in("separation", separation, settled_within, open_low=True)
    first = _rows(starts, "starts")
    final = settle(starts)
    last, ahead = _rows(final, "settle(starts)"), _rows(settle(final), "settle(starts)")
    if first.shape != ahead.shape:
        raise ValueError(f"settle must return states like its starts; got {ahead.shape}.")
    scale = _scale(np.concatenate([first, ahead]))
    with np.errstate(invalid="ignore"):  # infinite states have not settled
        moved = _gaps(ahead, last, scale)
    settled = np.isfinite(ahead).all(axis=1) & (moved <= settled_within)
    known = [] if attractors is None else list(_rows(attractors, "attractors"))
    # The states nearest to rest come first, so that they become the attractors.
    order = np.argsort(moved)
    rest = ahead[order[settled[order]]]
    for place in known:
        rest = rest[_gaps(rest, place, scale) > separation]
    while len(rest):
        known.append(rest[0])
        rest = rest[_gaps(rest, rest[0], scale) > separation]
    places = np.array(known).reshape(-1, first.shape[1])
    labels = np.full(len(first), UNSETTLED)
    if len(places):
        gaps = _gaps(ahead[settled, None], places, scale)
        labels[settled] = np.argmin(gaps, axis=1)
    shares, low, high = _shares(labels, len(places))
    return Basins(
        labels=jnp.asarray(labels),
        attractors=_unflatten(places, starts),
        shares=jnp.asarray(shares),
        low=jnp.asarray(low),
        high=jnp.asarray(high),
        unsettled=float(np.mean(~settled)),
    )


def basin_shares(
    settle: Callable[[PyTree, Any], PyTree],
    starts: PyTree,
    parameter: Float[ArrayLike, " values"],
    *,
    reach: float = 0.2,
    settled_within: float = 1e-4,
    separation: float = 1e-2,
) -> BasinShares:
    """Follow the shares of the basins of attraction over a parameter, with the same starts.

    At each value the attractors found are matched with those known from before, each at the place
    where it was last seen, so that the sum of distances is least (the Hungarian method). One
    that is farther than `reach` from every place gets a column of its own; one that is not found
    again has share 0 from there on, and takes its column up again if it comes back.

    **Arguments:** `settle`, from (states, parameter value) to states, otherwise as in `basins`;
    `parameter`, in the order in which to follow; `reach`, how far an attractor may move from one
    value to the next, as a share of the range that starts and attractors span.

    **Raises** `ValueError` as `basins` does.
    """
    require_in("reach", reach, 0.0, open_low=True)
    values = np.atleast_1d(np.asarray(parameter))
    known = np.empty((0, _rows(starts, "starts").shape[1]))
    found: list[tuple[np.ndarray, Basins]] = []
    options = dict(settled_within=settled_within, separation=separation)
    for value in values:
        here = basins(lambda states, p=value: settle(states, p), starts, **options)
        places = _rows(here.attractors, "attractors")
        scale = _scale(np.concatenate([_rows(starts, "starts"), places]))
        columns = _match(_gaps(places[:, None], known, scale), reach)
        added = np.count_nonzero(columns >= len(known))
        known = np.concatenate([known, np.empty((added, known.shape[1]))])
        known[columns] = places
        found.append((columns, here))
    return _table(values, found, len(known), starts)


def _gaps(states: np.ndarray, others: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The largest difference in any component, in units of `scale`."""
    return np.max(np.abs(states - others) / scale, axis=-1)


def _match(gaps: np.ndarray, reach: float) -> np.ndarray:
    """A column for each new place (row of `gaps`): the known one it continues, or a further one."""
    # A gap beyond reach costs as much as any other: such pairs are parted again below.
    pairs = zip(*linear_sum_assignment(np.minimum(gaps, 2 * reach)), strict=True)
    columns = np.full(len(gaps), -1)
    for new, old in pairs:
        if gaps[new, old] <= reach:
            columns[new] = old
    columns[columns < 0] = gaps.shape[1] + np.arange(np.count_nonzero(columns < 0))
    return columns


def _table(values: np.ndarray, found: list, count: int, starts: PyTree) -> BasinShares:
    size = _rows(starts, "starts").shape[1]
    labels, places, intervals = [], [], []
    for columns, here in found:
        old = np.asarray(here.labels)
        renamed = np.where(old >= 0, np.append(columns, UNSETTLED)[old], UNSETTLED)
        where = np.full((count, size), np.nan)
        where[columns] = _rows(here.attractors, "attractors")
        labels.append(renamed)
        places.append(where)
        intervals.append(_shares(renamed, count))
    shares, low, high = np.moveaxis(np.array(intervals), 1, 0)
    return BasinShares(
        parameter=jnp.asarray(values),
        labels=jnp.asarray(np.stack(labels)),
        attractors=_unflatten(np.stack(places), starts),
        shares=jnp.asarray(shares),
        low=jnp.asarray(low),
        high=jnp.asarray(high),
        unsettled=jnp.asarray([here.unsettled for _, here in found]),
    )


def _shares(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of each label with its Wilson interval (Wilson 1927)."""
    hits = [int(np.count_nonzero(labels == label)) for label in range(count)]
    ranges = [binomtest(n, labels.size).proportion_ci(method="wilson") for n in hits]
    low, high = (np.array([r[end] for r in ranges]) for end in (0, 1))
    return np.array(hits) / labels.size, low, high


def _scale(states: np.ndarray) -> np.ndarray:
    finite = states[np.isfinite(states).all(axis=1)]
    if finite.size == 0:
        return np.ones(states.shape[1])
    width = np.ptp(finite, axis=0)
    return np.where(width > 0, width, 1.0)


def _rows(states: PyTree, name: str) -> np.ndarray:
    """Many states as rows, `[states, components]`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(states)]
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(f"every leaf of {name} needs the same leading axis; got {sorted(sizes)}.")
    count = len(leaves[0])
    return np.concatenate([leaf.reshape(count, np.size(leaf[0])) for leaf in leaves], axis=1)


def _unflatten(rows: np.ndarray, like: PyTree) -> PyTree:
    """The inverse of `_rows`, with any leading axes in place of the one of `like`."""
    return split_like(rows, jax.tree.map(lambda leaf: leaf[0], like))
