"""`Seq2SeqTransformer`: an encoder–decoder Transformer, small enough to train many at once.

Source: Vaswani et al. (arXiv 1706.03762); the norm before each sublayer as in Xiong et al. (arXiv
2002.04745). The reference implementation masked padding in the encoder alone; here the decoder
does not look at it either.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, DTypeLike, Float, Int, Key

from .._check import require_in
from .seq2seq_data import PAD

KeysValues = tuple[Float[Array, "places heads head"], Float[Array, "places heads head"]]

_Kept = Sequence[Bool[Array, "places width"] | None]
"""What dropout leaves of the embedding, or of each sublayer's output; None for all of it."""


@dataclasses.dataclass(frozen=True)
class TransformerSizes:
    """How large a `Seq2SeqTransformer` is; the defaults are the Σ-Model paper's.

    **Arguments:** layers of the encoder and the decoder; attention `heads`; `width` of the residual
    stream; `hidden` units of a feed-forward sublayer; `dropout`, the share of the embedding's and
    of every sublayer's outputs that training sets to zero.

    **Raises** `ValueError` for a number out of range, or a width that is odd or that the heads do
    not divide.
    """

    encoder_layers: int = 2
    decoder_layers: int = 2
    heads: int = 4
    width: int = 128
    hidden: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("encoder_layers", "decoder_layers", "heads", "width", "hidden"):
            require_in(name, getattr(self, name), 1)
        require_in("dropout", self.dropout, 0.0, 0.99)
        if self.width % self.heads or self.width % 2:
            raise ValueError(
                f"width must be even and a multiple of heads, {self.heads}; got {self.width}."
            )


class DecoderCache(NamedTuple):
    """What a decoder keeps from one token to the next, of one source."""

    own: tuple[KeysValues, ...]
    """Of the target so far, per layer; places not yet reached are zero."""
    source: tuple[KeysValues, ...]
    """Of the encoded source, per layer."""
    real: Bool[Array, " source"]
    """Which places of the source are not padding."""


class Seq2SeqTransformer(eqx.Module):
    """An encoder–decoder Transformer: pre-norm, ReLU, sinusoidal positions.

    Source and target share one table of embeddings; the output has a table of its own. Attention
    has no biases. Every method takes one sequence: `jax.vmap` it over a batch.

    **Arguments:** `vocabulary_size`, special tokens included; `sizes`; `seed` of the initial
    parameters (Glorot uniform; embeddings normal, of unit variance once scaled by √width); `dtype`
    of the parameters and of all that is computed.

    **Raises** `ValueError` for a vocabulary of fewer than four tokens, one word and three specials.
    """

    embedding: Float[Array, "vocabulary width"]
    encoder: tuple["_EncoderLayer", ...]
    encoder_norm: eqx.nn.LayerNorm
    decoder: tuple["_DecoderLayer", ...]
    decoder_norm: eqx.nn.LayerNorm
    output: Float[Array, "width vocabulary"]
    sizes: TransformerSizes = eqx.field(static=True)

    def __init__(
        self,
        vocabulary_size: int,
        sizes: TransformerSizes = TransformerSizes(),
        *,
        seed: int,
        dtype: DTypeLike = jnp.float32,
    ):
        require_in("vocabulary_size", vocabulary_size, 4)
        random, width = np.random.default_rng(seed), sizes.width
        table = random.normal(0.0, 1 / np.sqrt(width), (vocabulary_size, width))
        self.embedding = jnp.asarray(table, dtype)
        self.encoder = tuple(
            _EncoderLayer(sizes, random, dtype) for _ in range(sizes.encoder_layers)
        )
        self.encoder_norm = eqx.nn.LayerNorm(width, dtype=dtype)
        self.decoder = tuple(
            _DecoderLayer(sizes, random, dtype) for _ in range(sizes.decoder_layers)
        )
        self.decoder_norm = eqx.nn.LayerNorm(width, dtype=dtype)
        self.output = _matrix(random, width, vocabulary_size, dtype)
        self.sizes = sizes

    @property
    def dtype(self) -> jnp.dtype:
        """Of the parameters and of all that is computed."""
        return self.output.dtype

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the learner knows."""
        return self.output.shape[-1]

    def encode(self, source: Int[Array, " source"]) -> Float[Array, "source width"]:
        """The encoder's states, those of padding included; no other depends on padding."""
        return self._encode(source, self._kept(source.size, 0, None)[0])

    def logits(
        self,
        source: Int[Array, " source"],
        target_in: Int[Array, " target"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "target vocabulary"]:
        """Log-probabilities, up to a constant a row, of the token after each of `target_in`.

        **Arguments:** `source`, padded on the right or not; `target_in`, `START` and then the
        target, padded on the right or not; `key` of the dropout, without which there is none.
        """
        for_encoder, for_decoder = self._kept(source.size, target_in.size, key)
        states, real = self._encode(source, for_encoder), source != PAD
        # Padding stands on the right, so what hides the future also hides the target's padding.
        past = jnp.tri(target_in.size, dtype=bool)
        x = self._embedded(target_in, self._positions(target_in.size))
        x = _dropped(x, for_decoder[0], self.sizes.dropout)
        for number, layer in enumerate(self.decoder):
            own, in_source = layer.own_keys_values(x), layer.cross.keys_values(states)
            kept = for_decoder[3 * number + 1 : 3 * number + 4]
            x = layer(x, own, past, in_source, real, kept)
        return jax.vmap(self.decoder_norm)(x) @ self.output

    def start_cache(self, source: Int[Array, " source"], longest: int) -> DecoderCache:
        """The cache before the first token, for a target of at most `longest` tokens."""
        states = self.encode(source)
        empty = jnp.zeros((longest, *self._head_shape), states.dtype)
        return DecoderCache(
            own=tuple((empty, empty) for _ in self.decoder),
            source=tuple(layer.cross.keys_values(states) for layer in self.decoder),
            real=source != PAD,
        )

    def next_logits(
        self, token: Int[Array, ""], place: Int[Array, ""], cache: DecoderCache
    ) -> tuple[Float[Array, " vocabulary"], DecoderCache]:
        """The row of `logits` at `place`, where `token` stands; the cache holds all before it."""
        longest = cache.own[0][0].shape[0]
        x = self._embedded(token[None], self._positions(longest)[place][None])
        past = (jnp.arange(longest, dtype=place.dtype) <= place)[None]
        owns = []
        for layer, own, in_source in zip(self.decoder, cache.own, cache.source, strict=True):
            new = layer.own_keys_values(x)
            own = jax.tree.map(
                lambda old, row: jax.lax.dynamic_update_index_in_dim(old, row, place, 0), own, new
            )
            x = layer(x, own, past, in_source, cache.real, (None, None, None))
            owns.append(own)
        return self.decoder_norm(x[0]) @ self.output, cache._replace(own=tuple(owns))

    def _encode(self, source: Int[Array, " source"], kept: _Kept) -> Float[Array, "source width"]:
        x, real = self._embedded(source, self._positions(source.size)), source != PAD
        x = _dropped(x, kept[0], self.sizes.dropout)
        for number, layer in enumerate(self.encoder):
            x = layer(x, real, kept[2 * number + 1 : 2 * number + 3])
        return jax.vmap(self.encoder_norm)(x)

    def _kept(self, source: int, target: int, key: Key[Array, ""] | None) -> tuple[_Kept, _Kept]:
        """What dropout leaves in the encoder and in the decoder: all of it, without a key."""
        of_encoder, of_decoder = 1 + 2 * len(self.encoder), 1 + 3 * len(self.decoder)
        if key is None or self.sizes.dropout == 0.0:
            return [None] * of_encoder, [None] * of_decoder
        # One call for all, and two decisions from each draw of 32 bits: compiling and running the
        # draws is what dropout costs.
        places = of_encoder * source + of_decoder * target
        draws = jax.random.bits(key, (places, self.sizes.width // 2), jnp.uint32)
        draws = jax.lax.bitcast_convert_type(draws, jnp.uint16).reshape(places, -1)
        kept = draws >= jnp.asarray(round(self.sizes.dropout * 2**16), jnp.uint16)
        encoder, decoder = jnp.split(kept, [of_encoder * source])
        return (
            list(encoder.reshape(of_encoder, source, -1)),
            list(decoder.reshape(of_decoder, target, -1)),
        )

    @property
    def _head_shape(self) -> tuple[int, int]:
        return self.sizes.heads, self.sizes.width // self.sizes.heads

    def _positions(self, length: int) -> Float[Array, "length width"]:
        rates = 1e4 ** (-np.arange(0, self.sizes.width, 2) / self.sizes.width)
        angles = np.arange(length)[:, None] * rates
        waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)
        return jnp.asarray(waves, self.embedding.dtype)

    def _embedded(
        self, ids: Int[Array, " places"], positions: Float[Array, "places width"]
    ) -> Float[Array, "places width"]:
        # A product, not a look-up: its gradient adds in a fixed order on every kind of device, and
        # is faster than a scatter for a vocabulary of hundreds.
        chosen = jax.nn.one_hot(ids, self.embedding.shape[0], dtype=self.embedding.dtype)
        return chosen @ self.embedding * math.sqrt(self.sizes.width) + positions


class _Attention(eqx.Module):
    queries: Float[Array, "width width"]
    keys: Float[Array, "width width"]
    values: Float[Array, "width width"]
    output: Float[Array, "width width"]
    heads: int = eqx.field(static=True)

    def __init__(self, sizes: TransformerSizes, random: np.random.Generator, dtype: DTypeLike):
        width, self.heads = sizes.width, sizes.heads
        self.queries, self.keys, self.values, self.output = (
            _matrix(random, width, width, dtype) for _ in range(4)
        )

    def keys_values(self, x: Float[Array, "places width"]) -> KeysValues:
        return self._by_head(x @ self.keys), self._by_head(x @ self.values)

    def __call__(
        self,
        x: Float[Array, "places width"],
        looked_at: KeysValues,
        allowed: Bool[Array, "#places others"],
    ) -> Float[Array, "places width"]:
        keys, values = looked_at
        scores = jnp.einsum("qhd,khd->hqk", self._by_head(x @ self.queries), keys)
        scores = scores / math.sqrt(keys.shape[-1])
        # The lowest number, not -inf: a source of padding alone then gives no NaN.
        scores = jnp.where(allowed, scores, float(jnp.finfo(scores.dtype).min))
        seen = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), values)
        return seen.reshape(x.shape) @ self.output

    def _by_head(self, x: Float[Array, "places width"]) -> Float[Array, "places heads head"]:
        return x.reshape(x.shape[0], self.heads, -1)


class _FeedForward(eqx.Module):
    rise: Float[Array, "width hidden"]
    rise_bias: Float[Array, " hidden"]
    fall: Float[Array, "hidden width"]
    fall_bias: Float[Array, " width"]

    def __init__(self, sizes: TransformerSizes, random: np.random.Generator, dtype: DTypeLike):
        self.rise = _matrix(random, sizes.width, sizes.hidden, dtype)
        self.rise_bias = jnp.zeros(sizes.hidden, dtype)
        self.fall = _matrix(random, sizes.hidden, sizes.width, dtype)
        self.fall_bias = jnp.zeros(sizes.width, dtype)

    def __call__(self, x: Float[Array, "places width"]) -> Float[Array, "places width"]:
        return jax.nn.relu(x @ self.rise + self.rise_bias) @ self.fall + self.fall_bias


class _EncoderLayer(eqx.Module):
    own: _Attention
    feed_forward: _FeedForward
    norms: tuple[eqx.nn.LayerNorm, ...]
    dropout: float = eqx.field(static=True)

    def __init__(self, sizes: TransformerSizes, random: np.random.Generator, dtype: DTypeLike):
        self.own = _Attention(sizes, random, dtype)
        self.feed_forward = _FeedForward(sizes, random, dtype)
        self.norms = tuple(eqx.nn.LayerNorm(sizes.width, dtype=dtype) for _ in range(2))
        self.dropout = sizes.dropout

    def __call__(
        self,
        x: Float[Array, "places width"],
        real: Bool[Array, " places"],
        kept: _Kept,
    ) -> Float[Array, "places width"]:
        y = jax.vmap(self.norms[0])(x)
        x = x + _dropped(self.own(y, self.own.keys_values(y), real[None]), kept[0], self.dropout)
        y = jax.vmap(self.norms[1])(x)
        return x + _dropped(self.feed_forward(y), kept[1], self.dropout)


class _DecoderLayer(eqx.Module):
    own: _Attention
    cross: _Attention
    feed_forward: _FeedForward
    norms: tuple[eqx.nn.LayerNorm, ...]
    dropout: float = eqx.field(static=True)

    def __init__(self, sizes: TransformerSizes, random: np.random.Generator, dtype: DTypeLike):
        self.own = _Attention(sizes, random, dtype)
        self.cross = _Attention(sizes, random, dtype)
        self.feed_forward = _FeedForward(sizes, random, dtype)
        self.norms = tuple(eqx.nn.LayerNorm(sizes.width, dtype=dtype) for _ in range(3))
        self.dropout = sizes.dropout

    def own_keys_values(self, x: Float[Array, "places width"]) -> KeysValues:
        return self.own.keys_values(jax.vmap(self.norms[0])(x))

    def __call__(
        self,
        x: Float[Array, "places width"],
        own: KeysValues,
        past: Bool[Array, "places others"],
        source: KeysValues,
        real: Bool[Array, " source"],
        kept: _Kept,
    ) -> Float[Array, "places width"]:
        y = jax.vmap(self.norms[0])(x)
        x = x + _dropped(self.own(y, own, past), kept[0], self.dropout)
        y = jax.vmap(self.norms[1])(x)
        x = x + _dropped(self.cross(y, source, real[None]), kept[1], self.dropout)
        y = jax.vmap(self.norms[2])(x)
        return x + _dropped(self.feed_forward(y), kept[2], self.dropout)


def _matrix(
    random: np.random.Generator, rows: int, columns: int, dtype: DTypeLike
) -> Float[Array, "rows columns"]:
    largest = np.sqrt(6 / (rows + columns))
    return jnp.asarray(random.uniform(-largest, largest, (rows, columns)), dtype)


def _dropped(
    x: Float[Array, "places width"], kept: Bool[Array, "places width"] | None, rate: float
) -> Float[Array, "places width"]:
    return x if kept is None else jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))
