"""The SQLite file that holds runs and registry where there is no server: made whole or not at all, and never anew in silence.

MLflow makes its tables over seconds, and a file that was left in the middle of that works for nobody. So they are made in a
file beside it, which takes its name when it is whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from symbol_llm.ground import locks, outputs
from symbol_llm.ground.errors import Busy, InvalidInput
from symbol_llm.ground.files import saying_unwritable

logger = logging.getLogger(__name__)

WAIT_S = 120.0
"""How long another process may take to make the tables."""


_checked: set[Path] = set()
"""Looked at once a process."""


def ready(path: Path) -> None:
    """Make the database `path` unless it is there. InvalidInput for a file that is empty, half made or no database."""
    if path in _checked and path.exists():
        return
    if path.exists():
        _check(path)
        _checked.add(path)
        return
    with _held(path.with_name(outputs.LOCK)):
        if path.exists():
            return
        draft = path.with_name(f"{path.name}.draft")
        with saying_unwritable(draft):
            for left in (draft, draft.with_name(f"{draft.name}-journal")):
                left.unlink(missing_ok=True)
        _make(draft)
        with saying_unwritable(path):
            os.replace(draft, path)


def _check(path: Path) -> None:
    """Raise InvalidInput unless `path` has MLflow's tables. One that we made has them from its first moment."""
    if path.stat().st_size == 0:
        raise InvalidInput(
            f"{path}: empty, though runs and registry were kept in it; put a copy back, or remove it to begin anew"
        )
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=0, uri=True)) as file:
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            whole = "alembic_version" in tables and file.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
    except sqlite3.OperationalError as e:
        logger.debug("%s: not looked into: %s", path, e)  # another process writes to it
        return
    except sqlite3.DatabaseError as e:
        raise InvalidInput(f"{path}: not a database of MLflow: {e}; put a copy back, or remove it to begin anew") from e
    if not whole:
        raise InvalidInput(f"{path}: MLflow's tables in it are only half made; remove it to begin anew")


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold `lock`, once another process that makes the same database is done."""
    ends = time.monotonic() + WAIT_S
    while True:
        try:
            with locks.hold(lock, "making MLflow's database"):
                yield
            return
        except Busy:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


def _make(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"sqlite:///{path}", str(path.with_name("mlartifacts")))
    store.engine.dispose()
    with path.open("rb") as file:
        os.fsync(file.fileno())
