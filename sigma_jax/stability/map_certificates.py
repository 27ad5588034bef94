"""What one Jacobian proves about an iterated map x ← F(x): that it contracts, now or in the end."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from .._check import require_in
from .certificates import checked_jacobian
from .lyapunov import frobenius

_DOUBLINGS = 40
"""P is then the sum of 2⁴⁰ powers; a map that needs more is not told from one that never ends."""


class MapCertificate(eqx.Module):
    """What `certify_map` found of J = ∂F/∂x; local, at one state, never a promise about F.

    A gate that is True is proven, in floating point too; False only means not proven.
    """

    norm_gate: Bool[Array, ""]
    """‖J‖₂ < 1 − margin: every disturbance shrinks in every step."""
    lyapunov_gate: Bool[Array, ""]
    """The spectral radius of J is below 1 − margin, proven by a P ≻ 0 with JᵀPJ ≺ P: every
    disturbance dies out in the end."""
    lyapunov_condition: Float[Array, ""]
    """‖Jⁿ‖₂ ≤ √condition · factorⁿ: the transient is at most its root. Infinite without proof."""
    lyapunov_factor: Float[Array, ""]
    """By how much a disturbance shrinks a step in the norm of P; 1 without proof."""
    lyapunov_residual: Float[Array, ""]
    """At least ‖P − JᵀPJ − I‖_F; infinite if there is no P."""


def certify_map(jacobian: Float[ArrayLike, "d d"], *, margin: float = 0.0) -> MapCertificate:
    """Certify the iteration of one matrix; see `MapCertificate` for what each part says.

    P solves Stein's equation P − JᵀPJ = I by doubling, P ← P + MᵀPM, M ← M². It is judged by its
    residual: q = 1 − ‖P − JᵀPJ − I‖ > 0 gives P − JᵀPJ ⪰ q I, so P ⪰ q I, and xᵀPx falls by the
    factor 1 − q/λ_max(P) a step. Positive definite is what has a Cholesky factor after a shift that
    outweighs the factorisation's own error (Rump). Products and Cholesky only: a small part of
    what `certify` costs, and quick enough to be asked in every step of a loop.

    Jit and vmap it as you like. No gradient flows through it.

    **Arguments:** `margin`, in [0, 1), how far below one the gates ask for.

    **Raises** `ValueError` for what is not a finite, real square matrix, or a margin out of range.
    In compiled code a matrix that is not finite passes no gate.

    Source: Horn & Johnson (1991), Topics in Matrix Analysis, §2.2 (Stein); Smith (1968), SIAM J.
    Appl. Math. 16, 198–201 (doubling); Rump (2006), BIT 46, 433–452 (Cholesky).
    """
    matrix = checked_jacobian(jacobian)
    require_in("margin", margin, 0.0)
    if isinstance(margin, int | float) and margin >= 1.0:
        raise ValueError(f"margin must lie in [0, 1); got {margin:g}.")
    return _certify_map(matrix, jnp.asarray(margin, matrix.dtype))


@eqx.filter_jit
def _certify_map(matrix: Float[Array, "d d"], margin: Float[Array, ""]) -> MapCertificate:
    matrix = jax.lax.stop_gradient(matrix)
    size, eps = matrix.shape[0], float(jnp.finfo(matrix.dtype).eps)
    identity = jnp.eye(size, dtype=matrix.dtype)
    finite = jnp.all(jnp.isfinite(matrix))
    scaled = jnp.where(finite, matrix, 0.0) / (1.0 - margin)
    # Products of length d, and a few sums, with a factor to spare.
    unit = 4.0 * (size + 4) * eps
    with jax.default_matmul_precision("highest"):
        square = frobenius(scaled) ** 2
        shrinks = identity - scaled.T @ scaled
        norm_gate = finite & _positive_definite(shrinks, unit * (1.0 + square))
        # P only grows, and the bound of its residual with it: beyond this nothing can be proven.
        p = _sum_of_powers(scaled, 1.0 / (2.0 * unit * (1.0 + square)))
        size_of_p = frobenius(p)
        computed = frobenius(p - scaled.T @ p @ scaled - identity)
        residual = computed * (1.0 + unit) + 2.0 * unit * (size_of_p * (1.0 + square) + 1.0)
        decay = (1.0 - residual) * (1.0 - 4.0 * eps)
        holds = finite & (decay > 0.0) & _positive_definite(p, jnp.zeros_like(decay))
    largest = size_of_p * (1.0 + unit)
    shrinking = jnp.sqrt(jnp.maximum(1.0 - decay / largest, 0.0)) * (1.0 + 8.0 * eps)
    return MapCertificate(
        norm_gate=norm_gate,
        lyapunov_gate=holds,
        lyapunov_condition=jnp.where(holds, largest / decay * (1.0 + 8.0 * eps), jnp.inf),
        lyapunov_factor=jnp.where(holds, (1.0 - margin) * shrinking, 1.0),
        lyapunov_residual=jnp.where(finite & jnp.isfinite(residual), residual, jnp.inf),
    )


def _sum_of_powers(matrix: Float[Array, "d d"], most: Float[Array, ""]) -> Float[Array, "d d"]:
    """Σ (Jᵀ)ᵏJᵏ over as many powers as add something, or until its norm is above `most`."""
    eps = float(jnp.finfo(matrix.dtype).eps)

    def unfinished(carry):
        p, power, doublings = carry
        # What is still to come is about ‖M‖² of what is there. NaN ends it as well.
        going = (frobenius(power) ** 2 > eps) & (frobenius(p) <= most)
        return going & (doublings < _DOUBLINGS)

    def double(carry):
        p, power, doublings = carry
        p = p + power.T @ p @ power
        return 0.5 * (p + p.T), power @ power, doublings + 1

    start = (jnp.eye(matrix.shape[0], dtype=matrix.dtype), matrix, 0)
    return jax.lax.while_loop(unfinished, double, start)[0]


def _positive_definite(symmetric: Float[Array, "d d"], error: Array) -> Bool[Array, ""]:
    """Whether every matrix within `error` (in the 2-norm) of this symmetric one is, proven."""
    size, eps = symmetric.shape[0], float(jnp.finfo(symmetric.dtype).eps)
    own = 4.0 * (size + 2) * eps * jnp.sum(jnp.abs(jnp.diagonal(symmetric)))
    shifted = symmetric - (error + own) * jnp.eye(size, dtype=symmetric.dtype)
    return jnp.all(jnp.isfinite(jnp.linalg.cholesky(shifted)))
