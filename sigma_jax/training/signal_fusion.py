"""From three signals to one observation of coherence, and how its weights are calibrated."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

FUSION_WEIGHTS = (0.40, 0.35, 0.25)
"""Of gradient, structure and consistency (Σ-Model, Eq. 6)."""
DISCREPANCY = 0.15
"""By how much σ̃ and σ̂ may differ before the weights are fitted again (Σ-Model, §3.4)."""

_STEPS = 200


def fuse_signals(
    signals: Float[Array, "... 3"], weights: Float[Array, "... 3"]
) -> Float[Array, "..."]:
    """σ̃ = Σ w max(0, signal) (Σ-Model, Eq. 6), in [0, 1] as the weights sum to at most 1."""
    return jnp.einsum("...s,...s->...", jnp.maximum(signals, 0.0), weights)


def calibrate_fusion(
    signals: Float[Array, "checkpoints 3"],
    measured: Float[Array, " checkpoints"],
    prior: Float[Array, " 3"],
    *,
    ridge: float = 0.1,
) -> Float[Array, " 3"]:
    """The weights that explain what was measured, near the prior ones: Stage 2's ridge regression.

    They minimise the mean of (w · max(0, signals) − measured)² plus ridge ‖w − prior‖², with w ≥ 0
    and Σ w ≤ 1, so that σ̃ stays in [0, 1]: a signal cannot count against coherence. Found by
    projected gradients.

    **Arguments:** `signals` and `measured` σ̂ at checkpoints; rows that are NaN do not count.
    `measured` must come from a split that is no test.

    Source: Σ-Model, §3.4; constraints, prior and the strength of the ridge are ours.
    """
    counted = jnp.isfinite(measured) & jnp.isfinite(signals).all(axis=-1)
    rows = jnp.where(counted[:, None], jnp.maximum(signals, 0.0), 0.0)
    wanted = jnp.where(counted, measured, 0.0)
    number = jnp.maximum(jnp.sum(counted), 1).astype(rows.dtype)
    quadratic = rows.T @ rows / number + ridge * jnp.eye(3, dtype=rows.dtype)
    linear = rows.T @ wanted / number + ridge * prior
    step = 1.0 / jnp.trace(quadratic)  # at most one over the largest eigenvalue

    def descend(weights: Array, _: None) -> tuple[Array, None]:
        return _project(weights - step * (quadratic @ weights - linear)), None

    weights, _ = jax.lax.scan(descend, _project(prior), None, length=_STEPS)
    return weights


def _project(weights: Float[Array, " 3"]) -> Float[Array, " 3"]:
    """The nearest weights that are not negative and sum to at most 1."""
    positive = jnp.maximum(weights, 0.0)
    with jax.numpy_dtype_promotion("standard"):  # Optax divides floats by whole numbers
        on_simplex = optax.projections.projection_simplex(weights)
    on_simplex = jnp.asarray(on_simplex, weights.dtype)
    return jnp.where(jnp.sum(positive) <= 1.0, positive, on_simplex)
