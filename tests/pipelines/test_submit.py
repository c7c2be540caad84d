"""`python -m pipelines.submit` and the first lines of `python -m pipelines.local`: what is told when something is amiss."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from click.testing import CliRunner

from pipelines.submit import main
from symbol_llm.ground import locks, outputs
from tests.pipelines.compiled import on_short_stack

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HOME": str(home / "user"), "SYMBOL_LLM_HOME": str(home), "COLUMNS": "200"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def submit(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Do what `run("pipelines.submit", ...)` does, in this process, which has Kubeflow's libraries loaded."""
    environment = {"HOME": str(home / "user"), "SYMBOL_LLM_HOME": str(home), "COLUMNS": "200"}
    done = on_short_stack(CliRunner().invoke, main, arguments, env=environment, prog_name="pipelines.submit")
    assert isinstance(done.exception, SystemExit | None), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def test_no_kubeflow_at_the_address_is_one_clear_line_and_exit_3(tmp_path: Path) -> None:
    done = run("pipelines.submit", "--host", "http://127.0.0.1:1", home=tmp_path)
    assert done.returncode == 3
    said = [line for line in done.stderr.splitlines() if line.startswith("pipelines.submit: ")]
    assert len(said) == 1
    assert said[0].startswith(
        "pipelines.submit: no Kubeflow Pipelines answers at http://127.0.0.1:1 within 60 s (NewConnectionError)"
    )
    assert "kubectl port-forward -n kubeflow svc/ml-pipeline 8888" in said[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


class Guarded(BaseHTTPRequestHandler):
    """An API behind a login: it notes who asks, and refuses everybody."""

    asked: ClassVar[list[Mapping[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append({name.title(): value for name, value in self.headers.items()})
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"error": "who are you?"}')

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), {}),
        (("--token", "t0ken"), {"Authorization": "Bearer t0ken"}),
        (("--cookie", "authservice_session=abc"), {"Cookie": "authservice_session=abc"}),
    ],
)
def test_a_kubeflow_that_asks_who_it_is_is_told_and_its_refusal_is_one_line(
    tmp_path: Path, options: tuple[str, ...], shown: dict[str, str]
) -> None:
    Guarded.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        done = submit("--host", host, "--pipeline", "evaluation", *options, home=tmp_path)
        server.shutdown()
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("pipelines.submit: ")]
    assert said == [
        f"pipelines.submit: {host} answers 401 Unauthorized: is a token or a cookie needed (--token, --cookie), "
        'or another --namespace? {"error": "who are you?"}'
    ]
    assert "Traceback" not in done.stderr
    assert all(shown.items() <= headers.items() for headers in Guarded.asked), Guarded.asked


class Page(BaseHTTPRequestHandler):
    """What stands before an API and shows a page to whom it does not know, at once or after a way round."""

    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Location", "/dex/auth")
        self.end_headers()
        self.wfile.write(b"<html><body>Log in</body></html>")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("options", [(), ("--cron", "0 3 * * 1")], ids=["once", "at times"])
@pytest.mark.parametrize(
    ("status", "told"),
    [
        (200, "what answers is no Kubeflow Pipelines; a login page? Give --token or --cookie"),
        (302, "answers 302 Found: is a token or a cookie needed (--token, --cookie), or another --namespace?"),
    ],
)
def test_a_login_page_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, told: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Page, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        done = submit("--host", address, "--pipeline", "evaluation", *options, home=tmp_path)
        server.shutdown()
    assert done.returncode == 2, done.stdout
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("pipelines.submit: ")]
    assert told in said


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl, which makes the certificate, is not installed")
def test_a_certificate_of_ones_own_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    names = ["-subj", "/CN=kubeflow", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "crt", *names]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Open) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = ("--host", f"https://localhost:{server.server_port}", "--pipeline", "evaluation")
        refused = submit(*host, home=tmp_path / "home")
        done = submit(*host, "--ca", str(tmp_path / "crt"), home=tmp_path / "home")
        server.shutdown()
    assert (refused.returncode, done.returncode) == (2, 0), refused.stderr + done.stderr
    (said,) = [line for line in refused.stderr.splitlines() if line.startswith("pipelines.submit: ")]
    assert "no trusted certificate; --ca names the one that signed it: SSLError" in said
    assert done.stdout.splitlines()[-1] == "run-1"


class Open(BaseHTTPRequestHandler):
    """Kubeflow's API, as far as a submission goes: it notes what is asked for and says yes."""

    asked: ClassVar[list[tuple[str, Any]]] = []
    answers: ClassVar[dict[str, dict[str, Any]]] = {
        "/apis/v2beta1/healthz": {"multi_user": True},
        "/apis/v2beta1/experiments": {"experiments": [{"experiment_id": "e1", "display_name": "symbol-llm"}]},
        "/apis/v2beta1/runs": {"run_id": "run-1"},
        "/apis/v2beta1/recurringruns": {"recurring_run_id": "recurring-1"},
    }

    def answer(self, body: Any) -> None:
        path = self.path.partition("?")[0]
        self.asked.append((path, body))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(self.answers[path]).encode())

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *_: object) -> None:
        pass


def submitted(*options: str, home: Path) -> tuple[str, dict[str, Any]]:
    """Submit to an open API; return what was printed, and what was asked for last."""
    Open.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Open) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = submit("--host", f"http://127.0.0.1:{server.server_port}", *options, home=home)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    path, body = Open.asked[-1]
    return done.stdout.splitlines()[-1], body | {"path": path}


def test_a_run_is_asked_for_with_pipeline_and_account_of_the_placement(tmp_path: Path) -> None:
    said, asked = submitted("--pipeline", "tuning", "--placement", "8xa100", "--run-name", "first", home=tmp_path)
    assert (said, asked["path"]) == ("run-1", "/apis/v2beta1/runs")
    assert (asked["display_name"], asked["experiment_id"], asked["service_account"]) == ("first", "e1", "trainer")
    spec = asked["pipeline_spec"]["pipeline_spec"]
    assert spec["pipelineInfo"]["name"] == "tuning"
    assert "exec-tune-on-nodes" in spec["deploymentSpec"]["executors"]


@pytest.mark.parametrize(
    ("cron", "times"),
    [("0 3 * * 1", "0 0 3 * * 1"), ("30 0 3 ? * MON-FRI", "30 0 3 ? * MON-FRI"), ("*/5 1,2 * * *", "0 */5 1,2 * * *")],
)
def test_a_recurring_run_is_asked_for_at_its_times(tmp_path: Path, cron: str, times: str) -> None:
    said, asked = submitted("--cron", cron, "--set", "rounds.n=1", home=tmp_path)
    assert (said, asked["path"]) == ("recurring-1", "/apis/v2beta1/recurringruns")
    assert asked["trigger"]["cron_schedule"]["cron"] == times
    assert (asked["display_name"], asked["experiment_id"]) == ("self-training", "e1")
    assert (asked["service_account"], asked["max_concurrency"], asked["no_catchup"]) == ("pipeline-runner", 1, True)
    root = asked["pipeline_spec"]["pipeline_spec"]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert [name for name in ("fetch", "collect", "evaluate") if root[name]["cachingOptions"].get("enableCache")] == [
        "evaluate"
    ]


@pytest.mark.parametrize("cron", ["daily", "0 3 * *", "0 3 * * 1 2 3", "0 3 * * ;"])
def test_times_that_are_none_are_refused_before_anybody_is_asked(tmp_path: Path, cron: str) -> None:
    done = submit("--host", "http://127.0.0.1:1", "--cron", cron, home=tmp_path)
    assert done.returncode == 2
    assert f"times {cron!r}: expected minute, hour, day, month and weekday" in done.stderr


def test_an_unknown_placement_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = submit("--output", str(tmp_path / "x.yaml"), "--placement", "moon", home=tmp_path)
    assert done.returncode == 2
    assert "pipelines.submit: unknown placement 'moon'; have 8xa100, laptop, multi-node-13b, one-gpu" in done.stderr


def test_neither_host_nor_output_is_a_usage_error(tmp_path: Path) -> None:
    done = run("pipelines.submit", home=tmp_path)
    assert done.returncode == 2
    assert "give --output FILE to compile, or --host ADDRESS to submit" in done.stderr


def first(file: Path) -> Any:
    """Return the first document of a compiled pipeline."""
    return next(yaml.load_all(file.read_text(), yaml.CSafeLoader))  # noqa: S506 - safe, and fast


def test_output_writes_the_compiled_pipeline(tmp_path: Path) -> None:
    file = tmp_path / "new" / "pipeline.yaml"
    done = run("pipelines.submit", "--output", str(file), "--set", "rounds.n=1", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"compiled to {file}\n")
    spec = first(file)
    assert spec["pipelineInfo"]["name"] == "self-training"
    assert {"exec-promote", "exec-finish"} <= spec["deploymentSpec"]["executors"].keys()


def test_all_pipelines_are_compiled_for_all_places(tmp_path: Path) -> None:
    done = run("pipelines.submit", "--output-all", str(tmp_path / "new"), "--set", "rounds.n=1", home=tmp_path / "home")
    assert (done.returncode, done.stdout) == (0, f"compiled 4 pipelines for 4 places to {tmp_path / 'new'}\n")
    made = {path.stem: first(path) for path in (tmp_path / "new").iterdir()}
    assert len(made) == 16
    assert made["tuning-one-gpu"]["pipelineInfo"]["name"] == "tuning"
    assert "exec-tune-on-nodes" in made["tuning-8xa100"]["deploymentSpec"]["executors"]


def test_bad_parameter_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = submit("--output", str(tmp_path / "x.yaml"), "--set", "explore.k=0", home=tmp_path)
    assert done.returncode == 2
    assert "pipelines.submit: params.yaml: explore.k: input should be greater than or equal to 1" in done.stderr
    assert not (tmp_path / "x.yaml").exists()


def test_local_run_refuses_an_unknown_profile(tmp_path: Path) -> None:
    done = run("pipelines.local", "--profile", "maths", home=tmp_path)
    assert done.returncode == 2
    assert (
        "✘ unknown profile 'maths'; have math, published-13b, published-7b, symbolic-34, or name a YAML file"
        in done.stdout
    )


def test_second_local_run_of_one_name_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    outputs.claim(tmp_path / "default")
    with locks.hold(tmp_path / "default" / outputs.LOCK, "a run of the pipeline"):
        done = run("pipelines.local", home=tmp_path)
    assert done.returncode == 5
    said = " ".join(done.stdout.split())
    assert f"in use by a run of the pipeline, process {os.getpid()} on " in said
    assert "wait for it, stop it, or name another folder" in said


@pytest.mark.parametrize("name", ["../docs", "a/b", "/tmp/x", "..", ".", "weights", "mlflow.db"])
def test_local_run_refuses_a_name_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    done = run("pipelines.local", "--name", name, home=tmp_path / "home")
    assert done.returncode == 2
    assert f"name {name!r}: expected letters, digits" in done.stdout


def test_local_run_leaves_a_users_folder_of_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "home" / "docs").mkdir(parents=True)
    (tmp_path / "home" / "docs" / "log.md").write_text("mine")
    done = run("pipelines.local", "--name", "docs", home=tmp_path / "home")
    assert done.returncode == 2
    assert "holds files that symbol-llm did not write (log.md)" in " ".join(done.stdout.split())
    assert [p.name for p in (tmp_path / "home" / "docs").iterdir()] == ["log.md"]


def test_output_never_takes_the_place_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("mine: true\n")
    done = submit("--output", str(tmp_path / "notes.yaml"), home=tmp_path / "home")
    assert done.returncode == 2
    assert "holds something that symbol-llm did not write" in done.stderr
    assert (tmp_path / "notes.yaml").read_text() == "mine: true\n"


def test_error_that_looks_like_markup_is_still_one_line(tmp_path: Path) -> None:
    done = run("pipelines.local", "--set", "explore[/x]", home=tmp_path)
    assert done.returncode == 2
    assert done.stdout == "✘ override 'explore[/x]': expected section.key=value\n"
