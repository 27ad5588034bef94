"""The words of a COGS-like language: which there are, and what constructions a verb takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

VERB_KINDS = (
    "transitive",
    "omissible",
    "unaccusative",
    "unergative",
    "dative",
    "clausal",
    "controlling",
)
"""see (the cake); eat (the cake); roll (the ball, or by itself, as what is moved); sleep; give;
say (that); want (to)."""


class CogsVerb(NamedTuple):
    """A verb's base ("give"), past ("gave") and participle ("given"), and its `VERB_KINDS`."""

    base: str
    past: str
    participle: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class CogsLexicon:
    """The words of the language.

    **Arguments:** `names`, of persons; `animate` and `inanimate`, common nouns; `places`, for
    each preposition the common nouns that `sample` puts after it.

    **Raises** `ValueError` for a verb's kind that there is not, or for a form of two verbs.
    """

    names: tuple[str, ...]
    animate: tuple[str, ...]
    inanimate: tuple[str, ...]
    places: Mapping[str, tuple[str, ...]]
    verbs: tuple[CogsVerb, ...]

    def __post_init__(self) -> None:
        for verb in self.verbs:
            for kind in verb.kinds:
                if kind not in VERB_KINDS:
                    raise ValueError(
                        f"verbs: {kind!r}, of {verb.base!r}, is none of {', '.join(VERB_KINDS)}."
                    )
        for form in ("base", "past", "participle"):
            if len({getattr(verb, form) for verb in self.verbs}) < len(self.verbs):
                raise ValueError(f"verbs: two of them have one {form}.")

    @cached_property
    def by_base(self) -> Mapping[str, CogsVerb]:
        """The verb that has this base."""
        return {verb.base: verb for verb in self.verbs}

    @cached_property
    def by_past(self) -> Mapping[str, CogsVerb]:
        """The verb that has this past."""
        return {verb.past: verb for verb in self.verbs}

    @cached_property
    def by_participle(self) -> Mapping[str, CogsVerb]:
        """The verb that has this participle."""
        return {verb.participle: verb for verb in self.verbs}

    @cached_property
    def nouns(self) -> frozenset[str]:
        """All common nouns."""
        placed = (noun for nouns in self.places.values() for noun in nouns)
        return frozenset((*self.animate, *self.inanimate, *placed))

    def verbs_of(self, kinds: Iterable[str]) -> tuple[CogsVerb, ...]:
        """The verbs of any of these kinds, in the lexicon's order."""
        wanted = set(kinds)
        return tuple(verb for verb in self.verbs if wanted & set(verb.kinds))

    def lacking(self) -> tuple[str, ...]:
        """What a sentence may need and the lexicon has none of, in words."""
        needed = {
            "names": self.names,
            "animate nouns": self.animate,
            "inanimate nouns": self.inanimate,
            "places": self.places,
            **{f"places after {word}": nouns for word, nouns in self.places.items()},
            **{f"{kind} verbs": self.verbs_of((kind,)) for kind in VERB_KINDS},
        }
        return tuple(name for name, words in needed.items() if not words)

    def without(self, words: Iterable[str]) -> "CogsLexicon":
        """The lexicon without these nouns, names, and verbs (by their base)."""
        dropped = set(words)

        def kept(nouns: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(noun for noun in nouns if noun not in dropped)

        return CogsLexicon(
            names=kept(self.names),
            animate=kept(self.animate),
            inanimate=kept(self.inanimate),
            places={word: kept(nouns) for word, nouns in self.places.items()},
            verbs=tuple(verb for verb in self.verbs if verb.base not in dropped),
        )


def _verbs(kind: str, forms: str) -> tuple[CogsVerb, ...]:
    """From "eat ate eaten, bake", where a single form is the base of a verb in -ed."""
    verbs = []
    for entry in forms.split(", "):
        base, *irregular = entry.split()
        regular = f"{base.removesuffix('e')}ed"
        past, participle = irregular or (regular, regular)
        verbs.append(CogsVerb(base, past, participle, (kind,)))
    return tuple(verbs)


COGS_LIKE_LEXICON = CogsLexicon(
    names=(
        *("Emma", "Liam", "Olivia", "Noah", "Ava", "William", "Sophia", "James", "Mia", "Lucas"),
        *("Harper", "Henry", "Lina", "Charlie", "Paula"),
    ),
    animate=(
        *("girl", "boy", "cat", "dog", "teacher", "doctor", "queen", "sailor", "bear", "mouse"),
        *("child", "guest", "hedgehog", "cockroach", "shark", "cobra", "hippo"),
    ),
    inanimate=(
        *("cake", "ball", "book", "rose", "cookie", "melon", "ring", "hammer", "bottle", "shoe"),
        *("pen", "drink"),
    ),
    places={
        "in": ("house", "box", "car", "room", "garden", "bag"),
        "on": ("table", "bed", "shelf", "chair", "boat", "road"),
        "beside": ("tree", "stage", "stove", "lamp", "table", "house"),
    },
    verbs=(
        *_verbs("transitive", "help, see saw seen, like, hold held held, find found found, touch"),
        *_verbs("transitive", "admire, hear heard heard, bless, squeeze"),
        *_verbs("omissible", "eat ate eaten, cook, paint, draw drew drawn, clean, hunt, bake"),
        *_verbs("unaccusative", "roll, freeze froze frozen, break broke broken, burn, float"),
        *_verbs("unaccusative", "grow grew grown, shatter"),
        *_verbs("unergative", "sleep slept slept, run ran run, laugh, smile, dance, walk, crawl"),
        *_verbs("dative", "give gave given, send sent sent, lend lent lent, sell sold sold, offer"),
        *_verbs("dative", "hand, teleport, ship shipped shipped"),
        *_verbs("clausal", "say said said, think thought thought, hope, believe, claim"),
        *_verbs("controlling", "want, need, try tried tried, attempt"),
    ),
)
"""The words of `CogsLike` unless others are given; the held-out ones are those of COGS."""
