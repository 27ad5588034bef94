"""What a question asks for: its terms, and whether a number or a name would answer it."""

import re
from typing import NamedTuple

from .wording import terms

_OPEN = (
    r"\b(?:complete|define|describe|explain|find|give|how|list|name|quote|say|show|state|tell|what"
    r"|when|where|which|who|whom|whose|why)\b"
)
_ASKS = re.compile(rf"\?\s*$|^\W*{_OPEN}", re.IGNORECASE)
_OPENLY = re.compile(_OPEN, re.IGNORECASE)
_QUANTITY = re.compile(
    r"\bhow\s+(?:big|deep|far|fast|high|large|long|many|much|often|wide)\b|\bpercent|\bat what\b",
    re.IGNORECASE,
)
_AFTER_WHICH = re.compile(r"\b(?:which|what)\b((?:\W+\w+){1,5})", re.IGNORECASE)
_NAMES = frozenset(
    terms(
        "argument class command field file folder function keyword library method module name "
        "option package parameter program room script setting variable"
    )
)
_NUMBERS = frozenset(
    terms(
        "constant factor length limit number percentage port rate ratio share size step threshold "
        "tolerance value width year"
    )
)
_EMPTY = _NAMES.union(terms("number value"))
"""Nouns that say only the kind, and that an answer need not hold."""


class Question(NamedTuple):
    """The terms to look for, each once, and what kind of thing is asked for."""

    terms: tuple[str, ...]
    open: bool
    """It asks for something that it does not say itself, as "is it so?" does."""
    number: bool
    name: bool


def read_question(text: str) -> Question:
    """What a text asks for; without terms if it is no question.

    A question ends in a question mark, or begins with a word that asks ("which") or bids ("name").
    "How many", or "which" or "what" before a noun such as "limit", asks for a number; before a noun
    such as "function", for a name. A noun that only says the kind ("function", "value") is not
    looked for.
    """
    if not _ASKS.search(text):
        return Question((), False, False, False)
    nouns = {term for match in _AFTER_WHICH.finditer(text) for term in terms(match[1])}
    found = dict.fromkeys(terms(text))
    kinds = nouns & _EMPTY
    return Question(
        terms=tuple(term for term in found if term not in kinds) or tuple(found),
        open=bool(_OPENLY.search(text)),
        number=bool(_QUANTITY.search(text) or nouns & _NUMBERS),
        name=bool(nouns & _NAMES),
    )
