"""Weight-only quantisation: the projections of the layers in 8 or 4 bits, all else as it was.

Saves memory, not time, on a CPU, where XLA spreads the weights out again at every use. The numbers
are Qwix's; its rewriting of whole Flax models is not used, for it covers one method of a model and
Ouro's loop, gate and head are called apart, and it leaves no two layers alike, so that they cannot
be stacked.
"""

import enum
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8, UInt8

from .layers import Linear
from .model import Ouro, unstack_layers

_BLOCK = 64


class Quantization(enum.Enum):
    """How weights are kept.

    - `INT8`: 8 bits, with one scale an output.
    - `NF4`: 4 bits that stand for quantiles of a normal distribution, with one scale for each 64
      inputs of an output (for as many as divide both 64 and the inputs): 4.5 bits in all.
      Source: Dettmers et al., "QLoRA" (arXiv 2305.14314), without its double quantisation.
    """

    INT8 = "int8"
    NF4 = "nf4"


class QuantizedParam(nnx.Variable):
    """Quantised numbers and their scales: no `nnx.Param`, for there is nothing to train."""


class QuantizedLinear(nnx.Module):
    """A linear layer without bias whose kernel is kept in few bits and spread out when used."""

    def __init__(self, linear: Linear, kind: Quantization, *, dtype: DTypeLike):
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kind = kind
        self.dtype = jnp.dtype(dtype)
        codes, scale = _quantized(linear.weight[...].T, kind)
        self.codes = QuantizedParam(codes)
        self.scale = QuantizedParam(scale)

    def kernel(self) -> Float[Array, "inputs outputs"]:
        """The kernel that the codes stand for."""
        return _spread(self.codes[...], self.scale[...], self.kind).astype(self.dtype)

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        return x.astype(self.dtype) @ self.kernel()


def quantize_model(model: Ouro, kind: str | Quantization) -> Ouro:
    """The same model with the seven projections of every layer quantised.

    Embedding, head, gate and norms are shared with `model` and stay as they are.

    **Arguments:** `kind`, "int8" or "nf4". Needs the extra `quantization`.

    **Raises** `ValueError` for another kind, for a model that has adapters or is quantised already,
    for sizes that are not even (NF4), and if Qwix is not installed.
    """
    try:
        chosen = Quantization(kind)
    except ValueError:
        names = ", ".join(member.value for member in Quantization)
        raise ValueError(f"kind must be one of {names}; got {kind!r}.") from None
    copy = nnx.merge(*nnx.split(unstack_layers(model)))
    for layer in cast(nnx.List, copy.layers):
        for part in (layer.self_attn, layer.mlp):
            for name, module in list(vars(part).items()):
                if not name.endswith("_proj"):
                    continue
                if type(module) is not Linear:
                    raise ValueError(
                        f"{name} is not a plain projection: quantise a model once, before adapters "
                        "are added or after they are merged."
                    )
                setattr(part, name, QuantizedLinear(module, chosen, dtype=model.dtype))
    return copy


def _quantized(
    kernel: Float[Array, "inputs outputs"], kind: Quantization
) -> tuple[Int8[Array, "inputs outputs"] | UInt8[Array, "half outputs"], Array]:
    qwix = _qwix()
    inputs = kernel.shape[0]
    if kind is Quantization.INT8:
        found = qwix.quantize(kernel.astype(jnp.float32), jnp.int8, channelwise_axes=(1,))
        return found.qvalue, found.scale
    if inputs % 2:
        raise ValueError(f"NF4 needs an even number of inputs; got {inputs}.")

    @jax.jit
    def four_bits(kernel: Array) -> tuple[Array, Array]:
        found = qwix.quantize(
            kernel, "nf4", channelwise_axes=(1,), tiled_axes={0: math.gcd(inputs, _BLOCK)}
        )
        codes = found.qvalue.astype(jnp.uint8)
        # Two to a byte: JAX gives a four-bit number a byte of its own on a CPU.
        return codes[: inputs // 2] | (codes[inputs // 2 :] << 4), found.scale

    with jax.numpy_dtype_promotion("standard"):
        return four_bits(kernel.astype(jnp.float32))


def _spread(codes: Array, scale: Array, kind: Quantization) -> Float[Array, "inputs outputs"]:
    qwix = _qwix()
    if kind is Quantization.INT8:
        return qwix.dequantize(qwix.QArray(codes, scale, qtype=jnp.int8))
    apart = jnp.concatenate([codes & 15, codes >> 4]).astype(jnp.uint4)
    return qwix.dequantize(qwix.QArray(apart, scale, qtype="nf4"))


def _qwix() -> Any:
    try:
        import qwix
    except ImportError as error:
        raise ValueError(
            "quantize_model needs Qwix, which is not installed: pip install sigma_jax[quantization]"
        ) from error
    return qwix
