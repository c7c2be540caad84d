"""The caller's end of zygotes, and of what they fork for it: commands, and workers that are kept for the next call.

Nothing that comes back here on `answers` is trusted. What comes on `control` is a worker's own word: a child has closed
it before it looks at a program.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from symbol_llm.ground.errors import MissingDependency, Unavailable
from symbol_llm.sandbox import child, confinement, syscalls
from symbol_llm.sandbox.watch import CHECK_S, child_of

START_TIMEOUT_S = 120.0
"""How long a zygote may take to import, or a process of its to confine itself, on a loaded machine."""
COMMANDS = (f"{syscalls.__name__}:load",)
"""What the zygote of commands has called ahead, by which it is known."""


class BrokenError(Exception):
    """A process of ours or the protocol failed, which is no fault of the program."""


# --- zygotes ----------------------------------------------------------------------------------------------------------


class Zygote:
    """A process that has `modules` imported and forks a worker for each pair of sockets it is sent."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        """Start it and wait until its imports are done."""
        self.is_open = True
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).resolve().parents[2])
        start = f"import sys; sys.path.append({root!r}); from symbol_llm.sandbox import zygote; zygote.serve()"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
                [sys.executable, "-s", "-P", "-X", "utf8", "-c", start],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        self._control.settimeout(START_TIMEOUT_S)
        try:
            self._control.send(json.dumps(_start(modules)).encode())
            hello = self._control.recv(4096).decode()
        except OSError as e:
            hello = f"no answer: {e}"
        if hello != "ready":
            self.close()
            if hello.startswith("missing "):
                raise MissingDependency(f"sandbox: package {hello.removeprefix('missing ')!r} is not installed")
            raise Unavailable(f"sandbox cannot start with {', '.join(modules)}: {hello or 'it ended at once'}")

    def fork(self, answers: socket.socket, control: socket.socket) -> None:
        """Have a worker forked that holds the two sockets."""
        try:
            socket.send_fds(self._control, [b"f"], [answers.fileno(), control.fileno()])
        except OSError as e:
            raise BrokenError(f"zygote is gone: {e}") from e

    def close(self, *, wait: bool = True) -> None:
        """Hang up, upon which the zygote ends and, with it, all that it has forked."""
        self.is_open = False
        self._control.close()
        if not wait:
            self._process.returncode = 0  # it is not this process's child
            return
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""A fixed hash seed, since the order of a set of strings must not change a verdict; and functions of libraries are found
once, not by each child."""


def _start(modules: tuple[str, ...]) -> dict[str, Any]:
    filters = syscalls.filters(for_commands=modules == COMMANDS)
    return {"modules": modules, "libraries": list(_libraries()), "filters": [part.hex() for part in filters]}


def _libraries() -> Iterator[str]:
    """Yield the files and folders that every child may read."""
    places = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {os.path.realpath(os.path.join(prefix, "lib")) for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    places |= {os.path.realpath(p) for p in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")}
    inner = {p for p in places if any(p.startswith(f"{other}/") for other in places)}
    files = {"/etc/ld.so.cache", "/dev/null", "/dev/urandom"}
    yield from sorted(p for p in places - inner | files if os.path.exists(p))


# --- workers ----------------------------------------------------------------------------------------------------------


class Worker:
    """A confined process that forks a child for each request, with the caller's ends of its sockets."""

    def __init__(self, zygote: Zygote, settings: str, folder: str) -> None:
        """Have it forked and wait until it is confined to `folder` and by `settings`, for which see `confinement.confine`.

        Raises Unavailable if it cannot be confined.
        """
        self.zygote, self.settings, self.folder, self.n_children = zygote, settings, folder, 0
        self.answers, answers = socket.socketpair()
        self._control, control = socket.socketpair()
        try:
            with answers, control:
                zygote.fork(answers, control)
            self.answers.shutdown(socket.SHUT_WR)
            for option, seconds in ((socket.SO_RCVTIMEO, CHECK_S), (socket.SO_SNDTIMEO, START_TIMEOUT_S)):
                whole = int(seconds)
                self._control.setsockopt(
                    socket.SOL_SOCKET, option, struct.pack("ll", whole, round((seconds - whole) * 1e6))
                )
            body = json.dumps({**json.loads(settings), "folder": folder}).encode()
            self._send(child.LENGTH.pack(len(body)) + body)
            ready = json.loads(self._receive_patiently())
            if "unavailable" in ready:
                raise Unavailable(ready["unavailable"])
        except BaseException:
            self.close()
            raise
        self.isolation: str = ready["isolation"]
        self.pid: int = ready["pid"]

    def ask(self, request: bytes) -> None:
        """Have a child forked for `request`."""
        self.n_children += 1
        self._send(child.GO + child.REQUEST.pack(len(request), _most_tasks()) + request)

    def child(self) -> int | None:
        """Return the process of the child, once it is there."""
        return child_of(self.pid)

    def ended(self, wait_s: float) -> int | None:
        """Return how the child ended, as waitpid tells; None if it has not within `wait_s`, or `CHECK_S` if that is less.

        Raises Unavailable if it could not be confined.
        """
        message = self._receive(wait_s)
        if not message:
            return None
        (status,) = child.ENDED.unpack_from(message)
        if status == child.FAILED:
            raise Unavailable("sandbox cannot fork or confine its child")
        return int(status)

    def kill(self) -> int:
        """Kill the child and return how it ended; it is dead and reaped then."""
        for _ in range(round(START_TIMEOUT_S / CHECK_S)):
            self._kill()
            if (status := self.ended(CHECK_S)) is not None:
                return status
        raise BrokenError("worker does not reap")

    def _kill(self) -> None:
        """Kill the child if it is there."""
        pid = self.child()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            try:
                process = os.pidfd_open(pid)
            except OSError as e:
                if e.errno != errno.ENOSYS:
                    raise
                os.kill(pid, signal.SIGKILL)  # a kernel without open files that stand for processes
                return
            try:
                if self.child() == pid:  # else its number may be another's by now
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)

    def close(self) -> None:
        """Hang up, upon which the worker ends."""
        self._control.close()
        self.answers.close()

    def _send(self, data: bytes) -> None:
        try:
            self._control.sendall(data)
        except OSError as e:
            raise BrokenError(f"worker is gone: {e}") from e

    def _receive(self, wait_s: float) -> bytes:
        """Return what the worker says next; nothing if it says nothing within `wait_s`, or `CHECK_S` if that is less."""
        is_short = wait_s < CHECK_S
        if is_short:
            self._control.settimeout(wait_s)
        try:
            message = self._control.recv(4096)
        except (BlockingIOError, TimeoutError):
            return b""
        except OSError as e:
            raise BrokenError(f"worker is gone: {e}") from e
        finally:
            if is_short:
                self._control.settimeout(None)
        if not message:
            raise BrokenError("worker is gone")
        return message

    def _receive_patiently(self) -> bytes:
        for _ in range(round(START_TIMEOUT_S / CHECK_S)):
            if message := self._receive(CHECK_S):
                return message
        raise BrokenError("worker does not answer")


_tasks = (0.0, 0)


def _most_tasks() -> int:
    """Return the tasks beyond which a child may start none, counted every second."""
    global _tasks  # noqa: PLW0603 - what was counted last, and when
    now = time.monotonic()
    if now - _tasks[0] > 1:
        _tasks = (now, confinement.most_tasks())
    return _tasks[1]


class Idle:
    """Workers that wait for a request like their last."""

    def __init__(self, most: int) -> None:
        self._most, self._workers, self._lock = most, list[Worker](), threading.Lock()

    def take(self, zygote: Zygote, settings: str) -> Worker | None:
        """Return the one that waits least long, if there is one of `zygote` and `settings`."""
        with self._lock:
            for n in range(len(self._workers) - 1, -1, -1):
                worker = self._workers[n]
                if worker.zygote is zygote and worker.settings == settings:
                    return self._workers.pop(n)
        return None

    def put(self, worker: Worker) -> Worker | None:
        """Keep `worker`; return the one that has waited longest if they are too many now."""
        with self._lock:
            self._workers.append(worker)
            return self._workers.pop(0) if len(self._workers) > self._most else None

    def take_all(self, zygote: Zygote | None = None) -> list[Worker]:
        """Return all, or all of `zygote`."""
        with self._lock:
            taken = [worker for worker in self._workers if zygote in (None, worker.zygote)]
            self._workers = [worker for worker in self._workers if worker not in taken]
        return taken

    def forget(self) -> None:
        """Let go of workers that belong to the process of which this is a forked copy; the lock may be held for ever."""
        for worker in self._workers:
            worker.close()
