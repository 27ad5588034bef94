"""Files of one JSON value a line: what a line may say, and lines appended whole or not at all."""

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_MOST_NESTED = 64
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def json_line(name: str, value: Any) -> bytes:
    """`value` as compact JSON in UTF-8, without an end of line: that is never part of JSON.

    A tuple becomes a list. Nothing else changes, so what is read back is what was given.

    **Raises** `ValueError` naming `name`, and the part of it, for what JSON cannot say.
    """
    _require_json(name, value, 0)
    try:
        return _encode(value).encode()
    except ValueError as error:  # half a surrogate pair; a whole number of thousands of digits
        raise ValueError(f"{name} must be what JSON can say: {error}.") from error


def append_bytes(handle: int, data: bytes, end: int) -> int:
    """Append `data` to an open file of `end` bytes and return its new length.

    If that fails midway, by a full disk say, the file is cut back to `end` and the error goes on.
    """
    view, written = memoryview(data), 0
    try:
        while written < len(data):
            written += os.write(handle, view[written:])
    except BaseException:  # an interrupt, too, would leave half a line
        os.ftruncate(handle, end)
        raise
    return end + len(data)


def set_aside(path: Path, handle: int, torn: bytes, end: int) -> None:
    """Cut `torn`, half a line after the first `end` bytes, off a file, and keep it beside it.

    It is added to `<path>.torn`, and reported in the log.
    """
    kept = path.with_name(f"{path.name}.torn")
    with kept.open("ab") as aside:
        aside.write(torn + b"\n")
        aside.flush()
        os.fsync(aside.fileno())
    os.ftruncate(handle, end)
    _log.warning(
        "%s: its last line was torn (%d bytes without an end of line); moved to %s.",
        *(path, len(torn), kept),
    )


def _require_json(name: str, value: Any, depth: int) -> None:
    if depth > _MOST_NESTED:
        raise ValueError(f"{name[:80]}… is nested more than {_MOST_NESTED} deep, or in itself.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{name} must have texts as keys; got the key {key!r}.")
            _require_json(f"{name}.{key}", item, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_json(f"{name}[{index}]", item, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number; got {value}.")
    elif value is not None and not isinstance(value, str | int):
        kind = type(value).__name__
        raise ValueError(f"{name} must be what JSON can say; got an object of type {kind}.")
