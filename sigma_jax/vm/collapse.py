"""When a trajectory has collapsed, how near it is, and where a collapsed state goes.

A collapse is a discrete event. Nothing here is differentiated: what a decision is made of is cut
from the gradient (`stop_gradient`), which eigenvectors at repeated eigenvalues do not have.
"""

import dataclasses
import enum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._check import require_in, require_number


class Outcome(enum.IntEnum):
    """Where `project_to_attractor` has put the state."""

    NULL = 0
    """The Jacobian has no near-null mode: the zero state."""
    ATTRACTOR = 1
    """The near-null eigenspace, in which the drift does not move the state."""


class CollapseThresholds(eqx.Module):
    """Below which a trajectory counts as collapsed: all four signs have to be.

    **Raises** `ValueError`, naming the field, for a threshold out of its range.
    """

    gradient: float = 1e-2
    """‖∂L/∂x‖, in units of the stage cost over those of the state."""
    rank_tolerance: float = 1e-2
    """A singular value of the Jacobian counts above this share of the largest; in (0, 1]."""
    rank_share: float = 0.5
    """Effective rank over dimension; in (0, 1]."""
    spread: float = 5e-2
    """Standard deviation over mean of the covariance's eigenvalues; in (0, 0.5]. Excitation lifts
    the spread above this very number, and can do so in every d ≥ 2 up to 0.5."""
    control_gradient: float = 1e-2
    """‖∂L/∂u‖, in units of the stage cost over those of the control."""
    null: float = 1e-2
    """An eigenvalue of sym A is near-null below this in absolute value; per unit of time."""

    def __check_init__(self):
        upper = {"rank_tolerance": 1.0, "rank_share": 1.0, "spread": 0.5}
        for field in dataclasses.fields(self):
            value, high = getattr(self, field.name), upper.get(field.name, jnp.inf)
            require_in(f"thresholds.{field.name}", value, 0.0, high, open_low=True)


class CheapSigns(eqx.Module):
    """The three signs that need no matrix decomposition. If they do not `hold`, nothing fires."""

    gradient: Float[Array, ""]
    spread: Float[Array, ""]
    control_gradient: Float[Array, ""]
    hold: Bool[Array, ""]


class CollapseSigns(eqx.Module):
    """The four signs of a collapse, how near it is, and whether it is there."""

    gradient: Float[Array, ""]
    rank: Int[Array, ""]
    """Effective rank of the Jacobian; −1 where it was not needed (`quiet_signs`)."""
    spread: Float[Array, ""]
    control_gradient: Float[Array, ""]
    proximity: Float[Array, ""]
    """The smallest of the four max(0, 1 − value/threshold), in [0, 1]. It is positive exactly when
    all four signs hold, so it grades a collapse and gives no warning before one."""
    triggered: Bool[Array, ""]


class Modes(eqx.Module):
    """Eigenpairs of the symmetric part of a Jacobian, by rising |rate|."""

    rates: Float[Array, " d"]
    """Eigenvalues of (A + Aᵀ)/2, per unit of time."""
    vectors: Float[Array, "d d"]
    """Orthonormal eigenvectors, a column each; where rates are equal their choice is arbitrary."""

    def projector(self, chosen: Bool[Array, " d"]) -> Float[Array, "d d"]:
        """The orthogonal projector on the span of the chosen modes, exactly symmetric."""
        columns = jnp.where(chosen, self.vectors, 0.0)
        # Not in a GPU's shortened float32: the excitation floor relies on a true projector.
        product = jnp.matmul(columns, columns.T, precision=jax.lax.Precision.HIGHEST)
        return 0.5 * (product + product.T)


def relative_spread(covariance: Float[Array, "d d"]) -> Float[Array, ""]:
    """Standard deviation over mean of the eigenvalues of Σ: ‖Σ/μ − I‖_F/√d with μ = tr Σ/d.

    No eigen-decomposition, and no difference of large squares, so small spreads keep their digits.
    0 for d = 1; infinite for a trace that is not positive (no covariance).

    **Raises** `ValueError` for a matrix that is not square or holds NaN.
    """
    require_square("covariance", covariance)
    covariance = jax.lax.stop_gradient(covariance)
    dim = covariance.shape[0]
    mean = jnp.trace(covariance) / dim
    scaled = covariance / jnp.where(mean > 0, mean, 1.0) - jnp.eye(dim, dtype=covariance.dtype)
    return jnp.where(mean > 0, jnp.sqrt(jnp.sum(scaled**2) / dim), jnp.inf)


def effective_rank(jacobian: Float[Array, "d d"], tolerance: float = 1e-2) -> Int[Array, ""]:
    """How many singular values lie above `tolerance` of the largest; 0 for the zero matrix.

    A Jacobian with NaN has full rank here, so that a run that diverges never counts as collapsed.

    **Raises** `ValueError` for a matrix that is not square or holds NaN (where that can be seen).
    """
    require_square("jacobian", jacobian)
    # Not the default algorithm, whose batched call on CPUs waits for threads of the pool that it
    # may itself be run by: on two devices at once that hangs for ever (JAX 0.9.2).
    singular = jax.lax.linalg.svd(
        jax.lax.stop_gradient(jacobian),
        compute_uv=False,
        algorithm=jax.lax.linalg.SvdAlgorithm.QR,
    )
    return jnp.sum(~(singular <= tolerance * singular[0]), dtype=jnp.int32)


def symmetric_modes(jacobian: Float[Array, "d d"]) -> Modes:
    """Eigenpairs of (A + Aᵀ)/2, the smallest |rate| first: the one dear step of every operator.

    **Raises** `ValueError` for a matrix that is not square or holds NaN (where that can be seen).
    """
    require_square("jacobian", jacobian)
    jacobian = jax.lax.stop_gradient(jacobian)
    rates, vectors = jnp.linalg.eigh(0.5 * (jacobian + jacobian.T), symmetrize_input=False)
    order = jnp.argsort(jnp.abs(rates))
    return Modes(rates[order], vectors[:, order])


def cheap_signs(
    covariance: Float[Array, "d d"],
    cost_gradient_x: Float[Array, " d"],
    cost_gradient_u: Float[Array, " m"],
    thresholds: CollapseThresholds = CollapseThresholds(),
) -> CheapSigns:
    """‖∂L/∂x‖, the spread of Σ and ‖∂L/∂u‖, and whether all three lie below their thresholds.

    Costs O(d²). Only where some trajectory's `hold` is true does `collapse_signs` have to be asked
    (a `jax.lax.cond` on `jnp.any(hold)`, outside `vmap`); `quiet_signs` says the rest.

    **Raises** `ValueError` for a covariance that is not square.
    """
    gradient = jnp.linalg.norm(jax.lax.stop_gradient(cost_gradient_x))
    control_gradient = jnp.linalg.norm(jax.lax.stop_gradient(cost_gradient_u))
    spread = relative_spread(covariance)
    hold = (
        (gradient < thresholds.gradient)
        & (spread < thresholds.spread)
        & (control_gradient < thresholds.control_gradient)
    )
    return CheapSigns(gradient, spread, control_gradient, hold)


def quiet_signs(cheap: CheapSigns) -> CollapseSigns:
    """All signs where the cheap ones do not hold: no collapse, proximity 0, rank not asked for."""
    return CollapseSigns(
        gradient=cheap.gradient,
        rank=jnp.full_like(cheap.hold, -1, dtype=jnp.int32),
        spread=cheap.spread,
        control_gradient=cheap.control_gradient,
        proximity=jnp.zeros_like(cheap.spread),
        triggered=jnp.zeros_like(cheap.hold),
    )


def collapse_signs(
    cheap: CheapSigns,
    jacobian: Float[Array, "d d"],
    thresholds: CollapseThresholds = CollapseThresholds(),
) -> CollapseSigns:
    """All four signs, from the cheap ones and the singular values of the Jacobian.

    As the rank is relative and must stay below half of d, a non-zero Jacobian never fires for
    d ≤ 2.

    **Raises** `ValueError` for a Jacobian that is not square or holds NaN (where that is seen).
    """
    rank = effective_rank(jacobian, thresholds.rank_tolerance)
    share = rank.astype(cheap.spread.dtype) / jacobian.shape[0]
    terms = (
        1.0 - cheap.gradient / thresholds.gradient,
        1.0 - share / thresholds.rank_share,
        1.0 - cheap.spread / thresholds.spread,
        1.0 - cheap.control_gradient / thresholds.control_gradient,
    )
    smallest = jnp.min(jnp.stack(terms))
    triggered = cheap.hold & (share < thresholds.rank_share)
    return CollapseSigns(
        gradient=cheap.gradient,
        rank=rank,
        spread=cheap.spread,
        control_gradient=cheap.control_gradient,
        # Where nothing fires the terms may be −∞ or NaN (a run that diverges): proximity is 0.
        proximity=jnp.where(triggered, jnp.maximum(smallest, 0.0), 0.0),
        triggered=triggered,
    )


def project_to_attractor(
    x: Float[Array, " d"], modes: Modes, thresholds: CollapseThresholds = CollapseThresholds()
) -> tuple[Float[Array, " d"], Int[Array, ""]]:
    """`x` projected on the near-null modes, and an `Outcome`: zero and NULL if there are none.

    Linear in `x` and differentiable in it; the choice of the modes is not differentiated.

    **Raises** `ValueError` for a state that does not fit the modes.
    """
    require_shape("x", x, modes.rates.shape)
    near_null = jnp.abs(modes.rates) < thresholds.null
    outcome = jnp.where(near_null.any(), int(Outcome.ATTRACTOR), int(Outcome.NULL))
    return modes.projector(near_null) @ x, outcome.astype(jnp.int32)


def require_square(name: str, matrix: Float[Array, "d d"]) -> None:
    """Raise ValueError naming `name` unless it is a square matrix of at least 1 × 1, without NaN.

    Values are looked at only outside compiled code.
    """
    shape = jnp.shape(matrix)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix of one trajectory; got shape {shape}.")
    require_number(name, matrix)


def require_shape(name: str, value: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError naming `name` unless it has this shape and holds no NaN.

    Values are looked at only outside compiled code.
    """
    if jnp.shape(value) != shape:
        raise ValueError(f"{name} must have shape {shape}; got {jnp.shape(value)}.")
    require_number(name, value)
