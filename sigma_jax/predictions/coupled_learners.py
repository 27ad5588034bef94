"""One run of learners coupled to the Σ-Model, of which P1, P9, M1 and H6.2 are judged."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..grammars import Pair
from ..training import (
    CONDITIONS,
    FUSION_WEIGHTS,
    BlockRecipe,
    CoupledRun,
    Record,
    SignalProbes,
    Task,
    TaskRows,
    advance_run,
    encode_pairs,
    encode_task,
    fuse_signals,
    make_signal_probes,
    no_record,
    stack_couplings,
    start_run,
    yoked_record,
)
from .trained_study import TrainedStudy, checked, few_jump_task, share_right

YOKED = "batches without σ"
"""The condition with the full one's batches, learner by learner, and no σ of its own."""
OWN = ("baseline", "σ without batches", "schema loss", "full")
"""The conditions that follow a coherence of their own."""
OTHER = "around right"
"""No learner reads these two words together: compositions that nothing is engineered for."""
_CURRICULUM = 100
_MEASURED = 50
"""Items of each part at a checkpoint; at the end the engineered compositions are all asked."""
_EPOCHS = 20.0
"""Of the Σ-Model in the whole run, as in `experiments.train`."""
_LATE = 4
"""The last fourth of the checkpoints is averaged, since 50 items are few."""

Curves = Float[np.ndarray, "seeds checkpoints"]
Seeds = Float[np.ndarray, " seeds"]


class CoupledOutcomes(NamedTuple):
    """What is known of the learners, by condition."""

    steps: Float[np.ndarray, " checkpoints"]
    familiar: dict[str, Curves]
    """Exact match in distribution."""
    test: dict[str, Curves]
    """On commands with "jump" in company that nobody was shown."""
    engineered: dict[str, Seeds]
    """At the end, on more of these commands."""
    other: dict[str, Seeds]
    """At the end, on commands with "around right"."""
    coherence: dict[str, Curves]
    """σ̃ at the start of each checkpoint's block, by the paper's weights. Calibrated weights are
    fitted to accuracies; in these there is none."""
    entry: dict[str, Seeds]
    """The step at which a learner enters phase 2; infinite if it never does."""


def late(curves: Curves) -> Seeds:
    """The mean over the last fourth of the checkpoints."""
    return curves[:, -(curves.shape[1] // _LATE) :].mean(axis=1)


def train_coupled_learners(study: TrainedStudy) -> CoupledOutcomes:
    """Train every seed in every condition, the yoked one last.

    SCAN without "around right". The curriculum has 100 commands with "jump" in company, which
    plain learners are never shown; the test has others.
    """
    task, other = _task(study)
    shown = task._replace(test=task.test[:_MEASURED])
    rows = encode_task(shown)
    probes = make_signal_probes(
        task.grammar,
        task.vocabulary,
        (*task.task, *task.compositional),
        allowed=task.may_be_shown,
        seed=study.seed,
    )
    blocks = study.checkpoints
    own = _run(study, task, rows, probes, OWN, no_record(study.seeds * len(OWN), blocks))
    at = OWN.index("full") * study.seeds
    full = jax.tree.map(lambda leaf: leaf[at : at + study.seeds], own.trace.record)
    yoked = _run(study, task, rows, probes, (YOKED,), yoked_record(YOKED, full))
    asked = [encode_pairs(task.vocabulary, pairs) for pairs in (task.test, other)]
    parts = [
        _outcomes(study, names, run, [share_right(run.state.learners, pairs) for pairs in asked])
        for names, run in ((OWN, own), ((YOKED,), yoked))
    ]
    joined = {name: {k: v for part in parts for k, v in part[name].items()} for name in parts[0]}
    every = study.steps // study.checkpoints
    return CoupledOutcomes(np.arange(every, study.steps + 1, every, dtype=float), **joined)


def _task(study: TrainedStudy) -> tuple[Task, tuple[Pair, ...]]:
    """The task without "around right" in any part, and the commands that have it."""
    task = few_jump_task(study, compositional=_CURRICULUM, familiar=_MEASURED)

    def without(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return tuple(pair for pair in pairs if OTHER not in pair.source)

    candidates = sorted(set(task.task) | set(task.familiar))
    other = tuple(pair for pair in candidates if OTHER in pair.source)
    forbids = task.forbids
    kept = task._replace(
        **{name: without(task.part(name)) for name in ("task", "compositional", "calibration")},
        familiar=without(task.familiar),
        test=without(task.test),
        forbids=lambda source: forbids(source) or OTHER in source,
    )
    return checked(kept), other


def _run(
    study: TrainedStudy,
    task: Task,
    rows: TaskRows,
    probes: SignalProbes,
    conditions: tuple[str, ...],
    record: Record,
) -> CoupledRun:
    """All checkpoints of the conditions, with one block to each checkpoint."""
    recipe = BlockRecipe(
        steps=study.steps // study.checkpoints,
        batch=study.batch,
        learning_rate=study.learning_rate,
        epochs_per_step=_EPOCHS / study.steps,
    )
    couplings = stack_couplings(
        [CONDITIONS[name] for name in conditions for _ in range(study.seeds)]
    )
    run = start_run(
        task.vocabulary.size,
        list(range(study.seeds)),
        len(conditions),
        study.checkpoints,
        1,
        sizes=study.learner,
    )
    while run.checkpoints_done < study.checkpoints:
        run = advance_run(run, rows, probes, couplings, record, recipe=recipe, at_once=1)
    return run


def _outcomes(
    study: TrainedStudy, names: tuple[str, ...], run: CoupledRun, asked: list[Seeds]
) -> dict[str, dict[str, np.ndarray]]:
    """Every field of `CoupledOutcomes` but the steps, by condition."""
    accuracy = np.asarray(run.accuracy, float)
    weights = jnp.asarray(FUSION_WEIGHTS, run.trace.signals.dtype)
    reached = np.asarray(run.trace.phase) >= 2
    starts = np.arange(study.checkpoints) * (study.steps // study.checkpoints)
    fields = {
        "familiar": accuracy[..., 0],
        "test": accuracy[..., 2],
        "engineered": asked[0],
        "other": asked[1],
        "coherence": np.asarray(fuse_signals(run.trace.signals, weights), float),
        "entry": np.where(reached.any(axis=1), starts[reached.argmax(axis=1)], np.inf),
    }
    return {
        field: {
            name: values[at * study.seeds : (at + 1) * study.seeds] for at, name in enumerate(names)
        }
        for field, values in fields.items()
    }
