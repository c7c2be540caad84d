"""A backup and a restore for real: MLflow on PostgreSQL, the CronJobs' own commands, the database gone in between."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from manifests.resources import Resource, render
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import General, Report, Scores, Summary
from symbol_llm.ground.stats import wilson
from symbol_llm.tracking import registry, runs
from symbol_llm.tracking.registry import Contender
from tests import services
from tests.manifests.conftest import OVERLAYS, Container, container, needs_kubectl

pytestmark = [needs_kubectl, pytest.mark.timeout(600)]
NAME = "backed-up"


@pytest.fixture(scope="module")
def dev(laptop: list[Resource]) -> list[Resource]:
    """Give what `dev` renders to, with the example's Secret in place of the cluster's own."""
    return [*render(OVERLAYS / "dev"), *(r for r in laptop if r["kind"] == "Secret")]


@pytest.fixture
def tracked(database: Mapping[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Track to the database, without a server between."""
    for name, value in database.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg2:///mlflow")
    client = runs.client()
    if client.get_experiment_by_name(runs.EXPERIMENT) is None:
        client.create_experiment(runs.EXPERIMENT, artifact_location=(tmp_path / "artifacts").as_uri())


def report(n_right: int, digest: str) -> Report:
    """Make the report of a checkpoint that solves the first `n_right` of 20 problems."""
    overall = wilson(n_right / 20, 20)
    fields = {"tasks": {}, "domains": {}, "families": {"python": Scores(accuracy=overall)}, "general": General()}
    summary = Summary(stage=digest, checkpoint=digest, overall=overall, **fields)
    return Report(summary=summary, outcomes={f"{i:04x}": float(i < n_right) for i in range(20)})


def promote(digest: str, n_right: int) -> None:
    mlflow = runs.client()
    run = str(mlflow.create_run(runs.experiment(mlflow)).info.run_id)
    contender = Contender(report(n_right, digest), f"s3://symbol-llm/kfp/{digest}")
    registry.contend([contender], report(0, "original"), Promote(name=NAME), run).conclude()


def told() -> list[tuple[str, str, str]]:
    return [(row["action"], row["version"], row["reason"]) for row in registry.history()]


def champion() -> str:
    found = registry.by_alias(NAME, registry.CHAMPION)
    return found.source if found else ""


def run(made: Container, **given: str) -> str:
    done = subprocess.run(made.command, env=made.here(**given), capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def databases(database: Mapping[str, str]) -> set[str]:
    command = ["psql", "--dbname=postgres", "--tuples-only", "--no-align", "--command=SELECT datname FROM pg_database"]
    done = subprocess.run(command, env=os.environ | database, capture_output=True, text=True, check=True)
    return set(done.stdout.split()) - {"postgres", "template0", "template1"}


def test_registry_and_promotion_log_come_back_from_a_dump(
    dev: list[Resource], database: Mapping[str, str], tracked: None, tmp_path: Path
) -> None:
    dump = container(dev, "CronJob/backup", "database")
    restore = container(dev, "CronJob/restore-database", "database")
    here = {**database, "BACKUPS": str(tmp_path)}
    promote("first", 8)
    promote("second", 18)
    assert champion() == "s3://symbol-llm/kfp/second"
    history = told()
    assert [action for action, _, _ in history] == ["promote", "promote"]
    assert re.fullmatch(r"wrote mlflow-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.dump\n", run(dump, **here))

    subprocess.run(["dropdb", "--force", "mlflow"], env=dump.here(**here), check=True)
    assert databases(database) == set()
    run(restore, **here)
    assert databases(database) == {"mlflow"}
    assert (champion(), told()) == ("s3://symbol-llm/kfp/second", history)
    promote("third", 20)
    assert [version for _, version, _ in told()] == ["1", "2", "3"]


def test_what_was_there_before_a_restore_is_kept_and_a_dump_that_is_broken_changes_nothing(
    dev: list[Resource], database: Mapping[str, str], tracked: None, tmp_path: Path
) -> None:
    dump = container(dev, "CronJob/backup", "database")
    restore = container(dev, "CronJob/restore-database", "database")
    here = {**database, "BACKUPS": str(tmp_path)}
    before = told()
    run(dump, **here)
    (kept,) = (tmp_path / "database").iterdir()
    broken = tmp_path / "database" / "mlflow-9999-01-01T00-00-00Z.dump"
    broken.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    done = subprocess.run(restore.command, env=restore.here(**here), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert told() == before
    assert "mlflow" in databases(database)

    promote("since", 20)
    run(restore, **here, DUMP=kept.name)
    assert told() == before
    (old,) = (name for name in databases(database) if name.startswith("before_"))
    command = [
        "psql",
        f"--dbname={old}",
        "--tuples-only",
        "--no-align",
        "--command=SELECT count(*) FROM model_versions WHERE name LIKE 'backed-up%'",
    ]
    counted = subprocess.run(command, env=dump.here(**here), capture_output=True, text=True, check=True)
    assert int(counted.stdout) == 2 * (len(before) + 1)  # a version and its entry in the log, for each promotion


def test_old_dumps_go_only_once_a_new_one_is_whole(
    dev: list[Resource], database: Mapping[str, str], tmp_path: Path
) -> None:
    dump = container(dev, "CronJob/backup", "database")
    folder = tmp_path / "database"
    folder.mkdir()
    for name, days in (("mlflow-old.dump", 20), ("mlflow-young.dump", 10), ("mine.txt", 20)):
        (folder / name).touch()
        then = time.time() - days * 86400
        os.utime(folder / name, (then, then))
    here = {**database, "BACKUPS": str(tmp_path)}
    missing = dump.here(**{**here, "PGDATABASE": "missing"})
    assert subprocess.run(dump.command, env=missing, capture_output=True, check=False).returncode != 0
    assert {"mlflow-old.dump", "mlflow-young.dump", "mine.txt"} <= {file.name for file in folder.iterdir()}
    new = run(dump, **here).removeprefix("wrote ").strip()
    assert {file.name for file in folder.iterdir()} == {"mlflow-young.dump", "mine.txt", new}


def test_bucket_is_copied_after_the_dump_and_comes_back_by_the_same_way(dev: list[Resource]) -> None:
    steps = {name: container(dev, "CronJob/backup", name) for name in ("database", "dumps", "bucket")}
    back = container(dev, "CronJob/restore-bucket", "bucket")
    dumps_back = container(dev, "CronJob/restore-database", "dumps")
    copied, returned = steps["bucket"].command, back.command
    assert copied == ["mirror", "--overwrite", "store/symbol-llm", "/backups/bucket"]
    assert returned == [*copied[:2], *reversed(copied[2:])]
    assert steps["dumps"].command == ["mirror", "--overwrite", "/backups/database", "store/symbol-llm/backups"]
    assert dumps_back.command == [*steps["dumps"].command[:2], *reversed(steps["dumps"].command[2:])]
    pod = next(r for r in dev if r["metadata"]["name"] == "backup" and r["kind"] == "CronJob")
    spec = pod["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    order = [c["name"] for c in (*spec["initContainers"], *spec["containers"])]
    assert order == ["database", "dumps", "bucket"]


def test_backups_are_made_every_night_and_restores_when_somebody_asks(dev: list[Resource]) -> None:
    found = {r["metadata"]["name"]: r["spec"] for r in dev if r["kind"] == "CronJob"}
    assert {name: spec["suspend"] for name, spec in found.items()} == {
        "backup": False,
        "restore-database": True,
        "restore-bucket": True,
    }
    assert re.fullmatch(r"\d+ \d+ \* \* \*", found["backup"]["schedule"])
    assert {spec["concurrencyPolicy"] for spec in found.values()} == {"Forbid"}
    assert all(spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 6 * 60 * 60 for spec in found.values())


@pytest.mark.skipif(not shutil.which("mc"), reason="mc, the object store's client, is not installed")
def test_bucket_comes_back_from_its_copy(dev: list[Resource], tmp_path: Path) -> None:
    there, back = container(dev, "CronJob/backup", "bucket"), container(dev, "CronJob/restore-bucket", "bucket")
    with services.object_store() as address:
        store: Any = services.client(address)
        store.put_object(Bucket=services.BUCKET, Key="kfp/weights", Body=b"weights")
        place = {
            "MC_HOST_store": address.replace("://", f"://{services.KEY}:{services.SECRET}@"),
            "HOME": str(tmp_path),
        }
        for made, again in ((there, False), (back, True)):
            command = ["mc", *(str(tmp_path / "copy") if w == "/backups/bucket" else w for w in made.command)]
            if again:
                store.delete_object(Bucket=services.BUCKET, Key="kfp/weights")
            subprocess.run(command, env=made.here(**place, MC_CONFIG_DIR=str(tmp_path)), check=True)
        assert store.get_object(Bucket=services.BUCKET, Key="kfp/weights")["Body"].read() == b"weights"
