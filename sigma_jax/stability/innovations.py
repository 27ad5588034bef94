"""How surprising an observation is to the model that predicted it."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy import stats

from .._check import concrete, require_in, require_number


def normalised_innovation(
    innovation: Float[ArrayLike, " p"], covariance: Float[ArrayLike, "p p"] | Float[ArrayLike, " p"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The normalised innovation squared νᵀS⁻¹ν and the surprise ½(νᵀS⁻¹ν + ln det 2πS).

    `innovation` is ν, observation minus prediction; `covariance` is S, full or its diagonal. Of
    data that the model describes, the first is χ² with p degrees of freedom, and the second, minus
    the log-density of ν, is in nats. A full S is factorised (Cholesky), a diagonal one divided by.

    In compiled code both are infinite, which flags, where S is not positive definite or anything is
    not finite; their gradients are then zero.

    **Raises** `ValueError` for shapes that do not match, entries that are not finite, and an S that
    is not positive definite.

    Source: Bar-Shalom, Li & Kirubarajan (2001), Estimation with Applications to Tracking and
    Navigation, §5.4.
    """
    require_number("innovation", innovation)
    require_number("covariance", covariance)
    shape = np.shape(innovation)
    if len(shape) != 1 or shape == (0,) or np.shape(covariance) not in (shape, shape * 2):
        raise ValueError(
            "innovation must be [p], p ≥ 1, and covariance [p, p] or its diagonal [p]; got shapes "
            f"{shape} and {np.shape(covariance)}."
        )
    nu, s = _floating(innovation), _floating(covariance)
    usable = jnp.all(jnp.isfinite(nu)) & jnp.all(jnp.isfinite(s))
    if s.ndim == 1:
        usable = usable & jnp.all(s > 0.0)
    else:
        usable = usable & jnp.all(jnp.isfinite(jnp.linalg.cholesky(jax.lax.stop_gradient(s))))
    # Replaced before use, not after: a branch not taken must not send NaN into the gradient.
    unit = jnp.ones_like(s) if s.ndim == 1 else jnp.eye(*shape, dtype=s.dtype)
    nu, s = jnp.where(usable, nu, 0.0), jnp.where(usable, s, unit)
    if s.ndim == 1:
        nis, log_det = jnp.sum(nu * nu / s), jnp.sum(jnp.log(s))
    else:
        factor = jnp.linalg.cholesky(s)
        whitened = jax.scipy.linalg.solve_triangular(factor, nu, lower=True)
        nis, log_det = whitened @ whitened, 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    known = concrete(usable)
    if known is not None and not known:
        raise ValueError(
            "innovation must be finite and covariance finite and positive definite; got "
            f"{innovation} and {covariance}."
        )
    surprise: Array = 0.5 * (nis + log_det + shape[0] * float(np.log(2.0 * np.pi)))
    return jnp.where(usable, nis, jnp.inf), jnp.where(usable, surprise, jnp.inf)


def surprise_threshold(dim: int, *, k: float = 3.0) -> float:
    """The mean of χ² with `dim` degrees of freedom plus `k` standard deviations: dim + k√(2 dim).

    χ² is skewed, so consistent data exceeds it more often than a normal variable would: see
    `nominal_rate` (for k = 3, 2.2 % for one dimension and 0.34 % for 100, not the normal 0.13 %).

    **Raises** `ValueError` for a dimension below one or a negative `k`.
    """
    _require_dimension(dim)
    require_in("k", k, 0.0)
    return float(dim + k * np.sqrt(2.0 * dim))


def chi_squared_threshold(dim: int, rate: float) -> float:
    """The value that χ² with `dim` degrees of freedom exceeds with probability `rate`.

    A monitor with this threshold flags consistent data at exactly that rate a step: `rate` is the
    upper tail (0.001), not the level (0.999).

    **Raises** `ValueError` for a dimension below one or a rate outside (0, 1].
    """
    _require_dimension(dim)
    require_in("rate", rate, 0.0, 1.0, open_low=True)
    return float(stats.chi2.isf(rate, dim))


def nominal_rate(dim: int, threshold: float) -> float:
    """How often NIS of consistent data exceeds `threshold`: the upper tail of χ², in [0, 1].

    **Raises** `ValueError` for a dimension below one or a negative threshold.
    """
    _require_dimension(dim)
    require_in("threshold", threshold, 0.0)
    return float(stats.chi2.sf(threshold, dim))


def _floating(value: ArrayLike) -> Array:
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _require_dimension(dim: int) -> None:
    if not isinstance(dim, int | np.integer) or isinstance(dim, bool) or dim < 1:
        raise ValueError(f"dim must be an int of at least 1; got {dim!r}.")
