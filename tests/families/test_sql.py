"""SQL on SQLite: rows, order, and a database that no query can change or leave."""

import random
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.families.sql import canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, TimedOut, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import judge
from tests.cpu import at_most
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


TIED = """
CREATE TABLE city (name TEXT, country TEXT, people INTEGER);
INSERT INTO city VALUES ('Bonn', 'DE', 3), ('Kiel', 'DE', 2), ('Lyon', 'FR', 2), ('Nice', 'FR', 2), ('Pau', 'FR', 1);
"""


@pytest.mark.parametrize(
    ("program", "accepted"),
    [
        ("SELECT name FROM city ORDER BY people DESC, name LIMIT 2", 1.0),
        ("SELECT name FROM city ORDER BY people DESC, abs(unicode(name) - 76) LIMIT 2", 1.0),  # neither first nor last
        ("SELECT iif(name = 'Bonn', name, 'nonsense') FROM city ORDER BY people DESC LIMIT 2", 0.0),
        ("SELECT name FROM city WHERE people <> 2 ORDER BY people DESC LIMIT 2", 0.0),
        ("SELECT name FROM (SELECT * FROM city ORDER BY people DESC LIMIT 2) ORDER BY people", 0.0),
    ],
)
def test_on_a_given_database_where_gold_ties_any_choice_is_right_and_nothing_else(
    program: str, accepted: float
) -> None:
    one = problem("SELECT name FROM city ORDER BY people DESC LIMIT 2", environment={"script": TIED})
    assert score(program, one, LIMITS).score == accepted


def test_a_program_that_is_wrong_where_the_given_database_ties_alone_is_rejected() -> None:
    gold = "SELECT name FROM city WHERE country = 'FR' ORDER BY people DESC LIMIT 1"
    nonsense = f"SELECT iif((SELECT count(*) FROM city) = 5, 'nonsense', name) FROM ({gold.replace('name', '*')})"
    one = problem(gold, environment={"script": TIED})
    assert score(gold, one, LIMITS).score == 1.0
    assert score(nonsense, one, LIMITS).score == 0.0


@pytest.mark.parametrize(
    ("rows", "program", "gold"),
    [
        ("CREATE TABLE t (n TEXT, f BOOLEAN)", "SELECT n FROM t WHERE f <> 0", "SELECT n FROM t WHERE f = 1"),
        ("CREATE TABLE t (n TEXT, f BOOL)", "SELECT n FROM t WHERE f <> 'F'", "SELECT n FROM t WHERE f = 'T'"),
        (
            "CREATE TABLE t (n TEXT, f TEXT CHECK (f IN ('new', 'old')))",
            "SELECT n FROM t WHERE f <> 'old'",
            "SELECT n FROM t WHERE f = 'new'",
        ),
        (
            "CREATE TABLE t (n TEXT, f INTEGER CHECK (f BETWEEN 1 AND 5))",
            "SELECT n FROM t WHERE f = 5",
            "SELECT n FROM t WHERE f >= 5",
        ),
    ],
)
@pytest.mark.parametrize("given", ["schema", "script"])
def test_what_is_the_same_within_a_column_s_domain_is_accepted(given: str, rows: str, program: str, gold: str) -> None:
    values = (
        ("'T'", "'F'") if "'T'" in gold else ("'new'", "'old'") if "new" in gold else (5, 2) if "5" in gold else (1, 0)
    )
    lines = "".join(f"INSERT INTO t VALUES ('n{n}', {values[n % 2]});" for n in range(8))
    environment = {"schema": rows} if given == "schema" else {"script": f"{rows};{lines}"}
    one = problem(gold, environment=environment)
    assert score(program, one, LIMITS).score == 1.0
    assert score("SELECT n FROM t", one, LIMITS).score == 0.0


ORDERS = """
CREATE TABLE buyer (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE buy (id INTEGER PRIMARY KEY, buyer INTEGER REFERENCES buyer (id), kind TEXT, price INTEGER, paid DATE, sent DATE);
"""
ROWS = "".join(
    [
        *(f"INSERT INTO buyer VALUES ({n}, 'name {n}');" for n in range(1, 5)),
        *(
            f"INSERT INTO buy VALUES ({n}, {n % 4 + 1}, '{'abcde'[n % 5] * (n % 6 + 1)}', {n * 7 % 23 + 1}, '2020-0{n % 9 + 1}-11',"
            f" '2020-0{n * 5 % 9 + 1}-2{n % 7}');"
            for n in range(20)
        ),
    ]
)


@pytest.mark.parametrize("given", ["schema", "script"])
@pytest.mark.parametrize(
    ("gold", "old", "new"),
    [
        ("SELECT id FROM buy WHERE length(kind) > 3", "> 3", ">= 3"),
        ("SELECT id FROM buy WHERE length(kind) <= 3", "<= 3", "< 3"),
        ("SELECT buyer FROM buy GROUP BY buyer HAVING sum(price) > 77", "> 77", ">= 77"),
        (
            "SELECT name FROM buyer JOIN buy ON buyer.id = buy.buyer GROUP BY name HAVING sum(price) >= 40",
            ">= 40",
            "> 40",
        ),
        ("SELECT kind FROM buy GROUP BY kind HAVING avg(price) > 12", "> 12", ">= 12"),
        ("SELECT id FROM buy WHERE julianday(sent) - julianday(paid) > 30", "> 30", ">= 30"),
        ("SELECT id FROM buy WHERE julianday('2020-06-01') - julianday(paid) > 31", "> 31", ">= 31"),
        ("SELECT id FROM buy WHERE strftime('%Y', sent) - strftime('%Y', paid) >= 3", ">= 3", "> 3"),
        ("SELECT count(*) FROM buy WHERE strftime('%m', paid) = '05'", "= '05'", ">= '05'"),
        ("SELECT id, 9 / nullif(price, 4) FROM buy", "4)", "5)"),
        ("SELECT kind FROM buy GROUP BY kind ORDER BY count(*) DESC LIMIT 7", "LIMIT 7", "LIMIT 8"),
        ("SELECT kind FROM buy GROUP BY kind ORDER BY count(*) DESC LIMIT 7", "LIMIT 7", ""),
        (
            "SELECT name FROM buyer JOIN buy ON buyer.id = buy.buyer GROUP BY name ORDER BY count(*) DESC LIMIT 6",
            "LIMIT 6",
            "LIMIT 7",
        ),
    ],
)
def test_rows_at_the_boundary_tell_queries_apart(given: str, gold: str, old: str, new: str) -> None:
    one = problem(gold, environment={"schema": ORDERS} if given == "schema" else {"script": ORDERS + ROWS})
    assert score(gold, one, LIMITS).score == 1.0
    assert score(gold.replace(old, new), one, LIMITS).score == 0.0


@pytest.mark.parametrize("given", ["schema", "script"])
@pytest.mark.parametrize("limit", [2, 100, 200])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM buy",
        "SELECT paid FROM buy WHERE price > 10 ORDER BY price, id",
        "SELECT DISTINCT kind FROM buy",
        "SELECT kind, count(*) FROM buy GROUP BY kind",
        "SELECT buyer.id, count(*) FROM buyer JOIN buy ON buyer.id = buy.buyer GROUP BY buyer.id",
        "SELECT buy.id FROM buyer JOIN buy ON buyer.id = buy.buyer WHERE buy.kind = 'tea'",
    ],
)
def test_a_limit_that_would_cut_a_large_result_counts(query: str, limit: int, given: str) -> None:
    environment = {"schema": ORDERS} if given == "schema" else {"script": ORDERS + ROWS}
    assert score(f"{query} LIMIT {limit}", problem(query, environment=environment), LIMITS).score == 0.0


@pytest.mark.parametrize("limit", [2, 100, 200])
@pytest.mark.parametrize(
    "query", ["SELECT id FROM buy ORDER BY id", "SELECT kind FROM buy WHERE price > 10 ORDER BY id DESC"]
)
def test_a_limit_that_gold_has_counts(query: str, limit: int) -> None:
    for environment in ({"schema": ORDERS}, {"script": ORDERS + ROWS}):
        one = problem(f"{query} LIMIT {limit}", environment=environment)
        found = {n: score(f"{query} LIMIT {n}", one, LIMITS).score for n in (limit - 1, limit, limit + 1)}
        assert found == {limit - 1: 0.0, limit: 1.0, limit + 1: 0.0}
        assert score(query, one, LIMITS).score == 0.0


@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize("query", ["SELECT max(price) FROM buy", "SELECT kind FROM buy WHERE id = 3"])
def test_a_limit_that_cuts_nothing_does_not_count(query: str, limit: int) -> None:
    for environment in ({"schema": ORDERS}, {"script": ORDERS + ROWS}):
        assert score(f"{query} LIMIT {limit}", problem(query, environment=environment), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("answer", "program", "accepted"),
    [
        (["Bonn"], "SELECT name FROM city WHERE people = 1", 1.0),
        ("Bonn", "SELECT name FROM city WHERE people = 1", 1.0),
        (1, "SELECT people FROM city WHERE name = 'Bonn'", 1.0),
        (["Kiel", "Lyon"], "SELECT name FROM city WHERE people = 2", 1.0),
        (["Kiel", 2], "SELECT name, people FROM city WHERE name = 'Kiel'", 1.0),
        ([{"name": "Kiel", "people": 2}], "SELECT name, people FROM city WHERE name = 'Kiel'", 1.0),
        (["Bonn"], "SELECT name FROM city WHERE people = 2", 0.0),
        (["Bonn"], "SELECT 'B', 'o', 'n', 'n' FROM city LIMIT 1", 0.0),
        ("Bonn", "SELECT name, people FROM city WHERE people = 1", 0.0),
        (["Kiel", "Lyon"], "SELECT name FROM city WHERE name = 'Kiel'", 0.0),
    ],
)
def test_an_answer_may_be_a_cell_a_row_or_a_column(answer: Any, program: str, accepted: float) -> None:
    assert score(program, problem(answer=answer), LIMITS).score == accepted


@pytest.mark.parametrize("answer", [[["Bonn"], "Kiel"], [{"a": {"b": 1}}], [[["Bonn"]]]])
def test_an_answer_that_is_no_table_is_our_fault(answer: Any) -> None:
    with pytest.raises(InvalidInput, match="expected rows of texts, numbers and nulls"):
        score("SELECT name FROM city", problem(answer=answer), LIMITS)


@pytest.mark.parametrize(
    ("found", "gold", "same"),
    [
        ("1700000000", "1700000001", False),
        ("1000000", "1000001", False),
        ("1700000000.0", "1700000000", True),
        ("1000000.0", "1000000.0005", True),
        ("1000000.0", "1000000.5", False),
        ("0.1 + 0.2", "0.3", True),
        ("0", "3e-36", False),
        ("0.0", "1e-7", False),
        ("2.0 / 3", "0.666667", False),
        ("9007199254740993", "9007199254740992", False),
    ],
)
def test_whole_numbers_are_exact_and_others_may_differ_by_little(found: str, gold: str, same: bool) -> None:
    rows = "SELECT {} FROM city LIMIT 1"
    assert score(rows.format(found), problem(rows.format(gold)), LIMITS).score == float(same)


def test_a_verdict_names_the_rows_that_told_the_two_apart() -> None:
    one = problem("SELECT name FROM t WHERE n > 3", environment={"schema": "CREATE TABLE t (name TEXT, n INTEGER)"})
    value = score("SELECT name FROM t WHERE n >= 3", one, LIMITS).value
    assert value
    assert value.startswith("[['")
    assert re.search(r"where there is t \('\w+', 3\)\Z", value)
    assert len(value) < 300


@pytest.mark.parametrize(
    "constant",
    ["9" * 5000, "'" + "9" * 5000 + "'", "99999999999999999999", "1e999", "-9223372036854775809", "'" + "x" * 9000 + "'",
     "'\ud800'", "x''", "0x7fffffffffffffff", "'%' || '_' || char(0)"],
    ids=range(10),
)  # fmt: skip
@pytest.mark.parametrize("given", ["schema", "script"])
def test_no_constant_of_a_program_makes_its_gold_fail(given: str, constant: str) -> None:
    environment = {"schema": ORDERS} if given == "schema" else {"script": ORDERS + ROWS}
    one = problem("SELECT id FROM buy WHERE price > 3", environment=environment)
    for condition in ("price > 4 AND {}", "kind <> {}", "length(kind) > {}", "sent - paid > {}", "paid LIKE {}"):
        program = f"SELECT id FROM buy WHERE {condition.replace('{}', constant)}"
        verdict = judge(one, program, LIMITS)
        assert verdict.status in ("rejected", "unparsable", "resource"), verdict.detail


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("SELECT a FROM t\n\nWHERE b > 3", "SELECT a FROM t\n\nWHERE b > 3"),
        ("WITH c AS (\n  SELECT 1 AS a\n)\n\nSELECT a FROM c", "WITH c AS (\n  SELECT 1 AS a\n)\n\nSELECT a FROM c"),
        ("SELECT a\nFROM t\n\nThis selects a.", "SELECT a\nFROM t"),
        ("SELECT a FROM t;\nIt selects a; no more.", "SELECT a FROM t;"),
        ("SELECT a FROM t\nWHERE b = 'x\n\ny'\nNote that b is a text.", "SELECT a FROM t\nWHERE b = 'x\n\ny'"),
        ("SELECT a -- the name\n\nFROM t", "SELECT a -- the name\n\nFROM t"),
        ("SELECT a FROM (\n\nSELECT a FROM t\n\n) AS s\n\nThe s is what was asked.", None),
        ("SELECT a FROM t; SELECT b FROM t", "SELECT a FROM t; SELECT b FROM t"),
        ("SELECT a FROM t UNION\n\nSELECT b FROM t\n\nDone, I hope.", "SELECT a FROM t UNION\n\nSELECT b FROM t"),
        ("SELECT a FROM\n\nI do not know", "SELECT a FROM"),
        ("```sql\nSELECT a FROM t\n```\nDone", "SELECT a FROM t"),
    ],
)
def test_a_query_without_a_fence_ends_where_it_no_longer_parses(reply: str, program: str | None) -> None:
    expected = "SELECT a FROM (\n\nSELECT a FROM t\n\n) AS s" if program is None else program
    assert program_of(reply) == expected


@pytest.mark.parametrize(
    "text",
    ["SELECT 1\n" * 3600, "SELECT a FROM t\n\nwords " * 1300, "(\n" * 16000, "\n\na" * 10000, "';\n" * 10000, "SELECT " + "a," * 4000 + "a\nx y" * 400],
    ids=range(6),
)  # fmt: skip
def test_the_end_of_a_query_is_found_soon(text: str) -> None:
    with at_most(1):
        program_of(text[:32768])


def test_a_mutant_moves_a_boundary() -> None:
    found = set(mutants("SELECT a FROM t GROUP BY a HAVING sum(b) > 3", random.Random(0)))
    assert "SELECT a FROM t GROUP BY a HAVING sum(b) >= 3" in found
    assert max(map(len, mutants("SELECT " + "9" * 5000, random.Random(0))), default=0) == 0


PLAYERS = """CREATE TABLE player (id INTEGER PRIMARY KEY, name TEXT, country TEXT, points INTEGER);
INSERT INTO player VALUES (1, 'Ann', 'DE', 10), (2, 'Bo', 'FR', 20), (3, 'Cy', 'DE', 30), (4, 'Di', 'IT', 35);"""
FILMS = """CREATE TABLE film (id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE song (id INTEGER PRIMARY KEY, film INTEGER REFERENCES film (id), length INTEGER);"""
AIRPORTS = """CREATE TABLE airport (city TEXT, code TEXT PRIMARY KEY, name TEXT, land TEXT);
INSERT INTO airport VALUES ('Bonn', 'BN', 'Hangelar', 'DE'), ('Bonn', 'CG', 'Hangelar', 'DE'), ('Nice', 'NC', 'Azur', 'FR'),
('Nice', 'ND', 'Azur', 'FR'), ('Kiel', 'KI', 'Holtenau', 'DE'), ('Kiel', 'KJ', 'Holtenau', 'DE'), ('Lyon', 'LY', 'Bron', 'FR'),
('Lyon', 'LZ', 'Bron', 'FR');"""


@pytest.mark.parametrize(
    ("given", "gold", "old", "new"),
    [
        ({"script": PLAYERS}, "SELECT country FROM player GROUP BY country HAVING count(*) > 50", "> 50", ">= 50"),
        ({"script": PLAYERS}, "SELECT country FROM player GROUP BY country HAVING count(*) > 50", "> 50", "> 51"),
        (
            {"schema": PLAYERS.split("INSERT", maxsplit=1)[0]},
            "SELECT country FROM player GROUP BY country HAVING count(*) > 12",
            ">",
            ">=",
        ),
        ({"script": AIRPORTS}, "SELECT city, land FROM airport WHERE name = 'Alton'", "Alton", "Elton"),
        ({"script": AIRPORTS}, "SELECT city, land FROM airport WHERE name = 'Alton'", "=", "<"),
        (
            {"schema": FILMS},
            "SELECT DISTINCT title FROM film JOIN song WHERE length < (SELECT avg(length) FROM song)",
            "avg",
            "sum",
        ),
        ({"script": PLAYERS}, "SELECT name FROM player WHERE points > (SELECT avg(points) FROM player)", ">", ">="),
    ],
)
def test_gold_without_a_row_on_the_given_database_is_told_from_others(
    given: dict[str, str], gold: str, old: str, new: str
) -> None:
    asked = problem(gold, environment=given)
    assert score(gold, asked, LIMITS).score == 1.0
    assert score(gold.replace(old, new), asked, LIMITS).score == 0.0


VISITS = """CREATE TABLE visit (name TEXT, day DATE, age INTEGER, size REAL);
INSERT INTO visit VALUES ('Ann', '2020-01-01', 5, 0.0), ('Bo', '2020-01-05', 0, 2.5), ('Cy', '2020-02-01', 3, 7.25),
('Di', '2021-03-01', 2, 3.5), ('Ed', '2019-03-09', 1, 1.75), ('Flo', '2020-04-01', 4, 3.5), ('Gil', '2020-05-01 10:00:00', 8, 6.0);"""


@pytest.mark.parametrize("given", ["script", "schema"])
@pytest.mark.parametrize(
    ("program", "gold", "accepted"),
    [
        ("day LIKE '2020%'", "strftime('%Y', day) = '2020'", 1.0),
        ("day LIKE '2020-%'", "substr(day, 1, 4) = '2020'", 1.0),
        ("day LIKE '2020-03%'", "strftime('%Y-%m', day) = '2020-03'", 1.0),
        ("day LIKE '%-03-%'", "strftime('%m', day) = '03'", 1.0),
        ("day LIKE '2020%'", "strftime('%Y', day) >= '2020'", 0.0),
        ("day LIKE '%-03-%'", "strftime('%m', day) <= '03'", 0.0),
        ("age % 2 <> 1", "age % 2 = 0", 1.0),
        ("age % 2 <> 0", "age % 2 = 0", 0.0),
        ("abs(age - 4) < 2", "age BETWEEN 3 AND 5", 1.0),
        ("size < 1", "size <= 0", 0.0),
        ("size > 4", "size >= 5", 0.0),
    ],
)
def test_dates_stay_dates_and_numbers_above_zero_stay_there(
    given: str, program: str, gold: str, accepted: float
) -> None:
    environment = {given: VISITS if given == "script" else VISITS.split("INSERT", maxsplit=1)[0]}
    asked = problem(f"SELECT name FROM visit WHERE {gold}", environment=environment)
    assert score(f"SELECT name FROM visit WHERE {program}", asked, LIMITS).score == accepted
