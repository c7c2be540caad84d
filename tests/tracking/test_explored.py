"""What a stage's run in a real MLflow on SQLite has besides its numbers: the machine, verdicts over time, traces, data sets."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import Unavailable
from symbol_llm.ground.records import STATUSES, Candidate, Verdict
from symbol_llm.ground.shards import WHOLE, Shard
from symbol_llm.tracking import load, runs, samples
from tests import services

CPU = {
    "system/cpu_utilization_percentage",
    "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
}


def select() -> dict[str, float]:
    """Stand in for a stage."""
    return {"n_solved": 7.0}


def named(name: str) -> Any:
    mlflow = runs.client()
    (found,) = mlflow.search_runs([runs.experiment(mlflow)], f"attributes.run_name = '{name}'")
    return found


def curve(run: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in runs.client().get_metric_history(run, key)]


# --- the machine -------------------------------------------------------------------------------------------------------


def test_even_a_short_stage_says_how_busy_the_machine_was(tracked_home: Path) -> None:
    runs.tracked(select, label="s")
    found = named("s").data.metrics
    assert {key for key in found if "gpu" not in key} - {"n_solved"} == CPU
    assert all(0 <= found[key] <= 100 for key in CPU if key.endswith("percentage"))


def test_samples_of_a_long_stage_are_sent_while_it_works(tracked_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SAMPLE_S", 0.05)
    at_work: list[int] = []

    def stage() -> dict[str, float]:
        deadline = time.monotonic() + 60
        while not at_work and time.monotonic() < deadline:
            at_work.extend(step for step, _ in curve(str(runs.stage_run()), "system/cpu_utilization_percentage"))
        return {}

    runs.tracked(stage, label="s")
    points = [step for step, _ in curve(named("s").info.run_id, "system/cpu_utilization_percentage")]
    assert at_work[:6] == list(range(6))
    assert points == list(range(len(points)))
    assert len(points) > len(at_work)


def test_machine_is_not_watched_where_mlflow_is_told_so(tracked_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    runs.tracked(select, label="s")
    assert named("s").data.metrics == {"n_solved": 7.0}


def test_server_that_takes_no_samples_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SAMPLE_S", 0.001)
    asked = threading.Event()

    def away(_: list[Any]) -> None:
        asked.set()
        raise Unavailable("no MLflow server answers")

    watching = load.Load(away).begin()
    assert asked.wait(30)
    assert {metric.key for metric in watching.end()} >= CPU


# --- explorations ------------------------------------------------------------------------------------------------------


def explored(out: Path, statuses: str) -> Path:
    """Write an exploration with a problem for each of `statuses`, named by their first three letters."""
    names = {status[:3]: status for status in STATUSES}
    told: list[Any] = [names[three] for three in statuses.split()]
    out.mkdir()
    sampled = [
        Candidate(id=f"c{n}", problem=f"p{n}", origin="explore", index=0, reply=f"reply {n}", n_tokens=3, logprob=-0.5)
        for n in range(len(told))
    ]
    files.write_records(out / "candidates.jsonl", sampled)
    judged = [
        Verdict(candidate=f"c{n}", problem=f"p{n}", status=status, program=f"print({n})", verifier="python@1")
        for n, status in enumerate(told)
    ]
    files.write_records(out / "verdicts.jsonl", judged)
    return out


def explore(out: Path, collection: Path, shard: Shard = WHOLE) -> dict[str, float]:
    """Stand in for the stage, which has written `out` already."""
    return {}


def traces() -> list[Any]:
    from mlflow.tracing.client import TracingClient

    mlflow = runs.client()
    tracing = TracingClient(os.environ["MLFLOW_TRACKING_URI"])
    return list(tracing.search_traces(locations=[runs.experiment(mlflow)]))


@pytest.fixture
def collection(tmp_path: Path, problem: Any) -> Path:
    """Give a collection with the questions of the problems p0 to p19."""
    (tmp_path / "collection").mkdir()
    rows = [problem(question=f"Question {n}?").model_copy(update={"id": f"p{n}"}) for n in range(20)]
    files.write_records(tmp_path / "collection" / "train.jsonl", rows)
    return tmp_path / "collection"


def test_shares_of_verdicts_are_a_series_over_the_samples(
    tracked_home: Path, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "N_POINTS", 3)
    out = explored(tmp_path / "out", "rej rej acc rej acc acc uns acc")
    runs.tracked(explore, label="x", out=out, collection=collection)
    run = named("x").info.run_id
    assert curve(run, "verdicts.explore.accepted") == [(3, 1 / 3), (6, 2 / 3), (8, 0.5)]
    assert curve(run, "verdicts.explore.rejected") == [(3, 2 / 3), (6, 1 / 3), (8, 0.0)]
    assert curve(run, "verdicts.explore.unscored") == [(3, 0.0), (6, 0.0), (8, 0.5)]
    assert curve(run, "verdicts.explore.timeout") == []


def test_ten_samples_of_all_kinds_are_traces_of_the_run(tracked_home: Path, tmp_path: Path, collection: Path) -> None:
    out = explored(tmp_path / "out", "rej " * 12 + "acc tim acc")
    runs.tracked(explore, label="x", out=out, collection=collection)
    found = traces()
    assert len(found) == 10
    assert sorted(t.info.tags["symbol_llm.status"] for t in found) == ["accepted"] * 2 + ["rejected"] * 7 + ["timeout"]
    assert {t.info.trace_metadata["mlflow.sourceRun"] for t in found} == {named("x").info.run_id}
    (late,) = (t for t in found if t.info.tags["symbol_llm.status"] == "timeout")
    sample, judging = sorted(late.data.spans, key=lambda span: str(span.parent_id or ""))
    assert (sample.name, sample.inputs) == ("sample", {"question": "Question 13?"})
    assert sample.outputs == {"reply": "reply 13"}
    assert (judging.name, judging.parent_id, judging.inputs) == ("judge", sample.span_id, {"program": "print(13)"})
    assert (judging.outputs["status"], judging.outputs["verifier"]) == ("timeout", "python@1")


def test_status_whose_first_problem_is_taken_has_its_next_one() -> None:
    def one(problem: str, status: str) -> samples.Judged:
        return {"id": problem + status}, {"problem": problem, "status": status}

    both = [one(problem, status) for problem in "abcd" for status in ("accepted", "rejected")]
    chosen = [(v["problem"], v["status"]) for _, v in samples.choose(both, 3)]
    assert chosen == [("a", "accepted"), ("b", "rejected"), ("c", "accepted")]


def test_text_that_no_database_takes_is_traced_all_the_same(
    tracked_home: Path, tmp_path: Path, collection: Path
) -> None:
    out = explored(tmp_path / "out", "acc")
    row = json.loads((out / "candidates.jsonl").read_text())
    (out / "candidates.jsonl").write_text(json.dumps(row | {"reply": "a\0b\ud800c" + "x" * 9000}) + "\n")
    runs.tracked(explore, label="x", out=out, collection=collection)
    (trace,) = traces()
    (sample,) = (span for span in trace.data.spans if span.name == "sample")
    assert sample.outputs["reply"] == "a\ufffdb?c" + "x" * 3995


@pytest.mark.parametrize("how", ["turned off", "second shard", "old server"])
def test_explorations_without_traces(
    tracked_home: Path,
    tmp_path: Path,
    collection: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    shard = Shard(2, 2) if how == "second shard" else WHOLE
    if how == "turned off":
        monkeypatch.setenv(samples.VARIABLE, "0")
    if how == "old server":
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        def unknown(*_: Any, **__: Any) -> None:
            raise NotImplementedError("log_spans is not supported: MLflow server version 3.1 is less than 3.4")

        monkeypatch.setattr(SqlAlchemyStore, "start_trace", unknown)
    runs.tracked(explore, label="x", out=explored(tmp_path / "out", "acc rej"), collection=collection, shard=shard)
    assert named("x").info.status == "FINISHED"
    assert curve(named("x").info.run_id, "verdicts.explore.accepted") == [(1, 1.0), (2, 0.0)]
    assert traces() == []
    assert ("samples are not traced" in caplog.text) == (how == "old server")


def test_server_takes_traces_and_samples_of_the_machine(
    tracked_home: Path, tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{services.free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={address.rpartition(':')[2]}"]
    command += ["--workers=1", f"--backend-store-uri=sqlite:///{tracked_home / 'mlflow.db'}"]
    command += [f"--artifacts-destination={tmp_path / 'artifacts'}"]
    settings = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    out = explored(tmp_path / "out", "rej acc")
    with services.running(command, tmp_path / "log", f"{address}/health", env=settings, wait_s=240):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        runs.tracked(explore, label="x", out=out, collection=collection)
        found = traces()
        assert {t.info.tags["symbol_llm.status"]: len(t.data.spans) for t in found} == {"accepted": 2, "rejected": 2}
        assert {t.info.trace_metadata["mlflow.sourceRun"] for t in found} == {named("x").info.run_id}
        assert set(named("x").data.metrics) >= CPU


# --- data sets ---------------------------------------------------------------------------------------------------------


def test_set_under_version_is_an_input_by_its_name_with_its_figures(tracked_home: Path, tmp_path: Path) -> None:
    with outputs.building(tmp_path / "in", "select", {}, {}) as draft:
        (draft.folder / "training_set.jsonl").write_text("{}\n")
        draft.metrics = {"n_rows": 1.0}

    def version(name: str, folder: Path) -> dict[str, float]:
        return {}

    runs.tracked(version, label="v", name="round-1/selected", folder=tmp_path / "in")
    (found,) = named("v").inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("round-1/selected", files.hash_path(tmp_path / "in")[:36])
    assert json.loads(found.dataset.profile) == {"stage": "select", "n_rows": 1.0}
    assert [(t.key, t.value) for t in found.tags] == [("mlflow.data.context", "folder")]
