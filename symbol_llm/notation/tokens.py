"""Shared by parsers of query languages: tokens, the place of a fault, a bound on depth. It knows no grammar."""

from __future__ import annotations

import re
from typing import NamedTuple

from symbol_llm.ground.errors import Unparsable


class Token(NamedTuple):
    """A token: the name of the group that matched, its text, its place."""

    kind: str
    text: str
    at: int


class TokenParser:
    """The state of a recursive descent with bounded depth."""

    def __init__(self, program: str, pattern: re.Pattern[str], max_depth: int) -> None:
        """Read the tokens of `program` by `pattern`, except `space`; Unparsable at the first `other`."""
        self._program, self._max_depth = program, max_depth
        self._tokens: list[Token] = []
        for match in pattern.finditer(program):
            if match.lastgroup == "other":
                raise self._fault(match.start(), f"unexpected {match[0]!r}")
            if match.lastgroup != "space":
                self._tokens.append(Token(str(match.lastgroup), match[0], match.start()))
        self._tokens.append(Token("end", "", len(program)))
        self._at = self._depth = 0

    def _kind(self) -> str:
        return self._tokens[self._at].kind

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1].text

    def _expected(self, what: str) -> Unparsable:
        token = self._tokens[self._at]
        return self._fault(token.at, f"expected {what}, got {token.text[:40] or 'the end'!r}")

    def _fault(self, at: int, problem: str) -> Unparsable:
        line, column = self._program.count("\n", 0, at) + 1, at - self._program.rfind("\n", 0, at)
        return Unparsable(f"line {line}, column {column}: {problem}")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > self._max_depth:
            raise self._expected(f"at most {self._max_depth} levels")
