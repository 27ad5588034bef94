"""What an agent's reply says: one answer, none, several, or nothing that can be read."""

import enum
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from .questions import LETTERS, Form, Question


class Ending(enum.Enum):
    """How a question ended. Only what was answered can be right or wrong."""

    ANSWERED = "answered"
    DECLINED = "declined"
    """The agent says that it cannot answer it: `CannotAnswer`."""
    RAISED = "raised"
    """The agent raised another error."""
    EMPTY = "empty"
    """The agent said nothing."""
    SEVERAL = "several answers"
    """Two or more different answers, or two best scores."""
    UNREADABLE = "unreadable"
    """None of the options, no number where one was asked for, or not of the agreed types."""
    TOO_LATE = "too late"
    """Nothing came within the time."""
    NOT_ASKED = "not asked"
    """Too many calls were still running, all too late."""


class Reading(NamedTuple):
    """A reply as it was read."""

    ending: Ending
    answer: str = ""
    """The option's text, the words, the number or the message; empty unless answered."""
    why: str = ""
    """What was wrong, unless answered."""


_MARKED = re.compile(
    r"^\W*(?:the\s+)?(?:final\s+|correct\s+)?answer(?:\s+is)?[\s*_`]*[:=][\s*_`]*(.*?)[\s*_`]*$",
    re.IGNORECASE | re.MULTILINE,
)
_NAMED = re.compile(r"\(([A-Z])\)|\b([A-Z])\)|\b[Oo]ption ([A-Z])\b")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def read_reply(question: Question, reply: object) -> Reading:
    """Read a reply, of whatever type it is; this never raises.

    A text may say its answer on a line of its own behind "Answer:"; two such lines that differ are
    two answers. Otherwise the whole text is read. An option may be given by its letter, alone, in
    brackets or behind "option", or by its words. A sentence without "Answer:" must be one line.
    """
    if isinstance(reply, str):
        return _read_text(question, reply)
    if not isinstance(reply, Sequence) and not hasattr(reply, "__array__"):
        return Reading(Ending.UNREADABLE, why=f"a reply of type {type(reply).__name__}")
    return _read_list(question, reply)


def _read_list(question: Question, reply) -> Reading:
    try:
        given = [each if isinstance(each, str) else float(each) for each in reply]
    except (TypeError, ValueError, OverflowError):
        return Reading(Ending.UNREADABLE, why="a list of neither texts nor numbers")
    if not given:
        return Reading(Ending.EMPTY, why="an empty list")
    texts = [each for each in given if isinstance(each, str)]
    scores = [each for each in given if isinstance(each, float)]
    if not scores:
        return _one_of([_read_text(question, text) for text in texts])
    if texts:
        return Reading(Ending.UNREADABLE, why="a list of texts and numbers")
    if question.form is not Form.OPTION:
        return Reading(Ending.UNREADABLE, why="scores for a question without options")
    if len(scores) != len(question.options):
        why = f"{len(scores)} scores for {len(question.options)} options"
        return Reading(Ending.UNREADABLE, why=why)
    if any(math.isnan(score) for score in scores):
        return Reading(Ending.UNREADABLE, why="a score that is NaN")
    best = [at for at, score in enumerate(scores) if score == max(scores)]
    if len(best) > 1:
        return Reading(Ending.SEVERAL, why=f"{len(best)} options with the best score")
    return Reading(Ending.ANSWERED, question.options[best[0]])


def _one_of(readings: list[Reading]) -> Reading:
    """The answer that all readings agree in; those that say nothing do not count against it."""
    spoken = [one for one in readings if one.ending is not Ending.EMPTY] or readings[:1]
    failed = next((one for one in spoken if one.ending is not Ending.ANSWERED), None)
    if failed is not None:
        return failed
    if len({one.answer for one in spoken}) > 1:
        return Reading(Ending.SEVERAL, why=f"{len({one.answer for one in spoken})} answers")
    return spoken[0]


def _read_text(question: Question, text: str) -> Reading:
    if not text.strip():
        return Reading(Ending.EMPTY, why="no text")
    if question.form is Form.TEXT:
        return Reading(Ending.ANSWERED, text.strip())
    read = {Form.OPTION: _option, Form.SENTENCE: _sentence, Form.PERCENT: _percent}[question.form]
    marked = [line for line in _MARKED.findall(text) if line.strip()]
    return _one_of([read(question, line) for line in marked or [text]])


def _option(question: Question, text: str) -> Reading:
    plain = _plain(text)
    letters = dict(zip(LETTERS, question.options, strict=False))
    options = {_plain(option): option for option in question.options}
    if plain in options:
        return Reading(Ending.ANSWERED, options[plain])
    alone = plain.strip("().: ").upper()
    if alone in letters:
        return Reading(Ending.ANSWERED, letters[alone])
    named = {next(filter(None, found)) for found in _NAMED.findall(text)} & set(letters)
    chosen = {letters[name] for name in named}
    rest = f" {plain} "
    # The longest first: an option that is part of another was not named where the other was.
    for words in sorted(options, key=len, reverse=True):
        if re.search(rf"(?<!\S){re.escape(words)}(?![^\s.,;:!?\"')])", rest):
            chosen.add(options[words])
            rest = rest.replace(words, "\0")
    if not chosen:
        return Reading(Ending.UNREADABLE, why=f"none of the options: {text[:80]!r}")
    if len(chosen) > 1:
        return Reading(Ending.SEVERAL, why=f"{len(chosen)} of the options")
    return Reading(Ending.ANSWERED, chosen.pop())


def _sentence(question: Question, text: str) -> Reading:
    lines = {_plain(line) for line in text.splitlines() if line.strip()}
    if len(lines) > 1:
        return Reading(Ending.SEVERAL, why=f"{len(lines)} different lines")
    return Reading(Ending.ANSWERED, lines.pop())


def _percent(question: Question, text: str) -> Reading:
    numbers = {float(number) for number in _NUMBER.findall(text)}
    if not numbers:
        return Reading(Ending.UNREADABLE, why=f"no number: {text[:80]!r}")
    if len(numbers) > 1:
        return Reading(Ending.SEVERAL, why=f"{len(numbers)} different numbers")
    number = numbers.pop()
    if not 0.0 <= number <= 100.0:
        return Reading(Ending.UNREADABLE, why=f"{number:g} is not from 0 to 100")
    return Reading(Ending.ANSWERED, f"{number:g}")


def _plain(text: str) -> str:
    return " ".join(text.split())
