"""Threads that requests share: the lanes take turns, however much one of them has to run."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from serving.lanes import Lanes


def test_lanes_take_turns_and_what_is_given_up_is_not_run() -> None:
    lanes, busy, go, order = Lanes(1), threading.Event(), threading.Event(), list[str]()
    first, second, gone = lanes.lane(), lanes.lane(), lanes.lane()

    def hold() -> None:
        busy.set()
        assert go.wait(60)

    done: list[Future[Any]] = [first.submit(hold)]
    assert busy.wait(60)
    done += [first.submit(order.append, f"first {n}") for n in range(3)]
    done += [second.submit(order.append, f"second {n}") for n in range(2)]
    gone.submit(order.append, "gone")
    gone.close()
    go.set()
    for one in done:
        one.result(60)
    assert order == ["first 0", "second 0", "first 1", "second 1", "first 2"]
