"""The rate constants and shape parameters of the Σ-Model."""

import dataclasses

import equinox as eqx
from jaxtyping import Array, Float

from .._check import require_in

Rate = float | Float[Array, "..."]


class Rates(eqx.Module):
    """Rate constants (per epoch, the paper's unit of time) and shape parameters.

    Every field is a non-negative number, or an array that broadcasts against
    `[agents, domains, modalities]`.  The defaults are the self-consistent regime in which one
    domain's depth, coherence and attention settle within some tens of epochs.

    The paper uses one symbol, γ_σ, for two things.  Here they are two names: `decay_protection`
    (how much coherence slows forgetting, Eqs. 12 and 14) and `saturation` (where coherence stops
    growing, Eq. 28).  Likewise `gamma` is only the growth rate of attention.

    **Raises** `ValueError`, naming the field, for a negative number, a text or a NaN.
    """

    eta_max: Rate = 0.35
    """Largest learning efficiency η_max (Eq. 15), depth per epoch."""
    gompertz_a: Rate = 3.0
    """Gompertz displacement a (Eq. 15), dimensionless."""
    gompertz_b: Rate = 4.0
    """Gompertz rate b (Eq. 15), per unit of relative depth."""
    lambda_c: Rate = 0.01
    """Decay of depth λ_c (Eq. 12), per epoch."""
    decay_protection: Rate = 0.5
    """γ_σ in Eqs. 12 and 14: the share of decay that full coherence removes, in [0, 1]."""
    rho: Rate = 0.6
    """Growth of coherence ρ (Eq. 28), per epoch."""
    saturation: Rate = 0.5
    """γ_σ in Eq. 28: growth stops at σ = 1/saturation; [0, 1] is invariant only if it is ≥ 1."""
    epsilon_sigma: Rate = 0.6
    """Suppression of coherence by shortcuts ε_σ (Eq. 28), per epoch."""
    shortcut_relief: Rate = 3.0
    """κ of the hysteretic extension: shortcut pressure falls as Ω/(1 + κσ), dimensionless."""
    transfer_rate: Rate = 0.0
    """Cross-modal transfer ρ_θ (Eq. 41), per epoch."""
    gamma: Rate = 0.3
    """Growth of attention γ (Eq. 29), per epoch."""
    zeta_alpha: Rate = 0.3
    """Erosion of attention by surface reward ζ_α (Eq. 29), per epoch."""
    nu_m: Rate = 0.05
    """Tracking of the self-model ν_M (Eq. 36), per epoch."""
    xi_m: Rate = 0.05
    """Distortion of the self-model by shortcuts ξ_M (Eq. 36), per epoch."""
    kappa_p: Rate = 0.05
    """Relaxation of planning κ_P (Eq. 33), per epoch."""
    kappa_i: Rate = 0.05
    """Relaxation of inhibition κ_I (Eq. 33), per epoch."""
    kappa_f: Rate = 0.05
    """Relaxation of flexibility κ_F (Eq. 33), per epoch."""
    lambda_b: Rate = 0.05
    """Decay of breadth λ_b (the earlier paper's Eq. 15), per epoch; it must exceed lambda_c."""
    beta_max: Rate = 1.0
    """Asymptote of assisted breadth β_max (the earlier paper's Eq. 16)."""

    def __check_init__(self):
        for field in dataclasses.fields(self):
            high = 1.0 if field.name == "decay_protection" else float("inf")
            require_in(f"rates.{field.name}", getattr(self, field.name), 0.0, high)
