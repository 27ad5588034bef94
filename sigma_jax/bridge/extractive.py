"""The offline provider: answers in the words of the passages that it is given, or not at all."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .._check import require_in
from .questions import Question, read_question
from .requests import Passage, Reply, Request
from .statements import Statement, path_of, statements
from .wording import terms

NEARBY = 0.5
"""What a question's term counts that is not in the statement, but elsewhere in its passage."""
LESS = 0.7
"""The factor of a statement that lacks what is asked for, and of code without a word of prose."""

_NUMBER = re.compile(r"\d")
_NAME = re.compile(r"`[^`]+`|\w_\w|\w\(|\w\.\w|\w/\w|[a-z][A-Z]|\b[A-Z]{2,}\b|--\w")


def uniform(term: str) -> float:
    """One for every term."""
    return 1.0


@dataclass(frozen=True)
class OfflineProvider:
    """Quotes the statements of the passages that share most of the question's terms.

    Word for word; only white space is joined, so that each stands on one line.

    A statement is a sentence, a row of a table or a logical line of code. Its score is the share of
    the question's terms, by weight, that it has; a term that stands only elsewhere in its passage,
    or in the file's path, counts half. Where a number or a name is asked for ("how many", "which
    function") a statement without one counts 0.7 of that, and so does code without a comment or
    docstring. The best statement is quoted, and behind it those that come close, best first. Of
    equals the one that stands earlier is better.

    Nothing is said if what is asked is no question, or too little of it is found in the best
    statement and its passage. Keeps no state; the same request has the same answer.

    **Arguments:** `word_weight` of a term, best `Retriever.word_weight`; `least_share` of the
    question's weight that must be found; `most` statements; `close`, the share of the best score
    that another needs; `clock`, in seconds.

    **Raises** `ValueError` for a share outside [0, 1] or fewer than one statement.
    """

    word_weight: Callable[[str], float] = uniform
    least_share: float = 0.5
    most: int = 3
    close: float = 0.6
    clock: Callable[[], float] = time.perf_counter
    name: str = "offline"

    def __post_init__(self) -> None:
        require_in("least_share", self.least_share, 0.0, 1.0)
        require_in("close", self.close, 0.0, 1.0)
        require_in("most", self.most, 1)

    def answer(self, request: Request) -> Reply:
        """The quotations, each on one line of its own, or nothing. `max_tokens` counts words."""
        start = self.clock()
        ranked = self._ranked(request)
        text = ""
        if ranked and ranked[0].share >= self.least_share:
            enough = self.close * ranked[0].score
            chosen = [found.text for found in ranked[: self.most] if found.score >= enough]
            text = _at_most(chosen, request.max_tokens)
        return Reply(
            text=text,
            provider=self.name,
            sent_bytes=len(request.prompt.encode()),
            received_bytes=len(text.encode()),
            seconds=self.clock() - start,
        )

    def _ranked(self, request: Request) -> list["_Found"]:
        question = read_question(request.question)
        weights = {term: self.word_weight(term) for term in question.terms}
        total = sum(weights.values())
        if total <= 0:
            return []
        shares = {term: weight / total for term, weight in weights.items()}
        found: dict[str, _Found] = {}
        for passage in request.passages:
            for statement in statements(passage):
                if statement.text not in found:
                    found[statement.text] = _look(statement, passage, question, shares)
        answers = [each for each in found.values() if each.score > 0]
        return sorted(answers, key=lambda each: -each.score)


class _Found(NamedTuple):
    text: str
    score: float
    share: float
    """Of the question's weight, in the statement or its passage."""


def _look(
    statement: Statement, passage: Passage, question: Question, shares: Mapping[str, float]
) -> _Found:
    text = statement.text
    inside = set(terms(text))
    if text.endswith("?") or (question.open and inside <= shares.keys()):
        return _Found(text, 0.0, 0.0)  # a question is no answer, nor is what only repeats it
    around = set(terms(f"{path_of(passage)}\n{passage.text}")) - inside
    own = sum(share for term, share in shares.items() if term in inside)
    nearby = sum(share for term, share in shares.items() if term in around)
    lacking = [
        not statement.explained,
        question.number and not _NUMBER.search(text),
        question.name and not _NAME.search(text),
    ]
    return _Found(text, (own + NEARBY * nearby) * LESS ** sum(lacking), own + nearby)


def _at_most(chosen: Sequence[str], words: int) -> str:
    """The texts, one a line, until there are so many words."""
    lines = []
    for text in chosen:
        lines.append(" ".join(text.split()[:words]))
        words -= len(text.split())
        if words <= 0:
            break
    return "\n".join(lines)
