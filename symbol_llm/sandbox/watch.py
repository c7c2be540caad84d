"""What the caller counts of a child while it runs, since the kernel bounds it for one file alone, or for a user.

That is its files and their sizes together, its threads, what it sends, and its time, of which it is not charged what it
has waited for a core.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from symbol_llm.ground.params import Limits
from symbol_llm.sandbox.confinement import MAX_TASKS

CHECK_S = 0.05
"""How often a child is looked at."""
MAX_FILES = 256
"""In a child's folder; together they may be as large as `FULL_FILES` of the largest."""
FULL_FILES = 8
MAX_WAITED = 9
"""Times its timeout that a child may wait for a core without being charged; its CPU time is bounded anyway."""
OVERHEAD_BYTES = 2048
"""What a result line may take beyond `output_kib`: names of fields and `detail`."""
_CHUNK = 65536


class TooMuchError(Exception):
    """More output, files or threads than the limits allow."""


class Said:
    """What a child sends, which hostile text may have written."""

    def __init__(self, answers: socket.socket, limits: Limits) -> None:
        self._answers, self._output_kib = answers, limits.output_kib
        self._max_bytes = limits.output_kib * 1024 + OVERHEAD_BYTES
        self.data = b""

    def take(self) -> bool:
        """Take in what is there and wait for nothing; return whether that makes a line.

        Raises TooMuchError if it is more than is allowed.
        """
        more = True
        while more:
            try:
                chunk = self._answers.recv(_CHUNK, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                break
            self.data += chunk
            more = len(chunk) == _CHUNK
            if len(self.data) > self._max_bytes:
                raise TooMuchError(f"output is over {self._output_kib} KiB")
        return b"\n" in self.data

    def is_one_line(self) -> bool:
        """Say whether it is one whole line and nothing else."""
        return self.data.find(b"\n") == len(self.data) - 1 >= 0


class Watch:
    """The time, files and threads of one child."""

    def __init__(
        self, limits: Limits, folder: str, find: Callable[[], int | None], before: tuple[int, int] = (0, 0)
    ) -> None:
        """Begin; `find` returns its process, once it is there. What `usage` found in the folder `before` does not count."""
        self._timeout_s, self._folder, self._find, self._before = limits.timeout_s, folder, find, before
        self._max_bytes = FULL_FILES * limits.file_mib * 2**20
        self._pid: int | None = None
        self._start = time.monotonic()

    def check(self) -> float:
        """Return the seconds it has left; raise TimeoutError if there are none, TooMuchError if it has too much."""
        if self._pid is None:
            self._pid = self._find()
        if self._pid is None:  # it has not begun
            self._start = time.monotonic()
            return self._timeout_s
        left = self._start + self._timeout_s - time.monotonic()
        if left <= 0 and (left := left + self._waited(self._pid)) <= 0:
            raise TimeoutError
        if excess := (is_used(self._folder) and self.excess()) or self._excess_of_threads(self._pid):
            raise TooMuchError(excess)
        return left

    def excess(self) -> str:
        """Return what its folder has too much of; nothing if it has not."""
        n_files, n_bytes = (now - before for now, before in zip(usage(self._folder), self._before, strict=True))
        if n_files > MAX_FILES:
            return f"over {MAX_FILES} files"
        return f"files are over {self._max_bytes >> 20} MiB together" if n_bytes > self._max_bytes else ""

    def _waited(self, pid: int) -> float:
        """Return the seconds for which its most starved thread could have run and had no core; 0 where that is not told."""
        waited_ns = 0
        with contextlib.suppress(OSError, IndexError, ValueError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waited_ns = max(waited_ns, int((thread / "schedstat").read_text().split()[1]))
        return min(waited_ns / 1e9, MAX_WAITED * self._timeout_s)

    def _excess_of_threads(self, pid: int) -> str:
        try:
            n_threads = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17])
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return f"over {MAX_TASKS} threads" if n_threads > MAX_TASKS else ""


def is_used(folder: str) -> bool:
    """Say whether anything was made, renamed, removed or listed in `folder` since its times were set to 0."""
    times = os.stat(folder)
    return bool(times.st_mtime_ns or times.st_atime_ns)


def usage(folder: str) -> tuple[int, int]:
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


def child_of(pid: int) -> int | None:
    """Return the one child that the process `pid` has, if it has one now."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # the kernel does not tell, so all are asked, or the process is gone
        children = [stat.parent.name for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == pid]
    except ProcessLookupError:
        return None
    return int(children[0]) if children else None


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
