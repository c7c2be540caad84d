"""Threads that are shared fairly: each request has a lane of its own, and the lanes take turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

V = TypeVar("V")
Job = Callable[[], None]


class Lanes:
    """Threads, and the lanes that have work for them."""

    def __init__(self, n_threads: int) -> None:
        """Start `n_threads` threads, which end with the process."""
        self._lanes: deque[Lane] = deque()
        self._changed = threading.Condition()
        for _ in range(n_threads):
            threading.Thread(target=self._work, name="run", daemon=True).start()

    def lane(self) -> Lane:
        """Return a new lane."""
        return Lane(self)

    def add(self, lane: Lane, job: Job) -> None:
        """Put `job` at the end of `lane`."""
        with self._changed:
            if not lane.jobs:
                self._lanes.append(lane)
            lane.jobs.append(job)
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lanes)
                lane = self._lanes.popleft()
                job = lane.jobs.popleft()
                if lane.jobs:
                    self._lanes.append(lane)
            job()


class Lane(Executor):
    """The jobs of one request, first come, first served."""

    def __init__(self, lanes: Lanes) -> None:
        """Take turns with the other lanes of `lanes`."""
        self._lanes = lanes
        self._futures: list[Future[Any]] = []
        self.jobs: deque[Job] = deque()

    def submit(self, fn: Callable[..., V], /, *args: Any, **kwargs: Any) -> Future[V]:
        """Have `fn` called when it is its turn."""
        future: Future[V] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as e:  # the thread goes on; who waits for the future is told
                future.set_exception(e)

        self._futures.append(future)
        self._lanes.add(self, job)
        return future

    def close(self) -> None:
        """Give up what has not begun."""
        for future in self._futures:
            future.cancel()
