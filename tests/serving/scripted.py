"""A real KServe server in a process of its own, with scripted replies and the real sandbox."""

from __future__ import annotations

import json
import logging
import multiprocessing
import socket
import ssl
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from symbol_llm.engines import Completion, Ended, Request
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.engines.prompts import REPAIR
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Messages

APPLES = "Ana has 3 apples and buys 4 more. How many has she?"
BREAK, WAIT, SLEEP = "Break the engine.", "Wait for the gate.", "Write programs that never end."
WHO, HOW = "Which weights are you?", "How are replies drawn?"
BROKEN = "Add what you do not know."
HOSTILE, LONG = "Write markup.", "Write at length."
REPLIES = {
    APPLES: ["answer = 5", "answer = 7", "answer = 3 + 4", "answer = 9 - 2", "answer = ("],
    "Which city has the most people?": ["SELECT name FROM cities ORDER BY people DESC LIMIT 1"],
    "Run for ever.": ["while True:\n    pass"],
    "Delete my files.": ["import os\nos.mkdir('/tmp/escaped-from-the-solver')\nanswer = 1"],
    "Say nothing.": [""],
    BROKEN: ["answer = 3 + unknown", "answer = unknown + 3", "answer = ("],
    HOSTILE: ["answer = '<img src=x onerror=alert(1)>'"],
    LONG: ["\n".join([*(f"line_{n} = {n}" for n in range(60)), "answer = 'a long answer, ' * 60"])],
    SLEEP: [f"while True:\n    pass  # {n}" for n in range(32)],
    WAIT: ["answer = 1"],
    BREAK: [],
}


class Words:
    """A tokenizer whose tokens are words, in place of a model's; its chat template knows no `refuse`."""

    def apply_chat_template(self, messages: Messages, **_: Any) -> str:
        text = " ".join(message["content"] for message in messages)
        if "refuse" in text:
            raise ValueError("no such\nrole")
        return text

    def __call__(self, text: str, **_: Any) -> Any:
        return SimpleNamespace(input_ids=text.split())


class Scripted(FakeEngine):
    """An engine that knows its replies; `gate` holds one of them back, another breaks it for good."""

    def __init__(self, gate: Any, place: Path) -> None:
        self.gate = gate
        self.broken = False
        self.tok = Words()
        self.load(place)

    def load(self, checkpoint: Path) -> None:
        """Take weights; those called `broken` give no token."""
        self.place = checkpoint.name

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        if self.place == "broken":
            raise RuntimeError("these weights give no token")
        for number, (prompts, sampling, seed) in enumerate(requests):
            for place, prompt in enumerate(prompts):
                if prompt[-1]["content"] == HOW:
                    yield Ended(number, place, [Completion(f"{sampling} {seed}", 1, 0.0)] * sampling.n)
                else:
                    yield Ended(number, place, self._replies(prompt[-1]["content"], sampling.n, sampling.temperature))

    def _replies(self, asked: str, n: int, temperature: float) -> list[Completion]:
        if REPAIR in asked:
            return self._repairs(asked)
        question = asked.splitlines()[-1]
        self.broken |= question == BREAK
        if self.broken:
            raise RuntimeError("the device is gone")
        if question == WAIT:
            self.gate.wait()
        if question == WHO:
            return [Completion(f"answer = '{self.place}'", 1, 0.0)] * n
        texts = REPLIES.get(question, ["answer = 0"])
        some = texts[:1] if temperature == 0 else (texts[1:] or texts) * n
        return [Completion(text, 1, 0.0) for text in some[:n]]

    def _repairs(self, asked: str) -> list[Completion]:
        """Repair the programs of one question, where the prompt says what is wrong; give others back as they are."""
        before, after = asked.split(REPAIR)
        program, _, told = after.strip().partition("\n\n")
        if before.strip().splitlines()[-1] == BROKEN and "unknown" in told:
            program = program.replace("unknown", "4")
        return [Completion(program, 1, 0.0)]


class Named:
    """Weights that are named by a file, while there is one; those called `altered` are not handed over."""

    may_change: ClassVar[bool] = True

    def __init__(self, file: Path) -> None:
        self.file = file

    def now(self) -> str | None:
        return self.file.read_text() if self.file.is_file() else None

    def fetch(self) -> Path:
        name = self.file.read_text()
        if name == "altered":
            with self.file.with_name("tries").open("a") as tries:
                tries.write("x")
            raise InvalidInput("altered: it was altered")
        return Path(name)

    def data(self) -> str:
        return f"data of {self.file.read_text()}"

    def put_back(self, weights: str, in_place_of: str, why: str) -> None:
        self.file.write_text(weights)


def run_server(port: int, gate: Any, weights: Path, settings: dict[str, Any]) -> None:
    sys.argv[1:] = []
    logging.basicConfig(level=logging.INFO)
    from serving.callers import Callers
    from serving.solver import Settings, Solver, serve
    from symbol_llm.ground.params import Limits

    keys, n_each, tls = settings.pop("keys", None), settings.pop("n_each", None), settings.pop("tls", ())
    chosen = Settings(limits=Limits(timeout_s=1), **({"n_waiting": 2, "follow_s": 0.1} | settings))
    serve(
        Solver(chosen, lambda place: Scripted(gate, place), Named(weights)),
        port,
        Callers(keys, n_each),
        *tls,
    )


class Server:
    """A solver in a process of its own."""

    def __init__(self, weights: Path | None = None, *, ready: bool = True, **settings: Any) -> None:
        self.scratch: tempfile.TemporaryDirectory[str] | None = None
        if weights is None:
            self.scratch = tempfile.TemporaryDirectory(prefix="symbol-llm-test-")  # noqa: SIM115 - gone with the server
            weights = Path(self.scratch.name) / "weights"
            weights.write_text("first")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"{'https' if 'tls' in settings else 'http'}://127.0.0.1:{free.getsockname()[1]}"
        self.trusts = ssl.create_default_context(cafile=settings["tls"][0]) if "tls" in settings else None
        spawn = multiprocessing.get_context("spawn")
        self.gate = spawn.Event()
        self.process = spawn.Process(
            target=run_server, args=(int(self.url.rsplit(":", 1)[1]), self.gate, weights, settings)
        )
        self.process.start()
        path = "/v1/models/symbol-llm" if ready else "/health"
        until(lambda: self.get(path)[0] == 200 or not self.process.is_alive())

    def get(
        self, path: str, body: bytes | None = None, kind: str = "application/json", **headers: str
    ) -> tuple[int, str]:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": kind, **headers})
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.trusts) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError as e:
            return 0, str(e)

    def predict(self, *instances: Any) -> tuple[int, Any]:
        status, text = self.get("/v1/models/symbol-llm:predict", json.dumps({"instances": instances}).encode())
        return status, json.loads(text)

    def answer(self, **instance: Any) -> Any:
        status, body = self.predict(instance)
        assert status == 200, body
        return body["predictions"][0]

    def stop(self) -> int | None:
        self.gate.set()
        self.process.terminate()
        self.process.join(40)
        if self.scratch:
            self.scratch.cleanup()
        return self.process.exitcode


def until(true: Any, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "waited too long"
        threading.Event().wait(0.05)
