"""SPARQL queries (SELECT and ASK). Equal means: the same answers on the problem's graph, or else the same normal form.

`environment["graph"]` is Turtle or a list of triples, each of three terms as Turtle writes them; the prefixes of
`PREFIXES` may be used in it as in a query, whether declared or not. Gold is `problem.program`. rdflib answers both queries
in children of their own, on the graph and on `N_VARIANTS` graphs made from it by leaving out triples and adding twins of its
subjects that are a little different, so that two queries do not pass for equal by accident. Answers are compared by place of column, as a list if gold's
outermost SELECT has an ORDER BY, else as a multiset. Other answers score the F1 of the rows, below 1. Gold that has no
answer on the graph, or asks what is the same on all of them, proves nothing: then only its normal form is accepted.

Without a graph, equal means the same normal form: prefixes expanded, variables renamed, and the order of triple patterns,
of UNION, of filters, of VALUES and of the operands of symmetric operators does not count. Variables are named by colour
refinement and by trying out what that can not tell apart, up to `MAX_VISITED`. A query beyond keeps its order; two forms
that differ, one of them such, are unscored, for the fault may be gold's. Accepted as Virtuoso does: `SELECT COUNT(?x)`, with or without `AS ?n`.

Refused: CONSTRUCT, DESCRIBE, updates, FROM, SERVICE, RDF collections. Missed without a graph: equal queries of different
algebra. Missed with one: the order of rows that ORDER BY leaves open.
Data: LC-QuAD (Trivedi et al. 2017), QALD-9-plus (Perevalov et al. 2022), GrailQA (Gu et al. 2021).
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urljoin

import rdflib

from symbol_llm import sandbox
from symbol_llm.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.families import Example, Ran, Result
from symbol_llm.params import Limits
from symbol_llm.records import Problem

VERSION = 1
METRIC = "exact match / F1 of answers"

MAX_TOKENS = 4000
MAX_DEPTH = 40
MAX_VISITED = 200_000
"""Nodes of a query's tree, printed over and over, that may be spent on naming its variables."""
N_VARIANTS = 12
MAX_TWINS = 100
PREFIXES = {
    "dbo": "http://dbpedia.org/ontology/", "dbr": "http://dbpedia.org/resource/", "res": "http://dbpedia.org/resource/",
    "dbp": "http://dbpedia.org/property/", "dbc": "http://dbpedia.org/resource/Category:",
    "yago": "http://dbpedia.org/class/yago/", "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#", "owl": "http://www.w3.org/2002/07/owl#",
    "xsd": "http://www.w3.org/2001/XMLSchema#", "foaf": "http://xmlns.com/foaf/0.1/",
    "dct": "http://purl.org/dc/terms/", "dc": "http://purl.org/dc/elements/1.1/",
    "skos": "http://www.w3.org/2004/02/skos/core#", "geo": "http://www.w3.org/2003/01/geo/wgs84_pos#",
    "wd": "http://www.wikidata.org/entity/", "wdt": "http://www.wikidata.org/prop/direct/",
    "p": "http://www.wikidata.org/prop/", "ps": "http://www.wikidata.org/prop/statement/",
    "pq": "http://www.wikidata.org/prop/qualifier/", "ns": "http://rdf.freebase.com/ns/",
}  # fmt: skip


def canonical(program: str) -> str:
    """Return the query in its normal form, which is a query of the same answers."""
    return _form(_parse(program)).text


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the answers on the problem's graph, else the canonical form."""
    query = _parse(program)
    form = _form(query)
    if "graph" not in problem.environment:
        return Ran(form.text)
    found = _answer(form.text, [], problem, limits)
    value = found.answer
    if isinstance(value, list) and not _is_ordered(query):
        value = sorted(value, key=repr)
    return Ran(str(value), "", found.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's answers, or without a graph gold's form; else the F1 of its answers, or 0.0."""
    query = _parse(program)
    form = _form(query)
    if problem.program is None:
        raise InvalidInput(f"problem {problem.id} has no gold query")
    try:
        gold_query = _parse(problem.program)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold query fails: {e}") from e
    gold = _form(gold_query)
    if "graph" in problem.environment:
        return _compare(form, gold, (query, gold_query), problem, limits)
    if form.text != gold.text and not (form.exact and gold.exact):
        raise Unavailable("not decided: too many ways of naming the variables")
    return Result(float(form.text == gold.text), form.text)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one term, operator or keyword changed, of another normal form."""
    form = canonical(program)
    matches = list(_TOKEN.finditer(program))
    variables = sorted({m[0] for m in matches if m.lastgroup == "variable"})
    changes = [(m, new) for m in matches for new in _changes(m, variables)]
    rng.shuffle(changes)
    for match, new in changes:
        mutant = f"{program[: match.start()]}{new}{program[match.end() :]}"
        try:
            changed = _form(_parse(mutant))
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
        case "number" if token.isdigit():
            return [str(int(token) + 1)]
        case "variable":
            return [other for other in variables if other != token][:2]
        case "word" | "sign" if token.lower() in _SWAPS:
            return [_SWAPS[token.lower()]]
    return []


# --- answers ----------------------------------------------------------------------------------------------------------

Answer = bool | list[list[str | None]]
"""Of ASK, or the rows of SELECT; None is unbound."""


class Answers(NamedTuple):
    """What a query answers on the graph, and hashes of the answers there and on each variant, by rows as they come.

    The second hash of a pair is the same for the same rows in any order.
    """

    answer: Answer
    hashes: list[list[str]]
    isolation: str


def _compare(form: Form, gold: Form, queries: tuple[Tree, Tree], problem: Problem, limits: Limits) -> Result:
    numbers = sorted({float(node[1]) for query in queries for node in _nodes(query) if node[0] == "number"})
    found = _answer(form.text, numbers, problem, limits)
    value = str(found.answer)
    try:
        right = _answer(gold.text, numbers, problem, limits)
    except LimitExceeded as e:
        raise Unavailable(f"problem {problem.id}: gold query hits a limit: {e}") from e
    if form.text == gold.text:
        return Result(1.0, value, found.isolation)
    which = 0 if _is_ordered(queries[1]) else 1
    if [pair[which] for pair in found.hashes] != [pair[which] for pair in right.hashes]:
        return Result(min(0.99, _f1(found.answer, right.answer)), value, found.isolation)
    is_constant = isinstance(right.answer, bool) and len({pair[0] for pair in right.hashes}) == 1
    if right.answer == [] or is_constant:
        raise Unavailable(f"problem {problem.id}: gold's answer {right.answer} on this graph proves nothing")
    return Result(1.0, value, found.isolation)


def _answer(query: str, numbers: list[float], problem: Problem, limits: Limits) -> Answers:
    args = {"query": query, "graph": _turtle(problem), "numbers": numbers}
    outcome = sandbox.run(f"{__name__}:answer", args, limits, preload=(f"{__name__}:warm_up",))
    outcome.check_limits()
    if outcome.status != "ok":  # the query parsed, hence what rdflib can not do is no fault of it
        raise Unavailable(f"rdflib does not answer {query[:100]!r}: {outcome.detail}")
    if "broken" in outcome.value:
        raise InvalidInput(f"problem {problem.id}: graph cannot be read: {outcome.value['broken']}")
    return Answers(**outcome.value, isolation=outcome.isolation)


def _turtle(problem: Problem) -> str:
    graph = problem.environment["graph"]
    lines = graph if isinstance(graph, str) else "\n".join(f"{' '.join(triple)} ." for triple in graph)
    return "".join(f"@prefix {name}: <{iri}> .\n" for name, iri in PREFIXES.items()) + lines


def warm_up() -> None:
    """Have rdflib build its grammars, once for all children."""
    answer({"query": "SELECT ?x WHERE { ?x ?y 1 . }", "graph": "<a> <b> 1 .", "numbers": []})


def answer(args: dict[str, Any]) -> dict[str, Any]:
    """Return the query's answers on the graph and on each variant. Only ever called in a sandbox child."""
    graph = rdflib.Graph()
    try:
        graph.parse(data=args["graph"], format="turtle")
    except Exception as e:  # noqa: BLE001 - whatever its parser raises, the graph is at fault
        return {"broken": f"{type(e).__name__}: {e}"[:200]}
    triples = sorted(graph)
    variants = [triples, *(_variant(triples, args["numbers"], seed) for seed in range(N_VARIANTS))]
    answers = [_ask(args["query"], variant) for variant in variants]
    return {"answer": answers[0], "hashes": [_hashes(found) for found in answers]}


def _hashes(found: Answer) -> list[str]:
    rows = [repr(found)] if isinstance(found, bool) else [repr(row) for row in found]
    return [hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] for lines in (rows, sorted(rows))]


def _ask(query: str, triples: list[Any]) -> Answer:
    graph = rdflib.Graph()
    for triple in triples:
        graph.add(triple)
    result = graph.query(query)
    if result.type == "ASK":
        return bool(result.askAnswer)
    return [[_cell(value) for value in row] for row in result if isinstance(row, tuple)]


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, rdflib.BNode):
        return value and "_:"
    if _is_numeric(value):
        return f"{float(value.value):.9g}"
    number = re.fullmatch(r'"([-+]?[\d.]+)"\^\^.*#decimal>', value.n3())
    return f"{float(number[1]):.9g}" if number else str(value.n3())


def _variant(triples: list[Any], numbers: list[float], seed: int) -> list[Any]:
    """Return a graph like this one, less some triples, and twins of its subjects that are a little different.

    A twin lacks some triples, has some objects of others, and numbers at and beside those that the queries name.
    """
    rng = random.Random(seed)
    objects: dict[Any, list[Any]] = {}
    for triple in triples:
        objects.setdefault(triple[1], []).append(triple[2])
    links = sorted(p for p, things in objects.items() if all(isinstance(thing, rdflib.URIRef) for thing in things))
    # Numbers stay apart, lest two right queries order equal ones differently.
    taken = {
        predicate: {float(thing) for thing in things if _is_numeric(thing)} for predicate, things in objects.items()
    }
    changed = [triple for triple in triples if rng.random() > 0.1]
    subjects = sorted({triple[0] for triple in triples})
    twins = {
        s: rdflib.URIRef(f"urn:twin:{n}") for n, s in enumerate(rng.sample(subjects, min(len(subjects), MAX_TWINS)))
    }
    for subject, predicate, thing in triples:
        draw = rng.random()
        if subject not in twins or draw < 0.15:
            continue
        new = twins.get(thing, thing) if draw < 0.5 else thing
        if _is_numeric(thing):
            near = int(rng.choice(numbers)) + rng.choice((-1, 0, 1)) if numbers and draw < 0.8 else float(thing)
            new = rdflib.Literal(_untaken(near, taken[predicate]))
        elif draw > 0.8:
            new = rng.choice(objects[predicate])
        other = rng.choice(links) if draw > 0.95 and predicate in links else predicate
        changed.append((twins[subject], other, new))
    return changed


def _is_numeric(term: Any) -> bool:
    return isinstance(term, rdflib.Literal) and isinstance(term.value, int | float) and not isinstance(term.value, bool)


def _untaken(number: float, taken: set[float]) -> float:
    while number in taken:
        number = round(number + 0.001, 3)
    taken.add(number)
    return number


def _f1(found: Answer, gold: Answer) -> float:
    if isinstance(found, bool) or isinstance(gold, bool):
        return 0.0
    one, two = set(map(tuple, found)), set(map(tuple, gold))
    return 2 * len(one & two) / (len(one) + len(two)) if one & two else 0.0


# --- normal form ------------------------------------------------------------------------------------------------------

Tree = list[Any]
"""A JSON tree: ["var", name], ["iri", iri], ["text", quoted, tag], ["number", digits]; for the rest see `_Printer`."""
_SYMMETRIC = ("=", "!=", "&&", "||", "+", "*")
_FLIPPED = {">": "<", ">=": "<="}
_POSITIONAL = ("optional", "minus", "bind")


class Form(NamedTuple):
    """A query printed, and whether every query that differs in names and order alone prints the same."""

    text: str
    exact: bool


class _UndecidedError(Exception):
    """More was printed than `MAX_VISITED` allows."""


def _form(query: Tree) -> Form:
    """Return the least text over all namings of the variables that colour refinement leaves, within `MAX_VISITED`."""
    names = list(dict.fromkeys(node[1] for node in _nodes(query) if node[0] == "var"))
    size = sum(1 for _ in _nodes(query))
    visited = 0

    def show(naming: Mapping[str, str]) -> str:
        nonlocal visited
        visited += size
        if visited > MAX_VISITED:
            raise _UndecidedError
        return _print(query, naming)

    def refine(colours: dict[str, int]) -> dict[str, int]:
        """Tell variables apart by how the query looks from each, until that tells no more apart."""
        while True:
            looks = {
                name: (colours[name], show({n: "" if n == name else f"c{c:03}" for n, c in colours.items()}))
                for name in names
            }
            rank = {look: n for n, look in enumerate(sorted(set(looks.values())))}
            if len(rank) == len(set(colours.values())):
                return colours
            colours = {name: rank[look] for name, look in looks.items()}

    def least(colours: dict[str, int]) -> str:
        colours = refine(colours)
        shared = min((colour for colour, n in Counter(colours.values()).items() if n > 1), default=None)
        if shared is None:
            order = sorted(names, key=colours.__getitem__)
            return show({name: f"v{n}" for n, name in enumerate(order, 1)})
        first_of = (name for name in names if colours[name] == shared)
        return min(least({n: 2 * c + (c == shared and n != first) for n, c in colours.items()}) for first in first_of)

    try:
        return Form(least(dict.fromkeys(names, 0)), exact=True)
    except _UndecidedError:
        text = _print(query, {name: f"{n}#" for n, name in enumerate(names)}, in_order=True)
        order = sorted(names, key=lambda name: text.find(f"?{names.index(name)}#"))
        return Form(_print(query, {name: f"v{n}" for n, name in enumerate(order, 1)}, in_order=True), exact=False)


def _nodes(tree: Tree) -> Iterator[Tree]:
    """Yield every node, the first in the text first."""
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            if node and isinstance(node[0], str):
                yield node
            stack += reversed(node)


def _is_ordered(query: Tree) -> bool:
    return any(part[0] == "order" for part in query[-1])


def _print(query: Tree, names: Mapping[str, str], *, in_order: bool = False) -> str:
    return _Printer(names, sorted if not in_order else list).query(query)


class _Printer:
    """Prints a tree as a query, with what commutes put in the order of its text."""

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


# --- parsing ----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<iri><[^<>"{}|^`\\\s]*>)
    |(?P<text>\"{3}(?:(?:\"{1,2})?(?:[^"\\]|\\.))*\"{3}|'{3}(?:(?:'{1,2})?(?:[^'\\]|\\.))*'{3}
        |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<variable>[?$]\w+)
    |(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<tag>@[A-Za-z]+(?:-[A-Za-z0-9]+)*)
    |(?P<blank>_:\w[\w.-]*)
    |(?P<name>(?:[^\W\d_][\w-]*)?:(?:(?:[\w:%.-]|\\[_~.!$&'()*+,;=/?\#@%-])*(?:[\w:%-]|\\[_~.!$&'()*+,;=/?\#@%-]))?)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>\^\^|&&|\|\||!=|<=|>=|[-=<>!+*/|^?(){}\[\].;,])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_RDF_TYPE = ["iri", f"{PREFIXES['rdf']}type"]
_XSD = PREFIXES["xsd"]
_AGGREGATES = ("COUNT", "SUM", "MIN", "MAX", "AVG", "SAMPLE", "GROUP_CONCAT")
_BUILT_IN = frozenset((
    "STR LANG LANGMATCHES DATATYPE BOUND IRI URI BNODE RAND ABS CEIL FLOOR ROUND CONCAT STRLEN UCASE LCASE ENCODE_FOR_URI"
    " CONTAINS STRSTARTS STRENDS STRBEFORE STRAFTER YEAR MONTH DAY HOURS MINUTES SECONDS TIMEZONE TZ NOW UUID STRUUID MD5"
    " SHA1 SHA256 SHA384 SHA512 COALESCE IF STRLANG STRDT SAMETERM ISIRI ISURI ISBLANK ISLITERAL ISNUMERIC REGEX SUBSTR"
    " REPLACE"
).split()).union(_AGGREGATES)  # fmt: skip
_ELEMENTS = ("FILTER", "OPTIONAL", "MINUS", "GRAPH", "BIND", "VALUES", "SERVICE", "SELECT")
_MODIFIERS = ("GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "VALUES")
_LEVELS = (("||",), ("&&",), ("=", "!=", "<", ">", "<=", ">="), ("+", "-"), ("*", "/"))


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _parse(program: str) -> Tree:
    return _Parser(program).parse()


class _Parser:
    """Recursive descent, to a depth that a program can not exceed."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._tokens: list[_Token] = []
        for match in _TOKEN.finditer(program):
            if match.lastgroup == "other":
                raise self._fault(match.start(), f"unexpected {match[0]!r}")
            if match.lastgroup != "space":
                self._tokens.append(_Token(str(match.lastgroup), match[0], match.start()))
        self._tokens.append(_Token("end", "", len(program)))
        self._at = self._depth = 0
        self._n_new = 0
        self._base = ""
        self._prefixes = dict(PREFIXES)
        self._star = False

    def parse(self) -> Tree:
        if len(self._tokens) == 1:
            raise Unparsable("no query")
        self._prologue()
        query = self._query()
        self._skip(";")
        if self._kind() != "end":
            raise self._expected("the end")
        if len(self._tokens) > MAX_TOKENS:
            raise LimitExceeded(f"the query has {len(self._tokens)} tokens; at most {MAX_TOKENS} are compared")
        return query

    # tokens

    def _kind(self) -> str:
        return self._tokens[self._at].kind

    def _text(self, ahead: int = 0) -> str:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)].text

    def _word(self) -> str:
        return self._text().upper() if self._kind() == "word" else ""

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1].text

    def _skip(self, text: str) -> bool:
        found = self._kind() in ("word", "sign") and self._text().upper() == text
        self._at += found
        return found

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            raise self._expected(repr(text))

    def _expected(self, what: str) -> Unparsable:
        token = self._tokens[self._at]
        return self._fault(token.at, f"expected {what}, got {token.text[:40] or 'the end'!r}")

    def _fault(self, at: int, problem: str) -> Unparsable:
        line, column = self._program.count("\n", 0, at) + 1, at - self._program.rfind("\n", 0, at)
        return Unparsable(f"line {line}, column {column}: {problem}")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._expected(f"at most {MAX_DEPTH} levels")

    def _new_variable(self) -> Tree:
        self._n_new += 1
        return ["var", f"#{self._n_new}"]

    # queries

    def _prologue(self) -> None:
        while self._word() in ("PREFIX", "BASE"):
            if self._take().upper() == "PREFIX":
                if self._kind() != "name" or not self._text().endswith(":"):
                    raise self._expected("a prefix and a colon")
                name = self._take()[:-1]
                self._prefixes[name] = self._iri_text()
            else:
                self._base = self._iri_text()

    def _iri_text(self) -> str:
        if self._kind() != "iri":
            raise self._expected("an IRI in < >")
        return urljoin(self._base, self._take()[1:-1]) if self._base else self._take()[1:-1]

    def _query(self) -> Tree:
        if self._skip("ASK"):
            return self._with_modifiers(["ask"])
        if not self._skip("SELECT"):
            raise self._expected("SELECT or ASK")
        distinct = next((word for word in ("DISTINCT", "REDUCED") if self._skip(word)), "")
        return self._with_modifiers(["select", distinct, self._projection()])

    def _with_modifiers(self, query: Tree) -> Tree:
        if self._word() == "FROM":
            raise self._expected("WHERE; FROM is not supported")
        self._skip("WHERE")
        if self._text() != "{":
            raise self._expected("'{'")
        return [*query, self._group(), self._modifiers()]

    def _projection(self) -> list[Tree]:
        if self._skip("*"):
            self._star = True
            return []
        items: list[Tree] = []
        while self._text() != "{" and self._word() not in ("WHERE", "FROM"):
            if self._kind() == "variable":
                items.append(self._variable())
            elif self._kind() in ("word", "name", "iri") or self._text() == "(":
                items.append(self._projected())
            else:
                raise self._expected("a variable or an expression to select")
            self._skip(",")
        if not items:
            raise self._expected("a variable to select")
        return items

    def _projected(self) -> Tree:
        bracketed = self._skip("(")
        expression = self._expression(0) if bracketed else self._primary()
        if bracketed and self._skip(")"):
            bracketed = False
        item = ["as", expression, self._variable() if self._skip("AS") else self._new_variable()]
        if bracketed:
            self._expect(")")
        return item

    def _variable(self) -> Tree:
        if self._kind() != "variable":
            raise self._expected("a variable")
        return ["var", self._take()[1:]]

    def _modifiers(self) -> list[Tree]:
        parts: list[Tree] = []
        while (word := self._word()) in _MODIFIERS:
            if word == "VALUES":
                parts.append(self._element())
                continue
            if word.lower() in [part[0] for part in parts]:
                raise self._expected("no second " + word)
            self._at += 1
            if word in ("GROUP", "ORDER"):
                self._expect("BY")
            if word in ("LIMIT", "OFFSET"):
                if not self._text().isdecimal():
                    raise self._expected("a number")
                parts.append([word.lower(), str(int(self._take()))])
            else:
                parts.append([word.lower(), self._keys(word)])
        rank = {"group": 0, "having": 1, "order": 2, "limit": 3, "offset": 4, "values": 5}
        return sorted((p for p in parts if p != ["offset", "0"]), key=lambda part: rank[part[0]])

    def _keys(self, word: str) -> list[Any]:
        keys: list[Any] = []
        while (
            self._word() not in ("", *_MODIFIERS) or self._text() == "(" or self._kind() in ("variable", "name", "iri")
        ):
            sign = self._take().upper() if word == "ORDER" and self._word() in ("ASC", "DESC") else "ASC"
            keys.append([sign, self._key()] if word == "ORDER" else self._key())
        if not keys:
            raise self._expected("a variable or an expression")
        return keys

    def _key(self) -> Tree:
        if self._skip("("):
            expression = self._expression(0)
            if self._skip("AS"):
                expression = ["as", expression, self._variable()]
            self._expect(")")
            return expression
        return self._primary()

    # groups

    def _group(self) -> list[Tree]:
        """Return the elements of a group; triple patterns in groups of their own are joined to it."""
        self._deeper()
        self._expect("{")
        elements: list[Tree] = []
        while not self._skip("}"):
            if self._kind() == "end":
                raise self._expected("'}'")
            if self._text() == "{" or self._word() in _ELEMENTS:
                element = self._element()
                inner = element[1] if element[0] == "union" and len(element) == 2 else None
                plain = inner is not None and all(part[0] in ("triple", "values", "union") for part in inner)
                elements += inner if inner is not None and plain else self._conjuncts(element)
                self._skip(".")
            else:
                elements += self._triples()
                if not self._skip(".") and self._text() not in ("{", "}") and self._word() not in _ELEMENTS:
                    raise self._expected("'.' or '}'")
        self._depth -= 1
        return elements

    def _conjuncts(self, element: Tree) -> list[Tree]:
        """Return a filter of `a && b` as two."""
        if element[0] == "filter" and element[1][:2] == ["op", "&&"]:
            return [part for inner in element[1][2:] for part in self._conjuncts(["filter", inner])]
        return [element]

    def _element(self) -> Tree:  # noqa: PLR0911 - one return a kind of element
        word = self._word()
        if self._text() == "{":
            return self._union()
        if word == "SELECT":
            return ["sub", self._subquery()]
        self._at += 1
        match word:
            case "FILTER":
                return ["filter", self._constraint()]
            case "OPTIONAL" | "MINUS":
                return [word.lower(), self._group()]
            case "GRAPH":
                return ["graph", self._node([]), self._group()]
            case "BIND":
                self._expect("(")
                expression = self._expression(0)
                self._expect("AS")
                variable = self._variable()
                self._expect(")")
                return ["bind", expression, variable]
            case "VALUES":
                return self._values()
        self._at -= 1
        raise self._expected("no SERVICE, which is not supported")

    def _union(self) -> Tree:
        groups = [self._branch()]
        while self._skip("UNION"):
            groups.append(self._branch())
        if len(groups) == 1 and len(groups[0]) == 1 and groups[0][0][0] == "sub":
            return list(groups[0][0])
        flat: list[list[Tree]] = []
        for group in groups:
            nested = len(group) == 1 and group[0][0] == "union"
            flat += group[0][1:] if nested else [group]
        return ["union", *flat]

    def _branch(self) -> list[Tree]:
        if self._text(1).upper() != "SELECT":
            return self._group()
        self._expect("{")
        query = self._subquery()
        self._expect("}")
        return [["sub", query]]

    def _subquery(self) -> Tree:
        """Return a query in a group; its variables that it does not select are others than those outside."""
        self._deeper()
        query = self._query()
        self._depth -= 1
        if not query[2]:
            return query
        shown = {item[-1][1] if item[0] == "as" else item[1] for item in query[2]}
        self._n_new += 1
        for node in _nodes(query):
            if node[0] == "var" and node[1] not in shown and "#" not in node[1]:
                node[1] = f"{node[1]}#{self._n_new}"
        return query

    def _constraint(self) -> Tree:
        negated = self._word() == "NOT"
        if negated or self._word() == "EXISTS":
            return self._exists()
        if self._text() == "(":
            return self._bracketed()
        return self._primary()

    def _exists(self) -> Tree:
        negated = self._skip("NOT")
        self._expect("EXISTS")
        return ["exists", negated, self._group()]

    def _bracketed(self) -> Tree:
        self._expect("(")
        expression = self._expression(0)
        self._expect(")")
        return expression

    def _values(self) -> Tree:
        several = self._skip("(")
        variables: list[Tree] = []
        while self._kind() == "variable" and (several or not variables):
            variables.append(self._variable())
        if several:
            self._expect(")")
        rows = []
        self._expect("{")
        while not self._skip("}"):
            if several:
                self._expect("(")
            row = [["undef", self._take().upper()] if self._word() == "UNDEF" else self._node([]) for _ in variables]
            if several:
                self._expect(")")
            rows.append(row)
            if not variables:
                raise self._expected("a variable")
        return ["values", variables, rows]

    # triples

    def _triples(self) -> list[Tree]:
        triples: list[Tree] = []
        bracket = self._text() == "["
        subject = self._node(triples)
        if not bracket or self._text() not in (".", "}"):
            self._properties(subject, triples)
        return triples

    def _properties(self, subject: Tree, triples: list[Tree]) -> None:
        while True:
            verb = self._variable() if self._kind() == "variable" else self._path()
            while True:
                thing = self._node(triples)
                inverse = verb[:2] == ["path", "^"]
                triples.append(["triple", thing, verb[2], subject] if inverse else ["triple", subject, verb, thing])
                if not self._skip(","):
                    break
            if not self._skip(";"):
                return
            while self._skip(";"):
                pass
            if self._text() in (".", "]", "}"):
                return

    def _node(self, triples: list[Tree]) -> Tree:
        if self._kind() == "blank":
            name = self._take()
            return ["blank", name] if self._star else ["var", name]
        if self._skip("["):
            self._deeper()
            self._n_new += 1
            node = ["blank", f"_:b{self._n_new}"] if self._star else self._new_variable()
            if not self._skip("]"):
                self._properties(node, triples)
                self._expect("]")
            self._depth -= 1
            return node
        if self._kind() == "variable":
            return self._variable()
        return self._constant("a variable, an IRI or a literal")

    def _path(self) -> Tree:
        self._deeper()
        path = self._path_of("|", lambda: self._path_of("/", self._step))
        self._depth -= 1
        return path

    def _path_of(self, sign: str, part: Callable[[], Tree]) -> Tree:
        parts = [part()]
        while self._skip(sign):
            parts.append(part())
        return parts[0] if len(parts) == 1 else ["path", sign, *parts]

    def _step(self) -> Tree:
        if self._skip("!"):
            return self._negated()
        if self._skip("^"):
            self._deeper()
            step: Tree = ["path", "^", self._step()]
            self._depth -= 1
            return step
        if self._skip("("):
            step = self._path()
            self._expect(")")
        elif self._text() == "a" and self._skip("A"):
            step = list(_RDF_TYPE)
        else:
            step = self._iri("a property")
        if self._kind() == "sign" and self._text() in ("*", "+", "?"):
            step = ["path", self._take(), step]
        return step

    def _negated(self) -> Tree:
        """Return what follows a `!`: properties and inverse ones, printed at once."""
        several = self._skip("(")
        parts: list[str] = []
        while not parts or (several and self._skip("|")):
            inverse = "^" if self._skip("^") else ""
            name = _RDF_TYPE if self._skip("A") else self._iri("a property")
            parts.append(f"{inverse}<{name[1]}>")
        if several:
            self._expect(")")
        return ["path", "!", *parts]

    # terms and expressions

    def _iri(self, expected: str) -> Tree:
        if self._kind() == "name":
            prefix, _, local = self._text().partition(":")
            if prefix not in self._prefixes:
                raise self._expected(f"a declared prefix, not {prefix!r}")
            self._at += 1
            return ["iri", self._prefixes[prefix] + re.sub(r"\\(.)", r"\1", local)]
        if self._kind() != "iri":
            raise self._expected(expected)
        return ["iri", self._iri_text()]

    def _constant(self, expected: str) -> Tree:
        if self._kind() == "text":
            return self._literal()
        sign = self._take() if self._text() in ("-", "+") and self._tokens[self._at + 1].kind == "number" else ""
        if self._kind() == "number":
            return ["number", f"{sign.replace('+', '')}{self._take()}"]
        if self._word() in ("TRUE", "FALSE"):
            return ["boolean", self._take().lower()]
        return self._iri(expected)

    def _literal(self) -> Tree:
        token = self._take()
        ends = 3 if token[:3] in ('"""', "'''") else 1
        inside = re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', token[ends:-ends]).replace("\\'", "'")
        quoted = f'"{inside}"'.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
        if self._kind() == "tag":
            return ["text", quoted, self._take().lower()]
        if not self._skip("^^"):
            return ["text", quoted, ""]
        kind = self._iri("a datatype")[1]
        if kind == f"{_XSD}integer" and re.fullmatch(r'"[-+]?\d+"', quoted):
            return ["number", str(int(quoted[1:-1]))]
        return ["text", quoted, "" if kind == f"{_XSD}string" else f"^^<{kind}>"]

    def _expression(self, level: int) -> Tree:
        if level == len(_LEVELS):
            return self._unary()
        depth = self._depth
        if level == 0:
            self._deeper()
        left = self._expression(level + 1)
        while self._kind() == "sign" and self._text() in _LEVELS[level]:
            sign = self._take()
            right = self._expression(level + 1)
            if left[:2] == ["op", sign] and sign in ("||", "&&"):
                left.append(right)
            else:
                left = ["op", sign, left, right]
                self._deeper()
        if level == 2 and (self._word() == "IN" or (self._word() == "NOT" and self._text(1).upper() == "IN")):
            negated = self._skip("NOT")
            self._at += 1
            left = ["in", negated, left, self._arguments()]
        self._depth = depth
        return left

    def _unary(self) -> Tree:
        for sign in ("!", "-", "+"):
            if self._kind() == "sign" and self._text() == sign:
                self._at += 1
                self._deeper()
                part = self._unary()
                self._depth -= 1
                if sign == "-" and part[0] == "number" and not part[1].startswith("-"):
                    return ["number", f"-{part[1]}"]
                return part if sign == "+" else ["unary", sign, part]
        return self._primary()

    def _primary(self) -> Tree:
        if self._text() == "(" and self._kind() == "sign":
            return self._bracketed()
        if self._kind() == "variable":
            return self._variable()
        if self._word() in ("EXISTS", "NOT"):
            return self._exists()
        if self._word() in _BUILT_IN:
            return self._call(self._take().upper())
        constant = self._constant("an expression")
        return self._call(f"<{constant[1]}>") if constant[0] == "iri" and self._text() == "(" else constant

    def _call(self, name: str) -> Tree:
        self._expect("(")
        aggregate = name in _AGGREGATES
        distinct = aggregate and self._skip("DISTINCT")
        separator, arguments = "", list[Tree]()
        if aggregate and self._skip("*"):
            arguments.append(["star", "*"])
        elif self._text() != ")":
            arguments.append(self._expression(0))
        while self._skip(","):
            arguments.append(self._expression(0))
        if name == "GROUP_CONCAT" and self._skip(";"):
            self._expect("SEPARATOR")
            self._expect("=")
            separator = f" ; SEPARATOR={self._literal()[1]}" if self._kind() == "text" else ""
        self._expect(")")
        return ["call", name, distinct, arguments, separator]

    def _arguments(self) -> list[Tree]:
        self._expect("(")
        arguments: list[Tree] = []
        while self._text() != ")" or self._kind() != "sign":
            arguments.append(self._expression(0))
            if not self._skip(","):
                break
        self._expect(")")
        return arguments


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
