"""H6.3 on trained learners: a training regime chosen by its accuracy in distribution."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..training import Seq2SeqPairs, encode_pairs
from .registration import FAMILY_ALPHA, Registration, Verdict
from .trained_gap import EFFECT, PLANNED_SEEDS, STATISTIC, GapOutcomes, judge_gap, planned_gap_power
from .trained_study import (
    TrainedDesign,
    TrainedStudy,
    TrainedTest,
    few_jump_task,
    plain_pairs,
    share_right,
    trained,
    untrained,
)

_RATES = (1e-3, 4e-3)
_DROPOUTS = (0.1, 0.0)
"""The first rate with the first dropout is the paper's regime."""

Shares = Float[np.ndarray, "regimes seeds"]


def train_regimes(study: TrainedStudy) -> GapOutcomes:
    """Every seed in every regime; each seed's best regime by one half of the familiar items.

    What it is then compared on is the other half, and the structural items.
    """
    task = few_jump_task(study)
    half = len(task.familiar) // 2
    parts = (task.familiar[:half], task.familiar[half:], task.test)
    pairs, asked = plain_pairs(task), [encode_pairs(task.vocabulary, part) for part in parts]
    groups = []
    for dropout in _DROPOUTS:
        sizes = dataclasses.replace(study.learner, dropout=dropout)
        start = untrained(study, task.vocabulary, sizes)
        groups.append(_by_rate(study, start, pairs, asked))
    return choose_regimes(*(np.concatenate(shares) for shares in zip(*groups, strict=True)))


def choose_regimes(selection: Shares, familiar: Shares, structural: Shares) -> GapOutcomes:
    """The paper's regime, the first, and each seed's best by the selection items.

    Of equally good ones the first counts.
    """
    best, seeds = selection.argmax(axis=0), np.arange(selection.shape[1])
    return GapOutcomes(familiar[0], familiar[best, seeds], structural[0], structural[best, seeds])


def _by_rate(
    study: TrainedStudy, start, pairs: Seq2SeqPairs, asked: list[Seq2SeqPairs]
) -> list[Shares]:
    """Shares right on each part, by rate and seed; all rates are trained in one call."""
    together = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(_RATES)), start)
    rates = np.repeat(_RATES, study.seeds)[:, None]
    ended = trained(study, together, pairs, learning_rate=rates)
    return [share_right(ended, part).reshape(len(_RATES), study.seeds) for part in asked]


def judge_regimes(outcomes: GapOutcomes, study: TrainedStudy) -> Verdict:
    """The change of the gap from the paper's regime to the chosen one."""
    return judge_gap(
        outcomes,
        study,
        name="H6.3",
        intervention="Choosing rate and dropout by familiar accuracy",
        note="Chosen by one half of the familiar items, compared on the other.",
    )


REGIMES = TrainedDesign(
    "regimes",
    train_regimes,
    (
        TrainedTest(
            Registration(
                name="H6.3",
                title="Optimised training regimes raise depth, not coherence",
                claim=(
                    "Tuning how one trains raises skill in distribution and leaves structural "
                    "skill behind."
                ),
                null="familiar accuracy does not rise, or the gap to structural does not widen",
                alternative="familiar accuracy rises and the gap widens",
                statistic=STATISTIC,
                alpha=FAMILY_ALPHA,
                planned_n=PLANNED_SEEDS,
                planned_power=planned_gap_power(),
                simulation=(
                    f"{PLANNED_SEEDS} seeds with rates {_RATES[0]:g} and {_RATES[1]:g}, dropout "
                    f"{_DROPOUTS[0]:g} and {_DROPOUTS[1]:g}; each seed's best regime by familiar "
                    "accuracy against the paper's (the first of both). 40 commands with “jump” in "
                    f"company are trained on, 200 others are the structural items. Power for "
                    f"{EFFECT:g}."
                ),
                falsified_if="accuracy rises as much on structural as on familiar items",
            ),
            judge_regimes,
        ),
    ),
)
