"""Ouro: a decoder-only transformer whose layers are run T times over every token.

`Ouro.loop` is one of the T passes: a pure function of the parameters, the hidden state and what is
remembered of earlier tokens. How many passes a token gets is decided outside it (`exits.py`), and
so is what is remembered (`cache.py`).

Source: Zhu et al., "Scaling Latent Reasoning via Looped Language Models" (arXiv 2510.25741).
"""

from itertools import repeat
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .configuration import OuroConfig
from .layers import Block, Context, KeyValue, Linear, RMSNorm, rotation

Layered = tuple[KeyValue, ...] | KeyValue
"""Keys and values of every layer: one entry a layer, or stacked along a leading axis."""


class LoopOutputs(NamedTuple):
    """What each of the T loops gave for every token. Source: arXiv 2510.25741."""

    hidden: Float[Array, "loops batch tokens size"]
    """The state after the shared norm; what the next loop consumed."""
    gate: Float[Array, "loops batch tokens"]
    """The exit gate's logits, float32."""


class Ouro(nnx.Module):
    """The model. Parameters carry the names of the published checkpoints.

    **Arguments:** `config`; `dtype` of parameters and activations (float32 or bfloat16); `rngs`
    for a random start.
    """

    def __init__(self, config: OuroConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.config = config
        self.dtype = jnp.dtype(dtype)
        start = nnx.initializers.normal(config.initializer_range)
        self.embed_tokens = nnx.Embed(
            config.vocab_size,
            config.hidden_size,
            dtype=dtype,
            param_dtype=dtype,
            embedding_init=start,
            rngs=rngs,
        )
        self.layers: nnx.List[Block] | Block = nnx.List(
            Block(config, dtype=dtype, rngs=rngs) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config, dtype=dtype)
        self.early_exit_gate = Linear(
            config.hidden_size, 1, config, dtype=dtype, rngs=rngs, use_bias=True
        )
        self.lm_head = Linear(config.hidden_size, config.vocab_size, config, dtype=dtype, rngs=rngs)

    def embed(self, ids: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens size"]:
        """The embeddings of token ids: the hidden state before the first loop."""
        return self.embed_tokens(ids)

    def loop(
        self,
        hidden: Float[Array, "batch tokens size"],
        context: Context,
        history: Layered | None = None,
    ) -> tuple[Float[Array, "batch tokens size"], Layered]:
        """One pass through all layers and the shared norm.

        **Arguments:** `hidden`, the embeddings or what the loop before returned; `context`, see
        `context_of`; `history`, this loop's keys and values of earlier tokens, [batch, kv_heads,
        columns, head_dim] in every layer, or None.

        **Returns** the normed hidden state, which is what the next loop, the gate and the head
        consume, and the keys and values of the tokens of this call.
        """
        if not isinstance(self.layers, nnx.List):

            def one_layer(x: Array, layer: tuple[Block, KeyValue | None]) -> tuple[Array, KeyValue]:
                return layer[0](x, context, layer[1])

            both = (self.layers, cast(KeyValue | None, history))
            hidden, stacked = jax.lax.scan(one_layer, hidden, both)
            return self.norm(hidden), stacked
        given = []
        histories = repeat(None) if history is None else cast(tuple[KeyValue, ...], history)
        for layer, layer_history in zip(self.layers, histories, strict=False):
            hidden, own = layer(hidden, context, layer_history)
            given.append(own)
        return self.norm(hidden), tuple(given)

    def gate(self, hidden: Float[Array, "*batch size"]) -> Float[Array, "*batch"]:
        """The exit gate's logit of a hidden state, in float32."""
        return self.early_exit_gate(hidden)[..., 0].astype(jnp.float32)

    def logits(self, hidden: Float[Array, "*batch size"]) -> Float[Array, "*batch vocabulary"]:
        """The next-token logits of a hidden state of any loop."""
        return self.lm_head(hidden)

    def context_of(
        self,
        real: Bool[Array, "batch tokens"],
        *,
        before: Int[Array, " batch"] | None = None,
        remembered: Bool[Array, "batch columns"] | None = None,
    ) -> Context:
        """What the tokens of a call may see, and where they stand.

        **Arguments:** `real`, False for padding, which stands on the left; `before`, how many
        tokens each row already has; `remembered`, which columns of the history are its own.
        """
        positions = jnp.cumsum(real.astype(jnp.int32), axis=1) - 1
        if before is not None:
            positions = positions + before[:, None]
        rotary = rotation(jnp.maximum(positions, 0), self.config, self.dtype)
        return Context(rotary, real, remembered)

    def __call__(
        self,
        ids: Int[Array, "batch tokens"],
        *,
        real: Bool[Array, "batch tokens"] | None = None,
    ) -> LoopOutputs:
        """All T loops over whole sequences, without a cache: for training and for reading.

        **Arguments:** `ids`; `real`, False for padding on the left (all real unless given).
        """
        context = self.context_of(jnp.ones(ids.shape, bool) if real is None else real)
        hidden = self.embed(ids)
        kept = []
        for _ in range(self.config.total_ut_steps):
            hidden, _ = self.loop(hidden, context)
            kept.append(hidden)
        states = jnp.stack(kept)
        return LoopOutputs(states, self.gate(states))


def stack_layers(model: Ouro) -> Ouro:
    """The same model with its layers stacked, to be scanned over instead of unrolled.

    Compiles in the time of one layer and suits accelerators; on a CPU unrolled layers decode
    faster. The layers' parameters are copied.
    """
    if not isinstance(model.layers, nnx.List):
        return model
    stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *model.layers)
    copy = nnx.merge(*nnx.split(model))
    copy.layers = stacked
    return copy


def unstack_layers(model: Ouro) -> Ouro:
    """The same model with its layers apart again: the inverse of `stack_layers`."""
    if isinstance(model.layers, nnx.List):
        return model
    count = model.config.num_hidden_layers
    apart = [jax.tree.map(lambda stack, i=i: stack[i], model.layers) for i in range(count)]
    copy = nnx.merge(*nnx.split(model))
    copy.layers = nnx.List(apart)
    return copy
