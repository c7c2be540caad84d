"""Sampling and judging at once: each reply is judged as soon as it has ended, while the engine goes on with the others.

for reply in rollout([Asked(request, problems)], engine, verify.judge): ...

The only place where a model writes and its programs are run: exploring, evaluating, writing and serving call it.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from symbol_llm.engines import Completion, Engine, Request
from symbol_llm.ground.records import Problem
from symbol_llm.judging import verify

V = TypeVar("V")


class Asked(NamedTuple):
    """A request, and what each of its prompts is for."""

    request: Request
    problems: Sequence[Problem]
    """The problem that each prompt puts."""
    first: Sequence[int] = ()
    """The index of the first reply to each prompt; 0 where none is given."""


@dataclass(frozen=True)
class Reply(Generic[V]):
    """One reply to `problem`, the one of number `index`, and what the judge says of it."""

    problem: Problem
    index: int
    completion: Completion
    verdict: V


@dataclass(frozen=True)
class Pending(Generic[V]):
    """A reply that may still be judged."""

    problem: Problem
    index: int
    completion: Completion
    verdict: Future[V]


def rollout(asked: Sequence[Asked], engine: Engine, judge: Callable[[Problem, str], V]) -> Iterator[Reply[V]]:
    """Yield every reply with its verdict, in the order in which they were judged.

    `judge(problem, reply)` runs in threads, `verify.workers()` at once; it is called once for equal replies to one problem.
    """
    judged: queue.SimpleQueue[Pending[V]] = queue.SimpleQueue()
    n_waiting = 0
    pool = ThreadPoolExecutor(verify.workers(), thread_name_prefix="judge")
    try:
        for pending in submit(asked, engine, judge, pool):
            n_waiting += 1
            pending.verdict.add_done_callback(lambda _, pending=pending: judged.put(pending))  # type: ignore[misc]
            while not judged.empty():
                n_waiting -= 1
                yield _resolved(judged.get())
        for _ in range(n_waiting):
            yield _resolved(judged.get())
    finally:
        pool.shutdown(cancel_futures=True)


def submit(
    asked: Sequence[Asked], engine: Engine, judge: Callable[[Problem, str], V], pool: Executor
) -> Generator[Pending[V], None, None]:
    """Yield every reply as it ends, already on its way to `judge` in `pool`."""
    judging = Judging(judge, pool)
    for number, place, completions in engine.stream([a.request for a in asked]):
        yield from judging.take(asked[number], place, completions)


class Judging(Generic[V]):
    """Has replies judged in a pool, equal replies to one problem once."""

    def __init__(self, judge: Callable[[Problem, str], V], pool: Executor) -> None:
        """`judge(problem, reply)` is called in `pool`."""
        self._judge = judge
        self._pool = pool
        self._verdicts: dict[tuple[str, str], Future[V]] = {}

    def take(self, asked: Asked, place: int, completions: Sequence[Completion], nth: int = 0) -> Iterator[Pending[V]]:
        """Yield the replies to the prompt at `place`, from number `nth` on, on their way to be judged."""
        problem = asked.problems[place]
        for index, completion in enumerate(completions, nth + (asked.first[place] if asked.first else 0)):
            key = problem.id, completion.text
            if key not in self._verdicts:
                self._verdicts[key] = self._pool.submit(self._judge, problem, completion.text)
            yield Pending(problem, index, completion, self._verdicts[key])


def _resolved(pending: Pending[V]) -> Reply[V]:
    return Reply(pending.problem, pending.index, pending.completion, pending.verdict.result())
