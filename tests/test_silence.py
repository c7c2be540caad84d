"""A server that takes the connection and says nothing: whoever asks it is told so within the time-out, by its address."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines import placement, settings
from pipelines.settings import Job
from pipelines.submit import Identity, Run, submit
from serving.ask import ask, main
from symbol_llm.engines.openai import OpenAIEngine
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.params import Parameters
from symbol_llm.tracking import registry, runs

ENOUGH_S = 20
"""Imports of the libraries that ask included; without a time-out each of these waits for minutes or for ever."""


@pytest.fixture
def address() -> Iterator[str]:
    """Give the address of a socket that listens, whose connections the kernel accepts and nobody reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def told(call: Callable[[], object]) -> str:
    """Return what Unavailable says, which must come soon."""
    start = time.monotonic()
    with pytest.raises(Unavailable) as error:
        call()
    assert time.monotonic() - start < ENOUGH_S
    return str(error.value)


@pytest.mark.timeout(120)
def test_an_engine_gives_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_TIMEOUT_S", "1")
    message = told(lambda: OpenAIEngine(f"{address}/v1"))
    assert message == f"{address}/v1/models: no answer within 1 s (OPENAI_TIMEOUT_S)"


@pytest.mark.parametrize("said", ["soon", "0", "-1", "inf"])
def test_a_timeout_that_is_none_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_TIMEOUT_S", said)
    with pytest.raises(InvalidInput, match="OPENAI_TIMEOUT_S"):
        OpenAIEngine("http://127.0.0.1:1/v1")


@pytest.mark.timeout(120)
def test_a_question_gives_up(address: str) -> None:
    message = told(lambda: ask(f"{address}/v1/models/x:predict", {"question": "q"}, timeout_s=1))
    assert message.startswith(f"{address}/v1/models/x:predict did not answer within 1 s")
    done = CliRunner().invoke(main, ["q", "--url", address, "--timeout", "1"])
    assert (done.exit_code, "did not answer within 1 s" in done.output) == (2, True)


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_submission_gives_up(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, compiled = Job(Parameters(), placement.load("laptop"), "self_training", "", False), tmp_path / "compiled.yaml"
    settings.compile_to(job, compiled)  # before the clock starts: how long it takes is the machine's
    monkeypatch.setattr(settings, "compile_to", lambda _, path: shutil.copyfile(compiled, path))
    message = told(lambda: submit(job, Run("r", "e", "n"), address, who=Identity(), timeout_s=1))
    assert message.startswith(f"no Kubeflow Pipelines answers at {address} within 1 s (ReadTimeoutError)")


@pytest.mark.timeout(120)
def test_tracking_gives_up(address: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    asks: list[Callable[[], object]] = [
        lambda: runs.parent("x", Parameters()).__enter__(),
        lambda: runs.tracked(dict, label="x"),
        lambda: registry.by_alias("model", "champion"),
    ]
    for one in asks:
        said = told(one)
        assert said == f"no MLflow server answers at {address} within 1 s (MLFLOW_HTTP_REQUEST_TIMEOUT), tried 2 times"
