"""The words of a text, as statements are compared by them: normalised, with what turns them."""

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from itertools import zip_longest
from typing import NamedTuple


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PUNCTUATION = frozenset(".!?,;:()[]{}|—…")
_CLAUSE_ENDS = frozenset(",;:()[]{}|—")
_STOP_WORDS = _listed(
    "a an the is are was were be been being am has have had having do does did will shall of in "
    "on at for with as and that this these those which who it its they them their there here he "
    "she his her we our you your i so then also just"
)
_NEGATIONS = _listed(
    "not no non never none nor neither nothing nobody nowhere without false untrue wrong incorrect "
    "fail fails failed failing lack lacks lacking refuse refuses refused deny denies denied hardly "
    "rarely seldom barely"
)
_CONDITIONS = _listed("if unless until whether assuming provided suppose supposing ?")
_HEDGES = _listed(
    "or either may might could would should can must perhaps possibly probably sometimes only "
    "almost nearly except"
)
_TURNING = _NEGATIONS | _CONDITIONS | _HEDGES
_COMPARISONS = frozenset("<>≤≥≠≈~±")
_BOUNDS = _listed(
    "least most more less fewer over under above below about around approximately up down beyond "
    "within before after roughly nearly almost"
)
_PASSED = frozenset(("than", "to", "-"))  # "more than 3", "fails to converge", "non-zero"

_SUPERSCRIPTS = re.compile("[⁺⁻⁰¹²³⁴-⁹]+")
_SIGNS = str.maketrans(
    dict.fromkeys("‘’ʼ", "'") | dict.fromkeys("“”„«»", '"') | dict.fromkeys("−–‐‑‒", "-")
)
_SENTENCE_ENDS = re.compile(
    # A stop and what closes behind it; an empty line; the next item, row or heading.
    r"""(?<=[.!?])["')\]*`_]*\s+|\n\s*\n|\n(?=\s*(?:[-*+|#]|\d+[.)])\s)"""
)
_QUOTED_LINE = re.compile(r"(?m)^[ \t]*>[> \t]*(?=[^\W\d])")  # "> 3" may be a comparison
_BULLET = re.compile(r"^\s*(?:[-*#]+\s+)+")
# Marks and quotation marks at the edge of a word. Those between two (2*3) are not marks.
_MARKS = re.compile(r"""(?<=\S)[*`'"]+(?!\w)|(?<!\w)[*`'"]+(?=\S)""")
_CONTRACTED = re.compile(r"\b(?:(ca|wo)n't|(\w+)n't|cannot)\b")
_TOKEN = re.compile(
    r"(?P<version>\d+(?:\.\d+){2,})"
    r"|(?P<number>(?:(?<![\w.)\]])[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:e[-+]?\d{1,4}(?!\w))?)(?:\^(?P<power>[-+]?\d{1,4})(?!\w))?"
    r"|(?P<word>[^\W\d]\w*(?:'\w+)*)"
    r"|(?P<sign>[^\w\s])"
)


class Word(NamedTuple):
    """A word, number or sign of a text."""

    text: str
    """Normalised, behind the negation, comparison or bound that it stands under, if any."""
    number: str
    """If it is a number: its value, written in one way only."""
    turns: str
    """If it denies, conditions, weakens or asks a statement: that word, or the question mark."""
    counts: bool
    """Whether it is neither punctuation nor a word that says nothing by itself."""
    names: bool
    """Whether it counts and is an ordinary word: no number, sign, negation, bound or hedge."""
    clause: int
    sentence: int


def words(text: str) -> list[Word]:
    """The words, numbers and signs of a text, in order.

    Case, white space, emphasis and code marks of Markdown, quotation marks and the many Unicode
    forms of a character make no difference (NFKC); a number is its value (0.250 is 0.25, 10⁴ is
    10,000), and a superscript is never read as one of its digits.
    """
    found: list[Word] = []
    clause = 0
    for sentence, part in enumerate(_SENTENCE_ENDS.split(_normalised(text))):
        tokens = list(_TOKEN.finditer(_MARKS.sub("", _BULLET.sub("", part))))
        for word in _marked(tokens, clause, sentence):
            found.append(word)
            clause = word.clause
        clause += 1
    return found


def condition(word: Word) -> bool:
    """Whether a word makes its whole sentence depend on something, or a question."""
    return word.turns in _CONDITIONS


def punctuation(word: Word) -> bool:
    """Whether a word only parts others."""
    return word.text in _PUNCTUATION


def _normalised(text: str) -> str:
    text = _SUPERSCRIPTS.sub(lambda match: f"^{unicodedata.normalize('NFKC', match[0])}", text)
    if not text.isascii():
        text = "".join(_spaced(text))
    text = unicodedata.normalize("NFKC", text).casefold().translate(_SIGNS)
    return _QUOTED_LINE.sub("", _CONTRACTED.sub(_in_full, text))


def _spaced(text: str) -> Iterator[str]:
    """The characters that have a width, with a space between 3 and ½: NFKC would read 31⁄2."""
    before = ""
    for character in text:
        kind = unicodedata.category(character)
        if kind == "Cf":
            continue
        yield f" {character}" if kind == "No" and before.isdecimal() else character
        before = character


def _in_full(match: re.Match[str]) -> str:
    short = {"ca": "can", "wo": "will"}.get(match[1] or "", match[2])
    return f"{short or 'can'} not"


def _marked(tokens: list[re.Match[str]], clause: int, sentence: int) -> Iterator[Word]:
    """The tokens of a sentence; a negation, say, is also put on the word that it turns.

    So "not fast but stable" does not hold the words of "not stable", nor "at least 3" those of "3".
    """
    turned: list[str] = []  # negations and comparisons that wait for the word they stand before
    bound: list[str] = []  # bounds that wait for a number
    for match, after in zip_longest(tokens, tokens[1:]):
        text, number = _read(match)
        if text in _CLAUSE_ENDS:
            clause += 1
            turned, bound = [], []
        if number and after and after["sign"] == "%":
            text += "%"
        turns = text if text in _TURNING else ""
        counts = text not in _STOP_WORDS and text not in _PUNCTUATION
        names = counts and bool(match["word"]) and not turns and text not in _BOUNDS
        over = [*turned, *bound] if number else turned
        marked = " ".join([*over, text]) if counts and text not in _PASSED else text
        yield Word(marked, number, turns, counts, names, clause, sentence)
        if counts and text not in _PASSED:
            bound = [*bound, text] if text in _BOUNDS else []
            turned = [*turned, text] if text in _NEGATIONS or text in _COMPARISONS else []


def _read(match: re.Match[str]) -> tuple[str, str]:
    """A token as it is compared, and its value if it is a number."""
    if match["number"] is None:
        text = match[0]
        return (text.strip("_") or text), ""
    value, power = Decimal(match["number"].replace(",", "")), match["power"]
    if power is None:
        number = _written(value)
    elif value == 10:
        number = _written(Decimal((0, (1,), int(power))))
    else:
        number = f"{_written(value)}^{int(power)}"
    return number, number


def _written(value: Decimal) -> str:
    """A number in one form: its digits without zeros at their end, and the power of ten."""
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    bare = text.rstrip("0")
    if not bare:
        return "0"
    return f"{'-' * sign}{bare}e{int(exponent) + len(text) - len(bare)}"
