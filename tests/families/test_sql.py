"""SQL on SQLite: rows, order, and a database that no query can change or leave."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.errors import InvalidInput, LimitExceeded, TimedOut, Unparsable
from symbol_llm.families.sql import canonical, run, score
from symbol_llm.params import Limits
from symbol_llm.records import Problem
from tests.problems import problem as make

LIMITS = Limits(timeout_s=10)
SCRIPT = """
CREATE TABLE city (name TEXT, people REAL);
INSERT INTO city VALUES ('Bonn', 1.0), ('Kiel', 2.0), ('Lyon', 2.0), ('Nice', NULL);
"""


def problem(gold: str | None = None, **more: Any) -> Problem:
    return make("sql", **({"program": gold, "environment": {"script": SCRIPT}} | more))


def accepts(program: str, gold: str) -> bool:
    return score(program, problem(gold), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("program", "gold"),
    [
        ("SELECT name AS n FROM city ORDER BY name DESC", "SELECT name FROM city"),
        ("SELECT count(*) FROM city", "SELECT count(name) FROM city"),
        ("SELECT sum(people) / 3 FROM city", "SELECT avg(people) FROM city"),
        ("SELECT max(people) + 1e-9 FROM city", "SELECT max(people) FROM city"),
        ("SELECT 4 FROM city LIMIT 1", "SELECT count(*) * 1.0 FROM city"),
        ("WITH c AS (SELECT * FROM city) SELECT name FROM c", "SELECT name FROM city"),
        ("SELECT name FROM city; -- done", "SELECT name FROM city"),
        (
            "SELECT name FROM (SELECT * FROM city ORDER BY name DESC)",
            "SELECT name FROM (SELECT * FROM city ORDER BY 1)",
        ),
        ("SELECT NULL FROM city WHERE name = 'Bonn'", "SELECT people FROM city WHERE name = 'Nice'"),
    ],
)
def test_equal_rows_are_accepted(program: str, gold: str) -> None:
    assert accepts(program, gold)


@pytest.mark.parametrize(
    ("program", "gold"),
    [
        ("SELECT name FROM city ORDER BY name DESC", "SELECT name FROM city ORDER BY name"),
        ("SELECT DISTINCT people FROM city", "SELECT people FROM city"),
        ("SELECT name, people FROM city", "SELECT people, name FROM city"),
        ("SELECT name FROM city", "SELECT name, people FROM city"),
        ("SELECT '1.0' FROM city LIMIT 1", "SELECT people FROM city WHERE name = 'Bonn'"),
        ("SELECT 0 FROM city LIMIT 1", "SELECT people FROM city WHERE name = 'Nice'"),
        ("SELECT 4", "SELECT count(*) FROM city"),
        ("SELECT name FROM city WHERE 1 = 0", "SELECT name FROM city"),
        ("SELECT nope FROM city", "SELECT name FROM city"),
    ],
)
def test_other_rows_are_rejected(program: str, gold: str) -> None:
    assert not accepts(program, gold)


def test_gold_rows_may_be_given() -> None:
    assert score("SELECT name FROM city WHERE people > 1", problem(answer=[["Lyon"], ["Kiel"]]), LIMITS).score == 1.0
    assert score("SELECT name FROM city WHERE people < 2", problem(answer=[["Lyon"]]), LIMITS).score == 0.0


def test_any_of_several_golds_is_enough() -> None:
    golds = ["SELECT name FROM city WHERE people = 1", "SELECT name, people FROM city WHERE people = 1"]
    either = problem(environment={"script": SCRIPT, "gold": golds})
    assert [score(gold, either, LIMITS).score for gold in golds] == [1.0, 1.0]


def test_gold_that_is_empty_or_fails_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="gold returns no rows"):
        accepts("SELECT name FROM city WHERE 1 = 0", "SELECT name FROM city WHERE people > 9")
    with pytest.raises(InvalidInput, match="gold query fails: OperationalError: no such column: nope"):
        accepts("SELECT name FROM city", "SELECT nope FROM city")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a #1?.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCRIPT)
    connection.close()
    return path


def test_a_database_file_is_read_whatever_its_name(database: Path) -> None:
    given = problem("SELECT name FROM city", environment={"database": str(database)})
    assert score("SELECT name FROM city", given, LIMITS).score == 1.0
    with pytest.raises(InvalidInput, match="no database '/no/such'"):
        run("SELECT 1", problem(environment={"database": "/no/such"}), LIMITS)


def test_a_file_that_is_no_database_is_our_fault(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no database at all, " * 100)
    with pytest.raises(InvalidInput, match="file is not a database"):
        run("SELECT 1", problem(environment={"database": str(tmp_path / "x")}), LIMITS)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT load_extension('x')",
        "SELECT * FROM pragma_database_list",
        "SELECT writefile('x', 'y')",
        "SELECT readfile('/etc/passwd')",
        "SELECT fts3_tokenizer('simple')",
        "WITH x AS (SELECT 1) DELETE FROM city",
        "WITH x AS (SELECT 1) INSERT INTO city SELECT 'x', 1",
    ],
)
def test_a_query_only_reads(query: str, database: Path) -> None:
    before = database.read_bytes()
    ran = run(query, problem(environment={"database": str(database)}), LIMITS)
    assert ran.value is None
    assert ran.detail
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "no query"),
        (";", "no query"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("DROP TABLE city", "starts with 'drop'; expected SELECT or WITH"),
        ("PRAGMA user_version = 1", "starts with 'pragma'"),
        ("ATTACH 'x' AS y", "starts with 'attach'"),
        ("SELECT 'open", "character 8: unexpected"),
    ],
)
def test_what_is_not_one_query_is_refused(query: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(query)


def test_a_syntax_error_is_unparsable() -> None:
    with pytest.raises(Unparsable, match='near "FORM": syntax error|near "city": syntax error'):
        run("SELECT name FORM city x", problem(), LIMITS)


def test_a_query_without_end_hits_a_limit() -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"
    with pytest.raises(TimedOut):
        run(endless.format("count(*)"), problem(), Limits(timeout_s=0.3))
    with pytest.raises(LimitExceeded):
        run(endless.format("i"), problem(), Limits(timeout_s=10, memory_mib=64))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("select  NAME from City;", "SELECT name -- the name\nFROM city"),
        ("SELECT [name] FROM `city`", "SELECT name FROM city"),
        ("SELECT 1 <> 2 /* why */", "SELECT 1 != 2"),
    ],
)
def test_case_and_layout_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("SELECT 'a'", "SELECT 'A'"),
        ('SELECT "a b"', "SELECT a b"),
        ("SELECT 'x''y'", "SELECT 'x' 'y'"),
        ("SELECT '--'", "SELECT ''"),
    ],
)
def test_queries_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


def test_a_sort_too_big_for_the_cache_needs_no_file() -> None:
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n"
    assert accepts(f"SELECT max(i) FROM ({count} ORDER BY -i, hex(i))", "SELECT 100000")
