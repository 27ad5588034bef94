"""Two samples compared: by their means, their ranks, or by permuting their labels."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from jaxtyping import ArrayLike, Float

from .._check import require_in
from .results import NORMAL_95, TestResult, t_result
from .samples import (
    no_variance,
    require_alternative,
    require_equal_lengths,
    require_observations,
    sample,
    variance,
)


def welch(
    a: Float[ArrayLike, " n"], b: Float[ArrayLike, " m"], *, alternative: str = "two-sided"
) -> TestResult:
    """Welch's t test of two means, without assuming equal variances.

    **Arguments:** `a` and `b`, independent samples in one unit; `alternative`, `two-sided`, or
    whether the mean of `a` is `less` or `greater` than that of `b`.

    **Returns** a `TestResult` whose estimate is mean(a) − mean(b), in the observations' unit.

    **Raises** `ValueError` for NaN or infinite observations, fewer than two in a group, or no
    variance in either group.

    Source: Welch (1947), Biometrika 34, 28–35.
    """
    require_alternative(alternative)
    a, b = sample("a", a), sample("b", b)
    require_observations("welch", 2, a, b)
    squared_a, squared_b = variance(a) / a.size, variance(b) / b.size
    squared_error = squared_a + squared_b
    if squared_error == 0.0:
        raise no_variance("all observations of each group")
    # Shares of the squared error, not its square, which may underflow.
    share = squared_a / squared_error
    freedom = 1.0 / (share**2 / (a.size - 1) + (1.0 - share) ** 2 / (b.size - 1))
    difference = float(a.mean() - b.mean())
    return t_result(difference, squared_error**0.5, freedom, (a.size, b.size), alternative)


def paired(
    a: Float[ArrayLike, " n"], b: Float[ArrayLike, " n"], *, alternative: str = "two-sided"
) -> TestResult:
    """Student's t test of the mean of the differences a − b of paired observations.

    **Arguments:** `a` and `b`, of one length, entry by entry of one unit or run.

    **Returns** a `TestResult` whose estimate is the mean difference.

    **Raises** `ValueError` for unequal lengths, NaN or infinite observations, fewer than two
    pairs, or differences that are all equal.

    Source: Student (1908), Biometrika 6, 1–25.
    """
    require_alternative(alternative)
    a, b = sample("a", a), sample("b", b)
    require_equal_lengths("paired", a=a, b=b)
    require_observations("paired", 2, a)
    difference = a - b
    squared = variance(difference, scale=float(max(np.abs(a).max(), np.abs(b).max())))
    if squared == 0.0:
        raise no_variance("all differences")
    error = (squared / a.size) ** 0.5
    return t_result(float(difference.mean()), error, a.size - 1, (a.size,), alternative)


def mann_whitney(
    a: Float[ArrayLike, " n"], b: Float[ArrayLike, " m"], *, alternative: str = "two-sided"
) -> TestResult:
    """Mann and Whitney's rank test of whether one sample tends to be larger than the other.

    The p-value is exact up to eight observations in the smaller group without ties, else from
    the normal approximation with corrections for ties and continuity (SciPy's rule).

    **Returns** a `TestResult` whose statistic is U of `a` and whose estimate is
    P(a > b) + ½ P(a = b), one half if neither tends to be larger. Its interval inverts a score
    test, so that it lies within [0, 1] and is not empty when the samples do not overlap.

    **Raises** `ValueError` for NaN or infinite observations, an empty group, or observations that
    are all equal.

    Source: Mann & Whitney (1947); the interval: Newcombe (2006), Statistics in Medicine 25,
    559–573, method 5.
    """
    require_alternative(alternative)
    a, b = sample("a", a), sample("b", b)
    require_observations("mann_whitney", 1, a, b)
    if min(a.min(), b.min()) == max(a.max(), b.max()):
        raise no_variance("all observations")
    test = scipy.stats.mannwhitneyu(a, b, alternative=alternative)
    share = float(test.statistic) / (a.size * b.size)
    low, high = _newcombe(share, a.size, b.size)
    return TestResult(
        float(test.statistic), float(test.pvalue), (), share, low, high, (a.size, b.size)
    )


def _newcombe(share: float, n: int, m: int) -> tuple[float, float]:
    """Where |share − θ| is 1.96 standard errors at θ, by Hanley and McNeil's variance."""
    common = 0.5 * (n + m) - 1.0

    def excess(theta):
        skewed = (1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta)
        squared_error = theta * (1.0 - theta) * (1.0 + common * skewed) / (n * m)
        return (share - theta) ** 2 - NORMAL_95**2 * squared_error

    # At 0 and 1 the variance is zero: a share there is a root, and not the one looked for.
    edge = 1e-12
    low = 0.0 if share < edge else scipy.optimize.brentq(excess, 0.0, min(share, 1.0 - edge))
    high = 1.0 if share > 1.0 - edge else scipy.optimize.brentq(excess, max(share, edge), 1.0)
    return float(low), float(high)


def mean_difference(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return mean(a) − mean(b) along an axis."""
    return np.mean(a, axis) - np.mean(b, axis)


def permutation(
    a: Float[ArrayLike, " n"],
    b: Float[ArrayLike, " m"],
    *,
    statistic: Callable[..., Any] = mean_difference,
    key: np.random.Generator | int,
    resamples: int = 9999,
    alternative: str = "two-sided",
) -> TestResult:
    """Test of two samples by permuting the labels of their observations.

    **Arguments:** `statistic`, from two samples to a number, larger when `a` is; with a keyword
    `axis` it is called on many resamples at once. `key`, a generator or a seed. `resamples`, how
    many permutations are drawn; if there are no more than that, all are used and the p-value is
    exact.

    **Returns** a `TestResult` whose estimate is the statistic; its interval is the percentile
    bootstrap's, which is too short below some ten observations in a group.

    **Raises** `ValueError` for NaN or infinite observations, fewer than two in a group,
    observations that are all equal, or a statistic that is not finite.

    Source: Phipson & Smyth (2010) for the p-value of drawn permutations, which is never zero;
    Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), ch. 13.
    """
    require_alternative(alternative)
    require_in("resamples", resamples, 1)
    a, b = sample("a", a), sample("b", b)
    require_observations("permutation", 2, a, b)
    if min(a.min(), b.min()) == max(a.max(), b.max()):
        raise no_variance("all observations")
    generator = np.random.default_rng(key)
    vectorised = "axis" in inspect.signature(statistic).parameters
    options: dict = {"vectorized": vectorised, "batch": max(1, 1_000_000 // (a.size + b.size))}

    def checked(*resample, **axis):
        value = statistic(*resample, **axis)
        if not np.isfinite(value).all():
            raise ValueError("statistic must be finite on every resample; on one it was not.")
        return value

    test = scipy.stats.permutation_test(
        (a, b),
        checked,
        n_resamples=resamples,
        alternative=alternative,
        rng=generator,
        **options,
    )
    interval = scipy.stats.bootstrap(
        (a, b), checked, n_resamples=resamples, method="percentile", rng=generator, **options
    ).confidence_interval
    return TestResult(
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
        degrees_of_freedom=(),
        estimate=float(test.statistic),
        low=float(interval.low),
        high=float(interval.high),
        n=(a.size, b.size),
    )
