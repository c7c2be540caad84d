"""First-order theories with one query, decided by Z3. Equal means: the query follows, is refuted or open, as gold says.

    all x. (Bird(x) & ~Penguin(x) -> Flies(x))  # a premise a line; ∀ ∃ ¬ ∧ ∨ ⊕ → ↔ or all exists ~ & | ^ -> <->
    Bird(tweety)
    ~Penguin(tweety)
    query: Flies(tweety)

A quantifier followed by a dot or colon reaches to the end of its group, otherwise it binds as tightly as a negation.
Names bound by a quantifier are variables, other names constants; u to z must be bound. Equality is `=`; there are no
functions.

What acceptance means. The label is "True" if the premises entail the query, "False" if they entail its negation, else
"Unknown". Premises that contradict each other prove everything and are never accepted, nor is a query that needs no
premise, nor an "Unknown" about predicates of which the program says nothing. Beyond that the label alone cannot show
that the program is about the question: it may invent its premises. The problem's environment says how far that goes:

- `symbols`, the names the theory declares: others are refused, and an "Unknown" about declared ones counts;
- `n_premises`, the sentences of the theory: a program with fewer distinct premises is not accepted;
- `theory`, a formal gold program over the same names: every premise must follow from it and the query must be
  equivalent to its query, which leaves nothing to invent.

Missed: functions, arithmetic, sorts, theories on which Z3 gives up (those are unscored).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from symbol_llm import sandbox
from symbol_llm.errors import InvalidInput, Unavailable, Unparsable
from symbol_llm.families import Example, Ran, Result
from symbol_llm.params import Limits
from symbol_llm.records import Problem

VERSION = 1
METRIC = "label by entailment"

LABELS = ("True", "False", "Unknown")
MAX_DEPTH = 60
MAX_OPERATORS = 100
"""Of a line: a tree may be as deep as this."""

Formula = list[Any]
"""A JSON tree: [operator, formula, ...], [quantifier, variable, formula], ["=", term, term], ["atom", name, term ...].

A term is ["variable", name] or ["constant", name].
"""


class Theory(NamedTuple):
    """A parsed program; `arities` holds every predicate, `constants` every constant."""

    premises: list[Formula]
    query: Formula
    arities: Mapping[str, int]
    constants: frozenset[str]


def canonical(program: str) -> str:
    """Return the formulas with bound variables numbered, operands of commutative operators sorted, premises sorted."""
    theory = _parse(program)
    premises = sorted({_normal(premise, {}) for premise in theory.premises})
    return "\n".join([*premises, f"query: {_normal(theory.query, {})}"])


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the label that Z3 finds, or why it is worthless by the guards above."""
    theory = _parse(program)
    declared = problem.environment.get("symbols")
    _check_declared(theory, declared)
    if len({_normal(premise, {}) for premise in theory.premises}) < problem.environment.get("n_premises", 1):
        return Ran(None, "too few premises")
    args: dict[str, Any] = {"premises": theory.premises, "query": theory.query, "theory": None}
    if "theory" in problem.environment:
        gold = _parse(problem.environment["theory"])
        args["theory"] = {"premises": gold.premises, "query": gold.query}
    outcome = sandbox.run(f"{__name__}:decide", args, limits, preload=(f"{__name__}:warm_up",))
    outcome.check_limits()
    if outcome.status != "ok":  # no text of the program runs as code in that child, so this is ours
        raise Unavailable(f"Z3 did not decide: {outcome.detail}")
    label, fault = outcome.value["label"], outcome.value["fault"]
    if label == "Unknown" and not fault and not _predicates(theory.query) <= _known(theory, declared):
        fault = "no premise speaks of the query's predicates"
    return Ran(None, f"{label}, but {fault}", outcome.isolation) if fault else Ran(label, "", outcome.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the label that Z3 finds is `problem.answer` and the guards above hold, else 0.0."""
    if problem.answer not in LABELS:
        raise InvalidInput(f"problem {problem.id}: answer {problem.answer!r}; expected one of {', '.join(LABELS)}")
    ran = run(program, problem, limits)
    return Result(float(ran.value == problem.answer), ran.value or ran.detail, ran.isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a premise left out, a premise denied, or the query denied, in random order.

    A denied query is a near miss only where the label is "True" or "False"; an open query stays open.
    """
    theory = _parse(program)
    count = len(theory.premises)
    changes = [(kind, n) for n in range(count) for kind in ("drop", "deny")] + [("query", 0)]
    rng.shuffle(changes)
    for kind, n in changes:
        premises, query = list(theory.premises), theory.query
        if kind == "drop" and count > 1:
            del premises[n]
        elif kind == "deny":
            premises[n] = ["not", premises[n]]
        elif kind == "query":
            query = ["not", query]
        else:
            continue
        yield "\n".join([*map(_print, premises), f"query: {_print(query)}"])


def _check_declared(theory: Theory, declared: list[str] | None) -> None:
    if declared is None:
        return
    strange = sorted((theory.arities.keys() | theory.constants) - set(declared))
    if strange:
        raise Unparsable(f"{strange[0]!r} is not declared; have {', '.join(declared)}"[:300])


def _known(theory: Theory, declared: list[str] | None) -> set[str]:
    return {name for premise in theory.premises for name in _predicates(premise)} | set(declared or ())


def _predicates(formula: Formula) -> set[str]:
    if formula[0] == "atom":
        return {formula[1]}
    return {name for part in formula[1:] if isinstance(part, list) and formula[0] != "=" for name in _predicates(part)}


# --- in the child: no text of the program is run, only its tree is translated -----------------------------------------


def warm_up() -> None:
    """Have Z3 set itself up, once for all children."""
    decide({"premises": [["atom", "P", ["constant", "a"]]], "query": ["atom", "Q", ["constant", "a"]], "theory": None})


def decide(args: dict[str, Any]) -> dict[str, str]:
    """Return the label of the query and what makes it worthless, if anything; raises Unavailable where Z3 gives up."""
    import z3

    try:
        premises, query = [_to_z3(p) for p in args["premises"]], _to_z3(args["query"])
        may_hold, may_fail = _satisfiable([*premises, query]), _satisfiable([*premises, z3.Not(query)])
        label = {(True, False): "True", (False, True): "False", (True, True): "Unknown"}.get(
            (may_hold, may_fail), "Contradiction"
        )
        return {"label": label, "fault": _fault(label, query, premises, args["theory"])}
    except z3.Z3Exception as e:
        if "memory" in str(e):
            raise MemoryError(str(e)) from e
        raise


def _fault(label: str, query: Any, premises: list[Any], theory: dict[str, Any] | None) -> str:
    import z3

    if label == "Contradiction":
        return "premises that contradict each other prove everything"
    if label == "True" and not _satisfiable([z3.Not(query)]) or label == "False" and not _satisfiable([query]):
        return "the query needs no premise"
    if theory is None:
        return ""
    given = [_to_z3(p) for p in theory["premises"]]
    if _satisfiable([query != _to_z3(theory["query"])]):
        return "the query is another than was asked"
    invented = any(_satisfiable([*given, z3.Not(premise)]) for premise in premises)
    return "a premise does not follow from the theory" if invented else ""


def _satisfiable(formulas: list[Any]) -> bool:
    import z3

    solver = z3.Solver()
    solver.add(*formulas)
    found = solver.check()
    if found == z3.unknown:
        raise Unavailable(f"Z3 gave up: {solver.reason_unknown()}")
    return bool(found == z3.sat)


def _to_z3(formula: Formula) -> Any:
    import z3

    things = z3.DeclareSort("Thing")

    def term(node: list[str]) -> Any:
        return z3.Const(f"{node[0]} {node[1]}", things)

    match formula:
        case ["atom", name, *terms]:
            predicate = z3.Function(f"predicate {name}", *[things] * len(terms), z3.BoolSort())
            return predicate(*map(term, terms))
        case ["=", left, right]:
            return term(left) == term(right)
        case ["all" | "exists" as quantifier, variable, body]:
            return (z3.ForAll if quantifier == "all" else z3.Exists)([term(["variable", variable])], _to_z3(body))
        case [operator, *parts]:
            make = {"not": z3.Not, "and": z3.And, "or": z3.Or, "xor": z3.Xor, "implies": z3.Implies}
            operands = [_to_z3(part) for part in parts]
            return operands[0] == operands[1] if operator == "iff" else make[operator](*operands)
    raise AssertionError(formula)


# --- parsing ----------------------------------------------------------------------------------------------------------

_SIGNS = {
    "all": "∀ all forall", "exists": "∃ exists", "not": "¬ ~ ! not", "and": "∧ & && and", "or": "∨ | || or",
    "xor": "⊕ ^ xor", "implies": "→ -> => implies", "iff": "↔ <-> <=> iff",
}  # fmt: skip
_OPERATOR = {sign: operator for operator, signs in _SIGNS.items() for sign in signs.split()}
_LEVELS = (("iff",), ("implies",), ("or", "xor"), ("and",))
"""Binary operators, loosest first; `implies` groups to the right."""
_TOKEN = re.compile(r"\s*(?:(\w+)|(<->|<=>|->|=>|&&|\|\||!=|[∀∃¬∧∨⊕→↔~!&|^=≠().,:])|(\S))")
_EQUALITIES = ("=", "≠", "!=")
_COMMENT = re.compile(r"\s*(?:#|//|%|:::).*")
_QUERY = re.compile(r"\s*(?:query|goal|conclusion)\s*:\s*", re.IGNORECASE)
_HEADING = re.compile(r"\s*(?:premises|theory|facts|rules)\s*:\s*", re.IGNORECASE)
_VARIABLE = re.compile(r"[a-z]\d*")
_ALWAYS_VARIABLE = re.compile(r"[u-z]\d*")


def _parse(program: str) -> Theory:
    premises: list[Formula] = []
    query: Formula | None = None
    arities: dict[str, int] = {}
    constants: set[str] = set()
    for n, line in enumerate(program.splitlines(), 1):
        text = _COMMENT.sub("", line)
        if not text.strip() or _HEADING.fullmatch(text):
            continue
        if query is not None:
            raise Unparsable(f"line {n}: nothing may follow the query")
        start = _QUERY.match(text)
        formula = _Parser(text, start.end() if start else 0, n, arities, constants).formula_line()
        if start:
            query = formula
        else:
            premises.append(formula)
    if query is None:
        raise Unparsable("no query; the last line must be `query: <formula>`")
    if not premises:
        raise Unparsable("no premise before the query")
    return Theory(premises, query, arities, frozenset(constants))


class _Parser:
    """Recursive descent over one line; fills `arities` and `constants`."""

    def __init__(self, text: str, start: int, line: int, arities: dict[str, int], constants: set[str]) -> None:
        self._tokens: list[tuple[str, int]] = []
        for token in _TOKEN.finditer(text.rstrip(), start):
            if token[3]:
                raise Unparsable(f"line {line}, column {token.start(3) + 1}: unexpected {token[3]!r}")
            self._tokens.append((token[1] or token[2], token.end() - len(token[1] or token[2]) + 1))
        self._tokens.append(("", len(text) + 1))
        self._at, self._line, self._depth, self._n_operators = 0, line, 0, 0
        self._arities, self._constants = arities, constants
        self._bound: list[str] = []

    def formula_line(self) -> Formula:
        formula = self._binary(0)
        if self._peek() == ".":
            self._at += 1
        if self._peek():
            raise self._error("an operator or the end of the line")
        return formula

    def _peek(self, ahead: int = 0) -> str:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)][0]

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][0]

    def _error(self, expected: str) -> Unparsable:
        token, column = self._tokens[self._at]
        return Unparsable(f"line {self._line}, column {column}: expected {expected}, got {token or 'the end'!r}")

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            raise self._error(repr(sign))
        self._at += 1

    def _binary(self, level: int) -> Formula:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while (operator := _OPERATOR.get(self._peek())) in _LEVELS[level]:
            self._n_operators += 1
            if self._n_operators > MAX_OPERATORS:
                raise self._error(f"at most {MAX_OPERATORS} operators")
            self._at += 1
            right = self._binary(level if operator == "implies" else level + 1)
            left = [operator, left, right]
        return left

    def _unary(self) -> Formula:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"at most {MAX_DEPTH} levels")
        operator = _OPERATOR.get(self._peek())
        if operator == "not":
            self._at += 1
            formula: Formula = ["not", self._unary()]
        elif operator in ("all", "exists"):
            self._at += 1
            formula = self._quantified(operator)
        elif self._peek() == "(":
            self._at += 1
            formula = self._binary(0)
            self._expect(")")
        else:
            formula = self._atom()
        self._depth -= 1
        return formula

    def _quantified(self, quantifier: str) -> Formula:
        variables = [self._name("a variable")]
        while self._peek() == "," or (_VARIABLE.fullmatch(self._peek()) and self._peek(1) not in ("(", *_EQUALITIES)):
            if self._peek() == ",":
                self._at += 1
            variables.append(self._name("a variable"))
        wide = self._peek() in (".", ":")
        self._at += wide
        self._bound += variables
        formula = self._binary(0) if wide else self._unary()
        del self._bound[-len(variables) :]
        for variable in reversed(variables):
            formula = [quantifier, variable, formula]
        return formula

    def _atom(self) -> Formula:
        start = self._at
        if self._peek(1) in _EQUALITIES:
            left, sign = self._term(), self._take()
            equality: Formula = ["=", left, self._term()]
            return equality if sign == "=" else ["not", equality]
        name = self._name("a formula")
        terms = []
        if self._peek() == "(":
            self._at += 1
            terms.append(self._term())
            while self._peek() == ",":
                self._at += 1
                terms.append(self._term())
            self._expect(")")
        if self._arities.setdefault(name, len(terms)) != len(terms):
            self._at = start
            raise self._error(f"{name} with {self._arities[name]} terms as before")
        return ["atom", name, *terms]

    def _term(self) -> list[str]:
        name = self._name("a term")
        if name in self._bound:
            return ["variable", name]
        if _ALWAYS_VARIABLE.fullmatch(name):
            self._at -= 1
            raise self._error(f"a bound variable or a constant ({name} is not bound)")
        self._constants.add(name)
        return ["constant", name]

    def _name(self, expected: str) -> str:
        token = self._peek()
        if not re.fullmatch(r"\w+", token) or token in _OPERATOR:
            raise self._error(expected)
        return self._take()


# --- printing ---------------------------------------------------------------------------------------------------------

_PRINTED = {"and": "&", "or": "|", "xor": "^", "implies": "->", "iff": "<->"}


def _print(formula: Formula) -> str:
    match formula:
        case ["atom", name, *terms]:
            return f"{name}({', '.join(term[1] for term in terms)})" if terms else str(name)
        case ["=", left, right]:
            return f"{left[1]} = {right[1]}"
        case ["not", part]:
            return f"~({_print(part)})"
        case ["all" | "exists" as quantifier, variable, part]:
            return f"{quantifier} {variable}. ({_print(part)})"
        case [operator, left, right]:
            return f"({_print(left)}) {_PRINTED[operator]} ({_print(right)})"
    raise AssertionError(formula)


def _normal(formula: Formula, numbers: Mapping[str, int]) -> str:  # noqa: PLR0911 - one return a kind of formula
    """Print `formula` with a bound variable named by the depth of its quantifier and commutative operands sorted."""

    def term(node: list[str]) -> str:
        return f"?{numbers[node[1]]}" if node[0] == "variable" else node[1]

    match formula:
        case ["atom", name, *terms]:
            return f"{name}({','.join(map(term, terms))})"
        case ["=", left, right]:
            return "=".join(sorted((term(left), term(right))))
        case ["not", ["not", part]]:
            return _normal(part, numbers)
        case ["not", part]:
            return f"~{_normal(part, numbers)}"
        case ["all" | "exists" as quantifier, variable, part]:
            depth = max(numbers.values(), default=-1) + 1
            return f"{quantifier} ?{depth}.{_normal(part, {**numbers, variable: depth})}"
        case ["implies", left, right]:
            return f"({_normal(left, numbers)}->{_normal(right, numbers)})"
        case [operator, *_]:
            parts = sorted(_normal(part, numbers) for part in _operands(formula, operator))
            return f"({_PRINTED[operator].join(parts)})"
    raise AssertionError(formula)


def _operands(formula: Formula, operator: str) -> Iterator[Formula]:
    """Yield what an operator that is commutative and associative joins, however it is bracketed."""
    if formula[0] == operator:
        for part in formula[1:]:
            yield from _operands(part, operator)
    else:
        yield formula


_BIRDS = "all x. (Bird(x) & ~Penguin(x) -> Flies(x))\nBird(tweety)\n~Penguin(tweety)\nquery: Flies(tweety)"


def _example(name: str, program: str, score: float | None, answer: str = "True") -> Example:
    problem = Problem.of(
        task="example", family="fol", split="train", instruction="Write first-order logic.", question="Tweety flies?",
        answer=answer,
        context="Birds that are no penguins fly. Tweety is a bird. Tweety is no penguin.", program=_BIRDS,
        environment={"symbols": ["Bird", "Penguin", "Flies", "tweety"]}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _BIRDS, 1.0),
    _example(
        "different-looking equal",
        "¬Penguin(tweety) ∧ Bird(tweety)\n∀y (¬Flies(y) → (Penguin(y) ∨ ¬Bird(y)))\nquery: Flies(tweety)",
        1.0,
    ),
    _example("similar-looking different", _BIRDS.replace("\n~Penguin(tweety)", "\nPenguin(tweety)"), 0.0),
    _example("open query", "Bird(tweety)\nall x. (Flies(x) -> Bird(x))\nquery: Flies(tweety)", 1.0, "Unknown"),
    _example("premises contradict each other", "Bird(tweety)\n~Bird(tweety)\nquery: Flies(tweety)", 0.0),
    _example("query needs no premise", "Bird(tweety)\nquery: Flies(tweety) | ~Flies(tweety)", 0.0),
    _example("name that was not declared", "Wings(tweety)\nquery: Wings(tweety)", None),
    _example("ill-formed", "Bird(tweety\nquery: Bird(tweety)", None),
)
