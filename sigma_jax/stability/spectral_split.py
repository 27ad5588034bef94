"""A linear drift split into what decays fast and what is left, by the spectrum itself."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int

from .lyapunov import frobenius, sign_iteration


class Dichotomy(eqx.Module):
    """A matrix split at Re λ = −gap: the active block decays faster, the slow block decides.

    `outcome` is one of the codes below, `OUTCOMES[outcome]` its name.
    """

    COLLAPSE: ClassVar[int] = 0
    """The slow block decays as well, or is empty: everything falls to the equilibrium."""
    MARGINAL: ClassVar[int] = 1
    """The slow block neither decays nor grows, to within round-off."""
    DIVERGE: ClassVar[int] = 2
    """The slow block grows."""
    UNDECIDED: ClassVar[int] = 3
    """Eigenvalues too close to −gap, or too ill-conditioned, for a split: see the residual."""
    OUTCOMES: ClassVar[tuple[str, ...]] = ("collapse", "marginal", "diverge", "undecided")

    outcome: Int[Array, ""]
    slow_dimension: Int[Array, ""]
    """How many eigenvalues have Re λ > −gap; minus one where undecided."""
    slow_abscissa: Float[Array, ""]
    """Largest Re λ of the slow block, as computed; minus infinity if it is empty."""
    active_abscissa: Float[Array, ""]
    """Largest Re λ of the active block, at most −gap; minus infinity if it is empty."""
    slow_projector: Float[Array, "d d"]
    """The spectral projector on the slow block along the active one; zero where undecided."""
    residual: Float[Array, ""]
    """‖AP − PA‖_F/‖A‖_F + ‖P² − P‖_F for that projector: zero where both blocks are invariant."""


def split_at(
    matrix: Float[Array, "d d"], eigenvalues: Complex[Array, " d"], gap: Float[Array, ""]
) -> Dichotomy:
    """Split `matrix` at Re λ = −gap by the sign of A + gap·I, which needs no eigenvectors.

    Undecided unless the residual is below √ε times the projector's norm and the projector's trace
    is the number of eigenvalues counted. A slow abscissa counts as zero within √ε ‖A‖_F, the error
    of an eigenvalue that two share.

    Source: Higham (2008), Functions of Matrices, §§2 and 5 (sign and invariant subspaces); Coppel
    (1978), Dichotomies in Stability Theory, for the notion.
    """
    size = matrix.shape[0]
    tolerance = float(jnp.finfo(matrix.dtype).eps) ** 0.5
    identity = jnp.eye(size, dtype=matrix.dtype)
    sign, _ = sign_iteration(matrix + gap * identity, jnp.zeros_like(matrix))
    projector = 0.5 * (identity + sign)
    norm = frobenius(matrix)
    drift = frobenius(matrix @ projector - projector @ matrix)
    drift = drift / jnp.where(norm > 0.0, norm, 1.0)
    residual = drift + frobenius(projector @ projector - projector)
    residual = jnp.where(jnp.isfinite(residual), residual, jnp.inf)
    real = jnp.real(eigenvalues)
    slow = real > -gap
    count = jnp.sum(slow)
    trusted = residual <= tolerance * (1.0 + frobenius(projector))
    decided = trusted & (jnp.round(jnp.trace(projector)).astype(count.dtype) == count)
    slow_abscissa = jnp.max(jnp.where(slow, real, -jnp.inf))
    sign_code = jnp.where(
        slow_abscissa > tolerance * norm,
        Dichotomy.DIVERGE,
        jnp.where(slow_abscissa < -tolerance * norm, Dichotomy.COLLAPSE, Dichotomy.MARGINAL),
    )
    return Dichotomy(
        outcome=jnp.where(decided, sign_code, Dichotomy.UNDECIDED).astype(jnp.int32),
        slow_dimension=jnp.where(decided, count, -1),
        slow_abscissa=slow_abscissa,
        active_abscissa=jnp.max(jnp.where(slow, -jnp.inf, real)),
        slow_projector=jnp.where(decided, projector, 0.0),
        residual=residual,
    )
