"""Series of figures in MLflow: the learning curve on the run of a pipeline, steps on the run of a stage.

The step of a point on the curve is its number from 0, the original model.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import STATUSES, Interval, Report, Summary

FILES = {"evaluate": "report.json", "promote": "curve.json"}
"""What the stages that have a curve leave it in."""
MAX_POINTS = 1000
"""Metrics that MLflow takes in one call."""


def log(mlflow: Any, run: str, stage: str, out: Any) -> None:
    """Log the curve that `stage` left in the folder `out`, if it has one, to the pipeline's `run`: points that it lacks.

    Points that came from a cache are among them. After the gate its decision and the page go there too.
    """
    if stage not in FILES or not isinstance(out, Path):
        return
    report = files.read_record(out / FILES[stage], Report)
    there = {point.step for point in mlflow.get_metric_history(run, "accuracy")}
    rows = [row for row in points(report) if row["step"] not in there]
    if rows and stage == "evaluate":
        rows[-1]["seconds"] = time.time() - mlflow.get_run(run).info.start_time / 1000
    for metrics in batches(rows):
        mlflow.log_batch(run, metrics=metrics)
    if stage == "promote":
        decision = files.read_json(out / "promotion.json")
        for key in ("promoted", "version", "reason"):
            mlflow.set_tag(run, f"symbol_llm.{key}", str(decision[key]))
        for name in (FILES["promote"], "report.html"):
            mlflow.log_artifact(run, str(out / name))


def fetch(run: str) -> Report:
    """Return the report at the end of the pipeline's `run` in MLflow, by its id.

    InvalidInput if `run` is no id, or there is no such run, or it has come to no end.
    """
    from symbol_llm.tracking import runs

    if not re.fullmatch("[0-9a-f]{32}", run):
        raise InvalidInput(f"{run}: no file or folder, and no id of a run in MLflow")
    mlflow = runs.client()
    if runs.absent_is_none(mlflow.get_run, run) is None:
        raise InvalidInput(f"{run}: no run in MLflow has this id")
    if FILES["promote"] not in {file.path for file in mlflow.list_artifacts(run)}:
        raise InvalidInput(f"{run}: the run has no curve; is it a pipeline's, and has it come to its end?")
    return files.read_record(runs.artifact(run, FILES["promote"]), Report)


def points(report: Report) -> list[dict[str, float]]:
    """Return the figures of each point of the curve that ends in `report`, with its `step`.

    `samples` counts those of all rounds so far.
    """
    out, samples = [], 0.0
    for step, summary in enumerate((*report.history, report.summary)):
        samples += sum(summary.round.get(f"n_{status}", 0.0) for status in STATUSES)
        out.append({"step": float(step), "samples": samples, **_figures(summary)})
    return out


def _figures(summary: Summary) -> dict[str, float]:
    intervals: dict[str, Interval | None] = {
        "accuracy": summary.overall,
        "accuracy_dev": summary.dev,
        "general_choice": summary.general.choice,
    }
    out = {f"round.{key}": value for key, value in summary.round.items()}
    out |= {f"family.{name}": scores.accuracy.mean for name, scores in summary.families.items()}
    out |= {f"domain.{name}": scores.accuracy.mean for name, scores in summary.domains.items()}
    for name, interval in intervals.items():
        if interval is not None:
            out |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if summary.general.perplexity is not None:
        out["perplexity"] = summary.general.perplexity
    return out


def batches(rows: Iterable[Mapping[str, float]]) -> Iterator[list[Any]]:
    """Yield the metrics of `rows`, each at the row's `step`, in lists that one call takes."""
    from mlflow.entities import Metric

    now, batch = int(time.time() * 1000), []
    for row in rows:
        for key, value in row.items():
            if key != "step":
                batch.append(Metric(key, float(value), now, int(row["step"])))
            if len(batch) == MAX_POINTS:
                yield batch
                batch = []
    if batch:
        yield batch
