"""Constraint problems with lettered options, such as deductions of an order. Equal means: the same option must hold.

    Domain: 1..3                          # 1 is the leftmost; also `[1, 2, 3]`, or lines `1: leftmost`
    Variables: robin, hawk, crow          # each may have a domain of its own: `robin, hawk in 1..3`
    Constraints:
    all_different(robin, hawk, crow)
    robin < hawk
    crow == 3 or abs(robin - crow) == 1
    Query:
    A) robin == 1
    B) hawk == 1

Values are whole numbers; terms have + - * and abs, comparisons == != < <= > >= (`=` is ==, chains are allowed),
conditions and, or, not. Logic-LM's spelling (Pan et al. 2023) is read too: `robin [IN] [1, 2, 3]`,
`AllDifferentConstraint([robin, hawk])`, `:::` before a comment. Lines may be items of a list, `- robin < hawk` or `2.
robin < hawk`, so that a minus before a space begins an item; bold type, backticks and a comma behind a line do not
count.

All solutions are enumerated, in the sandbox. The answer is the letter of the one option that holds in every solution;
gold is the letter in `problem.answer`. Never accepted, whatever the letter: constraints without a solution, no
constraint, an option that holds without any constraint, and two options that both hold. Beyond that, the letter alone
cannot show that the program is about the question. The problem's environment can narrow this:

- `options`, the letters: a program must define exactly these to be accepted;
- `n_constraints`: a program with fewer distinct constraints, counting each part of an `and`, is not accepted;
- `program`, a gold program over the same names and values: the solutions must be the same, and the options equivalent.

Missed: other values than whole numbers, more than one right option.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.sandbox import executor

VERSION = 4
METRIC = "answer accuracy by exhaustive enumeration"

MAX_NESTING = 60
"""Most brackets and signs of a line open at once."""
MAX_DEPTH = 25
"""Most levels of a tree; printing opens at most two brackets per level, so the printed tree can be read again."""
MAX_VALUES = 1000
"""Of a variable."""
MAX_NUMBER = 10**6
MAX_SIZE = 20_000
"""Values of all variables together."""

Formula = list[Any]
"""A JSON tree: [operator, part ...], ["name", name], ["number", n]. A difference is a sum with a part ["-", part]."""


class Program(NamedTuple):
    """A parsed program."""

    domains: dict[str, list[int]]
    constraints: list[Formula]
    options: dict[str, Formula]


class Environment(Needs):
    """What judging needs besides program and gold."""

    options: tuple[str, ...] | None = None
    """Letters that a program must define; None: any."""
    n_constraints: int = 1
    """Least number of distinct constraints of a program."""
    program: str | None = None
    """Gold program that a program is compared with."""


def canonical(program: str) -> str:
    """Return the sections with names, constraints and options sorted, and commutative operands too."""
    return _print(_parse(program))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the letter of the option that must hold, or why none counts."""
    parsed = _parse(program)
    environment = needs(problem, Environment)
    if environment.options is not None and sorted(parsed.options) != sorted(environment.options):
        return Ran(None, f"options {', '.join(parsed.options)} instead of {', '.join(environment.options)}")
    parts = (part for c in parsed.constraints for part in (c[1:] if c[0] == "and" else [c]))
    if len({_show(_normal(part)) for part in parts}) < environment.n_constraints:
        return Ran(None, "too few constraints")
    args: dict[str, Any] = {"program": parsed._asdict(), "gold": None}
    if environment.program is not None:
        try:
            args["gold"] = _parse(environment.program)._asdict()
        except (Unparsable, LimitExceeded) as e:  # gold is ours
            raise InvalidInput(f"problem {problem.id}: gold: {e}") from e
    outcome = executor.run(f"{__name__}:decide", args, limits)
    outcome.check_limits()
    if outcome.status != "ok":  # the child runs no text of the program as code, so the fault is ours
        raise Unavailable(f"solutions were not enumerated: {outcome.detail}")
    letter, fault = outcome.value["letter"], outcome.value["fault"]
    return Ran(None, fault, outcome.isolation) if fault else Ran(letter, "", outcome.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the option that must hold is `problem.answer` and the guards above hold, else 0.0."""
    if not isinstance(problem.answer, str) or not re.fullmatch(r"[A-Z]", problem.answer):
        raise InvalidInput(f"problem {problem.id}: answer {problem.answer!r}; expected the letter of an option")
    ran = run(program, problem, limits)
    return Result(float(ran.value == problem.answer), ran.value or ran.detail, ran.isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with options shifted by some letters or negated, or a constraint negated, in random order."""
    parsed = _parse(program)
    letters = list(parsed.options)
    formulas = list(parsed.options.values())
    changed = []
    for n in range(1, len(letters)):
        changed.append(parsed._replace(options=dict(zip(letters, formulas[n:] + formulas[:n], strict=True))))
    changed.append(parsed._replace(options={letter: ["not", formula] for letter, formula in parsed.options.items()}))
    for constraint in parsed.constraints:
        changed.append(parsed._replace(constraints=[*parsed.constraints, ["not", constraint]]))
    rng.shuffle(changed)
    yield from map(_print, changed)


# --- in the child: no text of the program is run, only its tree is evaluated ------------------------------------------

Assignment = dict[str, int]


def decide(args: dict[str, Any]) -> dict[str, str]:
    """Return the letter of the only option that holds in every solution and what makes it worthless, if anything."""
    program, gold = Program(**args["program"]), Program(**args["gold"]) if args["gold"] else None
    options = {letter: _compiled(formula) for letter, formula in program.options.items()}
    holding, n_solutions = set(options), 0
    if gold and (gold.domains != program.domains or gold.options.keys() != program.options.keys()):
        return {"letter": "", "fault": "the variables, values or letters are other ones than were asked for"}
    same = _compiled(["and", *gold.constraints]) if gold else None
    asked = {letter: _compiled(formula) for letter, formula in gold.options.items()} if gold else {}
    for solution in _solutions(program.domains, program.constraints):
        n_solutions += 1
        if same and not same(solution):
            return {"letter": "", "fault": "a solution that the question excludes"}
        if any(options[letter](solution) != asked[letter](solution) for letter in asked):
            return {"letter": "", "fault": "an option is another than was asked"}
        holding = {letter for letter in holding if options[letter](solution)}
        if not holding and not gold:
            break
    if gold and n_solutions != sum(1 for _ in _solutions(gold.domains, gold.constraints)):
        return {"letter": "", "fault": "a solution of the question is excluded"}
    return {"letter": min(holding, default=""), "fault": _fault(program, holding, n_solutions)}


def _fault(program: Program, holding: set[str], n_solutions: int) -> str:
    if not n_solutions:
        return "no solution meets the constraints"
    if not holding:
        return "no option holds in every solution"
    if len(holding) > 1:
        return f"options {' and '.join(sorted(holding))} both hold in every solution"
    option = program.options[min(holding)]
    own = {name: program.domains[name] for name in sorted(_names(option))}
    needed = any(True for _ in _solutions(own, [["not", option]]))
    return "" if needed else f"option {min(holding)} needs no constraint"


def _solutions(domains: Mapping[str, Sequence[int]], constraints: Sequence[Formula]) -> Iterator[Assignment]:
    """Yield every assignment that meets all `constraints`, checking each as soon as its names have values."""
    order = list(domains)
    places = {name: n for n, name in enumerate(order)}
    checks: list[list[Callable[[Assignment], Any]]] = [[] for _ in range(len(order) + 1)]
    for part in (part for constraint in constraints for part in _conjuncts(constraint)):
        checks[max((places[name] + 1 for name in _names(part)), default=0)].append(_compiled(part))
    solution: Assignment = {}
    if not all(check(solution) for check in checks[0]):
        return
    untried = [iter(domains[order[0]])] if order else []
    while untried:
        name = order[len(untried) - 1]
        solution[name] = value = next(untried[-1], None)  # type: ignore[assignment]
        if value is None:
            untried.pop()
        elif all(check(solution) for check in checks[len(untried)]):
            if len(untried) == len(order):
                yield solution
            else:
                untried.append(iter(domains[order[len(untried)]]))


def _conjuncts(formula: Formula) -> Iterator[Formula]:
    """Yield the parts of a conjunction, each of which can be checked earlier than the whole."""
    match formula:
        case ["and", *parts]:
            for part in parts:
                yield from _conjuncts(part)
        case ["all_different", *parts]:
            yield from (["!=", left, right] for n, left in enumerate(parts) for right in parts[:n])
        case _:
            yield formula


def _names(formula: Formula) -> set[str]:
    if formula[0] in ("name", "number"):
        return {formula[1]} if formula[0] == "name" else set()
    return {name for part in formula[1:] for name in _names(part)}


def _compiled(formula: Formula) -> Callable[[Assignment], Any]:
    """Return a function of an assignment that gives the value of `formula`."""
    operator, *rest = formula
    if operator == "name":
        return lambda solution: solution[rest[0]]
    if operator == "number":
        return lambda solution: rest[0]
    parts = [_compiled(part) for part in rest]
    operate = _OPERATIONS[operator]
    return lambda solution: operate([part(solution) for part in parts])


_OPERATIONS: Mapping[str, Callable[[list[Any]], Any]] = {
    "+": sum,
    "*": math.prod,
    "-": lambda values: -values[0],
    "abs": lambda values: abs(values[0]),
    "==": lambda values: values[0] == values[1],
    "!=": lambda values: values[0] != values[1],
    "<": lambda values: values[0] < values[1],
    "<=": lambda values: values[0] <= values[1],
    "and": all,
    "or": any,
    "not": lambda values: not values[0],
    "all_different": lambda values: len(set(values)) == len(values),
}


# --- parsing ----------------------------------------------------------------------------------------------------------

_COMMENT = re.compile(r"(?:#|:::|//).*")
_SECTIONS = "domain|variables|constraints|query|options"
_HEADING = re.compile(rf"\s*({_SECTIONS})\s*(?:\([^()]*\)\s*)?:", re.IGNORECASE)
_TITLE = re.compile(rf"\s*\#+\s*({_SECTIONS})\s*(?::\s*)?", re.IGNORECASE)
"""Matches a heading of Markdown."""
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)]|\(\d{1,3}\)(?=\s+[\w(]))\s+")
"""Matches what stands before an item of a list."""
_BOLD = re.compile(rf"(?:{_ITEM.pattern}|\s*)\*\*[^*]+\*\*")
"""Matches a beginning in bold type; further on, two stars could be a power, which is refused."""
_NOISE = re.compile(r"`|[,;.]\s*\Z")
_RANGE = re.compile(r"(-?\d{1,7}) ?(?:\.\.|to|-|–) ?(-?\d{1,7})")
_LIST = re.compile(r"[\[{(]? ?(-?\d{1,7}(?: ?, ?-?\d{1,7})*) ?[\]})]?")
_LABEL = re.compile(r"(-?\d{1,7}) ?:.*")
_IN = re.compile(r"\s(?:in|\[in\]|∈)\s|[:=]", re.IGNORECASE)
_OPTION = re.compile(r"\s*\(?([A-Z])\s*[).:]")
_NAME = re.compile(r"[^\W\d]\w*")
_TOKEN = re.compile(r"\s*(?:([^\W\d]\w*)|(\d+)|(==|!=|<=|>=|&&|\|\||[-+*=<>≠≤≥¬!&|(),\[\]])|(\S))")
_SAME_SIGN = {
    "=": "==",
    "≠": "!=",
    "≤": "<=",
    "≥": ">=",
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
    "!": "not",
    "¬": "not",
}
_WORDS = {"and", "or", "not", "abs", "all_different", "in"}
_OTHER_WORDS = {"alldifferent": "all_different", "alldifferentconstraint": "all_different", "all_diff": "all_different"}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_CONDITIONS = {"and", "or", "not", "all_different", "==", "!=", "<", "<="}


def _parse(program: str) -> Program:
    reader = _Reader()
    section = ""
    for n, line in enumerate(program.splitlines(), 1):
        text = _undressed(line)
        heading = _HEADING.match(text)
        if heading:
            section = heading[1].lower()
        start = heading.end() if heading else 0
        if text[start:].strip():
            reader.line(section, text, start, n)
    return reader.program()


def _undressed(line: str) -> str:
    """Return `line` without its comment and marks of Markdown; positions stay."""
    title = _TITLE.fullmatch(line)
    text = f"{title[1]}:" if title else _COMMENT.sub("", line)
    text = _BOLD.sub(lambda found: found[0].replace("**", "  "), text, count=1) if _BOLD.match(text) else text
    item = _ITEM.match(text)
    text = " " * item.end() + text[item.end() :] if item else text
    return _NOISE.sub(lambda found: " " * len(found[0]), text)


class _Reader:
    """The part of a program read so far."""

    def __init__(self) -> None:
        self._values: set[int] = set()
        self._domains: dict[str, list[int] | None] = {}
        self._constraints: list[Formula] = []
        self._options: dict[str, Formula] = {}

    def line(self, section: str, text: str, start: int, n: int) -> None:
        """Read line `n` from `start` on."""
        match section:
            case "domain":
                self._values.update(_values(text, start, n))
            case "variables":
                self._declare(text, start, n)
            case "constraints":
                self._constraints.append(_Parser(text, start, n, self._domains).condition())
            case "query" | "options":
                option = _OPTION.match(text, start)
                if option is None or option[1] in self._options:
                    raise _error(text, start, n, "an option such as `A) robin == 1`, each letter once")
                self._options[option[1]] = _Parser(text, option.end(), n, self._domains).condition()
            case _:
                raise _error(text, start, n, "a heading: Domain, Variables, Constraints or Query")

    def _declare(self, text: str, start: int, n: int) -> None:
        inside = _IN.search(text, start)
        values = sorted(set(_values(text, inside.end(), n))) if inside else None
        place = start
        for part in text[start : inside.start() if inside else len(text)].split(","):
            name = part.strip()
            if not _NAME.fullmatch(name) or name.lower() in _WORDS or name in self._domains:
                raise _error(text, place, n, "the name of a new variable")
            self._domains[name] = values
            place += len(part) + 1

    def program(self) -> Program:
        """Return the whole program; Unparsable if a section is missing, LimitExceeded if there are too many values."""
        if not self._constraints:
            raise Unparsable("no constraint")
        if len(self._options) < 2:
            raise Unparsable("the query has fewer than two options")
        domains = {}
        for name, values in self._domains.items():
            domains[name] = values or sorted(self._values)
            if not domains[name]:
                raise Unparsable(f"variable {name!r} has no domain; expected `{name} in 1..5` or a section Domain")
        if sum(map(len, domains.values())) > MAX_SIZE:
            raise LimitExceeded(f"the variables have more than {MAX_SIZE} values together")
        return Program(domains, self._constraints, dict(sorted(self._options.items())))


def _values(text: str, start: int, n: int) -> list[int]:
    """Return the values named from `start` on."""
    line = " ".join(text[start:].split())
    found = _RANGE.fullmatch(line)
    if found:
        first, last = int(found[1]), int(found[2])
        values = list(range(first, last + 1)) if last - first < MAX_VALUES else []
    elif found := _LIST.fullmatch(line) or _LABEL.fullmatch(line):
        values = [int(value) for value in found[1].split(",")]
    else:
        values = []
    if not 0 < len(values) <= MAX_VALUES:
        raise _error(text, start, n, f"values such as 1..5 or [1, 2, 3], at most {MAX_VALUES}")
    return values


def _error(text: str, start: int, n: int, expected: str) -> Unparsable:
    column = start + len(text[start:]) - len(text[start:].lstrip()) + 1
    return Unparsable(f"line {n}, column {column}: expected {expected}, got {text[start:].strip()[:40] or 'the end'!r}")


class _Parser:
    """Recursive descent over one line."""

    def __init__(self, text: str, start: int, n: int, domains: Mapping[str, object]) -> None:
        self._text, self._n, self._domains = text, n, domains
        self._tokens: list[tuple[str, int]] = []
        for token in _TOKEN.finditer(text.rstrip(), start):
            if token[4]:
                raise _error(text, token.start(4), n, "a condition")
            word = token[1] or token[2] or token[3]
            word = word.lower() if word.lower() in _WORDS else _OTHER_WORDS.get(word.lower(), word)
            self._tokens.append((_SAME_SIGN.get(word, word), token.end() - len(token[0].lstrip())))
        self._tokens.append(("", len(text)))
        self._at, self._nesting = 0, 0

    def condition(self) -> Formula:
        formula = self._checked(0, self._or(), condition=True)
        if self._peek():
            raise self._wrong("an operator or the end of the line")
        if _depth(formula) > MAX_DEPTH:
            raise Unparsable(f"line {self._n}: a condition of more than {MAX_DEPTH} levels")
        return formula

    def _peek(self) -> str:
        return self._tokens[self._at][0]

    def _wrong(self, expected: str, at: int | None = None) -> Unparsable:
        return _error(self._text, self._tokens[self._at if at is None else at][1], self._n, expected)

    def _take(self, *signs: str) -> str:
        """Return and consume the next token if it is one of `signs`; else return an empty text."""
        sign = self._peek()
        self._at += bool(sign) and sign in signs
        return sign if sign in signs else ""

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._wrong(repr(sign))

    def _checked(self, at: int, formula: Formula, *, condition: bool) -> Formula:
        if (formula[0] in _CONDITIONS) != condition:
            raise self._wrong("a condition, not a number" if condition else "a number, not a condition", at)
        return formula

    def _joined(self, sign: str, part: Callable[[], Formula], *, condition: bool) -> Formula:
        at = self._at
        parts = [part()]
        while self._take(sign):
            self._checked(at, parts[-1], condition=condition)
            at = self._at
            parts.append(self._checked(at, part(), condition=condition))
        return [sign, *parts] if len(parts) > 1 else parts[0]

    def _or(self) -> Formula:
        return self._joined("or", self._and, condition=True)

    def _and(self) -> Formula:
        return self._joined("and", self._not, condition=True)

    def _not(self) -> Formula:
        if not self._take("not"):
            return self._comparison()
        self._enter()
        at = self._at
        formula = ["not", self._checked(at, self._not(), condition=True)]
        self._nesting -= 1
        return formula

    def _comparison(self) -> Formula:
        at = self._at
        left = self._sum()
        found = []
        while sign := self._take(*_COMPARISONS):
            self._checked(at, left, condition=False)
            at = self._at
            right = self._checked(at, self._sum(), condition=False)
            found.append([sign.replace(">", "<"), right, left] if sign[0] == ">" else [sign, left, right])
            left = right
        return ["and", *found] if len(found) > 1 else found[0] if found else left

    def _sum(self) -> Formula:
        at = self._at
        parts = [self._product()]
        while sign := self._take("+", "-"):
            self._checked(at, parts[-1], condition=False)
            at = self._at
            part = self._checked(at, self._product(), condition=False)
            parts.append(["-", part] if sign == "-" else part)
        return ["+", *parts] if len(parts) > 1 else parts[0]

    def _product(self) -> Formula:
        return self._joined("*", self._unary, condition=False)

    def _unary(self) -> Formula:
        if not self._take("-"):
            return self._primary()
        self._enter()
        at = self._at
        formula = ["-", self._checked(at, self._unary(), condition=False)]
        self._nesting -= 1
        return formula

    def _primary(self) -> Formula:
        at, word = self._at, self._peek()
        if word.isdecimal() and int(word[:8]) <= MAX_NUMBER:
            self._at += 1
            return ["number", int(word)]
        if word in self._domains:
            self._at += 1
            return ["name", word]
        if not self._take("(", "abs", "all_different"):
            raise self._wrong("a declared variable, a number or a condition")
        self._enter()
        if word == "(":
            formula = self._or()
            self._expect(")")
        elif word == "abs":
            self._expect("(")
            formula = ["abs", self._checked(at + 2, self._sum(), condition=False)]
            self._expect(")")
        else:
            formula = self._all_different()
        self._nesting -= 1
        return formula

    def _all_different(self) -> Formula:
        self._expect("(")
        listed = self._take("[")
        parts = [self._checked(self._at, self._sum(), condition=False)]
        while self._take(","):
            parts.append(self._checked(self._at, self._sum(), condition=False))
        if listed:
            self._expect("]")
        self._expect(")")
        return ["all_different", *parts]

    def _enter(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._wrong(f"at most {MAX_NESTING} brackets open at once")


# --- printing ---------------------------------------------------------------------------------------------------------


def _depth(formula: Formula) -> int:
    return 0 if formula[0] in ("name", "number") else 1 + max(map(_depth, formula[1:]))


def _normal(formula: Formula) -> Formula:
    """Return `formula` with commutative operands sorted, nested ones merged and double negations removed."""
    operator = formula[0]
    if operator in ("name", "number"):
        return formula
    parts: list[Formula] = [_normal(part) for part in formula[1:]]
    if operator == "-":
        return _negative(parts[0])
    if operator == "not" and parts[0][0] == "not":
        return list(parts[0][1])
    if operator in ("and", "or", "+", "*"):
        parts = [inner for part in parts for inner in (part[1:] if part[0] == operator else [part])]
    if operator in ("and", "or"):
        parts = list({_show(part): part for part in parts}.values())
    if operator in ("and", "or") and len(parts) == 1:
        return parts[0]
    if operator == "abs":
        return ["abs", min(parts[0], _negative(parts[0]), key=_show)]
    return [operator, *(sorted(parts, key=_show) if operator in _COMMUTATIVE else parts)]


def _negative(formula: Formula) -> Formula:
    """Return the negative of a normal `formula`, in normal form, without descending into the terms of a sum."""
    if formula[0] == "+":
        return ["+", *sorted(map(_negative, formula[1:]), key=_show)]
    return list(formula[1]) if formula[0] == "-" else ["-", formula]


_COMMUTATIVE = ("and", "or", "+", "*", "==", "!=", "all_different")


def _show(formula: Formula) -> str:
    operator, *parts = formula
    if operator in ("name", "number"):
        return str(parts[0])
    if operator in ("abs", "all_different"):
        return f"{operator}({', '.join(map(_show, parts))})"
    shown = [_show(part) if part[0] in _CLOSED else f"({_show(part)})" for part in parts]
    return f"{operator}{' ' * (operator == 'not')}{shown[0]}" if len(shown) == 1 else f" {operator} ".join(shown)


_CLOSED = ("name", "number", "abs", "all_different")


def _print(program: Program) -> str:
    lines = ["Variables:"]
    for name, values in sorted(program.domains.items()):
        is_range = values == list(range(values[0], values[-1] + 1))
        lines.append(f"{name} in {f'{values[0]}..{values[-1]}' if is_range else values}")
    lines += ["Constraints:", *sorted({_show(_normal(constraint)) for constraint in program.constraints})]
    lines += ["Query:", *(f"{letter}) {_show(_normal(option))}" for letter, option in program.options.items())]
    return "\n".join(lines)


_BIRDS = """Domain: 1..3  # 1 is the leftmost
Variables: robin, hawk, crow
Constraints:
all_different(robin, hawk, crow)
robin < hawk
crow == 3
Query:
A) robin == 2
B) hawk == 2
C) crow == 2"""


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="csp", split="train", instruction="Write a constraint problem.",
        context="Three birds sit on a branch. The robin is left of the hawk. The crow is the rightmost.",
        question="Which is second from the left? A) the robin B) the hawk C) the crow", answer="B", program=_BIRDS,
        environment={"options": ["A", "B", "C"], "n_constraints": 2}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _BIRDS, 1.0),
    _example(
        "different-looking equal",
        """Variables:
        crow, hawk, robin in [1, 2, 3]
        Constraints:
        AllDifferentConstraint([hawk, robin, crow]) ::: one place each
        hawk > robin and not crow < 3
        Query: A) 2 = robin
        B) robin < hawk < crow
        C) abs(crow - 2) = 0""",
        1.0,
    ),
    _example("relation the wrong way round", _BIRDS.replace("robin < hawk", "robin > hawk"), 0.0),
    _example("constraint missing", _BIRDS.replace("crow == 3\n", "crow != 4\n"), 0.0),
    _example("constraints that contradict each other", _BIRDS.replace("crow == 3", "crow == 3\ncrow < robin"), 0.0),
    _example("option that needs no constraint", _BIRDS.replace("B) hawk == 2", "B) hawk <= 3"), 0.0),
    _example("name that is not declared", _BIRDS.replace("crow == 3", "owl == 3"), None),
    _example("ill-formed", _BIRDS.replace("robin < hawk", "robin < < hawk"), None),
)
