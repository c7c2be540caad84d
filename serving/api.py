"""What the server answers beside KServe's own protocols: solving as it goes, judging, OpenAI's chat (`chat.py`), the page.

POST /v1/solve                      a question; JSON, or each program as it has run (Accept: text/event-stream)
POST /v1/judge, /v1/judge/batch     replies, and what they are judged by
GET  /v1/tasks                      what may be asked, with an example each
GET  /health                        200 while the process is sound, with or without a model
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from kserve import errors as http
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving import chat
from serving.canary import or_nothing
from serving.guard import fault
from serving.programs import Ask, Overloaded, Run
from serving.solver import Instance, Solver, described, parsed
from serving.vote import Answer
from symbol_llm import tasks
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.judging import rows, verify

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


class Question(Instance):
    """The body of a call of /v1/solve."""

    beside: bool = False
    """While new weights are on trial: say, too, what the weights answer whose answer does not go out."""


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


def routes(solver: Solver) -> APIRouter:
    """Return what the server answers for `solver`."""
    api = APIRouter(route_class=Told)
    for add in (_about, _solving, _judging, chat.routes):
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
        body["data"] = solver.data.get(solver.serves or "", "")
        if solver.trial:
            body["canary"] = solver.trial.told()
        return JSONResponse(body, 503 if solver.sampler.is_broken else 200)

    @api.get("/v1/tasks")
    def known() -> list[dict[str, str]]:
        """List the tasks, each with its notation and a worked example."""
        return [_task(task) for task in sorted(tasks.all_tasks().values(), key=tasks.published_first)]


def _solving(api: APIRouter, solver: Solver) -> None:
    @api.post("/v1/solve", openapi_extra=described(Question))
    async def solve(request: Request) -> Response:
        """Answer one question; see `solver.Instance`."""
        question = parsed(Question, await request.body())
        try:
            ask = solver.ask(question)
        except InvalidInput as e:
            raise http.InvalidInput(str(e)) from e
        if "text/event-stream" in request.headers.get("accept", ""):
            solver.check_room()  # now that a status can be sent
            return StreamingResponse(_events(solver, ask, question.beside), media_type="text/event-stream")
        async with contextlib.aclosing(_solved(solver, ask, question.beside)) as events:
            told = {name: body async for name, body in events if name != "program"}
        return JSONResponse(told.pop("answer") | told)


def _judging(api: APIRouter, solver: Solver) -> None:
    @api.post("/v1/judge", openapi_extra=described(Judged))
    async def judge(request: Request) -> Response:
        """Judge one reply."""
        (verdict,) = await _judged(solver, [parsed(Judged, await request.body())])
        return JSONResponse(verdict)

    @api.post("/v1/judge/batch", openapi_extra=described(Batch))
    async def judge_batch(request: Request) -> Response:
        """Judge up to 256 replies."""
        return JSONResponse({"verdicts": await _judged(solver, parsed(Batch, await request.body()).rows)})


class Told(APIRoute):
    """A route whose errors have the form of its protocol, in which its clients look for the reason."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which answers what is wrong itself."""
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            code = None
            try:
                return await handle(request)
            except http.InvalidInput as e:
                status, why = 400, str(e)
            except HTTPException as e:  # 404 alone: of a model that there is not
                status, why, code = e.status_code, str(e.detail), "model_not_found"
            except (Overloaded, SymbolLLMError) as e:
                status, why = 503, str(e)
            except Exception as e:  # of whichever engine
                log.exception("a request failed")
                status, why = 500, f"{type(e).__name__}: {e}"
            return JSONResponse(fault(request.url.path, status, why, code), status)

        return told


def _task(task: tasks.Task) -> dict[str, str]:
    context, question, program = task.shots[0] if task.shots else ("", "", "")
    return {"task": task.name, "family": task.family, "context": context, "question": question, "program": program}


async def _solved(solver: Solver, ask: Ask, beside: bool) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Yield each program as it has run, then the answer, which holds all of them, and what the other weights of a trial answer."""
    began = time.monotonic()
    ran: list[Run] = []
    turn = solver.turn()
    async with contextlib.aclosing(solver.run([ask], turn)) as runs:
        async for run in runs:
            ran.append(run)
            yield "program", _program(run) | {"after_s": time.monotonic() - began}
    answer = _answer(solver, solver.answer(ask, ran), ran, turn.weights)
    yield "answer", answer | {"seconds": time.monotonic() - began}
    if beside and turn.shadow:
        ran = await or_nothing(asyncio.shield(turn.shadow))
        yield "beside", _answer(solver, solver.voted(ask, ran), ran, turn.other)


def _answer(solver: Solver, answer: Answer, ran: Sequence[Run], weights: str | None) -> dict[str, Any]:
    told = [_program(run) for run in sorted(ran)]
    source = {"model": weights, "data": solver.data.get(weights or "", "")}
    return answer.model_dump(mode="json") | {"programs": told} | source


def _program(run: Run) -> dict[str, Any]:
    return {"index": run.place, "repairs": run.repairs, **run.execution._asdict()}


async def _events(solver: Solver, ask: Ask, beside: bool) -> AsyncIterator[str]:
    try:
        async with contextlib.aclosing(_solved(solver, ask, beside)) as events:
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
