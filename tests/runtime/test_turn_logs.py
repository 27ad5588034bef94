"""Logs come back as they were written, and what is missing or doubled in one is flagged."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import (
    ConversationStore,
    LogFlag,
    LoggedConversation,
    LoggedTurn,
    TurnRecord,
    read_turns,
    recorded_log,
    write_turns,
)

SUFFIXES = (".jsonl", ".csv", ".parquet")
GAPS = (LogFlag.MISSING, LogFlag.CONFLICTING, LogFlag.TRUNCATED)
# Every character that UTF-8 can say, and those that formats trip over more often.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('\r\n",\\\0\u2028\ufeff \t;'),
    max_size=12,
) | st.sampled_from(["NA", "null", "NaN", "1", "true", "#", "\r\n", ""])


@st.composite
def conversations(draw) -> LoggedConversation:
    first = draw(st.integers(0, 10**6))
    turns = []
    for number in range(first, first + draw(st.integers(1, 4))):
        flag = draw(st.sampled_from(LogFlag))
        words = ("", "") if flag in GAPS else (draw(TEXTS), draw(TEXTS))
        turns.append(LoggedTurn(number, *words, flag))
    return LoggedConversation(draw(TEXTS.filter(bool)), tuple(turns))


LOGS = st.lists(conversations(), min_size=1, max_size=3, unique_by=lambda each: each.name)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(log=LOGS)
def test_a_log_comes_back_as_it_was(tmp_path_factory, suffix: str, log) -> None:
    path = tmp_path_factory.mktemp("log") / f"log{suffix}"
    assert read_turns(write_turns(path, log)) == tuple(log)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_reply_of_five_megabytes_comes_back(tmp_path, suffix: str) -> None:
    log = (LoggedConversation("long", (LoggedTurn(1, "how long?", "so löng " * 700_000),)),)
    assert read_turns(write_turns(tmp_path / f"log{suffix}", log)) == log


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_log_that_breaks_off_anywhere_keeps_its_whole_lines(tmp_path, suffix: str) -> None:
    log = LoggedConversation(
        "a", tuple(LoggedTurn(n, f"question\r\n{n}é", f'"answer", {n}') for n in (1, 2, 3))
    )
    path = write_turns(tmp_path / f"log{suffix}", [log])
    whole = path.read_bytes()
    ends = [end for end in range(len(whole) + 1) if whole[end - 1 : end] == b"\n"]
    rest = log.turns[0]
    start = whole.index(b"question\r\n2" if suffix == ".csv" else b"question\\r\\n2")
    for size in range(start, len(whole) - 6):
        if size in ends or size + 1 in ends:
            continue
        path.write_bytes(whole[:size])
        (read,) = read_turns(path)
        assert read.turns[0] == rest
        assert read.turns[-1].flag is LogFlag.TRUNCATED, whole[:size]
        assert read.turns[:-1] == log.turns[: len(read.turns) - 1]


def lines(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_missing_and_repeated_turns_are_flagged(tmp_path) -> None:
    path = tmp_path / "run.jsonl"
    rows = [
        (5, "e", "E"),
        (1, "a", "A"),
        (2, "b", "B"),
        (2, "b", "B"),
        (6, "f", "F"),
        (6, "f", "G"),
    ]
    lines(path, [{"cycle": n, "user_input": u, "response": r, "phase": 1} for n, u, r in rows])
    assert read_turns(path) == (
        LoggedConversation(
            "run",
            (
                LoggedTurn(1, "a", "A"),
                LoggedTurn(2, "b", "B", LogFlag.REPEATED),
                LoggedTurn(3, flag=LogFlag.MISSING),
                LoggedTurn(4, flag=LogFlag.MISSING),
                LoggedTurn(5, "e", "E"),
                LoggedTurn(6, flag=LogFlag.CONFLICTING),
            ),
        ),
    )


def test_tables_of_others_are_read(tmp_path) -> None:
    table = pd.DataFrame(
        {
            "conversation": ["x", "y", "x"],
            "turn": [1.0, 7.0, 2.0],  # as pandas makes of numbers with a gap
            "user": ["one", "two", "three"],
            "response": ["un", None, "trois"],
            "latency": [0.1, 0.2, 0.3],
        }
    )
    expected = (
        LoggedConversation("x", (LoggedTurn(1, "one", "un"), LoggedTurn(2, "three", "trois"))),
        LoggedConversation("y", (LoggedTurn(7, "two", ""),)),
    )
    table.to_parquet(tmp_path / "log.parquet")
    table.astype({"turn": int}).to_csv(tmp_path / "log.csv", index=False)
    assert read_turns(tmp_path / "log.parquet") == expected
    assert read_turns(tmp_path / "log.csv") == expected
    (tmp_path / "plain.csv").write_bytes(b"\xef\xbb\xbfuser,reply\r\na,b\r\nc,d")
    (counted,) = read_turns(tmp_path / "plain.csv")
    assert counted.turns == (LoggedTurn(1, "a", "b"), LoggedTurn(2, "c", "d"))


GOOD = '{"turn": 1, "user": "a", "reply": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("log.jsonl", GOOD + "{\n" + GOOD, "line 2: it is no JSON"),
        ("log.jsonl", GOOD + "[1]\n", "line 2: it must hold one JSON object"),
        ("log.jsonl", GOOD + '{"turn": 2, "user": "a"}\n', "line 2: it has no reply or response"),
        ("log.jsonl", GOOD + '{"user": "a", "reply": "b"}\n', "line 2: it has no turn"),
        ("log.jsonl", GOOD + GOOD.replace("1", "true"), "line 2: turn must be a whole number"),
        ("log.jsonl", GOOD + GOOD.replace("1", "99999"), "line 2: turn 99999"),
        ("log.jsonl", GOOD + GOOD.replace('"b"', "5"), "line 2: reply must be a text; got 5"),
        ("log.jsonl", GOOD + GOOD.replace("b", "\\ud800"), "line 2: reply must be Unicode"),
        ("log.jsonl", GOOD[:-2] + ', "flag": "odd"}\n', "line 1: no flag is called 'odd'"),
        ("log.jsonl", "", "holds no whole turn"),
        ("log.csv", "turn,user,reply\n1,a,b\n2,c\n", "line 3: it has 2 values for 3 columns"),
        ("log.csv", 'turn,user,reply\n1,a,b\n2,"c"x,d\n', "line 3: it is no CSV"),
        ("log.csv", "turn,user,reply\n1.5,a,b\n", "line 2: turn must be a whole number"),
        ("log.csv", "turn,who,reply\n1,a,b\n", "line 2: it has no user or user_input"),
        ("log.csv", b"turn,user,reply\n1,a,b\n2,\xff,d\n", "line 3: it is no UTF-8"),
        ("log.parquet", b"PAR1 and then nothing", "it is no Parquet, or damaged"),
        ("log.txt", "", "must end in .jsonl, .csv, .parquet"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, name: str, content: str | bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=name) as raised:
        read_turns(path)
    assert told in str(raised.value)


def test_a_log_is_written_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    good = LoggedConversation("a", (LoggedTurn(1, "x", "y"),))
    write_turns(path, [good])
    for wrong in (
        [],
        [good, good],
        [LoggedConversation("b", (LoggedTurn(1, "x", "\ud800"),))],
    ):
        with pytest.raises(ValueError, match=r"conversations must be|Unicode"):
            write_turns(path, wrong)
    assert read_turns(path) == (good,)
    assert [each.name for each in tmp_path.iterdir()] == ["log.jsonl"]
    with pytest.raises(OSError, match=r"log\.csv"):
        write_turns(path / "log.csv", [good])


def test_conversations_have_no_holes() -> None:
    for turns, told in (
        ((), "a name and a turn"),
        ((LoggedTurn(1), LoggedTurn(3)), "got 3 after 1"),
        ((LoggedTurn(1, "words", flag=LogFlag.MISSING),), "is a gap"),
    ):
        with pytest.raises(ValueError, match=told):
            LoggedConversation("a", turns)


def test_a_store_is_a_log(tmp_path) -> None:
    with ConversationStore() as store:
        store.commit(TurnRecord("c", 1, "1", "hello", "hi"))
        store.commit(TurnRecord("c", 2, "2", "more", failure="timeout"))
        log = recorded_log(store, "c")
        with pytest.raises(ValueError, match="'d' has no turn"):
            recorded_log(store, "d")
    assert log.turns == (LoggedTurn(1, "hello", "hi"), LoggedTurn(2, "more", ""))
