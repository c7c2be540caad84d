"""Which system calls a sandbox child may make, as filters that the kernel reads. It builds them; it installs none.

The list says what is allowed; all else is refused with EPERM, which Python raises as an exception. It was measured with
strace over the families' runs and tests, the JDK 17 and Go 1.19; calls of a kind (readv beside read) come together.

A worker may also fork and wait for its child. What it has in force its children inherit, so a child takes these calls away
from itself by a short filter of its own. In sum a child may do what the list says, and no more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import termios
from typing import Any, NamedTuple

ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev lseek creat close close_range dup dup2 dup3
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
ALLOWED_TO_COMMANDS = ("execve", "tgkill", "shutdown")
"""And pairs of local sockets: one the JDK makes before it reads a file. Of `tgkill` see `own_threads_alone`."""
ALLOWED_TO_WORKERS = ("wait4", "waitid")
"""And to fork, and to set up its child."""

_CLONE_THREAD = 0x10000
_FORK_FLAGS = 0x01200000 | signal.SIGCHLD  # CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID: as libc forks
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_GET_NAME, _PR_SET_SECCOMP = 1, 15, 16, 22
_OF_WORKERS = (_PR_SET_PDEATHSIG, _PR_SET_SECCOMP)
_LOW_HALF = 0xFFFFFFFF
"""The kernel reads no more of these arguments."""


class _Argument(NamedTuple):
    """Of the argument `number`, the bits `mask` are to be one of `values`."""

    number: int
    mask: int
    values: tuple[int, ...]


def _one_of(number: int, *values: int) -> _Argument:
    return _Argument(number, _LOW_HALF, values)


def _opening(number: int) -> tuple[_Argument, ...]:
    """Return flags of open that cut off no file but one that is opened for writing.

    Until its third version, Landlock lets a file be cut off that is opened for reading.
    """
    writing = (os.O_TRUNC | os.O_WRONLY, os.O_TRUNC | os.O_RDWR)
    return (_Argument(number, os.O_TRUNC, (0,)), _Argument(number, os.O_TRUNC | os.O_ACCMODE, writing))


ALLOWED_WITH: dict[str, tuple[_Argument, ...]] = {
    "open": _opening(1),
    "openat": _opening(2),
    "fcntl": (_one_of(
        1, fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_GETLK, fcntl.F_SETLK
    ),),
    "ioctl": (_one_of(1, termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.FIOCLEX, termios.FIONCLEX),),
    "prctl": (_one_of(0, _PR_SET_NAME, _PR_GET_NAME),),
    "prlimit64": (_one_of(0, 0),),
    "clone": (_Argument(0, _CLONE_THREAD, (_CLONE_THREAD,)),),
}  # fmt: skip
"""Calls allowed where an argument has one of these values: own limits and names, threads, what cannot change an open file
that others share, and looking at a terminal."""


class Filters(NamedTuple):
    """Those of a worker and, on top of it, of its children, as the kernel reads them; empty where there is no libseccomp."""

    worker: bytes = b""
    child: bytes = b""


def filters(*, for_commands: bool) -> Filters:
    """Return the filters of workers whose children become commands, or do not."""
    try:
        import pyseccomp as seccomp
    except RuntimeError:  # it is a doorway to the library, which it did not find
        return Filters()
    worker = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    worker.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    worker.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)  # a tree instead of a list
    for name in (*ALLOWED, *ALLOWED_TO_WORKERS, *(ALLOWED_TO_COMMANDS if for_commands else ())):
        _add(worker, seccomp.ALLOW, name)
    of_workers = {"clone": (_one_of(0, _FORK_FLAGS),), "prctl": (_one_of(0, *_OF_WORKERS),)}
    of_commands = {"socketpair": (_one_of(0, socket.AF_UNIX),)} if for_commands else {}
    for name, arguments in (*ALLOWED_WITH.items(), *of_workers.items(), *of_commands.items()):
        for number, mask, values in arguments:
            for value in values:
                _add(worker, seccomp.ALLOW, name, seccomp.Arg(number, seccomp.MASKED_EQ, mask, value))
    _add(worker, seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags no filter can see; libc falls back to clone
    return Filters(_export(worker), _export(_without_what_workers_need()))


def _without_what_workers_need() -> Any:
    import pyseccomp as seccomp

    calls = seccomp.SyscallFilter(seccomp.ALLOW)
    for name in ALLOWED_TO_WORKERS:
        _add(calls, seccomp.ERRNO(errno.EPERM), name)
    _add(calls, seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    for option in _OF_WORKERS:
        _add(calls, seccomp.ERRNO(errno.EPERM), "prctl", seccomp.Arg(0, seccomp.MASKED_EQ, _LOW_HALF, option))
    return calls


def load() -> None:
    """Import libseccomp, where there is one, since finding it starts processes, which no worker can."""
    with contextlib.suppress(RuntimeError):
        import pyseccomp  # noqa: F401


def own_threads_alone(pid: int) -> bytes:
    """Return a filter that refuses signals to threads of other processes; among its own, Go takes turns by them."""
    import pyseccomp as seccomp

    calls = seccomp.SyscallFilter(seccomp.ALLOW)
    calls.add_rule(seccomp.ERRNO(errno.EPERM), "tgkill", seccomp.Arg(0, seccomp.NE, pid))
    return _export(calls)


def _add(calls: Any, action: int, name: str, *arguments: Any) -> None:
    """Add a rule, unless this machine has no call of that name."""
    import pyseccomp as seccomp

    number = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
    if number >= 0:
        calls.add_rule(action, number, *arguments)


def _export(calls: Any) -> bytes:
    reading, writing = os.pipe()  # a filter is far smaller than what a pipe holds
    with open(writing, "wb") as file:
        calls.export_bpf(file)
    with open(reading, "rb") as file:
        return file.read()
