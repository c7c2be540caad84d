"""What the server answers beside KServe's own protocols: solving as it goes, judging, OpenAI's chat, the page.

POST /v1/solve                      a question; JSON, or each program as it has run (Accept: text/event-stream)
POST /v1/judge, /v1/judge/batch     replies, and what they are judged by
GET  /v1/tasks                      what may be asked, with an example each
POST /openai/v1/chat/completions    the model alone; GET /openai/v1/models
GET  /health                        200 while the process is sound, with or without a model
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, Literal, Self

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from kserve import errors as http
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.sampler import Job
from serving.solver import Ask, Instance, Solver, parsed
from symbol_llm import engines, tasks
from symbol_llm.engines import Completion, Sampling
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.ground.records import Messages
from symbol_llm.judging import rows, verify
from symbol_llm.judging.verify import Execution

PAGE = Path(__file__).with_name("page.html")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page loads nothing from elsewhere and is shown in no frame."""
MAX_JUDGED = 256


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

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=16_000)


class Chat(BaseModel):
    """The body of a chat completion, as far as it is heeded; what else OpenAI's clients send is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = ""
    messages: tuple[Turn, ...] = Field(min_length=1, max_length=64)
    n: int = Field(default=1, ge=1, le=32)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)
    seed: int = 0
    stop: str | tuple[str, ...] = ()
    stream: bool = False
    tools: tuple[()] = ()
    """None are supported."""


def routes(solver: Solver) -> APIRouter:
    """Return what the server answers for `solver`."""
    api = APIRouter()
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
        body = {"status": why or "ready", "serves": solver.serves, "trouble": solver.trouble}
        return JSONResponse(body, 503 if solver.sampler.is_broken else 200)

    @api.get("/v1/tasks")
    def known() -> list[dict[str, str]]:
        """List the tasks, each with its notation and a worked example."""
        return [_task(task) for task in sorted(tasks.all_tasks().values(), key=tasks.published_first)]


def _solving(api: APIRouter, solver: Solver) -> None:
    @api.post("/v1/solve")
    async def solve(request: Request) -> Response:
        """Answer one question; see `solver.Instance`."""
        try:
            ask = solver.ask(parsed(Instance, await request.body()))
        except InvalidInput as e:
            raise http.InvalidInput(str(e)) from e
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(_events(solver, ask), media_type="text/event-stream")
        async with contextlib.aclosing(_solved(solver, ask)) as events:
            return JSONResponse([body async for _, body in events][-1])


def _judging(api: APIRouter, solver: Solver) -> None:
    @api.post("/v1/judge")
    async def judge(request: Request) -> Response:
        """Judge one reply."""
        (verdict,) = await _judged(solver, [parsed(Judged, await request.body())])
        return JSONResponse(verdict)

    @api.post("/v1/judge/batch")
    async def judge_batch(request: Request) -> Response:
        """Judge up to 256 replies."""
        return JSONResponse({"verdicts": await _judged(solver, parsed(Batch, await request.body()).rows)})


def _chatting(api: APIRouter, solver: Solver) -> None:
    @api.get("/openai/v1/models")
    def models() -> dict[str, Any]:
        """List the one model there is."""
        return {
            "object": "list",
            "data": [{"id": solver.name, "object": "model", "created": 0, "owned_by": "symbol-llm"}],
        }

    @api.post("/openai/v1/chat/completions")
    async def chat(request: Request) -> Response:
        """Complete a chat with the model alone; nothing is run."""
        asked = parsed(Chat, await request.body())
        whole = await _completed(solver, asked)
        if not asked.stream:
            return JSONResponse(whole)
        return StreamingResponse(_chunks(whole), media_type="text/event-stream")

    @api.post("/openai/v1/{other:path}")
    def refused(other: str) -> Response:
        """Say what there is instead of embeddings and the like."""
        return JSONResponse(
            {"error": {"message": f"{other} is not served; /openai/v1/chat/completions is", "code": 404}}, 404
        )


def _task(task: tasks.Task) -> dict[str, str]:
    context, question, program = task.shots[0] if task.shots else ("", "", "")
    return {"task": task.name, "family": task.family, "context": context, "question": question, "program": program}


async def _solved(solver: Solver, ask: Ask) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Yield each program as it has run, then the answer, which holds all of them."""
    began = time.monotonic()
    ran: list[tuple[int, Execution]] = []
    async with contextlib.aclosing(solver.run([ask])) as runs:
        async for _, index, execution in runs:
            if index < ask.k:
                ran.append((index, execution))
                yield "program", {"index": index, **execution._asdict(), "after_s": time.monotonic() - began}
    ran.sort(key=lambda run: run[0])
    answer = solver.answer([execution for _, execution in ran]).model_dump(mode="json")
    programs = [{"index": index, **execution._asdict()} for index, execution in ran]
    yield "answer", {**answer, "programs": programs, "seconds": time.monotonic() - began, "model": solver.serves}


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


async def _completed(solver: Solver, asked: Chat) -> dict[str, Any]:
    most = asked.max_completion_tokens or asked.max_tokens or solver.settings.max_tokens
    sampling = Sampling(asked.n, asked.temperature, asked.top_p, most)
    prompt: Messages = [{"role": t.role, "content": t.content} for t in asked.messages]
    found: list[Completion] = []
    job = Job([engines.Request([prompt], sampling, asked.seed)], lambda _, __, completions: found.extend(completions))
    with solver.place():
        try:
            await solver.sampled(job)
        except InvalidInput as e:
            raise http.InvalidInput(str(e)) from e
        finally:
            job.gone.set()
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": solver.name,
        "choices": [_choice(index, completion, asked, most) for index, completion in enumerate(found)],
    }


def _choice(index: int, completion: Completion, asked: Chat, most: int) -> dict[str, Any]:
    text, reason = completion.text, "length" if completion.n_tokens >= most else "stop"
    for stop in [asked.stop] if isinstance(asked.stop, str) else asked.stop:
        if stop and stop in text:
            text, reason = text[: text.index(stop)], "stop"
    return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason}


async def _chunks(whole: dict[str, Any]) -> AsyncIterator[str]:
    """Yield a whole completion in OpenAI's form of a stream, a chunk a choice."""
    head = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for choice in whole["choices"]:
        first = {"index": choice["index"], "delta": choice["message"], "finish_reason": None}
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        for one in (first, last):
            yield f"data: {json.dumps(head | {'choices': [one]})}\n\n"
    yield "data: [DONE]\n\n"
