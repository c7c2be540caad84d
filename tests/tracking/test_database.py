"""MLflow's local database: killed while it is made, made by several at once, emptied, half made."""

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tracking import database, runs

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the server of processes imports it
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mlflow", "symbol_llm.tracking.registry"])


def begin(home: str, started: Any) -> None:
    """Open the database of `home` for the first time."""
    os.environ["SYMBOL_LLM_HOME"] = home
    started.set()
    runs.experiment(runs.client())


def first_start(home: Path) -> Any:
    started = PROCESSES.Event()
    process = PROCESSES.Process(target=begin, args=(str(home), started))
    process.start()
    assert started.wait(60)
    return process


@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.4, 0.7, 1.1])
def test_first_start_that_is_killed_leaves_a_folder_that_works(home: Path, after_s: float) -> None:
    process = first_start(home)
    process.join(after_s)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    assert runs.experiment(runs.client()) == "1"
    assert not list(home.glob("mlflow.db.*"))


def test_several_first_starts_at_once_share_one_database(home: Path) -> None:
    processes = [first_start(home) for _ in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert runs.experiment(runs.client()) == "1"


def test_emptied_database_is_not_taken_for_a_new_one(home: Path) -> None:
    home.mkdir()
    (home / "mlflow.db").write_bytes(b"")
    with pytest.raises(InvalidInput, match="mlflow.db: empty, though runs and registry were kept in it"):
        runs.client()
    assert (home / "mlflow.db").read_bytes() == b""


def test_half_made_database_of_an_earlier_version_is_named(home: Path) -> None:
    home.mkdir()
    with sqlite3.connect(home / "mlflow.db") as file:
        file.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    file.close()
    with pytest.raises(InvalidInput, match="mlflow.db: MLflow's tables in it are only half made"):
        runs.client()


def test_file_that_is_no_database_is_named(home: Path) -> None:
    home.mkdir()
    (home / "mlflow.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(InvalidInput, match="mlflow.db: not a database of MLflow: file is not a database"):
        runs.client()


def test_database_that_another_process_writes_to_is_taken_as_it_is(tracked_home: Path) -> None:
    with sqlite3.connect(tracked_home / "mlflow.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        database._check(tracked_home / "mlflow.db")
    other.close()


def test_making_it_takes_away_nothing_but_its_own_draft(home: Path) -> None:
    home.mkdir()
    names = ("mlflow.db.draft", "mlflow.db.draft-journal", "mlflow.db.bak", "mlflow.db-journal.txt", "draft")
    for name in names:
        (home / name).write_bytes(b"left")
    runs.client()
    assert {p.name for p in home.iterdir() if p.name.startswith(("mlflow", "draft"))} == {"mlflow.db", *names[2:]}


def test_draft_that_is_somebodys_folder_stays(home: Path) -> None:
    (home / "mlflow.db.draft" / "mine").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="mlflow.db.draft: cannot be written: Is a directory"):
        runs.client()
    assert (home / "mlflow.db.draft" / "mine").is_dir()


def test_server_of_ones_own_is_not_touched(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'own.db'}")
    runs.client()
    assert (tmp_path / "own.db").stat().st_size > 0
    assert not (home / "mlflow.db").exists()
