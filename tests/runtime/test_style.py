"""The style numbers counted by hand, and on texts that no one would write."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import STYLE_FEATURES, style_features

TEXT = """I'm sure: you know the rules, all of them!
Do you? **Good**; my list:
- one
2) two at 3.5"""
LONG = {
    "prose": "Hello there, my old friend. " * 37_000,
    "stops": "." * 10**6,
    "stops and brackets": ".)" * 500_000,
    "stars": "**" * 500_000,
    "underscores": "__a" * 333_333,
    "one word": "a" * 10**6,
    "apostrophes": "a'" * 500_000,
    "dashes": "a-" * 500_000,
    "list": "- a\n" * 250_000,
    "spaces": " " * 10**6,
    "no spaces": "数据" * 500_000,
}


def test_every_number_by_hand():
    spoken = "i'm sure you know the rules all of them do you good my list one 2 two at 3 5"
    words = spoken.split()
    count, sentences = len(words), 2  # "! " and "? "; no colon, no point in a number
    expected = {
        "log_words": math.log1p(count),
        "log_words_per_sentence": math.log1p(count / sentences),
        "mean_word_length": sum(map(len, words)) / count,
        "comma_rate": 1 / count,
        "semicolon_colon_dash_rate": 3 / count,
        "log_list_items": math.log1p(2),
        "log_bold_marks": math.log1p(1),
        "first_person_rate": 2 / count,
        "second_person_rate": 2 / count,
        "questions_per_sentence": 1 / sentences,
        "log_newlines": math.log1p(3),
        "distinct_per_root_word": (count - 1) / math.sqrt(count),
        "apostrophe_rate": 1 / count,
        "article_and_of_rate": 2 / count,
    }
    assert tuple(expected) == STYLE_FEATURES
    found = dict(zip(STYLE_FEATURES, style_features(TEXT), strict=True))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("text", ["", " ", "\n", "?", "'", "\ud800", "**", "🙂", "-"])
def test_a_text_without_words_has_finite_numbers(text):
    found = style_features(text)
    assert found.shape == (14,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert found[0] == 0


@given(st.text(max_size=400))
def test_any_text_has_finite_numbers_and_shares(text):
    found = dict(zip(STYLE_FEATURES, style_features(text), strict=True))
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    shares = ("first_person_rate", "second_person_rate", "article_and_of_rate")
    assert all(found[name] <= 1 for name in shares)


@given(st.lists(st.sampled_from(["we go.", "it is so!", "why, you?"]), min_size=1, max_size=9))
def test_rates_do_not_depend_on_length(sentences):
    text = " ".join(sentences)
    once, twice = style_features(text), style_features(f"{text} {text}")
    rates = [
        place for place, name in enumerate(STYLE_FEATURES) if "rate" in name or "_per_s" in name
    ]
    assert len(rates) == 8
    np.testing.assert_allclose(once[rates], twice[rates], atol=1e-12)


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_megabyte_takes_less_than_a_second(text):
    start = time.perf_counter()
    found = style_features(text)
    assert time.perf_counter() - start < 1
    assert np.isfinite(found).all()
