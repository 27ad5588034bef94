"""Compositional probes: known parts, put together as the training pairs never do."""

from collections.abc import Callable, Iterable
from typing import Literal

from .interface import Grammar, Pair
from .trees import Tree, subtrees

_ROUND = 1_000  # draws between two looks at whether there are enough


def probes(
    grammar: Grammar,
    train: Iterable[Pair],
    count: int,
    seed: int,
    *,
    without: Iterable[Pair] = (),
    allowed: Callable[[str], bool] = lambda source: True,
    parts: Literal["phrases", "words"] = "phrases",
    draws: int = 100_000,
) -> tuple[Pair, ...]:
    """`count` different pairs of the grammar, of parts that occur in `train`, combined newly.

    The sentence of a probe does not occur in `train`, but its parts do. By **phrases** these are
    the subtrees below the topmost node of its tree that branches or is itself a word: all is known
    but how they are put together, which occurs in no longer sentence of `train` either. By
    **words** the sentence may be new anywhere; this is for what a held-out combination lies deep
    in, and for languages whose phrases hardly ever recur, such as one with hundreds of symbols.
    Either way all words are known, and there are several.

    A finite language that a split divides whole has no sentence outside train and test: give as
    `train` what a learner sees after some of it was set aside, and the probes come from there.

    **Arguments:** `without`, pairs that no probe may share a source with, such as a test;
    `allowed`, whether a source may be a probe at all, such as by the rule of a split; `draws`,
    after how many samples of the grammar to give up.

    **Raises** `ValueError` if fewer are found, if `count` is below 1, if `parts` is neither, or if
    a sentence of `train` is not of the grammar (by phrases).
    """
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}.")
    if parts not in ("phrases", "words"):
        raise ValueError(f"parts must be 'phrases' or 'words'; got {parts!r}.")
    train = tuple(train)
    seen = {pair.source for pair in (*train, *without)}
    are_known = _known_words(train)
    is_new = _new_phrase(grammar, train) if parts == "phrases" else lambda source: True
    found: list[Pair] = []
    for start in range(0, draws, _ROUND):
        size = min(_ROUND, draws - start)
        for pair in grammar.sample(size, (seed << 32) + start // _ROUND):
            if pair.source in seen:
                continue
            seen.add(pair.source)
            if allowed(pair.source) and are_known(pair.source) and is_new(pair.source):
                found.append(pair)
                if len(found) == count:
                    return tuple(found)
    raise ValueError(
        f"count is {count}, but {draws} draws from {grammar.name} hold only {len(found)} sentences "
        f"of known {parts} that are new to train: set more of train aside, or ask for fewer."
    )


def _known_words(train: Iterable[Pair]) -> Callable[[str], bool]:
    """Whether a source has several words, all of `train`."""
    known = {word for pair in train for word in pair.source.split()}

    def are_known(source: str) -> bool:
        words = source.split()
        return len(words) > 1 and known.issuperset(words)

    return are_known


def _new_phrase(grammar: Grammar, train: Iterable[Pair]) -> Callable[[str], bool]:
    """Whether a source as a whole is no phrase of `train`, but all below it are."""
    known = {part for pair in train for part in subtrees(grammar.tree(pair.source))}

    def is_new(source: str) -> bool:
        whole = _top(grammar.tree(source), source.split())
        return whole not in known and known.issuperset(whole.children)

    return is_new


def _top(tree: Tree, words: list[str]) -> Tree:
    """The topmost node that combines: it branches, or is itself a word, as a function's name is."""
    while len(tree.children) == 1 and tree.label not in words:
        (tree,) = tree.children
    return tree
