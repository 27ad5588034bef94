"""Learners side by side: the same bits however cut, each on its own, and what they then say."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.grammars import Pair, scan_split
from sigma_jax.training import (
    END,
    PAD,
    START,
    Seq2SeqPairs,
    TransformerSizes,
    Vocabulary,
    encode_pairs,
    exact_match,
    greedy_targets,
    sequence_loss,
    start_learners,
    train_learners,
)

PAIRS = [
    Pair("a", "x"),
    Pair("b", "y"),
    Pair("a twice", "x x"),
    Pair("b twice", "y y"),
    Pair("a and b", "x y"),
    Pair("b and a", "y x"),
    Pair("a twice and b", "x x y"),
    Pair("a and b twice", "x y y"),
]
VOCABULARY = Vocabulary.of(PAIRS)
DATA = encode_pairs(VOCABULARY, PAIRS)
SIZES = TransformerSizes(
    encoder_layers=1, decoder_layers=1, heads=2, width=16, hidden=32, dropout=0.1
)
RECIPE = {"batch": 8, "learning_rate": 1e-2}
DECODING = {"longest": 6, "batch": 3}


@pytest.fixture(scope="module")
def uncut():
    """Three learners after 40 steps in one call, and their losses."""
    return train_learners(learners([0, 1, 2]), DATA, steps=40, **RECIPE)


@pytest.fixture(scope="module")
def memorised():
    """Three learners that have had time to learn all pairs by heart."""
    state = learners([3, 4, 5])
    for _ in range(8):
        state, losses = train_learners(state, DATA, steps=40, **RECIPE)
    return state, losses


@pytest.fixture(scope="module")
def one():
    """One untrained learner."""
    return learners([0])


def learners(seeds):
    return start_learners(VOCABULARY.size, seeds, SIZES, dtype=jnp.float64)


def assert_same(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def test_the_cut_does_not_matter(uncut):
    state, first = train_learners(learners([0, 1, 2]), DATA, steps=20, **RECIPE)
    state, second = train_learners(state, DATA, steps=20, **RECIPE)
    assert_same((state, jnp.concatenate([first, second], axis=1)), uncut)


@pytest.mark.slow
def test_a_learner_does_not_depend_on_its_neighbours(uncut):
    """To the bit one at a time; together, a product of matrices may be rounded otherwise."""
    alone = train_learners(learners([1]), DATA, steps=40, **RECIPE)
    assert_same(alone, jax.tree.map(lambda leaf: leaf[1:2], uncut), rtol=1e-9, atol=1e-9)
    in_turn = train_learners(learners([0, 1, 2]), DATA, steps=40, seeds_at_once=1, **RECIPE)
    assert_same(alone, jax.tree.map(lambda leaf: leaf[1:2], in_turn))


def test_learners_differ_in_start_order_and_dropout(uncut):
    state, losses = uncut
    assert len(np.unique(losses[:, 0])) == 3
    # The same parameters, other seeds: what is left is the order and the dropout.
    same = state._replace(model=jax.tree.map(lambda p: jnp.stack([p[0]] * 3), state.model))
    _, after = train_learners(same, DATA, steps=40, **RECIPE)
    assert len(np.unique(after[:, 0])) == 3


def test_the_first_step_of_adam_moves_every_parameter_by_the_rate():
    """Where the gradient is far above Adam's ε; and each learner has its own rate."""
    before = learners([0, 1, 2])
    rates = np.array([[1e-3], [1e-2], [0.0]])
    after, _ = train_learners(before, DATA, steps=40, batch=8, learning_rate=rates * np.eye(1, 40))
    moved = np.abs(np.asarray(after.model.output) - np.asarray(before.model.output))
    np.testing.assert_allclose(np.median(moved, axis=(1, 2)), rates[:, 0], rtol=1e-3, atol=1e-15)


@pytest.mark.slow
def test_of_every_length_group_a_batch_has_equally_many():
    """Here each of two groups is one pair, so every batch is both, whatever is drawn."""
    data = Seq2SeqPairs(DATA.source[[6, 0]], DATA.target[[6, 0]])
    state = start_learners(
        VOCABULARY.size, [7], dataclasses.replace(SIZES, dropout=0.0), dtype=jnp.float64
    )
    _, losses = train_learners(state, data, steps=3, batch=2, learning_rate=0.0, length_groups=2)
    model = jax.tree.map(lambda leaf: leaf[0], state.model)
    expected = jax.jit(sequence_loss)(model, *data)
    np.testing.assert_allclose(losses, np.full((1, 3), expected), rtol=1e-12)


def test_they_learn_pairs_by_heart_and_say_them_to_the_last_token(memorised):
    state, losses = memorised
    assert losses.mean() < 0.3
    assert exact_match(state, DATA, **DECODING).all()
    assert exact_match(state, DATA).all()
    said = greedy_targets(state, DATA.source, **DECODING)
    for learner in np.asarray(said):
        assert [VOCABULARY.sentence(row) for row in learner] == [pair.target for pair in PAIRS]


def test_a_match_is_of_the_whole_target_and_its_end(memorised):
    state, _ = memorised
    # Too early an end, too late a one, one wrong word; the others are right.
    wrong = {"a and b": "x", "b and a": "y x x", "a twice": "x y"}
    pairs = [pair._replace(target=wrong.get(pair.source, pair.target)) for pair in PAIRS]
    given = exact_match(state, encode_pairs(VOCABULARY, pairs), **DECODING)
    np.testing.assert_array_equal(given, [[pair.source not in wrong for pair in PAIRS]] * 3)


def test_what_is_said_is_the_most_likely_after_itself(uncut):
    """Teacher-forced on its own output, a learner would say the same again."""
    state, _ = uncut
    said = np.asarray(greedy_targets(state, DATA.source, **DECODING))
    target_in = np.concatenate([np.full_like(said[..., :1], START), said[..., :-1]], axis=-1)
    forced = jax.jit(jax.vmap(lambda m, t: jax.vmap(m.logits)(jnp.asarray(DATA.source), t)))
    best = np.asarray(forced(state.model, jnp.asarray(target_in))).argmax(axis=-1)
    ended = np.cumsum(said == END, axis=-1) - (said == END) > 0
    np.testing.assert_array_equal(said, np.where(ended, PAD, best))


def test_a_vocabulary_knows_its_training_split_only():
    assert VOCABULARY.tokens[3:] == ("a", "and", "b", "twice", "x", "y")
    np.testing.assert_array_equal(DATA.source[2], [3, 6, PAD, PAD])
    np.testing.assert_array_equal(DATA.target[2], [7, 7, END, PAD])
    with pytest.raises(ValueError, match=r"'jump' is in no source of the training split"):
        encode_pairs(VOCABULARY, [*PAIRS, Pair("a and jump", "x y")])
    # "x" is a known word, but no source has had it.
    assert VOCABULARY.unseen(Pair("x and jump", "x a")) == ("x", "jump", "a")
    with pytest.raises(ValueError, match="'a' is in no target"):
        encode_pairs(VOCABULARY, [Pair("a", "a")])


def test_the_add_jump_split_has_no_unseen_word():
    split = scan_split("addprim_jump")
    vocabulary = Vocabulary.of(split.train)
    assert vocabulary.size == 3 + 13 + 6
    data = encode_pairs(vocabulary, split.test)
    assert data.source.shape == (7706, 9)
    assert data.target.shape == (7706, 49)
    for place in (0, 7705):
        assert vocabulary.sentence(data.target[place]) == split.test[place].target


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (lambda _: Vocabulary.of([]), "train must"),
        (lambda _: Vocabulary.of([Pair("<end> a", "x")]), "'<end>'"),
        (lambda _: encode_pairs(VOCABULARY, []), "pairs must"),
        (lambda _: encode_pairs(VOCABULARY, [Pair(" ", "x")]), "source must"),
        (lambda _: learners([]), "seeds must be different"),
        (lambda _: learners([1, 1]), "seeds must be different"),
        (lambda _: learners([-1]), "seeds must lie"),
        (lambda one: train_learners(one, DATA, steps=0, **RECIPE), "steps"),
        (
            lambda one: train_learners(one, DATA, steps=2, batch=1, learning_rate=np.ones(3)),
            r"learning_rate must broadcast to \[seeds, steps\], \[1, 2\]",
        ),
        (
            lambda one: train_learners(
                one, Seq2SeqPairs(DATA.source + 9, DATA.target), steps=1, **RECIPE
            ),
            "token",
        ),
        (lambda one: train_learners(one, DATA, steps=1, length_groups=3, **RECIPE), "batch must"),
        (lambda one: exact_match(one, DATA, longest=2), "longest"),
    ],
)
def test_bad_input_is_refused(one, act, named):
    with pytest.raises(ValueError, match=named):
        act(one)


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_seed():
    state = learners([5, 8, 9])
    model = eqx.tree_at(lambda m: m.output, state.model, replace_fn=lambda p: p.at[1].set(jnp.nan))
    with pytest.raises(ValueError, match=r"not finite.*\[8\]"):
        train_learners(state._replace(model=model), DATA, steps=40, **RECIPE)
