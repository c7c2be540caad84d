"""What a sandbox child gives up: Landlock (files), seccomp (system calls), capabilities, limits of resources.

Every step is one-way, and all are taken before a program is looked at, each as early as it holds for all that come after:
in the zygote, in the worker, in the child. `syscalls.py` says which calls are left, `executor.py` what the parts are.

All three are forked often, and what lies in their memory is copied at each fork. So this module imports little.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MAX_OPEN_FILES = 64
MAX_TASKS = 512
"""Threads that may come to those there are before a child may start none; has no effect on root."""
TOOL_DATA_MIB = 384
"""What a command may write to beyond `memory_mib`, of the address space it has: its run time's own."""

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38
_SECCOMP_MODE_FILTER = 2
_libc = ctypes.PyDLL(None, use_errno=True)
if sys.platform == "linux":
    _libc.syscall.restype = ctypes.c_long
# What a child calls is looked up ahead, and without errno, which is kept aside for each thread: to look something up is to
# write beside it, and a page that is written to is copied.
_prctl: Any = getattr(ctypes.PyDLL(None), "prctl", None)
_getppid, _setrlimit, _exit = os.getppid, resource.setrlimit, os._exit
_SIGKILL, _RLIMIT_NPROC = int(signal.SIGKILL), resource.RLIMIT_NPROC
fork: Callable[[], int] = ctypes.PyDLL(None).fork
"""As libc forks, without what Python adds for other threads and for modules, in half the time; -1 where that fails.

Only for a process of one thread.
"""


class _Program(ctypes.Structure):
    """A filter of system calls, as the kernel takes it."""

    _fields_ = (("n_instructions", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _program(instructions: bytes) -> Any:
    return ctypes.pointer(_Program(len(instructions) // 8, instructions)) if instructions else None


def _install(program: Any) -> bool:
    """Add a filter to those in force; False where there is none, or the kernel has none."""
    return program is not None and _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0


class _Settled(NamedTuple):
    """What a zygote has done once for all its children."""

    address_space: int = 0
    """Bytes held before a program adds its own."""
    rules: tuple[tuple[int, int], ...] = ()
    """What every child may read: (open folder or file, Landlock rights)."""
    worker_filter: Any = None
    """None where there is no libseccomp."""


_settled = _Settled()
_child_filter: Any = None
"""None where workers have none either."""


# --- in the zygote ----------------------------------------------------------------------------------------------------


def settle(libraries: Sequence[str], worker_filter: bytes, child_filter: bytes) -> None:
    """Give up, in the zygote, what neither it nor any child needs; keep what they will give up.

    `libraries` are the files and folders that every child may read; see `syscalls.Filters` for the filters.
    """
    global _settled, _child_filter  # noqa: PLW0603 - set once, before the first fork
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    # A child outlives its worker by as long as dying takes.
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    _check(_libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)), "capset")
    with open("/proc/self/statm") as sizes:
        pages = int(sizes.read().split()[0])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # where memory runs out, the kernel is to take a child, not the caller
    rules = tuple(map(_open_for_rule, libraries))
    _settled = _Settled(pages * resource.getpagesize(), rules, _program(worker_filter))
    _child_filter = _program(child_filter)


# --- in a worker ------------------------------------------------------------------------------------------------------


def confine(settings: Mapping[str, Any], keep: int) -> str:
    """Give up what is not needed, open files from `keep` on among it, and return what holds; OSError if that is too little.

    `settings` are the caller's: `limits`, `readable` paths, `folder`, `landlock` (the version to use), `weak` and, for
    children that become commands, `executable` paths and `reserved_mib`.
    """
    global _child_filter  # noqa: PLW0603 - a worker without a filter has children without one
    os.environ.clear()
    os.chdir(settings["folder"])
    levels = []
    if _restrict_files(settings):
        levels.append(f"landlock{settings['landlock']}")
    os.closerange(keep, os.sysconf("SC_OPEN_MAX"))  # ahead of the limit of open files, which would hide those above it
    if "executable" in settings:
        _limit_resources(settings["limits"], settings["reserved_mib"] * 2**20, N_CORES)
        _lower(resource.RLIMIT_DATA, (settings["limits"]["memory_mib"] + TOOL_DATA_MIB) * 2**20)
    else:
        _limit_resources(settings["limits"], _settled.address_space, 1)
    if _install(_settled.worker_filter):
        levels.append("seccomp")
    else:
        _child_filter = None
    if len(levels) < 2 and not settings["weak"]:  # noqa: PLR2004
        have = " and ".join(levels) or "neither Landlock nor seccomp"
        lack = "" if _settled.worker_filter else "; libseccomp is not installed (apt-get install libseccomp2)"
        raise OSError(f"this machine offers {have}{lack}; set SYMBOL_LLM_SANDBOX=weak to run with less")
    return "+".join([*levels, "rlimits"])


# --- in a child -------------------------------------------------------------------------------------------------------


def end_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which forked it, ends; end at once if it has."""
    if _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0) or _getppid() != parent:
        _exit(1)


def confine_child(most_tasks: int) -> bool:
    """Give up what only its worker needs; False if that cannot be.

    `most_tasks`, threads among them, are those of this user beyond which it starts none.
    """
    try:
        _setrlimit(_RLIMIT_NPROC, (most_tasks, most_tasks))
    except (OSError, ValueError):
        return False
    return _child_filter is None or _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _child_filter, 0, 0) == 0


def keep_signals_at_home() -> bool:
    """Refuse signals to threads of other processes, in a child that becomes a command; False if that cannot be."""
    from symbol_llm.sandbox import syscalls

    return _child_filter is None or _install(_program(syscalls.own_threads_alone(os.getpid())))


# --- limits of resources ----------------------------------------------------------------------------------------------


def most_tasks() -> int:
    """Return the tasks beyond which a child is to start none.

    The kernel counts those of its user, who may have others; so it is the tasks that there are, of all users, and some.
    """
    with open("/proc/loadavg") as loads:
        n_tasks = int(loads.read().split()[3].partition("/")[2])
    ceiling = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return n_tasks + MAX_TASKS if ceiling == resource.RLIM_INFINITY else min(n_tasks + MAX_TASKS, ceiling)


def _limit_resources(limits: Mapping[str, Any], held: int, n_cores: int) -> None:
    """Bound this process; `held` are bytes of address space beside what the limit gives the program."""
    cpu_s = (math.ceil(limits["timeout_s"]) + 1) * n_cores
    _lower(resource.RLIMIT_AS, held + limits["memory_mib"] * 2**20)
    _lower(resource.RLIMIT_FSIZE, limits["file_mib"] * 2**20)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    ceiling = resource.RLIM_INFINITY if ceiling < 0 else ceiling
    wanted = soft if hard is None else hard
    top = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    resource.setrlimit(kind, (min(soft, top), top))


def _check(returned: int, what: str) -> None:
    if returned != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


# --- Landlock: rights by number of bit, and the version of the interface that brought them ----------------------------

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_FILE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8
_READ = _READ_FILE | _READ_DIR
_OWN = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE  # but no folders, links or devices
_TRUNCATE = 1 << 14
_ALL_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16}
_TCP_BIND_CONNECT, _SIGNALS_AND_ABSTRACT_SOCKETS = 0b11, 0b11
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
NEWEST_LANDLOCK = max(_ALL_FILE_RIGHTS)
"""Version of its interface; tests lower it to have an older kernel's."""


def landlock_version() -> int:
    """Return the version of Landlock's interface that children are confined by; 0 where there is none."""
    return min(_landlock_of_kernel(), NEWEST_LANDLOCK)


@functools.cache
def _landlock_of_kernel() -> int:
    version: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(0, version)


def _restrict_files(settings: Mapping[str, Any]) -> bool:
    """Allow reading the libraries and `readable`, writing `folder`, no TCP; False where the kernel has no Landlock.

    For a command, also executing what lies in `folder` and `executable`, and the loaders that start any program. What a
    version does not know of yet, the filter of system calls refuses: cutting off files that may be read alone (before 3),
    TCP (before 4), devices (before 5), signals and abstract sockets (before 6).
    """
    version = settings["landlock"]
    if not version:
        return False
    rights = (1 << _ALL_FILE_RIGHTS[version]) - 1
    attributes = struct.pack("QQQ", rights, _TCP_BIND_CONNECT, _SIGNALS_AND_ABSTRACT_SOCKETS)
    size = 8 if version < 4 else 16 if version < 6 else 24  # noqa: PLR2004 - versions that brought the fields
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for fd, reading in (*_settled.rules, *map(_open_for_rule, settings["readable"])):
        _allow(ruleset, fd, reading)
    own = _OWN | _TRUNCATE
    if "executable" in settings:
        own |= _EXECUTE
        for fd, reading in map(_open_for_rule, (*settings["executable"], *_loaders())):
            _allow(ruleset, fd, reading | _EXECUTE)
    _allow(ruleset, os.open(settings["folder"], os.O_PATH), own & rights)
    _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    return True


def _allow(ruleset: int, fd: int, rights: int) -> None:
    _check(_libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, fd), 0), "landlock_add_rule")


def _open_for_rule(path: str) -> tuple[int, int]:
    rights = _READ if os.path.isdir(path) else _READ_FILE | _WRITE_FILE if path == os.devnull else _READ_FILE
    return os.open(path, os.O_PATH), rights


def _loaders() -> Iterator[str]:
    for folder in ("/lib", "/lib64"):
        with contextlib.suppress(FileNotFoundError):
            yield from (f"{folder}/{name}" for name in os.listdir(folder) if name.startswith("ld-"))
