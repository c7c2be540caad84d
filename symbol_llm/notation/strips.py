"""PDDL text for the families `pddl` and `plan`: reader, domain, problem, formulas. It judges and runs nothing.

Understood: types (with `either`), constants, negative, disjunctive and quantified conditions, equality, values of
functions in the initial state, a metric. Names are case-insensitive, as in PDDL. Any fault of a text raises Unparsable
with line and column; a caller that supplies the text itself turns that into InvalidInput.

Why not a library: of 90 real problems, `pddl` 0.5 (MIT) and `unified-planning` 1.3 (Apache-2.0) each refuse 7, for a
goal before the initial state, an undeclared requirement or a type named like a predicate; they give no position for a
wrong type or object, and take 4 and 90 ms, against 1 here.

Missed: preferences, constraints, timed literals, derived predicates, durative actions. A text with a section for one of
them, or with any other unknown section, is refused, since ignoring it would mean judging by a different domain.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from symbol_llm.ground.errors import Unparsable

MAX_DEPTH = 60
"""Most levels of brackets; trees made here are walked by recursion."""

Types = tuple[str, ...]
"""Alternatives, sorted; mostly one."""
Formula = tuple[Any, ...]
"""("atom", predicate, term ...), ("=", term, term), ("not", formula), ("and" | "or", formula ...),
("imply", formula, formula), ("forall" | "exists", variable, types, formula)."""


class Node(NamedTuple):
    """A name, or a bracket with its parts, and its position."""

    name: str
    parts: tuple[Node, ...] | None
    line: int
    column: int

    @property
    def head(self) -> str:
        """Return the first name of a bracket; empty if this is not one."""
        return self.parts[0].name if self.parts else ""

    def __str__(self) -> str:
        return self.name if self.parts is None else f"({' '.join(map(str, self.parts))})"


class Domain(NamedTuple):
    """The declarations of a domain file; actions are left as they were read."""

    name: str
    ancestors: Mapping[str, frozenset[str]]
    """All super-types of each type, itself among them."""
    constants: Mapping[str, Types]
    predicates: Mapping[str, tuple[Types, ...]]
    functions: Mapping[str, tuple[Types, ...]]
    actions: Mapping[str, Node]


class Instance(NamedTuple):
    """A problem file."""

    domain: str
    objects: Mapping[str, Types]
    facts: frozenset[tuple[str, ...]]
    """(predicate, object ...), or ("=", function, object ..., number)."""
    goal: Formula
    metric: str


def expected(node: Node, what: str) -> Unparsable:
    """Return an error with the position of `node` and what was expected there."""
    return Unparsable(f"line {node.line}, column {node.column}: expected {what}, got {str(node)[:40]!r}")


# --- brackets ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"[()]|;[^\n]*|\s+|[^\s();]+")
_NAME = re.compile(r"\w[\w.@-]*")
_VARIABLE = re.compile(r"\?\w[\w.@-]*")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")


def read(text: str) -> list[Node]:
    """Return the brackets and names of `text` in lower case, without comments."""
    starts = [0, *(match.end() for match in re.finditer(r"\n", text))]
    top: list[Node] = []
    open_: list[tuple[int, int, list[Node]]] = []
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign[0] == ";" or sign.isspace():
            continue
        line = bisect_right(starts, token.start())
        column = token.start() - starts[line - 1] + 1
        inner = open_[-1][2] if open_ else top
        if sign == "(":
            if len(open_) >= MAX_DEPTH:
                raise Unparsable(f"line {line}, column {column}: more than {MAX_DEPTH} levels of brackets")
            open_.append((line, column, []))
        elif sign != ")":
            inner.append(Node(sign.lower(), None, line, column))
        elif not open_:
            raise Unparsable(f"line {line}, column {column}: ')' closes nothing")
        else:
            first_line, first_column, parts = open_.pop()
            (open_[-1][2] if open_ else top).append(Node("", tuple(parts), first_line, first_column))
    if open_:
        raise Unparsable(f"line {open_[-1][0]}, column {open_[-1][1]}: '(' is never closed")
    return top


def name_of(node: Node, what: str) -> str:
    """Return `node` as a name; Unparsable if it is not one."""
    if node.parts is not None or not _NAME.fullmatch(node.name):
        raise expected(node, what)
    return node.name


def typed(nodes: Sequence[Node], what: str) -> Iterator[tuple[Node, Types]]:
    """Yield the items of a list such as `a b - t c`, each with its types; `object` if none is given."""
    waiting: list[Node] = []
    rest = iter(nodes)
    for node in rest:
        if node.name != "-":
            if node.parts is not None:
                raise expected(node, what)
            waiting.append(node)
            continue
        type_ = next(rest, None)
        if type_ is None or not waiting:
            raise expected(node, f"{what} before and a type after '-'")
        for item in waiting:
            yield item, _types(type_)
        waiting = []
    for item in waiting:
        yield item, ("object",)


def _types(node: Node) -> Types:
    if node.parts is None:
        return (name_of(node, "a type"),)
    if node.head != "either" or len(node.parts) < 2:
        raise expected(node, "a type or (either ...)")
    return tuple(sorted({name_of(part, "a type") for part in node.parts[1:]}))


def variables(node: Node | None) -> list[tuple[str, Types]]:
    """Return the parameters in the bracket `node`."""
    found = []
    for item, types in typed(parts_of(node, "a list of variables"), "a variable"):
        if not _VARIABLE.fullmatch(item.name):
            raise expected(item, "a variable")
        found.append((item.name, types))
    return found


def parts_of(node: Node | None, what: str) -> tuple[Node, ...]:
    """Return the parts of the bracket `node`; empty if `node` is None, Unparsable if it is not a bracket."""
    if node is None:
        return ()
    if node.parts is None:
        raise expected(node, what)
    return node.parts


def _define(text: str, kind: str) -> tuple[str, list[Node]]:
    """Return the name and the sections of `(define (kind name) section ...)`."""
    nodes = read(text)
    if not nodes:
        raise Unparsable(f"nothing here; expected (define ({kind} ...) ...)")
    parts = nodes[0].parts or ()
    if nodes[0].head != "define" or len(parts) < 2 or parts[1].head != kind or len(parts[1].parts or ()) != 2:
        raise expected(nodes[0], f"(define ({kind} ...) ...)")
    if len(nodes) > 1:
        raise expected(nodes[1], "nothing after the definition")
    for section in parts[2:]:
        if not section.head.startswith(":"):
            raise expected(section, "a section such as (:domain ...)")
    return name_of((parts[1].parts or ())[1], "a name"), list(parts[2:])


# --- domain -----------------------------------------------------------------------------------------------------------


def read_domain(text: str) -> Domain:
    """Return the declarations of the domain file `text`."""
    name, sections = _define(text, "domain")
    parents: dict[str, set[str]] = {"object": set()}
    constants: dict[str, Types] = {}
    predicates: dict[str, tuple[Types, ...]] = {}
    functions: dict[str, tuple[Types, ...]] = {}
    actions: dict[str, Node] = {}
    for section in sections:
        parts = (section.parts or ())[1:]
        match section.head:
            case ":types":
                for item, above in typed(parts, "a type"):
                    parents.setdefault(name_of(item, "a type"), set()).update(above)
            case ":constants":
                constants |= {name_of(item, "a constant"): types for item, types in typed(parts, "a constant")}
            case ":predicates":
                predicates |= dict(_signature(part) for part in parts)
            case ":functions":
                functions |= dict(_signature(part) for part in parts if part.parts)
            case ":action" if parts and parts[0].name not in actions:
                actions[name_of(parts[0], "the name of an action")] = section
            case ":action":
                raise expected(section, "an action with a name of its own")
            case ":requirements":
                continue
            case _:
                raise expected(section, "one of :requirements :types :constants :predicates :functions :action")
    signatures = [*predicates.values(), *functions.values()]
    mentioned = {name for signature in signatures for types in signature for name in types}
    mentioned |= {name for types in constants.values() for name in types} | {n for p in parents.values() for n in p}
    for type_ in mentioned:
        parents.setdefault(type_, set())
    return Domain(name, _ancestors(parents), constants, predicates, functions, actions)


def _signature(node: Node) -> tuple[str, tuple[Types, ...]]:
    parts = parts_of(node, "a declaration such as (on ?x ?y)")
    if not parts:
        raise expected(node, "a declaration such as (on ?x ?y)")
    arguments = typed(parts[1:], "a variable")
    return name_of(parts[0], "a name"), tuple(types for _, types in arguments)


def _ancestors(parents: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    found = {}
    for type_ in parents:
        above, waiting = {"object"}, [type_]
        while waiting:
            next_ = waiting.pop()
            if next_ not in above or next_ == "object":
                above.add(next_)
                waiting += [parent for parent in parents[next_] if parent not in above]
        found[type_] = frozenset(above)
    return found


# --- what a problem or an action says, checked against the names in force -------------------------------------------


class Names:
    """The names in force: predicates, types, objects. Without a domain, any predicate that keeps its arity is one."""

    def __init__(self, domain: Domain | None, objects: Mapping[str, Types]) -> None:
        self._domain = domain
        self._objects = {**domain.constants, **objects} if domain else dict(objects)
        self._arities: dict[str, int] = {}
        self._n_bound = 0

    def fact(self, node: Node, bound: Mapping[str, Types]) -> tuple[str, ...]:
        """Return (predicate, term ...)."""
        parts = parts_of(node, "a fact such as (on a b)")
        if not parts or parts[0].parts is not None:
            raise expected(node, "a fact such as (on a b)")
        name = name_of(parts[0], "a predicate")
        wanted = self._domain.predicates.get(name) if self._domain else None
        if self._domain and wanted is None:
            raise expected(parts[0], f"one of the predicates {', '.join(sorted(self._domain.predicates))}"[:200])
        return (name, *self._terms(node, parts[1:], wanted, bound))

    def value(self, node: Node) -> tuple[str, ...]:
        """Return ("=", function, object ..., number)."""
        parts = parts_of(node, "(= (function ...) number)")
        if len(parts) != 3 or not parts[1].parts or not _NUMBER.fullmatch(parts[2].name):
            raise expected(node, "(= (function ...) number)")
        function = parts[1].parts
        name = name_of(function[0], "a function")
        wanted = self._domain.functions.get(name) if self._domain else None
        if self._domain and wanted is None:
            raise expected(function[0], "a declared function")
        number = repr(float(parts[2].name)).removesuffix(".0")
        return ("=", name, *self._terms(parts[1], function[1:], wanted, {}), number)

    def formula(self, node: Node, bound: Mapping[str, Types]) -> Formula:  # noqa: PLR0911 - one return a kind of formula
        """Return `node` as a condition."""
        parts = parts_of(node, "a condition")
        match node.head:
            case "" if not parts:
                return ("and",)
            case "and" | "or" as operator:
                return (operator, *(self.formula(part, bound) for part in parts[1:]))
            case "not" if len(parts) == 2:
                return ("not", self.formula(parts[1], bound))
            case "imply" if len(parts) == 3:
                return ("imply", self.formula(parts[1], bound), self.formula(parts[2], bound))
            case "=" if len(parts) == 3:
                return ("=", *self._terms(node, parts[1:], None, bound))
            case "forall" | "exists" as quantifier if len(parts) == 3:
                inner = variables(parts[1])
                self._n_bound += len(inner)
                if self._n_bound > MAX_DEPTH:
                    raise expected(node, f"at most {MAX_DEPTH} variables bound at once")
                body = self.formula(parts[2], {**bound, **dict(inner)})
                self._n_bound -= len(inner)
                for variable, types in reversed(inner):
                    body = (quantifier, variable, types, body)
                return body
            case "not" | "imply" | "=" | "forall" | "exists" as operator:
                raise expected(node, f"{operator} with {1 if operator == 'not' else 2} parts")
        return ("atom", *self.fact(node, bound))

    def _terms(
        self, node: Node, terms: Sequence[Node], wanted: tuple[Types, ...] | None, bound: Mapping[str, Types]
    ) -> list[str]:
        n_wanted = len(wanted) if wanted is not None else self._arities.setdefault(node.head, len(terms))
        if len(terms) != n_wanted:
            raise expected(node, f"{node.head} with {n_wanted} arguments")
        for n, term in enumerate(terms):
            types = self._types_of(term, bound)
            if wanted is not None and types is not None and not self.fits(types, wanted[n]):
                raise expected(term, f"an argument of type {' or '.join(wanted[n])}")
        return [term.name for term in terms]

    def _types_of(self, term: Node, bound: Mapping[str, Types]) -> Types | None:
        if _VARIABLE.fullmatch(term.name):
            if term.name not in bound:
                raise expected(term, "a bound variable or an object")
            return bound[term.name]
        name = name_of(term, "an object")
        if name not in self._objects and self._domain:
            raise expected(term, "a declared object")
        return self._objects.get(name)

    def fits(self, types: Types, wanted: Types) -> bool:
        """Return whether something of `types` may be used where `wanted` is required."""
        above = self._domain.ancestors if self._domain else {}
        return any(w in above.get(t, ("object", t)) for t in types for w in wanted)


def read_instance(text: str, domain: Domain | None) -> Instance:
    """Return the problem file `text`, checked against `domain` if there is one."""
    sections: dict[str, Node] = {}
    for section in _define(text, "problem")[1]:
        if section.head not in _SECTIONS:
            raise expected(section, f"one of {' '.join(_SECTIONS)}")
        if section.head in sections:
            raise expected(section, f"{section.head} only once")
        sections[section.head] = section
    for needed in (":domain", ":init", ":goal"):
        if needed not in sections:
            raise Unparsable(f"no {needed} section")
    objects = _objects(sections[":objects"], domain) if ":objects" in sections else {}
    names = Names(domain, objects)
    facts = {fact for node in _rest(sections[":init"]) for fact in _initial(node, names)}
    goal, domain_name = _rest(sections[":goal"]), _rest(sections[":domain"])
    if len(goal) != 1:
        raise expected(sections[":goal"], "one goal; join several by (and ...)")
    if len(domain_name) != 1:
        raise expected(sections[":domain"], "the name of the domain")
    metric = " ".join(map(str, _rest(sections[":metric"]))) if ":metric" in sections else ""
    return Instance(
        name_of(domain_name[0], "the name of the domain"), objects, frozenset(facts), names.formula(goal[0], {}), metric
    )


_SECTIONS = (":domain", ":requirements", ":objects", ":init", ":goal", ":metric")


def _rest(section: Node) -> tuple[Node, ...]:
    return (section.parts or ())[1:]


def _objects(section: Node, domain: Domain | None) -> dict[str, Types]:
    objects: dict[str, Types] = {}
    for node, types in typed(_rest(section), "an object"):
        if objects.setdefault(name_of(node, "an object"), types) != types:
            raise expected(node, "an object of one type")
        for type_ in types:
            if domain and type_ not in domain.ancestors:
                raise expected(node, f"a declared type, not {type_!r}, for the object")
    return objects


def _initial(node: Node, names: Names) -> Iterator[tuple[str, ...]]:
    """Yield the facts in `node` of the initial state; those it negates are false anyway."""
    match node.head:
        case "and":  # not in the standard, but common
            for part in _rest(node):
                yield from _initial(part, names)
        case "not" if len(node.parts or ()) == 2:
            names.fact(_rest(node)[0], {})
        case "=":
            yield names.value(node)
        case _:
            yield names.fact(node, {})


# --- printing ---------------------------------------------------------------------------------------------------------


def show_types(types: Types) -> str:
    """Return `types` as PDDL writes them."""
    return types[0] if len(types) == 1 else f"(either {' '.join(types)})"


def normal(formula: Formula, numbers: Mapping[str, int]) -> Formula:  # noqa: PLR0911 - as above
    """Return `formula` with variables numbered by depth, nested and doubled operands merged, commutative ones sorted."""
    match formula:
        case ("atom", name, *terms):
            return ("atom", name, *(_numbered(term, numbers) for term in terms))
        case ("=", left, right):
            return ("=", *sorted((_numbered(left, numbers), _numbered(right, numbers))))
        case ("not", ("not", part)):
            return normal(part, numbers)
        case ("not", part):
            return ("not", normal(part, numbers))
        case ("imply", left, right):
            return ("imply", normal(left, numbers), normal(right, numbers))
        case ("forall" | "exists" as quantifier, variable, types, part):
            depth = len(numbers)
            return (quantifier, f"?{depth}", types, normal(part, _hidden(numbers, variable, depth)))
        case (operator, *parts):
            operands = {operand for part in parts for operand in _operands(normal(part, numbers), operator)}
            return operands.pop() if len(operands) == 1 else (operator, *sorted(operands, key=show))
    raise AssertionError(formula)


def _numbered(term: str, numbers: Mapping[str, int]) -> str:
    return f"?{numbers[term]}" if term in numbers else term


def _hidden(numbers: Mapping[str, int], variable: str, depth: int) -> dict[str, int]:
    """Bind `variable`; a shadowed outer one of that name keeps its number under a name that no text can contain."""
    outer = {f" {depth}" if name == variable else name: n for name, n in numbers.items()}
    return {**outer, variable: depth}


def _operands(formula: Formula, operator: str) -> Iterable[Formula]:
    return formula[1:] if formula[0] == operator else (formula,)


def show(formula: Formula) -> str:
    """Return `formula` as PDDL."""
    match formula:
        case ("atom", *parts):
            return f"({' '.join(parts)})"
        case ("=", left, right):
            return f"(= {left} {right})"
        case ("forall" | "exists" as quantifier, variable, types, part):
            return f"({quantifier} ({variable} - {show_types(types)}) {show(part)})"
        case (operator, *parts):
            return f"({' '.join([operator, *map(show, parts)])})"
    raise AssertionError(formula)
