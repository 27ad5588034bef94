"""What the canary sees, against closed forms, and what it changes: nothing, unless asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.kernel import (
    Adaptation,
    Depth,
    Finish,
    QExit,
    Sampling,
    generate,
    observe,
    start_canary,
)
from tests.kernel.restatement import random_model

pytestmark = pytest.mark.usefixtures("compiled_in_a_hurry")

VOCABULARY = 40


@jax.jit
def watch(ids, logits):
    """The signs [batch, tokens] and alarms of rows of ids under logits [batch, tokens, V]."""

    def one(state, token):
        state, signs = observe(state, *token)
        return state, (signs, state.alarm)

    _, seen = jax.lax.scan(one, start_canary(ids.shape[0]), (logits.swapaxes(0, 1), ids.T))
    return jax.tree.map(lambda column: column.T, seen)


def calm_logits(rows, tokens, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, tokens, VOCABULARY)).astype(np.float32)


@pytest.fixture(scope="module")
def four_rows():
    """Never the same token; always the same; a circle of five; random, and then a circle."""
    rng = np.random.default_rng(1)
    late = np.concatenate([rng.permutation(VOCABULARY)[:30], np.tile([1, 2, 3], 10)])
    rows = [np.arange(60) % VOCABULARY, np.full(60, 7), np.arange(60) % 5, late]
    ids = np.array(rows, np.int32)
    return ids, calm_logits(4, 60)


def test_repeats_and_echoes_by_hand(four_rows):
    ids, logits = four_rows
    signs, _ = watch(ids, logits)
    for row in range(4):
        for token in range(60):
            window = ids[row, max(0, token - 23) : token + 1].tolist()
            repeats = sum(window[i] in window[:i] for i in range(len(window)))
            assert np.isclose(signs.repeat[row, token], repeats / 24)
            trigrams = list(zip(window, window[1:], window[2:], strict=False))
            echo = len(trigrams) > 1 and trigrams[-1] in trigrams[:-1]
            assert bool(signs.echo[row, token]) == echo
    assert signs.repeat[0].max() == 0.0
    assert signs.degeneracy[1, -1] > 0.85
    assert np.isclose(signs.repeat[2, -1], 19 / 24)


def test_margin_and_entropy_by_hand(four_rows):
    ids, logits = four_rows
    signs, _ = watch(ids, logits)
    p = np.exp(logits.astype(float))
    p /= p.sum(-1, keepdims=True)
    top = np.sort(p, axis=-1)
    np.testing.assert_allclose(signs.margin, top[..., -1] - top[..., -2], atol=1e-6)
    entropy = -(p * np.log(p)).sum(-1)
    for row in range(4):
        mean, variance = entropy[row, 0], 0.0
        for token in range(60):
            offset = entropy[row, token] - mean
            expected = offset / np.sqrt(variance + 1e-6) if token >= 8 else 0.0
            assert np.isclose(signs.entropy_change[row, token], expected, rtol=1e-3, atol=1e-3)
            mean += 0.15 * offset
            variance = 0.85 * (variance + 0.15 * offset**2)


def test_a_drop_in_entropy_counts_by_its_margin():
    ids = np.arange(30, dtype=np.int32)[None]
    logits = calm_logits(1, 30)
    logits[0, 20, 4] = 30.0
    signs, _ = watch(ids, logits)
    assert signs.entropy_change[0, 20] < -2.5
    assert np.isclose(signs.degeneracy[0, 20], 0.1, atol=1e-4)
    assert (np.delete(np.asarray(signs.degeneracy[0]), 20) < 0.05).all()


def test_degeneracy_is_a_share(four_rows):
    signs, _ = watch(*four_rows)
    certainty = np.where(np.asarray(signs.entropy_change) <= -2.5, signs.margin, 0.0)
    folded = 0.6 * signs.repeat + 0.3 * signs.echo + 0.1 * certainty
    np.testing.assert_allclose(signs.degeneracy, folded, atol=1e-6)
    assert signs.degeneracy.min() >= 0.0
    assert signs.degeneracy.max() <= 1.0


def test_the_monitor_is_surprised_where_a_circle_begins_and_nowhere_else(four_rows):
    signs, alarms = watch(*four_rows)
    flagged = np.flatnonzero(signs.flag[3])
    assert not signs.flag[0].any()
    assert not alarms[0].any()
    assert 33 <= flagged[0] <= 36  # the circle of three stands at 30, and closes at 33
    assert alarms[3, flagged[0] :].all()
    assert not alarms[3, : flagged[0]].any()


def test_an_alarm_ends_when_the_text_recovers():
    ids = np.concatenate([np.arange(20), np.tile([1, 2, 3], 5), np.arange(10, 40)])[None]
    _, alarms = watch(ids.astype(np.int32), calm_logits(1, ids.shape[1]))
    assert alarms[0, 25:35].any()
    assert not alarms[0, -1]


def test_ordinary_text_does_not_alarm():
    """Draws from a steep rank-frequency law, as words are: rarely a flag, seldom an alarm."""
    weights = 1.0 / np.arange(1, 2001)
    ids = np.random.default_rng(0).choice(2000, size=(16, 200), p=weights / weights.sum())
    signs, alarms = watch(ids.astype(np.int32), calm_logits(16, 200))
    assert np.mean(signs.flag) < 0.02
    assert np.mean(alarms) < 0.05


# What it changes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def circling():
    """A model that repeats itself: every logit but those of a few ids is low."""
    model = random_model(11, loops=2, vocab_size=VOCABULARY)
    head = np.array(model.lm_head.weight[...])
    head[3:] *= 0.3
    model.lm_head.weight[...] = jnp.asarray(head)
    return model


def run(model, adaptation, *, stop_ids=(39,), sampling=Sampling(), threshold=0.2):
    return generate(
        model,
        [[1, 2, 3], [4, 5]],
        max_new_tokens=60,
        depth=Depth(QExit(threshold)),
        adaptation=adaptation,
        sampling=sampling,
        stop_ids=stop_ids,
    )


def test_before_it_is_surprised_nothing_changes(circling):
    observed = run(circling, Adaptation())
    assert any(signs.flag.any() for signs in observed.signs)
    asked = run(circling, Adaptation(repetition_penalty=5.0))
    assert asked.tokens != observed.tokens
    for row in range(2):
        first = int(np.argmax(observed.signs[row].flag)) + 1
        assert asked.tokens[row][:first] == observed.tokens[row][:first]


def test_asked_it_repeats_less(circling):
    observed = run(circling, Adaptation())
    asked = run(circling, Adaptation(repetition_penalty=5.0))
    for before, after in zip(observed.signs, asked.signs, strict=True):
        assert after.repeat[-20:].mean() < before.repeat[-20:].mean()


def test_asked_it_goes_deeper(circling):
    observed = run(circling, Adaptation())
    asked = run(circling, Adaptation(exit_threshold=10.0))
    for row in range(2):
        first = int(np.argmax(observed.signs[row].flag)) + 1
        assert asked.depths[row][:first] == observed.depths[row][:first]
        alarmed = asked.signs[row].degeneracy[first:-1] > 0.3
        assert (np.array(asked.depths[row])[first + 1 :][alarmed] == 2).all()
    assert np.mean(asked.depths[0]) > np.mean(observed.depths[0])


def test_asked_it_stops(circling):
    observed = run(circling, Adaptation())
    assert observed.diverged == [True, True]
    asked = run(circling, Adaptation(stop_bias=200.0))
    assert asked.finish == [Finish.STOP, Finish.STOP]
    assert asked.diverged == [False, False]
    for row in range(2):
        assert asked.tokens[row] == observed.tokens[row][: len(asked.tokens[row])]


@pytest.mark.parametrize("name", ["repetition_penalty", "exit_threshold", "stop_bias"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), "x"])
def test_strengths_below_zero_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Adaptation(**{name: value})
