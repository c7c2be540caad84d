"""Databases that tell queries apart: a schema's tables filled with made-up rows.

Keys match and do not match; columns hold the constants that gold compares them with and their neighbours, few values
(large groups, ties) or many (few ties); tables have one row or many. Where there is a LIMIT, one more database has more
rows, or groups of different sizes, than it shows; where a count is compared with a number, one has groups of that many
rows, of one more and of one fewer; where numbers are added up, they are all alike in one. CHECKs of a single column are
respected, and NULLs occur only where gold asks for them. Nothing here runs a query or looks at a result, and the same
arguments give the same rows.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Set
from typing import NamedTuple

from symbol_llm.families.sql.cells import DENSE, made_up, meeting, unlike
from symbol_llm.families.sql.domains import PAIRS, Cell, within
from symbol_llm.families.sql.hints import Constant, Hints
from symbol_llm.families.sql.tables import (
    Column,
    Made,
    Table,
    asked_keys,
    at_boundaries,
    constants_of,
    grouped,
    groupings,
    insert,
    joined,
    levelled,
    tables_of,
)

SIZES = (4, 6, 8, 10, 12, 16, 20, 24)
"""Most rows of a table in each filling."""

SINGLES = 12
"""Fillings with one row per table: two meet every condition that gold puts on columns, the others all but one."""

MANY = 64
"""Rows of a table in one more filling, or four for each that a LIMIT up to it shows."""


class Filling(NamedTuple):
    """How one filling is made."""

    size: int
    seed: int
    spared: int | None = None
    """Index of the one condition on a column that is not met; beyond their number, a few at random."""
    with_others: bool = False
    groups: tuple[int, ...] = ()
    """How often each value of the columns that rows are grouped or joined by occurs; empty: as it happens."""
    level: bool = False
    """Columns that are added up hold one number."""


def fillings(hints: Hints) -> list[Filling]:
    """Return the fillings that `hints` ask for; the first ones do not depend on the program."""
    counts = [6 * int(c.value) for c in hints.constants if c.column == "count" and c.value in range(2, 100)]
    sizes = [*SIZES, *counts[:1], MANY if hints.limit > MANY else max(MANY, 4 * hints.limit), 0]
    found = [Filling(size, seed) for seed, size in enumerate(sizes)]
    found += [Filling(1, 100 + n, n - 2 if n > 1 else None) for n in range(SINGLES)]
    found += [Filling(sum(groups), 301 + 2 * len(groups), groups=groups) for groups in groupings(hints)]
    found += [Filling(7, 401, level=True)] if hints.summed else []
    return found + [Filling(size, 200 + size, with_others=True) for size in (6, 15) if hints.others]


def fill(connection: sqlite3.Connection, hints: Hints, filling: Filling) -> None:
    """Put rows into the tables that `hints` name and those they refer to; columns that are equated share few numbers.

    An even seed gives few distinct values, so that groups are large; an odd one gives many, so that ties are rare.
    """
    if filling.with_others:
        hints = hints._replace(constants=hints.others + hints.constants)
    made: Made = {}
    tables = tables_of(connection, hints)
    hints = hints._replace(constants=[*hints.constants, *_passed_on(tables, hints)])
    asked = [
        (t.name, c.name)
        for t in tables
        for c in t.columns
        if constants_of(t, c, hints) or c.name.lower() in joined(hints)
    ]
    spared = _spared(asked, filling)
    parents = {to for table in tables for to, _ in table.links.values()}
    for table in tables:
        rng = random.Random(f"{filling.seed} {table.name}")
        mine = {column for name, column in spared if name == table.name}
        rows = made_rows(table, hints, made, filling, rng, mine)
        if filling.groups:
            rows = grouped(
                table,
                rows,
                hints,
                made,
                filling.groups,
                is_parent=bool(hints.equated) and table.name.lower() in parents,
            )
        free = {column.name.lower() for column in table.columns if not column.key} - table.links.keys()
        rows = at_boundaries(table, rows, hints, free, rng)
        if filling.level:
            rows = levelled(table, rows, hints, free)
        names = [column.name for column in table.columns]
        pairs = [_pair_of_kind(table, column, hints) for column in table.columns]
        insert(connection, table, within(connection, table.create, names, rows, pairs, rng))


def _passed_on(tables: list[Table], hints: Hints) -> Iterator[Constant]:
    """Yield the constants that foreign keys are compared with, as constants of the keys they refer to."""
    for table in tables:
        for column in table.columns:
            if column.name.lower() in table.links:
                to_table, to_column = table.links[column.name.lower()]
                for constant in constants_of(table, column, hints):
                    yield constant._replace(table=to_table, column=to_column)


def _spared(asked: list[tuple[str, str]], filling: Filling) -> set[tuple[str, str]]:
    if filling.spared is None or not asked:
        return set()
    rng = random.Random(filling.seed)
    return {asked[filling.spared]} if filling.spared < len(asked) else {one for one in asked if rng.random() < 0.4}


def made_rows(
    table: Table, hints: Hints, made: Made, filling: Filling, rng: random.Random, spared: Set[str] = frozenset()
) -> list[tuple[Cell, ...]]:
    """Return rows of `table`, whose keys are among those `made` before, and add them there.

    Many meet gold's condition on every column, others on all but one; the first, on all but `spared`.
    """
    size, seed = filling.size, filling.seed
    n_rows = rng.randint(size // 2, size) if 1 < size < MANY and not (filling.groups or filling.level) else size
    n_values = 3 * size if seed % 2 else DENSE
    cells = [_column(table, column, hints, made, n_rows, n_values, rng) for column in table.columns]
    share = 1 if filling.groups else 0.25 if seed % 2 else 0.5
    for row in range(n_rows):
        if row and share < 1 and rng.random() < 0.5:
            spared = {rng.choice(table.columns).name}
        if row == 0 or rng.random() < share:
            _match(table, hints, made, cells, row, rng, spared)
        spared = set()
    made |= {(table.name.lower(), column.name.lower()): one for column, one in zip(table.columns, cells, strict=True)}
    return list(zip(*cells))  # noqa: B905 - a key may have fewer values than there are rows


def _column(
    table: Table, column: Column, hints: Hints, made: Made, n_rows: int, n_values: int, rng: random.Random
) -> list[Cell]:
    name, mine, others = column.name.lower(), constants_of(table, column, hints), hints.constants
    known = made.get(table.links.get(name, ("", "")))
    if known and column.key == 1:
        return rng.sample(known, min(n_rows, len(known)))
    if known:
        return rng.choices([*known[:n_values], *asked_keys(known, mine)], k=n_rows)
    few = (n_rows if column.key == 1 else max(3, n_values // 9)) if name in joined(hints) else 0
    wide = max(n_values, 3 * n_rows * column.key)
    kind = "NUMBER" if name in hints.summed else column.kind
    drawn = [
        rng.randint(1, few) if few and (not mine or rng.random() < 0.4) else made_up(kind, mine, others, wide, rng)
        for _ in range(4 * n_rows if column.key == 1 else n_rows)
    ]
    if column.key == 1:  # SQLite's INTEGER PRIMARY KEY takes nothing else
        drawn = [cell for cell in dict.fromkeys(drawn) if column.kind.upper() != "INTEGER" or isinstance(cell, int)]
        drawn.sort(key=lambda cell: cell != 1)
    elif name in hints.nulls:
        drawn = [None if rng.random() < 0.25 else cell for cell in drawn]
    return drawn[:n_rows]


def _match(
    table: Table, hints: Hints, made: Made, cells: list[list[Cell]], row: int, rng: random.Random, spared: Set[str]
) -> None:
    """Make a row meet gold's condition on each column but `spared`; its keys lead to such rows."""
    for place, column in enumerate(table.columns):
        name, mine = column.name.lower(), constants_of(table, column, hints)
        if row >= len(cells[place]) or (column.key == 1 and row):
            continue
        known = made.get(table.links.get(name, ("", "")))
        if column.name in spared:
            cells[place][row] = (
                unlike(column.kind, mine, rng) if mine else 2 if name in joined(hints) else cells[place][row]
            )
        elif known:
            cells[place][row] = rng.choice(asked_keys(known, mine) or known[:1])
        elif mine and column.key != 1:
            cells[place][row] = meeting(column.kind, mine, rng)
        elif name in joined(hints) and column.key != 1:
            cells[place][row] = 1


def _pair_of_kind(table: Table, column: Column, hints: Hints) -> tuple[Cell, ...]:
    """Return the two values of a column declared to hold yes or no; else nothing."""
    if "BOOL" not in column.kind.upper():
        return ()
    asked = [str(one.value) for one in constants_of(table, column, hints)]
    texts = [text for text in asked if text not in ("0", "1")]
    pair = next((pair for pair in PAIRS for text in texts if text.casefold() in pair), None)
    if pair is None:
        return tuple(dict.fromkeys([*texts[:2], "T", "F"]))[:2] if texts else (1, 0)
    shown = [one.upper() if texts[0].isupper() else one.title() if texts[0].istitle() else one for one in pair]
    return tuple(shown)
