"""A state and its covariance advanced together: an Itô step beside a Riccati step."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .ito import EulerMaruyama
from .riccati import Observation, riccati_field, riccati_step

Belief = tuple[Float[Array, " d"], Float[Array, "d d"]]
VectorField = Callable[[ArrayLike, Float[Array, " d"], Any], Float[Array, " d"]]


def dilation(covariance: Float[Array, "d d"]) -> Float[Array, ""]:
    """D = 1 + tr Σ / d: the wider the belief, the wider the search (Σ₀-K1, state VM)."""
    return 1.0 + jnp.trace(covariance) / covariance.shape[0]


def belief_step(
    drift: VectorField,
    diffusion: VectorField,
    jacobian: Float[Array, "d d"],
    information: Float[Array, "d d"] | Float[Array, ""],
    t: ArrayLike,
    belief: Belief,
    args: Any,
    h: ArrayLike,
    dw: Float[Array, " d"],
    scheme: EulerMaruyama = EulerMaruyama(),
) -> Belief:
    """State and covariance after a step of length `h` with Brownian increments `dw`.

        dx = f(t, x) dt + g(t, x) D(Σ) dW,      dΣ/dt = A Σ + Σ Aᵀ + Q − Σ S Σ,  Q = diag(g²)

    `scheme` takes the state's step with the dilation D held at its start; `riccati_step` takes the
    covariance's with A (`jacobian`) and g held at the start.

    Source: Σ₀-K1, state VM; the Riccati equation is Kalman & Bucy's (1961).
    """
    x, covariance = belief
    wider = dilation(covariance)
    x_next = scheme.step(drift, lambda t, x, args: wider * diffusion(t, x, args), t, x, args, h, dw)
    noise = diffusion(t, x, args) ** 2
    return x_next, riccati_step(covariance, jacobian, noise, information, h)


class BeliefTerm(diffrax.AbstractTerm):
    """The equations of `belief_step` as a diffrax term, for a state (x, Σ).

    **Arguments:** `drift` and `diffusion`, functions (t, x, args) → `[d]`, the latter not
    negative; `brownian`, a diffrax path of shape `[d]`; `observation`, what is seen of x;
    `jacobian`, a function (t, x, args) → ∂f/∂x `[d, d]`, by default from automatic
    differentiation.
    """

    drift: VectorField
    diffusion: VectorField
    brownian: diffrax.AbstractPath
    observation: Observation = Observation()
    jacobian: Callable | None = None

    def linearise(self, t: ArrayLike, x: Float[Array, " d"], args: Any) -> Float[Array, "d d"]:
        """A = ∂f/∂x at (t, x)."""
        if self.jacobian is None:
            return jax.jacfwd(lambda x: self.drift(t, x, args))(x)
        return self.jacobian(t, x, args)

    def vf(self, t, y: Belief, args) -> tuple[Belief, Float[Array, " d"]]:
        """The time derivative of (x, Σ) without noise, and the dilated diffusion of x."""
        x, covariance = y
        spread = self.diffusion(t, x, args)
        change = riccati_field(
            covariance, self.linearise(t, x, args), spread**2, self.observation.information()
        )
        return (self.drift(t, x, args), change), dilation(covariance) * spread

    def contr(self, t0, t1, **kwargs):
        """The length of the step and the Brownian increment over it."""
        return t1 - t0, self.brownian.evaluate(t0, t1, **kwargs)

    def prod(self, vf, control) -> Belief:
        """The increment of (x, Σ) that Euler's method adds."""
        (drift, change), spread = vf
        h, dw = control
        return h * drift + spread * dw, h * change


class ItoRiccati(diffrax.AbstractItoSolver):
    """Advances (x, Σ) of a `BeliefTerm`: an Itô scheme for x, `riccati_step` for Σ.

    Fixed steps. Strong order of x: that of `scheme`, at most 1; weak order 1; Σ has order 1 and
    stays positive definite for every step.
    """

    scheme: EulerMaruyama = EulerMaruyama()
    term_structure: ClassVar = BeliefTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms):
        """Of the deterministic parts."""
        return 1

    def strong_order(self, terms):
        """Of x for noise that is not additive."""
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        """Nothing is carried from step to step."""
        return None

    def step(self, terms: BeliefTerm, t0, t1, y0: Belief, args, solver_state, made_jump):
        """One step from t0 to t1; no error estimate."""
        del solver_state, made_jump
        h, dw = terms.contr(t0, t1)
        term = getattr(terms, "term", terms)  # `diffeqsolve` wraps terms, to run time backwards
        y1 = belief_step(
            term.drift,
            term.diffusion,
            term.linearise(t0, y0[0], args),
            term.observation.information(),
            t0,
            y0,
            args,
            h,
            dw,
            self.scheme,
        )
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: BeliefTerm, t0, y0, args):
        """The vector field."""
        return terms.vf(t0, y0, args)
