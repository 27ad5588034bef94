"""The layers of Ouro: norms, attention with rotary positions, the gated MLP, one block of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .configuration import OuroConfig

_COLUMNS = 64
"""Up to so many tokens at once a linear layer computes columns, behind it rows."""
_QUERIES = 128
"""So many queries of a long prompt attend at once."""
HIDDEN = -1e30
"""The score of a key that may not be seen. Finite, so a query that sees nothing gives no NaN."""


class Rotation(NamedTuple):
    """Cosine and sine of the rotary angles of each token, in the type of the activations."""

    cosine: Float[Array, "batch tokens head_dim"]
    sine: Float[Array, "batch tokens head_dim"]


class KeyValue(NamedTuple):
    """Keys (already rotated) and values of some tokens in one layer, or in all, stacked."""

    keys: Float[Array, "*layers batch kv_heads tokens head_dim"]
    values: Float[Array, "*layers batch kv_heads tokens head_dim"]


class Context(NamedTuple):
    """What the tokens of one call may see, the same in every layer and loop.

    `real` are the tokens that are not padding; each sees itself and the real ones before it.
    `remembered` are the columns of the history that a row holds, or None if there is no history.
    """

    rotation: Rotation
    real: Bool[Array, "batch tokens"]
    remembered: Bool[Array, "batch columns"] | None


def rotation(
    positions: Int[Array, "batch tokens"], config: OuroConfig, dtype: DTypeLike
) -> Rotation:
    """The rotary angles at `positions`, computed in float32 whatever `dtype`.

    Source: Su et al., "RoFormer" (arXiv 2104.09864), in the half-split layout of the release.
    """
    half = jnp.arange(0, config.rotary_size, 2, dtype=jnp.float32) / config.rotary_size
    frequencies = 1.0 / jnp.float32(config.rope_theta) ** half
    angles = positions.astype(jnp.float32)[..., None] * frequencies
    angles = jnp.concatenate([angles, angles], axis=-1)
    return Rotation(jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype))


def _rotate(x: Float[Array, "batch heads tokens head_dim"], by: Rotation) -> Array:
    first, second = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1)
    return x * by.cosine[:, None] + turned * by.sine[:, None]


class Linear(nnx.Module):
    """W x + b. The weight is kept `[outputs, inputs]`, as it is published.

    Started as the release starts it: normal with `initializer_range`, the bias at zero.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        config: OuroConfig,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
        use_bias: bool = False,
    ):
        self.in_features, self.out_features = inputs, outputs
        start = nnx.initializers.normal(config.initializer_range)
        self.weight = nnx.Param(start(rngs.params(), (outputs, inputs), dtype))
        self.bias = nnx.Param(jnp.zeros(outputs, dtype)) if use_bias else None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        rows = x.reshape(-1, self.in_features)
        if len(rows) > _COLUMNS:
            y = rows @ self.weight[...].T
        else:
            # On a CPU a product with few columns on the right is several times as fast as one with
            # few rows on the left, to which XLA would turn it without the barriers.
            columns = jax.lax.optimization_barrier(rows.T)
            y = jax.lax.optimization_barrier(self.weight[...] @ columns).T
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias[...]


class RMSNorm(nnx.Module):
    """x / √(mean x² + ε) in float32, rounded to the type of x, then scaled: in that order."""

    def __init__(self, config: OuroConfig, *, dtype: DTypeLike):
        self.scale = nnx.Param(jnp.ones(config.hidden_size, dtype))
        self.epsilon = config.rms_norm_eps

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        normed = (wide * jax.lax.rsqrt(mean_square + self.epsilon)).astype(x.dtype)
        return normed * self.scale[...]


class MLP(nnx.Module):
    """down(silu(gate(x)) · up(x)), without biases."""

    def __init__(self, config: OuroConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        outer, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = Linear(outer, inner, config, dtype=dtype, rngs=rngs)
        self.up_proj = Linear(outer, inner, config, dtype=dtype, rngs=rngs)
        self.down_proj = Linear(inner, outer, config, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Attention(nnx.Module):
    """Causal attention over the call's own tokens and a history, with shared key-value heads."""

    def __init__(self, config: OuroConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.head_dim = config.rotary_size
        queries = config.num_attention_heads * self.head_dim
        keys = config.num_key_value_heads * self.head_dim
        self.q_proj = Linear(config.hidden_size, queries, config, dtype=dtype, rngs=rngs)
        self.k_proj = Linear(config.hidden_size, keys, config, dtype=dtype, rngs=rngs)
        self.v_proj = Linear(config.hidden_size, keys, config, dtype=dtype, rngs=rngs)
        self.o_proj = Linear(queries, config.hidden_size, config, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch tokens size"], context: Context, history: KeyValue | None
    ) -> tuple[Float[Array, "batch tokens size"], KeyValue]:
        queries = _rotate(self._heads(self.q_proj(x)), context.rotation)
        own = KeyValue(
            _rotate(self._heads(self.k_proj(x)), context.rotation), self._heads(self.v_proj(x))
        )
        batch, heads, tokens, size = queries.shape
        grouped = (queries * size**-0.5).reshape(batch, own.keys.shape[1], -1, tokens, size)
        mixed = attend(grouped, own, context, history).reshape(queries.shape)
        return self.o_proj(mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, heads * size)), own

    def _heads(self, x: Float[Array, "batch tokens width"]) -> Array:
        split = x.reshape(*x.shape[:2], -1, self.head_dim)
        return split.transpose(0, 2, 1, 3)


def attend(
    queries: Float[Array, "batch kv_heads group tokens head_dim"],
    own: KeyValue,
    context: Context,
    history: KeyValue | None,
) -> Float[Array, "batch kv_heads group tokens head_dim"]:
    """Softmax attention of scaled `queries` over the history and the call's own tokens.

    Scores are normalised in float32. The history is only read: its columns and the call's own
    tokens are two pieces of one softmax, so nothing has to be written before it is seen.
    """
    if queries.shape[3] <= _QUERIES:
        return _attend_at_once(queries, own, context, history)
    return jax.lax.platform_dependent(
        queries, own, context, history, cpu=_attend_in_pieces, default=_attend_at_once
    )


def _attend_at_once(queries: Array, own: KeyValue, context: Context, history: KeyValue | None):
    of_heads = jax.vmap(_attend, in_axes=(0, 0, None, 0, None))
    seen = jax.vmap(_seen, in_axes=(0, None))(context.real, queries.shape[3])
    return jax.vmap(of_heads)(queries, own, seen, history, context.remembered)


def _attend_in_pieces(queries: Array, own: KeyValue, context: Context, history: KeyValue | None):
    """One head and a few queries at a time, so that their scores stay in a processor's cache.

    Keys behind the last of the queries are not looked at.
    """

    def one_head(head: tuple[Array, KeyValue, KeyValue | None, Array, Array | None]) -> Array:
        queries, own, history, real, remembered = head
        mixed = []
        for first in range(0, queries.shape[1], _QUERIES):
            some = queries[:, first : first + _QUERIES]
            last = first + some.shape[1]
            until = jax.tree.map(lambda leaf, last=last: leaf[:last], own)
            seen = _seen(real[:last], some.shape[1])
            mixed.append(_attend(some, until, seen, history, remembered))
        return jnp.concatenate(mixed, axis=1)

    of_heads = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (queries, own, history))
    of_rows = (context.real, context.remembered)
    of_rows = jax.tree.map(lambda leaf: jnp.repeat(leaf, queries.shape[1], axis=0), of_rows)
    return jax.lax.map(one_head, (*of_heads, *of_rows)).reshape(queries.shape)


def _seen(real: Bool[Array, " keys"], queries: int) -> Bool[Array, "queries keys"]:
    """Which of a call's tokens up to its last query each of the last `queries` tokens may see."""
    keys = real.shape[0]
    return jnp.tri(queries, keys, keys - queries, dtype=bool) & real


def _attend(
    queries: Float[Array, "group queries head_dim"],
    own: KeyValue,
    seen: Bool[Array, "queries keys"],
    history: KeyValue | None,
    remembered: Bool[Array, " columns"] | None,
) -> Float[Array, "group queries head_dim"]:
    """Attention of one key-value head of one row."""
    pieces = [(_scores(queries, own.keys, seen), own.values)]
    if history is not None:
        assert remembered is not None
        pieces.append((_scores(queries, history.keys, remembered), history.values))
    highest = functools.reduce(jnp.maximum, [scores.max(-1, keepdims=True) for scores, _ in pieces])
    weights = [jnp.exp(scores - highest) for scores, _ in pieces]
    total = [piece.sum(-1, keepdims=True) for piece in weights]
    mixed = [_mix(piece, values) for piece, (_, values) in zip(weights, pieces, strict=True)]
    return (functools.reduce(jnp.add, mixed) / functools.reduce(jnp.add, total)).astype(
        queries.dtype
    )


def _scores(queries: Array, keys: Array, seen: Array) -> Float[Array, "group queries keys"]:
    scores = jnp.einsum("gqd,sd->gqs", queries, keys).astype(jnp.float32)
    return jnp.where(seen, scores, HIDDEN)


def _mix(weights: Array, values: Array) -> Float[Array, "group queries head_dim"]:
    mixed = jnp.einsum("gqs,sd->gqd", weights.astype(values.dtype), values)
    return mixed.astype(jnp.float32)


class Block(nnx.Module):
    """One layer: attention and MLP, each between two norms, each added to the residual stream.

    The norms carry the release's names: `input_layernorm` and `post_attention_layernorm` stand
    before the attention and the MLP, those with `_2` on what they give.
    """

    def __init__(self, config: OuroConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.self_attn = Attention(config, dtype=dtype, rngs=rngs)
        self.mlp = MLP(config, dtype=dtype, rngs=rngs)
        self.input_layernorm = RMSNorm(config, dtype=dtype)
        self.input_layernorm_2 = RMSNorm(config, dtype=dtype)
        self.post_attention_layernorm = RMSNorm(config, dtype=dtype)
        self.post_attention_layernorm_2 = RMSNorm(config, dtype=dtype)

    def __call__(
        self, x: Float[Array, "batch tokens size"], context: Context, history: KeyValue | None
    ) -> tuple[Float[Array, "batch tokens size"], KeyValue]:
        mixed, own = self.self_attn(self.input_layernorm(x), context, history)
        x = x + self.input_layernorm_2(mixed)
        x = x + self.post_attention_layernorm_2(self.mlp(self.post_attention_layernorm(x)))
        return x, own
