"""Agents: whatever answers questions."""

from collections.abc import Callable, Sequence
from typing import Protocol

from .questions import Question


class Agent(Protocol):
    """Answers a question with a text, or, where it has options, with one score for each of them.

    Any function of a question is one. It may raise `CannotAnswer`. Whatever else it does, `ask`
    counts.
    """

    def __call__(self, question: Question, /) -> str | Sequence[float]:
        """The answer, from what the agent is shown of the question."""
        ...


class CannotAnswer(Exception):
    """An agent says that a question is none that it can answer, such as for an unknown word."""


def text_agent(answer: Callable[[str], str]) -> Agent:
    """An agent that reads prompts and writes texts; of a question it is shown the prompt alone."""
    return lambda question: answer(question.prompt)


def scoring_agent(scores: Callable[[str, tuple[str, ...]], Sequence[float]]) -> Agent:
    """An agent that gives each option of a prompt a score, such as its log-likelihood.

    It cannot answer a question without options.
    """

    def agent(question: Question) -> Sequence[float]:
        if not question.options:
            raise CannotAnswer("the question has no options to give scores to")
        return scores(question.prompt, question.options)

    return agent


def source_agent(answer: Callable[[str], str]) -> Agent:
    """An agent that is given the grammar's sentence alone, as a learner of the grammar is.

    It cannot answer a question that is not about a sentence.
    """

    def agent(question: Question) -> str:
        if not question.key.source:
            raise CannotAnswer("the question is not about a sentence of the grammar")
        return answer(question.key.source)

    return agent
