"""Databases that tell queries apart: copies of a given one with changed rows, as many or more.

Each column's values are redrawn from its own and from the constants that it is compared with. A copy keeps the
regularities that a right query may rely on: declared keys, columns of whole numbers or of joins that hold each value
once, references, yes/no columns, CHECKs of a single column, and the dependence of one column on another where enough
rows show it. A table without rows is filled. Nothing here runs a query or looks at a result, and the same arguments
give the same rows.
"""

from __future__ import annotations

import functools
import random
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

from symbol_llm.families.sql.cells import DENSE, compared, made_up
from symbol_llm.families.sql.domains import SHOWN, Cell, pair_of, quoted, within
from symbol_llm.families.sql.fillings import Filling, made_rows
from symbol_llm.families.sql.hints import Hints
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

COPIES = (16, 8, 64, 6, 24, 4, 1)
"""Rows of a table in each copy: at least as many or, if fewer than GROWN and no table refers to it, at most."""

GROWN = 16

SPARE = 4
"""Rows of a copy for each that LIMIT shows, since some do not meet gold's conditions."""

MOST_READ = 500
"""Most rows of a table that are read for copies."""


class Held(NamedTuple):
    """A table with the rows that were read and, by column, whether its values stay as they are."""

    table: Table
    rows: list[tuple[Cell, ...]]
    fixed: list[bool]
    groups: list[int]
    """By column: a number that columns depending on each other share."""
    pairs: list[tuple[Cell, ...]]
    """By column: its values for yes and no, if it holds nothing else."""
    above: list[bool]
    """By column: whether it holds numbers, none of them below 0."""


class Contents(NamedTuple):
    """What copies are made of."""

    held: list[Held]
    indexes: list[str]
    """CREATE statements of the unique indexes."""
    views: list[str]


def read(connection: sqlite3.Connection, hints: Hints) -> Contents:
    """Return the tables that `hints` name, parents first, at most MOST_READ rows of each."""
    views = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'view' ORDER BY rowid")]
    indexes = connection.execute("SELECT tbl_name, sql FROM sqlite_master WHERE sql LIKE 'CREATE UNIQUE %'").fetchall()
    if views:  # which may read any table
        hints = hints._replace(tables=None)
    held: list[Held] = []
    for table in tables_of(connection, hints):
        marks = ", ".join(quoted(column.name) for column in table.columns)
        query = f"SELECT {marks} FROM {quoted(table.name)} LIMIT {MOST_READ + 1}"  # noqa: S608 - names of the database
        held.append(_hold(table, connection.execute(query).fetchall(), held, hints))
    names = {one.table.name for one in held}
    return Contents(held, [sql for name, sql in indexes if name in names], views)


def copies(hints: Hints) -> Sequence[Callable[[Contents], sqlite3.Connection]]:
    """Return functions that make each copy, in memory; the first ones do not depend on the program."""
    found = [functools.partial(_copy, hints=hints, size=size, seed=seed) for seed, size in enumerate(COPIES)]
    for n, groups in enumerate(groupings(hints, spare=SPARE)):
        found.append(functools.partial(_copy, hints=hints, size=sum(groups), seed=50 + n, groups=groups))
    if hints.summed:
        found.append(functools.partial(_copy, hints=hints, size=7, seed=60, level=True))
    every = hints._replace(constants=hints.others + hints.constants)
    more = [functools.partial(_copy, hints=every, size=size, seed=100 + size) for size in (16, 24)]
    return found + more if hints.others else found


def _copy(
    contents: Contents, hints: Hints, size: int, seed: int, *, groups: tuple[int, ...] = (), level: bool = False
) -> sqlite3.Connection:
    """Return a database in memory with the rows of `contents` changed."""
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA temp_store = MEMORY")  # as for the database itself: the sandbox denies files
    connection.text_factory = lambda data: data.decode(errors="replace")
    made: Made = {}
    referred = {to for held in contents.held for to, _ in held.table.links.values()}
    connection.executescript(";".join([*(held.table.create for held in contents.held), *contents.indexes]))
    for held in contents.held:
        rng, name = random.Random(f"{seed} {held.table.name}"), held.table.name.lower()
        if held.rows:
            few = name not in referred and size < GROWN
            taken = rng.sample(held.rows, min(len(held.rows), size)) if few else held.rows
            rows = _changed(held._replace(rows=taken), hints, made, size, rng, share=0.9 if set(groups) == {1} else 0.5)
        else:
            rows = made_rows(held.table, hints, made, Filling(size, seed, groups=groups, level=level), rng)
        if groups:
            rows = grouped(
                held.table,
                rows,
                hints,
                made,
                groups,
                is_parent=bool(hints.equated) and name in referred,
                free=_free(held),
            )
        if held.rows:
            rows = at_boundaries(held.table, rows, hints, _free(held) - held.table.links.keys(), rng)
        if level:
            rows = levelled(held.table, rows, hints, _free(held) - held.table.links.keys())
        names = [column.name for column in held.table.columns]
        insert(connection, held.table, within(connection, held.table.create, names, rows, held.pairs, rng))
        rows = connection.execute(f"SELECT * FROM {quoted(held.table.name)}").fetchall()  # noqa: S608 - as in `read`
        for place, column in enumerate(held.table.columns):
            made[name, column.name.lower()] = [row[place] for row in rows]
    for view in contents.views:
        connection.execute(view)
    return connection


def _free(held: Held) -> set[str]:
    """Return the columns whose values are neither kept nor bound to those of another."""
    columns = zip(held.table.columns, held.fixed, held.groups, strict=True)
    return {column.name.lower() for column, fixed, group in columns if not fixed and held.groups.count(group) == 1}


def _hold(table: Table, rows: list[tuple[Cell, ...]], before: list[Held], hints: Hints) -> Held:
    """Return the rows of `table` that are used, and which of their columns may change."""
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in table.columns]
    links = dict(table.links)
    for column, cells in zip(table.columns, columns, strict=True):
        found = _parent(column, cells, before, hints)
        if found and column.name.lower() not in links:
            links[column.name.lower()] = found
    rows = rows[:MOST_READ]
    for place, column in enumerate(table.columns):
        parent = _cells(before, links.get(column.name.lower()))
        if parent and len(parent) == MOST_READ:  # its further rows are not read, so no reference to them may remain
            rows = [row for row in rows if row[place] in parent or row[place] is None]
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in table.columns]
    fixed = [
        _is_key(column, cells, hints)
        and not (column.name.lower() in hints.grouped and column.name.lower() in table.links)
        for column, cells in zip(table.columns, columns, strict=True)
    ]
    return Held(
        table._replace(links=links),
        rows,
        fixed,
        _dependent(columns, fixed),
        list(map(pair_of, columns)),
        list(map(_is_above, columns)),
    )


def _is_above(cells: tuple[Cell, ...]) -> bool:
    values = [cell for cell in cells if cell is not None]
    return len(values) >= SHOWN and all(isinstance(value, int | float) and value >= 0 for value in values)


def _parent(column: Column, cells: tuple[Cell, ...], before: list[Held], hints: Hints) -> tuple[str, str] | None:
    """Return the key that queries compare `column` with, if it holds all the values of `column`."""
    name, values = column.name.lower(), {cell for cell in cells if cell is not None}
    partners = {two for one, two in hints.equated if one == name} | {one for one, two in hints.equated if two == name}
    for held in before:
        for place, other in enumerate(held.table.columns):
            known = {row[place] for row in held.rows} if held.fixed[place] and other.name.lower() in partners else set()
            if values and known and (values <= known or len(known) == MOST_READ):
                return held.table.name.lower(), other.name.lower()
    return None


def _cells(before: list[Held], link: tuple[str, str] | None) -> set[Cell]:
    for held in before:
        for place, column in enumerate(held.table.columns):
            if (held.table.name.lower(), column.name.lower()) == link:
                return {row[place] for row in held.rows}
    return set()


def _is_key(column: Column, cells: tuple[Cell, ...], hints: Hints) -> bool:
    """Return whether each row has a value of its own in the column, and probably by design."""
    if not cells or len(set(cells)) < len(cells) or None in cells:
        return False
    if column.key == 1 or column.name.lower() in joined(hints):
        return True
    return column.name.lower() not in hints.summed and all(isinstance(cell, int) for cell in cells)


def _dependent(columns: list[tuple[Cell, ...]], fixed: list[bool]) -> list[int]:
    """Return a number per column, shared by columns that depend on each other, as four repetitions of values show."""
    numbers = list(range(len(columns)))
    for one, left in enumerate(columns):
        repeated = len(left) - len(set(left))
        if fixed[one] or repeated < 4 or len(set(left)) < 2:
            continue
        for two, right in enumerate(columns):
            n_values = len(set(right))
            if (
                one != two
                and not fixed[two]
                and n_values > 1
                and len(set(zip(left, right, strict=True))) == len(set(left))
            ):
                numbers = [numbers[one] if n == numbers[two] else n for n in numbers]
    return numbers


def _changed(
    held: Held, hints: Hints, made: Made, size: int, rng: random.Random, *, share: float
) -> list[tuple[Cell, ...]]:
    """Return at least `size` rows, unless keys run out; every other time, a column is taken from another row.

    A `share` of the cells becomes one of the constants they are compared with, or a neighbour.
    """
    table, rows, fixed, groups, *_ = held
    keys = {place: _more_keys(held, place, hints, made, size, rng) for place, stays in enumerate(fixed) if stays}
    n_rows = min([max(len(rows), size), *map(len, keys.values())])
    owners = [n if n < len(rows) else rng.randrange(len(rows)) for n in range(n_rows)]
    sources = {
        group: [own if rng.random() < 0.5 else rng.randrange(len(rows)) for own in owners]
        for group in sorted(set(groups))
    }
    cells = []
    for place, column in enumerate(table.columns):
        drawn = keys[place] if fixed[place] else [rows[n][place] for n in sources[groups[place]]]
        drawn = drawn[:n_rows]
        if not fixed[place]:
            if groups.count(groups[place]) == 1:
                drawn = _altered(held, column, drawn, hints, made, rng, share=share)
            else:
                drawn = _renamed(held, column, drawn, hints, rng)
        parents = made.get(table.links.get(column.name.lower(), ("", "")))
        lost = set(drawn) - {None, *parents} if parents else set()  # an index let fewer rows in
        cells.append([rng.choice(parents) if parents and cell in lost else cell for cell in drawn])
    return list(zip(*cells, strict=True))


def _altered(
    held: Held, column: Column, cells: list[Cell], hints: Hints, made: Made, rng: random.Random, *, share: float
) -> list[Cell]:
    """Return `cells`, a `share` replaced by constants they are compared with, other parents, or NULL if tested for."""
    table, name = held.table, column.name.lower()
    mine, parents = constants_of(table, column, hints), made.get(table.links.get(name, ("", "")))
    asked = asked_keys(parents or [], mine)
    values = [cell for cell in cells if cell is not None]
    numbers = all(isinstance(value, int | float) for value in values)
    above = held.above[held.table.columns.index(column)]

    def altered(cell: Cell) -> Cell:
        if name in hints.nulls and rng.random() < 0.25:
            return None
        if parents:
            return rng.choice(asked or parents) if rng.random() < 0.25 else cell
        if rng.random() < share and (mine or not values):
            if not values:
                return made_up(column.kind, mine, hints.constants, DENSE, rng)
            found = compared(rng.choice(mine), cell, numbers, rng)
            return cell if above and found < 0 else found
        return cell

    return [altered(cell) for cell in cells]


def _renamed(held: Held, column: Column, cells: list[Cell], hints: Hints, rng: random.Random) -> list[Cell]:
    """Return `cells` with one value, wherever it occurs, replaced by a constant that the column is compared with.

    So columns depend on each other as before.
    """
    mine = constants_of(held.table, column, hints)
    values = list(dict.fromkeys(cell for cell in cells if cell is not None))
    if not mine or not values or column.name.lower() in held.table.links:
        return cells
    old = rng.choice(values)
    new = compared(rng.choice(mine), old, all(isinstance(value, int | float) for value in values), rng)
    return cells if new in values else [new if cell == old else cell for cell in cells]


def _more_keys(held: Held, place: int, hints: Hints, made: Made, size: int, rng: random.Random) -> list[Cell]:
    """Return the values of a key, then new ones of their kind or from the keys that it refers to.

    If the values are merely distinct numbers, they change rows every other time, so that their order is not that of
    another key, and some become constants that they are compared with, or their neighbours.
    """
    cells = [row[place] for row in held.rows]
    column = held.table.columns[place]
    parents = made.get(held.table.links.get(column.name.lower(), ("", "")))
    if parents:
        return list(dict.fromkeys([*cells, *parents]))
    if not all(isinstance(cell, int) for cell in cells):
        return [*cells, *(f"{cell}{n}" for n, cell in enumerate((cells * size)[:size], 2))]
    is_merely_distinct = column.key != 1 and column.name.lower() not in joined(hints)
    cells += range(max(cells) + 1, max(cells) + 1 + size)
    if is_merely_distinct and rng.random() < 0.5:
        n_used = max(len(held.rows), size)
        cells[:n_used] = rng.sample(cells[:n_used], n_used)
    if is_merely_distinct:
        for constant in constants_of(held.table, column, hints):
            near = {constant.value + n for n in (-1, 0, 1)} if isinstance(constant.value, int) else set()
            for value in sorted(near - set(cells)):
                cells[rng.randrange(len(cells))] = value
    return cells
