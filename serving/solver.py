"""The model behind KServe's v1 protocol: k programs are sampled for a question, each is run, their values are voted on.

    POST /v1/models/symbol-llm:predict  {"instances": [{"question": "...", "task": "word_problems", "k": 5}]}

It has no gold and calls nothing right or wrong: `vote.py` says what the programs agree on, `verify.execute` runs them.
One thread generates, so that the event loop stays free for probes; programs run beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import kserve
from kserve import errors as http
from prometheus_client import Counter, Gauge
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.vote import Answer, vote
from symbol_llm import families, tasks
from symbol_llm.engines import Engine
from symbol_llm.engines.prompts import messages
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.ground.files import explain
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Messages, Problem
from symbol_llm.judging import verify

log = logging.getLogger(__name__)

TEMPERATURE = 0.7  # as in self-consistency (Wang et al., 2022, section 3.1)
PROBE: Messages = [{"role": "user", "content": "1 + 1 ="}]

VERDICTS = Counter("symbol_llm_verdicts", "Programs run, by verdict", ["status"])
ANSWERS = Counter("symbol_llm_answers", "Questions answered, by status", ["status"])
WAITING = Gauge("symbol_llm_waiting", "Requests that wait for the model or are being generated")


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


class Request(BaseModel):
    """The body of a predict call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    instances: tuple[Instance, ...] = Field(min_length=1, max_length=16, strict=False)


class Settings(BaseModel):
    """What holds for every question. `n_waiting`: requests held at once before more are refused with 503."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "symbol-llm"
    task: str = "word_problems"
    k: int = Field(default=5, ge=1, le=32)
    shots: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=96, ge=1)
    n_waiting: int = Field(default=16, ge=1)
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
        self._n_waiting = 0

    def load(self) -> bool:
        """Open the engine and generate one token; only then is the model ready."""
        self._engine: Engine = self._start()
        self._generate([PROBE], n=1, temperature=0.0, max_tokens=1)
        self.ready = True
        log.info("model %s is ready", self.name)
        return self.ready

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> dict[str, Any]:
        """Return an answer an instance, in order; HTTP 400 on bad input, 503 if too many wait or the engine is down."""
        asks = self._read(payload)
        with self._place():
            loop = asyncio.get_running_loop()
            try:
                replies = await loop.run_in_executor(self._generating, self._sample, asks)
            except InvalidInput as e:
                raise http.InvalidInput(str(e)) from e
            except SymbolLLMError as e:
                raise Overloaded(str(e)) from e
        answers = await asyncio.gather(
            *(self._answer(ask.problem, texts) for ask, texts in zip(asks, replies, strict=True))
        )
        return {"predictions": [answer.model_dump() for answer in answers]}

    def _read(self, payload: Any) -> list[Ask]:
        validate = Request.model_validate_json if isinstance(payload, bytes) else Request.model_validate
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

    def _sample(self, asks: Sequence[Ask]) -> list[list[str]]:
        """Return k replies an ask: the greedy one first, then the sampled ones."""
        prompts = [ask.prompt for ask in asks]
        replies = [texts[:1] for texts in self._generate(prompts, n=1, temperature=0.0)]
        for k in sorted({ask.k for ask in asks} - {1}):
            rows = [i for i, ask in enumerate(asks) if ask.k == k]
            sampled = self._generate([prompts[i] for i in rows], n=k - 1, temperature=TEMPERATURE)
            for i, texts in zip(rows, sampled, strict=True):
                replies[i] += texts
        return replies

    def _generate(
        self, prompts: Sequence[Messages], *, n: int, temperature: float, max_tokens: int = 0
    ) -> list[list[str]]:
        settings = self.settings
        try:
            drawn = self._engine.generate(
                prompts,
                n=n,
                temperature=temperature,
                top_p=1.0,
                max_tokens=max_tokens or settings.max_tokens,
                seed=settings.seed,
            )
        except SymbolLLMError:
            raise
        except Exception:
            # A broken engine keeps raising: not ready, it is taken out of the Service, then liveness starts it afresh.
            self.ready = prompts != [PROBE] and self._gives_a_token()
            raise
        return [[completion.text for completion in completions] for completions in drawn]

    def _gives_a_token(self) -> bool:
        try:
            self._generate([PROBE], n=1, temperature=0.0, max_tokens=1)
        except Exception:
            log.exception("the engine of %s gives no token any more", self.name)
            return False
        return True

    async def _answer(self, problem: Problem, replies: Sequence[str]) -> Answer:
        """Run each distinct reply once and put the values to the vote."""
        distinct = list(dict.fromkeys(replies))
        runs = (asyncio.to_thread(verify.execute, problem, reply, self.settings.limits) for reply in distinct)
        executions = dict(zip(distinct, await asyncio.gather(*runs), strict=True))
        for reply in replies:
            VERDICTS.labels(executions[reply].status).inc()
        answer = vote([executions[reply] for reply in replies])
        ANSWERS.labels(answer.status).inc()
        return answer


def serve(solver: Solver, port: int) -> None:
    """Load `solver`, then answer on `port` until SIGTERM; requests under way are finished first."""
    solver.load()
    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, grace_period=30).start([solver])
