"""Cypher queries on property graphs (openCypher, TuGraph). Equal means: the same normal form; nothing is run.

    MATCH (p:person {id: 7})-[:acted_in]->(m) RETURN m.title AS t ORDER BY t
    match (film)<-[r:acted_in]-(x:person) where 7 = x.id return film.title order by film.title asc

Not counted: letter case of keywords and built-in functions, names of variables and columns, quotes, the order of
patterns in a clause and of the operands of AND, OR, XOR, =, <> and *, whether a node or edge that is not used elsewhere
has a name, the end from which an edge is written, `a > b` for `b < a`, `r.paid` for `r.paid = true` as a condition, and
whether a label, type or property is required in the pattern or in WHERE. In a query that returns `*`, and in CREATE and
MERGE, patterns stay as written except for the direction of edges. A variable that no clause binds keeps its name. Gold
is `problem.program`.

Variables are named by colour refinement and by trying every naming of those it cannot tell apart, up to `MAX_VISITED`;
different forms, one of them beyond that bound, are unscored. Refused: subqueries in braces, FOREACH, LOAD CSV, EXPLAIN,
schema commands. Missed: queries that do the same with other clauses.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result
from symbol_llm.families.cypher.parser import KEYWORDS, TOKEN, Tree, nodes, parse, printed_name
from symbol_llm.families.cypher.scopes import resolve
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.notation.refinement import least_text

VERSION = 4
METRIC = "normal form"

MAX_VISITED = 60_000
"""Most nodes of a query's tree, counted each time they are printed, that are visited to name its variables."""


class Environment(Needs):
    """What judging needs besides program and gold: nothing."""


def canonical(program: str) -> str:
    """Return the query in its normal form, which is an equivalent query."""
    return _form(program).text


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form: nothing is run."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's form, else 0.0; Unavailable if that could not be decided."""
    form = _form(program)
    if problem.program is None:
        raise InvalidInput(f"problem {problem.id} has no gold query")
    try:
        gold = _form(problem.program)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold query fails: {e}") from e
    if form.text != gold.text and form.outline == gold.outline and not (form.exact and gold.exact):
        raise Unavailable("not decided: too many ways of naming the variables")
    return Result(float(form.text == gold.text), form.text)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one name, literal, operator, direction or keyword and its normal form changed."""
    form = canonical(program)
    matches = list(TOKEN.finditer(program))
    changes = [(n, new) for n in range(len(matches)) for new in _changes(matches, n)]
    rng.shuffle(changes)
    for n, new in changes:
        mutant = f"{program[: matches[n].start()]}{new}{program[matches[n].end() :]}"
        try:
            changed = _form(mutant)
        except (Unparsable, LimitExceeded):
            continue
        if changed.text != form and changed.exact:
            yield mutant


_SWAPS = {
    "<": ">=", "<=": ">", ">=": "<", "=": "<>", "<>": "=", "and": "OR", "or": "AND", "desc": "ASC", "asc": "DESC",
    "distinct": "", "count": "max", "max": "min", "min": "max", "sum": "avg", "avg": "sum", "optional": "",
    "contains": "=", "skip": "LIMIT", "limit": "SKIP", "not": "", "true": "false", "false": "true", "return": "RETURN DISTINCT",
}  # fmt: skip


def _changes(matches: list[re.Match[str]], n: int) -> list[str]:
    text, kind = matches[n][0], matches[n].lastgroup
    before = matches[n - 1][0] if n else ""
    after = matches[n + 1][0] if n + 1 < len(matches) else ""
    if kind == "number" and re.fullmatch(r"\d{1,18}", text):
        return [str(int(text) + 1)]
    if kind == "text":
        return [f"{text[:-1]}~{text[-1]}"]
    if text == ">":
        return [""] if before == "-" else ["<="]
    if text == "-":
        return ["->"] if after == "(" else []
    if text.lower() in _SWAPS:
        return [_SWAPS[text.lower()]]
    return [f"{text}2"] if kind == "word" and text.upper() not in KEYWORDS else []


# --- normal form ------------------------------------------------------------------------------------------------------

_SYMMETRIC = ("=", "<>", "AND", "OR", "XOR", "*")
_FLIPPED = {">": "<", ">=": "<="}


class Form(NamedTuple):
    """A printed query, and whether every query that differs only in names and order prints the same."""

    text: str
    exact: bool
    outline: str
    """The query printed with one name for all variables: if outlines differ, so do the queries."""


def _form(program: str) -> Form:
    """Return the least text over all namings of the variables that colour refinement leaves, within `MAX_VISITED`."""
    query = parse(program)
    resolve(query)
    names = list(dict.fromkeys(node[1] for node in nodes(query) if node[0] == "var"))
    free = {node[1] for node in nodes(query) if node[0] == "free"}
    size = sum(1 for _ in nodes(query))

    def named(order: Iterable[str]) -> dict[str, str]:
        fresh = (name for n in range(1, len(names) + len(free) + 1) if (name := f"v{n}") not in free)
        return dict(zip(order, fresh, strict=False))

    def show(naming: Mapping[str, str]) -> str:
        return _Printer(naming, sorted).query(query)

    outline = show(dict.fromkeys(names, "v"))
    least = least_text(names, show, named, max_shown=MAX_VISITED // size)
    if least is not None:
        return Form(least, exact=True, outline=outline)
    text = _Printer({name: f"#{n}#" for n, name in enumerate(names)}, list).query(query)
    order = sorted(names, key=lambda name: text.find(f"#{names.index(name)}#"))
    return Form(_Printer(named(order), list).query(query), exact=False, outline=outline)


class _Printer:
    """Prints a tree as a query, with commuting parts sorted by their text."""

    def __init__(self, names: Mapping[str, str], order: Callable[[Iterable[str]], list[str]]) -> None:
        self._names, self._order = names, order

    def query(self, tree: Tree) -> str:
        """Print ["query", clauses or "UNION" ...]."""
        return " ".join(part if isinstance(part, str) else " ".join(map(self._clause, part)) for part in tree[1:])

    def _clause(self, clause: Tree) -> str:  # noqa: PLR0911 - one return a kind of clause
        match clause:
            case ["match", optional, patterns, conditions]:
                where = self._where(conditions)
                shown = ", ".join(dict.fromkeys(self._order(map(self._pattern, patterns))))
                return f"{'OPTIONAL ' if optional else ''}MATCH {shown}{where}"
            case ["with" | "return" as kind, distinct, items, order, skip, limit, conditions]:
                text = f"{kind.upper()} {'DISTINCT ' if distinct else ''}{', '.join(map(self._expression, items))}"
                if order:
                    text += f" ORDER BY {', '.join(self._expression(key) + sign for key, sign in order)}"
                text += "".join(f" {word} {self._expression(n)}" for word, n in (("SKIP", skip), ("LIMIT", limit)) if n)
                return text + self._where(conditions)
            case ["unwind", expression, variable]:
                return f"UNWIND {self._expression(expression)} AS {self._expression(variable)}"
            case ["call", name, arguments, outputs, conditions]:
                shown = f"CALL {name}" + ("" if arguments is None else f"({self._list(arguments)})")
                named = ", ".join(
                    f"{self._expression(field)} AS {self._expression(variable)}" for field, variable in outputs
                )
                return f"{shown} YIELD {named}{self._where(conditions)}" if outputs else shown
            case ["create", patterns]:
                return f"CREATE {', '.join(map(self._pattern, patterns))}"
            case ["merge", pattern, actions]:
                shown = "".join(f" ON {event} {self._clause(action)}" for event, action in actions)
                return f"MERGE {self._pattern(pattern)}{shown}"
            case [kind, items]:
                return f"{kind.upper()} {self._list(items)}"
        raise AssertionError(clause)

    def _where(self, conditions: list[Tree]) -> str:
        return (
            f" WHERE {' AND '.join(dict.fromkeys(self._order(map(self._operand, conditions))))}" if conditions else ""
        )

    def _list(self, items: list[Tree]) -> str:
        return ", ".join(map(self._expression, items))

    def _pattern(self, pattern: Tree) -> str:
        """Print ["pattern", name or None, function or None, parts]; parts are nodes and edges in turn."""
        _, name, function, parts = pattern
        shown = self._path(parts)
        if name is None and function is None and not any(part[0] == "edge" and part[3] and part[1] for part in parts):
            shown = min(shown, self._path(_reversed(parts)))
        shown = f"{function}({shown})" if function else shown
        return f"{self._expression(name)} = {shown}" if name is not None else shown

    def _path(self, parts: list[Tree]) -> str:
        return "".join(self._node(part) if part[0] == "node" else self._edge(part) for part in parts)

    def _node(self, node: Tree) -> str:
        _, variable, labels, properties = node
        shown = (self._expression(variable) if variable else "") + "".join(f":{label}" for label in self._order(labels))
        return f"({shown}{self._properties(properties)})"

    def _edge(self, edge: Tree) -> str:
        """Print ["edge", variable, types, range or "", properties, direction]."""
        _, variable, types, span, properties, direction = edge
        shown = (self._expression(variable) if variable else "") + (f":{'|'.join(self._order(types))}" if types else "")
        shown += span + self._properties(properties)
        left, right = {">": ("-", "->"), "<": ("<-", "-"), "": ("-", "-")}[direction]
        return f"{left}[{shown}]{right}"

    def _properties(self, properties: Tree | None) -> str:
        return f" {self._expression(properties)}" if properties else ""

    def _expression(self, tree: Tree) -> str:  # noqa: PLR0911 - one return a kind of expression
        match tree:
            case ["var", name]:
                return self._names[name]
            case ["free" | "key", name]:
                return printed_name(name)
            case ["op", sign, *parts] if sign in _SYMMETRIC:
                return f" {sign} ".join(self._order(map(self._operand, parts)))
            case ["op", sign, left, right]:
                pair = [self._operand(left), self._operand(right)]
                return f" {_FLIPPED.get(sign, sign)} ".join(reversed(pair) if sign in _FLIPPED else pair)
            case ["before", sign, part]:
                return f"{sign} {self._operand(part)}"
            case ["after", part, sign]:
                return f"{self._operand(part)} {sign}"
            case ["property", part, name]:
                return f"{self._operand(part)}.{printed_name(name)}"
            case ["labels", part, labels]:
                return f"{self._operand(part)}{''.join(f':{label}' for label in self._order(labels))}"
            case ["as", part, variable]:
                same = part == variable
                return self._expression(part) if same else f"{self._expression(part)} AS {self._expression(variable)}"
            case ["set", left, sign, right]:
                return f"{self._expression(left)} {sign} {self._expression(right)}"
        return self._compound(tree)

    def _compound(self, tree: Tree) -> str:  # noqa: PLR0911 - one return a kind of expression
        match tree:
            case ["call", name, distinct, arguments]:
                return f"{name}({'DISTINCT ' if distinct else ''}{self._list(arguments)})"
            case ["list", *items]:
                return f"[{self._list(items)}]"
            case ["map", *entries]:
                pairs = self._order(f"{self._expression(key)}: {self._expression(value)}" for key, value in entries)
                return f"{{{', '.join(pairs)}}}"
            case ["at", part, index]:
                return f"{self._operand(part)}[{self._expression(index)}]"
            case ["slice", part, low, high]:
                ends = [self._expression(end) if end else "" for end in (low, high)]
                return f"{self._operand(part)}[{'..'.join(ends)}]"
            case ["case", subject, branches, otherwise]:
                shown = "".join(f" WHEN {self._expression(w)} THEN {self._expression(t)}" for w, t in branches)
                end = f" ELSE {self._expression(otherwise)}" if otherwise else ""
                return f"CASE{f' {self._expression(subject)}' if subject else ''}{shown}{end} END"
            case ["each", name, variable, items, condition, result]:
                where = f" WHERE {self._expression(condition)}" if condition else ""
                shown = f"{self._expression(variable)} IN {self._expression(items)}{where}"
                shown += f" | {self._expression(result)}" if result else ""
                return f"{name}({shown})" if name else f"[{shown}]"
            case ["reduce", total, start, variable, items, result]:
                first = f"{self._expression(total)} = {self._expression(start)}"
                rest = f"{self._expression(variable)} IN {self._expression(items)} | {self._expression(result)}"
                return f"reduce({first}, {rest})"
            case ["pattern", *_]:
                return self._pattern(tree)
        return str(tree[1])

    def _operand(self, tree: Tree) -> str:
        bare = tree[0] not in ("op", "before", "after", "labels") or (tree[0] == "labels" and tree[1][0] == "var")
        return self._expression(tree) if bare else f"({self._expression(tree)})"


def _reversed(parts: list[Tree]) -> list[Tree]:
    turned = {">": "<", "<": ">", "": ""}
    return [part if part[0] == "node" else [*part[:5], turned[part[5]]] for part in reversed(parts)]


_ROLES = "MATCH (p:person {name: 'Ada'})-[r:plays]->(f:film) WHERE f.year > 1990 AND r.paid = true RETURN f.title ORDER BY f.year"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="cypher", split="train", instruction="Write Cypher.",
        question="Titles of the films after 1990 in which Ada plays for money, the oldest first?", program=_ROLES,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _ROLES, 1.0),
    _example(
        "different-looking equal",
        'match (x:film)<-[e:plays {paid: TRUE}]-(a) where 1990 < x.year and a:person and "Ada" = a.name '
        "return x.title as t order by x.year asc;",
        1.0,
    ),
    _example("similar-looking different", _ROLES.replace("]->", "]-"), 0.0),
    _example("prefix of gold", _ROLES.replace(" ORDER BY f.year", ""), 0.0),
    _example("no result", _ROLES.partition(" RETURN")[0], None),
    _example("ill-formed", _ROLES.replace("(f:film)", "(f:film"), None),
)
