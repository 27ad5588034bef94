"""What is found again of a conversation: by what, how much, and what never."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import (
    FactBook,
    HashedEncoder,
    Memory,
    MemoryIndex,
    count_tokens,
    extract_facts,
    memories_of,
)
from tests.runtime.planted_statements import PLANTED, conversation

ENCODER = HashedEncoder(384)


def remembered(texts):
    """An index and a book of a conversation whose turns said `texts`."""
    index, book = MemoryIndex(ENCODER.dimension), FactBook()
    for turn, text in enumerate(texts, 1):
        new = memories_of(text, turn, first=len(index))
        index.add(new, ENCODER.encode([memory.text for memory in new]))
        book = book.add(extract_facts(text, turn))
    return index, book


def found(texts, question, **options):
    index, book = remembered(texts)
    options = {"budget": 1000, "facts": book} | options
    return index.retrieve(question, ENCODER.encode([question])[0], **options)


def texts_of(hits):
    return [hit.text for hit in hits]


# What is a memory -------------------------------------------------------------------------------


def test_questions_are_not_remembered():
    text = "My dog is Rex. Is he old? He is  brown.\nWhat now? Tell me the port"
    assert texts_of(memories_of(text, 4, first=7)) == ["My dog is Rex.", "He is brown."]
    assert memories_of(text, 4, first=7)[1] == Memory(8, 4, "user", "He is brown.", "conversation")
    assert memories_of("What is it?", 1, first=0) == ()
    assert memories_of("", 1, first=0) == ()
    assert texts_of(memories_of("Why? " * 300 + "It is so.", 1, first=0)) == ["It is so."]


def test_short_sentences_stay_together_and_long_ones_are_cut():
    together = memories_of("The database is Heron. It listens on port 5432.", 1, first=0)
    assert texts_of(together) == ["The database is Heron. It listens on port 5432."]
    long = "word " * 500
    pieces = memories_of(f"{long}. {long}.", 1, first=0)
    assert max(len(piece.text.split()) for piece in pieces) <= 60
    assert sum(len(piece.text.split()) for piece in pieces) == 1002
    assert len(memories_of("A sentence of seven words it is. " * 99_999, 1, first=0)) == 64


@given(st.text(alphabet="aB.!? \n’", max_size=400))
def test_memories_are_the_words_of_the_text_in_order(text):
    joined = "".join("".join(m.text.split()) for m in memories_of(text, 1, first=0))
    rest = iter("".join(text.replace("’", "'").split()))
    assert all(letter in rest for letter in joined)


# What is found ----------------------------------------------------------------------------------


def recall(ranked, places):
    return sum(places[question] in ranked[question][:8] for question in places) / len(places)


def test_planted_statements_are_found(capsys):
    """Of 44 among 364, over three shuffles: by recency, by words, by hashed vectors, and fused."""
    recalls = {"recency": [], "words": [], "hashed": [], "fused": []}
    for seed in range(3):
        said, places = conversation(seed)
        index, _ = remembered(said)
        vectors = dict(zip(places, ENCODER.encode(list(places)), strict=True))
        fused = index._index
        lists = {
            "recency": dict.fromkeys(places, list(range(len(said)))[:-9:-1]),
            "words": {q: fused.words.best(q, 8)[0].tolist() for q in places},
            "hashed": {q: fused.vectors.nearest(vectors[q], 8)[0].tolist() for q in places},
            "fused": {
                q: [hit.id for hit in index.retrieve(q, vectors[q], budget=10**6)] for q in places
            },
        }
        for name, ranked in lists.items():
            recalls[name].append(recall(ranked, places))
    means = {name: float(np.mean(each)) for name, each in recalls.items()}
    with capsys.disabled():
        if os.environ.get("SHOW_RECALL"):
            print(f"\nrecall@8 of {len(PLANTED)} planted statements: {means}")
    assert means["recency"] < 0.1
    assert means["words"] > 0.7
    assert means["hashed"] > 0.7
    assert means["fused"] > 0.8


def test_the_question_itself_is_not_what_is_found():
    texts = ["The port is 80.", *["What is the port?"] * 9]
    assert texts_of(found(texts, "What is the port?")) == ["The port is 80."]


def test_corrected_statements_are_left_out():
    texts = ["The port is 80.", "We like ports.", "Actually, the port is 81."]
    assert texts_of(found(texts, "what is the port")) == [
        "We like ports.",
        "Actually, the port is 81.",
    ]
    assert texts_of(found(texts, "what is the port", facts=None))[0] == "The port is 80."


def test_every_repetition_of_what_was_corrected_is_left_out():
    texts = ["The port is 80.", "Well, our port is 80.", "The port is 80!", "The port is now 81."]
    assert texts_of(found(texts, "port")) == ["The port is now 81."]
    assert texts_of(found(texts[:3], "port")) == ["Well, our port is 80.", "The port is 80!"]
    back = [*texts, "Actually, the port is 80."]
    assert texts_of(found(back, "port")) == [*texts[1:3], "Actually, the port is 80."]


def test_only_the_sentence_that_holds_no_longer_is_left_out():
    texts = [
        "The port is 80. The port is on the quay.",
        "My dog is called Rex.",
        "The port is now 81.",
    ]
    (first, *_) = found(
        ["The port is 80. My cat is called Tom.", *texts[1:]], "port of the cat Tom"
    )
    assert first.text == "My cat is called Tom."
    assert first.tokens == count_tokens(first.text)


def test_half_of_a_sentence_is_shown_with_its_correction():
    texts = ["My name is Ada and I live in Oslo.", "I've moved to Bergen."]
    (first, _) = found(texts, "Where does Ada live now she moved?")
    assert first.text == "My name is Ada and I live in Oslo. (Since then: i live in: Bergen.)"


def test_what_holds_is_told_from_the_book_that_is_given():
    texts = ["My name is Ada and I live in Oslo.", "I moved to Bergen.", "Now I live in Molde."]
    index, book = remembered(texts)
    books = [FactBook(book.facts[:2])]
    for turn, text in enumerate(texts[1:], 2):
        books.append(books[-1].add(extract_facts(text, turn)))
    ends = ["", " (Since then: i live in: Bergen.)", " (Since then: i live in: Molde.)"]
    for step in (2, 0, 1, 2, 1):
        then = FactBook() if step == 0 else books[step]
        hits = index.retrieve("Ada", None, budget=99, facts=then)
        assert texts_of(hits) == [texts[0] + ends[step]]


def test_a_correction_in_the_same_turn_counts_whichever_is_read_first():
    text = "The port is 80. Actually, the port is 81."
    book = FactBook().add(extract_facts(text, 1))
    index = MemoryIndex(1)
    assert index.retrieve("port", None, budget=99, facts=book) == ()
    index.add(memories_of(text, 1, first=0), np.ones((1, 1)))
    assert texts_of(index.retrieve("port", None, budget=99, facts=book)) == [
        "Actually, the port is 81."
    ]


def test_what_is_forgotten_is_not_found():
    texts = ["My name is Ada and my address is 5 Elm St.", "Addresses are long."]
    index, book = remembered(texts)
    hits = index.retrieve("my address", None, budget=99, facts=book.forget("address", 3))
    assert texts_of(hits) == ["Addresses are long."]


def test_what_the_prompt_shows_anyway_is_not_shown_twice():
    texts = ["The port is 80.", "My port is old.", "the port is  80!", "The port is 80."]
    hits = found(texts, "port", facts=None)
    assert [(hit.turn, hit.text) for hit in hits] == [
        (2, "My port is old."),
        (4, "The port is 80."),
    ]
    assert texts_of(found(texts, "port", facts=None, window=(4,))) == ["My port is old."]
    assert texts_of(found(texts, "port", facts=None, window=(2, 4, 99))) == []


def test_quarantined_memories_are_left_out():
    texts = ["The port is 80.", "My port is old."]
    assert texts_of(found(texts, "port", quarantined=(0, 12))) == ["My port is old."]


def test_the_budget_goes_to_the_best_and_the_turns_are_in_order():
    texts = [
        "The port.",
        "The red port has a long name that nobody can remember, and a red wall and a red gate too.",
        "The red port is big.",
    ]
    every = found(texts, "red port", facts=None)
    assert [hit.turn for hit in every] == [1, 2, 3]
    best = max(every, key=lambda hit: hit.score)
    assert best.turn == 3
    budget = best.tokens + count_tokens(texts[0])
    assert [hit.turn for hit in found(texts, "red port", facts=None, budget=budget)] == [1, 3]
    assert [hit.turn for hit in found(texts, "red port", facts=None, budget=best.tokens)] == [3]
    assert found(texts, "red port", facts=None, budget=0) == ()
    assert [hit.turn for hit in found(texts, "red port", facts=None, count=1)] == [3]


@given(st.integers(0, 60), st.integers(1, 12))
def test_neither_budget_nor_count_is_passed(budget, count):
    hits = found(
        [statement for statement, _ in PLANTED], "the staging port", budget=budget, count=count
    )
    assert sum(hit.tokens for hit in hits) <= budget
    assert len(hits) <= count


def test_a_first_turn_finds_nothing():
    assert MemoryIndex(4).retrieve("anything", np.ones(4), budget=100) == ()


def test_bad_arguments_are_named():
    index = MemoryIndex(3)
    with pytest.raises(ValueError, match=r"ids must continue from 0, one by one; got \[1\]"):
        index.add([Memory(1, 1, "user", "text")], np.ones((1, 3)))
    with pytest.raises(ValueError, match="vectors must be finite"):
        index.add([Memory(0, 1, "user", "text")], np.full((1, 3), np.inf))
    assert len(index) == 0
    for options, words in (({"budget": -1}, "budget"), ({"budget": 1, "count": 0}, "count")):
        with pytest.raises(ValueError, match=f"{words} must lie in"):
            index.retrieve("text", None, **options)


def test_another_process_finds_the_same():
    program = """
import json
from tests.runtime.planted_statements import conversation
from tests.runtime.test_memories import ENCODER, remembered
said, places = conversation(0)
index, book = remembered(said)
vectors = ENCODER.encode(list(places))
hits = [index.retrieve(q, v, budget=99, facts=book) for q, v in zip(places, vectors)]
print(json.dumps([hits, str(book)]))
"""
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    said, places = conversation(0)
    index, book = remembered(said)
    vectors = ENCODER.encode(list(places))
    here = [
        index.retrieve(question, vector, budget=99, facts=book)
        for question, vector in zip(places, vectors, strict=True)
    ]
    assert len(book.facts) > 20
    assert json.loads(outcome.stdout) == json.loads(json.dumps([here, str(book)]))
