"""Tables as SQLite describes them, and their rows rearranged: groups, sums and differences next to what is asked for."""

from __future__ import annotations

import datetime
import random
import sqlite3
from collections.abc import Iterable, Iterator, Set
from typing import Any, NamedTuple

from symbol_llm.families.sql.cells import WORDS, day_of
from symbol_llm.families.sql.domains import Cell, Rows, quoted, storable
from symbol_llm.families.sql.hints import Constant, Hints


class Column(NamedTuple):
    """A column as PRAGMA table_info describes it."""

    name: str
    kind: str
    key: int
    """1 if it is the primary key; if it is part of one, its position there, from 2; else 0."""


class Table(NamedTuple):
    """A table and, by column, the table and column it refers to."""

    name: str
    create: str
    columns: list[Column]
    links: dict[str, tuple[str, str]]


Made = dict[tuple[str, str], list[Cell]]
"""Cells by table and column, both in lower case."""

MOST_SPARE = 200
"""Most rows beyond a LIMIT."""
MOST_GROUPS = 20
"""Most groups in the database whose n-th group has n rows."""


def tables_of(connection: sqlite3.Connection, hints: Hints) -> list[Table]:
    """Return the tables that `hints` name and those they refer to, the latter first unless references are circular."""
    found = [
        Table(
            name,
            create,
            _columns(connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()),
            {
                row[3].lower(): (row[2].lower(), (row[4] or row[3]).lower())
                for row in connection.execute(f"PRAGMA foreign_key_list({quoted(name)})")
            },
        )
        for name, create in connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        ).fetchall()
    ]
    if hints.tables is not None:
        wanted = set(_closed(found, set(hints.tables)))
        found = [table for table in found if table.name.lower() in wanted]
    ordered: list[Table] = []
    while found:
        left = {table.name.lower() for table in found}
        ready = (t for t in found if not ({to for to, _ in t.links.values()} & left - {t.name.lower()}))
        ordered.append(next(ready, found[0]))
        found.remove(ordered[-1])
    return ordered


def _columns(described: list[tuple[Any, ...]]) -> list[Column]:
    is_single = sum(1 for row in described if row[5]) == 1
    return [Column(row[1], row[2], row[5] and (1 if is_single else row[5] + 1)) for row in described]


def _closed(tables: Iterable[Table], names: set[str]) -> Iterator[str]:
    """Yield `names` and those that they refer to."""
    links = {table.name.lower(): {to for to, _ in table.links.values()} for table in tables}
    seen: set[str] = set()
    while names:
        seen |= names
        yield from names
        names = {to for name in names for to in links.get(name, ())} - seen


def constants_of(table: Table, column: Column, hints: Hints) -> list[Constant]:
    """Return the constants that gold compares a column with, or one of its name where the table is not told."""
    return [
        one for one in hints.constants if one.column == column.name.lower() and one.table in ("", table.name.lower())
    ]


def joined(hints: Hints) -> set[str]:
    """Return the names of the columns that are compared with another."""
    return {name for pair in hints.equated for name in pair}


def asked_keys(known: list[Cell], mine: list[Constant]) -> list[Cell]:
    """Return the keys among `known` that gold compares a column with."""
    return [one.value for one in mine if one.value in known]


def insert(connection: sqlite3.Connection, table: Table, rows: list[tuple[Cell, ...]]) -> None:
    """Put rows into a table, without those that break its constraints."""
    names = ", ".join(quoted(column.name) for column in table.columns)
    marks = ", ".join("?" * len(table.columns))
    rows = [tuple(map(storable, row)) for row in rows]
    connection.executemany(f"INSERT OR IGNORE INTO {quoted(table.name)} ({names}) VALUES ({marks})", rows)  # noqa: S608


def groupings(hints: Hints, *, spare: int = 1) -> list[tuple[int, ...]]:
    """Return the sizes of groups in each extra database: more groups than a LIMIT, sizes next to the first two counts.

    Beyond MOST_GROUPS, and where rows are not grouped, they are of one row, about `spare` for each that LIMIT shows.
    """
    found = []
    if hints.grouped and 0 < hints.limit <= MOST_GROUPS - 2:
        found.append(tuple(range(1, hints.limit + 3)))
    elif hints.limit:
        n_rows = min(spare * hints.limit, hints.limit + MOST_SPARE)
        found.append((1,) * (n_rows + hints.limit // 8 + 2))
    counts = dict.fromkeys(int(c.value) for c in hints.constants if c.column == "count" and c.value in range(1, 100))
    if hints.grouped or hints.equated:
        found += [tuple(n for n in range(count - 1, count + 3) if n) for count in [*counts][:2]]
    return found


def grouped(
    table: Table,
    rows: Rows,
    hints: Hints,
    made: Made,
    groups: tuple[int, ...],
    *,
    is_parent: bool,
    free: Set[str] | None = None,
) -> Rows:
    """Return `rows` with as many of each value as `groups` says in the grouping columns, if no table is joined by its key.

    Otherwise each row has a value of its own there, and the other table's rows have the keys in groups of these sizes.
    """
    order = [n for n, size in enumerate(groups) for _ in range(size)]
    within_group = [k for size in groups for k in range(size)]
    asked = joined(hints) | set(hints.grouped)
    found: dict[int, list[Cell]] = {}
    for place, column in enumerate(table.columns if rows else ()):
        name = column.name.lower()
        if column.key == 1 or (free is not None and name not in free):
            continue
        parents = made.get(table.links.get(name, ("", "")))
        if parents:
            counted = within_group if column.key and name not in asked else order
            found[place] = [parents[n % len(parents)] for n in counted]
        elif name in hints.grouped:
            known = list(dict.fromkeys(row[place] for row in rows if row[place] is not None))
            known = [*known, *_more(known, max(len(rows), len(groups)))]
            found[place] = known[: len(rows)] if is_parent else [known[n] for n in order]
        elif name in joined(hints) and not is_parent:
            found[place] = [n + 1 for n in order]
    n_rows = len(rows) if is_parent or not found else min(len(rows), len(order))
    return [
        tuple(found[place][n % len(found[place])] if place in found else cell for place, cell in enumerate(rows[n]))
        for n in range(n_rows)
    ]


def _more(known: list[Cell], n: int) -> list[Cell]:
    """Return `n` more values of the same kind as `known`."""
    if known and all(isinstance(cell, int | float) for cell in known):
        return [max(known) + k for k in range(1, n + 1)]
    words = [str(cell) for cell in known] or WORDS
    return [f"{words[k % len(words)]}{k // len(words) + 2}" for k in range(n)]


def at_boundaries(table: Table, rows: Rows, hints: Hints, free: Set[str], rng: random.Random) -> Rows:
    """Return `rows` with half of their sums and differences at or next to the constants they are compared with."""
    names = [column.name.lower() for column in table.columns]
    cells = [list(row) for row in rows]
    for one in hints.constants:
        is_here = one.column in free and one.table in ("", table.name.lower()) and one.column in names
        if not is_here or isinstance(one.value, str):
            continue
        place = names.index(one.column)
        if one.measure in ("sum", "avg"):
            for group in _groups(table, cells, hints):
                if rng.random() < 0.5:
                    _add_up(group, place, one.value + rng.choice(_BESIDE), one.measure)
        elif one.other in names:
            for row in cells:
                if rng.random() < 0.5:
                    row[place] = _apart(row[names.index(one.other)], one, rng.choice(_BESIDE), row[place])
    return [tuple(row) for row in cells]


_BESIDE = (0, 0, 0, 1, -1)


def _groups(table: Table, cells: list[list[Cell]], hints: Hints) -> list[list[list[Cell]]]:
    """Return the rows by grouping column or, if that is in another table, by the column that joins it."""
    names = [column.name.lower() for column in table.columns]
    keys = [n for n, name in enumerate(names) if name in hints.grouped]
    keys = keys or [n for n, name in enumerate(names) if hints.grouped and name in (*table.links, *joined(hints))]
    groups: dict[str, list[list[Cell]]] = {}
    for row in cells:
        groups.setdefault(repr([row[n] for n in keys]), []).append(row)
    return list(groups.values())


def _add_up(group: list[list[Cell]], place: int, total: float, measure: str) -> None:
    each = total if measure == "avg" else total // len(group)
    for row in group:
        row[place] = each
    if measure == "sum":
        group[-1][place] = total - each * (len(group) - 1)


def _apart(other: Cell, constant: Constant, offset: int, cell: Cell) -> Cell:
    """Return a value that differs from `other` by the constant and `offset`; `cell` if there is none."""
    n = float(constant.value) + offset
    whole = int(n) if n.is_integer() else n
    if constant.measure in ("less", "plus") and isinstance(other, int | float):
        return whole + other if constant.measure == "less" else whole - other
    day = day_of(other)
    if day is None or not constant.measure.startswith("less "):
        return cell
    try:
        if constant.measure == "less days":
            return (day + datetime.timedelta(n)).isoformat()
        return day.replace(year=day.year + int(n), day=min(day.day, 28)).isoformat()
    except (OverflowError, ValueError):
        return cell


def levelled(table: Table, rows: Rows, hints: Hints, free: Set[str]) -> Rows:
    """Return `rows` with one number in each free column that is added up, so that all of them equal their mean."""
    names = [column.name.lower() for column in table.columns]
    level = {
        place: next((row[place] for row in rows if row[place] is not None), None)
        for place, name in enumerate(names)
        if name in hints.summed and name in free
    }
    return [tuple(level.get(place, cell) for place, cell in enumerate(row)) for row in rows]
