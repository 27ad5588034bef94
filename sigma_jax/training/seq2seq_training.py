"""Many learners, one a seed, trained side by side in one compiled call."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, DTypeLike, Float, Int, Key, PyTree

from .._check import require_in
from ..kernel import OuroConfig
from ..solvers import in_batches
from .learner import Learner, make_learner
from .seq2seq_data import PAD, START, Seq2SeqPairs
from .transformer import TransformerSizes

_OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
"""Adam without its rate, which every learner and step may have its own of."""


class LearnerState(NamedTuple):
    """Learners at one step of their training: arrays only, the first axis being the seeds'."""

    model: Learner
    """The learners' parameters."""
    optimiser: PyTree
    """Adam's moments."""
    seeds: Int[Array, " seeds"]
    """With the step, all that a learner's draws depend on."""
    step: Int[Array, " seeds"]
    """How many steps have been taken."""


def start_learners(
    vocabulary_size: int,
    seeds: Sequence[int],
    sizes: TransformerSizes | OuroConfig = TransformerSizes(),
    *,
    dtype: DTypeLike = jnp.float32,
) -> LearnerState:
    """Untrained learners, one a seed.

    **Arguments:** `vocabulary_size`, special tokens included; `seeds`, different ones; `sizes` of
    every learner: of a `Seq2SeqTransformer`, or the configuration of a `LoopedLearner`; `dtype` of
    parameters and computation.

    **Raises** `ValueError` without a seed, or for one that comes twice or is not in [0, 2³¹).
    """
    if not len(seeds) or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different, and at least one; got {list(seeds)}.")
    require_in("seeds", seeds, 0, 2**31 - 1)

    models = [make_learner(vocabulary_size, sizes, seed=seed, dtype=dtype) for seed in seeds]
    model = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *models)
    return LearnerState(
        model=model,
        optimiser=jax.vmap(_OPTIMISER.init)(model),
        seeds=jnp.asarray(seeds, jnp.int32),
        step=jnp.zeros(len(seeds), jnp.int32),
    )


def sequence_loss(
    model: Learner,
    source: Int[ArrayLike, "pairs source"],
    target: Int[ArrayLike, "pairs target"],
    *,
    key: Key[Array, ""] | None = None,
) -> Float[Array, ""]:
    """One learner's cross-entropy in nats, the mean over the targets' tokens, ends included.

    **Arguments:** `source` and `target`, rows as in `Seq2SeqPairs`; `key` of the dropout, without
    which there is none.
    """
    source, target = jnp.asarray(source), jnp.asarray(target)
    keys = None if key is None else jax.random.split(key, source.shape[0])
    total, tokens = summed_loss(model, Seq2SeqPairs(source, target), keys)  # pyright: ignore[reportArgumentType]
    return total / tokens


def summed_loss(
    model: Learner,
    pairs: Seq2SeqPairs,
    keys: Key[Array, " pairs"] | None,
    *,
    by_row: bool = False,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The cross-entropy of the targets' tokens, and how many these are: of all, or row by row."""
    source, target = pairs
    target_in = jnp.concatenate([jnp.full_like(target[:, :1], START), target[:, :-1]], axis=1)

    def row_logits(source_row, target_row, row_key):
        return model.logits(source_row, target_row, key=row_key)

    in_axes = (0, 0, None if keys is None else 0)
    log_p = jax.nn.log_softmax(jax.vmap(row_logits, in_axes)(source, target_in, keys))
    # A product as for the embedding, so that the gradient is not a scatter.
    right = jax.nn.one_hot(target, log_p.shape[-1], dtype=log_p.dtype)
    counted = (target != PAD).astype(log_p.dtype)
    axes = (1, 2) if by_row else (0, 1, 2)
    return -jnp.sum(log_p * right * counted[..., None], axes), jnp.sum(counted, axes[:-1])


def train_learners(
    state: LearnerState,
    data: Seq2SeqPairs,
    *,
    steps: int,
    batch: int,
    learning_rate: ArrayLike,
    length_groups: int = 1,
    seeds_at_once: int | None = None,
) -> tuple[LearnerState, Float[Array, "seeds steps"]]:
    """Train every learner for `steps` more steps, by Adam with gradients clipped to norm 1.

    A learner's batches (pairs drawn with replacement) and dropout depend on its seed and the step
    alone. So training in several calls gives the same bits as in one, and a learner's result does
    not depend on who is trained beside it, except for the rounding of matrix products.

    **Arguments:** `batch`, pairs a step; `learning_rate`, one number, or an array that broadcasts
    to [seeds, steps]; `length_groups`, a number of equal groups, by the length of their targets, of
    which every batch has equally many pairs: less padding to compute, for a longer compilation;
    `seeds_at_once`, how many learners a device takes a step of together, all of its own by default:
    one at a time has the bits that it has alone, fewer need less memory, and on a CPU one is
    quickest. Learners are spread over all devices.

    **Returns** the state, and every step's loss before the step.

    **Raises** `ValueError` for a number out of range, a rate of another shape, groups that do not
    divide the batch or a token that the learners do not know; and if a loss is not finite, naming
    the seeds.
    """
    require_in("steps", steps, 1)
    require_in("batch", batch, 1)
    require_in("learning_rate", learning_rate, 0.0)
    require_in("length_groups", length_groups, 1, len(data.source))
    at_once = state.seeds.size if seeds_at_once is None else seeds_at_once
    require_in("seeds_at_once", at_once, 1)
    if batch % length_groups:
        raise ValueError(f"batch must be a multiple of {length_groups} length_groups; got {batch}.")
    check_tokens(state, data.source, data.target)
    dtype, seeds = state.model.dtype, state.seeds.size
    try:
        rates = np.broadcast_to(np.asarray(learning_rate), (seeds, steps))
    except ValueError:
        raise ValueError(
            f"learning_rate must broadcast to [seeds, steps], {[seeds, steps]}; its shape is "
            f"{list(np.shape(learning_rate))}."
        ) from None
    state, losses = _train(
        state, _by_length(data, length_groups), jnp.asarray(rates, dtype), batch, at_once
    )
    lost = ~np.isfinite(losses).all(axis=1)
    if lost.any():
        raise ValueError(
            "the loss is not finite, lower the learning rate, for the seeds "
            f"{np.asarray(state.seeds)[lost].tolist()}."
        )
    return state, losses


def _by_length(data: Seq2SeqPairs, groups: int) -> tuple[Seq2SeqPairs, ...]:
    """The pairs in equal groups by the length of their targets, each as wide as its longest."""
    lengths = [(np.asarray(rows) != PAD).sum(axis=1) for rows in data]
    order = np.argsort(lengths[1], kind="stable")
    return tuple(
        Seq2SeqPairs(
            *(rows[group][:, : size[group].max()] for rows, size in zip(data, lengths, strict=True))
        )
        for group in np.array_split(order, groups)
    )


@functools.partial(jax.jit, static_argnames=("batch", "at_once"))
def _train(state, groups, rates, batch, at_once):
    def train_one(state, rates):
        return jax.lax.scan(lambda now, rate: _step(now, groups, rate, batch), state, rates)

    return in_batches(lambda some: jax.vmap(train_one)(*some), (state, rates), at_once)


def _step(
    state: LearnerState, groups: tuple[Seq2SeqPairs, ...], rate: Float[Array, ""], batch: int
) -> tuple[LearnerState, Float[Array, ""]]:
    key = jax.random.fold_in(jax.random.key(state.seeds), state.step)
    for_rows, for_dropout = jax.random.split(key)
    # A remainder of 32 bits: uniform to within pairs / 2³², and quicker to compile than `randint`.
    draws = jax.random.bits(for_rows, (len(groups), batch // len(groups)), jnp.uint32)
    keys = jax.random.split(for_dropout, draws.shape)

    def loss_of(model: Learner) -> Float[Array, ""]:
        total, tokens = jnp.zeros((), rate.dtype), jnp.zeros((), rate.dtype)
        for group, group_draws, group_keys in zip(groups, draws, keys, strict=True):
            rows = group_draws % jnp.asarray(group.source.shape[0], jnp.uint32)
            chosen = Seq2SeqPairs(group.source[rows], group.target[rows])
            added = summed_loss(model, chosen, group_keys)
            total, tokens = total + added[0], tokens + added[1]
        return total / tokens

    loss, gradient = jax.value_and_grad(loss_of)(state.model)
    return apply_update(state, gradient, rate), loss


def apply_update(
    state: LearnerState, gradient: PyTree[Float[Array, "..."]], rate: Float[Array, ""]
) -> LearnerState:
    """One learner after a step of clipped Adam."""
    with jax.numpy_dtype_promotion("standard"):  # Adam raises floats to whole-number powers
        update, optimiser = _OPTIMISER.update(gradient, state.optimiser)
    model = jax.tree.map(lambda p, u: p - rate * u, state.model, update)
    return LearnerState(model, optimiser, state.seeds, state.step + 1)


def check_tokens(state: LearnerState, *rows: Int[np.ndarray, "pairs places"]) -> None:
    """Raise ValueError unless every token of the rows is one that the learners know."""
    known = state.model.vocabulary_size
    for each in rows:
        require_in("a token", each, 0, known - 1)
