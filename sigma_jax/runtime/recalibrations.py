"""What other calibrations of as few replies would have found: how far this one may be wrong."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .text_channels import FitMap, FittedChannel, class_residuals


class Recalibrations(NamedTuple):
    """A channel fitted `n` times to new replies, and the truth as each fit sees it."""

    factor: Float[np.ndarray, "n p p"]
    """L of the covariance L Lᵀ of replies to come."""
    offset: Float[np.ndarray, "n p"]
    """The mean of replies with the identity to come; the fit believes 0."""
    default: Float[np.ndarray, "n p"]
    """Where the fit believes the replies without the identity to be."""


def recalibrations(
    identity: Float[np.ndarray, "n f"],
    default: Float[np.ndarray, "m f"],
    fitted: FittedChannel,
    fit_map: FitMap,
    count: int,
    random: np.random.Generator,
) -> Recalibrations:
    """Fit `count` calibrations to replies drawn from a normal truth that resembles the given ones.

    The truth has the covariance of the residuals, each weighted anew at random (the Bayesian
    bootstrap), shrunk towards a multiple of the identity by the oracle approximating estimator. Its
    two means are as far apart as the held-out replies say, not as far as the fitted ones do.
    Projection and whitening are fitted anew each time.

    Source: Chen, Wiesel, Eldar & Hero (2010), IEEE Transactions on Signal Processing 58,
    5016–5029; Rubin (1981), Annals of Statistics 9, 130–134.
    """
    residuals, freedom = class_residuals(identity, default)
    covariance = _Truth(residuals / np.sqrt(freedom), *_shrinkage(residuals, freedom))
    apart = np.zeros(identity.shape[1])
    if len(default):
        distance = float(np.linalg.norm(fitted.default))
        noise = len(fitted.default) * (1 / len(identity) + 1 / len(default))
        share = min(_true_distance(fitted.power, noise) / distance, 1.0) if distance > 0 else 0.0
        apart = share * (default.mean(axis=0) - identity.mean(axis=0))
    counts = len(identity), len(default)
    found = [_refitted(covariance, apart, counts, fit_map, random) for _ in range(count)]
    return Recalibrations(*[np.stack(parts) for parts in zip(*found, strict=True)])


def _true_distance(power: float, noise: float) -> float:
    """How far apart the means are, if held-out replies are `power` apart along their estimate.

    An estimate with an error of mean square `noise` has lost the cosine of its angle with the
    truth: power = Δ²/√(Δ² + noise).
    """
    power = max(power, 0.0)
    return float(np.sqrt((power**2 + power * np.sqrt(power**2 + 4 * noise)) / 2))


class _Truth(NamedTuple):
    """The covariance (1 − s) Rᵀ R + s v I."""

    rows: Float[np.ndarray, "r f"]
    shrinkage: float
    level: float

    def another(self, random: np.random.Generator) -> "_Truth":
        """A truth that the same replies speak for: each counts as often as chance has it."""
        weights = random.standard_exponential(len(self.rows))
        rows = self.rows * np.sqrt(weights / weights.mean())[:, None]
        return self._replace(rows=rows)

    def draw(self, count: int, random: np.random.Generator) -> Float[np.ndarray, "c f"]:
        correlated = random.standard_normal((count, len(self.rows))) @ self.rows
        white = random.standard_normal((count, self.rows.shape[1]))
        share, level = self.shrinkage, self.level
        return np.sqrt(1 - share) * correlated + np.sqrt(share * level) * white

    def seen_through(self, whitening: Float[np.ndarray, "p f"]) -> Float[np.ndarray, "p p"]:
        mapped = whitening @ self.rows.T
        own = (1 - self.shrinkage) * mapped @ mapped.T
        return own + self.shrinkage * self.level * whitening @ whitening.T


def _shrinkage(residuals: Float[np.ndarray, "r f"], freedom: int) -> tuple[float, float]:
    """How far the covariance is shrunk, in (0, 1], and the mean variance of a feature."""
    size = residuals.shape[1]
    gram = residuals @ residuals.T / freedom  # the same traces as the covariance's, and smaller
    trace, squared = float(np.trace(gram)), float(np.sum(gram**2))
    above = (1 - 2 / size) * squared + trace**2
    below = (freedom + 1 - 2 / size) * (squared - trace**2 / size)
    share = min(1.0, above / below) if below > 0 else 1.0
    return max(share, 1e-3), max(trace / size, 1e-12)


def _refitted(truth: _Truth, apart, counts: tuple[int, int], fit_map: FitMap, random):
    """Factor, offset and default of one new calibration."""
    truth = truth.another(random)
    identity = truth.draw(counts[0], random)
    default = apart + truth.draw(counts[1], random)
    whitening = fit_map(identity, default)
    covariance = truth.seen_through(whitening)
    size = len(whitening)
    # Held-out replies set the scale by their distances from the fitted means, as in `fit_channel`.
    # What is left of its error is that of their number.
    classes = [group for group in (identity, default - apart) if len(group)]
    squared = [
        (np.trace(covariance) + np.sum((whitening @ group.mean(axis=0)) ** 2))
        / (1 + 1 / len(group))
        for group in classes
    ]
    alike = np.sum(covariance**2) / np.trace(covariance) ** 2  # 1/size if it is white
    error = random.standard_normal() * np.sqrt(0.5 * alike / sum(counts))
    scale = np.sqrt(size / np.mean(squared)) * np.exp(error)
    mean = identity.mean(axis=0)
    place = np.zeros(size)
    if counts[1]:
        place = scale * whitening @ (default.mean(axis=0) - mean)
    factor = scale * np.linalg.cholesky(covariance + 1e-12 * np.trace(covariance) * np.eye(size))
    return factor, -scale * whitening @ mean, place
