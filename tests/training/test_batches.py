"""The tokenizer that kernel-mini has, and batches as functions of their number."""

import collections

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from sigma_jax.training import (
    SPECIAL_TOKENS,
    Dialogue,
    DialogueBatches,
    TextBatches,
    byte_ids,
    dialogues,
    make_tokenizer,
    pad_dialogues,
)

WORDS = ("jump", "left", "I_JUMP", "I_TURN_LEFT")
TOKENIZER = make_tokenizer(WORDS)


def encode(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@hypothesis.given(st.text())
@hypothesis.example("a  b\n\n\tc \r\n")
@hypothesis.example("<|im_end|> jump")
@hypothesis.example("jumpjump I_JUMPleft")
def test_every_text_comes_back(text):
    assert TOKENIZER.decode(encode(text)) == text


@pytest.mark.parametrize("word", [*WORDS, "user", "assistant", "system"])
def test_a_word_is_one_token_with_and_without_a_space(word):
    assert len(encode(word)) == len(encode(f" {word}")) == 1
    assert encode(f"{word} {word}") == [*encode(word), *encode(f" {word}")]


def test_special_tokens_have_ouros_ids():
    assert TOKENIZER.convert_ids_to_tokens(list(range(5))) == list(SPECIAL_TOKENS)
    assert encode("<|im_start|>jump<|im_end|>") == [1, *encode("jump"), 2]
    assert (TOKENIZER.eos_token_id, TOKENIZER.pad_token_id) == (2, 0)


def test_the_tokenizer_is_the_same_every_time():
    assert make_tokenizer(WORDS).get_vocab() == TOKENIZER.get_vocab()


def test_saved_it_loads_with_its_template(tmp_path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(str(tmp_path), save_jinja_files=False)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json"}
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    messages = [{"role": "system", "content": "left"}, {"role": "user", "content": "jump left"}]
    text = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nleft<|im_end|>\n<|im_start|>user\njump left<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert loaded(text, add_special_tokens=False)["input_ids"] == encode(text)


@hypothesis.given(st.binary())
def test_bytes_are_tokens_even_where_they_are_not_text(text):
    plain = make_tokenizer()
    ids = byte_ids(plain, text)
    assert ids.dtype == np.int32
    assert len(plain) == 256 + len(SPECIAL_TOKENS)
    assert (ids >= len(SPECIAL_TOKENS)).all()
    back = plain.decode(ids.tolist())
    assert back == text.decode("utf-8", errors="replace") or "\ufffd" in back


def test_a_dialogue_is_the_template_cut_where_the_assistant_speaks():
    (found,) = dialogues(TOKENIZER, [("jump left", "I_TURN_LEFT I_JUMP")])
    assert TOKENIZER.decode(found.prompt) == (
        "<|im_start|>user\njump left<|im_end|>\n<|im_start|>assistant\n"
    )
    assert TOKENIZER.decode(found.answer) == "I_TURN_LEFT I_JUMP<|im_end|>"
    assert len(found.answer) == 3


def some_dialogues(count: int) -> list[Dialogue]:
    """Dialogue i is told by its first id."""
    random = np.random.default_rng(0)
    return [
        Dialogue([i + 10, *[1] * random.integers(1, 9)], [2] * random.integers(1, 20))
        for i in range(count)
    ]


def test_padding_is_on_the_left_and_only_answers_count():
    batch = pad_dialogues([Dialogue([7, 8], [5, 2]), Dialogue([9], [2])], 5, 3, pad_id=3)
    np.testing.assert_array_equal(batch.ids, [[3, 7, 8, 5, 2], [3, 3, 3, 9, 2]])
    np.testing.assert_array_equal(batch.real, batch.ids != 3)
    np.testing.assert_array_equal(batch.weights, [[0, 1, 1], [0, 0, 1]])


def test_an_epoch_has_every_dialogue():
    given = some_dialogues(100)
    batches = DialogueBatches(given, tokens=64, seed=1)
    for epoch in range(2):
        seen = collections.Counter()
        for number in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
            batch = batches.batch(number)
            assert batch.ids.size <= 64
            first = batch.real.argmax(axis=1)
            seen.update(batch.ids[np.arange(len(first)), first].tolist())
        assert set(seen) == set(range(10, 110))
        assert max(seen.values()) <= 3


def test_batches_are_functions_of_seed_and_number():
    given = some_dialogues(30)
    one, same, other = (DialogueBatches(given, tokens=64, seed=s) for s in (1, 1, 2))
    numbers = [0, 3, one.per_epoch, 5 * one.per_epoch + 1]
    backwards = {n: same.batch(n) for n in reversed(numbers)}
    for n in numbers:
        for a, b in zip(one.batch(n), backwards[n], strict=True):
            np.testing.assert_array_equal(a, b)
    assert any(
        one.batch(n).ids.shape != other.batch(n).ids.shape
        or (one.batch(n).ids != other.batch(n).ids).any()
        for n in numbers
    )


def test_windows_are_of_the_text():
    text = np.arange(50, dtype=np.int32)
    batches = TextBatches(text, rows=64, length=7, seed=3)
    batch = batches.batch(4)
    np.testing.assert_array_equal(np.diff(batch.ids, axis=1), 1)
    starts = {int(row[0]) for b in range(20) for row in batches.batch(b).ids}
    assert starts == set(range(44))
    again = TextBatches(text, rows=64, length=7, seed=3).batch(4)
    np.testing.assert_array_equal(batch.ids, again.ids)
    assert batch.weights.shape == (64, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DialogueBatches([], tokens=64, seed=0), "must hold at least one"),
        (
            lambda: DialogueBatches([Dialogue([1] * 60, [2] * 5)], tokens=64, seed=0),
            "tokens must be at least 65, the longest dialogue's; got 64",
        ),
        (
            lambda: TextBatches(np.arange(5), rows=1, length=6, seed=0),
            "must have at least 6 tokens; it has 5",
        ),
        (lambda: TextBatches(np.arange(5), rows=0, length=2, seed=0), "rows must lie in"),
        (lambda: TextBatches(np.arange(5), rows=1, length=1, seed=0), "length must lie in"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
