"""A loop step with its certificate, and a canary that compares it with what the kernel did."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._check import require_in
from ..stability import MapCertificate, certify_map, chi_squared_threshold
from .loop_node import LoopNode

_FLOOR = 1e-2
"""Of the mean variance of a residual, added to every one: the sensor's noise in the state VM."""


class LoopCanary(eqx.Module):
    """How far the kernel's own loop lands from where a node says, as a normal distribution.

    Made by `fit_canary`.
    """

    mean: Float[Array, " d"]
    whitening: Float[Array, "d d"]
    """W with W S Wᵀ = I, for the covariance S of what is left."""
    threshold: Float[Array, ""]

    def check(
        self, predicted: Float[Array, " d"], observed: Float[Array, " d"]
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """The normalised innovation squared νᵀS⁻¹ν, and whether it is a surprise."""
        whitened = self.whitening @ (observed - predicted - self.mean)
        squared = jnp.sum(whitened**2)
        return squared, squared > self.threshold


def fit_canary(residuals: Float[np.ndarray, "samples d"], *, rate: float = 1e-3) -> LoopCanary:
    """A canary from observed minus predicted states of steps that are as they should be.

    **Arguments:** `rate`, the share of such steps that would be flagged if they were normal; what
    it really is has to be counted on others, since tails may be heavier.

    **Raises** `ValueError` for fewer samples than twice the dimension, for ones that are not
    finite, or a rate outside (0, 1].

    Source: Σ₀-K1, surprise (χ² canary).
    """
    residuals = np.asarray(residuals)
    if residuals.ndim != 2 or len(residuals) < 2 * residuals.shape[1]:
        raise ValueError(
            "residuals must be [samples, d] with at least 2 d samples; got shape "
            f"{residuals.shape}."
        )
    if not np.isfinite(residuals).all():
        raise ValueError("residuals must be finite.")
    require_in("rate", rate, 0.0, 1.0, open_low=True)
    dim = residuals.shape[1]
    wide = residuals.astype(np.float64)
    covariance = np.cov(wide, rowvar=False).reshape(dim, dim)
    floor = max(_FLOOR * np.trace(covariance) / dim, np.finfo(residuals.dtype).tiny)
    factor = np.linalg.cholesky(covariance + floor * np.eye(dim))
    parts = (wide.mean(axis=0), np.linalg.inv(factor), chi_squared_threshold(dim, rate))
    return LoopCanary(*(jnp.asarray(part, residuals.dtype) for part in parts))


def calibrate_canary(
    canary: LoopCanary, residuals: Float[np.ndarray, "samples d"], *, rate: float = 1e-3
) -> LoopCanary:
    """The same canary with a threshold counted on residuals that it was not fitted to.

    Of n residuals it is that with the ⌊rate (n + 1)⌋-th largest innovation, so a further step like
    them is flagged with a probability of at most `rate`, whatever the distribution, on average
    over such counts (split conformal prediction).

    **Raises** `ValueError` for residuals of another dimension than the canary, ones that are not
    finite, a rate outside (0, 1], or fewer than 1/rate − 1 of them, which cannot tell it.

    Source: Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), JASA 113, 1094–1111.
    """
    require_in("rate", rate, 0.0, 1.0, open_low=True)
    residuals, dim = np.asarray(residuals), canary.mean.size
    if residuals.ndim != 2 or residuals.shape[1] != dim or not np.isfinite(residuals).all():
        raise ValueError(
            f"residuals must be [samples, {dim}], all finite; got shape {residuals.shape}."
        )
    # A thousandth of 1000 is one, also after rounding.
    above = int((len(residuals) + 1) * rate * (1.0 + 1e-9))
    if above < 1:
        raise ValueError(
            f"residuals must be at least {int(np.ceil(1.0 / rate - 1e-6)) - 1} to tell a rate of "
            f"{rate:g}; got {len(residuals)}."
        )
    zero = jnp.zeros_like(canary.mean)
    squared, _ = jax.vmap(canary.check, (None, 0))(zero, jnp.asarray(residuals, zero.dtype))
    threshold = jnp.sort(squared)[len(residuals) - above]
    return eqx.tree_at(lambda canary: canary.threshold, canary, threshold)


class LoopStep(NamedTuple):
    """One loop, seen from the state."""

    x: Float[Array, " d"]
    """φ(loop(ψ(x))), where the node says that the state goes."""
    jacobian: Float[Array, "d d"]
    """J = ∂φ(loop(ψ(x)))/∂x, by differentiation; the drift's is J − I."""
    certificate: MapCertificate
    """Of J, in double precision where JAX has it."""
    innovation: Float[Array, ""]
    """How far `observed` is from there, squared, in the canary's norm."""
    surprise: Bool[Array, ""]


@eqx.filter_jit
def certified_step(
    node: LoopNode, x: Float[Array, " d"], observed: Float[Array, " d"], canary: LoopCanary
) -> LoopStep:
    """One loop from x with its Jacobian, what that proves, and whether `observed` is a surprise.

    The Jacobian costs d directions in one batched forward pass beside the step's own.

    **Arguments:** `observed`, φ of the state that the kernel's own loop came to.

    Source: Σ₀-K1, certificates and surprise.
    """
    after, jacobian = _value_and_jacobian(node, x)
    squared, surprise = canary.check(after, observed)
    certificate = certify_map(jacobian.astype(jnp.result_type(float)))
    return LoopStep(after, jacobian, certificate, squared, surprise)


def _value_and_jacobian(node: LoopNode, x: Array) -> tuple[Array, Array]:
    """The next state and its Jacobian; the layers' own values are computed once for both."""
    after, along = jax.linearize(node.advance, x)
    columns = jax.vmap(along)(jnp.eye(x.size, dtype=x.dtype))
    return after, columns.T
