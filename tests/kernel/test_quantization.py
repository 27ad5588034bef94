"""Weights in 8 and in 4 bits: how far they and the logits are off, and what memory they take."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sigma_jax.kernel import (
    LoRAConfig,
    Ouro,
    OuroConfig,
    Quantization,
    add_adapter,
    quantize_model,
    save_model,
    stack_layers,
)

CONFIG = OuroConfig(
    vocab_size=17,
    hidden_size=128,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=16,
    total_ut_steps=1,
)
# Appendix E of arXiv 2305.14314: quantiles of a normal distribution, scaled to [−1, 1].
_BELOW = (-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0)
_ABOVE = (0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0)
NF4 = np.array([*_BELOW, *_ABOVE])
IDS = jnp.asarray(np.random.default_rng(0).integers(17, size=(2, 7)), jnp.int32)
PROJECTIONS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def plain(dtype=jnp.float32):
    return Ouro(CONFIG, rngs=nnx.Rngs(1), dtype=dtype)


@jax.jit
def logits(model):
    return model.logits(model(IDS).hidden)


def restated(kernel, kind):
    """The nearest code a scale allows, from the definition, one column of inputs after another."""
    kernel = np.asarray(kernel, np.float64)
    block = kernel.shape[0] if kind == "int8" else 64
    found = np.empty_like(kernel)
    for start in range(0, len(kernel), block):
        part = kernel[start : start + block]
        largest = np.abs(part).max(axis=0)
        if kind == "int8":
            scale = largest / 127.5  # the outermost bucket is as wide as the others
            found[start : start + block] = np.clip(np.round(part / scale), -128, 127) * scale
        else:
            nearest = np.abs(part[..., None] / largest[:, None] - NF4).argmin(-1)
            found[start : start + block] = NF4[nearest] * largest
    return found


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_the_numbers_are_the_nearest_that_the_format_has(kind):
    model = plain()
    quantised = quantize_model(model, kind)
    for name in PROJECTIONS:
        part, last = name.split(".")
        kernel = getattr(getattr(model.layers[1], part), last).weight[...].T
        found = getattr(getattr(quantised.layers[1], part), last).kernel()
        expected = restated(kernel, kind)
        step = np.abs(np.asarray(kernel)).max() * (1 / 127 if kind == "int8" else 0.31)
        # A number halfway between two codes may go to either.
        off = np.abs(np.asarray(found) - expected)
        assert (off > 1e-6).mean() < 1e-3, name
        assert off.max() <= step
        np.testing.assert_allclose(found, kernel, atol=0.51 * step)


@pytest.mark.parametrize(
    ("kind", "dtype", "off"),
    [("int8", jnp.float32, 0.05), ("nf4", jnp.float32, 0.5), ("int8", jnp.bfloat16, 0.05)],
)
def test_logits_stay_near_and_the_weights_take_their_bits(kind, dtype, off):
    model = plain(dtype)
    quantised = quantize_model(model, Quantization(kind))
    expected, found = logits(model).astype(jnp.float32), logits(quantised)
    assert found.dtype == dtype
    error = jnp.linalg.norm(found.astype(jnp.float32) - expected) / jnp.linalg.norm(expected)
    assert 1e-4 < float(error) < off
    before = sum(x.nbytes for x in jax.tree.leaves(nnx.state(model.layers)))
    after = sum(x.nbytes for x in jax.tree.leaves(nnx.state(quantised.layers)))
    bits = 8 * after / (before / model.dtype.itemsize)
    assert bits < {"int8": 8.5, "nf4": 4.8}[kind]
    np.testing.assert_array_equal(quantised.lm_head.weight[...], model.lm_head.weight[...])


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantised_layers_can_be_stacked(kind):
    quantised = quantize_model(stack_layers(plain()), kind)
    np.testing.assert_allclose(logits(stack_layers(quantised)), logits(quantised), atol=1e-5)


def test_what_cannot_be_quantised_is_refused(tmp_path, monkeypatch):
    model = plain()
    with pytest.raises(ValueError, match="kind must be one of int8, nf4; got 'int3'"):
        quantize_model(model, "int3")
    quantised = quantize_model(model, "int8")
    for other in (quantised, add_adapter(model, LoRAConfig(), rngs=nnx.Rngs(0))):
        with pytest.raises(ValueError, match="is not a plain projection: quantise a model once"):
            quantize_model(other, "nf4")
    with pytest.raises(ValueError, match="save a model before it is quantised"):
        save_model(quantised, tmp_path / "model")
    odd = OuroConfig(5, 6, 9, 1, 1, 1, 4)
    with pytest.raises(ValueError, match="NF4 needs an even number of inputs; got 9"):
        quantize_model(Ouro(odd, rngs=nnx.Rngs(0)), "nf4")
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(ValueError, match=r"pip install sigma_jax\[quantization\]"):
        quantize_model(model, "int8")
