"""Weights come in and go out under the published names, bit for bit; what does not fit is refused.

`data/ouro_tiny` is a random checkpoint with what the released model code computed from it.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import sigma_jax
from sigma_jax.kernel import Ouro, OuroConfig, load_model, save_model, stack_layers

RELEASED = Path(__file__).parent / "data" / "ouro_tiny"
HARSH = 5e-4
"""The tolerance for `ouro_tiny`, whose random weights multiply every rounding."""
CONFIG = OuroConfig(
    vocab_size=11,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=16,
)
D, F, V, KV = 8, 12, 11, 4
LAYER = {
    "self_attn.q_proj.weight": (D, D),
    "self_attn.k_proj.weight": (KV, D),
    "self_attn.v_proj.weight": (KV, D),
    "self_attn.o_proj.weight": (D, D),
    "mlp.gate_proj.weight": (F, D),
    "mlp.up_proj.weight": (F, D),
    "mlp.down_proj.weight": (D, F),
    "input_layernorm.weight": (D,),
    "input_layernorm_2.weight": (D,),
    "post_attention_layernorm.weight": (D,),
    "post_attention_layernorm_2.weight": (D,),
}
PUBLISHED = {
    "model.embed_tokens.weight": (V, D),
    **{f"model.layers.{i}.{name}": shape for i in (0, 1) for name, shape in LAYER.items()},
    "model.norm.weight": (D,),
    "model.early_exit_gate.weight": (1, D),
    "model.early_exit_gate.bias": (1,),
    "lm_head.weight": (V, D),
}


def random_model(dtype=jnp.float32, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return Ouro(config, rngs=nnx.Rngs(3), dtype=dtype)


def numbers(model):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(model))}


def assert_same(first, second):
    first, second = numbers(first), numbers(second)
    assert first.keys() == second.keys()
    for path, array in first.items():
        assert array.dtype == second[path].dtype
        assert array.tobytes() == second[path].tobytes(), path


# What is there ----------------------------------------------------------------------------------


def test_the_released_codes_arrays_are_met_loop_by_loop():
    model = load_model(RELEASED)
    with np.load(RELEASED / "oracle.npz") as arrays:
        told = dict(arrays)
    outputs = model(jnp.asarray(told["input_ids"], jnp.int32))
    for t in range(4):
        for found, name in (
            (outputs.hidden[t], "hidden"),
            (outputs.gate[t], "gate"),
            (model.logits(outputs.hidden[t]), "logits_step"),
        ):
            np.testing.assert_allclose(found, told[f"{name}_{t}"], atol=HARSH, rtol=HARSH)


def test_the_number_of_loops_is_chosen_at_load():
    ids = jnp.arange(6, dtype=jnp.int32)[None]
    deep, shallow = load_model(RELEASED)(ids), load_model(RELEASED, loops=2)(ids)
    np.testing.assert_array_equal(shallow.hidden, deep.hidden[:2])
    assert load_model(RELEASED, loops=6)(ids).hidden.shape[0] == 6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shard_size", [None, 1, 700])
def test_what_is_saved_reads_back_bit_for_bit(dtype, shard_size, tmp_path):
    model = random_model(dtype)
    save_model(model, tmp_path / "deep" / "model", shard_size=shard_size)
    loaded = load_model(tmp_path / "deep" / "model")
    assert loaded.dtype == dtype
    assert loaded.config == model.config
    assert_same(loaded, model)


def test_names_and_layout_are_the_published_ones(tmp_path):
    model = random_model()
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {name: array.shape for name, array in stored.items()} == PUBLISHED
    for i, layer in enumerate(model.layers):
        prefix = f"model.layers.{i}"
        up = stored[f"{prefix}.mlp.up_proj.weight"]
        np.testing.assert_array_equal(up, layer.mlp.up_proj.weight[...])
        keys = stored[f"{prefix}.self_attn.k_proj.weight"]
        np.testing.assert_array_equal(keys, layer.self_attn.k_proj.weight[...])
    embedding = stored["model.embed_tokens.weight"]
    np.testing.assert_array_equal(embedding, model.embed_tokens.embedding[...])
    save_model(stack_layers(model), tmp_path / "stacked")
    for name, array in load_file(tmp_path / "stacked" / "model.safetensors").items():
        np.testing.assert_array_equal(array, stored[name])


def test_shards_are_no_larger_than_asked(tmp_path):
    save_model(random_model(), tmp_path, shard_size=700)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == PUBLISHED.keys()
    for name in set(index["weight_map"].values()):
        held = load_file(tmp_path / name)
        assert sum(array.nbytes for array in held.values()) <= 700
        assert held.keys() == {k for k, v in index["weight_map"].items() if v == name}


def test_types_are_cast_on_the_way(tmp_path):
    model = random_model()
    save_model(model, tmp_path)
    narrow = load_model(tmp_path, dtype=jnp.bfloat16)
    for path, array in numbers(model).items():
        assert numbers(narrow)[path].tobytes() == array.astype(jnp.bfloat16).tobytes()
    edit_tensors(tmp_path, lambda t: {n: a.astype(np.float16) for n, a in t.items()})
    assert load_model(tmp_path).dtype == jnp.float32
    with pytest.raises(ValueError, match="dtype must be float32 or bfloat16; got int8"):
        load_model(tmp_path, dtype=jnp.int8)


def test_a_tied_head_may_be_absent_and_may_part(tmp_path):
    model = random_model(tie_word_embeddings=True)
    save_model(model, tmp_path / "apart")
    assert_same(load_model(tmp_path / "apart"), model)
    assert not load_model(tmp_path / "apart").config.tie_word_embeddings
    model.lm_head.weight[...] = model.embed_tokens.embedding[...]
    save_model(model, tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    loaded = load_model(tmp_path / "tied")
    assert loaded.config.tie_word_embeddings
    assert_same(loaded, model)
    edit_tensors(tmp_path / "tied", lambda t: t | {"lm_head.weight": np.zeros((V, D), np.float32)})
    with pytest.raises(ValueError, match=r"tie_word_embeddings, and lm_head\.weight is not"):
        load_model(tmp_path / "tied")


# What does not fit ------------------------------------------------------------------------------


def edit_tensors(directory, change, file="model.safetensors"):
    save_file(change(load_file(directory / file)), directory / file)


def edit_json(directory, name, **changes):
    fields = json.loads((directory / name).read_text())
    (directory / name).write_text(json.dumps(fields | changes))


def without(name):
    return lambda tensors: {n: a for n, a in tensors.items() if n != name}


def with_tensor(name, array):
    return lambda tensors: tensors | {name: array}


def cut(directory, file="model.safetensors"):
    whole = (directory / file).read_bytes()
    (directory / file).write_bytes(whole[:-5])


def nan_norm(directory):
    edit_tensors(directory, with_tensor("model.norm.weight", np.full(D, np.nan, np.float32)))


ONE_FILE = {
    "missing": (
        lambda d: edit_tensors(d, without("model.norm.weight")),
        r"does not fit the model; missing: model\.norm\.weight\.",
    ),
    "many missing": (
        lambda d: edit_json(d, "config.json", num_hidden_layers=3),
        r"missing: model\.layers\.2\.\S+, model\.layers\.2\.\S+, model\.\S+ and 8 more\.",
    ),
    "not expected": (
        lambda d: edit_tensors(d, with_tensor("model.extra", np.ones(2, np.float32))),
        r"not expected: model\.extra\.",
    ),
    "transposed": (
        lambda d: edit_tensors(
            d, with_tensor("model.layers.1.mlp.up_proj.weight", np.ones((D, F), np.float32))
        ),
        r"another shape: model\.layers\.1\.mlp\.up_proj\.weight is \[8, 12\] instead of \[12, 8\]",
    ),
    "whole numbers": (
        lambda d: edit_tensors(d, with_tensor("model.norm.weight", np.ones(D, np.int32))),
        r"model\.norm\.weight in \S+model\.safetensors is of type I32",
    ),
    "not finite": (nan_norm, r"model\.norm\.weight in \S+ holds a NaN"),
    "cut short": (cut, r"model\.safetensors is damaged or cut short"),
    "no safetensors": (
        lambda d: (d / "model.safetensors").write_bytes(b"PK\x03\x04" * 40),
        "is damaged or cut short",
    ),
    "another model": (
        lambda d: edit_json(d, "config.json", model_type="llama"),
        r"config\.json: the config is of model type 'llama'",
    ),
    # Would take 4 TB: what is in the headers is looked at before anything is allocated.
    "a vocabulary of 10⁹": (
        lambda d: edit_json(d, "config.json", vocab_size=10**9, hidden_size=1000, head_dim=2),
        r"does not fit the model",
    ),
}


@pytest.mark.parametrize("case", ONE_FILE)
def test_a_checkpoint_that_does_not_fit_is_refused(case, tmp_path):
    spoil, words = ONE_FILE[case]
    save_model(random_model(), tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_model(tmp_path)


INDEX = "model.safetensors.index.json"


def first_shard(directory):
    return min(directory.glob("model-*.safetensors"))


def edit_map(directory, change):
    listed = json.loads((directory / INDEX).read_text())["weight_map"]
    edit_json(directory, INDEX, weight_map=change(listed))


SHARDED = {
    "an absent file": (
        lambda d: first_shard(d).unlink(),
        r"index\.json names the file model-00001-of-\d+\.safetensors, which is not there",
    ),
    "a tensor in another shard": (
        lambda d: edit_map(d, lambda m: m | {"lm_head.weight": m["model.norm.weight"]}),
        r"does not hold what model\.safetensors\.index\.json says; .*lm_head\.weight",
    ),
    "a tensor that is not listed": (
        lambda d: edit_map(d, without("lm_head.weight")),
        r"not expected: lm_head\.weight|missing: lm_head\.weight",
    ),
    "a shard cut short": (lambda d: cut(d, first_shard(d).name), "is damaged or cut short"),
    "a file elsewhere": (
        lambda d: edit_map(d, lambda m: m | {"lm_head.weight": "../x.safetensors"}),
        r"names '\.\./x\.safetensors', which is not the name of a file",
    ),
    "no map": (lambda d: edit_json(d, INDEX, weight_map=[]), "has no weight_map"),
    "no JSON": (lambda d: (d / INDEX).write_text("{"), r"index\.json is not JSON"),
    "a list": (lambda d: (d / INDEX).write_text("[]"), "must hold a JSON object; got list"),
}


@pytest.mark.parametrize("case", SHARDED)
def test_shards_that_do_not_agree_are_refused(case, tmp_path):
    spoil, words = SHARDED[case]
    save_model(random_model(), tmp_path, shard_size=700)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_model(tmp_path)


@given(where=st.integers(0, 10**6), byte=st.integers(0, 255), keep=st.floats(0, 1))
def test_a_damaged_file_is_an_error_or_a_model(tmp_path_factory, where, byte, keep):
    """A byte changed and a tail cut off, anywhere: one kind of error, or finite numbers."""
    directory = tmp_path_factory.mktemp("damaged")
    save_model(random_model(num_hidden_layers=1), directory)
    raw = bytearray((directory / "model.safetensors").read_bytes())
    raw[where % len(raw)] = byte
    kept = int(len(raw) * keep) if keep < 0.5 else len(raw)
    (directory / "model.safetensors").write_bytes(raw[:kept])
    try:
        model = load_model(directory)
    except ValueError:
        return
    assert kept == len(raw)
    assert all(np.isfinite(array).all() for array in numbers(model).values())


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_model(tmp_path)
    save_model(random_model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds neither model\.safetensors nor"):
        load_model(tmp_path)
    for nowhere in (tmp_path / "a", str(tmp_path / "a"), "a b/c", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="there is no directory"):
            load_model(nowhere)


# Saving -----------------------------------------------------------------------------------------


def test_a_model_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    save_model(random_model(), tmp_path, shard_size=700)
    other = random_model(jnp.bfloat16)
    with pytest.raises(ValueError, match=r"already holds config\.json, model-00001.* and \d+ more"):
        save_model(other, tmp_path)
    save_model(other, tmp_path, overwrite=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tokenizer.json", "config.json", "model.safetensors"}
    assert_same(load_model(tmp_path), other)
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_save_that_fails_leaves_nothing(tmp_path):
    """Neither a directory that was not there, nor half of a model in one that was."""
    kept = random_model()
    save_model(kept, tmp_path / "old", shard_size=700)
    broken = random_model()
    jax.tree.leaves(nnx.state(broken.norm))[0].delete()
    for directory in (tmp_path / "new", tmp_path / "old"):
        with pytest.raises(RuntimeError, match="deleted"):
            save_model(broken, directory, shard_size=500, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert_same(load_model(tmp_path / "old"), kept)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not a directory"):
        save_model(kept, tmp_path / "file")
    with pytest.raises(ValueError, match="shard_size must be at least one byte; got 0"):
        save_model(kept, tmp_path / "new", shard_size=0)


# The hub ----------------------------------------------------------------------------------------


def test_a_name_of_the_hub_is_fetched(monkeypatch):
    asked = []

    def fetch(name, *, revision, allow_patterns):
        asked.append((name, revision, tuple(allow_patterns)))
        return str(RELEASED)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert_same(load_model("someone/ouro", revision="0a1b"), load_model(RELEASED))
    first, second = asked
    assert first == ("someone/ouro", "0a1b", ("config.json",))
    assert "model-*.safetensors" in second[2]
    assert not any("bin" in pattern or "py" in pattern for pattern in second[2])


def test_without_the_hub_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no directory someone/ouro, and the Hugging Face"):
        load_model("someone/ouro")


# Memory -----------------------------------------------------------------------------------------


STATUS = Path("/proc/self/status")


def peak_memory():
    """In bytes, of this program alone; `getrusage` would count what it was forked from."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="the kernel does not tell")
def test_loading_takes_little_more_memory_than_the_weights(tmp_path):
    """Though the largest of the tensors is a third of all, and is transposed."""
    config = OuroConfig(32768, 512, 1024, 4, 8, 8, 64)
    save_model(Ouro(config, rngs=nnx.Rngs(0)), tmp_path)
    root = Path(sigma_jax.__file__).parents[1]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    taken, weights = map(int, done.stdout.split())
    assert weights > 150e6
    assert 0.9 * weights < taken < 1.15 * weights, taken / weights


def main(directory):
    """Load it, and say what the peak of memory grew by and what the weights take, in bytes."""
    save_model(random_model(), Path(directory) / "small")
    load_model(Path(directory) / "small")
    before = peak_memory()
    model = load_model(directory)
    print(peak_memory() - before, sum(array.nbytes for array in numbers(model).values()))


if __name__ == "__main__":
    main(sys.argv[1])
