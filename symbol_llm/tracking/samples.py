"""What an exploration came to, for people: shares of verdicts as the work went on, and a few samples as traces.

Both are read from what the stage wrote, whose order is that in which problems were worked on. Of an exploration in shards
each has its shares; traces are those of the first.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from symbol_llm.ground.files import read_json_lines
from symbol_llm.ground.records import STATUSES

N_TRACES = 10
N_POINTS = 50
"""Of the shares of one origin."""
MAX_TEXT = 4000
"""Characters of a text in a trace."""
VARIABLE = "SYMBOL_LLM_TRACES"
"""`0`: no traces."""
Judged = tuple[dict[str, Any], dict[str, Any]]
"""Candidate and verdict, as they lie in the files."""

logger = logging.getLogger(__name__)


def read(explored: Path) -> list[Judged]:
    """Return the candidates of an exploration with their verdicts, in the order of the files."""
    verdicts = {row["candidate"]: row for _, row in read_json_lines(explored / "verdicts.jsonl")}
    return [(row, verdicts[row["id"]]) for _, row in read_json_lines(explored / "candidates.jsonl")]


def shares(judged: Iterable[Judged]) -> list[dict[str, float]]:
    """Return the shares of verdicts by origin, each over the samples since the point before; `step` counts samples.

    A point has all statuses that its origin has at all, as `verdicts.explore.accepted`.
    """
    by_origin: dict[str, list[str]] = defaultdict(list)
    for candidate, verdict in judged:
        by_origin[candidate["origin"]].append(verdict["status"])
    rows = []
    for origin, all_ in by_origin.items():
        size = -(-len(all_) // N_POINTS)
        for at in range(0, len(all_), size):
            part = Counter(all_[at : at + size])
            n = part.total()
            row = {f"verdicts.{origin}.{status}": part[status] / n for status in STATUSES if status in all_}
            rows.append({"step": float(at + n), **row})
    return rows


def choose(judged: Iterable[Judged], n: int = N_TRACES) -> list[Judged]:
    """Return `n` samples, those of each status in turn, each time the first one of a problem that is not there yet."""
    by_status: dict[str, dict[str, Judged]] = {status: {} for status in STATUSES}
    for one in judged:
        by_status[one[1]["status"]].setdefault(one[1]["problem"], one)
    chosen: dict[str, Judged] = {}
    left = [iter(of.values()) for of in by_status.values()]
    while left and len(chosen) < n:
        for one_status in list(left):
            fresh = next((one for one in one_status if one[1]["problem"] not in chosen), None)
            if fresh is None:
                left.remove(one_status)
            else:
                chosen[fresh[1]["problem"]] = fresh
    return list(chosen.values())[:n]


def trace(tracing: Any, experiment: str, run: str, judged: Iterable[Judged], questions: Mapping[str, str]) -> int:
    """Log each of `judged` as a trace of `run`: the question, the reply, and in a span below it what judging said.

    Return how many were logged. A server that takes no traces is warned of, and the rest goes without.
    """
    from mlflow.exceptions import MlflowException

    if os.environ.get(VARIABLE) == "0":
        return 0
    n = 0
    try:
        spans = []
        for candidate, verdict in judged:
            info, below = _trace(experiment, run, candidate, verdict, questions.get(candidate["problem"], ""))
            tracing.start_trace(info)
            spans += below
            n += 1
        if spans:
            tracing.log_spans(experiment, spans)
    except (MlflowException, NotImplementedError) as e:
        logger.warning("samples are not traced, MLflow does not take them (%s=0 turns them off): %s", VARIABLE, e)
        return 0
    return n


def _trace(
    experiment: str, run: str, candidate: Mapping[str, Any], verdict: Mapping[str, Any], question: str
) -> tuple[Any, list[Any]]:
    """Return the head of a trace and its spans. Times are those of writing: the files hold none."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.constant import SpansLocation, TraceMetadataKey, TraceTagKey

    now_ns, id_ = time.time_ns(), f"tr-{uuid.uuid4().hex}"
    program, status = str(verdict["program"] or ""), str(verdict["status"])
    info = TraceInfo(
        trace_id=id_,
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=now_ns // 1_000_000,
        execution_duration=0,
        state=TraceState.OK,
        request_preview=_text(question),
        response_preview=_text(program or str(candidate["reply"])),
        trace_metadata={TraceMetadataKey.SOURCE_RUN: run, "mlflow.trace_schema.version": "3"},
        tags={
            TraceTagKey.TRACE_NAME: f"{candidate['origin']} {status}",
            TraceTagKey.SPANS_LOCATION: SpansLocation.TRACKING_STORE.value,
            "symbol_llm.problem": str(candidate["problem"]),
            "symbol_llm.candidate": str(candidate["id"]),
            "symbol_llm.origin": str(candidate["origin"]),
            "symbol_llm.status": status,
        },
    )
    said = {key: verdict[key] for key in ("status", "score", "value", "detail", "verifier")}
    root = uuid.uuid4().hex[:16]
    sample = _span(id_, root, None, "sample", "LLM", {"question": question}, {"reply": candidate["reply"]}, now_ns)
    judging = _span(id_, uuid.uuid4().hex[:16], root, "judge", "EVALUATOR", {"program": program}, said, now_ns)
    return info, [sample, judging]


def _span(
    trace_id: str, id_: str, parent: str | None, name: str, kind: str, inputs: Any, outputs: Any, now_ns: int
) -> Any:
    from mlflow.entities import Span

    texts = {"mlflow.spanInputs": _cut(inputs), "mlflow.spanOutputs": _cut(outputs)}
    attributes = {"mlflow.traceRequestId": trace_id, "mlflow.spanType": kind} | texts
    return Span.from_dict(
        {
            "trace_id": trace_id,
            "span_id": id_,
            "parent_span_id": parent,
            "name": name,
            "start_time_unix_nano": now_ns,
            "end_time_unix_nano": now_ns,
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "attributes": {key: json.dumps(value) for key, value in attributes.items()},
            "events": [],
        }
    )


def _cut(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _text(value) if isinstance(value, str) else value for key, value in values.items()}


def _text(text: str) -> str:
    """Return what of a model's text every database takes: so long, and without NUL and halves of surrogate pairs."""
    return text[:MAX_TEXT].replace("\0", "\ufffd").encode(errors="replace").decode()
