"""Conversations in one SQLite file: a turn is there as a whole, once, or not at all."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float16

from .conversation_tables import (
    TURN_COLUMNS,
    explained,
    fact_of,
    fact_rows,
    memory_rows,
    require_text,
    turn_of,
    turn_row,
    vector_of,
    vector_rows,
)
from .facts import Fact, FactBook
from .memories import Memory
from .store_file import StoreError, connect
from .turn_records import Attempt, TurnRecord


class ConversationConflict(StoreError):
    """Somebody else has added to the conversation meanwhile; nothing was written."""


class ConversationStore:
    """Conversations by their ids, each a row of turns from one on, without a gap.

    `begin` writes that a turn is about to be asked of the model, `commit` all that came of it: the
    turn, its vectors, memories and facts, in one transaction. A process that dies in between leaves
    an attempt without a turn, which `unfinished` finds. Several processes may use one file: a write
    waits up to ten seconds for another, and of two that add the same turn exactly one does, and the
    other raises. Several threads may use one store.

    The file is in write-ahead-log mode with synchronous = FULL: what was committed is on the disk.

    **Arguments:** `path` of the file, made if it is not there; None keeps all in memory.

    **Raises** `StoreError` naming the file if it is corrupt, foreign or of a newer version; it is
    then left as it was.
    """

    def __init__(self, path: str | Path | None = None):
        self._path = None if path is None else Path(path)
        self._file = "the store in memory" if path is None else str(path)
        self._lock = threading.RLock()
        self._connection = connect(self._path)

    def __enter__(self) -> "ConversationStore":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was committed is in it."""
        self._connection.close()

    # What a conversation was made with

    def require_meta(self, conversation: str, **made_with: str) -> None:
        """Keep what a conversation is made with, or check that it still is.

        For instance `encoder=encoder.name, identity=identity_digest`. A name that was not kept
        before is kept from now on.

        **Raises** `StoreError` naming all that has changed, with both values.
        """
        with self._writing():
            kept = self.meta(conversation)
            changed = [
                f"{name} {kept[name]!r} before and {value!r} now"
                for name, value in made_with.items()
                if kept.get(name, value) != value
            ]
            if changed:
                raise StoreError(
                    f"conversation {conversation!r} in {self._file} was made with another "
                    f"{'; '.join(changed)}. What it holds does not fit together with that: open it "
                    "with what it was made with, or begin another conversation."
                )
            self._put_meta(conversation, made_with)

    def note_meta(self, conversation: str, **notes: str) -> None:
        """Keep notes that may change from run to run, such as `code="0.3.1"`; the last counts."""
        with self._writing():
            self._put_meta(conversation, notes)

    def meta(self, conversation: str) -> dict[str, str]:
        """All that `require_meta` and `note_meta` have kept, by name."""
        rows = self._rows("SELECT name, value FROM meta WHERE conversation = ?", conversation)
        return dict(sorted(rows))

    # Writing

    def begin(self, conversation: str, number: int, key: str, user_text: str) -> None:
        """Write down that turn `number` is about to be asked of the model.

        **Raises** `ConversationConflict` unless the number is the last turn's plus one and `key`
        has no reply yet; `ValueError` for a text that UTF-8 cannot say.
        """
        require_text(conversation=conversation, key=key, user_text=user_text)
        with self._writing():
            self._require_next(conversation, number, key)
            self._connection.execute(
                "INSERT INTO attempts (conversation, number, key, user_text) VALUES (?, ?, ?, ?)",
                (conversation, number, key, user_text),
            )

    def commit(
        self,
        record: TurnRecord,
        memories: Sequence[Memory] = (),
        memory_vectors: Float[np.ndarray, "memories dimension"] | None = None,
        facts: Sequence[tuple[int, Fact]] = (),
    ) -> None:
        """Write a turn with all that came of it, or nothing.

        A turn that failed is kept too. A later one with its key becomes a turn of its own, and its
        `retry_of` says so.

        **Arguments:** `record`; `memories`, whose ids continue the conversation's;
        `memory_vectors`, one for each, kept in float16; `facts`, those that are new or have ended,
        as `FactBook.changes` gives them.

        **Raises** `ConversationConflict` unless the number is the last turn's plus one and `key`
        has no reply yet; `ValueError` for what cannot be kept, such as NaN in JSON or a text that
        UTF-8 cannot say.
        """
        vectors = np.zeros((len(memories), 0)) if memory_vectors is None else memory_vectors
        remembered = memory_rows(record.conversation, memories, vectors)
        with self._writing():
            retry_of = self._require_next(record.conversation, record.number, record.key)
            self._require_ids(record.conversation, memories)
            self._insert("turns", [turn_row(record, retry_of)])
            self._insert("vectors", vector_rows(record))
            self._insert("memories", remembered)
            self._insert("facts", fact_rows(record.conversation, record.number, facts))

    # Reading

    def conversations(self) -> tuple[str, ...]:
        """The ids of all conversations that were begun, sorted."""
        rows = self._rows(
            "SELECT conversation FROM turns UNION SELECT conversation FROM attempts "
            "UNION SELECT conversation FROM meta"
        )
        return tuple(sorted(row[0] for row in rows))

    def last_turn(self, conversation: str) -> int:
        """The number of the last turn; 0 before the first."""
        ((last,),) = self._rows(
            "SELECT coalesce(max(number), 0) FROM turns WHERE conversation = ?", conversation
        )
        return last

    def turns(
        self, conversation: str, *, first: int = 1, last: int | None = None
    ) -> tuple[TurnRecord, ...]:
        """The turns from `first` to `last`, both included, in order."""
        last = 2**62 if last is None else last
        span = (conversation, first, last)
        vectors: dict[int, dict[str, np.ndarray]] = {}
        with self._lock:
            rows = self._rows(
                f"SELECT {TURN_COLUMNS} FROM turns "
                "WHERE conversation = ? AND number BETWEEN ? AND ? ORDER BY number",
                *span,
            )
            for turn, name, *value in self._rows(
                "SELECT turn, name, dtype, shape, value FROM vectors "
                "WHERE conversation = ? AND turn BETWEEN ? AND ? ORDER BY turn, name",
                *span,
            ):
                vectors.setdefault(turn, {})[name] = vector_of(*value)
        return tuple(turn_of(row, vectors.get(row[1], {})) for row in rows)

    def turn_with_key(self, conversation: str, key: str) -> TurnRecord | None:
        """The turn with this key that has a reply, else the last that failed, else None."""
        rows = self._rows(
            "SELECT number FROM turns WHERE conversation = ? AND key = ? "
            "ORDER BY failure IS NULL DESC, number DESC LIMIT 1",
            conversation,
            key,
        )
        return self.turns(conversation, first=rows[0][0], last=rows[0][0])[0] if rows else None

    def unfinished(self, conversation: str) -> tuple[Attempt, ...]:
        """The attempts of which no turn came: their process died, lost a race, or is still at it.

        A turn with the same key and this number or a later one settles an attempt.
        """
        rows = self._rows(
            "SELECT number, key, user_text FROM attempts a WHERE conversation = ? AND NOT EXISTS ("
            "SELECT 1 FROM turns t WHERE t.conversation = a.conversation AND t.key = a.key "
            "AND t.number >= a.number) ORDER BY id",
            conversation,
        )
        return tuple(Attempt(*row) for row in rows)

    def latest_state(self, conversation: str) -> bytes | None:
        """The state after the last turn that kept one, or None."""
        rows = self._rows(
            "SELECT state FROM turns WHERE conversation = ? AND length(state) > 0 "
            "ORDER BY number DESC LIMIT 1",
            conversation,
        )
        return rows[0][0] if rows else None

    def memories(
        self, conversation: str
    ) -> tuple[tuple[Memory, ...], Float16[np.ndarray, "memories dimension"]]:
        """All memories in order of their ids, and their vectors."""
        rows = self._rows(
            "SELECT id, turn, role, text, source, vector FROM memories WHERE conversation = ? "
            "ORDER BY id",
            conversation,
        )
        whole = b"".join(row[-1] for row in rows)
        vectors = np.frombuffer(whole, "<f2").reshape(len(rows), -1) if rows else np.zeros((0, 0))
        return tuple(Memory(*row[:-1]) for row in rows), vectors.astype(np.float16)

    def facts(self, conversation: str, *, turn: int | None = None) -> FactBook:
        """The book of facts, as it is now or as it was after `turn`."""
        # With max(), SQLite takes the other columns from the row that has it.
        rows = self._rows(
            "SELECT place, max(written), key, value, text, turn, kind, confidence, is_correction, "
            "replaces, valid_to, ending FROM facts WHERE conversation = ? AND written <= ? "
            "GROUP BY place ORDER BY place",
            conversation,
            2**62 if turn is None else turn,
        )
        return FactBook(tuple(fact_of(row[2:]) for row in rows))

    # Within

    def _require_next(self, conversation: str, number: int, key: str) -> int | None:
        """The failed turn with this key that is tried again, if there is one."""
        last = self.last_turn(conversation)
        if number != last + 1:
            raise ConversationConflict(
                f"turn {number} of conversation {conversation!r} cannot be added to {self._file}: "
                f"its last turn is {last}. Another process has added to it, or it was read too "
                "long ago; read it again."
            )
        before = self._rows(
            "SELECT number, failure FROM turns WHERE conversation = ? AND key = ? "
            "ORDER BY number DESC LIMIT 1",
            conversation,
            key,
        )
        if before and before[0][1] is None:
            raise ConversationConflict(
                f"turn {number} of conversation {conversation!r} cannot be added to {self._file}: "
                f"its key {key!r} is that of turn {before[0][0]}, which has a reply."
            )
        return before[0][0] if before else None

    def _require_ids(self, conversation: str, memories: Sequence[Memory]) -> None:
        ((count,),) = self._rows(
            "SELECT coalesce(max(id) + 1, 0) FROM memories WHERE conversation = ?", conversation
        )
        ids = [memory.id for memory in memories]
        if ids != list(range(count, count + len(ids))):
            raise ValueError(f"memories must have ids from {count} on, one by one; got {ids[:8]}.")

    def _put_meta(self, conversation: str, values: Mapping[str, str]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)",
            [(conversation, name, value) for name, value in values.items()],
        )

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock, self._explaining():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, which holds the file from its begin on; undone if anything raises."""
        with self._lock, self._explaining():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(explained(error, self._file)) from error
