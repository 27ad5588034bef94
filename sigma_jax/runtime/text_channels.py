"""Text channels: from the features of a reply to y, whitened, style and content apart."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

_SHRINKAGE = 0.2
_FLOOR = 0.1  # of a feature's spread over all replies: the least that it may vary within a class


class TextChannels(eqx.Module):
    """Two affine maps, one a channel, that send replies with the identity to mean 0, covariance I.

    y = (`style_map` (style − `style_mean`), `content_map` (content − `content_mean`)).
    """

    style_mean: Float[Array, " s"]
    style_map: Float[Array, "p s"]
    content_mean: Float[Array, " c"]
    content_map: Float[Array, "q c"]

    def observe(
        self, style: Float[ArrayLike, "*batch s"], content: Float[ArrayLike, "*batch c"]
    ) -> Float[Array, "*batch d"]:
        """y, d = p + q, the style's coordinates first.

        **Raises** `ValueError` for features of another length.
        """
        for name, value, mean in (
            ("style", style, self.style_mean),
            ("content", content, self.content_mean),
        ):
            if np.shape(value)[-1:] != mean.shape:
                raise ValueError(
                    f"{name} must be [..., {mean.shape[0]}]; got shape {np.shape(value)}."
                )
        dtype = self.style_mean.dtype
        style = (jnp.asarray(style, dtype) - self.style_mean) @ self.style_map.T
        content = (jnp.asarray(content, dtype) - self.content_mean) @ self.content_map.T
        return jnp.concatenate([style, content], axis=-1)


class FittedChannel(NamedTuple):
    """One channel, fitted to replies with and without the identity."""

    mean: Float[np.ndarray, " f"]
    """Of the replies with the identity."""
    map: Float[np.ndarray, "p f"]
    default: Float[np.ndarray, " p"]
    """Where the replies without it are; 0 if there were none."""
    power: float
    """d' of replies that were held out: how many standard deviations the two classes are apart."""


FitMap = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From replies `[n, f]` with the identity and `[m, f]` without it to a whitening map `[p, f]`."""


def style_map(
    identity: Float[np.ndarray, "n f"], default: Float[np.ndarray, "m f"]
) -> Float[np.ndarray, "f f"]:
    """Standardise each feature, then whiten them together.

    A feature's standard deviation is that within the classes, and a tenth of that over all replies
    at least: one that never varies within a class is strong evidence, not infinite.
    """
    residuals, freedom = class_residuals(identity, default)
    total = np.concatenate([identity, default]).var(axis=0)
    scale = np.sqrt((residuals**2).sum(axis=0) / freedom + _FLOOR**2 * total)
    scale = np.where(scale > 0, scale, 1.0)
    return _whitening(residuals / scale, freedom) / scale


def content_map(components: int) -> FitMap:
    """Projection on at most `components` principal axes of all replies, then whitening.

    The axes are those about the mean of all replies, not within the classes, so that the contrast
    between them is kept. There are fewer of them than degrees of freedom.
    """

    def fit(identity, default):
        residuals, freedom = class_residuals(identity, default)
        replies = np.concatenate([identity, default])
        axes = _principal_axes(replies - replies.mean(axis=0), components)
        return _whitening(residuals @ axes.T, freedom) @ axes

    return fit


def _principal_axes(centred: Float[np.ndarray, "n f"], count: int) -> Float[np.ndarray, "q f"]:
    """The leading axes, by the smaller of the two matrices of products."""
    if len(centred) >= centred.shape[1]:
        return np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count].T
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    # An axis of no extent has no direction: it is left at 0.
    lengths = np.sqrt(np.where(values > 1e-12 * values[0], values, np.inf))
    return (vectors / lengths).T @ centred


def fit_channel(
    identity: Float[np.ndarray, "n f"], default: Float[np.ndarray, "m f"], fit_map: FitMap
) -> FittedChannel:
    """The channel of all replies, scaled so that a reply not among them has variance 1.

    Each reply in turn is left out of the fit: its distance from its class gives the scale, its
    place along the contrast the power.
    """
    squared, along = [], ([], [])
    for own, replies in enumerate((identity, default)):
        for index in range(len(replies)):
            rest = [identity, default]
            rest[own] = np.delete(replies, index, axis=0)
            whitening = fit_map(*rest)
            distance = whitening @ (replies[index] - rest[own].mean(axis=0))
            # The mean of the others is not exact either.
            squared.append(distance @ distance / len(whitening) / (1 + 1 / len(rest[own])))
            if len(default):
                contrast = whitening @ (rest[1].mean(axis=0) - rest[0].mean(axis=0))
                unit = contrast / max(float(np.linalg.norm(contrast)), np.finfo(float).tiny)
                along[own].append(unit @ whitening @ (replies[index] - rest[0].mean(axis=0)))
    mean = identity.mean(axis=0)
    whitening = fit_map(identity, default) / np.sqrt(max(float(np.mean(squared)), 1e-12))
    if not len(default):
        return FittedChannel(mean, whitening, np.zeros(len(whitening)), 0.0)
    return FittedChannel(mean, whitening, whitening @ (default.mean(axis=0) - mean), _power(*along))


def class_residuals(
    identity: Float[np.ndarray, "n f"], default: Float[np.ndarray, "m f"]
) -> tuple[Float[np.ndarray, "r f"], int]:
    """What is left of the replies without the mean of their class, and its degrees of freedom."""
    classes = [group for group in (identity, default) if len(group)]
    residuals = np.concatenate([group - group.mean(axis=0) for group in classes])
    return residuals, len(residuals) - len(classes)


def _power(identity: list[float], default: list[float]) -> float:
    """The difference of the means over the pooled standard deviation; 0 if it has no spread."""
    spread = np.sqrt((np.var(identity, ddof=1) + np.var(default, ddof=1)) / 2)
    return float((np.mean(default) - np.mean(identity)) / spread) if spread > 0 else 0.0


def _whitening(residuals: Float[np.ndarray, "r p"], freedom: int) -> Float[np.ndarray, "p p"]:
    """L⁻¹ of the shrunk covariance .8 C + .2 tr(C)/p I = L Lᵀ."""
    size = residuals.shape[1]
    covariance = residuals.T @ residuals / freedom
    level = max(float(np.trace(covariance)) / size, 1e-12)
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * level * np.eye(size)
    return np.linalg.inv(np.linalg.cholesky(shrunk))
