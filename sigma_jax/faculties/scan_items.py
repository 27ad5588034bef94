"""Items of SCAN: commands of the same words that mean different things, and repeated verbs."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from ..grammars import Pair, scan_pairs
from .drawing import is_asked

_LONGEST = 8  # actions of a command that is asked: so many can be written down


@lru_cache(maxsize=1)
def short_commands() -> tuple[Pair, ...]:
    """The commands of at most eight actions."""
    return tuple(pair for pair in scan_pairs() if len(pair.target.split()) <= _LONGEST)


@lru_cache(maxsize=1)
def never_asked() -> tuple[Pair, ...]:
    """The short commands that may be shown or trained on."""
    return tuple(pair for pair in short_commands() if not is_asked(pair.source))


@lru_cache(maxsize=1)
def _by_source() -> dict[str, Pair]:
    return {pair.source: pair for pair in short_commands()}


@lru_cache(maxsize=1)
def same_words() -> tuple[tuple[Pair, ...], ...]:
    """Groups of short commands: the same words in another order, no two with the same actions.

    Such as "walk and jump twice" and "walk twice and jump". E-69: published PCFG-SET has none.
    """
    groups: defaultdict[tuple[str, ...], dict[str, Pair]] = defaultdict(dict)
    for pair in short_commands():
        groups[tuple(sorted(pair.source.split()))].setdefault(pair.target, pair)
    return tuple(tuple(group.values()) for group in groups.values() if len(group) > 1)


def repeats_a_verb(actions: str) -> bool:
    """Whether one of walk, look, run, jump is done twice in direct succession.

    15.8 % of all commands do. The paper's trigger, two jumps, has 4.06 % (E-68).
    """
    return any(
        one == other and not one.startswith("I_TURN") for one, other in pairwise(actions.split())
    )


def neighbours(command: str) -> list[Pair]:
    """All short commands that one word more, less or other makes of it."""
    words = command.split()
    edits = [words[:at] + words[at + 1 :] for at in range(len(words))]
    for at, word in enumerate(words):
        edits += [[*words[:at], other, *words[at + 1 :]] for other in _kind(word)]
        edits += [[*words[: at + 1], new, *words[at + 1 :]] for new in (*_TIMES, *_DIRECTIONS)]
    short = _by_source()
    found = dict.fromkeys(" ".join(edit) for edit in edits)
    return [short[other] for other in found if other != command and other in short]


_VERBS = ("walk", "look", "run", "jump")
_TIMES = ("twice", "thrice")
_DIRECTIONS = ("left", "right")
_KINDS: Sequence[tuple[str, ...]] = (
    (*_VERBS, "turn"),
    _TIMES,
    _DIRECTIONS,
    ("and", "after"),
    ("opposite", "around"),
)


def _kind(word: str) -> tuple[str, ...]:
    return next(kind for kind in _KINDS if word in kind)
