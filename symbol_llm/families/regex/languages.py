r"""Languages of regular expressions, as automata by Brzozowski derivatives: their equality and their minimal automaton.

Places (`\b`, `^`, `$` ...) are decided by the characters on either side of them (Moseley et al. 2023). The cost of both
may explode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from symbol_llm.families.regex.parser import ALL, NEWLINE, WORD, Tree

_START, _AFTER_LINE, _AFTER_WORD, _AFTER_OTHER = range(4)
_END = -1


class Languages:
    """Expressions by number, equal ones with the same number, and their derivatives (Brzozowski 1964).

    A state is an expression and the character before it: none (the start), a newline, a word character, or another.
    """

    def __init__(self) -> None:
        self._nodes: list[Tree] = []
        self._numbers: dict[Tree, int] = {}
        self._has_place: list[bool] = []
        self._derivatives: dict[tuple[int, int, int], int] = {}
        self.none, self.empty = self._node("or"), self._node("sequence")
        self.all = self._node("not", self.none)

    def of(self, tree: Tree) -> int:
        """Return the number of the language of `tree`."""
        match tree:
            case ["set" | "place", *_]:
                return self._node(*tree) if tree[1] else self.none
            case ["repeat", part, low, high]:
                return self._repeat(self.of(part), low, high)
            case ["not", part]:
                return self._complement(self.of(part))
            case [kind, *parts]:
                numbers = [self.of(part) for part in parts]
                return self.sequence(numbers) if kind == "sequence" else self._combine(kind, numbers)
        raise AssertionError(tree)

    def _node(self, *node: Any) -> int:
        number = self._numbers.setdefault(node, len(self._nodes))
        if number == len(self._nodes):
            self._nodes.append(node)
            inner = node[1:2] if node[0] in ("repeat", "not") else () if node[0] == "set" else node[1:]
            self._has_place.append(node[0] == "place" or any(self._has_place[part] for part in inner))
        return number

    def sequence(self, parts: Iterable[int]) -> int:
        """Return the concatenation of `parts`."""
        flat: list[int] = []
        for part in parts:
            if part == self.none:
                return self.none
            flat += self._nodes[part][1:] if self._nodes[part][0] == "sequence" else [part]
        return flat[0] if len(flat) == 1 else self._node("sequence", *flat)

    def _combine(self, kind: str, parts: Iterable[int]) -> int:
        """Return the union or the intersection of `parts`: flat, sorted, without duplicates."""
        neutral, absorbing = (self.none, self.all) if kind == "or" else (self.all, self.none)
        flat: set[int] = set()
        mask: int | None = None
        for part in parts:
            for inner in self._nodes[part][1:] if self._nodes[part][0] == kind and part != self.none else [part]:
                if inner == absorbing:
                    return absorbing
                if self._nodes[inner][0] == "set":
                    other = self._nodes[inner][1]
                    mask = other if mask is None else mask | other if kind == "or" else mask & other
                elif inner != neutral:
                    flat.add(inner)
        if mask is not None:
            if mask == 0:
                return self.none
            flat.add(self._node("set", mask))
        if not flat:
            return neutral
        return flat.pop() if len(flat) == 1 else self._node(kind, *sorted(flat))

    def _complement(self, part: int) -> int:
        node = self._nodes[part]
        return int(node[1]) if node[0] == "not" else self._node("not", part)

    def _repeat(self, part: int, low: int, high: int | None) -> int:
        if high == 0 or part == self.empty:
            return self.empty
        if part == self.none:
            return self.empty if low == 0 else self.none
        if (low, high) == (1, 1):
            return part
        if self._nodes[part] == ("set", ALL) and (low, high) == (0, None):
            return self.all
        if self._nodes[part] == ("repeat", self._nodes[part][1], 0, None) and high is None:
            return part
        return self._node("repeat", part, low, high)

    def _matches_empty(self, number: int, before: int, after: int) -> bool:
        """Return whether the empty text is matched between `before` and `after` (_END or as for `before`)."""
        node = self._nodes[number]
        match node[0]:
            case "set":
                return False
            case "place":
                return _holds(node[1], node[2], before, after)
            case "not":
                return not self._matches_empty(node[1], before, after)
            case "repeat":
                return node[2] == 0 or self._matches_empty(node[1], before, after)
        return (any if node[0] == "or" else all)(self._matches_empty(part, before, after) for part in node[1:])

    def _derive(self, number: int, code: int, before: int) -> int:
        """Return what is left to match after reading the character `code` at a place after `before`."""
        key = (number, code, before if self._has_place[number] else 0)
        if key not in self._derivatives:
            self._derivatives[key] = self._new_derivative(self._nodes[number], code, before)
        return self._derivatives[key]

    def _new_derivative(self, node: Tree, code: int, before: int) -> int:
        match node[0]:
            case "set":
                return self.empty if node[1] >> code & 1 else self.none
            case "place":
                return self.none
            case "not":
                return self._complement(self._derive(node[1], code, before))
            case "repeat":
                part, low, high = node[1:]
                # Empty iterations may precede this one, so no more need to follow.
                least = 0 if self._matches_empty(part, before, _side(code)) else max(low - 1, 0)
                rest = self._repeat(part, least, None if high is None else high - 1)
                return self.sequence([self._derive(part, code, before), rest])
            case "sequence":
                choices = []
                for n, part in enumerate(node[1:], 1):
                    choices.append(self.sequence([self._derive(part, code, before), *node[n + 1 :]]))
                    if not self._matches_empty(part, before, _side(code)):
                        break
                return self._combine("or", choices)
        return self._combine(node[0], (self._derive(part, code, before) for part in node[1:]))

    def _state(self, number: int, before: int) -> tuple[int, int]:
        return number, before if self._has_place[number] else 0

    def same(self, one: int, two: int, max_pairs: int | None = None) -> bool | None:
        """Return whether two languages are equal, by Hopcroft and Karp; None if undecided after `max_pairs`."""
        leader: dict[tuple[int, int], tuple[int, int]] = {}

        def find(state: tuple[int, int]) -> tuple[int, int]:
            while (above := leader.get(state, state)) != state:
                leader[state] = leader.get(above, above)
                state = above
            return state

        codes = self._codes()
        queue = deque([(one, two, _START)])
        n_pairs = 0
        while queue:
            one, two, before = queue.popleft()
            left, right = find(self._state(one, before)), find(self._state(two, before))
            if left == right:
                continue
            if self._matches_empty(one, before, _END) != self._matches_empty(two, before, _END):
                return False
            n_pairs += 1
            if max_pairs is not None and n_pairs > max_pairs:
                return None
            leader[left] = right
            for code in codes:
                queue.append((self._derive(one, code, before), self._derive(two, code, before), _side(code)))
        return True

    def minimal(self, number: int) -> list[tuple[bool, list[int]]]:
        """Return the minimal automaton: by state, the first first, whether it accepts and its transitions."""
        codes = self._codes()
        start = self._state(number, _START)
        moves: dict[tuple[int, int], list[tuple[int, int]]] = {}
        queue = deque([start])
        while queue:
            state = queue.popleft()
            if state not in moves:
                moves[state] = [self._state(self._derive(state[0], c, state[1]), _side(c)) for c in codes]
                queue += moves[state]
        block: dict[tuple[int, int], Any] = {s: self._matches_empty(s[0], s[1], _END) for s in moves}
        n_blocks = 0
        while len(set(block.values())) > n_blocks:  # Moore's refinement
            n_blocks = len(set(block.values()))
            signatures = {s: (block[s], *(block[after] for after in moves[s])) for s in moves}
            names: dict[Any, int] = {}
            block = {s: names.setdefault(signature, len(names)) for s, signature in signatures.items()}
        return self._number_blocks(start, moves, block)

    def _number_blocks(
        self, start: tuple[int, int], moves: dict[tuple[int, int], list[tuple[int, int]]], block: dict[Any, Any]
    ) -> list[tuple[bool, list[int]]]:
        """Number blocks in the order in which a walk along the characters reaches them, equal for equal languages."""
        codes, column = self._codes(), self._columns()
        place = {block[start]: 0}
        order, table = [start], []
        for state in order:
            ahead = []
            for code in range(128):
                target = moves[state][codes.index(column[code])]
                if block[target] not in place:
                    place[block[target]] = len(order)
                    order.append(target)
                ahead.append(place[block[target]])
            table.append((self._matches_empty(state[0], state[1], _END), ahead))
        return table

    def _columns(self) -> list[int]:
        """Return for each character the first one that no set distinguishes from it."""
        masks = sorted({node[1] for node in self._nodes if node[0] == "set"} | {WORD, NEWLINE})
        first: dict[tuple[int, ...], int] = {}
        return [first.setdefault(tuple(mask >> code & 1 for mask in masks), code) for code in range(128)]

    def _codes(self) -> list[int]:
        return sorted(set(self._columns()))


def _side(code: int) -> int:
    return _AFTER_LINE if code == 10 else _AFTER_WORD if WORD >> code & 1 else _AFTER_OTHER


def _holds(letter: str, lines: bool, before: int, after: int) -> bool:
    """Return whether the place `letter` matches between `before` and `after`."""
    match letter:
        case "^" | "A":
            return before == _START or (lines and before == _AFTER_LINE)
        case "$" | "Z":
            return after == _END or (lines and after == _AFTER_LINE)
    return ((before == _AFTER_WORD) != (after == _AFTER_WORD)) == (letter == "b")
