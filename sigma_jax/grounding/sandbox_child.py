"""The child of `run_untrusted`: it locks itself, runs the program, and reports how that ended.

Run as a script by an interpreter that sees the standard library alone; it reads its order, a
marshalled dictionary, from its standard input.
"""

import ast
import contextlib
import ctypes
import errno
import importlib
import marshal
import os
import resource
import signal
import sys
import types
from collections.abc import Callable, Iterator

Report = Callable[[str, str], None]

_DETAIL = 1_000  # characters
_CHAIN = 20  # exceptions, each raised from the next
_RESERVE = 2**20  # bytes, given up to report that memory ran out
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVILEGES = 1, 4, 22, 38
_FILTER = 2
_CAPABILITIES = 0x20080522  # version 3: two words each of effective, permitted, inheritable
_OPEN_FILES = 64

# What programs use most, and what these modules import only when it is needed: once the program
# runs, no file can be opened.
_LOADED = (
    "_strptime abc array atexit bisect calendar cmath collections collections.abc contextlib copy",
    "dataclasses datetime decimal enum encodings.ascii encodings.idna encodings.latin_1 fractions",
    "functools gc hashlib heapq io itertools json linecache locale math numbers operator queue",
    "random re statistics string struct textwrap threading time tokenize traceback tracemalloc",
    "typing unicodedata warnings weakref zlib",
)
_COMPANIONS = {
    "concurrent": ("concurrent.futures.thread",),
    "multiprocessing": tuple(
        f"multiprocessing.{name}" for name in ("pool", "popen_fork", "queues", "synchronize")
    ),
}
"""What modules that a program may name import only when it is needed."""

_REFUSED = {
    errno.ENETDOWN: "network",
    errno.EROFS: "writing",
    errno.EACCES: "reading",
    errno.EPERM: "processes and system",
}


class _FilterHeader(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> None:
    """Lock, run, report, and leave without any clean-up that the program could have changed."""
    order = marshal.loads(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    report = _reporter(order["report"], order["nonce"])
    leave, streams = os._exit, (sys.stdout, sys.stderr)
    try:
        _lock(order)
    except BaseException as error:  # whatever it is, nothing is run unlocked
        report("unlocked", _said(error))
        leave(1)
    report("ready", "")
    ending = _run(order["program"])
    for stream in streams:
        with contextlib.suppress(OSError, ValueError):  # closed by the program
            stream.flush()
    report(*ending)
    leave(0)


def _reporter(descriptor: int, nonce: bytes) -> Report:
    write = os.write

    def report(kind: str, detail: str) -> None:
        text = f"{kind}\0{detail}".encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):  # closed by the program
            write(descriptor, nonce + text)

    return report


# --- locking -----------------------------------------------------------------------------------


def _lock(order: dict) -> None:
    """Set the limits, load modules while only reading is left, then forbid that too."""
    library = ctypes.CDLL(None, use_errno=True)
    _control(library, _SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != order["parent"]:  # it died before that
        os._exit(1)
    _control(library, _SET_DUMPABLE, 0)
    _control(library, _SET_NO_NEW_PRIVILEGES, 1)
    seconds = order["cpu_seconds"]
    _limit(resource.RLIMIT_AS, order["memory_bytes"])
    _limit(resource.RLIMIT_CPU, seconds, seconds + 1)  # a signal that names the reason, then an end
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _filter(library, order["locking"])
    for name in " ".join(_LOADED).split():
        importlib.import_module(name)
    for name in _imported(order["program"]):
        with contextlib.suppress(BaseException):  # the program will meet it again, and be judged
            importlib.import_module(name)
    _drop_capabilities(library)
    _filter(library, order["locked"])
    os.environ.clear()


def _control(library: ctypes.CDLL, option: int, second: int, third: int = 0) -> None:
    """Call `prctl`, which wants all five of its words."""
    words = (ctypes.c_ulong(word) for word in (second, third, 0, 0))
    if library.prctl(ctypes.c_int(option), *words) != 0:
        _raise(f"prctl({option})")


def _filter(library: ctypes.CDLL, instructions: bytes) -> None:
    header = _FilterHeader(len(instructions) // 8, instructions)
    _control(library, _SET_SECCOMP, _FILTER, ctypes.addressof(header))


def _drop_capabilities(library: ctypes.CDLL) -> None:
    """Give up what root may do; another user has nothing to give up."""
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    if library.capset(header, none) != 0:
        _raise("capset")


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, or keep the one that there is if it is lower."""
    _, most = resource.getrlimit(kind)
    wanted = (soft, soft if hard is None else hard)
    if most != resource.RLIM_INFINITY:
        wanted = (min(wanted[0], most), min(wanted[1], most))
    resource.setrlimit(kind, wanted)


def _raise(call: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{call}: {os.strerror(number)}")


def _imported(program: str) -> Iterator[str]:
    """The modules of the standard library that a program names in its import statements."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return  # `compile` will say the same
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            first, _, last = name.replace(".", " ").partition(" ")
            if first in sys.stdlib_module_names and not last.endswith("__main__"):
                yield from (name, *_COMPANIONS.get(first, ()))


# --- running -----------------------------------------------------------------------------------


def _run(program: str) -> tuple[str, str]:
    """How the program ended: the value of an `Ending`, and what there is to say of it."""
    reserve = bytearray(_RESERVE)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    try:
        exec(compile(program, "<program>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # generated code may raise anything
        reserve.clear()
        return _judged(error)
    return "passed", ""


def _judged(error: BaseException) -> tuple[str, str]:
    if isinstance(error, AssertionError):
        return "failed", _said(error)
    if isinstance(error, MemoryError):
        return "out of memory", _said(error)
    if isinstance(error, SystemExit):
        return "no verdict", f"left before its end: {_said(error)}"
    if refused := _refused(error):
        return "forbidden", f"{refused}: {_said(error)}"
    return "raised", _said(error)


def _refused(error: BaseException | None) -> str:
    """What was refused, if `error`, or what it was raised from, is such an error; else nothing."""
    for _ in range(_CHAIN):
        if isinstance(error, OSError) and error.errno in _REFUSED:
            return _REFUSED[error.errno]
        if type(error).__name__ == "gaierror":  # a name was looked up, in vain
            return _REFUSED[errno.ENETDOWN]
        error = error and (error.__cause__ or error.__context__)
    return ""


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_DETAIL]
    except BaseException:  # its `__str__` is the program's, too
        return type(error).__name__[:_DETAIL]


if __name__ == "__main__":
    main()
