"""On a cluster: the stages of one Kubeflow run hang under one run in MLflow, which ends as the pipeline did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from symbol_llm.tracking import runs

PIPELINE = "0b2a5e1c-9f6d-4b1e-8f3a-2d7c6c1a9e55"


@pytest.fixture
def on_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a client of an MLflow of its own, in an environment such as a pod of the pipeline has."""
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(runs.PIPELINE_VARIABLE, PIPELINE)
    monkeypatch.setenv(runs.PIPELINE_NAME_VARIABLE, "self-training-x7k2p")
    return runs.client()


def stage(out: Path) -> dict[str, float]:
    return {"n_rows": float(len(str(out)))}


def everything(mlflow: Any) -> list[Any]:
    return list(mlflow.search_runs([runs.experiment(mlflow)]))


def test_stages_of_one_pipeline_share_a_parent_that_is_named_after_it(on_cluster: Any, tmp_path: Path) -> None:
    for label in ("collect", "tune round 1"):
        runs.tracked(stage, label=label, out=tmp_path / "out")
    (parent,) = (r for r in everything(on_cluster) if runs.PIPELINE_TAG in r.data.tags)
    children = [r for r in everything(on_cluster) if r.data.tags.get(runs.PARENT_TAG) == parent.info.run_id]
    assert parent.info.run_name == "self-training-x7k2p"
    assert sorted(r.info.run_name for r in children) == ["collect", "tune round 1"]
    assert parent.info.status == "RUNNING"


@pytest.mark.parametrize(("succeeded", "status"), [(True, "FINISHED"), (False, "FAILED")])
def test_it_ends_as_the_pipeline_did(on_cluster: Any, tmp_path: Path, succeeded: bool, status: str) -> None:
    runs.tracked(stage, label="collect", out=tmp_path / "out")
    runs.end_pipeline(succeeded=succeeded, why="" if succeeded else "tune ran out of memory")
    (parent,) = (r for r in everything(on_cluster) if runs.PIPELINE_TAG in r.data.tags)
    assert parent.info.status == status
    assert parent.data.tags.get("mlflow.note.content") == (None if succeeded else "tune ran out of memory")


def test_a_pipeline_that_began_no_stage_has_nothing_to_end(on_cluster: Any) -> None:
    runs.end_pipeline(succeeded=False, why="no image")
    assert everything(on_cluster) == []


def test_of_tasks_that_begin_it_at_once_one_wins(on_cluster: Any) -> None:
    first, second = (runs._begin_pipeline(on_cluster, PIPELINE) for _ in range(2))
    assert first == second == runs._of_pipeline(on_cluster, PIPELINE)
    assert len(everything(on_cluster)) == 1


def test_another_pipeline_has_a_run_of_its_own(
    on_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.tracked(stage, label="collect", out=tmp_path / "out")
    monkeypatch.setenv(runs.PIPELINE_VARIABLE, "another")
    runs.tracked(stage, label="collect", out=tmp_path / "out")
    assert len({r.data.tags[runs.PARENT_TAG] for r in everything(on_cluster) if runs.PARENT_TAG in r.data.tags}) == 2
