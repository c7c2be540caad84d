"""What is read off a query, and that a query which cannot be read costs neither an error nor much time."""

import datetime

import pytest

from symbol_llm.families.sql import score
from symbol_llm.families.sql.hints import MAX_CHARACTERS, Constant, hints_of
from symbol_llm.ground.params import Limits
from tests.cpu import at_most
from tests.problems import problem

TODAY = datetime.date.today().isoformat()


def constants(condition: str) -> list[tuple[str, str, str | int | float, str]]:
    query = f"SELECT name FROM city AS T1 JOIN lake ON T1.id = lake.city_id WHERE {condition}"
    return [one[:4] for one in hints_of([query], None).constants]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("people > 330", [("", "people", 330, ">")]),
        ("330 < people", [("", "people", 330, ">")]),
        ("T1.people >= 1.5", [("city", "people", 1.5, ">=")]),
        ("people > -5", [("", "people", -5, ">")]),
        ("people BETWEEN 2 AND 9", [("", "people", 2, ">="), ("", "people", 9, "<=")]),
        ("kind IN ('a', 'b')", [("", "kind", "a", "="), ("", "kind", "b", "=")]),
        ("lower(T1.name) = 'bonn'", [("city", "name", "bonn", "=")]),
        ("name LIKE '%o''n%'", [("", "name", "%o'n%", "like")]),
        ('T1.name = "Bonn"', [("city", "name", "Bonn", "=")]),
        ('"people" > 7', [("", "people", 7, ">")]),
        ("`the name` <> 'x' AND [an area] < 2", [("", "the name", "x", "!="), ("", "an area", 2, "<")]),
        ("substr(T1.name, 1, 2) = 'Bo'", [("city", "name", "Bo%", "like")]),
        ("name IN (SELECT name FROM lake WHERE depth > 4) ORDER BY 1 LIMIT 3", [("", "depth", 4, ">")]),
        ("CASE WHEN people = 3 THEN 4 ELSE 5 END = 4", [("", "people", 3, "="), ("", "people", 4, "=")]),
        ("1 GROUP BY name HAVING count(DISTINCT kind) >= 2", [("", "count", 2, ">=")]),
        ("4 < CASE kind WHEN 'a' THEN 1 ELSE 9 END", [("", "kind", 4, ">"), ("", "kind", "a", "=")]),
        (f"people > {10**30} AND area < 1e999", [("", "people", 1e30, ">")]),
    ],
)
def test_a_constant_comes_with_the_column_it_is_compared_with(
    condition: str, expected: list[tuple[str, str, str | int | float, str]]
) -> None:
    assert [one for one in constants(condition) if one[1]] == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("length(name) > 3", Constant("", "name", 3, ">", "length")),
        ("(LENGTH(T1.name)) > 3", Constant("city", "name", 3, ">", "length")),
        ("1 GROUP BY kind HAVING sum(people) > 7", Constant("", "people", 7, ">", "sum")),
        ("1 GROUP BY kind HAVING avg(people) > 7", Constant("", "people", 7, ">", "avg")),
        ("a - T1.b >= 4", Constant("", "a", 4, ">=", "less", "b")),
        ("4 > a + b", Constant("", "a", 4, "<", "plus", "b")),
        ("julianday(a) - julianday(b) < 5", Constant("", "a", 5, "<", "less days", "b")),
        ("CAST(strftime('%Y', a) AS INT) - strftime('%Y', b) = 2", Constant("", "a", 2, "=", "less years", "b")),
        ("strftime('%m', a) = '05'", Constant("", "a", "05", "=", "%m")),
        ("julianday('2020-03-01') - julianday(a) > 1", Constant("", "a", "2020-02-29", "<")),
        ("julianday(a) - julianday('2020-03-01') > 1", Constant("", "a", "2020-03-02", ">")),
        ("date(a) >= date('now', '-0 days')", Constant("", "a", TODAY, ">=")),
        ("a < datetime('2024-03-31', 'start of month', '-1 month')", Constant("", "a", "2024-02-01", "<")),
        ("a = strftime('%Y', '2024-03-31')", Constant("", "a", "2024", "=")),
        ("a > CAST(strftime('%Y', 'now', '+1 year') AS INT)", Constant("", "a", int(TODAY[:4]) + 1, ">")),
        ("julianday('now') - julianday(a) >= 0", Constant("", "a", TODAY, "<=")),
        ("julianday(a) - julianday('soon') > 1", Constant("", "a", 1, ">")),
    ],
)
def test_what_is_made_of_a_column_is_told(condition: str, expected: Constant) -> None:
    query = f"SELECT name FROM city AS T1 WHERE {condition}"
    assert expected in hints_of([query], None).constants


def test_what_is_joined_added_up_asked_for_null_and_limited_is_told() -> None:
    gold = "SELECT sum(a), total(b) FROM t JOIN u USING (k) JOIN v ON t.x = v.y WHERE c IS NOT NULL AND ifnull(d, 0) > 1 LIMIT 7"
    hints = hints_of([gold], "SELECT avg(e) FROM w LIMIT 12")
    assert sorted(hints.equated) == [("k", "k"), ("x", "y")]
    assert (hints.summed, hints.nulls, hints.limit) == (["a", "b"], ["c", "d"], 12)
    assert hints.tables == ["t", "u", "v", "w"]
    assert hints_of(["SELECT a FROM t GROUP BY b, t.C"], None).grouped == ["b", "c"]


def test_constants_of_the_program_that_gold_has_are_not_told_twice() -> None:
    hints = hints_of(["SELECT a FROM t WHERE a > 3"], "SELECT a FROM t WHERE a > 3 AND b < 4")
    assert hints.others == [Constant("", "b", 4, "<")]


HOSTILE = [
    "SELECT " + "(" * 33 + "1" + ")" * 33,
    "SELECT " + "(" * 4000,
    "SELECT " + "- " * 4000 + "1",
    "SELECT 1 WHERE " + "NOT " * 2000 + "1",
    "SELECT " + "CASE WHEN " * 900,
    "SELECT * FROM a " + "JOIN b " * 1200,
    "SELECT " + "1 + " * MAX_CHARACTERS + "1",
    "SELECT a FROM t WHERE " + "1+" * 4900 + "1",
    "SELECT a FROM t WHERE " + "'x'||" * 1900 + "''",
    "SELECT a FROM t WHERE " + "sum(1)-" * 1400 + "1",
    "SELECT 'open",
    "SELECT FROM WHERE",
    "",
]


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_what_cannot_be_read_says_nothing_and_soon(query: str) -> None:
    with at_most(1):
        hints = hints_of(["SELECT a FROM t WHERE a > 3"], query)
    assert hints.constants == [Constant("", "a", 3, ">")]
    assert hints.others == []
    assert hints.tables == (["t"] if " FROM t " in query else None)


def test_a_query_that_only_sqlite_can_read_is_judged() -> None:
    deep = f"SELECT name FROM city WHERE people > {'(' * 40}330{')' * 40}"
    schema = {"schema": "CREATE TABLE city (name TEXT, people INTEGER)"}
    sql = problem("sql", program="SELECT name FROM city WHERE people > 330", environment=schema)
    assert score(deep, sql, Limits()).score == 1.0
    assert score(deep.replace("330", "331"), sql, Limits()).score == 0.0


@pytest.mark.parametrize(
    "condition", ["strftime('%Y', a) = '2020'", "a > date(b, '-1 day')", "a > strftime('%Y', 'now')"]
)
def test_no_format_and_no_modifier_of_a_date_is_a_constant(condition: str) -> None:
    assert not {"%Y", "-1 day", "now"} & {value for _, _, value, _ in constants(condition)}
