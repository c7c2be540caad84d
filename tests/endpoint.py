"""A small real server that speaks chat completions, for tests of what asks one."""

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from symbol_llm.engines.openai import OpenAIEngine


def choice(text: str | None, *logprobs: float) -> dict[str, Any]:
    return {"message": {"content": text}, "logprobs": {"content": [{"logprob": p} for p in logprobs]}}


def chunk(text: str | None, *logprobs: float) -> dict[str, Any]:
    """Return what a stream says of a reply that has grown by `text`."""
    return {"choices": [{"delta": {"content": text}, "logprobs": {"content": [{"logprob": p} for p in logprobs]}}]}


class Endpoint:
    """Answers `route(path, body)` as (status, JSON value, bytes, or an iterator of chunks); notes what was asked.

    What is asked while `gate` is not set is answered once it is, or noted in `hung_up` once nobody waits for it.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.keys: set[str] = set()
        self.route: Callable[[str, Any], tuple[int, Any]] = lambda path, body: (
            200,
            {"choices": [choice("answer = 4", -1.0)]},
        )
        self.missing = 0
        self.hung_up: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.headers: dict[str, str] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answering,), {"endpoint": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def engine(self, **options: Any) -> OpenAIEngine:
        return OpenAIEngine(self.url, "secret", "m", **options)


class Answering(BaseHTTPRequestHandler):
    """Answers one connection as `endpoint` says."""

    endpoint: Endpoint

    def do_POST(self) -> None:
        endpoint = self.endpoint
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        endpoint.seen.append((self.path, body))
        endpoint.keys.add(self.headers["Authorization"])
        if not self.is_waited_for():
            endpoint.hung_up.append(self.path)
            return
        status, value = endpoint.route(self.path, body)
        self.send_response(status)
        if isinstance(value, Iterator):
            self.end_headers()
            for one in value:
                self.wfile.write(b"data: " + as_bytes(one) + b"\n\n")
            return
        data = as_bytes(value)
        self.send_header("Content-Length", str(len(data) + endpoint.missing))
        for name, text in endpoint.headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST

    def is_waited_for(self) -> bool:
        while not self.endpoint.gate.wait(0.01):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return False
        return True

    def log_message(self, *_: object) -> None:
        pass


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@contextmanager
def serving() -> Iterator[Endpoint]:
    """Give a running server."""
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.gate.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()
