"""The reference regimes: surface-rewarded, structure-targeted, targeted then withdrawn."""

from typing import Any

from .environment import Environment
from .signals import Switch

SURFACE_REWARDED = 0.8
STRUCTURE_TARGETED = 0.2

SURFACE_REWARD = {
    "baseline": (SURFACE_REWARDED, SURFACE_REWARDED),
    "targeted": (STRUCTURE_TARGETED, STRUCTURE_TARGETED),
    "withdrawn": (STRUCTURE_TARGETED, SURFACE_REWARDED),
}
"""R^surface of each regime, before and after the withdrawal."""

REGIMES = tuple(SURFACE_REWARD)
"""The names that `regime` knows."""


def regime(name: str, withdrawal: float = 40.0, **conditions: Any) -> Environment:
    """The environment of a reference regime; they differ in surface reward alone.

    - `baseline`: R^surface = 0.8, so α* = 0.5 and R₀ = 0.8: coherence decays, the σ-trap
    - `targeted`: R^surface = 0.2, so α* = 0.8 and R₀ = 1.28: coherence grows
    - `withdrawn`: targeted until `withdrawal` (epochs), then baseline

    `conditions` are passed on to `Environment`.

    **Raises** `ValueError`, listing the names, for an unknown regime.
    """
    if name not in SURFACE_REWARD:
        raise ValueError(f"unknown regime {name!r}; choose one of {', '.join(REGIMES)}.")
    before, after = SURFACE_REWARD[name]
    surface = before if before == after else Switch((withdrawal,), (before, after))
    return Environment(r_surface=surface, **conditions)
