"""Sampling and judging at once: replies are judged while the engine still writes, each once, and nothing waits for the slow."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from symbol_llm.engines import Ended, Request, Sampling, rollout
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground.records import Problem

WAIT_S = 60
Make = Callable[..., Problem]


def asked(problems: Sequence[Problem], n: int = 1, first: Sequence[int] = ()) -> rollout.Asked:
    prompts = [[{"role": "user", "content": p.question}] for p in problems]
    return rollout.Asked(Request(prompts, Sampling(n, 1.0, 1.0, 9), 0), problems, first)


def echo() -> FakeEngine:
    """Reply number i to a question is the question and i."""
    return FakeEngine(lambda messages, index: f"{messages[-1]['content']} {index}")


def test_every_reply_comes_once_with_its_problem_its_index_and_its_verdict(problem: Make) -> None:
    problems = [problem(name) for name in "abc"]
    work = [asked(problems[:2], n=2), asked(problems[2:], n=1, first=[7])]
    replies = list(rollout.rollout(work, echo(), lambda p, text: f"{p.question}: {text}"))
    assert sorted((r.problem.question, r.index, r.completion.text, r.verdict) for r in replies) == [
        ("a", 0, "a 0", "a: a 0"),
        ("a", 1, "a 1", "a: a 1"),
        ("b", 0, "b 0", "b: b 0"),
        ("b", 1, "b 1", "b: b 1"),
        ("c", 7, "c 0", "c: c 0"),
    ]


class Held(FakeEngine):
    """Ends the second prompt only once it is let go on."""

    def __init__(self, go_on: threading.Event) -> None:
        super().__init__(lambda messages, index: messages[-1]["content"])
        self.go_on = go_on

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        for n, ended in enumerate(super().stream(requests)):
            if n == 1:
                assert self.go_on.wait(WAIT_S), "the first reply was not judged while the second was being written"
            yield ended


def test_replies_are_judged_while_others_are_still_written(problem: Make) -> None:
    judged = threading.Event()

    def judge(p: Problem, text: str) -> None:
        judged.set()

    assert len(list(rollout.rollout([asked([problem("a"), problem("b")])], Held(judged), judge))) == 2


def test_a_slow_program_holds_up_no_verdict_but_its_own(problem: Make) -> None:
    others_are_told = threading.Event()

    def judge(p: Problem, text: str) -> bool:
        return p.question != "slow" or others_are_told.wait(WAIT_S)

    order = []
    for reply in rollout.rollout([asked([problem(name) for name in ("slow", "a", "b")])], echo(), judge):
        order.append(reply.problem.question)
        assert reply.verdict
        if len(order) == 2:
            others_are_told.set()
    assert order[-1] == "slow"


def test_equal_replies_to_one_problem_are_judged_once_and_to_two_problems_twice(problem: Make) -> None:
    calls = []
    engine = FakeEngine(lambda messages, index: "same")
    replies = list(
        rollout.rollout([asked([problem("a"), problem("b")], n=3)], engine, lambda p, text: calls.append(p.question))
    )
    assert (len(replies), sorted(calls)) == (6, ["a", "b"])


def test_an_error_of_the_engine_or_of_the_judge_reaches_the_caller(problem: Make) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("the device is gone")

    for engine, judge in ((FakeEngine(fail), lambda p, text: None), (echo(), fail)):
        with pytest.raises(RuntimeError, match="the device is gone"):
            list(rollout.rollout([asked([problem("a")])], engine, judge))


def test_a_caller_that_stops_early_leaves_no_thread_behind(problem: Make) -> None:
    replies = rollout.rollout([asked([problem(str(n)) for n in range(50)])], echo(), lambda p, text: None)
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("judge")]
