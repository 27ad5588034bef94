"""Covariances under their Riccati equation: explicit steps that stay positive definite."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._check import concrete, require_number

FLOOR = 0.1
"""The part of a step's noise h Q that `riccati_step` never goes below."""
BOUNDED_FROM = 32
"""From this dimension on, `riccati_step` tries a bound before the product that it is a bound of."""


class Observation(eqx.Module):
    """What is observed of a state x: y = C x + noise of covariance R a unit of time.

    **Arguments:** `matrix` is C, `[p, d]`, or None for the state itself (C = I); `covariance` is
    R, `[p, p]`, or a positive number r for R = r I.

    **Raises** `ValueError` for an R that is not symmetric positive definite, or does not fit C.
    """

    matrix: Float[Array, "p d"] | None = None
    covariance: Float[Array, "p p"] | ArrayLike = 1.0

    def __check_init__(self):
        if self.matrix is not None:
            require_number("matrix", self.matrix)
            if np.ndim(self.matrix) != 2:
                raise ValueError(
                    f"matrix must be [p, d], one row an observation; got shape "
                    f"{np.shape(self.matrix)}."
                )
            entries = concrete(self.matrix)
            if entries is not None and not np.isfinite(entries).all():
                raise ValueError("matrix must be finite.")
        require_number("covariance", self.covariance)
        noise = concrete(self.covariance)
        if noise is None:
            return
        if noise.ndim == 0:
            if not noise > 0:
                raise ValueError(f"covariance must be positive; got {noise}.")
            return
        if noise.ndim != 2:
            raise ValueError(
                f"covariance must be a positive number or [p, p]; got shape {noise.shape}."
            )
        require_covariance("covariance", self.covariance)
        if self.matrix is not None and np.shape(self.matrix)[0] != noise.shape[-1]:
            raise ValueError(
                f"covariance is {noise.shape}, but matrix has {np.shape(self.matrix)[0]} rows."
            )

    def observe(self, x: Float[Array, " d"]) -> Float[Array, " p"]:
        """C x."""
        return x if self.matrix is None else self.matrix @ x

    def information(self) -> Float[Array, "d d"] | Float[Array, ""]:
        """Cᵀ R⁻¹ C; the number 1/r, which stands for I/r, if C = I and R = r I."""
        noise = jnp.asarray(self.covariance)
        if noise.ndim == 0:
            if self.matrix is None:
                return 1.0 / noise
            return self.matrix.T @ self.matrix / noise
        matrix = jnp.eye(noise.shape[0]) if self.matrix is None else jnp.asarray(self.matrix)
        matrix = matrix.astype(noise.dtype)
        factor = jnp.linalg.cholesky(noise)
        whitened = jax.scipy.linalg.solve_triangular(factor, matrix, lower=True)
        return whitened.T @ whitened


def require_covariance(name: str, value: ArrayLike) -> None:
    """Raise ValueError naming `name` unless `value` `[..., d, d]` is symmetric positive definite.

    Symmetric to within the rounding of its type.
    """
    require_number(name, value)
    matrix = concrete(value)
    if matrix is None:
        return
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"{name} must be square, [..., d, d]; got shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} must be finite.")
    scale = np.abs(matrix).max(initial=0.0)
    precision = float(np.finfo(matrix.dtype).eps) if matrix.dtype.kind == "f" else 0.0
    excess = np.abs(matrix - np.swapaxes(matrix, -1, -2)).max(initial=0.0)
    if excess > 100.0 * precision * scale:
        raise ValueError(
            f"{name} must be symmetric; it differs from its transpose by {excess:.3g}."
        )
    smallest = np.linalg.eigvalsh(matrix).min(initial=np.inf)
    if not smallest > 0:
        raise ValueError(
            f"{name} must be positive definite; its smallest eigenvalue is {smallest:.3g}."
        )


def riccati_field(
    covariance: Float[Array, "d d"],
    jacobian: Float[Array, "d d"],
    noise: Float[Array, " d"],
    information: Float[Array, "d d"] | Float[Array, ""],
) -> Float[Array, "d d"]:
    """dΣ/dt = A Σ + Σ Aᵀ + Q − Σ S Σ, with Q = diag(noise) and S = Cᵀ R⁻¹ C (`information`).

    Source: the Kalman–Bucy filter; Kalman & Bucy (1961), Journal of Basic Engineering 83, eq. 26.
    """
    spread = matmul(jacobian, covariance)
    reduction = matmul(_weighted(covariance, information), covariance)
    return spread + spread.T + jnp.diag(noise) - reduction


def riccati_step(
    covariance: Float[Array, "d d"],
    jacobian: Float[Array, "d d"],
    noise: Float[Array, " d"],
    information: Float[Array, "d d"] | Float[Array, ""],
    h: ArrayLike,
) -> Float[Array, "d d"]:
    """The covariance after a step of length `h` of `riccati_field`: order 1, positive definite.

    It is Σ + h Σ̇ + (1 − θ) Δ: Euler's step, and the smallest part of a lift Δ with which the step
    is provably positive definite. For any gain K = α Σ S, the filter's update in Joseph's form

        (I + h B) Σ (I + h B)ᵀ + h Q + h α² Σ S Σ,   B = A − K,

    is a sum of squares, whatever h is; it exceeds Euler's step by Δ = h² B Σ Bᵀ + h (1 − α)² Σ S Σ.
    Taking θ Δ away again leaves Σ₊ ≥ h Q / 10 as long as no row sum of θ |Δ| exceeds the other nine
    tenths of h Q there (Gershgorin). Where that bound is too coarse for θ = 1, a Cholesky
    factorisation of Euler's step less h Q / 10 decides whether it may be taken all the same. So in
    ordinary use θ = 1, and a stationary covariance solves the algebraic Riccati equation itself,
    not one that is off by O(h). α = 1 / (1 + h ‖Σ S‖) keeps the update bounded when the covariance
    is so wide that h Σ S is not small.

    Two products of matrices where the row sums of the factors of Δ are small, three else, and one
    more if `information` is a matrix. It can be differentiated. The
    stability limit of h is that of Euler's method for dx/dt = A x.

    **Arguments:** as `riccati_field`; `noise` not negative, `h` positive. If a component has no
    noise, the step is positive definite as long as I + h B is regular.
    """
    h = jnp.asarray(h, covariance.dtype)
    weighted = _weighted(covariance, information)
    # With a transpose, so that it is symmetric even where rounding has left Σ not quite so.
    reduction = matmul(weighted, covariance.T)
    # ‖Σ S‖ by Frobenius: at least the largest eigenvalue.
    squared = jnp.sum(weighted**2)
    # Where nothing is observed, the root would have no slope.
    norm = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    gain = jnp.where(squared > 0, 1.0 / (1.0 + h * norm), 1.0)
    flow = h * (matmul(jacobian, covariance) - gain * reduction)
    closed = h * (jacobian - gain * weighted)
    # Half the covariance goes with the flow, where the transpose takes away what rounding left
    # unsymmetric: it would grow otherwise.
    half = 0.5 * covariance + flow
    noise = jnp.diag(h * noise)
    euler = half + half.T + h * (2.0 * gain - 1.0) * reduction + noise

    def lifted():
        square = matmul(flow, closed.T)
        lift = square + h * (1.0 - gain) ** 2 * reduction
        share = _share_without_lift(lift, (1.0 - FLOOR) * jnp.diag(noise))
        share = jnp.where(_certified(share < 1.0, euler - FLOOR * noise), 1.0, share)
        # Collected by matrix, so that large terms of opposite signs do not meet in rounding.
        observed = h * (gain**2 - share * (1.0 - gain) ** 2) * reduction
        return half + half.T + (1.0 - share) * square + observed + noise

    if covariance.shape[0] < BOUNDED_FROM:
        return lifted()
    # ‖X Y‖ ≤ ‖X‖ ‖Y‖ row by row: where that is small enough, the product need not be known.
    rows = jnp.sum(jnp.abs(flow), axis=1) * jnp.max(jnp.sum(jnp.abs(closed), axis=0))
    rows = rows + h * (1.0 - gain) ** 2 * jnp.sum(jnp.abs(reduction), axis=1)
    small = jnp.all(rows <= (1.0 - FLOOR) * jnp.diag(noise))
    return jax.lax.cond(jax.lax.stop_gradient(small), lambda: euler, lifted)


def _share_without_lift(lift, allowed):
    """The largest θ ≤ 1 such that no row sum of θ |lift| exceeds what is allowed in that row."""
    rows = jnp.sum(jnp.abs(lift), axis=1)
    shares: Any = jnp.where(rows > 0, allowed / jnp.where(rows > 0, rows, 1.0), 1.0)
    return jnp.minimum(1.0, jnp.min(shares))


def _certified(needed, matrix):
    """Whether `matrix` is positive definite; not asked, and False, unless that is needed."""
    return _if_needed(*jax.lax.stop_gradient((needed, matrix)))


# A conditional under `vmap` would factorise for everyone; this one asks whether anyone needs it.
@jax.custom_batching.custom_vmap
def _if_needed(needed, matrix):
    return jax.lax.cond(
        needed, _positive_definite, lambda matrix: jnp.zeros(matrix.shape[:-2], bool), matrix
    )


@_if_needed.def_vmap
def _if_anyone_needs(size, batched, needed, matrix):
    needed_by, matrices = (
        value if has_axis else jnp.broadcast_to(value, (size, *value.shape))
        for value, has_axis in zip((needed, matrix), batched, strict=True)
    )
    return needed_by & _if_needed(jnp.any(needed_by), matrices), True


def _positive_definite(matrix):
    factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    return jnp.all(jnp.isfinite(factor), axis=(-2, -1))


def _weighted(covariance, information):
    """Σ S."""
    information = jnp.asarray(information)
    return covariance * information if information.ndim == 0 else matmul(covariance, information)


def matmul(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """A matrix product; for at most eight terms an entry, as multiplications and sums.

    A call of the library's product costs more than all the work in one that small, and a batch of
    them many calls: written out, the compiler fuses and vectorises the batch.
    """
    if a.shape[1] > 8:
        return a @ b
    return jnp.sum(a[:, :, None] * b[None, :, :], axis=1)
