"""The solver with vLLM's own server beside it, both real, as the manifests start them: `make test-vllm`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.checkpoints import muted
from tests.services import free_port
from tests.serving.promoted import Served, promote
from tests.serving.scripted import until

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-vllm`"),
]
ROOT = Path(__file__).parents[2]
FRANCE = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
ON_A_CPU = ("--max-model-len=2048", "--max-num-seqs=16", "--enforce-eager", "--no-enable-chunked-prefill")
START_S = 900


class Beside:
    """The container `vllm` of the manifests as a process."""

    def __init__(self, weights: Path, log: Path) -> None:
        patches = yaml.safe_load((ROOT / "manifests/components/vllm/solver.yaml").read_text())
        (container,) = [p["value"] for p in patches if p["path"] == "/spec/predictor/containers/-"]
        self.port = free_port()
        self._command = [part.replace("--port 8000", f"--port {self.port}") for part in container["command"]]
        variables = {e["name"]: e["value"] for e in container["env"] if e["name"] not in ("HOME", "USER")}
        on_a_cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = os.environ | variables | on_a_cpu | {"OPENAI_WEIGHTS": str(weights), "PATH": path}
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*self._command, *ON_A_CPU], env=self._env, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """Kill it with all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture(scope="module")
def registry_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMBOL_LLM_HOME", str(folder))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="module")
def other(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give weights that say other things."""
    return muted(smollm, tmp_path_factory.mktemp("other") / "model", [29])


@pytest.fixture(scope="module")
def engine(registry_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    started = Beside(registry_home / "served", tmp_path_factory.mktemp("vllm") / "log")
    yield started
    started.kill()


@pytest.fixture(scope="module")
def solver(registry_home: Path, engine: Beside, smollm: Path) -> Iterator[Served]:
    promote(smollm, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{engine.port}/v1")
        patch.setenv("OPENAI_WEIGHTS", str(registry_home / "served"))
        patch.setenv("OPENAI_START_S", str(START_S))
        started = Served("--engine", "openai", "--deadline-s", str(START_S))
    started.timeout_s = START_S
    until(lambda: started.get("/v1/models/symbol-llm")[0] == 200 or started.process.poll() is not None, START_S)
    assert started.process.poll() is None, started.said()
    yield started
    started.stop()


def said(solver: Served, **more: Any) -> str:
    body = {"messages": FRANCE, "temperature": 0, "max_tokens": 12, **more}
    status, answer = solver.get("/openai/v1/chat/completions", body)
    assert status == 200, answer
    return str(answer["choices"][0]["message"]["content"])


def streamed(solver: Served) -> list[str]:
    body = {"messages": FRANCE, "temperature": 0, "max_tokens": 12, "stream": True}
    with httpx.stream("POST", f"{solver.url}/openai/v1/chat/completions", json=body, timeout=300) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [c["delta"].get("content") or "" for line in lines for c in json.loads(line)["choices"]]


def test_model_is_asked_and_its_programs_run(solver: Served, engine: Beside) -> None:
    assert "Paris" in said(solver)
    parts = streamed(solver)
    assert "".join(parts) == said(solver)
    assert len([part for part in parts if part]) > 1, "as it is written"
    status, answer = solver.get("/v1/solve", {"question": "What is 14 plus 9?", "k": 4, "whole": True})
    assert status == 200
    assert answer["votes"]["k"] == 4
    assert len([p for p in answer["programs"] if p.get("repairs") is None]) == 4


def test_prompt_that_the_model_cannot_read_is_its_callers_alone(solver: Served) -> None:
    long = [{"role": "user", "content": "word " * 3000}]
    status, answer = solver.get("/openai/v1/chat/completions", {"messages": long, "max_tokens": 8})
    assert (status, "the model reads 2048 together" in json.dumps(answer)) == (400, True)
    assert "Paris" in said(solver)


def test_new_champion_is_taken_in_place_and_no_request_fails(solver: Served, engine: Beside, other: Path) -> None:
    before, statuses, ends = said(solver), list[int](), threading.Event()

    def ask() -> None:
        while not ends.is_set():
            statuses.append(solver.get("/v1/solve", {"question": f"What is {len(statuses)} plus 9?", "k": 2})[0])

    asks = threading.Thread(target=ask)
    asks.start()
    version = promote(other, 20)
    until(lambda: f"version {version.number}" in str(solver.health()["serves"]), 120)
    ends.set()
    asks.join(300)
    assert set(statuses) == {200}
    assert said(solver) != before
    assert engine.process.poll() is None


def test_engine_that_is_killed_is_missed_in_words_and_starts_again_with_the_present_weights(
    solver: Served, engine: Beside
) -> None:
    before = said(solver)
    engine.kill()
    status, answer = solver.get("/v1/solve", {"question": "What is 14 plus 9?"})
    assert (status, "Connection refused" in json.dumps(answer)) == (503, True)
    assert solver.get("/health")[0] == 200
    engine.start()
    until(lambda: solver.get("/v1/solve", {"question": "What is 14 plus 9?", "k": 1})[0] == 200, START_S)
    assert said(solver) == before
