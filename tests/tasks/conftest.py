"""Small data sets in the shape of their sources, and the real slices where there are any."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]


@pytest.fixture
def data_set(tmp_path: Path) -> Write:
    """Give a function that writes train and test rows into a folder and returns it."""

    def write(train: list[Any], test: list[Any]) -> Path:
        for name, rows in (("train", train), ("test", test)):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return write


@pytest.fixture(scope="session")
def real() -> Path:
    """Give the folder of real slices; the test is skipped where there is none."""
    default = Path(__file__).parents[3] / "shared" / "data" / "real"
    folder = Path(os.environ.get("SYMBOL_LLM_SOURCE") or default)
    if not folder.is_dir():
        pytest.skip(f"no real slices at {folder}; set SYMBOL_LLM_SOURCE")
    return folder
