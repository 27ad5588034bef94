"""A benchmark, and how an agent is measured by it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .._check import require_in
from .agents import Agent
from .asking import Outcome, ask
from .questions import Form, Question, as_sentence
from .scores import Score


class Benchmark(NamedTuple):
    """Questions, and what the answers to them say of one faculty."""

    name: str
    """Such as "h_ptb"."""
    faculty: str
    """What it estimates, as `ScriptedAgent` calls it."""
    confound: str
    """What it must not be mistaken for, as `ScriptedAgent` calls it."""
    questions: Callable[[int, int], tuple[Question, ...]]
    """From a seed and the number of items a cell."""
    score: Callable[[Sequence[Outcome]], Score]
    """Of all outcomes, those of later rounds included."""
    next_round: Callable[[Sequence[Outcome]], tuple[Question, ...]] | None = None
    """Further questions, which depend on the answers so far; asked until there are none."""


class Measurement(NamedTuple):
    """A score and the outcomes that it is from."""

    score: Score
    outcomes: tuple[Outcome, ...]


def measure(
    benchmark: Benchmark,
    agent: Agent,
    *,
    seed: int = 0,
    size: int = 40,
    options: bool = True,
    seconds: float = 60.0,
    most_late: int = 4,
    progress: Callable[[int], None] | None = None,
) -> Measurement:
    """Ask an agent all questions of a benchmark and score what it says.

    **Arguments:** `seed` and `size`, items a cell, of the questions; `options`, whether choices are
    offered as such, or, as to learners that only say sentences, as questions for the sentence;
    `seconds`, `most_late` and `progress` as of `ask`, which starts anew at every round.

    **Raises** `ValueError` for a number out of range.
    """
    require_in("size", size, 1)
    outcomes: tuple[Outcome, ...] = ()
    questions = benchmark.questions(seed, size)
    while questions:
        if not options:
            questions = tuple(
                as_sentence(question) if question.form is Form.OPTION else question
                for question in questions
            )
        outcomes += ask(agent, questions, seconds=seconds, most_late=most_late, progress=progress)
        questions = () if benchmark.next_round is None else benchmark.next_round(outcomes)
    return Measurement(benchmark.score(outcomes), outcomes)
