"""SPARQL queries (SELECT and ASK). Equal means: the same answers on the problem's graph, or else the same normal form.

`environment["graph"]` is Turtle or a list of triples, each of three terms in Turtle syntax; the prefixes
`parser.PREFIXES` may be used in it, as in a query, without being declared. Gold is `problem.program`. Oxigraph answers
both queries in children of their own, on the graph and on variants that lack some triples and have slightly different
twins of its subjects, so that two queries do not pass for equal by accident. Columns are matched by position or, if one
query has `SELECT *` and the column names are the same, by name. Rows are compared as a list if gold's outermost SELECT
has an ORDER BY, else as a multiset. Whole numbers must be the same, others agree to 12 digits, whatever their type.
Other answers score the F1 of the rows, below 1. Gold with no answer on the graph, or with the same answer on all
graphs, proves nothing: then only its normal form is accepted. A query that the engine refuses, such as one with an
aggregate in FILTER, is ill-formed; an expression that fails, such as a bad regular expression, drops rows, as SPARQL
specifies.

Without a graph, equal means the same normal form: prefixes are expanded and variables renamed, and the order of triple
patterns, UNION, filters, VALUES and the operands of symmetric operators does not count. Variables are named by colour
refinement and by trying every naming of those it cannot tell apart, up to `MAX_VISITED`. A query beyond that keeps its
order; if it differs from the other form, the program is unscored, since the fault may be gold's. As in Virtuoso,
`SELECT COUNT(?x)` is accepted, with or without `AS ?n`.

Refused: CONSTRUCT, DESCRIBE, updates, FROM, SERVICE, RDF collections. Missed without a graph: equal queries with
different algebra. Missed with one: the order of rows that ORDER BY leaves open.
Data: LC-QuAD (Trivedi et al. 2017), QALD-9-plus (Perevalov et al. 2022), GrailQA (Gu et al. 2021).
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.families.sparql.answers import Answer, Answers, ask
from symbol_llm.families.sparql.parser import TOKEN, Tree, nodes, parse
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.notation.refinement import least_text

VERSION = 3
METRIC = "exact match / F1 of answers"

MAX_VISITED = 60_000
"""Most nodes of a query's tree, counted each time they are printed, that are visited to name its variables."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    graph: str | list[Any] | None = None
    """Turtle, or triples of three terms in Turtle syntax; None: normal forms are compared."""


def canonical(program: str) -> str:
    """Return the query in its normal form, which is a query with the same answers."""
    return _form(parse(program)).text


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the answers on the problem's graph or, without one, the canonical form."""
    query = parse(program)
    form = _form(query)
    if needs(problem, Environment).graph is None:
        return Ran(form.text)
    found = ask(form.text, [], problem, limits)
    if found.fault:
        return Ran(None, found.fault, found.isolation)
    value = found.answer
    if isinstance(value, list) and not _is_ordered(query):
        value = sorted(value, key=repr)
    return Ran(str(value), "", found.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's answers or, without a graph, gold's form; else the F1 of its answers, or 0.0."""
    query = parse(program)
    form = _form(query)
    if problem.program is None:
        raise InvalidInput(f"problem {problem.id} has no gold query")
    try:
        gold_query = parse(problem.program)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold query fails: {e}") from e
    gold = _form(gold_query)
    if needs(problem, Environment).graph is not None:
        return _compare(form, gold, (query, gold_query), problem, limits)
    if form.text != gold.text and form.outline == gold.outline and not (form.exact and gold.exact):
        raise Unavailable("not decided: too many ways of naming the variables")
    return Result(float(form.text == gold.text), form.text)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one term, operator or keyword changed so that its normal form differs."""
    form = canonical(program)
    matches = list(TOKEN.finditer(program))
    variables = sorted({m[0] for m in matches if m.lastgroup == "variable"})
    changes = [(m, new) for m in matches for new in _changes(m, variables)]
    rng.shuffle(changes)
    for match, new in changes:
        mutant = f"{program[: match.start()]}{new}{program[match.end() :]}"
        try:
            changed = _form(parse(mutant))
        except (Unparsable, LimitExceeded):
            continue
        if changed.text != form and changed.exact:
            yield mutant


_SWAPS = {
    "<": ">=", ">": "<=", "<=": ">", ">=": "<", "=": "!=", "!=": "=", "&&": "||", "||": "&&", "desc": "ASC",
    "asc": "DESC", "distinct": "", "count": "MAX", "max": "MIN", "min": "MAX", "sum": "AVG", "avg": "SUM",
    "optional": "MINUS", "exists": "NOT EXISTS", "lang": "STR", "ask": "SELECT *",
}  # fmt: skip


def _changes(match: re.Match[str], variables: list[str]) -> list[str]:  # noqa: PLR0911 - one return a kind of token
    token = match[0]
    match match.lastgroup:
        case "iri":
            return [f"{token[:-1]}_2>"]
        case "name" if not token.endswith(":"):
            return [f"{token}_2"]
        case "text":
            return [f"{token[:-1]}~{token[-1]}"]
        case "number" if re.fullmatch(r"\d{1,18}", token):
            return [str(int(token) + 1)]
        case "variable":
            return [other for other in variables if other != token][:2]
        case "word" | "sign" if token.lower() in _SWAPS:
            return [_SWAPS[token.lower()]]
    return []


# --- comparing answers ------------------------------------------------------------------------------------------------


def _compare(form: Form, gold: Form, queries: tuple[Tree, Tree], problem: Problem, limits: Limits) -> Result:
    written = [float(node[1]) for query in queries for node in nodes(query) if node[0] == "number"]
    numbers = sorted({number for number in written if math.isfinite(number)})
    found, right = _answers(form, gold, queries, numbers, problem, limits)
    if right.fault:
        raise InvalidInput(f"problem {problem.id}: gold query fails: {right.fault}")
    if found.fault.startswith("SyntaxError"):
        raise Unparsable(found.fault.removeprefix("SyntaxError: "))
    if found.fault:
        return Result(0.0, found.fault, found.isolation)
    value = str(found.answer)
    if form.text == gold.text:
        return Result(1.0, value, found.isolation)
    which = 0 if _is_ordered(queries[1]) else 1
    if [pair[which] for pair in found.hashes] != [pair[which] for pair in right.hashes]:
        return Result(min(0.99, _f1(found.answer, right.answer)), value, found.isolation)
    is_constant = isinstance(right.answer, bool) and len({pair[0] for pair in right.hashes}) == 1
    if right.answer == [] or is_constant:
        raise Unavailable(f"problem {problem.id}: gold's answer {right.answer} on this graph proves nothing")
    return Result(1.0, value, found.isolation)


def _answers(
    form: Form, gold: Form, queries: tuple[Tree, Tree], numbers: list[float], problem: Problem, limits: Limits
) -> tuple[Answers, Answers]:
    """Return the answers of the program and of gold, with columns sorted by name if `*` gives them no other order."""
    program, by_gold = queries
    if not (_has_star(program) or _has_star(by_gold)):
        return ask(form.text, numbers, problem, limits), _gold_answers(gold.text, numbers, problem, limits)
    found = ask(_as_named(program), numbers, problem, limits, by_name=True)
    right = _gold_answers(_as_named(by_gold), numbers, problem, limits, by_name=True)
    if found.names == right.names or found.fault or right.fault:
        return found, right
    if not _has_star(program):
        found = ask(form.text, numbers, problem, limits)
    if not _has_star(by_gold):
        right = _gold_answers(gold.text, numbers, problem, limits)
    return found, right


def _gold_answers(
    text: str, numbers: list[float], problem: Problem, limits: Limits, *, by_name: bool = False
) -> Answers:
    try:
        return ask(text, numbers, problem, limits, by_name=by_name)
    except LimitExceeded as e:
        raise Unavailable(f"problem {problem.id}: gold query hits a limit: {e}") from e


def _has_star(query: Tree) -> bool:
    return bool(query[0] == "select" and not query[2])


def _as_named(query: Tree) -> str:
    """Print `query` with its variables under their own names; those hidden in subqueries get others."""
    names = list(dict.fromkeys(node[1] for node in nodes(query) if node[0] == "var"))
    hidden = (name for n in range(2 * len(names) + 1) if (name := f"hidden{n}") not in names)
    return _print(query, {name: next(hidden) if "#" in name else name for name in names}, in_order=True)


def _f1(found: Answer, gold: Answer) -> float:
    if isinstance(found, bool) or isinstance(gold, bool):
        return 0.0
    one, two = set(map(tuple, found)), set(map(tuple, gold))
    return 2 * len(one & two) / (len(one) + len(two)) if one & two else 0.0


# --- normal form ------------------------------------------------------------------------------------------------------

_SYMMETRIC = ("=", "!=", "&&", "||", "+", "*")
_FLIPPED = {">": "<", ">=": "<="}
_POSITIONAL = ("optional", "minus", "bind")


class Form(NamedTuple):
    """A printed query, and whether every query that differs only in names and order prints the same."""

    text: str
    exact: bool
    outline: str
    """The query printed with one name for all variables: if outlines differ, so do the queries."""


def _form(query: Tree) -> Form:
    """Return the least text over all namings of the variables that colour refinement leaves, within `MAX_VISITED`."""
    names = list(dict.fromkeys(node[1] for node in nodes(query) if node[0] == "var"))
    size = sum(1 for _ in nodes(query))

    def named(order: Sequence[str]) -> dict[str, str]:
        return {name: f"v{n}" for n, name in enumerate(order, 1)}

    outline = _print(query, dict.fromkeys(names, "v"))
    least = least_text(names, lambda naming: _print(query, naming), named, max_shown=MAX_VISITED // size)
    if least is not None:
        return Form(least, exact=True, outline=outline)
    text = _print(query, {name: f"{n}#" for n, name in enumerate(names)}, in_order=True)
    order = sorted(names, key=lambda name: text.find(f"?{names.index(name)}#"))
    return Form(_print(query, named(order), in_order=True), exact=False, outline=outline)


def _is_ordered(query: Tree) -> bool:
    return any(part[0] == "order" for part in query[-1])


def _print(query: Tree, names: Mapping[str, str], *, in_order: bool = False) -> str:
    return _Printer(names, sorted if not in_order else list).query(query)


class _Printer:
    """Prints a tree as a query, with commuting parts sorted by their text."""

    def __init__(self, names: Mapping[str, str], order: Callable[[Any], list[str]]) -> None:
        self._names, self._order = names, order

    def query(self, tree: Tree) -> str:
        """Print ["select", "DISTINCT" or "", items, group, modifiers] or ["ask", group, modifiers]."""
        kind, *rest = tree
        modifiers = " ".join(self._modifier(part) for part in rest[-1])
        if kind == "ask":
            return f"ASK WHERE {self._group(rest[0])} {modifiers}".strip()
        items = " ".join(self._item(item) for item in rest[1]) or "*"
        head = f"SELECT {rest[0]} {items}" if rest[0] else f"SELECT {items}"
        return f"{head} WHERE {self._group(rest[2])} {modifiers}".strip()

    def _item(self, item: Tree) -> str:
        return f"({self._expression(item[1])} AS {self._term(item[2])})" if item[0] == "as" else self._term(item)

    def _modifier(self, part: Tree) -> str:
        match part:
            case ["group", items]:
                return f"GROUP BY {' '.join(self._order(self._key(item) for item in items))}"
            case ["having", conditions]:
                return f"HAVING {' '.join(self._order(self._bracketed(c) for c in conditions))}"
            case ["order", keys]:
                return f"ORDER BY {' '.join(f'{sign}({self._expression(key)})' for sign, key in keys)}"
            case ["values", *_]:
                return self._element(part)
            case [name, number]:
                return f"{name.upper()} {number}"
        raise AssertionError(part)

    def _key(self, item: Tree) -> str:
        return self._item(item) if item[0] in ("var", "as") else self._bracketed(item)

    def _bracketed(self, expression: Tree) -> str:
        return f"({self._expression(expression)})"

    def _group(self, elements: Tree) -> str:
        """Print the elements between two positional ones in the order of their texts, and filters last."""
        parts: list[str] = []
        segment: list[str] = []
        for element in elements:
            if element[0] in _POSITIONAL:
                parts += [*self._order(segment), self._element(element)]
                segment = []
            elif element[0] != "filter":
                segment.append(self._element(element))
        filters = (self._element(element) for element in elements if element[0] == "filter")
        return " ".join(["{", *parts, *self._order(segment), *self._order(filters), "}"])

    def _element(self, element: Tree) -> str:  # noqa: PLR0911 - one return a kind of element
        match element:
            case ["triple", subject, verb, thing]:
                return f"{self._term(subject)} {self._path(verb)} {self._term(thing)} ."
            case ["filter", expression]:
                exists = expression[0] == "exists"
                return f"FILTER {self._expression(expression) if exists else self._bracketed(expression)}"
            case ["optional" | "minus" as kind, group]:
                return f"{kind.upper()} {self._group(group)}"
            case ["union", *groups]:
                return " UNION ".join(self._order(map(self._group, groups)))
            case ["graph", term, group]:
                return f"GRAPH {self._term(term)} {self._group(group)}"
            case ["bind", expression, variable]:
                return f"BIND({self._expression(expression)} AS {self._term(variable)})"
            case ["values", variables, rows]:
                lines = (f"({' '.join(map(self._term, row))})" for row in rows)
                return f"VALUES ({' '.join(map(self._term, variables))}) {{ {' '.join(self._order(lines))} }}"
            case ["sub", query]:
                return f"{{ {self.query(query)} }}"
        raise AssertionError(element)

    def _path(self, path: Tree) -> str:
        match path:
            case ["path", "|" as sign, *parts]:
                return f"({sign.join(self._order(map(self._path, parts)))})"
            case ["path", "/", *parts]:
                return f"({'/'.join(map(self._path, parts))})"
            case ["path", "^", part]:
                return f"(^{self._path(part)})"
            case ["path", "!", *parts]:
                return f"(!({'|'.join(self._order(parts))}))"
            case ["path", sign, part]:
                return f"({self._path(part)}{sign})"
        return self._term(path)

    def _term(self, term: Tree) -> str:
        match term:
            case ["var", name]:
                return f"?{self._names[name]}"
            case ["iri", iri]:
                return f"<{iri}>"
            case ["text", quoted, tag]:
                return f"{quoted}{tag}"
        return str(term[1])

    def _expression(self, tree: Tree) -> str:  # noqa: PLR0911 - one return a kind of expression
        match tree:
            case ["op", sign, *parts] if sign in _SYMMETRIC:
                return f" {sign} ".join(self._order(map(self._operand, parts)))
            case ["op", sign, left, right]:
                pair = [self._operand(left), self._operand(right)]
                return f" {_FLIPPED.get(sign, sign)} ".join(reversed(pair) if sign in _FLIPPED else pair)
            case ["unary", sign, part]:
                return f"{sign} {self._operand(part)}"
            case ["in", negated, part, choices]:
                chosen = ", ".join(self._order(map(self._expression, choices)))
                return f"{self._operand(part)} {'NOT ' if negated else ''}IN ({chosen})"
            case ["exists", negated, group]:
                return f"{'NOT ' if negated else ''}EXISTS {self._group(group)}"
            case ["call", name, distinct, arguments, separator]:
                inside = ", ".join(map(self._expression, arguments))
                return f"{name}({'DISTINCT ' if distinct else ''}{inside}{separator})"
        return self._term(tree)

    def _operand(self, tree: Tree) -> str:
        return self._bracketed(tree) if tree[0] in ("op", "unary", "in") else self._expression(tree)


_LAKES = "SELECT DISTINCT ?lake WHERE { ?lake a dbo:Lake ; dbo:country dbr:Peru . ?lake dbo:area ?km FILTER(?km > 50) }"
_GRAPH = """
dbr:A a dbo:Lake ; dbo:country dbr:Peru ; dbo:area 60 .
dbr:B a dbo:Lake ; dbo:country dbr:Peru ; dbo:area 50 .
dbr:C a dbo:Lake ; dbo:country dbr:Chile ; dbo:area 900 .
dbr:D a dbo:Lake ; dbo:country dbr:Peru, dbr:Chile ; dbo:area 700 .
dbr:E a dbo:City ; dbo:country dbr:Peru ; dbo:area 300 .
"""


def _example(name: str, program: str, score: float | None, **environment: str) -> Example:
    problem = Problem.of(
        task="example", family="sparql", split="train", instruction="Write SPARQL.",
        question="Which lakes of Peru are larger than 50 square kilometres?", program=_LAKES, environment=environment,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _LAKES, 1.0),
    _example(
        "different-looking equal",
        "PREFIX o: <http://dbpedia.org/ontology/> select distinct ?x where { ?x o:area ?y . filter(50 < ?y) "
        "?x o:country res:Peru . ?x rdf:type o:Lake }",
        1.0,
    ),
    _example("similar-looking different", _LAKES.replace("?km > 50", "?km >= 50"), 0.0),
    _example("prefix of gold", _LAKES.replace(" FILTER(?km > 50)", ""), 0.0),
    _example(
        "equal answers of another form",
        "SELECT DISTINCT ?x WHERE { ?x dbo:area ?a ; a dbo:Lake . FILTER(!(?a <= 50)) FILTER EXISTS { ?x dbo:country dbr:Peru } }",
        1.0,
        graph=_GRAPH,
    ),
    _example("some answers too many", _LAKES.replace("> 50", ">= 50"), 0.8, graph=_GRAPH),
    _example("right here by accident", _LAKES.replace("> 50", ">= 60"), 0.99, graph=_GRAPH),
    _example("unknown prefix", "SELECT ?x WHERE { ?x lakes:in dbr:Peru }", None),
    _example("ill-formed", "SELECT ?lake WHERE { ?lake a dbo:Lake", None),
)
