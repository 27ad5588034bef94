"""Tokens become text without a character ever being cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.serve import TextStream
from sigma_jax.training import byte_ids, make_tokenizer

TOKENIZER = make_tokenizer(("walk", "run"))
HELD = "\N{REPLACEMENT CHARACTER}"


def decode(ids) -> str:
    return TOKENIZER.backend_tokenizer.decode(list(ids), skip_special_tokens=False)


@given(st.text(max_size=30))
def test_bytes_of_a_text_come_out_as_the_text(text) -> None:
    stream = TextStream(decode)
    pieces = [stream.push(int(token)) for token in byte_ids(TOKENIZER, text.encode())]
    if not text.endswith(HELD):  # that may yet be half of something
        assert "".join(pieces) == text
    assert all(piece == "" or piece in text for piece in pieces)


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
def test_any_tokens_come_out_as_their_decoding(ids) -> None:
    stream = TextStream(decode)
    text = "".join(map(stream.push, ids))
    assert text == decode(ids).removesuffix(HELD)


@pytest.mark.parametrize("character", ["é", "€", "🙂"])
def test_a_character_appears_with_its_last_byte(character) -> None:
    stream = TextStream(decode)
    *first, last = byte_ids(TOKENIZER, character.encode()).tolist()
    assert [stream.push(token) for token in first] == [""] * len(first)
    assert stream.push(last) == character
