"""Server-sent events: what a server says piece by piece in one reply that goes on."""

import re
from collections.abc import Iterable, Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")


def event_data(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event in a body, as soon as the event is over.

    Comments, fields other than `data`, events without data, and an event that the end of the body
    cuts, are left out.

    Source: WHATWG HTML, section 9.2.6.
    """
    data: list[bytes] = []
    for line in _lines(parts):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that are whole. Each byte is looked at once, however long a line is."""
    pending = bytearray()
    returned = False  # the part before ended with a carriage return: a line feed belongs to it
    for part in filter(None, parts):
        rest = part[1:] if returned and part.startswith(b"\n") else part
        returned = part.endswith(b"\r")
        *ended, begun = _LINE_END.split(rest)
        for line in ended:
            pending += line
            yield bytes(pending)
            pending.clear()
        pending += begun
