"""The ledger: tampered with in every way, killed, out of disk; its format is restated here."""

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax.grounding import Ledger, LedgerError, LedgerSummary, read_ledger, verify_ledger

CONTENTS = [
    {"claim": "Σ ≻ 0", "confidence": 0.25 * n, "cited": ["docs/a.md:1-2"]} for n in range(5)
]
NOW = 1_795_000_000.25


def written(folder, contents=CONTENTS, **options):
    path = Path(folder, "ledger.jsonl")
    with Ledger(path, clock=lambda: NOW, **options) as ledger:
        for content in contents:
            ledger.append("answer", content)
    return path


def head(path):
    return path.with_name("ledger.jsonl.head")


def chained(contents, previous="0" * 64, first=0):
    """Lines of a ledger, from the format as it is described."""
    lines = []
    for sequence, content in enumerate(contents, first):
        said = (
            f'","previous":"{previous}","sequence":{sequence},"time":'
            f'"{datetime.fromtimestamp(NOW, UTC).isoformat(timespec="microseconds")}",'
            '"kind":"answer","content":'
            f"{json.dumps(content, ensure_ascii=False, separators=(',', ':'))}}}"
        )
        previous = hashlib.sha256(said.encode()).hexdigest()
        lines.append(f'{{"hash":"{previous}{said}\n'.encode())
    return lines


def refused(path, words):
    """Both readers and the writer refuse it, and the writer leaves it as it is."""
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=words) as read:
        list(read_ledger(path))
    with pytest.raises(LedgerError, match=words) as verified:
        verify_ledger(path)
    with pytest.raises(LedgerError, match=words):
        Ledger(path)
    assert str(path) in str(read.value)
    assert str(read.value) == str(verified.value)
    assert path.read_bytes() == before
    assert not path.with_name("ledger.jsonl.torn").exists()


# What is written --------------------------------------------------------------------------------


def test_a_ledger_is_the_format_that_is_described(tmp_path):
    path = written(tmp_path)
    lines = chained(CONTENTS)
    assert path.read_bytes() == b"".join(lines)
    last = json.loads(lines[-1])["hash"]
    assert json.loads(head(path).read_bytes()) == {"records": 5, "head": last}
    assert verify_ledger(path) == LedgerSummary(5, last)
    assert [record._asdict() for record in read_ledger(path)] == [json.loads(x) for x in lines]


def test_a_ledger_is_taken_up_where_it_ended(tmp_path):
    path = written(tmp_path / "new" / "folder", CONTENTS[:2])
    with Ledger(path, clock=lambda: NOW) as ledger:
        assert ledger.place == verify_ledger(path)
        assert ledger.cut == b""
        records = [ledger.append("answer", content) for content in CONTENTS[2:]]
    assert path.read_bytes() == b"".join(chained(CONTENTS))
    assert list(read_ledger(path))[2:] == records


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4))
def test_what_is_read_is_what_was_appended(tmp_path_factory, contents):
    path = written(tmp_path_factory.mktemp("ledger"), contents)
    assert [record.content for record in read_ledger(path)] == contents
    assert path.read_bytes().count(b"\n") == len(contents)


def circle():
    content = {}
    content["again"] = [content]
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": [1, float("nan")]}, r"content\.a\[1\] must be a finite number; got nan"),
        ({"a": float("-inf")}, r"content\.a must be a finite number; got -inf"),
        ({"a": {"b": b"bytes"}}, r"content\.a\.b must be what JSON can say; .* bytes"),
        ({"a": {1, 2}}, r"content\.a must be what JSON can say; .* set"),
        ({"a": datetime.now(UTC)}, r"content\.a must be .* datetime"),
        ({"a": {1: 2}}, r"content\.a must have texts as keys; got the key 1"),
        ({"a": "\ud800"}, "content must be what JSON can say: .*surrogates"),
        ({"\ud800": 1}, "content must be what JSON can say: .*surrogates"),
        ({"a": 10**5000}, "content must be what JSON can say: .*digits"),
        (circle(), "nested more than 64 deep, or in itself"),
        ([1], r"content must be a dict; got \[1\]"),
        (None, "content must be a dict; got None"),
    ],
)
def test_what_json_cannot_say_is_named_and_not_written(content, words, tmp_path):
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append("answer", {"a": (1, 2)})
        before = ledger.path.read_bytes()
        with pytest.raises(ValueError, match=words):
            ledger.append("answer", content)
        assert ledger.path.read_bytes() == before
        ledger.append("answer", {})
    assert [record.content for record in read_ledger(ledger.path)] == [{"a": [1, 2]}, {}]


def test_bad_arguments_are_named(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with pytest.raises(ValueError, match="batch_records must lie in"):
        Ledger(path, batch_records=0)
    with pytest.raises(ValueError, match="batch_seconds must lie in"):
        Ledger(path, batch_seconds=-1)
    with Ledger(path) as ledger:
        for kind in ("", " ", None):
            with pytest.raises(ValueError, match="kind must be a text that is not empty"):
                ledger.append(kind, {})  # pyright: ignore
    with pytest.raises(LedgerError, match="the ledger is closed"):
        ledger.append("answer", {})
    with pytest.raises(LedgerError, match="the ledger is closed"):
        ledger.flush()
    ledger.close()
    with pytest.raises(FileNotFoundError):
        verify_ledger(tmp_path / "none.jsonl")


# What is done to it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda at: [*at[:2], at[2].replace(b"0.5", b"0.9"), *at[3:]], "line 3 was edited"),
        (lambda at: [*at[:2], b'{"hash":"' + b"0" * 64 + at[2][73:], *at[3:]], "line 3 was edited"),
        (lambda at: [*at[:2], at[2][:-1] + b"\r\n", *at[3:]], "line 3 was edited"),
        (lambda at: [at[0], at[2], at[1], *at[3:]], "line 2 is record 2 where 1 is due"),
        (lambda at: [*at[:2], *at[3:]], "line 3 is record 3 where 2 is due: .* missing"),
        (lambda at: at[1:], "line 1 is record 1 where 0 is due: .* missing"),
        (lambda at: [*at[:3], *at[2:]], "line 4 is record 2 where 3 is due: it is repeated"),
        (lambda at: at + at, "line 6 is record 0 where 5 is due: it is repeated"),
        (lambda at: at[:-1], "it has 4 records; its head file says that there were 5"),
        (lambda at: [*at[:-1], at[-1][:50]], "4 records and 50 bytes of another; .* were 5"),
        (lambda at: [], "it has 0 records; .* were 5"),
        (lambda at: [*at, b"garbage\n"], "line 6 is not a record of a ledger: b'garbage"),
        (lambda at: [*at, b"\n"], "line 6 is not a record"),
        (lambda at: [*at[:1], b"\n", *at[1:]], "line 2 is not a record"),
        (lambda at: [*at, *chained([{}], first=5)], "line 6 follows a record of hash 0000"),
        (lambda at: chained([{}, *CONTENTS[1:]]), "line 5 has hash .*; its head file says"),
        (lambda at: [bytes(range(256)) * 40], "line 1 is not a record"),
        (lambda at: [bytes(4096)], "0 records and 4096 bytes of another"),
    ],
)
def test_a_tampered_ledger_is_refused(tamper, words, tmp_path):
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(tamper(lines)))
    refused(path, words)


def test_a_ledger_that_is_gone_is_missed(tmp_path):
    path = written(tmp_path)
    path.unlink()
    with pytest.raises(LedgerError, match=r"it has 0 records; its head .* were 5"):
        Ledger(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"records":5}',
        b'{"records":true,"head":"' + b"0" * 64 + b'"}',
        b'{"records":-1,"head":"' + b"0" * 64 + b'"}',
        b'{"records":5,"head":"' + b"g" * 64 + b'"}',
        b'{"records":5,"head":5}',
    ],
)
def test_a_damaged_head_is_refused(content, tmp_path):
    path = written(tmp_path)
    head(path).write_bytes(content)
    refused(path, r"ledger\.jsonl\.head: is not the head of a ledger")


def test_a_missing_head_is_refused(tmp_path):
    path = written(tmp_path)
    head(path).unlink()
    refused(path, r"its head file ledger\.jsonl\.head is missing")


def test_a_chain_of_what_is_no_record_is_found_by_reading(tmp_path):
    path = tmp_path / "ledger.jsonl"
    said = f'","previous":"{"0" * 64}","sequence":0,"time":"'.encode() + b"\xff nonsense"
    digest = hashlib.sha256(said).hexdigest()
    path.write_bytes(b'{"hash":"' + digest.encode() + said + b"\n")
    head(path).write_text(json.dumps({"records": 1, "head": digest}))
    assert verify_ledger(path).records == 1  # it follows the chain, and parses nothing
    with pytest.raises(LedgerError, match="line 1 is chained but no record"):
        list(read_ledger(path))


def test_whoever_writes_ledger_and_head_writes_another_ledger(tmp_path):
    """The limit that is documented: only a hash kept elsewhere tells."""
    path = written(tmp_path)
    kept = verify_ledger(path).head
    forged = chained([*CONTENTS[:2], {"claim": "another"}, *CONTENTS[3:]])
    path.write_bytes(b"".join(forged))
    refused(path, "line 5 has hash")
    summary = {"records": 5, "head": json.loads(forged[-1])["hash"]}
    head(path).write_text(json.dumps(summary))
    assert verify_ledger(path) == LedgerSummary(**summary)
    assert verify_ledger(path).head != kept


@pytest.fixture(scope="module")
def flushed(tmp_path_factory):
    path = written(tmp_path_factory.mktemp("flushed"), CONTENTS[:3])
    return path, path.read_bytes(), head(path).read_bytes()


@settings(max_examples=300)
@given(st.data())
def test_every_edit_of_a_byte_is_found(flushed, data):
    path, ledger, summary = flushed
    file, content = data.draw(
        st.sampled_from([(path, ledger), (path, ledger), (head(path), summary)])
    )
    # The head's own end of line is not part of what it says.
    place = data.draw(st.integers(0, len(content) - (1 if file == path else 2)))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    with file.open("r+b", buffering=0) as opened:
        os.pwrite(opened.fileno(), bytes([byte]), place)
        try:
            refused(path, r"ledger\.jsonl")
        finally:
            os.pwrite(opened.fileno(), content[place : place + 1], place)


def test_every_byte_and_every_length_counts(flushed):
    path, ledger, _ = flushed
    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(ledger):
            os.pwrite(file.fileno(), bytes([byte ^ 1]), place)
            with pytest.raises(LedgerError):
                verify_ledger(path)
            os.pwrite(file.fileno(), bytes([byte]), place)
        assert verify_ledger(path).records == 3
        for length in reversed(range(len(ledger))):
            file.truncate(length)
            with pytest.raises(LedgerError):
                verify_ledger(path)
    path.write_bytes(ledger)


# What befalls it --------------------------------------------------------------------------------


def unflushed(folder):
    """A ledger of five records, of which three were flushed, as a kill leaves it."""
    path = written(folder, CONTENTS[:3])
    path.write_bytes(b"".join(chained(CONTENTS)))
    return path


def test_what_a_kill_left_whole_is_kept(tmp_path):
    path = unflushed(tmp_path)
    assert verify_ledger(path).records == 5
    assert json.loads(head(path).read_bytes())["records"] == 3
    with Ledger(path) as ledger:
        assert ledger.place.records == 5
        assert ledger.cut == b""
    assert json.loads(head(path).read_bytes())["records"] == 5  # flushed with the next flush


def test_a_torn_last_line_is_moved_aside_and_reported(tmp_path, caplog):
    """At every length, after the last flush; before it, nothing is cut."""
    lines = chained(CONTENTS)
    start = len(b"".join(lines[:3]))
    for length in range(start + 1, len(b"".join(lines)), 23):
        folder = tmp_path / str(length)
        path = unflushed(folder)
        os.truncate(path, length)
        torn = path.read_bytes().rpartition(b"\n")[2]
        records = path.read_bytes().count(b"\n")
        if not torn:
            continue
        with pytest.raises(LedgerError, match=f"line {records + 1} is torn: {len(torn)} bytes"):
            verify_ledger(path)
        with pytest.raises(LedgerError, match=f"line {records + 1} is torn: {len(torn)} bytes"):
            list(read_ledger(path))
        caplog.clear()
        with Ledger(path, clock=lambda: NOW) as ledger:
            assert ledger.cut == torn
            assert "its last line was torn" in caplog.text
            for content in CONTENTS[records:]:
                ledger.append("answer", content)
        assert (folder / "ledger.jsonl.torn").read_bytes() == torn + b"\n"
        assert path.read_bytes() == b"".join(lines)
        assert verify_ledger(path).records == 5


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append("answer", {})
        with pytest.raises(LedgerError, match="is already open for appending"):
            Ledger(path)
        assert verify_ledger(path).records == 1  # reading needs no lock
    Ledger(path).close()


def test_threads_append_one_after_the_other(tmp_path):
    with Ledger(tmp_path / "ledger.jsonl", batch_records=10) as ledger:
        work = [
            threading.Thread(target=lambda n=n: [ledger.append("a", {"n": n}) for _ in range(50)])
            for n in range(8)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    said = [record.content["n"] for record in read_ledger(ledger.path)]
    assert sorted(said) == sorted(list(range(8)) * 50)


def test_a_batch_is_flushed_by_number_and_by_age(tmp_path):
    now = [NOW]

    def flushed():
        return json.loads(head(path).read_bytes())["records"]

    path = tmp_path / "ledger.jsonl"
    with Ledger(path, clock=lambda: now[0], batch_records=3, batch_seconds=10) as ledger:
        seen = []
        for seconds in (0, 1, 1, 1, 0, 9, 1, 1, -100, 1):
            now[0] += seconds
            record = ledger.append("answer", {})
            assert datetime.fromisoformat(record.time).timestamp() == now[0]
            assert datetime.fromisoformat(record.time).tzinfo == UTC
            seen.append(flushed())
        # Three are full; the batch of the fourth is old when the seventh comes … or set back.
        assert seen == [0, 0, 0, 3, 3, 3, 6, 6, 8, 8]
        ledger.flush()
        assert flushed() == 10
        ledger.append("answer", {})
    assert flushed() == 11


def test_a_full_disk_leaves_the_ledger_valid(tmp_path):
    """For real: the system takes a part of the line, and then no more."""
    path = written(tmp_path, CONTENTS[:2])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(path, clock=lambda: NOW) as ledger:
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                ledger.append("answer", {"text": "x" * 1000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.errno == errno.EFBIG
        assert path.read_bytes() == before
        assert verify_ledger(path).records == 2
        for content in CONTENTS[2:]:
            ledger.append("answer", content)
    assert path.read_bytes() == b"".join(chained(CONTENTS))


def half(error):
    """A `write` that takes forty bytes, and fails at the rest."""
    write, calls = os.write, []

    def fails(handle, data):
        calls.append(handle)
        if len(calls) > 1:
            raise error
        return write(handle, bytes(data)[:40])

    return fails


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_line_that_was_begun_is_taken_back(error, tmp_path, monkeypatch):
    with Ledger(tmp_path / "ledger.jsonl", clock=lambda: NOW) as ledger:
        ledger.append("answer", CONTENTS[0])
        monkeypatch.setattr(os, "write", half(error))
        with pytest.raises(type(error)):
            ledger.append("answer", CONTENTS[1])
        monkeypatch.undo()
        assert ledger.path.read_bytes() == chained(CONTENTS)[0]
        for content in CONTENTS[1:]:
            ledger.append("answer", content)
    assert ledger.path.read_bytes() == b"".join(chained(CONTENTS))


def fail(*arguments):
    raise OSError(errno.EIO, "Input/output error")


def test_a_line_that_cannot_be_taken_back_stops_the_writer(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, clock=lambda: NOW) as ledger:
        ledger.append("answer", CONTENTS[0])
        monkeypatch.setattr(os, "write", half(OSError(errno.ENOSPC, "No space left on device")))
        monkeypatch.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output error"):
            ledger.append("answer", CONTENTS[1])
        monkeypatch.undo()
        with pytest.raises(LedgerError, match="interrupted midway; open the ledger again"):
            ledger.append("answer", CONTENTS[1])
    with Ledger(path, clock=lambda: NOW) as ledger:
        assert ledger.cut == chained(CONTENTS)[1][:40]
        for content in CONTENTS[1:]:
            ledger.append("answer", content)
    assert path.read_bytes() == b"".join(chained(CONTENTS))


def test_a_flush_that_failed_is_not_tried_again(tmp_path, monkeypatch):
    """The pages that it lost would not be written by a second one that succeeds."""
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, clock=lambda: NOW) as ledger:
        ledger.append("answer", CONTENTS[0])
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            ledger.flush()
        monkeypatch.undo()
        for again in (ledger.flush, lambda: ledger.append("answer", {})):
            with pytest.raises(LedgerError, match=r"refused a flush.*; open the ledger again"):
                again()
    assert json.loads(head(path).read_bytes())["records"] == 0
    with Ledger(path) as ledger:
        assert ledger.place.records == 1


def test_an_append_whose_batch_cannot_be_flushed_appends_nothing(tmp_path, monkeypatch):
    with Ledger(tmp_path / "ledger.jsonl", clock=lambda: NOW, batch_records=1) as ledger:
        ledger.append("answer", CONTENTS[0])
        monkeypatch.setattr(os, "replace", fail)  # the head's
        with pytest.raises(OSError, match=r"cannot write .*ledger\.jsonl\.head"):
            ledger.append("answer", CONTENTS[1])
        monkeypatch.undo()
        assert ledger.place.records == 1
        for content in CONTENTS[1:]:
            ledger.append("answer", content)
    assert ledger.path.read_bytes() == b"".join(chained(CONTENTS))
    assert verify_ledger(ledger.path).records == 5


# A writer is killed, again and again, at a moment that it does not choose; small lines and lines of
# megabytes. It says what was appended, and the next writer looks whether it is there.
KILLED = """
import itertools, json, os, random, signal, sys, time
from sigma_jax.grounding import Ledger, LedgerError, read_ledger

def append_for_ever(path, said, draw):
    with Ledger(path, batch_records=5) as ledger:
        for _ in itertools.count():
            size = draw.choice([10, 1000, 4_000_000])
            record = ledger.append("tick", {"text": "x" * draw.randrange(size)})
            os.write(said, b"%d\\n" % record.sequence)

path, draw, lives, second, torn = sys.argv[1], random.Random(7), [], 0, 0
for life in range(10):
    hear, said = os.pipe()
    writer = os.fork()
    if writer == 0:
        append_for_ever(path, said, draw)
    os.close(said)
    heard = os.read(hear, 1)
    time.sleep(draw.uniform(0, 0.05))
    try:
        Ledger(path)
    except LedgerError:
        second += 1
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    while part := os.read(hear, 65536):
        heard += part
    os.close(hear)
    appended = int(heard.split(b"\\n")[-2])
    with Ledger(path) as ledger:
        lives.append((appended, ledger.place.records))
        torn += bool(ledger.cut)
read = [record.sequence for record in read_ledger(path)]
print(json.dumps({"lives": lives, "read": len(read), "second": second, "torn": torn}))
"""


def test_a_killed_writer_loses_nothing_that_it_appended(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "ledger.jsonl")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    story = json.loads(found.stdout)
    assert story["second"] == len(story["lives"]) == 10
    before = 0
    for appended, records in story["lives"]:
        assert before <= appended < records
        before = records
    assert story["read"] == before
