"""The values a column may hold: those its CHECK allows, or yes and no if its values suggest it. Makes no rows."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

Cell = Any
Rows = list[tuple[Cell, ...]]

PAIRS = (("0", "1"), ("t", "f"), ("y", "n"), ("true", "false"), ("yes", "no"), ("m", "f"))
"""Texts that stand for yes and no, or for two alternatives."""
SHOWN = 6
"""Rows needed to show that a column holds yes and no rather than numbers, or no number below 0."""
BETWEEN = 20
"""Most whole numbers between two in a CHECK that are all tried."""


def within(
    connection: sqlite3.Connection,
    create: str,
    names: Sequence[str],
    rows: Rows,
    pairs: Sequence[tuple[Cell, ...]],
    rng: random.Random,
) -> Rows:
    """Return `rows` restricted to the values that `pairs`, by column, and the one-column CHECKs in `create` allow."""
    cells = [list(row) for row in rows]
    checks = list(_checks(create))
    for place, name in enumerate(names):
        queries = [query for one in checks if (query := _check_of(connection, one, name))]
        if not queries and not pairs[place]:
            continue

        allowed = [
            value
            for value in (pairs[place] or _literals(checks))
            if _may_hold(connection, queries, pairs[place], value)
        ]
        there = {row[place] for row in cells} - {None}
        strange = {cell for cell in there if not _may_hold(connection, queries, pairs[place], cell)}
        for row in cells if allowed else ():
            if row[place] in strange:
                row[place] = rng.choice(allowed)
    return [tuple(row) for row in cells]


def _may_hold(connection: sqlite3.Connection, queries: list[str], pair: tuple[Cell, ...], cell: Cell) -> bool:
    passes = (connection.execute(query, (storable(cell),)).fetchone()[0] != 0 for query in queries)
    return (not pair or cell in pair) and all(passes)


def _checks(create: str) -> Iterator[str]:
    """Yield the condition in brackets after each CHECK."""
    for match in re.finditer(r"\bCHECK\s*\(", create, re.IGNORECASE):
        depth = 0
        for token in re.finditer(r"'(?:[^']|'')*'|\"[^\"]*\"|[()]", create[match.end() - 1 :]):
            depth += (token[0] == "(") - (token[0] == ")")
            if depth == 0:
                yield create[match.end() - 1 :][: token.end()]
                break


def _check_of(connection: sqlite3.Connection, check: str, name: str) -> str:
    """Return a query that tests a value of column `name` against `check`; empty if `check` uses other columns."""
    if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", check, re.IGNORECASE):
        return ""
    query = f"SELECT {check} FROM (SELECT ? AS {quoted(name)})"  # noqa: S608 - the schema's own text
    try:
        connection.execute(query, (None,)).fetchall()
    except sqlite3.Error:
        return ""
    return query


def _literals(checks: list[str]) -> list[Cell]:
    """Return the texts and numbers in `checks`, and whole numbers next to and between them."""
    texts = [text[1:-1].replace("''", "'") for check in checks for text in re.findall(r"'(?:[^']|'')*'", check)]
    bare = [re.sub(r"'(?:[^']|'')*'", "", check) for check in checks]
    whole = [int(text) for check in bare for text in re.findall(r"(?<![\w.])-?\d{1,9}(?![\w.])", check)]
    if not whole:
        return [*texts]
    between = range(min(whole) - 1, max(whole) + 2) if max(whole) - min(whole) <= BETWEEN else whole
    return [*texts, *dict.fromkeys([*between, *(n + k for n in whole for k in (-9, -1, 0, 1, 9))])]


def pair_of(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Return the two values of a yes/no column, each of which occurs at least twice; else nothing."""
    values = [cell for cell in cells if cell is not None]
    found = sorted(set(values), key=repr)
    alike = {str(cell).casefold() for cell in found}
    if len(found) != 2 or min(map(values.count, found)) < 2 or len(values) < SHOWN:  # noqa: PLR2004 - a pair
        return ()
    return tuple(found) if any(alike == set(pair) for pair in PAIRS) else ()


def storable(cell: Cell) -> Cell:
    """Return a whole number beyond SQLite's range as one with a decimal point."""
    return float(cell) if isinstance(cell, int) and not -(2**63) <= cell < 2**63 else cell


def quoted(name: str) -> str:
    """Return a name in double quotes, escaped for SQL."""
    return '"' + name.replace('"', '""') + '"'
