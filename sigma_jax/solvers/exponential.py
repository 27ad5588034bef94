r"""Exponential time differencing for drifts with a stiff diagonal relaxation.

For $y' = -\lambda y + N(t, y)$ with a diagonal $\lambda$ the relaxation is integrated exactly and
only $N$ is approximated, so a large $\lambda$ costs neither accuracy nor small steps, and no
linear system is solved. The weights are $\varphi$-functions of $z = -\lambda h$:

    φ₁(z) = (e^z - 1)/z,    φ₂(z) = (φ₁(z) - 1)/z,    φ₃(z) = (φ₂(z) - 1/2)/z.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, PyTree, Real

from .runge_kutta import derivative_at_start

# Below this |z| the series is used. At 0.5 the closed form of phi_3 has lost a factor of about 20
# to cancellation, and the first term of the series left out is below 1e-16 of the sum.
SERIES_BELOW = 0.5
_SERIES = [1 / math.factorial(k + 3) for k in range(14)]


def phi_functions(
    z: Inexact[Array, "*shape"],
) -> tuple[Inexact[Array, "*shape"], Inexact[Array, "*shape"], Inexact[Array, "*shape"]]:
    """The functions `phi_1`, `phi_2` and `phi_3` of the module's text at `z`, elementwise.

    Accurate to a few units of round-off for every finite `z` for which `exp(z)` is finite, with
    finite derivatives everywhere, at zero too: near zero `phi_3` is summed as a series and the
    others follow by multiplying, elsewhere they follow from `expm1` by dividing.
    """
    near_zero = jnp.abs(z) < SERIES_BELOW
    # Each branch sees only arguments it is good for, so that the derivative of the branch not
    # taken is finite as well (zero times infinity would be NaN).
    small = jnp.where(near_zero, z, 0)
    large = jnp.where(near_zero, 1, z)

    series_3 = jnp.full_like(small, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        series_3 = coefficient + small * series_3
    series_2 = 1 / 2 + small * series_3
    series_1 = 1 + small * series_2

    closed_1 = jnp.expm1(large) / large
    closed_2 = (closed_1 - 1) / large
    closed_3 = (closed_2 - 1 / 2) / large
    return (
        jnp.where(near_zero, series_1, closed_1),
        jnp.where(near_zero, series_2, closed_2),
        jnp.where(near_zero, series_3, closed_3),
    )


class ExponentialInterpolation(diffrax.AbstractLocalInterpolation):
    r"""The continuous extension of `ETDRK4`, of local order four.

    Within a step $N$ is taken as the parabola through its values at the stages, and the relaxation
    is again exact. At the fraction $\theta$ of a step

        y(θ) = y₀ + θ φ₁(θz) k₁ + θ² φ₂(θz) k₂ + θ³ φ₃(θz) k₃,

    which is `y1` at its end. `z` and the `k` (already times the step) have the structure and
    shapes of `y0`. Unlike a Hermite polynomial it follows a transient that is faster than a step.
    """

    t0: Real[Array, ""]
    t1: Real[Array, ""]
    y0: PyTree
    z: PyTree
    k1: PyTree
    k2: PyTree
    k3: PyTree

    def evaluate(
        self, t0: Real[Array, ""], t1: Real[Array, ""] | None = None, left: bool = True
    ) -> PyTree:
        """The value at `t0`, or the increment from `t0` to `t1` where `t1` is given."""
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        length = jnp.where(self.t1 == self.t0, 1, self.t1 - self.t0)
        fraction = (t0 - self.t0) / length

        def extend(y0: Array, z: Array, k1: Array, k2: Array, k3: Array) -> Array:
            theta = fraction.astype(y0.dtype)
            phi_1, phi_2, phi_3 = phi_functions(theta * z)
            return y0 + theta * (phi_1 * k1 + theta * (phi_2 * k2 + theta * phi_3 * k3))

        return jax.tree.map(extend, self.y0, self.z, self.k1, self.k2, self.k3)


class ETDRK4(diffrax.AbstractAdaptiveSolver):
    r"""Fourth-order exponential time differencing Runge-Kutta, for a diagonal relaxation.

    Solves $y' = f(t, y)$, given as a plain `diffrax.ODETerm`, with
    $f(t, y) = -\lambda y + N(t, y)$. `relaxation_rate(t, y, args)` returns $\lambda$ (one over the
    unit of time) with the tree structure of `y` and leaves that broadcast to its leaves; it should
    be non-negative, and zero where nothing is stiff: there the method is the classical Runge-Kutta
    method. $\lambda$ may depend on `t` and `y`. It is frozen at the start of every step, and since
    $N = f + \lambda y$ is formed with that same $\lambda$ the split stays exact and the order four
    whatever the rate; a rate that does not match $f$ costs stability, not consistency.

    The formulas are those of Cox and Matthews, rearranged around $f(t_0, y_0)$: equal term by term
    in exact arithmetic, but a state at rest stays at rest exactly, however stiff.

    The error estimate costs nothing extra. Taking the vector field at the new point, which the next
    step needs anyway, in place of the fourth stage gives a third-order solution (at $\lambda = 0$
    the order conditions of order three hold, one of order four does not), so the estimate is
    $h (4\varphi_3 - \varphi_2)(N_4 - N(t_1, y_1))$, of local order four. Its weight tends to
    $1/\lambda$ in the stiff limit, so it stays bounded.

    `solver_state` is the vector field at the start of the step. Raises `ValueError` if
    `relaxation_rate` is not callable or returns another tree structure than that of `y`.

    Source: S. M. Cox, P. C. Matthews (2002), "Exponential time differencing for stiff systems",
    Journal of Computational Physics 176, 430-455, equations (26)-(29).
    """

    relaxation_rate: Callable[[Real[Array, ""], PyTree, PyTree], PyTree]

    term_structure: ClassVar[type[diffrax.ODETerm]] = diffrax.ODETerm
    interpolation_cls: ClassVar[type[ExponentialInterpolation]] = ExponentialInterpolation

    def __check_init__(self) -> None:
        if not callable(self.relaxation_rate):
            raise ValueError(
                f"`relaxation_rate` must be a function (t, y, args) -> rates shaped like y, "
                f"got {self.relaxation_rate!r}."
            )

    def order(self, terms: PyTree) -> int:
        """Order of convergence, four; the error estimate is the difference to a third-order one."""
        del terms
        return 4

    def func(
        self, terms: diffrax.AbstractTerm, t0: Real[Array, ""], y0: PyTree, args: PyTree
    ) -> PyTree:
        """The vector field at `(t0, y0)`."""
        return terms.vf(t0, y0, args)

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
        step_size = terms.contr(t0, t1)
        h = jax.tree.map(lambda y: jnp.asarray(step_size, y.dtype), y0)
        t_half = t0 + 0.5 * (t1 - t0)
        f_0 = derivative_at_start(terms, t0, y0, args, solver_state, made_jump)
        rate = self._rate(terms, t0, y0, args)
        z = jax.tree.map(lambda h, rate: -h * rate, h, rate)
        # The exact propagator over half a step, applied to a constant forcing.
        half = jax.tree.map(lambda h, z: 0.5 * h * phi_functions(0.5 * z)[0], h, z)
        phi = jax.tree.map(phi_functions, z)
        phi_1, phi_2, phi_3 = (jax.tree.map(lambda _, p, i=i: p[i], z, phi) for i in range(3))

        def forcing_change(t: Real[Array, ""], y: PyTree) -> tuple[PyTree, PyTree]:
            """`N(t, y) - N(t0, y0)` with the rate frozen at the start, and `f(t, y)`."""
            f = terms.vf(t, y, args)
            change = jax.tree.map(
                lambda f, f_0, rate, y, y_0: f - f_0 + rate * (y - y_0), f, f_0, rate, y, y0
            )
            return change, f

        a = jax.tree.map(lambda y, p, f: y + p * f, y0, half, f_0)
        d_a, _ = forcing_change(t_half, a)
        b = jax.tree.map(lambda a, p, d: a + p * d, a, half, d_a)
        d_b, _ = forcing_change(t_half, b)
        c = jax.tree.map(
            lambda a, p, f, d, rate, y: a + p * (f + 2 * d - rate * (a - y)),
            a, half, f_0, d_b, rate, y0,
        )  # fmt: skip
        d_c, _ = forcing_change(t1, c)

        k_1 = jax.tree.map(jnp.multiply, h, f_0)
        k_2 = jax.tree.map(lambda h, d_a, d_b, d_c: h * (2 * (d_a + d_b) - d_c), h, d_a, d_b, d_c)
        k_3 = jax.tree.map(lambda h, d_a, d_b, d_c: 4 * h * (d_c - d_a - d_b), h, d_a, d_b, d_c)
        y1 = jax.tree.map(
            lambda y, p_1, p_2, p_3, k_1, k_2, k_3: y + p_1 * k_1 + p_2 * k_2 + p_3 * k_3,
            y0, phi_1, phi_2, phi_3, k_1, k_2, k_3,
        )  # fmt: skip
        d_1, f_1 = forcing_change(t1, y1)
        y_error = jax.tree.map(
            lambda h, p_2, p_3, d_c, d_1: h * (4 * p_3 - p_2) * (d_c - d_1),
            h, phi_2, phi_3, d_c, d_1,
        )  # fmt: skip
        dense_info = {"y0": y0, "z": z, "k1": k_1, "k2": k_2, "k3": k_3}
        return y1, y_error, dense_info, f_1, diffrax.RESULTS.successful

    def _rate(
        self, terms: diffrax.AbstractTerm, t0: Real[Array, ""], y0: PyTree, args: PyTree
    ) -> PyTree:
        # diffrax integrates backwards as forwards in -t; its wrapper of the term keeps the sign.
        rate = self.relaxation_rate(t0 * getattr(terms, "direction", 1), y0, args)
        if jax.tree.structure(rate) != jax.tree.structure(y0):
            raise ValueError(
                f"`relaxation_rate` must return the tree structure of y, "
                f"{jax.tree.structure(y0)}, got {jax.tree.structure(rate)}."
            )
        return jax.tree.map(
            lambda r, y: jnp.broadcast_to(jnp.asarray(r, y.dtype), y.shape), rate, y0
        )
