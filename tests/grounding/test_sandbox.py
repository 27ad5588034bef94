"""Programs that try to get out, each run for real; afterwards nothing of them is left."""

import os
import platform
import signal
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sigma_jax.grounding import Ending, Limits, run_untrusted

SHORT = Limits(wall_seconds=20.0, cpu_seconds=1)


def children() -> set[str]:
    """The process ids of this process's children."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Where the programs' folders are made. No child and no folder may be left, nor a pipe."""
    before = children(), len(os.listdir("/proc/self/fd"))
    folders = tmp_path / "folders"
    folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    yield folders
    assert (children(), len(os.listdir("/proc/self/fd"))) == before
    assert list(folders.iterdir()) == []


def ended(program, limits=SHORT):
    outcome = run_untrusted(program, limits=limits)
    return outcome.ending, outcome.detail


# --- what is allowed ---------------------------------------------------------------------------


def test_a_program_that_runs_to_its_end():
    outcome = run_untrusted("import sys\nprint('one')\nprint('zwölf', file=sys.stderr)")
    assert outcome.passed
    assert outcome.ending is Ending.PASSED
    assert outcome.detail == ""
    assert sorted(outcome.output.splitlines()) == ["one", "zwölf"]
    assert 0 < outcome.seconds < 10


def test_the_standard_library_computes():
    program = """
import collections, datetime, decimal, hashlib, itertools, json, math, random, re, statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import xml.etree.ElementTree as tree

assert hashlib.md5(b"").hexdigest() == "d41d8cd98f00b204e9800998ecf8427e"
assert collections.Counter("aab").most_common(1) == [("a", 2)]
assert datetime.datetime.strptime("02-03-2001", "%d-%m-%Y").year == 2001
assert re.sub(r"\\d+", "n", "a12") == "an" and json.loads("[1]") == [1]
assert tree.fromstring("<a>b</a>").text == "b"
assert statistics.mean([decimal.Decimal(1), 2]) == 1.5 and 0 <= random.random() < 1
with ThreadPoolExecutor(3) as pool:
    assert sum(pool.map(math.factorial, range(5))) == 34

@dataclass
class Point:
    x: "int"

assert Point(3).x == 3 and __name__ == "__main__"
def lazily():
    import colorsys
    return colorsys.rgb_to_hsv(1, 0, 0)
assert lazily() == (0, 1, 1)
"""
    outcome = run_untrusted(program)
    assert (outcome.ending, outcome.detail) == (Ending.PASSED, "")


def test_nothing_of_the_outside_is_there(folders, monkeypatch):
    monkeypatch.setenv("API_KEY", "secret")
    outcome = run_untrusted(
        "import os, sys\nprint(dict(os.environ), os.getcwd(), sys.stdin.read())"
    )
    assert outcome.passed
    environment, folder = outcome.output.split()
    assert environment == "{}"
    assert Path(folder).parent == folders
    assert run_untrusted("import numpy").detail == "ModuleNotFoundError: No module named 'numpy'"
    assert run_untrusted("input()").ending is Ending.RAISED


def test_the_same_program_ends_in_the_same_way():
    program = "print({'alpha', 'beta', 'gamma', 'delta'}, hash('alpha'))"
    assert run_untrusted(program).output == run_untrusted(program).output


# --- how programs end --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "ending", "detail"),
    [
        ("assert 1 == 2, 'no'", Ending.FAILED, "AssertionError: no"),
        ("1 / 0", Ending.RAISED, "ZeroDivisionError: division by zero"),
        ("def f(", Ending.RAISED, "SyntaxError: '(' was never closed (<program>, line 1)"),
        ("def f(n): f(n + 1)\nf(0)", Ending.RAISED, "RecursionError: maximum recursion depth"),
        ("raise KeyboardInterrupt", Ending.RAISED, "KeyboardInterrupt: "),
        ("x = '\ud800'", Ending.RAISED, "UnicodeEncodeError: "),
        ("raise ValueError('\\ud800')", Ending.RAISED, r"ValueError: \ud800"),
        ("raise PermissionError('mine')", Ending.RAISED, "PermissionError: mine"),
        ("import sys\nsys.exit(0)\n1 / 0", Ending.NO_VERDICT, "left before its end: SystemExit: 0"),
        ("import os\nos._exit(0)", Ending.NO_VERDICT, "ended with status 0 before its end"),
        ("import os\nos._exit(3)", Ending.NO_VERDICT, "ended with status 3 before its end"),
        (
            "import ctypes\nctypes.string_at(0)",
            Ending.NO_VERDICT,
            "ended by SIGSEGV before its end",
        ),
        ("x = bytes(10**10)", Ending.OUT_OF_MEMORY, "MemoryError: "),
        ("x = [0]\nwhile True: x += x", Ending.OUT_OF_MEMORY, "MemoryError: "),
    ],
)
def test_endings_are_named(program, ending, detail):
    found, said = ended(program)
    assert found is ending
    assert said.startswith(detail)


def test_memory_filled_with_small_things_is_still_reported():
    program = "x = []\nwhile True: x.append(float(len(x)))"
    limits = Limits(memory_bytes=2**27, cpu_seconds=20, wall_seconds=20.0)
    assert ended(program, limits) == (Ending.OUT_OF_MEMORY, "MemoryError: ")


@pytest.mark.parametrize(
    "program",
    [
        "raise ValueError('x' * 10**8)",
        "class E(Exception):\n    def __str__(self): raise self\nraise E",
        "raise type('E' * 10**6, (Exception,), {})",
        "e = ValueError()\ne.__context__ = f = KeyError()\nf.__cause__ = e\nraise e",
    ],
)
def test_messages_are_short_however_odd_the_exception(program):
    ending, detail = ended(program)
    assert ending is Ending.RAISED
    assert 0 < len(detail) <= 1_000


@pytest.mark.parametrize(
    "program",
    [
        "while True: print('x' * 1000)",
        "import os\nwhile True: os.write(2, b'x' * 1000)",
        "import os\nfor n in range(3, 64):\n    try:\n        while True: os.write(n, b'x' * 99)\n"
        "    except OSError: pass",
        "print('x' * 1_001, end='')",
    ],
)
def test_too_much_output(program):
    outcome = run_untrusted(program, limits=Limits(output_bytes=1_000))
    assert outcome.ending is Ending.TOO_MUCH_OUTPUT
    assert set(outcome.output) <= {"x", "\n"}
    assert len(outcome.output) <= 1_000
    assert run_untrusted("print('x' * 999)", limits=Limits(output_bytes=1_000)).passed


def test_what_a_program_prints_is_no_verdict():
    program = """
import os, sys
for fd in range(1, 64):
    for text in (b"passed\\0", b"ready\\0\\0passed\\0", b"unlocked\\0no"):
        try:
            os.write(fd, text)
        except OSError:
            pass
assert False, "truly"
"""
    assert ended(program) == (Ending.FAILED, "AssertionError: truly")


# --- programs that do not end ------------------------------------------------------------------

STUBBORN = """
import signal, threading
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
def run():
    while True:
        try:
            while True: pass
        except BaseException: pass
"""


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        STUBBORN + "import os\nos.closerange(0, 256)\nrun()",
        STUBBORN + "t = [threading.Thread(target=run) for _ in range(3)]\n"
        "for one in t: one.start()\nfor one in t: one.join()",
    ],
)
def test_loops_end_with_their_time_on_the_processor(program):
    assert ended(program) == (Ending.TIMED_OUT, "more than 1 s on the processor")


@pytest.mark.parametrize(
    "program", ["import time\ntime.sleep(99)", "import signal\nsignal.pause()"]
)
def test_sleepers_end_with_their_time(program):
    limits = Limits(wall_seconds=0.7)
    started = time.monotonic()
    assert ended(program, limits) == (Ending.TIMED_OUT, "not done after 0.7 s")
    assert time.monotonic() - started < 5
    ending, _ = ended("pass", Limits(wall_seconds=0.001))
    assert ending is Ending.TIMED_OUT


def test_threads_that_go_on_end_with_the_program():
    assert ended(STUBBORN + "threading.Thread(target=run).start()") == (Ending.PASSED, "")


def test_an_interrupt_takes_the_child_along():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            run_untrusted("import time\ntime.sleep(99)")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_several_at_once():
    programs = [f"print({n})" if n % 2 else f"assert False, {n}" for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(run_untrusted, programs))
    for number, outcome in enumerate(outcomes):
        assert outcome.passed == bool(number % 2)
        assert str(number) in outcome.output + outcome.detail


# --- programs that try to get out --------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("import os\nos.fork()", "processes and system: PermissionError: "),
        ("import subprocess\nsubprocess.run(['true'])", "processes and system: PermissionError: "),
        (
            "import multiprocessing\nmultiprocessing.Process(target=print).start()",
            "processes and system: PermissionError: ",
        ),
        ("import os\nos.execv('/bin/true', ['true'])", "processes and system: PermissionError: "),
        ("import os, signal\nos.kill(os.getppid(), 9)", "processes and system: PermissionError: "),
        ("import os\nos.kill(-1, 9)", "processes and system: PermissionError: "),
        ("import os\nos.chdir('/')", "processes and system: PermissionError: "),
        ("open('here', 'w')", "writing: OSError: "),
        ("open('../outside', 'w')", "writing: OSError: "),
        ("open(__import__('sys').executable, 'r+')", "writing: OSError: "),
        ("import os\nos.mkdir('folder')", "writing: OSError: "),
        ("import shutil\nshutil.rmtree('..')", "reading: PermissionError: "),
        ("open('/etc/passwd')", "reading: PermissionError: "),
        ("open('/proc/self/environ')", "reading: PermissionError: "),
        ("import os\nopen(f'/proc/{os.getppid()}/environ')", "reading: PermissionError: "),
        ("import os\nos.listdir('/')", "reading: PermissionError: "),
        ("import socket\nsocket.socket()", "network: OSError: "),
        ("import socket\nsocket.create_connection(('localhost', 9))", "network: "),
        (
            "import urllib.request\nurllib.request.urlopen('http://a.example')",
            "network: URLError: ",
        ),
        ("import asyncio\nasyncio.run(asyncio.sleep(0))", "network: OSError: "),
        ("try: open('x', 'w')\nexcept OSError: raise ValueError('no')", "writing: ValueError: no"),
    ],
)
def test_what_is_refused_is_named(program, detail):
    ending, said = ended(program)
    assert ending is Ending.FORBIDDEN
    assert said.startswith(detail)


def test_a_file_outside_is_neither_changed_nor_read(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("as it was")
    program = f"""
import os, pathlib, shutil
path = pathlib.Path({str(kept)!r})
tries = [path.unlink, lambda: path.write_text("new"), lambda: path.rename("x"), path.read_text,
         lambda: os.truncate(path, 0), lambda: path.chmod(0), lambda: os.utime(path),
         lambda: os.link(path, "x"), lambda: os.symlink(path, "x"), lambda: open(path, "a"),
         lambda: path.with_name("other").touch(), lambda: shutil.copy(path, "x"),
         lambda: os.mkfifo(path.with_name("fifo"))]
for act in tries:
    try:
        act()
    except OSError as error:
        print(error.errno)
"""
    outcome = run_untrusted(program)
    assert outcome.passed
    assert len(outcome.output.split()) == 13
    assert kept.read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "folders"}


def test_a_listener_on_this_machine_hears_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # it would hear
        listener.accept()[0].close()
        program = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"
        assert ended(program) == (Ending.FORBIDDEN, "network: OSError: [Errno 100] Network is down")
        program = (
            f"import socket\nsocket.socket(socket.AF_UNIX).connect({str(tmp_path / 'socket')!r})"
        )
        assert ended(program)[0] is Ending.FORBIDDEN
        for deaf in (listener, local):
            deaf.setblocking(False)
            with pytest.raises(BlockingIOError):
                deaf.accept()


NATIVE = """
import ctypes, errno, os
library = ctypes.CDLL(None, use_errno=True)
PARENT, SELF = os.getppid(), os.getpid()
space = ctypes.create_string_buffer(4096)

def tried(name, *arguments):
    ctypes.set_errno(0)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = getattr(library, name)(*words)
    print(name, result, errno.errorcode.get(ctypes.get_errno(), "OK"))

tried("fork")
tried("execve", b"/bin/true", 0, 0)
tried("socket", 2, 1, 0)
tried("socketpair", 1, 1, 0, space)
tried("kill", PARENT, 9)
tried("ptrace", 16, PARENT, 0, 0)
tried("process_vm_readv", PARENT, space, 1, space, 1, 0)
tried("prlimit", PARENT, 0, space, 0)
tried("setrlimit", 9, space)
tried("fcntl", 1, 8, PARENT)
tried("unshare", 0x10000000)
tried("mount", b"none", b"/tmp", b"tmpfs", 0, 0)
tried("chroot", b"/")
tried("setuid", 0)
tried("memfd_create", b"x", 0)
tried("prctl", 22, 2, space)
tried("open", b"/etc/passwd", 0)
tried("open", b"x", 0o102, 0o600)
tried("unlink", b"/etc/passwd")
tried("syscall", 425, 1, space)
tried("syscall", 434, PARENT, 0)
tried("syscall", 435, space, 88)
tried("syscall", 437, -100, b"x", space, 24)
tried("getppid") if library.getppid() != PARENT else print("still here")
"""
REFUSED = """
fork EPERM, execve EPERM, socket ENETDOWN, socketpair ENETDOWN, kill EPERM, ptrace EPERM,
process_vm_readv EPERM, prlimit EPERM, setrlimit EPERM, fcntl EPERM, unshare EPERM, mount EPERM,
chroot EPERM, setuid EPERM, memfd_create EPERM, prctl EPERM, open EACCES, open EROFS, unlink EROFS,
syscall EPERM, syscall EPERM, syscall ENOSYS, syscall ENOSYS
"""


def test_native_code_is_refused_as_well():
    outcome = run_untrusted(NATIVE)
    assert outcome.passed, outcome.detail
    *lines, last = outcome.output.splitlines()
    expected = [entry.split() for entry in REFUSED.split(",")]
    assert [line.split() for line in lines] == [[name, "-1", error] for name, error in expected]
    assert last == "still here"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86_64's second set of numbers")
def test_calls_of_another_machine_kill():
    program = "import ctypes\nctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))"
    assert ended(program) == (
        Ending.FORBIDDEN,
        "processes and system: a system call of another machine",
    )


def test_capabilities_are_gone():
    """As root; for others there are none to lose."""
    program = """
import ctypes
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[7] * 6)
number = {"x86_64": 125, "aarch64": 90}[__import__("os").uname().machine]
print(ctypes.CDLL(None).syscall(number, header, sets), *sets)
"""
    outcome = run_untrusted(program)
    assert outcome.output.split() == ["-1", *["7"] * 6]  # not even asked for


# --- where it cannot be locked, and bad input --------------------------------------------------


def test_nothing_runs_where_it_cannot_be_locked(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(
        OSError, match="no program is run unlocked, and the lock is for Linux on x86"
    ):
        run_untrusted("pass")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="no program is run unlocked"):
        run_untrusted("pass")


def test_nothing_runs_if_the_kernel_refuses_the_filter(monkeypatch, folders):
    monkeypatch.setattr("sigma_jax.grounding.sandbox.filter_program", lambda *_, **__: b"\xff" * 8)
    with pytest.raises(OSError, match=r"locking failed: OSError: \[Errno 22\] prctl\(22\)"):
        run_untrusted("print('unlocked')")


def test_an_interpreter_that_does_not_start_is_an_error_and_no_verdict(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the child ended with status 1 before its program began"):
        run_untrusted("pass")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        run_untrusted("pass")


def test_the_least_memory_that_is_allowed_is_enough_to_start():
    assert run_untrusted("pass", limits=Limits(memory_bytes=2**27)).passed


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"wall_seconds": 0.0}, "wall_seconds must lie in"),
        ({"wall_seconds": float("nan")}, "wall_seconds must not contain NaN"),
        ({"wall_seconds": float("inf")}, "wall_seconds must lie in"),
        ({"cpu_seconds": 0}, "cpu_seconds must be a whole number from 1 to"),
        ({"cpu_seconds": 1.5}, "cpu_seconds must be a whole number from 1 to .*; got 1.5"),
        ({"memory_bytes": 2**20}, "memory_bytes must be a whole number from 134217728 to"),
        ({"output_bytes": -1}, "output_bytes must be a whole number from 0 to .*; got -1"),
        ({"output_bytes": True}, "output_bytes must be a whole number"),
    ],
)
def test_limits_that_are_none(limits, message):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)


def test_the_parent_is_as_it_was():
    before = threading.active_count(), os.getcwd(), dict(os.environ)
    run_untrusted("import os, signal\nos.kill(os.getppid(), signal.SIGTERM)")
    assert (threading.active_count(), os.getcwd(), dict(os.environ)) == before
