"""Training, test and generalisation sets of the COGS-like language."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .cogs_constructions import CONSTRUCTIONS, words_of
from .cogs_drawing import Wish, draw_sentence, word_tree
from .cogs_generalisation import HELD_OUT_STRUCTURES, HELD_OUT_USES, HELD_OUT_WORDS
from .cogs_lexicon import COGS_LIKE_LEXICON
from .cogs_logical_form import logical_form
from .interface import Pair
from .trees import Tree, subtrees

_USUAL = COGS_LIKE_LEXICON.without(HELD_OUT_WORDS)
_TRIES = 1_000  # for each sentence wanted
_LONGER = ("cp_recursion", "pp_recursion")  # than any sentence of training, so with new numbers

Rule = tuple[str, tuple[str, ...]]


class CogsLikeSplits(NamedTuple):
    """What COGS has: pairs to learn from, the same distribution, and 21 generalisation tests."""

    train: tuple[Pair, ...]
    dev: tuple[Pair, ...]
    test: tuple[Pair, ...]
    generalisation: Mapping[str, tuple[Pair, ...]]
    """By their names in `COGS_GENERALISATIONS`."""


def cogs_like_splits(
    *,
    train: int = 4_000,
    dev: int = 500,
    test: int = 500,
    generalisation: int = 100,
    exposures: int = 1,
    seed: int = 0,
) -> CogsLikeSplits:
    """Sets without a common sentence, made as those of COGS were, from the rules and a seed.

    Training has `train` sentences without any held-out word, every other noun, name and verb
    alone, and, for the tests, "shark", "Paula" and "crawl" alone and `exposures` sentences with
    each of the other twelve words, in its one use. All the words and rules of every sentence of
    the other sets occur in training, and those of the tests never in that combination. All the
    words of its logical form occur there too, except in recursion, whose places have numbers that
    no sentence of training reaches, as in COGS.

    Published are 24,000 training sentences, 3,000 and 3,000 others, 1,000 for each test, and one
    exposure, or a hundred.

    **Arguments:** `generalisation`, sentences for each of the 21 tests.

    **Raises** `ValueError` for a negative number, no exposure, or if training is too small to have
    all that the other sets need.

    Source: Kim and Linzen (arXiv 2010.05465), section 3.
    """
    sizes = {"train": train, "dev": dev, "test": test, "generalisation": generalisation}
    for name, size in (*sizes.items(), ("exposures", exposures)):
        least = 1 if name == "exposures" else 0
        if size < least:
            raise ValueError(f"{name} must be at least {least}; got {size}.")
    taken: set[str] = set()
    trained = [*_alone(), *_exposures(exposures, seed, taken)]
    trained += _sentences("train", Wish(), train, seed, taken)
    has_rules, has_words = _known(trained)

    def made(name: str, wish: Wish, size: int) -> tuple[Pair, ...]:
        is_known = has_rules if name in _LONGER else has_words
        return _pairs(_sentences(name, wish, size, seed, taken, is_known))

    wishes = {name: held.wish(held.tested) for name, held in HELD_OUT_USES.items()}
    wishes |= HELD_OUT_STRUCTURES
    return CogsLikeSplits(
        train=_pairs(trained),
        dev=made("dev", Wish(), dev),
        test=made("test", Wish(), test),
        generalisation={name: made(name, wish, generalisation) for name, wish in wishes.items()},
    )


def _known(trained: Sequence[Tree]) -> tuple[Callable[[Tree], bool], Callable[[Tree], bool]]:
    """Whether a sentence has known rules only, and whether it has known words besides.

    Its own words are rules, too; those of its logical form include the numbers of places.
    """
    rules = frozenset(_rules(trained))
    words = {word for pair in _pairs(trained) for word in pair.target.split()}

    def has_rules(tree: Tree) -> bool:
        return rules.issuperset(_rules((tree,)))

    def has_words(tree: Tree) -> bool:
        return has_rules(tree) and words.issuperset(logical_form(tree, COGS_LIKE_LEXICON).split())

    return has_rules, has_words


def _alone() -> Iterator[Tree]:
    """The words that stand alone in training."""
    exposed = {held.word for held in HELD_OUT_USES.values() if held.shown is not None}
    lexicon = COGS_LIKE_LEXICON.without(exposed)
    for name in lexicon.names:
        yield word_tree("Name", name)
    for noun in sorted(lexicon.nouns):
        yield word_tree("N", noun)
    for verb in lexicon.verbs_of((*CONSTRUCTIONS["V"].kinds, "transitive")):
        yield word_tree("V", verb.base)


def _exposures(count: int, seed: int, taken: set[str]) -> Iterator[Tree]:
    """Sentences with each of the words that training shows in one use."""
    wishes = {
        held.word: held.wish(held.shown)
        for held in HELD_OUT_USES.values()
        if held.shown is not None
    }
    for word, wish in wishes.items():
        yield from _sentences(f"exposure of {word}", wish, count, seed, taken)


def _sentences(
    name: str,
    wish: Wish,
    count: int,
    seed: int,
    taken: set[str],
    is_known: Callable[[Tree], bool] = lambda tree: True,
) -> list[Tree]:
    """`count` sentences that are not `taken`, which they then are, and that `is_known` lets in."""
    draw = random.Random(f"{seed} {name}").random
    found: list[Tree] = []
    for _ in range(count * _TRIES):
        if len(found) == count:
            break
        tree = draw_sentence(draw, _USUAL, wish)
        sentence = words_of(tree)
        if sentence not in taken and is_known(tree):
            taken.add(sentence)
            found.append(tree)
    if len(found) < count:
        raise ValueError(
            f"{name}: of {count} sentences only {len(found)} were found that are new and whose "
            "words and rules occur in training: make train larger, or ask for fewer."
        )
    return found


def _rules(trees: Iterable[Tree]) -> Iterator[Rule]:
    """The rules that make the trees, those that make words of parts of speech included."""
    for tree in trees:
        for node in subtrees(tree):
            if node.children:
                yield node.label, tuple(child.label for child in node.children)


def _pairs(trees: Iterable[Tree]) -> tuple[Pair, ...]:
    return tuple(Pair(words_of(tree), logical_form(tree, COGS_LIKE_LEXICON)) for tree in trees)
