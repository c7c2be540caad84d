"""MLflow as the manifests start it, on a real PostgreSQL: who is let in, over HTTP and over TLS, and how a password is changed."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow.exceptions import MlflowException

from manifests.resources import Resource, name_of
from symbol_llm.tracking import promotions, runs
from tests import services
from tests.manifests.conftest import container, needs_kubectl

pytestmark = [needs_kubectl, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
USER, PASSWORD = "admin", "mlflow-password"
Client = Callable[..., Any]


class Server(NamedTuple):
    """An MLflow server that answers."""

    address: str
    config: str
    """The file about its users."""
    trusted: Path | None
    """The certificate that it shows."""

    def status(self, path: str, user: str = "", password: str = "") -> int:
        request = urllib.request.Request(self.address + path)
        if user:
            request.add_header("Authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode())
        context = ssl.create_default_context(cafile=str(self.trusted)) if self.trusted else None
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as e:
            e.close()
            return e.code


@contextmanager
def started(
    resources: list[Resource], database: Mapping[str, str], folder: Path, tls: Path | None = None
) -> Iterator[Server]:
    """Run the containers of the Deployment `mlflow`, one after the other, until the context ends."""
    files = next(r for r in resources if name_of(r) == "ConfigMap/mlflow-auth")["data"]
    (folder / "auth").mkdir()
    (folder / "work").mkdir()
    for name, text in files.items():
        (folder / "auth" / name).write_text(text)
    schema, found = (container(resources, "Deployment/mlflow", name) for name in ("schema", "mlflow"))
    waited = subprocess.run(schema.command, env=schema.here(**database), timeout=300, check=False, cwd=folder)
    assert waited.returncode == 0
    port = services.free_port()
    here = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    command = [here.get(word, word).replace("/tls/", f"{tls}/") for word in found.command]
    at = found.environment["MLFLOW_AUTH_CONFIG_PATH"].replace("/auth/", f"{folder}/auth/")
    place = {"MLFLOW_AUTH_CONFIG_PATH": at, "HOME": str(folder)}
    address = f"{'https' if tls else 'http'}://localhost:{port}"
    log = folder / "work" / "log"
    # Ready once the probe's path answers; over TLS, once the log says so.
    ready: str | bytes = b"Uvicorn running on https" if tls else f"{address}/health"
    with services.running(command, log, ready, wait_s=300, env=found.here(**database, **place)):
        yield Server(address, at, tls and tls / "tls.crt")
    assert [file.name for file in log.parent.iterdir()] == ["log"]  # the image's root is read-only


@pytest.fixture(scope="module")
def server(
    laptop: list[Resource], database: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with started(laptop, database, tmp_path_factory.mktemp("server")) as it:
        yield it


def test_without_name_and_password_only_its_health_is_told(server: Server) -> None:
    assert server.status("/health") == 200
    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=1", "/api/2.0/mlflow/registered-models/search"):
        assert server.status(path) == 401


def test_right_password_is_let_in_and_wrong_or_default_one_is_not(server: Server) -> None:
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert server.status(path, USER, PASSWORD) == 200
    assert server.status(path, USER, "password1234") == 401
    assert server.status(path, "symbol-llm", PASSWORD) == 401


def test_forwarded_port_is_served_by_either_name_and_no_other_name_is(server: Server) -> None:
    """A page in a browser that has a name of its own resolved to this server's address (DNS rebinding) gets nothing."""
    port, path = server.address.rpartition(":")[2], "/api/2.0/mlflow/experiments/search?max_results=1"

    def named(host: str) -> int:
        request = urllib.request.Request(server.address + path, headers={"Host": host})
        request.add_header("Authorization", "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as e:
            e.close()
            return e.code

    inside = ["mlflow:5000", "mlflow.symbol-llm:5000", "mlflow.symbol-llm.svc:5000"]
    assert [named(host) for host in (f"localhost:{port}", f"127.0.0.1:{port}", *inside)] == [200] * 5
    assert named("attacker.example:5000") == 403


def test_our_tracking_and_registry_work_with_the_variables_of_the_secret(
    server: Server, server_client: Client, home: Path
) -> None:
    where = {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_EXPERIMENT_NAME": "of the secret"}
    client = server_client(**where, MLFLOW_TRACKING_USERNAME=USER, MLFLOW_TRACKING_PASSWORD=PASSWORD)
    run = client.create_run(runs.experiment(client)).info.run_id
    client.log_metric(run, "accuracy", 0.5)
    assert client.get_run(run).data.metrics == {"accuracy": 0.5}
    assert client.get_run(run).info.artifact_uri.startswith("s3://symbol-llm/mlflow/")
    promotions.append("of-the-secret", promotions.EMPTY._replace(action="promote", version="1", champion="1"))
    assert promotions.head("of-the-secret").champion == "1"
    client = server_client(**where)
    with pytest.raises(MlflowException, match="401"):
        client.get_run(run)


def test_password_is_changed_as_the_runbook_says(
    server: Server, laptop: list[Resource], database: Mapping[str, str]
) -> None:
    runbook = (ROOT / "docs" / "guides" / "runbook.md").read_text()
    found = re.search(r"deployment/mlflow -- env NEW_PASSWORD=.* python -c '\n(.*?)\n'\n", runbook, flags=re.S)
    assert found
    inside = container(laptop, "Deployment/mlflow", "mlflow")
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    for new, old in (("another-password", PASSWORD), (PASSWORD, "another-password")):
        place = {"MLFLOW_AUTH_CONFIG_PATH": server.config, "HOME": database["PGHOST"]}
        here = inside.here(**database, **place, NEW_PASSWORD=new)
        subprocess.run([sys.executable, "-c", found[1]], env=here, check=True, capture_output=True, cwd="/")
        assert (server.status(path, USER, new), server.status(path, USER, old)) == (200, 401)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl, which makes the certificate, is not installed")
def test_over_tls_who_trusts_the_certificate_is_served_and_who_does_not_is_not(
    prod: list[Resource], database: Mapping[str, str], tmp_path: Path, server_client: Client, home: Path
) -> None:
    readme = (ROOT / "manifests" / "README.md").read_text()
    made = re.search(r"^ {4}(openssl req (?:.*\\\n)*.*)$", readme, flags=re.M)
    assert made
    subprocess.run(["bash", "-euc", made[1]], cwd=tmp_path, check=True, capture_output=True)
    assert {file.name for file in tmp_path.iterdir()} == {"tls.crt", "tls.key"}
    solver = container(prod, "InferenceService/symbol-llm", "kserve-container").environment
    assert solver["MLFLOW_TRACKING_SERVER_CERT_PATH"] == "/tls/ca.crt"
    who = {name: solver[name] for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")}
    (tmp_path / "server").mkdir()
    with started(prod, database, tmp_path / "server", tls=tmp_path) as it:
        assert (it.status("/health"), it.status("/")) == (200, 401)
        trusting = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(tmp_path / "tls.crt")}
        client = server_client(MLFLOW_TRACKING_URI=it.address, **who, **trusting)
        assert client.search_experiments(max_results=1)
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            it._replace(trusted=None).status("/health")
