"""The Σ-Model's named variants: the consistent default, the printed one and its contradictions."""

from collections.abc import Callable
from typing import Any

from .environment import Environment
from .executive import ExecutiveTargets
from .rates import Rates
from .thresholds import Thresholds
from .vector_field import (
    AppendixCoherence,
    Attention,
    BoundedDepth,
    BoundedTransferCoherence,
    Breadth,
    CoreCoherence,
    Executive,
    ExistenceProofCoherence,
    HystereticCoherence,
    InflatingSelfModel,
    MultimodalCoherence,
    PrintedDepth,
    PrintedExecutive,
    PrintedSelfModel,
    SigmaModel,
)

# How each variant differs from `consistent`: the component it replaces, made from an environment.
_REPLACEMENTS: dict[str, Callable[[Environment], dict]] = {
    "consistent": lambda e: {},
    "paper": lambda e: dict(
        depth=PrintedDepth(), executive=PrintedExecutive(ExecutiveTargets(width=0.0))
    ),
    "paper_multimodal": lambda e: dict(
        depth=PrintedDepth(), coherence=MultimodalCoherence(e.modality_similarity)
    ),
    "existence_proof": lambda e: dict(depth=PrintedDepth(), coherence=ExistenceProofCoherence()),
    "appendix": lambda e: dict(depth=PrintedDepth(), coherence=AppendixCoherence()),
    "unbounded_frontier": lambda e: dict(depth=PrintedDepth()),
    "bounded_transfer": lambda e: dict(coherence=BoundedTransferCoherence(e.modality_similarity)),
    "hysteretic": lambda e: dict(coherence=HystereticCoherence()),
    "inflating_self_model": lambda e: dict(self_model=InflatingSelfModel()),
}

VARIANTS = tuple(_REPLACEMENTS)
"""The names that `sigma_model` knows."""


def sigma_model(
    variant: str = "consistent",
    *,
    rates: Rates | None = None,
    environment: Environment | None = None,
    thresholds: Thresholds | None = None,
) -> SigmaModel:
    """Make a Σ-Model by name.

    | variant | equations |
    |---|---|
    | `consistent` | Eqs. 28, 29, 33 (by components), 36; Eq. 14 with growth that stops at Δ |
    | `paper` | Eqs. 14, 28, 29, 33 and 36 as printed |
    | `paper_multimodal` | Eq. 14 as printed and Eq. 41: affine in σ, unbounded transfer |
    | `existence_proof`, `appendix` | Eq. 14 and two more affine versions of the σ equation |
    | `unbounded_frontier` | `consistent` with Eq. 14 as printed |
    | `bounded_transfer` | `consistent` with cross-modal transfer that saturates |
    | `hysteretic` | `consistent` with shortcut pressure that falls with coherence (ours) |
    | `inflating_self_model` | `consistent` with the overconfident sign of Eq. 36 (ours) |

    **Arguments:** `rates`, `environment` and `thresholds` default to the self-consistent regime;
    `hysteretic` then takes saturation k = 0.9, as its box needs R₀(1 − k)(1 + κ) ≤ 1.

    **Raises** `ValueError`, listing the names, for an unknown variant.
    """
    if variant not in _REPLACEMENTS:
        raise ValueError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
    environment = Environment() if environment is None else environment
    if rates is None:
        rates = Rates(saturation=0.9) if variant == "hysteretic" else Rates()
    targets = ExecutiveTargets() if thresholds is None else ExecutiveTargets(thresholds)
    components: dict[str, Any] = dict(
        depth=BoundedDepth(),
        coherence=CoreCoherence(),
        attention=Attention(),
        self_model=PrintedSelfModel(),
        executive=Executive(targets),
        breadth=Breadth(),
    )
    components |= _REPLACEMENTS[variant](environment)
    return SigmaModel(**components, rates=rates, environment=environment)
