"""A batch of rows that are being generated: its state, and the compiled calls that move it on.

`generation.py` is the face of this; here is what runs inside of jit.
"""

import enum
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .cache import Cache, fold_cache
from .canary import Adaptation, CanarySigns, CanaryState, observe
from .decoding import Depth, Step, decode, prefill
from .exits import QExit
from .model import Ouro
from .sampling import NO_TOKEN, Sampling, sample


class Finish(enum.IntEnum):
    """Why a row of a batch has ended."""

    RUNNING = 0
    STOP = 1
    """It drew a stop id."""
    LENGTH = 2
    """It ran to its length limit, or to the end of the model's context."""
    RELEASED = 3
    """It was given up, or never held a sequence."""
    NOT_FINITE = 4
    """Its logits were not finite; no token was drawn from them."""


class Decoding(eqx.Module):
    """The rows of a running batch. Made by `Generator.start` or `Generator.empty`.

    A call that moves a batch on takes its memory: the state that was handed in is gone.
    """

    cache: Cache
    token: Int[Array, " batch"]
    """Drawn last, and not read yet."""
    finish: Int[Array, " batch"]
    """A `Finish`."""
    remaining: Int[Array, " batch"]
    """How many tokens may still be drawn."""
    produced: Int[Array, " batch"]
    keys: Key[Array, " batch"]
    recent: Int[Array, "batch window"]
    """The last ids, newest at the end."""
    depth: Depth
    sampling: Sampling
    adaptation: Adaptation
    canary: CanaryState


class Chunk(NamedTuple):
    """What the tokens of one call were. Where `tokens` is -1, the rest means nothing."""

    tokens: Int[Array, "batch tokens"]
    """A stop id included, if that is what ended the row; -1 behind the row's end."""
    depths: Int[Array, "batch tokens"]
    """How many loops the prediction of each token had."""
    signs: CanarySigns
    """[batch, tokens] each."""
    finish: Int[Array, " batch"]
    """A `Finish`, after the call."""


@partial(jax.jit, static_argnames=("structure", "first"), donate_argnames="cache")
def read_chunk(
    leaves: list[Array],
    cache: Cache,
    ids: Int[Array, "batch tokens"],
    real: Bool[Array, "batch tokens"],
    depth: Depth,
    *,
    structure: Any,
    first: bool,
) -> Step:
    """`prefill`, compiled. `leaves` and `structure` are those of the model."""
    model = jax.tree.unflatten(structure, leaves)
    return prefill(model, cache, ids, real, depth, first=first)


@partial(jax.jit, static_argnames=("structure", "stop_ids"))
def first_tokens(
    leaves: list[Array],
    state: Decoding,
    hidden: Float[Array, "batch size"],
    depth: Int[Array, " batch"],
    *,
    structure: Any,
    stop_ids: tuple[int, ...],
) -> tuple[Decoding, Chunk]:
    """Fold the cache of the prompts for decoding, and draw each row's first token."""
    model = jax.tree.unflatten(structure, leaves)
    cache = state.cache
    newest = (cache.cursor - 1) % cache.capacity
    folded = fold_cache(cache, state.depth.cache, jnp.take(cache.depths, newest, axis=1))
    state = eqx.tree_at(lambda s: s.cache, state, folded)
    state, chunk = _draw(model, state, hidden, depth, stop_ids)
    return state, jax.tree.map(lambda column: column[:, None], chunk)._replace(finish=state.finish)


@partial(jax.jit, static_argnames=("structure", "steps", "stop_ids"), donate_argnames="state")
def next_tokens(
    leaves: list[Array], state: Decoding, *, structure: Any, steps: int, stop_ids: tuple[int, ...]
) -> tuple[Decoding, Chunk]:
    """Read the last token of each row and draw the next, `steps` times or until all have ended."""
    model = jax.tree.unflatten(structure, leaves)

    def turn(carry: tuple[Array, Decoding, Chunk]) -> tuple[Array, Decoding, Chunk]:
        index, state, chunk = carry
        step = decode(model, state.cache, state.token, _depth_now(state))
        state = eqx.tree_at(lambda s: s.cache, state, step.cache)
        state, column = _draw(model, state, step.hidden, step.depth, stop_ids)
        chunk = jax.tree.map(lambda kept, new: kept.at[index].set(new), chunk, column)
        return index + 1, state, chunk

    def goes_on(carry: tuple[Array, Decoding, Chunk]) -> Array:
        return (carry[0] < steps) & (carry[1].finish == Finish.RUNNING).any()

    hidden = jnp.zeros((state.token.shape[0], model.config.hidden_size), model.dtype)
    column = jax.eval_shape(lambda s: _draw(model, s, hidden, s.token, stop_ids)[1], state)
    chunk = jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), column)
    chunk = chunk._replace(tokens=jnp.full_like(chunk.tokens, NO_TOKEN))
    start = jnp.zeros((), jnp.int32)
    _, state, chunk = jax.lax.while_loop(goes_on, turn, (start, state, chunk))
    chunk = jax.tree.map(lambda column: jnp.moveaxis(column, 0, 1), chunk)
    return state, chunk._replace(finish=state.finish)


def _draw(
    model: Ouro,
    state: Decoding,
    hidden: Float[Array, "batch size"],
    depth: Int[Array, " batch"],
    stop_ids: tuple[int, ...],
) -> tuple[Decoding, Chunk]:
    """Draw the next token of each row from its hidden state; the chunk has no token axis."""
    logits = model.logits(hidden).astype(jnp.float32)
    finite = jnp.isfinite(logits).all(axis=-1)
    unease = _unease(state)
    penalty = state.sampling.repetition_penalty * (
        1.0 + state.adaptation.repetition_penalty * unease
    )
    sampling = eqx.tree_at(lambda s: s.repetition_penalty, state.sampling, penalty)
    stops = jnp.asarray(stop_ids, jnp.int32)
    bias = (state.adaptation.stop_bias * unease)[:, None]
    keys = jax.vmap(jax.random.fold_in)(state.keys, state.produced)
    ids = sample(keys, logits.at[:, stops].add(bias), sampling, state.recent)
    canary, signs = observe(state.canary, logits, ids)

    running = state.finish == Finish.RUNNING
    remaining = state.remaining - running.astype(jnp.int32)
    ended = jnp.where(remaining > 0, Finish.RUNNING, Finish.LENGTH).astype(jnp.int32)
    ended = jnp.where((ids[:, None] == stops).any(axis=1), Finish.STOP, ended)
    ended = jnp.where(finite, ended, Finish.NOT_FINITE)
    finish = jnp.where(running, ended, state.finish)
    after = Decoding(
        cache=state.cache,
        token=ids,
        finish=finish,
        remaining=remaining,
        produced=state.produced + 1,
        keys=state.keys,
        recent=jnp.concatenate([state.recent[:, 1:], ids[:, None]], axis=1),
        depth=state.depth,
        sampling=state.sampling,
        adaptation=state.adaptation,
        canary=canary,
    )
    return after, Chunk(jnp.where(running & finite, ids, NO_TOKEN), depth, signs, finish)


def _unease(state: Decoding) -> Float[Array, " batch"]:
    """The degeneracy of rows whose alarm is on, zero elsewhere."""
    return jnp.where(state.canary.alarm, state.canary.degeneracy, 0.0)


def _depth_now(state: Decoding) -> Depth:
    """The rows' depth, adapted; a row that has ended asks for no loop behind the first."""
    depth = state.depth
    bound = jnp.where(state.finish == Finish.RUNNING, depth.policy.max_loops, 1)
    depth = eqx.tree_at(lambda d: d.policy.max_loops, depth, bound)
    if isinstance(depth.policy, QExit):
        threshold = depth.policy.threshold + state.adaptation.exit_threshold * _unease(state)
        depth = eqx.tree_at(lambda d: d.policy.threshold, depth, threshold)
    return depth


@partial(jax.jit, donate_argnames="state")
def put_row(state: Decoding, row: Int[Array, ""], other: Decoding) -> Decoding:
    """Put the only row of `other` into `row`, its columns turned to end at the batch's cursor."""
    capacity, ring = state.cache.capacity, other.cache

    def turned(columns: Array, axis: int) -> Array:
        oldest_first = jnp.roll(columns, -ring.cursor, axis)
        width = [(0, 0)] * columns.ndim
        width[axis] = (capacity - ring.capacity, 0)
        return jnp.roll(jnp.pad(oldest_first, width), state.cache.cursor, axis)

    def into(kept: Array, new: Array) -> Array:
        axis = kept.ndim - 4
        new = turned(new, kept.ndim - 2)
        return jax.lax.dynamic_update_slice_in_dim(kept, new, row, axis)

    def put(kept: Array, new: Array) -> Array:
        return kept.at[row].set(new[0])

    cache = Cache(
        slots=jax.tree.map(into, state.cache.slots, ring.slots),
        depths=put(state.cache.depths, turned(ring.depths, 1)),
        cursor=state.cache.cursor,
        lengths=put(state.cache.lengths, ring.lengths),
    )
    others = eqx.tree_at(lambda s: s.cache, other, None)
    kept = eqx.tree_at(lambda s: s.cache, state, None)
    merged = jax.tree.map(put, kept, others)
    return eqx.tree_at(lambda s: s.cache, merged, cache, is_leaf=lambda leaf: leaf is None)


@partial(jax.jit, donate_argnames="state")
def end_row(state: Decoding, row: Int[Array, ""]) -> Decoding:
    """The same batch with `row` released."""
    finish = state.finish.at[row].set(Finish.RELEASED)
    return eqx.tree_at(lambda s: s.finish, state, finish)
