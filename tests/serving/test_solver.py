"""A real KServe server with scripted replies and the real sandbox, asked over HTTP; the vote, worked out by hand."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from serving import ask
from serving.vote import vote
from symbol_llm.judging.verify import Execution
from tests.serving.scripted import APPLES, BREAK, SLEEP, WAIT, Server, until

HERE = Path(ask.__file__).parent


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


def test_most_programs_decide_the_answer(server: Server) -> None:
    answer = server.answer(question=APPLES, k=5, whole=True)
    assert (answer["status"], answer["answer"], answer["program"]) == ("answered", "7", "answer = 7")
    assert answer["votes"] == {"k": 5, "ran": 4, "agreed": 3, "spared": 0}
    assert answer["verdict"]["status"] == "ran"
    assert [(r["status"], r["n"]) for r in answer["reasons"]] == [("unparsable", 1)]


def test_one_program_is_the_greedy_one(server: Server) -> None:
    answer = server.answer(question=APPLES, k=1)
    assert (answer["answer"], answer["votes"]) == ("5", {"k": 1, "ran": 1, "agreed": 1, "spared": 0})


def test_a_question_about_a_table_runs_on_its_script(server: Server) -> None:
    script = "CREATE TABLE cities (name TEXT, people INTEGER); INSERT INTO cities VALUES ('Bern', 134), ('Basel', 173);"
    answer = server.answer(question="Which city has the most people?", task="table_questions", script=script, k=2)
    assert answer["status"] == "answered"
    assert "Basel" in answer["answer"]


def test_instances_keep_their_order_and_their_k(server: Server) -> None:
    status, body = server.predict(
        {"question": "2 - 2?", "k": 3}, {"question": APPLES, "k": 2}, {"question": "1 - 1?", "k": 3}
    )
    assert status == 200
    assert [(a["answer"], a["votes"]["k"]) for a in body["predictions"]] == [("0", 3), ("5", 2), ("0", 3)]


@pytest.mark.parametrize(
    ("question", "reason"),
    [("Say nothing.", "unparsable"), ("Run for ever.", "timeout"), ("Delete my files.", "error")],
)
def test_where_nothing_runs_the_reasons_come_back(server: Server, question: str, reason: str) -> None:
    answer = server.answer(question=question, k=2)
    assert (answer["status"], answer["answer"], answer["program"]) == ("unsolved", None, None)
    assert answer["votes"] == {"k": 2, "ran": 0, "agreed": 0, "spared": 0}
    assert [(r["status"], r["n"]) for r in answer["reasons"]] == [(reason, 2)]
    assert not Path("/tmp/escaped-from-the-solver").exists()


BAD = {
    "no question": ({"k": 2}, "instances.0.question: field required"),
    "an empty question": ({"question": " \n"}, "instances.0.question: string should match"),
    "a question too long": (
        {"question": "x" * 4001},
        "instances.0.question: string should have at most 4000 characters",
    ),
    "an unknown task": ({"question": "1?", "task": "poetry"}, "unknown task 'poetry'; have "),
    "no program": ({"question": "1?", "k": 0}, "instances.0.k: input should be greater than or equal to 1"),
    "too many programs": ({"question": "1?", "k": 33}, "instances.0.k: input should be less than or equal to 32"),
    "k as text": ({"question": "1?", "k": "5"}, "instances.0.k: input should be a valid integer"),
    "a database": (
        {"question": "1?", "database": "/etc/passwd"},
        "instances.0.database: extra inputs are not permitted",
    ),
    "a script for no database": (
        {"question": "1?", "script": "SELECT 1"},
        "script: tasks that run on a database need one and no other",
    ),
    "no script": (
        {"question": "1?", "task": "table_questions"},
        "script: tasks that run on a database need one and no other takes one",
    ),
    "no object": ("1?", "instances.0: input should be a valid dictionary"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(server: Server, case: str) -> None:
    instance, message = BAD[case]
    status, body = server.predict(instance)
    assert status == 400
    assert body["error"].startswith(message)
    assert "\n" not in body["error"]


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", [b"{", b"[]", b'{"instances": []}', b'{"inputs": []}', b'{"instances": "1?"}'])
def test_a_malformed_body_is_refused(server: Server, body: bytes, kind: str) -> None:
    assert server.get("/v1/models/symbol-llm:predict", body, kind)[0] == 400


def test_verdicts_are_counted(server: Server) -> None:
    def ran() -> float:
        found = re.search(
            r'^symbol_llm_verdicts_total\{family="python",status="ran"\} (\S+)', server.get("/metrics")[1], re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    before = ran()
    server.answer(question=APPLES, k=5, whole=True)
    assert ran() - before == 4


def test_more_than_can_wait_are_turned_away_while_probes_are_answered(server: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(server.predict, {"question": WAIT, "k": 1}) for _ in range(2)]
        until(lambda: "symbol_llm_waiting 2.0" in server.get("/metrics")[1])
        status, body = server.predict({"question": APPLES})
        ready = server.get("/v1/models/symbol-llm")[0]
        server.gate.set()
        assert [reply.result()[0] for reply in held] == [200, 200]
    assert (status, ready) == (503, 200)
    assert body["error"] == "2 requests wait already, the most this server holds; try again in a moment"


@pytest.mark.parametrize("path", ["/v2/repository/models/symbol-llm/unload", "/v2/repository/models/symbol-llm/load"])
def test_nobody_takes_the_model_down_over_the_network(server: Server, path: str) -> None:
    status, body = server.get(path, b"{}")
    assert (status, json.loads(body)) == (403, {"error": "models are neither loaded nor unloaded over the network"})
    assert server.answer(question=APPLES, k=1)["status"] == "answered"


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    assert server.get("/v1/models/symbol-llm:predict", b"x" * 2**21)[0] == 413


def waiting(server: Server) -> float:
    return float(re.findall(r"^symbol_llm_waiting (\S+)$", server.get("/metrics")[1], re.MULTILINE)[0])


def test_one_request_with_endless_programs_does_not_hold_up_the_next_and_keeps_its_place(own_server: Server) -> None:
    own_server.answer(question=APPLES, k=1)  # the sandbox is warm
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(own_server.predict, {"question": SLEEP, "k": 8})
        until(lambda: waiting(own_server) == 1)
        assert own_server.answer(question=APPLES, k=5)["answer"] == "7"
        assert not slow.done()
        assert waiting(own_server) == 1
        status, body = slow.result()
    assert (status, body["predictions"][0]["status"]) == (200, "unsolved")
    assert waiting(own_server) == 0


def test_a_request_whose_client_has_left_is_given_up(own_server: Server) -> None:
    body = json.dumps({"instances": [{"question": SLEEP, "k": 32}]}).encode()
    head = f"POST /v1/models/symbol-llm:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(own_server.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head.encode() + body)
        until(lambda: waiting(own_server) == 1)
    until(lambda: waiting(own_server) == 0)
    assert not re.search(
        r'^symbol_llm_verdicts_total\{family="python",status="timeout"\}', own_server.get("/metrics")[1], re.MULTILINE
    )


def test_a_request_that_takes_too_long_is_answered_with_504() -> None:
    own_server = Server(deadline_s=1.5)
    try:
        with socket.create_connection(("127.0.0.1", int(own_server.url.rsplit(":", 1)[1]))) as client:
            client.sendall(b"POST /v1/models/symbol-llm:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
            client.settimeout(60)
            assert client.recv(64).startswith(b"HTTP/1.1 408 ")
        status, body = own_server.predict({"question": WAIT, "k": 1})
        assert (status, body) == (504, {"error": "no answer within 1.5 s, the most a request may take here"})
        own_server.gate.set()
        until(lambda: own_server.predict({"question": "What is 0?", "k": 1})[0] == 200)
    finally:
        own_server.stop()


def test_sigterm_finishes_what_is_under_way(own_server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(own_server.predict, {"question": WAIT, "k": 1})
        until(lambda: "symbol_llm_waiting 1.0" in own_server.get("/metrics")[1])
        own_server.process.terminate()
        until(lambda: own_server.get("/v1/models/symbol-llm")[0] != 200)
        own_server.gate.set()
        status, body = held.result()
    own_server.process.join(40)
    assert (status, body["predictions"][0]["answer"], own_server.process.exitcode) == (200, "1", 0)


def test_a_broken_engine_is_not_ready(own_server: Server) -> None:
    assert own_server.predict({"question": BREAK})[0] == 500
    assert own_server.get("/v1/models/symbol-llm")[0] == 503
    assert own_server.predict({"question": APPLES})[0] == 503


def test_ask_prints_answer_program_and_votes(server: Server) -> None:
    done = CliRunner().invoke(ask.main, [APPLES, "--k", "5", "--whole", "--url", server.url])
    assert done.exit_code == 0
    assert [" ".join(line.split()) for line in done.output.splitlines()[:3]] == [
        "answer 7",
        "program answer = 7",
        "votes 3 agreed, 4 ran, 5 asked for",
    ]


def test_ask_prints_json(server: Server) -> None:
    done = CliRunner().invoke(ask.main, ["Say nothing.", "--json", "--url", server.url])
    assert (done.exit_code, json.loads(done.output)["status"]) == (1, "unsolved")


def test_ask_repeats_why_it_was_refused(server: Server) -> None:
    done = CliRunner().invoke(ask.main, ["1?", "--task", "poetry", "--url", server.url])
    assert done.exit_code == 2
    assert "answered 400: unknown task 'poetry'" in done.output


def test_ask_says_how_to_start_a_server() -> None:
    done = CliRunner().invoke(ask.main, ["1?", "--url", "http://127.0.0.1:9"])
    assert done.exit_code == 2
    assert "no server answers at http://127.0.0.1:9" in done.output
    assert "`make serve`" in done.output


def test_ask_prints_control_characters_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    votes = {"k": 1, "ran": 1, "agreed": 1, "spared": 0}
    verdict = {"status": "ran", "seconds": 0.0, "isolation": "none"}
    ask.show(
        {
            "status": "answered",
            "answer": "\x1b]0;x\x07[red]7",
            "program": "",
            "votes": votes,
            "verdict": verdict,
            "reasons": [],
            "repaired": False,
        },
        Console(),
    )
    assert capsys.readouterr().out.splitlines()[0].rstrip() == "answer   \\u001b]0;x\\u0007[red]7"


def test_a_missing_checkpoint_is_said_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving", "--model", "no/such/folder"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "checkpoint 'no/such/folder': no such folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_request_in_the_readme_is_answered(server: Server) -> None:
    text = (HERE / "README.md").read_text()
    found = re.search(r"--data '(.*?)'", text, re.DOTALL)
    assert found
    status, answer = server.get("/v1/models/symbol-llm:predict", found[1].encode(), "application/x-www-form-urlencoded")
    assert status == 200
    assert "Basel" in json.loads(answer)["predictions"][0]["answer"]


def test_the_commands_in_the_readme_have_their_options() -> None:
    text = re.sub(r"python -m serving\.\w+ .*", "", (HERE / "README.md").read_text())
    done = subprocess.run([sys.executable, "-m", "serving", "--help"], capture_output=True, text=True, check=True)
    for option in re.findall(r"(?<= |`)--(?!data)[a-z-]+", text):
        assert option in done.stdout


def ran(value: str, program: str = "p") -> Execution:
    return Execution("ran", program, value, "", 0.0, "none")


def failed(status: str, detail: str = "") -> Execution:
    return Execution(status, None, None, detail, 0.0, "none")  # type: ignore[arg-type]


def test_of_equally_many_votes_the_first_value_wins() -> None:
    answer = vote([ran("5", "a"), ran("7", "b"), ran("7", "c"), ran("5", "d")], 4)
    assert (answer.answer, answer.program, answer.votes.agreed) == ("5", "a", 2)


def test_programs_without_a_value_do_not_agree_with_each_other() -> None:
    answer = vote([failed("error", "no value"), failed("error", "no value"), ran("7", "b")], 3)
    assert (answer.answer, answer.votes.ran, answer.votes.agreed) == ("7", 1, 1)
    assert [(r.status, r.detail, r.n) for r in answer.reasons] == [("error", "no value", 2)]


def test_our_failure_is_not_the_models() -> None:
    assert vote([failed("unscored"), failed("unscored")], 2).status == "unscored"
    assert vote([failed("unscored"), failed("error")], 2).status == "unsolved"


def test_equal_reasons_are_counted_the_commonest_first() -> None:
    answer = vote([failed("timeout"), failed("error", "x"), failed("error", "x")], 3)
    assert [(r.status, r.n) for r in answer.reasons] == [("error", 2), ("timeout", 1)]
