"""Schemas of databases as CREATE TABLE lines, read from SQLite files, `tables.json` and CSV. None is filled."""

from __future__ import annotations

import contextlib
import csv
import functools
import re
import sqlite3
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import explain, read_json
from symbol_llm.tasks import Row


class Schemas:
    """The schemas of one data set: from database files where there are any, else from `tables.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._declared = declared(folder / "tables.json") if (folder / "tables.json").is_file() else {}
        self._read: dict[Path, str] = {}

    def find(self, name: str) -> tuple[str, dict[str, Any]]:
        """Return the schema of database `name` and the environment to judge a query in."""
        official = self._folder / "database" / name / f"{name}.sqlite"
        database = official if official.is_file() else self._folder / "db" / f"{name}.sqlite"
        if name in self._declared and not database.is_file():
            return self._declared[name], {"schema": self._declared[name]}
        if database not in self._read:
            self._read[database] = schema(database)
        return self._read[database], {"database": str(database)}


def schema(database: Path) -> str:
    """Return the CREATE TABLE lines of an SQLite file, in the file's order."""
    if not database.is_file():
        raise InvalidInput(f"{database}: no such database; the data set keeps its SQLite files in db/")
    with contextlib.closing(
        sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    ) as connection:
        try:
            tables = connection.execute(
                "SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        except sqlite3.DatabaseError as e:
            raise InvalidInput(f"{database}: not an SQLite database: {e}") from e
        return "\n".join(" ".join(sql.split()) + ";" for (sql,) in tables)


def declared(path: Path) -> dict[str, str]:
    """Return the CREATE TABLE lines by database of a `tables.json`."""
    try:
        databases = TypeAdapter(list[Tables]).validate_python(read_json(path), strict=False)
    except ValidationError as e:
        raise InvalidInput(f"{path}: {explain(e)}") from e
    return {tables.db_id: tables.statements() for tables in databases}


class Tables(Row):
    """One database of Spider's `tables.json`; columns are numbered over all its tables, 0 is `*`."""

    db_id: str
    table_names_original: list[str]
    column_names_original: list[tuple[int, str]]
    column_types: list[str]
    primary_keys: list[int | list[int]]
    foreign_keys: list[tuple[int, int]]

    def statements(self) -> str:
        """Return a CREATE TABLE line for each table."""
        links = dict(self.foreign_keys)
        keys = {n for key in self.primary_keys for n in (key if isinstance(key, list) else [key])}
        lines = []
        for table, name in enumerate(self.table_names_original):
            mine = [n for n, (owner, _) in enumerate(self.column_names_original) if owner == table]
            columns = [f"{self._column(n)} {self.column_types[n].upper()}" for n in mine]
            for place, n in enumerate(mine):
                if n in links:
                    other = self.table_names_original[self.column_names_original[links[n]][0]]
                    columns[place] += f" REFERENCES {quoted(other)}({self._column(links[n])})"
            # Of a key of several columns the file has only the first; one that refers to another table is of this kind.
            key = [self._column(n) for n in mine if n in keys and n not in links]
            columns += [f"PRIMARY KEY ({', '.join(key)})"] if key else []
            lines.append(f"CREATE TABLE {quoted(name)} ({', '.join(columns)});")
        return "\n".join(lines)

    def _column(self, n: int) -> str:
        return quoted(self.column_names_original[n][1])


def csv_schema(path: Path) -> str:
    """Return the CREATE TABLE lines of a schema file of text2sql-data."""
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file; the set keeps its schema there")
    with path.open(newline="") as lines:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines)][1:]
    tables: dict[str, list[str]] = {}
    for row in rows:
        if len(row) > 2 and row[0] not in ("", "-"):
            kind = "INTEGER" if "int" in row[2] else "REAL" if re.search("float|double|dec", row[2]) else "TEXT"
            tables.setdefault(row[0], []).append(f"{quoted(row[1])} {kind}")
    return "\n".join(f"CREATE TABLE {quoted(table)} ({', '.join(columns)});" for table, columns in tables.items())


@functools.cache
def quoted(name: str) -> str:
    """Return `name` as an SQLite identifier, quoted if needed."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute(f"CREATE TABLE t ({name} TEXT)")
        except sqlite3.OperationalError:
            return f'"{name}"'
    return name if re.fullmatch(r"[^\W\d]\w*", name) else f'"{name}"'
