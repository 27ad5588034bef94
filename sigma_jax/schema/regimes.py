"""The three reference regimes: surface-rewarded, structure-targeted, and targeted then withdrawn."""

from .environment import Environment
from .signals import Switch

REGIMES = ("baseline", "targeted", "withdrawn")
"""The names that `regime` knows."""

SURFACE_REWARDED = 0.8
STRUCTURE_TARGETED = 0.2


def regime(name: str, withdrawal: float = 40.0) -> Environment:
    """The environment of a reference regime; they differ in surface reward alone.

    - `baseline`: R^surface = 0.8, so α* = 0.5 and R₀ = 0.8: coherence decays, the σ-trap
    - `targeted`: R^surface = 0.2, so α* = 0.8 and R₀ = 1.28: coherence grows
    - `withdrawn`: targeted until `withdrawal` (epochs), then baseline

    **Raises** `ValueError`, listing the names, for an unknown regime.
    """
    surface = {
        "baseline": SURFACE_REWARDED,
        "targeted": STRUCTURE_TARGETED,
        "withdrawn": None,
    }
    if name not in surface:
        raise ValueError(f"unknown regime {name!r}; choose one of {', '.join(REGIMES)}.")
    if name == "withdrawn":
        switch = Switch((withdrawal,), (STRUCTURE_TARGETED, SURFACE_REWARDED))
        return Environment(r_surface=switch)
    return Environment(r_surface=surface[name])
