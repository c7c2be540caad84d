"""Traces of requests, as a real MLflow takes them over OpenTelemetry's protocol."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import tracing
from tests.services import free_port, running
from tests.serving.scripted import APPLES, Server, until

CALLER = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
"""A caller's own span, as W3C Trace Context names it."""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={address.rpartition(':')[2]}"]
    settings = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with running([*command, "--workers=1"], folder / "log", f"{address}/health", env=os.environ | settings, wait_s=240):
        yield address


def traces(mlflow: str) -> list[Any]:
    from mlflow import MlflowClient

    return list(MlflowClient(mlflow).search_traces(locations=["0"]))


def sent_to(mlflow: str, monkeypatch: pytest.MonkeyPatch, **more: str) -> Server:
    variables = {"TRACES_ENDPOINT": f"{mlflow}/v1/traces", "HEADERS": "x-mlflow-experiment-id=0"}
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    for name, value in {"OTEL_BSP_SCHEDULE_DELAY": "100", **more}.items():
        monkeypatch.setenv(name, value)
    return Server()


def test_a_request_is_a_trace_of_its_parts_and_of_none_of_its_words(
    mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = sent_to(mlflow, monkeypatch)
    try:
        body = json.dumps({"question": APPLES, "whole": True}).encode()
        status, _ = server.get("/v1/solve", body, traceparent=CALLER, **{"X-Request-ID": "mine"})
        server.get("/health")
        assert (status, server.get("/nothing")[0]) == (200, 404)
        until(lambda: len(traces(mlflow)) >= 2)
    finally:
        server.stop()
    told = {trace.data.spans[0].trace_id: trace.data.spans for trace in traces(mlflow)}
    assert len(told) == 2
    spans = next(spans for spans in told.values() if len(spans) > 1)
    (root,) = [span for span in spans if span.name == "POST /v1/solve"]
    assert f"tr-{CALLER[3:35]}" == root.trace_id and root.parent_id == CALLER[36:52]
    expected = {"symbol_llm.request": "mine", "http.response.status_code": 200, "http.request.method": "POST"}
    assert expected.items() <= root.attributes.items()
    below = [span for span in spans if span is not root]
    assert {span.parent_id for span in below} == {root.span_id}
    assert sorted(span.name for span in below) == ["generate", "queue", *["run"] * 5]
    assert sorted(s.attributes["symbol_llm.status"] for s in below if s.name == "run") == [*["ran"] * 4, "unparsable"]
    assert all(root.start_time_ns <= s.start_time_ns <= s.end_time_ns <= root.end_time_ns for s in below)
    (other,) = [spans[0] for spans in told.values() if len(spans) == 1]
    assert (other.name, other.attributes["http.response.status_code"]) == ("GET", 404)
    written = json.dumps([span.to_dict() for spans in told.values() for span in spans])
    assert "Ana" not in written and "answer = " not in written


def test_a_share_of_requests_is_traced(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(traces(mlflow))
    server = sent_to(mlflow, monkeypatch, OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    try:
        assert server.answer(question=APPLES)["answer"] == "7"
    finally:
        server.stop()  # which sends what is left
    assert len(traces(mlflow)) == before


def test_what_is_raised_in_a_span_is_not_written_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    scope = {"method": "POST", "headers": []}
    with pytest.raises(ValueError, match="Ana"), tracing.request(scope, "mine"), tracing.span("run", {}):
        raise ValueError(APPLES)
    written = [one.to_json() for one in kept.get_finished_spans()]
    assert len(written) == 2 and not any("Ana" in one for one in written)


def test_a_collector_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = sent_to(f"http://127.0.0.1:{free_port()}", monkeypatch, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    try:
        assert server.answer(question=APPLES)["answer"] == "7"
    finally:
        assert server.stop() == 0
