"""Do the intervals keep their word? Fits to many synthetic data sets of known parameters."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray, PyTree
from scipy import stats

from .._check import require_in
from .log_parameters import in_logarithms, names_of, skeleton, to_logarithms
from .refit import refit

# Parameters may go this far (a factor) from the truth.
_WIDEST = 1e4
# A deviance is known to about this; a held fit better than the free one by more is a failure.
_TOLERANCE, _BETTER = 1e-4, 1e-2
# Fits of one compiled batch: a batch goes on until its slowest fit is done.
_LANES = 512


class Coverage(eqx.Module):
    """How often profile-likelihood intervals held the truth, by parameter, ordered as `names`."""

    names: tuple[str, ...] = eqx.field(static=True)
    deviance: Float[np.ndarray, "replicates parameters"]
    """What each replicate's likelihood says against the true value; NaN in a failed replicate."""
    covered: Bool[np.ndarray, "replicates parameters"]
    share: Float[np.ndarray, " parameters"]
    """Share of the replicates whose interval holds the true value."""
    p_value: Float[np.ndarray, " parameters"]
    """Exact two-sided binomial test of that share against the level."""
    level: float
    replicates: int
    """Replicates that were fitted, failed ones left out."""
    failed: int
    """Replicates in which a fit did not converge."""

    @property
    def adjusted_p_value(self) -> float:
        """Smallest p-value times the number of parameters (Bonferroni), at most one."""
        return min(1.0, float(self.p_value.min()) * len(self.names))


def profile_coverage(
    predict: Callable[[PyTree], Float[Array, " observations"]],
    truth: PyTree,
    noise_sd: ArrayLike,
    *,
    key: PRNGKeyArray,
    replicates: int = 500,
    only: Sequence[str] | None = None,
    noise_known: bool = False,
    level: float = 0.95,
    max_steps: int = 50,
) -> Coverage:
    """Share of synthetic data sets whose profile-likelihood interval contains the truth.

    Each replicate is predict(truth) plus independent normal noise. The interval of
    `profile_likelihood` holds the true value exactly if twice the loss of log-likelihood, when
    that parameter is held there, stays below the threshold: one fit with all parameters free and
    one for each held, all started at the truth, in compiled batches. The threshold is χ²₁'s if
    `noise_known`, else F(1, n − p)'s with the variance estimated. Every parameter is fitted;
    `only` names those whose coverage is asked for.

    **Raises** `ValueError` for a truth or noise that is not positive, an unknown name, too few
    observations, or if no replicate could be fitted.
    """
    theta, names = to_logarithms("truth", truth), names_of(truth)
    chosen = names if only is None else tuple(only)
    if not chosen or set(chosen) - set(names):
        raise ValueError(f"only must name some of {', '.join(names)}; got {list(chosen)}.")
    require_in("noise_sd", noise_sd, 0.0, open_low=True)
    require_in("replicates", replicates, 1)
    require_in("level", level, 0.0, 1.0, open_low=True)
    exact = in_logarithms(predict, truth)(jnp.asarray(theta))
    freedom = exact.size - theta.size
    if freedom < 1:
        raise ValueError(
            f"{theta.size} parameters need more than {theta.size} observations; got {exact.size}."
        )
    noise = jnp.broadcast_to(jnp.asarray(noise_sd, exact.dtype), exact.shape)
    observed = exact + noise * jax.random.normal(key, (replicates, exact.size), exact.dtype)
    held = [-1, *(names.index(name) for name in chosen)]
    free = np.array([[i != h for i in range(theta.size)] for h in held])
    rss, converged = _fit_all(
        predict, truth, np.asarray(observed), theta, free, noise, noise_known, max_steps
    )
    unit = np.ones(len(rss)) if noise_known else rss[:, 0] / freedom
    # A held fit that beats the free one shows that the free one had not arrived.
    good = (converged & (rss >= rss[:, :1] - _BETTER * unit[:, None])).all(axis=1)
    if not good.any():
        raise ValueError("no replicate could be fitted; are the parameters identified at all?")
    quantile = stats.chi2.ppf(level, 1) if noise_known else stats.f.ppf(level, 1, freedom)
    deviance = np.full((len(rss), len(chosen)), np.nan)
    deviance[good] = np.maximum(rss[good, 1:] - rss[good, :1], 0.0) / unit[good, None]
    covered = deviance <= quantile
    inside, count = covered[good].sum(axis=0), int(good.sum())
    return Coverage(
        names=chosen,
        deviance=deviance,
        covered=covered,
        share=inside / count,
        p_value=np.array([stats.binomtest(int(k), count, level).pvalue for k in inside]),
        level=level,
        replicates=count,
        failed=len(rss) - count,
    )


def _fit_all(predict, truth, observed, theta, free, noise, noise_known, max_steps):
    """RSS and convergence of every replicate (rows) with each parameter held (columns)."""
    pairs = [(r, k) for r in range(len(observed)) for k in range(len(free))]
    lanes = min(_LANES, len(pairs))
    rss, converged = np.empty(len(pairs)), np.empty(len(pairs), bool)
    structure = skeleton(truth)
    for first in range(0, len(pairs), lanes):
        block = pairs[first : first + lanes]
        rows, columns = np.array(block + [block[-1]] * (lanes - len(block))).T
        done = refit(
            predict,
            structure,
            jnp.asarray(observed[rows]),
            jnp.broadcast_to(jnp.asarray(theta), (lanes, theta.size)),
            jnp.asarray(free[columns]),
            jnp.asarray(theta - np.log(_WIDEST)),
            jnp.asarray(theta + np.log(_WIDEST)),
            noise,
            1.0 if noise_known else None,
            _TOLERANCE,
            max_steps,
        )
        rss[first : first + lanes] = np.asarray(done.rss)[: len(block)]
        converged[first : first + lanes] = np.asarray(done.converged)[: len(block)]
    shape = (len(observed), len(free))
    return rss.reshape(shape), converged.reshape(shape)
