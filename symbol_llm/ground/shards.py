"""Work divided among tasks that share nothing: shard i of n takes every n-th part, beginning with the i-th."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from symbol_llm.ground.errors import InvalidInput

T = TypeVar("T")


class Shard(NamedTuple):
    """One of `n` shards, counted from 1."""

    number: int = 1
    n: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return what `text`, such as "2/4", names; InvalidInput if it names none."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise InvalidInput(f"shard {text!r}: expected NUMBER/COUNT with 1 <= NUMBER <= COUNT, such as 2/4")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.n}"

    def of(self, parts: Sequence[T]) -> Sequence[T]:
        """Return its share of `parts`, whose order all shards agree on; it differs by one part at most from the others'."""
        return parts[self.number - 1 :: self.n]

    def label(self, name: str) -> str:
        """Return `name` with the shard, if it is not the whole."""
        return name if self.n == 1 else f"{name} {self}"


WHOLE = Shard()
