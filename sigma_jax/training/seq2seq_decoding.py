"""What learners say, token by token, and whether it is right to the last token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from .._check import require_in
from .learner import Learner
from .seq2seq_data import END, PAD, START, Seq2SeqPairs
from .seq2seq_training import LearnerState, check_tokens


def greedy_targets(
    state: LearnerState,
    source: Int[np.ndarray, "pairs source"],
    *,
    longest: int,
    batch: int = 256,
) -> Int[Array, "seeds pairs longest"]:
    """Every learner's target for every source, each token the most likely after those before it.

    A target ends with `END` and is then padded; one without `END` was cut at `longest` tokens.

    **Arguments:** `source`, rows as in `Seq2SeqPairs`; `batch`, how many pairs are decoded at once,
    which bounds the memory and changes nothing else.

    **Raises** `ValueError` for a number out of range, or a token that the learners do not know.
    """
    require_in("longest", longest, 1)
    require_in("batch", batch, 1)
    check_tokens(state, source)
    pairs = source.shape[0]
    batch = min(batch, pairs)
    batches = -(-pairs // batch)
    # The last batch is filled up with pairs from the beginning, whose answers are thrown away.
    filled = jnp.asarray(source)[np.arange(batches * batch) % pairs]
    return _decode_all(state.model, filled.reshape(batches, batch, -1), longest)[:, :pairs]


def exact_match(
    state: LearnerState, data: Seq2SeqPairs, *, longest: int | None = None, batch: int = 256
) -> Bool[Array, "seeds pairs"]:
    """Which pairs every learner gets right when it decodes alone: each token, and the end.

    **Arguments:** `longest`, how many tokens a learner may say, the end included: by default, and
    at least, as many as the longest target has; `batch`, as for `greedy_targets`.

    **Raises** `ValueError` as `greedy_targets` does, or for a `longest` too small.
    """
    target = np.asarray(data.target)
    check_tokens(state, target)
    needed = int((target != PAD).sum(axis=1).max())
    longest = needed if longest is None else longest
    require_in("longest", longest, needed)
    said = greedy_targets(state, data.source, longest=longest, batch=batch)
    expected = np.full((len(target), longest), PAD, target.dtype)
    expected[:, :needed] = target[:, :needed]
    return jnp.all(said == expected, axis=-1)


@functools.partial(jax.jit, static_argnames="longest")
def _decode_all(models, batches, longest):
    said = jax.lax.map(lambda sources: _decode(models, sources, longest), batches)
    return jnp.moveaxis(said, 1, 0).reshape(said.shape[1], -1, longest)


def _decode(
    models: Learner, sources: Int[Array, "pairs source"], longest: int
) -> Int[Array, "seeds pairs longest"]:
    caches = jax.vmap(lambda m: jax.vmap(lambda row: m.start_cache(row, longest))(sources))(models)
    shape = (jax.tree.leaves(models)[0].shape[0], sources.shape[0])

    def next_tokens(model: Learner, tokens, place, cache):
        logits, cache = jax.vmap(model.next_logits, (0, None, 0))(tokens, place, cache)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), cache

    def body(carry):
        place, last, ended, said, caches = carry
        tokens, caches = jax.vmap(next_tokens, (0, 0, None, 0))(models, last, place, caches)
        tokens = jnp.where(ended, PAD, tokens)
        said = jax.lax.dynamic_update_index_in_dim(said, tokens, place, -1)
        return place + 1, tokens, ended | (tokens == END), said, caches

    start = (
        jnp.zeros((), jnp.int32),
        jnp.full(shape, START, jnp.int32),
        jnp.zeros(shape, bool),
        jnp.full((*shape, longest), PAD, jnp.int32),
        caches,
    )
    # One loop for all, not one a learner: its condition is then a single truth value, and no
    # cache is copied for those that have ended.
    return jax.lax.while_loop(lambda carry: (carry[0] < longest) & ~carry[2].all(), body, start)[3]
