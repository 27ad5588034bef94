"""Logged conversations through the monitor: many at once, and what it says of them as a table."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from .calibration import Calibration, uncalibrated
from .checks import Constraint, violations
from .encoders import Encoder
from .monitor import CHANNELS, Measurement, MonitorParameters
from .phases import Phase
from .replays import replay
from .reply_problems import ReplyProblem, reply_problem
from .style import style_features
from .style_commands import StyleGate, style_gate
from .turn_logs import LoggedConversation, LoggedTurn

_SHORTEST = 16
"""Turns. Conversations are padded to this or to a power of two above it."""

_observe = eqx.filter_jit(Calibration.observe)


class LoggedObservations(NamedTuple):
    """What the monitor sees of the `t` turns of a logged conversation."""

    y: Float[np.ndarray, "t d"]
    present: Bool[np.ndarray, " t"]
    commanded: Float[np.ndarray, " t"]
    violations: Bool[np.ndarray, "t k"]


class ReplayedLog(NamedTuple):
    """A logged conversation with what the monitor saw and said, in arrays `[t, ...]`."""

    conversation: LoggedConversation
    seen: LoggedObservations
    measured: Measurement
    parameters: MonitorParameters
    """Of the monitor, with the limits."""
    constraints: tuple[str, ...]
    """Their names, in order."""


def replay_log(
    conversations: Iterable[LoggedConversation],
    calibration: Calibration | None,
    encoder: Encoder,
    *,
    constraints: Sequence[Constraint] = (),
) -> tuple[ReplayedLog, ...]:
    """What the monitor says of every turn of every conversation.

    It sees what it would see in the loop, and gives the same bits: a style that the user's words
    command, a reply that is empty or in a gap, and which constraints a reply breaks. Only of a
    turn whose reply was asked for again it sees the last reply, as the log has no other.

    Conversations of about equal length are replayed together, with turns that are not present at
    the end of the shorter ones.

    **Arguments:** `calibration`, or None: then only the constraints are watched; `encoder`, with
    which it was calibrated; `constraints`, those of the identity, in order.

    **Raises** `ValueError` if the calibration is of another encoder, or another number of
    constraints.
    """
    conversations = tuple(conversations)
    constraints = tuple(constraints)
    names = tuple(constraint.name for constraint in constraints)
    parameters = _parameters(calibration, encoder, len(constraints))
    seen = [_observations(each, calibration, encoder, constraints) for each in conversations]
    of_length: dict[int, list[int]] = {}
    for place, conversation in enumerate(conversations):
        of_length.setdefault(_padded(len(conversation.turns)), []).append(place)
    measured: dict[int, Measurement] = {}
    for length, places in sorted(of_length.items()):
        parts = zip(*(seen[place] for place in places), strict=True)
        measured_all = replay(parameters, *(_stacked(part, length) for part in parts))
        whole = jax.tree.map(np.asarray, measured_all)
        for row, place in enumerate(places):
            measured[place] = _row(whole, row, len(conversations[place].turns))
    return tuple(
        ReplayedLog(conversation, seen[place], measured[place], parameters, names)
        for place, conversation in enumerate(conversations)
    )


def measurement_table(replayed: Iterable[ReplayedLog]) -> pd.DataFrame:
    """A row a turn. Sums and T² are in units of their limits: above 1 is an alarm.

    The columns: `conversation`, `turn` and `flag` of the log; `missing`, whether there was no reply
    to look at; `commanded`; `phase`, `stability`, `drift_index`, `dispersion`, `alarm`, `warn`;
    per channel `nis_style`, `contrast_style`, `departure_style` and so on, and whether each alarms;
    per constraint whether it was `broken_NAME`, its sum `constraint_NAME` and its alarm.
    """
    tables = [_table(each) for each in replayed]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def log_features(
    conversations: Iterable[LoggedConversation], encoder: Encoder
) -> tuple[Float[np.ndarray, "n 14"], Float[np.ndarray, "n c"], list[str]]:
    """Style and content of every reply that can be seen, and the replies: for `calibrate`."""
    turns = [turn for each in conversations for turn in each.turns if _is_present(turn)]
    replies = [turn.reply for turn in turns]
    style = [style_features(reply) for reply in replies]
    return np.array(style).reshape(len(replies), -1), encoder.encode(replies), replies


def _parameters(
    calibration: Calibration | None, encoder: Encoder, constraints: int
) -> MonitorParameters:
    if calibration is None:
        return uncalibrated(constraints)
    made_with = calibration.provenance.encoder
    if made_with and made_with != encoder.name:
        raise ValueError(f"encoder must be the calibration's, {made_with!r}; got {encoder.name!r}.")
    known = calibration.parameters.violated.shape[0]
    if known != constraints:
        raise ValueError(
            f"constraints must be the calibration's {known}, those of its identity; got "
            f"{constraints}."
        )
    return calibration.parameters


def _is_present(turn: LoggedTurn) -> bool:
    problem = reply_problem(turn.reply, expected_language=None, most_bytes=2**62)
    return not turn.is_gap and problem is not ReplyProblem.EMPTY


def _observations(
    conversation: LoggedConversation,
    calibration: Calibration | None,
    encoder: Encoder,
    constraints: tuple[Constraint, ...],
) -> LoggedObservations:
    turns = conversation.turns
    present = np.array([_is_present(turn) for turn in turns])
    gates, gate = [], StyleGate()
    for turn in turns:
        gate = style_gate(turn.user, gate, kept_anyway=[each.text for each in constraints])
        gates.append(gate.now)
    broken = np.zeros((len(turns), len(constraints)), bool)
    replies = [turns[place].reply for place in np.flatnonzero(present)]
    for place, reply in zip(np.flatnonzero(present), replies, strict=True):
        broken[place] = violations(constraints, reply)
    y = np.zeros((len(turns), 0))
    if calibration is not None:
        dtype = np.dtype(calibration.parameters.dtype)
        y = np.zeros((len(turns), calibration.parameters.anchor.shape[0]), dtype)
        if replies:
            style = np.stack([style_features(reply) for reply in replies])
            y[present] = _observed(calibration, style, encoder.encode(replies))
    return LoggedObservations(y, present, np.array(gates), broken)


def _observed(
    calibration: Calibration, style: Float[np.ndarray, "n 14"], content: Float[np.ndarray, "n c"]
) -> Float[np.ndarray, "n d"]:
    """`observe` reply by reply: a product of matrices would give other bits than the loop's."""
    return np.stack([_observe(calibration, *each) for each in zip(style, content, strict=True)])


def _padded(turns: int) -> int:
    return max(_SHORTEST, 1 << (turns - 1).bit_length())


def _stacked(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """The arrays `[t, ...]` as one, filled up with zeros to `[b, length, ...]`."""
    whole = np.zeros((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return whole


def _row(measured: Measurement, row: int, turns: int) -> Measurement:
    """The first turns of one conversation."""
    return jax.tree.map(lambda leaf: leaf[row, :turns], measured)


def _table(replayed: ReplayedLog) -> pd.DataFrame:
    conversation, seen, measured, parameters, names = replayed
    columns: dict[str, object] = {
        "conversation": conversation.name,
        "turn": [turn.number for turn in conversation.turns],
        "flag": [turn.flag.value for turn in conversation.turns],
        "missing": measured.missing,
        "commanded": seen.commanded,
        "phase": [Phase(int(phase)).name for phase in measured.phase],
    }
    for name in ("stability", "drift_index", "dispersion", "alarm", "warn"):
        columns[name] = getattr(measured, name)
    contrast = measured.contrast / np.asarray(parameters.contrast_limit)
    departure = measured.departure / np.asarray(parameters.departure_limit)
    for place, channel in enumerate(CHANNELS):
        columns[f"nis_{channel}"] = measured.nis[:, place]
        columns[f"contrast_{channel}"] = contrast[:, place]
        columns[f"contrast_alarm_{channel}"] = measured.contrast_alarm[:, place]
        columns[f"departure_{channel}"] = departure[:, place]
        columns[f"departure_alarm_{channel}"] = measured.departure_alarm[:, place]
    sums = measured.constraints / np.asarray(parameters.constraint_limit)
    for place, name in enumerate(names):
        columns[f"broken_{name}"] = seen.violations[:, place]
        columns[f"constraint_{name}"] = sums[:, place]
        columns[f"constraint_alarm_{name}"] = measured.constraint_alarm[:, place]
    return pd.DataFrame(columns)
