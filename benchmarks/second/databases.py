"""Databases for two SQL queries to be compared on by DuckDB: the given one, and others made at random.

A made database keeps to primary keys, UNIQUE, and foreign keys; its cells are few small numbers and texts, and those that
the queries name, with their neighbours. There are no NULLs in them, as there are none in the verifier's unless gold asks for
them. Only tables that a query names are filled. None of this is shared with the verifier's own databases.

A database counts if gold gives the same rows whatever the order in which they were inserted: what depends on it is a tie
broken by chance. It says nothing if gold gives only NULL, zero or nothing.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import sqlglot
from sqlglot import exp

N_MADE = 24
MAX_ROWS = 9
MAX_GIVEN = 2000
"""Most rows of a given table that are copied."""
Row = tuple[Any, ...]


class Column(NamedTuple):
    """A column as SQLite declares it."""

    name: str
    kind: str
    """DuckDB's type."""
    is_unique: bool
    parent: tuple[str, str] | None
    """Table and column that its values come from."""


Tables = dict[str, list[Column]]
Filling = dict[str, list[Row]]


class Undecided(ValueError):
    """DuckDB cannot say."""


def agree(program: str, gold: str, environment: Mapping[str, Any], seed: int = 0) -> bool:
    """Return whether `program` gives the rows of `gold` on every database that counts; Undecided if none tells anything."""
    with sqlite3.connect(":memory:") as own:
        source = _source(environment, own)
        tables = _tables(source)
        wanted = _translated(gold, tables)
        try:
            asked = _translated(program, tables)
        except Undecided:
            return False
        used = {name for name in tables if re.search(rf"\b{re.escape(name)}\b", f"{program} {gold}", re.IGNORECASE)}
        tables = _with_parents({name: tables[name] for name in tables if name in used}, tables)
        has_rows = environment.get("schema") is None or environment.get("script") is not None
        given = [_given(source, tables)] if has_rows else []
    rng = random.Random(seed)
    words = _literals(f"{program} {gold}")
    is_ordered = bool(sqlglot.parse_one(gold, read="sqlite").args.get("order"))
    fillings = given + [_made(tables, words, rng) for _ in range(N_MADE)]
    found = [_compared(tables, one, wanted, asked, is_ordered, rng) for one in fillings]
    if False in found:
        return False
    if True not in found:
        raise Undecided("gold returns nothing that tells, or depends on how ties are broken")
    return True


# --- reading ----------------------------------------------------------------------------------------------------------


def _source(environment: Mapping[str, Any], own: sqlite3.Connection) -> sqlite3.Connection:
    if path := environment.get("database"):
        return sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    own.executescript(environment.get("script") or environment["schema"])
    return own


def _tables(source: sqlite3.Connection) -> Tables:
    names = [row[0] for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: _columns(source, name) for name in names if not name.startswith("sqlite_")}


def _columns(source: sqlite3.Connection, table: str) -> list[Column]:
    info = source.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
    parents = {
        child.lower(): (parent, key or "")
        for _, _, parent, child, key, *_ in source.execute(f"PRAGMA foreign_key_list({_quoted(table)})")
    }
    keys = [row[1] for row in info if row[5]]
    unique = set(keys) if len(keys) == 1 else set()
    for _, index, is_unique, *_ in source.execute(f"PRAGMA index_list({_quoted(table)})").fetchall():
        columns = [row[2] for row in source.execute(f"PRAGMA index_info({_quoted(index)})")]
        unique |= set(columns) if is_unique and len(columns) == 1 else set()
    return [Column(name, _kind(kind), name in unique, parents.get(name.lower())) for _, name, kind, *_ in info]


def _kind(declared: str) -> str:
    """Return the type that SQLite's rules of affinity come to."""
    text = declared.upper()
    if "INT" in text:
        return "BIGINT"
    if "CHAR" in text or "TEXT" in text or "CLOB" in text or "DATE" in text or "TIME" in text:
        return "VARCHAR"
    return "DOUBLE" if text else "VARCHAR"


def _with_parents(used: Tables, tables: Tables) -> Tables:
    """Return `used` with the tables that its keys point to, parents first where there is no circle."""
    by_name = {name.lower(): name for name in tables}
    ordered: Tables = {}

    def add(name: str, below: frozenset[str]) -> None:
        for column in tables[name]:
            parent = column.parent and by_name.get(column.parent[0].lower())
            if parent and parent not in below:
                add(parent, below | {parent})
        ordered.setdefault(name, tables[name])

    for name in used:
        add(name, frozenset({name}))
    return ordered


def _given(source: sqlite3.Connection, tables: Tables) -> Filling:
    source.text_factory = lambda data: data.decode(errors="replace")
    found = {name: source.execute(f"SELECT * FROM {_quoted(name)} LIMIT {MAX_GIVEN + 1}").fetchall() for name in tables}  # noqa: S608
    if any(len(rows) > MAX_GIVEN for rows in found.values()):
        raise Undecided(f"more than {MAX_GIVEN} rows in a table")
    return found


def _translated(query: str, tables: Tables) -> str:
    """Return a query of SQLite in DuckDB's dialect; Undecided where sqlglot does not read it."""
    names = {column.name.lower() for columns in tables.values() for column in columns} | {
        name.lower() for name in tables
    }
    try:
        tree = sqlglot.parse_one(query, read="sqlite")
    except sqlglot.errors.SqlglotError as e:
        raise Undecided(f"sqlglot does not read it: {e}") from e
    if not isinstance(tree, exp.Query):
        raise Undecided("no query")
    names |= {alias.alias.lower() for alias in tree.find_all(exp.Alias, exp.TableAlias) if alias.alias}
    for like in list(tree.find_all(exp.Like)):  # SQLite's does not tell capitals from small letters
        like.replace(exp.ILike(**like.args))
    for column in list(tree.find_all(exp.Column)):  # a name in quotes that there is not is a text there
        if column.this.args.get("quoted") and not column.table and column.name.lower() not in names:
            column.replace(exp.Literal.string(column.name))
    texts = _text_columns(tables)
    for comparison in list(tree.find_all(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)):
        column, value = comparison.this, comparison.expression  # a column of texts makes a text of a number
        if isinstance(column, exp.Column) and isinstance(value, exp.Literal) and column.name.lower() in texts:
            value.set("is_string", True)
    return tree.sql(dialect="duckdb")


def _text_columns(tables: Tables) -> set[str]:
    """Return the names, in small letters, of columns that hold texts wherever they occur."""
    kinds: dict[str, set[str]] = {}
    for column in itertools.chain.from_iterable(tables.values()):
        kinds.setdefault(column.name.lower(), set()).add(column.kind)
    return {name for name, found in kinds.items() if found == {"VARCHAR"}}


def _literals(text: str) -> list[str]:
    words = [a or b for a, b in re.findall(r"'([^']*)'|\"([^\"]*)\"", text)]
    return sorted({*words, *(word.strip("%").replace("_", "a") for word in words)}) + re.findall(
        r"\b\d+(?:\.\d+)?\b", text
    )


# --- filling ----------------------------------------------------------------------------------------------------------


def _made(tables: Tables, literals: Sequence[str], rng: random.Random) -> Filling:
    filling: Filling = {}
    most = rng.choice((2, 4, MAX_ROWS))
    values = {kind: _values(kind, literals, rng) for kind in ("BIGINT", "DOUBLE", "VARCHAR")}
    for name, columns in tables.items():
        n = rng.randint(1, most)
        cells = [_cells(column, values[column.kind], n, filling, tables, rng) for column in columns]
        filling[name] = list(zip(*cells, strict=False))
    return filling


def _values(kind: str, literals: Sequence[str], rng: random.Random) -> list[Any]:
    """Return the values that columns of `kind` draw from: a few, so that joins and groups have something to find."""
    if kind == "VARCHAR":
        named = [word for word in literals if word]
        return [*named, *named, *(f"{word}x" for word in named), "a", "b", "Bc"]
    numbers = [float(word) for word in literals if re.fullmatch(r"-?\d{1,15}(?:\.\d+)?", word)]
    near = [number + step for number in numbers for step in (-1, 0, 1)]
    drawn = [*near, *numbers, 1, 2, 3, rng.randint(4, 99), rng.randint(100, 3000)]
    return [int(number) for number in drawn] if kind == "BIGINT" else [float(number) for number in drawn]


def _cells(
    column: Column, values: Sequence[Any], n: int, filling: Filling, tables: Tables, rng: random.Random
) -> list[Any]:
    pool = list(values)
    if column.parent:
        pool = _keys(column.parent, filling, tables) or pool
    if not column.is_unique:
        return [rng.choice(pool) for _ in range(n)]
    distinct = list(dict.fromkeys(pool))
    rng.shuffle(distinct)
    if not column.parent and len(distinct) < n:
        distinct += [f"k{i}" if column.kind == "VARCHAR" else 5000 + i for i in range(n)]
    return distinct[:n]


def _keys(parent: tuple[str, str], filling: Filling, tables: Tables) -> list[Any]:
    """Return the values of a parent's column; without a name of one, of its first."""
    name = next((one for one in filling if one.lower() == parent[0].lower()), None)
    if name is None:
        return []
    at = next((i for i, one in enumerate(tables[name]) if one.name.lower() == parent[1].lower()), 0)
    return [row[at] for row in filling[name]]


# --- comparing --------------------------------------------------------------------------------------------------------


def _compared(
    tables: Tables, filling: Filling, gold: str, program: str, is_ordered: bool, rng: random.Random
) -> bool | None:
    """Return whether both give the same rows; None if gold's say nothing. A program that does not run gives none."""
    wanted, found = zip(*(_both(tables, filling, gold, program, rng) for _ in range(3)), strict=True)
    bags = [sorted(map(repr, rows)) for rows in wanted]
    if any(bag != bags[0] for bag in bags):
        return None
    if any(rows is None or sorted(map(repr, rows)) != bags[0] for rows in found):
        return False
    if is_ordered and all(rows == wanted[0] for rows in wanted) and any(rows != wanted[0] for rows in found):
        return False
    return True if any(cell not in (None, 0) for row in wanted[0] for cell in row) else None


def _both(
    tables: Tables, filling: Filling, gold: str, program: str, rng: random.Random
) -> tuple[list[Row], list[Row] | None]:
    """Return the rows of both queries; None for a program that does not run."""
    import duckdb

    connection = engine()
    connection.execute("BEGIN")
    try:
        for name, columns in tables.items():
            declared = ", ".join(f"{_quoted(column.name)} {column.kind}" for column in columns)
            connection.execute(f"CREATE TABLE {_quoted(name)} ({declared})")
            if rows := rng.sample(filling[name], len(filling[name])):
                marks = ", ".join([f"({', '.join('?' * len(columns))})"] * len(rows))
                cells = list(itertools.chain.from_iterable(rows))
                connection.execute(f"INSERT INTO {_quoted(name)} VALUES {marks}", cells)  # noqa: S608
        wanted = _rows(connection.execute(gold).fetchall())
        try:
            return wanted, _rows(connection.execute(program).fetchall())
        except duckdb.Error as e:
            if _NO_SUCH.search(str(e)):
                return wanted, None
            raise Undecided(f"program in DuckDB: {e}"[:300]) from e  # SQLite groups, compares and converts more freely
    except duckdb.Error as e:
        raise Undecided(f"gold in DuckDB: {e}"[:300]) from e
    finally:
        connection.execute("ROLLBACK")


_NO_SUCH = re.compile(r"column .{0,200}not found|not have a column|Table with name|types '\w+\(\)'", re.DOTALL)
"""What DuckDB says of columns and tables that there are not, and of functions without an argument."""


@functools.cache
def engine() -> Any:
    """Return DuckDB's connection to an empty database in memory. It has to be opened before the sandbox closes."""
    import duckdb

    return duckdb.connect(config={"threads": 1, "enable_external_access": False, "memory_limit": "512MB"})


def _rows(rows: list[Row]) -> list[Row]:
    return [tuple(map(_cell, row)) for row in rows]


def _cell(cell: Any) -> Any:
    """Return a cell without what the engines show differently: booleans, decimals, the tenth digit."""
    if isinstance(cell, Decimal | float):
        number = float(f"{float(cell):.9g}")
        return int(number) if number.is_integer() else number
    return int(cell) if isinstance(cell, bool) else cell


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
