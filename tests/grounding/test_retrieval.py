"""Ranks against a textbook BM25, a dense singular value decomposition, and sums by hand."""

import json
import math
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sigma_jax.bridge import Passage, terms
from sigma_jax.grounding import LatentSemantics, Retriever, read_corpus

REPOSITORY = Path(__file__).parents[2]
K1, B = 0.9, 0.4
WORDS = [f"w{number}" for number in range(60)]  # no stems, one term each


def random_texts(count, seed=0, longest=30):
    """Some words are common and some rare, as in a language."""
    draw = random.Random(seed)
    odds = [1 / (1 + rank) for rank in range(len(WORDS))]
    return [" ".join(draw.choices(WORDS, odds, k=draw.randint(1, longest))) for _ in range(count)]


def passages(texts):
    return [Passage(f"a.md:{number}-{number}", text) for number, text in enumerate(texts, 100)]


def textbook_bm25(texts, question):
    documents = [text.split() for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for term in set(question.split()):
            having = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
            times = document.count(term)
            score += idf * times / (times + K1 * (1 - B + B * len(document) / mean))
        scores.append(score)
    return scores


def textbook_embedding(texts, questions, dimensions):
    """The cosines between texts, and of questions (rows) with texts, by a dense decomposition."""
    vocabulary = sorted({term for text in texts for term in text.split()})
    idf = [
        math.log((1 + len(texts)) / (1 + sum(term in text.split() for text in texts)))
        for term in vocabulary
    ]

    def rows(texts):
        matrix = np.array(
            [[text.split().count(term) for term in vocabulary] for text in texts], float
        )
        matrix = np.where(matrix > 0, 1 + np.log(np.maximum(matrix, 1)), 0) * idf
        return unit(matrix)

    u, s, vt = np.linalg.svd(rows(texts), full_matrices=False)
    known = unit((u * s)[:, :dimensions])
    return known @ known.T, unit(rows(questions) @ vt[:dimensions].T) @ known.T


def unit(rows):
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def places(found):
    return [passage.source for passage, *_ in found]


def of_axis(texts):
    """Where "east" and "north" stand in a text, as an embedding."""
    return [[text.count("east"), text.count("north")] for text in texts]


# The lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_words_are_ranked_as_in_the_textbook(seed):
    texts = random_texts(80, seed)
    question = " ".join(random.Random(-seed - 1).sample(WORDS, 6))
    expected = textbook_bm25(texts, question)
    found = Retriever(passages(texts), sense_weight=0.0).retrieve(question, len(texts))
    ranked = [each for each in found if each.word_rank]
    assert [each.word_rank for each in ranked] == list(range(1, len(ranked) + 1))
    scores = [expected[int(each.passage.source.split("-")[1]) - 100] for each in ranked]
    assert len(ranked) == sum(score > 0 for score in expected)
    assert np.all(np.diff(scores) <= 1e-12)
    assert scores[0] == max(expected)


def test_a_repeated_word_of_the_question_counts_once():
    retriever = Retriever(passages(random_texts(50)), sense_weight=0.0)
    once, again = (retriever.retrieve(question) for question in ("w3 w7", "w3 w7 w3 w3"))
    assert [each.word_rank for each in once] == [each.word_rank for each in again]
    assert places(once) == places(again)


@pytest.mark.parametrize("dimensions", [1, 5, 12, 200])
def test_senses_are_those_of_a_dense_decomposition(dimensions):
    texts, questions = random_texts(70), random_texts(9, seed=7)
    semantics = LatentSemantics(texts, dimensions=dimensions)
    between, to_questions = textbook_embedding(texts, questions, dimensions)
    embedded = semantics.embedded
    assert embedded.shape == (70, min(dimensions, 60))
    np.testing.assert_allclose(embedded @ embedded.T, between, atol=1e-8)
    np.testing.assert_allclose(semantics(questions) @ embedded.T, to_questions, atol=1e-8)
    np.testing.assert_allclose(semantics(texts), embedded, atol=1e-8)


def test_senses_join_words_that_stand_with_the_same_others():
    texts = ["car engine road", "automobile engine road", "flower garden", "rose garden flower"]
    semantics = LatentSemantics(texts, dimensions=2)
    car, automobile, rose = semantics(["car", "automobile", "rose"])
    assert car @ automobile > 0.99
    assert abs(car @ rose) < 0.01


def test_words_that_were_not_learnt_have_no_sense():
    semantics = LatentSemantics(["one two", "two three"])
    np.testing.assert_array_equal(semantics(["four", "the"]), np.zeros((2, 2)))


# Fusion -----------------------------------------------------------------------------------------


def test_ranks_are_fused_by_hand():
    texts = ["tower east", "tower tower north", "east north north", "river"]
    retriever = Retriever(passages(texts), embed=of_axis, sense_weight=0.5)
    found = {each.passage.text: each for each in retriever.retrieve("tower east")}
    # By words: "tower east", then two of one term each. By cosine with (1, 0): 1, 0, 1/√5, 0.
    assert found["tower east"].word_rank == found["tower east"].sense_rank == 1
    assert found["tower east"].score == pytest.approx(1 / 61 + 0.5 / 61, rel=1e-12)
    assert found["tower tower north"].sense_rank is None
    assert found["tower tower north"].score == pytest.approx(1 / 62, rel=1e-12)
    assert found["east north north"].score == pytest.approx(1 / 63 + 0.5 / 62, rel=1e-12)
    assert "river" not in found
    assert [each.score for each in found.values()] == sorted(
        (each.score for each in found.values()), reverse=True
    )


def test_a_weight_of_one_is_the_rule_of_cormack():
    found = Retriever(passages(["x east", "x"]), embed=of_axis, sense_weight=1.0).retrieve("east")
    assert [each.score for each in found] == [pytest.approx(2 / 61, rel=1e-12)]


def test_equals_are_in_order_of_source():
    sources = ["b.md:1-1", "a.md:9-9", "c.md:1-1", "a.md:1-1"]
    same = [Passage(source, "the same words") for source in sources]
    assert places(Retriever(same).retrieve("words")) == sorted(sources)
    assert places(Retriever(same[::-1]).retrieve("words")) == sorted(sources)


def test_passages_are_found_by_their_contexts():
    texts = ["| 1 |", "| 2 |", "| 3 |"]
    contexts = ["docs/a.md Speed", "docs/b.md Weight", "docs/c.md Height"]
    retriever = Retriever(passages(texts), contexts=contexts)
    assert retriever.retrieve("weight")[0].passage.text == "| 2 |"
    assert not Retriever(passages(texts)).retrieve("weight")


def test_the_count_bounds_what_is_found():
    retriever = Retriever(passages(random_texts(50)))
    every = retriever.retrieve("w0 w1", 50)
    assert len(every) > 8
    assert retriever.retrieve("w0 w1") == every[:8]
    assert retriever.retrieve("w0 w1", 1) == every[:1]


@pytest.mark.parametrize("question", ["", "?", "the of", "zebra"])
def test_a_question_without_known_terms_finds_nothing(question):
    assert Retriever(passages(random_texts(20))).retrieve(question) == ()


def test_the_weight_of_a_term_is_its_idf():
    retriever = Retriever(passages(["one two", "two", "three"]))
    assert retriever.word_weight("two") == pytest.approx(math.log(1 + 1.5 / 2.5), rel=1e-12)
    assert retriever.word_weight("one") == pytest.approx(math.log(1 + 2.5 / 1.5), rel=1e-12)
    assert retriever.word_weight("none") == pytest.approx(math.log(1 + 3.5 / 0.5), rel=1e-12)


# Our own corpus ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own():
    corpus = read_corpus(REPOSITORY, ["README.md", "CONTRIBUTING.md", "docs/*.md"])
    return corpus, Retriever(corpus.passages, contexts=corpus.contexts)


@pytest.mark.parametrize(
    ("question", "path", "words"),
    [
        ("What does @pytest.mark.slow mark?", "CONTRIBUTING.md", "@pytest.mark.slow"),
        ("Who wrote the equations of the Σ-Model?", "README.md", "Basyirin Amsyar Basri"),
        ("saddle-node of the hysteretic variant", "docs/model.md", "saddle-node"),
        ("erratum E-24", "docs/errata.md", "E-24"),
    ],
)
def test_passages_of_our_own_documents_are_found(question, path, words, own):
    found = own[1].retrieve(question)
    assert any(p.source.startswith(path) and words in p.text for p, *_ in found)


def test_another_process_finds_the_same(own):
    """Another order of sets and another process; bm25s and JAX's devices wait until needed."""
    program = f"""
import json, sys
from sigma_jax.grounding import Retriever, read_corpus
from jax._src import xla_bridge
assert "bm25s" not in sys.modules and not xla_bridge.backends_are_initialized()
corpus = read_corpus({str(REPOSITORY)!r}, ["README.md", "CONTRIBUTING.md", "docs/*.md"])
found = Retriever(corpus.passages, contexts=corpus.contexts).retrieve("how is coherence lost")
print(json.dumps([corpus.digest, [[p.source, *rest] for p, *rest in found]]))
"""
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    corpus, retriever = own
    found = [[p.source, *rest] for p, *rest in retriever.retrieve("how is coherence lost")]
    assert json.loads(outcome.stdout) == [corpus.digest, found]
    assert outcome.stderr == ""


def test_nothing_is_printed(capfd):
    Retriever(passages(random_texts(30))).retrieve("w1")
    assert capfd.readouterr() == ("", "")


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [[], [""], ["the", "?"]])
def test_passages_without_terms_are_refused(texts):
    with pytest.raises(ValueError, match="passages must hold terms; got"):
        Retriever(passages(texts))
    with pytest.raises(ValueError, match="texts must hold terms; got"):
        LatentSemantics(texts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contexts": ["one"]}, "contexts must be as many as passages, 2; got 1"),
        ({"sense_weight": -0.1}, "sense_weight must lie in"),
        (
            {"embed": lambda texts: np.zeros(2)},
            r"embed must give one finite vector a text; got shape",
        ),
        ({"embed": lambda texts: np.zeros((1, 3))}, r"got shape \(1, 3\) for 2"),
        ({"embed": lambda texts: np.full((len(texts), 3), np.nan)}, "one finite vector"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Retriever(passages(["one two", "two three"]), **options)


def test_vectors_of_another_width_are_named():
    widths = iter([3, 2])
    retriever = Retriever(
        passages(["one two", "two three"]), embed=lambda texts: np.ones((len(texts), next(widths)))
    )
    with pytest.raises(ValueError, match=r"embed must give vectors of one width; got 3 .* and 2"):
        retriever.retrieve("two")


def test_bad_counts_are_named():
    retriever = Retriever(passages(["one two"]))
    with pytest.raises(ValueError, match="count must lie in"):
        retriever.retrieve("one", 0)
    with pytest.raises(ValueError, match="dimensions must lie in"):
        LatentSemantics(["one"], dimensions=0)


def test_terms_are_weighed_by_what_they_are_in():
    """The same terms as everywhere: stems, numbers and names."""
    having = Counter(terms("Predictions of sigma_model at 0.25"))
    assert having == Counter(["predict", "sigma_model", "sigma", "model", "0.25"])
