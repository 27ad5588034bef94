"""Profile likelihoods of the Σ-Model's rates from the published curves."""

from ..statistics import ProfileLikelihood, profile_likelihood
from .calibration import START, pilot_problem
from .pilot import PilotCurves

# Explicit steps hold up to this rate of attention, per epoch; it settles within a hundredth of an
# epoch then, a twentieth of what lies between two checkpoints.
_FASTEST_ATTENTION = 60.0
_SLOWEST_ATTENTION = 0.05


def profile_pilot(
    curves: PilotCurves,
    explanation: str = "onset",
    *,
    free_attention: bool = False,
    points: int = 21,
) -> ProfileLikelihood:
    """Profile-likelihood intervals of ρ, ε_σ (per epoch) and σ(0) from a condition's measured σ̂.

    The model, the environment and the observations are those of `fit_pilot`. Errors of one run
    are correlated, so the likelihood is rescaled to the cluster-robust curvature, runs being the
    clusters. With `free_attention` γ = ζ_α is fitted too, as `gamma`, between 0.05 and 60 per
    epoch; in the condition without an onset attention is constant and γ has no effect at all.

    **Raises** `ValueError` as `fit_pilot` does.
    """
    predict, observed, runs, _ = pilot_problem(curves, explanation)
    start = START | ({"gamma": 10.0} if free_attention else {})
    lower = {name: value / 1e3 for name, value in start.items()}
    upper = {name: value * 1e3 for name, value in start.items()} | {"sigma_0": 1.0}
    if free_attention:
        lower["gamma"], upper["gamma"] = _SLOWEST_ATTENTION, _FASTEST_ATTENTION
    return profile_likelihood(
        predict, observed, start, groups=runs, bounds=(lower, upper), points=points
    )
