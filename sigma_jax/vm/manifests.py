"""The manifest of an archive: JSON that anyone may have written, so each entry is checked."""

import itertools
import json
import reprlib
import unicodedata
from collections.abc import Iterable
from pathlib import PureWindowsPath
from typing import Any, NamedTuple, NoReturn, get_args

from .compression import Codec

_LARGEST = 2**53 - 1  # every JSON reader keeps whole numbers exactly up to here
_shown = reprlib.Repr()  # a hostile value may be megabytes long
_shown.maxstring = 200


class Member(NamedTuple):
    """Where a member is stored, how, and what it must expand to."""

    size: int
    start: int
    end: int
    sha256: object
    codec: str


def json_bytes(name: str, value: Any) -> bytes:
    """`value` as compact JSON; raises `ValueError` naming `name` where JSON has no word for it."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be what JSON can say: {error}.") from error


def json_object(name: str, data: bytes) -> dict[str, Any]:
    """The JSON object that `data` spells; raises `ValueError` naming `name` if it is none."""
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not UTF-8 JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object; got {said(value)}.")
    return value


def listed_members(manifest: dict[str, Any], stored: int) -> dict[str, Member]:
    """The members by name, each of them within the `stored` bytes and none over another.

    **Raises** `ValueError` for a manifest that is not one.
    """
    for key, expected in (("format", "csf-pack"), ("version", "0.8")):
        if manifest.get(key) != expected:
            raise ValueError(f"its {key} must be {expected!r}; got {said(manifest.get(key))}.")
    entries = manifest.get("files")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"its files must be a list of objects; got {said(entries)}.")
    if _whole(manifest, "file_count", "the manifest") != len(entries):
        raise ValueError(f"{manifest['file_count']} files declared, {len(entries)} listed.")
    require_names(entry.get("path") for entry in entries)
    members = {entry["path"]: _member(entry, stored) for entry in entries}
    spans = [(member.start, member.end, said(name)) for name, member in members.items()]
    if (shared := manifest.get("shared_dict")) is not None:
        if not isinstance(shared, dict) or shared.get("codec") != "zstd":
            raise ValueError(f"its shared_dict must be for zstd; got {said(shared)}.")
        spans.append((*stored_span(shared, "size", "shared_dict", stored), "shared_dict"))
    spans = sorted(span for span in spans if span[0] < span[1])
    for (_, end, first), (start, _, second) in itertools.pairwise(spans):
        if start < end:
            raise ValueError(f"{first} and {second} overlap.")
    return members


def stored_span(entry: dict[str, Any], length: str, what: str, stored: int) -> tuple[int, int]:
    """Where an entry starts and ends; raises `ValueError` unless within the `stored` bytes."""
    start = _whole(entry, "offset", what)
    end = start + _whole(entry, length, what)
    if end > stored:
        raise ValueError(f"{what} ends at byte {end} of the {stored} there are.")
    return start, end


def require_names(names: Iterable[object]) -> None:
    """Raise ValueError unless all are different files below one directory, on any system."""
    paths = []
    for name in names:
        if not isinstance(name, str) or not _is_inside(name):
            raise ValueError(f"{said(name)} is not a relative path below the destination.")
        paths.append(name.split("/"))
    # In this order whatever lies below a path comes right after it.
    for first, second in itertools.pairwise(sorted(paths)):
        if second[: len(first)] == first:
            clash = "/".join(second)
            raise ValueError(f"{said('/'.join(first))} is there twice, or above {said(clash)}.")


def said(value: object) -> str:
    """`value` as a message may show it, however long it is."""
    return _shown.repr(value)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is a number in Python only")


def _member(entry: dict[str, Any], stored: int) -> Member:
    what = f"member {said(entry['path'])}"
    size = _whole(entry, "size", what)
    start, end = stored_span(entry, "csize", what, stored)
    codec = entry.get("codec")
    if codec is None:  # archives from before there was a choice
        codec = "zlib" if entry.get("compressed") else "store"
    if codec not in get_args(Codec):
        known = ", ".join(get_args(Codec))
        raise ValueError(f"{what} has codec {said(codec)}; known are {known}.")
    if codec == "store" and size != end - start:
        raise ValueError(f"{what} declares {size} bytes and stores {end - start}, uncompressed.")
    return Member(size, start, end, entry.get("sha256"), codec)


def _whole(entry: dict[str, Any], key: str, what: str) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError(f"{what}: {key} must be a whole number from 0 up; got {said(value)}.")
    return value


def _is_inside(name: str) -> bool:
    if "\\" in name or PureWindowsPath(name).drive:
        return False
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return False  # control characters, and surrogates that no file system can spell
    return all(part.strip(". ") for part in name.split("/"))  # Windows reads ".. " as ".."
