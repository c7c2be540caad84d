"""What queries return, and whether it is what gold returns: rows as a multiset or a list, ties in any order that is open."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from symbol_llm.notation.numbers import RELATIVE

Row = list[Any]
"""Cells are None, int, float, str, or {"blob": hexadecimal digits}."""


class Rows(NamedTuple):
    """What a query returned, whether it read any table, and what it returns if ties are broken in other ways."""

    rows: list[Row]
    reads: bool
    ties: list[list[Row]] = []
    made: str = ""
    """The rows of the database as text, if it was generated and the text is wanted."""
    pool: list[list[Row]] = []
    """What the query returns without its last LIMIT, sorted both ways."""


class Gold(NamedTuple):
    """The result of a gold query, or the given answer, on one database."""

    ties: list[list[Row]]
    """The rows, with ties broken in opposite ways."""
    reads: bool
    ordered: bool
    lax: bool = False
    """On a generated database: nothing, zero and NULL are equal."""
    pool: list[list[Row]] = []
    """Where the last LIMIT cuts through rows that are tied: all rows, sorted both ways."""
    start: int = 0
    """Index in `pool` of the first row that LIMIT keeps."""

    @property
    def firm(self) -> bool:
        """Return whether breaking ties otherwise changes only the order of the rows."""
        return all(_same_rows(self.ties[0], other, ordered=False) for other in self.ties)

    @property
    def telling(self) -> bool:
        """Return whether the rows hold more than NULL and zero, which many wrong queries give too."""
        return not _is_nothing(self.ties[0])


def _is_nothing(rows: list[Row]) -> bool:
    """Return whether there is nothing but zero and NULL."""
    return all(cell in (None, 0) for row in rows for cell in row)


def _same_rows(found: list[Row], gold: list[Row], *, ordered: bool) -> bool:
    if len(found) != len(gold):
        return False
    if not ordered:
        found, gold = sorted(found, key=_sort_key), sorted(gold, key=_sort_key)
    return all(
        len(left) == len(right) and all(map(_same_cell, left, right)) for left, right in zip(found, gold, strict=True)
    )


def matches(found: list[Row], gold: Gold) -> bool:
    """Return whether `found` are gold's rows, in gold's order up to ties if it has one."""
    if gold.lax and not gold.telling:
        return _is_nothing(found)
    if not gold.firm:
        return any(_same_rows(found, rows, ordered=gold.ordered) for rows in gold.ties) or _is_a_choice(found, gold)
    if not gold.ordered or len(found) != len(gold.ties[0]) or not found:
        return _same_rows(found, gold.ties[0], ordered=False)
    return all(
        _same_rows(found[start:end], gold.ties[-1][start:end], ordered=False)
        for start, end in _blocks(gold.ties[-2], gold.ties[-1])
    )


def _is_a_choice(found: list[Row], gold: Gold) -> bool:
    """Return whether `found` are as many of gold's rows as LIMIT keeps, each in a position that ties allow."""
    if not gold.pool or len(found) != len(gold.ties[0]):
        return False
    end = gold.start + len(found)
    blocks = list(_blocks(gold.pool[0], gold.pool[-1])) if gold.ordered else [(0, len(gold.pool[0]))]
    for first, last in blocks:
        shown = found[max(first, gold.start) - gold.start : max(min(last, end) - gold.start, 0)]
        left = [*gold.pool[0][first:last]]
        for row in shown:
            same = next((n for n, other in enumerate(left) if _same_rows([row], [other], ordered=True)), None)
            if same is None:
                return False
            del left[same]
    return True


def _blocks(one: list[Row], two: list[Row]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the shortest ranges in which both lists have the same rows: the tied ones."""
    start, open_rows = 0, Counter[str]()
    for n, (left, right) in enumerate(zip(one, two, strict=True), 1):
        open_rows[repr(left)] += 1
        open_rows[repr(right)] -= 1
        if not any(open_rows.values()):
            yield start, n
            start, open_rows = n, Counter()


def _sort_key(row: Row) -> tuple[list[str], list[float]]:
    """Order by everything but numbers first, so that a rounding error cannot change which rows are compared."""
    numbers = [cell for cell in row if isinstance(cell, int | float)]
    return [repr(cell) for cell in row if not isinstance(cell, int | float)], numbers


def _same_cell(found: Any, gold: Any) -> bool:
    if isinstance(found, int | float) and isinstance(gold, int | float):
        return _same_number(found, gold)
    return type(found) is type(gold) and bool(found == gold)


def _same_number(found: float, gold: float) -> bool:
    """Return whether two numbers are the same or, unless both are SQL integers, differ by RELATIVE of the greater.

    Stricter than `numbers.equal`: both were computed from the same rows, so nothing was rounded for display.
    """
    if isinstance(found, int) and isinstance(gold, int):
        return found == gold
    return math.isclose(found, gold, rel_tol=RELATIVE, abs_tol=0.0)
