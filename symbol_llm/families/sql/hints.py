"""Hints about rows that would tell queries apart, read off their syntax trees. Makes no rows and runs nothing.

>>> hints_of(["SELECT name FROM city AS c WHERE 330 < c.people"], None).constants
[Constant(table='city', column='people', value=330, sign='>', measure='', other='')]

The compared value may be derived from a column: its length, its sum over a group, its difference from another column.

A query that sqlglot cannot read, or that is longer or nested deeper than the bounds, gives no hints: the generated
databases then contain none of its constants.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import logging
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sqlglot import exp

MOST_CONSTANTS = 20
"""Most constants of the program that gold lacks; two more fillings or one more copy hold them."""
MAX_CHARACTERS = 10_000
MAX_DEPTH = 32
"""Deepest nesting of brackets; sqlglot, which recurses for each, exhausts Python's stack at some 70."""
MAX_CONSTANTS = 200
"""Most constants of a query that rows are to hold."""
MAX_LEVELS = 40
"""Most tree levels between a constant and the comparison that it is part of."""
MOST_LIMIT = 200
"""Highest LIMIT that there are to be more rows than."""
MAX_LENGTH = 200
"""Longest text compared with a column that rows are to hold, in characters."""


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
    """Highest LIMIT up to MOST_LIMIT."""
    grouped: list[str]
    """Columns that rows are grouped by, or that LIMIT shows each value of once."""

    @classmethod
    def of(cls, value: list[Any]) -> Hints:
        """Return the hints from their JSON form."""
        constants, others, *rest = value
        return cls([Constant(*one) for one in constants], [Constant(*one) for one in others], *rest)


class Said(NamedTuple):
    """The hints of one query. All names are in lower case."""

    constants: tuple[Constant, ...] = ()
    equated: tuple[tuple[str, str], ...] = ()
    nulls: tuple[str, ...] = ()
    summed: tuple[str, ...] = ()
    tables: tuple[str, ...] | None = None
    """None: unknown, so any."""
    limit: int = 0
    grouped: tuple[str, ...] = ()


def hints_of(golds: Sequence[str], program: str | None) -> Hints:
    """Return the hints of `golds` and those that `program` adds."""
    said = [_said(gold) for gold in golds]
    added = _said(program) if program is not None else Said(tables=())
    constants = [constant for one in said for constant in one.constants]
    known = {(one.column, one.value) for one in constants}
    others = [one for one in added.constants if (one.column, one.value) not in known]
    tables = [one.tables for one in (*said, added)]
    return Hints(
        constants,
        others[:MOST_CONSTANTS],
        [pair for one in said for pair in one.equated],
        sorted({name for one in said for name in one.nulls}),
        sorted({name for one in said for name in one.summed}),
        None if program is None or None in tables else sorted({name for some in tables for name in some or ()}),
        max((one.limit for one in (*said, added)), default=0),
        sorted({name for one in (*said, added) for name in one.grouped}),
    )


def is_readable(query: str) -> bool:
    """Return whether sqlglot reads `query`, within the bounds, as one statement."""
    trees = _trees(query)
    return trees is not None and len([tree for tree in trees if tree is not None]) == 1


@functools.lru_cache(maxsize=4096)
def _said(query: str) -> Said:
    from sqlglot import exp

    tree = _parse(query)
    if tree is None:
        return Said()
    tables = _tables(tree)
    pairs = [(one.this, one.expression) for one in tree.find_all(exp.EQ)]
    return Said(
        tuple(itertools.islice(_constants(tree, tables, query), MAX_CONSTANTS)),
        tuple(_equated(tree, pairs, query)),
        tuple(_columns_of(one.this for one in _asking_for_null(tree))),
        tuple(_columns_of(one for one in tree.find_all(exp.Sum, exp.Avg, exp.Anonymous) if _adds_up(one))),
        tuple(one.name.lower() for one in tree.find_all(exp.Table)),
        max(_limits(tree), default=0),
        tuple(_columns_of(itertools.chain(tree.find_all(exp.Group), _distinct(tree)))),
    )


def _parse(query: str) -> exp.Expr | None:
    """Return the syntax tree of `query`; None if it exceeds the bounds or sqlglot cannot read it."""
    trees = _trees(query)
    return trees[0] if trees else None


def _trees(query: str) -> list[exp.Expr | None] | None:
    from sqlglot import TokenType, errors
    from sqlglot.dialects import SQLite

    if len(query) > MAX_CHARACTERS:
        return None
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # oddities in a model's text are expected
    dialect = SQLite()
    depth = 0
    try:
        tokens = dialect.tokenize(query)
        for token in tokens:
            depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
            if depth > MAX_DEPTH:
                return None
        trees: list[exp.Expr | None] = dialect.parser().parse(tokens, query)
    except (errors.SqlglotError, RecursionError):
        return None
    return trees


def _tables(tree: exp.Expr) -> dict[str, str]:
    """Return tables by the names that may qualify a column; empty for the result of a subquery."""
    from sqlglot import exp

    tables = {one.alias_or_name.lower(): one.name.lower() for one in tree.find_all(exp.Table)}
    return tables | {one.alias.lower(): "" for one in tree.find_all(exp.Subquery, exp.CTE)}


def _is_text(node: exp.Expr, query: str) -> bool:
    """Return whether a name is in double quotes, which SQLite takes for a text if there is no such column."""
    from sqlglot import exp

    start = node.this.meta.get("start") if isinstance(node, exp.Column) and not node.table else None
    return start is not None and query[start] == '"'


def _columns_of(nodes: Iterator[exp.Expr]) -> Iterator[str]:
    from sqlglot import exp

    for node in nodes:
        for column in node.find_all(exp.Column) if isinstance(node, exp.Expr) else ():
            yield column.name.lower()


def _asking_for_null(tree: exp.Expr) -> Iterator[exp.Expr]:
    from sqlglot import exp

    yield from tree.find_all(exp.Coalesce)
    yield from (one for one in tree.find_all(exp.Is) if isinstance(one.expression, exp.Null))


def _adds_up(node: exp.Expr) -> bool:
    from sqlglot import exp

    return not isinstance(node, exp.Anonymous) or node.name.lower() == "total"


def _limits(tree: exp.Expr) -> Iterator[int]:
    from sqlglot import exp

    for limit in tree.find_all(exp.Limit):
        text = limit.expression.name if isinstance(limit.expression, exp.Literal) else ""
        if text.isdecimal() and len(text) <= _DIGITS and int(text) <= MOST_LIMIT:
            yield int(text)


def _distinct(tree: exp.Expr) -> Iterator[exp.Expr]:
    """Yield what is selected once each, up to a LIMIT."""
    from sqlglot import exp

    for select in tree.find_all(exp.Select):
        if select.args.get("distinct") and select.args.get("limit"):
            yield from select.expressions


def _equated(tree: exp.Expr, pairs: list[tuple[exp.Expr, exp.Expr]], query: str) -> Iterator[tuple[str, str]]:
    from sqlglot import exp

    for one, two in pairs:
        if all(isinstance(side, exp.Column) and not _is_text(side, query) for side in (one, two)):
            yield one.name.lower(), two.name.lower()
    for join in tree.find_all(exp.Join):
        for name in join.args.get("using") or ():
            yield name.name.lower(), name.name.lower()


# --- constants --------------------------------------------------------------------------------------------------------

_DIGITS = 18
"""Most digits of a whole number that SQLite, as well as its neighbours, stores as an integer."""
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def _constants(tree: exp.Expr, tables: dict[str, str], query: str) -> Iterator[Constant]:
    """Yield each constant with the column it is compared with, but not those merely returned or in LIMIT or OFFSET."""
    from sqlglot import exp

    for node in tree.walk(bfs=False):
        if not (isinstance(node, exp.Literal) or _is_text(node, query)):
            continue
        call = _date_call(node)
        value = _value(node) if call is None else _moment(call, node)
        if value is None:
            continue
        comparison, side = _comparison(node)
        if comparison is None:
            continue
        if isinstance(comparison, exp.Case):
            yield _constant(comparison.this, tables, value, "=")
            continue
        sign, other = _against(comparison, side)
        if isinstance(_bare(other), exp.Mod):
            continue  # a remainder, which all small numbers have
        if isinstance(node, exp.Column) and not isinstance(other, exp.Column | exp.Func):
            continue  # "people" > 330 is about a column
        if isinstance(other, exp.Column) and _is_text(other, query):
            other = exp.column(other.name)
        yield _constant(other, tables, value, sign)


def _value(node: exp.Expr) -> str | int | float | None:
    """Return a text or number as a Python value; None for numbers that are not finite and long texts."""
    from sqlglot import exp

    if not isinstance(node, exp.Literal) or node.is_string:
        return node.name if len(node.name) <= MAX_LENGTH else None
    text, sign = node.name, -1 if isinstance(node.parent, exp.Neg) else 1
    try:
        if text.isdecimal() and len(text) <= _DIGITS:
            return sign * int(text)
        value = sign * float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _date_call(node: exp.Expr) -> exp.Expr | None:
    """Return the call of a function of date and time that takes `node`; None if there is none."""
    from sqlglot import exp

    parent = node.parent.parent if isinstance(node.parent, exp.TsOrDsToTimestamp) else node.parent
    if isinstance(parent, exp.Anonymous):
        return parent if str(parent.this).lower() in ("date", "datetime", "julianday", "strftime") else None
    return parent if isinstance(parent, exp.Date | exp.TimeToStr) else None


def _moment(call: exp.Expr, node: exp.Expr) -> str | int | None:
    """Return the date that `call` says, or its year, month or day; None unless `node` is what says the date."""
    from sqlglot import exp

    texts = [one for one in call.find_all(exp.Literal, bfs=False) if one.arg_key != "format"]
    form = call.args.get("format")
    if isinstance(call, exp.Anonymous) and str(call.this).lower() == "strftime":
        form, texts = next(iter(texts), None), texts[1:]
    if not texts or node is not texts[0] or call.find(exp.Column):
        return None
    day = _shifted([text.name for text in texts])
    if day is None or form is None:
        return node.name if day is None else day.isoformat()
    part = {"%Y": f"{day.year:04}", "%m": f"{day.month:02}", "%d": f"{day.day:02}"}.get(form.name)
    return int(part) if part and isinstance(call.parent, exp.Cast) else part


_SHIFT = re.compile(r"([+-]?\d{1,5}) (day|month|year)s?", re.IGNORECASE)


def _shifted(texts: list[str]) -> datetime.date | None:
    """Return the date `texts[0]` or today for "now", changed by SQLite's modifiers; None if it is no date."""
    try:
        day = datetime.date.today() if texts[0].lower() == "now" else datetime.date.fromisoformat(texts[0][:10])
        for text in texts[1:]:
            if found := _SHIFT.fullmatch(text.strip()):
                n, unit = int(found[1]), found[2].lower()
                months = {"day": 0, "month": n, "year": 12 * n}[unit]
                year, month = divmod(12 * day.year + day.month - 1 + months, 12)
                day = day.replace(year, month + 1, min(day.day, 28) if months else day.day)
                day += datetime.timedelta(n if unit == "day" else 0)
            elif text.lower() in ("start of month", "start of year"):
                day = day.replace(day=1, month=day.month if text.lower().endswith("month") else 1)
    except (OverflowError, ValueError):
        return None
    return day


def _comparison(node: exp.Expr) -> tuple[exp.Expr | None, exp.Expr]:
    """Return the comparison that `node` is part of, or None, and the side that it is on."""
    from sqlglot import exp

    side, parent = node, node.parent
    kinds: tuple[type[exp.Expr], ...] = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Nullif)
    kinds += (exp.Like, exp.Glob, exp.Is, exp.Between, exp.In)
    for _ in range(MAX_LEVELS):
        if parent is None or isinstance(parent, kinds):
            return parent, side
        if (
            isinstance(parent, exp.If)
            and isinstance(parent.parent, exp.Case)
            and parent.parent.this
            and side.arg_key == "this"
        ):
            return parent.parent, side  # CASE x WHEN y
        returned = isinstance(parent, exp.If | exp.Case) and side.arg_key in ("true", "default")
        if returned or isinstance(parent, exp.Query | exp.Limit | exp.Offset | exp.Order):
            return None, side
        side, parent = parent, parent.parent
    return None, side


def _against(comparison: exp.Expr, side: exp.Expr) -> tuple[str, exp.Expr]:
    """Return the other side of a comparison, after the sign by which it is compared with `side`."""
    from sqlglot import exp

    if isinstance(comparison, exp.Between):
        signs = {"low": ">=", "high": "<="}
        return signs.get(str(side.arg_key), "="), comparison.this
    if isinstance(comparison, exp.In):
        return "=", comparison.this
    signs_by_kind: dict[type[exp.Expr], str] = {
        exp.NEQ: "!=",
        exp.GT: ">",
        exp.GTE: ">=",
        exp.LT: "<",
        exp.LTE: "<=",
        exp.Like: "like",
    }
    sign = signs_by_kind.get(type(comparison), "=")
    if side.arg_key == "this":
        return _MIRRORED.get(sign, sign), comparison.expression
    return sign, comparison.this


def _constant(node: exp.Expr, tables: dict[str, str], value: str | int | float, sign: str) -> Constant:
    """Return `value` as the constant that the first column in `node`, or a measure of it, is compared with.

    The column of a count is called `count`; column and table are empty if there is none.
    """
    from sqlglot import exp

    node = _bare(node)
    if node.find(exp.Count):
        return Constant("", "count", value, sign)
    if isinstance(node, exp.Sub) and not isinstance(value, str) and (found := _days(node)):
        return _counted_from(found, tables, value, sign)
    column, measure, other = _measure(node)
    if column is None:
        return Constant("", "", value, sign)
    if measure in ("%Y-%m", "start"):
        return Constant(*_name(column, tables), f"{value}%", "like")
    return Constant(*_name(column, tables), value, sign, measure, other)


def _name(column: exp.Column, tables: dict[str, str]) -> tuple[str, str]:
    return tables.get(column.table.lower(), column.table.lower()), column.name.lower()


def _bare(node: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    while isinstance(node, exp.Paren | exp.Cast | exp.Abs | exp.Round):
        node = node.this
    return node


def _measure(node: exp.Expr) -> tuple[exp.Column | None, str, str]:  # noqa: PLR0911 - a return a measure
    """Return the first column in `node`, its measure, and the other column that the measure takes; see `Constant`."""
    from sqlglot import exp

    column = node.find(exp.Column)
    match node:
        case exp.Length(this=exp.Column()):
            return column, "length", ""
        case exp.Substring(this=exp.Column(), args={"start": exp.Literal(this="1")}):
            return column, "start", ""
        case exp.Substring(this=exp.Column(), args={"start": exp.Literal(this="6"), "length": exp.Literal(this="2")}):
            return column, "%m", ""
        case exp.Sum(this=exp.Column()):
            return column, "sum", ""
        case exp.Avg(this=exp.Column()):
            return column, "avg", ""
        case exp.TimeToStr(args={"format": exp.Literal() as form}):
            return column, form.name, ""
        case exp.Sub() | exp.Add():
            sides = _bare(node.this), _bare(node.expression)
            first, second = (side.find(exp.Column) for side in sides)
            unit = _unit(sides[0])
            if unit is not None and unit == _unit(sides[1]) and first is not None and second is not None:
                return first, f"{'less' if isinstance(node, exp.Sub) else 'plus'}{unit}", second.name.lower()
    return column, "", ""


def _unit(side: exp.Expr) -> str | None:
    """Return the unit of a difference of such sides: empty for plain numbers; None if unknown."""
    from sqlglot import exp

    match side:
        case exp.Column():
            return ""
        case exp.Anonymous(this=str() as name) if name.lower() == "julianday":
            return " days"
        case exp.TimeToStr(args={"format": exp.Literal(this="%Y")}):
            return " years"
    return None


def _days(node: exp.Sub) -> tuple[datetime.date, exp.Column, bool] | None:
    """Return the date, the column, and whether the date comes first, of a difference of the two in days."""
    from sqlglot import exp

    left, right = _bare(node.this), _bare(node.expression)
    if _unit(left) != " days" or _unit(right) != " days":
        return None
    for day, other, first in ((left, right, True), (right, left, False)):
        texts, column = [one.name for one in day.find_all(exp.Literal, bfs=False)], other.find(exp.Column)
        if texts and column is not None and day.find(exp.Column) is None:
            date = _shifted(texts)
            return None if date is None else (date, column, first)
    return None


def _counted_from(
    found: tuple[datetime.date, exp.Column, bool], tables: dict[str, str], n_days: int | float, sign: str
) -> Constant:
    day, column, first = found
    try:
        value = (day + datetime.timedelta(-n_days if first else n_days)).isoformat()
    except OverflowError:
        value = day.isoformat()
    return Constant(*_name(column, tables), value, _MIRRORED.get(sign, sign) if first else sign)
