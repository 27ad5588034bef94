"""A store's file: made whole, recognised, and never repaired or replaced behind the user's back."""

import os
import sqlite3
import tempfile
from pathlib import Path

from .conversation_tables import APPLICATION, SCHEMA, VERSION, explained

_OLDEST = (3, 37)
"""SQLite's first version with STRICT tables."""
_BUSY_SECONDS = 10.0
_HEADER = 100
"""Bytes, of every SQLite database."""


class StoreError(Exception):
    """A store cannot be used. The message names the file and what is wrong; it was not changed."""


def connect(path: Path | None) -> sqlite3.Connection:
    """A connection to the store at `path`, which is made if it is not there; None: in memory.

    **Raises** `StoreError` for a file that is corrupt, no SQLite database, of another program, or
    of a newer version of this one, and if it cannot be made or opened.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreError(f"SQLite 3.37 or newer is needed; this is {sqlite3.sqlite_version}.")
    if path is None:
        connection = _opened(":memory:")
        _make(connection)
        return connection
    try:
        if not path.exists():
            _create(path)
        _require_store(path)
        connection = _opened(str(path))
    except sqlite3.Error as error:
        raise StoreError(explained(error, str(path))) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror or error}.") from error
    # A turn costs seconds of a model and one sync of a disk. FULL makes that sync, so that a turn
    # which was acknowledged outlives a loss of power, and not only the end of a process.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _opened(name: str) -> sqlite3.Connection:
    # The store has its own lock, and begins its transactions itself.
    return sqlite3.connect(
        name, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _make(connection: sqlite3.Connection) -> None:
    connection.executescript(
        f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION}; "
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _create(path: Path) -> None:
    """Make the file elsewhere and link it, so that nobody ever sees half of one or replaces one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".making", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        connection = _opened(name)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            _make(connection)
        finally:
            connection.close()
        os.link(partial, path)
    except FileExistsError:
        pass  # Another process was faster, and its file is as good.
    finally:
        partial.unlink(missing_ok=True)


def _require_store(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if len(head) < _HEADER or not head.startswith(b"SQLite format 3\0"):
        was = "is no SQLite database" if head else "is empty"
        raise StoreError(
            f"{path} {was}, so it is no conversation store. Move it away, or name another file."
        )
    # Both stand in the header, so that a foreign file is not even opened as a database.
    version, application = (int.from_bytes(head[at : at + 4]) for at in (60, 68))
    if application != APPLICATION:
        raise StoreError(f"{path} is another program's SQLite database; it was not changed.")
    if version != VERSION:
        raise StoreError(
            f"{path} has tables of version {version}, and this program knows version {VERSION}. "
            "Open it with the program that made it."
        )
    # Read only: closing a connection that may write could write, even to a corrupt file.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS
    )
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    if found != "ok":
        raise StoreError(f"{path} is corrupt: {found}. Restore it from a copy; it was not changed.")
