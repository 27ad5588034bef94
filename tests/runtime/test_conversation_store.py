"""A store that is killed, shared, corrupted and asked twice keeps a whole prefix of its turns."""

import itertools
import json
import os
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest

from sigma_jax.runtime import (
    Attempt,
    ConversationConflict,
    ConversationStore,
    FactBook,
    Memory,
    StoreError,
    TurnRecord,
    extract_facts,
    memories_of,
)

PROCESSES = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from sigma_jax.runtime import ConversationConflict, ConversationStore
from sigma_jax.runtime import Memory
from sigma_jax.runtime import TurnRecord

def process(work, *arguments):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        work(*arguments, lambda text: os.write(writing, text.encode() + b"\\n"))
        os._exit(0)
    os.close(writing)
    return pid, os.fdopen(reading)

def killed_after(line, pid, said):
    while said.readline().strip() != line:
        pass
    os.kill(pid, signal.SIGKILL)  # no chance to tidy up
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL

def between(path, say):
    store = ConversationStore(path)
    store.commit(TurnRecord("c", 1, "k1", "hello", "hi"))
    store.begin("c", 2, "k2", "the question")
    say("asked")
    time.sleep(60)

def committing(path, say):
    store = ConversationStore(path)
    first = store.last_turn("c") + 1
    for number in range(first, 100_000):
        store.begin("c", number, f"k{number}", "words")
        memories = [Memory(2 * number - 2 + i, number, "user", "words") for i in range(2)]
        vectors = {"y": np.full(38, number, float)}
        turn = TurnRecord("c", number, f"k{number}", "words" * 999, "reply", vectors=vectors)
        store.commit(turn, memories, np.ones((2, 8)))
        say(str(number - first))

def racing(path, name, say):
    store = ConversationStore(path)  # both make the file, too
    won = 0
    for number in range(1, 41):
        while store.last_turn("c") < number - 1:
            time.sleep(0.0005)
        try:
            store.commit(TurnRecord("c", number, name + str(number), "words", name))
            won += 1
        except ConversationConflict:
            pass
    say(str(won))

folder = Path(sys.argv[1])
killed_after("asked", *process(between, folder / "between.sqlite"))
lasts = []
for _ in range(3):
    killed_after("9", *process(committing, folder / "committing.sqlite"))
    with ConversationStore(folder / "committing.sqlite") as store:
        lasts.append(store.last_turn("c"))
both = [process(racing, folder / "racing.sqlite", name) for name in "ab"]
won = [int(said.readline() or -1) for _, said in both]
print(json.dumps({"lasts": lasts, "won": won, "ends": [os.waitpid(pid, 0)[1] for pid, _ in both]}))
"""


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """One interpreter imports the package, and the processes that are killed are forked from it."""
    folder = tmp_path_factory.mktemp("processes")
    # JAX warns of any fork. These never use it.
    program = [sys.executable, "-W", "ignore", "-c", PROCESSES, str(folder)]
    outcome = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stderr
    return folder, json.loads(outcome.stdout)


def record(number, key=None, **more):
    more = {"user_text": f"says {number}", "reply": f"reply {number}"} | more
    return TurnRecord("c", number, key or f"k{number}", **more)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "talk.sqlite"


# What goes in comes out -------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_turn_comes_back_as_it_was(path, on_disk):
    store = ConversationStore(path if on_disk else None)
    whole = record(
        1,
        finish_reason="stop",
        flags=("first", "odd"),
        prompt_digest="abc",
        section_digests=(("rules", "1"), ("identity", "2")),
        prompt_tokens=12,
        completion_tokens=None,
        attempts=2,
        plan={"level": 1, "why": ["ü", "\ud83d"]},
        measurement={"alarm": False, "x": [0.1, 1e-300]},
        motifs=[["a", 1]],
        vectors={"style": np.linspace(0, 1, 14), "content": np.ones((2, 3), np.float16)},
        state=bytes(range(256)),
        user_text="naïve \0 text\r\n",
    )
    store.begin("c", 1, "k1", whole.user_text)
    store.commit(whole)
    store.commit(record(2))
    if on_disk:
        store.close()
        store = ConversationStore(path)
    first, second = store.turns("c")
    assert first == whole
    assert second == record(2)
    for name, array in whole.vectors.items():
        np.testing.assert_array_equal(first.vectors[name], array, strict=True)
    assert store.turns("c", first=2) == (second,)
    assert store.turns("c", last=1) == (first,)
    assert store.latest_state("c") == whole.state
    assert store.last_turn("c") == 2
    assert store.unfinished("c") == ()
    store.close()


def test_conversations_in_one_file_know_nothing_of_each_other(path):
    with ConversationStore(path) as store:
        store.commit(record(1))
        store.commit(TurnRecord("b", 1, "k1", "other", "words"))
        store.begin("d", 1, "k1", "never answered")
        assert store.conversations() == ("b", "c", "d")
        assert [turn.user_text for turn in store.turns("b")] == ["other"]
        assert store.last_turn("d") == store.last_turn("none") == 0
        assert store.turns("none") == ()
        assert store.latest_state("none") is None
        assert store.facts("none") == FactBook()
        assert store.memories("none")[0] == ()


def test_memories_and_facts_come_back(path):
    texts = ["The port is 80. My dog is called Rex.", "Actually, the port is 81.", "Nothing new."]
    books, remembered, book = [], [], FactBook()
    rng = np.random.default_rng(0)
    with ConversationStore(path) as store:
        for number, text in enumerate(texts, 1):
            new = memories_of(text, number, first=len(remembered))
            vectors = rng.normal(size=(len(new), 6))
            before, book = book, book.add(extract_facts(text, number))
            store.commit(record(number), new, vectors, book.changes(before))
            books.append(book)
            remembered += zip(new, vectors, strict=True)
    with ConversationStore(path) as store:
        memories, vectors = store.memories("c")
        assert memories == tuple(memory for memory, _ in remembered)
        expected = np.array([vector for _, vector in remembered]).astype(np.float16)
        np.testing.assert_array_equal(vectors, expected, strict=True)
        assert store.facts("c") == book
        assert len(book.facts) == 3
        for number, then in enumerate(books, 1):
            assert store.facts("c", turn=number) == then


# Numbers and keys -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 3, -1])
def test_a_turn_that_is_not_the_next_is_refused(path, number):
    with ConversationStore(path) as store:
        store.commit(record(1))
        words = rf"turn {number} of conversation 'c' cannot be added to .*talk.sqlite: its last.* 1"
        for add in (
            lambda: store.commit(record(number, "new")),
            lambda: store.begin("c", number, "new", ""),
        ):
            with pytest.raises(ConversationConflict, match=words):
                add()
        assert store.turns("c") == (record(1),)


def test_a_key_has_one_reply(path):
    with ConversationStore(path) as store:
        store.commit(record(1, "same"))
        for add in (
            lambda: store.commit(record(2, "same")),
            lambda: store.begin("c", 2, "same", ""),
        ):
            with pytest.raises(ConversationConflict, match="its key 'same' is that of turn 1"):
                add()
        assert store.turn_with_key("c", "same") == record(1, "same")
        assert store.turn_with_key("c", "other") is None
        store.commit(TurnRecord("b", 1, "same", "another conversation's key", ""))


def test_a_failed_turn_is_kept_and_may_be_tried_again(path):
    with ConversationStore(path) as store:
        for number in (1, 2):
            store.begin("c", number, "key", "do it")
            store.commit(record(number, "key", user_text="do it", reply="", failure="timeout"))
        assert store.turn_with_key("c", "key").number == 2
        store.commit(record(3, "key", user_text="do it"))
        assert [turn.retry_of for turn in store.turns("c")] == [None, 1, 2]
        assert [turn.failure for turn in store.turns("c")] == ["timeout", "timeout", None]
        assert store.turn_with_key("c", "key").number == 3
        with pytest.raises(ConversationConflict, match="which has a reply"):
            store.commit(record(4, "key"))


# Everything or nothing --------------------------------------------------------------------------


def broken_commits():
    nan = float("nan")
    memory = Memory(0, 1, "user", "words")
    one = np.ones((1, 3))
    yield "measurement must be what JSON", (record(1, measurement={"x": nan}),)
    yield "plan must be what JSON", (record(1, plan=object()),)
    yield "user_text must be UTF-8's", (record(1, user_text="\ud83d"),)
    yield r"vectors\['y'\] must be of floats", (record(1, vectors={"y": np.arange(3)}),)
    yield r"memory_vectors must be \[1", (record(1), [memory], np.ones((2, 3)))
    yield "memory_vectors must be finite", (record(1), [memory], one * nan)
    yield "memory_vectors must be finite", (record(1), [memory], one * 1e5)
    yield "ids from 0 on", (record(1), [memory._replace(id=1)], one)


@pytest.mark.parametrize(("words", "arguments"), list(broken_commits()))
def test_a_commit_that_fails_leaves_nothing(path, words, arguments):
    with ConversationStore(path) as store:
        with pytest.raises(ValueError, match=words):
            store.commit(*arguments)
        assert store.last_turn("c") == 0
        assert store.memories("c")[0] == ()
        store.commit(record(1))


def test_an_error_in_the_last_table_undoes_the_first(path):
    with ConversationStore(path) as store:
        facts = [(0, fact) for fact in extract_facts("The port is 80.", 1)] * 2  # one place, twice
        with pytest.raises(StoreError, match=r"talk.sqlite cannot be read or written: UNIQUE"):
            store.commit(record(1), facts=facts)
        assert store.turns("c") == ()


# Kills ------------------------------------------------------------------------------------------


def test_a_kill_between_call_and_commit_leaves_an_unfinished_attempt(processes):
    with ConversationStore(processes[0] / "between.sqlite") as store:
        assert store.unfinished("c") == (Attempt(2, "k2", "the question"),)
        assert store.last_turn("c") == 1
        store.begin("c", 2, "k2", "the question")
        store.commit(record(2))
        assert store.unfinished("c") == ()
        assert [turn.number for turn in store.turns("c")] == [1, 2]


def test_another_key_does_not_settle_an_attempt(path):
    with ConversationStore(path) as store:
        store.begin("c", 1, "lost", "words")
        store.commit(record(1, "other"))
        assert store.unfinished("c") == (Attempt(1, "lost", "words"),)
        store.commit(record(2, "lost", failure="timeout"))
        assert store.unfinished("c") == ()
        store.begin("c", 3, "lost", "again")
        assert store.unfinished("c") == (Attempt(3, "lost", "again"),)


def test_kills_while_committing_leave_a_whole_prefix(processes):
    folder, told = processes
    with ConversationStore(folder / "committing.sqlite") as store:
        turns = store.turns("c")
        last = told["lasts"][-1]
        assert all(new >= old + 10 for old, new in itertools.pairwise([0, *told["lasts"]]))
        assert [turn.number for turn in turns] == list(range(1, last + 1))
        assert all((turn.vectors["y"] == turn.number).all() for turn in turns)
        memories, vectors = store.memories("c")
        assert [memory.turn for memory in memories] == [1 + i // 2 for i in range(2 * last)]
        assert vectors.shape == (2 * last, 8)
        assert {attempt.number for attempt in store.unfinished("c")} <= {last + 1}


# Several at once --------------------------------------------------------------------------------


def test_of_two_processes_exactly_one_adds_each_turn(processes):
    folder, told = processes
    assert told["ends"] == [0, 0]
    assert sum(told["won"]) == 40
    with ConversationStore(folder / "racing.sqlite") as store:
        turns = store.turns("c")
        assert [turn.number for turn in turns] == list(range(1, 41))
        assert [sum(turn.reply == name for turn in turns) for name in "ab"] == told["won"]


def test_a_writer_that_waits_too_long_says_so(path, monkeypatch):
    monkeypatch.setattr("sigma_jax.runtime.store_file._BUSY_SECONDS", 0.05)
    with ConversationStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"talk.sqlite is being written by another process"):
            store.commit(record(1))
        other.execute("ROLLBACK")
        other.close()
        store.commit(record(1))


def test_threads_share_a_store(path):
    with ConversationStore(path) as store:

        def talk(name):
            for number in range(1, 16):
                store.begin(name, number, str(number), "words")
                store.commit(TurnRecord(name, number, str(number), "words", name))

        threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.last_turn(name) for name in store.conversations()] == [15] * 4


# What it was made with --------------------------------------------------------------------------


def test_a_changed_encoder_is_named(path):
    with ConversationStore(path) as store:
        store.require_meta("c", encoder="minilm-1", identity="aa")
        store.note_meta("c", code="1")
    with ConversationStore(path) as store:
        store.require_meta("c", encoder="minilm-1", identity="aa", model="m")
        store.note_meta("c", code="2")
        words = r"encoder 'minilm-1' before and 'hashed-2' now; identity 'aa' before and 'bb' now"
        with pytest.raises(StoreError, match=words):
            store.require_meta("c", encoder="hashed-2", identity="bb", extra="x")
        assert store.meta("c") == {
            "code": "2",
            "encoder": "minilm-1",
            "identity": "aa",
            "model": "m",
        }
        store.require_meta("another", encoder="hashed-2")


# Files that are none ----------------------------------------------------------------------------


def filled(path):
    with ConversationStore(path) as store:
        for number in range(1, 30):
            store.commit(record(number, reply="words " * 400))
    return path.read_bytes()


def foreign(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE turns (x)")
    connection.close()


def newer(path):
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()


def overwritten(path):
    whole = bytearray(filled(path))
    whole[4096 : len(whole) // 2] = b"\x5a" * (len(whole) // 2 - 4096)
    path.write_bytes(whole)


BAD = {
    "is empty": lambda path: path.write_bytes(b""),
    "is no SQLite database": lambda path: path.write_bytes(b"Dear diary, " * 99),
    "is another program's": foreign,
    "has tables of version 7, and this program knows version 1": newer,
    "is corrupt": overwritten,
    "is corrupt:": lambda path: path.write_bytes(filled(path)[:-20_000]),
    "is no SQLite database,": lambda path: path.write_bytes(filled(path)[:60]),
    "cannot be opened: Is a directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("words", BAD)
def test_a_bad_file_is_named_and_left_alone(path, words):
    BAD[words](path)
    before = path.is_file() and path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"talk.sqlite {words}"):
            ConversationStore(path)
    assert (path.is_file() and path.read_bytes()) == before


def test_a_closed_store_says_so(path):
    store = ConversationStore(path)
    store.close()
    with pytest.raises(StoreError, match=r"talk.sqlite cannot be read or written: .*closed"):
        store.turns("c")


def test_a_new_file_is_whole_and_private(path):
    nested = path.parent / "a" / "b" / "talk.sqlite"
    with ConversationStore(nested) as store:
        store.commit(record(1))
        assert [name for name in os.listdir(nested.parent) if "making" in name] == []
        assert nested.stat().st_mode & 0o077 == 0
        connection = sqlite3.connect(nested)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
