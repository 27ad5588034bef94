"""Fisher information: what data of a given noise can say about parameters, and what they cannot."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._check import require_in
from .log_parameters import in_logarithms, like, names_of, skeleton, to_logarithms

# Entries of a direction below this share of its largest one are not printed.
_PRINTED = 0.02


class FisherInformation(eqx.Module):
    """The information in the logarithms of positive parameters, ordered as `names`."""

    names: tuple[str, ...] = eqx.field(static=True)
    matrix: Float[np.ndarray, "parameters parameters"]
    """Expected information about the logarithms."""
    eigenvalues: Float[np.ndarray, " parameters"]
    """Its spectrum, largest first. 1/√λ is the best standard error of a combination's logarithm."""
    eigenvectors: Float[np.ndarray, "parameters parameters"]
    """Their directions, as columns."""
    standard_error: PyTree
    """Cramér–Rao bound on each parameter's standard error, relative; infinite if it has none."""
    condition_number: float
    """Largest over smallest eigenvalue; infinite if the smallest is zero to rounding."""
    unseen: tuple[str, ...] = eqx.field(static=True)
    """Combinations that the data do not determine, least determined first, as power products."""

    def combination(self, index: int) -> str:
        """Direction `index` of the spectrum as a power product, its largest exponent one."""
        return _power_product(self.names, self.eigenvectors[:, index])


def fisher_information(
    predict: Callable[[PyTree], Float[Array, " observations"]],
    parameters: PyTree,
    noise_sd: ArrayLike,
    *,
    unseen_above: float = 1.0,
) -> FisherInformation:
    """Fisher information of observations with independent normal errors, F = JᵀJ/noise_sd².

    J is the forward-mode Jacobian of `predict` with respect to the logarithms of `parameters`
    (a tree of positive scalars); `noise_sd` is a number or one an observation. A combination of
    parameters counts as unseen if its logarithm's Cramér–Rao standard error exceeds
    `unseen_above` (the default is a factor of e) or if the predictions do not depend on it at
    all, to rounding. This is local, at `parameters`: a profile likelihood follows the curvature.

    **Raises** `ValueError` for parameters or noise that are not positive, or predictions or
    derivatives that are not finite.

    Source: Seber & Wild, *Nonlinear Regression* (1989), §3.3; Gutenkunst et al. (2007), PLoS
    Computational Biology 3, e189 for the spectrum.
    """
    theta, names = to_logarithms("parameters", parameters), names_of(parameters)
    require_in("noise_sd", noise_sd, 0.0, open_low=True)
    require_in("unseen_above", unseen_above, 0.0, open_low=True)
    jacobian = np.asarray(_jacobian(predict, skeleton(parameters), jnp.asarray(theta)))
    if not np.isfinite(jacobian).all():
        raise ValueError("predict has derivatives that are not finite at parameters.")
    scaled = jacobian / np.broadcast_to(np.asarray(noise_sd, float), len(jacobian))[:, None]
    # Singular values of J rather than eigenvalues of JᵀJ: small ones keep their digits.
    _, singular, directions = np.linalg.svd(scaled, full_matrices=True)
    singular = np.pad(singular, (0, theta.size - singular.size))
    zero = singular <= singular[0] * max(scaled.shape) * np.finfo(jacobian.dtype).eps
    spread = np.where(zero, np.inf, 1.0 / np.where(zero, 1.0, singular))
    weights = directions**2
    # A parameter with a share in an undetermined direction is undetermined.
    share = np.where(weights > 1e-12, weights, 0.0)
    with np.errstate(invalid="ignore"):
        variance = np.nansum(share * spread[:, None] ** 2, axis=0)
    weak = [directions[k] for k in np.argsort(-spread) if unseen_above < spread[k] < np.inf]
    return FisherInformation(
        names=names,
        matrix=scaled.T @ scaled,
        eigenvalues=np.where(zero, 0.0, singular**2),
        eigenvectors=directions.T,
        standard_error=like(parameters, np.sqrt(variance).tolist()),
        condition_number=float("inf") if zero.any() else float((singular[0] / singular[-1]) ** 2),
        unseen=tuple(_power_product(names, v) for v in (*_sparsest(directions[zero]), *weak)),
    )


def local_sensitivity(
    outcome: Callable[[PyTree], Float[Array, "..."]],
    parameters: PyTree,
    *,
    mode: Literal["forward", "adjoint"] = "forward",
) -> PyTree:
    """Derivatives of an outcome with respect to the logarithm of every positive parameter.

    **Returns** a tree like `parameters`, each leaf of the outcome's shape: by how much it changes
    per relative change of that parameter. `forward` costs one simulation a parameter, `adjoint`
    one backward pass an outcome; they agree to rounding where the solver allows both.

    **Raises** `ValueError` for parameters that are not positive or an unknown mode.
    """
    theta = to_logarithms("parameters", parameters)
    if mode not in ("forward", "adjoint"):
        raise ValueError(f"unknown mode {mode!r}; choose forward or adjoint.")
    derivative = jax.jacfwd if mode == "forward" else jax.jacrev
    jacobian = derivative(in_logarithms(outcome, parameters))(jnp.asarray(theta))
    return like(parameters, jnp.moveaxis(jacobian, -1, 0))


@eqx.filter_jit
def _jacobian(predict, structure, theta):
    return jax.jacfwd(in_logarithms(predict, structure))(theta)


def _sparsest(basis: Float[np.ndarray, "rows parameters"]) -> Float[np.ndarray, "rows parameters"]:
    """The same space with zeros where they can be (reduced row echelon form).

    Directions of one eigenvalue may be rotated into one another at will; these are readable.
    """
    basis = basis.copy()
    for row in range(len(basis)):
        rest = np.abs(basis[row:])
        pivot_row, column = np.unravel_index(np.argmax(rest), rest.shape)
        basis[[row, row + pivot_row]] = basis[[row + pivot_row, row]]
        basis[row] /= basis[row, column]
        others = np.arange(len(basis)) != row
        basis[others] -= np.outer(basis[others, column], basis[row])
    return basis


def _power_product(names: tuple[str, ...], direction: Float[np.ndarray, " parameters"]) -> str:
    size = np.abs(direction)
    powers = direction / direction[np.argmax(size > 0.999 * size.max())]
    return " · ".join(
        name if np.isclose(power, 1.0, atol=5e-3) else f"{name}^{power:.2f}"
        for name, power in zip(names, powers, strict=True)
        if abs(power) >= _PRINTED
    )
