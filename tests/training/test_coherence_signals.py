"""The three signals: closed forms, SciPy, and next to nothing from networks that know nothing."""

from collections import Counter
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sigma_jax.grammars import tree_distance
from sigma_jax.training import (
    FUSION_WEIGHTS,
    SIGNALS,
    SignalProbes,
    Task,
    TaskSizes,
    TransformerSizes,
    encode_task,
    fuse_signals,
    gradient_alignment,
    make_signal_probes,
    make_task,
    paraphrase_consistency,
    sequence_loss,
    start_learners,
    structure_alignment,
)

TASK_SIZES = {
    "scan_few_jump": TaskSizes(60, 6, 6, 8, longest=8),
    "pcfg_systematicity": TaskSizes(60, 6, 6, 8, longest=6, train=300),
}
SIZES = TransformerSizes(1, 1, heads=2, width=16, hidden=32, dropout=0.0)
SEEDS = range(16)
# One size for both languages, so that compiled code serves both.
VOCABULARY, SOURCE, TARGET = 40, 12, 12


class Language(NamedTuple):
    """A task and its probes."""

    task: Task
    probes: SignalProbes


@cache
def language(name: str) -> Language:
    task = make_task(name, TASK_SIZES[name])
    probes = make_signal_probes(
        task.grammar,
        task.vocabulary,
        (*task.task, *task.compositional),
        probes=30,
        triples=40,
        allowed=task.may_be_shown,
    )
    return Language(task, probes)


@pytest.fixture(scope="module")
def untrained():
    """Models that have learnt nothing, one a seed."""
    return start_learners(VOCABULARY, list(SEEDS), SIZES, dtype=jnp.float64).model


@jax.jit
def mean_states(models, sources):
    """Averages of the encoder's states over the real words, `[models, sources, width]`."""

    def mean(model, source):
        real = (source != 0)[:, None]
        return jnp.where(real, model.encode(source), 0.0).sum(0) / real.sum().astype(float)

    return jax.vmap(lambda model: jax.vmap(lambda row: mean(model, row))(sources))(models)


def cosine(one, other):
    return (one * other).sum(-1) / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1))


def sentences(probes: SignalProbes, task: Task, name: str) -> list[str]:
    return [task.vocabulary.sentence(row) for row in getattr(probes, name)]


# Gradients --------------------------------------------------------------------------------------


def tree(values):
    """A gradient of two leaves."""
    values = jnp.asarray(values)
    return {"a": values[:6].reshape(2, 3), "b": values[6:]}


def test_gradient_alignment_by_hand():
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 50)) + np.array([[0.0], [3.0], [-2.0]])
    b, c = b + a, c + 0.5 * a
    expected = np.corrcoef(a, b)[0, 1] - np.corrcoef(a, c)[0, 1]
    np.testing.assert_allclose(gradient_alignment(tree(a), tree(b), tree(c)), expected, rtol=1e-12)
    # A null below zero takes nothing away, nor does it add.
    expected = np.corrcoef(a, b)[0, 1]
    np.testing.assert_allclose(gradient_alignment(tree(a), tree(b), tree(-c)), expected, rtol=1e-12)


def test_gradient_alignment_of_equal_opposite_and_unrelated_gradients():
    a = np.random.default_rng(1).standard_normal(50)
    # Not related to a, to the last digit.
    other = np.random.default_rng(2).standard_normal(50)
    design = np.column_stack([a, np.ones(50)])
    apart = other - design @ np.linalg.lstsq(design, other, rcond=None)[0]
    # What the shuffled batch explains as well is worth nothing.
    assert float(gradient_alignment(tree(a), tree(a), tree(a))) == pytest.approx(0.0, abs=1e-12)
    assert float(gradient_alignment(tree(a), tree(a), tree(apart))) == pytest.approx(1.0)
    assert float(gradient_alignment(tree(a), tree(-a), tree(apart))) == pytest.approx(-1.0)
    assert float(gradient_alignment(tree(a), tree(-a), tree(a))) == -1.0  # not −2
    # Scale and offset do not matter; without a gradient there is no alignment.
    scaled = gradient_alignment(tree(a), tree(7.0 * a + 2.0), tree(apart))
    assert float(scaled) == pytest.approx(1.0)
    nothing = gradient_alignment(tree(a), tree(0 * a), tree(apart))
    assert float(nothing) == pytest.approx(0.0, abs=1e-12)


# Structure --------------------------------------------------------------------------------------


def partial_spearman(x, y, controls):
    """From the inverse of the matrix of rank correlations."""
    ranks = np.array([scipy.stats.rankdata(each) for each in (x, y, *controls)])
    precision = np.linalg.inv(np.corrcoef(ranks))
    return -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])


@pytest.mark.parametrize("name", TASK_SIZES)
def test_structure_alignment_is_a_partial_rank_correlation(untrained, name):
    task, probes = language(name)
    said = sentences(probes, task, "sources")
    pairs = [(i, j) for i in range(len(said)) for j in range(i + 1, len(said))]
    trees = [
        tree_distance(task.grammar.tree(said[i]), task.grammar.tree(said[j])) for i, j in pairs
    ]
    counts = [Counter(sentence.split()) for sentence in said]
    words = [((counts[i] - counts[j]) + (counts[j] - counts[i])).total() for i, j in pairs]
    split = [sentence.split() for sentence in said]
    places = [sum(a != b for a, b in zip_longest(split[i], split[j])) for i, j in pairs]
    lengths = [abs(len(split[i]) - len(split[j])) for i, j in pairs]
    controls = (words, places, lengths)
    states = np.asarray(mean_states(untrained, jnp.asarray(probes.sources)))[:3]
    states = states - states.mean(axis=1, keepdims=True)
    one, other = np.array(pairs).T
    expected = [
        partial_spearman(1.0 - cosine(each[one], each[other]), trees, controls) for each in states
    ]
    models = jax.tree.map(lambda leaf: leaf[:3], untrained)
    found = jax.jit(jax.vmap(lambda m: structure_alignment(m, probes)))(models)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# Paraphrases ------------------------------------------------------------------------------------


def consistency(models, probes):
    return np.asarray(jax.jit(jax.vmap(lambda m: paraphrase_consistency(m, probes)))(models))


def test_paraphrase_consistency_by_hand(untrained):
    probes = language("scan_few_jump").probes
    same = probes._replace(paraphrases=probes.anchors)
    np.testing.assert_allclose(consistency(untrained, same), 1.0, rtol=1e-12)
    foiled = probes._replace(foils=probes.paraphrases)
    np.testing.assert_allclose(consistency(untrained, foiled), 0.0, atol=1e-12)
    rows = np.concatenate([probes.anchors, probes.paraphrases, probes.foils])
    states = np.asarray(mean_states(untrained, jnp.asarray(rows)))
    states = states - states.mean(axis=1, keepdims=True)
    anchors, paraphrases, foils = np.split(states, 3, axis=1)
    close, apart = (cosine(anchors, other).mean(axis=1) for other in (paraphrases, foils))
    expected = (close - apart) / (1.0 - apart)
    np.testing.assert_allclose(consistency(untrained, probes), expected, rtol=1e-9)


def test_without_paraphrases_consistency_is_zero(untrained):
    task = make_task("cogs_like", TaskSizes(20, 6, 6, 8, train=300))
    probes = make_signal_probes(task.grammar, task.vocabulary, task.task, probes=4, triples=5)
    assert len(probes.anchors) == 0
    model = jax.tree.map(lambda leaf: leaf[0], untrained)
    assert float(paraphrase_consistency(model, probes)) == 0.0


# Untrained networks -----------------------------------------------------------------------------


@jax.jit
def gradients(models, sources, targets):
    def of_batch(model, source, target):
        return jax.grad(sequence_loss)(model, source, target)

    each = jax.vmap(of_batch, (None, 0, 0))
    return jax.vmap(each, (0, None, None))(models, sources, targets)


def batch(pool, rng):
    """Sixteen pairs with a short source, as rows of the common size."""
    short = np.flatnonzero((pool.source != 0).sum(axis=1) <= SOURCE)
    at = rng.choice(short, 16)
    source, target = pool.source[at, :SOURCE], pool.target[at]
    rows = ((source, SOURCE), (target, TARGET))
    return [np.pad(each, [(0, 0), (0, width - each.shape[1])]) for each, width in rows]


def signals(models, name):
    """Raw gradient correlations and the three signals, model by model."""
    task, probes = language(name)
    rng = np.random.default_rng(3)
    pools = encode_task(task).pools
    train, train_said = batch(pools.task, rng)
    comp, comp_said = batch(pools.compositional, rng)
    shuffled = train_said[rng.permutation(16)]
    all_three = gradients(
        models, jnp.stack([comp, train, train]), jnp.stack([comp_said, train_said, shuffled])
    )
    three = [jax.tree.map(lambda leaf, at=at: leaf[:, at], all_three) for at in range(3)]
    flat = [
        np.concatenate([np.asarray(leaf).reshape(len(SEEDS), -1) for leaf in leaves], axis=1)
        for leaves in map(jax.tree.leaves, three)
    ]
    raw = [np.corrcoef(a, b)[0, 1] for a, b in zip(flat[0], flat[1], strict=True)]
    found = [
        jax.vmap(gradient_alignment)(*three),
        jax.jit(jax.vmap(lambda m: structure_alignment(m, probes)))(models),
        consistency(models, probes),
    ]
    return np.array(raw), dict(zip(SIGNALS, map(np.asarray, found), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASK_SIZES)
def test_untrained_networks_are_near_zero_where_the_printed_signals_are_not(untrained, name):
    """E-31: the floor of the printed signals alone would start phase 2 at step 0."""
    _, probes = language(name)
    raw_gradient, found = signals(untrained, name)
    assert abs(found["gradient"].mean()) < 0.05
    assert abs(found["consistency"].mean()) < 0.1
    assert abs(found["structure"].mean()) < 0.2
    observed = fuse_signals(
        jnp.stack([found[signal] for signal in SIGNALS], axis=-1), jnp.asarray(FUSION_WEIGHTS)
    )
    assert float(observed.mean()) < 0.07
    # As printed: Pearson of two gradients, cosines of paraphrases, of any two sentences.
    assert raw_gradient.mean() > 0.4
    anchors, paraphrases = (
        np.asarray(mean_states(untrained, jnp.asarray(rows)))
        for rows in (probes.anchors, probes.paraphrases)
    )
    any_two = np.roll(anchors, 7, axis=1)
    assert cosine(anchors, paraphrases).mean() > 0.9
    assert cosine(anchors, any_two).mean() > 0.7
    printed = 0.40 * raw_gradient.mean() + 0.25 * cosine(anchors, paraphrases).mean()
    assert printed > 2 * 0.15


# Probes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASK_SIZES)
def test_probes_show_nothing_of_the_test_and_mean_what_they_should(name):
    task, probes = language(name)
    shown = {
        sentence
        for part in ("sources", "anchors", "paraphrases", "foils")
        for sentence in sentences(probes, task, part)
    }
    assert shown.isdisjoint(pair.source for pair in task.test)
    assert not any(map(task.forbids, shown))
    trained = {pair.source for pair in (*task.task, *task.compositional)}
    assert trained.issuperset(sentences(probes, task, "sources"))
    triples = list(
        zip(*(sentences(probes, task, n) for n in ("anchors", "paraphrases", "foils")), strict=True)
    )
    assert len(triples) == 40
    for anchor, paraphrase, foil in triples:
        assert anchor != paraphrase
        assert task.grammar.meaning(anchor) == task.grammar.meaning(paraphrase)
        assert Counter(paraphrase.split()) == Counter(foil.split())
        assert task.grammar.meaning(foil) != task.grammar.meaning(anchor)


def test_what_may_not_be_shown_is_not_shown():
    """A rule that forbids every "twice" in paraphrases and foils; else there are some."""
    task, probes = language("scan_few_jump")
    found = make_signal_probes(
        task.grammar,
        task.vocabulary,
        task.task,
        probes=4,
        triples=20,
        allowed=lambda source: "twice" not in source,
    )
    made = [*sentences(found, task, "paraphrases"), *sentences(found, task, "foils")]
    assert len(made) == 40
    assert not any("twice" in sentence for sentence in made)
    assert any("twice" in sentence for sentence in sentences(probes, task, "paraphrases"))


def test_probes_are_the_same_for_the_same_seed_whatever_the_order_of_the_pairs():
    task, probes = language("scan_few_jump")
    arguments = {"probes": 30, "triples": 40, "allowed": task.may_be_shown}
    pairs = (*task.task, *task.compositional)[::-1]
    again = make_signal_probes(task.grammar, task.vocabulary, pairs, **arguments)
    assert sentences(again, task, "sources") == sentences(probes, task, "sources")
    assert sentences(again, task, "foils") == sentences(probes, task, "foils")
    other = make_signal_probes(task.grammar, task.vocabulary, pairs, seed=1, **arguments)
    assert sentences(other, task, "sources") != sentences(probes, task, "sources")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"probes": 3}, "probes must lie in"),
        ({"triples": -1}, "triples must lie in"),
        ({"probes": 6}, "pairs must hold at least 6 different sentences; got 5"),
    ],
)
def test_probes_that_cannot_be_had_are_refused(options, named):
    task, _ = language("scan_few_jump")
    with pytest.raises(ValueError, match=named):
        make_signal_probes(task.grammar, task.vocabulary, task.task[:5] * 3, **options)
