"""How far drifts are from one another, on states of many prompts: may one stand in for another?

Source: Σ₀-K1, hot swap and component 4.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._check import require_in, require_number

_AT_ONCE = 250
"""Resamples that are computed together, which bounds the memory."""


class DriftMatrix(NamedTuple):
    """‖f_old − f_new‖ / ‖f_old‖ of every pair: the first axis is the old one, the second the new.

    Not symmetric, since the old drift's size is the unit. Zero where both drifts are zero, and
    infinite where the old one alone is.
    """

    pooled: Float[np.ndarray, "old new"]
    """Over all prompts as one probe batch, as `vm.relative_drift` takes it."""
    low: Float[np.ndarray, "old new"]
    high: Float[np.ndarray, "old new"]
    """The ends of the interval of `pooled`, for each pair by itself."""
    each: Float[np.ndarray, "old new prompts"]
    """Of every prompt alone, as a rollout takes it, where each trajectory decides for itself."""

    def accepted(self, tolerance: float) -> Float[np.ndarray, "old new"]:
        """The share of prompts at which a swap from old to new would be accepted."""
        return (self.each < tolerance).mean(axis=-1)

    def safe(self, tolerance: float) -> Bool[np.ndarray, "old new"]:
        """Where the whole interval lies below the tolerance."""
        return self.high < tolerance

    def unsafe(self, tolerance: float) -> Bool[np.ndarray, "old new"]:
        """Where none of the interval does. What is neither safe nor unsafe is not decided."""
        return self.low >= tolerance


def drift_matrix(
    drifts: Float[np.ndarray, "variants prompts d"],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> DriftMatrix:
    """The relative drift of every pair of variants, with bootstrap intervals over prompts.

    In one resample the prompts are the same for all pairs. The intervals are percentiles, rounded
    outwards to values that occurred; with few prompts, some twenty, they are too short.

    **Arguments:** `drifts`, of each variant at the same states; `level` of the intervals;
    `resamples` and `seed` of the bootstrap.

    **Raises** `ValueError` for an array of another shape, without a variant or with fewer than two
    prompts, for numbers that are not finite, and for a level or a number of resamples out of range.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    drifts = np.asarray(drifts)
    require_number("drifts", drifts)
    if drifts.ndim != 3 or drifts.shape[0] < 1 or drifts.shape[1] < 2:
        raise ValueError(
            "drifts must be [variants, prompts, d], of at least one variant and two prompts; got "
            f"shape {drifts.shape}."
        )
    if not np.isfinite(drifts).all():
        raise ValueError("drifts must be finite.")
    require_in("level", level, 0.0, np.nextafter(1.0, 0.0), open_low=True)
    require_in("resamples", resamples, 1)
    wide = drifts.astype(np.float64)
    sizes = np.square(wide).sum(axis=-1)
    distances = np.stack([np.square(one - wide).sum(axis=-1) for one in wide])
    low, high = _interval(sizes, distances, level, resamples, np.random.default_rng(seed))
    pooled = _relative(sizes.sum(axis=-1)[:, None], distances.sum(axis=-1))
    return DriftMatrix(pooled, low, high, _relative(sizes[:, None], distances))


def _interval(
    sizes: Float[np.ndarray, "variants prompts"],
    distances: Float[np.ndarray, "variants variants prompts"],
    level: float,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    prompts = sizes.shape[-1]
    found = []
    for first in range(0, resamples, _AT_ONCE):
        count = min(_AT_ONCE, resamples - first)
        # A resample is how often it has each prompt.
        weights = rng.multinomial(prompts, np.full(prompts, 1.0 / prompts), size=count)
        scale = np.einsum("rp,ap->ra", weights, sizes)
        found.append(_relative(scale[..., None], np.einsum("rp,abp->rab", weights, distances)))
    whole = np.concatenate(found)
    tail = (1.0 - level) / 2.0
    # No interpolation, which between a number and infinity would give NaN.
    return (
        np.quantile(whole, tail, axis=0, method="lower"),
        np.quantile(whole, 1.0 - tail, axis=0, method="higher"),
    )


def _relative(scale: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """√(distance / scale), of sums of squares; 0 for 0/0."""
    scale = np.broadcast_to(scale, distance.shape)
    without = np.where(distance > 0.0, np.inf, 0.0)
    ratio = np.divide(distance, scale, out=without, where=scale > 0.0)
    return np.sqrt(ratio)
