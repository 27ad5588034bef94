"""Profile likelihood: intervals that follow the likelihood, and say where the data set no end."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree
from scipy import stats

from .._check import require_in
from .log_parameters import (
    finite_observations,
    in_logarithms,
    like,
    names_of,
    skeleton,
    to_logarithms,
)
from .profile_search import ProfileSearch
from .refit import refit

# A deviance is known to about this.
_FIT_TOLERANCE = 1e-6
# Residuals this small beside the observations are rounding.
_ROUNDING = 1e-12
# Other parameters may go this far (a factor) from the start when no bounds are given: further than
# a profile is followed, so that they do not end it.
_WIDEST = 1e6


class ProfileLikelihood(eqx.Module):
    """Profiles of a fit. The trees share the structure of the fit's parameters."""

    names: tuple[str, ...] = eqx.field(static=True)
    """The parameters that were profiled, in the order of `values` and `deviance`."""
    estimate: PyTree
    """Maximum-likelihood estimates (all parameters)."""
    low: PyTree
    """Lower ends of the intervals; 0 where the data set none, None if not profiled."""
    high: PyTree
    """Upper ends of the intervals; infinite where the data set none, None if not profiled."""
    bounded_below: PyTree
    """False if the parameter is not identified from below; None if not profiled."""
    bounded_above: PyTree
    """False if the parameter is not identified from above; None if not profiled."""
    at_bound: PyTree
    """True if the estimate lies at one of the fit's bounds: the likelihood still rises there."""
    values: Float[np.ndarray, "profiled points"]
    """Values of each parameter along its profile, between the ends (open ends: the search's)."""
    deviance: Float[np.ndarray, "profiled points"]
    """What is compared with `threshold` along the profile; 0 at the estimate."""
    threshold: float
    noise_sd: float
    """Given, or estimated with n − p degrees of freedom; a common factor if given as an array."""
    success: bool
    """False if a fit on the way did not converge, or found a better fit than the estimate."""


def profile_likelihood(
    predict: Callable[[PyTree], Float[Array, " observations"]],
    observed: Float[ArrayLike, " observations"],
    start: PyTree,
    *,
    noise_sd: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    only: Sequence[str] | None = None,
    level: float = 0.95,
    search: float = 1e3,
    points: int = 21,
    max_steps: int = 100,
) -> ProfileLikelihood:
    """Profile-likelihood intervals of positive parameters under normal errors.

    For each parameter the likelihood is maximised over all others while it is held; its interval
    is where twice the loss of log-likelihood stays below a threshold. Ends are roots, found for
    all parameters and both sides together: every round is one compiled batch of refits, each from
    its neighbour's solution.

    | errors | compared | with |
    |---|---|---|
    | `noise_sd` known | (RSS(θ) − RSS)/noise_sd² | χ²₁ (3.84 at 95 %) |
    | variance estimated | (RSS(θ) − RSS)/(RSS/(n − p)) | F(1, n − p), Student's t squared |
    | `groups` | the same, times naive/cluster-robust variance of the parameter | F(1, G − 1) |

    The first two are exact for a linear model. A parameter that never reaches the threshold on a
    side has an open end (0 or infinity) and `bounded_below` or `bounded_above` says so.

    **Arguments:** `predict`, from a tree of parameters shaped like `start` to predictions, which
    is differentiated in forward mode; `start`, positive scalars; `noise_sd`, a number or one an
    observation; `groups`, one label an observation, if errors are correlated within groups (the
    deviance is rescaled to the sandwich's curvature); `bounds`, a pair of trees (lower, upper)
    that no parameter may leave; `only`, the names of the parameters to profile; `search`, how far
    from the estimate an end is looked for, as a factor; `points` along each profile;
    `max_steps` of a fit.

    **Raises** `ValueError` for a start that is not positive or outside its bounds, observations
    that are not finite or too few, an unknown name, a predict without a value at the start, or
    residuals that are all zero while the noise is to be estimated.

    Sources: Venzon & Moolgavkar (1988), Applied Statistics 37, 87–94; Raue et al. (2009),
    Bioinformatics 25, 1923–1929; Chandler & Bate (2007), Biometrika 94, 167–183 for groups.
    """
    theta0, names = to_logarithms("start", start), names_of(start)
    observed = finite_observations(observed, theta0.size)
    chosen = _chosen(names, only)
    require_in("search", search, 1.0, open_low=True)
    require_in("level", level, 0.0, 1.0, open_low=True)
    lower, upper = _log_bounds(bounds, start, theta0)
    scale = _noise(noise_sd, observed.size)
    lanes = 2 * len(chosen)

    def fit(theta: np.ndarray, held: np.ndarray):
        free = np.ones((lanes, theta0.size), bool)
        free[held >= 0, held[held >= 0]] = False
        done = refit(
            predict,
            skeleton(start),
            jnp.broadcast_to(observed, (lanes, observed.size)),
            jnp.asarray(theta),
            jnp.asarray(free),
            jnp.asarray(lower),
            jnp.asarray(upper),
            jnp.asarray(scale),
            None if noise_sd is None else 1.0,
            _FIT_TOLERANCE,
            max_steps,
        )
        return jax.tree.map(np.asarray, done)

    best = fit(np.tile(theta0, (lanes, 1)), np.full(lanes, -1))
    estimate, rss = best.theta[0], float(best.rss[0])
    if not np.isfinite(rss):
        raise ValueError("predict has no finite value at start; nothing can be fitted from there.")
    freedom = observed.size - theta0.size
    unit = rss / freedom if noise_sd is None else 1.0
    if noise_sd is None and unit <= (_ROUNDING * np.abs(observed).max()) ** 2:
        raise ValueError("the curve meets every observation exactly; give noise_sd.")
    share, threshold = np.ones(theta0.size), float(stats.chi2.ppf(level, 1))
    if noise_sd is None:
        threshold = float(stats.f.ppf(level, 1, freedom))
    if groups is not None:
        share, clusters = _naive_to_robust(predict, start, estimate, observed, scale, groups)
        threshold = float(stats.f.ppf(level, 1, clusters - 1))
    profile = ProfileSearch(fit, estimate, rss, best.gram[0], unit / share, np.array(chosen))
    limits = (
        np.maximum(lower, estimate - np.log(search)),
        np.minimum(upper, estimate + np.log(search)),
    )
    ends = profile.ends(limits, threshold, _first_steps(best.gram[0], unit / share * threshold))
    values, deviance, followed = profile.follow(ends, points)
    at_bound = (estimate <= lower) | (estimate >= upper)
    half = len(chosen)
    found = np.where(ends.open, np.where(ends.side < 0, 0.0, np.inf), np.exp(ends.value))

    def tree(vector: np.ndarray, of: Sequence[int]) -> PyTree:
        leaves: list[Any] = [None] * theta0.size
        for index, value in zip(of, vector.tolist(), strict=True):
            leaves[index] = value
        return like(start, leaves)

    return ProfileLikelihood(
        names=tuple(names[i] for i in chosen),
        estimate=tree(np.exp(estimate), range(theta0.size)),
        low=tree(found[:half], chosen),
        high=tree(found[half:], chosen),
        bounded_below=tree(~ends.open[:half], chosen),
        bounded_above=tree(~ends.open[half:], chosen),
        at_bound=tree(at_bound, range(theta0.size)),
        values=np.exp(values),
        deviance=deviance,
        threshold=threshold,
        noise_sd=float(np.sqrt(unit)) * (float(scale[0]) if np.ptp(scale) == 0 else 1.0),
        success=bool(best.converged[0]) and ends.success and followed,
    )


# Preparation ------------------------------------------------------------------------------------


def _chosen(names: tuple[str, ...], only: Sequence[str] | None) -> list[int]:
    if only is None:
        return list(range(len(names)))
    unknown = [name for name in only if name not in names]
    if unknown or not only:
        raise ValueError(f"only must name some of {', '.join(names)}; got {list(only)}.")
    return [names.index(name) for name in only]


def _log_bounds(bounds, start, theta0):
    if bounds is None:
        return theta0 - np.log(_WIDEST), theta0 + np.log(_WIDEST)
    if any(jax.tree.structure(side) != jax.tree.structure(start) for side in bounds):
        raise ValueError("bounds must be a pair of trees shaped like start.")
    lower, upper = (to_logarithms("bounds", side) for side in bounds)
    if not ((lower < upper) & (lower <= theta0) & (theta0 <= upper)).all():
        raise ValueError("start must lie within bounds, and each lower bound below its upper one.")
    return lower, upper


def _noise(noise_sd, observations):
    if noise_sd is None:
        return np.ones(observations)
    require_in("noise_sd", noise_sd, 0.0, open_low=True)
    if np.shape(noise_sd) not in ((), (observations,)):
        raise ValueError(
            f"noise_sd must be a number or one for each of {observations} observations; "
            f"got shape {np.shape(noise_sd)}."
        )
    return np.broadcast_to(np.asarray(noise_sd, float), (observations,))


def _first_steps(gram, deviance):
    """Where the quadratic approximation sees each end, in logarithms, and at most one."""
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    normal = gram / np.outer(scale, scale) + 1e-9 * np.eye(scale.size)
    spread = np.sqrt(np.maximum(np.diag(np.linalg.inv(normal)), 0.0)) / scale
    return np.clip(np.sqrt(deviance) * spread, 1e-9, 1.0)


def _naive_to_robust(predict, start, theta, observed, scale, groups):
    """Variance with independent errors over the cluster-robust one, and the number of clusters."""
    groups = np.asarray(groups)
    if groups.shape != observed.shape or np.unique(groups).size < 2:
        raise ValueError(
            f"groups needs one label for each of {observed.size} observations, and at least two "
            f"different ones; got {np.unique(groups).size} in shape {groups.shape}."
        )
    curve = in_logarithms(predict, start)
    jacobian = np.asarray(jax.jacfwd(curve)(jnp.asarray(theta))) / scale[:, None]
    residual = (observed - np.asarray(curve(jnp.asarray(theta)))) / scale
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    labels = np.unique(groups)
    scores = np.stack([jacobian[groups == g].T @ residual[groups == g] for g in labels])
    robust = labels.size / (labels.size - 1) * bread @ (scores.T @ scores) @ bread
    naive = bread * (residual @ residual) / (observed.size - theta.size)
    ratio = np.diag(naive) / np.maximum(np.diag(robust), 1e-300)
    return np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0), labels.size
