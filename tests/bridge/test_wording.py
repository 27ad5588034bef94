"""Terms: what is compared when texts are searched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.bridge import STOP_WORDS, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigma_model", ["sigma_model", "sigma", "model"]),
        ("FixedStep HTTPServer", ["fixedstep", "fix", "step", "httpserv", "http", "serv"]),
        ("__init__ x_1", ["init", "x_1", "x", "1"]),
        ("NF4 P0→1 E-01", ["nf4", "p0", "1", "e-01", "e", "01"]),
        ("0.25 .5 1e-3 −3.0e-3 0.9.2", ["0.25", "0.5", "1e-3", "3.0e-3", "0.9.2"]),
        ("1,024 and 20,910.5; 1, 2", ["1024", "20910.5", "1", "2"]),
        ("10⁵ 10⁻⁹ 10^-9", ["10^5", "10^-9", "10^-9"]),
        ("R₀ = R0", ["r0", "r0"]),
        (
            "σ ε_σΩ λ",
            ["σ", "sigma", "ε_σω", "ε", "σ", "ω", "epsilon", "sigma", "omega", "λ", "lambda"],
        ),
        ("Σ-Model", ["σ", "sigma", "model"]),
        ("the of A", []),
        ("", []),
    ],
)
def test_terms(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(
    "words",
    [
        "class classes",
        "policy policies",
        "predict predicts predicted predicting prediction predictions",
        "serve serves served serving server",
        "quantise quantised quantising quantisation",
        "simulate simulated simulating simulation simulations",
        "step steps stepped stepping",
        "fall falls falling",
        "pass passed passes passing",
        "need needed",
        "slow slowly",
    ],
)
def test_forms_of_a_word_are_one_term(words):
    assert len(set(terms(words))) == 1


@pytest.mark.parametrize(
    "words", ["bus bed bring status loss", "state statistic", "form firm", "s ss"]
)
def test_other_words_stay_apart(words):
    assert len(set(terms(words))) == len(words.split())


@given(st.text(max_size=60))
def test_any_text_has_terms_of_its_own(text):
    found = terms(text)
    assert found == terms(text)
    assert all(found)
    assert not STOP_WORDS.intersection(term for term in found if term in text.lower().split())
    assert terms(f"the {text}") == found or text[:1].isalnum() is False
