"""The leaderboard: a file of one evaluation a line, and what it says about who answers better."""

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from .json_lines import append_bytes, json_line, set_aside

_log = logging.getLogger(__name__)


def append_row(path: str | Path, row: dict[str, Any]) -> None:
    """Append the row of an evaluation to the leaderboard at `path`, made if there is none.

    Several processes may append at once. The row is on the disk when this returns. A last line
    that an earlier writer left torn is moved to `<path>.torn`, and reported in the log.

    **Arguments:** `row`, a JSON object of at least `time` (ISO 8601, with its zone), `label`,
    `command` and `version`, texts that are not empty, and `gates`, an object of what each gate
    found. If it has `scores`, they are `{provider: {question: score from 0 to 1}}`. What else it
    says is free.

    **Raises** `ValueError` naming what is missing or wrong, a number that is not finite, say;
    `OSError` if it cannot be written: the file is then as before.
    """
    _require_row("row", row)
    line = json_line("row", row) + b"\n"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file:
        handle = file.fileno()
        fcntl.flock(handle, fcntl.LOCK_EX)
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        last = content[end:]
        if last and _is_row(last):  # an editor that leaves out the last end of line
            line, end = b"\n" + line, len(content)
        elif last:
            set_aside(path, handle, last, end)
        append_bytes(handle, line, end)
        os.fsync(handle)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a leaderboard, oldest first.

    A last line without its end of line is a row if it is whole; if it is torn, it is left out and
    reported in the log.

    **Raises** `ValueError` naming the file and the line of anything else that is no row.
    """
    path = Path(path)
    content = path.read_bytes()
    *lines, last = content.split(b"\n")
    rows = [_row(f"{path}: line {number}", line) for number, line in enumerate(lines, 1)]
    if last and _is_row(last):
        rows.append(_row(f"{path}: the last line", last))
    elif last:
        _log.warning("%s: its last line is torn (%d bytes), and left out.", path, len(last))
    return rows


def win_rates(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """By provider, the share of comparisons that it won: a number from 0 to 1.

    A comparison is two providers and a question that both were scored on, in one row or in two. The
    higher score wins, equal scores are half a win each, and a question that a provider was scored
    on several times counts as it was the last time. A provider that met no other is left out:
    nothing is known of it.

    **Arguments:** `rows`, oldest first, as `read_rows` gives them; those without `scores` add
    nothing.

    **Raises** `ValueError` for scores that are none.
    """
    by_question: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows):
        _require_scores(f"rows[{number}].scores", row.get("scores", {}))
        for provider, scores in row.get("scores", {}).items():
            for question, score in scores.items():
                by_question.setdefault(question, {})[provider] = score
    won: dict[str, float] = {}
    met: dict[str, int] = {}
    for scored in by_question.values():
        for one, two in combinations(scored, 2):
            points = 0.5 + 0.5 * ((scored[one] > scored[two]) - (scored[one] < scored[two]))
            for provider, gained in ((one, points), (two, 1 - points)):
                won[provider] = won.get(provider, 0) + gained
                met[provider] = met.get(provider, 0) + 1
    return {provider: won[provider] / met[provider] for provider in sorted(won)}


def _row(name: str, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        json_line("row", row)  # NaN, which Python reads and JSON has not
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    _require_row(name, row)
    return row


def _is_row(line: bytes) -> bool:
    try:
        _row("line", line)
    except ValueError:
        return False
    return True


def _require_row(name: str, row: Any) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"{name} must be a JSON object; got {str(row)[:80]!r}.")
    for key in ("time", "label", "command", "version"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise ValueError(f"{name}: {key} must be a text that is not empty; got {row.get(key)}.")
    try:
        zone = datetime.fromisoformat(row["time"]).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise ValueError(f"{name}: time must be ISO 8601 with its zone; got {row['time']!r}.")
    if not isinstance(row.get("gates"), dict):
        raise ValueError(f"{name}: gates must be an object; got {row.get('gates')!r}.")
    _require_scores(f"{name}: scores", row.get("scores", {}))


def _require_scores(name: str, scores: Any) -> None:
    if not isinstance(scores, dict):
        raise ValueError(f"{name} must be {{provider: {{question: score}}}}; got {scores!r}.")
    for provider, by_question in scores.items():
        if not isinstance(by_question, dict):
            raise ValueError(f"{name}.{provider} must be {{question: score}}; got {by_question!r}.")
        for question, score in by_question.items():
            if not isinstance(score, int | float) or not 0 <= score <= 1:
                raise ValueError(f"{name}.{provider}.{question} must lie in [0, 1]; got {score!r}.")
