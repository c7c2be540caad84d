"""Containers of a render, run on this machine: the same commands with the same environment, but for addresses and folders."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from manifests.resources import Resource, environment, name_of, pods, render
from tests import services

OVERLAYS = Path(__file__).parents[2] / "manifests" / "overlays"

needs_kubectl = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl, which renders the overlays, is not installed"
)


class Container(NamedTuple):
    """What a container of a render is started with."""

    command: list[str]
    environment: dict[str, str]

    def here(self, **given: str) -> dict[str, str]:
        """Return an environment for this machine: the container's with `given` instead, and where commands are found."""
        places = [str(Path(sys.executable).parent), os.environ["PATH"]]
        if initdb := services.postgres_command("initdb"):
            places.insert(0, str(Path(initdb).parent))
        return {"PATH": os.pathsep.join(places), **self.environment, **given}


def container(resources: list[Resource], owner: str, name: str) -> Container:
    """Return the container `name` of the pods that `owner` makes, its Secrets' values and `$(NAME)` put in."""
    pod = next(p for p in pods(resources) if p.owner == owner)
    found = next(c for c in pod.containers if c["name"] == name)
    values = environment(found, resources)
    secrets = {name_of(r): r["data"] for r in resources if r["kind"] == "Secret"}
    for variable in found.get("env", ()):
        if ref := variable.get("valueFrom", {}).get("secretKeyRef"):
            values[variable["name"]] = base64.b64decode(secrets[f"Secret/{ref['name']}"][ref["key"]]).decode()
    words = [*found.get("command", ()), *found.get("args", ())]
    return Container([re.sub(r"\$\((\w+)\)", lambda m: values.get(m[1], m[0]), word) for word in words], values)


@pytest.fixture(scope="session")
def laptop() -> list[Resource]:
    """Give what the overlay `laptop` renders to."""
    return render(OVERLAYS / "laptop")


@pytest.fixture(scope="session")
def prod(laptop: list[Resource]) -> list[Resource]:
    """Give what `prod` renders to, with the example's Secret in place of the cluster's own."""
    return [*render(OVERLAYS / "prod"), next(r for r in laptop if name_of(r) == "Secret/credentials")]


@pytest.fixture(scope="session")
def database(laptop: list[Resource]) -> Iterator[Mapping[str, str]]:
    """Give PostgreSQL's variables of an empty database `mlflow` with the tables that the Job `mlflow-upgrade` makes."""
    with services.postgres() as address:
        folder = address.partition("host=")[2]
        where = {"PGHOST": folder, "PGUSER": "test", "PGDATABASE": "mlflow"}
        upgrade = container(laptop, "Job/mlflow-upgrade", "upgrade")
        here = upgrade.here(**where, HOME=folder)
        subprocess.run(["createdb", "mlflow"], env=here, check=True, cwd="/")
        done = subprocess.run(upgrade.command, env=here, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr[-3000:]
        yield where


@pytest.fixture
def server_client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that sets the variables of a client of MLflow for this test, and returns our client."""
    from symbol_llm.tracking import runs

    def client(**variables: str) -> Any:
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_SERVER_CERT_PATH"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return runs.client()

    return client
