"""Whether the process behind a run is still there: who it is, signs of life while it works, and how to tell that it is gone.

On one machine the process itself is looked for. Elsewhere (another pod, another host) only the signs tell: a run that gave
none for `SILENT_S` is taken for over.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

OWNER, SIGN = "symbol_llm.process", "symbol_llm.alive_at"
BEAT_S = 60.0
SILENT_S = 15 * BEAT_S
LOOK_S = 1.0
RUNNER_VARIABLE = "SYMBOL_LLM_RUNNER"
"""Process that started this one and without which it must not go on."""


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


@contextmanager
def signs(tell: Callable[[dict[str, str]], None]) -> Iterator[None]:
    """Give a sign of life through `tell` every minute of the block; a SIGTERM, or the runner's death, ends it as SystemExit."""
    done = threading.Event()
    thread = threading.Thread(target=_beat, args=(tell, done), daemon=True)
    before = _on_terminate(_leave)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if before is not None:
            _on_terminate(before)


def _beat(tell: Callable[[dict[str, str]], None], done: threading.Event) -> None:
    runner, last = os.environ.get(RUNNER_VARIABLE, ""), time.monotonic()
    while not done.wait(LOOK_S):
        if runner and not Path(f"/proc/{runner}").exists():
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if time.monotonic() - last > BEAT_S:
            last = time.monotonic()
            with suppress(Exception):  # a tracking server that is away for a moment does not stop the work
                tell({SIGN: f"{time.time():.0f}"})


def _on_terminate(handler: Any) -> Any:
    """Set what SIGTERM does and return what it did; None in a thread, which may not."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler)


def _leave(number: int, _: object) -> None:
    """Leave the block, and tell the processes it started to end: some callers wait for theirs before they let go."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
    raise SystemExit(128 + number)


def _started(pid: int) -> str:
    """Return when process `pid` began, in ticks since the machine did; empty if there is none."""
    with suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""
