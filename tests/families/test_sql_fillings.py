"""Databases made to tell queries apart: what they hold, what they keep, and that they are the same each time."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from symbol_llm.families.sql.copies import COPIES, MOST_READ, copies, read
from symbol_llm.families.sql.fillings import SIZES, fill, fillings
from symbol_llm.families.sql.hints import Constant, Hints

SCHEMA = """
CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE dog (tag INTEGER PRIMARY KEY, owner INTEGER REFERENCES owner (id), age INTEGER, born DATE, note TEXT);
"""
NOTHING = Hints([], [], [], [], [], None, 0, [])


def hints(*constants: Constant, **more: Any) -> Hints:
    return NOTHING._replace(constants=list(constants), **more)


def filled(given: Hints) -> Iterator[sqlite3.Connection]:
    for filling in fillings(given):
        connection = sqlite3.connect(":memory:")
        connection.executescript(SCHEMA)
        fill(connection, given, filling)
        yield connection


def cells(connection: sqlite3.Connection, query: str) -> list[Any]:
    return [cell for (cell,) in connection.execute(query)]


def test_one_filling_is_empty_some_have_a_row_a_table_and_one_has_many() -> None:
    sizes = [cells(one, "SELECT count(*) FROM dog")[0] for one in filled(NOTHING)]
    assert sizes.count(0) == 1
    assert sizes.count(1) >= 8
    assert max(sizes) >= 60
    assert len(SIZES) < len(sizes)
    assert max(cells(one, "SELECT count(*) FROM dog")[0] for one in filled(hints(limit=30))) >= 120


def test_constants_and_their_neighbours_occur() -> None:
    given = hints(
        Constant("", "age", 7, ">"), Constant("dog", "note", "%big dog%", "like"), Constant("", "born", "2014-05-06")
    )
    found = [cell for one in filled(given) for cell in cells(one, "SELECT age FROM dog")]
    assert {6, 7, 8} <= set(found)
    found = [cell for one in filled(given) for cell in cells(one, "SELECT note FROM dog")]
    assert {"big dog", "big dogs", "xbig dog"} <= set(found)
    found = [cell for one in filled(given) for cell in cells(one, "SELECT born FROM dog")]
    assert {"2014-05-05", "2014-05-06", "2014-05-07"} <= set(found)


def test_texts_in_another_case_longer_and_shorter_occur() -> None:
    found = {cell for one in filled(hints(Constant("", "note", "Bonn"))) for cell in cells(one, "SELECT note FROM dog")}
    assert {"Bonn", "bONN", "Bonns", "xBonn", "Bon"} <= found


def test_a_constant_of_another_table_is_rare() -> None:
    notes = [
        cell
        for one in filled(hints(Constant("owner", "note", "Ann"), Constant("owner", "name", "Ann")))
        for cell in cells(one, "SELECT note FROM dog")
    ]
    assert notes.count("Ann") < len(notes) / 4


def test_nulls_come_where_they_are_asked_for() -> None:
    assert not any(cells(one, "SELECT 1 FROM dog WHERE note IS NULL") for one in filled(NOTHING))
    assert any(cells(one, "SELECT 1 FROM dog WHERE note IS NULL") for one in filled(hints(nulls=["note"])))


def test_references_hold_and_there_are_owners_of_several_dogs_and_of_none() -> None:
    kinds = Counter[bool]()
    for one in filled(NOTHING):
        assert not cells(one, "SELECT 1 FROM dog WHERE owner NOT IN (SELECT id FROM owner)")
        kinds["none"] += bool(cells(one, "SELECT 1 FROM owner WHERE id NOT IN (SELECT owner FROM dog)"))
        kinds["several"] += bool(cells(one, "SELECT 1 FROM dog GROUP BY owner HAVING count(*) > 1"))
    assert min(kinds["none"], kinds["several"]) >= 5


@pytest.fixture
def dogs() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA + "CREATE VIEW old AS SELECT * FROM dog WHERE age > 9;")
    connection.executemany("INSERT INTO owner VALUES (?, ?)", [(n, f"name {n}") for n in range(1, 6)])
    rows = [(n, n % 4 + 1, n % 7, f"2014-01-0{n % 9 + 1}", f"note {n % 7}") for n in range(12)]
    connection.executemany("INSERT INTO dog VALUES (?, ?, ?, ?, ?)", rows)
    return connection


def copied(connection: sqlite3.Connection, given: Hints) -> list[sqlite3.Connection]:
    contents = read(connection, given)
    return [make(contents) for make in copies(given)]


def test_copies_differ_from_the_database_and_are_the_same_each_time(dogs: sqlite3.Connection) -> None:
    dumps = [list(one.iterdump()) for one in copied(dogs, NOTHING)]
    assert len(dumps) == len(COPIES)
    assert len({str(dump) for dump in [*dumps, list(dogs.iterdump())]}) == len(COPIES) + 1
    assert dumps == [list(one.iterdump()) for one in copied(dogs, NOTHING)]


def test_distinct_numbers_are_not_always_in_the_order_of_the_key() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript("CREATE TABLE city (id INTEGER PRIMARY KEY, name TEXT, people INTEGER)")
    connection.executemany("INSERT INTO city VALUES (?, ?, ?)", [(n, f"c{n}", 100 * n + 7) for n in range(1, 6)])
    by_key, by_number = (f"SELECT name FROM city ORDER BY {column} DESC LIMIT 1" for column in ("id", "people"))
    found = [cells(one, by_key) == cells(one, by_number) for one in copied(connection, NOTHING)]
    assert not all(found)
    assert all(
        cells(one, "SELECT count(*) = count(DISTINCT people) FROM city") == [1] for one in copied(connection, NOTHING)
    )


def test_copies_keep_keys_references_and_dependent_columns(dogs: sqlite3.Connection) -> None:
    for one in copied(dogs, NOTHING):
        assert cells(one, "SELECT count(*) FROM owner")[0] >= 4
        assert not cells(one, "SELECT 1 FROM dog WHERE owner NOT IN (SELECT id FROM owner)")
        assert not cells(one, "SELECT age FROM dog GROUP BY age HAVING count(DISTINCT note) > 1")
        assert not cells(one, "SELECT 1 FROM dog WHERE note IS NULL")
        assert cells(one, "SELECT count(*) FROM old") == [0]


def test_constants_reach_the_copies(dogs: sqlite3.Connection) -> None:
    found = {
        cell
        for one in copied(dogs, hints(Constant("", "born", "2020-02-02")))
        for cell in cells(one, "SELECT born FROM dog")
    }
    assert {"2020-02-01", "2020-02-02", "2020-02-03"} <= found


def test_of_a_long_table_some_rows_are_taken_and_no_reference_dangles() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    n = MOST_READ + 100
    connection.executemany("INSERT INTO owner VALUES (?, 'x')", [(i,) for i in range(n)])
    connection.executemany("INSERT INTO dog VALUES (?, ?, 1, 1, 'x')", [(i, n - 1 - i) for i in range(n)])
    for one in copied(connection, NOTHING):
        assert cells(one, "SELECT count(*) FROM owner") == [MOST_READ]
        assert not cells(one, "SELECT 1 FROM dog WHERE owner NOT IN (SELECT id FROM owner)")


def test_unique_indexes_hold_in_copies_and_tables_that_no_query_names_are_left_out(dogs: sqlite3.Connection) -> None:
    dogs.executescript(
        "DROP VIEW old; CREATE UNIQUE INDEX one ON owner (name); CREATE TABLE cat (n); CREATE UNIQUE INDEX two ON cat (n);"
    )
    for one in copied(dogs, hints(Constant("", "name", "name 1"), tables=["dog"])):
        assert cells(one, "SELECT name FROM sqlite_master WHERE type = 'table'") == ["owner", "dog"]
        assert not cells(one, "SELECT 1 FROM owner GROUP BY name HAVING count(*) > 1")
        assert not cells(one, "SELECT 1 FROM dog WHERE owner NOT IN (SELECT id FROM owner)")


@pytest.mark.parametrize("count", [2, 10, 50])
def test_where_groups_are_counted_some_have_a_row_more_and_some_a_row_fewer(
    dogs: sqlite3.Connection, count: int
) -> None:
    for column, given in (("owner", dogs), ("note", dogs), ("owner", dogs.execute("DELETE FROM dog").connection)):
        asked = hints(Constant("", "count", count, ">"), grouped=[column])
        for made in ([*filled(asked)], copied(given, asked)):
            sizes = {size for one in made for size in cells(one, f"SELECT count(*) FROM dog GROUP BY {column}")}
            assert {count - 1, count, count + 1} <= sizes


def test_of_a_key_of_two_columns_the_first_may_repeat() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE child (id INT PRIMARY KEY, name TEXT); CREATE TABLE likes (child INT REFERENCES child (id), liked INT"
        " REFERENCES child (id), PRIMARY KEY (child, liked)); INSERT INTO child VALUES (1, 'Ann'), (2, 'Bo'), (3, 'Cy'),"
        " (4, 'Di'); INSERT INTO likes VALUES (1, 2), (2, 3), (3, 4);"
    )
    asked = hints(Constant("", "count", 2, ">="), grouped=["child"], equated=[("child", "id")])
    sizes = [cells(one, "SELECT count(*) FROM likes GROUP BY child") for one in copied(connection, asked)]
    assert any({1, 2, 3} <= set(one) for one in sizes)


def test_a_constant_reaches_a_column_that_others_depend_on(dogs: sqlite3.Connection) -> None:
    found = copied(dogs, hints(Constant("", "note", "note 9")))
    assert any("note 9" in cells(one, "SELECT note FROM dog") for one in found)
    assert not any(cells(one, "SELECT 1 FROM dog GROUP BY note HAVING count(DISTINCT age) > 1") for one in found)


def test_numbers_that_are_added_up_are_all_alike_in_one_database(dogs: sqlite3.Connection) -> None:
    dogs.execute("UPDATE dog SET note = tag")
    for made in ([*filled(hints(summed=["age"]))], copied(dogs, hints(summed=["age"]))):
        alike = [one for one in made if len(set(cells(one, "SELECT age FROM dog"))) == 1]
        assert any(cells(one, "SELECT count(*) FROM dog")[0] > 3 for one in alike)
