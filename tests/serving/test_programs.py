"""The vote that is decided before all programs have run: what it needs, and that nothing more is done for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from serving import programs
from serving.programs import Ask, Run
from serving.sampler import Sampler
from serving.vote import Votes, is_decided, vote
from symbol_llm import tasks
from symbol_llm.engines import Completion, Intake, Request, Sampling, Written
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.engines.prompts import messages
from symbol_llm.engines.rollout import Asked
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import Execution


def ran(value: str | None) -> Execution:
    return Execution(
        program=value, status="ran" if value else "error", value=value, detail="", seconds=0.0, isolation="none"
    )


def winners(values: Iterable[str | None]) -> set[str]:
    """Return the values that have most votes, any of which the order of the programs may make the answer."""
    counts = Counter(value for value in values if value)
    return {value for value, n in counts.items() if n == max(counts.values())}


@pytest.mark.parametrize("k", range(1, 6))
def test_vote_is_decided_exactly_if_no_rest_could_change_the_answer(k: int) -> None:
    values = (None, "1", "2", "3")
    for n in range(k + 1):
        for begun in itertools.product(values, repeat=n):
            rests = list(itertools.product(values, repeat=k - n))
            possible = set().union(*(winners([*begun, *rest]) for rest in rests))
            none_may_win = any(not winners([*begun, *rest]) for rest in rests)
            assert is_decided([ran(v) for v in begun], k) == (len(possible) == 1 and not none_may_win), begun


def test_votes_add_up_where_programs_were_spared() -> None:
    found = vote([ran("7"), ran(None), ran("7"), ran("7")], 5)
    assert (found.answer, found.votes) == ("7", Votes(k=5, ran=3, agreed=3, spared=1))


class Slow(FakeEngine):
    """Writes a reply at each step; between them, `go` is waited for."""

    def __init__(self, replies: list[str]) -> None:
        super().__init__(lambda messages, index: "")
        self.replies = replies
        self.go = threading.Semaphore(0)
        self.written = 0

    def serve(self, intake: Intake) -> Iterator[Written]:
        asked = [r for _ in range(2) for r in intake.take()]
        places = [
            (n, place, i) for n, r in enumerate(asked) for place in range(len(r.prompts)) for i in range(r.sampling.n)
        ]
        for number, place, nth in places:
            intake.take()
            if not intake.wants(number, place):
                continue
            reply = self.replies[self.written % len(self.replies)]
            self.written += 1
            yield Written(number, place, nth, Completion(reply, 1, 0.0), has_ended=True)
            assert self.go.acquire(timeout=60)


def problem(question: str) -> Problem:
    task = tasks.get("word_problems")
    fields: dict[str, Any] = {"task": task.name, "family": task.family, "instruction": task.instruction}
    return Problem.of(**fields, split="test", question=question, source="", licence="none")


class ByHand(Executor):
    """Runs nothing by itself."""

    def __init__(self) -> None:
        self.given: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append((future, partial(fn, *args, **kwargs)))
        return future

    def run(self) -> None:
        """Run what has not been, in the calling thread."""
        for future, call in self.given:
            if not future.done():
                future.set_result(call())


async def running(engine: Slow, asks: list[Ask], lane: Executor) -> AsyncGenerator[Run, None]:
    sampler = Sampler()
    await asyncio.wrap_future(sampler.call(lambda: sampler.take(engine)))
    largest = max(ask.k for ask in asks)
    problems = list({ask.problem.id: ask.problem for ask in asks}.values())
    request = Request([messages(p) for p in problems], Sampling(largest, 1.0, 1.0, 8), 0)
    async with contextlib.aclosing(programs.run(asks, [Asked(request, problems)], sampler, lane, Limits())) as runs:
        async for run in runs:
            yield run
            engine.go.release()


async def collected(engine: Slow, asks: list[Ask]) -> list[Run]:
    with ThreadPoolExecutor(2) as pool:
        return [run async for run in running(engine, asks, pool)]


def asking(question: str, k: int, *, whole: bool = False) -> Ask:
    asked = problem(question)
    return Ask(asked, messages(asked), k, whole)


def test_no_more_is_written_once_the_vote_is_decided() -> None:
    engine = Slow(["answer = 7"])
    found = asyncio.run(collected(engine, [asking("3 + 4?", 9)]))
    assert [run.execution.value for run in found] == ["7"] * 5
    assert engine.written == 5


def test_whole_votes_wait_for_every_program() -> None:
    engine = Slow(["answer = 7"])
    assert len(asyncio.run(collected(engine, [asking("3 + 4?", 5, whole=True)]))) == 5


def test_of_two_questions_the_undecided_one_goes_on() -> None:
    engine = Slow(["answer = 7"] * 5 + ["answer = 1", "answer = 2", "answer = 3", "answer = 4", "answer = 5"])
    first, second = asking("3 + 4?", 5), asking("1 + 1?", 5)
    found = asyncio.run(collected(engine, [first, second]))
    counts = {ask.problem.id: sum(run.problem == ask.problem.id for run in found) for ask in (first, second)}
    assert counts == {first.problem.id: 3, second.problem.id: 5}


def test_programs_of_a_decided_question_make_room_while_another_goes_on() -> None:
    engine = Slow(
        ["answer = 7", "answer = 3 + 4", "answer = 8 - 1", "answer = 9 - 2", "answer = 6 + 1", *["answer = 1"] * 5]
    )
    first, second = asking("3 + 4?", 5), asking("1 + 1?", 5, whole=True)
    engine.go.release(10)
    lane = ByHand()

    async def some() -> int:
        runs = running(engine, [first, second], lane)
        waiting = asyncio.ensure_future(anext(runs))
        while (
            len(lane.given) < 6
        ):  # the five of the first question, and the one program that the second's replies all are
            await asyncio.sleep(0.01)
        for future, call in lane.given[:3]:
            future.set_result(call())
        assert {(await waiting).problem, (await anext(runs)).problem, (await anext(runs)).problem} == {first.problem.id}
        waiting = asyncio.ensure_future(anext(runs))
        while not all(future.cancelled() for future, _ in lane.given[3:5]):
            await asyncio.sleep(0.01)
        lane.run()
        return len([await waiting, *[run async for run in runs]])

    assert asyncio.run(asyncio.wait_for(some(), 60)) == 5


def test_question_that_is_asked_twice_is_decided_when_it_is_for_both() -> None:
    """With k = 1 the first program decides; with k = 5 three that agree do."""
    engine = Slow(["answer = 7"])
    found = asyncio.run(collected(engine, [asking("3 + 4?", 1), asking("3 + 4?", 5)]))
    assert len(found) == 3
