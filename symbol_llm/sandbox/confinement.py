"""What a sandbox child gives up: Landlock (files), seccomp (system calls), capabilities, limits of resources.

Every step is one-way, and all are taken before a program is looked at: those that hold for all children of a zygote in the
zygote, once; the rest in the child. Processes and what they say to each other are `sandbox.py`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MAX_OPEN_FILES = 64
MAX_TASKS = 512
"""Threads of one user above which a child may start none; has no effect on root."""
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
    filtered: bool
    libraries: tuple[tuple[int, int], ...]
    """What every child may read: (open folder or file, Landlock rights)."""


_settled = _Settled(0, False, ())
_serves_commands = False


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
    libraries = tuple(_open_for_rule(place) for place in _libraries())
    calls = _COMMAND_FILTER if _serves_commands else _FILTER
    _settled = _Settled(pages * resource.getpagesize(), _filter_calls(calls), libraries)


def confine(request: Mapping[str, Any]) -> str:
    """Give up, in the child, what the entry does not need and return what holds; OSError if that is too little."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    os.environ.clear()
    os.chdir(request["folder"])
    is_command = "argv" in request
    if is_command:
        _limit_resources(request["limits"], request["reserved_mib"] * 2**20, N_CORES)
        _lower(resource.RLIMIT_DATA, (request["limits"]["memory_mib"] + TOOL_DATA_MIB) * 2**20)
    else:
        _limit_resources(request["limits"], _settled.address_space, 1)
    levels = []
    if _restrict_files(request["folder"], request["readable"], request["executable"] if is_command else None):
        levels.append("landlock")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if _settled.filtered and _filter_calls(_own_filter(os.getpid()) if is_command else _CHILD_FILTER):
        levels.append("seccomp")
    if len(levels) < 2 and not request["weak"]:  # noqa: PLR2004
        have = " and ".join(levels) or "neither Landlock nor seccomp"
        raise OSError(f"this kernel offers {have}; set SYMBOL_LLM_SANDBOX=weak to run with less")
    return "+".join([*levels, "rlimits"])


def _check(returned: int, what: str) -> None:
    if returned != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _limit_resources(limits: Mapping[str, Any], held: int, n_cores: int) -> None:
    """Bound this process; `held` are bytes of address space beside what the limit gives the program."""
    cpu_s = (math.ceil(limits["timeout_s"]) + 1) * n_cores
    _lower(resource.RLIMIT_AS, held + limits["memory_mib"] * 2**20)
    _lower(resource.RLIMIT_FSIZE, limits["file_mib"] * 2**20)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _lower(resource.RLIMIT_NPROC, MAX_TASKS)
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
_ALL_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_BIND_CONNECT, _SIGNALS_AND_ABSTRACT_SOCKETS = 0b11, 0b11
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446


def _restrict_files(folder: str, readable: Sequence[str], executable: Sequence[str] | None) -> bool:
    """Allow reading the libraries and `readable`, writing `folder`, no TCP; False where the kernel has no Landlock.

    For a command, also executing what lies in `folder` and `executable`, and the loaders that start any program.
    """
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << _ALL_FILE_RIGHTS[min(version, 5)]) - 1
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


# System calls refused, with their numbers on x86-64 and aarch64 (- where there is none). Landlock leaves alone the
# owners, modes, times and attributes of files; priorities and limits of other processes; what outlives the process.
_DENIED = """
socket 41 198  connect 42 203  bind 49 200  listen 50 201  execve 59 221  execveat 322 281
pidfd_open 434 434  pidfd_getfd 438 438  ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271
process_madvise 440 440  kcmp 312 272  migrate_pages 256 238  move_pages 279 239  setpriority 141 140  ioprio_set 251 30
sched_setaffinity 203 122  sched_setscheduler 144 119  sched_setparam 142 118  sched_setattr 314 274
unshare 272 97  setns 308 268  mount 165 40  umount2 166 39  pivot_root 155 41  chroot 161 51
open_tree 428 428  move_mount 429 429  fsopen 430 430  fsconfig 431 431  fsmount 432 432  fspick 433 433
mount_setattr 442 442  chmod 90 -  fchmod 91 52  fchmodat 268 53  chown 92 -  fchown 93 55  lchown 94 -  fchownat 260 54
utime 132 -  utimes 235 -  futimesat 261 -  utimensat 280 88  setxattr 188 5  lsetxattr 189 6  fsetxattr 190 7
removexattr 197 14  lremovexattr 198 15  fremovexattr 199 16  mknod 133 -  mknodat 259 33
name_to_handle_at 303 264  open_by_handle_at 304 265  quotactl 179 60  quotactl_fd 443 443  fanotify_init 300 262
sync 162 81  syncfs 306 267  shmget 29 194  msgget 68 186  semget 64 190  mq_open 240 180
bpf 321 280  perf_event_open 298 241  userfaultfd 323 282  memfd_create 319 279  memfd_secret 447 447
io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
keyctl 250 219  add_key 248 217  request_key 249 218  init_module 175 105  finit_module 313 273  delete_module 176 106
kexec_load 246 104  kexec_file_load 320 294  reboot 169 142  swapon 167 224  swapoff 168 225
settimeofday 164 170  clock_settime 227 112  clock_adjtime 305 266  adjtimex 159 171  sethostname 170 161
setdomainname 171 162  syslog 103 116  acct 163 89  personality 135 92  iopl 172 -  ioperm 173 -  modify_ldt 154 -
vhangup 153 58
"""
_DENIED_TO_CHILDREN = """
fork 57 -  vfork 58 -  kill 62 129  tkill 200 130  tgkill 234 131  rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240
pidfd_send_signal 424 424
"""
_EXECVE = "execve 59 221"
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH, column of the tables
_CLONE, _CLONE3, _PRLIMIT, _FCNTL, _IOCTL, _TGKILL = (56, 220), 435, (302, 261), (72, 25), (16, 29), (234, 131)
_NEWEST = 450
"""Calls above are unknown to this list and do not exist for the child (x86-64's x32 calls among them)."""
_CLONE_THREAD = 0x10000
_FCNTL_OWNERS, _IOCTL_OWNERS = (8, 10, 15), (0x8901, 0x8902)  # F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP

# Classic BPF: (code, skip if true, skip if false, operand). Argument n of a call lies at 16 + 8 n; on these
# little-endian machines its low half comes first and suffices.
_Instruction = tuple[int, int, int, int]
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_REFUSE: _Instruction = (_RETURN, 0, 0, 0x00050000 | errno.EPERM)
_ABSENT: _Instruction = (_RETURN, 0, 0, 0x00050000 | errno.ENOSYS)
_PASS: _Instruction = (_RETURN, 0, 0, 0x7FFF0000)
_KILL: _Instruction = (_RETURN, 0, 0, 0x80000000)


def _assemble(denied: str, further: Callable[[int], list[_Instruction]]) -> bytes:
    """Return a filter that refuses the calls of `denied`, then does as `further` says; empty on an unknown machine."""
    if platform.machine() not in _MACHINES:
        return b""
    arch, column = _MACHINES[platform.machine()]
    code = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, arch), _KILL, (_LOAD, 0, 0, 0)]
    for number in denied.split()[1 + column :: 3]:
        if number != "-":
            code += [(_IF_EQUAL, 0, 1, int(number)), _REFUSE]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in [*code, *further(column), _PASS])


def _guard_others(column: int) -> list[_Instruction]:
    """Refuse limits of other processes, signals through ownership of a descriptor, and calls not known here."""
    code = [(_IF_AT_LEAST, 0, 1, _NEWEST + 1), _ABSENT]
    code += [(_IF_EQUAL, 0, 4, _PRLIMIT[column]), (_LOAD, 0, 0, 16), (_IF_EQUAL, 1, 0, 0), _REFUSE, _PASS]
    for call, commands in ((_FCNTL, _FCNTL_OWNERS), (_IOCTL, _IOCTL_OWNERS)):
        code += [(_IF_EQUAL, 0, 2 + 2 * len(commands), call[column]), (_LOAD, 0, 0, 24)]
        code += [step for command in commands for step in ((_IF_EQUAL, 0, 1, command), _REFUSE)]
        code += [_PASS]
    return code


def _only_threads(column: int) -> list[_Instruction]:
    """Refuse `clone` unless it makes a thread; hide `clone3`, whose flags no filter can see: libc then falls back."""
    code = [(_IF_EQUAL, 0, 1, _CLONE3), _ABSENT, (_IF_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, 16)]
    return [*code, (_IF_BITS, 1, 0, _CLONE_THREAD), _REFUSE]


_FILTER = _assemble(_DENIED, _guard_others)
_CHILD_FILTER = _assemble(_DENIED_TO_CHILDREN, _only_threads)
_COMMAND_FILTER = _assemble(_DENIED.replace(_EXECVE, ""), _guard_others)


def _own_filter(pid: int) -> bytes:
    """Return what `_CHILD_FILTER` is, but for signals to threads of `pid` itself, by which Go takes turns among them."""
    denied = _DENIED_TO_CHILDREN.replace("tgkill 234 131", "")

    def further(column: int) -> list[_Instruction]:
        code = [(_IF_EQUAL, 0, 4, _TGKILL[column]), (_LOAD, 0, 0, 16), (_IF_EQUAL, 1, 0, pid), _REFUSE, _PASS]
        return [*code, *_only_threads(column)]

    return _assemble(denied, further)


def _filter_calls(instructions: bytes) -> bool:
    """Add a filter to those in force; False where the kernel or the machine has none."""
    if not instructions:
        return False
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("HxxxxxxP", len(instructions) // 8, ctypes.addressof(code))
    buffer = ctypes.create_string_buffer(program, len(program))
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(buffer), 0, 0) == 0)
