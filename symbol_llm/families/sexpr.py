"""S-expressions over a knowledge graph (GrailQA, WebQSP). Equal means: the same normal form, or the same answers.

    (AND film.film (JOIN film.film.directed_by (JOIN (R award.award.won_by) m.0abc)))
    (ARGMAX (AND film.film (le film.film.year 1999^^http://www.w3.org/2001/XMLSchema#gYear)) film.film.budget)

A set is a class, entity or literal, (AND set set ...), (JOIN relation set), (ARGMAX set relation), ARGMIN, (lt
relation literal), le, gt, ge, or (TC set relation time) with a date or NOW. A relation is a name, an inverse
(R relation), or a composition (JOIN relation relation). (COUNT set) is allowed outermost. In the normal form AND is
flat, sorted and without repetition, R applies to single relations, compositions are expanded, and literals of a type
have one notation.

Gold is `problem.program`. Without `environment["graph"]` the normal forms are compared. With it, a list of [subject,
relation, object] (class membership by "type.object.type"; an object is a name, a number, or a literal as above), a
program is accepted if it has gold's normal form, or gold's answers on this graph and on each of two dozen others made
from it by removing triples and adding similar ones: agreement on one small graph is often an accident. A program that
is not accepted scores the F1 of its answers or, if that is 1.0 on the first graph, the mean over all the others. If
gold has no answer, one other than `problem.answer` (a list, if given), or one on too few of the others, the problem is
invalid.

TC keeps things that began by the given time and had not ended: `from` is paired with `to`, `start_date` with
`end_date`, and things with neither are kept; NOW is `environment["now"]` ("2015-08-10", as for WebQSP).

Missed: expressions that are equal only because of the ontology, such as a class that the relation implies, a relation
with one object each, two relations that are inverses. SMCalFlow's Lispress is another language. Gu et al. 2021; Yih et
al. 2016.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from symbol_llm.families import Example, Needs, Ran, Result, needs, read_gold
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 2
METRIC = "exact match / F1 of answers"

MAX_ATOMS = 100
MAX_DEPTH = MAX_ATOMS + 5
"""Deepest nesting of brackets; a normal form is nested no deeper than its number of atoms, so it can be read again."""
MAX_STEPS = 1_000_000
"""Most triples that evaluating one expression on one graph may visit."""
N_WORLDS = 24
MIN_WORLDS = 4
"""Number of other graphs on which gold must have an answer."""
TYPE = "type.object.type"
NOW = "2015-08-10"

Expr = tuple[Any, ...]
"""("is", atom), ("AND", set, ...), ("JOIN", step, set), ("ARGMAX", set, chain), ("le", chain, atom),
("TC", set, chain, atom), ("COUNT", set)."""
Step = tuple[str, bool]
"""A relation, and whether it is inverted."""
Chain = tuple[Step, ...]
Value = tuple[str, Any]
"""("name", text), ("number", float), or ("date", year, month ...)."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    graph: list[Any] | None = None
    """Rows of [subject, relation, object]; None: normal forms are compared."""
    now: str = NOW
    """The date that NOW means."""


def canonical(program: str) -> str:
    """Return the normal form."""
    return _print(_parse(program))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the answers as JSON, or the normal form if the problem has no graph."""
    expr = _parse(program)
    graph = _graph(problem)
    if graph is None:
        return Ran(_print(expr))
    answers = _World(graph, problem).answers(expr)
    return Ran(_show(answers)) if answers else Ran(None, "no answer")


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the normal form is gold's, or the answers are, on this graph and others; else the F1 of the answers."""
    gold = read_gold(problem, _parse)
    expr = _parse(program)
    graph = _graph(problem)
    if graph is None:
        return Result(float(expr == gold), _print(expr))
    expected = _gold_answers(graph, gold, problem)
    _check_answer(expected, problem)
    if expr == gold:
        return Result(1.0, _show(expected))
    answers = _World(graph, problem).answers(expr)
    f1 = _f1(answers, expected)
    return Result(f1 if f1 < 1.0 else _agreement(expr, gold, graph, problem), _show(answers))


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with an operator, relation, direction, name or number changed, or an operand removed."""
    expr = _parse(program)
    atoms = sorted(set(re.findall(r"[^\s()]+", _print(expr))))
    changed = list(_changes(expr, [atom for atom in atoms if "." in atom], rng))
    rng.shuffle(changed)
    for mutant in map(_print, changed):
        if mutant.startswith("(") and canonical(mutant) != _print(expr):
            yield mutant


_SWAPS = {"ARGMAX": "ARGMIN", "ARGMIN": "ARGMAX", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


def _changes(expr: Expr, atoms: list[str], rng: random.Random) -> Iterator[Expr]:
    operator, *parts = expr
    if operator == "is":
        yield ("is", _another(parts[0], atoms, rng))
    if operator == "COUNT":
        yield parts[0]
    if operator in _SWAPS:
        yield (_SWAPS[operator], *parts)
    if operator == "AND":
        yield from (parts[n] if len(parts) == 2 else ("AND", *parts[:n], *parts[n + 1 :]) for n in range(len(parts)))
    for n, part in enumerate(parts):
        if operator != "is" and isinstance(part, str):
            yield (operator, *parts[:n], _another(part, [], rng), *parts[n + 1 :])
        elif operator == "JOIN" and n == 0:
            name, turned = part
            yield (operator, (name, not turned), *parts[1:])
            yield (operator, (f"{name}_of", turned), *parts[1:])
        elif isinstance(part, tuple) and isinstance(part[0], tuple):
            (name, turned), *rest = part
            yield (operator, *parts[:n], ((f"{name}_of", turned), *rest), *parts[n + 1 :])
        elif isinstance(part, tuple):
            yield from ((operator, *parts[:n], other, *parts[n + 1 :]) for other in _changes(part, atoms, rng))


def _another(atom: str, atoms: list[str], rng: random.Random) -> str:
    number = re.match(r"-?[0-9]{1,9}", atom)
    if atom == "NOW":
        return "2009"
    if number:
        return f"{int(number[0]) + 1}{atom[number.end() :]}"
    entity = atom.startswith(("m.", "g."))
    others = [other for other in atoms if other != atom and other.startswith(("m.", "g.")) == entity]
    return rng.choice(others) if others else f"{atom}x" if "^" not in atom and '"' not in atom else "m.0x"


# --- parsing into the normal form -------------------------------------------------------------------------------------

_TOKEN = re.compile(r'\s*(?:([()])|("(?:[^"\\\n]|\\.)*"(?:@[\w-]+|\^\^[^\s()"]+)?)|([^\s()"]+)|(\S))')
_SETS = "AND, JOIN, ARGMAX, ARGMIN, lt, le, gt, ge or TC"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_DATES = ("date", "dateTime", "gYear", "gYearMonth", "datetime")
_DATE = re.compile(r"(-?\d{4})(?:-(\d\d))?(?:-(\d\d))?(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?")


class _Parser:
    """Recursive descent; the position of a name decides whether it is a relation."""

    def __init__(self, program: str) -> None:
        self._program, self._depth, self._n_atoms = program, 0, 0
        self._tokens = [(token[0].strip(), token.end(), token[4]) for token in _TOKEN.finditer(program.rstrip())]
        self._at = 0

    def _peek(self, ahead: int = 0) -> str:
        return self._tokens[self._at + ahead][0] if self._at + ahead < len(self._tokens) else ""

    def _error(self, expected: str, ahead: int = 0) -> Unparsable:
        token, end, _ = self._tokens[self._at + ahead] if self._peek(ahead) else ("", len(self._program), None)
        start = end - len(token)
        line, column = self._program.count("\n", 0, start) + 1, start - self._program.rfind("\n", 0, start)
        return Unparsable(f"line {line}, column {column}: expected {expected}, got {token[:40] or 'the end'!r}")

    def program(self) -> Expr:
        """Parse the whole program as one expression."""
        if self._peek() != "(":
            raise self._error("'('")
        expr: Expr = ("COUNT", self._closed(self._set)) if self._is("COUNT") else self._set()
        if self._peek():
            raise self._error("the end")
        return ("AND", expr, expr) if expr[0] == "is" else expr  # a lone atom could be any word

    def _is(self, operator: str) -> bool:
        return self._peek() == "(" and self._peek(1).upper() == operator

    def _closed(self, *parts: Callable[[], Any]) -> Any:
        """Return the results of `parts`, which read from the operator, already consumed, to the closing bracket."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"at most {MAX_DEPTH} levels")
        self._at += 2
        found = [part() for part in parts]
        if self._peek() != ")":
            raise self._error("')'")
        self._at += 1
        self._depth -= 1
        return found[0] if len(found) == 1 else found

    def _set(self) -> Expr:
        if self._peek() != "(":
            return ("is", self._atom("a set"))
        operator = self._peek(1).upper()
        if operator == "AND":
            return _and(self._closed(self._operands))
        if operator == "JOIN":
            chain, inner = self._closed(self._chain, self._set)
            for step in reversed(chain):
                inner = ("JOIN", step, inner)
            return tuple(inner)
        if operator in ("ARGMAX", "ARGMIN"):
            return (operator, *self._closed(self._set, self._chain))
        if operator in ("LT", "LE", "GT", "GE"):
            return (operator.lower(), *self._closed(self._chain, self._number_or_date))
        if operator == "TC":
            return (operator, *self._closed(self._set, self._chain, self._time))
        raise self._error(_SETS, ahead=1)

    def _operands(self) -> list[Expr]:
        operands = [self._set(), self._set()]
        while self._peek() not in (")", ""):
            operands.append(self._set())
        return operands

    def _chain(self) -> Chain:
        if self._is("R"):
            return tuple((name, not turned) for name, turned in reversed(self._closed(self._chain)))
        if self._is("JOIN"):
            first, second = self._closed(self._chain, self._chain)
            return (*first, *second)
        if self._peek() == "(":
            raise self._error("a relation, R or JOIN", ahead=1)
        name = self._atom("a relation")
        if re.search(r'["^]', name) or re.match(r"[mg]\.[^.]*\Z|-?\d", name):
            self._at -= 1
            raise self._error("a relation")
        return ((name, False),)

    def _atom(self, expected: str) -> str:
        token = self._peek()
        if token in ("", "(", ")") or self._tokens[self._at][2]:
            raise self._error(expected)
        try:
            atom = _normal_atom(token)
        except ValueError as e:
            raise self._error(f"a value of its type ({e})"[:120]) from e
        self._at += 1
        self._n_atoms += 1
        if self._n_atoms > MAX_ATOMS:
            raise self._error(f"at most {MAX_ATOMS} names and literals")
        return atom

    def _number_or_date(self) -> str:
        atom = self._atom("a number or date")
        if _value(atom)[0] == "name":
            self._at -= 1
            raise self._error("a number or date")
        return atom

    def _time(self) -> str:
        atom = self._atom("a date or NOW")
        if atom != "NOW" and not _date(atom.partition("^^")[0].strip('"')):
            self._at -= 1
            raise self._error("a date or NOW")
        return atom


def _parse(program: str) -> Expr:
    return _Parser(program).program()


def _and(operands: Iterable[Expr]) -> Expr:
    flat = {part for operand in operands for part in (operand[1:] if operand[0] == "AND" else (operand,))}
    ordered = sorted(flat, key=_print)
    return ordered[0] if len(ordered) == 1 else ("AND", *ordered)


def _normal_atom(token: str) -> str:
    """Return a typed literal in normal notation; ValueError if the value does not fit the type."""
    value, typed, kind = token.rpartition("^^")
    if not typed:
        return token
    kind = kind.strip("<>").removeprefix(_XSD).removeprefix("xsd:")
    text = value[1:-1] if value.startswith('"') else value
    if kind in ("integer", "int", "long"):
        text = str(int(text))
    elif kind in ("float", "double", "decimal"):
        text = repr(float(text))
        if not re.match(r"-?\d", text):
            raise ValueError("not finite")
    elif kind in _DATES and not _DATE.fullmatch(text):
        raise ValueError("no date")
    return f"{text if re.fullmatch(r'[^ ()^]+', text) and chr(34) not in text else value}^^{_XSD}{kind}"


def _print(expr: Expr) -> str:
    match expr:
        case ("is", atom):
            return str(atom)
        case ("JOIN", step, inner):
            return f"(JOIN {_print_chain((step,))} {_print(inner)})"
        case ("lt" | "le" | "gt" | "ge" as operator, chain, atom):
            return f"({operator} {_print_chain(chain)} {atom})"
        case ("ARGMAX" | "ARGMIN" as operator, inner, chain):
            return f"({operator} {_print(inner)} {_print_chain(chain)})"
        case ("TC", inner, chain, atom):
            return f"(TC {_print(inner)} {_print_chain(chain)} {atom})"
    return f"({expr[0]} {' '.join(map(_print, expr[1:]))})"


def _print_chain(chain: Chain) -> str:
    name, turned = chain[0]
    first = f"(R {name})" if turned else name
    return f"(JOIN {first} {_print_chain(chain[1:])})" if len(chain) > 1 else first


# --- answers ----------------------------------------------------------------------------------------------------------


def _value(atom: str) -> Value:
    """Return the value of an atom: numbers of all types are alike, and so are dates; any other atom is a name."""
    text, typed, kind = atom.rpartition("^^")
    text, kind = (text.strip('"'), kind.removeprefix(_XSD)) if typed else (atom, "")
    if kind in _DATES or (not typed and re.fullmatch(r"\d{4}-\d\d(-\d\d)?", atom)):
        return ("date", _date(text))
    if re.fullmatch(r"[+-]?\d{1,300}(\.\d*)?(e[+-]?\d{1,2})?", text) and kind != "string":
        return ("number", float(text))
    return ("name", text[1:-1] if re.fullmatch(r'".*"', text) else text)


def _date(text: str) -> tuple[int, ...]:
    """Return year, month ... as far as they are given; empty if `text` is not a date."""
    found = _DATE.fullmatch(text)
    return tuple(int(part) for part in itertools.takewhile(bool, found.groups())) if found else ()


class _World:
    """A graph, indexed for following relations either way."""

    def __init__(self, graph: Iterable[tuple[Value, str, Value]], problem: Problem) -> None:
        self._links: dict[Step, dict[Value, set[Value]]] = {}
        self._values: set[Value] = set()
        for subject, relation, thing in graph:
            self._links.setdefault((relation, False), {}).setdefault(subject, set()).add(thing)
            self._links.setdefault((relation, True), {}).setdefault(thing, set()).add(subject)
            self._values.add(thing)
        self._now = _date(needs(problem, Environment).now)
        self._steps_left = MAX_STEPS

    def answers(self, expr: Expr) -> frozenset[Value]:
        """Return the set that `expr` denotes; a count of nothing has no answer."""
        found = self._denote(expr[1] if expr[0] == "COUNT" else expr)
        if expr[0] == "COUNT" and found:
            return frozenset([("number", float(len(found)))])
        return frozenset(found)

    def _denote(self, expr: Expr) -> set[Value]:
        match expr:
            case ("is", atom):
                value = _value(atom)
                return set(self._links.get((TYPE, True), {}).get(value, {value}))
            case ("AND", *parts):
                return set.intersection(*map(self._denote, parts))
            case ("JOIN", (name, turned), inner):
                return self._follow(((name, not turned),), self._denote(inner))
            case ("lt" | "le" | "gt" | "ge" as operator, chain, atom):
                bound = _value(atom)
                values = {value for value in self._values if value[0] == bound[0] and _holds(value, operator, bound)}
                return self._follow(_turned(chain), values)
            case ("TC", inner, chain, atom):
                time = self._now if atom == "NOW" else _date(atom.partition("^^")[0].strip('"'))
                return {thing for thing in self._denote(inner) if self._holds_at(thing, chain, time)}
            case (operator, inner, chain):
                return self._extreme(self._denote(inner), chain, greatest=operator == "ARGMAX")
        raise AssertionError(expr)

    def _follow(self, chain: Chain, things: set[Value]) -> set[Value]:
        """Return everything that `chain` leads to from any of `things`."""
        for step in chain:
            links = self._links.get(step, {})
            reached: set[Value] = set()
            for thing in things & links.keys() if len(things) > len(links) else things:
                further = links.get(thing, set())
                self._steps_left -= 1 + len(further)
                reached |= further
            if self._steps_left < 0:
                raise LimitExceeded(f"evaluating the expression touches more than {MAX_STEPS} triples")
            things = reached
        return things

    def _extreme(self, things: set[Value], chain: Chain, *, greatest: bool) -> set[Value]:
        measured = [
            (value, thing)
            for thing in things
            for value in self._follow(chain, {thing})
            if value[0] in ("number", "date")
        ]
        if not measured:
            return set()
        best = (max if greatest else min)(value for value, _ in measured)
        return {thing for value, thing in measured if value == best}

    def _holds_at(self, thing: Value, chain: Chain, time: tuple[int, ...]) -> bool:
        """Return whether `thing` has begun by `time` and not ended before; unknown dates do not count."""
        (name, turned), n = chain[-1], len(time)
        starts = [value[1] for value in self._follow(chain, {thing}) if value[0] == "date"]
        until = re.sub(r"from(_date)?\Z", r"to\1", re.sub(r"start(_date)?\Z", r"end\1", name))
        ends = self._follow((*chain[:-1], (until, turned)), {thing}) if until != name else set()
        finished = [value[1] for value in ends if value[0] == "date"]
        return (not starts or any(start[:n] <= time for start in starts)) and (
            not finished or any(end[:n] >= time for end in finished)
        )


def _holds(value: Value, operator: str, bound: Value) -> bool:
    compared = {"lt": value < bound, "le": value <= bound, "gt": value > bound, "ge": value >= bound}
    return compared[operator]


def _turned(chain: Chain) -> Chain:
    return tuple((name, not turned) for name, turned in reversed(chain))


def _graph(problem: Problem) -> list[tuple[Value, str, Value]] | None:
    rows = needs(problem, Environment).graph
    if rows is None:
        return None
    graph = []
    for row in rows:
        if not (isinstance(row, list) and len(row) == 3 and all(isinstance(part, str) for part in row[:2])):
            raise InvalidInput(f"problem {problem.id}: graph row {row!r:.80}; expected [subject, relation, object]")
        graph.append((("name", row[0]), row[1], _given(row[2], problem)))
    return graph


def _given(thing: Any, problem: Problem) -> Value:
    if isinstance(thing, str):
        try:
            return _value(_normal_atom(thing))
        except ValueError as e:
            raise InvalidInput(f"problem {problem.id}: {thing!r}: {e}") from e
    if isinstance(thing, bool) or not isinstance(thing, int | float):
        raise InvalidInput(f"problem {problem.id}: {thing!r:.80}; expected a name, a number or a literal")
    return ("number", float(thing))


def _gold_answers(graph: list[tuple[Value, str, Value]], gold: Expr, problem: Problem) -> frozenset[Value]:
    try:
        return _World(graph, problem).answers(gold)
    except LimitExceeded as e:  # gold is ours
        raise InvalidInput(f"problem {problem.id}: gold expression: {e}") from e


def _check_answer(expected: frozenset[Value], problem: Problem) -> None:
    if not expected:
        raise InvalidInput(f"problem {problem.id}: gold has no answer on this graph, which proves nothing")
    if problem.answer is not None and {_given(thing, problem) for thing in problem.answer} != expected:
        raise InvalidInput(
            f"problem {problem.id}: gold gives {_show(expected):.80}, the answer is {problem.answer!r:.80}"
        )


def _agreement(expr: Expr, gold: Expr, graph: list[tuple[Value, str, Value]], problem: Problem) -> float:
    """Return the mean F1 over other graphs; InvalidInput if gold has an answer on too few of them."""
    scores, n_telling = [], 0
    for other in _others(graph, random.Random(problem.id)):
        expected = _gold_answers(other, gold, problem)
        n_telling += bool(expected)
        scores.append(_f1(_World(other, problem).answers(expr), expected))
    if min(scores) == 1.0 and n_telling < MIN_WORLDS:
        raise InvalidInput(
            f"problem {problem.id}: gold has an answer on {n_telling} graphs like this one, too few to tell"
        )
    return sum(scores) / len(scores)


def _others(graph: list[tuple[Value, str, Value]], rng: random.Random) -> Iterator[list[tuple[Value, str, Value]]]:
    """Yield graphs made from `graph`: triples removed, and as many added between things that the relation connects."""
    by_relation: dict[str, list[tuple[Value, str, Value]]] = {}
    for triple in graph:
        by_relation.setdefault(triple[1], []).append(triple)
    names = sorted({thing for subject, _, thing_ in graph for thing in (subject, thing_) if thing[0] == "name"})
    for n in range(N_WORLDS):
        made = [triple for triple in graph if rng.random() < (0.9, 0.6, 0.3)[n % 3]]
        for relation, triples in by_relation.items():
            for _ in triples:
                subject = rng.choice(names) if rng.random() < 0.3 else rng.choice(triples)[0]
                made.append((subject, relation, _near(rng.choice(triples)[2], names, rng)))
        yield made


def _near(thing: Value, names: list[Value], rng: random.Random) -> Value:
    """Return `thing` or, one time in three, another of its kind."""
    if rng.random() < 0.67:
        return thing
    match thing:
        case ("number", number):
            return ("number", number + rng.randint(-5, 5))
        case ("date", (year, *rest)):
            return ("date", (year + rng.randint(-5, 5), *rest))
    return rng.choice(names)


def _f1(found: frozenset[Value], expected: frozenset[Value]) -> float:
    return 2 * len(found & expected) / (len(found) + len(expected)) if found or expected else 1.0


def _show(answers: frozenset[Value]) -> str:
    shown = [value if kind != "date" else "-".join(f"{part:02}" for part in value) for kind, value in sorted(answers)]
    return json.dumps(shown, ensure_ascii=False)


_FILMS = [
    *([f"film{n}", TYPE, "film.film"] for n in range(1, 6)),
    *([f"film{n}", "film.film.directed_by", f"m.{who}"] for n, who in enumerate(("ann", "ann", "bob", "bob", "cy"), 1)),
    *([f"film{n}", "film.film.year", f"{year}^^xsd:gYear"] for n, year in enumerate((1990, 2001, 1999, 2005, 1985), 1)),
    *(
        [f"m.{who}", "people.person.born_in", place]
        for who, place in (("ann", "Kiel"), ("bob", "Kiel"), ("cy", "Bonn"))
    ),
]
_LATEST = "(ARGMAX (AND film.film (JOIN film.film.directed_by (JOIN people.person.born_in Kiel))) film.film.year)"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="sexpr", split="train", instruction="Write the s-expression.", program=_LATEST,
        question="Which is the latest film by a director born in Kiel?", answer=["film4"],
        environment={"graph": _FILMS},
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _LATEST, 1.0),
    _example(
        "different-looking equal",
        "(argmax (and (JOIN (JOIN film.film.directed_by (R (R people.person.born_in))) Kiel)\n film.film)"
        " film.film.year)",
        1.0,
    ),
    _example("equal by its answers on every graph", f"(ARGMAX {_LATEST} film.film.year)", 1.0),
    _example("similar-looking different", _LATEST.replace("ARGMAX", "ARGMIN"), 0.0),
    _example("another set of one right answer", "(JOIN film.film.directed_by m.bob)", 2 / 3),
    _example("relation where a set is wanted", "(AND film.film (R film.film.directed_by))", None),
    _example("ill-formed", _LATEST[:-1], None),
)
