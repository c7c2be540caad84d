"""The model behind KServe's v1 protocol: k programs are sampled for a question, each is run, their values are voted on.

    POST /v1/models/symbol-llm:predict  {"instances": [{"question": "...", "task": "word_problems", "k": 5}]}

It has no gold and calls nothing right or wrong: `vote.py` says what the programs agree on, `verify.execute` runs them.
One thread generates, so that the event loop stays free for probes; programs run beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import kserve
from kserve import errors as http
from kserve.model_server import app
from prometheus_client import Counter, Gauge
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.guard import Guard
from serving.lanes import Lane, Lanes
from serving.vote import Answer, vote
from symbol_llm import families, tasks
from symbol_llm.engines import Engine, Request, Sampling
from symbol_llm.engines.prompts import messages
from symbol_llm.engines.rollout import Asked, submit
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.ground.files import explain
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Messages, Problem
from symbol_llm.judging import verify
from symbol_llm.judging.verify import Execution

log = logging.getLogger(__name__)

TEMPERATURE = 0.7  # as in self-consistency (Wang et al., 2022, section 3.1)
PROBE: Messages = [{"role": "user", "content": "1 + 1 ="}]

VERDICTS = Counter("symbol_llm_verdicts", "Programs run, by verdict", ["status"])
ANSWERS = Counter("symbol_llm_answers", "Questions answered, by status", ["status"])
WAITING = Gauge("symbol_llm_waiting", "Requests that are held: waiting, being generated, or with programs running")


class Instance(BaseModel):
    """One question. Lengths are in characters."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    question: str = Field(min_length=1, max_length=4_000, pattern=r"\S")
    task: str | None = None
    """None: the task given at start."""
    context: str = Field(default="", max_length=16_000)
    script: str = Field(default="", max_length=16_000)
    """SQL that makes the database; needed by tasks in SQL, shown to the model where no context is given."""
    k: int | None = Field(default=None, ge=1, le=32)
    """Programs sampled; None: the number given at start."""


class Body(BaseModel):
    """The body of a predict call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    instances: tuple[Instance, ...] = Field(min_length=1, max_length=16, strict=False)


class Settings(BaseModel):
    """What holds for every question.

    `n_waiting`: requests held at once, those whose programs are running included, before more are refused with 503.
    `deadline_s`: seconds after which a request is given up and answered with 504.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "symbol-llm"
    task: str = "word_problems"
    k: int = Field(default=5, ge=1, le=32)
    shots: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=96, ge=1)
    n_waiting: int = Field(default=16, ge=1)
    deadline_s: float = Field(default=120.0, gt=0)
    seed: int = 0
    limits: Limits = Limits()


class Ask(NamedTuple):
    """A question ready for the model."""

    problem: Problem
    prompt: Messages
    k: int


class Overloaded(http.ServerNotReady):  # type: ignore[misc]
    """Answered with HTTP 503: too many requests wait, or the engine does not answer."""

    def __str__(self) -> str:
        """Return the detail alone; KServe's own text says that the server is not ready, which is not so."""
        return str(self.args[0])


class Solver(kserve.Model):  # type: ignore[misc]
    """The served model. `start` opens the engine; it is called by `load`, not before."""

    def __init__(self, settings: Settings, start: Callable[[], Engine]) -> None:
        """Check the default task, load nothing."""
        super().__init__(settings.name)
        tasks.get(settings.task)
        self.settings = settings
        self._start = start
        self._generating = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generate")
        self._running = Lanes(verify.workers())
        self._n_waiting = 0

    def load(self) -> bool:
        """Open the engine and generate one token; only then is the model ready."""
        self._engine: Engine = self._start()
        self._probe()
        self.ready = True
        log.info("model %s is ready", self.name)
        return self.ready

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> dict[str, Any]:
        """Return an answer an instance, in order; HTTP 400 on bad input, 503 if too many wait or the engine is down."""
        asks = self._read(payload)
        lane, gone = self._running.lane(), threading.Event()
        with self._place():
            loop = asyncio.get_running_loop()
            try:
                runs = await loop.run_in_executor(self._generating, self._sample, asks, lane, gone)
                answers = await asyncio.gather(*(self._answer(runs[ask.problem.id][: ask.k]) for ask in asks))
            except InvalidInput as e:
                raise http.InvalidInput(str(e)) from e
            except SymbolLLMError as e:
                raise Overloaded(str(e)) from e
            finally:  # answered, failed or cancelled: nothing more is done for this request
                gone.set()
                lane.close()
        return {"predictions": [answer.model_dump() for answer in answers]}

    def _read(self, payload: Any) -> list[Ask]:
        validate = Body.model_validate_json if isinstance(payload, bytes) else Body.model_validate
        try:
            request = validate(payload)  # bytes: the body did not call itself JSON
        except ValidationError as e:
            raise http.InvalidInput(explain(e)) from e
        try:
            return [self._ask(instance) for instance in request.instances]
        except InvalidInput as e:
            raise http.InvalidInput(str(e)) from e

    def _ask(self, instance: Instance) -> Ask:
        task = tasks.get(instance.task or self.settings.task)
        if bool(instance.script) != ("script" in families.get(task.family).Environment.model_fields):
            raise InvalidInput(
                f"script: tasks that run on a database need one and no other takes one; {task.name!r} is in {task.family}"
            )
        problem = Problem.of(
            task=task.name,
            family=task.family,
            split="test",
            instruction=task.instruction,
            question=instance.question,
            context=instance.context or instance.script,
            environment={"script": instance.script} if instance.script else {},
            source="request",
            licence="none",
        )
        return Ask(problem, messages(problem, task.shots[: self.settings.shots]), instance.k or self.settings.k)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._n_waiting >= self.settings.n_waiting:
            raise Overloaded(
                f"{self._n_waiting} requests wait already, the most this server holds; try again in a moment"
            )
        self._n_waiting += 1
        try:
            with WAITING.track_inprogress():
                yield
        finally:
            self._n_waiting -= 1

    def _sample(self, asks: Sequence[Ask], lane: Lane, gone: threading.Event) -> dict[str, list[Future[Execution]]]:
        """Return the runs of each problem's replies, under way: the greedy reply's first, then k - 1 sampled ones'.

        Nothing more is sampled once the request is `gone`.
        """
        largest = {ask.problem.id: ask for ask in sorted(asks, key=lambda ask: ask.k)}
        asked = [self._asked(list(largest.values()), 1, 0.0)]
        for k in sorted({ask.k for ask in largest.values()} - {1}):
            asked.append(self._asked([ask for ask in largest.values() if ask.k == k], k - 1, TEMPERATURE))
        execute = partial(verify.execute, limits=self.settings.limits)
        runs: dict[str, list[tuple[int, Future[Execution]]]] = {name: [] for name in largest}
        try:
            with contextlib.closing(submit(asked, self._engine, execute, lane)) as replies:
                for reply in itertools.takewhile(lambda _: not gone.is_set(), replies):
                    runs[reply.problem.id].append((reply.index, reply.verdict))
        except SymbolLLMError:
            raise
        except Exception:
            # A broken engine keeps raising: not ready, it is taken out of the Service, then liveness starts it afresh.
            self.ready = self._gives_a_token()
            raise
        return {name: [run for _, run in sorted(row, key=lambda r: r[0])] for name, row in runs.items()}

    def _asked(self, asks: Sequence[Ask], n: int, temperature: float) -> Asked:
        sampling = Sampling(n, temperature, 1.0, self.settings.max_tokens)
        request = Request([ask.prompt for ask in asks], sampling, self.settings.seed)
        return Asked(request, [ask.problem for ask in asks], [int(temperature > 0)] * len(asks))

    def _probe(self) -> None:
        self._engine.generate([PROBE], n=1, temperature=0.0, top_p=1.0, max_tokens=1, seed=0)

    def _gives_a_token(self) -> bool:
        try:
            self._probe()
        except Exception:
            log.exception("the engine of %s gives no token any more", self.name)
            return False
        return True

    async def _answer(self, runs: Sequence[Future[Execution]]) -> Answer:
        """Put the values of all runs to the vote."""
        executions = await asyncio.gather(*map(asyncio.wrap_future, runs))
        for execution in executions:
            VERDICTS.labels(execution.status).inc()
        answer = vote(executions)
        ANSWERS.labels(answer.status).inc()
        return answer


def serve(solver: Solver, port: int) -> None:
    """Load `solver`, then answer on `port` until SIGTERM; requests under way are finished first."""
    solver.load()
    app.add_middleware(Guard, deadline_s=solver.settings.deadline_s)
    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, grace_period=30).start([solver])
