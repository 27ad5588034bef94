r"""The lines of a ledger: how a record is written, and how a chain of them is followed.

    {"hash":"<64>","previous":"<64>","sequence":0,"time":"…","kind":"…","content":{…}}

`hash` is the SHA-256, in hex, of the line's bytes after those 64 digits, up to its end of line and
without it: the hash of the record before, this record's number and all that it says. So nothing
has to be parsed or written again to check a line, and any program can:
`sed -n 5p ledger.jsonl | cut -b74- | tr -d '\n' | sha256sum`.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .._files import write_whole
from .json_lines import json_line

GENESIS = "0" * 64
"""What stands as `previous` in the first record."""

_OPENING = b'{"hash":"'
_BODY = len(_OPENING) + 64
_RECORD = re.compile(
    rb'\{"hash":"([0-9a-f]{64})","previous":"([0-9a-f]{64})","sequence":(0|[1-9][0-9]{0,18}),'
    rb'"time":".*\n'
)


class LedgerError(ValueError):
    """A ledger that is damaged, edited, cut short or in use; says which, where and what."""


class LedgerRecord(NamedTuple):
    """One entry of a ledger."""

    sequence: int
    """Its place, counted from 0."""
    time: str
    """When it was appended, in UTC (ISO 8601, to the microsecond)."""
    kind: str
    content: dict[str, Any]
    previous: str
    """The hash of the record before it; 64 zeros in the first."""
    hash: str


class LedgerSummary(NamedTuple):
    """How far a ledger has come: what its head file holds, and what a verification finds."""

    records: int
    head: str
    """The hash of the last record; 64 zeros if there is none."""


def record_line(
    place: LedgerSummary, time: str, kind: str, content: dict[str, Any]
) -> tuple[LedgerRecord, bytes]:
    """The record that comes next after `place`, and its line."""
    head = f'","previous":"{place.head}","sequence":{place.records},"time":"{time}","kind":'
    said = b'%b%b,"content":%b}' % (
        head.encode(),
        json_line("kind", kind),
        json_line("content", content),
    )
    digest = hashlib.sha256(said).hexdigest()
    record = LedgerRecord(place.records, time, kind, content, place.head, digest)
    return record, b"%b%b%b\n" % (_OPENING, digest.encode(), said)


def parsed_record(path: Path, number: int, line: bytes) -> LedgerRecord:
    """The record that a line, the `number`th of a followed chain, spells.

    **Raises** `LedgerError` if someone chained what is no record.
    """
    try:
        return LedgerRecord(**json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        raise LedgerError(f"{path}: line {number} is chained but no record: {error}") from None


class Chain:
    """The records of a ledger so far, each checked as it comes.

    **Arguments:** `path`, for messages; `due`, what the head file promises: so many records at
    least, and that hash on the last of them.
    """

    def __init__(self, path: Path, due: LedgerSummary):
        self.path, self._due = path, due
        self.records, self.torn = 0, b""
        self._head = GENESIS.encode()

    @property
    def place(self) -> LedgerSummary:
        """How far the chain has come."""
        return LedgerSummary(self.records, self._head.decode())

    def lines(self, file: BinaryIO) -> Iterator[bytes]:
        """Every whole line of `file`, once checked; a last one without its end is left in `torn`.

        **Raises** `LedgerError` at the first line that is not the next record of the chain, and at
        the end if the file is shorter than its head promises.
        """
        for line in file:
            if not line.endswith(b"\n"):
                self.torn = line
                break
            self._follow(line)
            if self.records == self._due.records and self.place != self._due:
                raise self._error(
                    f"has hash {self.place.head}; its head file says {self._due.head}"
                )
            yield line
        if self.records < self._due.records:
            tail = f" and {len(self.torn)} bytes of another" if self.torn else ""
            raise LedgerError(
                f"{self.path}: was cut short: it has {self.records} records{tail}; its head file "
                f"says that there were {self._due.records}."
            )

    def _follow(self, line: bytes) -> None:
        said = line[_BODY:-1]
        digest = hashlib.sha256(said).hexdigest().encode()
        begins = b'","previous":"%b","sequence":%d,"time":"' % (self._head, self.records)
        self.records += 1
        if not (line.startswith(_OPENING + digest) and said.startswith(begins)):
            raise self._error(self._fault(line, digest))
        self._head = digest

    def _fault(self, line: bytes, digest: bytes) -> str:
        """What is wrong with a line that is not the next record."""
        match, due = _RECORD.fullmatch(line), self.records - 1
        if match is None:
            return f"is not a record of a ledger: {line[:60]!r}…"
        stored, sequence = match[1], int(match[3])
        if stored != digest:
            return f"was edited: it says hash {stored.decode()}, its bytes have {digest.decode()}"
        if sequence > due:
            return f"is record {sequence} where {due} is due: records are missing, or out of order"
        if sequence < due:
            return f"is record {sequence} where {due} is due: it is repeated, or out of order"
        return f"follows a record of hash {match[2].decode()}, not the one before it"

    def _error(self, what: str) -> LedgerError:
        return LedgerError(f"{self.path}: line {self.records} {what}.")


def head_path(path: Path) -> Path:
    """Where the head of the ledger at `path` is kept."""
    return path.with_name(f"{path.name}.head")


def write_head(path: Path, place: LedgerSummary) -> None:
    """Write the head of the ledger at `path`, to the disk, whole or not at all."""
    text = json_line("head", place._asdict()) + b"\n"

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    write_whole(head_path(path), write)


def read_head(path: Path) -> LedgerSummary:
    """The head of the ledger at `path`. No head file: no records yet, or it raises.

    **Raises** `LedgerError` if it is none, or missing although the ledger is not empty.
    """
    source = head_path(path)
    try:
        place = LedgerSummary(**json.loads(source.read_bytes()))
    except FileNotFoundError:
        if path.exists() and path.stat().st_size:
            raise LedgerError(
                f"{path}: its head file {source.name} is missing, so that a cut could not be seen."
            ) from None
        return LedgerSummary(0, GENESIS)
    except (ValueError, TypeError, RecursionError) as error:
        raise LedgerError(f"{source}: is not the head of a ledger: {error}") from None
    whole = type(place.records) is int and place.records >= 0
    if not whole or not isinstance(place.head, str) or not re.fullmatch("[0-9a-f]{64}", place.head):
        raise LedgerError(f"{source}: is not the head of a ledger: {place}.")
    return place
