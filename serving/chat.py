"""OpenAI's protocol, for the model alone: nothing that it writes is run.

POST /openai/v1/chat/completions, /openai/v1/completions    replies, with the tokens they took
GET  /openai/v1/models, /openai/v1/models/NAME              the one model there is

A field of a request is heeded (those of `Chat` and `Text`), refused by name unless it asks for nothing (`NOT_HEEDED`), or ignored
because it changes no reply (`IGNORED`). One that is in none of these is refused, too: it may mean something elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serving.guard import fault
from serving.replies import Choice, Replies
from serving.solver import Solver, described, parsed
from symbol_llm import engines
from symbol_llm.engines import Sampling
from symbol_llm.ground.records import Message, Messages

log = logging.getLogger(__name__)

MAX_SEED = 2**63
Line = Annotated[str, Field(min_length=1, max_length=16_000)]
Nothing = Mapping[str, tuple[Any, ...]]

NOT_HEEDED: Nothing = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""What would change a reply and is not supported, and what means that it is not asked for."""
IGNORED = frozenset(
    "metadata parallel_tool_calls prediction prompt_cache_key prompt_cache_options prompt_cache_retention safety_identifier "
    "service_tier store user".split()
)
"""What says who asks, how the bill is made and what is kept, and changes no reply."""
NOT_SAID: Nothing = {
    "audio": (),
    "function_call": (),
    "name": (),
    "refusal": (),
    "tool_call_id": (),
    "tool_calls": ([],),
}
"""The same as `NOT_HEEDED`, of a message."""


def heeded(kind: type[BaseModel], body: Any, not_heeded: Nothing, ignored: Collection[str]) -> Any:
    """Return what `kind` reads of `body`, where null is as good as not sent; ValueError names a field that cannot be heeded."""
    if not isinstance(body, dict):
        return body
    said = {name: value for name, value in body.items() if value is not None}
    for name in sorted(said.keys() - kind.model_fields.keys() - set(ignored)):
        if name not in not_heeded:
            shown = name if name.isidentifier() and len(name) <= 64 else "a field"  # noqa: PLR2004 - the longest there is has 22
            raise ValueError(f"{shown}: not known here; leave it out")
        value = said[name]
        if not any(value == none and isinstance(value, bool) == isinstance(none, bool) for none in not_heeded[name]):
            raise ValueError(f"{name}: not supported; leave it out")
    return {name: value for name, value in said.items() if name in kind.model_fields}


class Said(BaseModel):
    """One message of a chat; text alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str = Field(max_length=16_000)

    @model_validator(mode="before")
    @classmethod
    def _is_supported(cls, body: Any) -> Any:
        return heeded(cls, body, NOT_SAID, ("annotations",))

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


class StreamOptions(BaseModel):
    """What is asked of a stream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include_usage: bool | None = None
    """One more chunk at the end, which has the tokens."""
    include_obfuscation: Literal[False] | None = None


class Drawn(BaseModel):
    """What OpenAI's protocol says of how replies are drawn, as far as it is heeded."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = ""
    n: int = Field(default=1, ge=1, le=32)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    seed: int | None = Field(default=None, ge=-MAX_SEED, lt=MAX_SEED)
    """None: another one for each request."""
    stop: str | Annotated[tuple[str, ...], Field(max_length=16)] = ()
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_supported(cls, body: Any) -> Any:
        return heeded(cls, body, NOT_HEEDED, IGNORED)

    @model_validator(mode="after")
    def _options_are_of_a_stream(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream_options: only where `stream` is true")
        return self

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with a chunk that has the tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Chat(Drawn):
    """The body of a chat completion."""

    messages: tuple[Said, ...] = Field(min_length=1, max_length=64)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens: leave it out where max_completion_tokens is given")
        return self


class Text(Drawn):
    """The body of a completion of texts, each of which is put to the model as the one message of a chat."""

    prompt: Line | Annotated[tuple[Line, ...], Field(min_length=1, max_length=16)]
    max_tokens: int | None = Field(default=16, ge=1, le=4096)


def routes(api: APIRouter, solver: Solver) -> None:
    """Have `api` answer for the model of `solver`."""
    model = {"id": solver.name, "object": "model", "created": 0, "owned_by": "symbol-llm"}

    @api.get("/openai/v1/models")
    def models() -> dict[str, Any]:
        """List the one model there is."""
        return {"object": "list", "data": [model]}

    @api.get("/openai/v1/models/{name}")
    def one_model(name: str) -> dict[str, Any]:
        """Describe the one model there is."""
        _known(solver, name)
        return model

    @api.post("/openai/v1/chat/completions", openapi_extra=described(Chat))
    async def chat(request: Request) -> Response:
        """Complete a chat with the model alone; nothing is run."""
        asked = parsed(Chat, await request.body())
        prompt: Messages = [said.as_message() for said in asked.messages]
        most = asked.max_completion_tokens or asked.max_tokens or solver.settings.max_tokens
        return await _answered(solver, asked, [prompt], most, CHATS)

    @api.post("/openai/v1/completions", openapi_extra=described(Text))
    async def complete(request: Request) -> Response:
        """Complete texts with the model alone; nothing is run."""
        asked = parsed(Text, await request.body())
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        prompts: list[Messages] = [[{"role": "user", "content": text}] for text in texts]
        return await _answered(solver, asked, prompts, asked.max_tokens or solver.settings.max_tokens, TEXTS)

    @api.post("/openai/v1/{other:path}")
    def refused(other: str) -> Response:
        """Say what there is instead of embeddings and the like."""
        served = "/openai/v1/chat/completions and /openai/v1/completions are"
        return JSONResponse(fault("/openai/", 404, f"{other} is not served; {served}"), 404)


def _known(solver: Solver, model: str) -> None:
    """Raise what is answered with 404 unless `model` is the served one; none named is that one."""
    if model not in ("", solver.name):
        raise HTTPException(404, f"model {model!r} is not served; {solver.name!r} is")


class Form(NamedTuple):
    """How one of the two protocols tells replies."""

    prefix: str
    """Of ids."""
    kind: str
    of_chunks: str
    whole: Callable[[Choice], dict[str, Any]]
    parts: Callable[[Choice, str, bool], Iterator[dict[str, Any]]]
    """What a stream says of a reply that has grown by a text, and whether it is the first that is said of it."""

    def head(self, solver: Solver, *, in_chunks: bool) -> dict[str, Any]:
        """Return what is said of all replies at once."""
        kind = self.of_chunks if in_chunks else self.kind
        made = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
        return made | {"model": solver.name}


def _message(choice: Choice) -> dict[str, Any]:
    message = {"role": "assistant", "content": choice.text, "refusal": None}
    return {"index": choice.number, "message": message, "finish_reason": choice.finish, "logprobs": None}


def _deltas(choice: Choice, grown: str, is_first: bool) -> Iterator[dict[str, Any]]:
    rest = {"index": choice.number, "logprobs": None}
    if is_first:
        yield rest | {"delta": {"role": "assistant", "content": grown, "refusal": None}, "finish_reason": None}
    elif grown:
        yield rest | {"delta": {"content": grown}, "finish_reason": None}
    if choice.finish:
        yield rest | {"delta": {}, "finish_reason": choice.finish}


def _text(choice: Choice) -> dict[str, Any]:
    return {"index": choice.number, "text": choice.text, "finish_reason": choice.finish, "logprobs": None}


def _texts(choice: Choice, grown: str, _: bool) -> Iterator[dict[str, Any]]:
    if grown or choice.finish:
        yield _text(choice._replace(text=grown))


CHATS = Form("chatcmpl", "chat.completion", "chat.completion.chunk", _message, _deltas)
TEXTS = Form("cmpl", "text_completion", "text_completion", _text, _texts)


async def _answered(solver: Solver, asked: Drawn, prompts: list[Messages], most: int, form: Form) -> Response:
    """Return the replies to `prompts`: whole, or a stream of them as they are written."""
    _known(solver, asked.model)
    seed = secrets.randbits(31) if asked.seed is None else asked.seed
    request = engines.Request(prompts, Sampling(asked.n, asked.temperature, asked.top_p, most), seed)
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop
    replies = Replies(request, stops, as_written=asked.stream)
    written = _in_place(solver, replies)
    head = form.head(solver, in_chunks=asked.stream)
    if asked.stream:
        first = await anext(written)  # what is wrong is told by a status as long as none is sent
        parts = _parts(form, first, written)
        return StreamingResponse(_stream(head, parts, replies, asked), media_type="text/event-stream")
    choices = [form.whole(choice) for choice in sorted([choice async for choice in written])]
    return JSONResponse(head | {"choices": choices} | ({"usage": replies.usage} if replies.usage else {}))


async def _in_place(solver: Solver, replies: Replies) -> AsyncGenerator[Choice, None]:
    """Yield `replies` as the model of `solver` writes them, in a place of its own."""
    with solver.place():
        async with contextlib.aclosing(replies.by(solver.sampler)) as written:
            async for choice in written:
                yield choice


async def _parts(
    form: Form, first: Choice, others: AsyncGenerator[Choice, None]
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what a stream says of replies, of which `first` has come already."""
    shown: dict[int, str] = {}
    async with contextlib.aclosing(others):
        choice: Choice | None = first
        while choice:
            before = shown.get(choice.number)
            shown[choice.number] = choice.text
            for part in form.parts(choice, choice.text[len(before or "") :], before is None):
                yield part
            choice = await anext(others, None)


async def _stream(
    head: dict[str, Any], parts: AsyncGenerator[dict[str, Any], None], replies: Replies, asked: Drawn
) -> AsyncIterator[str]:
    """Yield a chunk for each of `parts`; where usage is asked for, one without choices that has it, and null in the others."""
    usage = {"usage": None} if asked.tells_usage else {}
    try:
        async with contextlib.aclosing(parts):
            async for part in parts:
                yield _event(head | {"choices": [part]} | usage)
        if asked.tells_usage and replies.usage:
            yield _event(head | {"choices": [], "usage": replies.usage})
        yield "data: [DONE]\n\n"
    except Exception as e:  # of whichever engine; the status is sent already
        log.warning("a stream failed: %s", e)
        yield _event(fault("/openai/", 503, str(e)))


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
