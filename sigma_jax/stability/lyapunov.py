"""The sign of a matrix and Lyapunov's equation, by inverses and products, checked afterwards."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_MOST_ITERATIONS = 60
# Scaling hurts the quadratic convergence at the end, so it stops at this relative change.
_SCALED_UNTIL = 1e-2


class LyapunovProof(NamedTuple):
    """What a matrix P proves about A; every number errs on the safe side of round-off."""

    holds: Bool[Array, ""]
    """P ≻ 0 and AᵀP + PA ≺ 0, so every eigenvalue of A has a real part below minus the margin."""
    condition: Float[Array, ""]
    """At least λ_max(P)/λ_min(P); infinite without proof."""
    rate: Float[Array, ""]
    """‖e^{tA}‖ ≤ √condition · e^{−rate·t}; zero without proof."""
    residual: Float[Array, ""]
    """At least ‖AᵀP + PA + I‖_F, A shifted by the margin; infinite if there is no P."""


def frobenius(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
    """√Σ a², relative to the largest entry: squares of tiny entries would vanish."""
    largest = jnp.max(jnp.abs(matrix))
    scaled = matrix / jnp.where(largest > 0.0, largest, 1.0)
    return largest * jnp.sqrt(jnp.sum(scaled * scaled))


def sign_iteration(
    matrix: Float[Array, "d d"], weight: Float[Array, "d d"]
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """The sign of A, and 2P where AᵀP + PA = −weight if every eigenvalue of A has Re λ < 0.

    Newton's iteration X ← (μX + (μX)⁻¹)/2 on the block matrix [[A, 0], [weight, −Aᵀ]], scaled by
    norms until it is close. The sign has A's invariant subspaces with the eigenvalues 1 (Re > 0)
    and −1 (Re < 0); an eigenvalue with Re λ = 0 has no sign, and the result is then not finite or
    arbitrary: whoever calls checks it.

    Source: Roberts (1980), Int. J. Control 32, 677–687; Higham (2008), Functions of Matrices, §5.
    """
    round_off = matrix.shape[0] * float(jnp.finfo(matrix.dtype).eps)

    def unfinished(carry):
        _, _, change, enough, iteration = carry
        return (change > enough) & (iteration < _MOST_ITERATIONS)

    def newton(carry):
        x, q, change, _, iteration = carry
        inverse = jnp.linalg.inv(x)
        balance = jnp.sqrt(frobenius(inverse) / frobenius(x))
        scale = jnp.where(change > _SCALED_UNTIL, balance, 1.0)
        new = 0.5 * (scale * x + inverse / scale)
        q = 0.5 * (scale * q + inverse.T @ q @ inverse / scale)
        size = frobenius(new)
        change = frobenius(new - x) / size
        # Convergence is quadratic: from here the step just taken is exact to round-off.
        enough = jnp.sqrt(round_off / (size * frobenius(inverse)))
        return new, q, change, enough, iteration + 1

    first = jnp.full((), jnp.inf, matrix.dtype)
    sign, twice, *_ = jax.lax.while_loop(
        unfinished, newton, (matrix, weight, first, jnp.zeros_like(first), 0)
    )
    return sign, twice


def symmetric_range(
    symmetric: Float[Array, "d d"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Bounds (low, high) that contain every eigenvalue of a symmetric matrix despite round-off.

    The eigenvalue solver is backward stable: its error is a small multiple of ε ‖S‖, allowed for by
    4 d ε ‖S‖_F. Gershgorin's discs need no such allowance where rows are diagonal, so that bounds
    of diagonal matrices are exact; the tighter of the two is taken.
    """
    size, eps = symmetric.shape[0], float(jnp.finfo(symmetric.dtype).eps)
    values = jnp.linalg.eigvalsh(symmetric)
    slack = 4.0 * size * eps * frobenius(symmetric)
    centre = jnp.diagonal(symmetric)
    off_diagonal = jnp.abs(symmetric) * (1.0 - jnp.eye(size, dtype=symmetric.dtype))
    radius = jnp.sum(off_diagonal, axis=1) * (1.0 + 2.0 * size * eps)
    discs_low, discs_high = jnp.min(centre - radius), jnp.max(centre + radius)
    # A sum rounds by ε/2 of itself, and not at all where the radius is zero.
    rounding = jnp.where(jnp.all(radius == 0.0), 0.0, eps)
    discs_low, discs_high = (
        discs_low - rounding * jnp.abs(discs_low),
        discs_high + rounding * jnp.abs(discs_high),
    )
    return jnp.maximum(values[0] - slack, discs_low), jnp.minimum(values[-1] + slack, discs_high)


def lyapunov_proof(matrix: Float[Array, "d d"], margin: Float[Array, ""]) -> LyapunovProof:
    """Solve (A + margin)ᵀP + P(A + margin) = −I, and prove what P shows whatever its error.

    With the residual E = AᵀP + PA + I computed, and a bound of its round-off, q = 1 − ‖E‖ > 0 gives
    AᵀP + PA ⪯ −q I. Then no eigenvalue of P is smaller in modulus than c = q/(2‖sym A‖), so P ≻ 0
    as soon as its computed eigenvalues exceed −c by more than their error; and xᵀPx decays at the
    rate q/λ_max(P) (Lyapunov; Horn & Johnson 1991, Topics in Matrix Analysis, §2.2).
    """
    size, eps = matrix.shape[0], float(jnp.finfo(matrix.dtype).eps)
    identity = jnp.eye(size, dtype=matrix.dtype)
    shifted = matrix + margin * identity
    _, twice = sign_iteration(shifted, identity)
    p = 0.25 * (twice + twice.T)
    half = shifted.T @ p
    computed = frobenius(half + half.T + identity)
    # Products of length d and two sums, and the rounding of the shift, with a factor to spare.
    round_off = 4.0 * (size + 4) * eps * (frobenius(shifted) * frobenius(p) + 1.0)
    residual = computed * (1.0 + 4.0 * size * eps) + round_off
    decay = (1.0 - residual) * (1.0 - 4.0 * eps)
    low, high = symmetric_range(0.5 * (shifted + shifted.T))
    floor = decay / (2.0 * jnp.maximum(jnp.abs(low), jnp.abs(high))) * (1.0 - 8.0 * eps)
    smallest, largest = symmetric_range(p)
    holds = (decay > 0.0) & (smallest > -floor) & jnp.isfinite(largest)
    condition = largest / jnp.maximum(smallest, floor) * (1.0 + 4.0 * eps)
    rate = (margin + decay / (2.0 * largest)) * (1.0 - 8.0 * eps)
    return LyapunovProof(
        holds=holds,
        condition=jnp.where(holds, condition, jnp.inf),
        rate=jnp.where(holds, rate, 0.0),
        residual=jnp.where(jnp.isfinite(residual), residual, jnp.inf),
    )
