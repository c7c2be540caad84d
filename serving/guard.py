"""What stands between the network and the model: no door for strangers, bounds on a request, and an end to its work.

A request whose client has left, or whose deadline has passed, is cancelled, with all that is still to be done for it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 2**20
REPOSITORY = re.compile(r"/v2/repository/models/[^/]+/(?:un)?load/?")
"""Anybody who reaches the port could take the model down with these; it is loaded at start and by nothing else."""


ASKING = (":predict", "/infer", "/solve", "/chat/completions")
"""How the paths end that need the model."""


class Guard:
    """ASGI middleware in front of KServe's application."""

    def __init__(self, app: App, deadline_s: float, why_not: Callable[[], str | None]) -> None:
        """`deadline_s`: seconds that a request may take, its place in the queue included.

        `why_not()` says why no question can be answered now.
        """
        self._app = app
        self._deadline_s = deadline_s
        self._why_not = why_not

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request through, or answer 403, 408, 413, 503 or 504."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif REPOSITORY.fullmatch(scope["path"]):
            await _refuse(send, 403, "models are neither loaded nor unloaded over the network")
        elif scope["path"].endswith(ASKING) and (why := self._why_not()):
            await _refuse(send, 503, why)
        else:
            await self._read(scope, receive, send)

    async def _read(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await asyncio.wait_for(_body(receive), self._deadline_s)
        except TimeoutError:
            await _refuse(send, 408, f"no whole body within {self._deadline_s:g} s")
            return
        if body is None:
            await _refuse(send, 413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        else:
            await self._answered(scope, body, receive, send)

    async def _answered(self, scope: MutableMapping[str, Any], body: bytes, receive: Receive, send: Send) -> None:
        told = False

        async def noting(message: Message) -> None:
            nonlocal told
            told = True
            await send(message)

        leaving = asyncio.ensure_future(receive())  # the body was read: what comes next says that the client has left
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await asyncio.shield(leaving)

        working = asyncio.ensure_future(self._app(scope, replay, noting))
        await asyncio.wait({working, leaving}, timeout=self._deadline_s, return_when=asyncio.FIRST_COMPLETED)
        done, left = working.done(), leaving.done()
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working})
        if not done and not left and not told:
            await _refuse(send, 504, f"no answer within {self._deadline_s:g} s, the most a request may take here")
        elif not working.cancelled():
            working.result()


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


async def _refuse(send: Send, status: int, why: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": why}).encode()})
