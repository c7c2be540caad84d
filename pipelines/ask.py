"""The first question: the champion is served by KServe for a moment and asked, so that a run ends with a checked answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from serving.ask import ask, show
from symbol_llm.ground.errors import Unavailable

READY_S = 240


def first_question(reference: str, question: str, log: Path, console: Console) -> None:
    """Serve `reference`, ask `question`, show the answer with its program and verdict, and stop the server."""
    console.print(f"Serving {reference} and asking: [bold]{escape(question)}[/]")
    with served(reference, log) as url:
        show(ask(f"{url}/v1/models/symbol-llm:predict", {"question": question, "whole": True}), console)
    console.print('\nAsk more: [bold]make serve[/], then [bold]make ask Q="..."[/]')


@contextmanager
def served(reference: str, log: Path, *options: str) -> Iterator[str]:
    """Serve `reference` with `options` on a free port for the block; give the address once it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "serving", "--model", reference, "--port", str(port), "--engine", "transformers"]
    command += options
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=os.environ) as server:  # noqa: S603
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(server, url, log)
            yield url
        finally:
            server.terminate()


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise Unavailable(f"the server ended with {server.returncode}; see {log}")
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise Unavailable(f"the server was not ready after {READY_S} s; see {log}")


def free_port() -> int:
    """Return a port at which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
