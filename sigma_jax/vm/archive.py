r"""CSF-Pack v0.8 archives: named members in one file, each with its digest, whole or refused.

| bytes | content (big-endian) |
|---|---|
| 4, 2, 2, 4 | `CSF\0`; version 0, 8; flags, bit 0 = compressed; length of the manifest |
| … | manifest (UTF-8 JSON), members, an optional shared zstd dictionary |
| 32, 8 | sha256 of everything before it; size of the file, this footer included |

Anyone can recompute the digest, so nothing in the manifest is believed because of it.
"""

import hashlib
import os
import secrets
import struct
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import zstandard

from .compression import Codec, expanded, shrunk
from .manifests import json_bytes, json_object, listed_members, require_names, stored_span

_MAGIC, _VERSION = b"CSF\0", (0, 8)
_HEADER = struct.Struct(">4sBBHI")  # magic, major, minor, flags, manifest length
_FOOTER = struct.Struct(">32sQ")


class ArchiveError(ValueError):
    """An archive that is damaged, edited, hostile, or of another format; says which and what."""


class Archive:
    """A verified archive in memory; members are expanded one at a time, when they are read.

    **Arguments:** `data`, the whole file; `source`, what messages call it.

    **Raises** `ArchiveError` if the magic, the version, the size or the digest is wrong (checked
    in that order, before the manifest is parsed), or if the manifest is not one: not UTF-8 JSON
    (NaN is none), numbers that are not whole, members that overlap, repeat or lie outside, an
    unknown codec, a name that would leave the directory it is extracted to.
    """

    source: str
    manifest: dict[str, Any]

    def __init__(self, data: bytes, source: str = "the archive"):
        self.source = source
        try:
            self.manifest, self._blobs = _verified(data)
            self._members = listed_members(self.manifest, len(self._blobs))
            self._dictionary = self._shared_dictionary()
        except ValueError as error:
            raise ArchiveError(f"{source}: {error}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in the manifest's order."""
        return tuple(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of member `name`, never more of them in memory than it declares.

        **Raises** `ArchiveError` if there is no such member, or its bytes are not of the declared
        size and sha256.
        """
        if name not in self._members:
            raise ArchiveError(f"{self.source}: no member {name!r}; there are {self.names}.")
        member = self._members[name]
        stored = self._blobs[member.start : member.end]
        try:
            data = expanded(stored, member.codec, member.size, self._dictionary)
        except (zlib.error, zstandard.ZstdError) as error:
            what = f"{self.source}: member {name!r} is not {member.codec} data ({error})."
            raise ArchiveError(what) from error
        if len(data) != member.size:
            found = "more" if len(data) > member.size else f"{len(data)} bytes"
            what = f"expands to {found}, not to the {member.size} bytes it declares"
            raise ArchiveError(f"{self.source}: member {name!r} {what}.")
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise ArchiveError(f"{self.source}: member {name!r} does not have its sha256.")
        return data

    def extract(self, destination: str | Path) -> None:
        """Write every member below `destination`, which appears complete or not at all.

        All members are read and checked before anything is written, into a new directory beside
        the destination that then takes its name: no link that lies there already is followed.

        **Raises** `ValueError` if `destination` exists and is not an empty directory;
        `ArchiveError` as `read` does.
        """
        target = Path(destination)
        if target.is_symlink() or (target.exists() and not _is_empty_directory(target)):
            raise ValueError(f"destination must be new or an empty directory; {target} is not.")
        target = target.resolve()
        contents = {name: self.read(name) for name in self.names}
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as staging:
            root = Path(staging, "contents")
            root.mkdir()
            for name, data in contents.items():
                path = root.joinpath(*name.split("/"))
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    file.write(data)
            os.replace(root, target)

    def _shared_dictionary(self) -> zstandard.ZstdCompressionDict | None:
        entry = self.manifest.get("shared_dict")
        if entry is None:
            return None
        start, end = stored_span(entry, "size", "shared_dict", len(self._blobs))
        return zstandard.ZstdCompressionDict(bytes(self._blobs[start:end]))


def read_archive(source: str | Path | bytes) -> Archive:
    """Read and verify an archive: a file, or the bytes of one.

    **Raises** `OSError` if the file cannot be read; `ArchiveError` as `Archive` does.
    """
    if isinstance(source, bytes):
        return Archive(source)
    return Archive(Path(source).read_bytes(), str(source))


def write_archive(
    path: str | Path,
    files: Mapping[str, bytes],
    *,
    codec: Codec = "zstd",
    descriptions: Mapping[str, str] | None = None,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    shared_dictionary: bytes | None = None,
    created_at: float | None = None,
) -> None:
    """Write `files` as an archive: `path` holds the old bytes or all of the new ones.

    **Arguments:** `files`, from relative POSIX paths to bytes; `codec`, zstd level 19 with
    long-distance matching, zlib level 9, or store; `descriptions` and `metadata` (JSON objects) of
    some of the members; `shared_dictionary`, a zstd dictionary for all of them; `created_at`, in
    seconds since 1970, now unless given: with it, the same input gives the same bytes.

    **Raises** `ValueError`, naming the argument, for an unknown codec, a name that is not a path
    below a directory, a description of no member, a dictionary without zstd, or metadata that
    JSON cannot say; `OSError` if the file cannot be written.
    """
    notes = {"description": descriptions or {}, "metadata": metadata or {}}
    _require_writable(files, codec, notes, shared_dictionary)
    entries, blobs = _compressed(files, codec, shared_dictionary)
    for entry in entries:
        name = entry["path"]
        entry |= {key: named[name] for key, named in notes.items() if name in named}
    manifest: dict[str, Any] = {
        "format": "csf-pack",
        "version": "0.8",
        "created_at": time.time() if created_at is None else created_at,
        "compressed": codec != "store",
        "codec": codec,
        "file_count": len(entries),
        "files": entries,
    }
    if shared_dictionary is not None:  # kept as it is: its codec says whom it serves
        place = {"offset": len(blobs), "size": len(shared_dictionary), "codec": "zstd"}
        manifest["shared_dict"] = place
        blobs += shared_dictionary
    text = json_bytes("descriptions, metadata and created_at", manifest)
    body = _HEADER.pack(_MAGIC, *_VERSION, int(codec != "store"), len(text)) + text + blobs
    _replace(Path(path), body + _footer(body))


def _require_writable(
    files: Mapping[str, bytes],
    codec: str,
    notes: Mapping[str, Mapping[str, Any]],
    dictionary: bytes | None,
) -> None:
    if codec not in get_args(Codec):
        raise ValueError(f"codec must be one of {get_args(Codec)}; got {codec!r}.")
    if dictionary is not None and (codec != "zstd" or not dictionary):
        raise ValueError(f"shared_dictionary must be zstd's and not empty; codec is {codec!r}.")
    require_names(files)
    for name, data in files.items():
        if not isinstance(data, bytes):
            raise ValueError(f"files must hold bytes; {name!r} is {type(data).__name__}.")
    for key, named in notes.items():
        if strangers := [name for name in named if name not in files]:
            raise ValueError(f"{key} given for {strangers}, not among files.")


def _footer(body: bytes) -> bytes:
    return _FOOTER.pack(hashlib.sha256(body).digest(), len(body) + _FOOTER.size)


def _verified(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The manifest and the bytes after it, once the file is known to be as it was written."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"not a CSF archive: it starts with {data[: len(_MAGIC)]!r}.")
    if len(data) < _HEADER.size + _FOOTER.size:
        raise ValueError(f"truncated: {len(data)} bytes are less than a header and a footer.")
    _, major, minor, _, length = _HEADER.unpack_from(data)
    if (major, minor) != _VERSION:
        raise ValueError(f"version {major}.{minor}; only version 0.8 can be read.")
    body = memoryview(data)[: -_FOOTER.size]
    digest, size = _FOOTER.unpack_from(data, len(body))
    if size != len(data):
        raise ValueError(f"truncated or edited: {len(data)} bytes, and it declares {size}.")
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("edited: its bytes do not have the sha256 in its footer.")
    content = body[_HEADER.size :]
    if length > len(content):
        raise ValueError(f"its manifest of {length} bytes would end beyond the file.")
    return json_object("the manifest", bytes(content[:length])), content[length:]


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _compressed(
    files: Mapping[str, bytes], codec: Codec, dictionary: bytes | None
) -> tuple[list[dict[str, Any]], bytes]:
    """The manifest's entries, and the members one after the other."""
    entries, blobs = [], []
    offset = 0
    for name, data in files.items():
        try:
            stored = shrunk(data, codec, dictionary)
        except zstandard.ZstdError as error:
            raise ValueError(f"shared_dictionary is not one of zstd's ({error}).") from error
        entry = {
            "path": name,
            "size": len(data),
            "csize": len(stored),
            "sha256": hashlib.sha256(data).hexdigest(),
            "offset": offset,
            "compressed": codec != "store",
            "codec": codec,
        }
        entries.append(entry)
        blobs.append(stored)
        offset += len(stored)
    return entries, b"".join(blobs)


def _replace(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: whoever opens it finds the old bytes or the new ones."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
