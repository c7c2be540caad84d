"""One process at a time: a lock file that says who holds it, and is free again the moment that process is gone.

Locks are POSIX record locks, which belong to a process and not to what it forked: a child that outlives a killed owner
does not go on holding them. The owner writes its name into the file and wipes it when it is done, so whoever finds a name
in a file that nobody holds knows that its owner was killed, and says so. Several processes may `share` a lock; whoever
needs them gone waits with `wait_until_free`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from symbol_llm.ground.errors import Busy, InvalidInput

WAIT_S = 0.1

logger = logging.getLogger(__name__)

_held: set[str] = set()
"""Real paths that this process holds: record locks never refuse their own process, and closing any descriptor of a file
drops them, so a file that is held is not even opened a second time."""
_guard = threading.Lock()


@contextlib.contextmanager
def hold(path: Path, owner: str) -> Iterator[None]:
    """Hold the lock file `path` for this process in the name of `owner`; Busy at once if another holds it.

    The file stays, empty. A lock left by a process that was killed is taken over, with a warning that names it.
    """
    with open_held(path, owner) as file:
        file.seek(0)
        if left := _owner_in(file.read()):
            logger.warning("%s: taken over from %s, which was killed", path.parent, left)
        try:
            file.write(
                b"\n%b\n" % json.dumps(_me(owner)).encode()
            )  # after a killed one's name, lest there be none for a moment
            file.flush()
        except OSError as e:
            raise InvalidInput(f"{path}: cannot be written: {e.strerror}") from e
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


@contextlib.contextmanager
def open_held(path: Path, owner: str, *, shared: bool = False) -> Iterator[IO[bytes]]:
    """Open `path` for reading and appending, created if absent, and hold it while it is open; Busy as in `hold`.

    InvalidInput if it cannot be opened.
    """
    key = os.path.realpath(path)
    with _guard:
        if key in _held:
            raise Busy(f"{path}: in use by {owner}, in this very process")
        _held.add(key)
    try:
        with _opened(path) as file:
            _lock(file, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield file
    finally:
        with _guard:
            _held.discard(key)


def share(path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Hold the lock file `path` for a block together with others that share it; Busy if one has it for itself."""
    return open_held(path, "a process that shares it", shared=True)


def wait_until_free(path: Path, patience_s: float) -> None:
    """Return once no other process holds or shares `path`; Busy if one still does after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with open_held(path, "a process that waits for it"):
                return
        except Busy:
            if time.monotonic() > deadline:
                raise
        time.sleep(WAIT_S)


def is_named(path: Path) -> bool:
    """Say whether `path` is a lock file of ours that names an owner, here or killed.

    One that this process holds is not opened, since closing it would give up the lock.
    """
    with _guard:
        return os.path.realpath(path) in _held or (path.is_file() and bool(_owner_in(path.read_bytes()[:4096])))


def _opened(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")
    except OSError as e:
        raise InvalidInput(f"{path}: cannot be written: {e.strerror}") from e


def _lock(file: IO[bytes], path: Path, how: int) -> None:
    try:
        fcntl.lockf(file, how | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as e:
        file.seek(0)
        holder = _owner_in(file.read(4096)) or "another process"
        raise Busy(f"{path.parent}: in use by {holder}; wait for it, stop it, or name another folder") from e
    except OSError as e:
        raise InvalidInput(f"{path}: cannot be locked: {e.strerror}") from e


def _me(owner: str) -> dict[str, Any]:
    return {"owner": owner, "pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}


def _owner_in(text: bytes) -> str:
    """Return the last owner named in a lock file in words; empty if there is none."""
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
            return f"{found['owner']}, process {found['pid']} on {found['host']}, since {found['since']}"
        except (ValueError, TypeError, KeyError):
            continue
    return ""
