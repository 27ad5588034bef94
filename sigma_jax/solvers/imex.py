r"""ARS(2,3,2): a second-order implicit-explicit Runge-Kutta pair, as published and as reprinted.

Both solvers take `diffrax.MultiTerm(explicit_term, implicit_term)` and differ in one row of the
explicit tableau. With $\gamma = 1 - 1/\sqrt 2$ and $c = (0, \gamma, 1)$,

    implicit   0 |                      explicit   0 |
               γ | 0    γ                          γ | γ
               1 | 0   1-γ   γ                     1 | δ   1-δ   0
              ---+--------------                  ---+---------------
                 | 0   1-γ   γ                       | 0   1-γ   γ

Error estimate. Neither source gives embedded weights. The second stage
$Y_2 = y_0 + \gamma h f(Y_2)$ is an implicit Euler step over $\gamma h$, and stretching its
increment to the whole step gives the first-order solution
$\hat y_1 = y_0 + (Y_2 - y_0)/\gamma = y_0 + h f(Y_2)$, that is $\hat b = (0, 1, 0)$ in both
tableaus. The error weights are $b - \hat b = (0, -\gamma, \gamma)$, the estimate is $O(h^2)$.
It stays bounded in the stiff limit because it uses only $f(Y_2)$ and $f(Y_3)$, which come out of
implicit solves: for $y' = \lambda y$ and $z = h \lambda \to -\infty$ the solution has $R(z) \to 0$,
the embedded one $\hat R(z) = 1 + z/(1 - \gamma z) \to 1 - 1/\gamma = -2.414$, so the estimate
tends to $2.414\,|y_0|$. An estimate that weighted the first stage, as $\hat b = (1, 0, 0)$, would
grow like $|z|$. (It does not tend to zero: it asks for steps that follow a fast transient while
that lasts.)

Values between steps use the one second-order continuous extension on the stages two and three,

    b₂(θ) = (θ - θ²/2)/(1 - γ),    b₃(θ) = (θ²/2 - γθ)/(1 - γ),

which is the parabola through $y_0$ and $y_1$ with the slope of the last stage at the end. A cubic
Hermite polynomial would need $f(y_0)$, and where $y_0$ is a little off the slow manifold the
implicit part of that is of size $|z|$.

Sources: U. Ascher, S. Ruuth, R. Spiteri (1997), "Implicit-explicit Runge-Kutta methods for
time-dependent partial differential equations", Applied Numerical Mathematics 25, 151-167, sec. 2.5;
the printed row: Sigma-Model paper, section 3 (Algorithm 3.1), erratum E-24.
"""

import math
from typing import ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, PyTree, Real

GAMMA = 1 - 1 / math.sqrt(2)
DELTA = -2 * math.sqrt(2) / 3

_NODES = np.array([GAMMA, 1.0])
_WEIGHTS = np.array([0.0, 1 - GAMMA, GAMMA])
_ERROR_WEIGHTS = np.array([0.0, -GAMMA, GAMMA])

_IMPLICIT = diffrax.ButcherTableau(
    c=_NODES,
    b_sol=_WEIGHTS,
    b_error=_ERROR_WEIGHTS,
    a_lower=(np.array([0.0]), np.array([0.0, 1 - GAMMA])),
    a_diagonal=np.array([0.0, GAMMA, GAMMA]),
    # The third stage starts its root search from the second: extrapolating from the first as well
    # would bring in its explicit evaluation of the stiff part.
    a_predictor=(np.array([1.0]), np.array([0.0, 1.0])),
)


def _explicit(third_row: tuple[float, float]) -> diffrax.ButcherTableau:
    return diffrax.ButcherTableau(
        c=_NODES,
        b_sol=_WEIGHTS,
        b_error=_ERROR_WEIGHTS,
        a_lower=(np.array([GAMMA]), np.array(third_row)),
    )


class ParabolicInterpolation(diffrax.AbstractLocalInterpolation):
    """The parabola through both ends of a step with a given slope at its end.

    `k` holds the stages of the explicit and the implicit part, each already times the step and
    stacked along a leading axis of three; the last of each is the slope. See the module's text.
    """

    t0: Real[Array, ""]
    t1: Real[Array, ""]
    y0: PyTree
    y1: PyTree
    k: tuple[PyTree, PyTree]

    def evaluate(
        self, t0: Real[Array, ""], t1: Real[Array, ""] | None = None, left: bool = True
    ) -> PyTree:
        """The value at `t0`, or the increment from `t0` to `t1` where `t1` is given."""
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        length = jnp.where(self.t1 == self.t0, 1, self.t1 - self.t0)
        fraction = (t0 - self.t0) / length

        def parabola(y0: Array, y1: Array, k_explicit: Array, k_implicit: Array) -> Array:
            theta = fraction.astype(y0.dtype)
            rise, slope = y1 - y0, k_explicit[-1] + k_implicit[-1]
            return y0 + theta * (2 * rise - slope + theta * (slope - rise))

        return jax.tree.map(parabola, self.y0, self.y1, *self.k)


class _AbstractARS232(diffrax.AbstractRungeKutta, diffrax.AbstractImplicitSolver):
    """What both variants share: everything but the third row of the explicit tableau."""

    calculate_jacobian: ClassVar[diffrax.CalculateJacobian] = diffrax.CalculateJacobian.second_stage
    interpolation_cls: ClassVar[type[ParabolicInterpolation]] = ParabolicInterpolation

    # Not diffrax's default VeryChord: at tight tolerances it takes round-off for divergence and
    # the steps collapse.
    root_finder: optimistix.AbstractRootFinder = diffrax.with_stepsize_controller_tols(
        optimistix.Newton
    )()
    root_find_max_steps: int = 10

    def order(self, terms: PyTree) -> int:
        """Order of convergence, two; the error estimate is the difference to a first-order one."""
        del terms
        return 2


class ARS232(_AbstractARS232):
    r"""ARS(2,3,2) with the published explicit row $(\delta, 1 - \delta, 0)$, $\delta = -2\sqrt2/3$.

    Second order in both parts and their coupling; the implicit part is L-stable and stiffly
    accurate. The row makes the explicit stability polynomial $1 + z + z^2/2 + z^3/6$, that of any
    third-order method: stable on $[-2.513, 0]$ and on $\pm\sqrt3\,i$. Adaptive by the embedded
    first-order solution, second-order values between steps; see the module's text for both.

    `terms` is `MultiTerm(explicit_term, implicit_term)`. `root_finder` solves the implicit stages;
    by default Newton with the tolerances of the step-size controller. With constant steps there
    are none to take over, so pass them: `ARS232(optimistix.Newton(rtol=..., atol=...))` as
    `root_finder`; diffrax raises `ValueError` otherwise. `root_find_max_steps` bounds the
    iterations, beyond which the step is rejected.

    Source: Ascher, Ruuth & Spiteri (1997), section 2.5.
    """

    tableau: ClassVar[diffrax.MultiButcherTableau] = diffrax.MultiButcherTableau(
        _explicit((DELTA, 1 - DELTA)), _IMPLICIT
    )


class ARS232Printed(_AbstractARS232):
    r"""ARS(2,3,2) with the explicit row $(1 - \gamma, \gamma, 0)$ printed in the Sigma-Model paper.

    For comparison with `ARS232`, which takes the same arguments and is the one to use. The row
    keeps second order, but the cubic coefficient of the explicit stability polynomial falls from
    1/6 to $\gamma^3 = 0.0251$: stable on $[-2.256, 0]$ only, nowhere on the imaginary axis, and
    with larger errors.

    Source: Sigma-Model paper, Algorithm 3.1 and its tableau; erratum E-24.
    """

    tableau: ClassVar[diffrax.MultiButcherTableau] = diffrax.MultiButcherTableau(
        _explicit((1 - GAMMA, GAMMA)), _IMPLICIT
    )
