"""What every test asks of its observations, said in a statistician's words."""

import numpy as np
from jaxtyping import ArrayLike, Float

ALTERNATIVES = ("two-sided", "less", "greater")
"""`less` and `greater`: the effect lies below or above what the null hypothesis says."""

LARGEST = 1e50
"""Beyond this the variance of a square would overflow."""


def require_alternative(alternative: str) -> None:
    """Raise ValueError unless `alternative` is one of `ALTERNATIVES`."""
    if alternative not in ALTERNATIVES:
        raise ValueError(
            f"alternative must be one of {', '.join(ALTERNATIVES)}; got {alternative!r}."
        )


def sample(name: str, values: Float[ArrayLike, " observations"]) -> Float[np.ndarray, " n"]:
    """Return `values` as float64; raise ValueError unless they are one finite column."""
    array = np.asarray(values, float)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be one-dimensional, an observation an entry; got shape {array.shape}."
        )
    fine = np.count_nonzero(np.abs(array) <= LARGEST)  # NaN compares as False
    if fine < array.size:
        raise ValueError(
            f"{name} must be finite; {array.size - fine} of its {array.size} entries are NaN, "
            f"infinite or beyond {LARGEST:g}. Leave missing observations out."
        )
    return array


def columns(name: str, values: ArrayLike, rows: int) -> Float[np.ndarray, "rows columns"]:
    """Return one or several covariates as columns of `rows` finite observations."""
    array = np.asarray(values, float)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] != rows:
        raise ValueError(
            f"{name} needs one row for each of {rows} observations; got shape {array.shape}."
        )
    sample(name, array.ravel())
    return array


def require_equal_lengths(test: str, **samples: Float[np.ndarray, " n"]) -> None:
    """Raise ValueError unless the samples, given by name, are of one length."""
    if len({values.size for values in samples.values()}) > 1:
        lengths = ", ".join(f"{name} {values.size}" for name, values in samples.items())
        raise ValueError(f"{test} pairs its observations: lengths must agree; got {lengths}.")


def require_observations(test: str, least: int, *samples: Float[np.ndarray, " n"]) -> None:
    """Raise ValueError unless each sample has at least `least` observations."""
    if min(values.size for values in samples) < least:
        where = " in each group" if len(samples) > 1 else ""
        got = " and ".join(str(values.size) for values in samples)
        raise ValueError(f"{test} needs at least {least} observations{where}; got {got}.")


def no_variance(what: str) -> ValueError:
    """Make the error of a test that has no scatter to compare its effect with."""
    return ValueError(f"{what} are equal: there is no variance to test against.")


def variance(values: Float[np.ndarray, " n"], scale: float = 0.0) -> float:
    """Unbiased variance, exactly zero if the values differ only by rounding.

    `scale`, in the values' unit: the size of numbers whose difference they are, if any.
    """
    low, high = float(values.min()), float(values.max())
    if high - low <= 8 * np.finfo(float).eps * max(-low, high, scale):
        return 0.0
    return float(values.var(ddof=1))
