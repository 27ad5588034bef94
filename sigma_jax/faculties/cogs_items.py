"""Sentences of the COGS-like language by labelled type, easy to hard, with examples to go by."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..grammars import CogsLike, Pair, cogs_like_splits, subtrees
from .drawing import is_asked

_TRAINED = 2_000  # sentences, enough for all words and rules of the tests
_LEXICAL = frozenset({"Det", "N", "Name", "P", "V"})


class ItemType(NamedTuple):
    """A kind of sentence, and how it differs from what the examples show."""

    name: str
    description: str
    """What an agent is told that is to predict how well it will do."""
    generalisations: tuple[str, ...]
    """The generalisation types of COGS that it draws on, in turn; none for familiar sentences."""
    structure: float
    """As `Key.structure`: 0 for what is familiar, more where more of the structure is needed."""


FAMILIAR = ItemType("familiar", "sentences of the same kinds as the examples", (), 0.0)
"""The in-distribution control."""

ITEM_TYPES = (
    ItemType(
        "noun_in_new_role",
        "sentences with a noun that the example has as the subject and the sentence has as the "
        "object, or the other way round",
        ("subj_to_obj_common", "subj_to_obj_proper", "obj_to_subj_common", "obj_to_subj_proper"),
        0.5,
    ),
    ItemType(
        "verb_in_new_construction",
        "sentences with a verb that the example has without an object, or with its two objects in "
        "another order",
        (
            "obj_omitted_transitive_to_transitive",
            "unacc_to_transitive",
            "do_dative_to_pp_dative",
            "pp_dative_to_do_dative",
        ),
        1.0,
    ),
    ItemType(
        "new_passive",
        "passive sentences with a verb that the example has in the active voice",
        ("active_to_passive",),
        1.0,
    ),
    ItemType(
        "phrase_in_subject",
        "sentences whose subject has a prepositional phrase, where the examples have such phrases "
        "in objects only",
        ("obj_pp_to_subj_pp",),
        1.5,
    ),
    ItemType(
        "deeper_recursion",
        "sentences with three to twelve clauses or prepositional phrases within each other, where "
        "the examples have two at most",
        ("cp_recursion", "pp_recursion"),
        2.0,
    ),
)
"""Five types, from new words in known places to new structures.

They follow the five of the paper's design (noun phrases, verb phrases, recursion, passives,
prepositional phrases), whose test sentences were never labelled with them."""


class CogsItems(NamedTuple):
    """Items by type, and what they are asked with."""

    items: dict[str, tuple[Pair, ...]]
    """By the name of the type, `FAMILIAR` included."""
    train: tuple[Pair, ...]
    """What examples are taken from: nothing in it has what the types hold out."""
    examples: tuple[Pair, ...]
    """The shortest training sentences that have all structures of the training set together."""

    def shown_with(self, item: Pair) -> tuple[Pair, ...]:
        """The examples, and the training sentence with the item's rarest word, if it is another.

        That word is the one held out, where there is one: without having seen it in its other use
        nobody could know what it is.
        """
        counts = _word_counts(self.train)
        rarest = min(item.source.split(), key=lambda word: counts[word])
        extra = next(pair for pair in self.train if rarest in pair.source.split())
        return self.examples if extra in self.examples else (*self.examples, extra)


@lru_cache(maxsize=2)
def cogs_items(seed: int, size: int) -> CogsItems:
    """`size` different items of each type, drawn from the rules for a seed."""
    splits = cogs_like_splits(
        train=_TRAINED, dev=0, test=8 * size + 100, generalisation=size, seed=seed
    )
    familiar = [pair for pair in splits.test if is_asked(pair.source)]
    items = {FAMILIAR.name: tuple(familiar[:size])}
    for kind in ITEM_TYPES:
        pools = [splits.generalisation[name] for name in kind.generalisations]
        items[kind.name] = tuple(pools[at % len(pools)][at // len(pools)] for at in range(size))
    return CogsItems(items, splits.train, _examples(splits.train))


def metacognition_pairs(seed: int, count: int) -> tuple[Pair, ...]:
    """What a learner is trained on before H-MCB asks it: about `count` sentences, and more.

    None of them is ever asked, at any seed. With them come the single words and, for each held-out
    word, about sixteen sentences in the one use that is not asked about.

    **Raises** `ValueError` for a count too small to have all words and rules.
    """
    splits = cogs_like_splits(
        train=5 * count // 4, dev=0, test=0, generalisation=1, exposures=20, seed=seed
    )
    return tuple(pair for pair in splits.train if not is_asked(pair.source))


def _examples(train: Sequence[Pair]) -> tuple[Pair, ...]:
    found: list[Pair] = []
    seen: set[tuple[str, ...]] = set()
    sentences = (pair for pair in train if len(pair.source.split()) > 1)
    for pair in sorted(sentences, key=lambda pair: (len(pair.source.split()), pair)):
        rules = set(_rules(pair))
        if not rules <= seen:
            seen |= rules
            found.append(pair)
    return tuple(found)


def _rules(pair: Pair) -> Iterator[tuple[str, ...]]:
    """The rules of its structure, those that make single words left out."""
    for node in subtrees(CogsLike().tree(pair.source)):
        if node.children and node.label not in _LEXICAL:
            yield node.label, *(child.label for child in node.children)


@lru_cache(maxsize=4)
def _word_counts(train: tuple[Pair, ...]) -> Counter[str]:
    return Counter(word for pair in train for word in pair.source.split())
