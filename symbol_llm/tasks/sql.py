"""Questions about tables to SQL, run on SQLite.

Two public sets are read with their databases. `generate` makes a small table as a script, a question about it and the
rows that the gold query gives; numbers in a column differ, so no answer depends on how ties are ordered.
"""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.errors import InvalidInput
from symbol_llm.records import Problem
from symbol_llm.tasks import Row, Task, read_rows

INSTRUCTION = "Write one SQLite query that answers the question."
FAMILY = "sql"


# --- public sets ---------------------------------------------------------------------------------------------------


class SpiderRow(Row):
    """A row of Spider in German."""

    id: str
    db_id: str
    question: str
    query: str

    def parts(self) -> tuple[str, str, list[str]]:
        """Return database name, question and accepted queries."""
        return self.db_id, self.question, [self.query.strip().removesuffix(";")]


class DefogRow(Row):
    """A row of Defog's sql-eval; its query holds several accepted answers, split by semicolons."""

    id: str
    db_name: str
    question: str
    query: str
    instructions: str

    def parts(self) -> tuple[str, str, list[str]]:
        """Return database name, question and accepted queries."""
        queries = [query.strip() for query in self.query.split(";") if query.strip()]
        return self.db_name, f"{self.question} {self.instructions}".strip(), queries


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


def _public(name: str, kind: type[SpiderRow] | type[DefogRow], licence: str, citation: str) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        schemas: dict[Path, str] = {}
        for split, row in read_rows(folder, kind):
            db, question, queries = row.parts()
            database = (folder / "db" / f"{db}.sqlite").absolute()
            if database not in schemas:
                schemas[database] = schema(database)
            yield Problem.of(
                task=name,
                family=FAMILY,
                split=split,
                instruction=INSTRUCTION,
                context=schemas[database],
                question=question,
                program=queries[0] if queries else None,
                environment={"database": str(database), "gold": queries},
                source=f"{name} {row.id}",
                licence=licence,
            )

    return Task(name, FAMILY, INSTRUCTION, SHOTS, licence, citation, folder=f"sql/{name}", read=read)


# --- generated problems --------------------------------------------------------------------------------------------


class Theme(NamedTuple):
    """What a table is about: the column that names a row, the column that groups rows, and two columns of numbers."""

    table: str
    """Also the plural of what a row is."""
    name: str
    names: str
    group: str
    kinds: str
    numbers: dict[str, range]


class Template(NamedTuple):
    """One kind of query, with wordings.

    Filled in: {table}, {name}, {group}, {number}: table and columns; {row}, {kind}: a name and a group in the table;
    {cut}: a number of the column that is neither its lowest nor its highest; {k}: 2 or 3;
    {word} with {aggregate}, {end} with {order}: an English word and its SQL.
    """

    query: str
    texts: tuple[str, ...]


THEMES = (
    Theme(
        "books",
        "title",
        "Dawn River Snow Lamp Echo Clay Moss Tide",
        "genre",
        "poetry crime travel",
        {"pages": range(80, 600, 10), "year": range(1950, 2024)},
    ),
    Theme(
        "cities",
        "name",
        "Arden Belmo Cavia Delling Estra Fonte Gilda Hoven",
        "country",
        "Norway Spain Kenya",
        {"area": range(20, 400, 5), "founded": range(900, 1900, 10)},
    ),
    Theme(
        "staff",
        "name",
        "Ada Ben Cora Dan Ella Finn Gina Hugo",
        "team",
        "sales design legal",
        {"age": range(20, 65), "salary": range(2000, 6000, 100)},
    ),
    Theme(
        "dogs",
        "name",
        "Rex Bella Toby Luna Max Daisy Bruno Nala",
        "breed",
        "poodle beagle boxer",
        {"weight": range(5, 40), "age": range(1, 15)},
    ),
    Theme(
        "films",
        "title",
        "Orbit Mirage Harbor Canyon Velvet Signal Ember Frost",
        "studio",
        "Alfa Nord Lumen",
        {"minutes": range(70, 190, 5), "year": range(1970, 2024)},
    ),
    Theme(
        "goods",
        "item",
        "lamp chair desk shelf sofa clock vase rug",
        "color",
        "red blue white",
        {"price": range(10, 300, 5), "stock": range(1, 60)},
    ),
    Theme(
        "players",
        "name",
        "Iris Jack Kim Leo Mia Nora Omar Pia",
        "club",
        "Lions Hawks Bears",
        {"goals": range(1, 40), "height": range(155, 205)},
    ),
    Theme(
        "lakes",
        "name",
        "Arno Birk Corra Dune Elm Fara Grot Hild",
        "region",
        "north south west",
        {"depth": range(5, 250, 5), "area": range(10, 900, 10)},
    ),
    Theme(
        "flights",
        "code",
        "AB1 CD2 EF3 GH4 JK5 LM6 NP7 QR8",
        "city",
        "Oslo Rome Lima",
        {"seats": range(40, 320, 10), "price": range(60, 900, 10)},
    ),
    Theme(
        "plants",
        "name",
        "fern rose tulip mint basil ivy lily sage",
        "place",
        "garden balcony kitchen",
        {"height": range(10, 120, 5), "water": range(1, 20)},
    ),
)
AGGREGATES = {"highest": "MAX", "lowest": "MIN", "average": "AVG", "total": "SUM"}
ORDERS = {"highest": "DESC", "lowest": "ASC"}

TEMPLATES = (
    Template("SELECT COUNT(*) FROM {table}", ("How many {table} are there?", "Count all {table}.")),
    Template(
        "SELECT COUNT(*) FROM {table} WHERE {group} = '{kind}'",
        ("How many {table} have the {group} {kind}?", "Count the {table} whose {group} is {kind}."),
    ),
    Template(
        "SELECT {name} FROM {table} WHERE {group} = '{kind}'",
        ("Give the {name} of all {table} with the {group} {kind}.", "Which {name} has the {group} {kind}? List all."),
    ),
    Template(
        "SELECT {name} FROM {table} WHERE {number} > {cut}",
        ("Which {table} have {number} above {cut}? Give the {name}.", "List each {name} with {number} over {cut}."),
    ),
    Template(
        "SELECT {name} FROM {table} WHERE {number} < {cut}",
        ("Which {table} have {number} below {cut}? Give the {name}.", "List each {name} with {number} under {cut}."),
    ),
    Template(
        "SELECT COUNT(*) FROM {table} WHERE {number} > {cut}",
        ("How many {table} have {number} above {cut}?", "Count the {table} with {number} over {cut}."),
    ),
    Template(
        "SELECT COUNT(*) FROM {table} WHERE {number} < {cut}",
        ("How many {table} have {number} below {cut}?", "Count the {table} with {number} under {cut}."),
    ),
    Template(
        "SELECT {number} FROM {table} WHERE {name} = '{row}'",
        ("Give the {number} of {row}.", "What is the {number} where {name} is {row}?"),
    ),
    Template(
        "SELECT {group} FROM {table} WHERE {name} = '{row}'",
        ("What is the {group} of {row}?", "Give the {group} where {name} is {row}."),
    ),
    Template(
        "SELECT {aggregate}({number}) FROM {table}",
        ("What is the {word} {number} of all {table}?", "Give the {word} {number} in {table}."),
    ),
    Template(
        "SELECT {aggregate}({number}) FROM {table} WHERE {group} = '{kind}'",
        (
            "What is the {word} {number} of {table} with {group} {kind}?",
            "Give the {word} {number} where {group} is {kind}.",
        ),
    ),
    Template(
        "SELECT {name} FROM {table} ORDER BY {number} {order} LIMIT 1",
        ("Which {name} has the {end} {number}?", "Give the {name} with the {end} {number}."),
    ),
    Template(
        "SELECT {name} FROM {table} ORDER BY {number} {order} LIMIT {k}",
        (
            "List the {k} {table} with the {end} {number} by {name}.",
            "Which {k} have the {end} {number}? Give the {name}.",
        ),
    ),
    Template(
        "SELECT {name} FROM {table} ORDER BY {number} {order}",
        ("List every {name} by {number}, {end} first.", "Sort the {table} by {number}, {end} first. Give the {name}."),
    ),
    Template(
        "SELECT {group}, COUNT(*) FROM {table} GROUP BY {group}",
        ("How many {table} are there for each {group}?", "Count the {table} per {group}."),
    ),
    Template(
        "SELECT {group}, {aggregate}({number}) FROM {table} GROUP BY {group}",
        ("What is the {word} {number} for each {group}?", "Give each {group} with its {word} {number}."),
    ),
    Template(
        "SELECT {name} FROM {table} WHERE {group} = '{kind}' AND {number} > {cut}",
        ("Give the {name} of {table} with {group} {kind} and {number} above {cut}.",),
    ),
    Template(
        "SELECT DISTINCT {group} FROM {table}",
        ("Which values of {group} occur in {table}? List each once.", "List every {group} of the {table} once."),
    ),
    Template(
        "SELECT {name} FROM {table} WHERE {number} > (SELECT AVG({number}) FROM {table})",
        ("Which {table} have {number} above the average? Give the {name}.",),
    ),
    Template(
        "SELECT {name} FROM {table} WHERE {group} = '{kind}' ORDER BY {number} {order} LIMIT 1",
        ("Which {name} has the {end} {number} of all {table} with {group} {kind}?",),
    ),
    Template(
        "SELECT {group} FROM {table} GROUP BY {group} HAVING COUNT(*) > {k}",
        ("Which {group} has more than {k} {table}? List all.",),
    ),
)


def level_of(query: str) -> int:
    """Return 1, 2 or 3: clauses beside SELECT and FROM, at least one; a query inside another makes it 3."""
    n_clauses = len(re.findall(r"WHERE|AND|GROUP BY|ORDER BY|LIMIT", query))
    return 3 if "(SELECT" in query or "HAVING" in query else min(max(n_clauses, 1), 3)


def generate(rng: random.Random, level: int) -> Problem:
    """Return a table with one question about it; the answer has at least one row."""
    rows: list[list[Any]] = []
    templates = [template for template in TEMPLATES if level_of(template.query) == level]
    while not rows:
        theme, template = rng.choice(THEMES), rng.choice(templates)
        table = _table(theme, rng)
        words = _words(theme, table, rng)
        create, insert = _script(theme, table)
        query = template.query.format(**words)
        rows = _answer(f"{create}\n{insert}", query)
    return Problem.of(
        task="table_questions",
        family=FAMILY,
        split="train",
        instruction=INSTRUCTION,
        context=create,
        question=rng.choice(template.texts).format(**words),
        answer=rows,
        program=query,
        environment={"script": f"{create}\n{insert}"},
        source="generated",
        licence="Apache-2.0",
    )


Line = tuple[str, str, int, int]
"""One row of a generated table: name, group, two numbers."""


def _table(theme: Theme, rng: random.Random) -> list[Line]:
    """Return a dozen lines: with fewer a wrong query too often gives the right rows by accident."""
    n = rng.randint(12, 14)
    kinds = theme.kinds.split()
    groups = rng.sample([*kinds, *rng.choices(kinds, k=n - len(kinds))], n)
    names = [name + more for name in theme.names.split() for more in ("", " II")]
    first, second = (rng.sample(values, n) for values in theme.numbers.values())
    return list(zip(rng.sample(names, n), groups, first, second, strict=True))


def _words(theme: Theme, table: list[Line], rng: random.Random) -> dict[str, str]:
    column = rng.choice((0, 1))
    row = rng.choice(table)
    cut = rng.choice(sorted((first, second)[column] for _, _, first, second in table)[1:-1])
    word, end = rng.choice(list(AGGREGATES)), rng.choice(list(ORDERS))
    return {
        "table": theme.table,
        "name": theme.name,
        "group": theme.group,
        "number": list(theme.numbers)[column],
        "row": row[0],
        "kind": row[1],
        "cut": str(cut),
        "k": str(rng.choice((2, 3))),
        "word": word,
        "aggregate": AGGREGATES[word],
        "end": end,
        "order": ORDERS[end],
    }


def _script(theme: Theme, table: list[Line]) -> tuple[str, str]:
    first, second = theme.numbers
    columns = f"{theme.name} TEXT, {theme.group} TEXT, {first} INTEGER, {second} INTEGER"
    values = ", ".join(map(str, table))  # words and numbers from above, so Python's tuples read as SQL's
    return f"CREATE TABLE {theme.table} ({columns});", f"INSERT INTO {theme.table} VALUES {values};"  # noqa: S608


def _answer(script: str, query: str) -> list[list[Any]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(script)
        return [list(row) for row in connection.execute(query)]


SHOTS = (
    (
        "CREATE TABLE songs (title TEXT, style TEXT, length INTEGER, plays INTEGER);",
        "How many songs have the style jazz?",
        "SELECT COUNT(*) FROM songs WHERE style = 'jazz'",
    ),
    (
        "CREATE TABLE boats (name TEXT, port TEXT, speed INTEGER, crew INTEGER);",
        "Which name has the highest speed?",
        "SELECT name FROM boats ORDER BY speed DESC LIMIT 1",
    ),
    (
        "CREATE TABLE meals (dish TEXT, kind TEXT, calories INTEGER, cost INTEGER);",
        "What is the average cost for each kind?",
        "SELECT kind, AVG(cost) FROM meals GROUP BY kind",
    ),
    (
        "CREATE TABLE trees (name TEXT, forest TEXT, height INTEGER, age INTEGER);",
        "Which trees have age below 40? Give the name.",
        "SELECT name FROM trees WHERE age < 40",
    ),
)

TASKS = (
    Task("table_questions", FAMILY, INSTRUCTION, SHOTS, "Apache-2.0", "written for this project", generate=generate),
    _public(
        "spider_de",
        SpiderRow,
        "CC BY-SA 4.0 (Spider; copied from an Apache-2.0 repository)",
        "Yu et al. 2018, Spider; German by MachineSpider",
    ),
    _public("defog_sql_eval", DefogRow, "Apache-2.0", "Defog.ai 2023, SQL-Eval"),
)
