"""Questions about tables to SQL, run on SQLite.

Seven public sets are read: with their databases where they have them, else with their schema alone, which the verifier
fills. Problems are generated from templates over one table (`table_questions`), and as queries of two tables, each an
abstract `Query` that is written as SQL, worded in English and answered by `evaluate`, without SQLite. A conversation
is a query changed turn by turn.

Numbers in a column differ, and no answer depends on how ties are ordered.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import operator
import random
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from symbol_llm.errors import InvalidInput
from symbol_llm.files import explain, read_json
from symbol_llm.records import Problem
from symbol_llm.tasks import Generator, Published, Row, Task, read_rows

INSTRUCTION = "Write one SQLite query that answers the question."
IN_DIALOGUE = "Write one SQLite query that answers the last question of the conversation."
FAMILY = "sql"
CC_BY_SA = "CC BY-SA 4.0"


# --- public sets ---------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """One question of a row."""

    database: str
    question: str
    queries: list[str]
    earlier: tuple[str, ...] = ()


class QuestionRow(Row):
    """What the rows of sets with several databases share."""

    id: str = ""

    def asked(self) -> list[Asked]:
        """Return the questions of the row."""
        raise NotImplementedError


class SpiderRow(QuestionRow):
    """A row of Spider, in English or German."""

    db_id: str
    question: str
    query: str

    def asked(self) -> list[Asked]:
        """Return the one question."""
        return [Asked(self.db_id, self.question, [_bare(self.query)])]


class DefogRow(QuestionRow):
    """A row of Defog's sql-eval; its query holds several accepted answers, split by semicolons."""

    db_name: str
    question: str
    query: str
    instructions: str

    def asked(self) -> list[Asked]:
        """Return the one question, instructions after it."""
        queries = [query.strip() for query in self.query.split(";") if query.strip()]
        return [Asked(self.db_name, f"{self.question} {self.instructions}".strip(), queries)]


class Turn(Row):
    """A turn of SParC or CoSQL."""

    utterance: str
    query: str


class DialogueRow(QuestionRow):
    """A conversation of SParC or CoSQL; each turn is a question that follows the earlier ones."""

    database_id: str
    interaction: Annotated[list[Turn], Field(min_length=1)]

    def asked(self) -> list[Asked]:
        """Return a question for each turn."""
        said = [turn.utterance.strip() for turn in self.interaction]
        return [
            Asked(self.database_id, said[n], [_bare(turn.query)], tuple(said[:n]))
            for n, turn in enumerate(self.interaction)
        ]


def _bare(query: str) -> str:
    return query.strip().removesuffix(";").strip()


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
                    columns[place] += f" REFERENCES {_name(other)}({self._column(links[n])})"
            # Of a key of several columns the file has the first alone; one that refers to another table is such.
            key = [self._column(n) for n in mine if n in keys and n not in links]
            columns += [f"PRIMARY KEY ({', '.join(key)})"] if key else []
            lines.append(f"CREATE TABLE {_name(name)} ({', '.join(columns)});")
        return "\n".join(lines)

    def _column(self, n: int) -> str:
        return _name(self.column_names_original[n][1])


@functools.cache
def _name(name: str) -> str:
    """Return `name` as SQLite takes it for a name, in quotes where it must be."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute(f"CREATE TABLE t ({name} TEXT)")
        except sqlite3.OperationalError:
            return f'"{name}"'
    return name if re.fullmatch(r"[^\W\d]\w*", name) else f'"{name}"'


def declared(path: Path) -> dict[str, str]:
    """Return the CREATE TABLE lines by database of a `tables.json`."""
    try:
        databases = TypeAdapter(list[Tables]).validate_python(read_json(path), strict=False)
    except ValidationError as e:
        raise InvalidInput(f"{path}: {explain(e)}") from e
    return {tables.db_id: tables.statements() for tables in databases}


class Schemas:
    """The schemas of one data set: of a database file where there is one, else out of `tables.json`."""

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


def _public(
    name: str,
    kind: type[QuestionRow],
    licence: str,
    citation: str,
    *,
    generate: Generator | None = None,
    published: Published | None = None,
    language: str = "en",
) -> Task:
    in_turns = issubclass(kind, DialogueRow)

    def read(folder: Path) -> Iterator[Problem]:
        schemas = Schemas(folder)
        for n, (split, row) in enumerate(read_rows(folder, kind)):
            for turn, asked in enumerate(row.asked()):
                context, environment = schemas.find(asked.database)
                yield Problem.of(
                    task=name,
                    family=FAMILY,
                    split=split,
                    instruction=IN_DIALOGUE if in_turns else INSTRUCTION,
                    context="\n".join((context, *map("User: {}".format, asked.earlier))),
                    question=asked.question,
                    program=asked.queries[0] if asked.queries else None,
                    environment={**environment, "gold": asked.queries},
                    source=f"{name} {row.id or n}" + (f"#{turn + 1}" if in_turns else ""),
                    licence=licence,
                )

    shots = DIALOGUE_SHOTS if in_turns else SHOTS
    return Task(
        name,
        FAMILY,
        IN_DIALOGUE if in_turns else INSTRUCTION,
        shots,
        licence,
        citation,
        folder=f"sql/{name}",
        read=read,
        generate=generate,
        published=published,
        language=language,
    )


# --- sets of text2sql-data: one schema, several phrasings a query -------------------------------------------------------


class Variable(Row):
    """A variable of a query; `sql-only` ones are not in the question."""

    name: str
    example: str
    location: str
    type: str


class Sentence(Row):
    """A phrasing with its values of the variables."""

    text: str
    variables: dict[str, str]
    original: str = ""


class PhrasedRow(Row):
    """A row of text2sql-data (Finegan-Dollak et al. 2018)."""

    id: str
    sentences: list[Sentence]
    sql: list[str]
    variables: list[Variable]


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"[a-z_]+\d+", lambda found: values.get(found[0], found[0]), text)


def _csv_schema(path: Path) -> str:
    """Return the CREATE TABLE lines of a schema file of text2sql-data."""
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file; the set keeps its schema there")
    with path.open(newline="") as lines:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines)][1:]
    tables: dict[str, list[str]] = {}
    for row in rows:
        if len(row) > 2 and row[0] not in ("", "-"):
            kind = "INTEGER" if "int" in row[2] else "REAL" if re.search("float|double|dec", row[2]) else "TEXT"
            tables.setdefault(row[0], []).append(f"{_name(row[1])} {kind}")
    return "\n".join(f"CREATE TABLE {_name(table)} ({', '.join(columns)});" for table, columns in tables.items())


def read_advising(folder: Path) -> Iterator[Problem]:
    """Yield a problem for each phrasing; what a query takes for granted (`sql-only`) follows the schema as a comment."""
    statements = _csv_schema(folder / "advising-schema.csv")
    for split, row in read_rows(folder, PhrasedRow):
        defaults = {v.name: v.example for v in row.variables}
        hidden = [f"-- {v.type} is {v.example}" for v in row.variables if v.location == "sql-only"]
        for n, sentence in enumerate(row.sentences):
            values = {**defaults, **{name: value for name, value in sentence.variables.items() if value}}
            queries = [re.sub(r"\s+", " ", _bare(_filled(sql, values))) for sql in row.sql]
            yield Problem.of(
                task="advising",
                family=FAMILY,
                split=split,
                instruction=INSTRUCTION,
                context="\n".join((statements, *hidden)),
                question=_filled(sentence.text, values),
                program=queries[0] if queries else None,
                environment={"schema": statements, "gold": queries},
                source=f"advising {row.id}#{n + 1}",
                licence="CC BY 4.0",
            )


WIKISQL = re.compile(
    r"SELECT (?:(?P<aggregate>COUNT|MIN|MAX|SUM|AVG) )?TABLEalias0\.(?P<column>.+?)_FIELD FROM TABLE AS TABLEalias0"
    r"(?: WHERE (?P<where>.+?))? ;"
)
WIKISQL_CONDITION = re.compile(r'TABLEalias0\.(.+?)_FIELD ([<>=]) "?(var\d+)"?(?: AND |$)')
N_OTHER_COLUMNS = 3


def read_wikisql(folder: Path) -> Iterator[Problem]:
    """Yield a problem for each phrasing.

    The source has no tables: a schema is made of the columns of the query and of some that another row uses. Letter
    case of values does not count, since questions change it.
    """
    rows = list(read_rows(folder, PhrasedRow))
    used = [[_column(name) for name in re.findall(r"TABLEalias0\.(.+?)_FIELD", row.sql[0])] for _, row in rows]
    for at, (split, row) in enumerate(rows):
        found = WIKISQL.fullmatch(row.sql[0])
        conditions = WIKISQL_CONDITION.findall(found["where"] or "") if found else []
        rng = random.Random(row.id)
        others = sorted({name for columns in used for name in columns} - set(used[at]))
        columns = [*dict.fromkeys(used[at]), *rng.sample(others, min(N_OTHER_COLUMNS, len(others)))]
        rng.shuffle(columns)
        numbers = {_column(name) for name, sign, _ in conditions if sign != "="}
        if found and found["aggregate"] in ("SUM", "AVG", "MIN", "MAX"):
            numbers.add(_column(found["column"]))
        kinds = [f"{name} {'REAL' if name in numbers else 'TEXT'}" for name in columns]
        for n, sentence in enumerate(row.sentences):
            program = _wikisql_query(found, conditions, sentence.variables) if found else None
            yield Problem.of(
                task="wikisql",
                family=FAMILY,
                split=split,
                instruction=INSTRUCTION,
                context=f"CREATE TABLE facts ({', '.join(kinds)});",
                question=" ".join((sentence.original or sentence.text).split()),
                program=program,
                environment={
                    "schema": f"CREATE TABLE facts ({', '.join(f'{kind} COLLATE NOCASE' for kind in kinds)});"
                },
                source=f"wikisql {row.id}#{n + 1}",
                licence="BSD-3-Clause",
            )


def _column(name: str) -> str:
    plain = re.sub(r"\W+", "_", name.lower()).strip("_")
    return _name(f"in_{plain}" if plain[:1].isdigit() else plain)


def _wikisql_query(
    found: re.Match[str], conditions: list[tuple[str, str, str]], values: Mapping[str, str]
) -> str | None:
    if any(name not in values for _, _, name in conditions):
        return None
    column = _column(found["column"])
    select = f"{found['aggregate']}({column})" if found["aggregate"] else column
    tests = [f"{_column(name)} {sign} {_constant(values[value])}" for name, sign, value in conditions]
    return f"SELECT {select} FROM facts" + (f" WHERE {' AND '.join(tests)}" if tests else "")  # noqa: S608 - never run here


def _constant(value: int | str) -> str:
    """Return `value` as SQL: a number bare, a text in quotes."""
    text = str(value)
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    return text if re.fullmatch(r"-?\d+(\.\d+)?", text) else "'{}'".format(text.replace("'", "''"))


# --- one table ------------------------------------------------------------------------------------------------------


class Theme(NamedTuple):
    """What a table is about: the column that names a row, the column that groups rows, and two columns of numbers."""

    table: str
    """Also the plural of what a row is."""
    row: str
    name: str
    names: str
    group: str
    kinds: str
    numbers: dict[str, list[int]]

    @property
    def key(self) -> str:
        """Name of the column that numbers the rows."""
        return f"{self.row}_id"


_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("sql.yaml").read_text(encoding="utf-8"))
PAIRS = tuple((Theme(**child), Theme(**parent)) for child, parent in _DATA["themes"])
"""Each a table and the table that its rows belong to."""
THEMES = tuple(theme for pair in PAIRS for theme in pair)


class Template(NamedTuple):
    """One kind of query, with wordings.

    Filled in: {table}, {name}, {group}, {number}: table and columns; {row}, {kind}: a name and a group in the table;
    {cut}: a number of the column that is neither its lowest nor its highest; {k}: 2 or 3;
    {word} with {aggregate}, {end} with {order}: an English word and its SQL.
    """

    query: str
    texts: tuple[str, ...]


AGGREGATES = {"highest": "MAX", "lowest": "MIN", "average": "AVG", "total": "SUM"}
ORDERS = {"highest": "DESC", "lowest": "ASC"}

TEMPLATES = tuple(Template(row["query"], tuple(row["texts"])) for row in _DATA["templates"])


def level_of(query: str) -> int:
    """Return 1, 2 or 3: clauses beside SELECT and FROM, at least one; a query inside another makes it 3."""
    n_clauses = len(re.findall(r"WHERE|AND|GROUP BY|ORDER BY|LIMIT", query))
    return 3 if "(SELECT" in query or "HAVING" in query else min(max(n_clauses, 1), 3)


JOINED_SHARE = 0.5
"""Of the problems of level 3, those that speak of two tables."""


def generate(rng: random.Random, level: int) -> Problem:
    """Return a table with one question about it; the answer has at least one row."""
    if level == 3 and rng.random() < JOINED_SHARE:
        return _asked_of_two("table_questions", rng, level)
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
    first, second = (rng.sample(range(*values), n) for values in theme.numbers.values())
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


# --- two tables -----------------------------------------------------------------------------------------------------

Column = tuple[str, str]
"""Table and column."""
Record = Mapping[Column, Any]
Data = Mapping[str, list[Record]]
"""Rows by table."""


class Item(NamedTuple):
    """What is selected or sorted by: a column, or an aggregate over one (None: over the rows)."""

    column: Column | None
    aggregate: str | None = None


class Condition(NamedTuple):
    """That a column compares with a value, or with what another query gives."""

    column: Column
    sign: str
    value: Any
    words: str
    """As it follows the name of the rows: `with genre crime`."""


class Query(NamedTuple):
    """A query over one table, or over one joined with the table that its rows belong to."""

    child: Theme
    parent: Theme
    table: str
    select: tuple[Item, ...]
    where: tuple[Condition, ...] = ()
    joined: bool = False
    group: Column | None = None
    more_than: int | None = None
    """Rows that a group must have more of."""
    order: Item | None = None
    descending: bool = False
    limit: int | None = None
    minus: Query | None = None
    """Another query whose rows are taken away (EXCEPT)."""
    both: Query | None = None
    """Another query that must give the row as well (INTERSECT)."""


def evaluate(query: Query, data: Data) -> list[list[Any]] | None:
    """Return the rows of `query`, None if ties leave them open."""
    rows = [dict(row) for row in data[query.table]]
    if query.joined:
        parents = {row[query.parent.table, query.parent.key]: row for row in data[query.parent.table]}
        rows = [{**row, **parents[row[query.child.table, query.parent.key]]} for row in rows]
    rows = [row for row in rows if all(_holds(condition, row, data) for condition in query.where)]
    groups: dict[Any, list[Record]] = {}
    for n, row in enumerate(rows):
        whole = any(item.aggregate for item in query.select)
        groups.setdefault(row[query.group] if query.group else None if whole else n, []).append(row)
    found = [group for group in groups.values() if query.more_than is None or len(group) > query.more_than]
    if query.order:
        order = query.order
        found.sort(key=lambda group: _cell(order, group), reverse=query.descending)
        keys = [_cell(order, group) for group in found]
        tied = [n for n in range(1, len(keys)) if keys[n] == keys[n - 1]]
        if query.limit in tied if query.limit else tied:
            return None
    answer = [[_cell(item, group) for item in query.select] for group in found[: query.limit]]
    for other, kept in ((query.minus, False), (query.both, True)):
        if other:
            theirs = evaluate(other, data) or []
            answer = [row for row in answer if (row in theirs) == kept]
    if query.minus or query.both:
        answer = [list(row) for row in dict.fromkeys(map(tuple, answer))]
    return answer


def _holds(condition: Condition, row: Record, data: Data) -> bool:
    cell, value = row[condition.column], condition.value
    if isinstance(value, Query):
        inner = [first for first, *_ in evaluate(value, data) or []]
        value = inner if condition.sign.endswith("IN") else inner[0]
    return bool(SIGNS[condition.sign](cell, value))


SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "BETWEEN": lambda cell, value: value[0] <= cell <= value[1],
    "IN": lambda cell, value: cell in value,
    "NOT IN": lambda cell, value: cell not in value,
}


def _cell(item: Item, group: list[Record]) -> Any:
    if item.column is None:
        return len(group)
    cells = [row[item.column] for row in group]
    return AGGREGATED[item.aggregate](cells)


AGGREGATED: Mapping[str | None, Callable[[list[Any]], Any]] = {
    None: operator.itemgetter(0),
    "MAX": max,
    "MIN": min,
    "SUM": sum,
    "AVG": lambda cells: sum(cells) / len(cells),
}


def written(query: Query) -> str:
    """Return `query` as SQL; columns are named with their table where two are joined."""

    def column(at: Column) -> str:
        return f"{at[0]}.{at[1]}" if query.joined else at[1]

    def item(of: Item) -> str:
        inner = column(of.column) if of.column else "*"
        return f"{of.aggregate}({inner})" if of.aggregate else inner

    def condition(of: Condition) -> str:
        match of.value:
            case Query():
                value = f"({written(of.value)})"
            case (low, high):
                value = f"{low} AND {high}"
            case _:
                value = _constant(of.value)
        return f"{column(of.column)} {of.sign} {value}"

    child, parent = query.child, query.parent
    parts = [f"SELECT {', '.join(map(item, query.select))} FROM {query.table}"]  # noqa: S608 - never run here
    if query.joined:
        parts.append(f"JOIN {parent.table} ON {child.table}.{parent.key} = {parent.table}.{parent.key}")
    if query.where:
        parts.append(f"WHERE {' AND '.join(map(condition, query.where))}")
    if query.group:
        parts.append(f"GROUP BY {column(query.group)}")
    if query.more_than is not None:
        parts.append(f"HAVING COUNT(*) > {query.more_than}")
    if query.order:
        parts.append(f"ORDER BY {item(query.order)} {'DESC' if query.descending else 'ASC'}")
    if query.limit:
        parts.append(f"LIMIT {query.limit}")
    for other, word in ((query.minus, "EXCEPT"), (query.both, "INTERSECT")):
        if other:
            parts.append(f"{word} {written(other)}")
    return " ".join(parts)


def rows_in_words(query: Query) -> str:
    """Return what the rows of `query` are called: `books with pages above 300 of authors with country Chile`."""
    own = [condition.words for condition in query.where if condition.column[0] == query.table]
    others = [condition.words for condition in query.where if condition.column[0] != query.table]
    whose = [f"of {query.parent.table} {' and '.join(others)}"] if others else []
    return " ".join([query.table, *([" and ".join(own)] if own else []), *whose])


WORDS = {
    "MAX": ("highest", "maximum"),
    "MIN": ("lowest", "minimum"),
    "AVG": ("average", "mean"),
    "SUM": ("total", "summed"),
}


FRAMES = {
    "minus": (
        "Which {names} occur among {rows} but not among {other}?",
        "Give every {names} of {rows} but not of {other}.",
    ),
    "both": (
        "Which {names} occur both among {rows} and among {other}?",
        "Give every {names} that {rows} share with {other}.",
    ),
    "more than": ("Which {names} has more than {n} {rows}?", "Give every {names} that has more than {n} {rows}."),
    "for each": ("For each {names}, give the {what} of {rows}.", "What is the {what} of {rows} per {names}?"),
    "most": ("Which {names} has the {end} {rows}?", "Give the {names} with the {end} {rows}."),
    "count": ("How many {rows} are there?", "Count the {rows}.", "What is the number of {rows}?"),
    "aggregate": ("What is the {what} of {rows}?", "Give the {what} of all {rows}."),
    "list": (
        "Give the {names} of {rows}{ending}.",
        "What is the {names} of {rows}{ending}?",
        "List the {names} of {rows}{ending}.",
    ),
}
"""Wordings by what a query does."""


def asked(query: Query, rng: random.Random) -> str:
    """Return a question that `query` answers, if it is one that `Maker` draws."""
    other = query.minus or query.both
    aggregates = [item for item in query.select if item.aggregate]
    counts = aggregates[:1] == [Item(None, "COUNT")]
    kinds = {
        "minus": query.minus,
        "both": query.both,
        "more than": query.more_than is not None,
        "for each": query.group and aggregates,
        "most": query.group and query.order,
        "count": counts,
        "aggregate": aggregates,
        "list": True,
    }
    what = "number" if counts else " and the ".join(_in_words(item, query, rng) for item in aggregates)
    return rng.choice(FRAMES[next(kind for kind, holds in kinds.items() if holds)]).format(
        names=" and ".join(_in_words(item, query) for item in query.select if not item.aggregate),
        rows=rows_in_words(query),
        other=rows_in_words(other) if other else "",
        n=query.more_than,
        what=what,
        end="most" if query.descending else "fewest",
        ending=_ending(query, rng),
    )


def _in_words(item: Item, query: Query, rng: random.Random | None = None) -> str:
    table, column = item.column or ("", "rows")
    name = f"{column} of the {query.parent.row}" if query.joined and table == query.parent.table else column
    if not item.aggregate:
        return name
    return f"{rng.choice(WORDS[item.aggregate]) if rng else WORDS[item.aggregate][0]} {name}"


def _ending(query: Query, rng: random.Random) -> str:
    if not query.order:
        return ""
    by = "the number" if query.order.aggregate == "COUNT" else _in_words(query.order, query)
    if query.limit == 1:
        return f" with the {'highest' if query.descending else 'lowest'} {by}"
    if query.limit:
        return f" for the {query.limit} with the {'highest' if query.descending else 'lowest'} {by}"
    end = rng.choice(("highest", "largest")) if query.descending else rng.choice(("lowest", "smallest"))
    return f", sorted by {by}, {end} first"


# --- drawing queries ------------------------------------------------------------------------------------------------


class Maker:
    """Draws queries about one pair of tables with made-up rows."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.child, self.parent = rng.choice(PAIRS)
        self.data = self._rows()

    def _rows(self) -> Data:
        rng = self.rng
        data: dict[str, list[Record]] = {}
        for theme, n in ((self.parent, 6), (self.child, rng.randint(13, 15))):
            names = rng.sample([name + more for name in theme.names.split() for more in ("", " II")], n)
            numbers = {column: rng.sample(range(*values), n) for column, values in theme.numbers.items()}
            kinds = theme.kinds.split()
            rows: list[Record] = []
            for i, name in enumerate(names):
                row: dict[str, Any] = {
                    theme.key: i + 1,
                    theme.name: name,
                    theme.group: kinds[i] if i < len(kinds) else rng.choice(kinds),
                }
                if theme is self.child:
                    row[self.parent.key] = rng.randint(1, 5)
                row |= {column: values[i] for column, values in numbers.items()}
                rows.append({(theme.table, column): value for column, value in row.items()})
            data[theme.table] = rows
        return data

    def statements(self) -> tuple[str, str]:
        """Return the CREATE TABLE lines and the INSERT lines."""
        creates, inserts = [], []
        for theme in (self.parent, self.child):
            link = f" {self.parent.key} INTEGER REFERENCES {self.parent.table}({self.parent.key}),"
            columns = ", ".join(f"{column} INTEGER" for column in theme.numbers)
            creates.append(
                f"CREATE TABLE {theme.table} ({theme.key} INTEGER PRIMARY KEY, {theme.name} TEXT, {theme.group} TEXT,"
                f"{link if theme is self.child else ''} {columns});"
            )
            rows = ", ".join(f"({', '.join(map(_constant, row.values()))})" for row in self.data[theme.table])
            inserts.append(f"INSERT INTO {theme.table} VALUES {rows};")  # noqa: S608
        return "\n".join(creates), "\n".join(inserts)

    def theme(self, table: str) -> Theme:
        """Return the theme of `table`."""
        return self.child if table == self.child.table else self.parent

    def number(self, table: str) -> Column:
        """Return a column of numbers."""
        return table, self.rng.choice(list(self.theme(table).numbers))

    def condition(self, table: str, *, but: tuple[Column, ...] = ()) -> Condition:
        """Return a condition on `table` that holds for some of its rows, not on the columns `but`."""
        theme, rng = self.theme(table), self.rng
        columns = [(table, column) for column in (theme.group, *theme.numbers) if (table, column) not in but]
        column = rng.choice(columns)
        cells = sorted(row[column] for row in self.data[table])
        name = column[1]
        if name == theme.group:
            value = rng.choice(cells)
            if rng.random() < 0.2:
                return Condition(column, "<>", value, f"with {name} other than {value}")
            return Condition(column, "=", value, rng.choice((f"with {name} {value}", f"whose {name} is {value}")))
        low, high = sorted(rng.sample(cells[1:-1], 2))
        sign = rng.choice(("<", ">", "<", ">", "BETWEEN"))
        if sign == "BETWEEN":
            return Condition(column, sign, (low, high), f"with {name} from {low} to {high}")
        words = {"<": ("below", "under", "less than"), ">": ("above", "over", "more than")}[sign]
        return Condition(column, sign, low, f"with {name} {rng.choice(words)} {low}")

    def columns(self, table: str, n: int) -> tuple[Item, ...]:
        """Return `n` columns to select, its name first as a rule."""
        theme = self.theme(table)
        rest = [theme.group, *theme.numbers]
        self.rng.shuffle(rest)
        chosen = [theme.name, *rest] if self.rng.random() < 0.7 else rest
        return tuple(Item((table, column)) for column in chosen[:n])

    def aggregate(self, table: str) -> Item:
        """Return a count or an aggregate of a column of numbers."""
        kind = self.rng.choice(("COUNT", "AVG", "SUM", "MAX", "MIN"))
        return Item(None, kind) if kind == "COUNT" else Item(self.number(table), kind)

    def plain(self, table: str = "") -> Query:
        """Return a query of one clause, on one table."""
        table = table or self.rng.choice((self.child.table, self.child.table, self.parent.table))
        select = (self.aggregate(table),) if self.rng.random() < 0.4 else self.columns(table, 1)
        query = Query(self.child, self.parent, table, select)
        if not select[0].aggregate and self.rng.random() < 0.2:
            return query._replace(order=Item(self.number(table)), descending=self.rng.random() < 0.5)
        return query._replace(where=(self.condition(table, but=(select[0].column or ("", ""),)),))

    def fuller(self) -> Query:
        """Return a query of two or three clauses, on one table."""
        rng = self.rng
        table = rng.choice((self.child.table, self.child.table, self.parent.table))
        one = self.condition(table)
        query = Query(self.child, self.parent, table, self.columns(table, rng.randint(1, 2)), where=(one,))
        match rng.randrange(5):
            case 0:
                return query._replace(where=(one, self.condition(table, but=(one.column,))))
            case 1:
                return query._replace(order=Item(self.number(table)), descending=rng.random() < 0.5)
            case 2:
                limited = query._replace(order=Item(self.number(table)), descending=rng.random() < 0.5)
                return limited._replace(limit=rng.choice((1, 1, 2, 3)))
            case 3:
                group = (table, self.theme(table).group)
                cut = self.condition(table, but=(group,))
                return query._replace(select=(Item(group), self.aggregate(table)), where=(cut,), group=group)
        first, second = self.rng.sample(("MAX", "MIN", "AVG", "SUM"), 2)
        number = self.number(table)
        return query._replace(select=(Item(number, first), Item(number, second)))

    def nested(self) -> Query:  # noqa: PLR0911 - a return a kind
        """Return a query with a join, a query inside another, a set operation or groups of a least size."""
        rng, child, parent = self.rng, self.child, self.parent
        mine, theirs = self.condition(child.table), self.condition(parent.table)
        query = Query(child, parent, child.table, self.columns(child.table, 2), where=(mine, theirs), joined=True)
        owner, key = (parent.table, parent.name), (parent.table, parent.key)
        match rng.randrange(8):
            case 0:
                return query
            case 1:
                return query._replace(select=(self.aggregate(child.table),))
            case 2:
                ordered = query._replace(
                    where=(theirs,), order=Item(self.number(child.table)), descending=rng.random() < 0.5
                )
                return ordered._replace(limit=rng.choice((1, 3)))
            case 3:
                return query._replace(select=(Item(owner), self.aggregate(child.table)), where=(mine,), group=owner)
            case 4:
                grouped = query._replace(select=(Item(owner),), where=(mine,), group=owner)
                if rng.random() < 0.5:
                    return grouped._replace(more_than=rng.randint(1, 2))
                return grouped._replace(order=Item(None, "COUNT"), descending=rng.random() < 0.7, limit=1)
            case 5:
                number = self.number(child.table)
                mean = Query(
                    child, parent, child.table, (Item(number, "AVG"),), where=(mine,) if rng.random() < 0.5 else ()
                )
                words = f"with {number[1]} {{}} the average {number[1]} of {rows_in_words(mean)}"
                sign, word = rng.choice(((">", "above"), ("<", "below")))
                return query._replace(where=(Condition(number, sign, mean, words.format(word)),), joined=False)
            case 6:
                inner = Query(child, parent, child.table, (Item((child.table, parent.key)),), where=(mine,))
                sign, word = rng.choice((("IN", "that have"), ("NOT IN", "without")))
                lacking = Condition(key, sign, inner, f"{word} {rows_in_words(inner)}")
                return query._replace(
                    table=parent.table, select=self.columns(parent.table, 1), where=(lacking,), joined=False
                )
        group = Item((child.table, child.group))
        one = Query(
            child, parent, child.table, (group,), where=(self.condition(child.table, but=(group.column or ("", ""),)),)
        )
        other = one._replace(where=(theirs,), joined=True)
        return one._replace(minus=other) if rng.random() < 0.5 else one._replace(both=other)


def _settled(make: Callable[[], Query | None], data: Data) -> tuple[Query, list[list[Any]]]:
    """Draw until a query has an answer: rows that no tie leaves open."""
    while True:
        query = make()
        rows = evaluate(query, data) if query else None
        if query and rows and rows != [[0]]:
            return query, rows


def _asked_of_two(task: str, rng: random.Random, level: int) -> Problem:
    maker = Maker(rng)
    query, rows = _settled({1: maker.plain, 2: maker.fuller, 3: maker.nested}[level], maker.data)
    return _two_tables(task, maker, asked(query, rng), query, rows)


def _two_tables(task: str, maker: Maker, question: str, query: Query, rows: list[list[Any]], said: str = "") -> Problem:
    creates, inserts = maker.statements()
    return Problem.of(
        task=task,
        family=FAMILY,
        split="train",
        instruction=IN_DIALOGUE if said else INSTRUCTION,
        context=f"{creates}\n{said}".strip(),
        question=question,
        answer=rows,
        program=written(query),
        environment={"script": f"{creates}\n{inserts}", "schema": creates},
        source="generated",
        licence="Apache-2.0",
    )


def generate_spider(rng: random.Random, level: int) -> Problem:
    """Return a question about two tables: of one clause, of two or three on one table, or of both tables."""
    return _asked_of_two("spider", rng, level)


# --- conversations ----------------------------------------------------------------------------------------------------

Change = tuple[Query, str]
"""What a query becomes, and the words that ask for it."""


def _narrow(query: Query, maker: Maker) -> Change | None:
    if len(query.where) > 2 or query.limit:
        return None
    condition = maker.condition(query.table, but=tuple(condition.column for condition in query.where))
    text = maker.rng.choice(("Only those {}.", "Keep just the ones {}.", "Of these, take only the ones {}.", "And {}?"))
    return query._replace(where=(*query.where, condition)), text.format(condition.words)


def _widen(query: Query, maker: Maker) -> Change | None:
    if query.table != maker.child.table or query.joined or query.group or query.limit:
        return None
    condition, parent = maker.condition(maker.parent.table), maker.parent
    text = maker.rng.choice(("Only those of {} {}.", "Leave out all that are not of {} {}.", "And just for {} {}?"))
    return query._replace(where=(*query.where, condition), joined=True), text.format(parent.table, condition.words)


def _reselect(query: Query, maker: Maker) -> Change | None:
    select = maker.columns(query.table, maker.rng.choice((1, 2)))
    if query.group or query.select[0].aggregate or select == query.select:
        return None
    names = " and ".join(item.column[1] for item in select if item.column)
    text = maker.rng.choice(("Show their {} instead.", "What is the {} of each?", "Give me the {} of these."))
    return query._replace(select=select), text.format(names)


def _count(query: Query, maker: Maker) -> Change | None:
    if query.group or query.select[0].aggregate or query.limit:
        return None
    text = maker.rng.choice(("How many are there?", "How many are these?", "Just count them."))
    return query._replace(select=(Item(None, "COUNT"),), order=None), text


def _summarise(query: Query, maker: Maker) -> Change | None:
    if query.group or query.select[0].aggregate or query.limit:
        return None
    number, kind = maker.number(query.table), maker.rng.choice(list(WORDS))
    text = maker.rng.choice(("What is their {} {}?", "Tell me the {} {} of these."))
    words = (maker.rng.choice(WORDS[kind]), number[1])
    return query._replace(select=(Item(number, kind),), order=None), text.format(*words)


def _sort(query: Query, maker: Maker) -> Change | None:
    if query.group or query.order or query.select[0].aggregate:
        return None
    number, down = maker.number(query.table), maker.rng.random() < 0.5
    text = maker.rng.choice(("Sort them by {}, {} first.", "Order these by {}, the {} first.")).format(
        number[1], "highest" if down else "lowest"
    )
    return query._replace(order=Item(number), descending=down), text


def _cut(query: Query, maker: Maker) -> Change | None:
    if not query.order or query.limit:
        return None
    n = maker.rng.randint(1, 4)
    return query._replace(limit=n), maker.rng.choice(("Only the first {}.", "Just the top {} of that list.")).format(n)


def _split(query: Query, maker: Maker) -> Change | None:
    group = (query.table, maker.theme(query.table).group)
    if query.group or not query.select[0].aggregate or any(condition.column == group for condition in query.where):
        return None
    text = maker.rng.choice(("Give that for each {}.", "And per {}?", "Split this by {}.")).format(group[1])
    return query._replace(select=(Item(group), query.select[0]), group=group), text


def _swap(query: Query, maker: Maker) -> Change | None:
    last = query.where[-1] if query.where else None
    if not last or last.sign != "=":
        return None
    values = sorted({row[last.column] for row in maker.data[last.column[0]]} - {last.value})
    value = maker.rng.choice(values)
    condition = Condition(last.column, "=", value, f"with {last.column[1]} {value}")
    return query._replace(where=(*query.where[:-1], condition)), maker.rng.choice(
        (f"What about {value}?", f"And the same for {value}?", f"Now for {value} instead.")
    )


CHANGES = (_narrow, _narrow, _reselect, _count, _summarise, _sort, _cut, _split, _swap, _widen, _widen)
GREETINGS = ("Hi, I have some questions about {}.", "Hello! Can you help me with {}?", "I want to know more about {}.")
REPLIES = ("Here is what I found.", "Here you are.", "There are {} rows.", "This is the result, {} in all.")
CLARIFIED = (("Do you want all columns?", "No, just what I asked for."), ("Shall I start?", "Yes, please."))


def _talk(rng: random.Random, level: int) -> tuple[Maker, list[tuple[str, Query, list[list[Any]]]]]:
    """Return tables and `level` + 1 questions about them, each with its query and rows; at level 1 of one table."""
    maker = Maker(rng)
    query, rows = _settled(maker.plain, maker.data)
    turns = [(asked(query, rng), query, rows)]
    for _ in range(40):
        if len(turns) > level:
            return maker, turns
        change = rng.choice(CHANGES[: -2 if level == 1 else None])(turns[-1][1], maker)
        found = evaluate(change[0], maker.data) if change else None
        if change and found and found not in ([[0]], turns[-1][2]):
            turns.append((change[1], change[0], found))
    return _talk(rng, level)


def generate_sparc(rng: random.Random, level: int) -> Problem:
    """Return the last of `level` + 1 questions, which changes the query of the one before."""
    maker, turns = _talk(rng, level)
    question, query, rows = turns[-1]
    said = "\n".join(f"User: {text}" for text, _, _ in turns[:-1])
    return _two_tables("sparc", maker, question, query, rows, said)


def generate_cosql(rng: random.Random, level: int) -> Problem:
    """Return the last of `level` + 1 questions of a dialogue with greetings, replies and clarifications."""
    maker, turns = _talk(rng, level)
    lines = (
        [f"User: {rng.choice(GREETINGS).format(maker.child.table)}", "System: Gladly."] if rng.random() < 0.4 else []
    )
    for text, _, rows in turns[:-1]:
        lines.append(f"User: {text}")
        if rng.random() < 0.2:
            ask, reply = rng.choice(CLARIFIED)
            lines += [f"System: {ask}", f"User: {reply}"]
        lines.append(f"System: {rng.choice(REPLIES).format(len(rows))}")
    question, query, rows = turns[-1]
    return _two_tables("cosql", maker, question, query, rows, "\n".join(lines))


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

DIALOGUE_SHOTS = (
    (
        "CREATE TABLE boats (name TEXT, port TEXT, speed INTEGER, crew INTEGER);\nUser: How many boats have speed above 20?",
        "Which ones?",
        "SELECT name FROM boats WHERE speed > 20",
    ),
    (
        "CREATE TABLE meals (dish TEXT, kind TEXT, calories INTEGER, cost INTEGER);\n"
        "User: List the dish of all meals.\nUser: Only those whose kind is soup.",
        "Sort them by cost, lowest first.",
        "SELECT dish FROM meals WHERE kind = 'soup' ORDER BY cost ASC",
    ),
    (
        "CREATE TABLE trees (name TEXT, forest TEXT, height INTEGER, age INTEGER);\nUser: What is the average height of trees?",
        "And per forest?",
        "SELECT forest, AVG(height) FROM trees GROUP BY forest",
    ),
)

TASKS = (
    Task("table_questions", FAMILY, INSTRUCTION, SHOTS, "Apache-2.0", "written for this project", generate=generate),
    _public(
        "spider",
        SpiderRow,
        CC_BY_SA,
        "Yu et al. 2018, Spider",
        generate=generate_spider,
        published=Published(5, "EM", 7000, 1034),
    ),
    _public(
        "sparc",
        DialogueRow,
        CC_BY_SA,
        "Yu et al. 2019, SParC: Cross-Domain Semantic Parsing in Context",
        generate=generate_sparc,
        published=Published(6, "EM", 12059, 1203),
    ),
    _public(
        "cosql",
        DialogueRow,
        CC_BY_SA,
        "Yu et al. 2019, CoSQL: A Conversational Text-to-SQL Challenge",
        generate=generate_cosql,
        published=Published(7, "EM", 9478, 1300),
    ),
    _public(
        "spider_de",
        SpiderRow,
        "CC BY-SA 4.0 (Spider; copied from an Apache-2.0 repository)",
        "Yu et al. 2018, Spider; German by MachineSpider",
        language="de",
    ),
    _public("defog_sql_eval", DefogRow, "Apache-2.0", "Defog.ai 2023, SQL-Eval"),
    Task(
        "advising",
        FAMILY,
        INSTRUCTION,
        SHOTS,
        "CC BY 4.0",
        "Finegan-Dollak et al. 2018, Improving Text-to-SQL Evaluation Methodology",
        folder="sql/advising",
        read=read_advising,
    ),
    Task(
        "wikisql",
        FAMILY,
        INSTRUCTION,
        SHOTS,
        "BSD-3-Clause",
        "Zhong et al. 2017, Seq2SQL; in the form of Finegan-Dollak et al. 2018",
        folder="sql/wikisql",
        read=read_wikisql,
    ),
)
