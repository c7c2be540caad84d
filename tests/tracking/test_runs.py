"""Runs of stages in a real MLflow on SQLite: parents, children, what is logged, what failure leaves."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from symbol_llm.ground import files, life
from symbol_llm.ground.errors import Unavailable
from symbol_llm.ground.params import Parameters, Promote, Select
from symbol_llm.ground.records import General, Report, Scores, Summary
from symbol_llm.ground.stats import wilson
from symbol_llm.tracking import runs
from symbol_llm.tracking.runs import PARENT_TAG


def select(pool: Path | None = None, out: Path | None = None, params: Select | None = None) -> dict[str, float]:
    """Stand in for a stage; its name is what its run is tagged with."""
    if out:
        out.mkdir()
        for name in ("report.html", "report.json", "curve.svg", "card.md", "pool.jsonl", "manifest.json"):
            (out / name).write_text(name)
    return {"n_solved": 7.0, "accuracy": 0.25}


def fails(**_: object) -> dict[str, float]:
    raise Unavailable("engine is down")


def all_runs() -> list[Any]:
    """Return all runs, oldest first."""
    mlflow = runs.client()
    return list(mlflow.search_runs([runs.experiment(mlflow)], order_by=["attributes.start_time ASC"]))


def named(name: str) -> Any:
    (found,) = (run for run in all_runs() if run.info.run_name == name)
    return found


def own(run: Any) -> dict[str, float]:
    """Return the metrics of `run` without those of the machine."""
    return {key: value for key, value in run.data.metrics.items() if not key.startswith("system/")}


def test_stage_is_a_child_of_the_parent_run(tracked_home: Path) -> None:
    with runs.parent("self-training", Parameters()) as above:
        assert runs.tracked(select, label="select round 1") == {"n_solved": 7.0, "accuracy": 0.25}
    child = named("select round 1")
    assert child.data.tags[PARENT_TAG] == above == named("self-training").info.run_id
    assert child.data.tags["symbol_llm.stage"] == "select"
    assert [run.info.status for run in all_runs()] == ["FINISHED", "FINISHED"]


def test_stages_of_the_command_line_share_one_parent(tracked_home: Path) -> None:
    runs.tracked(select, label="one")
    runs.tracked(select, label="two")
    parents = {named(label).data.tags[PARENT_TAG] for label in ("one", "two")}
    assert parents == {named("command line").info.run_id}
    assert len(all_runs()) == 3


def test_parent_holds_every_parameter_and_the_variable_only_while_open(tracked_home: Path) -> None:
    with runs.parent("all", Parameters()) as run:
        assert os.environ["MLFLOW_RUN_ID"] == run
    assert "MLFLOW_RUN_ID" not in os.environ
    logged = named("all").data.params
    assert (logged["explore.k"], logged["explore.limits.timeout_s"], logged["tune.learning_rate"]) == (
        "5",
        "5.0",
        "2e-05",
    )
    assert logged["collect.tasks"] == "[]"


def test_parent_whose_block_fails_is_marked_failed(tracked_home: Path) -> None:
    with pytest.raises(Unavailable), runs.parent("all", Parameters()):
        fails()
    assert named("all").info.status == "FAILED"
    assert "MLFLOW_RUN_ID" not in os.environ


def test_numbers_are_metrics_of_one_moment_and_the_section_is_parameters(tracked_home: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    metrics = SimpleNamespace(path=str(tmp_path / "metrics"), log_metric=lambda *pair: seen.append(pair))
    runs.tracked(select, label="s", params=Select(max_pairs=3), metrics=metrics)
    assert json.loads((tmp_path / "metrics").read_text()) == {"n_solved": 7.0, "accuracy": 0.25}
    run = named("s")
    assert own(run) == {"n_solved": 7.0, "accuracy": 0.25}
    assert run.data.params == {key: str(value) for key, value in Select(max_pairs=3).model_dump().items()}
    assert run.data.params["max_pairs"] == "3"
    assert seen == [("n_solved", 7.0), ("accuracy", 0.25)]
    history = [runs.client().get_metric_history(run.info.run_id, key)[0] for key in own(run)]
    assert len({(metric.timestamp, metric.step) for metric in history}) == 1


def test_long_parameter_is_cut_to_what_every_server_takes(tracked_home: Path) -> None:
    runs.tracked(lambda params: {}, label="s", params=Promote(name="x" * 600))
    assert named("s").data.params["name"] == "x" * 500


def test_folders_read_are_inputs_by_hash_and_the_folder_written_is_not(tracked_home: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "pool.jsonl").write_text("{}\n")
    runs.tracked(select, label="s", pool=tmp_path / "pool", out=tmp_path / "out")
    (found,) = named("s").inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.source) == ("pool", str(tmp_path / "pool"))
    assert found.dataset.digest == files.hash_path(tmp_path / "pool")[:36]
    assert named("s").data.tags["symbol_llm.output_sha256"] == files.hash_path(tmp_path / "out")


def test_argument_that_is_none_is_no_input(tracked_home: Path) -> None:
    runs.tracked(select, label="s", pool=None)
    assert named("s").inputs.dataset_inputs == []


def test_what_is_for_people_is_logged_and_data_is_not(tracked_home: Path, tmp_path: Path) -> None:
    runs.tracked(select, label="s", out=tmp_path / "out")
    run = named("s").info.run_id
    assert [a.path for a in runs.client().list_artifacts(run)] == [
        "card.md",
        "curve.svg",
        "report.html",
        "report.json",
    ]
    assert runs.artifact(run, "report.json").read_text() == "report.json"
    assert (tracked_home / "mlartifacts").is_dir()


def test_failed_stage_is_marked_and_its_error_comes_through(tracked_home: Path) -> None:
    with pytest.raises(Unavailable, match="^engine is down$"):
        runs.tracked(fails, label="broken")
    assert named("broken").info.status == "FAILED"
    assert named("broken").data.metrics == {}


def test_stage_knows_its_run_and_nothing_is_known_outside_one(tracked_home: Path) -> None:
    inside: list[str | None] = []

    def stage() -> dict[str, float]:
        inside.append(runs.stage_run())
        return {}

    assert runs.stage_run() is None
    runs.tracked(stage, label="s")
    assert inside == [named("s").info.run_id]
    assert runs.stage_run() is None


def test_tags_are_added_to_a_run(tracked_home: Path) -> None:
    runs.tracked(select, label="s")
    runs.tag(named("s").info.run_id, {"dvc.tag": "set-1", "dvc.revision": "abc"})
    tags = named("s").data.tags
    assert (tags["dvc.tag"], tags["dvc.revision"]) == ("set-1", "abc")


def test_progress_file_tells_start_and_end_in_words(
    tracked_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMBOL_LLM_PROGRESS", str(tmp_path / "progress"))
    runs.tracked(select, label="select round 1")
    with pytest.raises(Unavailable):
        runs.tracked(fails, label="broken")
    rows = [row for _, row in files.read_json_lines(tmp_path / "progress")]
    assert [(row["event"], row["stage"]) for row in rows] == [
        ("start", "select round 1"),
        ("end", "select round 1"),
        ("start", "broken"),
        ("end", "broken"),
    ]
    assert [(row["status"], row["said"]) for row in rows[1::2]] == [
        ("FINISHED", "7 problems solved, test 25.0%"),
        ("FAILED", ""),
    ]


def test_what_is_absent_is_none_and_another_fault_is_raised(tracked_home: Path) -> None:
    mlflow = runs.client()
    assert runs.absent_is_none(mlflow.get_registered_model, "none") is None
    runs.absent_is_none(mlflow.create_registered_model, "there")
    with pytest.raises(Exception, match="already exists"):
        runs.absent_is_none(mlflow.create_registered_model, "there")


STAGE = """
import os, signal, sys, time
from symbol_llm.tracking import runs
def stage():
    print(os.getpid(), flush=True)
    time.sleep(60)
    return {}
runs.tracked(stage, label="killed")
"""


def started(**variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE], stdout=subprocess.PIPE, text=True, env=os.environ | variables
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdecimal()
    return process


def test_run_of_a_process_that_was_killed_does_not_stay_running(tracked_home: Path) -> None:
    process = started()
    assert named("killed").info.status == "RUNNING"
    runs.tracked(select, label="while it works")
    assert named("killed").info.status == "RUNNING"
    process.kill()
    process.communicate()
    runs.tracked(select, label="next")
    assert named("killed").info.status == "KILLED"
    assert {run.info.status for run in all_runs() if run.info.run_name != "killed"} == {"FINISHED"}


def test_stage_that_is_told_to_end_says_so_itself(tracked_home: Path) -> None:
    with started() as process:
        process.terminate()
    assert process.returncode == 128 + 15
    assert named("killed").info.status == "KILLED"


def test_stage_does_not_outlive_the_runner_that_started_it(tracked_home: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as runner, started(SYMBOL_LLM_RUNNER=str(runner.pid)) as process:
        runner.kill()
        runner.wait()
    assert process.returncode == 128 + 15
    assert named("killed").info.status == "KILLED"


def test_process_that_is_told_to_end_does_not_wait_for_what_it_started() -> None:
    code = """
import subprocess
from symbol_llm.ground import life
with life.signs(lambda tags: None), subprocess.Popen(["sleep", "600"]) as child:
    print(child.pid, flush=True)
    child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.terminate()
    assert process.returncode == 128 + 15
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize(
    ("process", "silent_s", "over"),
    [
        ("elsewhere/1/1", 60, False),
        ("elsewhere/1/1", 2 * life.SILENT_S, True),
        ("here/1/0", 60, True),
        ("here/me", 2 * life.SILENT_S, False),
        ("", None, False),
        ("nonsense", None, False),
    ],
)
def test_process_on_another_host_is_over_once_it_is_silent(process: str, silent_s: float | None, over: bool) -> None:
    """On this host the process itself counts: one that lives may be silent, one whose number was given away is gone."""
    me = life.tags()[life.OWNER]
    tags = {life.OWNER: process.replace("here/me", me).replace("here/", f"{socket.gethostname()}/")}
    if silent_s is not None:
        tags[life.SIGN] = f"{time.time() - silent_s:.0f}"
    assert life.is_over(tags) == over


COMMAND_LINE = """
import os, signal
from symbol_llm.tracking import runs
client = runs.client()
class Deadly:
    def __getattr__(self, name):
        if name == "set_terminated":
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(client, name)
runs._command_line(Deadly())
"""


def test_run_above_all_commands_is_ended_too_if_its_maker_was_killed(tracked_home: Path) -> None:
    assert subprocess.run([sys.executable, "-c", COMMAND_LINE], check=False).returncode == -9
    assert named("command line").info.status == "RUNNING"
    runs.tracked(select, label="next")
    assert {run.info.status for run in all_runs()} == {"FINISHED", "KILLED"}


def test_signs_of_life_are_given_while_the_block_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "BEAT_S", 0.0)
    monkeypatch.setattr(life, "LOOK_S", 0.001)
    given = threading.Event()
    with life.signs(lambda tags: given.set()):
        assert given.wait(30)


# --- curves ----------------------------------------------------------------------------------------------------------


def point(stage: str, mean: float, **more: Any) -> Summary:
    families = {"sql": Scores(accuracy=wilson(mean, 10))}
    general = General(perplexity=9.5, choice=wilson(0.5, 40))
    fields = {"overall": wilson(mean, 10), "tasks": {}, "families": families, "domains": {}, "general": general} | more
    return Summary(stage=stage, checkpoint=stage, **fields)


def evaluate(out: Path, report: Report) -> dict[str, float]:
    """Stand in for the stage."""
    out.mkdir()
    (out / "report.json").write_text(report.model_dump_json())
    return {}


def promote(out: Path, report: Report) -> dict[str, float]:
    """Stand in for the stage."""
    out.mkdir()
    (out / "curve.json").write_text(report.model_dump_json())
    (out / "report.html").write_text("page")
    (out / "promotion.json").write_text('{"promoted": true, "version": "3", "reason": "better"}')
    return {}


def curve(run: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in runs.client().get_metric_history(run, key)]


def test_run_of_a_pipeline_has_the_curve_a_point_a_step(tracked_home: Path, tmp_path: Path) -> None:
    first = point("original", 0.2)
    second = point("round 1", 0.6, dev=wilson(0.5, 20), round={"n_accepted": 30.0, "n_rejected": 70.0, "pass_1": 0.3})
    third = point("round 2", 0.7, round={"n_accepted": 60.0})
    with runs.parent("p", Parameters()) as above:
        runs.tracked(evaluate, label="e0", out=tmp_path / "0", report=Report(summary=first, outcomes={}))
        assert curve(above, "accuracy") == [(0, 0.2)]
        report = Report(summary=third, history=(first, second), outcomes={})  # that of round 1 came from a cache
        runs.tracked(evaluate, label="e2", out=tmp_path / "2", report=report)
        runs.tracked(promote, label="gate", out=tmp_path / "p", report=report)
    assert curve(above, "accuracy") == [(0, 0.2), (1, 0.6), (2, 0.7)]
    assert curve(above, "accuracy_low") == [(n, wilson(mean, 10).low) for n, mean in enumerate((0.2, 0.6, 0.7))]
    assert curve(above, "accuracy_dev") == [(1, 0.5)]
    assert curve(above, "family.sql") == [(0, 0.2), (1, 0.6), (2, 0.7)]
    assert curve(above, "perplexity") == [(0, 9.5), (1, 9.5), (2, 9.5)]
    assert curve(above, "samples") == [(0, 0.0), (1, 100.0), (2, 160.0)]
    assert curve(above, "round.pass_1") == [(1, 0.3)]
    assert [step for step, _ in curve(above, "seconds")] == [0, 2]
    run = runs.client().get_run(above)
    assert run.data.metrics["accuracy"] == 0.7
    told = {key: run.data.tags[f"symbol_llm.{key}"] for key in ("promoted", "version", "reason")}
    assert told == {"promoted": "True", "version": "3", "reason": "better"}
    assert runs.artifact(above, "report.html").read_text() == "page"
    assert {a.path for a in runs.client().list_artifacts(named("gate").info.run_id)} == {
        "promotion.json",
        "report.html",
    }


def test_commands_by_hand_have_no_curve_in_common(tracked_home: Path, tmp_path: Path) -> None:
    report = Report(summary=point("original", 0.2), outcomes={})
    runs.tracked(evaluate, label="e", out=tmp_path / "0", report=report)
    assert named("command line").data.metrics == {}


def test_series_is_logged_in_few_calls(tracked_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = runs.client

    class Counted:
        def __getattr__(self, name: str) -> Any:
            if name == "log_batch":
                calls.append(1)
            return getattr(real(), name)

    def tune() -> dict[str, float]:
        monkeypatch.setattr(runs, "client", Counted)
        runs.series({"step": n, "loss": 1 / n, "learning_rate": 1e-4} for n in range(1, 701))
        monkeypatch.setattr(runs, "client", real)
        return {}

    runs.tracked(tune, label="tune")
    run = named("tune").info.run_id
    assert len(calls) == 2
    assert len(curve(run, "loss")) == 700
    assert curve(run, "loss")[3] == (4, 0.25)
    runs.series([{"step": 1.0, "loss": 2.0}])  # outside a stage it says nothing
    assert len(curve(run, "loss")) == 700


def test_search_goes_over_all_pages() -> None:
    class Page(list[int]):
        token = ""

    def call(filter_: str, page_token: str | None) -> Page:
        assert filter_ == "name = 'm'"
        first = 0 if page_token is None else int(page_token)
        page = Page(range(first, min(first + 3, 7)))
        page.token = str(first + 3) if first + 3 < 7 else ""
        return page

    assert runs.search(call, "name = 'm'") == list(range(7))


# --- a local database that another process writes to -------------------------------------------------------------------


def locked(n_times: int) -> Any:
    """Return a call that finds the database locked so many times, as MLflow says it."""
    from mlflow.exceptions import MlflowException

    left = iter(range(n_times))

    def call() -> str:
        if next(left, None) is not None:
            raise MlflowException("(sqlite3.OperationalError) database is locked\n[SQL: UPDATE runs SET status=?]")
        return "done"

    return call


def test_locked_database_is_waited_for() -> None:
    assert runs._answered(locked(2)) == "done"


def test_database_that_stays_locked_is_unavailable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.client()
    monkeypatch.setattr(runs, "LOCKED_S", 0.1)
    with pytest.raises(Unavailable, match="mlflow.db: held by another process for 0.1 s; try again"):
        runs._answered(locked(10_000))
