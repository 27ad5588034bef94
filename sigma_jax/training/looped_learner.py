"""`LoopedLearner`: the kernel's architecture as a learner from sentences to their meanings."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..kernel import Cache, CachePolicy, Depth, Ouro, OuroConfig, decode, empty_cache, prefill
from .seq2seq_data import PAD

_DEPTH = Depth(cache=CachePolicy.PER_LOOP)
"""All loops for every token, which sees those before it in the same loop: as in training."""


class LoopedCache(NamedTuple):
    """What the kernel remembers of one source and of the target so far."""

    cache: Cache


class LoopedLearner(eqx.Module):
    """An Ouro that reads a source and says its target; its methods are `Seq2SeqTransformer`'s.

    Every token goes through all loops; the exit gate is not trained. There is no dropout. Sources
    stand on the right of their places, as the kernel has its padding on the left.

    **Arguments:** `vocabulary_size`, which replaces the configuration's; `config`, such as
    kernel-mini's; `seed` of the initial parameters; `dtype` of the parameters.
    """

    model: Ouro

    def __init__(
        self,
        vocabulary_size: int,
        config: OuroConfig,
        *,
        seed: int,
        dtype: DTypeLike = jnp.float32,
    ):
        config = dataclasses.replace(config, vocab_size=vocabulary_size)
        self.model = Ouro(config, rngs=nnx.Rngs(seed), dtype=dtype)

    @property
    def dtype(self) -> jnp.dtype:
        """Of the parameters and of all that is computed."""
        return self.model.dtype

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the learner knows."""
        return self.model.config.vocab_size

    def encode(self, source: Int[Array, " source"]) -> Float[Array, "source width"]:
        """The last loop's states of a source, those of padding included."""
        ids, real, shift = _right(source)
        states = self.model(ids[None], real=real[None]).hidden[-1, 0]
        return jnp.roll(states, -shift, axis=0)

    def logits(
        self,
        source: Int[Array, " source"],
        target_in: Int[Array, " target"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "target vocabulary"]:
        """Of the token after each of `target_in`, as `Seq2SeqTransformer.logits`; no dropout."""
        del key
        ids, real, _ = _right(source)
        ids = jnp.concatenate([ids, target_in])
        real = jnp.concatenate([real, jnp.ones(target_in.shape, bool)])
        states = self.model(ids[None], real=real[None]).hidden[-1, 0, source.size :]
        return self.model.logits(states)

    def start_cache(self, source: Int[Array, " source"], longest: int) -> LoopedCache:
        """The cache before the first token, for a target of at most `longest` tokens."""
        ids, real, _ = _right(source)
        cache = empty_cache(self.model, 1, source.size + longest)
        return LoopedCache(
            prefill(self.model, cache, ids[None], real[None], _DEPTH, first=True).cache
        )

    def next_logits(
        self, token: Int[Array, ""], place: Int[Array, ""], cache: LoopedCache
    ) -> tuple[Float[Array, " vocabulary"], LoopedCache]:
        """The row of `logits` at `place`, where `token` stands; the cache holds all before it."""
        del place  # the cache knows
        step = decode(self.model, cache.cache, token[None], _DEPTH)
        return self.model.logits(step.hidden)[0], LoopedCache(step.cache)


def _right(
    source: Int[Array, " source"],
) -> tuple[Int[Array, " source"], Bool[Array, " source"], Int[Array, ""]]:
    """The source with its padding on the left, where it is real, and by how much it moved."""
    shift = jnp.sum(source == PAD)
    real = jnp.arange(source.size) >= shift
    return jnp.roll(source, shift), real, shift
