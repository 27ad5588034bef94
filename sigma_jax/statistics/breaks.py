"""A break in a slope at an unknown place: found, bounded, and tested against no break."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import ArrayLike, Float
from scipy import special

from .._check import require_in
from .samples import (
    no_variance,
    require_alternative,
    require_equal_lengths,
    require_observations,
    sample,
    variance,
)

ERRORS = ("independent", "ar1")
CANDIDATES = 200
"""At least so many candidate breaks are tried, and at most twice as many."""


@dataclass(frozen=True)
class BreakTest:
    """The least-squares break of a continuous two-piece line, and its test against one line."""

    break_at: float
    """In x's unit, of largest likelihood whatever the alternative."""
    low: float
    """Lower end of its 95 % interval; −inf if it reaches the end of the search."""
    high: float
    slope_before: float
    """In y's unit per x's unit."""
    slope_change: float
    """Slope after the break less the slope before it."""
    statistic: float
    """Largest F of any candidate break; the largest signed t if the alternative is one-sided."""
    p_value: float
    n: int


class _Search(NamedTuple):
    line: Float[np.ndarray, "observations 2"]
    """Orthonormal basis of the straight lines."""
    candidates: Float[np.ndarray, " candidates"]
    hinges: Float[np.ndarray, "candidates observations"]
    """(x − τ)₊ of each candidate τ less its projection on the lines, with unit norm."""


def break_test(
    x: Float[ArrayLike, " observations"],
    y: Float[ArrayLike, " observations"],
    *,
    trim: float = 0.15,
    replicates: int = 999,
    seed: int = 0,
    alternative: str = "two-sided",
    errors: str = "independent",
    null: Float[ArrayLike, " replicates"] | None = None,
) -> BreakTest:
    """Test for a break τ in the slope: y = b₀ + b₁ x + b₂ (x − τ)₊ + error, against b₂ = 0.

    As τ is not known, the t test of b₂ at the best τ rejects far too often. Here the largest
    statistic over all candidate breaks is compared with the same maximum in series simulated
    without a break. For independent normal errors of one variance that p-value is exact.

    **Arguments:**

    - `trim`: the share of observations at each end in which no break is looked for.
    - `alternative`: `greater` if the slope increases at the break, `less` if it decreases.
    - `errors`: `independent`, or `ar1` for a serially correlated series: the simulated errors
      then have the autocorrelation of the series' residuals from one line, corrected for its
      bias. A break inflates that autocorrelation, which costs power. Needs evenly spaced x.
    - `null`: the null distribution from `break_null` with the same x, trim and alternative, so that
      many series can share one; `replicates` and `seed` are then not used.

    The interval of the break inverts the likelihood-ratio test over the candidates.

    **Raises** `ValueError` for unequal lengths, NaN or infinite observations, fewer than six, no
    candidate within the trimmed window, y on a straight line, unknown alternative or errors,
    or fewer than 19 replicates.

    Source: Davies (1987), Biometrika 74, 33–43; Hansen (1996), Econometrica 64, 413–430;
    Dufour (2006), J. Econometrics 133, 443–477 (exactness).
    """
    x, y = sample("x", x), sample("y", y)
    require_equal_lengths("break_test", x=x, y=y)
    _check_options(trim, replicates, alternative)
    if errors not in ERRORS:
        raise ValueError(f"errors must be one of {', '.join(ERRORS)}; got {errors!r}.")
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    search = _search(x, trim)
    centred = y - y.mean()
    residual = centred - search.line @ (search.line.T @ centred)
    if variance(y) == 0.0 or np.linalg.norm(residual) <= 1e-13 * np.linalg.norm(centred):
        raise no_variance("y lies on a straight line in x: all residuals")
    score, total = search.hinges @ residual, float(residual @ residual)
    statistic = float(_largest(score, total, x.size, alternative))
    if null is None:
        noise = np.random.default_rng(seed).standard_normal((x.size, replicates))
        if errors == "ar1":
            noise = _autoregressive(noise, _autocorrelation(x, residual))
        null = _null(search, noise, alternative)
    elif errors == "ar1":
        raise ValueError("null is for independent errors; with errors='ar1' it depends on y.")
    null = sample("null", null)
    require_observations("null of break_test", 19, null)
    exceeding = np.count_nonzero(null >= statistic)

    unexplained = np.maximum(1.0 - score**2 / total, np.finfo(float).eps)
    best = int(unexplained.argmin())
    low, high = _interval(search.candidates, unexplained, x.size)
    hinge = np.maximum(x - search.candidates[best], 0.0)
    design = np.column_stack([np.ones_like(x), x - x.mean(), hinge])
    coefficients = np.linalg.lstsq(design, centred)[0]
    return BreakTest(
        break_at=float(search.candidates[best]),
        low=low,
        high=high,
        slope_before=float(coefficients[1]),
        slope_change=float(coefficients[2]),
        statistic=statistic,
        p_value=float((1 + exceeding) / (1 + null.size)),
        n=x.size,
    )


def break_null(
    x: Float[ArrayLike, " observations"],
    *,
    trim: float = 0.15,
    replicates: int = 999,
    seed: int = 0,
    alternative: str = "two-sided",
) -> Float[np.ndarray, " replicates"]:
    """Sorted null distribution of `break_test`'s statistic for independent normal errors.

    It depends on x, trim and alternative, not on intercept, slope or error variance.

    **Raises** `ValueError` as `break_test` does.
    """
    x = np.sort(sample("x", x))
    _check_options(trim, replicates, alternative)
    noise = np.random.default_rng(seed).standard_normal((x.size, replicates))
    return _null(_search(x, trim), noise, alternative)


def _check_options(trim, replicates, alternative):
    require_alternative(alternative)
    require_in("trim", trim, 0.0, 0.5)
    require_in("replicates", replicates, 19)  # fewer can give no p-value of 0.05


def _search(x: np.ndarray, trim: float) -> _Search:
    require_observations("a break", 6, x)
    inner = np.unique(x)[1:-1]  # a hinge at an end is a straight line
    window = inner[(inner >= np.quantile(x, trim)) & (inner <= np.quantile(x, 1.0 - trim))]
    if window.size == 0:
        raise ValueError(
            f"no candidate break: with trim={trim:g} no x lies within the window, of "
            f"{np.unique(x).size} different x in {x.size} observations. Trim less."
        )
    # Evenly in rank, so as to follow the spacing of x; on every x unless there are very many.
    gaps = window.size - 1
    steps = gaps * max(1, math.ceil(CANDIDATES / max(gaps, 1)))
    places = np.linspace(0.0, gaps, min(steps, 2 * CANDIDATES) + 1)
    candidates = np.interp(places, np.arange(window.size), window)

    # Centred and scaled, so that neither changes a digit of the result that matters.
    centre, scale = x.mean(), x[-1] - x[0]
    position, breaks = (x - centre) / scale, (candidates - centre) / scale
    line = np.linalg.qr(np.column_stack([np.ones_like(x), position]))[0]
    hinges = np.maximum(position - breaks[:, None], 0.0)
    hinges -= (hinges @ line) @ line.T
    lengths = np.linalg.norm(hinges, axis=1)
    bent = lengths > 1e-12  # next to an x far from all others a hinge is a straight line
    if not bent.any():
        raise ValueError("no candidate break: all x but one or two are too close together.")
    hinges = hinges[bent] / lengths[bent, None]
    return _Search(line, candidates[bent], hinges)


def _null(search, noise, alternative):
    # The hinges are orthogonal to the lines, so the noise need not be freed of them.
    total = np.sum(noise**2, axis=0) - np.sum((search.line.T @ noise) ** 2, axis=0)
    return np.sort(_largest(search.hinges @ noise, total, noise.shape[0], alternative))


def _largest(score, total, n, alternative):
    """Largest F, or signed t, over the candidates, for one series or several.

    `score`, `[candidates, ...]`: products with the unit hinges; `total`, `[...]`: squared residuals
    of the straight line. The share of these that one hinge takes determines its F.
    """
    if alternative == "two-sided":
        peak = np.abs(score).max(axis=0)
    else:
        peak = (score if alternative == "greater" else -score).max(axis=0)
    explained = peak / np.sqrt(total)
    # A hinge without any noise leaves nothing unexplained: a very large F, not an infinite one.
    left = np.maximum(1.0 - explained**2, np.finfo(float).eps)
    t = explained * np.sqrt((n - 3) / left)
    return t**2 if alternative == "two-sided" else t


def _interval(candidates, unexplained, n) -> tuple[float, float]:
    """From the last candidate rejected below the best to the first one rejected above it."""
    ratio = 1.0 + special.fdtri(1, n - 4, 0.95) / (n - 4)
    inside = np.flatnonzero(unexplained <= ratio * unexplained.min())
    low = candidates[inside[0] - 1] if inside[0] > 0 else -math.inf
    high = candidates[inside[-1] + 1] if inside[-1] < candidates.size - 1 else math.inf
    return float(low), float(high)


def _autocorrelation(x, residual) -> float:
    """First autocorrelation of residuals from a line, less its bias −(2 + 4φ)/n.

    Source: Shaman & Stine (1988), J. American Statistical Association 83, 842–848.
    """
    steps = np.diff(x)
    if np.ptp(steps) > 1e-6 * steps.max():
        raise ValueError(
            f"errors='ar1' needs evenly spaced x; its steps go from {steps.min():g} to "
            f"{steps.max():g}."
        )
    raw = (residual[1:] @ residual[:-1]) / (residual @ residual)
    n = residual.size
    return float(np.clip((n * raw + 2.0) / (n - 4.0), -0.99, 0.99))


def _autoregressive(noise, phi):
    """Stationary first-order autoregressions `[observations, series]` driven by white noise."""
    start = np.vstack([noise[:1] / math.sqrt(1.0 - phi**2), noise[1:]])
    return scipy.signal.lfilter([1.0], [1.0, -phi], start, axis=0)
