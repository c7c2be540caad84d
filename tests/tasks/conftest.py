"""Small data sets in the shape of their sources: rows written for these tests, made to order or in `rows/`, and real slices.

`rows/<group>/<data set>` has one to three rows of each file, in the fields of its source; databases are SQL text there.
`replies.jsonl` beside them holds, for rows without a gold program, a right reply and a near miss.
"""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]
ROWS = Path(__file__).with_name("rows")


@pytest.fixture
def data_set(tmp_path: Path) -> Write:
    """Give a function that writes train and test rows into a folder and returns it."""

    def write(train: list[Any], test: list[Any]) -> Path:
        for name, rows in (("train", train), ("test", test)):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return write


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a source folder with a few rows of every data set that has a reader, its databases made."""
    folder = tmp_path_factory.mktemp("small") / "rows"
    shutil.copytree(ROWS, folder)
    for script in folder.glob("*/*/db/*.sql"):
        with contextlib.closing(sqlite3.connect(script.with_suffix(".sqlite"))) as connection:
            connection.executescript(script.read_text())
    return folder
