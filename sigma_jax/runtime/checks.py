"""Checks of a reply: what a machine can tell of it, as values that go to JSON and back."""

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .._check import require_in
from .reply_words import comparable, declines, stands_in

_STEP = re.compile(r"^[ \t]{0,8}(\d{1,3})[.)][ \t]+\S", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """Something that holds of a reply or not. The kinds are its subclasses."""

    kind: ClassVar[str]

    def passes(self, reply: str) -> bool:
        """Whether it holds of the reply."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """What `check_from_json` reads: the kind, and every argument that is not its default."""
        given: dict[str, Any] = {"kind": self.kind}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                given[field.name] = _plain(value)
        return given


@dataclass(frozen=True)
class Contains(Check):
    """Every value of `all` stands in the reply, and one of `any` if there are some.

    Case, runs of spaces and the form of apostrophes do not matter. A value stands as a word of its
    own: "48" is neither in "480" nor in "4.48". Numbers up to twenty may be words, and thousands
    may be grouped.

    **Raises** `ValueError` without a value, or for an empty one.
    """

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    kind: ClassVar[str] = "contains"

    def __post_init__(self) -> None:
        if not self.any + self.all:
            raise ValueError("any or all of a contains check must hold a value.")
        _require_texts("any", self.any)
        _require_texts("all", self.all)

    def passes(self, reply: str) -> bool:
        text = comparable(reply)
        some = not self.any or any(stands_in(value, text) for value in self.any)
        return some and all(stands_in(value, text) for value in self.all)


@dataclass(frozen=True)
class Forbids(Check):
    """None of the words stands in the reply, by the rules of `Contains`.

    **Raises** `ValueError` without a word, or for an empty one.
    """

    words: tuple[str, ...]
    kind: ClassVar[str] = "forbids"

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("words of a forbids check must hold a word.")
        _require_texts("words", self.words)

    def passes(self, reply: str) -> bool:
        text = comparable(reply)
        return not any(stands_in(word, text) for word in self.words)


@dataclass(frozen=True)
class Matches(Check):
    """The regular expression is found in the reply. That it ends soon is its author's care.

    **Raises** `ValueError` for a pattern that is no regular expression.
    """

    pattern: str
    kind: ClassVar[str] = "matches"

    def __post_init__(self) -> None:
        _compiled(self.pattern)

    def passes(self, reply: str) -> bool:
        return _compiled(self.pattern).search(reply) is not None


@dataclass(frozen=True)
class MostWords(Check):
    """The reply has at most so many words, as split at white space."""

    words: int
    kind: ClassVar[str] = "most_words"

    def __post_init__(self) -> None:
        require_in("words", self.words, 0)

    def passes(self, reply: str) -> bool:
        return len(reply.split()) <= self.words


@dataclass(frozen=True)
class LeastWords(Check):
    """The reply has at least so many words, as split at white space."""

    words: int
    kind: ClassVar[str] = "least_words"

    def __post_init__(self) -> None:
        require_in("words", self.words, 1)

    def passes(self, reply: str) -> bool:
        return len(reply.split()) >= self.words


@dataclass(frozen=True)
class Refuses(Check):
    """The reply declines, or says that it does not know: one of a list of English phrases."""

    kind: ClassVar[str] = "refuses"

    def passes(self, reply: str) -> bool:
        return declines(reply)


@dataclass(frozen=True)
class IsJSON(Check):
    """From its first brace to its last the reply is a JSON object that has all the keys."""

    keys: tuple[str, ...] = ()
    kind: ClassVar[str] = "is_json"

    def passes(self, reply: str) -> bool:
        try:
            found = json.loads(reply[reply.find("{") : reply.rfind("}") + 1])
        except (ValueError, RecursionError):
            return False
        return isinstance(found, dict) and all(key in found for key in self.keys)


@dataclass(frozen=True)
class ListsSteps(Check):
    """The reply has lines numbered 1, 2, 3 and so on, from `least` to `most` of them.

    **Raises** `ValueError` unless 1 ≤ least ≤ most.
    """

    least: int
    most: int
    kind: ClassVar[str] = "lists_steps"

    def __post_init__(self) -> None:
        require_in("least", self.least, 1)
        require_in("most", self.most, self.least)

    def passes(self, reply: str) -> bool:
        numbers = [int(number) for number in _STEP.findall(reply)]
        in_order = numbers == list(range(1, len(numbers) + 1))
        return in_order and self.least <= len(numbers) <= self.most


@dataclass(frozen=True)
class AllOf(Check):
    """Every one of the checks holds."""

    checks: tuple[Check, ...]
    kind: ClassVar[str] = "all_of"

    def passes(self, reply: str) -> bool:
        return all(check.passes(reply) for check in self.checks)


@dataclass(frozen=True)
class AnyOf(Check):
    """At least one of the checks holds."""

    checks: tuple[Check, ...]
    kind: ClassVar[str] = "any_of"

    def passes(self, reply: str) -> bool:
        return any(check.passes(reply) for check in self.checks)


@dataclass(frozen=True)
class Not(Check):
    """The check does not hold."""

    check: Check
    kind: ClassVar[str] = "not"

    def passes(self, reply: str) -> bool:
        return not self.check.passes(reply)


_KINDS: dict[str, type[Check]] = {
    kind.kind: kind
    for kind in (
        *(Contains, Forbids, Matches, MostWords, LeastWords, Refuses, IsJSON, ListsSteps),
        *(AllOf, AnyOf, Not),
    )
}


@dataclass(frozen=True)
class Constraint:
    """Something that every reply is to keep: the words that ask for it, and how to tell.

    **Arguments:** `name`; `text`, as the model is told it; `check`, or None where no machine can
    tell; `hard`, whether a reply that breaks it is to be asked for again.

    **Raises** `ValueError` for an empty name or text.
    """

    name: str
    text: str
    check: Check | None
    hard: bool = True

    def __post_init__(self) -> None:
        for field in ("name", "text"):
            if not getattr(self, field).strip():
                raise ValueError(f"{field} of a constraint must not be empty.")


def violations(constraints: Iterable[Constraint], reply: str) -> tuple[bool, ...]:
    """Which of the constraints the reply breaks, in order. One without a check is never broken."""
    return tuple(
        constraint.check is not None and not constraint.check.passes(reply)
        for constraint in constraints
    )


def check_from_json(given: Any) -> Check:
    """The check that a mapping of `Check.to_json`'s form describes.

    **Raises** `ValueError` naming a kind that there is not, or an argument that is missing,
    unknown or of another type.
    """
    if not isinstance(given, Mapping) or given.get("kind") not in _KINDS:
        raise ValueError(
            f"a check needs a kind among {', '.join(sorted(_KINDS))}; got {_shown(given)}."
        )
    kind = _KINDS[given["kind"]]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(given) - set(fields) - {"kind"})
    if unknown:
        raise ValueError(
            f"a check of kind {kind.kind!r} has no {unknown[0]!r}; it has {', '.join(fields)}."
        )
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if name in given:
            arguments[name] = _argument(kind.kind, name, field.type, given[name])
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"a check of kind {kind.kind!r} needs {name!r}.")
    return kind(**arguments)


def _argument(kind: str, name: str, wanted: Any, value: Any) -> Any:
    if wanted is Check:
        return check_from_json(value)
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if wanted is str and isinstance(value, str):
        return value
    if wanted not in (int, str) and isinstance(value, list):
        if wanted == tuple[Check, ...]:
            return tuple(check_from_json(each) for each in value)
        if all(isinstance(each, str) for each in value):
            return tuple(value)
    what = {int: "a whole number", str: "a text"}.get(wanted, "a list of texts or checks")
    raise ValueError(f"{name} of a check of kind {kind!r} must be {what}; got {_shown(value)}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Check):
        return value.to_json()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _require_texts(name: str, values: tuple[str, ...]) -> None:
    if not all(isinstance(value, str) and comparable(value).strip() for value in values):
        raise ValueError(f"{name} of a check must hold texts that are not empty; got {values!r}.")


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}.") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
