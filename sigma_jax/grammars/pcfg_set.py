"""PCFG-SET: functions on strings in prefix notation, such as "append A1 B2 , reverse C3 D4".

Its functions and grammar are those of Hupkes, Dankers, Mul and Bruni, "Compositionality
Decomposed" (arXiv 1908.08351).
"""

import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .draws import Draw, choose, choose_weighted
from .interface import Pair
from .trees import Tree

Symbols = tuple[str, ...]

PCFG_SET_SYMBOLS = tuple(
    f"{letter}{number}" for letter in string.ascii_uppercase for number in range(1, 21)
)
"""The 520 symbols that strings are made of, A1 to Z20."""

_UNARY: dict[str, Callable[[Symbols], Symbols]] = {
    "copy": lambda x: x,
    "reverse": lambda x: x[::-1],
    "shift": lambda x: x[1:] + x[:1],
    "echo": lambda x: x + x[-1:],
    "swap_first_last": lambda x: x[-1:] + x[1:-1] + x[:1] if len(x) > 1 else x,
    "repeat": lambda x: x + x,
}
_BINARY: dict[str, Callable[[Symbols, Symbols], Symbols]] = {
    "append": lambda x, y: x + y,
    "prepend": lambda x, y: y + x,
    "remove_first": lambda x, y: y,
    "remove_second": lambda x, y: x,
}
PCFG_SET_FUNCTIONS = (*_UNARY, *_BINARY)
"""Six functions of one string, then four of two."""
TWINNED = ("swap_first_last", "repeat", "append", "remove_second")
"""The functions that the substitutivity test gives a synonym, `append_twin` for `append`."""

_STRING = "string"  # the label over the symbols of a string
_MOST_FUNCTIONS = 200  # in a sentence
_MOST_DRAWN = 35  # in a sampled one, as in the longest published one
_LONGEST = 10_000  # symbols: 40 nested `repeat` would fill the memory

# The rules' probabilities, by depth, the last row holding for all that is deeper: a function is
# unary; a unary function stands before a string; a binary one before two strings; before one.
_RULES = (
    (0.505, 0.03, 0.005, 0.69),
    (0.57, 0.26, 0.105, 0.645),
    (0.60, 0.41, 0.24, 0.56),
    (0.64, 0.49, 0.315, 0.495),
    (0.66, 0.51, 0.355, 0.46),
    (0.69, 0.51, 0.37, 0.445),
    (0.75, 0.535, 0.385, 0.44),
)
_LENGTHS = ((2, 0.16), (3, 0.30), (4, 0.27), (5, 0.27))  # of strings, with probabilities


@dataclass(frozen=True)
class PcfgSet:
    """The language PCFG-SET, a `Grammar`.

    **Arguments:** `symbols`, how many of `PCFG_SET_SYMBOLS` its strings are made of, for a smaller
    vocabulary than the published one; `twins`, whether the synonyms of `TWINNED` are words of it
    (`sample` never uses them).

    **Raises** `ValueError` for a number of symbols outside 2 to 520.
    """

    symbols: int = len(PCFG_SET_SYMBOLS)
    twins: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.symbols <= len(PCFG_SET_SYMBOLS):
            raise ValueError(
                f"symbols must be from 2 to {len(PCFG_SET_SYMBOLS)}; got {self.symbols!r}."
            )

    @property
    def name(self) -> str:
        """Always "pcfg_set"."""
        return "pcfg_set"

    @property
    def words(self) -> tuple[str, ...]:
        """Every word of a source; those of a target are the symbols among them."""
        twins = tuple(f"{function}_twin" for function in TWINNED) if self.twins else ()
        return (*PCFG_SET_FUNCTIONS, *twins, ",", *self._symbols)

    @property
    def _symbols(self) -> Symbols:
        return PCFG_SET_SYMBOLS[: self.symbols]

    def tree(self, source: str) -> Tree:
        """Functions over their arguments; a string is a node "string" over its symbols.

        **Raises** `ValueError` for text that is not a function's call, or has more than 200.
        """
        words = source.split()
        known = _vocabulary(self)
        try:
            for word in words:
                if word not in known:
                    raise _NotPcfgSet(f"{word!r} is not a word of it")
            if sum(_arity(word) > 0 for word in words) > _MOST_FUNCTIONS:
                raise _NotPcfgSet(f"it has more than {_MOST_FUNCTIONS} functions")
            rest = words[::-1]
            tree = _expression(rest)
            if rest:
                raise _NotPcfgSet(f"{rest[-1]!r} stands where it should end")
            if tree.label == _STRING:
                raise _NotPcfgSet("it has no function")
        except _NotPcfgSet as error:
            raise ValueError(f"{source!r} is not a sentence of PCFG-SET: {error}.") from None
        return tree

    def meaning(self, source: str) -> str:
        """The string that the functions make, its symbols separated by spaces.

        **Raises** `ValueError` for text that is not of the language, or whose meaning would have
        more than 10,000 symbols.
        """
        return " ".join(_value(self.tree(source)))

    def paraphrases(self, source: str) -> tuple[str, ...]:
        """Every other way to say `source` that one equation, used once anywhere in it, leads to.

        The equations hold for all strings: repeat x = append x , x; append x , y = prepend y , x;
        remove_first x , y = remove_second y , x; copy x = reverse reverse x =
        swap_first_last swap_first_last x = x; repeat before or after reverse or shift is the
        same; reverse append x , y = append reverse y , reverse x; and with `twins` a function is
        its twin. `copy` is added in front only. A split may hold one of them out: see
        `pcfg_set_forbids`.

        **Raises** `ValueError` if `source` is not of the language.
        """
        tree = self.tree(source)
        rewritten = [*_rewrites(tree, self.twins), Tree("copy", (tree,))]
        said = dict.fromkeys(spell(one) for one in rewritten if one.label != _STRING)
        return tuple(one for one in said if one != spell(tree))

    def sample(self, count: int, seed: int) -> tuple[Pair, ...]:
        """`count` different pairs, drawn from a probabilistic grammar; smaller counts are prefixes.

        The probabilities of its rules depend on depth and were chosen so that the numbers of
        functions, depths and lengths are like those of the published test set. The published
        generator is another one: it was fitted to English sentences.

        **Raises** `ValueError` for a negative count.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0; got {count}.")
        draw = random.Random(seed).random
        pairs: dict[str, Pair] = {}
        while len(pairs) < count:
            tree = _draw_call(draw, self._symbols, depth=0)
            source = spell(tree)
            if source not in pairs and len(functions_of(source)) <= _MOST_DRAWN:
                pairs[source] = Pair(source, " ".join(_value(tree)))
        return tuple(pairs.values())


@lru_cache(maxsize=8)
def _vocabulary(language: PcfgSet) -> frozenset[str]:
    return frozenset(language.words)


class _NotPcfgSet(Exception):
    """Why the words are no sentence of the language."""


def functions_of(source: str) -> tuple[str, ...]:
    """The functions of a source, in the order of its words; a twin is one of its own."""
    return tuple(word for word in source.split() if _arity(word) > 0)


def spell(tree: Tree) -> str:
    """The source whose tree this is."""
    if tree.label == _STRING:
        return " ".join(symbol.label for symbol in tree.children)
    return f"{tree.label} {' , '.join(spell(argument) for argument in tree.children)}"


def _arity(word: str) -> int:
    function = word.removesuffix("_twin")
    return 1 if function in _UNARY else 2 if function in _BINARY else 0


def _expression(rest: list[str]) -> Tree:
    """S → F1 S | F2 S , S | string; takes its words from the end of `rest`, which is reversed."""
    symbols = []
    while rest and rest[-1] != "," and not _arity(rest[-1]):
        symbols.append(Tree(rest.pop()))
    if symbols:
        return Tree(_STRING, tuple(symbols))
    if not rest or not _arity(rest[-1]):
        raise _NotPcfgSet("a string or a function is missing")
    function = rest.pop()
    arguments = [_expression(rest)]
    if _arity(function) == 2:
        if not rest or rest.pop() != ",":
            raise _NotPcfgSet(f"{function} needs two arguments with a comma between them")
        arguments.append(_expression(rest))
    return Tree(function, tuple(arguments))


def _value(tree: Tree) -> Symbols:
    if tree.label == _STRING:
        return tuple(symbol.label for symbol in tree.children)
    function = tree.label.removesuffix("_twin")
    arguments = [_value(argument) for argument in tree.children]
    value = _UNARY[function](*arguments) if len(arguments) == 1 else _BINARY[function](*arguments)
    if len(value) > _LONGEST:
        raise ValueError(f"source means a string of more than {_LONGEST:,} symbols.")
    return value


def _rewrites(tree: Tree, twins: bool) -> Iterator[Tree]:
    """The tree with one equation used at its root or anywhere below."""
    if tree.label == _STRING:
        return
    yield from _equals(tree)
    if twins and tree.label.removesuffix("_twin") in TWINNED:
        known = tree.label.removesuffix("_twin")
        yield Tree(f"{known}_twin" if known == tree.label else known, tree.children)
    for at, argument in enumerate(tree.children):
        for other in _rewrites(argument, twins):
            yield Tree(tree.label, (*tree.children[:at], other, *tree.children[at + 1 :]))


def _equals(tree: Tree) -> Iterator[Tree]:
    """What the equations make of the function at the root."""
    match tree:
        case ("repeat", (x,)):
            yield Tree("append", (x, x))
        case ("append", (x, y)):
            yield Tree("prepend", (y, x))
            if x == y:
                yield Tree("repeat", (x,))
        case ("prepend", (x, y)):
            yield Tree("append", (y, x))
        case ("remove_first", (x, y)):
            yield Tree("remove_second", (y, x))
        case ("remove_second", (x, y)):
            yield Tree("remove_first", (y, x))
        case ("copy", (x,)):
            yield x
    match tree:
        case ("reverse", (("reverse", (x,)),)) | ("swap_first_last", (("swap_first_last", (x,)),)):
            yield x
        case ("reverse", (("append", (x, y)),)):
            yield Tree("append", (Tree("reverse", (y,)), Tree("reverse", (x,))))
        case ("append", (("reverse", (y,)), ("reverse", (x,)))):
            yield Tree("reverse", (Tree("append", (x, y)),))
        case ("repeat", (("reverse" | "shift" as edit, (x,)),)):
            yield Tree(edit, (Tree("repeat", (x,)),))
        case ("reverse" | "shift" as edit, (("repeat", (x,)),)):
            yield Tree("repeat", (Tree(edit, (x,)),))


def _draw_call(draw: Draw, symbols: Sequence[str], depth: int) -> Tree:
    """A function and its arguments, by the rules for its depth."""
    unary, on_string, on_strings, on_one = _RULES[min(depth, len(_RULES) - 1)]
    if draw() < unary:
        function = choose(draw, tuple(_UNARY))
        plain = (draw() < on_string,)
    else:
        function = choose(draw, tuple(_BINARY))
        plain = choose_weighted(
            draw,
            (
                ((True, True), on_strings),
                ((True, False), on_one / 2),
                ((False, True), on_one / 2),
                ((False, False), 1 - on_strings - on_one),
            ),
        )
    return Tree(
        function,
        tuple(
            draw_string(draw, symbols) if is_plain else _draw_call(draw, symbols, depth + 1)
            for is_plain in plain
        ),
    )


def draw_string(draw: Draw, symbols: Sequence[str]) -> Tree:
    """A string of two to five of the symbols."""
    length = choose_weighted(draw, _LENGTHS)
    return Tree(_STRING, tuple(Tree(choose(draw, symbols)) for _ in range(length)))
