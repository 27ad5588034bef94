"""Explicit Runge-Kutta with the stages written out one after the other."""

import functools
from collections.abc import Sequence

import diffrax
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, Real


def derivative_at_start(
    terms: diffrax.AbstractTerm,
    t0: Real[Array, ""],
    y0: PyTree,
    args: PyTree,
    stored: PyTree,
    made_jump: bool | Bool[Array, ""],
) -> PyTree:
    """The vector field at the start of a step, reused from the end of the last one.

    For solvers whose last evaluation is the first of the next step ("first same as last").
    `stored` is that evaluation; it no longer holds when `made_jump` is true, and only then is the
    vector field evaluated again, as `f(t0, y0)`. Same structure and shapes as `stored`.
    """
    if isinstance(made_jump, bool):
        return terms.vf(t0, y0, args) if made_jump else stored
    # One jump in a batch recomputes the whole batch, which changes no value; a batched predicate
    # would turn the `cond` into a `select` and pay for the evaluation at every step.
    return jax.lax.cond(eqxi.unvmap_any(made_jump), lambda: terms.vf(t0, y0, args), lambda: stored)


def weighted_sum(weights: np.ndarray, trees: Sequence[PyTree]) -> PyTree:
    """`sum_i weights[i] * trees[i]`, leaf by leaf, without the terms of weight zero.

    At least one weight must differ from zero. They enter as Python floats, so every leaf keeps its
    dtype.
    """
    kept = [(float(w), tree) for w, tree in zip(weights, trees, strict=True) if w != 0]

    def leaf_sum(*leaves: Array) -> Array:
        products = [w * leaf for (w, _), leaf in zip(kept, leaves, strict=True)]
        return functools.reduce(jnp.add, products)

    return jax.tree.map(leaf_sum, *(tree for _, tree in kept))


class Tsit5(diffrax.Tsit5):
    """Tsitouras' 5(4) method with its seven stages unrolled.

    The method, its tableau, error estimate, interpolation and results are those of
    `diffrax.Tsit5`, to round-off; only the loop differs. diffrax fills a buffer of stages in a
    `while_loop` and multiplies by whole rows of the tableau, zeros included. For states of a few
    components that bookkeeping costs more than the arithmetic; written out, the stages are plain
    additions that the compiler fuses, and the stacked stages are dead code when no value between
    the steps is asked for.

    `solver_state` is the vector field at the start of the step. Takes any term that
    `diffrax.Tsit5` takes and any state that is a pytree of arrays; leaves are kept apart.

    Source: Ch. Tsitouras (2011), "Runge-Kutta pairs of order 5(4) satisfying only the first
    column simplifying assumption", Computers & Mathematics with Applications 62(2), 770-775.
    """

    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: Real[Array, ""],
        t1: Real[Array, ""],
        y0: PyTree,
        args: PyTree,
    ) -> PyTree:
        """The vector field at `(t0, y0)`: the state before the first step."""
        del t1
        return self.func(terms, t0, y0, args)

    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0: Real[Array, ""],
        t1: Real[Array, ""],
        y0: PyTree,
        args: PyTree,
        solver_state: PyTree,
        made_jump: bool | Bool[Array, ""],
    ) -> tuple[PyTree, PyTree, dict[str, PyTree], PyTree, diffrax.RESULTS]:
        """One step from `t0` to `t1`: `(y1, y_error, dense_info, solver_state, result)`."""
        tableau = self.tableau
        control = terms.contr(t0, t1)
        is_step = eqxi.unvmap_any(t1 != t0)
        f = derivative_at_start(terms, t0, y0, args, solver_state, made_jump)
        k = [terms.prod(f, control)]
        y = y0
        for a_row, c in zip(tableau.a_lower, tableau.c, strict=True):
            y = jax.tree.map(jnp.add, y0, weighted_sum(a_row, k))
            f = _evaluate_once(terms, _stage_time(t0, t1, float(c)), y, args, f, is_step)
            k.append(terms.prod(f, control))
        # The last row of the tableau is b_sol, so the last stage is the solution itself and its
        # derivative is the first one of the next step.
        y_error = weighted_sum(tableau.b_error, k)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *k)
        dense_info = {"y0": y0, "y1": y, "k": stacked}
        return y, y_error, dense_info, f, diffrax.RESULTS.successful


def _evaluate_once(
    terms: diffrax.AbstractTerm,
    t: Float[Array, ""],
    y: PyTree,
    args: PyTree,
    like: PyTree,
    is_step: Bool[Array, ""],
) -> PyTree:
    """`f(t, y)`, in a conditional that every step takes, as a wall against repeated work.

    XLA's CPU compiler fuses a chain of elementwise operations into each of its consumers. Without
    a wall every output of the step (each leaf of `y1`, of its derivative, of the error) computes
    all stages again, sines and exponentials included: measured three times slower for a batch of
    1,000 pendulums. It removes `optimization_barrier` before it fuses; a conditional it keeps.
    In a step of length zero every stage is the first, so `like`, the stage before, is right too.
    """
    return jax.lax.cond(is_step, lambda: terms.vf(t, y, args), lambda: like)


def _stage_time(t0: Real[Array, ""], t1: Real[Array, ""], c: float) -> Float[Array, ""]:
    # t0 + (t1 - t0) need not be t1 in floating point; a vector field may jump exactly there.
    return t1 if c == 1 else t0 + c * (t1 - t0)
