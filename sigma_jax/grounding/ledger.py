"""The ledger: an append-only file of records, each chained by its hash to the one before.

**What it shows.** A record edited, repeated, moved or left out breaks the chain. Records cut off at
the end do not; so a head file beside the ledger, `<path>.head`, keeps how many records were on the
disk at the last flush, and the hash of the last of them. A ledger that is shorter, has another hash
there, or lost its head file is refused.

**What it does not show.** Whoever can write both files can also write another ledger with another
head, from any record on, and can take away records appended since the last flush. Against that
helps only a hash kept elsewhere, such as `LedgerSummary.head` printed on a page.

**What survives.** A record is with the operating system when `append` returns: killing the process
loses none. It is on the disk when `flush` returns: a power cut loses at most the last batch. A line
that was cut off by either is moved to `<path>.torn` at the next opening, and reported.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .._check import require_in
from .json_lines import append_bytes, set_aside
from .ledger_lines import (
    Chain,
    LedgerError,
    LedgerRecord,
    LedgerSummary,
    head_path,
    parsed_record,
    read_head,
    record_line,
    write_head,
)

_INTERRUPTED = "an append was interrupted midway"
_UNSURE = "the disk refused a flush, so that what it holds is not known"


class Ledger:
    """A ledger, open for appending. Use it in a `with` statement, or `close` it.

    Opening verifies all that is there, and cuts off a torn last line, which is then in `cut`. One
    process at a time has a ledger open; its threads may append at the same time.

    **Arguments:** `path`, made with its folder if there is none; `clock`, seconds since 1970, for
    the records' times and the age of a batch; `batch_records` and `batch_seconds`: an append that
    finds so many records unflushed, or one so old, first flushes them. Nothing flushes in between.

    **Raises** `LedgerError` if the ledger is open elsewhere, or not what was written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        batch_records: int = 1000,
        batch_seconds: float = 1.0,
    ):
        require_in("batch_records", batch_records, 1)
        require_in("batch_seconds", batch_seconds, 0)
        self.path, self._clock = Path(path), clock
        self._batch_records, self._batch_seconds = batch_records, batch_seconds
        self._lock, self._since, self._refusal = threading.Lock(), 0.0, ""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab+", buffering=0)
        try:
            self._place, self._pending, self.cut = self._taken()
        except BaseException:
            self._file.close()
            raise

    @property
    def place(self) -> LedgerSummary:
        """How many records there are, and the hash of the last."""
        return self._place

    def append(self, kind: str, content: dict[str, Any]) -> LedgerRecord:
        """Append a record; an append that raises has appended nothing.

        **Arguments:** `kind`, what sort of record it is; `content`, a JSON object. A tuple in it
        reads back as a list.

        **Raises** `ValueError` for an empty kind, or content that JSON cannot say; `LedgerError` if
        the ledger is closed, or was left unsure by an earlier error; `OSError` if it cannot be
        written, on a full disk say: the ledger is then as before, and one may go on.
        """
        if not isinstance(kind, str) or not kind.strip():
            raise ValueError(f"kind must be a text that is not empty; got {kind!r}.")
        if not isinstance(content, dict):
            raise ValueError(f"content must be a dict; got {content!r}.")
        with self._lock:
            self._require_usable()
            now = self._clock()
            said = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds")
            record, line = record_line(self._place, said, kind, content)
            old = not 0 <= now - self._since < self._batch_seconds  # or the clock was set back
            if self._pending and (old or self._pending >= self._batch_records):
                self._flush()
            self._write(line)
            self._place = LedgerSummary(record.sequence + 1, record.hash)
            self._since = self._since if self._pending else now
            self._pending += 1
            self._refusal = ""
        return record

    def flush(self) -> None:
        """Put all that was appended on the disk, and then its head.

        **Raises** `OSError` if that fails. If it was the records that failed, nothing more can be
        appended before the ledger is opened again; `LedgerError` says so.
        """
        with self._lock:
            self._require_usable()
            self._flush()

    def close(self) -> None:
        """Flush, and let others open the ledger. Once is enough."""
        with self._lock:
            if self._file.closed:
                return
            try:
                if self._refusal != _UNSURE:
                    self._flush()
            finally:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _taken(self) -> tuple[LedgerSummary, int, bytes]:
        """Lock the file and verify it: how far it goes, what is not flushed, what was cut off."""
        handle = self._file.fileno()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerError(f"{self.path}: is already open for appending.") from None
        due = read_head(self.path)
        chain = Chain(self.path, due)
        with self.path.open("rb") as file:
            for _ in chain.lines(file):
                pass
        self._end = os.fstat(handle).st_size - len(chain.torn)
        if chain.torn:
            set_aside(self.path, handle, chain.torn, self._end)
        if not head_path(self.path).exists():
            write_head(self.path, chain.place)
            _sync_folder(self.path.parent)
        return chain.place, chain.records - due.records, chain.torn

    def _write(self, line: bytes) -> None:
        # Taken back once the record is counted, or the file is known to be as before.
        self._refusal = _INTERRUPTED
        handle = self._file.fileno()
        try:
            self._end = append_bytes(handle, line, self._end)
        except BaseException:
            if os.fstat(handle).st_size == self._end:
                self._refusal = ""
            raise

    def _flush(self) -> None:
        if not self._pending:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError:
            # A second try may succeed without the pages that the first one lost.
            self._refusal = _UNSURE
            raise
        write_head(self.path, self._place)
        self._pending = 0

    def _require_usable(self) -> None:
        if self._file.closed:
            raise LedgerError(f"{self.path}: the ledger is closed.")
        if self._refusal:
            raise LedgerError(f"{self.path}: {self._refusal}; open the ledger again.")


def read_ledger(path: str | Path) -> Iterator[LedgerRecord]:
    """The records of a ledger in their order, each verified before it is given.

    Reading needs no lock. While another process appends, the last line may be seen half written.

    **Raises** `LedgerError`, naming the file, the line and what is wrong, where the ledger is not
    what was written; at the end if it is shorter than its head says or its last line is torn.
    """
    path = Path(path)
    chain = Chain(path, read_head(path))
    with path.open("rb") as file:
        for line in chain.lines(file):
            yield parsed_record(path, chain.records, line)
    _require_untorn(chain)


def verify_ledger(path: str | Path) -> LedgerSummary:
    """Follow the chain of a ledger and return how far it goes, without parsing the records.

    **Raises** `LedgerError` as `read_ledger` does.
    """
    path = Path(path)
    chain = Chain(path, read_head(path))
    with path.open("rb") as file:
        for _ in chain.lines(file):
            pass
    _require_untorn(chain)
    return chain.place


def _require_untorn(chain: Chain) -> None:
    if chain.torn:
        raise LedgerError(
            f"{chain.path}: line {chain.records + 1} is torn: {len(chain.torn)} bytes without an "
            "end of line. Opening the ledger for appending moves them aside."
        )


def _sync_folder(folder: Path) -> None:
    """Put a new file's entry in its folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
