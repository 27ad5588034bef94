"""SCAN commands with a held-out template, and training commands that look like them but are not."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..grammars import Pair, scan_split
from .drawing import is_asked

SPLIT = "template_opposite_right"
_LONGEST = 12
"""Actions: so many can be written down, and a wrong answer is not known by its length."""
_K1, _B = 0.9, 0.4  # as in the room of grounding, from Kamphuis et al. (2020)
_VERBS = frozenset({"walk", "look", "run", "jump"})
_DIRECTIONS = frozenset({"left", "right"})

EXAMPLES = (
    "walk",
    "look left",
    "turn right",
    "run opposite left",
    "turn opposite left",
    "jump around right",
    "turn around left",
    "jump twice",
    "run right thrice",
    "look and walk left",
    "jump after run",
)
"""Training commands in which every rule of the language occurs."""


@lru_cache(maxsize=1)
def executive_pairs() -> tuple[Pair, ...]:
    """What is retrieved from, and what a learner is trained on before H-DCB asks it.

    The training commands of the split of at most 12 actions, each once, less one in five that are
    asked about as familiar. None has the template of the others that are asked about, a verb with
    "opposite right".
    """
    return tuple(pair for pair in _trained() if not _is_familiar_item(pair))


@lru_cache(maxsize=1)
def familiar_commands() -> tuple[Pair, ...]:
    """Commands of the same kinds as those of `executive_pairs`, and none of them."""
    return tuple(pair for pair in _trained() if _is_familiar_item(pair))


def rule_of(command: str) -> str:
    """How a command is built: its words with verbs and directions left open.

    "jump left twice and run" and "walk right twice and look" are built alike.
    """
    kinds = dict.fromkeys(_VERBS, "V") | dict.fromkeys(_DIRECTIONS, "D")
    return " ".join(kinds.get(word, word) for word in command.split())


@lru_cache(maxsize=1)
def held_out_commands() -> tuple[Pair, ...]:
    """The test commands of the split, "walk opposite right" and the like, of at most 12 actions."""
    return _short(scan_split(SPLIT).test)


def surface_neighbours(command: str, actions: str, count: int) -> tuple[Pair, ...]:
    """The commands of the pool that share most words, of those built otherwise; the best first.

    They rank by BM25, which knows nothing of order. No neighbour has the same actions. Of equal
    ones the first in the order of the grammar's rules comes first. In SCAN the best neighbour has
    nearly all of the words (nine in ten), often in another order, so that its actions could be
    mistaken for the right ones; one in the COGS-like language has about half, and could not.

    Source: Robertson and Zaragoza (2009), as bm25s computes it (method "lucene").
    """
    pool, own = executive_pairs(), rule_of(command)
    scores = _index().get_scores(list(dict.fromkeys(command.split())))
    found: list[Pair] = []
    # Rounded, so that commands of the same words are equal whatever the order of addition.
    for at in np.argsort(-np.round(scores, 6), kind="stable"):
        other = pool[at]
        if rule_of(other.source) != own and other.target != actions:
            found.append(other)
            if len(found) == count:
                break
    return tuple(found)


@lru_cache(maxsize=1)
def _index() -> Any:
    # Imported here: bm25s asks JAX for its devices when it is imported, and after that a program
    # can no longer choose them.
    import bm25s

    # It sets its own logger to say everything, to whoever listens at the root.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    index = bm25s.BM25(k1=_K1, b=_B, method="lucene", dtype="float64", backend="numpy")
    index.index([pair.source.split() for pair in executive_pairs()], show_progress=False)
    return index


def _trained() -> tuple[Pair, ...]:
    return _short(dict.fromkeys(scan_split(SPLIT).train))


def _is_familiar_item(pair: Pair) -> bool:
    return is_asked(pair.source) and pair.source not in EXAMPLES


def _short(pairs: Sequence[Pair] | dict[Pair, None]) -> tuple[Pair, ...]:
    return tuple(
        Pair(pair.source, pair.target) for pair in pairs if len(pair.target.split()) <= _LONGEST
    )
