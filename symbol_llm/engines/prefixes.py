"""Prompts that begin alike, grouped so that what they share is read once (what vLLM calls automatic prefix caching).

Repairs of one problem share the problem, prompts of one task its worked examples, replies that are scored their prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

SHORTEST = 16
"""Tokens; to share fewer is not worth a group."""
KEPT = 0.8
"""Part of what a group shares that must be left when one more row joins it."""
HELD = 2**16
"""Places in the cache of a batch: 1.5 GB for a model of 30 layers with 3 key heads of 64, in bf16."""


class Group(NamedTuple):
    """Rows that share their first tokens."""

    head: int
    """Number of tokens shared."""
    rows: list[int]


def batches(
    ids: Sequence[list[int]], most: Sequence[int], size: int, *, held: int = HELD, more: int = 0
) -> Iterator[list[Group]]:
    """Split the rows `ids` into batches of groups, rows of like length together.

    A batch has at most `size` rows, and fewer if, with `more` tokens to come each, they would fill over `held` places.
    Row i shares at most its first `most[i]` tokens. A row that is like no other is a group of its own.
    """

    def fits(rows: Sequence[int], width: int) -> bool:
        return len(rows) <= size and len(rows) * (width + more) <= held

    groups = sorted(_groups(ids, most, fits), key=lambda g: (max(len(ids[i]) for i in g.rows), g))
    batch: list[Group] = []
    for group in groups:
        grown = [*batch, group]
        if batch and not fits([i for g in grown for i in g.rows], _width(ids, grown)):
            yield batch
            grown = [group]
        batch = grown
    if batch:
        yield batch


def _width(ids: Sequence[list[int]], groups: Iterable[Group]) -> int:
    """Return the places a row of these groups takes: heads and tails are padded each to their longest."""
    heads, tails = zip(*((g.head, len(ids[i]) - g.head) for g in groups for i in g.rows), strict=True)
    return int(max(heads) + max(tails))


def _groups(
    ids: Sequence[list[int]], most: Sequence[int], fits: Callable[[Sequence[int], int], bool]
) -> Iterator[Group]:
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    head, rows = 0, list[int]()
    for i in order:
        shared = min(most[i], _shared(ids[rows[0]][:head], ids[i])) if rows else 0
        enough = rows and shared >= max(SHORTEST, KEPT * head if len(rows) > 1 else 0)
        if enough and fits([*rows, i], _width(ids, [Group(shared, [*rows, i])])):
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
