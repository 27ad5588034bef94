"""A small byte-level tokenizer that speaks ChatML, and dialogues of one turn as training data."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
"""The first ids, in the order that Ouro's own tokenizer has them."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_ROLES = ("system", "user", "assistant")


def make_tokenizer(words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which each of `words`, with or without a space before it, is one token.

    All 256 bytes are tokens, so every text can be said and comes back unchanged. Text is cut only
    at white space. The special tokens are `SPECIAL_TOKENS`; `<|im_end|>` ends an answer, and
    padding is `<|endoftext|>`.
    """
    tokenizer = Tokenizer(models.BPE())
    # A word takes one space before it with it; every other white space stands alone.
    cut = pre_tokenizers.Split(Regex(r" ?\S+|\s"), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2**16,  # never reached: merging ends when every word is one token
        min_frequency=1,
        show_progress=False,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    whole = [*_ROLES, *words] if words else []
    tokenizer.train_from_iterator([text for word in whole for text in (word, f" {word}")], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL_TOKENS[0],
        eos_token=SPECIAL_TOKENS[2],
        pad_token=SPECIAL_TOKENS[0],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


class Dialogue(NamedTuple):
    """A question and its answer, as ids."""

    prompt: list[int]
    """Up to where the assistant begins to speak."""
    answer: list[int]
    """Through the token that ends it."""


def dialogues(
    tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]
) -> list[Dialogue]:
    """What a user asks and what the assistant answers, in the tokenizer's chat format."""
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question, _ in pairs
    ]
    answers = [answer + SPECIAL_TOKENS[2] for _, answer in pairs]
    both = zip(_encoded(tokenizer, prompts), _encoded(tokenizer, answers), strict=True)
    return [Dialogue(prompt, answer) for prompt, answer in both]


def _encoded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Any]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]


def byte_ids(tokenizer: PreTrainedTokenizerFast, text: bytes) -> np.ndarray:
    """The ids of the bytes of `text`, one each, whether or not they are UTF-8: `[bytes]`, int32."""
    # The byte-level alphabet writes a printable byte as the character of that number, and the
    # others, in order, as those from 256 on.
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = [ord(symbol) for symbol in symbols if ord(symbol) < 256]
    others = [byte for byte in range(256) if byte not in printable]
    table = np.zeros(256, np.int32)
    table[printable + others] = tokenizer.convert_tokens_to_ids(symbols)
    return table[np.frombuffer(text, np.uint8)]
