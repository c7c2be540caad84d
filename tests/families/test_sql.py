"""SQL on SQLite: rows, order, and a database that no query can change or leave."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.families.sql import canonical, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, TimedOut, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
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
        ("SELECT sum(people) / count(people) FROM city", "SELECT avg(people) FROM city"),
        ("SELECT max(people) + 1e-9 FROM city", "SELECT max(people) FROM city"),
        ("SELECT count(*) FROM city", "SELECT count(*) * 1.0 FROM city"),
        ("WITH c AS (SELECT * FROM city) SELECT name FROM c", "SELECT name FROM city"),
        ("SELECT name FROM city; -- done", "SELECT name FROM city"),
        (
            "SELECT name FROM (SELECT * FROM city ORDER BY name DESC)",
            "SELECT name FROM (SELECT * FROM city ORDER BY 1)",
        ),
        ("SELECT iif(1, NULL, name) FROM city", "SELECT NULL FROM city UNION ALL SELECT NULL FROM city WHERE 0"),
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
        accepts("SELECT name FROM city WHERE 1 = 0", "SELECT name FROM city WHERE people > people")
    with pytest.raises(InvalidInput, match="gold query fails: OperationalError: no such column: nope"):
        accepts("SELECT name FROM city", "SELECT nope FROM city")


@pytest.mark.parametrize(
    ("program", "gold"),
    [
        ("SELECT 4 FROM city LIMIT 1", "SELECT count(*) FROM city"),
        ("SELECT sum(people) / 3 FROM city", "SELECT avg(people) FROM city"),
        ("SELECT DISTINCT name FROM city", "SELECT name FROM city"),
        ("SELECT name FROM city WHERE people > 1.5", "SELECT name FROM city WHERE people > 1"),
        ("SELECT name FROM city WHERE name < 'Lyon'", "SELECT name FROM city WHERE name IN ('Bonn', 'Kiel')"),
        ("SELECT name FROM city WHERE people IS NULL", "SELECT name FROM city WHERE name = 'Nice'"),
        ("SELECT name FROM city WHERE 1 = 0", "SELECT name FROM city WHERE people > 9"),
        ("SELECT name FROM city ORDER BY rowid", "SELECT name FROM city ORDER BY name"),
    ],
)
def test_what_agrees_on_the_given_database_alone_is_rejected(program: str, gold: str) -> None:
    assert score(gold, problem(gold), LIMITS).score == 1.0
    assert not accepts(program, gold)


KEYED = """
CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE dog (tag INTEGER PRIMARY KEY, owner INTEGER REFERENCES owner (id), age INTEGER, city TEXT, zip TEXT);
INSERT INTO owner VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cid');
INSERT INTO dog VALUES (1, 1, 3, 'Bonn', '53'), (2, 1, 3, 'Bonn', '53'), (3, 2, 5, 'Kiel', '24'), (4, 2, 5, 'Kiel', '24'),
    (5, 2, 1, 'Bonn', '53'), (6, 3, 2, 'Kiel', '24'), (7, 1, 4, 'Bonn', '53');
"""


@pytest.mark.parametrize(
    ("program", "gold"),
    [
        ("SELECT count(*) FROM dog JOIN owner ON dog.owner = owner.id", "SELECT count(*) FROM dog"),
        ("SELECT count(DISTINCT tag) FROM dog", "SELECT count(*) FROM dog"),
        ("SELECT city, zip, count(*) FROM dog GROUP BY city, zip", "SELECT city, zip, count(*) FROM dog GROUP BY zip"),
        ("SELECT count(age) FROM dog WHERE city = 'Kiel'", "SELECT count(*) FROM dog WHERE city = 'Kiel'"),
        ("SELECT max(age) FROM dog WHERE owner = 3", "SELECT age FROM dog WHERE owner = 3 ORDER BY age DESC LIMIT 1"),
    ],
)
def test_what_holds_in_the_data_may_be_relied_on(program: str, gold: str) -> None:
    assert score(program, problem(gold, environment={"script": KEYED}), LIMITS).score == 1.0


@pytest.mark.parametrize("given", ["schema", "script"])
@pytest.mark.parametrize(
    ("program", "gold", "accepted"),
    [
        ("SELECT name FROM (SELECT * FROM t ORDER BY name DESC) ORDER BY n", "SELECT name FROM t ORDER BY n", True),
        ("SELECT name FROM t ORDER BY n, name", "SELECT name FROM t ORDER BY n", True),
        ("SELECT name FROM t ORDER BY n", "SELECT name FROM t ORDER BY n, name", False),
        ("SELECT name FROM t ORDER BY n DESC", "SELECT name FROM t ORDER BY n", False),
        (
            "SELECT n FROM t GROUP BY n ORDER BY count(*) DESC, n LIMIT 1",
            "SELECT n FROM t GROUP BY n ORDER BY count(*) DESC LIMIT 1",
            True,
        ),
        (
            "SELECT n FROM t GROUP BY n ORDER BY count(*) LIMIT 1",
            "SELECT n FROM t GROUP BY n ORDER BY count(*) DESC LIMIT 1",
            False,
        ),
    ],
)
def test_rows_that_gold_leaves_tied_may_stand_in_any_order(given: str, program: str, gold: str, accepted: bool) -> None:
    create = "CREATE TABLE t (name TEXT, n INTEGER);"
    rows = "INSERT INTO t VALUES ('b', 2), ('a', 2), ('c', 1), ('d', 3), ('e', 3), ('f', 2), ('a', 1);"
    environment = {"schema": create} if given == "schema" else {"script": create + rows}
    assert score(program, problem(gold, environment=environment), LIMITS).score == float(accepted)


def test_on_a_database_that_is_made_nothing_zero_and_null_are_one() -> None:
    schema = {"schema": "CREATE TABLE t (name TEXT, n INTEGER)"}
    one = problem("SELECT max(n) FROM t WHERE name = 'a'", environment=schema)
    assert score("SELECT n FROM t WHERE name = 'a' ORDER BY n DESC LIMIT 1", one, LIMITS).score == 1.0
    assert score("SELECT n FROM t ORDER BY n DESC LIMIT 1", one, LIMITS).score == 0.0


def test_constants_of_the_program_are_looked_at() -> None:
    one = problem("SELECT name FROM t WHERE n > 3", environment={"schema": "CREATE TABLE t (name TEXT, n INTEGER)"})
    assert score("SELECT name FROM t WHERE n > 3 AND n <> 777", one, LIMITS).score == 0.0
    assert score("SELECT name FROM t WHERE n > 3 AND name <> 'Zoe'", one, LIMITS).score == 0.0
    assert score("SELECT name FROM t WHERE n >= 4 AND 777 = 777", one, LIMITS).score == 1.0


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


def test_a_query_that_needs_far_more_work_than_gold_hits_a_limit() -> None:
    one = problem("SELECT count(*) FROM t", environment={"schema": "CREATE TABLE t (name TEXT, n INTEGER)"})
    cross = ", ".join(f"t AS t{i}" for i in range(8))
    with pytest.raises(LimitExceeded, match="needs more than"):
        score(f"SELECT count(DISTINCT t0.rowid) FROM {cross} WHERE t7.n >= 0 OR t6.n < 0", one, LIMITS)
