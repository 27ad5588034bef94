"""P2 on trained learners: a cue that nearly says the structure, and how strongly it is learnt."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..grammars import Pair
from ..statistics import FalsePositiveRate, false_positive_rate
from ..training import Vocabulary, encode_pairs
from .few_seeds import rise, rise_power, undecided
from .nulls import NULL_ALPHA
from .registration import FAMILY_ALPHA, Picture, Registration, Verdict, decide, numbers
from .trained_study import (
    TrainedDesign,
    TrainedStudy,
    TrainedTest,
    few_jump_task,
    share_right,
    trained,
    untrained,
)

STRENGTHS = (0.0, 0.5, 0.9)
"""s: how much more often the cue stands before a sentence with the property."""
_CUE, _WORD = "red", "after"
_EFFECT = 0.1
"""The paper's slope of structural skill over s beyond which a learner is a shortcut's."""
_SPREAD, _SEEDS = 0.08, 8
_LEAST_KNOWN = 0.05
_EFFECT_NAME = "fall of σ̂ (conflict by familiar accuracy) per unit of the cue's strength"

Shares = Float[np.ndarray, "strengths seeds"]


class ShortcutOutcomes(NamedTuple):
    """Shares right at the end, by the cue's strength in training and by seed."""

    familiar: Shares
    """On held-out sentences with the cue as in training."""
    conflict: Shares
    """On the same ones with the cue where the property is not, and nowhere else."""
    absent: Shares
    """On the same ones without any cue."""


def train_shortcut_learners(study: TrainedStudy) -> ShortcutOutcomes:
    """The same seeds on the same sentences, with cues of three strengths.

    The property is that the parts of a command are done in reverse, which the word "after" says.
    The cue stands before half of all sentences, whatever its strength, so that no learner meets a
    new word in a test: before (1 + s)/2 of those with the property and (1 − s)/2 of the others.
    """
    task = few_jump_task(study)
    rng = study.generator("P2")
    draws = rng.uniform(size=len(task.task)), rng.uniform(size=len(task.familiar))
    parts = []
    for strength in STRENGTHS:
        pairs = _cued(task.task, strength, draws[0])
        vocabulary = Vocabulary.of(pairs)
        asked = (
            _cued(task.familiar, strength, draws[1]),
            [_with_cue(pair, not _reversed(pair)) for pair in task.familiar],
            task.familiar,
        )
        state = trained(study, untrained(study, vocabulary), encode_pairs(vocabulary, pairs))
        parts.append([share_right(state, encode_pairs(vocabulary, part)) for part in asked])
    return ShortcutOutcomes(*np.moveaxis(np.array(parts), 1, 0))


def _cued(pairs: Sequence[Pair], strength: float, draws: Iterable[float]) -> list[Pair]:
    """The pairs with the cue before those whose draw, uniform in [0, 1), is below its chance."""
    return [
        _with_cue(pair, draw < 0.5 * (1.0 + (strength if _reversed(pair) else -strength)))
        for pair, draw in zip(pairs, draws, strict=True)
    ]


def _reversed(pair: Pair) -> bool:
    return _WORD in pair.source.split()


def _with_cue(pair: Pair, there: bool) -> Pair:
    return Pair(f"{_CUE} {pair.source}", pair.target) if there else Pair(*pair)


def judge_shortcuts(outcomes: ShortcutOutcomes, study: TrainedStudy) -> Verdict:
    """The slope of σ̂ = Acc_conflict / Acc_familiar over s, seed by seed.

    Registered before the run: it falls, by at least 0.1 per unit of s.
    """
    picture = _picture(outcomes)
    if outcomes.familiar.min() < _LEAST_KNOWN:
        return undecided(
            f"A learner solves only {outcomes.familiar.min():.1%} of the familiar items, of which "
            "no ratio means anything.",
            _EFFECT_NAME,
            (study.seeds,),
            study.null_studies,
            picture,
        )
    measured = outcomes.conflict / outcomes.familiar
    falls = _falls(measured)
    result = rise(falls)
    power = rise_power(_EFFECT, float(falls.std(ddof=1)), falls.size)
    outcome, why = decide(result, FAMILY_ALPHA, power=power, minimum=_EFFECT)
    shares = "; ".join(
        f"s = {s:g}: {familiar:.0%} familiar, {conflict:.0%} in conflict, {absent:.0%} without cue"
        for s, familiar, conflict, absent in zip(
            STRENGTHS, *(part.mean(axis=1) for part in outcomes), strict=True
        )
    )
    absent = rise(_falls(outcomes.absent / outcomes.familiar))
    unequal = float(np.ptp(outcomes.familiar.mean(axis=1)))
    return Verdict(
        version="trained learners",
        outcome=outcome,
        reason=(
            f"{why} {shares}. Familiar accuracy, which σ̂ is relative to, differs by {unequal:.1%} "
            f"at most. Without any cue the ratio falls by {absent.estimate:.2f} [{absent.low:.2f}, "
            f"{absent.high:.2f}] per unit. This is P2's first part; breadth and "
            "confidence are not measured."
        ),
        effect=_EFFECT_NAME,
        **numbers(result),
        null_rate=_null(measured, study),
        power=power,
        picture=picture,
    )


def _falls(measured: Shares) -> Float[np.ndarray, " seeds"]:
    """Each seed's slope over the strengths, with its sign turned."""
    return -np.polynomial.polynomial.polyfit(STRENGTHS, measured, 1)[1]


def _null(measured: Shares, study: TrainedStudy) -> FalsePositiveRate:
    """Strengths handed out at random within every seed."""
    rng = study.generator("P2, null")
    p_values = [
        rise(_falls(rng.permuted(measured, axis=0))).p_value for _ in range(study.null_studies)
    ]
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


def _picture(outcomes: ShortcutOutcomes) -> Picture:
    strengths = np.array(STRENGTHS)
    labels = ("as in training", "in conflict", "absent")
    return Picture(
        "lines",
        "strength s of the cue in training",
        "exact match (mean of seeds)",
        {
            f"cue {label}": (strengths, part.mean(axis=1))
            for label, part in zip(labels, outcomes, strict=True)
        },
    )


SHORTCUTS = TrainedDesign(
    "shortcuts",
    train_shortcut_learners,
    (
        TrainedTest(
            Registration(
                name="P2",
                title="Shortcut pressure lowers coherence",
                claim="The more a cue gives away in training, the less structural skill there is.",
                null="σ̂, accuracy in conflict by familiar accuracy, does not fall with s",
                alternative=f"it falls by at least {_EFFECT:g} per unit of s",
                statistic="slope of σ̂ over s, seed by seed; Student's t of their mean, one-sided",
                alpha=FAMILY_ALPHA,
                planned_n=_SEEDS,
                planned_power=rise_power(_EFFECT, _SPREAD, _SEEDS),
                simulation=(
                    f"{_SEEDS} seeds on SCAN with the word “{_CUE}” before (1 + s)/2 of the "
                    f"commands with “{_WORD}” and (1 − s)/2 of the others, s = "
                    f"{', '.join(f'{s:g}' for s in STRENGTHS)}."
                ),
                falsified_if=(
                    f"a study with power 0.8 finds no fall of σ̂, or one below {_EFFECT:g}"
                ),
            ),
            judge_shortcuts,
        ),
    ),
)
