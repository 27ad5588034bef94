"""Vectors of texts that were encoded before: in memory, or in a file that processes share."""

import contextlib
import hashlib
import itertools
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from .._check import require_in
from .encoders import Encoder

_SECONDS = 30.0  # to wait for another process that writes
_CHECKSUM_BYTES = 4
_INSERT = "INSERT OR IGNORE INTO vectors (key, vector) VALUES (?, ?)"


class CachedEncoder:
    """An encoder that encodes no text twice: vectors are kept by SHA-256 of its name and the text.

    Without a path they are kept in memory. With one they are kept in an SQLite file, which several
    threads and processes may use at once; a process that is killed leaves it whole. Vectors of
    another encoder in the same file are never taken, because the name is in the key.

    **Arguments:** `encoder`; `path` of the file, made with its folder if it is not there; `most`
    vectors are kept, those put in last.

    **Raises** `ValueError` for `most` below one. `encode` raises `ValueError` naming the file if it
    is no such file or holds a damaged vector, or if the encoder gives anything but one finite
    vector a text; `OSError` naming the file if it cannot be read or written.
    """

    def __init__(self, encoder: Encoder, path: str | Path | None = None, *, most: int = 100_000):
        require_in("most", most, 1)
        self._encoder = encoder
        self._kept = _Memory(most) if path is None else _File(Path(path), most)

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self._encoder.name

    @property
    def dimension(self) -> int:
        """The width of its vectors."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimension"]:
        """The vectors of the texts: those that are kept, and new ones, which are then kept."""
        keys = [self._key(text) for text in texts]
        found = self._kept.find(keys, self.dimension)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            vectors = np.asarray(self._encoder.encode(list(missing.values())), np.float32)
            wanted = (len(missing), self.dimension)
            if vectors.shape != wanted or not np.isfinite(vectors).all():
                raise ValueError(
                    f"encoder {self.name!r} must give finite vectors of shape {wanted}; got shape "
                    f"{vectors.shape}."
                )
            new = dict(zip(missing, vectors, strict=True))
            self._kept.keep(new)
            found |= new
        rows = [found[key] for key in keys]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def _key(self, text: str) -> bytes:
        named = f"{self.name}\0{text}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(named).digest()


class _Memory:
    def __init__(self, most: int):
        self._most, self._vectors = most, dict[bytes, np.ndarray]()
        self._lock = threading.Lock()

    def find(self, keys: Iterable[bytes], dimension: int) -> dict[bytes, np.ndarray]:
        with self._lock:
            return {key: self._vectors[key] for key in keys if key in self._vectors}

    def keep(self, vectors: dict[bytes, np.ndarray]) -> None:
        with self._lock:
            self._vectors |= vectors
            surplus = max(len(self._vectors) - self._most, 0)
            for key in list(itertools.islice(self._vectors, surplus)):
                del self._vectors[key]


class _File:
    """A table of key and vector. Connected to anew at each use, so that it may be shared."""

    def __init__(self, path: Path, most: int):
        self._path, self._most = path, most

    def find(self, keys: Iterable[bytes], dimension: int) -> dict[bytes, np.ndarray]:
        with self._connection() as connection:
            rows = {
                key: row[0]
                for key in keys
                for row in connection.execute("SELECT vector FROM vectors WHERE key = ?", (key,))
            }
        return {key: self._unpacked(row, dimension) for key, row in rows.items()}

    def keep(self, vectors: dict[bytes, np.ndarray]) -> None:
        rows = [(key, _packed(vector)) for key, vector in vectors.items()]
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
            connection.execute(
                "DELETE FROM vectors WHERE place <= (SELECT max(place) FROM vectors) - ?",
                (self._most,),
            )
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(
                sqlite3.connect(self._path, timeout=_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS vectors "
                    "(place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL)"
                )
                yield connection
        except sqlite3.OperationalError as error:
            raise OSError(f"cannot use the vectors in {self._path}: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"path must be a file of vectors; {self._path} is none, or damaged ({error}). "
                "Delete it, and the texts are encoded again."
            ) from error

    def _unpacked(self, row: object, dimension: int) -> Float32[np.ndarray, " dimension"]:
        if isinstance(row, bytes) and len(row) == _CHECKSUM_BYTES + 4 * dimension:
            checksum, vector = row[:_CHECKSUM_BYTES], row[_CHECKSUM_BYTES:]
            if zlib.crc32(vector).to_bytes(_CHECKSUM_BYTES, "little") == checksum:
                return np.frombuffer(vector, "<f4").astype(np.float32)
        raise ValueError(
            f"path must be a file of vectors; {self._path} holds a damaged one. Delete it, and the "
            "texts are encoded again."
        )


def _packed(vector: Float32[np.ndarray, " dimension"]) -> bytes:
    stored = vector.astype("<f4").tobytes()
    return zlib.crc32(stored).to_bytes(_CHECKSUM_BYTES, "little") + stored
