"""Anti-collapse: a kick along the modes that the drift leaves alone, and a floor under Σ."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from .collapse import CollapseThresholds, Modes, relative_spread, require_shape, require_square


def excited_count(
    modes: Modes, rank: Int[Array, ""], thresholds: CollapseThresholds = CollapseThresholds()
) -> Int[Array, ""]:
    """How many modes m are excited: clip(max(#near-null, d − rank), 1, d − 1), and m ≤ d/(1 + 4ε²).

    The last bound is ours (see `excite`); with ε = 0.05 it binds only for d > 101. A negative
    `rank` means that it is not known, and only near-null modes count. 1 for d = 1.
    """
    dim = modes.rates.size
    near_null = jnp.sum(jnp.abs(modes.rates) < thresholds.null, dtype=jnp.int32)
    deficiency = jnp.where(rank < 0, 0, dim - rank).astype(jnp.int32)
    limit = jnp.asarray(dim / (1.0 + 4.0 * thresholds.spread**2)).astype(jnp.int32)  # rounds down
    most = jnp.clip(limit, 1, max(dim - 1, 1))
    return jnp.clip(jnp.maximum(near_null, deficiency), 1, most)


def covariance_floor(
    covariance: Float[Array, "d d"],
    count: Int[Array, ""],
    thresholds: CollapseThresholds = CollapseThresholds(),
) -> Float[Array, ""]:
    """The b ≥ 0 for which Σ + b P has a spread above ε whatever projector P of rank m is meant.

    b = (ε + a) μ d / (√(m(d−m)) − ε m), a the spread of Σ, a little raised for round-off (by the
    square root of the precision, relatively). 0 where the spread is at ε or above already, and
    for d = 1, where no b changes the spread. Proof and limits: `excite`.

    **Raises** `ValueError` for a covariance that is not square or holds NaN.
    """
    require_square("covariance", covariance)
    covariance = jax.lax.stop_gradient(covariance)
    dim, dtype = covariance.shape[0], covariance.dtype
    if dim == 1:
        return jnp.zeros((), dtype)
    spread, mean = relative_spread(covariance), jnp.trace(covariance) / dim
    modes, margin = jnp.asarray(count).astype(dtype), thresholds.spread
    reach = jnp.sqrt(modes * (dim - modes)) - margin * modes
    slack = 1.0 + float(jnp.finfo(dtype).eps) ** 0.5
    # Clipped, so that an infinite spread (no covariance) leaves no 0·∞ behind.
    floor: Array = slack * (margin + jnp.clip(spread, 0.0, margin)) * mean * dim / reach
    return jnp.where(spread < margin, floor, 0.0)


def excite(
    x: Float[Array, " d"],
    covariance: Float[Array, "d d"],
    modes: Modes,
    rank: Int[Array, ""],
    gain: Float[ArrayLike, ""],
    noise: Float[Array, " d"],
    *,
    strength: Float[ArrayLike, ""],
    thresholds: CollapseThresholds = CollapseThresholds(),
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """The pair x + strength·gain·P noise, Σ + b P, with P on the m slowest modes of sym A.

    `gain` is the proximity of the collapse, `noise` a standard normal [d]: P noise is one on the
    span, and unlike a sum over eigenvectors it does not depend on their signs. m is `excited_count`
    and b `covariance_floor`. The new Σ is symmetric positive definite if the old one is.

    **Theorem.** Let d ≥ 2, μ = tr Σ/d > 0, spread s < ε, √(m(d−m)) > ε m. Then spread(Σ + bP) ≥ ε
    for b ≥ (ε + s) μ d/(√(m(d−m)) − ε m). *Proof.*

    1. With T = Σ − μI and S = P − (m/d)I, Σ + bP less its mean μ′ = μ + bm/d is T + bS.
    2. ‖T‖_F = √d s μ, and ‖S‖_F² = m(1 − m/d)² + (d − m)(m/d)² = m(d−m)/d.
    3. So its standard deviation is at least b‖S‖_F/√d − ‖T‖_F/√d = b√(m(d−m))/d − sμ.
    4. That reaches ε μ′ = εμ + εbm/d if and only if b(√(m(d−m)) − εm)/d ≥ (ε + s)μ. ∎
    5. It is sharp: for T = −cS, c ≥ 0, step 3 is an equality. Other Σ need less.

    Where it does not reach. (i) As b → ∞ the spread tends to √((d−m)/m), so no b serves for
    m ≥ d/(1 + ε²): m = d − 1 from d = 1 + 1/ε² (401) on, where the formula divides by zero or turns
    negative; shortly before it is finite and huge (800 to 1600 μ at d = 400). Hence our bound
    m ≤ d/(1 + 4ε²), which gives √(m(d−m)) ≥ 2εm and b ≤ 2μd/m, about 2μ for the largest m. (ii) For
    s > ε the formula with s clipped to ε can pull the spread below ε; such Σ is left alone.
    (iii) d = 1 has no spread: only x moves.

    The kick, b and P are a discrete event and not differentiated; both results have the identity
    as derivative in `x` and `covariance`.

    **Raises** `ValueError` for shapes that do not fit and for NaN.
    """
    require_shape("x", x, modes.rates.shape)
    require_shape("noise", noise, modes.rates.shape)
    require_shape("covariance", covariance, modes.vectors.shape)
    count = excited_count(modes, rank, thresholds)
    projector = modes.projector(jnp.arange(modes.rates.size, dtype=count.dtype) < count)
    length = jnp.asarray(strength, x.dtype) * gain
    kick = jax.lax.stop_gradient(length * (projector @ noise))
    floor = covariance_floor(covariance, count, thresholds)
    return x + kick, jnp.where(floor > 0, covariance + floor * projector, covariance)
