"""Adapters lower a held-out loss when trained alone; saved, loaded and merged they say the same."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from sigma_jax.kernel import (
    LoRAConfig,
    Ouro,
    OuroConfig,
    add_adapter,
    load_adapter,
    load_model,
    merge_adapter,
    quantize_model,
    save_adapter,
    save_model,
    stack_layers,
)

CONFIG = OuroConfig(
    vocab_size=13,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=16,
    total_ut_steps=1,
)
LORA = LoRAConfig(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj", "down_proj"))
MERGED = 2e-5
"""Rounding of W + AB against W x + A B x, in float32."""
IDS = jnp.asarray(np.random.default_rng(0).integers(13, size=(2, 7)), jnp.int32)


def plain(dtype=jnp.float32):
    return Ouro(CONFIG, rngs=nnx.Rngs(1), dtype=dtype)


@jax.jit
def logits(model, ids):
    return model.logits(model(ids).hidden)


def random_adapter(model, config=LORA):
    """One that changes something: B starts at zero."""
    found = add_adapter(model, config, rngs=nnx.Rngs(2))
    _, state, rest = nnx.split(found, nnx.LoRAParam, ...)
    keys = iter(jax.random.split(jax.random.key(3), 100))
    state = jax.tree.map(lambda x: 0.3 * jax.random.normal(next(keys), x.shape, x.dtype), state)
    return nnx.merge(_, state, rest)


# Training ---------------------------------------------------------------------------------------


def sequences(rng, count):
    """Each token is twice the one before it, or one more, modulo 13: no loss is below log 2."""
    rows = [rng.integers(13, size=count)]
    for _ in range(8):
        rows.append((2 * rows[-1] + rng.integers(2, size=count)) % 13)
    return jnp.asarray(np.stack(rows, axis=1), jnp.int32)


TRAINING, HELD_OUT = (sequences(np.random.default_rng(seed), 200) for seed in (1, 2))


def loss(model, ids):
    each = optax.softmax_cross_entropy_with_integer_labels(
        model.logits(model(ids[:, :-1]).hidden[-1]), ids[:, 1:]
    )
    return each.mean()


def test_a_trained_adapter_lowers_the_held_out_loss_and_touches_nothing_else(tmp_path):
    base = plain()
    every = LoRAConfig(alpha=32.0, target_modules=("q_proj", "up_proj", "down_proj", "lm_head"))
    model = add_adapter(base, every, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(logits(model, IDS), logits(base, IDS))
    graph, adapter, rest = nnx.split(model, nnx.LoRAParam, ...)
    transform = optax.adam(1e-2)

    @jax.jit
    def fit(adapter):
        def step(carry, _):
            adapter, memory = carry
            gradient = jax.grad(lambda a: loss(nnx.merge(graph, a, rest), TRAINING))(adapter)
            updates, memory = transform.update(gradient, memory, adapter)
            return (optax.apply_updates(adapter, updates), memory), None

        return jax.lax.scan(step, (adapter, transform.init(adapter)), length=60)[0][0]

    with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to a whole power
        trained = nnx.merge(graph, fit(adapter), rest)
    before, after = float(loss(base, HELD_OUT)), float(loss(trained, HELD_OUT))
    assert after < 0.5 * before, (before, after)
    for path, leaf in nnx.to_flat_state(nnx.split(trained, nnx.LoRAParam, ...)[2]):
        np.testing.assert_array_equal(leaf[...], dict(nnx.to_flat_state(rest))[path][...])
    save_adapter(trained, tmp_path / "adapter")
    loaded = load_adapter(base, tmp_path / "adapter")
    np.testing.assert_array_equal(logits(loaded, IDS), logits(trained, IDS))
    save_model(merge_adapter(loaded), tmp_path / "merged")
    merged = load_model(tmp_path / "merged")
    assert float(loss(merged, HELD_OUT)) == pytest.approx(after, abs=MERGED)
    np.testing.assert_allclose(logits(merged, IDS), logits(trained, IDS), atol=MERGED)


def test_the_optimizer_of_flax_takes_the_filter():
    shallow = dataclasses.replace(CONFIG, num_hidden_layers=1)
    base = Ouro(shallow, rngs=nnx.Rngs(1))
    model = random_adapter(base, LoRAConfig(target_modules=("q_proj",)))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.LoRAParam)
    before = float(loss(model, TRAINING))
    wanted = nnx.DiffState(0, nnx.LoRAParam)
    optimizer.update(model, nnx.grad(loss, argnums=wanted)(model, TRAINING))
    assert float(loss(model, TRAINING)) < before
    np.testing.assert_array_equal(model.lm_head.weight[...], base.lm_head.weight[...])


# What it computes -------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rslora", [False, True])
def test_the_change_is_scaling_times_a_b(use_rslora, tmp_path):
    """Restated from the file: W + (alpha / r or alpha / √r) · (B A)."""
    config = LoRAConfig(rank=4, alpha=3.0, target_modules=("up_proj",), use_rslora=use_rslora)
    base = plain()
    adapted = random_adapter(base, config)
    save_adapter(adapted, tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.up_proj"
    a, b = stored[f"{name}.lora_A.weight"], stored[f"{name}.lora_B.weight"]
    assert (a.shape, b.shape) == ((4, 16), (24, 4))
    scaling = 3.0 / (2.0 if use_rslora else 4.0)
    change = scaling * (b.astype(np.float64) @ a.astype(np.float64))
    before = np.asarray(base.layers[1].mlp.up_proj.weight[...], np.float64)
    merged = merge_adapter(adapted)
    np.testing.assert_allclose(merged.layers[1].mlp.up_proj.weight[...], before + change, atol=1e-6)
    np.testing.assert_array_equal(
        merged.layers[1].mlp.down_proj.weight[...], base.layers[1].mlp.down_proj.weight[...]
    )
    np.testing.assert_allclose(logits(merged, IDS), logits(adapted, IDS), atol=MERGED)


@pytest.mark.parametrize("targets", [("lm_head",), ("early_exit_gate", "layers.1.mlp.up_proj")])
def test_targets_are_published_names_or_their_ends(targets, tmp_path):
    model = random_adapter(plain(), LoRAConfig(target_modules=targets))
    save_adapter(model, tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert len(stored) == 2 * len(targets)
    for end in targets:
        assert any(name.endswith(f"{end}.lora_A.weight") for name in stored)
    loaded = load_adapter(plain(), tmp_path)
    outputs, expected = loaded(IDS), model(IDS)
    np.testing.assert_array_equal(outputs.gate, expected.gate)


def test_stacked_layers_narrow_types_and_quantised_models_take_adapters(tmp_path):
    adapted = random_adapter(plain())
    stacked = stack_layers(adapted)
    np.testing.assert_allclose(logits(stacked, IDS), logits(adapted, IDS), atol=MERGED)
    save_adapter(stacked, tmp_path)
    merged = merge_adapter(stacked)
    np.testing.assert_allclose(logits(merged, IDS), logits(adapted, IDS), atol=MERGED)
    narrow = load_adapter(plain(jnp.bfloat16), tmp_path)
    assert logits(narrow, IDS).dtype == jnp.bfloat16
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(nnx.state(narrow, nnx.LoRAParam)))
    quantised = quantize_model(plain(), "int8")
    beside = load_adapter(quantised, tmp_path)
    np.testing.assert_allclose(logits(beside, IDS), logits(adapted, IDS), atol=0.05)
    with pytest.raises(ValueError, match="is quantised: merge before quantising"):
        merge_adapter(beside)


# What does not fit ------------------------------------------------------------------------------


def edit(directory, **changes):
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


REFUSED = {
    "another method": ({"peft_type": "IA3"}, "is of type 'IA3'; only LORA"),
    "DoRA": ({"use_dora": True}, "asks for use_dora = True, which is not supported"),
    "biases": ({"bias": "all"}, "asks for bias = 'all'"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "asks for modules_to_save"),
    "ranks": ({"rank_pattern": {"q_proj": 2}}, "asks for rank_pattern"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "asks for init_lora_weights = 'pissa'"),
    "what is not known": ({"brand_new": 1}, "asks for brand_new = 1"),
    "a pattern": ({"target_modules": "all-linear"}, "target_modules must be a list of names"),
    "no such module": ({"target_modules": ["c_attn"]}, "names 'c_attn'; choose from down_proj, "),
    "fewer modules": ({"target_modules": ["q_proj"]}, r"not expected: \S+down_proj\.lora_A"),
    "more modules": (
        {"target_modules": ["q_proj", "v_proj", "down_proj", "o_proj"]},
        r"missing: \S+o_proj\.lora_A",
    ),
    "another rank": ({"r": 2}, r"lora_A\.weight is \[4, 24\] instead of \[2, 24\]"),
    "rank zero": ({"r": 0}, "rank must be a positive whole number; got 0"),
    "alpha below zero": ({"lora_alpha": -1}, "alpha must lie in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_adapters_of_another_kind_are_refused_by_name(case, tmp_path):
    changes, words = REFUSED[case]
    save_adapter(random_adapter(plain()), tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(ValueError, match=words):
        load_adapter(plain(), tmp_path)


def test_fields_that_change_nothing_are_read_over(tmp_path):
    model = random_adapter(plain())
    save_adapter(model, tmp_path)
    edit(
        tmp_path,
        lora_dropout=0.1,
        init_lora_weights=True,
        qalora_group_size=16,
        megatron_core="megatron.core",
        base_model_name_or_path="someone/ouro",
        use_dora=False,
        rank_pattern={},
        loftq_config={},
        brand_new=None,
    )
    np.testing.assert_array_equal(logits(load_adapter(plain(), tmp_path), IDS), logits(model, IDS))


def test_what_cannot_be_done_is_refused(tmp_path):
    base, adapted = plain(), random_adapter(plain())
    with pytest.raises(FileNotFoundError, match=r"holds no adapter_config\.json"):
        load_adapter(base, tmp_path)
    with pytest.raises(ValueError, match="no adapter to save"):
        save_adapter(base, tmp_path)
    with pytest.raises(ValueError, match="no adapter to merge"):
        merge_adapter(base)
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapter(adapted, LORA, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="unstack_layers first"):
        add_adapter(stack_layers(base), LORA, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="merge adapters first"):
        save_model(adapted, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ValueError, match="target_modules must be names; got 'q_proj'"):
        LoRAConfig(target_modules="q_proj")
    save_adapter(adapted, tmp_path)
    with pytest.raises(ValueError, match="already holds adapter_config"):
        save_adapter(adapted, tmp_path)
    save_adapter(adapted, tmp_path, overwrite=True)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged or cut short"):
        load_adapter(base, tmp_path)
    save_file({"x": np.ones(1, np.float32)}, path)
    with pytest.raises(ValueError, match="and 9 more"):
        load_adapter(base, tmp_path)
