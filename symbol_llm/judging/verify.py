"""The only judge. It fails closed: only a score of 1.0 is accepted; our own failure is `unscored`, no rejection."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal, NamedTuple

from symbol_llm import families
from symbol_llm.ground.errors import LimitExceeded, TimedOut, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem, Verdict, content_id
from symbol_llm.sandbox.confinement import N_CORES
from symbol_llm.sandbox.executor import PLACES

MAX_CHARS = 32768
"""Of a reply that is looked at."""
AHEAD = 16
"""Programs a worker that may be judged before their turn to be told comes."""
MAX_TEXT = 300
"""Characters of a verdict's `value` and `detail` that are kept."""

Failure = Literal["unparsable", "timeout", "resource", "unscored"]

logger = logging.getLogger(__name__)


class Execution(NamedTuple):
    """What running a reply gave, where there is no gold to judge it by."""

    status: Literal["ran", "error", "unparsable", "timeout", "resource", "unscored"]
    program: str | None
    value: str | None
    """Set where `ran`; equal texts for equal values."""
    detail: str
    seconds: float
    isolation: str


class Item(NamedTuple):
    """A text to judge, and what its verdict calls it."""

    problem: Problem
    text: str
    name: str = ""
    is_program: bool = False
    """The text is a program from its first character to its last, not a reply that holds one."""


def judge(problem: Problem, reply: str, limits: Limits, *, is_program: bool = False, candidate: str = "") -> Verdict:
    """Return the verdict on the program in `reply`, or on all of `reply` where it is one; never raises for anything in it.

    `canonical` is set whenever the program could be parsed, whatever its score. `candidate` is what the verdict calls it.
    """
    start = time.monotonic()
    found: dict[str, Any] = {"verifier": problem.family}
    try:
        _judge(problem, reply, limits, found, is_program)
    except Exception as e:  # whatever is raised must not cost the run
        status, detail = _explain(e, problem)
        found |= {"status": status, "score": None if status == "unscored" else 0.0, "detail": detail[:MAX_TEXT]}
        found["isolation"] = getattr(e, "isolation", "none")
    return Verdict(candidate=candidate, problem=problem.id, seconds=time.monotonic() - start, **found)


def workers() -> int:
    """Return how many threads judge at once: some more than children may run, since parsing comes before and after."""
    return PLACES + 2 * N_CORES


def judge_all(items: Iterable[Item], limits: Limits, n_workers: int | None = None) -> Iterator[Verdict]:
    """Yield the verdict on each item, in their order, taking from `items` at most AHEAD a worker before they are judged.

    So a program that hangs keeps one worker, not those that have judged what comes after it.
    """
    n_workers = n_workers or workers()
    todo: SimpleQueue[tuple[int, Item] | None] = SimpleQueue()
    judged: SimpleQueue[tuple[int, Verdict | BaseException]] = SimpleQueue()
    threads: list[Thread] = []
    rest = enumerate(items)

    def submit(n: int) -> int:
        given = list(itertools.islice(rest, n))
        for one in given:
            if len(threads) < n_workers:
                threads.append(Thread(target=_judge_each, args=(todo, judged, limits), name=f"judge_{len(threads)}"))
                threads[-1].start()
            todo.put(one)
        return len(given)

    try:
        n_given, n_told = submit(AHEAD * n_workers), 0
        early: dict[int, Verdict | BaseException] = {}
        while n_told < n_given:
            while n_told not in early:
                n, verdict = judged.get()
                early[n] = verdict
            n_given += submit(1)
            verdict = early.pop(n_told)
            n_told += 1
            if isinstance(verdict, BaseException):
                raise verdict
            yield verdict
    finally:
        with contextlib.suppress(Empty):
            while True:
                todo.get_nowait()
        for _ in threads:
            todo.put(None)
        for thread in threads:
            thread.join()


def _judge_each(
    todo: SimpleQueue[tuple[int, Item] | None], judged: SimpleQueue[tuple[int, Verdict | BaseException]], limits: Limits
) -> None:
    """Judge what is to do until that is None."""
    while given := todo.get():
        n, item = given
        try:
            verdict = judge(item.problem, item.text, limits, is_program=item.is_program, candidate=item.name)
            judged.put((n, verdict))
        except BaseException as e:  # told to the caller, who would wait for ever
            judged.put((n, e))


def check_unscored(verdicts: Iterable[Verdict], most: float) -> None:
    """Raise Unavailable when more than the share `most` (and more than one) of `verdicts` is our own failure."""
    verdicts = list(verdicts)
    lost = [v for v in verdicts if v.status == "unscored"]
    if len(lost) > max(1, most * len(verdicts)):
        why = Counter(v.detail for v in lost).most_common(1)[0][0]
        raise Unavailable(
            f"{len(lost)} of {len(verdicts)} verdicts are unscored, allowed {most:.0%}; most often: {why}"
        )


def execute(problem: Problem, reply: str, limits: Limits, *, is_program: bool = False) -> Execution:
    """Run the program in `reply` without judging it; looks at no gold and never raises for anything in `reply`."""
    start = time.monotonic()
    program = None
    try:
        family = families.get(problem.family)
        families.needs(problem, family.Environment)
        program = _program(family, reply, is_program)
        ran = family.run(program, problem, limits)
    except Exception as e:  # as in `judge`
        status, detail = _explain(e, problem)
        level = getattr(e, "isolation", "none")
        return Execution(status, program, None, detail[:MAX_TEXT], time.monotonic() - start, level)
    done = ran.value is not None
    return Execution(
        "ran" if done else "error", program, ran.value, ran.detail[:MAX_TEXT], time.monotonic() - start, ran.isolation
    )


def _judge(problem: Problem, reply: str, limits: Limits, found: dict[str, Any], is_program: bool) -> None:
    """Fill `found` step by step, so that what was known before a failure is kept."""
    family = families.get(problem.family)
    found["verifier"] = f"{problem.family}@{family.VERSION}"
    families.needs(problem, family.Environment)
    found["program"] = program = _program(family, reply, is_program)
    found["canonical"] = content_id(problem.family, family.canonical(program))
    result = family.score(program, problem, limits)
    accepted = result.score >= 1.0
    found |= {"status": "accepted" if accepted else "rejected", "score": min(1.0, max(0.0, result.score))}
    found["measure"] = result.score if result.measure is None else result.measure
    found |= {"value": result.value and result.value[:MAX_TEXT], "isolation": result.isolation}


def _program(family: families.Family, reply: str, is_program: bool = False) -> str:
    if len(reply) > MAX_CHARS:
        raise LimitExceeded(f"the reply has {len(reply)} characters; at most {MAX_CHARS} are judged")
    text = reply.encode(errors="replace").decode()
    program = text.replace("\r\n", "\n").strip() if is_program else family.program_of(text)
    if not program:
        raise Unparsable("the reply holds no program")
    return program


def _explain(e: Exception, problem: Problem) -> tuple[Failure, str]:
    """Say whose failure it was: ours, unless the exception is one of the program's."""
    match e:
        case Unparsable():
            return "unparsable", str(e)
        case TimedOut():
            return "timeout", str(e)
        case LimitExceeded():
            return "resource", str(e)
    logger.warning("unscored problem=%s family=%s reason=%r", problem.id, problem.family, e)
    return "unscored", f"{type(e).__name__}: {e}"
