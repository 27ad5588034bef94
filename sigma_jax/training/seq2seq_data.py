"""Pairs of sentences as rows of tokens, by a vocabulary that knows its training words only."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ..grammars import Pair

PAD = 0
"""The token that fills a row up, on the right."""
START = 1
"""The token that a decoder is given first."""
END = 2
"""The token that ends a target."""

_SPECIAL = ("<pad>", "<start>", "<end>")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words of a training split; one that has been on one side only is unseen on the other.

    Source and target share their tokens: `PAD`, `START`, `END`, then the words in order.

    **Arguments:** `source_words` and `target_words`.

    **Raises** `ValueError` for a word with the name of a special token.
    """

    source_words: frozenset[str]
    target_words: frozenset[str]

    def __post_init__(self) -> None:
        taken = (self.source_words | self.target_words) & set(_SPECIAL)
        if taken:
            raise ValueError(
                f"no word may be called {sorted(taken)[0]!r}: that is a special token."
            )

    @classmethod
    def of(cls, train: Iterable[Pair]) -> "Vocabulary":
        """The vocabulary of a training split.

        **Raises** `ValueError` if the split is empty.
        """
        pairs = list(train)
        if not pairs:
            raise ValueError("train must hold at least one pair; got none.")
        return cls(
            frozenset(word for pair in pairs for word in pair.source.split()),
            frozenset(word for pair in pairs for word in pair.target.split()),
        )

    @property
    def size(self) -> int:
        """How many tokens there are, the three special ones included."""
        return len(self.tokens)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Every token's text, by its number."""
        return _SPECIAL + tuple(sorted(self.source_words | self.target_words))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Every token's number, by its text."""
        return {token: number for number, token in enumerate(self.tokens)}

    def unseen(self, pair: Pair) -> tuple[str, ...]:
        """The words of a pair that training does not have on their side, each once, in order."""
        sources = [word for word in pair.source.split() if word not in self.source_words]
        targets = [word for word in pair.target.split() if word not in self.target_words]
        return tuple(dict.fromkeys(sources + targets))

    def sentence(self, row: Iterable[int]) -> str:
        """The words of a row of tokens, up to its end; without it, up to its padding."""
        words = []
        for number in row:
            if number in (PAD, END):
                break
            words.append(self.tokens[number])
        return " ".join(words)


class Seq2SeqPairs(NamedTuple):
    """Pairs as rows of tokens, padded on the right."""

    source: Int[np.ndarray, "pairs source"]
    """The sources; a source has no end token."""
    target: Int[np.ndarray, "pairs target"]
    """The targets, each with its `END`."""


def encode_pairs(vocabulary: Vocabulary, pairs: Sequence[Pair]) -> Seq2SeqPairs:
    """Pairs as rows of tokens, as wide as the longest.

    **Raises** `ValueError` if there are no pairs, for an empty source, or for a word that training
    does not have on that side, which is named; `Vocabulary.unseen` counts such pairs beforehand.
    """
    if not pairs:
        raise ValueError("pairs must hold at least one pair; got none.")
    for pair in pairs:
        if not pair.source.strip():
            raise ValueError(f"a source must have at least one word; got {pair!r}.")
        unseen = vocabulary.unseen(pair)
        if unseen:
            side = "target" if unseen[0] in pair.target.split() else "source"
            raise ValueError(
                f"the word {unseen[0]!r} is in no {side} of the training split, but in {pair!r}."
            )
    numbers = vocabulary.numbers
    sources = [[numbers[word] for word in pair.source.split()] for pair in pairs]
    targets = [[*(numbers[word] for word in pair.target.split()), END] for pair in pairs]
    return Seq2SeqPairs(_padded(sources), _padded(targets))


def _padded(rows: list[list[int]]) -> Int[np.ndarray, "pairs places"]:
    padded = np.full((len(rows), max(map(len, rows))), PAD, np.int32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded
