"""H6.1 to H6.3 on trained learners: does an intervention widen the gap of two accuracies?"""

from typing import NamedTuple

import numpy as np

from .few_seeds import Seeds, flipped_rate, rise, rise_power, undecided
from .registration import FAMILY_ALPHA, Picture, Verdict, decide, numbers
from .trained_study import TrainedStudy

EFFECT = 0.1
"""The rise and the widening that H6.1 to H6.3 register here, in shares of the items."""
_SPREAD = 0.08
"""Of the seeds' changes, as assumed when the power was planned."""
PLANNED_SEEDS = 8
STATISTIC = "paired t of the rise and of the change of the gap, one-sided; the larger p"
_LEAST_KNOWN = 0.5
"""Below this accuracy in distribution the paper leaves structural skill undefined."""


class GapOutcomes(NamedTuple):
    """Shares right at the end, seed by seed; both are of the same seed without and with it."""

    familiar_without: Seeds
    familiar_with: Seeds
    structural_without: Seeds
    structural_with: Seeds


def planned_gap_power() -> float:
    """Power for the registered widening with the planned seeds and the spread assumed then."""
    return rise_power(EFFECT, _SPREAD, PLANNED_SEEDS)


def judge_gap(
    outcomes: GapOutcomes,
    study: TrainedStudy,
    *,
    name: str,
    intervention: str,
    kinds: tuple[str, str] = ("familiar", "structural"),
    note: str = "",
) -> Verdict:
    """Paired t of the familiar items' rise and of the gap's, one-sided; the weaker decides.

    A gap that widens because structural items suffer is not what is claimed. Where neither group
    of learners solves half of the familiar items there is nothing to compare.

    **Arguments:** `name` of the prediction; `intervention` in words; `kinds` of the items whose
    accuracies are compared; `note`, one more sentence.
    """
    near = outcomes.familiar_with - outcomes.familiar_without
    far = outcomes.structural_with - outcomes.structural_without
    parts = {
        f"rise on {kinds[0]} items": near,
        f"change of the gap, {kinds[0]} less {kinds[1]} items": near - far,
    }
    tests = {what: rise(values) for what, values in parts.items()}
    weaker = max(tests, key=lambda what: tests[what].p_value)
    picture = Picture(
        "samples",
        "items",
        "change of the share right",
        {kinds[0]: (near,), kinds[1]: (far,)},
        {"no change": 0.0},
    )
    before = outcomes.familiar_without.mean(), outcomes.structural_without.mean()
    found = (
        f"{intervention} changes exact match on {kinds[0]} items by {near.mean():+.3f} (from "
        f"{before[0]:.1%}) and on {kinds[1]} ones by {far.mean():+.3f} (from {before[1]:.1%})."
    )
    if max(before[0], outcomes.familiar_with.mean()) < _LEAST_KNOWN:
        return undecided(
            f"Neither group solves half of the {kinds[0]} items. {found}",
            f"{weaker} (share right)",
            (near.size,),
            study.null_studies,
            picture,
        )
    power = rise_power(EFFECT, float(parts[weaker].std(ddof=1)), near.size)
    outcome, why = decide(tests[weaker], FAMILY_ALPHA, power=power)
    other = next(what for what in tests if what != weaker)
    return Verdict(
        version="trained learners",
        outcome=outcome,
        reason=(
            f"{why} {found} The other part, {other}: {tests[other].estimate:.3f} "
            f"[{tests[other].low:.3f}, {tests[other].high:.3f}]. {note}"
        ).strip(),
        effect=f"{weaker} (share right; the weaker part)",
        **numbers(tests[weaker]),
        null_rate=flipped_rate(
            np.stack(list(parts.values())), study.null_studies, study.generator(name)
        ),
        power=power,
        picture=picture,
    )
