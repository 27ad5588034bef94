"""The thresholds that turn the continuous state into sets, targets and phases."""

import dataclasses

import equinox as eqx

from .._check import require_in


class Thresholds(eqx.Module):
    """Thresholds of the Σ-Model, dimensionless unless said otherwise.

    Where the paper gives several values, the default is the one its experiment used; where it
    gives none (P1, P4, P5, θ_σ, θ_β), the number is ours and the docs say so.

    **Raises** `ValueError`, naming the field, for a negative threshold.
    """

    sigma_critical: float = 0.15
    """Coherence that starts phase 2 (the experiment's value; .25, .30 and .625 appear too)."""
    sigma_hysteresis: float = 0.10
    """Δ_hyst: phase 2 is lost below sigma_critical − sigma_hysteresis (Prop. 4.3)."""
    delta_star: float = 0.55
    """Relative depth that starts phase 3 (Eq. 49 gives .544; the text also says .65)."""
    delta_reverse: float = 0.50
    """Relative depth below which phase 3 is lost (Prop. 4.3)."""
    delta_onset: float = 0.10
    """Relative depth that starts phase 1; ours, the paper gives no number."""
    delta_onset_reverse: float = 0.05
    """Relative depth below which phase 1 is lost; ours."""
    theta_delta: float = 0.7
    """Relative depth of mastery θ_δ (Eq. 10)."""
    theta_sigma: float = 0.3
    """Coherence of mastery θ_σ (Eq. 10); ours, twice sigma_critical."""
    theta_beta: float = 0.3
    """Breadth of the breadth set θ_β (Eq. 11); ours."""
    theta_i: float = 0.3
    """Depth that activates an intersection θ_I (Eq. 16; proofs also use .54 and .8)."""
    psi_minimum: float = 0.1
    """Discovery rate of an intersection that counts in phase 4; ours."""
    similarity_minimum: float = 0.1
    """φ_min: domains more similar than this are neighbours (the earlier paper's Eq. 25); ours."""
    frontier_growth: float = 1e-3
    """Relative frontier growth Δ̇/Δ per epoch that starts phase 5; ours."""

    def __check_init__(self):
        for field in dataclasses.fields(self):
            require_in(f"thresholds.{field.name}", getattr(self, field.name), 0.0)
