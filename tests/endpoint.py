"""A small real server that speaks chat completions, for tests of what asks one."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from symbol_llm.engines.openai import OpenAIEngine


def choice(text: str | None, *logprobs: float) -> dict[str, Any]:
    return {"message": {"content": text}, "logprobs": {"content": [{"logprob": p} for p in logprobs]}}


class Endpoint:
    """Answers `route(path, body)` as (status, JSON value or bytes); notes what was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.keys: set[str] = set()
        self.route: Callable[[str, Any], tuple[int, Any]] = lambda path, body: (
            200,
            {"choices": [choice("answer = 4", -1.0)]},
        )
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                endpoint.seen.append((self.path, body))
                endpoint.keys.add(self.headers["Authorization"])
                status, value = endpoint.route(self.path, body)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data) + endpoint.missing))
                for name, text in endpoint.headers.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.missing = 0
        self.headers: dict[str, str] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def engine(self, **options: Any) -> OpenAIEngine:
        return OpenAIEngine(self.url, "secret", "m", **options)


@contextmanager
def serving() -> Iterator[Endpoint]:
    """Give a running server."""
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()
