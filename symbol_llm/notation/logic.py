r"""First-order formulas: reading, printing, a normal form, and their translation for Z3. Judges nothing, runs nothing.

    all x. (Bird(x) & ~Penguin(x) -> Flies(x))    # ∀ ∃ ¬ ∧ ∨ ⊕ → ↔ or all exists ~ & | ^ -> <->

Also read: other arrows (⇒ ⟶ ⊃ ⇔ ≡), LaTeX (`$\forall x \, (\text{Bird}(x) \rightarrow ...)$`), `[...]` and `{...}` for
brackets, `(∀x)(...)`, `∀xy`, `∀xP(x)`, `∃!x` (exactly one), a number or bullet before a formula, and a full stop after it;
constants in quotes; connectives in capitals; and words where they can mean nothing else: "for all x, ...", "there exists an x
such that ...", "... if and only if ...", "if P(x) then Q(x)", whose parts extend as far as they can.

A quantifier followed by a dot or colon extends to the end of its group; otherwise it binds as tightly as a negation.
If that would leave a variable unbound, the quantifiers at the start of a line extend to its end.
Names bound by a quantifier are variables, other names are constants; u to z must be bound. Equality is `=`; there are
no functions, arithmetic or sorts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from symbol_llm.ground.errors import Unavailable, Unparsable

MAX_DEPTH = 60
MAX_OPERATORS = 100
"""Most operators of a line: a tree may be as deep as that."""
MAX_NAME = 100
"""Most characters of a name; the longest of 3,647 formulas of FOLIO and MALLS has 61."""
MAX_TERMS = 20

Formula = list[Any]
"""A JSON tree: [operator, formula, ...], [quantifier, variable, formula], ["=", term, term], ["atom", name, term ...].

A term is ["variable", name] or ["constant", name].
"""


class Names(NamedTuple):
    """The names used in formulas: every predicate with its arity, and every constant."""

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
    """Return the formula in `text` from `start` on, and add its names to `names`; Unparsable gives the position."""
    text = _plain(text)
    place = _unwrapped(text, start)
    try:
        parser = _Parser(text, place, line)
        formula = parser.formula_line()
    except _Unbound as e:
        try:
            parser = _Parser(text, place, line, wide=True)
            formula = parser.formula_line()
        except Unparsable:
            raise e from None
    for name, n in parser.names.arities.items():
        if names.arities.setdefault(name, n) != n:
            raise Unparsable(f"line {line}: {name} has {n} terms here and {names.arities[name]} before")
    names.constants.update(parser.names.constants)
    return formula


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line of `text` that holds something, with its number, without comments, which begin with #, //, % or :::.

    Lines that go on with it are part of it: as long as a bracket or `$$` is open, behind a line that ends with a quantifier
    or connective, and where the next line begins with a connective.
    """
    held: list[str] = []
    first, goes_on, n_open, n_dollars = 1, False, 0, 0
    for n, line in enumerate(text.splitlines(), 1):
        found = _COMMENT.search(line)
        kept = (line[: found.start()] if found else line).rstrip()
        tokens = [next(filter(None, token)) for token in _TOKEN.findall(kept)]
        if not held or not (goes_on or (tokens and _OPERATOR.get(tokens[0]) in _BINARY)):
            if held:
                yield first, "\n".join(held).rstrip()
            held, first, n_open, n_dollars = [], n, 0, 0
        if held or tokens:
            held.append(kept)
        n_open += sum((token in _CLOSING) - (token in _CLOSING.values()) for token in tokens)
        n_dollars += tokens.count("$")
        goes_on = n_open > 0 or n_dollars % 4 == 2 or (_wants_more(tokens) if tokens else goes_on)
    if held:
        yield first, "\n".join(held).rstrip()


def _wants_more(tokens: list[str]) -> bool:
    """Return whether a formula cannot end with `tokens`, the last of which is an operator or a quantifier's variable."""
    ended = tokens[:-1] if tokens[-1] in _MARKS else tokens
    before, last = ["", "", *ended][-2:]
    return last in _OPERATOR or _OPERATOR.get(before) in _QUANTIFIER


def after_number(text: str) -> int:
    """Return the position in `text` after a leading number, such as `1.`, `2)` or `(3)`, or bullet."""
    found = _NUMBERING.match(text)
    return found.end() if found else 0


def predicates(formula: Formula) -> set[str]:
    """Return the names of all predicates in `formula`."""
    if formula[0] == "atom":
        return {formula[1]}
    return {name for part in formula[1:] if isinstance(part, list) and formula[0] != "=" for name in predicates(part)}


def names_in(formula: Formula) -> set[str]:
    """Return the names of all predicates and constants in `formula`."""
    own = {formula[1]} if formula[0] in ("atom", "constant") else set()
    return own | {name for part in formula[1:] if isinstance(part, list) for name in names_in(part)}


def operators(formula: Formula) -> set[str]:
    """Return the operators and quantifiers in `formula`."""
    if formula[0] in ("atom", "="):
        return set()
    return {formula[0]} | {name for part in formula[1:] if isinstance(part, list) for name in operators(part)}


def conjuncts(formula: Formula) -> Iterator[Formula]:
    """Yield the parts that `formula` joins by "and"."""
    return _operands(formula, "and")


# --- for Z3 --------------------------------------------------------------------------------------------------------


FIRST_STEPS = 1_000_000
"""Steps of Z3, under a second, before models of a few things are tried; most formulas take fewer than a tenth of that."""
SIZES = (2, 3)
"""Numbers of things in the models that are tried."""
MAX_INSTANCES = 20_000
"""Most instances of quantified formulas in such a model."""


def satisfiable(formulas: list[Any]) -> bool:
    """Return whether Z3 terms can hold together; Unavailable if Z3 gives up. To be called in a sandbox child.

    Z3 may search forever for a model of `all x. exists y. R(x, y)` and the negation of `exists y. all x. R(x, y)`, which
    two things make true. So if it has not answered after a few steps, the terms are tried on few things, where
    each quantified formula is the conjunction or disjunction of its instances.
    """
    import z3

    solver = z3.Solver()
    solver.add(*formulas)
    solver.set("rlimit", FIRST_STEPS)
    found = solver.check()
    if found == z3.unknown:
        if any(_holds_for(formulas, n) for n in SIZES):
            return True
        solver.set("rlimit", 0)
        found = solver.check()
    if found == z3.unknown:
        raise Unavailable(f"Z3 gave up: {solver.reason_unknown()}")
    return bool(found == z3.sat)


def _holds_for(formulas: list[Any], n: int) -> bool:
    """Return whether Z3 finds a model of `n` things or fewer; False, too, if their instances are too many."""
    import z3

    things = [z3.Const(f"thing {i}", z3.DeclareSort("Thing")) for i in range(n)]
    constants: dict[str, Any] = {}
    n_left = MAX_INSTANCES

    def instance(term: Any) -> Any:
        nonlocal n_left
        if z3.is_quantifier(term):
            n_left -= n
            if n_left < 0:
                raise OverflowError
            parts = [instance(z3.substitute_vars(term.body(), thing)) for thing in things]
            return (z3.And if term.is_forall() else z3.Or)(*parts)
        if z3.is_const(term) and term.sort() == things[0].sort():
            constants[term.decl().name()] = term
        return term.decl()(*map(instance, term.children())) if term.children() else term

    solver = z3.Solver()
    try:
        solver.add(*map(instance, formulas))
    except OverflowError:
        return False
    solver.add(*(z3.Or(*(constant == thing for thing in things)) for constant in constants.values()))
    solver.set("rlimit", FIRST_STEPS)
    return bool(solver.check() == z3.sat)


def to_z3(formula: Formula) -> Any:
    """Return `formula` as a Z3 term, with one sort for all things and a function to Bool for each predicate."""
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
    "all": r"∀ all forall ForAll Forall FORALL \forall",
    "exists": r"∃ exists Exists EXISTS \exists",
    "not": r"¬ ~ ∼ ! ￢ - not NOT \neg \lnot",
    "and": r"∧ ⋀ & && /\ and AND \land \wedge",
    "or": r"∨ ⋁ | || \/ or OR \lor \vee",
    "xor": r"⊕ ⊻ ↮ ^ xor XOR \oplus \veebar",
    "implies": r"→ ⟶ ⇒ ⟹ ⊃ ➔ ➝ -> => ==> --> implies IMPLIES \rightarrow \to \Rightarrow \longrightarrow \implies \supset",
    "iff": r"↔ ⟷ ⇔ ⟺ ≡ <-> <=> <==> <--> iff IFF \leftrightarrow \Leftrightarrow \longleftrightarrow \iff \equiv",
}
_OPERATOR = {sign: operator for operator, signs in _SIGNS.items() for sign in signs.split()}
_LEVELS = (("iff",), ("implies",), ("or", "xor"), ("and",))
"""Binary operators, loosest first; `implies` is right-associative."""
_BINARY = [operator for level in _LEVELS for operator in level]
_QUANTIFIER = ("all", "exists")
_NAME = re.compile(r"\w+(?:[-'’]\w+)*")
_SPACE = r"(?:\s|\\[,;:! ]|\\(?:q?quad|left|right)(?![A-Za-z]))*"
_TOKEN = re.compile(
    rf"{_SPACE}(?:({_NAME.pattern})|\\(?:text|textit|mathrm|mathit|mathsf|operatorname)\{{({_NAME.pattern})\}}"
    rf"|[\"'“‘]({_NAME.pattern})[\"'”’]"
    r"|(<-->|<==>|-->|==>|<->|<=>|->|=>|&&|\|\||/\\|\\/|!=|\\[A-Za-z]+"
    r"|[∀∃¬￢∼∧⋀∨⋁⊕⊻↮→⟶⇒⟹⊃➔➝↔⟷⇔⟺≡~!&|^=≠().,:\[\]{}-])|(\S))"
)
_UNKNOWN = 5
"""The group of `_TOKEN` that holds a sign of no meaning."""
_EQUALITIES = ("=", "≠", "!=", r"\neq", r"\ne")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MARKS = (".", ":", ",")
"""Signs after a quantifier's variables that let it extend to the end of its group."""
_COMMENT = re.compile(r"#|//|%|:::")
_NUMBERING = re.compile(r"\s*(?:\(?\d{1,3}[.):]|[-*•])\s+(?=\S)")
_MATHS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_VARIABLE = re.compile(r"[a-z]\d*")
_LETTER = re.compile(r"[A-Za-z]\d*")
"""A variable as it stands behind words."""
_ALWAYS_VARIABLE = re.compile(r"[u-z]\d?")
_VARIABLES = re.compile(r"[u-z]{2,6}")
"""Variables as in `∀xy`, unless they are a name that occurs elsewhere in the line."""
_VARIABLE_AND_PREDICATE = re.compile(r"([u-z])([A-Z]\w*)")
"""A variable and the predicate, as in `∀xP(x)`."""


class _Place(NamedTuple):
    """Start and end of a formula in a line."""

    start: int
    end: int


def _unwrapped(text: str, start: int) -> _Place:
    """Return the place of the formula from `start` on, without a number or bullet before it and LaTeX delimiters."""
    start += after_number(text[start:])
    start = len(text) - len(text[start:].lstrip())
    end = len(text.rstrip())
    inner = end - text.endswith(".", start, end)
    for opening, closing in _MATHS:
        first = start + len(opening)
        if text.startswith(opening, start) and text.endswith(closing, first, inner):
            return _Place(first, inner - len(closing))
    return _Place(start, end)


def _where(text: str, position: int, line: int) -> str:
    """Return the line and column of `position` in `text`, whose first line is number `line`."""
    before = text[:position]
    return f"line {line + before.count(chr(10))}, column {position - before.rfind(chr(10))}"


def _plain(text: str) -> str:
    """Return `text` with full-width and mathematical forms of its characters made plain, each in its place."""
    if text.isascii():
        return text
    found = ((character, unicodedata.normalize("NFKC", character)) for character in text)
    return "".join(plain if len(plain) == 1 else character for character, plain in found)


_Token = tuple[str, int]
_WORDS = (
    (("if", "and", "only", "if"), "<->"),
    (("for", "all"), "∀"),
    (("for", "every"), "∀"),
    (("for", "each"), "∀"),
    (("for", "any"), "∀"),
    (("for", "some"), "∃"),
    (("there", "exists", "a"), "∃"),
    (("there", "exists", "an"), "∃"),
    (("there", "exists"), "∃"),
    (("there", "is", "an"), "∃"),
    (("there", "is"), "∃"),
)
"""Words and the sign that they stand for; quantifiers only before a variable."""
_SUCH_THAT = (("such", "that"), ("s", ".", "t", "."))


def _in_signs(tokens: list[_Token]) -> list[_Token]:
    """Return `tokens` with the words of `_WORDS` replaced by signs, and "such that" after "∃x" by a dot."""
    found: list[_Token] = []
    at = 0
    while at < len(tokens):
        ahead = tuple(token.lower() for token, _ in tokens[at : at + 4])
        n_words, sign = next(((len(words), sign) for words, sign in _WORDS if ahead[: len(words)] == words), (0, ""))
        is_quantifier = _OPERATOR.get(sign) in _QUANTIFIER
        if n_words and (not is_quantifier or _LETTER.fullmatch(tokens[at + n_words][0])):
            found.append((sign, tokens[at][1]))
            at += n_words
        elif such := next(
            (words for words in _SUCH_THAT if ahead[: len(words)] == words and _speaks_of_some(found)), ()
        ):
            found.append((".", tokens[at][1]))
            at += len(such)
        else:
            found.append(tokens[at])
            at += 1
    return found


def _speaks_of_some(tokens: list[_Token]) -> bool:
    """Return whether `tokens` end with an existential quantifier and its variable."""
    return len(tokens) > 1 and _OPERATOR.get(tokens[-2][0]) == "exists" and bool(_LETTER.fullmatch(tokens[-1][0]))


class _Unbound(Unparsable):
    """A variable is outside the scope of its quantifier."""


class _Parser:
    """Recursive descent over one formula; fills `names`."""

    def __init__(self, text: str, place: _Place, line: int, *, wide: bool = False) -> None:
        self._tokens: list[tuple[str, int]] = []
        for token in _TOKEN.finditer(text, place.start, len(text[: place.end].rstrip())):
            kind = token.lastindex or _UNKNOWN
            is_unknown = token[kind][0] == "\\" and token[kind] not in (*_OPERATOR, *_EQUALITIES)
            is_bullet = token[kind] == "-" and not self._tokens
            if kind == _UNKNOWN or is_unknown or is_bullet or len(token[kind]) > MAX_NAME:
                raise Unparsable(f"{_where(text, token.start(kind), line)}: unexpected {token[kind][:40]!r}")
            self._tokens.append((token[kind], token.start(kind)))
        self._tokens = _in_signs([*self._tokens, ("", place.end)])
        self._at, self._depth, self._n_operators = 0, 0, 0
        self._text, self._line = text, line
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
        token, position = self._tokens[self._at]
        where = _where(self._text, position, self._line)
        return Unparsable(f"{where}: expected {expected}, got {token or 'the end'!r}")

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
        bracket = self._peek() if self._peek() in _CLOSING else ""
        is_bracketed = bool(bracket) and self._is_bracketed_quantifier()
        self._leading = self._leading and (operator in _QUANTIFIER or is_bracketed)
        if operator == "not":
            self._at += 1
            formula: Formula = ["not", self._unary()]
        elif self._is_if():
            formula = self._if_then()
        elif operator in _QUANTIFIER or is_bracketed:
            self._at += 1 + is_bracketed
            formula = self._quantified(_OPERATOR[self._peek(-1)], _CLOSING[bracket] if is_bracketed else "")
        elif bracket:
            self._at += 1
            formula = self._binary(0)
            self._expect(_CLOSING[bracket])
        else:
            formula = self._atom()
        self._depth -= 1
        return formula

    def _is_if(self) -> bool:
        words = (token.lower() for token, _ in self._tokens[self._at :])
        return next(words) == "if" and "then" in words

    def _if_then(self) -> Formula:
        """Read "if P(x) then Q(x)"; neither part may have an arrow outside brackets, as it would be unclear what it joins."""
        self._at += 1
        level = _LEVELS.index(("or", "xor"))
        condition = self._binary(level)
        if self._peek() == ",":
            self._at += 1
        if self._peek().lower() != "then":
            raise self._error("'then'")
        self._at += 1
        formula: Formula = ["implies", condition, self._binary(level)]
        if _OPERATOR.get(self._peek()) in ("implies", "iff"):
            raise self._error("brackets around what follows 'if'")
        return formula

    def _is_bracketed_quantifier(self) -> bool:
        """Return whether the bracket here contains only a quantifier, and a formula follows."""
        if _OPERATOR.get(self._peek(1)) not in _QUANTIFIER:
            return False
        end = 2 + (self._peek(2) == "!")
        while self._peek(end) == "," or _VARIABLE.fullmatch(self._peek(end)) or _VARIABLES.fullmatch(self._peek(end)):
            end += 1
        after = self._peek(end + 1)
        follows = after in _CLOSING or _OPERATOR.get(after) in ("not", *_QUANTIFIER) or _NAME.fullmatch(after)
        return self._peek(end) == _CLOSING[self._peek()] and bool(follows) and _OPERATOR.get(after) not in _BINARY

    def _quantified(self, quantifier: str, closing: str) -> Formula:
        """Read what follows a quantifier; `closing` is the bracket after its variables, if they are in brackets."""
        is_unique = quantifier == "exists" and self._peek() == "!"
        self._at += is_unique
        variables = self._variables()
        if closing:
            self._expect(closing)
        marked = self._peek() in _MARKS
        self._at += marked
        wide = marked or (self._wide and self._leading)
        self._bound += variables
        if len(self._bound) > MAX_DEPTH:
            raise self._error(f"at most {MAX_DEPTH} variables bound at once")
        formula = self._binary(0) if wide else self._unary()
        del self._bound[-len(variables) :]
        for variable in reversed(variables):
            formula = self._one(variable, formula) if is_unique else [quantifier, variable, formula]
        return formula

    def _variables(self) -> list[str]:
        variables = self._variable()
        while self._is_another() or (_VARIABLE.fullmatch(self._peek()) and self._peek(1) not in ("(", *_EQUALITIES)):
            if self._peek() == ",":
                self._at += 1
            variables += self._variable()
        return variables

    def _is_another(self) -> bool:
        """Return whether a comma here stands before another variable rather than before the formula."""
        name, after = self._peek(1), self._peek(2)
        is_formula = after in ("(", "", *_EQUALITIES) or _OPERATOR.get(after) in _BINARY or name in _OPERATOR
        return self._peek() == "," and bool(_NAME.fullmatch(name)) and not is_formula

    def _variable(self) -> list[str]:
        """Read a variable, or several written together, possibly with the predicate: `∀xy`, `∀xP(x)`."""
        name, position = self._tokens[self._at]
        joined = _VARIABLE_AND_PREDICATE.fullmatch(name)
        if joined and self._peek(1) == "(":
            self._tokens[self._at] = (joined[2], position + 1)
            return [joined[1]]
        self._name("a variable")
        alone = _VARIABLES.fullmatch(name) and not any(token == name for token, _ in self._tokens[self._at :])
        return list(name) if alone else [name]

    def _one(self, variable: str, formula: Formula) -> Formula:
        """Return "`formula` holds of exactly one": there is a y such that it holds of `variable` iff that is y."""
        taken = {token for token, _ in self._tokens}
        other = next(name for n in range(len(taken) + 1) if (name := f"{variable}{n}") not in taken)
        same: Formula = ["=", ["variable", variable], ["variable", other]]
        return ["exists", other, ["all", variable, ["iff", formula, same]]]

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
            while self._peek() == "," and len(terms) < MAX_TERMS:
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
    """Return text that reads as `formula`, with no more brackets than needed in a context that binds so tightly."""
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
    """Print `formula` with bound variables named by the depth of their quantifier and commutative operands sorted."""

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
    """Yield the operands of a commutative and associative operator, however they are bracketed."""
    if formula[0] == operator:
        for part in formula[1:]:
            yield from _operands(part, operator)
    else:
        yield formula
