"""The leaderboard: rows that are whole and checked, and win rates against a textbook count."""

import errno
import fcntl
import itertools
import json
import math
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.grounding import append_row, read_rows, win_rates

ROW = {
    "time": "2026-11-28T12:00:00+00:00",
    "label": "kernel-mini",
    "command": "python -m experiments.gates",
    "version": "0.1.0",
    "gates": {"A": {"passed": True, "prompts": 100}, "C": {"pass@1": 0.1, "passed": None}},
}


def test_rows_are_read_as_they_were_appended(tmp_path):
    path = tmp_path / "new" / "leaderboard.jsonl"
    rows = [{**ROW, "label": f"σ {n}", "notes": [n, {"free": None}]} for n in range(3)]
    for row in rows:
        append_row(path, row)
    assert read_rows(path) == rows
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == rows
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / "none.jsonl")


def without(key):
    return {name: value for name, value in ROW.items() if name != key}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "row must be a JSON object; got 'None'"),
        ([ROW], "row must be a JSON object"),
        *[(without(key), f"{key} must be a text that is not empty; got None")
          for key in ("time", "label", "command", "version")],
        (without("gates"), "gates must be an object; got None"),
        ({**ROW, "label": " "}, "label must be a text that is not empty"),
        ({**ROW, "version": 1}, "version must be a text that is not empty; got 1"),
        ({**ROW, "time": "yesterday"}, "time must be ISO 8601 with its zone; got 'yesterday'"),
        ({**ROW, "time": "2026-11-28T12:00:00"}, "time must be ISO 8601 with its zone"),
        ({**ROW, "gates": [1]}, r"gates must be an object; got \[1\]"),
        ({**ROW, "gates": {"B": math.nan}}, r"row\.gates\.B must be a finite number; got nan"),
        ({**ROW, "bytes": [math.inf]}, r"row\.bytes\[0\] must be a finite number; got inf"),
        ({**ROW, "more": {1}}, r"row\.more must be what JSON can say"),
        ({**ROW, "scores": [1]}, r"scores must be \{provider"),
        ({**ROW, "scores": {"a": 1}}, r"scores\.a must be \{question: score\}; got 1"),
        ({**ROW, "scores": {"a": {"q": 1.5}}}, r"scores\.a\.q must lie in \[0, 1\]; got 1.5"),
        ({**ROW, "scores": {"a": {"q": math.nan}}}, r"scores\.a\.q must lie in \[0, 1\]; got nan"),
        ({**ROW, "scores": {"a": {"q": 10**400}}}, r"scores\.a\.q must lie in"),
        ({**ROW, "scores": {"a": {"q": "1"}}}, r"scores\.a\.q must lie in \[0, 1\]; got '1'"),
    ],
)  # fmt: skip
def test_what_is_no_row_is_named_and_not_written(row, words, tmp_path):
    path = tmp_path / "leaderboard.jsonl"
    append_row(path, ROW)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=words):
        append_row(path, row)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"not json", "line 2 is no JSON"),
        (b"", "line 2 is no JSON"),
        (b"\xff\x00", "line 2 is no JSON"),
        (b"[" * 100_000, "line 2 is no JSON"),
        (b'{"label": NaN}', "line 2 is no JSON: row.label must be a finite number"),
        (b"[1]", "line 2 must be a JSON object"),
        (b'{"label": ""}', "line 2: time must be a text that is not empty"),
    ],
)
def test_a_line_that_is_no_row_is_named(line, words, tmp_path):
    path = tmp_path / "leaderboard.jsonl"
    good = json.dumps(ROW).encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    with pytest.raises(ValueError, match=words) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)


def test_a_torn_last_line_is_reported_and_moved_aside(tmp_path, caplog):
    path, line = tmp_path / "leaderboard.jsonl", json.dumps(ROW).encode()
    torn = line[: len(line) // 2]
    path.write_bytes(line + b"\n" + torn)
    assert read_rows(path) == [ROW]
    assert f"its last line is torn ({len(torn)} bytes)" in caplog.text
    caplog.clear()
    append_row(path, {**ROW, "label": "next"})
    assert "its last line was torn" in caplog.text
    assert path.with_name("leaderboard.jsonl.torn").read_bytes() == torn + b"\n"
    caplog.clear()
    assert [row["label"] for row in read_rows(path)] == ["kernel-mini", "next"]
    assert caplog.text == ""


def test_a_last_line_without_its_end_is_a_row(tmp_path):
    """As some editors leave it."""
    path = tmp_path / "leaderboard.jsonl"
    path.write_text(json.dumps(ROW))
    assert read_rows(path) == [ROW]
    append_row(path, ROW)
    assert read_rows(path) == [ROW, ROW]


def test_a_row_that_cannot_be_written_leaves_the_file(tmp_path, monkeypatch):
    path, write, calls = tmp_path / "leaderboard.jsonl", os.write, []
    append_row(path, ROW)
    before = path.read_bytes()

    def full(handle, data):
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, bytes(data)[:30])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append_row(path, ROW)
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_rows_of_many_writers_are_all_there(tmp_path):
    path = tmp_path / "leaderboard.jsonl"
    work = [
        threading.Thread(
            target=lambda n=n: [append_row(path, {**ROW, "label": f"{n}"}) for _ in range(10)]
        )
        for n in range(6)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    labels = sorted(row["label"] for row in read_rows(path))
    assert labels == sorted([str(n) for n in range(6)] * 10)


def test_a_writer_waits_for_the_one_before(tmp_path):
    path = tmp_path / "leaderboard.jsonl"
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer = threading.Thread(target=append_row, args=(path, ROW))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        assert path.read_bytes() == b""
    writer.join()
    assert read_rows(path) == [ROW]


# Win rates --------------------------------------------------------------------------------------


def test_win_rates_by_hand():
    rows = [
        ROW,
        {"scores": {"grounded": {"q1": 1, "q2": True, "q3": 0}, "alone": {"q1": 0, "q2": 1}}},
        {"scores": {"offline": {"q1": 0.5, "q9": 1}}},
    ]
    # q1: grounded > offline > alone; q2: grounded = alone; q3 and q9: nobody to compare with.
    assert win_rates(rows) == {"alone": 0.5 / 3, "grounded": 2.5 / 3, "offline": 0.5}
    # The last score counts.
    assert win_rates([*rows, {"scores": {"alone": {"q1": 1}}}])["alone"] == 2 / 3
    assert win_rates([{"scores": {"lonely": {"q1": 1}}}]) == {}
    assert win_rates([]) == {}
    with pytest.raises(ValueError, match=r"rows\[0\]\.scores\.a\.q must lie in \[0, 1\]; got 2"):
        win_rates([{"scores": {"a": {"q": 2}}}])


SCORES = st.dictionaries(
    st.sampled_from("abcd"),
    st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), st.sampled_from([0, 0.25, 0.5, 1])),
)


@given(st.lists(SCORES, max_size=4))
def test_win_rates_are_a_share_of_the_comparisons(evaluations):
    rates = win_rates([{"scores": scores} for scores in evaluations])
    last = {}
    for scores in evaluations:
        for provider, answers in scores.items():
            for question, score in answers.items():
                last[provider, question] = score
    points = {}
    for (one, question), (two, asked) in itertools.permutations(last, 2):
        if question == asked and one != two:
            mine, theirs = last[one, question], last[two, question]
            points.setdefault(one, []).append(1 if mine > theirs else 0.5 * (mine == theirs))
    assert set(rates) == set(points)
    for provider, won in points.items():
        assert rates[provider] == pytest.approx(sum(won) / len(won), abs=1e-12)
        assert 0 <= rates[provider] <= 1
