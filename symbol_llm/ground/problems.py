"""The problems of a collection, as every stage after `collect` reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import read_numbered
from symbol_llm.ground.records import Problem, Split


def read_problems(collection: Path, split: Split) -> list[Problem]:
    """Return the problems of one split; a `database` in their environment is an absolute path."""
    path, rows = collection / f"{split}.jsonl", []
    for n, row in read_numbered(path, Problem):
        if not isinstance(row.environment.get("database", ""), str):
            raise InvalidInput(f"{path}:{n}: environment.database: expected the name of a file")
        rows.append(with_database(row, lambda name: str((collection / name).absolute())))
    return rows


def with_database(row: Problem, place: Callable[[str], str]) -> Problem:
    """Return `row` with the path of its database, if it has one, put through `place`."""
    if "database" not in row.environment:
        return row
    return row.model_copy(update={"environment": {**row.environment, "database": place(row.environment["database"])}})
