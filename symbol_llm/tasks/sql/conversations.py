"""Conversations about two tables: a query changed turn by turn, with the words that ask for each change.

The tables and queries are those of `queries.py`; the replies between questions are not drawn here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from symbol_llm.tasks.sql.queries import WORDS, Condition, Item, Maker, Query, Theme, draw, evaluate, worded

Change = tuple[Query, str]
"""The changed query, and the words that ask for the change."""


class Talk(NamedTuple):
    """Tables, and questions about them."""

    maker: Maker
    turns: list[tuple[str, Query, list[list[Any]]]]
    """Triples of a question, its query and its rows."""


def talk(rng: random.Random, pairs: Sequence[tuple[Theme, Theme]], level: int) -> Talk:
    """Return `level` + 1 questions about one of `pairs`; at level 1 about one table."""
    maker = Maker(rng, pairs)
    query, rows = draw(maker.plain, maker.data)
    turns = [(worded(query, rng), query, rows)]
    for _ in range(40):
        if len(turns) > level:
            return Talk(maker, turns)
        change = rng.choice(CHANGES[: -2 if level == 1 else None])(turns[-1][1], maker)
        found = evaluate(change[0], maker.data) if change else None
        if change and found and found not in ([[0]], turns[-1][2]):
            turns.append((change[1], change[0], found))
    return talk(rng, pairs, level)


def _narrow(query: Query, maker: Maker) -> Change | None:
    if len(query.where) > 2 or query.limit:
        return None
    condition = maker.condition(query.table, but=tuple(condition.column for condition in query.where))
    text = maker.rng.choice(("Only those {}.", "Keep just the ones {}.", "Of these, take only the ones {}.", "And {}?"))
    return query._replace(where=(*query.where, condition)), text.format(condition.words)


def _widen(query: Query, maker: Maker) -> Change | None:
    if query.table != maker.child.table or query.joined or query.group or query.limit:
        return None
    condition, parent = maker.condition(maker.parent.table), maker.parent
    text = maker.rng.choice(("Only those of {} {}.", "Leave out all that are not of {} {}.", "And just for {} {}?"))
    return query._replace(where=(*query.where, condition), joined=True), text.format(parent.table, condition.words)


def _reselect(query: Query, maker: Maker) -> Change | None:
    select = maker.columns(query.table, maker.rng.choice((1, 2)))
    if query.group or query.select[0].aggregate or select == query.select:
        return None
    names = " and ".join(item.column[1] for item in select if item.column)
    text = maker.rng.choice(("Show their {} instead.", "What is the {} of each?", "Give me the {} of these."))
    return query._replace(select=select), text.format(names)


def _count(query: Query, maker: Maker) -> Change | None:
    if query.group or query.select[0].aggregate or query.limit:
        return None
    text = maker.rng.choice(("How many are there?", "How many are these?", "Just count them."))
    return query._replace(select=(Item(None, "COUNT"),), order=None), text


def _summarise(query: Query, maker: Maker) -> Change | None:
    if query.group or query.select[0].aggregate or query.limit:
        return None
    number, kind = maker.number(query.table), maker.rng.choice(list(WORDS))
    text = maker.rng.choice(("What is their {} {}?", "Tell me the {} {} of these."))
    words = (maker.rng.choice(WORDS[kind]), number[1])
    return query._replace(select=(Item(number, kind),), order=None), text.format(*words)


def _sort(query: Query, maker: Maker) -> Change | None:
    if query.group or query.order or query.select[0].aggregate:
        return None
    number, down = maker.number(query.table), maker.rng.random() < 0.5
    text = maker.rng.choice(("Sort them by {}, {} first.", "Order these by {}, the {} first.")).format(
        number[1], "highest" if down else "lowest"
    )
    return query._replace(order=Item(number), descending=down), text


def _cut(query: Query, maker: Maker) -> Change | None:
    if not query.order or query.limit:
        return None
    n = maker.rng.randint(1, 4)
    return query._replace(limit=n), maker.rng.choice(("Only the first {}.", "Just the top {} of that list.")).format(n)


def _split(query: Query, maker: Maker) -> Change | None:
    group = (query.table, maker.theme(query.table).group)
    if query.group or not query.select[0].aggregate or any(condition.column == group for condition in query.where):
        return None
    text = maker.rng.choice(("Give that for each {}.", "And per {}?", "Split this by {}.")).format(group[1])
    return query._replace(select=(Item(group), query.select[0]), group=group), text


def _swap(query: Query, maker: Maker) -> Change | None:
    last = query.where[-1] if query.where else None
    if not last or last.sign != "=":
        return None
    values = sorted({row[last.column] for row in maker.data[last.column[0]]} - {last.value})
    value = maker.rng.choice(values)
    condition = Condition(last.column, "=", value, f"with {last.column[1]} {value}")
    return query._replace(where=(*query.where[:-1], condition)), maker.rng.choice(
        (f"What about {value}?", f"And the same for {value}?", f"Now for {value} instead.")
    )


CHANGES = (_narrow, _narrow, _reselect, _count, _summarise, _sort, _cut, _split, _swap, _widen, _widen)
