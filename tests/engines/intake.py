"""An intake whose requests come as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from symbol_llm.engines import Request
from symbol_llm.ground.errors import InvalidInput


class Script:
    """An intake: at each look, whatever is next; `unwanted` are given up, `watched` told as they are written."""

    def __init__(self, *looks: Sequence[Request], watched: Sequence[int] = ()) -> None:
        self.looks: Iterator[Sequence[Request]] = iter(looks)
        self.unwanted: set[tuple[int, int]] = set()
        self.watched = watched
        self.refused: dict[int, InvalidInput] = {}

    def take(self) -> Sequence[Request]:
        return next(self.looks, [])

    def ring(self, bell: Callable[[], None]) -> None:
        self.bell = bell

    def wants(self, request: int, place: int) -> bool:
        return (request, place) not in self.unwanted and request not in self.refused

    def watches(self, request: int) -> bool:
        return request in self.watched

    def refuse(self, request: int, error: InvalidInput) -> None:
        self.refused[request] = error
