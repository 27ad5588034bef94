"""Every quantity the Σ-Model derives from its state: efficiencies, sets, rates and thresholds.

Pure functions of arrays.  Per-domain arguments are `[..., domains]`; use `marginal_depth` and
`marginal_coherence` to go from `[agents, domains, modalities]` to `[agents, domains]`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from .environment import Conditions
from .rates import Rates
from .thresholds import Thresholds


def relative_depth(delta: ArrayLike, frontier: ArrayLike) -> Float[Array, "..."]:
    """Relative depth δ_rel = δ/Δ (Eq. 2), in [0, 1]."""
    return jnp.asarray(delta) / jnp.asarray(frontier)


def learning_efficiency(delta_rel: ArrayLike, rates: Rates) -> Float[Array, "..."]:
    """Gompertz efficiency η = η_max exp(−a exp(−b δ_rel)) (Eq. 15), depth per epoch.

    It *increases* with relative depth: its inflection is at ln(a)/b, where it is η_max/e.
    """
    displaced = rates.gompertz_a * jnp.exp(-rates.gompertz_b * jnp.asarray(delta_rel))
    return rates.eta_max * jnp.exp(-displaced)


def effective_decay(sigma: ArrayLike, rates: Rates) -> Float[Array, "..."]:
    """Effective decay of depth λ_c (1 − γ_σ σ) (Eq. 12), per epoch."""
    return rates.lambda_c * (1.0 - rates.decay_protection * jnp.asarray(sigma))


def mastery_quality(sigma: ArrayLike, delta_rel: ArrayLike) -> Float[Array, "..."]:
    """Mastery quality q = σ δ_rel (Eq. 17), in [0, 1]."""
    return jnp.asarray(sigma) * delta_rel


def mastery_score(
    sigma: ArrayLike, delta_rel: ArrayLike, weight_sigma: ArrayLike = 0.5
) -> Float[Array, "..."]:
    """Weighted mastery m = w_δ δ_rel + w_σ σ, w_δ = 1 − w_σ (the earlier paper's Eq. 6)."""
    weight = jnp.asarray(weight_sigma)
    return (1.0 - weight) * jnp.asarray(delta_rel) + weight * jnp.asarray(sigma)


def marginal_coherence(
    sigma: Float[Array, "... domains modalities"],
) -> Float[Array, "... domains"]:
    """A domain's coherence is its weakest modality's: σ(d) = min_m σ(d, m) (Eq. 38)."""
    return jnp.min(sigma, axis=-1)


def marginal_depth(delta: Float[Array, "... domains modalities"]) -> Float[Array, "... domains"]:
    """A domain's depth is its deepest modality's: δ(d) = max_m δ(d, m) (Eq. 39)."""
    return jnp.max(delta, axis=-1)


def discovery_rate(
    quality: Float[Array, "... domains"], similarity: ArrayLike = 1.0, base_rate: ArrayLike = 1.0
) -> Float[Array, "... domains domains"]:
    """Discovery rate Ψ(d₁, d₂) = Ψ₀ φ(d₁, d₂) √(q(d₁) q(d₂)) (Eq. 18), Ψ₀'s unit.

    Defined for every pair, the diagonal included; the gradient at q = 0 is taken as zero.
    """
    product = quality[..., :, None] * quality[..., None, :]
    positive = product > 0
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, product, 1.0)), 0.0)
    return jnp.asarray(base_rate) * jnp.asarray(similarity) * root


def active_intersections(
    delta: Float[Array, "... domains"], theta_i: ArrayLike
) -> Bool[Array, "... domains domains"]:
    """Which pairs of different domains are active: both depths exceed θ_I (Eq. 16)."""
    deep = delta > theta_i
    different = ~jnp.eye(delta.shape[-1], dtype=bool)
    return deep[..., :, None] & deep[..., None, :] & different


def mastery_set(
    sigma: Float[Array, "... domains"],
    delta_rel: Float[Array, "... domains"],
    thresholds: Thresholds,
) -> Bool[Array, "... domains"]:
    """Mastered domains M_A: δ > θ_δ Δ and σ > θ_σ (Eq. 10)."""
    return (delta_rel > thresholds.theta_delta) & (sigma > thresholds.theta_sigma)


def breadth_set(
    breadth: Float[Array, "... domains"],
    mastered: Bool[Array, "... domains"],
    thresholds: Thresholds,
) -> Bool[Array, "... domains"]:
    """Domains known broadly but not mastered B_A: β > θ_β and d ∉ M_A (Eq. 11)."""
    return (breadth > thresholds.theta_beta) & ~mastered


def shortcut_set(
    shortcut_depth: Float[Array, "... subtasks"],
    agent_depth: Float[Array, "... subtasks"],
    sigma: ArrayLike,
    sigma_critical: ArrayLike,
) -> Bool[Array, "... subtasks"]:
    """Sub-tasks worth delegating D*: δ_S ≥ δ_A and σ(d) ≥ σ_critical (Eq. 19).

    `sigma` is the domain's coherence, `[...]` or `[..., subtasks]`.
    """
    sigma = jnp.asarray(sigma)
    sigma = sigma if sigma.ndim == agent_depth.ndim else sigma[..., None]
    return (shortcut_depth >= agent_depth) & (sigma >= sigma_critical)


def adjacent_possible(
    known: Bool[Array, "... domains"],
    similarity: Float[Array, "domains domains"],
    similarity_minimum: ArrayLike,
) -> Bool[Array, "... domains"]:
    """The adjacent possible AP_A, N(M_A ∪ B_A) without M_A ∪ B_A: unknown neighbours of the known.

    Domains are neighbours if φ > φ_min (the earlier paper's Eq. 25).
    """
    neighbours = similarity > similarity_minimum
    reached = jnp.any(known[..., :, None] & neighbours, axis=-2)
    return reached & ~known


def reachability(
    quality: Float[Array, "... domains"],
    mastered: Bool[Array, "... domains"],
    similarity: Float[Array, "domains domains"],
) -> Float[Array, "... domains"]:
    """Reachability R_A(d) = max over mastered d' of φ(d, d') q(d') (the earlier paper's Eq. 26).

    Zero if nothing is mastered.
    """
    support = jnp.where(mastered, quality, 0.0)
    return jnp.max(similarity * support[..., None, :], axis=-1)


def calibration_error(self_model: ArrayLike, sigma: ArrayLike) -> Float[Array, "..."]:
    """Calibration error ζ = M̂ − σ (Eq. 35), in [−1, 1]; positive is overconfidence."""
    return jnp.asarray(self_model) - sigma


def legibility(
    sigma: Float[Array, "agents domains"], similarity: Float[Array, "domains domains"]
) -> Float[Array, "agents agents domains"]:
    """Legibility μ_AB(d) = σ_A(d) φ(d, d') σ_B(d') (Eq. 30), in [0, 1].

    The paper leaves d', B's adjacent domain, undefined; here it is the *other* domain most
    similar to d, or d itself if there is only one.
    """
    others = jnp.where(jnp.eye(len(similarity), dtype=bool), -1.0, similarity)
    adjacent = jnp.argmax(others, axis=-1) if len(similarity) > 1 else jnp.zeros(1, int)
    phi = similarity[jnp.arange(len(similarity)), adjacent]
    return sigma[:, None, :] * phi * sigma[None, :, adjacent]


def collective_field(
    mu: Float[Array, "agents agents domains"], similarity: Float[Array, "domains domains"]
) -> Float[Array, "agents agents domains domains"]:
    """Collective field Σ_AB(d₁, d₂) = μ_AB(d₁) μ_BA(d₂) φ(d₁, d₂) (Eq. 31), in [0, 1]."""
    return mu[:, :, :, None] * jnp.swapaxes(mu, 0, 1)[:, :, None, :] * similarity


def cross_modal_transfer(
    sigma: Float[Array, "... modalities"], similarity: Float[Array, "modalities modalities"]
) -> Float[Array, "... modalities modalities"]:
    """Cross-modal transfer Θ(m₁, m₂) = σ(m₁) ω(m₁, m₂) (Eq. 40), in [0, 1]."""
    return sigma[..., :, None] * similarity


def reproduction_number(
    rates: Rates, conditions: Conditions, alpha: ArrayLike
) -> Float[Array, "..."]:
    """Reproduction number of coherence R₀ = ρ P_A α/(ε_σ Ω_SL) (Prop. 4.1); ∞ if Ω_SL = 0."""
    growth = rates.rho * conditions.p_a * jnp.asarray(alpha)
    return growth / (rates.epsilon_sigma * conditions.omega_sl)


def critical_attention(rates: Rates, conditions: Conditions) -> Float[Array, "..."]:
    """Attention at which R₀ = 1: α_critical = ε_σ Ω_SL / (ρ P_A)."""
    pressure = rates.epsilon_sigma * jnp.asarray(conditions.omega_sl)
    return pressure / (rates.rho * conditions.p_a)


def printed_sigma_critical(r0: ArrayLike, saturation: ArrayLike) -> Float[Array, "..."]:
    """The paper's σ_critical = (1 − 1/R₀)/γ_σ (Eqs. 44, 45), as printed.

    It is not a threshold: it is the stable equilibrium of Eq. 28 for R₀ > 1, and is ≤ 0 below.
    `separatrix` is the threshold of the hysteretic extension.
    """
    return (1.0 - 1.0 / jnp.asarray(r0)) / saturation


def printed_delta_star(
    rates: Rates, theta_i: ArrayLike = 0.8, theta_0: ArrayLike = 0.01
) -> Float[Array, "..."]:
    """The paper's δ* = (λ_c/η_max) ln(θ_I/θ_0) + 1/2 (Eq. 49), as printed."""
    return (
        rates.lambda_c / jnp.asarray(rates.eta_max) * jnp.log(theta_i / jnp.asarray(theta_0)) + 0.5
    )


def obsolescence_rate(frontier, t: ArrayLike, state) -> Float[Array, "..."]:
    """Obsolescence rate λ_f = Δ̇/Δ (per epoch) of a frontier signal at time `t` and `state`.

    Constants do not move.  The derivative is taken in time at fixed state.
    """
    if not callable(frontier):
        return jnp.zeros(())
    value, slope = jax.jvp(
        lambda time: frontier(time, state), (jnp.asarray(t),), (jnp.ones_like(t),)
    )
    return slope / value
