"""What a client gets that asks wrongly, unclearly or for what there is not: a status, a reason in a line, in its protocol's form."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.scripted import APPLES, BREAK, SLEEP, WAIT, Server, until
from tests.serving.test_callers import made

CHAT, TEXT, SOLVE = "/openai/v1/chat/completions", "/openai/v1/completions", "/v1/solve"
PREDICT, INFER, JUDGE = "/v1/models/symbol-llm:predict", "/v2/models/symbol-llm/infer", "/v1/judge"
MESSAGES = [{"role": "user", "content": APPLES}]
SECRET = "a question that nobody else may read"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(n_waiting=4)
    yield started
    started.stop()


def asked(server: Server, path: str, body: Any, method: str = "POST", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.request(method, server.url + path, content=content, headers=headers, timeout=60)


def why(reply: httpx.Response) -> str:
    """Return the reason, which has to have the form of the path's protocol and one line."""
    error = reply.json()["error"]
    if reply.url.path.startswith("/openai/"):
        assert error.keys() == {"message", "type", "param", "code"}
        error = error["message"]
    assert "\n" not in error
    return str(error)


@pytest.mark.parametrize("path", [CHAT, TEXT, SOLVE, JUDGE, PREDICT, INFER])
@pytest.mark.parametrize(
    "body",
    [b"{nope", b"", b"[1]", b'{"question": "\xff\xfe"}', b'{"k": NaN}', b"[" * 100_000, b'{"k": 1%s}' % (b"0" * 5000)],
    ids=["torn", "empty", "list", "not UTF-8", "NaN", "deep", "huge"],
)
def test_body_that_is_not_the_json_of_a_request_is_refused_in_a_line(server: Server, path: str, body: bytes) -> None:
    reply = asked(server, path, body, **{"Content-Type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert len(why(reply)) < 250
    assert not why(reply).startswith("row")


# --- every door, every fault -------------------------------------------------------------------------------------------

QUESTION: dict[str, Any] = {"question": APPLES}
TENSORS = {"inputs": [{"name": "question", "shape": [1], "datatype": "BYTES", "data": [APPLES]}]}
DOORS: dict[str, Any] = {
    CHAT: {"messages": MESSAGES},
    TEXT: {"prompt": APPLES},
    SOLVE: QUESTION,
    PREDICT: {"instances": [QUESTION]},
    INFER: TENSORS,
    JUDGE: {"task": "word_problems", "answer": 7, "reply": "answer = 7"},
}
"""Where a question or a reply goes in, and one that is answered."""
MODELS = {
    CHAT: (CHAT, {"model": "other"}),
    TEXT: (TEXT, {"model": "other"}),
    SOLVE: ("/v1/solves", {}),
    PREDICT: ("/v1/models/other:predict", {}),
    INFER: ("/v2/models/other/infer", {}),
    JUDGE: ("/v1/judges", {}),
}
"""Whom to ask at each door that there is not."""


def refused(reply: httpx.Response, status: int, code: str | None = None) -> str:
    """Return why `reply` refuses, which has to have `status`, the form of its protocol, and the id that was sent."""
    assert reply.status_code == status, reply.text
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["content-type"] == "application/json"
    assert ("retry-after" in reply.headers) == (status in (429, 503))
    if reply.url.path.startswith("/openai/"):
        error = reply.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error" if status < 500 else "server_error", code)
    return why(reply)


@pytest.mark.parametrize("path", DOORS)
def test_door_is_open_to_a_good_request(server: Server, path: str) -> None:
    reply = asked(server, path, DOORS[path])
    assert (reply.status_code, len(reply.headers["x-request-id"])) == (200, 32)


@pytest.mark.parametrize("path", DOORS)
def test_fault_of_a_request_is_told_in_the_form_of_its_door(server: Server, path: str) -> None:
    mine = {"X-Request-ID": "mine-1"}
    assert "POST" in asked(server, path, b"", "GET", **mine).headers["allow"]
    refused(asked(server, path, b"", "GET", **mine), 405)
    refused(asked(server, path, b"{", **mine), 400)
    assert "larger than 1048576 bytes" in refused(asked(server, path, b" " * 2**20 + b"{}", **mine), 413)
    for kind in ("application/xml", "multipart/form-data; boundary=x", "image/png"):
        said = refused(asked(server, path, DOORS[path], **mine, **{"Content-Type": kind}), 415)
        assert said == f"the body is '{kind.partition(';')[0]}': expected 'application/json'"
    said = refused(asked(server, path, DOORS[path], **mine, **{"Content-Encoding": "gzip"}), 415)
    assert said == "the body is 'gzip': expected one that is not compressed"
    other, more = MODELS[path]
    refused(asked(server, other, DOORS[path] | more, **mine), 404, "model_not_found" if more else None)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/ld+json", "TEXT/PLAIN", ""])
def test_json_by_another_name_is_read(server: Server, kind: str) -> None:
    for path, body in DOORS.items():
        assert asked(server, path, body, **{"Content-Type": kind}).status_code == 200, path


def test_request_without_a_body_may_call_it_what_it_likes(server: Server) -> None:
    assert asked(server, "/v1/tasks", b"", "GET", **{"Content-Type": "text/html"}).status_code == 200


def test_caller_who_is_not_known_or_asks_too_often_is_told_so_at_each_door(tmp_path: Path) -> None:
    keys = tmp_path / "callers.txt"
    key = made(keys, "alice", "--per-minute", "1")
    server = Server(keys=keys)
    try:
        assert asked(server, "/v1/tasks", b"", "GET", Authorization=f"Bearer {key}").status_code == 200
        for path, body in DOORS.items():
            mine = {"X-Request-ID": "mine-1"}
            reply = asked(server, path, body, **mine)
            assert "a key is needed" in refused(reply, 401, "invalid_api_key")
            assert reply.headers["www-authenticate"] == "Bearer"
            reply = asked(server, path, body, **mine, Authorization=f"Bearer {key}")
            assert "the key is good for 1 requests a minute" in refused(reply, 429, "rate_limit_exceeded")
            assert 1 <= int(reply.headers["retry-after"]) <= 61
    finally:
        server.stop()


def test_request_that_takes_too_long_is_told_so_at_each_door_of_the_model() -> None:
    held = {CHAT: {"messages": [{"role": "user", "content": WAIT}]}, TEXT: {"prompt": WAIT}}
    held |= {SOLVE: {"question": WAIT}, PREDICT: {"instances": [{"question": WAIT}]}}
    server = Server(deadline_s=0.5)
    try:
        for path, body in held.items():
            assert refused(asked(server, path, body, **{"X-Request-ID": "mine-1"}), 504).startswith(
                "no answer within 0.5 s"
            )
    finally:
        server.stop()


def test_probe_of_a_server_without_a_model_has_an_id_too(tmp_path: Path) -> None:
    server = Server(tmp_path / "weights", ready=False)
    try:
        for path in ("/v1/models/symbol-llm", "/v2/models/symbol-llm/ready"):
            reply = asked(server, path, b"", "GET", **{"X-Request-ID": "mine-1"})
            assert (reply.status_code, reply.headers["x-request-id"]) == (503, "mine-1")
    finally:
        server.stop()


@pytest.mark.parametrize("path", [CHAT, "/openai/v1/models", "/openai/nothing", "/nothing", SOLVE, INFER])
def test_method_or_path_that_there_is_not_is_refused_in_the_form_of_its_protocol(server: Server, path: str) -> None:
    for method in ("DELETE", "OPTIONS", "PUT"):
        reply = asked(server, path, b"", method)
        assert reply.status_code in (404, 405)
        assert why(reply)


def test_v2_takes_json_whatever_the_client_calls_it(server: Server) -> None:
    body = {"inputs": [{"name": "question", "shape": [1], "datatype": "BYTES", "data": [APPLES]}]}
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        assert asked(server, INFER, body, **{"Content-Type": kind}).status_code == 200
    assert asked(server, INFER, body).status_code == 200


def test_v2_describes_its_tensors(server: Server) -> None:
    told = asked(server, "/v2/models/symbol-llm", b"", "GET").json()
    assert [(one["name"], one["datatype"]) for one in told["inputs"]] == [
        *((name, "BYTES") for name in ("question", "task", "context", "script")),
        ("k", "INT64"),
    ]
    assert [one["name"] for one in told["outputs"]] == ["status", "answer", "program", "k", "ran", "agreed", "spared"]
    assert {tuple(one["shape"]) for one in (*told["inputs"], *told["outputs"])} == {(-1,)}


@pytest.mark.parametrize("path", [CHAT, SOLVE, PREDICT, INFER, "/openai/v1/models", "/v1/tasks"])
def test_slash_at_the_end_changes_nothing(server: Server, path: str) -> None:
    body = DOORS.get(path, b"")
    method = "GET" if path.endswith(("models", "tasks")) else "POST"
    assert asked(server, f"{path}/", body, method).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/health", "/metrics", "/v1/tasks", "/openai/v1/models", "/v1/models/symbol-llm"]
)
def test_head_is_answered_as_get_without_a_body(server: Server, path: str) -> None:
    reply = asked(server, path, b"", "HEAD")
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-type"] == asked(server, path, b"", "GET").headers["content-type"]


# --- OpenAI's protocol -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"logprobs": True}, "logprobs: not supported"),
        ({"top_logprobs": 3}, "top_logprobs: not supported"),
        ({"tools": [{"type": "function"}]}, "tools: not supported"),
        ({"functions": [{"name": "f"}]}, "functions: not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format: not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias: not supported"),
        ({"presence_penalty": 1}, "presence_penalty: not supported"),
        ({"best_of": 3}, "best_of: not supported"),
        ({"n": 0}, "n: "),
        ({"n": 33}, "n: "),
        ({"n": 10**30}, "n: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"max_tokens": 10**30}, "max_tokens: "),
        ({"temperature": 2.1}, "temperature: "),
        ({"temperature": -0.1}, "temperature: "),
        ({"temperature": "hot"}, "temperature: "),
        ({"top_p": 0}, "top_p: "),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [None]}, "stop"),
        ({"model": 5}, "model: "),
    ],
)
def test_what_cannot_be_heeded_is_refused_by_name(server: Server, more: dict[str, Any], message: str) -> None:
    for path, body in ((CHAT, {"messages": MESSAGES}), (TEXT, {"prompt": APPLES})):
        reply = asked(server, path, body | more)
        assert reply.status_code == 400, (path, reply.text)
        assert why(reply).startswith(message)


@pytest.mark.parametrize(
    "more",
    [
        {
            name: None
            for name in ("temperature", "top_p", "n", "seed", "stream", "model", "stop", "tools", "max_tokens")
        },
        {"logprobs": None, "top_logprobs": None, "response_format": {"type": "text"}, "logit_bias": {}},
        {"tools": [], "presence_penalty": 0, "frequency_penalty": 0.0, "best_of": 1, "user": "u", "store": False},
    ],
)
def test_what_says_nothing_is_as_if_it_were_not_sent(server: Server, more: dict[str, Any]) -> None:
    for path, body in ((CHAT, {"messages": MESSAGES}), (TEXT, {"prompt": APPLES})):
        assert asked(server, path, body | more).status_code == 200, path


def test_messages_may_be_parts_of_text_and_a_developers(server: Server) -> None:
    parts = [
        {"type": "text", "text": "Ana has 3 apples "},
        {"type": "text", "text": APPLES.removeprefix("Ana has 3 apples ")},
    ]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    reply = asked(server, CHAT, {"messages": messages, "temperature": 0})
    assert reply.json()["choices"][0]["message"]["content"] == "answer = 5"
    for content in ([{"type": "image_url", "image_url": {"url": "http://x"}}], None, 5):
        reply = asked(server, CHAT, {"messages": [{"role": "user", "content": content}]})
        assert (reply.status_code, why(reply)[:10]) == (400, "messages.0")


def test_other_models_than_the_one_there_is_are_not_answered_for(server: Server) -> None:
    for path, body in ((CHAT, {"messages": MESSAGES}), (TEXT, {"prompt": APPLES})):
        reply = asked(server, path, body | {"model": "gpt-4"})
        assert (reply.status_code, why(reply)) == (404, "model 'gpt-4' is not served; 'symbol-llm' is")
        assert asked(server, path, body | {"model": "symbol-llm"}).json()["model"] == "symbol-llm"
    assert asked(server, "/openai/v1/models/symbol-llm", b"", "GET").json()["id"] == "symbol-llm"
    assert why(asked(server, "/openai/v1/models/gpt-4", b"", "GET")) == "model 'gpt-4' is not served; 'symbol-llm' is"


def test_ids_begin_as_openais_do(server: Server) -> None:
    assert asked(server, CHAT, {"messages": MESSAGES}).json()["id"].startswith("chatcmpl-")
    assert asked(server, TEXT, {"prompt": APPLES}).json()["id"].startswith("cmpl-")


# --- load, faults of ours, the log -------------------------------------------------------------------------------------


def test_each_answer_503_says_when_to_come_back_a_stream_too(server: Server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    question = {"question": APPLES}
    tensors = {"inputs": [{"name": "question", "shape": [1], "datatype": "BYTES", "data": [APPLES]}]}
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(asked, server, SOLVE, {"question": SLEEP, "k": 3}) for _ in range(4)]
        until(lambda: "symbol_llm_waiting 4.0" in server.get("/metrics")[1])
        for path, body, kind in (
            (CHAT, {"messages": MESSAGES}, "application/json"),
            (CHAT, {"messages": MESSAGES, "stream": True}, "application/json"),
            (SOLVE, question, "application/json"),
            (SOLVE, question, "text/event-stream"),
            (PREDICT, {"instances": [question]}, "application/json"),
            (INFER, tensors, "application/json"),
            (JUDGE, {"task": "word_problems", "answer": 1, "reply": "answer = 1"}, "application/json"),
        ):
            reply = asked(server, path, body, Accept=kind)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1"), (path, reply.text)
            assert why(reply).startswith("4 requests wait already")
        assert {one.result().status_code for one in held} == {200}


def test_fault_of_ours_has_the_form_of_openais_protocol_too() -> None:
    broken = Server()
    try:
        reply = asked(broken, CHAT, {"messages": [{"role": "user", "content": BREAK}]})
        assert (reply.status_code, why(reply)) == (500, "RuntimeError: the device is gone")
    finally:
        broken.stop()


def test_bad_requests_leave_a_line_each_in_the_log_and_nothing_of_what_was_asked(
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = Server()
    try:
        for path in (CHAT, TEXT, SOLVE, JUDGE, PREDICT, INFER):
            asked(server, path, {"question": SECRET, "nonsense": SECRET})
            asked(server, path, SECRET.encode(), **{"Content-Type": "application/json"})
        asked(server, "/v1/models/other:predict", {"instances": [{"question": SECRET}]})
        urllib.request.urlopen(f"{server.url}/health").close()
    finally:
        server.stop()
    told = capfd.readouterr()
    assert (told.out + told.err).count('"request":') == 13
    assert "Traceback" not in told.out + told.err
    assert SECRET not in told.out + told.err
