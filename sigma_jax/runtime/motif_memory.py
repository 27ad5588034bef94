"""What keeps coming up in a conversation: motifs, with how active each is."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._check import require_in
from .symbols import Symbol

DECAY = 0.98
"""What is left of an activation after a turn: half of it after 34 turns."""
WINDOW = 20
"""The turns that count for whether a motif is active."""
SEEN = 3
"""In so many of them an active motif was seen."""
MOST = 256
"""Motifs kept of either role."""
_ROLES = ("user", "assistant")


class Motif(NamedTuple):
    """A symbol that one of the two speakers used, and when."""

    role: str
    """`user` or `assistant`."""
    name: str
    activation: float
    """As of the last of `turns`."""
    turns: tuple[int, ...]
    """When it was seen: the last turn and those less than 20 before it, in order."""

    def activation_at(self, turn: int) -> float:
        """The activation at `turn`, decayed since it was last seen."""
        return self.activation * DECAY ** (turn - self.turns[-1])

    def seen(self, turn: int) -> int:
        """In how many of the 20 turns up to `turn` it was seen."""
        return sum(turn - WINDOW < each <= turn for each in self.turns)


@dataclass(frozen=True)
class MotifMemory:
    """The motifs of a conversation, those of the user and of the assistant apart; immutable.

    An activation falls to 0.98 of itself each turn and rises by the weight of the symbol when it is
    seen. Of either role the 256 strongest are kept; of equals, the first by name.

    **Arguments:** `motifs`, sorted by role and name; `quarantined`, names and the last turn that
    each is left out of `active`, sorted; `turn`, the last that was put in.
    """

    motifs: tuple[Motif, ...] = ()
    quarantined: tuple[tuple[str, int], ...] = ()
    turn: int = 0

    def update(self, symbols: Iterable[Symbol], turn: int, *, role: str = "user") -> "MotifMemory":
        """The memory after `symbols` were seen at `turn`, in the words of `role`.

        **Raises** `ValueError` for another role than `user` or `assistant`, and for a turn before
        the last one.
        """
        _require_role(role)
        require_in("turn", turn, self.turn)
        motifs = {motif.name: motif for motif in self.motifs if motif.role == role}
        for name, weight in symbols:
            known = motifs.get(name)
            before = 0.0 if known is None else known.activation_at(turn)
            turns = () if known is None else known.turns
            recent = tuple(each for each in turns if turn - WINDOW < each < turn)
            motifs[name] = Motif(role, name, before + weight, (*recent, turn))
        strongest = sorted(
            motifs.values(), key=lambda motif: (-motif.activation_at(turn), motif.name)
        )
        others = [motif for motif in self.motifs if motif.role != role]
        quarantined = tuple(each for each in self.quarantined if each[1] >= turn)
        return MotifMemory(tuple(sorted([*others, *strongest[:MOST]])), quarantined, turn)

    def active(self, turn: int, most: int = 5, *, role: str = "user") -> tuple[Motif, ...]:
        """The motifs of `role` seen in at least 3 of the 20 turns up to `turn`, strongest first.

        Equals are in order of name. What is quarantined at `turn` is left out.

        **Raises** `ValueError` for `most` below one, an unknown role, or a turn before the last.
        """
        _require_role(role)
        require_in("most", most, 1)
        require_in("turn", turn, self.turn)
        excluded = {name for name, last in self.quarantined if turn <= last}
        found = [
            motif
            for motif in self.motifs
            if motif.role == role and motif.name not in excluded and motif.seen(turn) >= SEEN
        ]
        return tuple(sorted(found, key=lambda m: (-m.activation_at(turn), m.name))[:most])

    def quarantine(self, name: str, turn: int, turns: int = 20) -> "MotifMemory":
        """The memory with `name` left out of `active`, up to and including turn `turn + turns`.

        The motif itself, of either role, is kept and goes on counting. Of two quarantines the
        longer holds.

        **Raises** `ValueError` for a turn before the last one, or fewer than one turn.
        """
        require_in("turn", turn, self.turn)
        require_in("turns", turns, 1)
        until = dict(self.quarantined)
        until[name] = max(turn + turns, until.get(name, 0))
        return dataclasses.replace(self, quarantined=tuple(sorted(until.items())))

    def to_json(self) -> str:
        """The memory as text, the same for equal memories; `from_json` gives it back exactly."""
        return json.dumps(vars(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "MotifMemory":
        """The memory that `to_json` made `text` of.

        **Raises** `ValueError` for any other text.
        """
        try:
            return _restored(json.loads(text))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"text must be a MotifMemory as to_json writes it; got {text[:60]!r} ({error})."
            ) from error


def _restored(record: Any) -> MotifMemory:
    motifs = tuple(
        Motif(str(role), str(name), float(activation), tuple(int(turn) for turn in turns))
        for role, name, activation, turns in record["motifs"]
    )
    quarantined = tuple((str(name), int(last)) for name, last in record["quarantined"])
    memory = MotifMemory(motifs, quarantined, int(record["turn"]))
    for motif in motifs:
        _require_role(motif.role)
        require_in("activation", motif.activation, 0.0)
        if not motif.turns or motif.turns[-1] > memory.turn:
            raise ValueError(f"turns of {motif.name!r} must end at or before {memory.turn}")
    return memory


def _require_role(role: str) -> None:
    if role not in _ROLES:
        raise ValueError(f"role must be one of {', '.join(_ROLES)}; got {role!r}.")
