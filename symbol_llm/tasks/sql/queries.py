"""Queries of one table, or of two if the rows of one belong to rows of the other: drawn, evaluated, worded, and as SQL.

A `Query` is abstract: `evaluate` answers it without SQLite, `written` prints it as SQL, `worded` phrases it in English
and `Maker` draws it, with made-up rows. Numbers in a column are distinct, and no answer depends on how ties are
ordered. SQL is not read here, and no query is run.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Theme(NamedTuple):
    """The theme of a table: the column that names a row, the column that groups rows, and two columns of numbers."""

    table: str
    """The table's name, which is also the plural for its rows."""
    row: str
    name: str
    names: str
    group: str
    kinds: str
    numbers: dict[str, list[int]]

    @property
    def key(self) -> str:
        """Name of the column that numbers the rows."""
        return f"{self.row}_id"


Column = tuple[str, str]
"""Table and column."""
Record = Mapping[Column, Any]
Data = Mapping[str, list[Record]]
"""Rows by table."""


class Item(NamedTuple):
    """A term to select or sort by: a column, or an aggregate over one (None: over the rows)."""

    column: Column | None
    aggregate: str | None = None


class Condition(NamedTuple):
    """A comparison of a column with a value, or with the result of another query."""

    column: Column
    sign: str
    value: Any
    words: str
    """The wording after the name of the rows: `with genre crime`."""


class Query(NamedTuple):
    """A query over one table, or over one joined with the table that its rows belong to."""

    child: Theme
    parent: Theme
    table: str
    select: tuple[Item, ...]
    where: tuple[Condition, ...] = ()
    joined: bool = False
    group: Column | None = None
    more_than: int | None = None
    """Number of rows that a group must exceed."""
    order: Item | None = None
    descending: bool = False
    limit: int | None = None
    minus: Query | None = None
    """Another query whose rows are removed (EXCEPT)."""
    both: Query | None = None
    """Another query that must return the row as well (INTERSECT)."""


def evaluate(query: Query, data: Data) -> list[list[Any]] | None:
    """Return the rows of `query`, None if ties leave them open."""
    rows = [dict(row) for row in data[query.table]]
    if query.joined:
        parents = {row[query.parent.table, query.parent.key]: row for row in data[query.parent.table]}
        rows = [{**row, **parents[row[query.child.table, query.parent.key]]} for row in rows]
    rows = [row for row in rows if all(_holds(condition, row, data) for condition in query.where)]
    groups: dict[Any, list[Record]] = {}
    for n, row in enumerate(rows):
        whole = any(item.aggregate for item in query.select)
        groups.setdefault(row[query.group] if query.group else None if whole else n, []).append(row)
    found = [group for group in groups.values() if query.more_than is None or len(group) > query.more_than]
    if query.order:
        order = query.order
        found.sort(key=lambda group: _cell(order, group), reverse=query.descending)
        keys = [_cell(order, group) for group in found]
        tied = [n for n in range(1, len(keys)) if keys[n] == keys[n - 1]]
        if query.limit in tied if query.limit else tied:
            return None
    answer = [[_cell(item, group) for item in query.select] for group in found[: query.limit]]
    for other, kept in ((query.minus, False), (query.both, True)):
        if other:
            theirs = evaluate(other, data) or []
            answer = [row for row in answer if (row in theirs) == kept]
    if query.minus or query.both:
        answer = [list(row) for row in dict.fromkeys(map(tuple, answer))]
    return answer


def _holds(condition: Condition, row: Record, data: Data) -> bool:
    cell, value = row[condition.column], condition.value
    if isinstance(value, Query):
        inner = [first for first, *_ in evaluate(value, data) or []]
        value = inner if condition.sign.endswith("IN") else inner[0]
    return bool(SIGNS[condition.sign](cell, value))


SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "BETWEEN": lambda cell, value: value[0] <= cell <= value[1],
    "IN": lambda cell, value: cell in value,
    "NOT IN": lambda cell, value: cell not in value,
}


def _cell(item: Item, group: list[Record]) -> Any:
    if item.column is None:
        return len(group)
    cells = [row[item.column] for row in group]
    return AGGREGATED[item.aggregate](cells)


AGGREGATED: Mapping[str | None, Callable[[list[Any]], Any]] = {
    None: operator.itemgetter(0),
    "MAX": max,
    "MIN": min,
    "SUM": sum,
    "AVG": lambda cells: sum(cells) / len(cells),
}


def written(query: Query) -> str:
    """Return `query` as SQL; columns are qualified by their table if two are joined."""

    def column(at: Column) -> str:
        return f"{at[0]}.{at[1]}" if query.joined else at[1]

    def item(of: Item) -> str:
        inner = column(of.column) if of.column else "*"
        return f"{of.aggregate}({inner})" if of.aggregate else inner

    def condition(of: Condition) -> str:
        match of.value:
            case Query():
                value = f"({written(of.value)})"
            case (low, high):
                value = f"{low} AND {high}"
            case _:
                value = constant(of.value)
        return f"{column(of.column)} {of.sign} {value}"

    child, parent = query.child, query.parent
    parts = [f"SELECT {', '.join(map(item, query.select))} FROM {query.table}"]  # noqa: S608 - never run here
    if query.joined:
        parts.append(f"JOIN {parent.table} ON {child.table}.{parent.key} = {parent.table}.{parent.key}")
    if query.where:
        parts.append(f"WHERE {' AND '.join(map(condition, query.where))}")
    if query.group:
        parts.append(f"GROUP BY {column(query.group)}")
    if query.more_than is not None:
        parts.append(f"HAVING COUNT(*) > {query.more_than}")
    if query.order:
        parts.append(f"ORDER BY {item(query.order)} {'DESC' if query.descending else 'ASC'}")
    if query.limit:
        parts.append(f"LIMIT {query.limit}")
    for other, word in ((query.minus, "EXCEPT"), (query.both, "INTERSECT")):
        if other:
            parts.append(f"{word} {written(other)}")
    return " ".join(parts)


def rows_in_words(query: Query) -> str:
    """Return the rows of `query` in words: `books with pages above 300 of authors with country Chile`."""
    own = [condition.words for condition in query.where if condition.column[0] == query.table]
    others = [condition.words for condition in query.where if condition.column[0] != query.table]
    whose = [f"of {query.parent.table} {' and '.join(others)}"] if others else []
    return " ".join([query.table, *([" and ".join(own)] if own else []), *whose])


WORDS = {
    "MAX": ("highest", "maximum"),
    "MIN": ("lowest", "minimum"),
    "AVG": ("average", "mean"),
    "SUM": ("total", "summed"),
}


FRAMES = {
    "minus": (
        "Which {names} occur among {rows} but not among {other}?",
        "Give every {names} of {rows} but not of {other}.",
    ),
    "both": (
        "Which {names} occur both among {rows} and among {other}?",
        "Give every {names} that {rows} share with {other}.",
    ),
    "more than": ("Which {names} has more than {n} {rows}?", "Give every {names} that has more than {n} {rows}."),
    "for each": ("For each {names}, give the {what} of {rows}.", "What is the {what} of {rows} per {names}?"),
    "most": ("Which {names} has the {end} {rows}?", "Give the {names} with the {end} {rows}."),
    "count": ("How many {rows} are there?", "Count the {rows}.", "What is the number of {rows}?"),
    "aggregate": ("What is the {what} of {rows}?", "Give the {what} of all {rows}."),
    "list": (
        "Give the {names} of {rows}{ending}.",
        "What is the {names} of {rows}{ending}?",
        "List the {names} of {rows}{ending}.",
    ),
}
"""Wordings by the kind of query."""


def worded(query: Query, rng: random.Random) -> str:
    """Return a question that `query` answers, if it is one that `Maker` draws."""
    other = query.minus or query.both
    aggregates = [item for item in query.select if item.aggregate]
    counts = aggregates[:1] == [Item(None, "COUNT")]
    kinds = {
        "minus": query.minus,
        "both": query.both,
        "more than": query.more_than is not None,
        "for each": query.group and aggregates,
        "most": query.group and query.order,
        "count": counts,
        "aggregate": aggregates,
        "list": True,
    }
    what = "number" if counts else " and the ".join(_in_words(item, query, rng) for item in aggregates)
    return rng.choice(FRAMES[next(kind for kind, holds in kinds.items() if holds)]).format(
        names=" and ".join(_in_words(item, query) for item in query.select if not item.aggregate),
        rows=rows_in_words(query),
        other=rows_in_words(other) if other else "",
        n=query.more_than,
        what=what,
        end="most" if query.descending else "fewest",
        ending=_ending(query, rng),
    )


def _in_words(item: Item, query: Query, rng: random.Random | None = None) -> str:
    table, column = item.column or ("", "rows")
    name = f"{column} of the {query.parent.row}" if query.joined and table == query.parent.table else column
    if not item.aggregate:
        return name
    return f"{rng.choice(WORDS[item.aggregate]) if rng else WORDS[item.aggregate][0]} {name}"


def _ending(query: Query, rng: random.Random) -> str:
    if not query.order:
        return ""
    by = "the number" if query.order.aggregate == "COUNT" else _in_words(query.order, query)
    if query.limit == 1:
        return f" with the {'highest' if query.descending else 'lowest'} {by}"
    if query.limit:
        return f" for the {query.limit} with the {'highest' if query.descending else 'lowest'} {by}"
    end = rng.choice(("highest", "largest")) if query.descending else rng.choice(("lowest", "smallest"))
    return f", sorted by {by}, {end} first"


def constant(value: int | str) -> str:
    """Return `value` as SQL: a number as it is, a text in quotes."""
    text = str(value)
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    return text if re.fullmatch(r"-?\d+(\.\d+)?", text) else "'{}'".format(text.replace("'", "''"))


# --- drawing ----------------------------------------------------------------------------------------------------------


class Maker:
    """Draws queries about one of `pairs`, a table and the table that its rows belong to, with made-up rows."""

    def __init__(self, rng: random.Random, pairs: Sequence[tuple[Theme, Theme]]) -> None:
        self.rng = rng
        self.child, self.parent = rng.choice(pairs)
        self.data = self._rows()

    def _rows(self) -> Data:
        rng = self.rng
        data: dict[str, list[Record]] = {}
        for theme, n in ((self.parent, 6), (self.child, rng.randint(13, 15))):
            names = rng.sample([name + more for name in theme.names.split() for more in ("", " II")], n)
            numbers = {column: rng.sample(range(*values), n) for column, values in theme.numbers.items()}
            kinds = theme.kinds.split()
            rows: list[Record] = []
            for i, name in enumerate(names):
                row: dict[str, Any] = {
                    theme.key: i + 1,
                    theme.name: name,
                    theme.group: kinds[i] if i < len(kinds) else rng.choice(kinds),
                }
                if theme is self.child:
                    row[self.parent.key] = rng.randint(1, 5)
                row |= {column: values[i] for column, values in numbers.items()}
                rows.append({(theme.table, column): value for column, value in row.items()})
            data[theme.table] = rows
        return data

    def statements(self) -> tuple[str, str]:
        """Return the CREATE TABLE lines and the INSERT lines."""
        creates, inserts = [], []
        for theme in (self.parent, self.child):
            link = f" {self.parent.key} INTEGER REFERENCES {self.parent.table}({self.parent.key}),"
            columns = ", ".join(f"{column} INTEGER" for column in theme.numbers)
            creates.append(
                f"CREATE TABLE {theme.table} ({theme.key} INTEGER PRIMARY KEY, {theme.name} TEXT, {theme.group} TEXT,"
                f"{link if theme is self.child else ''} {columns});"
            )
            rows = ", ".join(f"({', '.join(map(constant, row.values()))})" for row in self.data[theme.table])
            inserts.append(f"INSERT INTO {theme.table} VALUES {rows};")  # noqa: S608
        return "\n".join(creates), "\n".join(inserts)

    def theme(self, table: str) -> Theme:
        """Return the theme of `table`."""
        return self.child if table == self.child.table else self.parent

    def number(self, table: str) -> Column:
        """Return a column of numbers."""
        return table, self.rng.choice(list(self.theme(table).numbers))

    def condition(self, table: str, *, but: tuple[Column, ...] = ()) -> Condition:
        """Return a condition on `table` that holds for some of its rows, not on the columns `but`."""
        theme, rng = self.theme(table), self.rng
        columns = [(table, column) for column in (theme.group, *theme.numbers) if (table, column) not in but]
        column = rng.choice(columns)
        cells = sorted(row[column] for row in self.data[table])
        name = column[1]
        if name == theme.group:
            value = rng.choice(cells)
            if rng.random() < 0.2:
                return Condition(column, "<>", value, f"with {name} other than {value}")
            return Condition(column, "=", value, rng.choice((f"with {name} {value}", f"whose {name} is {value}")))
        low, high = sorted(rng.sample(cells[1:-1], 2))
        sign = rng.choice(("<", ">", "<", ">", "BETWEEN"))
        if sign == "BETWEEN":
            return Condition(column, sign, (low, high), f"with {name} from {low} to {high}")
        words = {"<": ("below", "under", "less than"), ">": ("above", "over", "more than")}[sign]
        return Condition(column, sign, low, f"with {name} {rng.choice(words)} {low}")

    def columns(self, table: str, n: int) -> tuple[Item, ...]:
        """Return `n` columns to select, usually with the name first."""
        theme = self.theme(table)
        rest = [theme.group, *theme.numbers]
        self.rng.shuffle(rest)
        chosen = [theme.name, *rest] if self.rng.random() < 0.7 else rest
        return tuple(Item((table, column)) for column in chosen[:n])

    def aggregate(self, table: str) -> Item:
        """Return a count or an aggregate of a column of numbers."""
        kind = self.rng.choice(("COUNT", "AVG", "SUM", "MAX", "MIN"))
        return Item(None, kind) if kind == "COUNT" else Item(self.number(table), kind)

    def plain(self, table: str = "") -> Query:
        """Return a query of one clause, on one table."""
        table = table or self.rng.choice((self.child.table, self.child.table, self.parent.table))
        select = (self.aggregate(table),) if self.rng.random() < 0.4 else self.columns(table, 1)
        query = Query(self.child, self.parent, table, select)
        if not select[0].aggregate and self.rng.random() < 0.2:
            return query._replace(order=Item(self.number(table)), descending=self.rng.random() < 0.5)
        return query._replace(where=(self.condition(table, but=(select[0].column or ("", ""),)),))

    def fuller(self) -> Query:
        """Return a query of two or three clauses, on one table."""
        rng = self.rng
        table = rng.choice((self.child.table, self.child.table, self.parent.table))
        one = self.condition(table)
        query = Query(self.child, self.parent, table, self.columns(table, rng.randint(1, 2)), where=(one,))
        match rng.randrange(5):
            case 0:
                return query._replace(where=(one, self.condition(table, but=(one.column,))))
            case 1:
                return query._replace(order=Item(self.number(table)), descending=rng.random() < 0.5)
            case 2:
                limited = query._replace(order=Item(self.number(table)), descending=rng.random() < 0.5)
                return limited._replace(limit=rng.choice((1, 1, 2, 3)))
            case 3:
                group = (table, self.theme(table).group)
                cut = self.condition(table, but=(group,))
                return query._replace(select=(Item(group), self.aggregate(table)), where=(cut,), group=group)
        first, second = self.rng.sample(("MAX", "MIN", "AVG", "SUM"), 2)
        number = self.number(table)
        return query._replace(select=(Item(number, first), Item(number, second)))

    def nested(self) -> Query:  # noqa: PLR0911 - a return a kind
        """Return a query with a join, a nested query, a set operation or a minimum group size."""
        rng, child, parent = self.rng, self.child, self.parent
        mine, theirs = self.condition(child.table), self.condition(parent.table)
        query = Query(child, parent, child.table, self.columns(child.table, 2), where=(mine, theirs), joined=True)
        owner, key = (parent.table, parent.name), (parent.table, parent.key)
        match rng.randrange(8):
            case 0:
                return query
            case 1:
                return query._replace(select=(self.aggregate(child.table),))
            case 2:
                ordered = query._replace(
                    where=(theirs,), order=Item(self.number(child.table)), descending=rng.random() < 0.5
                )
                return ordered._replace(limit=rng.choice((1, 3)))
            case 3:
                return query._replace(select=(Item(owner), self.aggregate(child.table)), where=(mine,), group=owner)
            case 4:
                grouped = query._replace(select=(Item(owner),), where=(mine,), group=owner)
                if rng.random() < 0.5:
                    return grouped._replace(more_than=rng.randint(1, 2))
                return grouped._replace(order=Item(None, "COUNT"), descending=rng.random() < 0.7, limit=1)
            case 5:
                number = self.number(child.table)
                mean = Query(
                    child, parent, child.table, (Item(number, "AVG"),), where=(mine,) if rng.random() < 0.5 else ()
                )
                words = f"with {number[1]} {{}} the average {number[1]} of {rows_in_words(mean)}"
                sign, word = rng.choice(((">", "above"), ("<", "below")))
                return query._replace(where=(Condition(number, sign, mean, words.format(word)),), joined=False)
            case 6:
                inner = Query(child, parent, child.table, (Item((child.table, parent.key)),), where=(mine,))
                sign, word = rng.choice((("IN", "that have"), ("NOT IN", "without")))
                lacking = Condition(key, sign, inner, f"{word} {rows_in_words(inner)}")
                return query._replace(
                    table=parent.table, select=self.columns(parent.table, 1), where=(lacking,), joined=False
                )
        group = Item((child.table, child.group))
        one = Query(
            child, parent, child.table, (group,), where=(self.condition(child.table, but=(group.column or ("", ""),)),)
        )
        other = one._replace(where=(theirs,), joined=True)
        return one._replace(minus=other) if rng.random() < 0.5 else one._replace(both=other)


def draw(make: Callable[[], Query | None], data: Data) -> tuple[Query, list[list[Any]]]:
    """Draw until a query has an answer: rows that do not depend on ties."""
    while True:
        query = make()
        rows = evaluate(query, data) if query else None
        if query and rows and rows != [[0]]:
            return query, rows
