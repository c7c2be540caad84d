"""What the server answers beside KServe's protocols, and how it takes new weights; all over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.serving.scripted import APPLES, BREAK, BROKEN, SLEEP, WAIT, WHO, Server, until


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(n_waiting=16)
    yield started
    started.stop()


def post(server: Server, path: str, body: Any) -> tuple[int, Any]:
    status, text = server.get(path, json.dumps(body).encode())
    return status, json.loads(text)


# --- solving, judging, chatting ----------------------------------------------------------------------------------------


def test_solve_gives_the_vote_and_every_program_in_order(server: Server) -> None:
    status, answer = post(server, "/v1/solve", {"question": APPLES, "k": 5, "whole": True})
    assert (status, answer["answer"], answer["votes"]) == (200, "7", {"k": 5, "ran": 4, "agreed": 3, "spared": 0})
    assert [(p["index"], p["value"]) for p in answer["programs"]] == [(0, "5"), (1, "7"), (2, "7"), (3, "7"), (4, None)]
    assert (answer["model"], answer["data"]) == ("first", "data of first")


def test_solve_tells_of_each_program_as_it_has_run(server: Server) -> None:
    import httpx

    body = {"question": APPLES, "k": 3, "whole": True}
    with httpx.stream(
        "POST", f"{server.url}/v1/solve", json=body, headers={"Accept": "text/event-stream"}, timeout=60
    ) as reply:
        events = [block.split("\ndata: ") for block in "".join(reply.iter_text()).strip().split("\n\n")]
    assert [name for name, _ in events] == ["event: program"] * 3 + ["event: answer"]
    assert sorted(json.loads(data)["index"] for _, data in events[:3]) == [0, 1, 2]
    assert json.loads(events[-1][1])["answer"] == "7"


def test_answers_of_both_weights_of_a_trial_are_told_to_who_asks_for_them(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_text("first")
    server = Server(weights, canary=0.5)
    question = {"question": WHO, "k": 2}
    try:
        assert "beside" not in post(server, "/v1/solve", question | {"beside": True})[1]
        weights.write_text("second")
        until(lambda: "canary" in json.loads(server.get("/health")[1]))
        both = [post(server, "/v1/solve", question | {"beside": True})[1] for _ in range(2)]
        assert "beside" not in post(server, "/v1/solve", question)[1]
        counted = server.get("/metrics")[1]
    finally:
        server.stop()
    assert {one["model"] for one in both} == {"first", "second"}
    for one in both:
        assert {one["model"], one["beside"]["model"]} == {"first", "second"}
        for told in (one, one["beside"]):
            assert (told["answer"], told["data"]) == (told["model"], f"data of {told['model']}")
            assert [program["value"] for program in told["programs"]] == [told["model"]] * 2
    assert 'symbol_llm_answers_total{status="answered"} 4.0' in counted


def test_where_no_program_gives_a_value_each_is_repaired_once_by_what_went_wrong(server: Server) -> None:
    status, answer = post(server, "/v1/solve", {"question": BROKEN, "k": 3, "whole": True})
    assert (status, answer["status"], answer["answer"], answer["repaired"]) == (200, "answered", "7", True)
    assert answer["votes"] == {"k": 3, "ran": 2, "agreed": 2, "spared": 0}
    assert [(p["index"], p["repairs"], p["value"]) for p in answer["programs"]] == [
        (0, None, None),
        (1, None, None),
        (2, None, None),
        (3, 0, "7"),
        (4, 1, "7"),
        (5, 2, None),
    ]


def test_what_ran_is_not_repaired_nor_what_stays_broken_twice(server: Server) -> None:
    status, answer = post(server, "/v1/solve", {"question": APPLES, "k": 5, "whole": True})
    assert (status, answer["repaired"], len(answer["programs"])) == (200, False, 5)
    status, answer = post(server, "/v1/solve", {"question": "Delete my files.", "k": 1})
    assert (status, answer["status"], answer["repaired"]) == (200, "unsolved", False)
    assert [p["repairs"] for p in answer["programs"]] == [None, 0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "question: field required"),
        ({"question": "1?", "k": 99}, "k: input should be less than or equal to 32"),
        ({"question": "1?", "task": "poetry"}, "unknown task 'poetry'"),
        ({"question": "1?", "shell": True}, "shell: extra inputs are not permitted"),
    ],
)
def test_solve_refuses_bad_input_in_one_line(server: Server, body: Any, message: str) -> None:
    status, answer = post(server, "/v1/solve", body)
    assert status == 400
    assert answer["error"].startswith(message)


def test_judge_gives_a_verdict_and_a_batch_one_each(server: Server) -> None:
    right, wrong = ({"task": "word_problems", "answer": 4, "reply": f"answer = {n}"} for n in ("2 + 2", "5"))
    status, verdict = post(server, "/v1/judge", right)
    assert (status, verdict["status"], verdict["value"]) == (200, "accepted", "4")
    status, found = post(server, "/v1/judge/batch", {"rows": [wrong, right, wrong]})
    assert (status, [v["status"] for v in found["verdicts"]]) == (200, ["rejected", "accepted", "rejected"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"task": "word_problems", "reply": "x"}, "nothing to judge by"),
        ({"task": "word_problems", "answer": 1}, "body: expected `reply`, or `program`"),
        (
            {"task": "spider", "gold": "SELECT 1", "reply": "SELECT 1", "environment": {"database": "/etc/passwd"}},
            "body: a database is a file",
        ),
        ({"problem": {"id": "x"}, "reply": "x"}, "problem: extra inputs are not permitted"),
        ({"task": "word_problems", "answer": 1, "reply": "x" * 40_000}, "reply: string should have at most"),
    ],
)
def test_judge_refuses_what_it_cannot_judge_and_reads_no_file(server: Server, body: Any, message: str) -> None:
    status, answer = post(server, "/v1/judge", body)
    assert status == 400
    assert message.removeprefix("body: ") in answer["error"]


def test_openais_own_client_lists_the_model_and_chats(server: Server) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["symbol-llm"]
    asked: Any = {"model": "symbol-llm", "messages": [{"role": "user", "content": APPLES}]}
    done = client.chat.completions.create(**asked, n=2, temperature=0.5, stop=" + ")
    assert [c.message.content for c in done.choices] == ["answer = 7", "answer = 3"]
    streamed = client.chat.completions.create(**asked, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "answer = 5"


def test_openais_own_client_completes_texts(server: Server) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="none", max_retries=0)
    asked: Any = {"model": "symbol-llm", "prompt": ["What is 0?", APPLES], "temperature": 0}
    done = client.completions.create(**asked)
    assert [(c.index, c.text) for c in done.choices] == [(0, "answer = 0"), (1, "answer = 5")]
    streamed = client.completions.create(**{**asked, "prompt": APPLES}, stop=[" ="], stream=True)
    assert [chunk.choices[0].text for chunk in streamed] == ["answer"]
    for more in ({"echo": True}, {"logprobs": 1}, {"suffix": "x"}, {"prompt": []}, {"prompt": [1, 2]}):
        with pytest.raises(openai.BadRequestError, match=f"400 - {next(iter(more))}"):
            client.completions.create(**{**asked, **more})


def test_what_openai_has_and_this_has_not_is_refused_in_words(server: Server) -> None:
    status, answer = post(server, "/openai/v1/embeddings", {"input": "x"})
    assert (status, answer["error"]["message"]) == (
        404,
        "embeddings is not served; /openai/v1/chat/completions and /openai/v1/completions are",
    )
    status, answer = post(server, "/openai/v1/chat/completions", {"messages": [{"role": "tool", "content": "x"}]})
    assert status == 400
    status, answer = post(server, "/openai/v1/chat/completions", {"messages": [], "model": "x"})
    assert status == 400


def test_page_loads_nothing_from_elsewhere(server: Server) -> None:
    import httpx

    reply = httpx.get(f"{server.url}/", timeout=60)
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "//" not in reply.text.replace("<!doctype", "")
    known = httpx.get(f"{server.url}/v1/tasks", timeout=60).json()
    assert {"task", "family", "context", "question", "program"} == set(known[0])
    assert len(known) > 80


# --- load --------------------------------------------------------------------------------------------------------------


def test_requests_that_come_while_the_engine_is_busy_share_its_next_batch(server: Server) -> None:
    with ThreadPoolExecutor(9) as pool:
        held = pool.submit(server.predict, {"question": WAIT, "k": 1})
        until(lambda: "symbol_llm_waiting 1.0" in server.get("/metrics")[1])
        others = [pool.submit(server.predict, {"question": APPLES, "k": 5}) for _ in range(8)]
        until(lambda: "symbol_llm_waiting 9.0" in server.get("/metrics")[1])
        server.gate.set()
        answers = [one.result() for one in others]
        assert held.result()[0] == 200
    assert [body["predictions"][0]["answer"] for _, body in answers] == ["7"] * 8


def test_one_request_that_breaks_the_engine_is_told_and_so_are_those_beside_it() -> None:
    server = Server(n_waiting=16)
    try:
        with ThreadPoolExecutor(3) as pool:
            held = pool.submit(server.predict, {"question": WAIT, "k": 1})
            until(lambda: "symbol_llm_waiting 1.0" in server.get("/metrics")[1])
            others = [pool.submit(server.predict, {"question": q, "k": 1}) for q in (BREAK, APPLES)]
            until(lambda: "symbol_llm_waiting 3.0" in server.get("/metrics")[1])
            server.gate.set()
            assert held.result()[0] == 200
            assert others[0].result()[0] == 500
            assert others[1].result()[0] in (500, 200)  # 200 if its replies came before the engine broke
        assert server.get("/health")[0] == 503
        status, answer = post(server, "/v1/solve", {"question": APPLES})
        assert (status, answer["error"]) == (503, "the engine is broken; the server has to be started again")
    finally:
        server.stop()


# --- weights that change -----------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "weights"


def who(server: Server) -> str:
    return str(post(server, "/v1/solve", {"question": WHO, "k": 1})[1]["answer"])


def test_without_a_champion_it_says_so_and_serves_it_once_there_is_one(weights: Path) -> None:
    server = Server(weights, ready=False)
    try:
        assert server.get("/v1/models/symbol-llm")[0] == 503
        for path, body in (
            ("/v1/solve", {"question": APPLES}),
            ("/v1/models/symbol-llm:predict", {"instances": [{"question": APPLES}]}),
            ("/openai/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ):
            status, answer = post(server, path, body)
            why = answer["error"]["message"] if path.startswith("/openai") else answer["error"]
            assert (status, why[:15]) == (503, "no champion yet")
        assert post(server, "/v1/judge", {"task": "word_problems", "answer": 4, "reply": "answer = 4"})[0] == 200
        weights.write_text("first")
        until(lambda: server.get("/v1/models/symbol-llm")[0] == 200)
        assert who(server) == "first"
    finally:
        server.stop()


def test_new_weights_are_taken_under_load_without_a_failed_request_and_broken_ones_are_not(weights: Path) -> None:
    weights.write_text("first")
    server, stop, failed = Server(weights, n_waiting=16), threading.Event(), list[Any]()

    def load() -> None:
        while not stop.is_set():
            status, body = server.predict({"question": APPLES, "k": 2})
            if status != 200 or body["predictions"][0]["status"] != "answered":
                failed.append((status, body))

    try:
        with ThreadPoolExecutor(2) as pool:
            under_load = [pool.submit(load) for _ in range(2)]
            weights.write_text("second")
            until(lambda: who(server) == "second")
            weights.write_text("broken")
            until(lambda: "still serving second: these weights give no token" in server.get("/health")[1])
            assert who(server) == "second"
            weights.write_text("third")
            until(lambda: who(server) == "third")
            stop.set()
            for one in under_load:
                one.result()
        assert failed == []
    finally:
        stop.set()
        server.stop()


def test_new_weights_wait_for_the_batch_under_way(weights: Path) -> None:
    weights.write_text("first")
    server = Server(weights)
    try:
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(server.predict, {"question": WAIT, "k": 1})
            until(lambda: "symbol_llm_waiting 1.0" in server.get("/metrics")[1])
            weights.write_text("second")
            threading.Event().wait(1)  # ten looks
            assert json.loads(server.get("/health")[1])["serves"] == "first"
            server.gate.set()
            until(lambda: json.loads(server.get("/health")[1])["serves"] == "second")
            assert held.result()[0] == 200
    finally:
        server.stop()


def test_what_is_wrong_with_new_weights_is_logged_once_until_it_changes(
    weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights.write_text("first")
    server, tries = Server(weights), weights.with_name("tries")
    try:
        for n in (4, 8):
            weights.write_text("altered")
            until(lambda n=n: tries.is_file() and len(tries.read_text()) >= n)
            weights.write_text("first")
            until(lambda: '"trouble":""' in server.get("/health")[1])
    finally:
        server.stop()
    told = capfd.readouterr()
    assert (told.out + told.err).count("still serving first: altered: it was altered") == 2


def test_programs_of_a_client_that_left_a_stream_are_given_up() -> None:
    import httpx

    server = Server()
    try:
        body, accept = {"question": SLEEP, "k": 32}, {"Accept": "text/event-stream"}
        with httpx.stream("POST", f"{server.url}/v1/solve", json=body, headers=accept, timeout=60):
            until(lambda: "symbol_llm_waiting 1.0" in server.get("/metrics")[1])
        until(lambda: "symbol_llm_waiting 0.0" in server.get("/metrics")[1])
    finally:
        server.stop()
