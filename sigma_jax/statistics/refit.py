"""Many least-squares fits in one compiled call, each with some parameters held."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .log_parameters import in_logarithms

# Where a curve has small kinks a fit also ends when it promised this little and brought nothing.
_TOLERANCE_AT_KINK = 1e-4
# The damping with which Levenberg–Marquardt starts, and between which it stays. Its floor keeps
# directions that the data cannot see from being followed.
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-9, 1e8
# A parameter that moves the curve by less than this share of what another does is left where it is:
# its derivative is rounding.
_UNFELT = 1e-11


class Refits(eqx.Module):
    """Fits in logarithms; `fits` is the leading axis."""

    theta: Float[Array, "fits parameters"]
    rss: Float[Array, " fits"]
    """Sum of squared residuals, in units of `noise_sd`; infinite where `predict` has no value."""
    gram: Float[Array, "fits parameters parameters"]
    """JᵀJ of the residuals at the fit, held parameters included."""
    converged: Bool[Array, " fits"]


@eqx.filter_jit
def refit(
    predict: Callable[[PyTree], Array],
    structure: PyTree,
    observed: Float[Array, "fits observations"],
    theta: Float[Array, "fits parameters"],
    free: Bool[Array, "fits parameters"],
    lower: Float[Array, " parameters"],
    upper: Float[Array, " parameters"],
    noise_sd: Float[Array, " observations"],
    variance: float | None,
    tolerance: float,
    max_steps: int,
) -> Refits:
    """Minimise Σ((predict − observed)/noise_sd)² over the free parameters, from `theta`.

    Levenberg–Marquardt with Marquardt's scaling, projected onto lower ≤ θ ≤ upper; forward-mode
    Jacobians. A fit is done when an undamped step promises to lower the sum by less than
    `tolerance` times the scaled residuals' `variance`; None takes each fit's own RSS/(n − p).
    `structure` is a tree like `predict`'s argument.

    Source: Moré (1978), "The Levenberg–Marquardt algorithm", LNM 630.
    """
    curve = in_logarithms(predict, structure)

    def one(theta, free, observed):
        return _minimise(
            lambda x: (curve(x) - observed) / noise_sd,
            (theta, free, lower, upper),
            variance,
            tolerance,
            max_steps,
        )

    return jax.vmap(one)(theta, free, observed)


class _Progress(eqx.Module):
    theta: Array
    trial: Array
    """Where to go next: the residuals are evaluated in one place, which halves the compilation."""
    rss: Array
    gram: Array
    gradient: Array
    damping: Array
    done: Array
    steps: Array


def _minimise(residual, problem, variance, tolerance, max_steps) -> Refits:
    theta, free, lower, upper = problem
    freedom = jax.eval_shape(residual, theta).size - theta.size

    def evaluate(x):
        jacobian, value = jax.jacfwd(lambda y: (residual(y),) * 2, has_aux=True)(x)
        jacobian = jnp.asarray(jacobian)
        return value @ value, jacobian.T @ jacobian, jacobian.T @ value

    def advance(now: _Progress) -> _Progress:
        rss, gram, gradient = evaluate(now.trial)
        better = rss < now.rss  # never, for a NaN

        def pick(new, old):
            return jnp.where(better, new, old)

        x, rss = pick(now.trial, now.theta), pick(rss, now.rss)
        gram, gradient = pick(gram, now.gram), pick(gradient, now.gradient)
        damping = pick(jnp.maximum(now.damping / 10.0, _LEAST_DAMPING), now.damping * 8.0)
        # A parameter that leans against its bound stays there.
        leans = ((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0))
        step = _damped_step(gram, gradient, free & ~leans, damping)
        # By how much the linear model says that the sum of squares could still fall.
        promise = -gradient @ _damped_step(gram, gradient, free & ~leans, _LEAST_DAMPING)
        unit = rss / freedom if variance is None else variance
        done = promise <= jnp.where(better, tolerance, _TOLERANCE_AT_KINK) * unit
        return _Progress(
            theta=x,
            trial=jnp.clip(x + step, lower, upper),
            rss=rss,
            gram=gram,
            gradient=gradient,
            damping=damping,
            done=done,
            steps=now.steps + 1,
        )

    size, dtype = theta.size, theta.dtype
    start = _Progress(
        theta=theta,
        trial=jnp.clip(theta, lower, upper),
        rss=jnp.array(jnp.inf, dtype),
        gram=jnp.zeros((size, size), dtype),
        gradient=jnp.zeros(size, dtype),
        damping=jnp.array(_DAMPING, dtype),
        done=jnp.array(False),
        steps=jnp.array(0),
    )
    end = jax.lax.while_loop(
        lambda now: ~now.done & (now.steps < max_steps) & (now.damping < _MOST_DAMPING),
        advance,
        start,
    )
    return Refits(end.theta, end.rss, end.gram, end.done & jnp.isfinite(end.rss))


def _damped_step(gram, gradient, moving, damping):
    """The Levenberg–Marquardt step of the parameters that may move."""
    diagonal = jnp.asarray(jnp.diagonal(gram))
    felt = moving & (diagonal > _UNFELT**2 * jnp.max(diagonal))
    scale = jnp.where(felt, 1.0 / jnp.sqrt(jnp.asarray(jnp.where(felt, diagonal, 1.0))), 0.0)
    identity = jnp.eye(gradient.size, dtype=gradient.dtype)
    # Held parameters, and such as change nothing, become equations x = 0.
    inert = jnp.where(scale > 0, 0.0, 1.0) * identity
    matrix = gram * scale[:, None] * scale + inert + damping * identity
    return -scale * jnp.linalg.solve(matrix, scale * gradient)
