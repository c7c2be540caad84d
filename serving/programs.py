"""The programs for the questions of a request: run as they are written, given up once the votes are decided, repaired once.

Where no program of a question gives a value, each that could be run is shown to the model again with what came of it, as in the
repair rows that it was tuned on (ENVISIONS, self-refine), and its repair is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections import Counter as Count
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import chain
from typing import NamedTuple

from kserve import errors as http
from prometheus_client import Counter, Histogram

from serving import tracing
from serving.sampler import Job, Sampler
from serving.vote import is_decided
from symbol_llm.engines import Request, Sampling, Written
from symbol_llm.engines.prompts import feedback, repair_messages
from symbol_llm.engines.rollout import Asked, Judging, Pending
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Messages, Problem, Status
from symbol_llm.judging import verify
from symbol_llm.judging.verify import Execution

log = logging.getLogger(__name__)

VERDICTS = Counter("symbol_llm_verdicts", "Programs run, by notation and verdict", ["family", "status"])
TOKENS = Counter("symbol_llm_tokens", "Tokens sampled")
SECONDS = Histogram(
    "symbol_llm_seconds", "Seconds of a request in the queue, at the engine, and of each program run", ["part"]
)


class Ask(NamedTuple):
    """A question ready for the model."""

    problem: Problem
    prompt: Messages
    k: int
    whole: bool = False
    """Whether all `k` programs are run, even where the vote is decided before."""


class Run(NamedTuple):
    """What came of program number `place` of those for `problem`; the greedy one is number 0, and repairs come last."""

    problem: str
    place: int
    execution: Execution
    repairs: int | None = None
    """The number of the program that it repairs."""


class Overloaded(http.ServerNotReady):  # type: ignore[misc]
    """Answered with HTTP 503: too many requests wait, or the engine does not answer."""

    def __str__(self) -> str:
        """Return the detail alone; KServe's own text says that the server is not ready, which is not so."""
        return str(self.args[0])


async def run(
    asks: Sequence[Ask], asked: Sequence[Asked], sampler: Sampler, lane: Executor, limits: Limits
) -> AsyncGenerator[Run, None]:
    """Yield each program of `asked` as it has run in `lane`, until all have or the vote on each of `asks` is decided.

    Nothing more is sampled once the generator is closed, and no program is begun. HTTP 400 and 503 as the engine raises.
    """
    loop, came = asyncio.get_running_loop(), asyncio.Queue[Run | None]()
    running, n_running, votes = defaultdict[str, list[asyncio.Task[None]]](list), Count[str](), _Votes(asks)
    judging = Judging(partial(verify.execute, limits=limits), lane)
    context = contextvars.copy_context()  # the span of the request, which the generating thread does not know

    def take(written: Written) -> None:
        for pending in judging.take(asked[written.request], written.place, [written.completion], written.nth):
            loop.call_soon_threadsafe(hear, pending, context=context)

    def hear(pending: Pending[Execution]) -> None:
        if pending.problem.id not in votes.decided:
            n_running[pending.problem.id] += 1
            running[pending.problem.id].append(loop.create_task(outcome(pending)))

    async def outcome(pending: Pending[Execution]) -> None:
        family = pending.problem.family
        with tracing.span("run", {"symbol_llm.family": family}) as span:
            execution = await asyncio.wrap_future(pending.verdict)
            span.set_attributes({"symbol_llm.status": execution.status, "symbol_llm.seconds": execution.seconds})
        VERDICTS.labels(family, execution.status).inc()
        SECONDS.labels("run").observe(execution.seconds)
        came.put_nowait(Run(pending.problem.id, pending.index, execution))

    job = Job([a.request for a in asked], take)
    sampling = asyncio.ensure_future(sampled(job, sampler))
    sampling.add_done_callback(lambda _: came.put_nowait(None))
    try:
        while not votes.are_decided and (n_running or not sampling.done()):
            one = await came.get()
            if one is None:
                told(sampling)
            elif one.problem not in votes.decided:
                n_running -= Count([one.problem])
                yield one
                if votes.hear(one):
                    del n_running[one.problem]
                    job.spared |= _places(asked, one.problem)
                    for left in running.pop(one.problem):
                        left.cancel()
    finally:
        job.gone.set()
        for left in (*chain.from_iterable(running.values()), sampling):
            left.cancel()


def failed(runs: Sequence[Run]) -> list[Run]:
    """Return the programs that are worth a repair: of the problems for which none of `runs` gave a value, each program once."""
    solved = {run.problem for run in runs if run.execution.value is not None}
    seen = {
        (run.problem, run.execution.program): run
        for run in sorted(runs, reverse=True)
        if run.problem not in solved and run.execution.program and run.execution.status != "unscored"
    }
    return sorted(seen.values())


async def repaired(
    asks: Sequence[Ask], runs: Sequence[Run], how: Sampling, seed: int, sampler: Sampler, lane: Executor, limits: Limits
) -> AsyncGenerator[Run, None]:
    """Yield a repair of each of `runs`, which failed, as `run` does; none if the model cannot read the prompts."""
    problems = {ask.problem.id: ask.problem for ask in asks}
    whole = {ask.problem.id for ask in asks if ask.whole}
    chats = [repair_messages(problems[r.problem], r.execution.program or "", _told_of(r.execution)) for r in runs]
    counts = Count(run.problem for run in runs)
    again = [Ask(problems[problem], [], n, problem in whole) for problem, n in counts.items()]
    nth = [sum(other.problem == r.problem for other in runs[:n]) for n, r in enumerate(runs)]
    origins = {(r.problem, n): r.place for r, n in zip(runs, nth, strict=True)}
    n_first = max(ask.k for ask in asks)
    asked = Asked(Request(chats, how, seed), [problems[r.problem] for r in runs], nth)
    try:
        async with contextlib.aclosing(run(again, [asked], sampler, lane, limits)) as repairs:
            async for one in repairs:
                yield one._replace(place=n_first + one.place, repairs=origins[one.problem, one.place])
    except http.InvalidInput as e:
        log.info("no repair: %s", e)


def _told_of(execution: Execution) -> str:
    """Return what the repair prompt says of a program that failed."""
    as_judged: dict[str, Status] = {"unparsable": "unparsable", "timeout": "timeout", "resource": "resource"}
    return feedback(as_judged.get(execution.status, "rejected"), execution, "message")


async def sampled(job: Job, sampler: Sampler) -> None:
    """Have `job` generated; raises what the engine raises. How long it waited and took is counted, also where it is given up."""
    asked = time.monotonic()
    try:
        await asyncio.wrap_future(sampler.sample(job))
    finally:
        if job.began:
            ended = time.monotonic()
            SECONDS.labels("queue").observe(job.began - asked)
            SECONDS.labels("generate").observe(ended - job.began)
            tracing.past("queue", asked, job.began)
            tracing.past("generate", job.began, ended, **{"gen_ai.usage.output_tokens": job.n_tokens})
        TOKENS.inc(job.n_tokens)


class _Votes:
    """The votes on some questions, as far as they are cast."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self._asks = defaultdict[str, list[Ask]](list)
        for ask in asks:
            self._asks[ask.problem.id].append(ask)
        self._ran = defaultdict[str, list[Run]](list)
        self.decided: set[str] = set()
        """The problems on which no further vote can change anything."""

    @property
    def are_decided(self) -> bool:
        return len(self.decided) == len(self._asks)

    def hear(self, run: Run) -> bool:
        """Count `run`; return whether that decides its problem."""
        self._ran[run.problem].append(run)
        if all(self._is_decided(ask) for ask in self._asks[run.problem]):
            self.decided.add(run.problem)
        return run.problem in self.decided

    def _is_decided(self, ask: Ask) -> bool:
        mine = [run.execution for run in self._ran[ask.problem.id] if run.place < ask.k]
        return len(mine) == ask.k or (not ask.whole and is_decided(mine, ask.k))


def _places(asked: Sequence[Asked], problem: str) -> set[tuple[int, int]]:
    """Return where `problem` is asked, by request and place."""
    return {(n, place) for n, a in enumerate(asked) for place, p in enumerate(a.problems) if p.id == problem}


def told(sampling: asyncio.Future[None]) -> None:
    """Raise what the engine raised, as an answer in HTTP."""
    try:
        sampling.result()
    except InvalidInput as e:
        raise http.InvalidInput(str(e)) from e
    except SymbolLLMError as e:
        raise Overloaded(str(e)) from e
