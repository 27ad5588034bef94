"""The filter, run by a small BPF machine written here from the kernel's documentation.

That the running kernel takes it and does the same is in `test_sandbox.py`; this reaches the
machines that the tests do not run on.
"""

import errno
import itertools
import re
import struct
from pathlib import Path

import pytest

from sigma_jax.grounding import system_calls
from sigma_jax.grounding.system_call_filter import filter_program

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = "allow", "kill"
HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}
THREAD = 0x3D0F00


def answer(filter_bytes, number, *arguments, audit):
    """What the kernel would answer: run the filter on a `struct seccomp_data`."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", number, audit, 0, *padded)
    program = [
        struct.unpack_from("<HBBI", filter_bytes, at) for at in range(0, len(filter_bytes), 8)
    ]
    word, at = 0, 0
    for _ in range(len(program)):
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            (word,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            word &= value
        elif code == 0x06:
            return said(value)
        else:
            true = {0x15: word == value, 0x35: word >= value, 0x45: word & value != 0}[code]
            at += if_true if true else if_false
    raise AssertionError("the filter does not end in an answer")


def said(value):
    action, data = value & 0xFFFF0000, value & 0xFFFF
    return {0x7FFF0000: ALLOW, 0x80000000: KILL, 0x00050000: errno.errorcode.get(data)}[action]


@pytest.fixture(params=AUDIT)
def asked(request):
    """Ask a machine's filter, by default the strict one."""
    programs = {late: filter_program(request.param, locking=not late) for late in (True, False)}

    def ask(numbers, *arguments, locked=True, audit=AUDIT[request.param]):
        number = (
            numbers[list(AUDIT).index(request.param)] if isinstance(numbers, tuple) else numbers
        )
        return answer(programs[locked], number, *arguments, audit=audit)

    return ask


# Numbers for x86_64 and aarch64, as man pages and kernels print them.
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 63), ALLOW),  # read
        ((1, 64), ALLOW),  # write
        ((9, 222), ALLOW),  # mmap
        ((202, 98), ALLOW),  # futex
        ((231, 94), ALLOW),  # exit_group
        ((262, 79), ALLOW),  # newfstatat
        ((41, 198), "ENETDOWN"),  # socket
        ((42, 203), "ENETDOWN"),  # connect
        ((263, 35), "EROFS"),  # unlinkat
        ((264, 38), "EROFS"),  # renameat
        ((59, 221), "EPERM"),  # execve
        ((322, 281), "EPERM"),  # execveat
        ((62, 129), "EPERM"),  # kill
        ((234, 131), "EPERM"),  # tgkill
        ((101, 117), "EPERM"),  # ptrace
        ((310, 270), "EPERM"),  # process_vm_readv
        ((272, 97), "EPERM"),  # unshare
        ((165, 40), "EPERM"),  # mount
        ((321, 280), "EPERM"),  # bpf
        ((160, 164), "EPERM"),  # setrlimit
        (425, "EPERM"),  # io_uring_setup
        (435, "ENOSYS"),  # clone3
        (437, "ENOSYS"),  # openat2
        (470, "ENOSYS"),  # newer than the tables
    ],
)
def test_calls_that_are_always_answered_alike(asked, numbers, expected):
    assert asked(numbers) == expected
    assert asked(numbers, *[2**64 - 1] * 6) == expected


@pytest.mark.parametrize(
    ("flags", "while_locking", "locked"),
    [
        (0, ALLOW, "EACCES"),
        (0o2000000, ALLOW, "EACCES"),  # O_CLOEXEC
        (1, "EROFS", "EROFS"),
        (2, "EROFS", "EROFS"),
        (3, "EROFS", "EROFS"),
        (0o100, "EROFS", "EROFS"),  # O_CREAT
        (0o1000, "EROFS", "EROFS"),  # O_TRUNC
        (0o2000001, "EROFS", "EROFS"),
    ],
)
def test_opening_files(asked, flags, while_locking, locked):
    assert asked((257, 56), 2**64 - 100, 0x1000, flags, locked=False) == while_locking
    assert asked((257, 56), 2**64 - 100, 0x1000, flags) == locked


def test_threads_and_no_processes(asked):
    clone = (56, 220)
    assert asked(clone, THREAD) == asked(clone, THREAD | 0x400000) == ALLOW
    for flags in (17, 0, 0x100 | 17, 0x4000 | 0x100 | 17, THREAD & ~0x10000, THREAD | 0x10000000):
        assert asked(clone, flags) == "EPERM"


def test_one_s_own_limits_may_be_asked_for_and_none_set(asked):
    prlimit = (302, 261)
    assert asked(prlimit, 0, 7, 0, 0x1000) == ALLOW
    assert asked(prlimit, 1234, 7, 0, 0x1000) == "EPERM"
    assert asked(prlimit, 0, 7, 0x1000, 0) == "EPERM"
    assert asked(prlimit, 0, 7, 0x7F00000000, 0) == "EPERM"  # a pointer whose low half is zero


def test_only_harmless_commands_of_descriptors_and_the_process(asked):
    fcntl, ioctl, prctl = (72, 25), (16, 29), (157, 167)
    assert [asked(fcntl, 1, command) for command in (0, 1, 2, 3, 1030)] == [ALLOW] * 5
    assert [asked(fcntl, 1, command) for command in (4, 8, 10, 1031)] == ["EPERM"] * 4
    assert asked(ioctl, 1, 0x5401) == ALLOW
    assert asked(ioctl, 1, 0x5412) == "EPERM"  # TIOCSTI: type into the terminal
    assert asked(prctl, 15) == ALLOW
    assert asked(prctl, 22, 2) == "EPERM"
    assert asked(prctl, 22, 2, locked=False) == ALLOW


def test_numbers_of_other_machines_kill(asked):
    assert asked((0, 63), audit=0x40000003) == KILL  # 32-bit x86
    assert asked(0x40000000) == KILL  # x32
    assert asked(-1) == KILL


@pytest.mark.parametrize("machine", AUDIT)
def test_the_tables_are_those_of_the_kernel_s_headers(machine):
    header = Path(HEADERS[machine])
    if not header.is_file():
        pytest.skip("no kernel headers")
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
    theirs = {name: int(number) for name, number in re.findall(pattern, header.read_text())}
    if machine == "aarch64":
        theirs["newfstatat"] = theirs.pop("fstatat")
    tables = ("COMPUTING", "LIMITED", "LOCKING", "NETWORK", "WRITING", "UNREADABLE")
    ours = [system_calls.numbers(getattr(system_calls, table), machine) for table in tables]
    for one, other in itertools.combinations(ours, 2):
        assert not one.keys() & other.keys()
    for name, number in {n: k for table in ours for n, k in table.items()}.items():
        assert theirs[name] == number, name


def test_other_machines_are_refused():
    with pytest.raises(ValueError, match=r"machine must be one of x86_64, aarch64; got 'riscv64'"):
        filter_program("riscv64", locking=True)
