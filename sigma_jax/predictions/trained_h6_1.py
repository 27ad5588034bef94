"""H6.1 on trained learners: first-order meta-learning against plain training."""

import itertools

import jax
import numpy as np

from ..training import LearnerState, Seq2SeqPairs, Task, encode_pairs
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

_ACTIONS = ("I_WALK", "I_LOOK", "I_RUN", "I_JUMP")
_META_SHARE = 0.75
"""Of all steps; in the rest both learners are trained on SCAN itself."""
_EPISODE = 10
"""Steps on one renaming."""
_RENAMINGS = 16


def train_meta_learners(study: TrainedStudy) -> GapOutcomes:
    """Reptile, then plain training, against plain training with as many steps."""
    task = few_jump_task(study)
    pairs = plain_pairs(task)
    asked = [encode_pairs(task.vocabulary, part) for part in (task.familiar, task.test)]
    start = untrained(study, task.vocabulary)
    plain = trained(study, start, pairs)
    episodes = int(_META_SHARE * study.steps) // _EPISODE
    meta = _reptile(study, task, pairs, start, episodes)
    rest = study.steps - episodes * _EPISODE
    meta = trained(study, meta, pairs, steps=rest)
    without, with_meta = ([share_right(s, part) for part in asked] for s in (plain, meta))
    return GapOutcomes(without[0], with_meta[0], without[1], with_meta[1])


def _reptile(
    study: TrainedStudy, task: Task, pairs: Seq2SeqPairs, state: LearnerState, episodes: int
) -> LearnerState:
    """Move towards what a few steps on each renaming lead to, by less and less.

    A renaming says another action for each primitive. The sources stay as they are, so that no
    learner reads a test command. Adam's moments are kept from one episode to the next.

    Source: Nichol, Achiam & Schulman (2018), arXiv 1803.02999, algorithm 1 with a linear decay.
    """
    rng = study.generator("H6.1")
    orders = list(itertools.permutations(range(len(_ACTIONS))))
    chosen = [orders[at] for at in rng.permutation(len(orders))[:_RENAMINGS]]
    renamed = [_renamed(task, pairs, order) for order in chosen]
    for episode in range(episodes):
        there = trained(study, state, renamed[rng.integers(len(renamed))], steps=_EPISODE)
        part = 1.0 - episode / episodes
        model = jax.tree.map(
            lambda here, end, part=part: here + part * (end - here), state.model, there.model
        )
        state = there._replace(model=model)
    return state


def _renamed(task: Task, pairs: Seq2SeqPairs, order: tuple[int, ...]) -> Seq2SeqPairs:
    """The same sources with the primitives' actions exchanged in the targets."""
    tokens = np.arange(task.vocabulary.size, dtype=pairs.target.dtype)
    numbers = np.array([task.vocabulary.numbers[action] for action in _ACTIONS])
    tokens[numbers] = numbers[list(order)]
    return Seq2SeqPairs(pairs.source, tokens[pairs.target])


def judge_meta_learning(outcomes: GapOutcomes, study: TrainedStudy) -> Verdict:
    """The change of the gap from plain to meta-learning."""
    return judge_gap(
        outcomes,
        study,
        name="H6.1",
        intervention=f"Reptile over renamings in {_META_SHARE:.0%} of the steps",
        note="Familiar: held out from what is trained on; structural: unseen company of “jump”.",
    )


META_LEARNING = TrainedDesign(
    "meta-learning",
    train_meta_learners,
    (
        TrainedTest(
            Registration(
                name="H6.1",
                title="Meta-learning raises depth, not coherence",
                claim=(
                    "Learning to learn raises skill in distribution and leaves structural skill "
                    "behind."
                ),
                null="familiar accuracy does not rise, or the gap to structural does not widen",
                alternative="familiar accuracy rises and the gap widens",
                statistic=STATISTIC,
                alpha=FAMILY_ALPHA,
                planned_n=PLANNED_SEEDS,
                planned_power=planned_gap_power(),
                simulation=(
                    f"{PLANNED_SEEDS} seeds by Reptile over {_RENAMINGS} exchanges of the "
                    f"primitives' actions (episodes of {_EPISODE} steps), then plain steps on "
                    "SCAN; the same seeds by as many plain steps. 40 commands with “jump” in "
                    f"company are trained on, 200 others are the structural items. Power for "
                    f"{EFFECT:g}."
                ),
                falsified_if="accuracy rises as much on structural as on familiar items",
            ),
            judge_meta_learning,
        ),
    ),
)
