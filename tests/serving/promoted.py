"""Checkpoints of replies, promoted in a real registry, and `python -m serving` on its champion with the engine `fake`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from symbol_llm.ground import files
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import General, Report, Scores, Summary
from symbol_llm.ground.stats import wilson
from symbol_llm.tracking import registry, runs, signing
from symbol_llm.tracking.registry import Contender, Version
from tests.checkpoints import whole_checkpoint
from tests.services import free_port
from tests.serving.scripted import until

NAME = "m"
ROOT = Path(__file__).parents[2]


def writer(folder: Path, *programs: str, **more: list[str]) -> Path:
    """Make a checkpoint that answers every question with `programs`, drawn in turn, but those that have a key of `more`."""
    whole_checkpoint(folder)
    (folder / "replies.json").write_text(json.dumps({**more, "": list(programs)}))
    return folder


def report(n_right: int, digest: str) -> Report:
    outcomes = {f"{i:04x}": float(i < n_right) for i in range(20)}
    overall = wilson(n_right / 20, 20)
    fields = {"tasks": {}, "domains": {}, "families": {"python": Scores(accuracy=overall)}, "general": General()}
    return Report(summary=Summary(stage=digest[:8], checkpoint=digest, overall=overall, **fields), outcomes=outcomes)


def promote(weights: Path, n_right: int, key: Path | None = None) -> Version:
    """Put a checkpoint that solved `n_right` of 20 problems to the gate, which must pass it; signed if there is a key."""
    mlflow = runs.client()
    run = str(mlflow.create_run(runs.experiment(mlflow)).info.run_id)
    contender = Contender(report(n_right, files.hash_path(weights)), str(weights))
    contest = registry.contend([contender], report(0, "original"), Promote(name=NAME), run)
    assert contest.decision.promoted, contest.decision.reason
    if key:
        registry.keep_signature(NAME, contest.version.number, signing.signer(key)(weights))
    contest.conclude()
    return contest.version


class Served:
    """`python -m serving` in a process of its own; it takes the environment, so its registry is the test's."""

    timeout_s = 60.0
    """For an answer."""

    def __init__(self, *options: str | Path, model: str = f"models:/{NAME}@champion") -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "serving", "--model", model, "--engine", "fake", "--follow-s", "0.2"]
        command += ["--port", self.url.rpartition(":")[2], *map(str, options)]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would hold it up
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=self._log, text=True)

    def up(self) -> Served:
        until(lambda: self.get("/v1/models/symbol-llm")[0] == 200 or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()
        return self

    def there(self) -> Served:
        """Wait until it answers, with or without a model."""
        until(lambda: self.get("/health")[0] == 200 or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()
        return self

    def get(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as e:
            status, text = e.code, e.read().decode()
        except OSError as e:
            return 0, str(e)
        return status, json.loads(text) if text.startswith(("{", "[")) else text

    def health(self) -> Any:
        return self.get("/health")[1]

    def said(self) -> str:
        """Return what it wrote, once it has ended."""
        self.process.wait(60)
        with self._log as log:
            log.seek(0)
            return log.read()

    def stop(self) -> str:
        self.process.terminate()
        return self.said()
