"""The only place that starts a process for model-written text. It runs our functions and tools; it does not judge.

A warm parent ("zygote") with the libraries already imported forks one child a call. Before a line of the program is
looked at, the child is confined (`confinement.py`): no capabilities, as in the zygote; Landlock (files), rlimits, an
empty environment, an empty folder of its own, and of system calls those alone that seccomp lists. The caller holds the
deadline. The zygote never sees arguments, so nothing of one call can be found in the memory of the next. All that comes
back is data: a program that forges its result gains what returning that value would have gained, hence gold answers
stay with the caller.

    caller ── control socket ──> zygote ── fork ──> child
      │ ╰────── leash: hang up to kill; exit status back │
      ╰──────── channel: request, then ready line and result line

>>> run("symbol_llm.sandbox.interpreter:execute", {"program": "answer = 6 * 7"}, Limits()).value
['int', '42']

`run_commands` is for programs in other languages: its children become a tool, or what a tool made of a program. They come
from a zygote of their own whose filter lets `execve` through, which no other child may call. Landlock names what they may
execute, but nothing hangs on it: whatever they become has the same filters, files and limits, and none can be two.

What the kernel bounds only for a file or a user, the caller counts while the child runs and when it has ended: files and
their sizes in its folder, and its threads. Not bounded: what it adds within `CHECK_S`, files it has removed and holds open
(`MAX_OPEN_FILES`, each up to `file_mib`), and what `stat` tells.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import io
import json
import logging
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeVar

from symbol_llm.ground.errors import LimitExceeded, MissingDependency, TimedOut, Unavailable
from symbol_llm.sandbox import confinement
from symbol_llm.sandbox.confinement import N_CORES

if TYPE_CHECKING:
    from symbol_llm.ground.params import Limits

RunStatus = Literal["ok", "error", "timeout", "resource", "refused"]
_T = TypeVar("_T")

COMMON = ("bisect", "calendar", "cmath", "collections", "datetime", "decimal", "fractions", "functools", "heapq",
          "itertools", "math", "operator", "random", "re", "statistics", "string")  # fmt: skip
START_TIMEOUT_S = 120.0
"""How long a zygote may take to import, or a child to confine itself, on a loaded machine."""
MAX_DETAIL = 300
_COMMANDS = f"{confinement.__name__}:allow_commands"
PLACES = 4 * N_CORES
"""Children at once. A sleeping one keeps a place and no core, and one that waits for a core is not charged for it."""
MAX_WAITED = 9
"""Times its timeout that a child may wait for a core without being charged; its CPU time is bounded anyway."""
CHECK_S = 0.05
"""How often a child's folder and threads are counted."""
MAX_FILES = 256
"""In a child's folder; together they may be as large as `FULL_FILES` of the largest."""
FULL_FILES = 8
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
    """More output, files or threads than the limits allow; no `except Exception` of a program stops it."""


class _Zygote:
    """A process that has `modules` imported and forks a child for each pair of sockets it is sent."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        """Start it and wait until its imports are done."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).resolve().parents[2])
        start = f"import sys; sys.path.append({root!r}); from symbol_llm.sandbox import executor; executor.serve({modules!r})"
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
_running = threading.BoundedSemaphore(PLACES)


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
    _running = threading.BoundedSemaphore(PLACES)
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
    watch = _Watch(request["folder"], limits)
    with contextlib.ExitStack() as sockets:
        channel, child_end = (sockets.enter_context(s) for s in socket.socketpair())
        leash, zygote_end = (sockets.enter_context(s) for s in socket.socketpair())
        zygote.fork(child_end, zygote_end)
        child_end.close()
        zygote_end.close()
        try:
            reader = _Reader(channel, time.monotonic() + START_TIMEOUT_S, limits, watch)
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
        watch.pid = ready["pid"]
        outcome = wait(reader, leash, limits)
        if outcome.status in ("ok", "error") and (excess := watch.excess()):
            outcome = Outcome("resource", detail=excess)
        return outcome._replace(seconds=time.monotonic() - start, isolation=ready["isolation"])


def _await(reader: _Reader, leash: socket.socket, limits: Limits) -> Outcome:
    """Return what the child says or how it died; it is dead and reaped when this returns."""
    exit_status: int | None = None
    outcome: Outcome | None = None
    try:
        outcome = _parse(reader.line())
    except TimeoutError:
        outcome = Outcome("timeout", detail=f"ran past {limits.timeout_s} s")
    except _TooMuchError as e:
        outcome = Outcome("resource", detail=str(e))
    except (EOFError, OSError):
        try:
            exit_status = _exit_status(leash, reader.deadline, reader.watch)
        except TimeoutError:
            outcome = Outcome("timeout", detail=f"ran past {limits.timeout_s} s")
        except _TooMuchError as e:
            outcome = Outcome("resource", detail=str(e))
    if exit_status is None:
        exit_status = _end(leash)
    return outcome or _explain_death(exit_status)


def _await_end(reader: _Reader, leash: socket.socket, limits: Limits) -> Outcome:
    """Return what the command printed and how it ended; it is dead and reaped when this returns."""
    try:
        printed = reader.rest().decode(errors="replace")
        exit_status = _exit_status(leash, reader.deadline, reader.watch)
    except TimeoutError:
        _end(leash)
        return Outcome("timeout", detail=f"ran past {limits.timeout_s} s")
    except _TooMuchError as e:
        _end(leash)
        return Outcome("resource", detail=str(e))
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


def _exit_status(leash: socket.socket, deadline: float, watch: _Watch | None = None) -> int:
    try:
        status = _receive(leash, 4, deadline, watch)
    except TimeoutError:
        raise
    except OSError as e:
        raise _BrokenError(f"zygote is gone: {e}") from e
    if len(status) != 4:  # noqa: PLR2004
        raise _BrokenError("zygote is gone")
    return int(struct.unpack("i", status)[0])


def _receive(source: socket.socket, n: int, deadline: float, watch: _Watch | None) -> bytes:
    """Return up to `n` bytes, none at the end; raises TimeoutError, OSError or, from `watch`, _TooMuchError.

    The deadline is put off by what the watched child has waited for a core.
    """
    while (left := deadline - time.monotonic()) > 0 or (watch is not None and (left := left + watch.waited()) > 0):
        if watch is not None:
            watch.check()
        source.settimeout(left if watch is None else min(left, CHECK_S))
        with contextlib.suppress(TimeoutError):
            return source.recv(n)
    raise TimeoutError


class _Watch:
    """What a child has of what the kernel does not bound for it: files of its folder, together, and threads."""

    def __init__(self, folder: str, limits: Limits) -> None:
        """Begin with what is in the folder already, which does not count."""
        self._folder = folder
        self._max_bytes = FULL_FILES * limits.file_mib * 2**20
        self._timeout_s = limits.timeout_s
        self._due = 0.0
        self.pid: int | None = None
        """None as long as the child runs nothing."""
        self._before = _usage(folder)

    def check(self) -> None:
        """Raise _TooMuchError if it has too much; looks every `CHECK_S` and no more often."""
        if self.pid is None or time.monotonic() < self._due:
            return
        if excess := self.excess() or self._excess_of_threads(self.pid):
            raise _TooMuchError(excess)
        self._due = time.monotonic() + CHECK_S

    def excess(self) -> str:
        """Return what its folder has too much of; nothing if it has not."""
        n_files, n_bytes = (now - before for now, before in zip(_usage(self._folder), self._before, strict=True))
        if n_files > MAX_FILES:
            return f"over {MAX_FILES} files"
        return f"files are over {self._max_bytes >> 20} MiB together" if n_bytes > self._max_bytes else ""

    def waited(self) -> float:
        """Return the seconds for which its most starved thread could have run and had no core; 0 where that is not told."""
        waited_ns = 0
        with contextlib.suppress(OSError, IndexError, ValueError):
            for thread in Path(f"/proc/{self.pid}/task").iterdir():
                waited_ns = max(waited_ns, int((thread / "schedstat").read_text().split()[1]))
        return min(waited_ns / 1e9, MAX_WAITED * self._timeout_s)

    def _excess_of_threads(self, pid: int) -> str:
        try:
            n_threads = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17])
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return f"over {confinement.MAX_TASKS} threads" if n_threads > confinement.MAX_TASKS else ""


def _usage(folder: str) -> tuple[int, int]:
    """Return the number of files in `folder` and the bytes they take on the disk; no more than are too many."""
    n_files = n_bytes = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # the child is at work in there
                n_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
            n_files += 1
            if n_files > 2 * MAX_FILES:
                break
    return n_files, n_bytes


class _Reader:
    """Lines from a socket that hostile text writes to."""

    def __init__(self, channel: socket.socket, deadline: float, limits: Limits, watch: _Watch) -> None:
        self._channel, self.deadline, self._output_kib, self.watch = channel, deadline, limits.output_kib, watch
        self._max_bytes = limits.output_kib * 1024 + OVERHEAD_BYTES
        self._pending = b""

    def line(self) -> bytes:
        """Return the next line; raises TimeoutError, EOFError, OSError or _TooMuchError."""
        while (end := self._pending.find(b"\n")) < 0:
            if not self._read():
                raise EOFError
        line, self._pending = self._pending[:end], self._pending[end + 1 :]
        self._check_length(line)
        return line

    def rest(self) -> bytes:
        """Return all up to the end; raises TimeoutError, OSError or _TooMuchError."""
        while self._read():
            pass
        return self._pending

    def _read(self) -> bool:
        """Take in what there is; False at the end."""
        self._check_length(self._pending)
        chunk = _receive(self._channel, 65536, self.deadline, self.watch)
        self._pending += chunk
        return bool(chunk)

    def _check_length(self, data: bytes) -> None:
        if len(data) > self._max_bytes:
            raise _TooMuchError(f"output is over {self._output_kib} KiB")


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
    confinement.settle()
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
            isolation = confinement.confine(request)
        except OSError as e:
            _say({"unavailable": f"sandbox cannot confine its child: {e}"})
        else:
            _say({"isolation": isolation, "pid": os.getpid()})
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
