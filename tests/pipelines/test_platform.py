"""A run as on a cluster, as far as one machine goes: MLflow on PostgreSQL, artifacts in an S3-compatible store, all real.

The run is the main job, made small, with the real model: injection, infusion, the gate, the champion's answer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tracking import registry, runs
from tests import services
from tests.services import Platform

ROOT = Path(__file__).parents[2]
SMALL = {
    "collect.tasks": "[gqa]",
    "collect.n_train": 48,
    "collect.n_dev": 3,
    "collect.n_test": 20,
    "replay.n": 4,
    "injection.epochs": 3,
    "evaluate.n_general": 4,
}
pytestmark = [pytest.mark.platform, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """Give the servers."""
    with services.platform() as started:
        yield started


@pytest.fixture(scope="module")
def ran(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the state folder of a run that tracked to the servers and came to its end."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "pipelines.local", "--strategy", "symbol_llm"]
    for key, value in SMALL.items():
        command += ["--set", f"{key}={value}"]
    environment = os.environ | platform.environment | {"SYMBOL_LLM_HOME": str(home)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return home


@pytest.fixture
def client(platform: Platform, ran: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    """Give MLflow's client of the server, in a process whose own state folder is empty."""
    for name, value in platform.environment.items():
        monkeypatch.setenv(name, value)
    return runs.client()


def test_the_curve_of_the_run_is_on_the_server(client: Any) -> None:
    found = client.search_runs([client.get_experiment_by_name(runs.EXPERIMENT).experiment_id], max_results=100)
    assert {run.info.status for run in found} == {"FINISHED"}
    parent = next(run for run in found if "mlflow.parentRunId" not in run.data.tags)
    accuracies = [point.value for point in client.get_metric_history(parent.info.run_id, "accuracy")]
    assert len(accuracies) == 3
    assert accuracies[-1] > accuracies[0]


def test_reports_lie_in_the_store_and_no_artifact_on_this_machine(client: Any, platform: Platform, ran: Path) -> None:
    listed = services.client(platform.store).list_objects_v2(Bucket=services.BUCKET, Prefix="mlflow/")
    names = {item["Key"].rpartition("/")[2] for item in listed["Contents"]}
    assert {"report.json", "report.html"} <= names
    assert not list(ran.rglob("mlartifacts"))
    assert not list(ran.rglob("mlflow.db"))


def test_champion_lies_in_the_store_and_an_altered_one_is_refused(
    client: Any, platform: Platform, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = registry.by_alias("symbol-llm", "champion")
    assert champion is not None
    assert champion.source.startswith(f"s3://{services.BUCKET}/mlflow/")
    assert registry.report(champion).summary.checkpoint == champion.digest
    there = registry.resolve("models:/symbol-llm@champion")
    assert files.hash_path(there) == champion.digest
    assert there.is_relative_to(home)
    store, key = (
        services.client(platform.store),
        f"{champion.source.removeprefix(f's3://{services.BUCKET}/')}/config.json",
    )
    whole = store.get_object(Bucket=services.BUCKET, Key=key)["Body"].read()
    store.put_object(Bucket=services.BUCKET, Key=key, Body=json.dumps(json.loads(whole) | {"a": 1}).encode())
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "another"))
    with pytest.raises(InvalidInput, match="was altered"):
        registry.resolve("models:/symbol-llm@champion")
    assert not list((tmp_path / "another").rglob("registry-*/checkpoint"))
