"""The thread that generates for all: what one caller asks or does is no matter of the others in its batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from serving.sampler import Job, Sampler
from symbol_llm.engines import Completion, Ended, Intake, Request, Sampling, Written
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground.errors import InvalidInput
from tests.serving.scripted import Words


class Held(FakeEngine):
    """Says `answer`; the replies to a prompt that asks to wait are held back until `go`."""

    def __init__(self) -> None:
        super().__init__(lambda messages, index: "answer")
        self.tok = Words()
        self.busy, self.go = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        self.sizes.append(len(requests))
        for number, request in enumerate(requests):
            self.busy.set()
            if request.prompts[0][0]["content"] == "wait":
                assert self.go.wait(60)
            yield Ended(number, 0, [Completion("answer", 1, 0.0)] * request.sampling.n)


def job(text: str, max_tokens: int = 5) -> Job:
    request = Request([[{"role": "user", "content": text}]], Sampling(2, 1.0, 1.0, max_tokens), 0)
    return Job([request], lambda *_: None)


@pytest.fixture
def sampler() -> Any:
    made = Sampler()
    made.call(lambda: made.take(Held(), reads=10)).result(60)
    return made


def in_one_batch(sampler: Any, *jobs: Job) -> None:
    """Have the engine begin on `jobs`, all of them together."""
    first = job("wait")
    done = sampler.sample(first)
    assert sampler.engine.busy.wait(60)
    for one in jobs:
        sampler.sample(one)
    sampler.engine.go.set()
    done.result(60)


def test_jobs_that_come_while_the_engine_is_busy_are_one_batch(sampler: Any) -> None:
    jobs = [job("hello") for _ in range(5)]
    in_one_batch(sampler, *jobs)
    for one in jobs:
        one.done.result(60)
    assert sampler.engine.sizes == [1, 5]


def test_job_whose_replies_are_all_spared_is_done_and_the_others_go_on(sampler: Any) -> None:
    spared, other = job("hello"), job("hello")
    spared.spared.add((0, 0))
    taken: list[Any] = []
    spared.take = taken.append
    in_one_batch(sampler, spared, other)
    other.done.result(60)
    spared.done.result(60)
    assert taken == []


def test_work_between_two_jobs_is_done_between_them(sampler: Any) -> None:
    seen: list[str] = []
    first, second = job("wait"), job("hello")
    first.take = lambda written: seen.append("first")
    second.take = lambda written: seen.append("second")
    sampler.sample(first)
    assert sampler.engine.busy.wait(60)
    sampler.call(lambda: seen.append("call"))
    sampler.sample(second)
    sampler.engine.go.set()
    second.done.result(60)
    assert seen == ["first"] * 2 + ["call"] + ["second"] * 2


def test_caller_that_leaves_as_the_replies_come_fails_nobody_else_in_the_batch(sampler: Any) -> None:
    leaves, stays = job("hello"), job("hello")
    leaves.take = lambda *_: leaves.done.cancel()
    in_one_batch(sampler, leaves, stays)
    stays.done.result(60)
    assert (leaves.done.cancelled(), sampler.is_broken) == (True, False)


def test_replies_to_who_has_left_are_given_to_nobody(sampler: Any) -> None:
    taken: list[Any] = []
    before, leaves, after = job("hello"), job("hello"), job("hello")
    before.take = lambda *_: leaves.gone.set()
    leaves.take = lambda *reply: taken.append(reply)
    in_one_batch(sampler, before, leaves, after)
    after.done.result(60)
    assert taken == []


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (job("one two three four five six"), "6 tokens and 5 for the reply: the model reads 10 together"),
        (job("refuse me"), "the model's chat template refuses the messages: no such role"),
    ],
    ids=["long", "refused"],
)
def test_what_the_model_cannot_read_is_refused_to_its_caller_alone(sampler: Any, bad: Job, why: str) -> None:
    good = job("one two three four five")
    in_one_batch(sampler, bad, good)
    good.done.result(60)
    assert (good.n_prompt, good.n_tokens) == (5, 2)
    with pytest.raises(InvalidInput) as e:
        bad.done.result(60)
    assert str(e.value) == why
    assert not sampler.is_broken


def test_engine_that_breaks_before_it_takes_anything_fails_those_that_wait_once() -> None:
    class Broken(FakeEngine):
        n_tries = 0

        def serve(self, intake: Any) -> Any:
            self.n_tries += 1
            raise RuntimeError("the device is gone")

    sampler, engine = Sampler(), Broken(lambda messages, index: "answer")
    sampler.call(lambda: sampler.take(engine)).result(60)
    with pytest.raises(RuntimeError, match="the device is gone"):
        sampler.sample(job("hello")).result(60)
    assert engine.n_tries == 1


class Refusing(Held):
    """Refuses the requests of a prompt that says so, as an endpoint does with a body that it does not take."""

    def serve(self, intake: Intake) -> Iterator[Written]:
        n = 0
        while requests := intake.take():
            for number, request in enumerate(requests, n):
                if request.prompts[0][0]["content"] == "refuse":
                    intake.refuse(number, InvalidInput("too long"))
                    assert not intake.wants(number, 0)
                for nth in range(request.sampling.n):  # what comes late of a refused one is nobody's
                    yield Written(number, 0, nth, Completion("answer", 1, 0.0), has_ended=True)
            n += len(requests)


def test_request_that_the_engine_refuses_is_its_callers_alone(sampler: Any) -> None:
    engine = Refusing()
    engine.tok = None  # type: ignore[assignment] # so that nothing is refused before
    sampler.call(lambda: sampler.take(engine)).result(60)
    taken: list[Written] = []
    refused, good = job("refuse"), job("hello")
    refused.take = good.take = taken.append
    for one in (refused, good):
        sampler.sample(one)
    good.done.result(60)
    with pytest.raises(InvalidInput, match="too long"):
        refused.done.result(60)
    assert len(taken) == 2
    assert not sampler.is_broken


def test_engine_that_waits_hears_of_what_comes(sampler: Any) -> None:
    class Waiting(Held):
        def serve(self, intake: Intake) -> Iterator[Written]:
            rung, n_asked = threading.Event(), 0
            intake.ring(rung.set)
            while n_asked < 2:
                n_asked += len(intake.take())
                self.busy.set()
                assert n_asked == 2 or rung.wait(60)
            for number in range(n_asked):
                for nth in range(2):
                    yield Written(number, 0, nth, Completion("answer", 1, 0.0), has_ended=True)

    sampler.call(lambda: sampler.take(Waiting())).result(60)
    first = sampler.sample(job("hello"))
    assert sampler.engine.busy.wait(60)
    sampler.sample(job("world")).result(60)
    first.result(60)
