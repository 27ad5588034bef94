"""What an agent is asked, in which form it answers, and what only the scoring knows."""

import enum
import string
from collections.abc import Sequence
from typing import NamedTuple

from .._check import require_in


class Form(enum.Enum):
    """What an answer looks like."""

    OPTION = "option"
    """One of the question's options: its text, its letter, or a score for each of them."""
    SENTENCE = "sentence"
    """Words, held against the right ones exactly, white space aside."""
    PERCENT = "percent"
    """A number from 0 to 100."""
    TEXT = "text"
    """Anything at all, such as a message for another agent."""


class Key(NamedTuple):
    """What scoring knows of a question, and what scripted agents are built on.

    A text agent is never shown it. A learner that has no use for a prompt answers `source`.
    """

    cell: str
    """The condition of the design, such as "conflict"."""
    right: str = ""
    """The right answer; empty where there is none, as for a message or a percentage."""
    surface: str | None = None
    """The answer that a cue on the surface suggests, right or wrong; None without a cue."""
    hint: str | None = None
    """A wrong answer that the prompt proposes in words; None without one."""
    source: str = ""
    """The sentence of the grammar that is asked about."""
    item_type: str = ""
    """The kind of item within its cell, such as "pp_recursion"."""
    group: str = ""
    """Of questions that belong together, such as those of one item or one message: its name."""
    structure: float = 0.0
    """How much of the structure must be known: 0 for what is familiar, 1 for a new combination.

    Infinite for what nobody knows who was not told. A `ScriptedAgent` solves it with chance
    depth · σ^structure."""
    context: bool = False
    """Whether the prompt shows retrieved examples."""
    helped_by: str = ""
    """A statement; in a prompt that holds it, the question takes depth alone. Empty: there is none.
    """
    tells: tuple[str, ...] = ()
    """For a message: the statements that it could make. For a percentage of questions that a
    message may help with: the statement of each."""
    guessing: float = 0.0
    """For a percentage: the chance of guessing right what is not solved."""


class Question(NamedTuple):
    """One question.

    Build it by `sentence_question`, `option_question` and so on, which check it.
    """

    prompt: str
    """All that a text agent reads, options included."""
    form: Form
    key: Key
    options: tuple[str, ...] = ()
    """For `Form.OPTION`: two or more different answers, one of them right."""


LETTERS = string.ascii_uppercase
"""The names of options, in their order."""


def sentence_question(prompt: str, key: Key) -> Question:
    """A question that is answered in words. **Raises** `ValueError` if its key has none."""
    _require_prompt(prompt)
    if not key.right.strip():
        raise ValueError(f"key.right must not be empty for a sentence; got {key!r}.")
    return Question(prompt, Form.SENTENCE, key)


def option_question(prompt: str, options: Sequence[str], key: Key) -> Question:
    """A choice; the prompt as shown ends with the options, each behind its letter.

    **Raises** `ValueError` for fewer than two options, two equal ones, more than 26, or if the
    right answer is not among them, or the cue's, or the hint.
    """
    _require_prompt(prompt)
    options = tuple(options)
    require_in("the number of options", len(options), 2, len(LETTERS))
    if len({" ".join(option.split()) for option in options}) != len(options):
        raise ValueError(f"options must be different; got {options}.")
    for name, answer in (("right", key.right), ("surface", key.surface), ("hint", key.hint)):
        if answer is not None and answer not in options:
            raise ValueError(f"key.{name} is {answer!r}, none of the options {options}.")
    return Question(prompt + _shown(options), Form.OPTION, key, options)


def as_sentence(question: Question) -> Question:
    """A choice as a question for the right option's words, its options no longer shown.

    **Raises** `ValueError` if it is not one of `option_question`.
    """
    shown = _shown(question.options)
    if question.form is not Form.OPTION or not question.prompt.endswith(shown):
        raise ValueError(f"question must be a choice that shows its options; got {question!r}.")
    prompt = question.prompt.removesuffix(shown)
    return sentence_question(f"{prompt}\nAnswer with it alone, on one line.", question.key)


def _shown(options: Sequence[str]) -> str:
    lines = "\n".join(f"{name}) {option}" for name, option in zip(LETTERS, options, strict=False))
    return f"\n{lines}\nAnswer with the letter of one option."


def percent_question(prompt: str, key: Key) -> Question:
    """A question for a number from 0 to 100."""
    _require_prompt(prompt)
    return Question(prompt, Form.PERCENT, key)


def text_question(prompt: str, key: Key) -> Question:
    """A question for a text that no one scores, such as a message to another agent."""
    _require_prompt(prompt)
    return Question(prompt, Form.TEXT, key)


def _require_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise ValueError(f"prompt must not be empty; got {prompt!r}.")
