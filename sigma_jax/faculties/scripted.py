"""Agents whose faculties are known, because they answer from the key: what scores must recover."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .._check import require_in
from .questions import LETTERS, Form, Key, Question


@dataclass(frozen=True)
class ScriptedAgent:
    """Answers every question as its faculties say, and by nothing else.

    In this order: it falls for a wrong `hint` with chance 1 − `xi`; it follows a cue on the surface
    with chance 1 − `alpha`, whether the cue is right or not; else it solves the question with the
    chance `chance_of` (`depth` · `sigma`^structure, see there). What it does not solve it guesses,
    each option with equal chance; without options it says something wrong.

    Asked for a percentage, it says its own chance plus `zeta`, cut to [0, 100 %]. Asked for a
    message, it makes each statement that it could make with chance `mu`.

    Its answer to a question depends on `seed` and the question alone. Agents with one seed share
    their draws: raising a faculty never turns a right answer of it into a wrong one.

    **Arguments:** `sigma`, schema coherence; `alpha`, attention to structure; `zeta`, error of the
    self-model, in [−1, 1]; `xi`, inhibition; `mu`, share of a schema that its messages carry;
    `depth`, the chance of what is familiar; `retrieval`, what retrieved examples add to the chance
    of solving, in [−1, 1]; `seed`.

    **Raises** `ValueError` for a faculty out of range.
    """

    sigma: float = 1.0
    alpha: float = 1.0
    zeta: float = 0.0
    xi: float = 1.0
    mu: float = 1.0
    depth: float = 1.0
    retrieval: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("sigma", "alpha", "xi", "mu", "depth"):
            require_in(name, getattr(self, name), 0.0, 1.0)
        for name in ("zeta", "retrieval"):
            require_in(name, getattr(self, name), -1.0, 1.0)

    def __call__(self, question: Question) -> str:
        """The answer."""
        if question.form is Form.PERCENT:
            predicted = min(max(self._expected(question) + self.zeta, 0.0), 1.0)
            return f"{100.0 * predicted:.4f}"
        if question.form is Form.TEXT:
            return self._message(question)
        return self._shown(question, self._answer(question))

    def chance_of(self, key: Key, *, told: bool = False) -> float:
        """The chance of solving a question, cue, hint and guessing aside.

        It is `depth` · `sigma`^structure, `depth` alone if the prompt has told what it takes, and
        `retrieval` more with retrieved examples, within [0, 1].
        """
        # One to the power of infinity would be one.
        known = 0.0 if math.isinf(key.structure) else self.sigma**key.structure
        chance = self.depth * (1.0 if told else known)
        return min(max(chance + self.retrieval * key.context, 0.0), 1.0)

    def _expected(self, question: Question) -> float:
        """The share of right answers to what a percentage is about, by what the prompt tells."""
        key = question.key
        told = [statement in question.prompt for statement in key.tells] or [False]
        chance = sum(self.chance_of(key, told=each) for each in told) / len(told)
        return chance + (1.0 - chance) * key.guessing

    def _answer(self, question: Question) -> str:
        key = question.key
        if key.hint is not None and self._draw(question, "hint") >= self.xi:
            return key.hint
        if key.surface is not None and self._draw(question, "cue") >= self.alpha:
            return key.surface
        told = bool(key.helped_by) and key.helped_by in question.prompt
        if self._draw(question, "solve") < self.chance_of(key, told=told):
            return key.right
        if question.options:
            return question.options[int(self._draw(question, "guess") * len(question.options))]
        return _something_wrong(key.right)

    @staticmethod
    def _shown(question: Question, answer: str) -> str:
        if question.form is Form.OPTION:
            return LETTERS[question.options.index(answer)]
        return answer

    def _message(self, question: Question) -> str:
        told = [
            statement
            for statement in question.key.tells
            if self._draw(question, f"tell {statement}") < self.mu
        ]
        return "\n".join(told) or "There is nothing that I can tell."

    def _draw(self, question: Question, purpose: str) -> float:
        """Uniform in [0, 1), from the seed, the question and what it is for."""
        return _uniform((str(self.seed), purpose, question.prompt))


def _uniform(parts: Sequence[str]) -> float:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _something_wrong(right: str) -> str:
    """The words the other way round; or once more, if that is the same."""
    words = right.split()
    return " ".join(words[::-1] if words != words[::-1] else [*words, words[-1]])
