"""Schemas of databases: of SQLite files and of `tables.json`."""

import json
import sqlite3

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tasks.sql.schemas import declared, schema

TABLES = {
    "db_id": "see",
    "table_names_original": ["harbor", "boat"],
    "column_names_original": [[-1, "*"], [0, "id"], [0, "Town"], [1, "boat id"], [1, "harbor_id"], [1, "order"]],
    "column_types": ["text", "number", "text", "number", "number", "time"],
    "primary_keys": [1, 3],
    "foreign_keys": [[4, 1]],
    "column_names": [],
    "table_names": [],
}
STATEMENTS = (
    "CREATE TABLE harbor (id NUMBER, Town TEXT, PRIMARY KEY (id));\n"
    'CREATE TABLE boat ("boat id" NUMBER, harbor_id NUMBER REFERENCES harbor(id), "order" TIME, PRIMARY KEY ("boat id"));'
)


def database(path):
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.executescript("CREATE TABLE boot (\n  id INT,\n\t name TEXT\n);\nCREATE TABLE hafen (ort TEXT);")
    connection.close()


def only_declared(folder):
    (folder / "tables.json").write_text(json.dumps([TABLES]))


def test_schema_has_one_line_a_table(tmp_path):
    database(tmp_path / "db" / "see.sqlite")
    assert (
        schema(tmp_path / "db" / "see.sqlite")
        == "CREATE TABLE boot ( id INT, name TEXT );\nCREATE TABLE hafen (ort TEXT);"
    )


def test_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.sqlite").write_text("not a database, just some words")
    with pytest.raises(InvalidInput, match="not an SQLite database"):
        schema(tmp_path / "x.sqlite")


def test_tables_file_becomes_statements_that_quote_what_they_must(tmp_path):
    only_declared(tmp_path)
    assert declared(tmp_path / "tables.json") == {"see": STATEMENTS}


def test_tables_file_with_a_fault_is_named(tmp_path):
    (tmp_path / "tables.json").write_text(json.dumps([{**TABLES, "foreign_keys": [[4]]}]))
    with pytest.raises(InvalidInput, match=r"tables\.json: 0\.foreign_keys\.0"):
        declared(tmp_path / "tables.json")
