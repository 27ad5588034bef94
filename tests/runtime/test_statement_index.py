"""Ranks against a textbook BM25, a brute-force cosine in float64, and sums by hand."""

import math
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import StatementIndex
from sigma_jax.runtime.vector_index import VectorIndex
from sigma_jax.runtime.word_index import WordIndex

WORDS = [f"w{number}" for number in range(60)]  # no stems, one term each


def random_texts(count, seed=0, longest=20):
    draw = random.Random(seed)
    odds = [1 / (1 + rank) for rank in range(len(WORDS))]
    return [" ".join(draw.choices(WORDS, odds, k=draw.randint(0, longest))) for _ in range(count)]


def indexed(texts):
    index = WordIndex()
    for text in texts:
        index.add(text)
    return index


def textbook_bm25(texts, question):
    documents = [text.split() for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for term in set(question.split()):
            having = sum(term in other for other in documents)
            count = document.count(term)
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            score += idf * count / (count + 0.9 * (1 - 0.4 + 0.4 * len(document) / mean))
        scores.append(score)
    return scores


def cosines(vectors, vector):
    vectors, vector = vectors.astype(float), vector.astype(float)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    return vectors @ vector / np.where(lengths > 0, lengths, 1)


# Words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["w0", "w1 w5 w40", "w3 w3 w9", "w0 w1 w2 w59 unknown"])
def test_words_are_ranked_as_in_the_textbook(question):
    texts = random_texts(150)
    index = WordIndex()
    for count, text in enumerate(texts, 1):
        index.add(text)
        if count in (1, 2, 50, 150):  # the mean length and each idf change as texts come
            expected = textbook_bm25(texts[:count], question)
            places, scores = index.best(question, count)
            np.testing.assert_allclose(scores, np.take(expected, places), rtol=1e-12)
            assert sorted(places) == [place for place, score in enumerate(expected) if score > 0]
            assert (np.diff(scores) <= 0).all()


def test_words_in_many_forms_are_found():
    index = indexed(["The databases were migrated.", "sigma_model", "port 1,024"])
    for question, place in (("migrating a database", 0), ("the model", 1), ("1024?", 2)):
        assert index.best(question, 9)[0].tolist() == [place]


def test_equal_texts_are_in_order_and_the_cut_does_not_choose():
    index = indexed(["one two"] * 500)
    for count in (1, 7, 499, 500, 900):
        assert index.best("two", count)[0].tolist() == list(range(min(count, 500)))


def test_left_out_words_are_left_out():
    index = indexed(random_texts(50))
    every = index.best("w0 w1", 50)[0].tolist()
    some = index.best("w0 w1", 50, excluded=every[:3])[0].tolist()
    assert some == every[3:]


@pytest.mark.parametrize("question", ["", "the of", "zebra"])
def test_a_question_without_known_words_finds_nothing(question):
    for index in (WordIndex(), indexed(random_texts(20))):
        assert index.best(question, 5)[0].size == 0


def test_of_a_long_question_the_rarest_words_count():
    texts = ["needle common", *["common " + " ".join(WORDS)] * 30]
    question = "common " * 9 + " ".join(WORDS) + " needle"
    assert indexed(texts).best(question, 1)[0].tolist() == [0]


# Vectors ----------------------------------------------------------------------------------------


def clustered(count, dimension=384, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, dimension))
    return (centres[rng.integers(0, 40, count)] + rng.normal(size=(count, dimension))).astype(
        np.float32
    )


@pytest.mark.parametrize("count", [1, 2, 1024, 1025, 6001])
def test_the_nearest_are_those_of_brute_force(count):
    """6001 texts are sorted out by a first look, and still none of the best 100 is missed."""
    vectors, questions = clustered(count), clustered(5, seed=1)
    index = VectorIndex(384)
    for start in range(0, count, 777):
        index.add(vectors[start : start + 777] * 30)
    assert len(index) == count
    for question in (*questions, vectors[count // 2]):
        expected = cosines(vectors, question)
        places, scores = index.nearest(question, 100)
        np.testing.assert_allclose(scores, expected[places], atol=6e-4)
        best = np.sort(expected[expected > 0])[::-1][:100]
        np.testing.assert_allclose(scores, best[: len(scores)], atol=6e-4)
        assert abs(len(places) - len(best)) <= 1


def test_scores_are_exact_and_the_same_alone_and_among_many():
    """Whole numbers below 2²⁴, so no order of summation and no number of rows changes a bit."""
    vectors, question = clustered(3000), clustered(1, seed=3)[0]
    whole = VectorIndex(384)
    whole.add(vectors)
    places, scores = whole.nearest(question, 50)

    def steps(each):
        each = each.astype(np.float16).astype(float)
        return [round(4000 * x) for x in each / math.sqrt(sum(x * x for x in each))]

    asked = steps(question)
    for place, score in zip(places, scores, strict=True):
        exact = sum(a * b for a, b in zip(asked, steps(vectors[place]), strict=True))
        assert score == exact / 4000**2
        alone = VectorIndex(384)
        alone.add(vectors[place : place + 1])
        assert alone.nearest(question, 1)[1][0] == score


def test_equal_vectors_are_in_order_and_the_cut_does_not_choose():
    index = VectorIndex(8)
    index.add(np.ones((5000, 8)))
    assert index.nearest(np.ones(8), 20)[0].tolist() == list(range(20))
    assert index.nearest(np.ones(8), 20, excluded=range(4990))[0].tolist() == list(
        range(4990, 5000)
    )


def test_what_points_away_and_what_is_nothing_is_not_found():
    index = VectorIndex(2)
    index.add(np.array([[1.0, 0], [-1, 0], [0, 0], [0, 1]]))
    assert index.nearest(np.array([1.0, 0]), 9)[0].tolist() == [0]
    assert index.nearest(np.zeros(2), 9)[0].size == 0
    assert VectorIndex(2).nearest(np.ones(2), 9)[0].size == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 2100), st.integers(1, 500))
def test_how_vectors_came_in_makes_no_difference(seed, count, pieces):
    vectors = np.random.default_rng(seed).normal(size=(count, 4))
    whole, parts = VectorIndex(4), VectorIndex(4)
    whole.add(vectors)
    for start in range(0, count, pieces):
        parts.add(vectors[start : start + pieces].astype(np.float16))
    for a, b in zip(whole.nearest(vectors[0], 30), parts.nearest(vectors[0], 30), strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_grows_with_the_texts():
    index = VectorIndex(384)
    for _ in range(20):
        index.add(clustered(100))
    assert 2000 * 384 * 4 <= index.nbytes <= 2 * 2000 * 384 * 4


# Both -------------------------------------------------------------------------------------------


def test_ranks_are_fused_by_hand():
    index = StatementIndex(2)
    index.add(["tower east", "tower tower north"], np.array([[1.0, 0], [0, 1]]))
    index.add(["east north north", "river"], np.array([[1.0, 2], [-1, 0]]))
    found = {each.place: each for each in index.rank("tower east", np.array([1.0, 0]))}
    # By words: 0, then 1 (twice the rarer or as rare), then 2. By cosine: 1, 0, 1/√5, −1.
    assert set(found) == {0, 1, 2}
    assert found[0][1:] == (pytest.approx(2 / 11, rel=1e-12), 1, 1)
    assert found[1][1:] == (pytest.approx(1 / 12, rel=1e-12), 2, None)
    assert found[2][1:] == (pytest.approx(1 / 13 + 1 / 12, rel=1e-12), 3, 2)
    assert [each.place for each in index.rank("tower east", np.array([1.0, 0]))] == [0, 2, 1]
    assert [each.place for each in index.rank("tower east", None)] == [0, 1, 2]
    assert [each.place for each in index.rank("tower", np.array([1.0, 0]), excluded=[0])] == [1, 2]
    assert len(index.rank("tower east", None, count=2)) == 2


def test_equal_scores_are_in_order_of_the_places():
    index = StatementIndex(2)
    index.add(["a first", "zebra"], np.array([[-1.0, 0], [1, 0]]))
    # One is first by words, the other by sense.
    assert [each.place for each in index.rank("first", np.array([1.0, 0]))] == [0, 1]


def test_bad_arguments_are_named():
    index = StatementIndex(3)
    for vectors, words in (
        (np.ones((1, 2)), r"vectors must be \[n, 3\]; got shape \[1, 2\]"),
        (np.ones((2, 3)), "vectors must be as many as texts, 1; got 2"),
        (np.full((1, 3), np.nan), "vectors must be finite in float16"),
        (np.full((1, 3), 1e6), "vectors must be finite in float16"),
    ):
        with pytest.raises(ValueError, match=words):
            index.add(["text"], vectors)
    assert len(index) == len(index.vectors) == 0
    with pytest.raises(ValueError, match=r"vectors must be \[n, 3\]"):
        index.rank("text", np.ones(2))
    with pytest.raises(ValueError, match="count must lie in"):
        index.rank("text", None, count=0)
    for dimension in (0, 1025):
        with pytest.raises(ValueError, match="dimension must lie in"):
            VectorIndex(dimension)


def test_ten_thousand_statements_are_ranked_at_once():
    """A tenth of the largest conversation that is meant, in a generous multiple of its time."""
    texts, vectors = random_texts(10_000), clustered(10_000)
    index = StatementIndex(384)
    index.add(texts, vectors)
    index.rank("w40 w50", vectors[0])
    start = time.process_time()
    for place in range(10):
        index.rank("w20 w40 w50", vectors[place])
    assert (time.process_time() - start) / 10 < 0.02
