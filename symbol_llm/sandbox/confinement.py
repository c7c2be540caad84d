"""What a sandbox child gives up: Landlock (files), seccomp (system calls), capabilities, limits of resources.

Every step is one-way, and all are taken before a program is looked at: those that hold for all children of a zygote in the
zygote, once; the rest in the child. Processes and what they say to each other are `executor.py`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import math
import os
import resource
import signal
import socket
import struct
import sys
import sysconfig
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MAX_OPEN_FILES = 64
MAX_TASKS = 512
"""Threads that may come to those there are before a child may start none; has no effect on root."""
TOOL_DATA_MIB = 384
"""What a command may write to beyond `memory_mib`, of the address space it has: its run time's own."""

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 1, 22, 38, 2
_libc = ctypes.CDLL(None, use_errno=True)
_WORD = ctypes.c_ulong
if sys.platform == "linux":
    _libc.prctl.argtypes = [ctypes.c_int, _WORD, _WORD, _WORD, _WORD]
    _libc.syscall.restype = ctypes.c_long


class _Settled(NamedTuple):
    """What a zygote has done once for all its children."""

    address_space: int
    """Bytes held before a program adds its own."""
    filter: bytes
    """Of system calls, as the kernel reads it; empty where there is no libseccomp."""
    libraries: tuple[tuple[int, int], ...]
    """What every child may read: (open folder or file, Landlock rights)."""


_settled = _Settled(0, b"", ())
_serves_commands = False
_ZYGOTE_FILES = 4096
"""Open files that a zygote asks for: one for each child alive."""


def allow_commands() -> None:
    """Make this zygote one whose children become commands. Only ever called in a zygote."""
    global _serves_commands  # noqa: PLW0603 - set once, before the first fork
    _serves_commands = True


def settle() -> None:
    """Give up, in the zygote, what neither it nor any child needs."""
    global _settled  # noqa: PLW0603 - set once, before the first fork
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)), "capset")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with contextlib.suppress(OSError):  # where memory runs out, the kernel is to take a child, not the caller
        Path("/proc/self/oom_score_adj").write_text("1000")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _ZYGOTE_FILES)), hard))
    libraries = tuple(_open_for_rule(place) for place in _libraries())
    _settled = _Settled(pages * resource.getpagesize(), _filter(may_execute=_serves_commands), libraries)


def confine(request: Mapping[str, Any]) -> str:
    """Give up, in the child, what the entry does not need and return what holds; OSError if that is too little."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    n_tasks = _count_tasks()
    os.environ.clear()
    os.chdir(request["folder"])
    is_command = "argv" in request
    levels = []
    if _restrict_files(request["folder"], request["readable"], request["executable"] if is_command else None):
        levels.append(f"landlock{landlock_version()}")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # ahead of the limit of open files, which would hide those above it
    if is_command:
        _limit_resources(request["limits"], request["reserved_mib"] * 2**20, N_CORES, n_tasks)
        _lower(resource.RLIMIT_DATA, (request["limits"]["memory_mib"] + TOOL_DATA_MIB) * 2**20)
    else:
        _limit_resources(request["limits"], _settled.address_space, 1, n_tasks)
    if _settled.filter and (not is_command or _keep_signals_at_home()) and _install(_settled.filter):
        levels.append("seccomp")
    if len(levels) < 2 and not request["weak"]:  # noqa: PLR2004
        have = " and ".join(levels) or "neither Landlock nor seccomp"
        lack = "" if _settled.filter else "; libseccomp is not installed (apt-get install libseccomp2)"
        raise OSError(f"this machine offers {have}{lack}; set SYMBOL_LLM_SANDBOX=weak to run with less")
    return "+".join([*levels, "rlimits"])


def _check(returned: int, what: str) -> None:
    if returned != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _count_tasks() -> int:
    """Return how many there are, of all users: what a limit that counts those of this user must leave room for."""
    with open("/proc/loadavg") as loads:
        return int(loads.read().split()[3].partition("/")[2])


def _limit_resources(limits: Mapping[str, Any], held: int, n_cores: int, n_tasks: int) -> None:
    """Bound this process; `held` are bytes of address space beside what the limit gives the program."""
    cpu_s = (math.ceil(limits["timeout_s"]) + 1) * n_cores
    _lower(resource.RLIMIT_AS, held + limits["memory_mib"] * 2**20)
    _lower(resource.RLIMIT_FSIZE, limits["file_mib"] * 2**20)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _lower(resource.RLIMIT_NPROC, n_tasks + MAX_TASKS)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    ceiling = resource.RLIM_INFINITY if ceiling < 0 else ceiling
    wanted = soft if hard is None else hard
    top = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    resource.setrlimit(kind, (min(soft, top), top))


# Landlock: rights by number of bit, and the version of the interface that brought them.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_FILE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8
_READ = _READ_FILE | _READ_DIR
_OWN = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE  # but no folders, links or devices
_TRUNCATE = 1 << 14
_ALL_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16}
_TCP_BIND_CONNECT, _SIGNALS_AND_ABSTRACT_SOCKETS = 0b11, 0b11
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446


def landlock_version() -> int:
    """Return the version of Landlock's interface that children are confined by; 0 where there is none."""
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(0, min(version, max(_ALL_FILE_RIGHTS)))


def _restrict_files(folder: str, readable: Sequence[str], executable: Sequence[str] | None) -> bool:
    """Allow reading the libraries and `readable`, writing `folder`, no TCP; False where the kernel has no Landlock.

    For a command, also executing what lies in `folder` and `executable`, and the loaders that start any program.
    """
    version = landlock_version()
    if not version:
        return False
    rights = (1 << _ALL_FILE_RIGHTS[version]) - 1
    attributes = struct.pack("QQQ", rights, _TCP_BIND_CONNECT, _SIGNALS_AND_ABSTRACT_SOCKETS)
    size = 8 if version < 4 else 16 if version < 6 else 24  # noqa: PLR2004 - versions that brought the fields
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for fd, reading in (*_settled.libraries, *map(_open_for_rule, readable)):
        _allow(ruleset, fd, reading)
    own = _OWN | _TRUNCATE
    if executable is not None:
        own |= _EXECUTE
        for fd, reading in map(_open_for_rule, (*executable, *_loaders())):
            _allow(ruleset, fd, reading | _EXECUTE)
    _allow(ruleset, os.open(folder, os.O_PATH), own & rights)
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    return True


def _allow(ruleset: int, fd: int, rights: int) -> None:
    _check(_libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, fd), 0), "landlock_add_rule")


def _open_for_rule(path: str) -> tuple[int, int]:
    rights = _READ if os.path.isdir(path) else _READ_FILE | _WRITE_FILE if path == os.devnull else _READ_FILE
    return os.open(path, os.O_PATH), rights


def _libraries() -> Iterator[str]:
    places = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {os.path.realpath(os.path.join(prefix, "lib")) for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    places |= {os.path.realpath(p) for p in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")}
    inner = {p for p in places if any(p.startswith(f"{other}/") for other in places)}
    files = {"/etc/ld.so.cache", "/dev/null", "/dev/urandom"}
    yield from sorted(p for p in places - inner | files if os.path.exists(p))


def _loaders() -> Iterator[str]:
    for folder in ("/lib", "/lib64"):
        with contextlib.suppress(FileNotFoundError):
            yield from (f"{folder}/{name}" for name in os.listdir(folder) if name.startswith("ld-"))


# What a child may ask of the kernel; all else is refused with EPERM, which Python raises as an exception. Measured with
# strace over the families' runs and tests, the JDK 17 and Go 1.19; those of a kind (readv beside read) come together.
_ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev lseek open openat creat close close_range dup dup2 dup3
pipe pipe2 sendfile copy_file_range fsync fdatasync ftruncate stat fstat lstat newfstatat statx access faccessat
faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir umask unlink unlinkat rename renameat renameat2
mmap munmap mprotect mremap madvise msync mincore brk membarrier
poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause restart_syscall
time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep times alarm getitimer setitimer
futex set_robust_list get_robust_list set_tid_address rseq arch_prctl sched_yield sched_getaffinity sched_getparam
sched_getscheduler sched_get_priority_max sched_get_priority_min getcpu exit exit_group
getpid getppid gettid getpgrp getpgid getsid getuid geteuid getgid getegid getresuid getresgid getgroups capget
uname sysinfo getrusage getrlimit getrandom
""".split()
_ALLOWED_TO_COMMANDS = ("execve", "tgkill", "shutdown")
"""And pairs of local sockets: one the JDK makes before it reads a file. Of `tgkill` see `_keep_signals_at_home`."""
_CLONE_THREAD, _PR_SET_NAME, _PR_GET_NAME = 0x10000, 15, 16
# Calls allowed where an argument, by number, has one of these values: own limits and names, what cannot change an open
# file that others share, and looking at a terminal.
_ALLOWED_WITH = {
    "fcntl": (1, (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_GETLK, fcntl.F_SETLK)),
    "ioctl": (1, (termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.FIOCLEX, termios.FIONCLEX)),
    "prctl": (0, (_PR_SET_NAME, _PR_GET_NAME)),
    "prlimit64": (0, (0,)),
}  # fmt: skip
_LOW_HALF = 0xFFFFFFFF
"""The kernel reads no more of these arguments."""


def _filter(*, may_execute: bool) -> bytes:
    """Return the filter of system calls as the kernel reads it; empty where there is no libseccomp."""
    try:
        import pyseccomp as seccomp
    except RuntimeError:  # it is a doorway to the library, which it did not find
        return b""
    calls = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    calls.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    calls.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)  # a tree instead of a list
    for name in [*_ALLOWED, *(_ALLOWED_TO_COMMANDS if may_execute else [])]:
        _add(calls, seccomp.ALLOW, name)
    for name, (n, values) in _ALLOWED_WITH.items():
        for value in values:
            _add(calls, seccomp.ALLOW, name, seccomp.Arg(n, seccomp.MASKED_EQ, _LOW_HALF, value))
    if may_execute:
        _add(calls, seccomp.ALLOW, "socketpair", seccomp.Arg(0, seccomp.MASKED_EQ, _LOW_HALF, socket.AF_UNIX))
    _add(calls, seccomp.ALLOW, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    _add(calls, seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags no filter can see; libc falls back to clone
    return _export(calls)


def _add(calls: Any, action: int, name: str, *arguments: Any) -> None:
    """Add a rule, unless this machine has no call of that name."""
    import pyseccomp as seccomp

    number = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
    if number >= 0:
        calls.add_rule(action, number, *arguments)


def _export(calls: Any) -> bytes:
    with open(os.memfd_create("filter"), "w+b") as file:
        calls.export_bpf(file)
        file.seek(0)
        return file.read()


def _keep_signals_at_home() -> bool:
    """Refuse signals to threads of other processes; among its own, Go takes turns by them. False where that fails."""
    import pyseccomp as seccomp

    calls = seccomp.SyscallFilter(seccomp.ALLOW)
    calls.add_rule(seccomp.ERRNO(errno.EPERM), "tgkill", seccomp.Arg(0, seccomp.NE, os.getpid()))
    return _install(_export(calls))


def _install(instructions: bytes) -> bool:
    """Add a filter to those in force; False where the kernel has none."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("HxxxxxxP", len(instructions) // 8, ctypes.addressof(code))
    buffer = ctypes.create_string_buffer(program, len(program))
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(buffer), 0, 0) == 0)
