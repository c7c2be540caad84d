"""Lispress 2.0, the programs of SMCalFlow's dialogues. Equal means: the same graph of calls.

    (let (x0 (NextTime (NumberAM 9L)))
      (Yield (FindEventWrapperWithDefaults
        (& (Event.start_? (?= x0)) (Event.end_? (?= (TimeAfterDateTime x0 (NumberPM 2L))))))))

A program is a call: (f argument ... :name argument ...), (^(Type) f ...), (let (variable value ...) body) or (do call
call ...). An argument is a call, a variable, true or another symbol, a "string" with the escapes of JSON, a number, a
long (12L), or one of these with its type, ^Type argument.

The normal form removes differences in white space, notation of numbers and escapes, names of variables, the position of
a `let`, variables that are used once, the order of independent bindings, the order of named arguments, and the order
and grouping of constraints joined by `&`. Single evaluation is kept: (f x0 x0) is not (f (Now) (Now)). Gold is
`problem.program`. Nothing is run, since the library that the calls belong to was never published.

Missed: two variables with the same value, each evaluated, in constraints joined by `&`; programs that are equal by the
meaning of functions, such as `orConstraint` with swapped operands, or a named argument in place of a positional one.
The macros of Lispress 1.0, #(Number 1) and (:field x), are refused. The published exact match ignores white space at
the ends of strings and all decimals but one; here both count. Andreas et al. 2020; Platanios et al. 2021.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, read_gold
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 3
METRIC = "exact match"

MAX_DEPTH = 100
"""Deepest nesting of calls in the normal form; real programs seldom pass 20."""
MAX_BRACKETS = 2 * MAX_DEPTH
"""Deepest nesting of brackets while reading; those of `let` and types are not calls."""
MAX_TYPE_DEPTH = 10


class Call(NamedTuple):
    """A call, a sequence (`do`), an argument after its type (`^`), or any number of constraints (`&`)."""

    head: str
    """The head with its type arguments: `^(Event) EmptyStructConstraint`."""
    arguments: tuple[Expr, ...]
    named: tuple[tuple[str, Expr], ...]
    depth: int


Expr = Call | str | int
"""A number stands for the variable with that index, in order of binding."""


class Program(NamedTuple):
    """The outermost call, and the values of the variables in order of binding."""

    root: Expr
    values: list[Expr]


class Environment(Needs):
    """What judging needs besides program and gold: nothing."""


def canonical(program: str) -> str:
    """Return the normal form, itself a program."""
    return _print(_normal(_parse(program)))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the normal form."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the normal form is that of `problem.program`, else 0.0."""
    gold = read_gold(problem, canonical)
    found = canonical(program)
    return Result(float(found == gold), found)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a name, type or literal changed, an argument left out, or two arguments exchanged."""
    form = canonical(program)
    words = [found[0] for found in _WORD.finditer(form)]
    changed = list(_changes(words, rng))
    rng.shuffle(changed)
    for mutant in changed:
        text = " ".join(mutant)
        try:
            if canonical(text) != form:
                yield text
        except Unparsable:  # nothing left of a list, or a name without its argument
            continue


def _changes(words: list[str], rng: random.Random) -> Iterator[list[str]]:
    names = sorted({word for word in words if _SYMBOL.fullmatch(word) and word not in _KEYWORDS})
    ends = _ends(words)
    for n, word in enumerate(words[1:], 1):
        end = ends[n + 1] if word.startswith(":") else ends[n]
        before, after = words[:n], words[end:]
        if word not in "()^":
            yield [*before, _other(word, names, rng), *words[n + 1 :]]
        if word != ")" and words[n - 1] not in "(^":
            yield before + after
            if after[0] not in ")^":
                yield before + words[end : ends[end]] + words[n:end] + words[ends[end] :]


def _ends(words: list[str]) -> list[int]:
    """Return for each word the index after it or, for an opening bracket, after the closing one."""
    ends = [n + 1 for n in range(len(words))]
    opened: list[int] = []
    for n, word in enumerate(words):
        if word == "(":
            opened.append(n)
        elif word == ")":
            ends[opened.pop()] = n + 1
    return ends


def _other(word: str, names: list[str], rng: random.Random) -> str:
    if word.startswith('"'):
        return f'{word[:-1]} too"'
    if word.startswith("-"):
        return word[1:]
    if word[0].isdigit():
        return f"1{word}"
    if word.startswith(":"):
        return f"{word}s"
    return rng.choice([name for name in names if name != word] or [f"{word}s"])


_WORD = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[()^]|[^\s()"^]+', re.DOTALL)
_SYMBOL = re.compile(r"(?![\d:])[\w.?!&|<>=~+*/-]+")
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+)|(L))?", re.ASCII)
_VARIABLE = re.compile(r"x\d+", re.ASCII)
_KEYWORDS = ("let", "do")
_AND = "&"
_TYPED = "^"


def _parse(text: str) -> Program:
    reader = _Reader(text)
    root = reader.expression({})
    if reader.next():
        raise reader.error("the end after the program")
    return Program(root, reader.values)


class _Reader:
    """Reads tokens from left to right; `values` holds the values bound so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = list(_WORD.finditer(text))
        self.at = 0
        self.brackets = 0
        self.values: list[Expr] = []

    def next(self) -> str:
        """Return the next word, empty at the end."""
        return self.words[self.at][0] if self.at < len(self.words) else ""

    def take(self, expected: str = "") -> str:
        """Return and consume the next word; Unparsable unless it is `expected`, if given."""
        word = self.next()
        if not word or (expected and word != expected):
            raise self.error(f"'{expected}'" if expected else "an argument")
        self.at += 1
        self.brackets += (word == "(") - (word == ")")
        if self.brackets > MAX_BRACKETS:
            raise self.error(f"at most {MAX_BRACKETS} brackets one in the other", back=1)
        return word

    def error(self, expected: str, back: int = 0) -> Unparsable:
        """Return the error at the next word, or at the one `back` before it."""
        if self.at - back >= len(self.words):
            return Unparsable(f"the text ends before {self.brackets} bracket(s) close; expected {expected}")
        word = self.words[self.at - back]
        line = self.text.count("\n", 0, word.start()) + 1
        column = word.start() - self.text.rfind("\n", 0, word.start())
        return Unparsable(f"line {line}, column {column}: expected {expected}, got {word[0][:40]!r}")

    def symbol(self, what: str) -> str:
        name = self.next()
        if not _SYMBOL.fullmatch(name) or name in _KEYWORDS:
            raise self.error(what)
        return self.take()

    def expression(self, known: dict[str, Expr]) -> Expr:
        """Read an argument, which may use the variables `known`."""
        if self.next() == "(":
            self.take()
            found = self.let(known) if self.next() == "let" else self.call(known)
            self.take(")")
            return found
        if self.next() == "^":
            self.take()
            kind = self.type()
            if self.next() == "^":
                raise self.error("what has the type")
            return _call(_TYPED, [kind, self.expression(known)])
        return self.atom(known)

    def atom(self, known: dict[str, Expr]) -> Expr:
        word = self.next()
        number = _NUMBER.fullmatch(word)
        if word.startswith('"'):
            found: Expr = self.string(word)
        elif number:
            found = _number(*number.groups(default=""))
        elif word in known:
            found = known[word]
        elif _VARIABLE.fullmatch(word):
            raise self.error("a variable that is bound")
        else:
            return self.symbol("an argument")
        self.take()
        return found

    def string(self, word: str) -> str:
        try:
            value = json.loads(word, strict=False)
            value.encode()
        except ValueError as e:  # not JSON, or half of a surrogate pair
            raise self.error("a string as in JSON") from e
        return json.dumps(value, ensure_ascii=False)

    def call(self, known: dict[str, Expr]) -> Call:
        """Read what stands between the brackets."""
        head = self.head()
        arguments: list[Expr] = []
        named: dict[str, Expr] = {}
        while self.next() != ")":
            name = self.next()
            if not name.startswith(":"):
                if named:
                    raise self.error("a named argument, or ')'")
                arguments.append(self.expression(known))
                continue
            if not _SYMBOL.fullmatch(name[1:]) or name in named:
                raise self.error("another name")
            self.take()
            named[name] = self.expression(known)
        if head == _AND and (named or len(arguments) != 2):
            raise self.error("two constraints after '&'")
        if head == "do" and (named or not arguments):
            raise self.error("calls after 'do'")
        return _call(head, arguments, named)

    def head(self) -> str:
        kind = ""
        if self.next() == "do":
            return self.take()
        if self.next() == "^":
            self.take()
            kind = f"^{self.type()} "
        if _VARIABLE.fullmatch(self.next()):
            raise self.error("a function")
        return kind + self.symbol("a function")

    def let(self, known: dict[str, Expr]) -> Expr:
        """Read what stands between the brackets, and return the body."""
        known = dict(known)
        self.take("let")
        self.take("(")
        while self.next() != ")":
            name = self.symbol("a variable")
            value = self.expression(known)
            if not isinstance(value, int):
                self.values.append(value)
                value = len(self.values) - 1
            known[name] = value
        self.take(")")
        return self.expression(known)

    def type(self, depth: int = 0) -> str:
        """Read a type, Event or (List Event), and return it with one space between words."""
        if self.next() != "(" or depth == MAX_TYPE_DEPTH:
            return self.symbol("a type")
        self.take()
        parts = [self.type(depth + 1)]
        while self.next() != ")":
            parts.append(self.type(depth + 1))
        self.take()
        return f"({' '.join(parts)})"


def _number(sign: str, digits: str, fraction: str, long: str) -> str:
    """Return a number or a long in its shortest notation."""
    whole = digits.lstrip("0") or "0"
    rest = fraction.rstrip("0")
    return f"{sign}{whole}.{rest}" if rest else f"{sign if whole != '0' else ''}{whole}{long}"


def _call(head: str, arguments: Sequence[Expr], named: Mapping[str, Expr] = MappingProxyType({})) -> Call:
    """Return a call with its unordered parts sorted; Unparsable if it is too deep."""
    if head == _AND:
        arguments = sorted((part for argument in arguments for part in _constraints(argument)), key=_text)
    deepest = max((part.depth for part in (*arguments, *named.values()) if isinstance(part, Call)), default=0)
    depth = deepest + (len(arguments) - 1 if head == _AND else 1)
    if depth > MAX_DEPTH:
        raise Unparsable(f"more than {MAX_DEPTH} calls one in the other")
    return Call(head, tuple(arguments), tuple(sorted(named.items())), depth)


def _constraints(expr: Expr) -> tuple[Expr, ...]:
    return expr.arguments if isinstance(expr, Call) and expr.head == _AND else (expr,)


def _normal(program: Program) -> Program:
    """Inline variables that are used once, and number the others in order of first use."""
    uses = Counter(_uses([program.root, *program.values]))
    kept: list[Expr] = []
    places: list[Expr] = []
    for n, value in enumerate(program.values):
        placed = _placed(value, places)
        if uses[n] != 1:
            kept.append(placed)
        places.append(placed if uses[n] == 1 else len(kept) - 1)
    root = _placed(program.root, places)
    if not isinstance(root, Call):
        raise Unparsable("expected a call, got a variable or a literal alone")
    return _in_order(root, kept)


def _in_order(root: Expr, values: list[Expr]) -> Program:
    """Return the program with its variables numbered in order of first use, those in their values before them.

    Constraints are sorted by the values of their variables, so that the old numbers make no difference.
    """
    digests: list[Expr] = []
    for value in values:
        digests.append(f"x{hashlib.sha256(_text(_placed(value, digests)).encode()).hexdigest()[:16]}")
    names: list[Expr] = [f"{digest}#{n:05}" for n, digest in enumerate(digests)]  # no word of a program has a #
    places = {str(name): n for n, name in enumerate(names)}
    root, *values = (_placed(expr, names) for expr in (root, *values))
    inside = [[places[leaf] for leaf in _leaves(value) if leaf in places] for value in values]
    first = [places[leaf] for leaf in _leaves(root) if leaf in places]
    order: dict[int, int] = {}
    waiting = [*sorted(range(len(values)), key=lambda n: str(names[n]), reverse=True), *reversed(first)]
    while waiting:
        n = waiting[-1]
        missing = [] if n in order else [other for other in inside[n] if other not in order]
        if missing:
            waiting += reversed(missing)
            continue
        order.setdefault(waiting.pop(), len(order))
    numbers = {str(names[n]): place for n, place in order.items()}
    return Program(_numbered(root, numbers), [_numbered(values[n], numbers) for n in order])


def _leaves(expr: Expr) -> Iterator[str]:
    """Yield the parts of `expr` that are not calls, from left to right."""
    if isinstance(expr, Call):
        for part in (*expr.arguments, *(value for _, value in expr.named)):
            yield from _leaves(part)
    else:
        yield str(expr)


def _numbered(expr: Expr, numbers: Mapping[str, int]) -> Expr:
    """Return `expr` with numbers for the names of variables, without reordering."""
    if not isinstance(expr, Call):
        return numbers.get(str(expr), expr)
    named = tuple((name, _numbered(value, numbers)) for name, value in expr.named)
    return expr._replace(arguments=tuple(_numbered(part, numbers) for part in expr.arguments), named=named)


def _uses(exprs: list[Expr]) -> Iterator[int]:
    """Yield the number of each variable as often as it occurs in `exprs`."""
    rest = list(exprs)
    while rest:
        expr = rest.pop()
        if isinstance(expr, int):
            yield expr
        elif isinstance(expr, Call):
            rest += [*expr.arguments, *(value for _, value in expr.named)]


def _placed(expr: Expr, places: list[Expr]) -> Expr:
    """Return `expr` with each variable replaced by its entry in `places`."""
    if isinstance(expr, int):
        return places[expr]
    if isinstance(expr, str):
        return expr
    arguments = [_placed(argument, places) for argument in expr.arguments]
    return _call(expr.head, arguments, {name: _placed(value, places) for name, value in expr.named})


def _print(program: Program) -> str:
    if not program.values:
        return _text(program.root)
    bound = " ".join(f"x{n} {_text(value)}" for n, value in enumerate(program.values))
    return f"(let ({bound}) {_text(program.root)})"


def _text(expr: Expr) -> str:
    if not isinstance(expr, Call):
        return expr if isinstance(expr, str) else f"x{expr}"
    parts = [_text(argument) for argument in expr.arguments]
    if expr.head == _AND:
        return "(& " * (len(parts) - 1) + " ".join([parts[0], *(f"{part})" for part in parts[1:])])
    if expr.head == _TYPED:
        return f"^{parts[0]} {parts[1]}"
    parts += [f"{name} {_text(value)}" for name, value in expr.named]
    return f"({' '.join([expr.head, *parts])})"


_LUNCH = """\
(let (x0 (NextDOW (Friday)))
  (Yield (FindEventWrapperWithDefaults
    (& (Event.start_? (?= (DateAtTimeWithDefaults x0 (NumberPM 1L))))
       (Event.end_? (?< (adjustByPeriodDuration x0 (PeriodDuration.apply :duration (toHours 15.5) :sign true))))))))"""


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="lispress", split="train", instruction="Write the program in Lispress.",
        question="What begins at one on Friday and is over by half past three?", program=_LUNCH,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


_RENAMED = """\
(Yield (let (x7 (Friday) day (NextDOW x7)) (FindEventWrapperWithDefaults
  (& (Event.end_? (?< (adjustByPeriodDuration day (PeriodDuration.apply :sign true :duration (toHours 15.50)))))
     (Event.start_? (?= (DateAtTimeWithDefaults day (NumberPM 01L))))))))"""
EXAMPLES = (
    _example("gold itself", _LUNCH, 1.0),
    _example("different-looking equal", _RENAMED, 1.0),
    _example("similar-looking different", _LUNCH.replace("?<", "?>"), 0.0),
    _example("a number for a long", _LUNCH.replace("1L", "1"), 0.0),
    _example("evaluated twice", _LUNCH.replace("Defaults x0", "Defaults (NextDOW (Friday))"), 0.0),
    _example("variable that nothing binds", _LUNCH.replace("x0 (Next", "x1 (Next"), None),
    _example("ill-formed", _LUNCH[:-1], None),
)
