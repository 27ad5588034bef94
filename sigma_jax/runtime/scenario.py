"""A scripted conversation whose every turn a machine can mark."""

import functools
import importlib.resources
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .checks import Check, Constraint, check_from_json
from .identity import Identity

PHASES = "ABCDEFG"
"""Identity and facts, the task, pressure, memory, paraphrases, boundaries, the end."""
TURN_KINDS = (
    *("plain", "identity", "fact", "rule", "update", "recall", "abstain", "paraphrase", "claim"),
    *("style_begin", "style", "style_end", "steps", "json", "injection", "boundary", "probe"),
)
"""What a turn is for. A claim is a false one; a probe tempts to break a constraint."""
_ABOUT_SLOTS = ("fact", "update", "recall", "paraphrase", "claim", "identity")
_PLACES = ("start", "end", "last")
_WORDS = re.compile(r"\w+")


class Slot(NamedTuple):
    """A fact of the conversation."""

    name: str
    statement: str
    """With `{value}` in it."""
    values: tuple[str, ...]
    """As the user says them, the later ones in place of the earlier."""
    decoys: tuple[str, ...] = ()
    """Plausible and never said."""
    answer: str = ""
    """How a reply says it; empty: by the statement."""


class Habit(NamedTuple):
    """How a simulated model keeps a constraint, or breaks it: words that it adds."""

    constraint: str
    place: str
    """`start`: before the reply. `end`: after its sentences. `last`: a line behind everything."""
    reach: float
    """τ: the tokens over which the request fades."""
    kept: tuple[str, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True)
class ScenarioTurn:
    """What the user says, and what is asked of the reply."""

    number: int
    phase: str
    kind: str
    text: str
    checks: tuple[Check, ...] = ()
    slot: str = ""
    value: str = ""
    """What is true of the slot now; of an injection, the word that it wants."""
    lag: int = 0
    """Turns since the slot's value was last said by the user."""
    pair: int = 0
    """Of paraphrases: two turns of the same number ask the same."""
    claimed: str = ""
    style: str = ""
    """That the user asks for, has asked for, or ends."""
    states: str = ""
    """The constraint that this turn introduces."""
    tempts: str = ""
    """The constraint that this turn tempts to break."""
    keys: tuple[tuple[str, str], ...] = ()
    """Of a JSON object: its keys, and the slot of each."""


@dataclass(frozen=True)
class Scenario:
    """A conversation's script: turns, the identity that is to hold, and what there is to know.

    Everything that is asked for in it was said in it before: see `load_scenario`.
    """

    name: str
    identity_name: str
    identity_description: str
    motifs: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    habits: tuple[Habit, ...]
    slots: tuple[Slot, ...]
    calibration_turns: tuple[ScenarioTurn, ...]
    """What a model is asked so that its replies are known, without numbers and checks."""
    turns: tuple[ScenarioTurn, ...]

    @property
    def identity(self) -> Identity:
        """The identity that is to hold, with the constraints."""
        return Identity(
            self.identity_name, self.identity_description, self.constraints, self.motifs
        )

    @property
    def calibration_prompts(self) -> tuple[str, ...]:
        """The words of the calibration's turns."""
        return tuple(turn.text for turn in self.calibration_turns)

    def slot(self, name: str) -> Slot:
        """The slot of that name.

        **Raises** `ValueError` if there is none.
        """
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise ValueError(f"the scenario has no slot {name!r}.")

    def in_force(self, number: int) -> tuple[Constraint, ...]:
        """The constraints that the user has introduced up to a turn, that turn included."""
        stated = {turn.states for turn in self.turns[:number]}
        return tuple(each for each in self.constraints if each.name in stated)


@functools.lru_cache(maxsize=1)
def _packaged() -> Scenario:
    text = (importlib.resources.files("sigma_jax.runtime") / "data/scenario_200.json").read_text(
        encoding="utf-8"
    )
    return _scenario(json.loads(text))


def load_scenario(path: str | Path | None = None) -> Scenario:
    """The scenario in a JSON file; by default the packaged one, of 200 turns in seven phases.

    **Raises** `ValueError` naming the file and what is wrong with it: a field that is missing or
    of another type, turns that are not numbered 1, 2, 3 and so on or repeat a text, phases out of
    order, and names of slots, constraints and kinds that there are not, or a slot asked for before
    it was said.
    """
    if path is None:
        return _packaged()
    try:
        return _scenario(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a scenario: {error}") from None


def words_of(text: str) -> str:
    """The words of a text in lower case, with single spaces between and around them."""
    return f" {' '.join(_WORDS.findall(text.lower()))} "


def _scenario(given: Any) -> Scenario:
    identity = _get(given, "identity", dict, "the scenario")
    constraints = _get(given, "constraints", list, "the scenario")
    scenario = Scenario(
        name=_get(given, "name", str, "the scenario"),
        identity_name=_get(identity, "name", str, "identity"),
        identity_description=_get(identity, "description", str, "identity"),
        motifs=_texts(identity, "motifs", "identity"),
        constraints=tuple(_constraint(each) for each in constraints),
        habits=tuple(_habit(each) for each in constraints),
        slots=tuple(_slot(each) for each in _get(given, "slots", list, "the scenario")),
        calibration_turns=tuple(
            _calibration_turn(each)
            for each in _get(given, "calibration_turns", list, "the scenario")
        ),
        turns=tuple(_turn(each) for each in _get(given, "turns", list, "the scenario")),
    )
    _require_order(scenario)
    _require_names(scenario)
    return scenario


def _constraint(given: Any) -> Constraint:
    name = _get(given, "name", str, "a constraint")
    return Constraint(
        name,
        _get(given, "text", str, f"constraint {name}"),
        check_from_json(_get(given, "check", dict, f"constraint {name}")),
        _get(given, "hard", bool, f"constraint {name}", True),
    )


def _habit(given: Any) -> Habit:
    where = f"constraint {given['name']}"
    habit = Habit(
        given["name"],
        _get(given, "place", str, where),
        float(_get(given, "reach", (int, float), where)),
        _texts(given, "kept", where),
        _texts(given, "broken", where),
    )
    if habit.place not in _PLACES:
        raise ValueError(f"place of {where} must be one of {', '.join(_PLACES)}.")
    if habit.reach <= 0:
        raise ValueError(f"reach of {where} must be positive; got {habit.reach:g}.")
    return habit


def _slot(given: Any) -> Slot:
    name = _get(given, "name", str, "a slot")
    slot = Slot(
        name,
        _get(given, "statement", str, f"slot {name}"),
        _texts(given, "values", f"slot {name}"),
        _texts(given, "decoys", f"slot {name}"),
        _get(given, "answer", str, f"slot {name}", ""),
    )
    if "{value}" not in slot.statement or (slot.answer and "{value}" not in slot.answer):
        raise ValueError(f"statement and answer of slot {name} must have {{value}} in them.")
    return slot


def _turn(given: Any) -> ScenarioTurn:
    number = _get(given, "turn", int, "a turn")
    where = f"turn {number}"
    unknown = sorted(set(given) - {"turn", *ScenarioTurn.__dataclass_fields__} - {"number"})
    if unknown:
        raise ValueError(f"{where} has no field {unknown[0]!r}.")
    keys = _get(given, "keys", dict, where, {})
    return ScenarioTurn(
        number=number,
        checks=tuple(check_from_json(each) for each in _get(given, "checks", list, where)),
        keys=tuple((key, _get(keys, key, str, where)) for key in keys),
        **{name: _get(given, name, str, where) for name in ("phase", "kind", "text")},
        **{
            name: _get(given, name, str, where, "")
            for name in ("slot", "value", "claimed", "style", "states", "tempts")
        },
        **{name: _get(given, name, int, where, 0) for name in ("lag", "pair")},
    )


def _calibration_turn(given: Any) -> ScenarioTurn:
    """A turn of which only its kind and slot matter; a text alone is a plain one."""
    if isinstance(given, str):
        return ScenarioTurn(0, "A", "plain", given)
    where = "a calibration turn"
    texts = {name: _get(given, name, str, where, "") for name in ("slot", "value")}
    return ScenarioTurn(
        0, "A", _get(given, "kind", str, where), _get(given, "text", str, where), **texts
    )


def _require_order(scenario: Scenario) -> None:
    if not scenario.turns:
        raise ValueError("a scenario must have turns.")
    said: dict[str, int] = {}
    last = "A"
    for number, turn in enumerate(scenario.turns, start=1):
        if turn.number != number:
            raise ValueError(f"turn {number} is numbered {turn.number}.")
        if turn.phase not in PHASES or turn.phase < last:
            raise ValueError(f"turn {number} is of phase {turn.phase!r} after {last!r}.")
        if turn.kind not in TURN_KINDS:
            raise ValueError(f"turn {number} is of kind {turn.kind!r}, which there is not.")
        if turn.text in said:
            raise ValueError(f"turn {number} repeats the text of turn {said[turn.text]}.")
        said[turn.text], last = number, turn.phase


def _require_names(scenario: Scenario) -> None:
    slots = {slot.name: slot for slot in scenario.slots}
    constraints = {constraint.name for constraint in scenario.constraints}
    # What the identity's own description says is known from the beginning.
    described = words_of(scenario.identity_description)
    known = {
        slot.name
        for slot in scenario.slots
        if any(words_of(slot.statement.format(value=each)) in described for each in slot.values)
    }
    for turn in scenario.turns:
        where = f"turn {turn.number}"
        for name in (turn.slot, *(slot for _, slot in turn.keys)):
            if name and name not in slots:
                raise ValueError(f"{where} names the slot {name!r}, which there is not.")
        for name in (turn.states, turn.tempts):
            if name and name not in constraints:
                raise ValueError(f"{where} names the constraint {name!r}, which there is not.")
        if turn.kind in _ABOUT_SLOTS and not turn.slot:
            raise ValueError(f"{where}, of kind {turn.kind!r}, needs 'slot'.")
        if turn.kind in ("fact", "update"):
            statement = slots[turn.slot].statement.format(value=turn.value)
            if words_of(statement) not in words_of(turn.text):
                raise ValueError(f"{where} does not say {statement!r}.")
            known.add(turn.slot)
        asked = {turn.slot, *(slot for _, slot in turn.keys)} - {""}
        if asked - known:
            raise ValueError(f"{where} asks for {min(asked - known)!r}, not said before.")


_REQUIRED: Any = object()


def _get(given: Any, name: str, kind: Any, where: str, default: Any = _REQUIRED) -> Any:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must be a JSON object; got {given!r}.")
    value = given.get(name, default)
    if value is _REQUIRED:
        raise ValueError(f"{where} needs {name!r}.")
    wrong_number = isinstance(value, bool) and kind is not bool
    if wrong_number or not isinstance(value, kind):
        raise ValueError(f"{name} of {where} has the value {value!r}, of another type.")
    return value


def _texts(given: Any, name: str, where: str) -> tuple[str, ...]:
    values = _get(given, name, list, where)
    if not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"{name} of {where} must hold texts that are not empty.")
    return tuple(values)
