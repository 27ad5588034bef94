"""Spans of lines: how any text is cut."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_LINES = 30
"""The most lines of a passage."""


class Span(NamedTuple):
    """Lines `first` to `last`, counted from one, and the words that they stand under."""

    first: int
    last: int
    context: str = ""


def blocks(lines: Sequence[str], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The runs of lines that are not blank among `first` to `last`, as (first, last)."""
    start = None
    for number in range(first, last + 1):
        if lines[number - 1].strip():
            start = start or number
        elif start is not None:
            yield start, number - 1
            start = None
    if start is not None:
        yield start, last


def chunks(first: int, last: int, size: int = MAX_LINES) -> Iterator[tuple[int, int]]:
    """`first` to `last` in equal parts of at most `size` lines, as (first, last)."""
    count = -(-(last - first + 1) // size)
    for part in range(count):
        yield (
            first + part * (last - first + 1) // count,
            first + (part + 1) * (last - first + 1) // count - 1,
        )


def plain_spans(lines: Sequence[str]) -> list[Span]:
    """A text of no known form: its blocks between blank lines."""
    return [Span(*chunk) for block in blocks(lines, 1, len(lines)) for chunk in chunks(*block)]
