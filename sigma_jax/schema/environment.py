"""The environment a learner meets: constants, schedules, or functions of the state."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from .._check import require_in
from .state import State

Signal = float | Float[Array, "..."] | Callable[[ArrayLike, State], Float[Array, "..."]]
"""A constant, or a function of (time in epochs, state)."""


class Conditions(eqx.Module):
    """The environment's values at one time and state.

    Each broadcasts against `[agents, domains, modalities]` unless said otherwise.
    """

    omega_sl: Float[Array, "..."]
    """Shortcut-learning pressure Ω_SL ≥ 0."""
    p_a: Float[Array, "..."]
    """Availability of principled structure P_A ≥ 0."""
    c_a: Float[Array, "..."]
    """Contrastive training C_A ≥ 0."""
    r_surface: Float[Array, "..."]
    """Surface-reward pressure R^surface ≥ 0."""
    f_learn: Float[Array, "..."]
    """Intensity of the training signal ≥ 0."""
    t_a: Float[Array, "..."]
    """Analogical transfer (the earlier paper) or time on task (the manuscript), ≥ 0."""
    r_a: Float[Array, "..."]
    """Retrieval practice r_A in [0, 1]: the share of forgetting that practice prevents."""
    frontier: Float[Array, "..."]
    """Frontier of knowledge Δ > 0, in units of depth."""
    exploration: Float[Array, "..."]
    """Exploration g·μ (the earlier paper's Eq. 15), breadth per epoch, `[agents, domains]`."""
    assistance: Float[Array, "..."]
    """AI assistance κ·Φ·λ_AI (the earlier paper's Eq. 16), per epoch, `[agents, domains]`."""


_DEFAULTS = dict(
    omega_sl=0.5,
    p_a=0.8,
    c_a=0.8,
    r_surface=0.8,
    f_learn=1.0,
    t_a=1.0,
    r_a=0.3,
    frontier=1.0,
    exploration=0.0,
    assistance=0.0,
)


class Environment(eqx.Module):
    """The exogenous side of the Σ-Model: one `Signal` for each field of `Conditions`.

    A signal is a number, an array, or any callable of (t, state); `Switch` and `Ramp` are ready
    schedules, `PrincipledPractice`, `AnalogicalTransfer` and `RetrievalPractice` the earlier
    paper's functions of the state.  The defaults are a surface-rewarded baseline (R₀ = 0.8).

    `domain_similarity` is φ(d₁, d₂), `[domains, domains]`; `modality_similarity` is ω(m₁, m₂),
    `[modalities, modalities]`; a scalar stands for every pair.

    **Raises** `ValueError`, naming the field, for a constant that is negative, an r_a or a
    similarity outside [0, 1], or a frontier that is not positive.
    """

    omega_sl: Signal = _DEFAULTS["omega_sl"]
    p_a: Signal = _DEFAULTS["p_a"]
    c_a: Signal = _DEFAULTS["c_a"]
    r_surface: Signal = _DEFAULTS["r_surface"]
    f_learn: Signal = _DEFAULTS["f_learn"]
    t_a: Signal = _DEFAULTS["t_a"]
    r_a: Signal = _DEFAULTS["r_a"]
    frontier: Signal = _DEFAULTS["frontier"]
    exploration: Signal = _DEFAULTS["exploration"]
    assistance: Signal = _DEFAULTS["assistance"]
    domain_similarity: float | Float[Array, "domains domains"] = 1.0
    modality_similarity: float | Float[Array, "modalities modalities"] = 1.0

    def __check_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if callable(value):
                continue
            high = 1.0 if field.name in _FRACTIONS else float("inf")
            open_low = field.name == "frontier"
            require_in(f"environment.{field.name}", value, 0.0, high, open_low=open_low)

    def __call__(self, t: ArrayLike, state: State | None) -> Conditions:
        """Evaluate every signal at time `t` (epochs) and `state`; None will do if none needs it."""
        signals = {name: getattr(self, name) for name in _DEFAULTS}
        return Conditions(
            **{name: s(t, state) if callable(s) else s for name, s in signals.items()}  # pyright: ignore
        )


_FRACTIONS = ("r_a", "domain_similarity", "modality_similarity")
