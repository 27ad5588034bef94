"""What a simulated model goes through in the course of a conversation."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .._check import require_in

FAILURES = ("empty", "truncated", "oversized", "other language", "error")
"""Nothing; half of a reply; five megabytes; German; an exception."""


class Circumstances(NamedTuple):
    """How things stand with the model in a turn."""

    loss: float = 0.0
    """Of the identity, in [0, 1]: how far the reach of its description has shrunk."""
    pull: float = 0.0
    """Of the user away from the identity, in [0, 1]."""
    alike: float = 0.0
    """The share of draws that are the same in every reply, in [0, 1]."""
    default_voice: str = "chatty"
    style: str = ""
    """A voice that the user has asked for outside of the script."""
    failure: str = ""
    """One of `FAILURES`."""


class Mode(Protocol):
    """A schedule of circumstances over turns, which count from one."""

    def at(self, turn: int) -> Circumstances:
        """The circumstances of a turn."""
        ...


@dataclass(frozen=True)
class Stationary(Mode):
    """Nothing happens."""

    def at(self, turn: int) -> Circumstances:
        return Circumstances()


@dataclass(frozen=True)
class AbruptLoss(Mode):
    """From a turn on the identity's description reaches no further than the last message."""

    turn: int

    def at(self, turn: int) -> Circumstances:
        return Circumstances(loss=float(turn >= self.turn))


@dataclass(frozen=True)
class GradualLoss(Mode):
    """As `AbruptLoss`, along a ramp of so many turns.

    **Raises** `ValueError` for a length below one.
    """

    turn: int
    length: int = 30

    def __post_init__(self) -> None:
        require_in("length", self.length, 1)

    def at(self, turn: int) -> Circumstances:
        return Circumstances(loss=min(max((turn - self.turn + 1) / self.length, 0.0), 1.0))


@dataclass(frozen=True)
class Oscillating(Mode):
    """The loss goes from none to `depth` and back in so many turns, along a cosine.

    **Raises** `ValueError` for a period below two or a depth outside [0, 1].
    """

    period: int = 40
    depth: float = 1.0

    def __post_init__(self) -> None:
        require_in("period", self.period, 2)
        require_in("depth", self.depth, 0.0, 1.0)

    def at(self, turn: int) -> Circumstances:
        return Circumstances(loss=self.depth * (1 - math.cos(2 * math.pi * turn / self.period)) / 2)


@dataclass(frozen=True)
class Crystallising(Mode):
    """From a turn on replies become alike, within so many turns.

    **Raises** `ValueError` for a length below one.
    """

    turn: int
    length: int = 10

    def __post_init__(self) -> None:
        require_in("length", self.length, 1)

    def at(self, turn: int) -> Circumstances:
        return Circumstances(alike=min(max((turn - self.turn + 1) / self.length, 0.0), 1.0))


@dataclass(frozen=True)
class ObedientStyle(Mode):
    """From one turn to another, both included, the model writes in a voice as it was asked to."""

    first: int
    last: int
    voice: str = "sailor"

    def at(self, turn: int) -> Circumstances:
        return Circumstances(style=self.voice if self.first <= turn <= self.last else "")


@dataclass(frozen=True)
class AdversarialPull(Mode):
    """From a turn on the user pulls away from the identity.

    **Raises** `ValueError` for a strength outside [0, 1].
    """

    turn: int
    strength: float = 0.5

    def __post_init__(self) -> None:
        require_in("strength", self.strength, 0.0, 1.0)

    def at(self, turn: int) -> Circumstances:
        return Circumstances(pull=self.strength if turn >= self.turn else 0.0)


@dataclass(frozen=True)
class ProviderSwap(Mode):
    """From a turn on it is another model: of another default voice, and of some loss of identity.

    **Raises** `ValueError` for a loss outside [0, 1].
    """

    turn: int
    loss: float = 0.7

    def __post_init__(self) -> None:
        require_in("loss", self.loss, 0.0, 1.0)

    def at(self, turn: int) -> Circumstances:
        if turn < self.turn:
            return Circumstances()
        return Circumstances(loss=self.loss, default_voice="essayist")


@dataclass(frozen=True)
class Failing(Mode):
    """From one turn to another, both included, the model fails.

    **Raises** `ValueError` for a failure that is none of `FAILURES`.
    """

    failure: str
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.failure not in FAILURES:
            raise ValueError(f"failure must be one of {', '.join(FAILURES)}; got {self.failure!r}.")

    def at(self, turn: int) -> Circumstances:
        return Circumstances(failure=self.failure if self.first <= turn <= self.last else "")
