"""Markdown, cut at paragraphs, lists, code and groups of table rows."""

import re
from collections.abc import Iterator, Sequence

from .spans import Span, blocks, chunks

ROWS = 4
"""The most rows of a table in one passage."""

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_FENCE = re.compile(r"\s*(```+|~~~+)")
_RULE = re.compile(r"[\s|:]*-[\s|:-]*")


def markdown_spans(lines: Sequence[str]) -> list[Span]:
    """Spans with the headings above them, and a table's header, as context.

    A heading belongs to the span that follows it; every line that is not blank is in one span.
    """
    spans: list[Span] = []
    headings: list[str] = []
    waiting, end = None, 0  # the first of the headings that no span has yet, and the last
    for first, last in _parts(lines):
        heading = _HEADING.fullmatch(lines[first - 1])
        if heading and first == last:
            headings = [*headings[: len(heading[1]) - 1], heading[2].rstrip(" #")]
            waiting, end = waiting or first, last
            continue
        context = " / ".join(headings)
        cut = _table if lines[first - 1].lstrip().startswith("|") else _text
        for span in cut(lines, first, last, context):
            spans.append(span._replace(first=waiting or span.first))
            waiting = None
    if waiting is not None:
        spans.append(Span(waiting, end, " / ".join(headings)))
    return spans


def _text(lines: Sequence[str], first: int, last: int, context: str) -> Iterator[Span]:
    for chunk in chunks(first, last):
        yield Span(*chunk, context)


def _table(lines: Sequence[str], first: int, last: int, context: str) -> Iterator[Span]:
    """Groups of rows; the first has the header and the line below it."""
    if last - first < 2 or not _RULE.fullmatch(lines[first]):
        yield from _text(lines, first, last, context)
        return
    header = f"{context} / {lines[first - 1]}"
    for start, end in chunks(first + 2, last, ROWS):
        yield Span(first if start == first + 2 else start, end, header)


def _parts(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Headings, fenced code, tables and blocks, each as (first, last)."""
    start, number = 1, 1
    while number <= len(lines):
        line, end = lines[number - 1], None
        if fence := _FENCE.match(line):
            end = _fence_end(lines, number, fence[1])
        elif _HEADING.fullmatch(line):
            end = number
        elif line.lstrip().startswith("|"):
            end = number
            while end < len(lines) and lines[end].lstrip().startswith("|"):
                end += 1
        if end is not None:
            yield from blocks(lines, start, number - 1)
            yield number, end
            start, number = end + 1, end
        number += 1
    yield from blocks(lines, start, len(lines))


def _fence_end(lines: Sequence[str], first: int, mark: str) -> int:
    for number in range(first + 1, len(lines) + 1):
        if lines[number - 1].strip().startswith(mark):
            return number
    return len(lines)
