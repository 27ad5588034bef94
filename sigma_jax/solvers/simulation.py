"""`simulate` and `simulate_ensemble`: a state advanced over saved times, one way or many."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from .._check import concrete
from .batches import in_batches, leading_size
from .box import Boxed, BoxReport
from .methods import Adaptive, FixedStep, Method

VectorField = Callable[[ArrayLike, PyTree, Any], PyTree] | diffrax.AbstractTerm


class Solution(eqx.Module):
    """What a simulation returns; in an ensemble every field gains a leading axis.

    `ys` has the state's structure, each leaf with a leading time axis; `ys` at index 0 is `y0`.
    """

    ts: Float[Array, " times"]
    """The saved times."""
    ys: PyTree
    """The state at the saved times."""
    steps: Int[Array, ""]
    """Steps taken, rejected ones included."""
    success: Bool[Array, ""]
    """False if the solver gave up or a value is not finite."""
    box: BoxReport | None
    """How often, and how far, the state had left its box, if the solver is `Boxed`."""


def simulate(
    vector_field: VectorField,
    y0: PyTree,
    times: ArrayLike,
    *,
    args: Any = None,
    method: Method = Adaptive(),
    segment: int | None = None,
    jump_times: tuple[float, ...] = (),
    throw: bool = True,
) -> Solution:
    """Advance `y0` along dy/dt = vector_field(t, y, args) and return it at `times`.

    Pure: it may be jitted, vmapped and differentiated.

    **Arguments:**

    - `vector_field`: a function (t, y, args) → dy/dt, or a diffrax term (a `MultiTerm` for IMEX).
    - `times`: at least two, increasing; the first is the start.
    - `method`: `Adaptive(...)` or `FixedStep(...)`.
    - `segment`: restart the solver every so many saved times. The grid of restarts is part of the
      problem: a run that is cut at a restart and resumed gives the same bits as one that is not.
    - `jump_times`: where the vector field is discontinuous in time. `Adaptive` steps exactly onto
      them; `FixedStep` needs each to be among `times` and never evaluates an interval at its end.
    - `throw`: raise if the solver fails or a value is not finite. If False, see
      `Solution.success`.

    **Raises** `ValueError` for times that do not increase, a segment that does not divide the
    number of intervals, or a jump between saved times with `FixedStep`.
    """
    _check_times(times, segment, jump_times, method)
    times = jnp.asarray(times, jnp.result_type(float))
    y0 = jax.tree.map(jnp.asarray, y0)
    return _simulate(vector_field, y0, times, args, method, segment, tuple(jump_times), throw)


@eqx.filter_jit
def _simulate(vector_field, y0, times, args, method, segment, jump_times, throw) -> Solution:
    intervals = times.size - 1
    per_segment = intervals if segment is None else segment
    starts = times[:-1].reshape(-1, per_segment)[:, :1]
    grid = jnp.concatenate([starts, times[1:].reshape(-1, per_segment)], axis=1)

    def body(y, segment_times):
        if isinstance(method, Adaptive):
            ys, report = _adaptive_segment(vector_field, y, segment_times, args, method, jump_times)
        else:
            ys, report = _fixed_segment(vector_field, y, segment_times, args, method)
        return jax.tree.map(lambda leaf: leaf[-1], ys), (ys, report)

    if grid.shape[0] == 1:
        ys, (steps, success, box) = body(y0, grid[0])[1]
    else:
        _, (ys, (steps, success, box)) = jax.lax.scan(body, y0, grid)
        ys = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), ys)
        steps, success = jnp.sum(steps), jnp.all(success)
        box = None if box is None else BoxReport(jnp.sum(box.count), jnp.max(box.excess))
    ys = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), y0, ys)
    for leaf in jax.tree.leaves(ys):
        success &= jnp.all(jnp.isfinite(leaf))
    if throw:
        ys = eqx.error_if(
            ys,
            ~success,
            "the simulation failed: the solver gave up or a value is not finite. Usually the "
            "vector field leaves its domain, or the problem is stiff: tighten the tolerances, "
            "raise max_steps, or use a solver for stiff problems.",
        )
    return Solution(ts=times, ys=ys, steps=steps, success=success, box=box)


def simulate_ensemble(
    vector_field: VectorField,
    y0: PyTree,
    times: ArrayLike,
    *,
    args: Any = None,
    method: Method = Adaptive(),
    batch_size: int = 1024,
    segment: int | None = None,
    jump_times: tuple[float, ...] = (),
) -> Solution:
    """Simulate many trajectories in one compiled call, in batches, on every device.

    As `simulate`, but every leaf of `y0` and `args` has a leading axis of trajectories, and so
    has every field of the `Solution`. Failures do not raise: see `Solution.success`.

    With `Adaptive` and an explicit Runge–Kutta solver the trajectories of a batch share their
    steps, which suit the worst of them; other solvers step each trajectory by itself. A batch
    that stays in the processor's cache is fastest: about a thousand small trajectories.

    **Raises** `ValueError` as `simulate` does, and for leaves without a common leading axis.
    """
    _check_times(times, segment, jump_times, method)
    options = dict(method=method, segment=segment, jump_times=tuple(jump_times), throw=False)
    return _simulate_batches(vector_field, (y0, args), times, options, batch_size)


@eqx.filter_jit
def _simulate_batches(vector_field, lanes, times, options, batch_size) -> Solution:
    def one_batch(batch):
        y0, args = batch
        return _simulate_batch(vector_field, y0, args, times, options)

    return in_batches(one_batch, lanes, batch_size)


def _simulate_batch(vector_field, y0, args, times, options) -> Solution:
    method = options["method"]

    def one_by_one() -> Solution:
        return jax.vmap(lambda y, a: simulate(vector_field, y, times, args=a, **options))(y0, args)

    if not (isinstance(method, Adaptive) and isinstance(method.solver, diffrax.AbstractERK)):
        return one_by_one()
    size = leading_size(y0)
    together: VectorField = jax.vmap(_as_function(vector_field), in_axes=(None, 0, 0))
    shared = dataclasses.replace(method, norm=_worst_rms_norm)
    solution = simulate(together, y0, times, args=args, **(options | {"method": shared}))
    spread = Solution(
        ts=jnp.broadcast_to(solution.ts, (size, solution.ts.size)),
        ys=jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), solution.ys),
        steps=jnp.broadcast_to(solution.steps, (size,)),
        success=jnp.broadcast_to(solution.success, (size,)),
        box=None,
    )
    # One trajectory that fails stops its whole batch: then each goes by itself.
    return jax.lax.cond(solution.success, lambda: spread, one_by_one)


def _worst_rms_norm(scaled_error: PyTree) -> Float[Array, ""]:
    """Root-mean-square over one trajectory's components; the largest over trajectories."""
    leaves = jax.tree.leaves(scaled_error)
    components = sum(leaf[0].size for leaf in leaves)

    def squares():
        return sum(jnp.sum(leaf**2, axis=range(1, leaf.ndim)) for leaf in leaves)

    # The wall of `runge_kutta.py` again: fused into the maximum, the errors of all lanes would
    # be computed one at a time.
    first = leaves[0].ravel()[0]
    each = jax.lax.cond(first == first, squares, lambda: jnp.full(leaves[0].shape[0], jnp.nan))
    return jnp.sqrt(jnp.max(each) / components)


def _adaptive_segment(vector_field, y0, times, args, method: Adaptive, jump_times):
    controller = diffrax.PIDController(rtol=method.rtol, atol=method.atol, norm=method.norm)
    if jump_times:
        controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.asarray(jump_times))
    only_end = times.size == 2
    boxed = isinstance(method.solver, Boxed)
    saved = diffrax.SubSaveAt(t1=True) if only_end else diffrax.SubSaveAt(ts=times[1:])
    solution = diffrax.diffeqsolve(
        _as_term(vector_field),
        method.solver,
        times[0],
        times[-1],
        None,
        y0,
        args,
        saveat=diffrax.SaveAt(subs=saved, solver_state=boxed),
        stepsize_controller=controller,
        adjoint=method.adjoint,
        max_steps=method.max_steps,
        throw=False,
    )
    success = solution.result == diffrax.RESULTS.successful
    box = None if solution.solver_state is None else solution.solver_state.report
    return solution.ys, (solution.stats["num_steps"], success, box)


def _fixed_segment(vector_field, y0, times, args, method: FixedStep):
    boxed = isinstance(method.solver, Boxed)

    def interval(carry, bounds):
        y, success, box = carry
        start, end = bounds
        # A step never sees the far side of a jump at the interval's end.
        last = jnp.nextafter(*jax.lax.stop_gradient((end, start)))
        term = _before(_as_term(vector_field), last)
        nodes = start + (end - start) * jnp.arange(method.steps, dtype=times.dtype) / method.steps
        solver_state = method.solver.init(term, start, nodes[0], y, args)

        @jax.checkpoint  # reverse mode keeps a step's start, not its stages: ten times faster
        def step(inner, bounds):
            y, solver_state, success = inner
            t0, t1 = bounds
            y, _, _, solver_state, result = method.solver.step(
                term, t0, t1, y, args, solver_state, made_jump=False
            )
            return (y, solver_state, success & (result == diffrax.RESULTS.successful)), None

        bounds = (nodes, jnp.append(nodes[1:], end))
        (y, solver_state, success), _ = jax.lax.scan(step, (y, solver_state, success), bounds)
        if boxed:
            last = solver_state.report
            box = BoxReport(box.count + last.count, jnp.maximum(box.excess, last.excess))
        return (y, success, box), y

    box = BoxReport.empty(y0) if boxed else None
    start = (y0, jnp.array(True), box)
    if times.size == 2:  # a loop of one would only cost its copies
        (_, success, box), y = interval(start, (times[0], times[1]))
        ys = jax.tree.map(lambda leaf: leaf[None], y)
    else:
        (_, success, box), ys = jax.lax.scan(interval, start, (times[:-1], times[1:]))
    steps = jnp.array(method.steps * (times.size - 1))
    return ys, (steps, success, box)


def _as_term(vector_field: VectorField) -> diffrax.AbstractTerm:
    if isinstance(vector_field, diffrax.AbstractTerm):
        return vector_field
    return diffrax.ODETerm(vector_field)


def _as_function(vector_field: VectorField) -> Callable:
    if isinstance(vector_field, diffrax.AbstractTerm):
        return vector_field.vf
    return vector_field


def _before(term: diffrax.AbstractTerm, last: Array) -> diffrax.AbstractTerm:
    """The same term, evaluated no later than `last`."""
    if isinstance(term, diffrax.MultiTerm):
        return diffrax.MultiTerm(*(_before(part, last) for part in term.terms))
    return _Before(term, last)


class _Before(diffrax.AbstractTerm):
    """`term`, its vector field evaluated no later than `last`; its control is left as it is."""

    term: diffrax.AbstractTerm
    last: Array

    def vf(self, t, y, args):
        return self.term.vf(jnp.minimum(t, self.last), y, args)

    def contr(self, t0, t1, **kwargs):
        return self.term.contr(t0, t1, **kwargs)

    def prod(self, vf, control):
        return self.term.prod(vf, control)


def _check_times(times: ArrayLike, segment: int | None, jump_times, method: Method) -> None:
    if np.ndim(times) != 1 or np.size(times) < 2:
        raise ValueError(f"times must be a list of at least two; got shape {np.shape(times)}.")
    intervals = np.size(times) - 1
    if segment is not None and (segment < 1 or intervals % segment):
        raise ValueError(f"segment must divide the {intervals} intervals; got {segment}.")
    if (grid := concrete(times)) is None:
        return
    if not (np.isfinite(grid).all() and (np.diff(grid) > 0).all()):
        raise ValueError("times must be finite and increase.")
    inside = [t for t in jump_times if grid[0] < t < grid[-1]]
    if isinstance(method, FixedStep) and not np.isin(inside, grid).all():
        raise ValueError(f"FixedStep needs every jump time among times; got {tuple(jump_times)}.")
