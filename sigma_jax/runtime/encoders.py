"""Texts as vectors: what an encoder is, and one that needs no weights."""

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32

from .._check import require_in
from ..bridge import STOP_WORDS

_WORD = re.compile(r"\w+")
_PIECES = (3, 4, 5)
_PIECE_WEIGHT = 0.5
# Of the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Encoder(Protocol):
    """Anything that gives a text a vector, which does not depend on the other texts of a call."""

    @property
    def name(self) -> str:
        """What it is called. Two encoders that give any text other vectors are called otherwise."""
        ...

    @property
    def dimension(self) -> int:
        """The width of its vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimension"]:
        """The vectors of the texts, each of length one, or zero for a text that says nothing."""
        ...


class HashedEncoder:
    """Vectors of the words and letters of a text, by hashing. It is no semantic encoder.

    Two texts are near if they share words or pieces of words; a synonym is as far as any other
    word. It needs no weights and is the default where no model is at hand.

    Words without stop words (all of them where nothing else is left) and the pieces of three to
    five characters of them, spaces included, are hashed to a place and a sign. One that stands n
    times counts 1 + ln n. Both sums are scaled to length one, the pieces' is halved, and the total
    is scaled to length one. A text without a word is zero.

    Source: Weinberger et al., "Feature hashing for large scale multitask learning" (2009).

    **Arguments:** `dimension` of the vectors.

    **Raises** `ValueError` for a dimension below one.
    """

    def __init__(self, dimension: int = 384):
        require_in("dimension", dimension, 1)
        self.dimension = int(dimension)
        self.name = f"hashed words and letters, {self.dimension}, 1"

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimension"]:
        """The vectors of the texts, each of length one, or zero for a text without a word."""
        vectors = np.zeros((len(texts), self.dimension))
        for row, text in zip(vectors, texts, strict=True):
            words = _words(text)
            counts = Counter(words)
            hashes = np.array([_word_hash(word) for word in counts], np.uint64)
            row += _unit(self._sum(hashes, np.array(list(counts.values()), float)))
            row += _PIECE_WEIGHT * _unit(self._sum(*_pieces(" ".join(["", *words, ""]))))
            row[:] = _unit(row)
        return vectors.astype(np.float32)

    def _sum(
        self, hashes: np.ndarray, counts: Float[np.ndarray, " features"]
    ) -> Float[np.ndarray, " dimension"]:
        signs = np.where(hashes & np.uint64(1), 1.0, -1.0)
        places = (hashes >> np.uint64(1)) % np.uint64(self.dimension)
        weights = signs * (1 + np.log(counts))
        return np.bincount(places.astype(np.int64), weights, self.dimension)


def _words(text: str) -> list[str]:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [word for word in words if word not in STOP_WORDS] or words


def _word_hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _pieces(text: str) -> tuple[np.ndarray, Float[np.ndarray, " features"]]:
    """The hashes of the different pieces of `text`, sorted, and how often each stands there."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    found = [np.zeros(0, np.uint64)]
    for length in _PIECES:
        hashes = np.full(max(len(codes) - length + 1, 0), length, np.uint64)
        for place in range(length if len(hashes) else 0):
            hashes = _mixed(hashes ^ codes[place : place + len(hashes)])
        found.append(hashes)
    different, counts = np.unique(np.concatenate(found), return_counts=True)
    return different, counts.astype(float)


def _mixed(values: np.ndarray) -> np.ndarray:
    values = values + _GOLDEN
    for shift, multiplier in zip((30, 27), _MIXERS, strict=True):
        values = (values ^ (values >> np.uint64(shift))) * multiplier
    return values ^ (values >> np.uint64(31))


def _unit(vector: Float[np.ndarray, " dimension"]) -> Float[np.ndarray, " dimension"]:
    length = math.sqrt(float(vector @ vector))
    return vector / length if length > 0 else vector
