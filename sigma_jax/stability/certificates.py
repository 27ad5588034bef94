"""What one Jacobian proves about the linear flow e^{tA}, round-off allowed for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import concrete, require_in, require_number
from .lyapunov import frobenius, lyapunov_proof, symmetric_range
from .resolvent import kreiss_lower_bound, singular_values
from .spectral_split import Dichotomy, split_at

NULL_THRESHOLD = 1e-2
"""Eigenvalues of sym A below this modulus are null modes; the others are active."""

CROUZEIX_PALENCIA = 1.0 + 2.0**0.5
"""‖f(A)‖₂ ≤ (1 + √2) max |f| over the numerical range of A, for every f analytic there."""


class Certificate(eqx.Module):
    """What `certify` found of one matrix A; local, at one state, never a promise about the drift.

    A gate that is True is proven, in floating point too; False only means not proven. Every bound
    that cannot be given is infinite. Rates are per unit of time.
    """

    numerical_abscissa: Float[Array, ""]
    """At least ω = λ_max(sym A), and ω but for round-off: ‖e^{tA}‖₂ ≤ e^{ωt}, whatever its sign."""
    numerical_range_gate: Bool[Array, ""]
    """ω < −margin: every trajectory's norm falls at every instant."""
    spectral_abscissa: Float[Array, ""]
    """max Re λ(A) as computed: no bound, as eigenvalues of non-normal matrices are uncertain."""
    lyapunov_gate: Bool[Array, ""]
    """max Re λ(A) < −margin, proven by a P ≻ 0 with AᵀP + PA ≺ 0 and not by eigenvalues."""
    lyapunov_condition: Float[Array, ""]
    """At least cond P: ‖e^{tA}‖₂ ≤ √cond P · e^{−rate·t}, the transient at most √cond P."""
    lyapunov_rate: Float[Array, ""]
    """margin + 1/(2 λ_max(P)) but for round-off; zero without the gate."""
    lyapunov_residual: Float[Array, ""]
    """At least ‖AᵀP + PA + I‖_F, A shifted by the margin; the gate needs it below one."""
    envelope_conditions: Float[Array, " shifts"]
    """cond P as above for A shifted by the margin, and by half and nine tenths of −max Re λ(A): a
    larger shift proves a faster decay after a larger transient. Infinite where nothing is."""
    envelope_rates: Float[Array, " shifts"]
    """The rates that go with them."""
    small_gain_bound: Float[Array, ""]
    """λ_max over the active modes of sym A, plus ‖A − sym A‖₂. Every eigenvalue of A is this near
    one of sym A, so it bounds those near active modes and says nothing of null ones: no bound of
    e^{tA} follows unless the null dimension is zero, and ω is then as good. Infinite if no mode is
    active."""
    small_gain_gate: Bool[Array, ""]
    """The small-gain bound is below −margin."""
    null_dimension: Int[Array, ""]
    """Number of eigenvalues of sym A with modulus below `NULL_THRESHOLD`."""
    pseudospectral_bound: Float[Array, ""]
    """ω + perturbation, at least max Re λ(A + E) for every ‖E‖₂ ≤ perturbation."""
    pseudospectral_gate: Bool[Array, ""]
    """The pseudospectral bound is below −margin: no such E moves an eigenvalue beyond."""
    kreiss_constant: Float[Array, ""]
    """A sampled lower bound of sup over Re z > 0 of Re z ‖(zI − A)⁻¹‖₂, itself a lower bound of the
    largest ‖e^{tA}‖₂; at least one. See `certify` for when it is exact or without meaning."""
    crouzeix_palencia_gate: Bool[Array, ""]
    """ω ≤ 0: the numerical range lies left of the axis, so ‖f(A)‖₂ ≤ `CROUZEIX_PALENCIA` · max |f|
    there. For f = e^{tz} that is 1 + √2, weaker than e^{ωt} ≤ 1; it is of use for other f, such as
    the amplification factor of a time step."""
    dichotomy: Dichotomy


def certify(
    jacobian: Float[ArrayLike, "d d"],
    *,
    margin: float = 0.0,
    perturbation: float = 1e-2,
    gap: float = NULL_THRESHOLD,
    kreiss_points: int = 12,
) -> Certificate:
    """Certify the linear flow of one matrix; see `Certificate` for what each part says.

    `margin` (≥ 0) is how far left of zero the gates ask for, `perturbation` (≥ 0) the norm of the
    pseudospectral bound, `gap` (≥ 0) where `Dichotomy` splits. `kreiss_points` (static) is how many
    real and how many imaginary parts the Kreiss constant is sampled at, 0 for the trivial bound
    one: it costs 2 `kreiss_points`² singular value decompositions, most of the time. The sampled
    value is exactly one where ω ≤ 0, and has no meaning if an eigenvalue lies right of the axis.

    Jit and vmap it as you like: the Lyapunov equation and the dichotomy are solved by inverses and
    products. No gradient flows through it, since eigenvalues have none where they meet.

    Round-off: eigenvalues of symmetric matrices are moved outward by 4 d ε times the norm, the
    Lyapunov residual is enlarged by a bound of its own rounding, and P is judged by that residual,
    so an inaccurate solution proves less and never too much. ε is that of the matrix's precision.

    **Raises** `ValueError` for what is not a finite, real square matrix, or a negative option. In
    compiled code a matrix that is not finite passes no gate, and its bounds are infinite.

    Source: Trefethen & Embree (2005), Spectra and Pseudospectra, §§14–17 (numerical abscissa,
    Kreiss); Crouzeix & Palencia (2017), SIAM J. Matrix Anal. Appl. 38(2), 649–655; Horn & Johnson
    (1991), Topics in Matrix Analysis, §2.2 (Lyapunov); Bauer & Fike (1960), Numer. Math. 2,
    137–141 (small gain).
    """
    matrix = checked_jacobian(jacobian)
    for name, value in (("margin", margin), ("perturbation", perturbation), ("gap", gap)):
        require_in(name, value, 0.0)
    if not isinstance(kreiss_points, int) or kreiss_points < 0:
        raise ValueError(f"kreiss_points must be an int of at least 0; got {kreiss_points!r}.")
    dtype = matrix.dtype
    return _certify(
        matrix,
        jnp.asarray(margin, dtype),
        jnp.asarray(perturbation, dtype),
        jnp.asarray(gap, dtype),
        kreiss_points,
    )


@eqx.filter_jit
def _certify(
    matrix: Float[Array, "d d"],
    margin: Float[Array, ""],
    perturbation: Float[Array, ""],
    gap: Float[Array, ""],
    kreiss_points: int,
) -> Certificate:
    matrix = jax.lax.stop_gradient(matrix)
    eps = float(jnp.finfo(matrix.dtype).eps)
    finite = jnp.all(jnp.isfinite(matrix))
    matrix = jnp.where(finite, matrix, 0.0)  # what follows is thrown away if not finite

    def bound(value: Array) -> Array:
        return jnp.where(finite & ~jnp.isnan(value), value, jnp.inf)

    # Lower precision in products, as accelerators use by default, would void the error bounds.
    with jax.default_matmul_precision("highest"):
        symmetric, skew = 0.5 * (matrix + matrix.T), 0.5 * (matrix - matrix.T)
        _, abscissa = symmetric_range(symmetric)
        small_gain, null_dimension = _small_gain(symmetric, skew)
        pseudospectral = abscissa + perturbation
        pseudospectral = pseudospectral + eps * jnp.abs(pseudospectral)
        eigenvalues: Array = jnp.linalg.eigvals(matrix)
        spectral = jnp.max(jnp.real(eigenvalues))
        away = jnp.maximum(-spectral, 0.0)
        shifts = jnp.stack([margin, 0.5 * away, 0.9 * away])
        proofs = jax.vmap(lyapunov_proof, in_axes=(None, 0))(matrix, shifts)
        kreiss = kreiss_lower_bound(matrix, kreiss_points)
        dichotomy = split_at(matrix, eigenvalues, gap)
    return Certificate(
        numerical_abscissa=bound(abscissa),
        numerical_range_gate=finite & (abscissa < -margin),
        spectral_abscissa=bound(spectral),
        lyapunov_gate=finite & proofs.holds[0],
        lyapunov_condition=bound(proofs.condition[0]),
        lyapunov_rate=jnp.where(finite, proofs.rate[0], 0.0),
        lyapunov_residual=bound(proofs.residual[0]),
        envelope_conditions=bound(proofs.condition),
        envelope_rates=jnp.where(finite, proofs.rate, 0.0),
        small_gain_bound=bound(small_gain),
        small_gain_gate=finite & (small_gain < -margin),
        null_dimension=jnp.where(finite, null_dimension, 0),
        pseudospectral_bound=bound(pseudospectral),
        pseudospectral_gate=finite & (pseudospectral < -margin),
        kreiss_constant=bound(kreiss),
        crouzeix_palencia_gate=finite & (abscissa <= 0.0),
        dichotomy=_refuse_unless(finite, dichotomy),
    )


def _small_gain(
    symmetric: Float[Array, "d d"], skew: Float[Array, "d d"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The bound, infinite without an active mode, and the number of null modes."""
    modes: Array = jnp.linalg.eigvalsh(symmetric)
    coupling = singular_values(skew)[0]
    active = jnp.abs(modes) >= NULL_THRESHOLD
    largest = jnp.max(jnp.where(active, modes, -jnp.inf))
    round_off = 4.0 * modes.size * float(jnp.finfo(modes.dtype).eps)
    slack = round_off * (frobenius(symmetric) + frobenius(skew))
    bound = jnp.where(active.any(), largest + coupling + slack, jnp.inf)
    return bound, jnp.sum(~active)


def _refuse_unless(finite: Bool[Array, ""], dichotomy: Dichotomy) -> Dichotomy:
    """Undecided, for a matrix that is not finite."""
    refused = Dichotomy(
        outcome=jnp.full_like(dichotomy.outcome, Dichotomy.UNDECIDED),
        slow_dimension=jnp.full_like(dichotomy.slow_dimension, -1),
        slow_abscissa=jnp.full_like(dichotomy.slow_abscissa, jnp.inf),
        active_abscissa=jnp.full_like(dichotomy.active_abscissa, jnp.inf),
        slow_projector=jnp.zeros_like(dichotomy.slow_projector),
        residual=jnp.full_like(dichotomy.residual, jnp.inf),
    )
    return jax.tree.map(lambda kept, other: jnp.where(finite, kept, other), dichotomy, refused)


def envelope(certificate: Certificate, t: Float[ArrayLike, "*times"]) -> Float[Array, "*times"]:
    """The smallest proven upper bound of ‖e^{tA}‖₂ at times `t` ≥ 0, for one certificate.

    The numerical range gives e^{ωt} for any A; the Lyapunov gate, where it holds, √cond P e^{−rate
    t}. The other quantities bound no exponential better: see `Certificate`. Rounded upward, and
    never below the smallest normal number; infinite for a matrix that was not finite.

    **Raises** `ValueError` for a time that is negative or NaN (infinite bounds in compiled code).
    """
    require_in("t", t, 0.0)
    dtype = certificate.numerical_abscissa.dtype
    t = jnp.asarray(t, dtype)[..., None]
    # The numerical range is one more bound: of condition one, decaying at the rate −ω.
    rates = jnp.append(certificate.envelope_rates, -certificate.numerical_abscissa)
    conditions = jnp.append(certificate.envelope_conditions, jnp.ones((), dtype))
    above = jnp.sqrt(conditions) * _exponential_above(-rates * t)
    least = jnp.min(jnp.where(jnp.isnan(above), jnp.inf, above), axis=-1)
    return jnp.where(t[..., 0] >= 0.0, least, jnp.inf)


def _exponential_above(exponent):
    """At least e^x for the exact product x that `exponent` is the rounded value of."""
    tiny, eps = (float(getattr(jnp.finfo(exponent.dtype), name)) for name in ("tiny", "eps"))
    above = exponent * (1.0 + 4.0 * eps * jnp.sign(exponent))
    return jnp.maximum(jnp.exp(above) * (1.0 + 8.0 * eps), tiny)


def checked_jacobian(jacobian: ArrayLike) -> Float[Array, "d d"]:
    """The Jacobian as a floating-point array, refused if it is no finite square matrix."""
    require_number("jacobian", jacobian)
    shape = np.shape(jacobian)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"jacobian must be a square matrix [d, d], d ≥ 1; got shape {shape}.")
    array = concrete(jacobian)
    if array is not None and not np.isfinite(array).all():
        raise ValueError("jacobian must be finite; got infinite entries.")
    matrix = jnp.asarray(jacobian)
    return matrix if jnp.issubdtype(matrix.dtype, jnp.floating) else matrix.astype(float)
