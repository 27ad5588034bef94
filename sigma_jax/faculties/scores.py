"""Scores from shares of right answers: estimates, intervals, and when there is none."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .asking import Calls, Outcome, count_calls, count_endings

Shares = Mapping[str, "Float[np.ndarray, ' draws'] | float"]
"""By cell of the design, the share of answers that are right, or many draws of it."""
Statistic = Callable[[Shares], "Float[np.ndarray, ' draws'] | float"]
"""A number from shares; it works element by element, so that draws go through it."""

DRAWS = 4_000
"""How often `interval_of` draws."""


class Tally(NamedTuple):
    """What became of the questions of one cell."""

    hits: int
    answered: int
    asked: int

    @property
    def share(self) -> float:
        """Of the answered ones, how many are hits; NaN without an answer."""
        return self.hits / self.answered if self.answered else math.nan


class Interval(NamedTuple):
    """An estimate, its two-sided 95 % interval, and from how many answers it is."""

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Score:
    """What a benchmark says of an agent; failures are counted beside it, not as wrong answers."""

    benchmark: str
    faculty: str
    """What is estimated, as `ScriptedAgent` calls it."""
    estimate: float | None
    """None: not measured, `why` says why."""
    low: float | None
    high: float | None
    n: int
    """Answered questions."""
    asked: int
    parts: Mapping[str, Interval]
    """Other numbers of the design; those that could not be measured are left out."""
    endings: Mapping[str, int]
    """How many questions ended in which way."""
    calls: Calls
    falsified_by: str
    """The result that would tell against the benchmark's hypothesis."""
    reading: str = ""
    """The class or the warning that the numbers lead to."""
    why: str = ""
    """Why there is no estimate; empty if there is one."""

    @property
    def measured(self) -> bool:
        """Whether there is an estimate."""
        return self.estimate is not None


def tally(
    outcomes: Iterable[Outcome],
    *,
    cell: Callable[[Outcome], str] = lambda outcome: outcome.question.key.cell,
    hit: Callable[[Outcome], bool] = lambda outcome: outcome.right,
) -> dict[str, Tally]:
    """Count hits, answers and questions by cell; only an answer can be a hit."""
    counts: dict[str, list[int]] = {}
    for outcome in outcomes:
        count = counts.setdefault(cell(outcome), [0, 0, 0])
        count[0] += outcome.answered and hit(outcome)
        count[1] += outcome.answered
        count[2] += 1
    return {name: Tally(*count) for name, count in counts.items()}


def unanswered(tallies: Mapping[str, Tally], cells: Iterable[str]) -> str:
    """Which cells have fewer than half of their questions answered, in words; empty if none."""
    empty = Tally(0, 0, 0)
    few = [
        f"{name}: {count.answered} of {count.asked}"
        for name, count in ((name, tallies.get(name, empty)) for name in cells)
        if count.answered == 0 or 2 * count.answered < count.asked
    ]
    return f"fewer than half answered, {', '.join(few)}" if few else ""


def interval_of(
    tallies: Mapping[str, Tally],
    cells: Sequence[str],
    statistic: Statistic,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    worth: Mapping[str, float] | None = None,
) -> Interval:
    """The statistic of the cells' shares, and its interval, both cut to `bounds`.

    The interval is the middle 95 % of the statistic under draws of every share from its confidence
    distribution by Wilson: the share that k hits of n answers are z standard errors below, for a
    normal z. For one share this is Wilson's interval, for a difference it is close to Newcombe's.
    Cells are taken to be independent. The draws are the same at every call.

    **Arguments:** `worth`, by cell, how many independent answers one answer tells as much as; 1
    unless said otherwise, less where answers come in clusters.

    **Raises** `ValueError` for a cell without an answer.

    Source: Wilson (1927); Newcombe (1998), Statistics in Medicine 17, 873–890.
    """
    for name in cells:
        if name not in tallies or not tallies[name].answered:
            raise ValueError(f"the cell {name!r} has no answer; there are {dict(tallies)}.")
    normal = np.random.default_rng(0).standard_normal((len(cells), DRAWS))
    worth = worth or {}
    draws = {
        name: _wilson(tallies[name], z, worth.get(name, 1.0))
        for name, z in zip(cells, normal, strict=True)
    }
    drawn = np.clip(np.asarray(statistic(draws), float), *bounds)
    estimate = statistic({name: tallies[name].share for name in cells})
    estimate = float(np.clip(estimate, *bounds))
    low, high = np.quantile(drawn, [0.025, 0.975])
    n = sum(tallies[name].answered for name in cells)
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), n)


def _wilson(
    tally: Tally, z: Float[np.ndarray, " draws"], worth: float
) -> Float[np.ndarray, " draws"]:
    hits, n = worth * tally.hits, worth * tally.answered
    spread = np.sqrt(hits * (n - hits) / n + z**2 / 4.0)
    return (hits + z**2 / 2.0 + z * spread) / (n + z**2)


def ratio(above, below):
    """`above` / `below`, element by element, where `below` is a share freed of guessing.

    That may fall to 0 or under it by chance; it is then taken as a billionth.
    """
    return np.asarray(above, float) / np.maximum(below, 1e-9)


def without_guessing(share, options: int):
    """The share of answers that are known, if what is not known is guessed among the options.

    It is (share − 1/options) / (1 − 1/options), and `share` itself without options (0). A constant
    answer to options in random order comes to 0.
    """
    chance = 1.0 / options if options else 0.0
    return (share - chance) / (1.0 - chance)


def make_score(
    benchmark: str,
    faculty: str,
    outcomes: Sequence[Outcome],
    *,
    estimate: Interval | None,
    parts: Mapping[str, Interval],
    falsified_by: str,
    reading: str = "",
    why: str = "",
) -> Score:
    """Put a score together from its numbers and what asking came to.

    **Raises** `ValueError` if there is neither an estimate nor a reason, or both.
    """
    if (estimate is None) != bool(why):
        raise ValueError(f"give an estimate or why there is none; got {estimate} and {why!r}.")
    low, high = (None, None) if estimate is None else (estimate.low, estimate.high)
    return Score(
        benchmark=benchmark,
        faculty=faculty,
        estimate=None if estimate is None else estimate.estimate,
        low=low,
        high=high,
        n=sum(outcome.answered for outcome in outcomes),
        asked=len(outcomes),
        parts=dict(parts),
        endings=count_endings(outcomes),
        calls=count_calls(outcomes),
        falsified_by=falsified_by,
        reading=reading,
        why=why,
    )
