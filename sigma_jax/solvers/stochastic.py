"""Itô equations simulated: fixed steps in a scan, many paths in one compiled call."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Key, PyTree

from .._check import concrete
from .batches import in_batches
from .box import ROUND_OFF_ULPS, BoxReport
from .ito import SDE, EulerMaruyama
from .noise import increments, summed


class Paths(eqx.Module):
    """What a stochastic simulation returns; in an ensemble every field gains a leading axis."""

    ts: Float[Array, " times"]
    """The saved times."""
    ys: PyTree
    """The state at the saved times; `ys` at index 0 is `y0`."""
    success: Bool[Array, ""]
    """False if a saved value is not finite: usually the steps are too long for the drift."""
    box: BoxReport
    """In how many steps a component had to be projected into the box, and how far it was out."""
    key: Key[Array, ""]
    """The key that replays the path."""


def simulate_sde(
    sde: SDE,
    y0: PyTree,
    times: ArrayLike,
    *,
    key: Key[Array, ""],
    steps: int,
    args: Any = None,
    scheme: EulerMaruyama = EulerMaruyama(),
    refine: int = 1,
) -> Paths:
    """One path of `sde` from `y0`, with `steps` equal steps between successive `times`.

    Pure: it may be jitted, vmapped and differentiated. The path is a function of the key and of
    nothing else: not of the batch that it is in.

    **Arguments:** `refine` draws the noise on a grid so many times finer than the steps and sums
    it. A path with `steps=n, refine=2r` and one with `steps=2n, refine=r` follow the same Brownian
    motion: that shows the error of the steps alone.

    **Raises** `ValueError` for times that do not increase, steps or refine below one, a start
    outside the box, or a key that is not a Threefry key, JAX's default.
    """
    _check(sde, y0, times, key, steps, refine)
    times = jnp.asarray(times, jnp.result_type(float))
    y0 = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], y0)
    paths = _simulate(sde, y0, times, key[None], args, None, scheme, steps, refine)
    return jax.tree.map(lambda leaf: leaf[0], paths)


@eqx.filter_jit
def _simulate(sde, y0, times, keys, args, args_axis, scheme, steps, refine) -> Paths:
    """`simulate_sde` for as many paths as there are keys; every leaf of `y0` leads with them."""
    lower, upper = (jax.tree.broadcast(bound, y0) for bound in (sde.lower, sde.upper))
    components = sum(leaf[0].size for leaf in jax.tree.leaves(y0))
    length = _block_length(steps, refine)

    def one_step(t, y, args, h, dw):
        return scheme.step(sde.drift, sde.diffusion, t, y, args, h, dw)

    every_step = jax.vmap(one_step, in_axes=(None, 0, args_axis, None, 0))

    def interval(carry, bounds):
        start, end, first = bounds
        h = (end - start) / steps

        def block(carry, origin):
            number = (first + origin) * refine
            noise = increments(scheme.noise, keys, number, length * refine, components, h / refine)

            def step(carry, i):
                # The state is projected here rather than where it was made: XLA's CPU compiler
                # computes each leaf by itself, and a report on the new leaves would compute all
                # of them again.
                y, box = _into_box(carry, lower, upper)
                dw = summed(noise, number + i * refine, refine)
                t = start + (origin + i).astype(h.dtype) * h
                return (every_step(t, y, args, h, _shaped_like(y, dw)), box), None

            return jax.lax.scan(step, carry, jnp.arange(length))[0], None

        carry, _ = jax.lax.scan(block, carry, jnp.arange(0, steps, length))
        y, box = _into_box(carry, lower, upper)
        return (y, box), y

    firsts = jnp.arange(times.size - 1) * steps
    none = jnp.zeros(keys.shape, times.dtype)
    box = jax.lax.complex(none, none)
    (_, box), ys = jax.lax.scan(interval, (y0, box), (times[:-1], times[1:], firsts))
    ys = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:, None], jnp.moveaxis(rest, 0, 1)], axis=1),
        y0,
        ys,
    )
    success = jnp.ones(keys.shape, bool)
    for leaf in jax.tree.leaves(ys):
        success &= jnp.all(jnp.isfinite(leaf), axis=range(1, leaf.ndim))
    return Paths(
        ts=jnp.broadcast_to(times, (*keys.shape, times.size)),
        ys=ys,
        success=success,
        box=BoxReport(box.real.astype(jnp.int32), box.imag),
        key=keys,
    )


def _block_length(steps: int, refine: int) -> int:
    """The largest divisor of `steps` with at most 32 deviates: more would not stay in cache."""
    most = max(1, min(steps, 32 // refine))
    return next(length for length in range(most, 0, -1) if steps % length == 0)


def _shaped_like(y: PyTree, values: Float[Array, "components paths"]) -> PyTree:
    """The rows of `values`, in the order of the leaves of `y`."""
    leaves, structure = jax.tree.flatten(y)
    ends = np.cumsum([leaf[0].size for leaf in leaves])
    parts = jnp.split(values, ends[:-1])
    return structure.unflatten(
        part.T.reshape(leaf.shape).astype(leaf.dtype)
        for part, leaf in zip(parts, leaves, strict=True)
    )


def _into_box(carry, lower: PyTree, upper: PyTree):
    """(state, report) with the state projected into the box, and the projection reported.

    The report's real part counts the projections of each path, its imaginary part is the largest
    excess: in one array, so that what both need is computed once.
    """
    y, report = carry
    excess = _excess(y, lower, upper)
    if excess is None:
        return carry
    report = jax.lax.complex(
        report.real + (excess > 0).astype(excess.dtype), _larger(report.imag, excess)
    )
    return jax.tree.map(_project, y, lower, upper), report


def _open(bound: Any) -> bool:
    return isinstance(bound, float) and np.isinf(bound)


def _project(y: Array, lower: ArrayLike, upper: ArrayLike) -> Array:
    # Not `clip`, whose derivative on a face of the box is one half; and NaN stays NaN.
    if not _open(lower):
        y = jnp.where(y < lower, jnp.asarray(lower, y.dtype), y)
    return y if _open(upper) else jnp.where(y > upper, jnp.asarray(upper, y.dtype), y)


def _excess(y: PyTree, lower: PyTree, upper: PyTree) -> Float[Array, " paths"] | None:
    """By how much each path's worst component is outside, beyond round-off; None if none can be."""
    beyond = []
    for sign, bounds in ((-1.0, lower), (1.0, upper)):
        for leaf, bound in zip(jax.tree.leaves(y), jax.tree.leaves(bounds), strict=True):
            if not _open(bound):
                round_off = ROUND_OFF_ULPS * float(jnp.finfo(leaf.dtype).eps) * abs(bound)
                outside = sign * (leaf - jnp.asarray(bound + sign * round_off, leaf.dtype))
                beyond.append(jnp.max(outside.reshape(leaf.shape[0], -1), axis=1))
    return jax.lax.stop_gradient(functools.reduce(_larger, beyond)) if beyond else None


def _larger(a: Array, b: Array) -> Array:
    # A third of the price of `jnp.maximum`, which also carries NaN through.
    return jnp.where(a > b, a, b)


def simulate_sde_ensemble(
    sde: SDE,
    y0: PyTree,
    times: ArrayLike,
    *,
    keys: Key[Array, " paths"],
    steps: int,
    args: Any = None,
    scheme: EulerMaruyama = EulerMaruyama(),
    summary: Callable[[Paths], PyTree] | None = None,
    batch_size: int = 1024,
) -> PyTree:
    """Many paths in one compiled call, in batches, on every device.

    As `simulate_sde`, but `keys` and every leaf of `y0` and `args` have a leading axis of paths.
    `summary` reduces each path before it leaves its batch (a first-passage time, say), so that
    10⁵ paths need not be kept; a new function compiles anew, an equal `equinox.Module` does not.

    **Returns** `Paths`, or what `summary` returns, with a leading axis of paths.

    **Raises** `ValueError` as `simulate_sde` does, and for leaves without a common leading axis.
    """
    _check(sde, y0, times, keys, steps, 1)
    times = jnp.asarray(times, jnp.result_type(float))
    lanes = (jax.tree.map(jnp.asarray, y0), keys, args)
    return _ensemble(sde, summary, lanes, times, scheme, steps, batch_size)


@eqx.filter_jit
def _ensemble(sde, summary, lanes, times, scheme, steps, batch_size):
    def one_batch(batch):
        y0, keys, args = batch
        paths = _simulate(sde, y0, times, keys, args, 0, scheme, steps, 1)
        return paths if summary is None else jax.vmap(summary)(paths)

    return in_batches(one_batch, lanes, batch_size)


def _check(sde: SDE, y0: PyTree, times: ArrayLike, key: Array, steps: int, refine: int) -> None:
    for name, value in (("steps", steps), ("refine", refine)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer; got {value!r}.")
    if np.ndim(times) != 1 or np.size(times) < 2:
        raise ValueError(f"times must be a list of at least two; got shape {np.shape(times)}.")
    grid = concrete(times)
    if grid is not None and not (np.isfinite(grid).all() and (np.diff(grid) > 0).all()):
        raise ValueError("times must be finite and increase.")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise ValueError(f"the key must be one of `jax.random.key`; got an array of {key.dtype}.")
    if jax.random.key_data(key).shape[-1] != 2:
        raise ValueError(f"the key must be a Threefry key, JAX's default; got {key.dtype}.")
    bounds = (jax.tree.leaves(jax.tree.broadcast(bound, y0)) for bound in (sde.lower, sde.upper))
    for leaf, low, high in zip(jax.tree.leaves(y0), *bounds, strict=True):
        start, bottom, top = concrete(leaf), concrete(low), concrete(high)
        if start is None or bottom is None or top is None:
            continue  # no values to compare while tracing
        if not np.all((bottom <= start) & (start <= top)):
            raise ValueError(f"y0 must lie in the box, here from {low} to {high}; got {leaf}.")
