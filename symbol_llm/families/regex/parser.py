"""Regular expressions over ASCII in two dialects, Python's and NL-RX: tokens, and trees of the regular ones.

`families/regex/__init__.py` describes the dialects and what is refused. What expressions match is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from symbol_llm.ground.errors import LimitExceeded, Unparsable

MAX_CHARS = 2000
MAX_READ = 10_000
"""Most characters of a text that is read at all, to report what is wrong with it."""
MAX_DEPTH = 50
MAX_REPEAT = 1000

Tree = tuple[Any, ...]
"""("set", bits), ("place", letter, whether lines count), ("not", tree), ("repeat", tree, least, most or None),

("sequence" | "or" | "and", tree, ...).
"""


def parse(program: str, dialect: str) -> Tree:
    """Return the tree of `program`; raises Unparsable with the column."""
    return _Parser(program, dialect).parse()


class Token(NamedTuple):
    """A token and its normal spelling."""

    kind: str
    """set, dot, place, repeat, open, close, bar, operator (`&` or `~`), flags."""
    text: str
    at: int
    normal: str
    value: Any = None
    """Of a set, its characters as bits; of a repeat, least and most; of a place, its letter; of a group, its flags."""


def _mask(characters: Iterable[str]) -> int:
    return sum(1 << n for n in {ord(c) for c in characters})


ALL = (1 << 128) - 1
_LETTERS, _CAPITALS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
WORD, NEWLINE, _SPACE = _mask(_LETTERS + _CAPITALS + _DIGITS + "_"), _mask("\n"), _mask(" \t\n\r\f\v")
_SETS = {"d": _mask(_DIGITS), "w": WORD, "s": _SPACE}
_SETS |= {name.upper(): ALL & ~mask for name, mask in _SETS.items()}
_NAMED = {"<VOW>": _mask("AEIOUaeiou"), "<NUM>": _SETS["d"], "<LET>": _mask(_LETTERS + _CAPITALS)}
_NAMED |= {"<CAP>": _mask(_CAPITALS), "<LOW>": _mask(_LETTERS)}
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_REPEAT = re.compile(r"\{(?:(\d+)|(\d*),(\d*))\}")
_GROUP = re.compile(r"\(\?(?:P<[A-Za-z_]\w*>|([aimsxLu]*)(?:-([imsx]+))?([:)]))")
_NOT_REGULAR = re.compile(r"\(\?(?:=|!|<=|<!|P=|\()|\\[1-9]")
_POSIX = re.compile(r"\[:\^?[a-z]+:\]")
_TEXT = re.compile(r"[A-Za-z0-9 ]")


def tokenize(program: str, dialect: str) -> list[Token]:
    """Return the tokens; raises Unparsable with the column, also for punctuation alone."""
    tokens = read_tokens(program, dialect)
    if not tokens or not program.strip():  # nothing, or comments alone
        raise Unparsable("no regular expression")
    if is_punctuation(tokens):
        raise Unparsable(f"column 1: {program[:40]!r} is punctuation alone; expected a regular expression")
    return tokens


def read_tokens(program: str, dialect: str) -> list[Token]:
    """Return the tokens without comments, whatever they are; LimitExceeded if there are too many characters."""
    if len(program) > MAX_READ:
        raise LimitExceeded(f"the expression has {len(program)} characters; at most {MAX_CHARS} are compared")
    tokens, at = [], 0
    while at < len(program):
        token = _token(program, at, dialect)
        if token.text[:3] != "(?#":
            tokens.append(token)
        at += len(token.text)
    return tokens


def is_punctuation(tokens: list[Token]) -> bool:
    """Return whether `tokens` are signs alone, neither grouped nor escaped, and not only dots."""
    kinds = {token.kind for token in tokens}
    bare = all(len(token.text) == 1 and not _TEXT.match(token.text) for token in tokens)
    return bare and kinds <= {"set", "dot", "operator"} and kinds not in (set(), {"dot"})


def _token(program: str, at: int, dialect: str) -> Token:  # noqa: PLR0911 - one return a kind of token
    c = program[at]
    if match := _NOT_REGULAR.match(program, at):
        raise _error(at, f"{match[0]!r} is not regular; backreferences, lookaround and conditions are refused")
    if named := _NAMED.get(program[at : at + 5]):
        if dialect == "nl-rx":
            return Token("set", program[at : at + 5], at, program[at : at + 5], named)
        return Token("set", c, at, c, _mask(c))
    match c:
        case "(":
            return _group(program, at)
        case ")" | "|":
            return Token("close" if c == ")" else "bar", c, at, c)
        case "." | "&" | "~":
            return Token("dot" if c == "." else "operator", c, at, c)
        case "^" | "$":
            return Token("place", c, at, c, c)
        case "*" | "+" | "?" | "{":
            return _repeat(program, at)
        case "[":
            mask, end = _read_class(program, at)
            # Under (?i) excluding `a` excludes `A`, so a negated class has to remain visible as such.
            kept = program[at + 1] == "^" and printed_class(mask)[0] == "["
            normal = f"[^{_ranges(ALL & ~mask)}]" if kept else printed_class(mask)
            return Token("set", program[at:end], at, normal, mask)
        case "\\":
            if program[at + 1 : at + 2] in ("b", "B", "A", "Z") and at + 1 < len(program):
                return Token("place", program[at : at + 2], at, program[at : at + 2], program[at + 1])
            mask, end = _escape(program, at)
            return Token("set", program[at:end], at, printed_class(mask), mask)
    if not (" " <= c <= "~" or c in "\t\n"):
        raise _error(at, f"character {c!r}; only ASCII is supported, and a control character must be escaped")
    return Token("set", c, at, printed_class(_mask(c)), _mask(c))


def _error(at: int, problem: str) -> Unparsable:
    return Unparsable(f"column {at + 1}: {problem}")


def _repeat(program: str, at: int) -> Token:
    if program[at] != "{":
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[program[at]]
        return Token("repeat", program[at], at, program[at], (low, high))
    match = _REPEAT.match(program, at)
    if match is None:
        raise _error(at, r"expected {m}, {m,}, {,n} or {m,n}; a literal brace is written \{")
    least = match[1] or match[2] or "0"
    most = match[1] or match[3]
    if max(len(least), len(most)) > 9 or max(int(least), int(most or 0)) > MAX_REPEAT:
        raise LimitExceeded(f"column {at + 1}: {match[0]!r} repeats more than {MAX_REPEAT} times")
    low, high = int(least), int(most) if most else None
    if high is not None and low > high:
        raise _error(at, f"{match[0]!r}: the least is more than the most")
    return Token("repeat", match[0], at, printed_repetition(low, high), (low, high))


def printed_repetition(low: int, high: int | None) -> str:
    """Return `*`, `+`, `?` or the counts in braces; `high` is None if unbounded."""
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return short.get((low, high)) or (f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}")


def _group(program: str, at: int) -> Token:
    if program[at + 1 : at + 2] != "?":
        return Token("open", "(", at, "(", ("", ""))
    if program.startswith("(?#", at):
        end = program.find(")", at)
        if end < 0:
            raise _error(at, "the comment has no end")
        return Token("flags", program[at : end + 1], at, "")
    match = _GROUP.match(program, at)
    if match is None:
        raise _error(at, f"unknown or unsupported group {program[at : at + 4]!r}")
    on, off, end_sign = match[1] or "", match[2] or "", match[3]
    if "x" in on or "L" in on:
        raise _error(at, f"flags {on!r}: verbose and locale mode are not supported")
    if end_sign == ")":
        if at or off or not on:
            raise _error(at, f"flags {match[0]!r} may only stand at the start, and only be set there")
        return Token("flags", match[0], at, match[0], (on, ""))
    flags = "".join(sorted(set(on) - set("aLu")))
    normal = f"(?{flags}{'-' + off if off else ''}:" if flags or off else "("
    return Token("open", match[0], at, normal, (on, off))


def _read_class(program: str, at: int) -> tuple[int, int]:
    """Return the characters of the class that starts at `at`, and its end."""
    start, mask = at, 0
    at += 1
    negated = program.startswith("^", at)
    at += negated
    first = at
    while at == first or not program.startswith("]", at):
        low, end = _class_item(program, at, start)
        at = end
        if program.startswith("-", at) and program[at + 1 : at + 2] not in ("", "]"):
            high, at = _class_item(program, at + 1, start)
            if low.bit_count() != 1 or high.bit_count() != 1 or low > high:
                raise _error(start, f"bad range {program[first:at][-12:]!r} in a class")
            low = (high << 1) - low
        mask |= low
    mask = ALL & ~mask if negated else mask
    return mask, at + 1


def _class_item(program: str, at: int, start: int) -> tuple[int, int]:
    if at >= len(program):
        raise _error(start, "the class has no end; expected ']'")
    if posix := _POSIX.match(program, at):
        raise _error(
            at,
            f"{posix[0]!r} is a class to POSIX and PCRE, but some characters to Python; write a range, or \\d, \\w, \\s",
        )
    if program[at] == "\\":
        return (_mask("\b"), at + 2) if program.startswith("\\b", at) else _escape(program, at)
    if not (" " <= program[at] <= "~" or program[at] in "\t\n"):
        raise _error(at, f"character {program[at]!r}; only ASCII is supported")
    return _mask(program[at]), at + 1


def _escape(program: str, at: int) -> tuple[int, int]:
    name = program[at + 1 : at + 2]
    if name in _SETS and name:
        return _SETS[name], at + 2
    if name in _CONTROL and name:
        return _mask(_CONTROL[name]), at + 2
    if number := re.compile(r"\\(?:x([0-9a-fA-F]{2})|(0[0-7]{0,2}))").match(program, at):
        code = int(number[1], 16) if number[1] else int(number[2], 8)
        if code > 127:
            raise _error(at, f"character {number[0]!r} is not ASCII")
        return 1 << code, number.end()
    if not name or name.isalnum() or not (" " <= name <= "~" or name in "\t\n"):
        raise _error(at, f"unknown escape {program[at : at + 2]!r}")
    return _mask(name), at + 2


def printed_class(mask: int) -> str:
    """Return one character as itself or escaped, a known class by its letter, else the ranges in brackets."""
    if name := next((n for n, known in _SETS.items() if known == mask), None):
        return f"\\{name}"
    if mask.bit_count() == 1:
        return _literal(mask.bit_length() - 1, r"\^$.|?*+()[]{}&~<")
    return f"[{_ranges(mask)}]" if mask else r"[^\x00-\x7f]"


def _ranges(mask: int) -> str:
    ranges, n = [], 0
    while n < 128:
        if mask >> n & 1:
            low = n
            while n < 127 and mask >> (n + 1) & 1:
                n += 1
            ends = [_literal(end, r"\^]-[") for end in (low, n)]
            ranges.append(ends[0] if low == n else f"{ends[0]}{'-' if n > low + 1 else ''}{ends[1]}")
        n += 1
    return "".join(ranges)


def _literal(code: int, special: str) -> str:
    c = chr(code)
    return f"\\{c}" if c in special else c if " " <= c <= "~" else f"\\x{code:02x}"


class _Parser:
    """Recursive descent over the tokens, with bounded depth."""

    def __init__(self, program: str, dialect: str) -> None:
        self._tokens = tokenize(program, dialect)
        self._end = len(program)
        self._nl_rx = dialect == "nl-rx"
        self._at = self._depth = 0

    def parse(self) -> Tree:
        flags = frozenset[str]()
        if self._kind() == "flags":
            flags = frozenset(self._tokens[0].value[0])
            self._at = 1
        tree = self._either(flags)
        if self._kind():
            raise self._unexpected("the end")
        if self._end > MAX_CHARS:
            raise LimitExceeded(f"the expression has {self._end} characters; at most {MAX_CHARS} are compared")
        return tree

    def _kind(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""

    def _text(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _unexpected(self, expected: str) -> Unparsable:
        at = self._tokens[self._at].at if self._kind() else self._end
        return _error(at, f"expected {expected}, got {self._text() or 'the end'!r}")

    def _either(self, flags: frozenset[str]) -> Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._unexpected(f"at most {MAX_DEPTH} levels")
        parts = [self._both(flags)]
        while self._kind() == "bar":
            self._at += 1
            parts.append(self._both(flags))
        self._depth -= 1
        return ("or", *parts)

    def _both(self, flags: frozenset[str]) -> Tree:
        parts = [self._sequence(flags)]
        while self._nl_rx and self._text() == "&":
            self._at += 1
            parts.append(self._sequence(flags))
        return ("and", *parts)

    def _sequence(self, flags: frozenset[str]) -> Tree:
        parts: list[Tree] = []
        empty_group = self._at > 0 and self._tokens[self._at - 1].kind == "open" and self._kind() == "close"
        while self._kind() not in ("", "bar", "close") and not (self._nl_rx and self._text() == "&"):
            parts.append(self._repeated(flags))
        if not parts and self._nl_rx and not empty_group:
            raise self._unexpected("an expression")
        return ("sequence", *parts)

    def _repeated(self, flags: frozenset[str]) -> Tree:
        start = self._kind()
        tree = self._atom(flags)
        n_repeats = 0
        while self._kind() == "repeat":
            if start == "place" and not self._nl_rx:
                raise self._unexpected("something to repeat, not a place")
            if n_repeats and not self._nl_rx:
                if n_repeats > 1 or self._text() != "?":
                    raise self._unexpected("no repetition of a repetition, nor a possessive one")
            else:
                tree = ("repeat", tree, *self._tokens[self._at].value)
            n_repeats += 1
            if n_repeats > MAX_DEPTH:
                raise self._unexpected(f"at most {MAX_DEPTH} levels")
            self._at += 1
        return tree

    def _atom(self, flags: frozenset[str]) -> Tree:
        if self._kind() in ("repeat", "flags"):
            raise self._unexpected("something to repeat before")
        token = self._tokens[self._at]
        self._at += 1
        match token.kind:
            case "open":
                on, off = token.value
                tree = self._either(flags - set(off) | set(on))
                if self._kind() != "close":
                    raise self._unexpected("')'")
                self._at += 1
                return tree
            case "operator" if self._nl_rx:
                return self._complement(flags)
            case "place":
                return ("place", token.value, "m" in flags and token.value in "^$")
            case "dot":
                return ("set", ALL if self._nl_rx or "s" in flags else ALL & ~NEWLINE)
        mask = _mask(token.text) if token.kind == "operator" else token.value
        return ("set", _any_case(mask, token.text) if "i" in flags else mask)

    def _complement(self, flags: frozenset[str]) -> Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._unexpected(f"at most {MAX_DEPTH} levels")
        if self._kind() in ("", "bar", "close") or self._text() == "&":
            raise self._unexpected("an expression after '~'")
        tree = ("not", self._atom(flags))
        self._depth -= 1
        return tree


def _any_case(mask: int, text: str) -> int:
    """Return the characters of `mask` in both cases; a negated class excludes its characters in both."""
    if text.startswith("[^"):
        return ALL & ~_any_case(ALL & ~mask, "")
    chars = [chr(n) for n in range(128) if mask >> n & 1]
    return _mask(c.lower() for c in chars) | _mask(c.upper() for c in chars)
