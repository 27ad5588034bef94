"""What a user has stated, with where it was said and how long it held."""

import enum
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace

_DETERMINERS = re.compile("my|our|the|a|an|this|that|these|those|your|its")
_FRESH = re.compile("new|updated|revised|current|actual|correct|right|final")
_OF = re.compile(r"^(.+?) (?:of|for) (.+)$")


class FactKind(enum.Enum):
    """What sort of statement a fact was."""

    NAME = "name"
    """What someone or something is called."""
    PROPERTY = "property"
    """What something is, has or takes."""
    CHOICE = "choice"
    """What is used for something."""
    PERSON = "person"
    """Where the user lives, works, comes from, and so on."""
    PREFERENCE = "preference"
    """What the user prefers, always does or never does."""
    NOTE = "note"
    """What the user asked to be remembered, in the user's words."""


class Ending(enum.Enum):
    """Why a fact holds no longer."""

    REPEATED = "repeated"
    """The user said the same later, and that statement took its place."""
    UPDATED = "updated"
    """The user said something else later."""
    CORRECTED = "corrected"
    """The user said something else later, and said that it was a change."""
    FORGOTTEN = "forgotten"
    """The user asked for it to be forgotten."""
    REFUSED = "refused"
    """It never held: the user had corrected or withdrawn this very value before, and said it again
    without a word such as "now" or "actually"."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that the user stated.

    **Arguments:** `key`, what it is about, as `fact_key` writes it; `value`, in the user's words;
    `text`, the sentence; `turn` in which it was said, the first in which it holds; `kind`;
    `confidence` in [0, 1] of the rule that found it; `is_correction`, whether the user said that it
    replaces something; `replaces`, the value that it replaces, if the user named it; `valid_to`,
    the turn from which it holds no longer, or None; `ending`, why.
    """

    key: str
    value: str
    text: str
    turn: int
    kind: FactKind = FactKind.PROPERTY
    confidence: float = 1.0
    is_correction: bool = False
    replaces: str | None = None
    valid_to: int | None = None
    ending: Ending | None = None


def fact_key(subject: str) -> str:
    """A subject as facts are compared by it: "the deadline of our project" is "project deadline".

    Small letters, without articles and possessives.
    """
    text = unicodedata.normalize("NFC", subject).lower().replace("’", "'")
    parts = [text]
    while (found := _OF.match(parts[0])) is not None:
        parts = [found[2], found[1], *parts[1:]]
    words = re.findall(r"[^\s,;:!?\"“”()]+", " ".join(parts))
    kept = [re.sub(r"'s?$", "", word).rstrip(".") for word in words]
    return " ".join(word for word in kept if word and not _DETERMINERS.fullmatch(word))


def say_the_same(one: Fact, other: Fact) -> bool:
    """Whether two facts are about the same and give it the same value, in whatever case."""
    return one.key == other.key and _plain(one.value) == _plain(other.value)


def _plain(value: str) -> str:
    """A value as values are compared."""
    text = unicodedata.normalize("NFC", value).lower()
    words = [word.strip(".,;:!?\"'“”‘’()") for word in text.split()]
    return " ".join(word for word in words if word and word not in ("the", "a", "an"))


@dataclass(frozen=True)
class FactBook:
    """All that was ever stated, in order; a new statement ends an old one and never removes it.

    At most one fact of a key holds at a time. A later statement with another value ends it. A value
    that the user corrected, or asked to be forgotten, comes back only by a statement that says so
    ("now", "actually", "correction"): a mere repetition is kept as refused.
    """

    facts: tuple[Fact, ...] = ()

    def current(self) -> tuple[Fact, ...]:
        """What holds now, in order of the turns."""
        return tuple(fact for fact in self.facts if fact.ending is None)

    def history(self, key: str) -> tuple[Fact, ...]:
        """Every fact of a key, in order; the last without an ending holds."""
        return tuple(fact for fact in self.facts if fact.key == key)

    def find(self, subject: str) -> str | None:
        """The key that a user means by `subject`, or None.

        It is the key itself, also without "new" or "current" before it, or else the only one that
        holds and ends with it: "deadline" is "project deadline" as long as there is one deadline.
        """
        key = fact_key(subject)
        words = key.split()
        while words and _FRESH.fullmatch(words[0]):
            words = words[1:]
        bare = " ".join(words)
        if not bare:
            return None
        for known in (key, bare):
            if any(fact.key == known for fact in self.facts):
                return known
        alike = [fact.key for fact in self.current() if fact.key.split()[-len(words) :] == words]
        return alike[0] if len(alike) == 1 else None

    def add(self, facts: Iterable[Fact]) -> "FactBook":
        """The book with `facts` of a later turn.

        **Raises** `ValueError` for a fact of an earlier turn than the last, or one with an ending.
        """
        book = self
        for fact in facts:
            book = book._with(fact)
        return book

    def forget(self, key: str, turn: int) -> "FactBook":
        """The book without anything of `key` that holds. The record stays, marked as forgotten.

        **Raises** `ValueError` for a key that is not in the book.
        """
        if not self.history(key):
            raise ValueError(f"key must be one of the book's, see `find`; got {key!r}.")
        return FactBook(
            tuple(
                _ended(fact, turn, Ending.FORGOTTEN) if fact.key == key else fact
                for fact in self.facts
            )
        )

    def changes(self, before: "FactBook") -> tuple[tuple[int, Fact], ...]:
        """The facts that are new or have ended since `before`, each with its place in the book."""
        return tuple(
            (place, fact)
            for place, fact in enumerate(self.facts)
            if place >= len(before.facts) or before.facts[place] is not fact
        )

    def of_turn(self, turn: int) -> tuple[Fact, ...]:
        """The facts that were stated in a turn."""
        first = bisect_left(self.facts, turn, key=_turn)
        return self.facts[first : bisect_right(self.facts, turn, key=_turn)]

    def _with(self, fact: Fact) -> "FactBook":
        if fact.ending is not None:
            raise ValueError(f"facts must be without an ending when they are added; got {fact}.")
        if self.facts and fact.turn < self.facts[-1].turn:
            raise ValueError(
                f"facts must come in order of their turns; got turn {fact.turn} after "
                f"{self.facts[-1].turn}."
            )
        fact = replace(fact, key=self._key_of(fact))
        value = _plain(fact.value)
        history = [(place, each) for place, each in enumerate(self.facts) if each.key == fact.key]
        held = [(place, each) for place, each in history if each.ending is None]
        is_repeated = any(_plain(each.value) == value for _, each in held)
        if is_repeated and held[0][1].turn == fact.turn:
            return self
        if not is_repeated and not fact.is_correction and _was_withdrawn(value, history):
            return FactBook((*self.facts, _ended(fact, fact.turn, Ending.REFUSED)))
        ending = Ending.CORRECTED if fact.is_correction else Ending.UPDATED
        facts = [*self.facts, fact]
        for place, each in held:
            facts[place] = _ended(each, fact.turn, Ending.REPEATED if is_repeated else ending)
        return FactBook(tuple(facts))

    def _key_of(self, fact: Fact) -> str:
        """The key that a correction is about may be said in fewer words, or only by the value."""
        if not fact.is_correction:
            return fact.key
        if fact.replaces is not None and not self.history(fact.key):
            old = _plain(fact.replaces)
            alike = [each.key for each in self.current() if _plain(each.value) == old]
            if len(alike) == 1:
                return alike[0]
        return self.find(fact.key) or fact.key


def _turn(fact: Fact) -> int:
    return fact.turn


def _ended(fact: Fact, turn: int, ending: Ending) -> Fact:
    return replace(fact, valid_to=turn if fact.valid_to is None else fact.valid_to, ending=ending)


def _was_withdrawn(value: str, history: Iterable[tuple[int, Fact]]) -> bool:
    withdrawn = (Ending.CORRECTED, Ending.FORGOTTEN)
    return any(fact.ending in withdrawn and _plain(fact.value) == value for _, fact in history)
