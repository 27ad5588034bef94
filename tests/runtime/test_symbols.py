"""Symbols by hand, in any script."""

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.bridge import STOP_WORDS
from sigma_jax.runtime import Symbol, extract_symbols

PLAN = "We will migrate the database to Heron next week. Heron's port is 5432."


def names(text, most=100):
    return [symbol.name for symbol in extract_symbols(text, most)]


def test_weights_are_counts_times_rarity():
    weights = dict(extract_symbols("heron week heron. heron", 20))
    assert weights == pytest.approx(
        {
            "heron": 1 + math.log(3),
            "week": 0.3,  # a common word
            "heron week": 0.75 * (1 + 0.3) / 2,
            "week heron": 0.75 * (1 + 0.3) / 2,
        },
        rel=1e-12,
    )


def test_the_heaviest_come_first_and_equals_by_name():
    assert names(PLAN, 4) == ["heron", "5432", "database", "migrate"]
    assert names("zebra. apple. mango") == ["apple", "mango", "zebra"]


def test_words_that_say_nothing_are_left_out_and_no_pair_spans_them():
    found = names("Don't tell us about the port of the database; I'm sure it's Heron's.")
    assert {"port", "database", "heron"} <= set(found)
    assert not {"the", "don't", "i'm", "it's", "it", "heron's"} & set(found)
    assert "port database" not in found
    assert not any(len(word) < 2 for name in found for word in name.split())


def test_pairs_stay_in_a_clause():
    assert "heron port" in names("Heron's port")
    for text in ("heron, port", "heron. port", "heron\nport", "heron (port)"):
        assert names(text) == ["heron", "port"]


def test_joined_words_stay_whole():
    assert names("state-of-the-art o'clock -well- a--b")[:2] == ["o'clock", "state-of-the-art"]
    assert names("x" * 41) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ёлка зелёная", ["ёлка", "зелёная", "ёлка зелёная"]),
        ("नमस्ते", ["नमस्ते"]),
        ("مُحَمَّد", ["مُحَمَّد"]),
        ("移行計画", ["移行", "行計", "計画"]),
        ("Σίγμα", ["σίγμα"]),
        ("cafe\u0301", ["café"]),
    ],
)
def test_other_scripts_have_words_too(text, expected):
    assert sorted(names(text)) == sorted(unicodedata.normalize("NFC", name) for name in expected)


@given(st.text(max_size=300), st.integers(1, 20))
def test_any_text_gives_sorted_finite_symbols(text, most):
    found = extract_symbols(text, most)
    assert len(found) <= most
    assert list(found) == sorted(found, key=lambda symbol: (-symbol.weight, symbol.name))
    assert len({symbol.name for symbol in found}) == len(found)
    assert all(isinstance(symbol, Symbol) and 0 < symbol.weight < 10 for symbol in found)
    assert not {symbol.name for symbol in found} & STOP_WORDS
    assert found == extract_symbols(unicodedata.normalize("NFD", text), most)


@given(st.text(max_size=200))
def test_fewer_are_the_first_of_more(text):
    assert extract_symbols(text, 3) == extract_symbols(text, 50)[:3]


def test_fewer_than_one_is_refused():
    with pytest.raises(ValueError, match="most must lie in"):
        extract_symbols("heron", 0)
