"""The lines of a log, in JSON lines, CSV and Parquet."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from .._files import write_text, write_whole

COLUMNS = {
    "conversation": ("conversation",),
    "turn": ("turn", "cycle"),
    "user": ("user", "user_input"),
    "reply": ("reply", "response"),
    "flag": ("flag",),
}
"""What a line says, and the names under which it is looked for, the first that is there."""
_NEEDED = ("user", "reply")
_FORMATS = (".jsonl", ".csv", ".parquet")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LogLine(NamedTuple):
    """One line of a log."""

    place: str
    """Where it stands: "line 7"."""
    conversation: str
    """Empty: the log does not say."""
    number: int | None
    user: str
    reply: str
    flag: str = ""


_Fields = tuple[str, Mapping[str, Any]]
"""The place of a line, and its values by column."""


def log_lines(path: Path) -> tuple[list[LogLine], bool]:
    """The lines of a log, and whether it breaks off in a last one that is not among them.

    **Raises** `OSError` if it cannot be read; `ValueError` naming the file and the line.
    """
    _require_format(path)
    try:
        fields, breaks_off = _READERS[path.suffix](path)
        lines = [_line(*each) for each in fields]
        numbered = [line.number is not None for line in lines]
        if any(numbered) and not all(numbered):
            place = lines[numbered.index(False)].place
            raise ValueError(f"{place}: it has no turn, and other lines have one.")
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None
    return lines, breaks_off


def write_lines(path: Path, lines: Sequence[LogLine]) -> Path:
    """Write lines to `path`, whole or not at all, in the format of its suffix.

    **Raises** `ValueError` for another suffix, or a text that UTF-8 cannot say; `OSError`.
    """
    _require_format(path)
    for line in lines:
        for text in (line.conversation, line.user, line.reply):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                where = f"turn {line.number} of {line.conversation!r}"
                raise ValueError(f"{where} must be Unicode text; {error}.") from None
    rows = [dict(zip(COLUMNS, line[1:], strict=True)) for line in lines]
    if path.suffix == ".jsonl":
        return write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    if path.suffix == ".csv":
        return write_text(path, _csv_text(rows))
    types = [pa.string(), pa.int64(), pa.string(), pa.string(), pa.string()]
    table = pa.Table.from_pylist(rows, pa.schema(list(zip(COLUMNS, types, strict=True))))
    return write_whole(path, lambda partial: pq.write_table(table, partial))


def _require_format(path: Path) -> None:
    if path.suffix not in _FORMATS:
        raise ValueError(f"a log must end in {', '.join(_FORMATS)}; got {path.name!r}.")


def _csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    # Everything in quotes: a text keeps its own line ends, and a file that breaks off shows it.
    writer = csv.DictWriter(text, COLUMNS, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json_fields(path: Path) -> tuple[list[_Fields], bool]:
    fields: list[_Fields] = []
    lines = path.read_bytes().removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and fields:  # without its end of line: it was being written
                return fields, True
            raise ValueError(f"line {number}: it is no JSON ({error}).") from None
        if not isinstance(value, dict):
            raise ValueError(f"line {number}: it must hold one JSON object.")
        fields.append((f"line {number}", value))
    return fields, False


def _csv_fields(path: Path) -> tuple[list[_Fields], bool]:
    text, half_character = _decoded(path.read_bytes().removeprefix(_BYTE_ORDER_MARK))
    rows, open_quote = _csv_rows(text)
    if not rows:
        return [], False
    header = [name.strip() for name in rows[0][1]]
    short = len(rows[-1][1]) < len(header) and not text.endswith(("\n", "\r"))
    # Where everything is in quotes, a comma at the end waits for a quote.
    cut = half_character or short or (text.startswith('"') and text.endswith(","))
    fields: list[_Fields] = []
    for line, values in rows[1 : -1 if cut and not open_quote else None]:
        if len(values) != len(header):
            raise ValueError(f"line {line}: it has {len(values)} values for {len(header)} columns.")
        fields.append((f"line {line}", dict(zip(header, values, strict=True))))
    return fields, cut or open_quote


def _decoded(data: bytes) -> tuple[str, bool]:
    """The text, and whether it breaks off within a character."""
    try:
        return data.decode(), False
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return data[: error.start].decode(), True
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: it is no UTF-8 ({error.reason}).") from None


def _csv_rows(text: str) -> tuple[list[tuple[int, list[str]]], bool]:
    """The whole rows that are not empty, each with its first line; whether one breaks off."""
    rows: list[tuple[int, list[str]]] = []
    open_quote = False
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    limit = csv.field_size_limit(max(len(text), 1))  # a reply may be longer than csv expects
    try:
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                break
            if row:
                rows.append((line, row))
    except csv.Error as error:
        if str(error) != "unexpected end of data":
            raise ValueError(f"line {reader.line_num}: it is no CSV ({error}).") from None
        open_quote = True
    finally:
        csv.field_size_limit(limit)
    return rows, open_quote


def _parquet_fields(path: Path) -> tuple[list[_Fields], bool]:
    wanted = [name for names in COLUMNS.values() for name in names]
    try:
        with pq.ParquetFile(path) as file:
            there = [name for name in wanted if name in file.schema_arrow.names]
            rows = file.read(there).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"it is no Parquet, or damaged ({error}).") from None
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)], False


_READERS = {".jsonl": _json_fields, ".csv": _csv_fields, ".parquet": _parquet_fields}


def _line(place: str, fields: Mapping[str, Any]) -> LogLine:
    found: dict[str, Any] = {}
    for column, names in COLUMNS.items():
        name = next((name for name in names if name in fields), None)
        if name is None and column in _NEEDED:
            raise ValueError(f"{place}: it has no {' or '.join(names)}.")
        found[column] = None if name is None else fields[name]
    conversation = found["conversation"]
    if isinstance(conversation, int) and not isinstance(conversation, bool):
        conversation = str(conversation)
    return LogLine(
        place,
        _text(place, "conversation", conversation),
        _number(place, found["turn"]),
        _text(place, "user", found["user"]),
        _text(place, "reply", found["reply"]),
        _text(place, "flag", found["flag"]),
    )


def _text(place: str, name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{place}: {name} must be a text; got {value!r:.60}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: {name} must be Unicode text; {error}.") from None
    return value


def _number(place: str, value: Any) -> int | None:
    if value is None:
        return None
    number = value
    if isinstance(value, str):
        text = value.strip()
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
    elif isinstance(value, float) and math.isfinite(value) and value == int(value):
        number = int(value)  # whole numbers with a gap among them often are floats in a table
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**53:
        raise ValueError(f"{place}: turn must be a whole number from 0 on; got {value!r:.60}.")
    return number
