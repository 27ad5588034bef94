"""Continuous piecewise lines fitted to many series at once."""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special


class Breaks(NamedTuple):
    """Least-squares continuous piecewise lines, one a series."""

    first: np.ndarray
    """The first break, in x's unit."""
    low: np.ndarray
    """Lower end of its 95 % likelihood interval."""
    high: np.ndarray
    change: np.ndarray
    """Of slope, at the first break."""
    squares: np.ndarray
    """Sum of squared residuals."""


def fit_lines(
    x: Float[np.ndarray, " observations"], series: Float[np.ndarray, "series observations"]
) -> Float[np.ndarray, "series observations"]:
    """The straight line fitted to every series, at x."""
    basis = np.linalg.qr(np.column_stack([np.ones_like(x), x]))[0]
    return (series @ basis) @ basis.T


def fit_breaks(x: np.ndarray, series: np.ndarray, count: int, *, trim: float) -> Breaks:
    """Fit `count` hinges to every series, by all sets of observed x within the trimmed window.

    Least squares over every choice of breaks, for many series at once (`statistics.break_test` is
    for one break in one series, and tests it). `x`, `[observations]`; `series`,
    `[series, observations]`; `trim`, the share of x at each end without breaks.
    """
    low, high = np.quantile(x, [trim, 1.0 - trim])
    candidates = x[(x >= low) & (x <= high)]
    centred = (series - series.mean(axis=1, keepdims=True)).T
    total = np.sum(centred**2, axis=0)
    squares = np.full((candidates.size, len(series)), np.inf)
    change = np.zeros_like(squares)
    for chosen in itertools.combinations(range(candidates.size), count):
        # The first hinge last, so that its coefficient is a quotient.
        hinges = np.maximum(x[:, None] - candidates[list(chosen[::-1])], 0.0)
        basis, scale = np.linalg.qr(np.column_stack([np.ones_like(x), x, hinges]))
        scores = basis.T @ centred
        left = total - np.sum(scores**2, axis=0)
        first = chosen[0]
        better = left < squares[first]
        squares[first, better] = left[better]
        change[first, better] = scores[-1, better] / scale[-1, -1]
    best, least = squares.argmin(axis=0), squares.min(axis=0)
    freedom = x.size - 2 - 2 * count
    inside = squares <= (1.0 + special.fdtri(1, freedom, 0.95) / freedom) * least
    return Breaks(
        first=candidates[best],
        low=candidates[inside.argmax(axis=0)],
        high=candidates[candidates.size - 1 - inside[::-1].argmax(axis=0)],
        change=np.take_along_axis(change, best[None], axis=0)[0],
        squares=least,
    )
