"""What a conversation is between two turns, and the bytes that it is kept as."""

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .attractors import AttractorState
from .control import ControlState, Signals, control_from_json
from .facts import FactBook
from .monitor import MonitorState
from .motif_memory import MotifMemory
from .prompt import Exchange
from .style_commands import StyleGate


class ConversationState(NamedTuple):
    """All that a conversation is between two turns, beside its memories."""

    monitor: MonitorState
    attractors: AttractorState
    number: int = 0
    """Of the last turn; 0 before the first."""
    window: tuple[Exchange, ...] = ()
    facts: FactBook = FactBook()
    motifs: MotifMemory = MotifMemory()
    gate: StyleGate = StyleGate()
    control: ControlState = ControlState()
    signals: Signals = Signals()
    last_output: str = ""


def state_bytes(state: ConversationState) -> bytes:
    """What is kept of a state beside texts, facts and motifs: the same bytes for equal states.

    A line of JSON, then the arrays of the monitor and the attractors one behind the other.
    """
    about = {
        "number": state.number,
        "window": [[e.number, e.strayed, e.kept] for e in state.window],
        "gate": list(state.gate),
        "control": state.control.to_json(),
        "signals": list(state.signals),
    }
    watched = state.monitor, state.attractors
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(watched)]
    return json.dumps(about).encode() + b"\n" + b"".join(array.tobytes() for array in arrays)


def window_numbers(data: bytes) -> tuple[int, ...]:
    """The turns in the window of a state that `state_bytes` wrote."""
    return tuple(number for number, *_ in _about(data)["window"])


def state_from_bytes(
    data: bytes,
    start: tuple[MonitorState, AttractorState],
    *,
    texts: dict[int, tuple[str, str]],
    facts: FactBook,
    motifs: MotifMemory,
    last_output: str,
) -> ConversationState:
    """The state that `state_bytes` wrote, to the bit.

    **Arguments:** `start`, the first states, whose shapes and types the arrays have;
    `texts`, the user's words and the reply of every turn of `window_numbers`.

    **Raises** `ValueError` if the arrays are of another size: of another calibration, or another
    precision.
    """
    about, body = _about(data), data.partition(b"\n")[2]
    leaves, structure = jax.tree.flatten(start)
    wanted = [np.asarray(leaf) for leaf in leaves]
    if len(body) != sum(array.nbytes for array in wanted):
        raise ValueError(
            f"the kept state of the monitor has {len(body)} bytes where this one has "
            f"{sum(array.nbytes for array in wanted)}: it is of another calibration, or of another "
            "floating-point precision."
        )
    arrays, place = [], 0
    for array in wanted:
        part = body[place : place + array.nbytes]
        arrays.append(jnp.asarray(np.frombuffer(part, array.dtype).reshape(array.shape)))
        place += array.nbytes
    monitor, attractors = jax.tree.unflatten(structure, arrays)
    signals: Any = about["signals"]
    return ConversationState(
        monitor=monitor,
        attractors=attractors,
        number=about["number"],
        window=tuple(
            Exchange(number, *texts[number], strayed=strayed, kept=kept)
            for number, strayed, kept in about["window"]
        ),
        facts=facts,
        motifs=motifs,
        gate=StyleGate(*about["gate"]),
        control=control_from_json(about["control"]),
        signals=Signals(*signals[:4], *(tuple(each) for each in signals[4:])),
        last_output=last_output,
    )


def _about(data: bytes) -> dict[str, Any]:
    return json.loads(data.partition(b"\n")[0])
