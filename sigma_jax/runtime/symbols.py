"""What a text is about, in a few words: its symbols, weighed."""

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .._check import require_in
from ..bridge import STOP_WORDS

_COMMON_WORDS = (
    "able actually add again ago already always am among another answer anything around ask away "
    "back bad because become before began begin below best better between big bit both bring call "
    "came case cause certain change clear come course day different done down during either else "
    "end enough etc even ever every everyone everything example fact far feel few find fine first "
    "five follow four full get go goes going gone good got great guess hand happen hard hello "
    "help high hope idea important including instead keep kind knew know large last later least "
    "leave left less let like likely line little long look lot made main make mean means might "
    "minute moment month mostly move need never new next nice nothing now number often ok okay "
    "old once one open others part people perhaps place point possible probably problem put "
    "question quite rather read real really reason reply right run said same saw says second see "
    "seem seems seen sense set several show side simple since small someone something sometimes "
    "soon sort start state still stop sure take talk tell ten term thank thanks thing things "
    "think third thought three through time times today together told tomorrow too took top "
    "toward true try turn two understand until usual usually want way week well went whatever "
    "whether whole within without word words work world write wrong yeah year yes yesterday yet"
)
_COMMON = frozenset(_COMMON_WORDS.split())
_COMMON_WEIGHT = 0.3
_PAIR_WEIGHT = 0.75
_LONGEST = 40
"""What is longer is no word: a digest, a key, a line of base64."""

_UNSPACED = "\u0e01-\u0e4e\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Thai, kana and Chinese characters, written without spaces between words."""
# Python's \w leaves out the signs that Indic scripts, Hebrew and Arabic put on letters.
_LETTER = "(?:[^\\W_]|[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff])"
_WORD = re.compile(f"{_LETTER}(?:['-]?{_LETTER})+")
_RUN = re.compile(f"[{_UNSPACED}]{{2,}}")
_CLAUSE = re.compile("[^\\s\\w'\\-\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff]+|\n")
_CONTRACTED = re.compile("(?:n't|'(?:ll|re|ve|d|m))$")


class Symbol(NamedTuple):
    """A word, or two words side by side, and how much it tells of its text."""

    name: str
    weight: float


def extract_symbols(text: str, most: int = 12) -> tuple[Symbol, ...]:
    """The words and pairs of words that tell most of what `text` is about, heaviest first.

    Words are compared in lower case (NFC), with at least two characters and at most 40, without
    stop words, contractions of them ("don't") and the possessive 's. Text written without spaces
    gives its overlapping pairs of characters. A pair of words stands side by side, in one clause.

    A symbol that stands n times weighs (1 + ln n) · rarity. The rarity is 0.3 for over 200 common
    English words and 1 otherwise, an idf in two steps; a pair's is 0.75 of the mean of its words'.
    Equal weights are in order of name.

    **Arguments:** `most` symbols are given.

    **Raises** `ValueError` for `most` below one.
    """
    require_in("most", most, 1)
    counts: Counter[str] = Counter()
    for words in _clauses(text):
        counts.update(word for word in words if word)
        counts.update(
            f"{first} {second}" for first, second in itertools.pairwise(words) if first and second
        )
    symbols = [Symbol(name, (1 + math.log(n)) * _rarity(name)) for name, n in counts.items()]
    return tuple(sorted(symbols, key=lambda symbol: (-symbol.weight, symbol.name))[:most])


def _clauses(text: str) -> Iterator[list[str]]:
    """The words of each clause; empty where a word says nothing, so that no pair spans it."""
    # Composed once more: the lower case of a letter such as İ is two characters.
    lower = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    for clause in _CLAUSE.split(lower.replace("’", "'")):
        for run in _RUN.findall(clause):
            for first, second in itertools.pairwise(run):
                yield [first + second]
        yield [_telling(match[0]) for match in _WORD.finditer(_RUN.sub(" ", clause))]


def _telling(word: str) -> str:
    word = word.removesuffix("'s")
    empty = word in STOP_WORDS or _CONTRACTED.search(word) or not 2 <= len(word) <= _LONGEST
    return "" if empty else word


def _rarity(name: str) -> float:
    rarities = [_COMMON_WEIGHT if word in _COMMON else 1.0 for word in name.split()]
    mean = sum(rarities) / len(rarities)
    return mean if len(rarities) == 1 else _PAIR_WEIGHT * mean
