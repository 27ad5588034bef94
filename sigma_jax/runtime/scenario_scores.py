"""Marks for a scripted conversation: recall by lag, abstention, violations, consistency, phases."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .checks import Refuses, violations
from .reply_words import comparable, stands_in
from .scenario import PHASES, Scenario, ScenarioTurn

LAG_BINS = ((1, 20), (21, 40), (41, 80), (81, 120), (121, 200))
"""The lags that are counted together, both ends included."""
_ASKING = ("recall", "paraphrase", "claim", "identity", "abstain")


class Tally(NamedTuple):
    """How many of how many."""

    right: int
    asked: int

    @property
    def share(self) -> float | None:
        """None where nothing was asked."""
        return self.right / self.asked if self.asked else None


class LagTally(NamedTuple):
    """What was recalled of what was last said so many turns before."""

    least: int
    most: int
    tally: Tally


@dataclass(frozen=True)
class ScenarioScore:
    """The marks of one conversation."""

    recall: Tally
    """Values that were asked for and stated."""
    recall_by_lag: tuple[LagTally, ...]
    """In the bins of `LAG_BINS`."""
    abstention: Tally
    """Questions without an answer at which the model said that it does not know."""
    abstention_precision: Tally
    """Times that it said so, and how many of them were at questions without an answer."""
    consistency: Tally
    """Pairs of paraphrases with the same answer, or none both times."""
    claims: Tally
    """False claims that were set right."""
    violated_turns: Tally
    """Turns with a constraint in force that were a violation of at least one."""
    violations: tuple[tuple[str, Tally], ...]
    """For each constraint the turns that broke it, of those in which it was in force."""
    phases: tuple[tuple[str, Tally], ...]
    """For each phase the checks that passed, those of constraints in force among them."""

    @property
    def violations_per_100_turns(self) -> float:
        """Broken constraints, all together, per hundred turns with one in force."""
        broken = sum(tally.right for _, tally in self.violations)
        return 100 * broken / max(self.violated_turns.asked, 1)


def score_reply(turn: ScenarioTurn, reply: str) -> tuple[bool, ...]:
    """Which of the turn's checks the reply passes, in order."""
    return tuple(check.passes(reply) for check in turn.checks)


def score_scenario(scenario: Scenario, replies: Sequence[str]) -> ScenarioScore:
    """The marks of a conversation that followed the scenario.

    **Arguments:** `replies`, one a turn from the first on, "" where there was none.

    **Raises** `ValueError` for more replies than turns.
    """
    if len(replies) > len(scenario.turns):
        raise ValueError(
            f"replies must be at most as many as turns, {len(scenario.turns)}; got {len(replies)}."
        )
    marked = [_marked(scenario, t, r) for t, r in zip(scenario.turns, replies, strict=False)]
    recalls = [each for each in marked if each.turn.kind == "recall"]
    return ScenarioScore(
        recall=_tally(each.passed for each in recalls),
        recall_by_lag=tuple(
            LagTally(a, b, _tally(each.passed for each in recalls if a <= each.turn.lag <= b))
            for a, b in LAG_BINS
        ),
        abstention=_tally(each.abstains for each in marked if each.turn.kind == "abstain"),
        abstention_precision=_tally(
            each.turn.kind == "abstain"
            for each in marked
            if each.turn.kind in _ASKING and each.abstains
        ),
        consistency=_tally(_consistent(marked)),
        claims=_tally(each.passed for each in marked if each.turn.kind == "claim"),
        violated_turns=_tally(
            any(broken for _, broken in each.broken) for each in marked if each.broken
        ),
        violations=tuple(
            (
                constraint.name,
                _tally(b for each in marked for name, b in each.broken if name == constraint.name),
            )
            for constraint in scenario.constraints
        ),
        phases=tuple(
            (
                phase,
                _tally(
                    good
                    for each in marked
                    if each.turn.phase == phase
                    for good in (*each.checks, *(not broken for _, broken in each.broken))
                ),
            )
            for phase in PHASES
        ),
    )


class _Marked(NamedTuple):
    turn: ScenarioTurn
    checks: tuple[bool, ...]
    broken: tuple[tuple[str, bool], ...]
    abstains: bool
    answer: str | None

    @property
    def passed(self) -> bool:
        return all(self.checks)


def _marked(scenario: Scenario, turn: ScenarioTurn, reply: str) -> _Marked:
    constraints = scenario.in_force(turn.number)
    broken = violations(constraints, reply)
    return _Marked(
        turn,
        score_reply(turn, reply),
        tuple((each.name, b) for each, b in zip(constraints, broken, strict=True)),
        Refuses().passes(reply),
        _answer(scenario, turn, reply),
    )


def _answer(scenario: Scenario, turn: ScenarioTurn, reply: str) -> str | None:
    """The values of the turn's slot that the reply names; None without any."""
    if turn.kind != "paraphrase":
        return None
    slot, text = scenario.slot(turn.slot), comparable(reply)
    named = [value for value in (*slot.values, *slot.decoys) if stands_in(value, text)]
    return " ".join(named) or None


def _consistent(marked: Sequence[_Marked]) -> list[bool]:
    answers: dict[int, list[str | None]] = {}
    for each in marked:
        if each.turn.pair:
            answers.setdefault(each.turn.pair, []).append(each.answer)
    return [first == second for first, second in (a for a in answers.values() if len(a) == 2)]


def _tally(outcomes: Iterable[bool]) -> Tally:
    given = list(outcomes)
    return Tally(sum(given), len(given))
