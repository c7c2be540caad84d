"""Single cells at and next to the constants that queries compare columns with. Knows no tables and no rows."""

from __future__ import annotations

import datetime
import functools
import random
import re

from symbol_llm.families.sql.domains import Cell
from symbol_llm.families.sql.hints import Constant

LONGEST = 240
"""Characters of a text made for its length."""
DENSE = 4
"""Distinct values of a column in every other filling."""

OFFSETS = {">": (1, 9), ">=": (0, 1), "<": (-1, -9), "<=": (0, -1), "<>": (1, -1), "!=": (1, -1)}
"""Offsets from a constant that make the comparison true; 0 for other operators."""

_NEARBY = (-9, -1, 0, 0, 0, 0, 1, 9)

WORDS = "amber birch cedar delta ember fjord grove haven".split()

PARTS = {"%Y": (1, 9999), "%m": (1, 12), "%d": (1, 28)}


def meeting(kind: str, mine: list[Constant], rng: random.Random) -> Cell:
    """Return a cell for which a comparison with one of `mine` is true; sometimes one that matches all patterns."""
    patterns = [str(one.value) for one in mine if one.sign == "like"]
    if len(patterns) > 1 and rng.random() < 0.5:
        return " ".join(map(_plain, patterns))
    constant = rng.choice(mine)
    if constant.sign == "like":
        text = str(constant.value)
        if _is_time(kind) and (date := _dated(text, 0, rng)):
            return date
        more = [f"x{_plain(text)}"] * text.startswith("%") + [f"{_plain(text)}s"] * text.endswith("%")
        return rng.choice((_plain(text), _plain(text), *more))
    return beside(kind, constant, rng.choice(OFFSETS.get(constant.sign, (0,))), rng)


def unlike(kind: str, mine: list[Constant], rng: random.Random) -> Cell:
    """Return a cell next to one of `mine` for which that comparison is false."""
    constant = rng.choice(mine)
    if isinstance(constant.value, str) and not re.search(r"\d", constant.value):
        return rng.choice(WORDS)
    offset = {">": 0, "<": 0, ">=": -1, "<=": 1, "<>": 0, "!=": 0}.get(constant.sign, 1)
    return beside(kind, constant, offset, rng)


def made_up(kind: str, mine: list[Constant], others: list[Constant], n_values: int, rng: random.Random) -> Cell:
    """Return a cell for a column of SQL type `kind`: every other one is near a constant, its own if it has any."""
    near = mine or others
    likely = 0.2 if not mine else 0.9 if n_values == DENSE else 0.5
    n = rng.randint(1, n_values)
    if near and rng.random() < likely:
        constant = rng.choice(near)
        if mine or not _is_number(kind) or not isinstance(constant.value, str):
            return beside(kind, constant, rng.choice(_NEARBY), rng)
    if _is_number(kind):
        return n
    if _is_time(kind):
        return f"{2000 + n}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return "TF"[n % 2] if "BOOL" in kind.upper() else f"{WORDS[n % len(WORDS)]}{n // len(WORDS) or ''}"


def compared(constant: Constant, cell: Cell, is_number: bool, rng: random.Random) -> Cell:
    """Return the constant or a neighbour of it if it is of the column's kind, else `cell`."""
    offset = rng.choice((*OFFSETS.get(constant.sign, (0,)), 0, 1, -1))
    if constant.measure == "length" or (constant.measure in PARTS and day_of(cell)):
        return cell if is_number else beside("TEXT", constant, offset, rng)
    if constant.sign == "like" and _HELD_DATE.match(str(cell)):
        date = _dated(str(constant.value), offset, rng)
        return date + cell[10:] if date else cell
    if not isinstance(constant.value, str):
        if isinstance(cell, float) and not cell.is_integer() and rng.random() < 0.5:
            offset /= 2
        return constant.value + offset if is_number else cell
    may_differ = (constant.sign in OFFSETS or re.search(r"\d", constant.value)) and rng.random() < 0.5
    return cell if is_number else beside("TEXT", constant, offset if may_differ else 0, rng)


def beside(kind: str, constant: Constant, offset: int, rng: random.Random) -> Cell:
    """Return the constant for a column of SQL type `kind`, or a neighbour where `offset` is not 0."""
    value = constant.value
    measured = _measured(kind, constant, offset, rng)
    if measured is None and constant.sign == "like" and _is_time(kind):
        measured = _dated(str(value), offset, rng)
    if measured is not None:
        return measured
    if not isinstance(value, str):
        number = max(value + offset, 0) if value > 0 else value + offset
        if offset and re.search("REAL|FLOA|DOUB|DEC", kind.upper()) and rng.random() < 0.5:
            number = value + offset / 2
        return number if _is_number(kind) else str(number)
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
    if constant.measure == "length" and isinstance(value, int) and value <= LONGEST:
        return _of_length(kind, max(value + offset, 0), rng)
    if constant.measure in PARTS and re.fullmatch(r"\d{1,4}", str(value)):
        return _of_part(constant.measure, int(value) + offset, rng)
    return None


def _of_length(kind: str, length: int, rng: random.Random) -> Cell:
    if _is_number(kind):
        return 10 ** (min(max(length, 1), 18) - 1)
    word = rng.choice(WORDS)
    return (word * (length // len(word) + 1))[:length]


def _of_part(form: str, n: int, rng: random.Random) -> str:
    """Return a date whose year, month or day is `n`, or as near as possible."""
    parts = {"%Y": rng.randint(2000, 2020), "%m": rng.randint(1, 12), "%d": rng.randint(1, 28)}
    least, most = PARTS[form]
    parts[form] = min(max(n, least), most)
    return f"{parts['%Y']:04}-{parts['%m']:02}-{parts['%d']:02}"


@functools.cache
def _is_time(kind: str) -> bool:
    return bool(re.search("DATE|TIME", kind.upper()))


@functools.cache
def _is_number(kind: str) -> bool:
    return bool(re.search("INT|NUM|REAL|FLOA|DOUB|DEC", kind.upper()))


_HELD_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATES_LIKE = re.compile(r"(?:(?P<year>\d{4})|%)(?:-(?P<month>\d\d))?(?:-(?P<day>\d\d))?(?:[-%_].*)?")


def _dated(pattern: str, offset: int, rng: random.Random) -> str | None:
    """Return a date that `pattern` of LIKE matches, its last part changed by `offset`; None if it says none."""
    found = _DATES_LIKE.fullmatch(pattern)
    said = {name: int(text) for name, text in found.groupdict().items() if text} if found else {}
    if not said:
        return None
    last = [*said][-1]
    said[last] += offset
    year = min(max(said.get("year", rng.randint(2000, 2020)), 1), 9999)
    month = min(max(said.get("month", rng.randint(1, 12)), 1), 12)
    return f"{year:04}-{month:02}-{min(max(said.get('day', rng.randint(1, 28)), 1), 28):02}"


def _plain(pattern: str) -> str:
    """Return a text that `pattern` of LIKE matches."""
    return pattern.strip("%").replace("%", " ").replace("_", "x")


def day_of(cell: Cell) -> datetime.date | None:
    """Return the date at the beginning of a text; None if it has none."""
    try:
        return datetime.date.fromisoformat(cell[:10]) if isinstance(cell, str) else None
    except ValueError:
        return None
