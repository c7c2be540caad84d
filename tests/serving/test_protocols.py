"""KServe's own clients against the server, v1 and v2, text and binary; tensors that are no questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

from tests.serving.scripted import APPLES, Server

CITIES = "CREATE TABLE cities (name TEXT, people INTEGER); INSERT INTO cities VALUES ('Bern', 134), ('Basel', 173);"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(n_waiting=16)
    yield started
    started.stop()


def inferred(server: Server, data: Any, protocol: str = "v2") -> Any:
    """Return what KServe's client gets."""

    async def ask() -> Any:
        async with InferenceRESTClient(RESTConfig(protocol=protocol, timeout=60)) as client:
            return await client.infer(server.url, data, model_name="symbol-llm")

    return asyncio.run(ask())


def tensor(name: str, values: list[Any], datatype: str = "BYTES", *, binary: bool = False) -> InferInput:
    made = InferInput(name, [len(values)], datatype)
    kind = np.object_ if datatype == "BYTES" else np.int32
    made.set_data_from_numpy(np.array(values, dtype=kind), binary_data=binary)
    return made


def columns(response: Any) -> dict[str, list[Any]]:
    found = {output.name: output.as_numpy().tolist() for output in response.outputs}
    return {name: [v.decode() if isinstance(v, bytes) else v for v in values] for name, values in found.items()}


def test_v1_client_gets_predictions(server: Server) -> None:
    answer = inferred(server, {"instances": [{"question": APPLES, "k": 5}]}, "v1")
    assert answer["predictions"][0]["answer"] == "7"


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("name", ["mine", None], ids=["with-id", "without-id"])
def test_v2_client_gets_an_element_a_question(server: Server, binary: bool, name: str | None) -> None:
    inputs = [
        tensor("question", [APPLES, "Which city has the most people?"], binary=binary),
        tensor("task", ["", "table_questions"], binary=binary),
        tensor("script", ["", CITIES], binary=binary),
        tensor("k", [5, 1], "INT32", binary=binary),
    ]
    parameters = {"binary_data_output": True} if binary else {}
    response = inferred(server, InferRequest("symbol-llm", inputs, request_id=name, parameters=parameters))
    found = columns(response)
    assert found["status"] == ["answered", "answered"]
    assert found["answer"][0] == "7"
    assert "Basel" in found["answer"][1]
    votes = list(zip(found["k"], found["ran"], found["agreed"], found["spared"], strict=True))
    assert votes[1] == (1, 1, 1, 0)
    assert votes[0] in ((5, 4, 3, 0), (5, 4, 3, 1), (5, 3, 3, 1), (5, 3, 3, 2))  # by which of them decide the vote
    assert found["program"][0] in ("answer = 7", "answer = 3 + 4", "answer = 9 - 2")
    assert response.id == name if name else response.id


def test_question_without_an_answer_has_empty_texts(server: Server) -> None:
    found = columns(inferred(server, InferRequest("symbol-llm", [tensor("question", ["Say nothing."])])))
    assert (found["status"], found["answer"], found["program"]) == (["unsolved"], [""], [""])


def body(**tensors: Any) -> bytes:
    inputs = [{"name": n, "datatype": "BYTES", "shape": [1], "data": ["x"]} | (t or {}) for n, t in tensors.items()]
    return json.dumps({"inputs": inputs}).encode()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (body(task=None), "expected a `question`"),
        (body(question=None, answer=None), "input 'answer': expected each of question, task"),
        (
            body(question={"shape": [2], "data": ["a", "b"]}, k={"datatype": "INT32", "data": [1]}),
            "inputs of one length",
        ),
        (body(question={"shape": [2]}), "input 'question': expected BYTES"),
        (body(question=None, k={"datatype": "INT32", "data": ["many"]}), "input 'k': expected an integer type"),
        (body(question=None, k={"datatype": "INT32", "data": [99]}), "k: input should be less than or equal to 32"),
        (body(question={"data": [" "]}), "question: "),
        (body(question={"shape": [17], "data": ["x"] * 17}), "instances: "),
        (b'{"inputs": []}', "expected a `question`"),
    ],
)
def test_tensors_that_are_no_questions_are_refused_in_words(server: Server, sent: bytes, message: str) -> None:
    status, text = server.get("/v2/models/symbol-llm/infer", sent)
    assert (status, message in json.loads(text)["error"]) == (400, True), text


@pytest.mark.parametrize("sent", [b"", b"no json", b"[]", b'{"inputs": 3}', b'{"inputs": [{"name": "question"}]}'])
def test_body_that_is_no_request_is_refused(server: Server, sent: bytes) -> None:
    status, text = server.get("/v2/models/symbol-llm/infer", sent)
    assert 400 <= status < 500, text


def test_torn_binary_tensor_is_refused(server: Server) -> None:
    head = {"inputs": [{"name": "question", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}]}
    text = json.dumps(head).encode()
    told = {"Inference-Header-Content-Length": str(len(text))}
    kind = "application/octet-stream"
    status, answer = server.get("/v2/models/symbol-llm/infer", text + b"\xff\xff\xff\x7fab", kind, **told)
    assert 400 <= status < 500, answer
