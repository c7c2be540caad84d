"""OpenTelemetry traces: a span a request, and below it the wait for the engine, the generation, and each program that is run.

Where spans go, and of how many requests, is said by OpenTelemetry's own variables: `OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER` and the others. Without an address none are made. What was asked and
what the model wrote is in no span.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode

ADDRESSES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
tracer = trace.get_tracer("symbol-llm")


def start() -> None:
    """Send spans from now on, in a thread of the SDK's, where the environment says; nowhere if it says nothing."""
    if not any(os.environ.get(name) for name in ADDRESSES):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", "symbol-llm")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def span(name: str, attributes: Mapping[str, str], **where: Any) -> AbstractContextManager[Span]:
    """Return a span for the block, below the one that is current. What is raised in it is not written down: it may quote what was asked."""
    return tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False, **where
    )


def request(scope: Mapping[str, Any], id_: str) -> AbstractContextManager[Span]:
    """Return the span of the HTTP request `scope`, below the caller's own if its headers name one (W3C Trace Context)."""
    sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    about = {"http.request.method": scope["method"], "symbol_llm.request": id_}
    return span(scope["method"], about, context=propagate.extract(sent), kind=SpanKind.SERVER)


def answered(span: Span, scope: Mapping[str, Any], status: int, caller: str) -> None:
    """Write into the span of a request how it was answered; status 0: the client had left."""
    route = getattr(scope.get("route"), "path", None)
    if route:
        span.update_name(f"{scope['method']} {route}")
    told = {"http.route": route, "http.response.status_code": status or None, "symbol_llm.caller": caller}
    span.set_attributes({key: value for key, value in told.items() if value})
    if status >= 500:  # noqa: PLR2004
        span.set_status(StatusCode.ERROR)


def past(name: str, began: float, ended: float, **attributes: int) -> None:
    """Add a span that is over, by two times of the monotonic clock, below the one that is current."""
    ahead_ns = time.time_ns() - round(time.monotonic() * 1e9)
    at, until = (ahead_ns + round(when * 1e9) for when in (began, ended))
    tracer.start_span(name, start_time=at, attributes=attributes).end(until)
