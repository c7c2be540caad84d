r"""Regular expressions over ASCII. Equal means: the same language, decided by Brzozowski derivatives.

`environment["dialect"]` is "python" (default: Python's `re`, PCRE without what is not regular) or "nl-rx", the notation
of NL-RX (Locascio et al. 2016, "Neural Generation of Regular Expressions from Natural Language"): besides classes,
groups, `|` and repetition it has `&` (intersection, tighter than `|`, looser than sequence) and `~` (complement of what
follows it at once); `.` is any character; `<VOW>` `<NUM>` `<LET>` `<CAP>` `<LOW>` are classes; repetitions may be
stacked. `environment["match"]` is "full" (default: `re.fullmatch`) or "search" (`re.search`). Gold is `problem.program`.

`\b`, `\B`, `^`, `$`, `\A` and `\Z` are decided by what stands on either side of a place (Moseley et al. 2023), which
neither `greenery` nor `interegular` does and a seventh of NL-RX needs. Lazy repetition has the language of the greedy one.

Where gold matches no text at all, or every text (a quarter of NL-RX), its language proves nothing: a program is then
accepted if it has gold's normal form, rejected if its language is another, and unscored otherwise.
Comparing may blow up, hence the child.

Refused as not regular: backreferences, lookaround, conditions. Refused: possessive repetition, atomic groups, verbose
mode, characters outside ASCII, a literal `{` that is not escaped, and punctuation alone, which is chatter.
Missed: a newline at the end of a text, before which Python's `$` holds as well; `$` is `\Z` here unless (?m) is set.
`\B` matches the empty text, as it does from Python 3.14 on.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from symbol_llm import sandbox
from symbol_llm.errors import InvalidInput, LimitExceeded, TimedOut, Unavailable, Unparsable
from symbol_llm.families import Example, Ran, Result
from symbol_llm.params import Limits
from symbol_llm.records import Problem

VERSION = 1
METRIC = "language equivalence"

DIALECTS = ("python", "nl-rx")
MATCHES = ("full", "search")
MAX_CHARS = 2000
MAX_DEPTH = 50
MAX_REPEAT = 1000
MAX_MUTANT_PAIRS = 300
"""Pairs of states looked at before a mutant counts as undecided, and is not yielded."""


def canonical(program: str) -> str:
    """Return the tokens with classes, escapes and repetitions in one spelling and without groups around one atom.

    It reads `program` in whichever dialect parses it; what the two read differently is kept as it stands.
    """
    try:
        _parse(program, "python")
    except Unparsable:
        _parse(program, "nl-rx")
    groups: list[list[str]] = [[]]
    for token in _tokens(program, "python"):
        if token.kind == "open":
            groups.append([token.normal])
        elif token.kind == "close" and len(groups) > 1:
            inside = groups.pop()
            lone = len(inside) == 2 and inside[0] == "(" and _ATOM.fullmatch(inside[1])
            groups[-1].append(inside[1] if lone else f"{''.join(inside)})")
        else:
            groups[-1].append(token.normal)
    normal = "".join(part for group in groups for part in group)
    # Punctuation that was escaped or grouped is a program; it has to stay one.
    return f"(?:{normal})" if _is_punctuation(_read(normal, "python")) else normal


_ATOM = re.compile(r"[^\\^$&~*+?{|<]|\\[^bBAZ]|\\x..|\[(?:[^\]\\]|\\.)+\]|\((?:[^()\\]|\\.)*\)", re.DOTALL)
"""What needs no group around it: one character, one class, one group without a group in it."""


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the size and a hash of the minimal automaton, which are the same for equal languages."""
    dialect, match = _reading(problem)
    _parse(program, dialect)
    args = {"program": program, "dialect": dialect, "match": match}
    outcome = sandbox.run(f"{__name__}:describe", args, limits)
    outcome.check_limits()
    if outcome.status != "ok":
        raise Unavailable(f"no automaton of {program[:80]!r}: {outcome.detail}")
    return Ran(outcome.value, "", outcome.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's language, else 0.0; Unavailable where that proves nothing or gold itself blows up."""
    dialect, match = _reading(problem)
    _parse(program, dialect)
    gold = problem.program
    if not isinstance(gold, str):
        raise InvalidInput(f"problem {problem.id} has no gold expression")
    try:
        _parse(gold, dialect)
        same_form = canonical(program) == canonical(gold)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold expression fails: {e}") from e
    if same_form:
        return Result(1.0, canonical(program))
    args = {"program": program, "gold": gold, "dialect": dialect, "match": match}
    outcome = sandbox.run(f"{__name__}:compare", args, limits)
    if outcome.status in ("timeout", "resource"):
        _check_gold(problem, {**args, "program": gold}, limits)
    outcome.check_limits()
    if outcome.status != "ok":
        raise Unavailable(f"not compared: {outcome.detail}")
    if outcome.value["same"] and outcome.value["trivial"]:
        raise Unavailable(f"gold matches {outcome.value['trivial']} text, which proves nothing")
    return Result(float(outcome.value["same"]), canonical(program), outcome.isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one token changed or left out where that changes the language however `program` is read."""
    readings = [(dialect, match) for dialect in DIALECTS for match in MATCHES if _parses(program, dialect)]
    tokens = _tokens(program, "python")
    changes = [(n, new) for n, token in enumerate(tokens) for new in _changes(token)]
    rng.shuffle(changes)
    for n, new in changes:
        mutant = "".join([*(t.text for t in tokens[:n]), new, *(t.text for t in tokens[n + 1 :])])
        if all(_parses(mutant, d) and _differ(program, mutant, d, m) for d, m in readings):
            yield mutant


def _changes(token: _Token) -> list[str]:  # noqa: PLR0911 - one return a kind of token
    match token.kind:
        case "repeat":
            low, high = token.value
            return sorted({_repetition(low + 1, high and high + 1), _repetition(int(low == 0), high), ""})
        case "set" if token.text.startswith("["):
            chars = [n for n in range(128) if token.value >> n & 1]
            return [_class(token.value & ~(1 << chars[-1])), _class(token.value ^ _WORD), ""] if len(chars) > 1 else []
        case "set" if token.text.isalnum():
            return [chr((ord(token.text) - 96) % 26 + 97) if token.text.islower() else "x", ""]
        case "set" | "dot":
            return ["", "x"]
        case "operator":
            return ["|", ""]
        case "bar":
            return [""]
    return []


def _parses(program: str, dialect: str) -> bool:
    try:
        _parse(program, dialect)
    except (Unparsable, LimitExceeded):
        return False
    return True


def _differ(one: str, two: str, dialect: str, match: str) -> bool:
    languages = _Languages()
    pair = [_language(languages, text, dialect, match) for text in (one, two)]
    return languages.same(pair[0], pair[1], MAX_MUTANT_PAIRS) is False


def _reading(problem: Problem) -> tuple[str, str]:
    dialect, match = problem.environment.get("dialect", "python"), problem.environment.get("match", "full")
    if dialect not in DIALECTS or match not in MATCHES:
        known = f"{', '.join(DIALECTS)}; {', '.join(MATCHES)}"
        raise InvalidInput(f"problem {problem.id}: dialect {dialect!r}, match {match!r}; have {known}")
    return dialect, match


def _check_gold(problem: Problem, args: dict[str, Any], limits: Limits) -> None:
    """Raise Unavailable if it is gold that hits the limit."""
    try:
        sandbox.run(f"{__name__}:describe", args, limits).check_limits()
    except (LimitExceeded, TimedOut) as e:
        raise Unavailable(f"problem {problem.id}: the automaton of gold hits a limit: {e}") from e


# --- in the child -----------------------------------------------------------------------------------------------------


def compare(args: dict[str, str]) -> dict[str, Any]:
    """Return whether program and gold have the same language, and whether that is "no" text or "every" text."""
    languages = _Languages()
    one, two = (_language(languages, args[which], args["dialect"], args["match"]) for which in ("program", "gold"))
    same = languages.same(one, two)
    trivial = ""
    if same:
        trivial = "no" if languages.same(two, languages.none) else "every" if languages.same(two, languages.all) else ""
    return {"same": same, "trivial": trivial}


def describe(args: dict[str, str]) -> str:
    """Return the number of states of the minimal automaton and a hash of it."""
    languages = _Languages()
    table = languages.minimal(_language(languages, args["program"], args["dialect"], args["match"]))
    return f"automaton of {len(table)} states, {hashlib.sha256(repr(table).encode()).hexdigest()[:16]}"


def _language(languages: _Languages, text: str, dialect: str, match: str) -> int:
    language = languages.of(_parse(text, dialect))
    return languages.sequence([languages.all, language, languages.all]) if match == "search" else language


# --- tokens -----------------------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str
    """set, dot, place, repeat, open, close, bar, operator (`&` or `~`), flags."""
    text: str
    at: int
    normal: str
    value: Any = None
    """Of a set: its characters as bits. Of a repeat: least and most. Of a place: its letter. Of a group: its flags."""


def _mask(characters: Iterable[str]) -> int:
    return sum(1 << n for n in {ord(c) for c in characters})


_ALL = (1 << 128) - 1
_LETTERS, _CAPITALS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
_WORD, _NEWLINE, _SPACE = _mask(_LETTERS + _CAPITALS + _DIGITS + "_"), _mask("\n"), _mask(" \t\n\r\f\v")
_SETS = {"d": _mask(_DIGITS), "w": _WORD, "s": _SPACE}
_SETS |= {name.upper(): _ALL & ~mask for name, mask in _SETS.items()}
_NAMED = {"<VOW>": _mask("AEIOUaeiou"), "<NUM>": _SETS["d"], "<LET>": _mask(_LETTERS + _CAPITALS)}
_NAMED |= {"<CAP>": _mask(_CAPITALS), "<LOW>": _mask(_LETTERS)}
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_REPEAT = re.compile(r"\{(?:(\d+)|(\d*),(\d*))\}")
_GROUP = re.compile(r"\(\?(?:P<[A-Za-z_]\w*>|([aimsxLu]*)(?:-([imsx]+))?([:)]))")
_NOT_REGULAR = re.compile(r"\(\?(?:=|!|<=|<!|P=|\()|\\[1-9]")
_TEXT = re.compile(r"[A-Za-z0-9 ]")


def _tokens(program: str, dialect: str) -> list[_Token]:
    tokens = _read(program, dialect)
    if not program.strip():
        raise Unparsable("no regular expression")
    if _is_punctuation(tokens):
        raise Unparsable(f"column 1: {program[:40]!r} is punctuation alone; expected a regular expression")
    return tokens


def _read(program: str, dialect: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(program):
        token = _token(program, at, dialect)
        if token.text[:3] != "(?#":
            tokens.append(token)
        at += len(token.text)
    return tokens


def _is_punctuation(tokens: list[_Token]) -> bool:
    kinds = {token.kind for token in tokens}
    bare = all(len(token.text) == 1 and not _TEXT.match(token.text) for token in tokens)
    return bare and kinds <= {"set", "dot", "operator"} and kinds not in (set(), {"dot"})


def _token(program: str, at: int, dialect: str) -> _Token:  # noqa: PLR0911 - one return a kind of token
    c = program[at]
    if match := _NOT_REGULAR.match(program, at):
        raise _error(at, f"{match[0]!r} is not regular; backreferences, lookaround and conditions are refused")
    if named := _NAMED.get(program[at : at + 5]):
        if dialect == "nl-rx":
            return _Token("set", program[at : at + 5], at, program[at : at + 5], named)
        return _Token("set", c, at, c, _mask(c))
    match c:
        case "(":
            return _group(program, at)
        case ")" | "|":
            return _Token("close" if c == ")" else "bar", c, at, c)
        case "." | "&" | "~":
            return _Token("dot" if c == "." else "operator", c, at, c)
        case "^" | "$":
            return _Token("place", c, at, c, c)
        case "*" | "+" | "?" | "{":
            return _repeat(program, at)
        case "[":
            mask, end = _read_class(program, at)
            # Under (?i) leaving out `a` leaves out `A`, hence what is left out has to stay visible.
            kept = program[at + 1] == "^" and _class(mask)[0] == "["
            normal = f"[^{_ranges(_ALL & ~mask)}]" if kept else _class(mask)
            return _Token("set", program[at:end], at, normal, mask)
        case "\\":
            if program[at + 1 : at + 2] in ("b", "B", "A", "Z") and at + 1 < len(program):
                return _Token("place", program[at : at + 2], at, program[at : at + 2], program[at + 1])
            mask, end = _escape(program, at)
            return _Token("set", program[at:end], at, _class(mask), mask)
    if not (" " <= c <= "~" or c in "\t\n"):
        raise _error(at, f"character {c!r}; only ASCII is supported, and a control character must be escaped")
    return _Token("set", c, at, _class(_mask(c)), _mask(c))


def _error(at: int, problem: str) -> Unparsable:
    return Unparsable(f"column {at + 1}: {problem}")


def _repeat(program: str, at: int) -> _Token:
    if program[at] != "{":
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[program[at]]
        return _Token("repeat", program[at], at, program[at], (low, high))
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
    return _Token("repeat", match[0], at, _repetition(low, high), (low, high))


def _repetition(low: int, high: int | None) -> str:
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return short.get((low, high)) or (f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}")


def _group(program: str, at: int) -> _Token:
    if program[at + 1 : at + 2] != "?":
        return _Token("open", "(", at, "(", ("", ""))
    if program.startswith("(?#", at):
        end = program.find(")", at)
        if end < 0:
            raise _error(at, "the comment has no end")
        return _Token("flags", program[at : end + 1], at, "")
    match = _GROUP.match(program, at)
    if match is None:
        raise _error(at, f"unknown or unsupported group {program[at : at + 4]!r}")
    on, off, end_sign = match[1] or "", match[2] or "", match[3]
    if "x" in on or "L" in on:
        raise _error(at, f"flags {on!r}: verbose and locale mode are not supported")
    if end_sign == ")":
        if at or off or not on:
            raise _error(at, f"flags {match[0]!r} may only stand at the start, and only be set there")
        return _Token("flags", match[0], at, match[0], (on, ""))
    flags = "".join(sorted(set(on) - set("aLu")))
    normal = f"(?{flags}{'-' + off if off else ''}:" if flags or off else "("
    return _Token("open", match[0], at, normal, (on, off))


def _read_class(program: str, at: int) -> tuple[int, int]:
    """Return the characters of the class that starts at `at`, and where it ends."""
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
    mask = _ALL & ~mask if negated else mask
    return mask, at + 1


def _class_item(program: str, at: int, start: int) -> tuple[int, int]:
    if at >= len(program):
        raise _error(start, "the class has no end; expected ']'")
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


def _class(mask: int) -> str:
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


# --- parsing ----------------------------------------------------------------------------------------------------------

_Tree = tuple[Any, ...]
"""("set", bits), ("place", letter, whether lines count), ("not", tree), ("repeat", tree, least, most or None),

("sequence" | "or" | "and", tree, ...).
"""


def _parse(program: str, dialect: str) -> _Tree:
    return _Parser(program, dialect).parse()


class _Parser:
    """Recursive descent over the tokens, to a depth that a program can not exceed."""

    def __init__(self, program: str, dialect: str) -> None:
        self._tokens = _tokens(program, dialect)
        self._end = len(program)
        self._nl_rx = dialect == "nl-rx"
        self._at = self._depth = 0

    def parse(self) -> _Tree:
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

    def _either(self, flags: frozenset[str]) -> _Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._unexpected(f"at most {MAX_DEPTH} levels")
        parts = [self._both(flags)]
        while self._kind() == "bar":
            self._at += 1
            parts.append(self._both(flags))
        self._depth -= 1
        return ("or", *parts)

    def _both(self, flags: frozenset[str]) -> _Tree:
        parts = [self._sequence(flags)]
        while self._nl_rx and self._text() == "&":
            self._at += 1
            parts.append(self._sequence(flags))
        return ("and", *parts)

    def _sequence(self, flags: frozenset[str]) -> _Tree:
        parts: list[_Tree] = []
        empty_group = self._at > 0 and self._tokens[self._at - 1].kind == "open" and self._kind() == "close"
        while self._kind() not in ("", "bar", "close") and not (self._nl_rx and self._text() == "&"):
            parts.append(self._repeated(flags))
        if not parts and self._nl_rx and not empty_group:
            raise self._unexpected("an expression")
        return ("sequence", *parts)

    def _repeated(self, flags: frozenset[str]) -> _Tree:
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

    def _atom(self, flags: frozenset[str]) -> _Tree:
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
                return ("set", _ALL if self._nl_rx or "s" in flags else _ALL & ~_NEWLINE)
        mask = _mask(token.text) if token.kind == "operator" else token.value
        return ("set", _any_case(mask, token.text) if "i" in flags else mask)

    def _complement(self, flags: frozenset[str]) -> _Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._unexpected(f"at most {MAX_DEPTH} levels")
        if self._kind() in ("", "bar", "close") or self._text() == "&":
            raise self._unexpected("an expression after '~'")
        tree = ("not", self._atom(flags))
        self._depth -= 1
        return tree


def _any_case(mask: int, text: str) -> int:
    """Return the characters of `mask` in both cases; those a negated class leaves out are left out in both."""
    if text.startswith("[^"):
        return _ALL & ~_any_case(_ALL & ~mask, "")
    chars = [chr(n) for n in range(128) if mask >> n & 1]
    return _mask(c.lower() for c in chars) | _mask(c.upper() for c in chars)


# --- languages --------------------------------------------------------------------------------------------------------

_START, _AFTER_LINE, _AFTER_WORD, _AFTER_OTHER = range(4)
_END = -1


class _Languages:
    """Expressions by number, equal ones under one number, with their derivatives (Brzozowski 1964).

    A state is an expression and what stands before it: the start, a newline, a character of a word, or another.
    """

    def __init__(self) -> None:
        self._nodes: list[_Tree] = []
        self._numbers: dict[_Tree, int] = {}
        self._has_place: list[bool] = []
        self._derivatives: dict[tuple[int, int, int], int] = {}
        self.none, self.empty = self._node("or"), self._node("sequence")
        self.all = self._node("not", self.none)

    def of(self, tree: _Tree) -> int:
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
        """Return what `parts` give one after the other."""
        flat: list[int] = []
        for part in parts:
            if part == self.none:
                return self.none
            flat += self._nodes[part][1:] if self._nodes[part][0] == "sequence" else [part]
        return flat[0] if len(flat) == 1 else self._node("sequence", *flat)

    def _combine(self, kind: str, parts: Iterable[int]) -> int:
        """Return the union or the intersection of `parts`: flat, sorted, without doubles."""
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
        if self._nodes[part] == ("set", _ALL) and (low, high) == (0, None):
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
        """Return what is left to match once the character `code` has been read at a place after `before`."""
        key = (number, code, before if self._has_place[number] else 0)
        if key not in self._derivatives:
            self._derivatives[key] = self._new_derivative(self._nodes[number], code, before)
        return self._derivatives[key]

    def _new_derivative(self, node: _Tree, code: int, before: int) -> int:
        match node[0]:
            case "set":
                return self.empty if node[1] >> code & 1 else self.none
            case "place":
                return self.none
            case "not":
                return self._complement(self._derive(node[1], code, before))
            case "repeat":
                part, low, high = node[1:]
                # Rounds that match nothing may stand before this one: then as few as none have to follow.
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
        """Return the minimal automaton: by state whether it accepts and where each character leads, the first first."""
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
        """Number blocks as a walk along the characters meets them, so that equal languages give equal tables."""
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
        """Return for each character the first one that no set tells from it."""
        masks = sorted({node[1] for node in self._nodes if node[0] == "set"} | {_WORD, _NEWLINE})
        first: dict[tuple[int, ...], int] = {}
        return [first.setdefault(tuple(mask >> code & 1 for mask in masks), code) for code in range(128)]

    def _codes(self) -> list[int]:
        return sorted(set(self._columns()))


def _side(code: int) -> int:
    return _AFTER_LINE if code == 10 else _AFTER_WORD if _WORD >> code & 1 else _AFTER_OTHER


def _holds(letter: str, lines: bool, before: int, after: int) -> bool:
    """Return whether the place `letter` is between `before` and `after`."""
    match letter:
        case "^" | "A":
            return before == _START or (lines and before == _AFTER_LINE)
        case "$" | "Z":
            return after == _END or (lines and after == _AFTER_LINE)
    return ((before == _AFTER_WORD) != (after == _AFTER_WORD)) == (letter == "b")


def _example(name: str, program: str, score: float | None, gold: str = "[A-Z][a-z]+(-[a-z]+)*", **more: str) -> Example:
    problem = Problem.of(
        task="example", family="regex", split="train", instruction="Write a regular expression.",
        question="A capitalised word, possibly with hyphens?", program=gold, environment=more,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", "[A-Z][a-z]+(-[a-z]+)*", 1.0),
    _example("different-looking equal", "[A-Z](?:[a-z]+-)*[a-z][a-z]*", 1.0),
    _example("similar-looking different", "[A-Z][a-z]*(-[a-z]+)*", 0.0),
    _example("prefix of gold", "[A-Z][a-z]+", 0.0),
    _example("complement and intersection", ".*a.*&~(.*b.*)", 1.0, "[^b]*a[^b]*", dialect="nl-rx"),
    _example("different because of the rest", "\\bto$", 0.0, "\\bto", match="search"),
    _example("equal only where searching", "\\bto+?", 1.0, "\\bto[a-z]*", match="search"),
    _example("not regular", "([a-z])\\1", None),
    _example("ill-formed", "([A-Z][a-z]+(-[a-z]+)*", None),
)
