"""How large the resolvent of a matrix is to the right of the imaginary axis."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from .lyapunov import symmetric_range

# Real parts sampled, as multiples of the numerical abscissa: above it the product is near one.
_LOG10_REAL_PARTS = (-5.0, 1.0)


def singular_values(
    matrix: Float[Array, "*batch d d"] | Complex[Array, "*batch d d"],
) -> Float[Array, "*batch d"]:
    """Singular values, the largest first: that one is ‖A‖₂."""
    # Not the default algorithm, which `jnp.linalg.svd` and `norm(·, 2)` use too: its batched call
    # on CPUs waits for threads of the pool that it may itself be run by, which on two devices at
    # once hangs for ever (JAX 0.9.2).
    return jax.lax.linalg.svd(matrix, compute_uv=False, algorithm=jax.lax.linalg.SvdAlgorithm.QR)


def kreiss_lower_bound(matrix: Float[Array, "d d"], points: int) -> Float[Array, ""]:
    """A lower bound of the Kreiss constant sup over Re z > 0 of Re z ‖(zI − A)⁻¹‖₂.

    The largest value on a grid of `points`² values of z, then on as many around the best of them.
    Never below one, the limit for large z, and exactly one where sym A has no positive eigenvalue
    (normal stable matrices among them), for there the supremum is one. The true constant may be
    larger, by any factor where a peak of the resolvent falls between the points; it is infinite for
    an eigenvalue right of the axis, where the sampled value says nothing. Whatever the constant,
    sup over t of ‖e^{tA}‖ is at least as large.

    Source: Trefethen & Embree (2005), Spectra and Pseudospectra, §§14–15.
    """
    if points == 0:
        return jnp.ones((), matrix.dtype)
    _, abscissa = symmetric_range(0.5 * (matrix + matrix.T))
    # Imaginary parts of the numerical range end at ± this norm; a real A is symmetric about zero.
    height = singular_values(0.5 * (matrix - matrix.T))[0]
    scale = jnp.where(abscissa > 0.0, abscissa, 1.0)
    logs = jnp.linspace(*_LOG10_REAL_PARTS, points, dtype=matrix.dtype)
    heights = height * jnp.linspace(0.0, 1.0, points, dtype=matrix.dtype)
    coarse, log_best, height_best = _largest(matrix, scale, logs, heights)
    offsets = jnp.linspace(-1.0, 1.0, points, dtype=matrix.dtype)
    spacing = max(points - 1, 1)
    logs = log_best + offsets * (_LOG10_REAL_PARTS[1] - _LOG10_REAL_PARTS[0]) / spacing
    heights = height_best + offsets * height / spacing
    fine, _, _ = _largest(matrix, scale, logs, heights)
    found = jnp.maximum(jnp.maximum(coarse, fine), 1.0)
    return jnp.where(abscissa > 0.0, found, 1.0)


def _largest(matrix, scale, logs, heights):
    """The largest Re z/σ_min(zI − A) on a grid, and the log₁₀(Re z/scale) and Im z it is at."""
    size, eps = matrix.shape[0], float(jnp.finfo(matrix.dtype).eps)
    log, imaginary = (grid.ravel() for grid in jnp.meshgrid(logs, heights))
    real = scale * 10.0**log
    identity = jnp.eye(size, dtype=matrix.dtype)
    shifted = jax.lax.complex(
        real[:, None, None] * identity - matrix, imaginary[:, None, None] * identity
    )
    smallest = singular_values(shifted)[:, -1]
    # Rounded up, so that the quotient stays a lower bound.
    slack = 4.0 * size * eps * jnp.linalg.norm(shifted, axis=(1, 2))
    value = real / (smallest + slack)
    best = jnp.argmax(value)
    return value[best], log[best], imaginary[best]
