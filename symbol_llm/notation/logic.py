"""First-order formulas: reading, printing, a normal form, and their translation for Z3. Judges nothing, runs nothing.

    all x. (Bird(x) & ~Penguin(x) -> Flies(x))    # ∀ ∃ ¬ ∧ ∨ ⊕ → ↔ or all exists ~ & | ^ -> <->

A quantifier followed by a dot or colon reaches to the end of its group, otherwise it binds as tightly as a negation; but
where that would leave a variable unbound, the quantifiers that a line begins with reach to its end.
Names bound by a quantifier are variables, other names constants; u to z must be bound. Equality is `=`; there are no
functions, arithmetic or sorts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from symbol_llm.ground.errors import Unavailable, Unparsable

MAX_DEPTH = 60
MAX_OPERATORS = 100
"""Of a line: a tree may be as deep as this."""

Formula = list[Any]
"""A JSON tree: [operator, formula, ...], [quantifier, variable, formula], ["=", term, term], ["atom", name, term ...].

A term is ["variable", name] or ["constant", name].
"""


class Names(NamedTuple):
    """What formulas speak of: every predicate with the number of its terms, every constant."""

    arities: dict[str, int]
    constants: set[str]

    def check(self, declared: Iterable[str] | None) -> None:
        """Raise Unparsable for a name that is not among `declared`; None declares all."""
        if declared is None:
            return
        strange = sorted((self.arities.keys() | self.constants) - set(declared))
        if strange:
            raise Unparsable(f"{strange[0]!r} is not declared; have {', '.join(declared)}"[:300])


def parse(text: str, names: Names, line: int = 1, start: int = 0) -> Formula:
    """Return the formula that `text` holds from `start` on, and add what it speaks of to `names`; Unparsable says where."""
    try:
        parser = _Parser(text, start, line)
        formula = parser.formula_line()
    except _Unbound as e:
        try:
            parser = _Parser(text, start, line, wide=True)
            formula = parser.formula_line()
        except Unparsable:
            raise e from None
    for name, n in parser.names.arities.items():
        if names.arities.setdefault(name, n) != n:
            raise Unparsable(f"line {line}: {name} has {n} terms here and {names.arities[name]} before")
    names.constants.update(parser.names.constants)
    return formula


def without_comment(line: str) -> str:
    """Return `line` without what follows #, //, % or :::."""
    return _COMMENT.sub("", line)


def predicates(formula: Formula) -> set[str]:
    """Return the names of all predicates in `formula`."""
    if formula[0] == "atom":
        return {formula[1]}
    return {name for part in formula[1:] if isinstance(part, list) and formula[0] != "=" for name in predicates(part)}


# --- for Z3 --------------------------------------------------------------------------------------------------------


def satisfiable(formulas: list[Any]) -> bool:
    """Say whether Z3 terms can hold together; Unavailable where Z3 gives up. To be called in a sandbox child."""
    import z3

    solver = z3.Solver()
    solver.add(*formulas)
    found = solver.check()
    if found == z3.unknown:
        raise Unavailable(f"Z3 gave up: {solver.reason_unknown()}")
    return bool(found == z3.sat)


def to_z3(formula: Formula) -> Any:
    """Return `formula` as a Z3 term: things of one sort, a function to Bool for each predicate."""
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
            return (z3.ForAll if quantifier == "all" else z3.Exists)([term(["variable", variable])], to_z3(body))
        case [operator, *parts]:
            make = {"not": z3.Not, "and": z3.And, "or": z3.Or, "xor": z3.Xor, "implies": z3.Implies}
            operands = [to_z3(part) for part in parts]
            return operands[0] == operands[1] if operator == "iff" else make[operator](*operands)
    raise AssertionError(formula)


# --- parsing ----------------------------------------------------------------------------------------------------------

_SIGNS = {
    "all": "∀ all forall", "exists": "∃ exists", "not": "¬ ~ ! not", "and": "∧ & && and", "or": "∨ | || or",
    "xor": "⊕ ^ xor", "implies": "→ -> => implies", "iff": "↔ ⟷ <-> <=> iff",
}  # fmt: skip
_OPERATOR = {sign: operator for operator, signs in _SIGNS.items() for sign in signs.split()}
_LEVELS = (("iff",), ("implies",), ("or", "xor"), ("and",))
"""Binary operators, loosest first; `implies` groups to the right."""
_NAME = re.compile(r"\w+(?:[-'’]\w+)*")
_TOKEN = re.compile(rf"\s*(?:({_NAME.pattern})|(<->|<=>|->|=>|&&|\|\||!=|[∀∃¬∧∨⊕→↔⟷~!&|^=≠().,:])|(\S))")
_EQUALITIES = ("=", "≠", "!=")
_COMMENT = re.compile(r"\s*(?:#|//|%|:::).*")
_VARIABLE = re.compile(r"[a-z]\d*")
_ALWAYS_VARIABLE = re.compile(r"[u-z]\d?")


class _Unbound(Unparsable):
    """A variable stands outside the reach of its quantifier."""


class _Parser:
    """Recursive descent over one line; fills `names`."""

    def __init__(self, text: str, start: int, line: int, *, wide: bool = False) -> None:
        self._tokens: list[tuple[str, int]] = []
        for token in _TOKEN.finditer(text.rstrip(), start):
            if token[3]:
                raise Unparsable(f"line {line}, column {token.start(3) + 1}: unexpected {token[3]!r}")
            self._tokens.append((token[1] or token[2], token.end() - len(token[1] or token[2]) + 1))
        self._tokens.append(("", len(text) + 1))
        self._at, self._line, self._depth, self._n_operators = 0, line, 0, 0
        self._wide, self._leading = wide, True
        self.names = Names({}, set())
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
        self._leading = self._leading and operator in ("all", "exists")
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
        marked = self._peek() in (".", ":")
        self._at += marked
        wide = marked or (self._wide and self._leading)
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
        if self.names.arities.setdefault(name, len(terms)) != len(terms):
            self._at = start
            raise self._error(f"{name} with {self.names.arities[name]} terms as before")
        return ["atom", name, *terms]

    def _term(self) -> list[str]:
        name = self._name("a term")
        if name in self._bound:
            return ["variable", name]
        if _ALWAYS_VARIABLE.fullmatch(name):
            self._at -= 1
            raise _Unbound(str(self._error(f"a bound variable or a constant ({name} is not bound)")))
        self.names.constants.add(name)
        return ["constant", name]

    def _name(self, expected: str) -> str:
        token = self._peek()
        if not _NAME.fullmatch(token) or token in _OPERATOR:
            raise self._error(expected)
        return self._take()


# --- printing ---------------------------------------------------------------------------------------------------------

_QUANTIFIERS = {"all": "forall", "exists": "exists"}
_TIGHTEST = len(_LEVELS)
NO_NUMBERS: Mapping[str, int] = {}
_PRINTED = {"and": "&", "or": "|", "xor": "^", "implies": "->", "iff": "<->"}


def printed(formula: Formula, tightness: int = 0) -> str:
    """Return text that reads as `formula`, with no more brackets than it needs at a place that binds so tightly."""
    match formula:
        case ["atom", name, *terms]:
            return f"{name}({', '.join(term[1] for term in terms)})" if terms else str(name)
        case ["=", left, right]:
            return f"{left[1]} = {right[1]}"
        case ["not", part]:
            return f"~{printed(part, _TIGHTEST)}"
        case ["all" | "exists" as quantifier, variable, part]:
            return f"{_QUANTIFIERS[quantifier]} {variable} {printed(part, _TIGHTEST)}"
        case [operator, left, right]:
            own = next(n for n, operators in enumerate(_LEVELS) if operator in operators)
            alike = left[0] == operator and operator != "implies"
            first, second = printed(left, own + (not alike)), printed(right, own + (operator != "implies"))
            text = f"{first} {_PRINTED[operator]} {second}"
            return text if own >= tightness else f"({text})"
    raise AssertionError(formula)


def normal(formula: Formula, numbers: Mapping[str, int] = NO_NUMBERS) -> str:  # noqa: PLR0911 - one return a kind of formula
    """Print `formula` with a bound variable named by the depth of its quantifier and commutative operands sorted."""

    def term(node: list[str]) -> str:
        return f"?{numbers[node[1]]}" if node[0] == "variable" else node[1]

    match formula:
        case ["atom", name, *terms]:
            return f"{name}({','.join(map(term, terms))})"
        case ["=", left, right]:
            return "=".join(sorted((term(left), term(right))))
        case ["not", ["not", part]]:
            return normal(part, numbers)
        case ["not", part]:
            return f"~{normal(part, numbers)}"
        case ["all" | "exists" as quantifier, variable, part]:
            depth = max(numbers.values(), default=-1) + 1
            return f"{quantifier} ?{depth}.{normal(part, {**numbers, variable: depth})}"
        case ["implies", left, right]:
            return f"({normal(left, numbers)}->{normal(right, numbers)})"
        case [operator, *_]:
            parts = sorted(normal(part, numbers) for part in _operands(formula, operator))
            return f"({_PRINTED[operator].join(parts)})"
    raise AssertionError(formula)


def _operands(formula: Formula, operator: str) -> Iterator[Formula]:
    """Yield what an operator that is commutative and associative joins, however it is bracketed."""
    if formula[0] == operator:
        for part in formula[1:]:
            yield from _operands(part, operator)
    else:
        yield formula
