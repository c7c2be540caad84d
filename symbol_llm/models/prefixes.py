"""Prompts that begin alike, grouped so that what they share is read once (what vLLM calls automatic prefix caching).

Repairs of one problem share the problem, prompts of one task its worked examples, replies that are scored their prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

SHORTEST = 16
"""Tokens; to share fewer is not worth a group."""
KEPT = 0.8
"""Part of what a group shares that must be left when one more row joins it."""


class Group(NamedTuple):
    """Rows that share their first tokens."""

    head: int
    """Number of tokens shared."""
    rows: list[int]


def batches(ids: Sequence[list[int]], most: Sequence[int], size: int) -> Iterator[list[Group]]:
    """Split the rows `ids` into batches of at most `size` rows in groups, rows of like length together.

    Row i shares at most its first `most[i]` tokens. A row that is like no other is a group of its own.
    """
    groups = sorted(_groups(ids, most, size), key=lambda g: (max(len(ids[i]) for i in g.rows), g))
    batch: list[Group] = []
    for group in groups:
        if batch and sum(len(g.rows) for g in batch) + len(group.rows) > size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _groups(ids: Sequence[list[int]], most: Sequence[int], size: int) -> Iterator[Group]:
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    head, rows = 0, list[int]()
    for i in order:
        shared = min(most[i], _shared(ids[rows[0]][:head], ids[i])) if rows else 0
        if rows and len(rows) < size and shared >= max(SHORTEST, KEPT * head if len(rows) > 1 else 0):
            head = shared
            rows.append(i)
        else:
            if rows:
                yield Group(head, rows)
            head, rows = most[i], [i]
    if rows:
        yield Group(head, rows)


def _shared(left: Iterable[int], right: Iterable[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
