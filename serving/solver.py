"""The model behind KServe's protocols: k programs are sampled for a question, each is run, their values are voted on.

    POST /v1/models/symbol-llm:predict  {"instances": [{"question": "...", "task": "word_problems", "k": 5}]}

It has no gold and calls nothing right or wrong: `vote.py` says what the programs agree on, `verify.execute` runs them.
One thread generates for all requests (`sampler.py`); programs run beside it, and the event loop stays free for probes.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import kserve
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import errors as http
from kserve.model_server import app
from prometheus_client import Counter, Gauge
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from serving import programs, tensors, tracing
from serving.callers import Callers
from serving.canary import End, Trial, Turn, both
from serving.guard import Guard, fault
from serving.lanes import Lane, Lanes
from serving.programs import Ask, Overloaded, Run
from serving.sampler import Sampler
from serving.source import Source
from serving.vote import Answer, vote
from symbol_llm import families, tasks
from symbol_llm.engines import Engine, Request, Sampling
from symbol_llm.engines.prompts import messages
from symbol_llm.engines.rollout import Asked
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable
from symbol_llm.ground.files import explain
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging import verify

log = logging.getLogger(__name__)

TEMPERATURE = 0.7  # as in self-consistency (Wang et al., 2022, section 3.1)
B = TypeVar("B", bound=BaseModel)
REFUSALS = (http.InvalidInput, http.ModelNotFound, http.ModelNotReady, http.NoModelReady, http.ServerNotReady)
"""What KServe logs with a stack, and is no fault: a probe of a server that waits for a model asks every few seconds."""

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
    whole: bool = False
    """Run all `k` programs, even where those that have run decide the vote."""


class Body(BaseModel):
    """The body of a predict call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    instances: tuple[Instance, ...] = Field(min_length=1, max_length=16, strict=False)


class Settings(BaseModel):
    """What holds for every question.

    `n_waiting`: requests held at once, those whose programs are running included, before more are refused with 503.
    `deadline_s`: seconds after which a request is given up and answered with 504.
    `follow_s`: seconds between two looks at where the weights come from; 0 looks at the start alone.
    `repair`: have programs repaired once, by what running them gave, where none for a question gives a value.
    `canary`: share of requests that new weights answer while they are on trial; 0: they are taken at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "symbol-llm"
    task: str = "word_problems"
    k: int = Field(default=5, ge=1, le=32)
    shots: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=96, ge=1)
    repair: bool = True
    n_waiting: int = Field(default=16, ge=1)
    deadline_s: float = Field(default=120.0, gt=0)
    follow_s: float = Field(default=15.0, ge=0)
    canary: float = Field(default=0.0, ge=0, le=1)
    seed: int = 0
    limits: Limits = Limits()


class New(NamedTuple):
    """Weights that are not served yet: what their source calls them, and the folder they lie in."""

    name: str
    place: Path


class Solver(kserve.Model):  # type: ignore[misc]
    """The served model. Nothing is loaded before `begin`."""

    def __init__(self, settings: Settings, start: Callable[[Path], Engine], source: Source) -> None:
        """Check the default task, load nothing."""
        super().__init__(settings.name)
        tasks.get(settings.task)
        self.settings = settings
        self.serves: str | None = None
        """What `source` calls the weights that are served."""
        self.data: dict[str, str] = {}
        """What `source` knows of the data behind the weights that are served or on trial, by what it calls them."""
        self.trouble = ""
        """Why other weights are not served, where there are some."""
        self._place: Path | None = None
        self._refused: str | None = None
        self.trial: Trial | None = None
        """The trial of new weights that began last."""
        self.sampler = Sampler()
        self._second = Sampler() if settings.canary else None
        """Holds the engine of weights on trial."""
        self._start = start
        self._source = source
        self._running = Lanes(verify.workers())
        self._n_waiting = 0

    def look(self) -> None:
        """Take the weights that `source` has now, if they are others: between two batches, so that no request fails.

        Weights that do not load or give no token are tried once, and what was served before is put back. With a canary, other
        weights than those served are put on trial first, and a trial that was decided is ended.
        """
        if new := self._new():
            self._go_on_with(new)

    def begin(self) -> None:
        """Look for the first time, and from then on every `follow_s` in a thread of its own.

        Where an alias names weights that are not handed over, because they were altered or are not signed or the store is away, the
        server waits for others, and says so to who asks: a process that ended would be started again, and end again. What else is
        wrong is raised, and so is this where nobody would look again.
        """
        try:
            new = self._new()
        except (InvalidInput, Unavailable) as e:
            if not (self.settings.follow_s and self._source.may_change):
                raise
            self._tell(e)
            new = None
        if new:
            self._go_on_with(new)
        if self.settings.follow_s:
            threading.Thread(target=self.follow, name="follow", daemon=True).start()

    def _new(self) -> New | None:
        """Return weights that `source` has now and that are not served; a trial that was decided is ended."""
        found = self._source.now()
        if self.trial and self.trial.state == "running":
            if found == self.trial.name and not self.trial.says:
                return None
            self._end(self.trial, found)
        if found == self.serves:
            self._refused, self.trouble = None, ""
        if found is None or found in (self.serves, self._refused):
            return None
        new = New(found, self._source.fetch())
        self.data = {name: known for name, known in self.data.items() if name == self.serves} | {found: self._data()}
        return new

    def _data(self) -> str:
        """Return what `source` knows of the data; empty where it cannot say, which is no reason not to serve."""
        try:
            return self._source.data()
        except SymbolLLMError as e:
            log.warning("nothing is known of the data: %s", e)
            return ""

    def _go_on_with(self, new: New) -> None:
        """Serve `new`, or put it on trial; what does not load or gives no token is raised, and not tried again."""
        try:
            if self._second and self.serves:
                self._second.call(partial(self._load, self._second, new.place)).result()
                self.trial = Trial(new.name, self.serves, self.settings.canary, new.place)
                log.info("model %s: %s is on trial", self.name, new.name)
                return
            self.sampler.call(partial(self._take, new.place, self._place)).result()
        except Exception:
            self._refused = new.name if self._place else None
            raise
        self._took(new.name, new.place)

    def _took(self, found: str, place: Path) -> None:
        self.serves, self._place, self._refused, self.trouble = found, place, None, ""
        self.ready = True
        log.info("model %s is ready: %s", self.name, found)

    def _take(self, place: Path, before: Path | None) -> None:
        """Load `place`; runs in the generating thread."""
        engine = self.sampler.engine
        if engine is None:
            self._load(self.sampler, place)
            return
        try:
            engine.load(place)
            self.sampler.probe()
        except Exception:
            if before is not None:
                engine.load(before)
            raise
        self.sampler.reads = _reads(engine, place)

    def _load(self, sampler: Sampler, place: Path) -> None:
        """Give `sampler` an engine of its own on `place`; runs in its thread."""
        engine = self._start(place)
        sampler.take(engine, _reads(engine, place))
        try:
            sampler.probe()
        except Exception:
            sampler.take(None)
            engine.close()
            raise

    def _end(self, trial: Trial, found: str | None) -> None:
        """End `trial` as it was decided, or because the source has others by now; its engine goes on or goes."""
        state: End = "overtaken"
        if found == trial.name:
            state = "kept" if trial.says == "kept" else self._put_back(trial)
        engine: Engine | None = None
        if self._second:
            engine = self._second.call(partial(self._second.take, None)).result()
            if state == "kept":
                engine = self.sampler.call(partial(self.sampler.take, engine, _reads(engine, trial.place))).result()
                self._took(trial.name, trial.place)
        trial.end(state)
        log.info("model %s: %s %s: %s", self.name, trial.name, state, trial.words())
        if engine:  # last, since the trial is over whether or not it closes well
            engine.close()

    def _put_back(self, trial: Trial) -> End:
        """Have the source name the old weights again; where it cannot, they are served all the same."""
        self._refused = trial.name
        try:
            self._source.put_back(trial.against, trial.name, trial.words())
        except Exception as e:  # a registry that is away, or may not be written
            self.trouble = f"still serving {self.serves}: {trial.name} did worse, {trial.words()}; not rolled back: {e}"
            log.warning("%s", self.trouble)
            return "not rolled back"
        return "rolled back"

    def follow(self) -> None:
        """Look for other weights every `follow_s` until the process ends; what goes wrong is logged once, and tried again."""
        while True:
            time.sleep(self.settings.follow_s)
            try:
                self.look()
            except Exception as e:  # the registry may be away for a while, a version may be broken
                self._tell(e)

    def _tell(self, error: Exception) -> None:
        """Remember what is in the way of the weights that should be served, and log it unless that was done."""
        what = f"still serving {self.serves}" if self.serves else "no model is served"
        before, self.trouble = self.trouble, f"{what}: {error}"
        if self.trouble != before:
            log.warning("%s", self.trouble)

    def why_not(self) -> str | None:
        """Return why no question is answered now, in words; None if they are."""
        if self.sampler.is_broken:
            return "the engine is broken; the server has to be started again"
        if self.serves is None:
            return self.trouble or "no champion yet: nothing has passed the gate; it is served as soon as there is one"
        return None

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Return an answer an instance, in order; HTTP 400 on bad input, 503 if too many wait or the engine is down.

        `payload` is the body of a v1 call, or a request of v2, which is answered in its own form.
        """
        asks = self.read(tensors.instances(payload) if isinstance(payload, kserve.InferRequest) else payload)
        turn = self.turn()
        async with contextlib.aclosing(self.run(asks, turn)) as runs:
            ran = [run async for run in runs]
        answers = [self.answer(ask, ran) for ask in asks]
        if isinstance(payload, kserve.InferRequest):
            return tensors.response(payload, answers, self.name)
        return {"predictions": [answer.model_dump() for answer in answers]}

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the tensors that v2 takes."""
        return tensors.described(tensors.TEXTS, tensors.NUMBERS)

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the tensors that v2 gives."""
        return tensors.described(tensors.SAID, tensors.COUNTED)

    def read(self, payload: Any) -> list[Ask]:
        """Return what is asked; HTTP 400 says what is wrong with it."""
        request = parsed(Body, payload)
        try:
            return [self.ask(instance) for instance in request.instances]
        except InvalidInput as e:
            raise http.InvalidInput(str(e)) from e

    def ask(self, instance: Instance) -> Ask:
        """Return `instance` as the model is asked; InvalidInput for an unknown task or a script where none belongs."""
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
        prompt = messages(problem, task.shots[: self.settings.shots])
        return Ask(problem, prompt, instance.k or self.settings.k, instance.whole)

    def check_room(self) -> None:
        """Raise what is answered with HTTP 503 if there is no place for a request."""
        if self._n_waiting >= self.settings.n_waiting:
            raise Overloaded(
                f"{self._n_waiting} requests wait already, the most this server holds; try again in a moment"
            )

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for a request; HTTP 503 if there is none."""
        self.check_room()
        self._n_waiting += 1
        try:
            with WAITING.track_inprogress():
                yield
        finally:
            self._n_waiting -= 1

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """Give a lane to run programs in, for a request that holds a place; what has not begun at the end is given up."""
        with self.place(), self._own_lane() as lane:
            yield lane

    @contextmanager
    def _own_lane(self) -> Iterator[Lane]:
        lane = self._running.lane()
        try:
            yield lane
        finally:
            lane.close()

    def turn(self) -> Turn:
        """Return who answers the next request: the weights that are served, or in a trial sometimes those on trial."""
        trial = self.trial
        if trial and trial.takes_part and len(trial.shadows) < self.settings.n_waiting:
            by_new = trial.next_is_new()
            return Turn(trial.name if by_new else trial.against, trial, by_new)
        return Turn(self.serves)

    async def run(self, asks: Sequence[Ask], turn: Turn) -> AsyncGenerator[Run, None]:
        """Yield each program as it has run, see `programs.run`. In a trial that `turn` is of, all programs of both weights are."""
        with self.place():
            runs = self._run(asks, self.sampler)
            if turn.trial and self._second:
                whole = [ask._replace(whole=True) for ask in asks]
                old, new = (partial(self._run, whole, sampler) for sampler in (self.sampler, self._second))
                runs = both(turn.trial, turn, [a.problem.id for a in asks], old, new, self.settings.deadline_s)
            async with contextlib.aclosing(runs):
                async for one in runs:
                    yield one

    async def _run(self, asks: Sequence[Ask], sampler: Sampler) -> AsyncGenerator[Run, None]:
        """Yield as `run` what the weights of `sampler` give."""
        try:
            with self._own_lane() as lane:
                ran: list[Run] = []
                first = programs.run(asks, self._asked(asks), sampler, lane, self.settings.limits)
                async with contextlib.aclosing(first):
                    async for one in first:
                        ran.append(one)
                        yield one
                if self.settings.repair and (failed := programs.failed(ran)):
                    how = Sampling(1, TEMPERATURE, 1.0, self.settings.max_tokens)
                    seed, limits = self.settings.seed, self.settings.limits
                    repairs = programs.repaired(asks, failed, how, seed, sampler, lane, limits)
                    async with contextlib.aclosing(repairs):
                        async for one in repairs:
                            yield one
        finally:
            self.ready = self.ready and not self.sampler.is_broken

    def _asked(self, asks: Sequence[Ask]) -> list[Asked]:
        """Return the greedy reply of each problem and its k - 1 sampled ones as requests; of equal problems the largest k."""
        largest = {ask.problem.id: ask for ask in sorted(asks, key=lambda ask: ask.k)}
        asked = [self._request(list(largest.values()), 1, 0.0)]
        for k in sorted({ask.k for ask in largest.values()} - {1}):
            asked.append(self._request([ask for ask in largest.values() if ask.k == k], k - 1, TEMPERATURE))
        return asked

    def _request(self, asks: Sequence[Ask], n: int, temperature: float) -> Asked:
        sampling = Sampling(n, temperature, 1.0, self.settings.max_tokens)
        request = Request([ask.prompt for ask in asks], sampling, self.settings.seed)
        return Asked(request, [ask.problem for ask in asks], [int(temperature > 0)] * len(asks))

    def answer(self, ask: Ask, runs: Sequence[Run]) -> Answer:
        """Return what goes out for `ask`, which is counted: the vote on those of `runs` that are for it."""
        answer = self.voted(ask, runs)
        ANSWERS.labels(answer.status).inc()
        return answer

    def voted(self, ask: Ask, runs: Sequence[Run]) -> Answer:
        """Put the values of those of `runs` that are for `ask` to the vote."""
        mine = sorted(run for run in runs if run.problem == ask.problem.id)
        repairs = {run.repairs: run for run in mine if run.repairs is not None}
        last = [repairs.get(run.place, run) for run in mine if run.repairs is None and run.place < ask.k]
        answer = vote([run.execution for run in last], ask.k)
        if repairs and answer.answer is not None:
            answer = answer.model_copy(update={"repaired": True})
        return answer


def _reads(engine: Engine, place: Path) -> int:
    """Return how many tokens `engine` reads at most with the weights in `place`, the reply included; 0 where they do not say."""
    config = place / "config.json"
    said = files.read_json(config).get("max_position_embeddings") if config.is_file() else None
    known = [n for n in (said, engine.reads) if isinstance(n, int) and n > 0]
    return min(known, default=0)


def parsed(kind: type[B], payload: Any) -> B:
    """Return `payload`, bytes or what JSON means, as `kind`; HTTP 400 names the field that is wrong."""
    validate = kind.model_validate_json if isinstance(payload, bytes) else kind.model_validate
    try:
        return validate(payload)
    except ValidationError as e:
        raise http.InvalidInput(_fault_of(e)) from e


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of a body that is read by `parsed`, which FastAPI does not see."""
    schema = kind.model_json_schema()
    defined = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, dict):
            named = defined.get(str(part.get("$ref", "")).rpartition("/")[2])
            return inlined(named) if named else {key: inlined(value) for key, value in part.items()}
        return [inlined(one) for one in part] if isinstance(part, list) else part

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(schema)}}}}


def _fault_of(error: ValidationError) -> str:
    """Return the first fault in a line; what is wrong with the whole is not shown, since that is all that was sent."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"the body is no JSON: {first['ctx']['error']}"
    if first["type"] == "value_error" and not first["loc"]:
        return str(first["ctx"]["error"])
    return explain(error, "body")


async def _unreadable(_: Any, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"the body cannot be read: {error}"}, 400)


async def _unfit(request: Any, error: RequestValidationError) -> JSONResponse:
    """Answer for a body that KServe's v2 does not take; what was sent is not repeated, which may be no JSON."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:] if not isinstance(part, int)) or "body"
    why = first.get("ctx", {}).get("error", "") if first["type"] == "json_invalid" else ""
    said = f"the body is no JSON: {why}" if why else f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return JSONResponse(fault(request.url.path, 400, said), 400)


async def _refused(request: Any, error: HTTPException) -> JSONResponse:
    """Answer for a path or a method that there is not."""
    said = f"{request.method} {request.url.path}: {str(error.detail)[:1].lower()}{str(error.detail)[1:]}"
    return JSONResponse(fault(request.url.path, error.status_code, said), error.status_code, headers=error.headers)


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether KServe's `record` is more than the stack of a refusal, which repeats what was asked; the guard logs those."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (*REFUSALS, NotImplementedError))


def serve(
    solver: Solver, port: int, callers: Callers, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Look for weights, then answer `callers` on `port` until SIGTERM; requests under way are finished first.

    With a `certificate` and its `key`, over TLS; both are read again when they change.
    """
    from serving import api

    tracing.start()
    solver.begin()
    for name in ("uvicorn.access", "kserve.trace"):  # the guard writes a line a request
        logging.getLogger(name).disabled = True
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would write a line for each reply of an endpoint
    logging.getLogger("kserve").addFilter(_is_ours)
    app.include_router(api.routes(solver))
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _refused)
    for torn in (struct.error, UnicodeDecodeError):  # what KServe makes of a binary tensor that is not whole
        app.add_exception_handler(torn, _unreadable)
    app.add_middleware(Guard, deadline_s=solver.settings.deadline_s, why_not=solver.why_not, callers=callers)
    tls = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)} if certificate and key else {}
    server = kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, grace_period=30, **tls)
    server.register_model(solver)  # `start` refuses models that are not ready yet
    server.start([])
