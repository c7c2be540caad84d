"""Requests made from the server's own OpenAPI, and bent ones: no path fails with a fault of the server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.serving.promoted import Served, writer

SETTINGS = settings(
    max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    started = Served(model=str(writer(tmp_path_factory.mktemp("weights") / "w", "answer = 14 + 9"))).up()
    yield started
    started.stop()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_is_answered_with_a_fault_of_the_server(served: Served, mode: GenerationMode) -> None:
    """Both requests as described and others; what a server does not do (501) is no fault."""
    described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    faults, n_sent = dict[str, str](), 0

    def send(case: Any) -> None:
        nonlocal n_sent
        n_sent += 1
        response = case.call(timeout=60)
        if response.status_code >= 500 and response.status_code != 501:
            faults[case.operation.label] = f"{response.status_code}: {response.text[:200]} to {str(case.body)[:200]!r}"

    for found in described.get_all_operations():
        with contextlib.suppress(Unsatisfiable):  # an operation that takes nothing has no wrong request
            SETTINGS(given(found.ok().as_strategy(generation_mode=mode))(send))()
    assert faults == {}
    assert n_sent > 100


def test_bodies_are_described(served: Served) -> None:
    paths = served.get("/openapi.json")[1]["paths"]
    for path in ("/v1/solve", "/v1/judge", "/v1/judge/batch", "/openai/v1/chat/completions", "/openai/v1/completions"):
        body = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert "$ref" not in str(body)
        assert body["properties"], path
