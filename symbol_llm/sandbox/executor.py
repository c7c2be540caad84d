"""The only place that starts a process for model-written text. It runs our functions and tools; it does not judge.

A warm parent ("zygote") with the libraries already imported forks workers, and a worker forks one child a call. Before a
line of the program is looked at, the child is confined (`confinement.py`): no capabilities, as in the zygote; Landlock
(files), rlimits, an empty environment and an empty folder of its own, as in the worker; and of system calls those alone that
seccomp lists (`syscalls.py`). The caller holds the deadline. Zygote and worker never see arguments, so nothing of one call
can be found in the memory of the next; a worker whose folder was used, or whose child ended otherwise than by answering, is
not used again. All that comes back is data: a program that forges its result gains what returning that value would have
gained, hence gold answers stay with the caller.

    caller ── sockets ──> zygote ── fork ──> worker ── fork ──> child
      │ ╰─────── control: settings, requests; hang up to kill; how the child ended ─╯ (reads the request, closes it)
      ╰───────── answers: result line ──────────────────────────────────────────────╯

>>> run("symbol_llm.sandbox.interpreter:execute", {"program": "answer = 6 * 7"}, Limits()).value
['int', '42']

`run_commands` is for programs in other languages: its children become a tool, or what a tool made of a program. They come
from a zygote of their own whose filter lets `execve` through, which no other child may call. Landlock names what they may
execute, but nothing hangs on it: whatever they become has the same filters, files and limits, and none can be two.

What the kernel bounds only for a file or a user, the caller counts while the child runs and when it has ended (`watch.py`):
files and their sizes in its folder, and its threads. Not bounded: what it adds within `watch.CHECK_S`, files it has removed
and holds open (`MAX_OPEN_FILES`, each up to `file_mib`), and what `stat` tells.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar

from symbol_llm.ground.errors import LimitExceeded, TimedOut, Unavailable
from symbol_llm.ground.params import Limits
from symbol_llm.sandbox import confinement, folders
from symbol_llm.sandbox.child import MAX_DETAIL
from symbol_llm.sandbox.confinement import N_CORES
from symbol_llm.sandbox.processes import COMMANDS, BrokenError, Idle, Worker, Zygote
from symbol_llm.sandbox.watch import CHECK_S, Said, TooMuchError, Watch, is_used, usage

RunStatus = Literal["ok", "error", "timeout", "resource", "refused"]
_T = TypeVar("_T")

PLACES = 4 * N_CORES
"""Children at once. A sleeping one keeps a place and no core, and one that waits for a core is not charged for it."""
MAX_CHILDREN = 200
"""Of one worker. What forking them takes counts against the CPU time that it may use."""

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

    @property
    def crashed(self) -> bool:
        """Whether a library in C brought the child down, as parsers do whose stack or memory runs out."""
        crashes = rf"died of signal (?:{signal.SIGABRT:d}|{signal.SIGSEGV:d}|{signal.SIGBUS:d}),"
        return re.match(crashes, self.detail) is not None

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


def run(
    entry: str, args: Mapping[str, Any], limits: Limits, *, readable: Sequence[Path] = (), preload: Sequence[str] = ()
) -> Outcome:
    """Call `entry` ("module:function" of ours) with the JSON object `args` in a fresh confined child. Thread-safe.

    `readable` are further files or folders the child may read. `preload` are libraries to import ("module") or functions
    of ours to call ("module:function") once, ahead of all calls that name the same ones. What an entry imports of our own
    package it must import at its module's top.
    Raises Unavailable if the sandbox itself fails, MissingDependency if a library to import ahead is not installed.
    """
    request = json.dumps({"entry": entry, "args": args}).encode()
    settings = _settings(limits, readable)

    def call(zygote: Zygote) -> Outcome:
        worker = _idle.take(zygote, settings) or _hire(zygote, settings)
        may_stay = False
        try:
            outcome, may_stay = _ask(worker, request, limits)
        finally:
            dismissed = _idle.put(worker) if may_stay and zygote.is_open else worker
            if dismissed:
                _dismiss(dismissed)
        return outcome

    return _attempt((entry.partition(":")[0], *preload), entry, call)


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
    may_execute = [str(Path(p).resolve()) for p in executable]

    def call(zygote: Zygote) -> list[Outcome]:
        outcomes = []
        folder = folders.make()
        try:
            for name, text in files.items():
                Path(folder, name).write_bytes(text.encode(errors="replace"))
            for argv, limits, reserved_mib in commands:
                settings = _settings(limits, readable, executable=may_execute, reserved_mib=reserved_mib)
                worker = Worker(zygote, settings, folder)
                try:
                    request = json.dumps([str(word) for word in argv]).encode()
                    outcomes.append(_ask(worker, request, limits, is_command=True)[0])
                finally:
                    worker.close()
                if outcomes[-1].status != "ok":
                    break
        finally:
            folders.remove(folder)
        return outcomes

    return _attempt(COMMANDS, commands[0].argv[0], call)


def close() -> None:
    """End every zygote and, with it, every worker and child; `run` starts them again."""
    with _starting:
        zygotes = list(_zygotes.values())
        _zygotes.clear()
    for zygote in zygotes:
        zygote.close()
    for worker in _idle.take_all():
        _dismiss(worker)


# --- zygotes and workers ----------------------------------------------------------------------------------------------

_zygotes: dict[tuple[str, ...], Zygote] = {}
_starting = threading.Lock()
_running = threading.BoundedSemaphore(PLACES)
_idle = Idle(PLACES)


def _attempt(modules: tuple[str, ...], what: str, call: Callable[[Zygote], _T]) -> _T:
    """Return what `call` gives with a zygote of `modules`, a new one if the first breaks."""
    reason = ""
    with _running:
        for _ in range(2):
            zygote = _zygote(modules)
            try:
                return call(zygote)
            except BrokenError as e:
                reason = str(e)
                logger.warning("sandbox restarted entry=%s reason=%s", what, reason)
                _discard(modules, zygote)
    raise Unavailable(f"sandbox failed twice running {what}: {reason}")


def _zygote(modules: tuple[str, ...]) -> Zygote:
    with _starting:
        if modules not in _zygotes:
            _zygotes[modules] = Zygote(modules)
        return _zygotes[modules]


def _discard(modules: tuple[str, ...], zygote: Zygote) -> None:
    with _starting:
        if _zygotes.get(modules) is zygote:
            del _zygotes[modules]
            zygote.close()
    for worker in _idle.take_all(zygote):
        _dismiss(worker)


def _settings(limits: Limits, readable: Sequence[Path], **more: Any) -> str:
    """Return as JSON what a worker is confined by, but for its folder; see `confinement.confine`."""
    settings = {
        "limits": limits.model_dump(),
        "readable": [str(Path(p).resolve()) for p in readable],
        "landlock": confinement.landlock_version(),
        "weak": os.environ.get("SYMBOL_LLM_SANDBOX") == "weak",
    }
    return json.dumps(settings | more)


def _hire(zygote: Zygote, settings: str) -> Worker:
    """Return a new worker with an empty folder, whose times tell whether it is used."""
    folder = folders.make()
    try:
        os.utime(folder, (0, 0))
        return Worker(zygote, settings, folder)
    except BaseException:
        folders.remove(folder)
        raise


def _dismiss(worker: Worker) -> None:
    worker.close()
    folders.remove(worker.folder)


def _forget() -> None:
    """Let go, in a forked copy of the caller, of zygotes and workers that belong to the original."""
    global _starting, _running, _idle  # noqa: PLW0603 - locks may be held by threads that a fork does not copy
    _starting = threading.Lock()
    _running = threading.BoundedSemaphore(PLACES)
    _idle.forget()
    _idle = Idle(PLACES)
    for zygote in _zygotes.values():
        zygote.close(wait=False)
    _zygotes.clear()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)


# --- a call -----------------------------------------------------------------------------------------------------------


def _ask(worker: Worker, request: bytes, limits: Limits, *, is_command: bool = False) -> tuple[Outcome, bool]:
    """Return what became of the request, and whether the worker may serve again; the child is dead and reaped by then."""
    before = usage(worker.folder) if is_command else (0, 0)
    watch, said = Watch(limits, worker.folder, worker.child, before), Said(worker.answers, limits)
    start = time.monotonic()
    worker.ask(request)
    outcome, status = _follow(worker, watch, said, limits.timeout_s, is_command)
    if status is None:
        status = worker.kill()
    if outcome is None:
        outcome = _read_printed(said.data, status) if is_command else _read_answer(said.data, status)
    has_files = is_used(worker.folder)
    if has_files and outcome.status in ("ok", "error") and (excess := watch.excess()):
        outcome = Outcome("resource", detail=excess)
    is_spent = has_files or status != 0 or not said.is_one_line()
    outcome = outcome._replace(seconds=time.monotonic() - start, isolation=worker.isolation)
    return outcome, not is_spent and worker.n_children < MAX_CHILDREN


def _follow(
    worker: Worker, watch: Watch, said: Said, timeout_s: float, is_command: bool
) -> tuple[Outcome | None, int | None]:
    """Watch the child until it has ended or must; return what became of it if it did too much, how it ended if it has."""
    status: int | None = None
    try:
        status = worker.ended(timeout_s)
        while status is None:
            if said.take() and not is_command:
                return None, worker.ended(CHECK_S)  # or it lives on
            status = worker.ended(watch.check())
        said.take()
    except TimeoutError:
        return Outcome("timeout", detail=f"ran past {timeout_s} s"), status
    except TooMuchError as e:
        return Outcome("resource", detail=str(e)), status
    return None, status


def _read_answer(data: bytes, status: int) -> Outcome:
    """Return what a program's child said, which the program may have forged, or how it died."""
    line, end, _ = data.partition(b"\n")
    if not end:
        return _explain_death(status)
    malformed = Outcome("error", detail="the result is not well formed")
    try:
        text = line.decode()
        result = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(result, ensure_ascii=False).encode()  # lone surrogates could not be written to a file later
    except (ValueError, RecursionError):
        return malformed
    match result:
        case {"status": "ok", "value": value, "stdout": str(stdout)}:
            return Outcome("ok", value, stdout=stdout)
        case {"status": "error" | "resource" | "refused" as said, "detail": str(detail), "stdout": str(stdout)}:
            return Outcome(said, None, " ".join(detail.split())[:MAX_DETAIL], stdout)
        case _:
            return malformed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _read_printed(data: bytes, status: int) -> Outcome:
    """Return what a command printed and how it ended."""
    printed = data.decode(errors="replace")
    if os.WIFSIGNALED(status):
        return _explain_death(status)._replace(stdout=printed)
    code = os.waitstatus_to_exitcode(status)
    return Outcome("error" if code else "ok", code, f"ended with status {code}" if code else "", printed)


def _explain_death(status: int) -> Outcome:
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        return Outcome("error", detail=f"ended with status {code} before it gave a result")
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return Outcome("timeout", detail="used more CPU time than the limit")
    if number == signal.SIGKILL:
        return Outcome("resource", detail="killed by the kernel, most likely for memory")
    return Outcome("error", detail=f"died of signal {number}, {signal.strsignal(number)}")
