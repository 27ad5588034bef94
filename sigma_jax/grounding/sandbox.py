"""Running a program that nobody has read, such as a model wrote, without harm."""

import marshal
import os
import platform
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from .program_runs import Ending, Limits, Outcome
from .system_call_filter import filter_program
from .system_calls import MACHINES

_CHILD = Path(__file__).with_name("sandbox_child.py")
_CHUNK = 2**16
_REPORT = 2**13  # bytes; a child that says more is not ours any more
_PAUSE = 0.002  # seconds, between two looks whether a child that closed its output has ended


def run_untrusted(program: str, *, limits: Limits = Limits()) -> Outcome:
    """Run a Python program in a locked process of its own, and say how it ended.

    It can compute with the standard library, start threads and print. It cannot open any file, to
    read or to write, change one, reach the network or this machine's own sockets, start a process,
    or signal one; each attempt fails there with an error. Standard input is empty, the environment
    too, and hashes are not randomised, so that the same program ends in the same way. What it may
    still see of the system is what files are there and how large, the time, and its parent's id.

    Modules of the standard library that its `import` statements name are loaded before it starts,
    as are the usual ones; other modules cannot be had.

    The lock is a seccomp filter, a list of what is allowed, set by the process itself before the
    program begins, with limits on memory, time and open files. It holds against native code called
    through `ctypes`, too. The ending is what the same interpreter reports: a program that hunts
    through its memory can forge one, though it cannot get out.

    **Arguments:** `program`, the source; `limits`, what it may use.

    **Raises** `OSError` where it cannot be locked: on other systems than Linux on x86_64 or
    aarch64, and where seccomp is not allowed. Nothing runs then.
    """
    machine = _machine()
    nonce = secrets.token_bytes(16)
    order = {
        "program": program,
        "nonce": nonce,
        "parent": os.getpid(),
        "cpu_seconds": limits.cpu_seconds,
        "memory_bytes": limits.memory_bytes,
        "locking": filter_program(machine, locking=True),
        "locked": filter_program(machine, locking=False),
    }
    started = time.monotonic()
    deadline = started + limits.wall_seconds
    with _child(order) as (process, report):
        assert process.stdout is not None  # a pipe was asked for
        seen = _watch(process.stdout, report, limits, deadline)
        end = _end(process, 0.0 if seen.too_much else deadline)
    seconds = time.monotonic() - started
    ending, detail = _decide(seen, end, limits, nonce)
    return Outcome(ending, detail, _text(seen.output[: limits.output_bytes]), seconds)


class _Seen(NamedTuple):
    """What a child wrote, and whether it wrote too much."""

    output: bytearray
    report: bytearray
    too_much: bool


class _End(NamedTuple):
    """The exit status, or a signal as a negative number; seconds on the processor; who ended it."""

    status: int
    cpu_seconds: float
    stopped: bool
    """Whether it was still there, and was killed here."""


def _machine() -> str:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES:
        raise OSError(
            f"no program is run unlocked, and the lock is for Linux on {' or '.join(MACHINES)}; "
            f"this is {sys.platform} on {machine}."
        )
    return machine


@contextmanager
def _child(order: dict[str, object]) -> Iterator[tuple[subprocess.Popen, IO[bytes]]]:
    """A child with an order, and where it reports; afterwards it is gone, and its folder."""
    with (
        tempfile.TemporaryDirectory(prefix="sigma_jax_") as folder,
        # As its input, for it takes any amount at once, where a pipe would have to be fed.
        tempfile.TemporaryFile() as contents,
    ):
        reading, writing = os.pipe()
        with open(reading, "rb", buffering=0) as report:
            try:
                marshal.dump({**order, "report": writing}, contents)
                contents.seek(0)
                process = _start(contents, writing, folder)
            finally:
                os.close(writing)
            with process:
                try:
                    yield process, report
                finally:
                    if process.returncode is None:
                        _end(process, 0.0)


def _start(contents: IO[bytes], reporting: int, folder: str) -> subprocess.Popen:
    return subprocess.Popen(
        # -I would do what -s and -P do, and ignore the environment as well.
        [sys.executable, "-s", "-P", "-S", "-B", str(_CHILD)],
        stdin=contents,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(reporting,),
        cwd=folder,
        env={"PYTHONHASHSEED": "0"},
        start_new_session=True,
    )


def _watch(output: IO[bytes], report: IO[bytes], limits: Limits, deadline: float) -> _Seen:
    """Read what the child writes until it ends, or its time does, or it writes too much."""
    seen = _Seen(bytearray(), bytearray(), too_much=False)
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ, seen.output)
        selector.register(report, selectors.EVENT_READ, seen.report)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _CHUNK)
                key.data.extend(chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
            if len(seen.output) > limits.output_bytes or len(seen.report) > _REPORT:
                return seen._replace(too_much=True)
    return seen


def _end(process: subprocess.Popen, deadline: float) -> _End:
    """Wait for the child until the deadline, and kill it then. It is reaped either way."""
    gone, status, usage = os.wait4(process.pid, os.WNOHANG)
    while not gone and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        gone, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not gone:
        os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return _End(process.returncode, usage.ru_utime + usage.ru_stime, stopped=not gone)


def _decide(seen: _Seen, end: _End, limits: Limits, nonce: bytes) -> tuple[Ending, str]:
    """The child's own verdict if it gave one, and otherwise what its end says."""
    if seen.too_much:
        return Ending.TOO_MUCH_OUTPUT, f"more than {limits.output_bytes} bytes"
    messages = (part.partition(b"\0") for part in bytes(seen.report).split(nonce)[1:])
    said = {kind.decode("utf-8", "replace"): detail for kind, _, detail in messages}
    begun = "ready" in said
    if "unlocked" in said and not begun:
        raise OSError(f"no program is run unlocked, and locking failed: {_text(said['unlocked'])}.")
    for ending in Ending:
        if ending.value in said:
            return ending, _text(said[ending.value])
    if end.stopped:
        return Ending.TIMED_OUT, f"not done after {limits.wall_seconds:g} s"
    killed = end.status == -signal.SIGKILL
    if end.status == -signal.SIGXCPU or (killed and end.cpu_seconds > limits.cpu_seconds):
        return Ending.TIMED_OUT, f"more than {limits.cpu_seconds} s on the processor"
    if not begun:
        output = _text(seen.output[-_CHUNK:])
        raise OSError(f"the child ended{_how(end.status)} before its program began: {output!r}.")
    if end.status == -signal.SIGSYS:
        return Ending.FORBIDDEN, "processes and system: a system call of another machine"
    if killed:
        return Ending.OUT_OF_MEMORY, "killed by the system, as it does when memory runs out"
    return Ending.NO_VERDICT, f"ended{_how(end.status)} before its end"


def _text(contents: bytes | bytearray) -> str:
    return contents.decode("utf-8", "replace")


def _how(status: int) -> str:
    return f" by {signal.Signals(-status).name}" if status < 0 else f" with status {status}"
