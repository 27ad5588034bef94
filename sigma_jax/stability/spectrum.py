"""What the eigenvalues of a linearised drift say about an equilibrium."""

from typing import Literal

import numpy as np
from jaxtyping import Complex, Float

Stability = Literal["stable", "unstable", "not hyperbolic"]

# Eigenvalues are known to about the square root of round-off where two of them meet zero.
ZERO = 1e-7


def sorted_eigenvalues(
    jacobian: Float[np.ndarray, "... components components"],
) -> Complex[np.ndarray, "... components"]:
    """Eigenvalues of each matrix, the largest real part (the leading one) first."""
    values = np.linalg.eigvals(jacobian).astype(complex)
    order = np.lexsort((-np.imag(values), -np.real(values)), axis=-1)
    return np.take_along_axis(values, order, axis=-1)


def stability_of(eigenvalues: Complex[np.ndarray, " components"], rate: float = 0.0) -> Stability:
    """Whether every eigenvalue has a negative real part, one a positive, or one neither.

    A real part counts as zero below `ZERO` of the largest eigenvalue's modulus or of `rate`, a rate
    that is typical of the drift, if that is larger.
    """
    leading = np.max(np.real(eigenvalues), initial=-np.inf)
    margin = ZERO * np.max(np.abs(eigenvalues), initial=rate)
    if leading < -margin:
        return "stable"
    return "unstable" if leading > margin else "not hyperbolic"


def kind_of(eigenvalues: Complex[np.ndarray, " components"], rate: float = 0.0) -> str:
    """The classical name: a stable or unstable node or focus, a saddle, or not hyperbolic."""
    margin = ZERO * np.max(np.abs(eigenvalues), initial=rate)
    real = np.real(eigenvalues)
    if (np.abs(real) <= margin).any():
        return "not hyperbolic"
    if (real > 0).any() and (real < 0).any():
        return "saddle"
    turning = bool((np.abs(np.imag(eigenvalues)) > margin).any())
    return f"{'unstable' if (real > 0).any() else 'stable'} {'focus' if turning else 'node'}"
