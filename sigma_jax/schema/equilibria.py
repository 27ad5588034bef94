"""Closed forms of the Σ-Model's single-domain equations: equilibria, thresholds, the logistic."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.optimize import root_scalar

from .derived import learning_efficiency
from .environment import Conditions
from .rates import Rates


def logistic_coherence(
    t: ArrayLike,
    sigma_0: ArrayLike,
    growth: ArrayLike,
    suppression: ArrayLike,
    saturation: ArrayLike,
) -> Float[Array, "..."]:
    """Exact solution of Eq. 28 with constant coefficients, at `t` epochs from σ₀.

    σ̇ = σ [G(1 − kσ) − S] with G = ρPα (`growth`), S = ε_σΩ (`suppression`), k (`saturation`):
    σ(t) = σ₀ e^{rt} / (1 + kGσ₀ (e^{rt} − 1)/r), r = G − S.  R₀ = 1 and σ₀ = 0 are allowed.
    """
    sigma_0, t = jnp.asarray(sigma_0), jnp.asarray(t, jnp.result_type(float))
    exponent = (jnp.asarray(growth) - suppression) * t
    # Numerator and denominator are divided by the larger of 1 and e^{rt}: neither overflows.
    grows = exponent > 0
    shrunk = jnp.where(grows, -exponent, exponent)
    capacity = saturation * growth * sigma_0 * t * _mean_exponential(shrunk)
    share = jnp.where(grows, jnp.exp(shrunk), 1.0) + capacity
    grown = jnp.where(grows, 1.0, jnp.exp(shrunk))
    return sigma_0 * grown / jnp.where(share > 0, share, 1.0)


def _mean_exponential(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """(e^x − 1)/x, with its derivative, through x = 0."""
    small = jnp.abs(x) < 1e-4
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1.0 + x / 2.0 + x**2 / 6.0, jnp.expm1(safe) / safe)


def core_equilibrium(r0: ArrayLike, saturation: ArrayLike) -> Float[Array, "..."]:
    """The stable equilibrium of Eq. 28: max(0, (1 − 1/R₀)/γ_σ)."""
    return jnp.maximum(0.0, (1.0 - 1.0 / jnp.asarray(r0)) / saturation)


def hysteretic_equilibria(
    r0: ArrayLike, saturation: ArrayLike, relief: ArrayLike
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The two nonzero equilibria (σ₋, σ₊) of the hysteretic extension; NaN where there are none.

    σ± = {(κ − k) ± √((κ + k)² − 4kκ/R₀)}/(2kκ).  Below R₀ = 1, σ₋ > 0 is the separatrix
    between losing coherence and keeping it; above, σ₋ < 0 and only σ₊ matters.
    """
    k, kappa = jnp.asarray(saturation), jnp.asarray(relief)
    discriminant = (kappa + k) ** 2 - 4.0 * k * kappa / r0
    root = jnp.where(discriminant >= 0, jnp.sqrt(jnp.maximum(discriminant, 0.0)), jnp.nan)
    return (kappa - k - root) / (2.0 * k * kappa), (kappa - k + root) / (2.0 * k * kappa)


def saddle_node(saturation: ArrayLike, relief: ArrayLike) -> Float[Array, "..."]:
    """R₀ at the hysteretic extension's saddle-node, 4kκ/(κ + k)²; below it coherence is lost."""
    k, kappa = jnp.asarray(saturation), jnp.asarray(relief)
    return 4.0 * k * kappa / (kappa + k) ** 2


def attention_equilibrium(rates: Rates, conditions: Conditions) -> Float[Array, "..."]:
    """Equilibrium of Eq. 29: α* = γC/(γC + ζ_α R^surface)."""
    growth = rates.gamma * jnp.asarray(conditions.c_a)
    return growth / (growth + rates.zeta_alpha * conditions.r_surface)


def self_model_equilibrium(
    rates: Rates, conditions: Conditions, sigma: ArrayLike
) -> Float[Array, "..."]:
    """Equilibrium of Eq. 36 at coherence σ: M̂* = ν_M σ/(ν_M + ξ_M Ω) ≤ σ."""
    return rates.nu_m * jnp.asarray(sigma) / (rates.nu_m + rates.xi_m * conditions.omega_sl)


def depth_equilibria(
    rates: Rates, decay_ratio: float, upper: float = 1.0, resolution: int = 20_000
) -> list[float]:
    """All roots in (0, upper] of η(δ_rel)/η_max = k δ_rel: the equilibria of Eq. 14 at fixed σ.

    `decay_ratio` is k = λ_eff Δ/(f T η_max), λ_eff = λ_c (1 − γ_σ σ)(1 − r).  There are one or
    three (a saddle-node in *depth*, which needs a > e); the middle one is unstable.  Found by
    sign changes on a grid of `resolution` points, refined by bisection in NumPy precision.
    """
    a, b = float(rates.gompertz_a), float(rates.gompertz_b)

    def balance(x):
        return np.exp(-a * np.exp(-b * x)) - decay_ratio * x

    grid = np.linspace(0.0, upper, resolution)
    values = balance(grid)
    changes = np.flatnonzero(values[:-1] * values[1:] < 0)
    brackets = [(grid[i], grid[i + 1]) for i in changes]
    return [root_scalar(balance, bracket=bracket, xtol=1e-14).root for bracket in brackets]


def depth_inflection(rates: Rates) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Where η inflects, δ_rel = ln(a)/b, and its value there, η_max/e."""
    location = jnp.log(jnp.asarray(rates.gompertz_a)) / rates.gompertz_b
    return location, learning_efficiency(location, rates)
