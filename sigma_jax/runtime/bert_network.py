"""The network of BERT, as far as a vector of a text needs it."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_EPSILON = 1e-12
_PRECISION = lax.Precision.HIGHEST  # the same numbers on an accelerator, too
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "widening": "intermediate.dense",
    "narrowing": "output.dense",
    "output_norm": "output.LayerNorm",
}


class BertLayers(eqx.Module):
    """Embeddings and layers of a BERT encoder, with its published weights.

    Normalisation is after each sum, with ε = 1e-12; the GELU is the exact one, by erf. A weight of
    a layer is stacked over the layers, so that one compiled layer serves all.

    Source: Devlin et al., "BERT" (2019).
    """

    words: Float[Array, "vocabulary dim"]
    positions: Float[Array, "positions dim"]
    token_type: Float[Array, " dim"]
    """Of the first sentence; there is no second."""
    norm: tuple[Float[Array, " dim"], Float[Array, " dim"]]
    layers: dict[str, tuple[Float[Array, "layers ..."], Float[Array, "layers ..."]]]
    """Weight [layers, out, in] (or [layers, dim]) and bias [layers, out] of each part."""
    heads: int = eqx.field(static=True)

    def __call__(
        self, tokens: Int[Array, " length"], mask: Bool[Array, " length"]
    ) -> Float[Array, "length dim"]:
        """The last layer's vectors of the tokens; those where `mask` is false are not attended."""
        embedded = self.words[tokens] + self.positions[: tokens.shape[0]] + self.token_type
        hidden = _normalised(embedded, self.norm)

        def step(hidden: Array, layer: dict[str, tuple[Array, Array]]) -> tuple[Array, None]:
            return _layer(hidden, layer, mask, self.heads), None

        return lax.scan(step, hidden, self.layers)[0]


def bert_layers(tensors: Mapping[str, np.ndarray], head_width: int = 32) -> BertLayers:
    """The network whose `tensors` have the names of the published files.

    **Arguments:** `tensors`, of type float32; `head_width`, the width of an attention head.

    **Raises** `ValueError` naming a tensor that is not there or has another shape than the others
    ask for, and for a width that is no multiple of a head's.
    """
    words = _tensor(tensors, "embeddings.word_embeddings.weight", (None, None))
    dim = words.shape[1]
    if dim % head_width:
        raise ValueError(f"head_width must divide the width {dim}; got {head_width}.")
    prefix = "encoder.layer."
    numbers = {name.split(".")[2] for name in tensors if name.startswith(prefix)}
    wide = _tensor(tensors, f"{prefix}0.intermediate.dense.weight", (None, dim)).shape[0]
    layers = [
        {
            part: _pair(tensors, f"{prefix}{number}.{name}", _shape(part, dim, wide))
            for part, name in _LAYER.items()
        }
        for number in range(len(numbers))
    ]
    types = _tensor(tensors, "embeddings.token_type_embeddings.weight", (None, dim))
    positions = _tensor(tensors, "embeddings.position_embeddings.weight", (None, dim))
    return BertLayers(
        words=jnp.asarray(words),
        positions=jnp.asarray(positions),
        token_type=jnp.asarray(types[0]),
        norm=jax.tree.map(jnp.asarray, _pair(tensors, "embeddings.LayerNorm", (dim,))),
        layers=jax.tree.map(lambda *each: jnp.asarray(np.stack(each)), *layers),
        heads=dim // head_width,
    )


def _shape(part: str, dim: int, wide: int) -> tuple[int, ...]:
    if part.endswith("norm"):
        return (dim,)
    return {"widening": (wide, dim), "narrowing": (dim, wide)}.get(part, (dim, dim))


def _pair(
    tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    weight = _tensor(tensors, f"{name}.weight", shape)
    return weight, _tensor(tensors, f"{name}.bias", shape[:1])


def _tensor(
    tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    tensor = tensors.get(name)
    sizes = () if tensor is None else tensor.shape
    fits = len(sizes) == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, sizes, strict=True)
    )
    if tensor is None or not fits:
        shown = "no such tensor" if tensor is None else f"shape {sizes}"
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"tensors must hold {name} of shape ({wanted}); got {shown}.")
    return tensor


def _layer(
    hidden: Float[Array, "length dim"],
    layer: dict[str, tuple[Array, Array]],
    mask: Bool[Array, " length"],
    heads: int,
) -> Float[Array, "length dim"]:
    length, dim = hidden.shape
    query, key, value = (
        _linear(hidden, layer[part]).reshape(length, heads, dim // heads)
        for part in ("query", "key", "value")
    )
    scores = jnp.einsum("qhd,khd->hqk", query, key, precision=_PRECISION)
    shares = jax.nn.softmax(scores / (dim // heads) ** 0.5, axis=-1, where=mask)
    heard = jnp.einsum("hqk,khd->qhd", shares, value, precision=_PRECISION).reshape(length, dim)
    hidden = _normalised(
        hidden + _linear(heard, layer["attention_output"]), layer["attention_norm"]
    )
    widened = jax.nn.gelu(_linear(hidden, layer["widening"]), approximate=False)
    return _normalised(hidden + _linear(widened, layer["narrowing"]), layer["output_norm"])


def _linear(
    rows: Float[Array, "length in"], part: tuple[Float[Array, "out in"], Float[Array, " out"]]
) -> Float[Array, "length out"]:
    return jnp.einsum("li,oi->lo", rows, part[0], precision=_PRECISION) + part[1]


def _normalised(
    rows: Float[Array, "length dim"], part: tuple[Float[Array, " dim"], Float[Array, " dim"]]
) -> Float[Array, "length dim"]:
    centred = rows - jnp.mean(rows, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + _EPSILON) * part[0] + part[1]
