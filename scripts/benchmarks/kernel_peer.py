"""The peer of the kernel benchmark: the same looped transformer as a plain PyTorch program.

What one would write in PyTorch without special tools: linear layers, `rms_norm`, scaled dot-product
attention over a preallocated cache with one slot a loop, inference mode, greedy decoding. It always
runs every loop, as the released code does.
"""

from dataclasses import dataclass

import jax
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass
class Layer:
    """The weights of one layer, `[outputs, inputs]` as PyTorch keeps them."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    norms: tuple[Tensor, Tensor, Tensor, Tensor]


class Peer:
    """An Ouro with a cache for `batch` rows of `capacity` tokens."""

    def __init__(self, weights: dict[str, jax.Array], config, batch: int, capacity: int):
        self.config = config
        self.heads = (config.num_attention_heads, config.num_key_value_heads)
        self.size = config.head_dim

        def tensor(name: str) -> Tensor:
            return torch.from_dlpack(weights[name])

        self.embedding = tensor("model.embed_tokens.weight")
        self.norm = tensor("model.norm.weight")
        self.head = tensor("lm_head.weight")
        self.layers = []
        for index in range(config.num_hidden_layers):
            at = f"model.layers.{index}."
            attention = [tensor(f"{at}self_attn.{part}_proj.weight") for part in "qkvo"]
            mlp = [tensor(f"{at}mlp.{part}_proj.weight") for part in ("gate", "up", "down")]
            norms = (
                tensor(f"{at}input_layernorm.weight"),
                tensor(f"{at}input_layernorm_2.weight"),
                tensor(f"{at}post_attention_layernorm.weight"),
                tensor(f"{at}post_attention_layernorm_2.weight"),
            )
            self.layers.append(Layer(*attention, *mlp, norms=norms))
        slots = config.total_ut_steps * config.num_hidden_layers
        shape = (slots, 2, batch, self.heads[1], capacity, self.size)
        self.cache = torch.zeros(shape)
        frequencies = 1.0 / config.rope_theta ** (torch.arange(0, self.size, 2) / self.size)
        angles = torch.outer(torch.arange(capacity).float(), frequencies)
        angles = torch.cat([angles, angles], dim=-1)
        self.cosine, self.sine = angles.cos(), angles.sin()

    @torch.inference_mode()
    def read(self, ids: Tensor, start: int) -> Tensor:
        """Logits of the last of `ids` `[batch, tokens]`, which stand at `start` and after."""
        x = functional.embedding(ids, self.embedding)
        span = slice(start, start + ids.shape[1])
        rotary = self.cosine[span], self.sine[span]
        for loop in range(self.config.total_ut_steps):
            for index, layer in enumerate(self.layers):
                kept = self.cache[loop * len(self.layers) + index]
                x = x + self._normed(self._attend(layer, x, kept, rotary, start), layer.norms[1])
                y = self._normed(x, layer.norms[2])
                y = functional.silu(functional.linear(y, layer.gate)) * functional.linear(
                    y, layer.up
                )
                x = x + self._normed(functional.linear(y, layer.down), layer.norms[3])
            x = self._normed(x, self.norm)
        return functional.linear(x[:, -1], self.head)

    def fill(self, slot: int, part: int, kept: jax.Array) -> None:
        """Put keys (part 0) or values (1), `[batch, heads, capacity, size]`, into the cache.

        The slots are the layers of the first loop, then those of the second, and so on.
        """
        self.cache[slot, part] = torch.from_dlpack(kept)

    def generate(self, ids: np.ndarray, start: int, tokens: int) -> Tensor:
        """The next `tokens` tokens behind `ids` `[batch, 1]`, the likeliest each time."""
        ids, drawn = torch.from_numpy(ids), []
        for offset in range(tokens):
            ids = self.read(ids, start + offset).argmax(-1, keepdim=True)
            drawn.append(ids)
        return torch.cat(drawn, dim=1)

    def _normed(self, x: Tensor, scale: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), scale, self.config.rms_norm_eps)

    def _attend(self, layer: Layer, x: Tensor, kept: Tensor, rotary, start: int) -> Tensor:
        x = self._normed(x, layer.norms[0])
        batch, tokens, _ = x.shape

        def heads(weight: Tensor, count: int) -> Tensor:
            return functional.linear(x, weight).view(batch, tokens, count, -1).transpose(1, 2)

        q = _rotate(heads(layer.q, self.heads[0]), *rotary)
        end = start + tokens
        kept[0, :, :, start:end] = _rotate(heads(layer.k, self.heads[1]), *rotary)
        kept[1, :, :, start:end] = heads(layer.v, self.heads[1])
        mixed = functional.scaled_dot_product_attention(
            q,
            kept[0, :, :, :end],
            kept[1, :, :, :end],
            is_causal=tokens > 1,
            enable_gqa=self.heads[0] != self.heads[1],
        )
        return functional.linear(mixed.transpose(1, 2).reshape(batch, tokens, -1), layer.o)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine
