"""Small invented languages: a part of SCAN with its words replaced, so that nobody knows them."""

from collections.abc import Mapping
from typing import NamedTuple

from ..grammars import Pair, interpret_scan
from .drawing import Draws

LINES = 10
"""Of a message; as many as there are rules, and lessons."""
OPTIONS = 4

_VERBS = ("walk", "look", "run", "jump")
_DIRECTIONS = ("left", "right")
_TIMES = ("twice", "thrice")
_CONNECTIVES = ("and", "after")
_INVENTED = (
    "blick",
    "dax",
    "fep",
    "gazzer",
    "hobu",
    "jibe",
    "kiki",
    "lompa",
    "morl",
    "nizo",
    "plin",
    "quob",
    "snerk",
    "tufa",
    "vobe",
    "wif",
    "yemp",
    "zup",
    "zorch",
)
_KINDS = {"verb": _VERBS, "direction": _DIRECTIONS, "times": _TIMES, "order": _CONNECTIVES}


class Language(NamedTuple):
    """An invented language with its lessons and its rules."""

    name: str
    words: Mapping[str, str]
    """The invented word for each word of SCAN that is used."""
    connective: str
    """Which of SCAN's two is the language's only one."""
    lessons: tuple[Pair, ...]
    """Ten short sentences with their actions, in which all words and constructions occur."""
    rules: Mapping[str, str]
    """A statement in words for each word of SCAN, and one for "order of words": ten."""

    def translate(self, command: str) -> str:
        """A command of SCAN in the words of the language."""
        return " ".join(self.words[word] for word in command.split())


class Item(NamedTuple):
    """A sentence that is longer than all lessons, and four meanings that it may have."""

    source: str
    right: str
    options: tuple[str, ...]
    """In random order."""
    kind: str
    """One of the two kinds of words that the options differ in."""
    rule: str
    """A rule about the first word of this kind; it tells the right option from two others."""


def invented_language(name: str) -> Language:
    """The language of this name; another name is another language.

    Which invented word stands for which is drawn, as is whether its connective is "and" or "after":
    without a lesson or a message all that is known about a sentence is equally likely of four
    meanings of `Item`.
    """
    draws = Draws(f"language {name}", 0)
    connective = draws.choose(_CONNECTIVES)
    used: tuple[str, ...] = (*_VERBS, *_DIRECTIONS, *_TIMES, connective)
    words: dict[str, str] = dict(zip(used, draws.chosen(_INVENTED, len(used)), strict=True))
    language = Language(name, words, connective, (), _rules(words, connective))
    lessons = [Pair(language.translate(c), interpret_scan(c)) for c in _lessons(draws, connective)]
    return language._replace(lessons=tuple(draws.shuffled(lessons)))


def language_items(language: Language, count: int) -> tuple[Item, ...]:
    """`count` different items, all with two clauses of a verb, a direction and a number.

    The three wrong meanings are those that the sentence would have if two kinds of words (verbs,
    directions, numbers, the order of clauses) were exchanged, one, the other, or both. Each of the
    four is as near to the others as any, and none is more likely by itself.

    **Raises** `ValueError` for more than there are, 192.
    """
    draws = Draws(f"items {language.name}", 0)
    commands = [
        f"{one} {one_way} {one_times} {language.connective} {two} {two_way} {two_times}"
        for one in _VERBS
        for two in _VERBS
        if one != two
        for one_way in _DIRECTIONS
        for two_way in _DIRECTIONS
        for one_times in _TIMES
        for two_times in _TIMES
    ]
    return tuple(_item(draws, language, command) for command in draws.chosen(commands, count))


def _item(draws: Draws, language: Language, command: str) -> Item:
    options: list[str] = []
    first = second = ""
    # Two exchanges may come to the same: that of verbs and that of clauses, if all else is equal.
    while len(set(options)) < OPTIONS:
        first, second = draws.chosen(tuple(_KINDS), 2)
        commands = [command, _exchanged(command, first)]
        commands += [_exchanged(other, second) for other in commands]
        options = [interpret_scan(other) for other in commands]
    kind = draws.choose((first, second))
    word = next(word for word in command.split() if word in _KINDS[kind])
    return Item(
        source=language.translate(command),
        right=options[0],
        options=tuple(draws.shuffled(options)),
        kind=kind,
        rule=language.rules[word],
    )


def _exchanged(command: str, kind: str) -> str:
    """The command with the two words of a kind exchanged for each other; of verbs, those it has."""
    words = command.split()
    one, other = [word for word in words if word in _VERBS] if kind == "verb" else _KINDS[kind]
    exchange = {one: other, other: one}
    return " ".join(exchange.get(word, word) for word in words)


def _lessons(draws: Draws, connective: str) -> list[str]:
    """Ten commands of at most four words, with every word among them."""
    verbs = draws.shuffled(_VERBS)
    ways, times = draws.shuffled(_DIRECTIONS), draws.shuffled(_TIMES)
    any_verb = [draws.choose(_VERBS) for _ in range(5)]
    return [
        *verbs,
        *(f"{verb} {way}" for verb, way in zip(any_verb[:2], ways, strict=True)),
        *(f"{verb} {time}" for verb, time in zip(any_verb[2:4], times, strict=True)),
        f"{verbs[0]} {connective} {verbs[1]}",
        f"{any_verb[4]} {draws.choose(_DIRECTIONS)} {draws.choose(_TIMES)}",
    ]


def _rules(words: Mapping[str, str], connective: str) -> dict[str, str]:
    order = "first" if connective == "and" else "last"
    rules = {verb: f'"{words[verb]}" means {interpret_scan(verb)}.' for verb in _VERBS}
    rules |= {
        way: f'"{words[way]}" behind such a word puts {interpret_scan(f"turn {way}")} before it.'
        for way in _DIRECTIONS
    }
    rules |= {
        time: f'"{words[time]}" means that its clause is done {number} times.'
        for time, number in zip(_TIMES, ("two", "three"), strict=True)
    }
    rules[connective] = f'"{words[connective]}" joins two clauses; the first is done {order}.'
    rules["order of words"] = "A clause is a word for an action, then a direction, then a number."
    return rules
