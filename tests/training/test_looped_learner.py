"""The kernel's architecture as a learner: padding, decoding against reading, learning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax import kernel
from sigma_jax.grammars import scan_split
from sigma_jax.training import (
    END,
    START,
    LoopedLearner,
    Vocabulary,
    encode_pairs,
    exact_match,
    greedy_targets,
    start_learners,
    train_learners,
)

CONFIG = dataclasses.replace(
    kernel.read_config(kernel.kernel_mini_directory()),
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=8,
    total_ut_steps=2,
)
PAIRS = [pair for pair in scan_split("simple").train if len(pair.target.split()) <= 3][:24]
VOCABULARY = Vocabulary.of(PAIRS)
DATA = encode_pairs(VOCABULARY, PAIRS)
LONGEST = DATA.target.shape[1]


@pytest.fixture(scope="module")
def trained():
    state = start_learners(VOCABULARY.size, [0, 1], CONFIG)
    return train_learners(state, DATA, steps=150, batch=24, learning_rate=1e-2)


def model_of(state) -> LoopedLearner:
    return jax.tree.map(lambda leaf: leaf[0], state.model)


def test_it_has_the_configured_kernel_with_its_own_vocabulary():
    learner = LoopedLearner(9, CONFIG, seed=0)
    assert learner.vocabulary_size == 9
    assert learner.model.config == dataclasses.replace(CONFIG, vocab_size=9)
    assert learner.dtype == jnp.float32


@pytest.mark.slow
def test_padding_changes_nothing(trained):
    model = model_of(trained[0])
    source = jnp.asarray(DATA.source[-1])
    real = int((source != 0).sum())
    bare, padded = source[:real], jnp.pad(source[:real], (0, 4))
    start = jnp.asarray([START, 4], jnp.int32)
    np.testing.assert_allclose(
        model.logits(padded, start), model.logits(bare, start), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        model.encode(padded)[:real], model.encode(bare), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_what_it_says_token_by_token_is_what_reading_it_whole_gives(trained):
    """The cache against no cache, for a source with padding and one without."""
    state, _ = trained
    said = np.asarray(greedy_targets(state, DATA.source, longest=LONGEST))[0]
    logits = jax.jit(model_of(state).logits)
    for row in (0, len(PAIRS) - 1):
        tokens = said[row].tolist()
        given = jnp.asarray([START, *tokens[:-1]], jnp.int32)
        expected = np.asarray(logits(jnp.asarray(DATA.source[row]), given)).argmax(axis=-1)
        until = tokens.index(END) + 1 if END in tokens else len(tokens)
        assert tokens[:until] == expected[:until].tolist()


@pytest.mark.slow
def test_it_learns(trained):
    state, losses = trained
    assert losses[:, -10:].mean() < 0.3 * losses[:, :10].mean()
    assert exact_match(state, DATA).mean() > 0.5
