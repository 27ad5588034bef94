"""What is done about a conversation that strays: a ladder of corrections, budgets and receipts.

Before a turn, `plan_turn` looks at the statistics of the last one and takes the lowest step that
answers them: nothing; a reminder of the constraints that were broken; the identity again, without
the replies that were not its own; a window rebuilt from facts. Beside the ladder, memories that
precede alarms are quarantined, and a reply that has become always the same is asked for in another
form. Everything is a pure function of what was measured, so a replay does the same.
"""

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._check import require_in

VARIATIONS = (
    "Begin differently from your last replies.",
    "Use other words and another order than in your last replies.",
    "Say it in another form than in your last replies.",
)


class Level(enum.IntEnum):
    """The steps of the ladder."""

    NONE = 0
    """Nothing is added to the prompt."""
    REMIND = 1
    """The constraints in question stand before the user's words."""
    RESTATE = 2
    """The whole identity does, and replies that are not its own leave the window."""
    REBUILD = 3
    """The window is begun anew from facts and the user's last words."""


@dataclass(frozen=True)
class ControlPolicy:
    """What may be done, and how often.

    **Arguments:** `observe_only`, plan and record, and change nothing; `remind_for`, turns that a
    reminder stays after its constraint was broken; `regenerations`, further replies asked for in a
    turn whose reply breaks a hard constraint or is none; `regenerated_share`, how large a share of
    the turns may be regenerated, two always; `patience`, turns of alarm before the window is
    rebuilt; `cooldown`, turns before it is rebuilt again; `quarantine_after`, alarms that a memory
    precedes before it is left out, for `quarantine_for` turns.

    **Raises** `ValueError` for a number out of range.
    """

    observe_only: bool = False
    remind_for: int = 20
    regenerations: int = 1
    regenerated_share: float = 0.5
    patience: int = 5
    cooldown: int = 10
    quarantine_after: int = 3
    quarantine_for: int = 20

    def __post_init__(self) -> None:
        for name in ("remind_for", "regenerations", "cooldown", "quarantine_for"):
            require_in(name, getattr(self, name), 0)
        for name in ("patience", "quarantine_after"):
            require_in(name, getattr(self, name), 1)
        require_in("regenerations", self.regenerations, 0, 2)
        require_in("regenerated_share", self.regenerated_share, 0.0, 1.0)


class ControlState(NamedTuple):
    """What the ladder remembers from turn to turn."""

    turns: int = 0
    regenerated: int = 0
    """Turns that were."""
    alarm_turns: int = 0
    """On end, until now."""
    rest: int = 0
    """Turns until the window may be rebuilt again."""
    reminded: tuple[tuple[str, int], ...] = ()
    """Constraints, and how many turns each is still reminded of; in order of names."""
    suspects: tuple[tuple[int, int], ...] = ()
    """Memories, and how many alarms each preceded; in order."""
    quarantined: tuple[tuple[int, int], ...] = ()
    """Memories, and how many turns each is still left out; in order."""

    def to_json(self) -> list[Any]:
        """What `control_from_json` reads."""
        return [list(each) if isinstance(each, tuple) else each for each in self]


def control_from_json(given: list[Any]) -> ControlState:
    """The state of `ControlState.to_json`, as it was."""
    tables = [tuple((key, value) for key, value in table) for table in given[4:]]
    return ControlState(*given[:4], *tables)


class Signals(NamedTuple):
    """What the last turn showed."""

    warned: bool = False
    alarmed: bool = False
    """By the style, the content, or a constraint that is broken too often."""
    began: bool = False
    """The alarm did, in that turn."""
    crystallised: bool = False
    violated: tuple[str, ...] = ()
    """Names of the constraints that its reply broke."""
    memories: tuple[int, ...] = ()
    """That stood in its prompt."""


class Plan(NamedTuple):
    """What is done in a turn, and why. As JSON, with what it cost, it is the turn's receipt."""

    level: Level
    reminded: tuple[str, ...]
    """Names of constraints."""
    variation: str
    """A wish for another form, or nothing."""
    may_regenerate: int
    """How often."""
    quarantined: tuple[int, ...]
    """Memories that are left out."""
    reasons: tuple[str, ...]
    applied: bool
    """False: observed only."""


def plan_turn(
    policy: ControlPolicy, state: ControlState, signals: Signals
) -> tuple[Plan, ControlState]:
    """What to do in the next turn, and the state after it is planned.

    `after_turn` then tells the state whether a reply was regenerated.
    """
    alarm_turns = state.alarm_turns + 1 if signals.alarmed else 0
    reminded = _reminders(policy, state, signals)
    suspects, quarantined = _quarantine(policy, state, signals)
    level, reasons = Level.NONE, []
    if reminded:
        level = Level.REMIND
        reasons.append("broken lately: " + ", ".join(name for name, _ in reminded))
    if signals.warned and not signals.alarmed:
        level = max(level, Level.REMIND)
        reasons.append("a statistic is past half its threshold")
    if signals.alarmed:
        level = Level.RESTATE
        reasons.append(f"in alarm, turn {alarm_turns} of it")
    if alarm_turns >= policy.patience and state.rest == 0:
        level = Level.REBUILD
        reasons.append("the alarm lasts")
    if signals.crystallised:
        reasons.append("replies have become alike")
    variation = VARIATIONS[state.turns % len(VARIATIONS)] if signals.crystallised else ""
    allowed = 2 + int(policy.regenerated_share * state.turns)
    plan = Plan(
        level=level,
        reminded=tuple(name for name, _ in reminded),
        variation=variation,
        may_regenerate=policy.regenerations if state.regenerated < allowed else 0,
        quarantined=tuple(memory for memory, _ in quarantined),
        reasons=tuple(reasons),
        applied=not policy.observe_only,
    )
    rebuilt = level is Level.REBUILD
    return plan, state._replace(
        turns=state.turns + 1,
        alarm_turns=0 if rebuilt else alarm_turns,
        rest=policy.cooldown if rebuilt else max(state.rest - 1, 0),
        reminded=reminded,
        suspects=suspects,
        quarantined=quarantined,
    )


def after_turn(state: ControlState, regenerated: bool) -> ControlState:
    """The state after a turn whose reply was, or was not, asked for again."""
    return state._replace(regenerated=state.regenerated + bool(regenerated))


def in_force(plan: Plan) -> Plan:
    """The plan as it is carried out: nothing at all where it is only observed."""
    if plan.applied:
        return plan
    return Plan(Level.NONE, (), "", 0, (), plan.reasons, False)


def reminder_text(
    plan: Plan, constraints: dict[str, str], identity_text: str, motifs: tuple[str, ...]
) -> str:
    """What stands before the user's words, given the constraints' wordings by name."""
    if plan.level >= Level.RESTATE:
        parts = [identity_text]
    else:
        parts = [constraints[name] for name in plan.reminded]
    if plan.level >= Level.REMIND and motifs:
        parts.append("Keep to: " + ", ".join(motifs) + ".")
    if plan.variation:
        parts.append(plan.variation)
    return "\n".join(parts)


def _reminders(
    policy: ControlPolicy, state: ControlState, signals: Signals
) -> tuple[tuple[str, int], ...]:
    left = {name: turns - 1 for name, turns in state.reminded if turns > 1}
    if policy.remind_for:
        left |= dict.fromkeys(signals.violated, policy.remind_for)
    return tuple(sorted(left.items()))


def _quarantine(
    policy: ControlPolicy, state: ControlState, signals: Signals
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """Suspects and quarantined after a turn; one that is quarantined is suspected no longer."""
    counts = dict(state.suspects)
    if signals.began:
        for memory in signals.memories:
            counts[memory] = counts.get(memory, 0) + 1
    left = {memory: turns - 1 for memory, turns in state.quarantined if turns > 1}
    if policy.quarantine_for:
        guilty = [memory for memory, count in counts.items() if count >= policy.quarantine_after]
        left |= dict.fromkeys(guilty, policy.quarantine_for)
        counts = {memory: count for memory, count in counts.items() if memory not in left}
    return tuple(sorted(counts.items())), tuple(sorted(left.items()))
