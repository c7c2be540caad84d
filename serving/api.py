"""What the server answers beside KServe's own protocols: solving as it goes, judging, OpenAI's chat, the page.

POST /v1/solve                      a question; JSON, or each program as it has run (Accept: text/event-stream)
POST /v1/judge, /v1/judge/batch     replies, and what they are judged by
GET  /v1/tasks                      what may be asked, with an example each
POST /openai/v1/chat/completions    the model alone; also /openai/v1/completions, and GET /openai/v1/models
GET  /health                        200 while the process is sound, with or without a model
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from kserve import errors as http
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serving.guard import fault
from serving.sampler import Job
from serving.solver import Ask, Instance, Overloaded, Solver, parsed
from symbol_llm import engines, tasks
from symbol_llm.engines import Completion, Sampling
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.ground.records import Message, Messages
from symbol_llm.judging import rows, verify
from symbol_llm.judging.verify import Execution

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page loads nothing from elsewhere and is shown in no frame."""
MAX_JUDGED = 256
Line = Annotated[str, Field(min_length=1, max_length=16_000)]


class Judged(rows.Asked):
    """A reply, and what it is judged by."""

    reply: str | None = Field(default=None, max_length=verify.MAX_CHARS)
    program: str | None = Field(default=None, max_length=verify.MAX_CHARS)
    """In place of `reply`: judged as it is."""

    @model_validator(mode="after")
    def _is_judged_by_what_is_sent(self) -> Self:
        if (self.reply is None) == (self.program is None):
            raise ValueError("expected `reply`, or `program`, not both")
        if "database" in self.environment:
            raise ValueError("a database is a file, and files of this server are not read; send a `script`")
        return self


class Batch(BaseModel):
    """The body of a call that judges many."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[Judged, ...] = Field(min_length=1, max_length=MAX_JUDGED)


class Turn(BaseModel):
    """One turn of a chat; text alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str = Field(max_length=16_000)

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        """Join parts that are all text, as many clients send it."""
        if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
            return "".join(str(part.get("text", "")) for part in value)
        return value

    def as_message(self) -> Message:
        """Return it as chat templates know it: a developer's word is the system's."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


NOT_HEEDED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": (),
    "tools": ([],),
    "top_logprobs": (0,),
}
"""What would change a reply and is not supported, and what means that it is not asked for."""


class Drawn(BaseModel):
    """What OpenAI's protocol says of how replies are drawn, as far as it is heeded.

    What would change a reply otherwise is refused (`NOT_HEEDED`), what else clients send is ignored, and null is not sent.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = ""
    n: int = Field(default=1, ge=1, le=32)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    seed: int = 0
    stop: str | Annotated[tuple[str, ...], Field(max_length=16)] = ()
    stream: bool = False

    @model_validator(mode="before")
    @classmethod
    def _is_supported(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        said = {name: value for name, value in body.items() if value is not None}
        for name in sorted(NOT_HEEDED.keys() & said.keys()):
            value = said[name]
            if not any(
                value == none and isinstance(value, bool) == isinstance(none, bool) for none in NOT_HEEDED[name]
            ):
                raise ValueError(f"{name}: not supported; leave it out")
        return said


class Chat(Drawn):
    """The body of a chat completion."""

    messages: tuple[Turn, ...] = Field(min_length=1, max_length=64)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)


class Text(Drawn):
    """The body of a completion of texts, each of which is put to the model as the one message of a chat."""

    prompt: Line | Annotated[tuple[Line, ...], Field(min_length=1, max_length=16)]
    max_tokens: int | None = Field(default=16, ge=1, le=4096)


def routes(solver: Solver) -> APIRouter:
    """Return what the server answers for `solver`."""
    api = APIRouter(route_class=Told)
    for add in (_about, _solving, _judging, _chatting):
        add(api, solver)
    return api


def _about(api: APIRouter, solver: Solver) -> None:
    @api.get("/", include_in_schema=False)
    def page() -> Response:
        return HTMLResponse(PAGE.read_text(), headers=HEADERS)

    @api.get("/health")
    def health() -> Response:
        """Say whether the process is sound."""
        why = solver.why_not()
        body: dict[str, Any] = {"status": why or "ready", "serves": solver.serves, "trouble": solver.trouble}
        if solver.trial:
            body["canary"] = solver.trial.told()
        return JSONResponse(body, 503 if solver.sampler.is_broken else 200)

    @api.get("/v1/tasks")
    def known() -> list[dict[str, str]]:
        """List the tasks, each with its notation and a worked example."""
        return [_task(task) for task in sorted(tasks.all_tasks().values(), key=tasks.published_first)]


def _body(kind: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of a body that is read by `parsed`, which FastAPI does not see."""
    schema = kind.model_json_schema()
    defined = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, dict):
            named = defined.get(str(part.get("$ref", "")).rpartition("/")[2])
            return inlined(named) if named else {key: inlined(value) for key, value in part.items()}
        return [inlined(one) for one in part] if isinstance(part, list) else part

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(schema)}}}}


def _solving(api: APIRouter, solver: Solver) -> None:
    @api.post("/v1/solve", openapi_extra=_body(Instance))
    async def solve(request: Request) -> Response:
        """Answer one question; see `solver.Instance`."""
        try:
            ask = solver.ask(parsed(Instance, await request.body()))
        except InvalidInput as e:
            raise http.InvalidInput(str(e)) from e
        if "text/event-stream" in request.headers.get("accept", ""):
            solver.check_room()  # now that a status can be sent
            return StreamingResponse(_events(solver, ask), media_type="text/event-stream")
        async with contextlib.aclosing(_solved(solver, ask)) as events:
            return JSONResponse([body async for _, body in events][-1])


def _judging(api: APIRouter, solver: Solver) -> None:
    @api.post("/v1/judge", openapi_extra=_body(Judged))
    async def judge(request: Request) -> Response:
        """Judge one reply."""
        (verdict,) = await _judged(solver, [parsed(Judged, await request.body())])
        return JSONResponse(verdict)

    @api.post("/v1/judge/batch", openapi_extra=_body(Batch))
    async def judge_batch(request: Request) -> Response:
        """Judge up to 256 replies."""
        return JSONResponse({"verdicts": await _judged(solver, parsed(Batch, await request.body()).rows)})


class Told(APIRoute):
    """A route whose errors have the form of its protocol, in which its clients look for the reason."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which answers what is wrong itself."""
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except http.InvalidInput as e:
                status, why = 400, str(e)
            except HTTPException as e:
                status, why = e.status_code, str(e.detail)
            except (Overloaded, SymbolLLMError) as e:
                status, why = 503, str(e)
            except Exception as e:  # of whichever engine
                log.exception("a request failed")
                status, why = 500, f"{type(e).__name__}: {e}"
            return JSONResponse(fault(request.url.path, status, why), status)

        return told


def _chatting(api: APIRouter, solver: Solver) -> None:
    described = {"id": solver.name, "object": "model", "created": 0, "owned_by": "symbol-llm"}

    @api.get("/openai/v1/models")
    def models() -> dict[str, Any]:
        """List the one model there is."""
        return {"object": "list", "data": [described]}

    @api.get("/openai/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        """Describe the one model there is."""
        _known(solver, name)
        return described

    @api.post("/openai/v1/chat/completions", openapi_extra=_body(Chat))
    async def chat(request: Request) -> Response:
        """Complete a chat with the model alone; nothing is run."""
        asked = parsed(Chat, await request.body())
        prompt: Messages = [turn.as_message() for turn in asked.messages]
        most = asked.max_completion_tokens or asked.max_tokens or solver.settings.max_tokens
        replies = await _completed(solver, asked, [prompt], most)
        choices = [reply | {"message": {"role": "assistant", "content": reply.pop("text")}} for reply in replies]
        whole = _said(solver, "chatcmpl", "chat.completion", choices)
        if not asked.stream:
            return JSONResponse(whole)
        return StreamingResponse(_chunks(whole), media_type="text/event-stream")

    @api.post("/openai/v1/completions", openapi_extra=_body(Text))
    async def complete(request: Request) -> Response:
        """Complete texts with the model alone; nothing is run."""
        asked = parsed(Text, await request.body())
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        prompts: list[Messages] = [[{"role": "user", "content": text}] for text in texts]
        most = asked.max_tokens or solver.settings.max_tokens
        choices = [reply | {"logprobs": None} for reply in await _completed(solver, asked, prompts, most)]
        whole = _said(solver, "cmpl", "text_completion", choices)
        if not asked.stream:
            return JSONResponse(whole)
        return StreamingResponse(_texts(whole), media_type="text/event-stream")

    @api.post("/openai/v1/{other:path}")
    def refused(other: str) -> Response:
        """Say what there is instead of embeddings and the like."""
        served = "/openai/v1/chat/completions and /openai/v1/completions are"
        return JSONResponse(fault("/openai/", 404, f"{other} is not served; {served}"), 404)


def _known(solver: Solver, model: str) -> None:
    """Raise what is answered with 404 unless `model` is the served one; none named is that one."""
    if model not in ("", solver.name):
        raise HTTPException(404, f"model {model!r} is not served; {solver.name!r} is")


def _task(task: tasks.Task) -> dict[str, str]:
    context, question, program = task.shots[0] if task.shots else ("", "", "")
    return {"task": task.name, "family": task.family, "context": context, "question": question, "program": program}


async def _solved(solver: Solver, ask: Ask) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Yield each program as it has run, then the answer, which holds all of them."""
    began = time.monotonic()
    ran: list[tuple[int, Execution]] = []
    turn = solver.turn()
    async with contextlib.aclosing(solver.run([ask], turn)) as runs:
        async for _, index, execution in runs:
            if index < ask.k:
                ran.append((index, execution))
                yield "program", {"index": index, **execution._asdict(), "after_s": time.monotonic() - began}
    ran.sort(key=lambda run: run[0])
    answer = solver.answer([execution for _, execution in ran]).model_dump(mode="json")
    programs = [{"index": index, **execution._asdict()} for index, execution in ran]
    yield "answer", {**answer, "programs": programs, "seconds": time.monotonic() - began, "model": turn.weights}


async def _events(solver: Solver, ask: Ask) -> AsyncIterator[str]:
    try:
        async with contextlib.aclosing(_solved(solver, ask)) as events:
            async for name, body in events:
                yield f"event: {name}\ndata: {json.dumps(body)}\n\n"
    except Exception as e:  # the status is sent already
        yield f"event: error\ndata: {json.dumps({'error': str(e)})}\n\n"


async def _judged(solver: Solver, asked: list[Judged] | tuple[Judged, ...]) -> list[dict[str, Any]]:
    try:
        problems = [one.as_problem() for one in asked]
    except SymbolLLMError as e:
        raise http.InvalidInput(str(e)) from e
    with solver.lane() as lane:
        futures = [
            lane.submit(
                verify.judge,
                p,
                one.program or one.reply or "",
                solver.settings.limits,
                is_program=one.program is not None,
            )
            for p, one in zip(problems, asked, strict=True)
        ]
        verdicts = await asyncio.gather(*map(asyncio.wrap_future, futures))
    return [v.model_dump(mode="json", exclude={"candidate", "problem"}) for v in verdicts]


async def _completed(solver: Solver, asked: Drawn, prompts: list[Messages], most: int) -> list[dict[str, Any]]:
    """Return the choices for `prompts`, in their order, without what differs between chats and texts."""
    _known(solver, asked.model)
    found: dict[int, list[Completion]] = {}
    request = engines.Request(prompts, Sampling(asked.n, asked.temperature, asked.top_p, most), asked.seed)
    job = Job([request], lambda _, place, completions: found.update({place: completions}))
    with solver.place():
        try:
            await solver.sampled(job)
        except InvalidInput as e:
            raise http.InvalidInput(str(e)) from e
        finally:
            job.gone.set()
    replies = [completion for _, completions in sorted(found.items()) for completion in completions]
    return [{"index": index, **_cut(reply, asked, most)} for index, reply in enumerate(replies)]


def _said(solver: Solver, prefix: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    made = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": solver.name}
    return made | {"choices": choices}


def _cut(completion: Completion, asked: Drawn, most: int) -> dict[str, Any]:
    text, reason = completion.text, "length" if completion.n_tokens >= most else "stop"
    for stop in [asked.stop] if isinstance(asked.stop, str) else asked.stop:
        if stop and stop in text:
            text, reason = text[: text.index(stop)], "stop"
    return {"text": text, "finish_reason": reason}


async def _texts(whole: dict[str, Any]) -> AsyncIterator[str]:
    """Yield whole completions of texts in OpenAI's form of a stream, a chunk a choice."""
    for choice in whole["choices"]:
        yield f"data: {json.dumps(whole | {'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


async def _chunks(whole: dict[str, Any]) -> AsyncIterator[str]:
    """Yield a whole completion in OpenAI's form of a stream, a chunk a choice."""
    head = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for choice in whole["choices"]:
        first = {"index": choice["index"], "delta": choice["message"], "finish_reason": None}
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        for one in (first, last):
            yield f"data: {json.dumps(head | {'choices': [one]})}\n\n"
    yield "data: [DONE]\n\n"
