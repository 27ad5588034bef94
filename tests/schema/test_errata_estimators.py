"""Errata about how coherence is measured and what the proofs construct, shown by computing."""

import itertools

import numpy as np

FUSION_WEIGHT_OF_CONSISTENCY = 0.25
SIGMA_CRITICAL = 0.15


def untrained_encoder(seed: int, width: int = 128, heads: int = 4, layers: int = 2):
    """A Transformer encoder with random weights: token ids to the mean of its hidden states."""
    rng = np.random.default_rng(seed)

    def glorot(rows, columns):
        return rng.uniform(-1, 1, (rows, columns)) * np.sqrt(6 / (rows + columns))

    def normalised(x):
        return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)

    embedding = rng.normal(size=(30, width))
    blocks = [
        [glorot(width, width) for _ in range(4)] + [glorot(width, 512), glorot(512, width)]
        for _ in range(layers)
    ]

    def encode(tokens):
        count = len(tokens)
        angle = np.arange(count)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
        x = embedding[tokens] + np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)
        for query, key, value, output, wide, narrow in blocks:
            q, k, v = ((x @ w).reshape(count, heads, -1) for w in (query, key, value))
            score = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(width / heads)
            weight = np.exp(score - score.max(-1, keepdims=True))
            weight /= weight.sum(-1, keepdims=True)
            mixed = np.einsum("hqk,khd->qhd", weight, v).reshape(count, width)
            x = normalised(x + mixed @ output)
            x = normalised(x + np.maximum(x @ wide, 0.0) @ narrow)
        return x.mean(axis=0)

    return encode


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_e31_consistency_of_an_untrained_encoder_is_near_one():
    """Augmentation consistency, a third signal of σ̃, is high before anything is learned."""
    rng = np.random.default_rng(1)
    encode = untrained_encoder(0)
    sentences = [np.array([0, *rng.integers(2, 30, rng.integers(5, 9)), 1]) for _ in range(100)]

    def substituted(sentence):
        changed = sentence.copy()
        changed[rng.integers(1, len(sentence) - 1)] = rng.integers(2, 30)
        return changed

    states = [encode(sentence) for sentence in sentences]
    augmented = np.mean(
        [cosine(h, encode(substituted(s))) for h, s in zip(states, sentences, strict=True)]
    )
    unrelated = np.mean([cosine(a, b) for a, b in itertools.pairwise(states)])
    assert augmented > 0.95
    assert unrelated > 0.75  # so most of it has nothing to do with what the sentences mean
    # The fused estimate of a network that knows nothing would already be in phase 2.
    assert FUSION_WEIGHT_OF_CONSISTENCY * augmented > SIGMA_CRITICAL
    assert FUSION_WEIGHT_OF_CONSISTENCY * unrelated > SIGMA_CRITICAL


def memoriser(inputs, outputs):
    """Lemma 3.1's network: f(x) = Σ_j y_j max(0, x_j·x − ½)."""
    return lambda x: np.maximum(inputs @ x - 0.5, 0.0) @ outputs


def test_e35_the_memoriser_halves_what_it_memorised():
    inputs, outputs = np.eye(4), np.arange(1.0, 9.0).reshape(4, 2)
    f = memoriser(inputs, outputs)
    for x, y in zip(inputs, outputs, strict=True):
        np.testing.assert_allclose(f(x), 0.5 * y)


def test_e35_the_memoriser_confuses_inputs_that_resemble_one_another():
    inputs = np.array([[1.0, 0.0], [0.8, 0.6]])
    outputs = np.array([[1.0, 0.0], [0.0, 1.0]])
    f = memoriser(inputs, outputs)
    assert f(inputs[0])[1] > 0.25  # x₁·x₂ = .8: the other answer leaks in
    apart = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    np.testing.assert_allclose(memoriser(apart, outputs)(apart[0]), [0.5, 0.0], atol=1e-12)
