"""Private folders for programs. Those of a process lie in one place among the system's temporary folders.

The place goes with its process. Where a process was killed, the next one to start a program removes what it left.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path
from stat import S_ISDIR

from symbol_llm.ground import locks
from symbol_llm.ground.errors import Busy, InvalidInput, Unavailable

PREFIX = "symbol-llm-programs-"
LOCK = ".lock"

logger = logging.getLogger(__name__)

_guard = threading.Lock()
_held = contextlib.ExitStack()
_place: Path | None = None
_of_originals: list[contextlib.ExitStack] = []
"""Kept in forked copies, since what is let go of is closed."""


def make() -> str:
    """Return a new, empty folder; Unavailable if there can be none."""
    try:
        return tempfile.mkdtemp(dir=_own())
    except (OSError, InvalidInput) as e:
        raise Unavailable(f"no folder for a program: {e}") from e


def remove(folder: str) -> None:
    """Remove a folder that `make` made, with what is in it."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass  # with all the others, by `close`
    except (OSError, RecursionError) as e:
        logger.warning("sandbox folder not removed path=%s reason=%s", folder, e)


def close() -> None:
    """Remove all folders of this process; programs in them have ended."""
    global _place  # noqa: PLW0603 - one place a process
    with _guard:
        if _place is not None:
            remove(str(_place))
            _held.close()
            _place = None


def remove_left() -> None:
    """Remove the places of processes that were killed: ours, by name, owner and mode, whose lock nobody holds."""
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, Busy, InvalidInput):
            stat = place.lstat()
            is_ours = S_ISDIR(stat.st_mode) and stat.st_uid == os.geteuid() and not stat.st_mode & 0o077
            lock = place / LOCK
            if is_ours and not lock.is_symlink() and locks.is_named(lock):
                with locks.open_held(lock, "the sandbox"):
                    remove(str(place))


def _own() -> Path:
    global _place  # noqa: PLW0603 - one place a process
    with _guard:
        if _place is None:
            remove_left()
            place = Path(tempfile.mkdtemp(prefix=PREFIX))
            _held.enter_context(locks.hold(place / LOCK, "the sandbox"))
            _place = place
        return _place


def _forget() -> None:
    """Let go, in a forked copy of a process, of the place that belongs to the original."""
    global _guard, _held, _place  # noqa: PLW0603 - the lock may be held by a thread that a fork does not copy
    _of_originals.append(_held)
    _guard, _held, _place = threading.Lock(), contextlib.ExitStack(), None


atexit.register(close)  # after the executor's own, which was registered later
os.register_at_fork(after_in_child=_forget)
