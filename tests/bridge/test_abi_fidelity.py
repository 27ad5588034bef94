"""What the kernel's own head says of states, and fits by gradient that listen to it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.bridge import (
    exit_states,
    fidelity,
    heard_through,
    optimal_abi,
    start_abi_training,
    train_abi,
)
from sigma_jax.kernel import FixedDepth, QExit, generate
from tests.kernel.restatement import random_model, read, weights

SEQUENCES = [[1, 2, 3, 4, 5, 6], [7, 8], [9, 10, 11, 12]]


@pytest.fixture(scope="module")
def model():
    """Of 72 numbers a state, so that 64 are not all."""
    return random_model(3, loops=2, hidden_size=72, num_attention_heads=4, kv_heads=2)


@pytest.fixture(scope="module")
def hidden(model):
    """The states of many random tokens."""
    rng = np.random.default_rng(2)
    return exit_states(model, rng.integers(0, model.config.vocab_size, (40, 12)).tolist())


def test_states_are_those_at_the_exit_of_every_token(model):
    """Against the restatement: each row by itself, padding or not, at full depth and before."""
    for policy, most in ((FixedDepth(), 2), (FixedDepth(max_loops=1), 1)):
        found = exit_states(model, SEQUENCES, policy)
        shallow = dataclasses.replace(model.config, total_ut_steps=most)
        expected = [read(weights(model), shallow, s, prompt=len(s))[0] for s in SEQUENCES]
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-4)


def test_an_exit_policy_is_listened_to(model):
    full, first = exit_states(model, SEQUENCES), exit_states(model, SEQUENCES, QExit(threshold=0.0))
    alone = exit_states(model, SEQUENCES, FixedDepth(max_loops=1))
    np.testing.assert_array_equal(first, alone)
    assert np.abs(full - first).max() > 0.1


def test_fidelity_by_hand(model, hidden):
    abi = optimal_abi(hidden, 64)
    found = fidelity(abi, model, hidden)
    rebuilt = np.asarray(abi.decode(abi.encode(jnp.asarray(hidden))), np.float64)
    spread = np.square(hidden - hidden.mean(axis=0, dtype=np.float64)).sum()
    share = 1.0 - np.square(hidden - rebuilt).sum() / spread
    assert float(found.explained) == pytest.approx(share, abs=1e-6)
    head = weights(model)["lm_head.weight"]
    logits, again = hidden @ head, rebuilt @ head
    p, q = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in (logits, again))
    divergence = (p * np.log(p / q)).sum(-1).mean()
    assert float(found.divergence) == pytest.approx(divergence, rel=1e-3, abs=1e-7)
    same = (logits.argmax(-1) == again.argmax(-1)).mean()
    assert float(found.agreement) == pytest.approx(same, abs=2.1 / len(hidden))


def test_more_numbers_keep_more(model, hidden):
    kept = [float(fidelity(optimal_abi(hidden, dim), model, hidden).explained) for dim in (64, 72)]
    assert kept[0] < kept[1] <= 1.0


def test_a_fit_brings_the_predictions_nearer(model, hidden):
    abi = optimal_abi(hidden, 64)
    training, losses = train_abi(
        start_abi_training(abi),
        model,
        hidden,
        steps=200,
        key=jax.random.key(0),
        learning_rate=1e-3,
        divergence_weight=10.0,
    )
    assert losses.shape == (200,)
    before, after = fidelity(abi, model, hidden), fidelity(training.abi, model, hidden)
    assert float(after.divergence) < 0.7 * float(before.divergence)
    assert float(after.explained) <= float(before.explained)  # the start was the best at that


def test_a_fit_in_pieces_is_the_whole_fit(model, hidden):
    start = start_abi_training(optimal_abi(hidden, 64))
    options = {"key": jax.random.key(3), "batch": 32}
    whole, losses = train_abi(start, model, hidden, steps=6, **options)
    first, early = train_abi(start, model, hidden, steps=3, **options)
    second, late = train_abi(first, model, hidden, steps=3, **options)
    np.testing.assert_array_equal(np.concatenate([early, late]), losses)
    for found, wanted in zip(jax.tree.leaves(second), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_kernel_heard_through_an_abi_says_what_its_head_makes_of_the_rest(model, hidden):
    abi = optimal_abi(hidden, 64)
    heard, rebuilt = heard_through(abi, model), abi.decode(abi.encode(jnp.asarray(hidden)))
    np.testing.assert_allclose(heard.logits(hidden), model.logits(rebuilt), rtol=1e-5, atol=1e-5)
    first = generate(heard, [[1, 2, 3]], max_new_tokens=1).tokens[0]
    (last,) = exit_states(model, [[1, 2, 3]])[-1:]
    assert first == [int(heard.logits(jnp.asarray(last)).argmax())]
    silent = jax.tree.map(jnp.zeros_like, abi)
    deaf = generate(heard_through(silent, model), [[1, 2, 3], [4, 5]], max_new_tokens=6)
    assert deaf.tokens == [[0] * 6, [0] * 6]
    assert np.abs(model.logits(jnp.asarray(hidden))).max() > 0.0  # the model itself is as it was


def test_an_abi_of_another_width_is_refused(model, hidden):
    narrow = optimal_abi(hidden[:, :70], 64)
    wrong = "the ABI is of hidden states of 70 numbers; the model's have 72"
    with pytest.raises(ValueError, match=wrong):
        fidelity(narrow, model, hidden)
    with pytest.raises(ValueError, match=wrong):
        heard_through(narrow, model)
    with pytest.raises(ValueError, match=wrong):
        train_abi(start_abi_training(narrow), model, hidden, steps=1, key=jax.random.key(0))


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"batch": 1}, {"learning_rate": 0.0}, {"divergence_weight": -1.0}]
)
def test_numbers_out_of_range_are_refused(model, hidden, bad):
    training = start_abi_training(optimal_abi(hidden, 64))
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name} must lie in"):
        train_abi(training, model, hidden, **({"steps": 1, "key": jax.random.key(0)} | bad))


def test_sequences_that_are_not_there_are_refused(model):
    for bad in ([], [[1], []]):
        with pytest.raises(ValueError, match="sequences must hold at least one"):
            exit_states(model, bad)
