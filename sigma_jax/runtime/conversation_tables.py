"""The tables of a conversation store, and the rows in which things are kept."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from .facts import Ending, Fact, FactKind
from .memories import Memory
from .turn_records import TurnRecord

APPLICATION = 0x53434F4E
"""SQLite's application id of a conversation store."""
VERSION = 1
"""SQLite's user version: of these tables."""

SCHEMA = """
CREATE TABLE meta (
    conversation TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (conversation, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, conversation TEXT NOT NULL, number INTEGER NOT NULL,
    key TEXT NOT NULL, user_text TEXT NOT NULL
) STRICT;
CREATE INDEX attempts_of ON attempts (conversation, number);
CREATE TABLE turns (
    conversation TEXT NOT NULL, number INTEGER NOT NULL CHECK (number >= 1), key TEXT NOT NULL,
    user_text TEXT NOT NULL, reply TEXT NOT NULL, finish_reason TEXT, failure TEXT,
    flags TEXT NOT NULL, prompt_digest TEXT NOT NULL, section_digests TEXT NOT NULL,
    prompt_tokens INTEGER, completion_tokens INTEGER, attempts INTEGER NOT NULL,
    plan TEXT NOT NULL, measurement TEXT NOT NULL, motifs TEXT NOT NULL, state BLOB NOT NULL,
    retry_of INTEGER, PRIMARY KEY (conversation, number)
) STRICT;
CREATE INDEX turns_by_key ON turns (conversation, key);
CREATE UNIQUE INDEX one_success_a_key ON turns (conversation, key) WHERE failure IS NULL;
CREATE TABLE vectors (
    conversation TEXT NOT NULL, turn INTEGER NOT NULL, name TEXT NOT NULL, dtype TEXT NOT NULL,
    shape TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (conversation, turn, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE memories (
    conversation TEXT NOT NULL, id INTEGER NOT NULL, turn INTEGER NOT NULL, role TEXT NOT NULL,
    text TEXT NOT NULL, source TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (conversation, id)
) STRICT;
CREATE TABLE facts (
    conversation TEXT NOT NULL, place INTEGER NOT NULL, written INTEGER NOT NULL,
    key TEXT NOT NULL, value TEXT NOT NULL, text TEXT NOT NULL, turn INTEGER NOT NULL,
    kind TEXT NOT NULL, confidence REAL NOT NULL, is_correction INTEGER NOT NULL, replaces TEXT,
    valid_to INTEGER, ending TEXT, PRIMARY KEY (conversation, place, written)
) STRICT, WITHOUT ROWID;
"""
"""Rows are only ever added. A fact that ends is written again, in the turn that ended it."""

TURN_COLUMNS = (
    "conversation, number, key, user_text, reply, finish_reason, failure, flags, prompt_digest, "
    "section_digests, prompt_tokens, completion_tokens, attempts, plan, measurement, motifs, "
    "state, retry_of"
)


def turn_row(record: TurnRecord, retry_of: int | None) -> tuple[Any, ...]:
    """The values of `TURN_COLUMNS`.

    **Raises** `ValueError` naming what JSON or UTF-8 cannot say.
    """
    require_text(
        conversation=record.conversation,
        key=record.key,
        user_text=record.user_text,
        reply=record.reply,
        finish_reason=record.finish_reason or "",
        failure=record.failure or "",
    )
    return (
        record.conversation,
        record.number,
        record.key,
        record.user_text,
        record.reply,
        record.finish_reason,
        record.failure,
        _json("flags", record.flags),
        record.prompt_digest,
        _json("section_digests", record.section_digests),
        record.prompt_tokens,
        record.completion_tokens,
        record.attempts,
        _json("plan", record.plan),
        _json("measurement", record.measurement),
        _json("motifs", record.motifs),
        record.state,
        retry_of,
    )


def turn_of(row: Sequence[Any], vectors: dict[str, np.ndarray]) -> TurnRecord:
    """The record of a row of `TURN_COLUMNS`."""
    return TurnRecord(
        *row[:7],
        flags=tuple(json.loads(row[7])),
        prompt_digest=row[8],
        section_digests=tuple((name, digest) for name, digest in json.loads(row[9])),
        prompt_tokens=row[10],
        completion_tokens=row[11],
        attempts=row[12],
        plan=json.loads(row[13]),
        measurement=json.loads(row[14]),
        motifs=json.loads(row[15]),
        vectors=vectors,
        state=row[16],
        retry_of=row[17],
    )


def vector_rows(record: TurnRecord) -> list[tuple[Any, ...]]:
    """Rows of the table `vectors`, little-endian.

    **Raises** `ValueError` naming an array that is not one of floats.
    """
    rows = []
    for name in sorted(record.vectors):
        array = np.asarray(record.vectors[name])
        if array.dtype.kind != "f":
            raise ValueError(f"vectors[{name!r}] must be of floats; got {array.dtype}.")
        array = array.astype(array.dtype.newbyteorder("<"))
        shape = json.dumps(array.shape)
        where = (record.conversation, record.number, name)
        rows.append((*where, array.dtype.str, shape, array.tobytes()))
    return rows


def vector_of(dtype: str, shape: str, value: bytes) -> np.ndarray:
    """The array of a row of `vectors`."""
    return np.frombuffer(value, np.dtype(dtype)).reshape(json.loads(shape))


def memory_rows(
    conversation: str,
    memories: Sequence[Memory],
    vectors: Float[np.ndarray, "memories dimension"],
) -> list[tuple[Any, ...]]:
    """Rows of the table `memories`, with the vectors in float16.

    **Raises** `ValueError` for another number of vectors than of memories, and for such as are not
    finite in float16.
    """
    vectors = np.asarray(vectors)
    if len(vectors) != len(memories) or (memories and vectors.ndim != 2):
        raise ValueError(
            f"memory_vectors must be [{len(memories)}, dimension], one a memory; got shape "
            f"{list(vectors.shape)}."
        )
    if not (np.abs(vectors) <= np.finfo(np.float16).max).all():
        raise ValueError("memory_vectors must be finite in float16, below 65504 in size.")
    halves = vectors.astype("<f2")
    return [
        (conversation, *memory, half.tobytes())
        for memory, half in zip(memories, halves, strict=True)
    ]


def fact_rows(
    conversation: str, written: int, facts: Sequence[tuple[int, Fact]]
) -> list[tuple[Any, ...]]:
    """Rows of the table `facts`, for facts with their places in the book."""
    return [
        (
            conversation,
            place,
            written,
            fact.key,
            fact.value,
            fact.text,
            fact.turn,
            fact.kind.value,
            fact.confidence,
            int(fact.is_correction),
            fact.replaces,
            fact.valid_to,
            None if fact.ending is None else fact.ending.value,
        )
        for place, fact in facts
    ]


def fact_of(row: Sequence[Any]) -> Fact:
    """The fact of a row's columns from `key` on."""
    key, value, text, turn, kind, confidence, is_correction, replaces, valid_to, ending = row
    return Fact(
        key,
        value,
        text,
        turn,
        FactKind(kind),
        confidence,
        bool(is_correction),
        replaces,
        valid_to,
        None if ending is None else Ending(ending),
    )


def require_text(**texts: str) -> None:
    """Raise `ValueError` naming the text that UTF-8 cannot say (half of a surrogate pair)."""
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} must be UTF-8's; {error}.") from None


def explained(error: sqlite3.Error, file: str) -> str:
    """What a failure of SQLite means to the reader."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"{file} is being written by another process; nothing was changed here. {error}."
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"{file} is corrupt: {error}. Restore it from a copy; it was not changed."
    return f"{file} cannot be read or written: {error}."


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be what JSON can say, without NaN; {error}.") from None
