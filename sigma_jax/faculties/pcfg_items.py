"""Items of PCFG-SET for H-PTB: familiar ones, and new combinations of what is familiar."""

from collections.abc import Sequence
from functools import lru_cache

from ..grammars import PCFG_SET_FUNCTIONS, Pair, PcfgSet, pcfg_set_forbids
from .drawing import Draws, is_asked

LANGUAGE = PcfgSet(symbols=20, twins=True)
MOST_SHOWN = 3
"""Functions in a familiar sentence."""
_MOST_ASKED = 6
"""Functions in a longer one."""
_LONGEST = 10
"""Symbols of a meaning: so many can be written down."""
TWINS = tuple(word for word in LANGUAGE.words if word.endswith("_twin"))
"""Synonyms of four functions; familiar before strings alone."""
_BY_ARITY = (PCFG_SET_FUNCTIONS[:6], PCFG_SET_FUNCTIONS[6:])


def functions_in(source: str) -> list[str]:
    """The functions of a source, in order, a twin as what it means."""
    plain = (word.removesuffix("_twin") for word in source.split())
    return [word for word in plain if word in PCFG_SET_FUNCTIONS]


@lru_cache(maxsize=4)
def drawn_pairs(seed: int, count: int) -> tuple[Pair, ...]:
    """Different sentences of the language whose meanings are not too long to write."""
    wanted = count
    while True:
        pairs = [
            pair
            for pair in LANGUAGE.sample(wanted, seed)
            if len(pair.target.split()) <= _LONGEST
            and len(functions_in(pair.source)) <= _MOST_ASKED
        ]
        if len(pairs) >= count:
            return tuple(pairs[:count])
        wanted *= 2


def is_familiar(source: str) -> bool:
    """Whether it has few functions, and no two next to each other that never are in training."""
    return len(functions_in(source)) <= MOST_SHOWN and not pcfg_set_forbids("systematicity", source)


def longer(pairs: Sequence[Pair]) -> list[Pair]:
    """Productivity: more functions than any familiar sentence, and no other novelty."""
    return [
        pair
        for pair in pairs
        if len(functions_in(pair.source)) > MOST_SHOWN
        and not pcfg_set_forbids("systematicity", pair.source)
    ]


def newly_adjacent(draws: Draws, pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Systematicity: as long as familiar ones, with two functions in a new order side by side.

    These are too rare to wait for: a function of a familiar sentence is changed until it is one.
    """
    found: dict[str, Pair] = {}
    while len(found) < count:
        source = changed(draws, draws.choose(pairs).source)
        target = LANGUAGE.meaning(source)
        if pcfg_set_forbids("systematicity", source) and len(target.split()) <= _LONGEST:
            found.setdefault(source, Pair(source, target))
    return list(found.values())


def with_twins(draws: Draws, pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Substitutivity: familiar sentences in which one function, wherever it is, is its twin."""
    found = []
    for pair in draws.shuffled(pairs):
        own = [twin for twin in TWINS if twin.removesuffix("_twin") in pair.source.split()]
        if own and len(functions_in(pair.source)) > 1:
            twin = draws.choose(own)
            plain = twin.removesuffix("_twin")
            words = [twin if word == plain else word for word in pair.source.split()]
            found.append(Pair(" ".join(words), pair.target))
            if len(found) == count:
                return found
    raise ValueError(f"{count} sentences with twins are wanted; {len(found)} were found.")


def alone(draws: Draws, functions: Sequence[str], each: int) -> list[Pair]:
    """`each` sentences of every function before strings alone, none of them ever asked."""
    symbols = [word for word in LANGUAGE.words if word[0].isupper()]
    pairs: dict[str, Pair] = {}
    for number, function in enumerate(functions, 1):
        strings = 1 if function.removesuffix("_twin") in _BY_ARITY[0] else 2
        while len(pairs) < number * each:
            drawn = [draws.chosen(symbols, draws.choose((2, 3, 4))) for _ in range(strings)]
            source = f"{function} {' , '.join(' '.join(symbols) for symbols in drawn)}"
            if not is_asked(source):
                pairs[source] = Pair(source, LANGUAGE.meaning(source))
    return list(pairs.values())


def matched(draws: Draws, pairs: Sequence[Pair], to: Sequence[Pair]) -> list[Pair]:
    """For each of `to` another of `pairs`, with as many functions, and a meaning as long if it can.

    **Raises** `ValueError` if there are too few.
    """
    left = draws.shuffled(pairs)
    chosen = []
    for wanted in to:
        at = min(range(len(left)), key=lambda at: _apart(left[at], wanted), default=None)
        if at is None:
            raise ValueError(f"{len(to)} familiar sentences are wanted of {len(pairs)}.")
        chosen.append(left.pop(at))
    return chosen


def _apart(one: Pair, other: Pair) -> tuple[int, int]:
    functions = abs(len(functions_in(one.source)) - len(functions_in(other.source)))
    return functions, abs(len(one.target.split()) - len(other.target.split()))


def changed(draws: Draws, source: str) -> str:
    """The source with one function in place of another that takes as many strings."""
    words = source.split()
    at = draws.choose([at for at, word in enumerate(words) if functions_in(word)])
    now = words[at].removesuffix("_twin")
    same = next(functions for functions in _BY_ARITY if now in functions)
    words[at] = draws.choose([function for function in same if function != now])
    return " ".join(words)


def shown_examples(draws: Draws, pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Every function and every twin alone, and `count` of the familiar `pairs`."""
    single = alone(draws, (*PCFG_SET_FUNCTIONS, *TWINS), 1)
    several = [pair for pair in pairs if len(functions_in(pair.source)) > 1]
    return draws.shuffled([*single, *draws.chosen(several, count)])
