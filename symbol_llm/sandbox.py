"""The only place that starts a process for model-written text. It runs our functions and tools; it does not judge.

A warm parent ("zygote") with the libraries already imported forks one child a call. Before a line of the program is
looked at, the child is confined: seccomp (system calls) and no capabilities, mostly inherited from the zygote; Landlock
(files), rlimits, an empty environment and an empty folder of its own. The caller holds the deadline. The zygote never
sees arguments, so nothing of one call can be found in the memory of the next. All that comes back is data: a program
that forges its result gains what returning that value would have gained, hence gold answers stay with the caller.

    caller ── control socket ──> zygote ── fork ──> child
      │ ╰────── leash: hang up to kill; exit status back │
      ╰──────── channel: request, then ready line and result line

>>> run("symbol_llm.interpreter:execute", {"program": "answer = 6 * 7"}, Limits()).value
['int', '42']

`run_commands` is for programs in other languages: its children become a tool, or what a tool made of a program. They come
from a zygote of their own whose filter lets `execve` through, which no other child may call. Landlock names what they may
execute, but nothing hangs on it: whatever they become has the same filters, files and limits, and none can be two.

Not bounded: the number of files in the child's own folder (their size is, and the time), and what `stat` tells.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import gc
import importlib
import io
import json
import logging
import math
import os
import platform
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeVar

from symbol_llm.errors import LimitExceeded, MissingDependency, TimedOut, Unavailable

if TYPE_CHECKING:
    from symbol_llm.params import Limits

RunStatus = Literal["ok", "error", "timeout", "resource", "refused"]
_T = TypeVar("_T")

COMMON = ("bisect", "calendar", "cmath", "collections", "datetime", "decimal", "fractions", "functools", "heapq",
          "itertools", "math", "operator", "random", "re", "statistics", "string")  # fmt: skip
START_TIMEOUT_S = 120.0
"""How long a zygote may take to import, or a child to confine itself, on a loaded machine."""
MAX_DETAIL = 300
MAX_OPEN_FILES = 64
MAX_TASKS = 512
"""Threads of one user above which a child may start none; has no effect on root."""
TOOL_DATA_MIB = 384
"""What a command may write to beyond `memory_mib`, of the address space it has: its run time's own."""
OVERHEAD_BYTES = 2048
"""What a result line may take beyond `output_kib`: names of fields and `detail`."""

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What became of one call."""

    status: RunStatus
    """`error`: it raised or died. `refused`: it asked the kernel for what the sandbox denies."""
    value: Any = None
    """JSON value that the entry returned; None unless `ok`. Whatever the program wanted it to be."""
    detail: str = ""
    stdout: str = ""
    seconds: float = 0.0
    isolation: str = "none"

    def check_limits(self) -> None:
        """Raise TimedOut or LimitExceeded if the call hit a limit."""
        if self.status == "timeout":
            raise TimedOut(self.detail, self.isolation)
        if self.status == "resource":
            raise LimitExceeded(self.detail, self.isolation)


class Command(NamedTuple):
    """One step in the life of a program that is not Python: a tool that reads it, or what the tool has made of it."""

    argv: Sequence[str]
    """The first is a path, absolute or relative to the private folder."""
    limits: Limits
    reserved_mib: int
    """Address space that the tool or its run time sets aside and does not fill; goes on top of `limits.memory_mib`."""


# --- the caller's side ------------------------------------------------------------------------------------------------


def run(
    entry: str, args: Mapping[str, Any], limits: Limits, *, readable: Sequence[Path] = (), preload: Sequence[str] = ()
) -> Outcome:
    """Call `entry` ("module:function" of ours) with the JSON object `args` in a fresh confined child. Thread-safe.

    `readable` are further files or folders the child may read. `preload` are libraries to import ("module") or functions
    of ours to call ("module:function") once, ahead of all calls that name the same ones. What an entry imports of our own
    package it must import at its module's top.
    Raises Unavailable if the sandbox itself fails, MissingDependency if a library to import ahead is not installed.
    """
    request = {"entry": entry, "args": args, **_bounds(limits, readable)}
    modules = (entry.partition(":")[0], *preload)

    def call(zygote: _Zygote) -> Outcome:
        with _private_folder() as folder:
            return _call(zygote, {**request, "folder": folder}, limits, _await)

    return _attempt(modules, entry, call)


def run_commands(
    commands: Sequence[Command],
    files: Mapping[str, str],
    *,
    executable: Sequence[Path],
    readable: Sequence[Path] = (),
) -> list[Outcome]:
    """Run `commands` in turn in one private folder that holds `files` (text by name), until one does not end well.

    The outcome of each that was run: `ok` if it ended with status 0; `stdout` is all it printed, on either stream, and
    `value` the status it ended with. They may read and execute what is beneath `executable` and their own folder, have
    threads but no process beside themselves, and no input.
    Raises Unavailable if the sandbox itself fails. A first word that cannot be executed ends with status 127.
    """
    requests = [
        {
            "argv": [str(word) for word in command.argv],
            "reserved_mib": command.reserved_mib,
            "executable": [str(Path(p).resolve()) for p in executable],
            **_bounds(command.limits, readable),
        }
        for command in commands
    ]

    def call(zygote: _Zygote) -> list[Outcome]:
        outcomes = []
        with _private_folder() as folder:
            for name, text in files.items():
                Path(folder, name).write_bytes(text.encode(errors="replace"))
            for command, request in zip(commands, requests, strict=True):
                outcomes.append(_call(zygote, {**request, "folder": folder}, command.limits, _await_end))
                if outcomes[-1].status != "ok":
                    break
        return outcomes

    return _attempt((_COMMANDS,), commands[0].argv[0], call)


def _bounds(limits: Limits, readable: Sequence[Path]) -> dict[str, Any]:
    return {
        "limits": limits.model_dump(),
        "readable": [str(Path(p).resolve()) for p in readable],
        "weak": os.environ.get("SYMBOL_LLM_SANDBOX") == "weak",
    }


def _attempt(modules: tuple[str, ...], what: str, call: Callable[[_Zygote], _T]) -> _T:
    """Return what `call` gives with a zygote of `modules`, a new one if the first breaks."""
    reason = ""
    with _running:
        for _ in range(2):
            zygote = _zygote(modules)
            try:
                return call(zygote)
            except _BrokenError as e:
                reason = str(e)
                logger.warning("sandbox restarted entry=%s reason=%s", what, reason)
                _discard(modules, zygote)
    raise Unavailable(f"sandbox failed twice running {what}: {reason}")


def close() -> None:
    """End every zygote and, with it, every child; `run` starts them again."""
    with _starting:
        zygotes = list(_zygotes.values())
        _zygotes.clear()
    for zygote in zygotes:
        zygote.close()


class _BrokenError(Exception):
    """The zygote or the protocol failed, which is no fault of the program."""


class _TooMuchError(BaseException):
    """More output than the limit allows; no `except Exception` of a program stops it."""


class _Zygote:
    """A process that has `modules` imported and forks a child for each pair of sockets it is sent."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        """Start it and wait until its imports are done."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).resolve().parent.parent)
        start = f"import sys; sys.path.append({root!r}); from symbol_llm import sandbox; sandbox.serve({modules!r})"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
                [sys.executable, "-s", "-P", "-X", "utf8", "-c", start],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A fixed hash seed: the order of a set of strings must not change a verdict.
                env={"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                cwd="/",
                start_new_session=True,
            )
        self._control.settimeout(START_TIMEOUT_S)
        try:
            hello = self._control.recv(4096).decode()
        except OSError as e:
            hello = f"no answer: {e}"
        if hello != "ready":
            self.close()
            if hello.startswith("missing "):
                raise MissingDependency(f"sandbox: package {hello.removeprefix('missing ')!r} is not installed")
            raise Unavailable(f"sandbox cannot start with {', '.join(modules)}: {hello or 'it ended at once'}")

    def fork(self, channel: socket.socket, leash: socket.socket) -> None:
        """Have a child forked that holds `channel`; the zygote keeps `leash`."""
        try:
            socket.send_fds(self._control, [b"f"], [channel.fileno(), leash.fileno()])
        except OSError as e:
            raise _BrokenError(f"zygote is gone: {e}") from e

    def close(self, *, wait: bool = True) -> None:
        """Hang up, upon which the zygote kills its children and ends."""
        self._control.close()
        if not wait:
            self._process.returncode = 0  # it is not this process's child
            return
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_zygotes: dict[tuple[str, ...], _Zygote] = {}
_starting = threading.Lock()
_N_RUNNING = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_running = threading.BoundedSemaphore(_N_RUNNING)


def _zygote(modules: tuple[str, ...]) -> _Zygote:
    with _starting:
        if modules not in _zygotes:
            _zygotes[modules] = _Zygote(modules)
        return _zygotes[modules]


def _discard(modules: tuple[str, ...], zygote: _Zygote) -> None:
    with _starting:
        if _zygotes.get(modules) is zygote:
            del _zygotes[modules]
            zygote.close()


def _forget() -> None:
    """Let go, in a forked copy of the caller, of zygotes that belong to the original."""
    global _starting, _running  # noqa: PLW0603 - locks may be held by threads that a fork does not copy
    _starting = threading.Lock()
    _running = threading.BoundedSemaphore(_N_RUNNING)
    for zygote in _zygotes.values():
        zygote.close(wait=False)
    _zygotes.clear()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)


def _call(
    zygote: _Zygote,
    request: Mapping[str, Any],
    limits: Limits,
    wait: Callable[[_Reader, socket.socket, Limits], Outcome],
) -> Outcome:
    with contextlib.ExitStack() as sockets:
        channel, child_end = (sockets.enter_context(s) for s in socket.socketpair())
        leash, zygote_end = (sockets.enter_context(s) for s in socket.socketpair())
        zygote.fork(child_end, zygote_end)
        child_end.close()
        zygote_end.close()
        try:
            reader = _Reader(channel, time.monotonic() + START_TIMEOUT_S, limits.output_kib * 1024 + OVERHEAD_BYTES)
            channel.settimeout(START_TIMEOUT_S)
            channel.sendall(_frame(request))
            channel.shutdown(socket.SHUT_WR)
            ready = json.loads(reader.line())
        except (OSError, EOFError, ValueError) as e:
            raise _BrokenError(f"child did not get ready: {e or type(e).__name__}") from e
        if "unavailable" in ready:
            raise Unavailable(ready["unavailable"])
        start = time.monotonic()
        reader.deadline = start + limits.timeout_s
        outcome = wait(reader, leash, limits)
        return outcome._replace(seconds=time.monotonic() - start, isolation=ready["isolation"])


def _await(reader: _Reader, leash: socket.socket, limits: Limits) -> Outcome:
    """Return what the child says or how it died; it is dead and reaped when this returns."""
    exit_status: int | None = None
    outcome: Outcome | None = None
    try:
        outcome = _parse(reader.line())
    except TimeoutError:
        outcome = Outcome("timeout", detail=f"ran past {limits.timeout_s} s")
    except _TooMuchError:
        outcome = Outcome("resource", detail=f"output is over {limits.output_kib} KiB")
    except (EOFError, OSError):
        try:
            exit_status = _exit_status(leash, reader.deadline)
        except TimeoutError:
            outcome = Outcome("timeout", detail=f"ran past {limits.timeout_s} s")
    if exit_status is None:
        exit_status = _end(leash)
    return outcome or _explain_death(exit_status)


def _await_end(reader: _Reader, leash: socket.socket, limits: Limits) -> Outcome:
    """Return what the command printed and how it ended; it is dead and reaped when this returns."""
    try:
        printed = reader.rest().decode(errors="replace")
        exit_status = _exit_status(leash, reader.deadline)
    except TimeoutError:
        _end(leash)
        return Outcome("timeout", detail=f"ran past {limits.timeout_s} s")
    except _TooMuchError:
        _end(leash)
        return Outcome("resource", detail=f"output is over {limits.output_kib} KiB")
    if os.WIFSIGNALED(exit_status):
        return _explain_death(exit_status)._replace(stdout=printed)
    code = os.waitstatus_to_exitcode(exit_status)
    return Outcome("error" if code else "ok", code, f"ended with status {code}" if code else "", printed)


def _end(leash: socket.socket) -> int:
    """Have the child killed and return its exit status."""
    with contextlib.suppress(OSError):
        leash.shutdown(socket.SHUT_WR)
    try:
        return _exit_status(leash, time.monotonic() + START_TIMEOUT_S)
    except TimeoutError as e:
        raise _BrokenError("zygote does not reap") from e


def _exit_status(leash: socket.socket, deadline: float) -> int:
    leash.settimeout(max(0.001, deadline - time.monotonic()))
    try:
        status = leash.recv(4)
    except TimeoutError:
        raise
    except OSError as e:
        raise _BrokenError(f"zygote is gone: {e}") from e
    if len(status) != 4:  # noqa: PLR2004
        raise _BrokenError("zygote is gone")
    return int(struct.unpack("i", status)[0])


class _Reader:
    """Lines from a socket that hostile text writes to."""

    def __init__(self, channel: socket.socket, deadline: float, max_bytes: int) -> None:
        self._channel, self.deadline, self._max_bytes = channel, deadline, max_bytes
        self._pending = b""

    def line(self) -> bytes:
        """Return the next line; raises TimeoutError, EOFError, OSError or _TooMuchError."""
        while (end := self._pending.find(b"\n")) < 0:
            if not self._read():
                raise EOFError
        line, self._pending = self._pending[:end], self._pending[end + 1 :]
        if len(line) > self._max_bytes:
            raise _TooMuchError
        return line

    def rest(self) -> bytes:
        """Return all up to the end; raises TimeoutError, OSError or _TooMuchError."""
        while self._read():
            pass
        return self._pending

    def _read(self) -> bool:
        """Take in what there is; False at the end."""
        if len(self._pending) > self._max_bytes:
            raise _TooMuchError
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._channel.settimeout(left)
        chunk = self._channel.recv(65536)
        self._pending += chunk
        return bool(chunk)


def _parse(line: bytes) -> Outcome:
    """Read a result line, which the program may have forged."""
    malformed = Outcome("error", detail="the result is not well formed")
    try:
        result = json.loads(line, parse_constant=_refuse_constant)
        json.dumps(result, ensure_ascii=False).encode()  # lone surrogates could not be written to a file later
    except (ValueError, RecursionError):
        return malformed
    match result:
        case {"status": "ok", "value": value, "stdout": str(stdout)}:
            return Outcome("ok", value, stdout=stdout)
        case {"status": "error" | "resource" | "refused" as status, "detail": str(detail), "stdout": str(stdout)}:
            return Outcome(status, None, " ".join(detail.split())[:MAX_DETAIL], stdout)
        case _:
            return malformed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _explain_death(exit_status: int) -> Outcome:
    if not os.WIFSIGNALED(exit_status):
        code = os.waitstatus_to_exitcode(exit_status)
        return Outcome("error", detail=f"ended with status {code} before it gave a result")
    number = os.WTERMSIG(exit_status)
    if number == signal.SIGXCPU:
        return Outcome("timeout", detail="used more CPU time than the limit")
    if number == signal.SIGKILL:
        return Outcome("resource", detail="killed by the kernel, most likely for memory")
    return Outcome("error", detail=f"died of signal {number}, {signal.strsignal(number)}")


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="symbol-llm-")
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder)
        except (OSError, RecursionError) as e:
            logger.warning("sandbox folder not removed path=%s reason=%s", folder, e)


def _frame(request: Mapping[str, Any]) -> bytes:
    body = json.dumps(request).encode()
    return struct.pack("Q", len(body)) + body


# --- the zygote's side ------------------------------------------------------------------------------------------------


def serve(modules: Iterable[str]) -> None:
    """Import `modules`, then fork a child for each pair of sockets that arrives on standard input, until it closes."""
    control = socket.socket(fileno=0)
    try:
        for name in (*COMMON, *modules):
            module, _, function = name.partition(":")
            loaded = importlib.import_module(module)
            if function:
                getattr(loaded, function)()
    except ModuleNotFoundError as e:
        control.send(f"missing {e.name}".encode())
        return
    except Exception as e:  # whatever an import raises is told to the caller, which raises Unavailable
        control.send(f"{type(e).__name__}: {e}"[:1000].encode())
        return
    _settle()
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    _Nursery(control).loop()


class _Nursery:
    """The children alive, and one leash each."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}  # leash -> pid
        self._poll = select.poll()
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def loop(self) -> None:
        """Fork, kill and reap as told; return once the caller has hung up."""
        while True:
            events = {fd for fd, _ in self._poll.poll()}
            # Leashes first: a number freed by reaping may be given to a new leash by forking.
            for leash in events & self._pids.keys():
                self._poll.unregister(leash)
                _kill(self._pids[leash])
            if self._wake in events:
                self._reap()
            if self._control.fileno() in events and not self._fork():
                break
        for pid in self._pids.values():
            _kill(pid)

    def _fork(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, 1, 2)
        if not message:
            return False
        channel, leash = fds
        try:
            pid = os.fork()
        except OSError:  # the caller sees both sockets close
            os.close(leash)
        else:
            if pid == 0:
                _be_child(channel)
            self._pids[leash] = pid
            self._poll.register(leash, select.POLLIN)
        os.close(channel)
        return True

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        leashes = {pid: leash for leash, pid in self._pids.items()}
        while leashes and (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
            _kill(ended.si_pid)  # what is left of its group, while the number is still its own
            _, status = os.waitpid(ended.si_pid, 0)
            leash = leashes.pop(ended.si_pid)
            del self._pids[leash]
            with contextlib.suppress(KeyError):
                self._poll.unregister(leash)
            with contextlib.suppress(OSError):
                os.write(leash, struct.pack("i", status))
            os.close(leash)


def _kill(pid: int) -> None:
    for kill in (os.kill, os.killpg):  # the group does not exist before the child's setsid
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


# --- the child's side -------------------------------------------------------------------------------------------------

_CHANNEL = 0
"""Takes the place of the zygote's control socket. A program that asks for input finds it at its end."""


class _Printed(io.TextIOBase):
    """What the program prints, up to a limit."""

    def __init__(self, max_chars: int) -> None:
        self._parts: list[str] = []
        self._left = max_chars

    def write(self, text: str) -> int:
        self._left -= len(text)
        if self._left < 0:
            raise _TooMuchError
        self._parts.append(text)
        return len(text)

    def text(self) -> str:
        return "".join(self._parts)


def _be_child(channel: int) -> NoReturn:
    """Confine this fresh fork, run what `channel` asks for, answer, end."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(channel, _CHANNEL)
        request = json.loads(_read_exactly(struct.unpack("Q", _read_exactly(8))[0]))
        try:
            isolation = _confine(request)
        except OSError as e:
            _say({"unavailable": f"sandbox cannot confine its child: {e}"})
        else:
            _say({"isolation": isolation})
            if "argv" in request:
                _become(request["argv"])
            _answer(request)
    finally:
        os._exit(0)


_ENVIRONMENT = {"HOME": ".", "TMPDIR": ".", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
"""Of a command. Threads that share one arena take little address space beyond their stacks."""


def _become(argv: Sequence[str]) -> NoReturn:
    """Turn into the command `argv`; what it prints goes to the caller."""
    os.dup2(_CHANNEL, 1)
    os.dup2(_CHANNEL, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execve(argv[0], list(argv), _ENVIRONMENT)  # noqa: S606 - this is the sandbox
    except OSError as e:
        os.write(1, f"cannot execute {argv[0]}: {e.strerror}\n".encode())
        os._exit(127)


def _read_exactly(n: int) -> bytes:
    data = bytearray()
    while len(data) < n:
        chunk = os.read(_CHANNEL, n - len(data))
        if not chunk:
            os._exit(1)
        data += chunk
    return bytes(data)


def _say(message: Mapping[str, Any]) -> None:
    data = json.dumps(message, ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"
    while data:
        data = data[os.write(_CHANNEL, data) :]


def _answer(request: Mapping[str, Any]) -> None:
    max_bytes = request["limits"]["output_kib"] * 1024
    sys.stdout = sys.stderr = printed = _Printed(max_bytes)
    module, _, name = request["entry"].partition(":")
    function: Callable[[Any], Any] = getattr(sys.modules[module], name)
    answer: dict[str, Any] = {"status": "ok", "value": None, "detail": "", "stdout": ""}
    try:
        answer["value"] = function(request["args"])
        answer["stdout"] = printed.text()
        if len(json.dumps(answer, ensure_ascii=False, allow_nan=False)) > max_bytes:
            raise _TooMuchError  # noqa: TRY301
    except BaseException as e:  # the program may raise anything, SystemExit included
        answer = {"status": _classify(e), "detail": _describe(e), "stdout": printed.text()[: max_bytes // 8]}
    _say(answer)


def _classify(e: BaseException) -> RunStatus:
    if isinstance(e, MemoryError | _TooMuchError):
        return "resource"
    if isinstance(e, OSError) and e.errno in (errno.EFBIG, errno.EMFILE, errno.ENOMEM, errno.ENOSPC):
        return "resource"
    return "refused" if isinstance(e, PermissionError) else "error"


def _describe(e: BaseException) -> str:
    if isinstance(e, _TooMuchError):
        return "output is over the limit"
    try:
        text = f"{type(e).__name__}: {e}".removesuffix(": ")
    except BaseException:  # a hostile __str__
        text = "an exception that cannot be printed"
    return text[:MAX_DETAIL]


# --- confinement: every step is one-way and happens before the program is looked at ----------------------------------

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
_COMMANDS = f"{__name__}:allow_commands"
_serves_commands = False


def allow_commands() -> None:
    """Make this zygote one whose children become commands. Only ever called in a zygote."""
    global _serves_commands  # noqa: PLW0603 - set once, before the first fork
    _serves_commands = True


def _settle() -> None:
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


def _confine(request: Mapping[str, Any]) -> str:
    """Give up, in the child, what the entry does not need and return what holds; OSError if that is too little."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    os.environ.clear()
    os.chdir(request["folder"])
    is_command = "argv" in request
    if is_command:
        _limit_resources(request["limits"], request["reserved_mib"] * 2**20, _N_RUNNING)
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
