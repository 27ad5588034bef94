"""Sampling against NumPy and closed forms, and stop strings against the whole text."""

import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies
from scipy import stats

from sigma_jax.kernel import Sampling, StopStrings, sample

VOCABULARY = 12
DRAWS = 4000
NOTHING = np.full((1, 8), -1, np.int32)


def restated(logits, recent, s):
    """The probabilities of one row, from the definitions: float64, token by token."""
    logits = np.array(logits, np.float64)
    counted = [t for t in recent[len(recent) - s.repeat_last_n :] if t >= 0]
    for token in set(counted):
        positive = logits[token] > 0
        logits[token] *= 1 / s.repetition_penalty if positive else s.repetition_penalty
        logits[token] -= s.presence_penalty + s.frequency_penalty * counted.count(token)
    if s.temperature == 0:
        return np.eye(len(logits))[logits.argmax()]
    p = np.exp((logits - logits.max()) / s.temperature)
    p /= p.sum()
    order = list(np.argsort(-p))
    if s.top_k:
        order = order[: s.top_k]
    mass, kept = 0.0, []
    for token in order:
        if mass / p[order].sum() >= s.top_p:
            break
        kept.append(token)
        mass += p[token]
    kept = [token for token in kept if p[token] >= s.min_p * p.max()]
    found = np.zeros_like(p)
    found[kept] = p[kept]
    return found / found.sum()


@jax.jit
def draw(keys, logits, sampling, recent):
    return sample(keys, logits, sampling, recent)


def arrays(sampling, rows):
    """The numbers as arrays, one a row, so that one compiled program serves them all."""
    return jax.tree.map(
        lambda x: jnp.full(rows, x, jnp.int32 if isinstance(x, int) else jnp.float32), sampling
    )


def frequencies(logits, sampling, recent=NOTHING[0], seed=0):
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    spread = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (DRAWS, len(logits)))
    window = jnp.broadcast_to(jnp.asarray(recent), (DRAWS, len(recent)))
    ids = draw(keys, spread, arrays(sampling, DRAWS), window)
    return np.bincount(np.asarray(ids), minlength=len(logits))


LOGITS = np.random.default_rng(3).normal(size=VOCABULARY) * 1.5
RECENT = np.array([-1, -1, 3, 5, 5, 9, 0, 5], np.int32)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.6),
        Sampling(temperature=2.0, top_k=3),
        Sampling(temperature=1.0, top_k=1),
        Sampling(temperature=1.0, top_p=0.6),
        Sampling(temperature=1.0, top_p=1e-6),
        Sampling(temperature=1.0, min_p=0.2),
        Sampling(temperature=1.3, top_k=7, top_p=0.8, min_p=0.1),
        Sampling(temperature=1.0, repetition_penalty=1.7),
        Sampling(temperature=1.0, presence_penalty=0.8, frequency_penalty=0.5),
        Sampling(temperature=1.0, frequency_penalty=1.0, repeat_last_n=2),
        Sampling(temperature=1.0, repetition_penalty=3.0, repeat_last_n=0),
        Sampling(temperature=0.0, frequency_penalty=2.0, top_k=2),
    ],
    ids=lambda s: ",".join(f"{k}={v:g}" for k, v in vars(s).items() if v != vars(Sampling())[k]),
)
def test_frequencies_are_the_probabilities(sampling):
    expected = restated(LOGITS, RECENT, sampling)
    found = frequencies(LOGITS, sampling, RECENT)
    assert (found[expected == 0.0] == 0).all()
    there = expected > 0.0
    if there.sum() > 1:
        assert stats.chisquare(found[there], DRAWS * expected[there]).pvalue > 1e-3


def test_the_restatement_notices_a_wrong_temperature():
    expected = restated(LOGITS, RECENT, Sampling(temperature=1.0))
    found = frequencies(LOGITS, Sampling(temperature=1.15), RECENT)
    assert stats.chisquare(found, DRAWS * expected).pvalue < 1e-3


@hypothesis.given(
    seed=strategies.integers(0, 2**31),
    top_k=strategies.integers(0, 15),
    top_p=strategies.floats(0.0625, 1.0, width=16),
    min_p=strategies.floats(0.0, 1.0, width=16),
    temperature=strategies.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_a_drawn_token_is_always_a_possible_one(seed, top_k, top_p, min_p, temperature):
    logits = np.random.default_rng(seed).normal(size=(64, VOCABULARY)).astype(np.float32) * 2.0
    sampling = Sampling(temperature, top_k, top_p, min_p)
    keys = jax.random.split(jax.random.key(seed), 64)
    ids = draw(keys, logits, arrays(sampling, 64), np.repeat(NOTHING, 64, axis=0))
    for row in range(64):
        assert restated(logits[row], NOTHING[0], sampling)[int(ids[row])] > 0.0


def test_ties_at_the_edge_of_top_k_are_all_kept():
    found = frequencies([2.0, 1.0, 1.0, -3.0], Sampling(temperature=1.0, top_k=2))
    assert (found[:3] > 0).all()
    assert found[3] == 0


def test_a_row_does_not_depend_on_its_neighbours():
    """Alone, beside greedy rows and beside truncated ones: the same token."""
    logits = np.tile(LOGITS, (3, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 3)
    window = np.repeat(NOTHING, 3, axis=0)
    for own in (Sampling(temperature=1.0), Sampling(temperature=1.0, top_p=0.7)):
        alone = draw(keys[:1], logits[:1], arrays(own, 1), window[:1])[0]
        for other in (Sampling(), Sampling(temperature=2.0, top_k=2, repetition_penalty=2.0)):
            mixed = jax.tree.map(
                lambda a, b: jnp.concatenate([a, b]), arrays(own, 1), arrays(other, 2)
            )
            assert draw(keys, logits, mixed, window)[0] == alone


def test_sorting_stands_behind_a_condition():
    """No sort outside of a branch that greedy rows never take."""
    shapes = (jax.random.split(jax.random.key(0), 2), jnp.zeros((2, 5)), Sampling(temperature=1.0))
    graph = jax.make_jaxpr(sample)(*shapes, jnp.zeros((2, 4), jnp.int32))
    outside = [str(equation.primitive) for equation in graph.eqns]
    assert "cond" in outside
    assert "sort" not in outside
    assert "sort" in str(graph)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("presence_penalty", float("nan")),
        ("frequency_penalty", "x"),
        ("repeat_last_n", -1),
        ("top_p", np.array([0.5, 2.0])),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Sampling(**{name: value})


# Stop strings ------------------------------------------------------------------------------------


@hypothesis.given(
    text=strategies.text("ab\n", max_size=30),
    stops=strategies.lists(strategies.text("ab\n", min_size=1, max_size=4), max_size=3),
    cuts=strategies.lists(strategies.integers(0, 30), max_size=8),
)
@hypothesis.settings(max_examples=300)
def test_stop_strings_cut_a_stream_where_they_would_cut_the_text(text, stops, cuts):
    """And at once, whatever the pieces: the oracle looks at ever longer beginnings of the text."""
    ends = [text[:n] for n in range(len(text) + 1) if text[:n].endswith(tuple(stops))]
    expected = text
    if stops and ends:
        longest = max(len(stop) for stop in stops if ends[0].endswith(stop))
        expected = ends[0][: len(ends[0]) - longest]
    stream, shown = StopStrings(stops), ""
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for begin, end in itertools.pairwise(edges):
        shown += stream.push(text[begin:end])
        held = text[len(shown) : end]
        assert stream.stopped or not held or any(stop.startswith(held) for stop in stops)
    assert shown + stream.finish() == expected
    assert stream.stopped == (expected != text)


def test_text_that_may_be_a_stop_is_held_back_no_longer_than_needed():
    stream = StopStrings(["</s>", "###"])
    assert [stream.push(piece) for piece in ("a<", "/", "b", "<", "#", "##")] == [
        "a", "", "</b", "", "<", ""
    ]  # fmt: skip
    assert stream.stopped
    assert stream.push("more") == ""
    assert stream.finish() == ""


@pytest.mark.parametrize("strings", [[""], ["a", ""], [3]])
def test_empty_stop_strings_are_refused(strings):
    with pytest.raises(ValueError, match="stop strings"):
        StopStrings(strings)
