"""How small trained learners are, how many, and how they are trained; what a design of them is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float

from .._check import require_in
from ..training import (
    LearnerState,
    Seq2SeqPairs,
    Task,
    TaskSizes,
    TransformerSizes,
    Vocabulary,
    encode_pairs,
    exact_match,
    find_leaks,
    make_task,
    start_learners,
    train_learners,
)
from .registration import Registration, Verdict

_LEAST_SEEDS = 6
_LEAST_CHECKPOINTS = 30
_JUMPS = 40
"""Different commands with "jump" in company that plain learners are trained on."""
_REPEATS = 4
"""How often each of these is among the training pairs."""


@dataclass(frozen=True)
class TrainedStudy:
    """How large a study of trained learners is; the defaults take some ten minutes on two cores.

    **Raises** `ValueError` for fewer than 6 seeds, 30 checkpoints or 100 null studies, steps that
    the checkpoints do not divide, or another number out of range.
    """

    seeds: int = 8
    """Learners a condition; each seed is in every condition."""
    steps: int = 800
    """Of every learner."""
    checkpoints: int = 32
    """At which coupled learners are measured, equally far apart."""
    null_studies: int = 1000
    """Studies without the effect, for the false-positive rate."""
    seed: int = 0
    """Of the tasks, of what is drawn for them and of the null studies; learners' start at 0."""
    longest: int = 8
    """Actions of a command; longer commands are left out."""
    batch: int = 32
    learning_rate: float = 3e-3
    learner: TransformerSizes = field(
        default_factory=lambda: TransformerSizes(1, 1, 4, 64, 128, 0.1)
    )

    def __post_init__(self) -> None:
        require_in("seeds", self.seeds, _LEAST_SEEDS)
        require_in("checkpoints", self.checkpoints, _LEAST_CHECKPOINTS)
        require_in("null_studies", self.null_studies, 100)
        require_in("seed", self.seed, 0)
        for name in ("steps", "longest", "batch"):
            require_in(name, getattr(self, name), 1)
        require_in("learning_rate", self.learning_rate, 0.0, open_low=True)
        if self.steps % self.checkpoints:
            raise ValueError(
                f"steps must be a multiple of the {self.checkpoints} checkpoints; got {self.steps}."
            )

    def generator(self, design: str) -> np.random.Generator:
        """A generator of random numbers for a design's own use."""
        return np.random.default_rng([self.seed, *design.encode()])


class TrainedTest(NamedTuple):
    """A registration, and the verdict from what its design's training gave."""

    registration: Registration
    judge: Callable[[Any, TrainedStudy], Verdict]


@dataclass(frozen=True)
class TrainedDesign:
    """Learners that are trained once, and the predictions that are read off them."""

    name: str
    train: Callable[[TrainedStudy], Any]
    """What the tests need to know of the learners, as NumPy arrays."""
    tests: tuple[TrainedTest, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The predictions' names."""
        return tuple(test.registration.name for test in self.tests)


def few_jump_task(study: TrainedStudy, **sizes: int) -> Task:
    """SCAN with few commands in which "jump" has company; checked for leaks.

    **Arguments:** `sizes` override `TaskSizes`.

    **Raises** `ValueError` if a test command is in training.
    """
    chosen = {"compositional": _JUMPS, "calibration": 50, "familiar": 200, "test": 200} | sizes
    task = make_task("scan_few_jump", TaskSizes(longest=study.longest, **chosen), seed=study.seed)
    return checked(task)


def checked(task: Task) -> Task:
    """The task, if it does not leak.

    **Raises** `ValueError` if it does.
    """
    leaks = find_leaks(task)
    if leaks.total:
        raise ValueError(f"the task {task.name} leaks, so nothing is trained: {leaks}.")
    return task


def plain_pairs(task: Task) -> Seq2SeqPairs:
    """The rows that plain learners are trained on: the task's, and the few with "jump"."""
    return encode_pairs(task.vocabulary, (*task.task, *_REPEATS * task.compositional))


def untrained(
    study: TrainedStudy, vocabulary: Vocabulary, sizes: TransformerSizes | None = None
) -> LearnerState:
    """The study's learners before the first step, one a seed."""
    return start_learners(vocabulary.size, range(study.seeds), sizes or study.learner)


def trained(
    study: TrainedStudy,
    state: LearnerState,
    pairs: Seq2SeqPairs,
    *,
    steps: int | None = None,
    learning_rate: ArrayLike | None = None,
) -> LearnerState:
    """Learners after so many more steps of plain training; by the study's recipe by default."""
    return train_learners(
        state,
        pairs,
        steps=study.steps if steps is None else steps,
        batch=study.batch,
        learning_rate=study.learning_rate if learning_rate is None else learning_rate,
        seeds_at_once=1,
    )[0]


def share_right(state: LearnerState, pairs: Seq2SeqPairs) -> Float[np.ndarray, " learners"]:
    """Every learner's share of exact matches."""
    return np.asarray(exact_match(state, pairs), float).mean(axis=1)
