"""Whether the process behind a run is still there: who it is, signs of life while it works, and how to tell that it is gone.

On one machine the process itself is looked for. Elsewhere (another pod, another host) only the signs tell: a run that gave
none for `SILENT_S` is taken for over. Processes that a runner starts end with it, however it ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from symbol_llm.ground import locks

OWNER, SIGN = "symbol_llm.process", "symbol_llm.alive_at"
BEAT_S = 60.0
SILENT_S = 15 * BEAT_S
LOOK_S = 1.0
GRACE_S = 10.0
"""What a process that is told to end gets to do so before it is killed."""
RUNNER_VARIABLE, LOCK_VARIABLE = "SYMBOL_LLM_RUNNER", "SYMBOL_LLM_RUNNER_LOCK"
"""Process that started this one and without which it must not go on, with its beginning; the lock that its stages share."""
PR_SET_PDEATHSIG = 1


def tags() -> dict[str, str]:
    """Return what a run is to carry from its beginning: its process, and the first sign of life."""
    pid = os.getpid()
    return {OWNER: f"{socket.gethostname()}/{pid}/{_started(pid)}", SIGN: f"{time.time():.0f}"}


def is_over(tags: Mapping[str, str]) -> bool:
    """Return whether the process that gave a run these tags is gone; False where that cannot be told."""
    host, _, process = tags.get(OWNER, "").rpartition("/")
    host, _, pid = host.rpartition("/")
    if host == socket.gethostname() and pid.isdecimal():
        return _started(int(pid)) != process
    sign = tags.get(SIGN, "")
    return sign.isdecimal() and time.time() - int(sign) > SILENT_S


def this_process() -> str:
    """Return a name for this process that no other one of this machine has until it is started again; see `is_there`."""
    return f"{os.getpid()}-{_started(os.getpid())}"


def is_there(process: str) -> bool:
    """Return whether the process is alive whose `this_process` was `process`, on the same machine."""
    pid, _, began = process.partition("-")
    return _started(int(pid)) == began


@contextmanager
def signs(tell: Callable[[dict[str, str]], None]) -> Iterator[None]:
    """Give a sign of life through `tell` every minute of the block, which a signal or the runner's death ends; see `stoppable`.

    A process that a runner started shares the runner's lock for the block, so that no other run begins while it writes.
    """
    done = threading.Event()
    thread = threading.Thread(target=_beat, args=(tell, done), daemon=True)
    with stoppable(), _of_the_runner():
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as SystemExit(128 + number), after SIGTERM to the processes it started.

    One that comes after the first is ignored, since what is done on the way out is to be finished. A signal that this
    process was told to ignore (`nohup`) stays ignored. In a thread, which may not set signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `_leave` leaves it
                signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    """Leave the block, and tell the processes it started to end: some callers wait for theirs before they let go."""
    for ignored in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    for pid in _children(os.getpid()):
        _tell(pid, signal.SIGTERM)
    raise SystemExit(128 + number)


@contextmanager
def _of_the_runner() -> Iterator[None]:
    """Tie this process to the runner that started it, if one did: end with it, and share its lock."""
    if not _runner_is(alive=None):
        yield
        return
    _end_with_parent()
    if _runner_is(alive=False):
        _leave(signal.SIGTERM, None)
    with locks.share(Path(os.environ[LOCK_VARIABLE])) if LOCK_VARIABLE in os.environ else nullcontext():
        yield


def be_runner(lock: Path) -> None:
    """Have the processes that this one starts from now on end with it, and share `lock` while they work."""
    os.environ[RUNNER_VARIABLE] = f"{os.getpid()}/{_started(os.getpid())}"
    os.environ[LOCK_VARIABLE] = str(lock)


def _runner_is(*, alive: bool | None) -> bool:
    """Return whether the runner of this process is alive, or is not; None: whether it has one."""
    pid, _, began = os.environ.get(RUNNER_VARIABLE, "").partition("/")
    if not pid.isdecimal() or int(pid) == os.getpid():
        return False
    now = _started(int(pid))
    return alive is None or alive == (bool(now) and now == (began or now))


def _beat(tell: Callable[[dict[str, str]], None], done: threading.Event) -> None:
    last = time.monotonic()
    while not done.wait(LOOK_S):
        if _runner_is(alive=False):
            threading.Thread(target=_end_myself, daemon=True).start()
            return
        if time.monotonic() - last > BEAT_S:
            last = time.monotonic()
            with suppress(Exception):  # a tracking server that is away for a moment does not stop the work
                tell({SIGN: f"{time.time():.0f}"})


def _end_myself() -> None:
    """End this process as SIGTERM would, and if it hangs in a library's code, for good."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def end(pid: int) -> None:
    """Tell process `pid` and all below it to end, and return once they are gone; what is left after `GRACE_S` is killed."""
    below = {one: _started(one) for one in _tree(pid)}
    for one in below:
        _tell(one, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while left := [one for one, began in below.items() if began and _started(one) == began]:
        if time.monotonic() > deadline:
            for one in left:
                _tell(one, signal.SIGKILL)
        time.sleep(LOOK_S / 20)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _tree(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, children.read_text().split())
    return found


def _tell(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent dies; it stays so through exec."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _started(pid: int) -> str:
    """Return when process `pid` began, in ticks since the machine did; empty if there is none."""
    with suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


if (
    __name__ == "__main__"
):  # python -m symbol_llm.ground.life PARENT COMMAND...: become the command, which ends with its parent
    _end_with_parent()
    if os.getppid() != int(sys.argv[1]):
        sys.exit(128 + signal.SIGTERM)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the runner would have started itself
