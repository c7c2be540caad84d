"""Questions about tables to SQL, run on SQLite.

Seven public sets are read: with their databases if available, else with their schema alone, which the verifier fills
with rows. Problems are generated from templates over one table (`table_questions`), as queries of two tables
(`queries.py`) and as conversations about them (`conversations.py`).

Numbers in a column are distinct, and no answer depends on how ties are ordered.
"""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Generator, Published, Row, Task, read_rows
from symbol_llm.tasks.sql.conversations import talk
from symbol_llm.tasks.sql.queries import Maker, Query, Theme, constant, draw, worded, written
from symbol_llm.tasks.sql.schemas import Schemas, csv_schema, quoted

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
    """The shared fields of rows in sets with several databases."""

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


def read_advising(folder: Path) -> Iterator[Problem]:
    """Yield a problem for each phrasing; values that a query assumes (`sql-only`) follow the schema as a comment."""
    statements = csv_schema(folder / "advising-schema.csv")
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

    The source has no tables: a schema is made of the query's columns and some that another row uses. Letter case of
    values does not count, since questions change it.
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
    return quoted(f"in_{plain}" if plain[:1].isdigit() else plain)


def _wikisql_query(
    found: re.Match[str], conditions: list[tuple[str, str, str]], values: Mapping[str, str]
) -> str | None:
    if any(name not in values for _, _, name in conditions):
        return None
    column = _column(found["column"])
    select = f"{found['aggregate']}({column})" if found["aggregate"] else column
    tests = [f"{_column(name)} {sign} {constant(values[value])}" for name, sign, value in conditions]
    return f"SELECT {select} FROM facts" + (f" WHERE {' AND '.join(tests)}" if tests else "")  # noqa: S608 - never run here


# --- one table ------------------------------------------------------------------------------------------------------


_DATA = yaml.safe_load(resources.files("symbol_llm.tasks.sql").joinpath("sql.yaml").read_text(encoding="utf-8"))
PAIRS = tuple((Theme(**child), Theme(**parent)) for child, parent in _DATA["themes"])
"""Pairs of a table and the table that its rows belong to."""
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
    """Return 1, 2 or 3: the number of clauses besides SELECT and FROM, at least 1; a nested query makes it 3."""
    n_clauses = len(re.findall(r"WHERE|AND|GROUP BY|ORDER BY|LIMIT", query))
    return 3 if "(SELECT" in query or "HAVING" in query else min(max(n_clauses, 1), 3)


JOINED_SHARE = 0.5
"""Share of the problems of level 3 that use two tables."""


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
    """Return a dozen lines: with fewer, a wrong query too often gives the right rows by accident."""
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


def _asked_of_two(task: str, rng: random.Random, level: int) -> Problem:
    maker = Maker(rng, PAIRS)
    query, rows = draw({1: maker.plain, 2: maker.fuller, 3: maker.nested}[level], maker.data)
    return _two_tables(task, maker, worded(query, rng), query, rows)


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
    """Return a question about two tables: with one clause, with two or three on one table, or over both tables."""
    return _asked_of_two("spider", rng, level)


# --- conversations ----------------------------------------------------------------------------------------------------

GREETINGS = ("Hi, I have some questions about {}.", "Hello! Can you help me with {}?", "I want to know more about {}.")
REPLIES = ("Here is what I found.", "Here you are.", "There are {} rows.", "This is the result, {} in all.")
CLARIFIED = (("Do you want all columns?", "No, just what I asked for."), ("Shall I start?", "Yes, please."))


def generate_sparc(rng: random.Random, level: int) -> Problem:
    """Return the last of `level` + 1 questions, which changes the query of the one before."""
    maker, turns = talk(rng, PAIRS, level)
    question, query, rows = turns[-1]
    said = "\n".join(f"User: {text}" for text, _, _ in turns[:-1])
    return _two_tables("sparc", maker, question, query, rows, said)


def generate_cosql(rng: random.Random, level: int) -> Problem:
    """Return the last of `level` + 1 questions of a dialogue with greetings, replies and clarifications."""
    maker, turns = talk(rng, PAIRS, level)
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
