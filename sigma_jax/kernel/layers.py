"""The layers of Ouro: norms, attention with rotary positions, the gated MLP, one block of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .configuration import OuroConfig

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


def linear(
    inputs: int,
    outputs: int,
    config: OuroConfig,
    *,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
    use_bias: bool = False,
) -> nnx.Linear:
    """A linear layer, started as the release starts it: normal with `initializer_range`."""
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=dtype,
        kernel_init=nnx.initializers.normal(config.initializer_range),
        rngs=rngs,
    )


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
        self.gate_proj = linear(outer, inner, config, dtype=dtype, rngs=rngs)
        self.up_proj = linear(outer, inner, config, dtype=dtype, rngs=rngs)
        self.down_proj = linear(inner, outer, config, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Attention(nnx.Module):
    """Causal attention over the call's own tokens and a history, with shared key-value heads."""

    def __init__(self, config: OuroConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.head_dim = config.rotary_size
        queries = config.num_attention_heads * self.head_dim
        keys = config.num_key_value_heads * self.head_dim
        self.q_proj = linear(config.hidden_size, queries, config, dtype=dtype, rngs=rngs)
        self.k_proj = linear(config.hidden_size, keys, config, dtype=dtype, rngs=rngs)
        self.v_proj = linear(config.hidden_size, keys, config, dtype=dtype, rngs=rngs)
        self.o_proj = linear(queries, config.hidden_size, config, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch tokens size"], context: Context, history: KeyValue | None
    ) -> tuple[Float[Array, "batch tokens size"], KeyValue]:
        queries = _rotate(self._heads(self.q_proj(x)), context.rotation)
        own = KeyValue(
            _rotate(self._heads(self.k_proj(x)), context.rotation), self._heads(self.v_proj(x))
        )
        batch, heads, tokens, size = queries.shape
        kv_heads = own.keys.shape[1]
        grouped = queries.reshape(batch, kv_heads, heads // kv_heads * tokens, size)
        mixed = attend(grouped * size**-0.5, own, context, history, tokens)
        mixed = mixed.reshape(batch, heads, tokens, size).transpose(0, 2, 1, 3)
        return self.o_proj(mixed.reshape(batch, tokens, heads * size)), own

    def _heads(self, x: Float[Array, "batch tokens width"]) -> Array:
        split = x.reshape(*x.shape[:2], -1, self.head_dim)
        return split.transpose(0, 2, 1, 3)


def attend(
    queries: Float[Array, "batch kv_heads group_tokens head_dim"],
    own: KeyValue,
    context: Context,
    history: KeyValue | None,
    tokens: int,
) -> Float[Array, "batch kv_heads group_tokens head_dim"]:
    """Softmax attention of scaled `queries` over the history and the call's own tokens.

    The queries of all heads that share a key-value head stand one after another. Scores are
    normalised in float32. The history is only read: its columns and the call's own tokens are two
    pieces of one softmax, so nothing has to be written before it is seen.
    """
    group = queries.shape[2] // tokens
    causal = jnp.tril(jnp.ones((tokens, tokens), bool)) & context.real[:, None, :]
    seen = jnp.tile(causal, (1, group, 1))[:, None]
    scores = _scores(queries, own.keys, seen)
    if history is None:
        weights = jax.nn.softmax(scores, axis=-1)
        return _mix(weights, own.values)
    assert context.remembered is not None
    before = _scores(queries, history.keys, context.remembered[:, None, None, :])
    highest = jnp.maximum(before.max(-1, keepdims=True), scores.max(-1, keepdims=True))
    before, scores = jnp.exp(before - highest), jnp.exp(scores - highest)
    total = before.sum(-1, keepdims=True) + scores.sum(-1, keepdims=True)
    return _mix(before / total, history.values) + _mix(scores / total, own.values)


def _scores(queries: Array, keys: Array, seen: Array) -> Array:
    scores = jnp.einsum("bkqd,bksd->bkqs", queries, keys).astype(jnp.float32)
    return jnp.where(seen, scores, HIDDEN)


def _mix(weights: Array, values: Array) -> Array:
    return jnp.einsum("bkqs,bksd->bkqd", weights.astype(values.dtype), values)


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
