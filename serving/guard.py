"""What stands between the network and the model: no door for strangers, bounds on a request, and an end to its work.

A request whose client has left, or whose deadline has passed, is cancelled, with all that is still to be done for it. Each
request has an id, the client's own (`X-Request-ID`) or a new one, which its answer carries, and a line of JSON in the log
says who sent it, how it was answered and how long that took; what was asked is not in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving import tracing
from serving.callers import Callers, Refused

log = logging.getLogger("serving.requests")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 2**20
REPOSITORY = re.compile(r"/v2/repository/models/[^/]+/(?:un)?load/?")
"""Anybody who reaches the port could take the model down with these; it is loaded at start and by nothing else."""


ASKING = (":predict", "/infer", "/solve", "/completions")
"""How the paths end that need the model."""


OPEN = re.compile(r"/|/health|/metrics|/v2/health/(live|ready)|/v[12]/models/[^/:]+(/ready)?")
"""What anybody may read: the page, and what probes and Prometheus look at."""
REQUEST_ID = re.compile(rb"[\w.-]{1,64}")
RETRY_AFTER_S = 1
READ = re.compile(r"(application/(.+\+)?json|text/plain|application/x-www-form-urlencoded|application/octet-stream)?")
"""Types of a body that is read, as JSON whatever they say: curl has one of its own, and binary tensors begin with JSON."""
FIELD = re.compile(r"([a-z]\w*(?:\.\w+)*): ")
"""How a reason begins that is about a field of the request."""
REMEDIES = {401: (b"www-authenticate", b"Bearer"), 405: (b"allow", b"POST")}
"""The header that says what would be right, where HTTP asks for one."""
CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
"""OpenAI's words for a status, by which its clients tell them apart."""


class Guard:
    """ASGI middleware in front of KServe's application."""

    def __init__(self, app: App, deadline_s: float, why_not: Callable[[], str | None], callers: Callers) -> None:
        """`deadline_s`: seconds that a request may take, its place in the queue included.

        `why_not()` says why no question can be answered now.
        """
        self._app = app
        self._deadline_s = deadline_s
        self._why_not = why_not
        self._callers = callers

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request through, or answer 401, 403, 405, 408, 413, 415, 429, 503 or 504."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        unread, scope = unreadable(scope), plain(scope)
        told = Told(scope, send)
        if scope["method"] == "GET" and OPEN.fullmatch(scope["path"]):
            await self._app(scope, receive, told)
            return
        began = time.monotonic()
        with tracing.request(scope, told.id) as span:
            try:
                await self._from(scope, unread, receive, told)
            finally:
                tracing.answered(span, scope, told.status, told.caller)
                told.log(time.monotonic() - began)

    async def _from(self, scope: MutableMapping[str, Any], unread: str, receive: Receive, send: Told) -> None:
        """Let in those who may ask, if their request is none that is `unread`."""
        shown = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        try:
            send.caller = self._callers.name_of(shown, str(scope["client"][0]) if scope.get("client") else "unknown")
            self._callers.enter(send.caller)
        except Refused as e:
            await send.refuse(e.status, str(e), e.after_s)
            return
        try:
            await (send.refuse(415, unread) if unread else self._let_in(scope, receive, send))
        finally:
            self._callers.leave(send.caller)

    async def _let_in(self, scope: MutableMapping[str, Any], receive: Receive, send: Told) -> None:
        if REPOSITORY.fullmatch(scope["path"]):
            await send.refuse(403, "models are neither loaded nor unloaded over the network")
        elif scope["path"].endswith(ASKING) and scope["method"] != "POST":
            await send.refuse(405, f"{scope['method']} {scope['path']}: method not allowed")
        elif scope["path"].endswith(ASKING) and (why := self._why_not()):
            await send.refuse(503, why, RETRY_AFTER_S)
        else:
            await self._read(scope, receive, send)

    async def _read(self, scope: MutableMapping[str, Any], receive: Receive, send: Told) -> None:
        try:
            body = await asyncio.wait_for(_body(receive), self._deadline_s)
        except TimeoutError:
            await send.refuse(408, f"no whole body within {self._deadline_s:g} s")
            return
        if body is None:
            await send.refuse(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        else:
            await self._answered(scope, body, receive, send)

    async def _answered(self, scope: MutableMapping[str, Any], body: bytes, receive: Receive, send: Told) -> None:
        leaving = asyncio.ensure_future(receive())  # the body was read: what comes next says that the client has left
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await asyncio.shield(leaving)

        working = asyncio.ensure_future(self._app(scope, replay, send))
        await asyncio.wait({working, leaving}, timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED)
        done, left = working.done(), leaving.done()
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working})
        if not done and not left and not send.status:
            await send.refuse(504, f"no answer within {self._deadline_s:g} s, the most a request may take here")
        elif not working.cancelled():
            working.result()


def plain(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the request `scope` as if it were written the one way that routes know.

    A slash at the end goes. HEAD becomes GET, whose body the server keeps back. What is asked in v2 is JSON, whatever its type
    says (curl has one of its own), unless a header says where binary tensors begin.
    """
    scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
    if scope["method"] == "HEAD":
        scope["method"] = "GET"
    names = {name for name, _ in scope["headers"]}
    if scope["path"].endswith("/infer") and b"inference-header-content-length" not in names:
        others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*others, (b"content-type", b"application/json")]
    return scope


def unreadable(scope: MutableMapping[str, Any]) -> str:
    """Return why the body of the request `scope` is not read, by what its headers say of it; empty if it is, or none is wanted."""
    headers = dict(scope["headers"]) if scope["method"] == "POST" else {}
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    packed = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if packed != "identity":
        return f"the body is {packed[:40]!a}: expected one that is not compressed"
    return "" if READ.fullmatch(kind) else f"the body is {kind[:40]!a}: expected 'application/json'"


def fault(path: str, status: int, why: str, code: str | None = None) -> dict[str, Any]:
    """Return the body that says what is wrong, in the form that clients of `path` read: OpenAI's, or KServe's.

    `code` is OpenAI's word for what is wrong, where the status does not say it.
    """
    if not path.startswith("/openai/"):
        return {"error": why}
    kind = "invalid_request_error" if status < 500 else "server_error"  # noqa: PLR2004
    field = FIELD.match(why) if status == 400 else None  # noqa: PLR2004
    return {"error": {"message": why, "type": kind, "param": field and field[1], "code": code or CODES.get(status)}}


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, or None if it is too large."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY_BYTES:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return body


class Told:
    """What is sent to a client, with the headers that every answer has; remembers who asked, and the status, 0 while there is none."""

    def __init__(self, scope: MutableMapping[str, Any], send: Send) -> None:
        """Send with `send` what is the answer to the request `scope`."""
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        self._scope = scope
        self._send = send
        self.id = (given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()).decode()
        self.status = 0
        self.caller = ""
        """Who asked; empty for somebody without a key."""

    async def __call__(self, message: Message) -> None:
        """Send `message`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            names = {name for name, _ in message["headers"]}
            more = {b"x-request-id": self.id.encode(), b"x-content-type-options": b"nosniff"}
            if self.status == 503:  # noqa: PLR2004
                more[b"retry-after"] = str(RETRY_AFTER_S).encode()
            headers = [*message["headers"], *((name, value) for name, value in more.items() if name not in names)]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, status: int, why: str, after_s: int = 0) -> None:
        """Answer with `status` and why, in the form that clients of the path read; it may be tried after so many seconds."""
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        if after_s:
            headers.append((b"retry-after", str(after_s).encode()))
        if status in REMEDIES:
            headers.append(REMEDIES[status])
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": json.dumps(fault(self._scope["path"], status, why)).encode()})

    def log(self, seconds: float) -> None:
        """Write the request's line in the log; status 0: the client had left."""
        line = {"request": self.id, "caller": self.caller, "method": self._scope["method"]}
        log.info(json.dumps(line | {"path": self._scope["path"], "status": self.status, "seconds": round(seconds, 4)}))
