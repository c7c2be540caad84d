"""Runs in MLflow, and the only importer of it: a parent run a pipeline, a child a stage, metrics in one batch.

The server is `MLFLOW_TRACKING_URI`, by default SQLite beside the other state. `MLFLOW_RUN_ID`, where set (the local
runner sets it, so does the MLflow plugin of Kubeflow Pipelines), is the parent. Checkpoints are registered by reference
and never travel through the server. The registry's rules are `registry.py`'s.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from symbol_llm.ground import files, life, outputs, provenance
from symbol_llm.ground.errors import Unavailable
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.progress import event
from symbol_llm.ground.shards import WHOLE, Shard
from symbol_llm.tracking import curves, database, samples
from symbol_llm.tracking.load import Load

logger = logging.getLogger(__name__)

Numbers = dict[str, float]

EXPERIMENT = "symbol-llm"
PIPELINE_VARIABLE = "KFP_RUN_ID"
"""Set in the pods of a pipeline: Kubeflow's id of the run, from a label of the pod."""
PIPELINE_NAME_VARIABLE = "KFP_RUN_NAME"
PIPELINE_TAG = "kfp.run_id"
PARENT_TAG = "mlflow.parentRunId"
MAX_PARAM = 500
SHOWN = frozenset({".html", ".svg", ".md", "report.json", "promotion.json"})
"""What a stage leaves for people: endings and names."""
HEADLINE = {
    "n_train": "{:.0f} training problems",
    "n_dev": "{:.0f} dev",
    "n_test": "{:.0f} test",
    "n_rows": "{:.0f} rows",
    "loss": "loss {:.3f}",
    "n_candidates": "{:.0f} candidates",
    "n_accepted": "{:.0f} accepted",
    "n_solved": "{:.0f} problems solved",
    "n_newly_solved": "{:.0f} for the first time",
    "accuracy_dev": "dev {:.1%}",
    "accuracy": "test {:.1%}",
}
"""Numbers worth a word on the screen while a pipeline runs."""


LOCKED_S = 120.0
"""How long to wait for a local database that another process writes to, beyond SQLite's own 20 s a try."""


class MetricsArtifact(Protocol):
    """What Kubeflow hands a component to put its numbers into."""

    path: str

    def log_metric(self, metric: str, value: float) -> None:
        """Note one number."""


def client() -> Any:
    """Return an MLflow client whose calls raise Unavailable where no server answers; pickle is refused, telemetry is off."""
    local = outputs.state_dir() / "mlflow.db"
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{local}")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    if os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{local}":
        database.ready(local)
    return _Answered(MlflowClient(os.environ["MLFLOW_TRACKING_URI"]))


class _Answered:
    """An MLflow client, of which a call that gets no answer raises Unavailable."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return functools.partial(_answered, getattr(self._client, name))


def _answered(call: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Return `call(...)`; Unavailable if no server answers, or another process holds the local database for `LOCKED_S`."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    ends = time.monotonic() + LOCKED_S
    while True:
        try:
            return call(*args, **more)
        except MlflowException as e:
            if "database is locked" in str(e):  # nothing was written: SQLite gave the whole transaction up
                if time.monotonic() < ends:
                    time.sleep(0.2)
                    continue
                raise Unavailable(
                    f"{os.environ['MLFLOW_TRACKING_URI']}: held by another process for {LOCKED_S:g} s; try again"
                ) from e
            if not isinstance(e.__context__, RequestException):  # then the server did answer
                raise
            uri, timeout_s = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
            tries = 1 + int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
            raise Unavailable(
                f"no MLflow server answers at {uri} within {timeout_s} s (MLFLOW_HTTP_REQUEST_TIMEOUT), tried {tries} times"
            ) from e


def experiment(mlflow: Any) -> str:
    """Return the id of the experiment (`MLFLOW_EXPERIMENT_NAME`), made if absent; its artifacts lie beside a local database."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = os.environ["MLFLOW_TRACKING_URI"].startswith("sqlite:")
    location = (outputs.state_dir() / "mlartifacts").as_uri() if local else None
    from mlflow.exceptions import MlflowException

    try:
        return str(mlflow.create_experiment(name, artifact_location=location))
    except MlflowException as e:
        if e.error_code != "RESOURCE_ALREADY_EXISTS":  # another process made it just now
            raise
        return str(mlflow.get_experiment_by_name(name).experiment_id)


@contextmanager
def parent(name: str, params: BaseModel) -> Iterator[str]:
    """Open a parent run for the block, which stages of this and of child processes find in `MLFLOW_RUN_ID`."""
    mlflow = client()
    end_abandoned(mlflow)
    run = mlflow.create_run(experiment(mlflow), run_name=name, tags=life.tags()).info.run_id
    _log_params(mlflow, run, params)
    os.environ["MLFLOW_RUN_ID"] = run
    try:
        with _ending(mlflow, run):
            yield run
    finally:
        del os.environ["MLFLOW_RUN_ID"]


@contextmanager
def _ending(mlflow: Any, run: str) -> Iterator[None]:
    """Show signs of life in `run` during the block, and end it as the block ends: FINISHED, FAILED, or KILLED by a signal."""
    status = "FAILED"
    try:
        with life.signs(lambda tags: tag(run, tags)):
            yield
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        mlflow.set_terminated(run, status)


def end_abandoned(mlflow: Any) -> list[str]:
    """End as KILLED the runs that are RUNNING though their process is gone; return their ids."""
    running = mlflow.search_runs([experiment(mlflow)], "attributes.status = 'RUNNING'")
    gone = [run.info.run_id for run in running if life.is_over(run.data.tags)]
    for run in gone:
        logger.warning("run %s was killed: it is no longer RUNNING", run)
        mlflow.set_terminated(run, "KILLED")
    return gone


def tracked(
    stage: Callable[..., Numbers],
    /,
    *,
    label: str,
    metrics: MetricsArtifact | None = None,
    **arguments: Any,
) -> Numbers:
    """Call `stage(**arguments)` inside a child run named `label`; return its numbers.

    Paths among the arguments are logged as data set inputs by hash, parameter sections as parameters, and what the stage
    leaves for people (`*.html`, `report.json`, figures) as artifacts. How busy the machine is goes there as system metrics;
    of an exploration the shares of verdicts as it went on, and ten samples as traces. `metrics` gets each number too, and a
    file with all of them: Kubeflow's local cache takes a result only while every artifact of it exists.
    """
    if os.environ.get("RANK", "0") != "0":  # of several processes that tune together the first one speaks
        return stage(**arguments)
    event(event="start", stage=label)
    began = time.monotonic()
    mlflow = client()
    end_abandoned(mlflow)
    tags = _tags(mlflow, stage.__name__) | life.tags() | _made_with()
    run = mlflow.create_run(experiment(mlflow), run_name=label, tags=tags).info.run_id
    status, numbers = "FAILED", Numbers()
    try:
        os.environ["SYMBOL_LLM_STAGE_RUN"] = run
        load = Load(lambda points: mlflow.log_batch(run, metrics=points))
        with _ending(mlflow, run):
            load.begin()
            try:
                numbers = stage(**arguments)
            finally:
                points = load.end()
            _log_stage(mlflow, run, numbers, arguments, points)
            if stage.__name__ == "explore":
                _log_explored(mlflow, run, **arguments)
            if above := _above(mlflow):
                curves.log(mlflow, above, stage.__name__, arguments.get("out"))
        status = "FINISHED"
    finally:
        os.environ.pop("SYMBOL_LLM_STAGE_RUN", None)
        event(event="end", stage=label, status=status, seconds=time.monotonic() - began, said=_said(numbers))
    if metrics is not None:
        for name, value in numbers.items():
            metrics.log_metric(name, value)
        files.write_json(Path(metrics.path), numbers)
    return numbers


def series(rows: Iterable[Mapping[str, float]]) -> None:
    """Log to the run of the stage under way, if there is one, a point of each metric a row, at its `step`.

    One call for up to a thousand points, so call it at the end of the work, or now and then.
    """
    run = stage_run()
    if run is None:
        return
    mlflow = client()
    for points in curves.batches(rows):
        mlflow.log_batch(run, metrics=points)


def stage_run() -> str | None:
    """Return the id of the run of the stage under way, or None outside one."""
    return os.environ.get("SYMBOL_LLM_STAGE_RUN")


def _said(numbers: Numbers) -> str:
    """Return what a stage's numbers come to, in a few words."""
    shown = {k: v for k, v in numbers.items() if k in HEADLINE}
    return ", ".join(f"{HEADLINE[k].format(v)}" for k, v in shown.items())


def absent_is_none(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return `call(*arguments)`, or None where MLflow says that there is no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return call(*arguments)
    except MlflowException as e:
        if e.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def search(call: Callable[..., Any], filter_: str) -> list[Any]:
    """Return all that `call`, a search of the client, finds by `filter_`, over all pages."""
    found, token = [], None
    while True:
        page = call(filter_, page_token=token)
        found += page
        if not (token := page.token):
            return found


def tag(run: str, tags: Mapping[str, str]) -> None:
    """Set `tags` on `run`."""
    mlflow = client()
    for key, value in tags.items():
        mlflow.set_tag(run, key, value)


def artifact(run: str, name: str) -> Path:
    """Return a local copy of the artifact `name` of `run`."""
    return Path(client().download_artifacts(run, name))


def is_served() -> bool:
    """Return whether runs and registry are kept by a server, and not in a file of this machine."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://"))


def keep(run: str, folder: Path) -> str:
    """Copy `folder` to the artifacts of `run`, and return its address there."""
    mlflow = client()
    mlflow.log_artifacts(run, str(folder), folder.name)
    return f"{mlflow.get_run(run).info.artifact_uri}/{folder.name}"


def download(uri: str, folder: Path) -> Path:
    """Fetch the files of the artifact `uri` into `folder`, and return it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder.mkdir(parents=True)
    _answered(get_artifact_repository(uri).download_artifacts, artifact_path="", dst_path=str(folder))
    return folder


def _tags(mlflow: Any, stage: str) -> dict[str, str]:
    above = _above(mlflow)
    if not above:
        mine = mlflow.search_runs([experiment(mlflow)], "tags.symbol_llm.kind = 'command line'", max_results=1)
        above = mine[0].info.run_id if mine else _command_line(mlflow)
    return {PARENT_TAG: above, "symbol_llm.stage": stage}


def _above(mlflow: Any) -> str | None:
    """Return the run of the pipeline that the stage belongs to, or None on the command line."""
    if given := os.environ.get("MLFLOW_RUN_ID"):
        return given
    pipeline = os.environ.get(PIPELINE_VARIABLE)
    return _of_pipeline(mlflow, pipeline) or _begin_pipeline(mlflow, pipeline) if pipeline else None


def _of_pipeline(mlflow: Any, pipeline: str) -> str | None:
    """Return the run of Kubeflow's run `pipeline`, the first of them if tasks at once have begun several."""
    found = mlflow.search_runs(
        [experiment(mlflow)], f"tags.`{PIPELINE_TAG}` = '{pipeline}'", max_results=1, order_by=["start_time", "run_id"]
    )
    return str(found[0].info.run_id) if found else None


def _begin_pipeline(mlflow: Any, pipeline: str) -> str:
    """Begin the run of Kubeflow's run `pipeline`; of tasks that do so at once one wins, and the others drop theirs."""
    name = os.environ.get(PIPELINE_NAME_VARIABLE) or "pipeline"
    tags = {PIPELINE_TAG: pipeline, "symbol_llm.kind": "pipeline"}
    mine = str(mlflow.create_run(experiment(mlflow), run_name=name, tags=tags).info.run_id)
    first = _of_pipeline(mlflow, pipeline) or mine
    if first != mine:
        mlflow.delete_run(mine)
    return first


def end_pipeline(*, succeeded: bool, why: str = "") -> None:
    """End the run of the pipeline that this task belongs to, if a stage has begun one; `why` says what failed."""
    mlflow, pipeline = client(), os.environ.get(PIPELINE_VARIABLE)
    run = _of_pipeline(mlflow, pipeline) if pipeline else None
    if run:
        if why:
            mlflow.set_tag(run, "mlflow.note.content", why)
        mlflow.set_terminated(run, "FINISHED" if succeeded else "FAILED")


def _made_with() -> dict[str, str]:
    """Return the tags that name the code; the commit under MLflow's own name, which its pages link and compare by."""
    made = provenance.provenance()
    commit, dirty = (made["revision"] or "unknown").removesuffix("-dirty"), str(made["revision"]).endswith("-dirty")
    tags = {"mlflow.source.git.commit": commit, "symbol_llm.dirty": str(dirty).lower(), "symbol_llm.code": made["code"]}
    return tags | {"symbol_llm.packages": json.dumps({"python": made["python"], **made["packages"]})}


def _command_line(mlflow: Any) -> str:
    """Make the run that stands above all stages of the command line, which has no end of its own and is ended at once."""
    tags = {"symbol_llm.kind": "command line"} | life.tags()
    run = str(mlflow.create_run(experiment(mlflow), run_name="command line", tags=tags).info.run_id)
    mlflow.set_terminated(run, "FINISHED")
    return run


def _log_params(mlflow: Any, run: str, params: BaseModel) -> None:
    from mlflow.entities import Param

    flat = sorted(_flatten(params.model_dump(mode="json")))
    mlflow.log_batch(run, params=[Param(key, str(value)[:MAX_PARAM]) for key, value in flat])


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _log_stage(mlflow: Any, run: str, numbers: Numbers, arguments: Mapping[str, Any], points: list[Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

    now = int(time.time() * 1000)
    figures = [Metric(key, value, now, 0) for key, value in sorted(numbers.items())]
    mlflow.log_batch(run, metrics=[*figures, *points])
    inputs = []
    for name, value in arguments.items():
        if isinstance(value, BaseModel):
            _log_params(mlflow, run, value)
        elif isinstance(value, Path) and value.exists() and name != "out":
            of = {"digest": files.hash_path(value)[:36], "source_type": "local", "source": str(value)}
            known_as = str(arguments.get("name", name)) if name == "folder" else name
            data = Dataset(name=known_as, **of, profile=_profile(value))
            inputs.append(DatasetInput(data, [InputTag("mlflow.data.context", name)]))
    mlflow.log_inputs(run, inputs)
    out = arguments.get("out")
    if isinstance(out, Path) and out.is_dir():
        mlflow.set_tag(run, "symbol_llm.output_sha256", files.hash_path(out))
        for key, value in outputs.ran(out).items():
            mlflow.set_tag(run, f"symbol_llm.{key}", value)
        for file in sorted(p for p in out.iterdir() if p.suffix in SHOWN or p.name in SHOWN):
            mlflow.log_artifact(run, str(file))


def _profile(folder: Path) -> str | None:
    """Return what made the data set and its figures, as MLflow shows them beside it, or None where no stage of ours did."""
    if not (folder / files.MANIFEST).is_file():
        return None
    found = files.read_json(folder / files.MANIFEST)
    return json.dumps({"stage": found.get("stage"), **found.get("metrics", {})})


def _log_explored(
    mlflow: Any, run: str, *, out: Path, collection: Path | None = None, shard: Shard = WHOLE, **_: Any
) -> None:
    """Log what an exploration came to: shares of verdicts, and, of the first shard, some samples as traces."""
    if not (out / "candidates.jsonl").is_file():
        return
    judged = samples.read(out)
    for points in curves.batches(samples.shares(judged)):
        mlflow.log_batch(run, metrics=points)
    if shard.number == 1:
        from mlflow.tracing.client import TracingClient

        chosen = samples.choose(judged)
        problems = read_problems(collection, "train") if collection else []
        questions = {p.id: p.question for p in problems if p.id in {c["problem"] for c, _ in chosen}}
        tracing = _Answered(TracingClient(os.environ["MLFLOW_TRACKING_URI"]))
        samples.trace(tracing, experiment(mlflow), run, chosen, questions)
