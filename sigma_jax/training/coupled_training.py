"""Learners coupled to the Σ-Model, many seeds and conditions in one compiled call.

Training goes in blocks of steps. At the start of a block the signals are measured, the filter is
corrected and the phase machine moves; that fixes the block's loss, rate and share of compositional
pairs. During the block the Σ-Model forecasts σ.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key

from .._check import require_in
from ..schema import (
    PhaseProgress,
    SigmaModel,
    Thresholds,
    advance_phase,
    domain_margins,
    initial_state,
    sigma_model,
    start_phases,
)
from ..solvers import in_batches
from .coherence_filter import CoherenceBelief, CoherenceNoise, correct, forecast
from .coherence_signals import (
    SignalProbes,
    gradient_alignment,
    paraphrase_consistency,
    shuffle_targets,
    structure_alignment,
)
from .learner_coupling import Coupling, Record
from .seq2seq_data import Seq2SeqPairs
from .seq2seq_training import LearnerState, apply_update, check_tokens, summed_loss
from .signal_fusion import FUSION_WEIGHTS, fuse_signals


class CoupledState(NamedTuple):
    """Learners and what is believed of them; the first axis of every array is the learners'.

    What is believed is of JAX's default floating-point type, whatever the learners' is.
    """

    learners: LearnerState
    belief: CoherenceBelief
    """The Σ-Model's state and the variance of σ, before the next observation."""
    progress: PhaseProgress
    weights: Float[Array, "learners 3"]
    """Of the signals in σ̃."""

    @property
    def step(self) -> int:
        """How many steps have been taken."""
        return int(self.learners.step[0])


class Pools(NamedTuple):
    """The pairs that learners are trained on, as rows of equal widths."""

    task: Seq2SeqPairs
    compositional: Seq2SeqPairs


class BlockTrace(NamedTuple):
    """What happened in each block; every field is [learners, blocks], `signals` [.., .., 3]."""

    task_loss: Float[Array, "learners blocks"]
    """Mean over the block's steps, in nats a token."""
    compositional_loss: Float[Array, "learners blocks"]
    """Over the steps that had compositional pairs; 0 if none had."""
    signals: Float[Array, "learners blocks 3"]
    observed: Float[Array, "learners blocks"]
    """σ̃ at the start of the block."""
    predicted: Float[Array, "learners blocks"]
    """σ there by the equation, before the observation."""
    sigma: Float[Array, "learners blocks"]
    """σ after the correction."""
    deviation: Float[Array, "learners blocks"]
    """Standard deviation of σ after the correction."""
    alpha: Float[Array, "learners blocks"]
    delta_rel: Float[Array, "learners blocks"]
    phase: Int[Array, "learners blocks"]
    share: Float[Array, "learners blocks"]
    """The share of compositional pairs that the block's batches had."""

    @property
    def record(self) -> Record:
        """For others to be yoked to."""
        crystallised = (self.phase >= 2).astype(self.sigma.dtype)
        return Record(self.sigma, self.alpha, self.share, crystallised)


class BlockRecipe(NamedTuple):
    """How blocks are trained; a change of one compiles anew."""

    steps: int = 25
    """Of a block: how often signals are measured."""
    batch: int = 32
    """Pairs a step."""
    signal_pairs: int = 16
    """Pairs of each of the gradients that are compared."""
    learning_rate: float = 3e-3
    epochs_per_step: float = 0.01
    """The Σ-Model's time that one step takes. An epoch of the data would make it batch/pairs."""
    dwell: int = 1
    """Blocks that a phase's trigger has to hold."""
    reverse_dwell: int = 10
    variant: str = "consistent"
    """Of `sigma_model`."""


def start_coupled(learners: LearnerState, noise: CoherenceNoise = CoherenceNoise()) -> CoupledState:
    """Untrained learners in the Σ-Model's initial state, in phase 0."""
    count = learners.seeds.size

    def every(leaf: ArrayLike) -> Array:
        return jnp.broadcast_to(jnp.asarray(leaf), (count, *jnp.shape(leaf)))

    # Of a definite type, as training returns it: a weak one would compile the next call anew.
    variance = jnp.asarray(noise.initial**2, jnp.result_type(float))
    belief = CoherenceBelief(initial_state(), variance)
    return CoupledState(
        learners=learners,
        belief=jax.tree.map(every, belief),
        progress=start_phases((count,)),
        weights=every(jnp.asarray(FUSION_WEIGHTS)),
    )


def train_coupled(
    state: CoupledState,
    pools: Pools,
    probes: SignalProbes,
    couplings: Coupling,
    record: Record,
    *,
    recipe: BlockRecipe = BlockRecipe(),
    noise: CoherenceNoise = CoherenceNoise(),
    thresholds: Thresholds = Thresholds(),
    at_once: int | None = None,
) -> tuple[CoupledState, BlockTrace]:
    """Train every learner for as many more blocks as `record` has.

    A learner's batches and dropout depend on its seed and the step alone, so that one seed in two
    conditions has the same draws, and training in several calls gives the same bits as in one, if
    each is of two blocks or more (a single block is compiled, and so rounded, otherwise).
    Learners are spread over all devices.

    **Arguments:** `couplings`, one a learner (`stack_couplings`); `record`, [learners, blocks],
    which only yoked learners follow; `at_once`, how many learners a device takes a step of
    together, all of its own by default: fewer need less memory, and on a CPU are quicker.

    **Raises** `ValueError` for a recipe out of range, pools or shapes that do not fit, a token that
    the learners do not know; and if a loss is not finite, naming the seeds.
    """
    for name in ("steps", "batch", "signal_pairs", "dwell", "reverse_dwell"):
        require_in(f"recipe.{name}", getattr(recipe, name), 2 if name == "signal_pairs" else 1)
    require_in("recipe.learning_rate", recipe.learning_rate, 0.0)
    require_in("recipe.epochs_per_step", recipe.epochs_per_step, 0.0, open_low=True)
    learners = state.learners.seeds.size
    for name, array in (("couplings", couplings.schema), ("record", record.sigma)):
        if jnp.shape(array)[:1] != (learners,):
            raise ValueError(
                f"{name} must be of {learners} learners; its shape is {list(jnp.shape(array))}."
            )
    for pool in pools:
        check_tokens(state.learners, pool.source, pool.target)
    pools = pad_pools(pools)
    if at_once is not None:
        require_in("at_once", at_once, 1)
    learning = state, couplings, record
    batch_size = learners if at_once is None else at_once
    state, trace = _train_blocks(learning, (pools, probes), recipe, noise, thresholds, batch_size)
    lost = ~np.isfinite(np.asarray(trace.task_loss)).all(axis=1)
    if lost.any():
        raise ValueError(
            "the loss is not finite, lower the learning rate, for the seeds "
            f"{np.asarray(state.learners.seeds)[lost].tolist()}."
        )
    return state, trace


def pad_pools(pools: Pools) -> Pools:
    """The same pairs, both pools as wide as the wider one.

    **Raises** `ValueError` for an empty pool.
    """
    for name, pool in pools._asdict().items():
        if not len(pool.source):
            raise ValueError(f"pools.{name} must hold at least one pair.")
    widths = [max(pool[side].shape[1] for pool in pools) for side in range(2)]

    def padded(rows: np.ndarray, width: int) -> np.ndarray:
        return np.pad(np.asarray(rows), [(0, 0), (0, width - rows.shape[1])])

    return Pools(*(Seq2SeqPairs(*map(padded, pool, widths)) for pool in pools))


@functools.partial(jax.jit, static_argnames=("recipe", "noise", "batch_size"))
def _train_blocks(learning, shared, recipe, noise, thresholds, batch_size):
    model = sigma_model(recipe.variant)
    pools, probes = jax.tree.map(jnp.asarray, shared)

    def train_one(state: CoupledState, coupling: Coupling, record: Record):
        def block(state: CoupledState, given: Record):
            return _block(state, given, coupling, pools, probes, model, recipe, noise, thresholds)

        return jax.lax.scan(block, state, record)

    return in_batches(lambda batch: jax.vmap(train_one)(*batch), learning, batch_size)


class _Setting(NamedTuple):
    """What holds for the steps of a block."""

    share: Array
    rate: Array
    factor: Array
    """Of the whole loss."""
    schema: Array
    """Of the compositional loss."""


def _block(
    state: CoupledState,
    given: Record,
    coupling: Coupling,
    pools: Pools,
    probes: SignalProbes,
    sigma: SigmaModel,
    recipe: BlockRecipe,
    noise: CoherenceNoise,
    thresholds: Thresholds,
) -> tuple[CoupledState, BlockTrace]:
    """One learner's block: observe, correct, decide, train, forecast."""
    learner = state.learners
    key = jax.random.fold_in(jax.random.key(learner.seeds), learner.step)
    dtype = state.weights.dtype
    for_signals = jax.random.split(key, 4)[3]
    signals = _signals(learner, pools, probes, for_signals, recipe).astype(dtype)
    observed = fuse_signals(signals, state.weights)
    predicted = state.belief.state.sigma[0, 0, 0]
    belief = correct(state.belief, observed, noise)
    delta_rel, known = belief.state.delta[0, :, 0], belief.state.sigma[0, :, 0]
    progress = advance_phase(
        state.progress,
        domain_margins(delta_rel, known, thresholds),
        dwell=recipe.dwell,
        reverse_dwell=recipe.reverse_dwell,
    )
    setting = _setting(belief, progress, given, coupling, recipe)
    narrow = learner.model.dtype
    narrowed = jax.tree.map(lambda value: value.astype(narrow), setting)
    learner, (task_loss, compositional_loss, had) = jax.lax.scan(
        lambda now, _: _step(now, pools, narrowed, recipe), learner, length=recipe.steps
    )
    epochs = jnp.asarray(recipe.steps * recipe.epochs_per_step, dtype)
    trace = BlockTrace(
        task_loss=jnp.mean(task_loss).astype(dtype),
        compositional_loss=(
            jnp.sum(compositional_loss * had) / jnp.maximum(jnp.sum(had), 1.0)
        ).astype(dtype),
        signals=signals,
        observed=observed,
        predicted=predicted,
        sigma=belief.state.sigma[0, 0, 0],
        deviation=jnp.sqrt(belief.variance),
        alpha=belief.state.alpha[0, 0, 0],
        delta_rel=delta_rel[0],
        phase=progress.phase,
        share=setting.share,
    )
    belief = forecast(sigma, belief, setting.share, epochs, noise)
    return CoupledState(learner, belief, progress, state.weights), trace


def _setting(
    belief: CoherenceBelief,
    progress: PhaseProgress,
    given: Record,
    coupling: Coupling,
    recipe: BlockRecipe,
) -> _Setting:
    """The block's loss, rate and share: by the learner's own coherence, or another's record."""

    def chosen(own: Array, recorded: Array) -> Array:
        return jnp.where(coupling.yoked > 0.5, recorded, own)

    dtype = given.sigma.dtype
    sigma = chosen(belief.state.sigma[0, 0, 0], given.sigma)
    alpha = chosen(belief.state.alpha[0, 0, 0], given.alpha)
    own = (progress.phase >= 2).astype(dtype)
    crystallised = chosen(own, given.crystallised)
    own_share = coupling.early_share + (coupling.late_share - coupling.early_share) * own
    return _Setting(
        share=chosen(own_share, given.share),
        rate=recipe.learning_rate * (1.0 + coupling.rate_gain * alpha * crystallised),
        factor=1.0 + coupling.additive * (1.0 - sigma) + coupling.multiplicative * sigma,
        schema=coupling.schema * (1.0 - sigma),
    )


def _signals(
    learner: LearnerState,
    pools: Pools,
    probes: SignalProbes,
    key: Key[Array, ""],
    recipe: BlockRecipe,
) -> Float[Array, " 3"]:
    """Gradient, structure and consistency, without dropout."""
    keys = jax.random.split(key)
    compositional = _drawn(pools.compositional, keys[0], recipe.signal_pairs)
    training = _drawn(pools.task, keys[1], recipe.signal_pairs)
    batches = jax.tree.map(
        lambda *rows: jnp.stack(rows), compositional, training, shuffle_targets(training)
    )

    def gradient(pairs: Seq2SeqPairs):
        def loss(model):
            total, tokens = summed_loss(model, pairs, None)
            return total / tokens

        return jax.grad(loss)(learner.model)

    gradients = jax.vmap(gradient)(batches)
    three = [jax.tree.map(lambda leaf, at=at: leaf[at], gradients) for at in range(3)]
    return jnp.stack(
        [
            gradient_alignment(*three),
            structure_alignment(learner.model, probes),
            paraphrase_consistency(learner.model, probes),
        ]
    )


def _drawn(pool: Seq2SeqPairs, key: Key[Array, ""], count: int) -> Seq2SeqPairs:
    rows = _remainders(jax.random.bits(key, (count,), jnp.uint32), pool)
    return Seq2SeqPairs(pool.source[rows], pool.target[rows])


def _remainders(draws: Array, pool: Seq2SeqPairs) -> Array:
    """Rows by a remainder of 32 bits: uniform to within pairs / 2³²."""
    return draws % jnp.asarray(pool.source.shape[0], jnp.uint32)


def _step(
    learner: LearnerState, pools: Pools, setting: _Setting, recipe: BlockRecipe
) -> tuple[LearnerState, tuple[Array, Array, Array]]:
    """One step of Adam on a batch of which the first rows are compositional."""
    key = jax.random.fold_in(jax.random.key(learner.seeds), learner.step)
    # The fourth is the signals', at the first step of a block.
    for_rows, for_dropout, for_share, _ = jax.random.split(key, 4)
    draws = jax.random.bits(for_rows, (recipe.batch,), jnp.uint32)
    keys = jax.random.split(for_dropout, recipe.batch)
    # As many whole pairs as the share asks for on average: its fraction is drawn.
    wanted = setting.share * recipe.batch + jax.random.uniform(for_share, dtype=setting.share.dtype)
    is_comp = jnp.arange(recipe.batch, dtype=wanted.dtype) < jnp.floor(wanted)
    task, comp = (_remainders(draws, pool) for pool in pools)
    pairs = Seq2SeqPairs(
        *(
            jnp.where(is_comp[:, None], from_comp[comp], from_task[task])
            for from_task, from_comp in zip(*pools, strict=True)
        )
    )

    def loss_of(model):
        total, tokens = summed_loss(model, pairs, keys, by_row=True)
        weight = is_comp.astype(total.dtype)

        def mean(rows: Array) -> Array:
            return jnp.sum(total * rows) / jnp.maximum(jnp.sum(tokens * rows), 1.0)

        task_loss, comp_loss = mean(1.0 - weight), mean(weight)
        loss = setting.factor * (task_loss + setting.schema * comp_loss)
        return loss, (task_loss, comp_loss)

    (_, (task_loss, comp_loss)), gradient = jax.value_and_grad(loss_of, has_aux=True)(learner.model)
    had = jnp.any(is_comp).astype(task_loss.dtype)
    return apply_update(learner, gradient, setting.rate), (task_loss, comp_loss, had)
