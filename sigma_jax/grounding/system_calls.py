"""System calls by name, in the groups that a program without a world falls into.

Numbers as in Linux's `arch/x86/entry/syscalls/syscall_64.tbl` and, for aarch64, its
`include/uapi/asm-generic/unistd.h`.
"""

MACHINES = {"x86_64": 0, "aarch64": 1}
"""The machines whose numbers are known here, and which column of the tables is theirs."""

NEWEST = 450
"""The last number when these tables were written. What is newer, the C library must not miss."""


def numbers(table: str, machine: str) -> dict[str, int]:
    """The numbers of a table's calls on a machine, without those that it does not have."""
    column = MACHINES[machine]
    entries = (entry.split() for entry in table.split(";") if entry.strip())
    found = {name: pair[column] for name, *pair in entries}
    return {name: int(number) for name, number in found.items() if number != "-"}


COMPUTING = """
    read 0 63;  write 1 64;  readv 19 65;  writev 20 66;  pread64 17 67;  pwrite64 18 68;
    close 3 57;  lseek 8 62;  dup 32 23;  dup2 33 -;  dup3 292 24;  pipe 22 -;  pipe2 293 59;
    brk 12 214;  mmap 9 222;  munmap 11 215;  mprotect 10 226;  mremap 25 216;  madvise 28 233;
    futex 202 98;  sched_yield 24 124;  sched_getaffinity 204 123;  getcpu 309 168;
    membarrier 324 283;  rseq 334 293;  set_robust_list 273 99;  set_tid_address 218 96;
    exit 60 93;  exit_group 231 94;  restart_syscall 219 128;
    rt_sigaction 13 134;  rt_sigprocmask 14 135;  rt_sigreturn 15 139;  rt_sigpending 127 136;
    rt_sigsuspend 130 133;  rt_sigtimedwait 128 137;  sigaltstack 131 132;
    setitimer 38 103;  getitimer 36 102;  alarm 37 -;  pause 34 -;
    poll 7 -;  ppoll 271 73;  select 23 -;  pselect6 270 72;  nanosleep 35 101;
    clock_nanosleep 230 115;  clock_gettime 228 113;  clock_getres 229 114;  gettimeofday 96 169;
    time 201 -;  times 100 153;  getrusage 98 165;  getrlimit 97 163;  getrandom 318 278;
    gettid 186 178;  getpid 39 172;  getppid 110 173;  getuid 102 174;  geteuid 107 175;
    getgid 104 176;  getegid 108 177;  getresuid 118 148;  getresgid 120 150;  getgroups 115 158;
    getpgrp 111 -;  getpgid 121 155;  getsid 124 156;  uname 63 160;  sysinfo 99 179;
    fstat 5 80;  newfstatat 262 79;  stat 4 -;  lstat 6 -;  statx 332 291;  statfs 137 43;
    fstatfs 138 44;  access 21 -;  faccessat 269 48;  faccessat2 439 439;  readlink 89 -;
    readlinkat 267 78;  getcwd 79 17;  getdents64 217 61;
"""
"""Work on one's own memory, threads, clocks and open files, and the look of a file (`stat`)."""

LIMITED = """
    clone 56 220;  fcntl 72 25;  ioctl 16 29;  prctl 157 167;  prlimit64 302 261;  open 2 -;
    openat 257 56;
"""
"""Harmless or not, by their arguments."""

LOCKING = "capset 126 91;"
"""Needed to finish the locking, and not after."""

NETWORK = """
    socket 41 198;  socketpair 53 199;  connect 42 203;  bind 49 200;  listen 50 201;
    accept 43 202;  accept4 288 242;  sendto 44 206;  sendmsg 46 211;  sendmmsg 307 269;
    recvfrom 45 207;  recvmsg 47 212;  recvmmsg 299 243;
"""
"""Connections, to other machines and to this one."""

WRITING = """
    creat 85 -;  mkdir 83 -;  mkdirat 258 34;  mknod 133 -;  mknodat 259 33;  rmdir 84 -;
    unlink 87 -;  unlinkat 263 35;  rename 82 -;  renameat 264 38;  renameat2 316 276;
    link 86 -;  linkat 265 37;  symlink 88 -;  symlinkat 266 36;  truncate 76 45;
    ftruncate 77 46;  fallocate 285 47;  chmod 90 -;  fchmod 91 52;  fchmodat 268 53;
    chown 92 -;  fchown 93 55;  lchown 94 -;  fchownat 260 54;  utime 132 -;  utimes 235 -;
    futimesat 261 -;  utimensat 280 88;
"""
"""Changes to files and folders, apart from opening a file to write it."""

UNREADABLE = "clone3 435 435;  openat2 437 437;"
"""Their arguments lie in memory, where a filter cannot look; libraries then use the older calls."""
