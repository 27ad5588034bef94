"""A seccomp filter: the list of system calls that a locked process may still make.

A filter is a program for the kernel's classic BPF machine that looks at each call's number and
arguments (Linux, `Documentation/userspace-api/seccomp_filter.rst`; `struct seccomp_data`). What is
not on the list is refused with an error, so that the process is told what it may not do. Each rule
ends in an answer of its own, and falls through to the next if the call is another.
"""

import errno
import os
import struct

from .system_calls import (
    COMPUTING,
    LIMITED,
    LOCKING,
    MACHINES,
    NETWORK,
    NEWEST,
    UNREADABLE,
    WRITING,
    numbers,
)

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERROR = 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4  # where they stand in `struct seccomp_data`
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # x86_64 has a second set of numbers from here on

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06

_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_THREAD = 0x3D0F00  # VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID
_DETACHED = 0x400000  # no longer means anything; musl still sets it
# Not F_SETOWN, by which the kernel signals another process.
_DESCRIPTOR_COMMANDS = (0, 1, 2, 3, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_DEVICE_COMMANDS = (0x5401, 0x5413, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX
_SET_SECCOMP, _SET_NAME, _GET_NAME = 22, 15, 16


def filter_program(machine: str, *, locking: bool) -> bytes:
    """The filter as an array of `struct sock_filter`.

    Allowed are work on the process's own memory, threads, clocks and open files. Refused, with the
    error in brackets: the network (ENETDOWN), changing files (EROFS), opening files to read
    (EACCES), and all else, such as other processes, signals and devices (EPERM).

    **Arguments:** `machine`, as `platform.machine()` names it; `locking`, whether files may still
    be opened to read and a stricter filter be set on top.

    **Raises** `ValueError` for a machine whose numbers are not known.
    """
    if machine not in MACHINES:
        raise ValueError(f"machine must be one of {', '.join(MACHINES)}; got {machine!r}.")
    rules = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, _AUDIT[machine], 1, 0),
        _instruction(_ANSWER, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, 0, 1),
        _instruction(_ANSWER, _KILL),
        _instruction(_AT_LEAST, NEWEST + 1, 0, 1),
        _refusal(errno.ENOSYS),
    ]
    rules += _answers(COMPUTING + LOCKING * locking, machine, _instruction(_ANSWER, _ALLOW))
    rules += _answers(NETWORK, machine, _refusal(errno.ENETDOWN))
    rules += _answers(WRITING, machine, _refusal(errno.EROFS))
    rules += _answers(UNREADABLE, machine, _refusal(errno.ENOSYS))
    for name, number in numbers(LIMITED, machine).items():
        rules.append(_for_call(number, _limited(name, locking=locking)))
    return b"".join([*rules, _refusal(errno.EPERM)])


def _limited(name: str, *, locking: bool) -> bytes:
    """What is answered to a call, by its arguments."""
    if name in ("open", "openat"):
        flags = _argument(1 if name == "open" else 2)
        opened = _instruction(_ANSWER, _ALLOW) if locking else _refusal(errno.EACCES)
        writes = _instruction(_ANY_BIT, _WRITING_FLAGS, 0, 1) + _refusal(errno.EROFS)
        return flags + writes + opened
    if name == "clone":
        flags = _argument(0) + _instruction(_AND, 0xFFFFFFFF ^ _DETACHED)
        return flags + _one_of((_THREAD,))
    if name == "prlimit64":  # asking for one's own limits, not setting any
        itself = _argument(0) + _zero_or_refused()
        return itself + _argument(2, high=True) + _zero_or_refused() + _argument(2) + _one_of((0,))
    if name == "prctl":
        return _argument(0) + _one_of((_SET_NAME, _GET_NAME) + (_SET_SECCOMP,) * locking)
    return _argument(1) + _one_of(_DESCRIPTOR_COMMANDS if name == "fcntl" else _DEVICE_COMMANDS)


def _answers(table: str, machine: str, answer: bytes) -> list[bytes]:
    return [_for_call(number, answer) for number in numbers(table, machine).values()]


def _for_call(number: int, answer: bytes) -> bytes:
    """`answer` if the loaded number is `number`; otherwise on, past the answer."""
    return _instruction(_EQUAL, number, 0, len(answer) // 8) + answer


def _one_of(values: tuple[int, ...]) -> bytes:
    """Allow if the loaded word is one of `values`, else refuse."""
    allowed = b"".join(
        _instruction(_EQUAL, value, 0, 1) + _instruction(_ANSWER, _ALLOW) for value in values
    )
    return allowed + _refusal(errno.EPERM)


def _zero_or_refused() -> bytes:
    return _instruction(_EQUAL, 0, 1, 0) + _refusal(errno.EPERM)


def _argument(index: int, *, high: bool = False) -> bytes:
    """Load half of an argument. Both machines store the low half first."""
    return _instruction(_LOAD, 16 + 8 * index + 4 * high)


def _refusal(number: int) -> bytes:
    return _instruction(_ANSWER, _ERROR | number)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
