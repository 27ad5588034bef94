"""What a program may use when it is run, and how that can end."""

import enum
from dataclasses import dataclass

from .._check import require_in

_LEAST_MEMORY = 2**27  # the interpreter itself and the modules that it loads
_MOST = 2**31 - 1


def require_whole(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ValueError naming `name` unless `value` is a whole number from `low` to `high`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {allowed}; got {value!r}.")


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    **Arguments:** `wall_seconds` from the start of its interpreter; `cpu_seconds`, of all its
    threads; `memory_bytes` of address space; `output_bytes` of standard output and error together.

    **Raises** `ValueError` for a number outside what is allowed, or not whole where it must be.
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_bytes: int = 2**30
    output_bytes: int = 2**16

    def __post_init__(self) -> None:
        require_in("wall_seconds", self.wall_seconds, 0.0, _MOST, open_low=True)
        require_whole("cpu_seconds", self.cpu_seconds, 1, _MOST)
        require_whole("memory_bytes", self.memory_bytes, _LEAST_MEMORY, 2**62)
        require_whole("output_bytes", self.output_bytes, 0, _MOST)


class Ending(enum.Enum):
    """How the run of a program can end."""

    PASSED = "passed"
    """It ran to its end."""
    FAILED = "failed"
    """An assertion of it does not hold."""
    RAISED = "raised"
    """Another exception, or no Python at all."""
    TIMED_OUT = "timed out"
    """It used up its time, or its time on the processor."""
    OUT_OF_MEMORY = "out of memory"
    """It asked for more memory than it may have, or the system had no more."""
    FORBIDDEN = "forbidden"
    """It was refused what it may not do: network, files, processes, the system."""
    TOO_MUCH_OUTPUT = "too much output"
    """It wrote more than it may."""
    NO_VERDICT = "no verdict"
    """It left or crashed before its end, and so said nothing of the rest."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    ending: Ending
    detail: str
    """The exception and its message, or what else there is to say; empty if it passed."""
    output: str
    """What it wrote to its standard output and error, as far as it may."""
    seconds: float
    """From the start of its interpreter to its end."""

    @property
    def passed(self) -> bool:
        """Whether it ran to its end."""
        return self.ending is Ending.PASSED
