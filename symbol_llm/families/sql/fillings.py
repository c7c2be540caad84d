"""Databases that tell queries apart: a schema's tables filled with rows, or copies of a database with changed rows.

    fill: CREATE TABLE lines -> made-up rows, with keys that match and that do not, the constants that gold compares
          a column with and their neighbours, few values (large groups, ties) or many (few ties), one row or many
    copy: rows of a database -> as many or more, each column's values redrawn from its own and from such constants

A copy keeps the regularities that a right query may rely on: declared keys, columns of whole numbers or of joins that
hold each value once, references, yes/no columns, and the dependence of one column on another where enough rows show it.
Both respect CHECKs of a single column. Where rows are grouped and counted up to a LIMIT, one more database has more
groups than that, each of a different size.
NULLs occur only where the data have them or gold asks for them. Nothing here runs a query or looks at a result, and the
same arguments give the same rows.
"""

from __future__ import annotations

import datetime
import functools
import random
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, NamedTuple

from symbol_llm.families.sql.domains import PAIRS, Cell, Rows, pair_of, quoted, storable, within

SIZES = (4, 6, 8, 10, 12, 16, 20, 24)
"""Most rows of a table in each filling."""
SINGLES = 12
"""Fillings with one row per table: two meet every condition that gold puts on columns, the others all but one."""
MANY = 64
"""Rows of a table in one more filling, or enough to show a LIMIT, up to MOST."""
MOST = 240
MOST_CONSTANTS = 20
"""Most constants of the program that gold lacks; two more fillings or one more copy hold them."""
COPIES = (16, 8, 64, 6, 24, 4, 1)
"""Rows of a table in each copy: at least as many or, if fewer than GROWN and no table refers to it, at most."""
GROWN = 16
MOST_GROUPS = 20
"""Most groups in the database whose n-th group has n rows."""
MOST_READ = 500
"""Most rows of a table that are read for copies."""
DENSE = 4
"""Distinct values of a column in every other filling."""

_OFFSETS = {">": (1, 9), ">=": (0, 1), "<": (-1, -9), "<=": (0, -1), "<>": (1, -1), "!=": (1, -1)}
"""Offsets from a constant that make the comparison true; 0 for other operators."""
_NEARBY = (-9, -1, 0, 0, 0, 0, 1, 9)
_WORDS = "amber birch cedar delta ember fjord grove haven".split()


class Constant(NamedTuple):
    """A text or number, the column that it is compared with, and the sign or word between them."""

    table: str
    """Empty if the query does not say."""
    column: str
    value: str | int | float
    sign: str = "="
    measure: str = ""
    """What is compared: the column's "length", its "sum" or "avg" over a group, a part of its date such as "%Y"; "less"
    or "plus" another column, also "less days" or "less years"; empty: the column itself."""
    other: str = ""


class Hints(NamedTuple):
    """Hints from queries about rows that would tell them apart. All names are in lower case."""

    constants: list[Constant]
    others: list[Constant]
    """Those that gold lacks."""
    equated: list[tuple[str, str]]
    """Names of columns that are compared with one another."""
    nulls: list[str]
    """Columns that are tested for NULL."""
    summed: list[str]
    """Columns that are summed, hence hold numbers whatever their type."""
    tables: list[str] | None
    """Names of tables and more that occur; None: as if all did."""
    limit: int
    """Highest LIMIT."""
    grouped: list[str]
    """Columns that rows are grouped by."""

    @classmethod
    def of(cls, value: list[Any]) -> Hints:
        """Return the hints from their JSON form."""
        constants, others, *rest = value
        return cls([Constant(*one) for one in constants], [Constant(*one) for one in others], *rest)


class Column(NamedTuple):
    """A column as PRAGMA table_info describes it."""

    name: str
    kind: str
    key: int
    """Position in the primary key, from 1; 0 if it is not part of one."""


class Table(NamedTuple):
    """A table and, by column, the table and column it refers to."""

    name: str
    create: str
    columns: list[Column]
    links: dict[str, tuple[str, str]]


Made = dict[tuple[str, str], list[Cell]]
"""Cells by table and column, both in lower case."""


# --- a schema filled --------------------------------------------------------------------------------------------------


class Filling(NamedTuple):
    """How one filling is made."""

    size: int
    seed: int
    spared: int | None = None
    """Index of the one condition on a column that is not met; beyond their number, a few at random."""
    with_others: bool = False
    n_groups: int = 0
    """If not 0, the n-th value of the columns that rows are grouped or joined by occurs n times."""


def fillings(hints: Hints) -> list[Filling]:
    """Return the fillings that `hints` ask for; the first ones do not depend on the program."""
    groups = [6 * int(c.value) for c in hints.constants if c.column == "count" and c.value in range(2, 100)]
    sizes = [*SIZES, *groups[:1], max(MANY, min(4 * hints.limit, MOST)), 0]
    found = [Filling(size, seed) for seed, size in enumerate(sizes)]
    found += [Filling(1, 100 + n, n - 2 if n > 1 else None) for n in range(SINGLES)]
    found += [Filling(n * (n + 1) // 2, 300 + n, n_groups=n) for n in _stairs(hints)]
    return found + [Filling(size, 200 + size, with_others=True) for size in (6, 15) if hints.others]


def _stairs(hints: Hints) -> list[int]:
    """Return the number of groups in the extra database that tests a LIMIT, if there is one."""
    return [hints.limit + 2] if hints.grouped and 0 < hints.limit <= MOST_GROUPS - 2 else []


def fill(connection: sqlite3.Connection, hints: Hints, filling: Filling) -> None:
    """Put rows into the tables that `hints` name and those they refer to; columns that are equated share few numbers.

    An even seed gives few distinct values, so that groups are large; an odd one gives many, so that ties are rare.
    """
    if filling.with_others:
        hints = hints._replace(constants=hints.others + hints.constants)
    made: Made = {}
    tables = _tables(connection, hints)
    hints = hints._replace(constants=[*hints.constants, *_passed_on(tables, hints)])
    asked = [
        (t.name, c.name) for t in tables for c in t.columns if _own(t, c, hints) or c.name.lower() in _joined(hints)
    ]
    spared = _spared(asked, filling)
    parents = {to for table in tables for to, _ in table.links.values()}
    for table in tables:
        rng = random.Random(f"{filling.seed} {table.name}")
        mine = {column for name, column in spared if name == table.name}
        rows = _made_rows(table, hints, made, filling, rng, mine)
        if filling.n_groups:
            rows = _grouped(table, rows, hints, made, filling.n_groups, is_parent=table.name.lower() in parents)
        free = {column.name.lower() for column in table.columns if not column.key} - table.links.keys()
        rows = _at_boundaries(table, rows, hints, free, rng)
        names = [column.name for column in table.columns]
        pairs = [_pair_of_kind(table, column, hints) for column in table.columns]
        _insert(connection, table, within(connection, table.create, names, rows, pairs, rng))


def _passed_on(tables: list[Table], hints: Hints) -> Iterator[Constant]:
    """Yield the constants that foreign keys are compared with, as constants of the keys they refer to."""
    for table in tables:
        for column in table.columns:
            if column.name.lower() in table.links:
                to_table, to_column = table.links[column.name.lower()]
                for constant in _own(table, column, hints):
                    yield constant._replace(table=to_table, column=to_column)


def _spared(asked: list[tuple[str, str]], filling: Filling) -> set[tuple[str, str]]:
    if filling.spared is None or not asked:
        return set()
    rng = random.Random(filling.seed)
    return {asked[filling.spared]} if filling.spared < len(asked) else {one for one in asked if rng.random() < 0.4}


def _made_rows(
    table: Table, hints: Hints, made: Made, filling: Filling, rng: random.Random, spared: Set[str] = frozenset()
) -> list[tuple[Cell, ...]]:
    size, seed = filling.size, filling.seed
    n_rows = rng.randint(size // 2, size) if 1 < size < MANY and not filling.n_groups else size
    n_values = 3 * size if seed % 2 else DENSE
    cells = [_column(table, column, hints, made, n_rows, n_values, rng) for column in table.columns]
    share = 0.25 if seed % 2 else 0.5
    for row in range(n_rows):
        if row and rng.random() < 0.5:
            spared = {rng.choice(table.columns).name}
        if row == 0 or rng.random() < share:
            _match(table, hints, made, cells, row, rng, spared)
        spared = set()
    made |= {(table.name.lower(), column.name.lower()): one for column, one in zip(table.columns, cells, strict=True)}
    return list(zip(*cells))  # noqa: B905 - a key may have fewer values than there are rows


def _column(
    table: Table, column: Column, hints: Hints, made: Made, n_rows: int, n_values: int, rng: random.Random
) -> list[Cell]:
    name, mine, others = column.name.lower(), _own(table, column, hints), hints.constants
    known = made.get(table.links.get(name, ("", "")))
    if known and column.key == 1:
        return rng.sample(known, min(n_rows, len(known)))
    if known:
        return rng.choices([*known[:n_values], *_asked(known, mine)], k=n_rows)
    few = (n_rows if column.key == 1 else max(3, n_values // 9)) if name in _joined(hints) else 0
    wide = max(n_values, 3 * n_rows * column.key)
    kind = "NUMBER" if name in hints.summed else column.kind
    drawn = [
        rng.randint(1, few) if few and (not mine or rng.random() < 0.4) else _made_up(kind, mine, others, wide, rng)
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
        name, mine = column.name.lower(), _own(table, column, hints)
        if row >= len(cells[place]) or (column.key == 1 and row):
            continue
        known = made.get(table.links.get(name, ("", "")))
        if column.name in spared:
            cells[place][row] = (
                _unlike(column.kind, mine, rng) if mine else 2 if name in _joined(hints) else cells[place][row]
            )
        elif known:
            cells[place][row] = rng.choice(_asked(known, mine) or known[:1])
        elif mine and column.key != 1:
            cells[place][row] = _meeting(column.kind, mine, rng)
        elif name in _joined(hints) and column.key != 1:
            cells[place][row] = 1


def _asked(known: list[Cell], mine: list[Constant]) -> list[Cell]:
    """Return the keys among `known` that gold compares a column with."""
    return [one.value for one in mine if one.value in known]


def _meeting(kind: str, mine: list[Constant], rng: random.Random) -> Cell:
    """Return a cell for which a comparison with one of `mine` is true; sometimes one that matches all patterns."""
    patterns = [str(one.value) for one in mine if one.sign == "like"]
    if len(patterns) > 1 and rng.random() < 0.5:
        return " ".join(map(_plain, patterns))
    constant = rng.choice(mine)
    if constant.sign == "like":
        text = str(constant.value)
        more = [f"x{_plain(text)}"] * text.startswith("%") + [f"{_plain(text)}s"] * text.endswith("%")
        return rng.choice((_plain(text), _plain(text), *more))
    return _near(kind, constant, rng.choice(_OFFSETS.get(constant.sign, (0,))), rng)


def _unlike(kind: str, mine: list[Constant], rng: random.Random) -> Cell:
    """Return a cell next to one of `mine` for which that comparison is false."""
    constant = rng.choice(mine)
    if isinstance(constant.value, str) and not re.search(r"\d", constant.value):
        return rng.choice(_WORDS)
    offset = {">": 0, "<": 0, ">=": -1, "<=": 1, "<>": 0, "!=": 0}.get(constant.sign, 1)
    return _near(kind, constant, offset, rng)


def _joined(hints: Hints) -> set[str]:
    return {name for pair in hints.equated for name in pair}


def _own(table: Table, column: Column, hints: Hints) -> list[Constant]:
    return [
        one for one in hints.constants if one.column == column.name.lower() and one.table in ("", table.name.lower())
    ]


def _made_up(kind: str, mine: list[Constant], others: list[Constant], n_values: int, rng: random.Random) -> Cell:
    """Return a cell for a column of SQL type `kind`: every other one is near a constant, its own if it has any."""
    near = mine or others
    likely = 0.2 if not mine else 0.9 if n_values == DENSE else 0.5
    n = rng.randint(1, n_values)
    if near and rng.random() < likely:
        constant = rng.choice(near)
        if mine or not _is_number(kind) or not isinstance(constant.value, str):
            return _near(kind, constant, rng.choice(_NEARBY), rng)
    if _is_number(kind):
        return n
    if re.search("DATE|TIME", kind.upper()):
        return f"{2000 + n}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return "TF"[n % 2] if "BOOL" in kind.upper() else f"{_WORDS[n % len(_WORDS)]}{n // len(_WORDS) or ''}"


@functools.cache
def _is_number(kind: str) -> bool:
    return bool(re.search("INT|NUM|REAL|FLOA|DOUB|DEC", kind.upper()))


def _near(kind: str, constant: Constant, offset: int, rng: random.Random) -> Cell:
    """Return the constant for a column of SQL type `kind`, or a neighbour where `offset` is not 0."""
    value = constant.value
    measured = _measured(kind, constant, offset, rng)
    if measured is not None:
        return measured
    if not isinstance(value, str):
        return value + offset if _is_number(kind) else str(value + offset)
    if re.fullmatch(r"\d{1,18}", value):
        return str(int(value) + offset).zfill(len(value))
    if found := re.fullmatch(r"(\d{4}-\d\d-)(\d\d)(.*)", value):
        return f"{found[1]}{min(max(int(found[2]) + offset, 1), 28):02}{found[3]}" if offset else value
    if constant.sign == "like":
        plain = _plain(value)
        return rng.choice((plain, plain, f"{plain}s", f"x{plain}"))
    return value if not offset else rng.choice((value.swapcase(), f"{value}s", f"x{value}", value[:-1]))


def _measured(kind: str, constant: Constant, offset: int, rng: random.Random) -> Cell | None:
    """Return a cell of the length, year, month or day that the constant and `offset` give; None if they give none."""
    value = constant.value
    if constant.measure == "length" and isinstance(value, int) and value <= MOST:
        return _of_length(kind, max(value + offset, 0), rng)
    if constant.measure in _PARTS and re.fullmatch(r"\d{1,4}", str(value)):
        return _of_part(constant.measure, int(value) + offset, rng)
    return None


def _of_length(kind: str, length: int, rng: random.Random) -> Cell:
    if _is_number(kind):
        return 10 ** (min(max(length, 1), 18) - 1)
    word = rng.choice(_WORDS)
    return (word * (length // len(word) + 1))[:length]


_PARTS = {"%Y": (1, 9999), "%m": (1, 12), "%d": (1, 28)}


def _of_part(form: str, n: int, rng: random.Random) -> str:
    """Return a date whose year, month or day is `n`, or as near as possible."""
    parts = {"%Y": rng.randint(2000, 2020), "%m": rng.randint(1, 12), "%d": rng.randint(1, 28)}
    least, most = _PARTS[form]
    parts[form] = min(max(n, least), most)
    return f"{parts['%Y']:04}-{parts['%m']:02}-{parts['%d']:02}"


def _plain(pattern: str) -> str:
    """Return a text that `pattern` of LIKE matches."""
    return pattern.strip("%").replace("%", " ").replace("_", "x")


# --- a database copied ------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """A table with the rows that were read and, by column, whether its values stay as they are."""

    table: Table
    rows: list[tuple[Cell, ...]]
    fixed: list[bool]
    groups: list[int]
    """By column: a number that columns depending on each other share."""
    pairs: list[tuple[Cell, ...]]
    """By column: its values for yes and no, if it holds nothing else."""


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
    for table in _tables(connection, hints):
        marks = ", ".join(quoted(column.name) for column in table.columns)
        query = f"SELECT {marks} FROM {quoted(table.name)} LIMIT {MOST_READ + 1}"  # noqa: S608 - names of the database
        held.append(_hold(table, connection.execute(query).fetchall(), held, hints))
    names = {one.table.name for one in held}
    return Contents(held, [sql for name, sql in indexes if name in names], views)


def copies(hints: Hints) -> Sequence[Callable[[Contents], sqlite3.Connection]]:
    """Return functions that make each copy, in memory; the first ones do not depend on the program."""
    found = [functools.partial(_copy, hints=hints, size=size, seed=seed) for seed, size in enumerate(COPIES)]
    found += [functools.partial(_copy, hints=hints, size=n * (n + 1) // 2, seed=50, n_groups=n) for n in _stairs(hints)]
    every = hints._replace(constants=hints.others + hints.constants)
    more = [functools.partial(_copy, hints=every, size=size, seed=100 + size) for size in (16, 24)]
    return found + more if hints.others else found


def _copy(contents: Contents, hints: Hints, size: int, seed: int, n_groups: int = 0) -> sqlite3.Connection:
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
            rows = _changed(held._replace(rows=taken), hints, made, size, rng)
            if n_groups:
                rows = _grouped(held.table, rows, hints, made, n_groups, is_parent=name in referred, free=_free(held))
            rows = _at_boundaries(held.table, rows, hints, _free(held) - held.table.links.keys(), rng)
            names = [column.name for column in held.table.columns]
            _insert(connection, held.table, within(connection, held.table.create, names, rows, held.pairs, rng))
        else:
            _insert(connection, held.table, _made_rows(held.table, hints, made, Filling(size, seed), rng))
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
    fixed = [_is_key(column, cells, hints) for column, cells in zip(table.columns, columns, strict=True)]
    return Held(table._replace(links=links), rows, fixed, _dependent(columns, fixed), list(map(pair_of, columns)))


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
    if column.key == 1 or column.name.lower() in _joined(hints):
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


def _changed(held: Held, hints: Hints, made: Made, size: int, rng: random.Random) -> list[tuple[Cell, ...]]:
    """Return at least `size` rows, unless keys run out; every other time, a column is taken from another row."""
    table, rows, fixed, groups, _ = held
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
        alone = groups.count(groups[place]) == 1 and not fixed[place]
        drawn = _altered(held, column, drawn[:n_rows], hints, made, rng) if alone else drawn[:n_rows]
        parents = made.get(table.links.get(column.name.lower(), ("", "")))
        lost = set(drawn) - {None, *parents} if parents else set()  # an index let fewer rows in
        cells.append([rng.choice(parents) if parents and cell in lost else cell for cell in drawn])
    return list(zip(*cells, strict=True))


def _altered(held: Held, column: Column, cells: list[Cell], hints: Hints, made: Made, rng: random.Random) -> list[Cell]:
    """Return `cells`, some replaced by constants they are compared with, other parents, or NULL if tested for."""
    table, name = held.table, column.name.lower()
    mine, parents = _own(table, column, hints), made.get(table.links.get(name, ("", "")))
    asked = _asked(parents or [], mine)
    values = [cell for cell in cells if cell is not None]
    numbers = all(isinstance(value, int | float) for value in values)

    def altered(cell: Cell) -> Cell:
        if name in hints.nulls and rng.random() < 0.25:
            return None
        if parents:
            return rng.choice(asked or parents) if rng.random() < 0.25 else cell
        if rng.random() < 0.5 and (mine or not values):
            if not values:
                return _made_up(column.kind, mine, hints.constants, DENSE, rng)
            return _compared(rng.choice(mine), cell, numbers, rng)
        return cell

    return [altered(cell) for cell in cells]


def _compared(constant: Constant, cell: Cell, is_number: bool, rng: random.Random) -> Cell:
    """Return the constant or a neighbour of it if it is of the column's kind, else `cell`."""
    offset = rng.choice((*_OFFSETS.get(constant.sign, (0,)), 0, 1, -1))
    if constant.measure == "length" or (constant.measure in _PARTS and _day(cell)):
        return cell if is_number else _near("TEXT", constant, offset, rng)
    if not isinstance(constant.value, str):
        return constant.value + offset if is_number else cell
    may_differ = (constant.sign in _OFFSETS or re.search(r"\d", constant.value)) and rng.random() < 0.5
    return cell if is_number else _near("TEXT", constant, offset if may_differ else 0, rng)


def _more_keys(held: Held, place: int, hints: Hints, made: Made, size: int, rng: random.Random) -> list[Cell]:
    """Return the values of a key, then new ones of their kind or from the keys that it refers to.

    If the values are merely distinct numbers, some become constants that they are compared with, or their neighbours.
    """
    cells = [row[place] for row in held.rows]
    column = held.table.columns[place]
    parents = made.get(held.table.links.get(column.name.lower(), ("", "")))
    if parents:
        return list(dict.fromkeys([*cells, *parents]))
    if not all(isinstance(cell, int) for cell in cells):
        return [*cells, *(f"{cell}{n}" for n, cell in enumerate((cells * size)[:size], 2))]
    cells += range(max(cells) + 1, max(cells) + 1 + size)
    if column.key != 1 and column.name.lower() not in _joined(hints):
        for constant in _own(held.table, column, hints):
            near = {constant.value + n for n in (-1, 0, 1)} if isinstance(constant.value, int) else set()
            for value in sorted(near - set(cells)):
                cells[rng.randrange(len(cells))] = value
    return cells


# --- both -------------------------------------------------------------------------------------------------------------


def _grouped(
    table: Table, rows: Rows, hints: Hints, made: Made, n_groups: int, *, is_parent: bool, free: Set[str] | None = None
) -> Rows:
    """Return `rows` with the n-th value n times in the grouping columns, if no other table refers to this one.

    Otherwise each row has a value of its own there, and the other table's rows have the n-th key n times.
    """
    order = [n for n in range(n_groups) for _ in range(n + 1)]
    columns = list(zip(*rows, strict=True)) if rows else []
    for place, column in enumerate(table.columns if rows else ()):
        name = column.name.lower()
        if column.key == 1 or (free is not None and name not in free):
            continue
        parents = made.get(table.links.get(name, ("", "")))
        if parents:
            values = [parents[n % len(parents)] for n in order]
        elif name in hints.grouped:
            known = list(dict.fromkeys(cell for cell in columns[place] if cell is not None))
            known = [*known, *_more(known, MOST)]
            values = known if is_parent else [known[n] for n in order]
        elif name in _joined(hints) and not is_parent:
            values = [n + 1 for n in order]
        else:
            continue
        columns[place] = tuple(values[n % len(values)] for n in range(len(rows)))
    return list(zip(*columns, strict=True))


def _more(known: list[Cell], n: int) -> list[Cell]:
    """Return `n` more values of the same kind as `known`."""
    if known and all(isinstance(cell, int | float) for cell in known):
        return [max(known) + k for k in range(1, n + 1)]
    words = [str(cell) for cell in known] or _WORDS
    return [f"{words[k % len(words)]}{k // len(words) + 2}" for k in range(n)]


def _at_boundaries(table: Table, rows: Rows, hints: Hints, free: Set[str], rng: random.Random) -> Rows:
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
    keys = keys or [n for n, name in enumerate(names) if hints.grouped and name in (*table.links, *_joined(hints))]
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
    day = _day(other)
    if day is None or not constant.measure.startswith("less "):
        return cell
    try:
        if constant.measure == "less days":
            return (day + datetime.timedelta(n)).isoformat()
        return day.replace(year=day.year + int(n), day=min(day.day, 28)).isoformat()
    except (OverflowError, ValueError):
        return cell


def _day(cell: Cell) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(cell[:10]) if isinstance(cell, str) else None
    except ValueError:
        return None


def _pair_of_kind(table: Table, column: Column, hints: Hints) -> tuple[Cell, ...]:
    """Return the two values of a column declared to hold yes or no; else nothing."""
    if "BOOL" not in column.kind.upper():
        return ()
    asked = [str(one.value) for one in _own(table, column, hints)]
    texts = [text for text in asked if text not in ("0", "1")]
    pair = next((pair for pair in PAIRS for text in texts if text.casefold() in pair), None)
    if pair is None:
        return tuple(dict.fromkeys([*texts[:2], "T", "F"]))[:2] if texts else (1, 0)
    shown = [one.upper() if texts[0].isupper() else one.title() if texts[0].istitle() else one for one in pair]
    return tuple(shown)


def _tables(connection: sqlite3.Connection, hints: Hints) -> list[Table]:
    """Return the tables that `hints` name and those they refer to, the latter first unless references are circular."""
    found = [
        Table(
            name,
            create,
            [Column(row[1], row[2], row[5]) for row in connection.execute(f"PRAGMA table_info({quoted(name)})")],
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


def _closed(tables: Iterable[Table], names: set[str]) -> Iterator[str]:
    """Yield `names` and those that they refer to."""
    links = {table.name.lower(): {to for to, _ in table.links.values()} for table in tables}
    seen: set[str] = set()
    while names:
        seen |= names
        yield from names
        names = {to for name in names for to in links.get(name, ())} - seen


def _insert(connection: sqlite3.Connection, table: Table, rows: list[tuple[Cell, ...]]) -> None:
    names = ", ".join(quoted(column.name) for column in table.columns)
    marks = ", ".join("?" * len(table.columns))
    rows = [tuple(map(storable, row)) for row in rows]
    connection.executemany(f"INSERT OR IGNORE INTO {quoted(table.name)} ({names}) VALUES ({marks})", rows)  # noqa: S608
