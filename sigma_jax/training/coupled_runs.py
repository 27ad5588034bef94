"""A whole run of coupled learners: blocks, and checkpoints with exact match and calibration."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._check import require_in
from ..kernel import OuroConfig
from ..schema import Thresholds
from .coherence_filter import CoherenceNoise
from .coherence_signals import SignalProbes
from .compositional_tasks import Task
from .coupled_training import (
    BlockRecipe,
    BlockTrace,
    CoupledState,
    Pools,
    pad_pools,
    start_coupled,
    train_coupled,
)
from .learner_coupling import Coupling, Record
from .seq2seq_data import Seq2SeqPairs, encode_pairs
from .seq2seq_decoding import exact_match
from .seq2seq_training import start_learners
from .signal_fusion import DISCREPANCY, calibrate_fusion
from .transformer import TransformerSizes

MEASURED = ("familiar", "calibration", "test")
"""The parts whose exact match is measured at every checkpoint, in this order."""

_LEAST_FAMILIAR = 0.05
"""Below this accuracy in distribution σ̂ is not defined: it would divide noise by noise."""


class TaskRows(NamedTuple):
    """A task as rows of tokens."""

    pools: Pools
    familiar: Seq2SeqPairs
    calibration: Seq2SeqPairs
    test: Seq2SeqPairs


class CoupledRun(NamedTuple):
    """Learners, and all that has been recorded of them; what is still to come is NaN or zero."""

    state: CoupledState
    trace: BlockTrace
    """[learners, blocks of the whole run]."""
    accuracy: Float[Array, "learners checkpoints 3"]
    """Exact match on the `MEASURED` parts, at the end of every checkpoint's blocks."""
    weights: Float[Array, "learners checkpoints 3"]
    """Of the signals, after the checkpoint's calibration."""

    @property
    def step(self) -> int:
        """How many steps have been taken."""
        return self.state.step

    @property
    def checkpoints_done(self) -> int:
        """How many checkpoints have been measured."""
        return int(np.isfinite(np.asarray(self.accuracy[0, :, 0])).sum())

    @property
    def measured_sigma(self) -> Float[Array, "learners checkpoints"]:
        """σ̂, Acc_calibration / Acc_familiar, in [0, 1]; NaN where nothing familiar is known."""
        familiar, calibration = self.accuracy[..., 0], self.accuracy[..., 1]
        ratio = jnp.clip(calibration / jnp.maximum(familiar, _LEAST_FAMILIAR), 0.0, 1.0)
        return jnp.where(familiar >= _LEAST_FAMILIAR, ratio, jnp.nan)


def encode_task(task: Task) -> TaskRows:
    """The task's parts as rows, with its own vocabulary."""

    def rows(part: str) -> Seq2SeqPairs:
        return encode_pairs(task.vocabulary, task.part(part))

    pools = pad_pools(Pools(rows("task"), rows("compositional")))
    return TaskRows(pools, *(rows(part) for part in MEASURED))


def start_run(
    vocabulary_size: int,
    seeds: list[int],
    conditions: int,
    checkpoints: int,
    blocks: int,
    *,
    sizes: TransformerSizes | OuroConfig = TransformerSizes(),
    noise: CoherenceNoise = CoherenceNoise(),
) -> CoupledRun:
    """Untrained learners: every seed in every condition, the conditions one after the other.

    **Arguments:** `blocks` between two checkpoints.

    **Raises** `ValueError` for a number below 1 or seeds that are not different.
    """
    for name, value in (("conditions", conditions), ("checkpoints", checkpoints)):
        require_in(name, value, 1)
    require_in("blocks", blocks, 1)
    learners = start_learners(vocabulary_size, seeds, sizes)
    learners = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * conditions), learners)
    state = start_coupled(learners, noise)
    count, dtype = len(seeds) * conditions, state.weights.dtype
    floats = jnp.zeros((count, checkpoints * blocks), dtype)
    fields = dict.fromkeys(BlockTrace._fields, floats)
    fields["signals"] = jnp.zeros((*floats.shape, 3), dtype)
    fields["phase"] = jnp.zeros(floats.shape, state.progress.phase.dtype)
    unknown = jnp.full((count, checkpoints, 3), jnp.nan, dtype)
    return CoupledRun(state, BlockTrace(**fields), unknown, unknown)


def advance_run(
    run: CoupledRun,
    rows: TaskRows,
    probes: SignalProbes,
    couplings: Coupling,
    record: Record,
    *,
    recipe: BlockRecipe = BlockRecipe(),
    noise: CoherenceNoise = CoherenceNoise(),
    thresholds: Thresholds = Thresholds(),
    batch: int = 256,
    at_once: int | None = None,
) -> CoupledRun:
    """Train to the next checkpoint, measure there, and calibrate where σ̃ and σ̂ differ.

    **Arguments:** `couplings` until that checkpoint, one a learner; `record` of the whole run;
    `batch`, pairs decoded at once; `at_once`, learners trained at once, as for `train_coupled`.

    **Raises** `ValueError` if the run has no further checkpoint, and as `train_coupled` does.
    """
    at, checkpoints = run.checkpoints_done, run.accuracy.shape[1]
    if at == checkpoints:
        raise ValueError(f"the run has all of its {checkpoints} checkpoints.")
    blocks = run.trace.sigma.shape[1] // checkpoints
    now = slice(at * blocks, (at + 1) * blocks)
    state, trace = train_coupled(
        run.state,
        rows.pools,
        probes,
        couplings,
        Record(*(part[:, now] for part in record)),
        recipe=recipe,
        noise=noise,
        thresholds=thresholds,
        at_once=at_once,
    )
    whole = jax.tree.map(lambda old, new: old.at[:, now].set(new), run.trace, trace)
    measured = jnp.stack([_accuracy(state, getattr(rows, p), batch) for p in MEASURED], axis=-1)
    accuracy = run.accuracy.at[:, at].set(measured.astype(run.accuracy.dtype))
    run = CoupledRun(state, whole, accuracy, run.weights)
    weights = _recalibrated(run, at, blocks)
    return CoupledRun(
        state._replace(weights=weights), whole, accuracy, run.weights.at[:, at].set(weights)
    )


def switched(
    couplings: Coupling, others: Coupling, where: Bool[np.ndarray, " learners"]
) -> Coupling:
    """The couplings, with others' in their place where asked: an intervention that ends."""
    return jax.tree.map(lambda one, other: jnp.where(where, other, one), couplings, others)


def _accuracy(state: CoupledState, pairs: Seq2SeqPairs, batch: int) -> Float[Array, " learners"]:
    right = exact_match(state.learners, pairs, batch=batch)
    return jnp.asarray(jnp.mean(right, axis=-1))


def _recalibrated(run: CoupledRun, at: int, blocks: int) -> Float[Array, "learners 3"]:
    """New weights for the learners whose σ̃ is further from σ̂ than the paper allows."""
    learners = run.accuracy.shape[0]
    by_checkpoint = run.trace.signals.reshape(learners, -1, blocks, 3).mean(axis=2)
    measured = jnp.where(jnp.arange(run.accuracy.shape[1]) <= at, run.measured_sigma, jnp.nan)
    fitted = _calibrate(by_checkpoint, measured, run.state.weights)
    observed = run.trace.observed[:, at * blocks : (at + 1) * blocks].mean(axis=1)
    differ = jnp.abs(observed - measured[:, at]) > DISCREPANCY
    return jnp.asarray(jnp.where(differ[:, None], fitted, run.state.weights))


_calibrate = jax.jit(jax.vmap(calibrate_fusion))
