"""Nonlinear least squares by gradient, with standard errors and a test of fit."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, PyTree
from scipy import special

from .._check import require_in


class CurveFit(eqx.Module):
    """A fitted curve. `estimate`, `standard_error`, `low` and `high` share one structure."""

    estimate: PyTree
    standard_error: PyTree
    """Standard errors of the estimates (delta method, as the fit is in logarithms)."""
    low: PyTree
    """Lower ends of the 95 % intervals, symmetric in the logarithm."""
    high: PyTree
    correlation: Float[Array, "parameters parameters"]
    """Correlation of the log-parameters' errors."""
    fitted: Float[Array, " observations"]
    residual_sd: Float[Array, ""]
    r_squared: Float[Array, ""]
    aic: Float[Array, ""]
    """Akaike's criterion under independent normal errors, residual variance estimated."""
    success: bool


def fit_curve(
    predict: Callable[[PyTree], Float[Array, " observations"]],
    observed: Float[ArrayLike, " observations"],
    start: PyTree,
    *,
    groups: ArrayLike | None = None,
    max_steps: int = 500,
) -> CurveFit:
    """Fit positive parameters to observations by least squares (Levenberg–Marquardt).

    The fit is in the parameters' logarithms, so they stay positive. Derivatives of `predict`
    are taken by forward-mode automatic differentiation.

    **Arguments:** `predict`, from a pytree of parameters shaped like `start` to predictions;
    `start`, positive scalars; `groups`, one label an observation: errors may then be correlated
    within a group (a run, say) and the covariance is the cluster-robust sandwich with the
    G/(G − 1) correction. Without groups errors are independent with equal variance.

    **Raises** `ValueError` for a start that is not positive, observations that are not finite,
    or fewer observations than parameters.

    Source: Liang & Zeger (1986) for the sandwich; Seber & Wild, *Nonlinear Regression* (1989).
    """
    for leaf in jax.tree.leaves(start):
        require_in("start", leaf, 0.0, open_low=True)
    observed = np.asarray(observed, float)
    if not np.isfinite(observed).all():
        raise ValueError("observed must be finite; leave missing observations out.")
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != observed.shape or np.unique(groups).size < 2:
            raise ValueError(
                f"groups needs one label for each of {observed.size} observations, and at least "
                f"two different ones; got {np.unique(groups).size} in shape {groups.shape}."
            )
    theta0 = jax.tree.map(lambda x: jnp.log(jnp.asarray(x, jnp.result_type(float))), start)
    count, size = observed.size, len(jax.tree.leaves(theta0))
    if count <= size:
        raise ValueError(f"{size} parameters need more than {size} observations; got {count}.")
    solved = _solve(predict, theta0, jnp.asarray(observed), max_steps)
    theta, jacobian, fitted, converged = jax.tree.map(np.asarray, solved)
    residual = observed - fitted
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    covariance = _covariance(jacobian, residual, bread, groups)
    deviation = np.sqrt(np.diag(covariance))
    natural = np.exp(theta)
    rss = float(residual @ residual)

    def tree(vector):
        return jax.tree.unflatten(jax.tree.structure(start), list(jnp.asarray(vector)))

    return CurveFit(
        estimate=tree(natural),
        standard_error=tree(natural * deviation),
        low=tree(np.exp(theta - 1.96 * deviation)),
        high=tree(np.exp(theta + 1.96 * deviation)),
        correlation=jnp.asarray(covariance / np.outer(deviation, deviation)),
        fitted=jnp.asarray(fitted),
        residual_sd=jnp.sqrt(rss / (count - size)),
        r_squared=jnp.asarray(1.0 - rss / np.sum((observed - observed.mean()) ** 2)),
        aic=jnp.asarray(count * np.log(2 * np.pi * rss / count) + count + 2 * (size + 1)),
        success=bool(converged and np.isfinite(theta).all()),
    )


@eqx.filter_jit
def _solve(predict, theta0, observed, max_steps):
    def curve(theta):
        return predict(jax.tree.map(jnp.exp, theta))

    solution = optx.least_squares(
        lambda theta, _: curve(theta) - observed,
        optx.LevenbergMarquardt(rtol=1e-7, atol=1e-7),
        theta0,
        options={"jac": "fwd"},
        max_steps=max_steps,
        throw=False,
    )
    theta = solution.value
    converged = solution.result == optx.RESULTS.successful
    jacobian = jnp.stack(jax.tree.leaves(jax.jacfwd(curve)(theta)), axis=1)
    return jnp.stack(jax.tree.leaves(theta)), jacobian, curve(theta), converged


def _covariance(jacobian, residual, bread, groups):
    count, size = jacobian.shape
    if groups is None:
        return bread * (residual @ residual) / (count - size)
    labels = np.unique(groups)
    scores = np.stack([jacobian[groups == g].T @ residual[groups == g] for g in labels])
    correction = len(labels) / (len(labels) - 1)
    return correction * bread @ (scores.T @ scores) @ bread


class LackOfFit(eqx.Module):
    """The F test of a curve against the free mean of every replicated point."""

    f_statistic: float
    p_value: float
    degrees_of_freedom: tuple[int, int]
    pure_error_sd: float
    """Scatter of the replicates around their own means, in the observations' unit."""


def lack_of_fit(
    observed: ArrayLike, fitted: ArrayLike, points: ArrayLike, parameters: int
) -> LackOfFit:
    """Test whether a curve misses the means of replicated observations by more than chance.

    **Arguments:** `observed` and `fitted`, `[observations]`; `points`, the abscissa of each, equal
    for replicates; `parameters`, how many were fitted. Errors are taken as independent: with
    repeated measures of one run the p-value is too small.

    **Raises** `ValueError` if no point is replicated or there are not more points than parameters.

    Source: Draper & Smith, *Applied Regression Analysis*, 3rd ed. (1998), §2.1.
    """
    observed, fitted, points = (np.asarray(a, float) for a in (observed, fitted, points))
    _, where = np.unique(points, return_inverse=True)
    means = np.bincount(where, observed) / np.bincount(where)
    pure = float(np.sum((observed - means[where]) ** 2))
    lack = float(np.sum((observed - fitted) ** 2)) - pure
    freedom = (means.size - parameters, observed.size - means.size)
    if min(freedom) < 1:
        raise ValueError(
            f"lack_of_fit needs replicates and more points than parameters; got {observed.size} "
            f"observations at {means.size} points for {parameters} parameters."
        )
    statistic = (lack / freedom[0]) / (pure / freedom[1])
    return LackOfFit(
        f_statistic=statistic,
        p_value=float(special.fdtrc(*freedom, statistic)),
        degrees_of_freedom=freedom,
        pure_error_sd=float(np.sqrt(pure / freedom[1])),
    )
