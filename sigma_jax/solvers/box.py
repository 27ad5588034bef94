"""A box that a state may not leave, around any solver, and a record of where it tried to."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Real

# An excess of up to this many units of round-off, at the size of the component at the start of
# the step or of its finite bounds (the larger), is round-off: it is projected but not reported.
ROUND_OFF_ULPS = 8.0


class BoxReport(eqx.Module):
    """How often and how far the accepted steps of a solve left the box.

    `count` is the number of accepted steps whose result had to be projected. `excess` is the
    largest amount, in the units of the state, by which any component was outside: before
    projection at the end of a step, or in the initial state, which is not moved. Both are zero for
    a solve that stayed inside up to round-off (`ROUND_OFF_ULPS`). The report carries no gradient.
    """

    count: Int[Array, ""]
    excess: Float[Array, ""]

    @classmethod
    def empty(cls, y: PyTree[Array]) -> "BoxReport":
        """The report of no steps, in the precision of the state `y`."""
        dtype = jnp.result_type(0.0, *jax.tree.leaves(y))
        return cls(jnp.zeros((), jnp.int32), jnp.zeros((), dtype))


class BoxState(eqx.Module):
    """The `solver_state` of `Boxed`: that of the inner solver, and the report so far.

    `projected` says whether the state at the start of the next step was just projected, so that
    what the inner solver remembers of it no longer holds.
    """

    inner: PyTree
    projected: Bool[Array, ""]
    report: BoxReport


class BoxedInterpolation(diffrax.AbstractLocalInterpolation):
    """The interpolation of the inner solver, projected onto the box wherever it is evaluated."""

    inner: diffrax.AbstractLocalInterpolation
    lower: PyTree[Array]
    upper: PyTree[Array]

    @property
    def t0(self) -> Any:
        """Start of the interval."""
        return self.inner.t0

    @property
    def t1(self) -> Any:
        """End of the interval."""
        return self.inner.t1

    def evaluate(
        self, t0: Real[Array, ""], t1: Real[Array, ""] | None = None, left: bool = True
    ) -> PyTree:
        """The value at `t0`, or the increment from `t0` to `t1` where `t1` is given."""
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        return jax.tree.map(_project, self.inner.evaluate(t0, left=left), self.lower, self.upper)


# diffrax keeps `interpolation_cls` as static data in a dense solution, so it must compare equal
# between calls and hold no array: the bounds travel in the step's `dense_info`.
@dataclasses.dataclass(frozen=True)
class _InterpolationClass:
    inner: Callable[..., diffrax.AbstractLocalInterpolation]

    def __call__(
        self, *, t0: Any, t1: Any, inner: dict[str, PyTree], lower: PyTree, upper: PyTree
    ) -> BoxedInterpolation:
        return BoxedInterpolation(self.inner(t0=t0, t1=t1, **inner), lower, upper)


class Boxed(diffrax.AbstractWrappedSolver):
    """Any diffrax solver, with the state projected onto `[lower, upper]` after every step.

    `lower` and `upper` are numbers for the whole state, or pytrees that are a prefix of it with
    leaves that broadcast to its leaves; `-inf` and `inf` leave a side open. The state is real.
    Every saved value is inside: steps, values between them and events all see projected states.
    The initial state is taken as given; if it is outside, the report says by how much.

    A projection is an intervention, so it is reported: ask for
    `SaveAt(..., solver_state=True)` and read `solution.solver_state.report`, a `BoxReport`.
    diffrax drops the solver state of a rejected step, so only accepted steps are counted. A solver
    that reuses the last derivative is told after a projection to compute it anew.

    The error estimate is that of the unprojected step. The derivative of the projection is one
    inside the box and on its faces, and zero (one with respect to the bound) where a component was
    moved, in forward and in reverse mode; the solution itself has a kink there.

    Passes as its inner solver in diffrax's checks (adaptive, implicit, ...). Raises `ValueError`
    if `solver` is no solver, if the bounds have different tree structures (unless one is a single
    leaf), or if a lower bound is above its upper bound or not a number.
    """

    solver: diffrax.AbstractSolver
    lower: PyTree[Array]
    upper: PyTree[Array]

    def __init__(
        self,
        solver: diffrax.AbstractSolver,
        lower: PyTree[ArrayLike] = 0.0,
        upper: PyTree[ArrayLike] = 1.0,
    ):
        if not isinstance(solver, diffrax.AbstractSolver):
            raise ValueError(f"`solver` must be a diffrax solver, got {solver!r}.")
        self.solver = solver
        self.lower = jax.tree.map(jnp.asarray, lower)
        self.upper = jax.tree.map(jnp.asarray, upper)
        _check_bounds(self.lower, self.upper)

    # What diffrax reads off a solver is the inner solver's. The last three exist only where the
    # inner solver has them: diffrax looks after checking that it is implicit, or Runge-Kutta.
    @property
    def term_structure(self) -> PyTree:
        """The terms that the inner solver takes."""
        return self.solver.term_structure

    @property
    def term_compatible_contr_kwargs(self) -> PyTree:
        """Arguments that diffrax passes to the terms' controls for the inner solver."""
        return self.solver.term_compatible_contr_kwargs

    @property
    def interpolation_cls(self) -> Callable[..., BoxedInterpolation]:
        """The inner solver's interpolation, projected."""
        return _InterpolationClass(self.solver.interpolation_cls)

    @property
    def root_finder(self) -> Any:
        """The root finder of an implicit inner solver."""
        return self.solver.root_finder  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def root_find_max_steps(self) -> int:
        """The iteration limit of an implicit inner solver."""
        return self.solver.root_find_max_steps  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def scan_kind(self) -> str | None:
        """The kind of loop of a Runge-Kutta inner solver, which diffrax sets in forward mode."""
        return self.solver.scan_kind  # pyright: ignore[reportAttributeAccessIssue]

    def order(self, terms: PyTree) -> int | None:
        """Order of the inner solver."""
        return self.solver.order(terms)

    def strong_order(self, terms: PyTree) -> Any:
        """Strong order of the inner solver."""
        return self.solver.strong_order(terms)

    def error_order(self, terms: PyTree) -> Any:
        """Order of the inner solver's error estimate."""
        return self.solver.error_order(terms)

    def func(self, terms: PyTree, t0: Real[Array, ""], y0: PyTree, args: PyTree) -> PyTree:
        """The inner solver's vector field at `(t0, y0)`."""
        return self.solver.func(terms, t0, y0, args)

    def init(
        self, terms: PyTree, t0: Real[Array, ""], t1: Real[Array, ""], y0: PyTree, args: PyTree
    ) -> BoxState:
        """The state before the first step."""
        inner = self.solver.init(terms, t0, t1, y0, args)
        count = BoxReport.empty(y0).count
        excess = _excess(y0, y0, *self._bounds(y0))
        return BoxState(inner, jnp.array(False), BoxReport(count, excess))

    def step(
        self,
        terms: PyTree,
        t0: Real[Array, ""],
        t1: Real[Array, ""],
        y0: PyTree,
        args: PyTree,
        solver_state: BoxState,
        made_jump: bool | Bool[Array, ""],
    ) -> tuple[PyTree, PyTree, dict[str, PyTree], BoxState, diffrax.RESULTS]:
        """One step of the inner solver, then the projection, from `t0` to `t1`."""
        y1, y_error, inner_info, inner, result = self.solver.step(
            terms, t0, t1, y0, args, solver_state.inner, made_jump | solver_state.projected
        )
        lower, upper = self._bounds(y0)
        excess = _excess(y1, y0, lower, upper)
        projected = excess > 0
        report = BoxReport(
            solver_state.report.count + projected.astype(jnp.int32),
            jnp.maximum(solver_state.report.excess, excess),
        )
        y1 = jax.tree.map(_project, y1, lower, upper)
        dense_info = {"inner": inner_info, "lower": lower, "upper": upper}
        return y1, y_error, dense_info, BoxState(inner, projected, report), result

    def _bounds(self, y: PyTree) -> tuple[PyTree[Array], PyTree[Array]]:
        """Both bounds with the tree structure and dtypes of `y`; shapes still to broadcast."""

        def like(bound: PyTree[Array]) -> PyTree[Array]:
            full = jax.tree.broadcast(bound, y)
            return jax.tree.map(lambda b, y: b.astype(y.dtype), full, y)

        return like(self.lower), like(self.upper)


def _project(y: Array, lower: Array, upper: Array) -> Array:
    # Not `clip`, whose derivative on a face of the box is one half; and NaN stays NaN.
    return jnp.where(y > upper, upper, jnp.where(y < lower, lower, y))


def _excess(y: PyTree, y_before: PyTree, lower: PyTree, upper: PyTree) -> Float[Array, ""]:
    """The largest amount by which a component of `y` is outside, zero if that is round-off."""

    def of_leaf(y: Array, y_before: Array, lower: Array, upper: Array) -> Float[Array, ""]:
        size = functools.reduce(
            jnp.maximum,
            [jnp.where(jnp.isfinite(x), jnp.abs(x), 0) for x in (y_before, lower, upper)],
        )
        beyond = jnp.where(y > upper, y - upper, jnp.where(y < lower, lower - y, 0))
        round_off = ROUND_OFF_ULPS * jnp.finfo(y.dtype).eps * size
        return jnp.max(jnp.where(beyond > round_off, beyond, 0), initial=0)

    leaves = jax.tree.leaves(jax.tree.map(of_leaf, y, y_before, lower, upper))
    return jax.lax.stop_gradient(functools.reduce(jnp.maximum, leaves, BoxReport.empty(y).excess))


def _check_bounds(lower: PyTree[Array], upper: PyTree[Array]) -> None:
    one_leaf = jax.tree.structure(0)
    structures = jax.tree.structure(lower), jax.tree.structure(upper)
    if structures[0] != structures[1] and one_leaf not in structures:
        raise ValueError(
            f"`lower` and `upper` must have the same tree structure, or one be a single number or "
            f"array, got {structures[0]} and {structures[1]}."
        )
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((lower, upper))):
        return  # no values to compare while tracing
    if structures[0] == one_leaf:
        lower = jax.tree.broadcast(lower, upper)
    else:
        upper = jax.tree.broadcast(upper, lower)
    for low, high in zip(jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True):
        if not np.all(np.asarray(low) <= np.asarray(high)):
            raise ValueError(f"`lower` must not exceed `upper` nor be NaN, got {low} and {high}.")
