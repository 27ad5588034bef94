"""`python -m sigma_jax.runtime`: a chat that is stopped, killed and resumed; logs; pages."""

import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from sigma_jax.runtime import (
    Constraint,
    ControlPolicy,
    ConversationRuntime,
    ConversationStore,
    Forbids,
    HashedEncoder,
    Identity,
    LogFlag,
    LoggedConversation,
    LoggedTurn,
    Phase,
    RuntimeSettings,
    SimulatedModel,
    load_calibration,
    load_scenario,
    measurement_table,
    read_turns,
    recorded_log,
    replay_log,
    write_turns,
)
from sigma_jax.runtime.__main__ import main
from sigma_jax.runtime.terminal_chat import Terminal

CHAT = [sys.executable, "-m", "sigma_jax.runtime", "chat"]


class SlowServer(ThreadingHTTPServer):
    """OpenAI's chat completions. A reply that has begun waits until `go` is set."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Completions)
        self.go = threading.Event()
        self.asked: list[list[dict]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Completions(BaseHTTPRequestHandler):
    def do_POST(self):
        server: SlowServer = self.server  # pyright: ignore[reportAssignmentType]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(asked["messages"])
        said = f"You said: {asked['messages'][-1]['content'][-60:]}"
        if not asked["stream"]:
            server.go.wait(60)
            choice = {"message": {"content": said}, "finish_reason": "stop"}
            return self._answer(json.dumps({"choices": [choice]}))
        pieces = [{"delta": {"content": text}} for text in ("First. ", said)]
        events = [f"data: {json.dumps({'choices': [p]})}\n\n" for p in pieces]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(events[0].encode())
        self.wfile.flush()
        server.go.wait(60)
        with contextlib.suppress(BrokenPipeError):  # the other side may have hung up
            self.wfile.write((events[1] + "data: [DONE]\n\n").encode())

    def _answer(self, body: str):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with SlowServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.go.set()
        server.shutdown()


class OnTerminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str]):
        self.end, inner = pty.openpty()
        # A session's leader that opens a terminal has it as its own, so that Ctrl-C is a signal.
        # Not by `preexec_fn`: JAX warns of every fork of a process in which it runs.
        opens = "os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", f"import os, sys; {opens}", os.ttyname(inner), *command],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def wait_for(self, text: str, seconds: float = 100) -> None:
        """Read on until `text` is shown; what is up to it is then over."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until, f"no {text!r} in {self.shown!r}"
            if select.select([self.end], [], [], 0.2)[0]:
                self.shown += os.read(self.end, 65536).decode(errors="replace")
        self.shown = self.shown.partition(text)[2]


def test_a_chat_streams_stops_is_killed_and_goes_on(tmp_path, server: SlowServer) -> None:
    path = tmp_path / "store.db"
    arguments = ["--model", server.url, "--observe-only", "--store", str(path)]
    terminal = OnTerminal([*CHAT, *arguments])
    terminal.wait_for("0 turns so far")
    terminal.wait_for("> ")

    terminal.type("The database is called Heron.\r")
    terminal.wait_for("assistant: First. ")  # a piece, while the server still writes
    server.go.set()
    terminal.wait_for("You said: The database is called Heron.")
    terminal.wait_for("[turn 1 | FORMING | stability 1.00 | no alarm | NONE, only observed | ")
    terminal.wait_for("> ")

    server.go.clear()
    terminal.type("Stop this one.\r")
    terminal.wait_for("First. ")
    terminal.type("\x03")
    terminal.wait_for("Stopped. /again asks it again.")
    terminal.wait_for("> ")
    terminal.type("And this is the second.\r")
    terminal.wait_for("First. ")
    os.killpg(terminal.process.pid, signal.SIGKILL)
    assert terminal.process.wait(30) == -signal.SIGKILL
    os.close(terminal.end)
    with ConversationStore(path) as store:
        assert store.last_turn("chat") == 1
        attempts = store.unfinished("chat")
        assert [each.user_text for each in attempts] == [
            "Stop this one.",
            "And this is the second.",
        ]

    server.go.set()
    page = tmp_path / "page.html"
    typed = f"/again\n/facts\n/nothing\n//slash\n/page {page}\n/forget weather\n/state\n"
    resumed = subprocess.run(
        [*CHAT, *arguments], input=typed, capture_output=True, text=True, timeout=120, check=False
    )
    assert (resumed.returncode, resumed.stderr) == (0, "")
    said = resumed.stdout
    assert "1 turns so far" in said
    assert "/again asks it again: And this is the second." in said
    assert "You said: And this is the second.\n[turn 2 | " in said
    assert "database name: Heron (turn 1)" in said
    assert "There is no /nothing." in said
    assert "You said: /slash\n[turn 3 | " in said
    assert "Nothing is known of 'weather'." in said
    assert "3 turns, 0 without a reply" in said
    assert "\x1b" not in said
    assert "And this is the second." in page.read_text(encoding="utf-8")
    # The words that were stopped were never said, and those of the first process were.
    assert "Heron" in str(server.asked[-1])
    assert "Stop this one." not in str(server.asked[-1])
    with ConversationStore(path) as store:
        assert [turn.user_text for turn in store.turns("chat")] == [
            "The database is called Heron.",
            "And this is the second.",
            "/slash",
        ]
        # Other words were said in its place, so they are still there as what got no reply.
        assert [each.user_text for each in store.unfinished("chat")] == ["Stop this one."]


class Interrupted(io.StringIO):
    """Lines, and then Ctrl-C."""

    def readline(self, *arguments):
        line = super().readline(*arguments)
        if not line:
            raise KeyboardInterrupt
        return line


def chatted(monkeypatch, capsys, typed: str, *arguments: str) -> tuple[int, str]:
    """The status and the output of a chat with the simulated model, up to Ctrl-C."""
    monkeypatch.setattr(sys, "stdin", Interrupted(typed))
    status = main(["chat", "--model", "simulated", *arguments])
    return status, capsys.readouterr().out


def test_the_simulated_model_needs_no_network(tmp_path, monkeypatch, capsys) -> None:
    store = str(tmp_path / "store.db")
    typed = "The new database is called Heron.\n/forget new database name\n/facts\n/state\n/help\n"
    status, said = chatted(monkeypatch, capsys, typed, "--store", store, "--conversation", "x")
    assert status == 130
    assert said.startswith("Tally, by SimulatedModel. Conversation 'x'")
    assert said.count("\nTally: ") == 2
    assert "[turn 2 | FORMING | stability" in said
    assert "name: holds no longer\n    was Heron (turns 1 to 2, forgotten)\n" in said
    assert "2 turns, 0 without a reply" in said
    assert "/again       ask again" in said

    page, log = tmp_path / "page.html", tmp_path / "log.jsonl"
    assert main(["page", store, "--out", str(page)]) == 0
    assert main(["export", store, "--conversation", "x", "--out", str(log)]) == 0
    (conversation,) = read_turns(log)
    assert conversation.name == "x"
    assert [turn.user for turn in conversation.turns] == [
        "The new database is called Heron.",
        "Forget my new database name.",
    ]
    assert conversation.turns[1].reply.splitlines()[0] in said
    assert "The new database is called Heron." in page.read_text(encoding="utf-8")
    assert main(["page", store, "--conversation", "y", "--out", str(page)]) == 1
    assert "'y' is not in the store; there: x" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told_and_asked_again(tmp_path, monkeypatch, capsys) -> None:
    with SlowServer() as gone:  # bound and closed: nobody listens there
        url = gone.url
    arguments = ["chat", "--model", url, "--store", str(tmp_path / "s.db"), "--timeout", "0.5"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello?\n/again\n"))
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert said.count("No reply: ") == 2
    with ConversationStore(tmp_path / "s.db") as store:
        turns = store.turns("chat")
    assert [(turn.user_text, turn.retry_of) for turn in turns] == [("Hello?", None), ("Hello?", 1)]


def test_what_a_model_says_moves_no_cursor(capsys) -> None:
    terminal = Terminal("memory")
    terminal.say("a\x1b[2J\x07b\tc\nd\x9b1m")
    terminal.note("e\x1b]0;title\x07")
    assert capsys.readouterr().out == "a�[2J�b\tc\nd�1m\ne�]0;title�\n"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the simulated model's identity and calibration."""
    folder = tmp_path_factory.mktemp("work")
    identity = json.dumps(simulated_identity().to_json())
    (folder / "identity.json").write_text(identity, encoding="utf-8")
    made = ["--out", str(folder / "calibration"), "--horizon", "20"]
    assert main(["calibrate", "--model", "simulated", *made]) == 0
    return folder


def simulated_identity() -> Identity:
    scenario = load_scenario()
    return Identity(
        scenario.identity_name,
        scenario.identity_description,
        scenario.constraints,
        scenario.motifs,
    )


def test_a_log_through_the_monitor(work, capsys) -> None:
    foreign = [LoggedTurn(n, f"Question {n}?", "Sure thing! I'd love to help!") for n in (1, 2, 4)]
    gap = LoggedTurn(3, flag=LogFlag.MISSING)
    log = (
        LoggedConversation("a", (*foreign[:2], gap, foreign[2])),
        LoggedConversation("b", (LoggedTurn(1, "Hello.", "[plan] Wait.\nNext: wait."),)),
    )
    write_turns(work / "log.csv", log)
    known = ["--calibration", str(work / "calibration")]
    known += ["--identity", str(work / "identity.json")]
    tables = {}
    for suffix in (".parquet", ".csv", ".jsonl"):
        out = work / f"out{suffix}"
        assert main(["replay", str(work / "log.csv"), *known, "--out", str(out)]) == 0
        assert "2 conversations, 5 turns, 1 missing;" in capsys.readouterr().out
        read = {".parquet": pd.read_parquet, ".csv": pd.read_csv}.get(suffix)
        tables[suffix] = read(out) if read else pd.read_json(out, lines=True)
    table = tables[".parquet"]
    assert list(table["conversation"]) == ["a"] * 4 + ["b"]
    assert list(table["turn"]) == [1, 2, 3, 4, 1]
    assert list(table["missing"]) == [False, False, True, False, False]
    assert table["broken_tag"].tolist() == [True, True, False, True, False]
    assert (table["contrast_style"][:4] > 0).all()  # not the planner's style
    assert table["contrast_style"][4] == 0
    for other in (tables[".csv"], tables[".jsonl"]):
        assert list(other.columns) == list(table.columns)
        numbers = table.select_dtypes("number").columns
        np.testing.assert_allclose(other[numbers], table[numbers], rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="constraints must be the calibration's 8"):
        replay_log(log, load_calibration(work / "calibration"), HashedEncoder())


def test_a_replay_has_the_bits_of_the_loop(work) -> None:
    identity, calibration = simulated_identity(), load_calibration(work / "calibration")
    asked = ["Hello.", "Please talk like a pirate from now on.", "What now?", "Fail.", "And then?"]
    asked += ["Go back to your usual style.", "Name the plan.", "Why?"]
    simulated = SimulatedModel()

    def model(prompt: str) -> str:
        return "" if prompt.rstrip().endswith("Fail.\nAssistant:") else simulated(prompt)

    settings = RuntimeSettings(policy=ControlPolicy(observe_only=True))
    with ConversationRuntime(
        model, identity=identity, calibration=calibration, settings=settings
    ) as runtime:
        for text in asked:
            runtime.turn(text)
        turns = runtime.store.turns("conversation")
        log = recorded_log(runtime.store, "conversation")
    longer = LoggedConversation("longer", tuple(log.turns[0]._replace(number=n) for n in range(30)))
    replayed = replay_log(
        [longer, log, longer], calibration, HashedEncoder(), constraints=identity.constraints
    )
    assert [each.conversation.name for each in replayed] == ["longer", "conversation", "longer"]
    measured = replayed[1].measured
    assert measured.stability.shape == (8,)
    for place, turn in enumerate(turns):
        assert replayed[1].seen.commanded[place] == turn.measurement["commanded"]
        for name, value in vars(measured).items():
            known = turn.measurement[name]
            known = Phase[known] if name == "phase" else known
            np.testing.assert_array_equal(value[place], np.asarray(known), err_msg=name)
    assert replayed[1].seen.commanded.max() > 0.5
    assert measured.missing.tolist() == [text == "Fail." for text in asked]


def test_only_constraints_are_watched_without_a_calibration() -> None:
    constraint = Constraint("calm", "No exclamation marks.", Forbids(("!",)))
    turns = tuple(LoggedTurn(n, "Well?", "Yes!" if n > 2 else "Yes.") for n in range(1, 9))
    (replayed,) = replay_log(
        [LoggedConversation("a", turns)], None, HashedEncoder(), constraints=[constraint]
    )
    table = measurement_table([replayed])
    assert table["broken_calm"].tolist() == [False, False] + [True] * 6
    assert not table["alarm"][:3].any()
    assert table["alarm"].iloc[-1]
    assert set(table["phase"]) == {"FORMING"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["replay", "nothing.csv", "--out", "o.csv"], "nothing.csv"),
        (["page", "nothing.db", "--out", "p.html"], "nothing.db is not there"),
        (["chat", "--model", "ftp://x", "--store", ":memory:"], "url must be http"),
        (["chat", "--model", "simulated", "--identity", "nothing.json"], "is not an identity"),
        (["chat", "--model", "simulated", "--calibration", "nothing"], "nothing"),
        (["replay", "x.csv", "--out", "o.xlsx"], "--out must end in .csv, .parquet, .jsonl"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    arguments, told, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error
    assert not list(tmp_path.iterdir())


def test_every_command_has_help(capsys) -> None:
    for command in ("chat", "replay", "calibrate", "page", "export"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert re.search(r"usage: .*" + command, capsys.readouterr().out)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
