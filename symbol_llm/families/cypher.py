"""Cypher queries on property graphs (openCypher, TuGraph). Equal means: the same normal form; nothing is run.

    MATCH (p:person {id: 7})-[:acted_in]->(m) RETURN m.title AS t ORDER BY t
    match (film)<-[r:acted_in]-(x:person) where 7 = x.id return film.title order by film.title asc

Not counted: letter case of keywords and built-in functions, variables' names, columns' names, quotes, the order of patterns
in a clause and of the operands of AND, OR, XOR, =, <> and *, whether a node or an edge that is not used elsewhere has a
name, the side from which an edge is written, `a > b` for `b < a`, and whether a label or property is asked for in the
pattern or in WHERE. In a query with `*` for its columns, and in CREATE and MERGE, patterns stay as they are written but for
the side. A variable that no clause binds keeps its name. Gold is `problem.program`.

Variables are named by colour refinement and by trying out what that can not tell apart, up to `MAX_VISITED`; two forms that
differ, one of them beyond, are unscored. Refused: subqueries in braces, FOREACH, LOAD CSV, EXPLAIN, schema commands.
Missed: queries that do the same by other clauses. The grammar is openCypher 9; the parsers on PyPI are either large
(ANTLR at run time), bound to one vendor, or no longer maintained, and a tree with errors in it would be of no use here.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from symbol_llm.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.families import Example, Ran, Result
from symbol_llm.params import Limits
from symbol_llm.records import Problem

VERSION = 1
METRIC = "normal form"

MAX_TOKENS = 4000
MAX_DEPTH = 30
MAX_VISITED = 200_000
"""Nodes of a query's tree, printed over and over, that may be spent on naming its variables."""


def canonical(program: str) -> str:
    """Return the query in its normal form, which is a query that does the same."""
    return _form(_parse(program)).text


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form: nothing is run."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's form, else 0.0; Unavailable where that could not be decided."""
    form = _form(_parse(program))
    if problem.program is None:
        raise InvalidInput(f"problem {problem.id} has no gold query")
    try:
        gold = _form(_parse(problem.program))
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold query fails: {e}") from e
    if form.text != gold.text and not (form.exact and gold.exact):
        raise Unavailable("not decided: too many ways of naming the variables")
    return Result(float(form.text == gold.text), form.text)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one name, literal, operator, direction or keyword changed, of another normal form."""
    form = canonical(program)
    matches = list(_TOKEN.finditer(program))
    changes = [(n, new) for n in range(len(matches)) for new in _changes(matches, n)]
    rng.shuffle(changes)
    for n, new in changes:
        mutant = f"{program[: matches[n].start()]}{new}{program[matches[n].end() :]}"
        try:
            changed = _form(_parse(mutant))
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
    if kind == "number" and text.isdigit():
        return [str(int(text) + 1)]
    if kind == "text":
        return [f"{text[:-1]}~{text[-1]}"]
    if text == ">":
        return [""] if before == "-" else ["<="]
    if text == "-":
        return ["->"] if after == "(" else []
    if text.lower() in _SWAPS:
        return [_SWAPS[text.lower()]]
    return [f"{text}2"] if kind == "word" and text.upper() not in _KEYWORDS else []


# --- normal form ------------------------------------------------------------------------------------------------------

Tree = list[Any]
"""A tree whose first element says what it is, see `_Printer`; labels are a tuple, lest they look like one."""
_SYMMETRIC = ("=", "<>", "AND", "OR", "XOR", "*")
_FLIPPED = {">": "<", ">=": "<="}


class Form(NamedTuple):
    """A query printed, and whether every query that differs in names and order alone prints the same."""

    text: str
    exact: bool


class _UndecidedError(Exception):
    """More was printed than `MAX_VISITED` allows."""


def _form(query: Tree) -> Form:
    """Return the least text over all namings of the variables that colour refinement leaves, within `MAX_VISITED`."""
    names = list(dict.fromkeys(node[1] for node in _nodes(query) if node[0] == "var"))
    free = {node[1] for node in _nodes(query) if node[0] == "free"}
    size = sum(1 for _ in _nodes(query))
    visited = 0

    def named(order: Iterable[str]) -> dict[str, str]:
        fresh = (name for n in range(1, len(names) + len(free) + 1) if (name := f"v{n}") not in free)
        return dict(zip(order, fresh, strict=False))

    def show(naming: Mapping[str, str]) -> str:
        nonlocal visited
        visited += size
        if visited > MAX_VISITED:
            raise _UndecidedError
        return _Printer(naming, sorted).query(query)

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
            return show(named(sorted(names, key=colours.__getitem__)))
        first_of = (name for name in names if colours[name] == shared)
        return min(least({n: 2 * c + (c == shared and n != first) for n, c in colours.items()}) for first in first_of)

    try:
        return Form(least(dict.fromkeys(names, 0)), exact=True)
    except _UndecidedError:
        text = _Printer({name: f"#{n}#" for n, name in enumerate(names)}, list).query(query)
        order = sorted(names, key=lambda name: text.find(f"#{names.index(name)}#"))
        return Form(_Printer(named(order), list).query(query), exact=False)


def _nodes(tree: Tree) -> Iterator[Tree]:
    """Yield every node, the first in the text first."""
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            if node and isinstance(node[0], str):
                yield node
            stack += reversed(node)


class _Printer:
    """Prints a tree as a query, with what commutes put in the order of its text."""

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
                return _printed_name(name)
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
                return f"{self._operand(part)}.{_printed_name(name)}"
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


def _printed_name(name: str) -> str:
    plain = re.fullmatch(r"[^\W\d]\w*", name) and name.upper() not in _KEYWORDS
    return name if plain else "`" + name.replace("`", "``") + "`"


# --- which variable is which ------------------------------------------------------------------------------------------


class _Resolver:
    """Gives every variable of a query a name of its own, and patterns of MATCH one way of writing."""

    def __init__(self, query: Tree) -> None:
        self._n = 0
        self._star = any(node == ["star", "*"] for node in _nodes(query) if node[0] == "star")
        self._scope: dict[str, str] = {}
        for part in query[1:]:
            if not isinstance(part, str):
                self._scope = {}
                for clause in part:
                    self._clause(clause)

    def _declare(self, name: str) -> str:
        self._n += 1
        self._scope[name] = f"{name}#{self._n}"
        return self._scope[name]

    def _clause(self, clause: Tree) -> None:
        match clause[0]:
            case "match" | "create":
                self._bind_patterns(clause[-1] if clause[0] == "create" else clause[2])
                if clause[0] == "match":
                    self._visit(clause[3])
                    if not self._star:
                        self._spread(clause)
            case "merge":
                self._bind_patterns([clause[1]])
                for _, action in clause[2]:
                    self._visit(action)
            case "with":
                self._project(clause)
            case "return":
                self._return(clause)
            case "unwind":
                self._visit(clause[1])
                clause[2][1] = self._declare(clause[2][1])
            case "call":
                self._visit(clause[2])
                for output in clause[3]:
                    output[1][1] = self._declare(output[1][1])
                self._visit(clause[4])
            case _:
                self._visit(clause[1])

    def _bind_patterns(self, patterns: list[Tree]) -> None:
        for pattern in patterns:
            for variable in [pattern[1], *(part[1] for part in pattern[3])]:
                if variable and variable[1] not in self._scope:
                    self._declare(variable[1])
        self._visit(patterns)

    def _project(self, clause: Tree) -> None:
        """Read WITH: what it does not name is forgotten, and a name given anew is another variable."""
        before = dict(self._scope)
        kept: dict[str, str] = dict(before) if ["star", "*"] in clause[2] else {}
        new: dict[str, str] = {}
        for item in clause[2]:
            if item[0] == "var" and item[1] in before:
                kept[item[1]] = before[item[1]]
            if item[0] == "as":
                self._visit(item[1])
                if item[1][0] == "var" and self._scope.get(item[2][1]) == item[1][1]:
                    new[item[2][1]] = item[1][1]
                else:
                    self._n += 1
                    new[item[2][1]] = f"{item[2][1]}#{self._n}"
                item[2][1] = new[item[2][1]]
            else:
                self._visit(item)
        self._scope = {**before, **kept, **new}
        self._visit(clause[3:6])
        self._scope = {**kept, **new}
        self._visit(clause[6])

    def _return(self, clause: Tree) -> None:
        """Read RETURN: names of columns do not count, so what ORDER BY calls by one is written out."""
        columns: dict[str, Tree] = {}
        for n, item in enumerate(clause[2]):
            if item[0] == "as":
                columns[item[2][1]] = clause[2][n] = item[1]
        self._visit(clause[2])
        clause[3] = self._written_out(clause[3], columns)
        self._visit(clause[3:])

    def _written_out(self, tree: Any, columns: Mapping[str, Tree]) -> Any:
        if not isinstance(tree, list):
            return tree
        if tree[:1] == ["var"]:
            return copy.deepcopy(columns.get(tree[1], tree))
        return [self._written_out(part, columns) for part in tree]

    def _visit(self, tree: Any) -> None:
        if not isinstance(tree, list) or not tree:
            return
        match tree[0]:
            case "var":
                if tree[1] in self._scope:
                    tree[1] = self._scope[tree[1]]
                elif "#" not in tree[1]:
                    tree[0] = "free"
            case "each" | "reduce":
                self._visit_local(tree)
            case "pattern":
                outer = dict(self._scope)
                for variable in [tree[1], *(part[1] for part in tree[3])]:
                    if variable and variable[1] not in self._scope and "#" not in variable[1]:
                        self._declare(variable[1])
                for part in tree[1:]:
                    self._visit(part)
                self._scope = outer
            case _:
                for part in tree:
                    self._visit(part)

    def _visit_local(self, tree: Tree) -> None:
        outer = dict(self._scope)
        own = [tree[1], tree[3]] if tree[0] == "reduce" else [tree[2]]
        outside = [tree[2], tree[4]] if tree[0] == "reduce" else [tree[3]]
        for part in outside:
            self._visit(part)
        for variable in own:
            variable[1] = self._declare(variable[1])
        for part in [tree[5]] if tree[0] == "reduce" else tree[4:]:
            self._visit(part)
        self._scope = outer

    def _spread(self, clause: Tree) -> None:
        """Cut patterns into single edges, name all that has no name, and make labels and properties conditions."""
        _, _, patterns, conditions = clause
        pieces: list[Tree] = []
        lone: list[Tree] = []
        for pattern in patterns:
            parts = [self._stripped(part, conditions) for part in pattern[3]]
            if pattern[1] is not None or pattern[2] is not None:
                pieces.append(["pattern", pattern[1], pattern[2], parts])
            elif len(parts) == 1:
                lone.append(["pattern", None, None, parts])
            else:
                pieces += [["pattern", None, None, parts[n : n + 3]] for n in range(0, len(parts) - 2, 2)]
        clause[3] = [single for condition in conditions for single in _single_labels(condition)]
        placed = {part[1][1] for piece in pieces for part in piece[3] if part[0] == "node"}
        clause[2] = [*pieces, *(piece for piece in lone if piece[3][0][1][1] not in placed)]

    def _stripped(self, part: Tree, conditions: list[Tree]) -> Tree:
        if part[1] is None and (part[0] == "node" or not part[3]):
            self._n += 1
            part[1] = ["var", f"#{self._n}"]
        is_node, properties = part[0] == "node", part[-1] if part[0] == "node" else part[4]
        if is_node and part[2]:
            conditions.append(["labels", list(part[1]), part[2]])
        if (is_node or not part[3]) and properties and properties[0] == "map":
            conditions += [["op", "=", ["property", list(part[1]), key[1]], value] for key, value in properties[1:]]
            properties = None
        return ["node", part[1], (), properties] if is_node else [*part[:4], properties, part[5]]


def _single_labels(condition: Tree) -> list[Tree]:
    if condition[0] != "labels":
        return [condition]
    return [["labels", list(condition[1]), (label,)] for label in condition[2]]


# --- parsing ----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<quoted>`(?:[^`]|``)+`)
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<parameter>\$\w+)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><>|<=|>=|=~|\+=|\.\.|[-+*/%^=<>()\[\]{}.,:;|])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_CLAUSES = (
    "MATCH",
    "OPTIONAL",
    "UNWIND",
    "WITH",
    "RETURN",
    "CALL",
    "CREATE",
    "MERGE",
    "SET",
    "REMOVE",
    "DELETE",
    "DETACH",
)
_KEYWORDS = frozenset((
    "MATCH OPTIONAL UNWIND WITH RETURN CALL CREATE MERGE SET REMOVE DELETE DETACH WHERE ORDER BY SKIP LIMIT AS DISTINCT"
    " AND OR XOR NOT IN STARTS ENDS CONTAINS IS NULL TRUE FALSE CASE WHEN THEN ELSE END UNION ALL YIELD ON ASC DESC"
    " ASCENDING DESCENDING"
).split())  # fmt: skip
_NO_NAME = _KEYWORDS - {"ALL", "END", "ON", "BY", "CONTAINS", "SET", "ASC", "DESC", "SKIP", "LIMIT", "ORDER", "ENDS"}
"""Words that can be no variable; labels and properties may be called anything."""
_LEVELS = (
    ("OR",),
    ("XOR",),
    ("AND",),
    ("NOT",),
    ("=", "<>", "<", ">", "<=", ">="),
    ("+", "-"),
    ("*", "/", "%"),
    ("^",),
)
_COMPARISON, _NOT = 4, 3
_QUANTIFIERS = ("all", "any", "none", "single")


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _parse(program: str) -> Tree:
    query = _Parser(program).parse()
    _Resolver(query)
    return query


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

    def parse(self) -> Tree:
        if len(self._tokens) == 1:
            raise Unparsable("no query")
        query: Tree = ["query", self._part()]
        while self._skip("UNION"):
            query += ["UNION ALL" if self._skip("ALL") else "UNION", self._part()]
        self._skip(";")
        if self._kind() != "end":
            raise self._expected("a clause or the end")
        if len(self._tokens) > MAX_TOKENS:
            raise LimitExceeded(f"the query has {len(self._tokens)} tokens; at most {MAX_TOKENS} are compared")
        return query

    # tokens

    def _kind(self) -> str:
        return self._tokens[self._at].kind

    def _text(self, ahead: int = 0) -> str:
        token = self._tokens[min(self._at + ahead, len(self._tokens) - 1)]
        return token.text.upper() if token.kind in ("word", "sign") else ""

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1].text

    def _skip(self, *texts: str) -> bool:
        found = all(self._text(n) == text for n, text in enumerate(texts))
        self._at += len(texts) * found
        return found

    def _expect(self, *texts: str) -> None:
        for text in texts:
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

    def _name(self, what: str, reserved: frozenset[str] = frozenset()) -> str:
        if self._kind() == "quoted":
            return self._take()[1:-1].replace("``", "`")
        if self._kind() != "word" or self._text() in reserved:
            raise self._expected(what)
        return self._take()

    def _variable(self) -> Tree:
        return ["var", self._name("a variable", _NO_NAME)]

    # clauses

    def _part(self) -> list[Tree]:
        clauses: list[Tree] = []
        while self._text() in _CLAUSES and (not clauses or clauses[-1][0] != "return"):
            clauses.append(self._clause())
        if not clauses:
            raise self._expected("a clause such as MATCH")
        if clauses[-1][0] in ("match", "with", "unwind"):
            raise self._expected("RETURN or an update")
        return clauses

    def _clause(self) -> Tree:  # noqa: PLR0911 - one return a kind of clause
        word = self._take().upper()
        match word:
            case "OPTIONAL" | "MATCH":
                if word == "OPTIONAL":
                    self._expect("MATCH")
                return ["match", word == "OPTIONAL", self._separated(self._pattern), self._where()]
            case "UNWIND":
                expression = self._expression()
                self._expect("AS")
                return ["unwind", expression, self._variable()]
            case "WITH" | "RETURN":
                return self._projection(word.lower())
            case "CALL":
                return self._call()
            case "CREATE":
                return ["create", self._separated(self._pattern)]
            case "MERGE":
                return self._merge()
            case "SET" | "REMOVE":
                return [word.lower(), self._separated(self._assignment if word == "SET" else self._postfix)]
        if word == "DETACH":
            self._expect("DELETE")
        return ["detach delete" if word == "DETACH" else "delete", self._separated(self._expression)]

    def _separated(self, part: Callable[[], Tree]) -> list[Tree]:
        parts = [part()]
        while self._skip(","):
            parts.append(part())
        return parts

    def _where(self) -> list[Tree]:
        """Return the conditions that WHERE joins by AND."""
        return _conjuncts(self._expression()) if self._skip("WHERE") else []

    def _projection(self, kind: str) -> Tree:
        distinct = self._skip("DISTINCT")
        items = self._separated(lambda: self._item(kind))
        order: list[Any] = []
        if self._skip("ORDER", "BY"):
            order = self._separated(self._sort_key)
        skip = self._expression() if self._skip("SKIP") else None
        limit = self._expression() if self._skip("LIMIT") else None
        return [kind, distinct, items, order, skip, limit, self._where() if kind == "with" else []]

    def _item(self, kind: str) -> Tree:
        if self._skip("*"):
            return ["star", "*"]
        expression = self._expression()
        if self._skip("AS"):
            return ["as", expression, self._variable()]
        if kind == "with" and expression[0] != "var":
            raise self._expected("AS and a name")
        return expression

    def _sort_key(self) -> list[Any]:
        key = self._expression()
        descending = self._text() in ("DESC", "DESCENDING")
        self._at += self._text() in ("DESC", "DESCENDING", "ASC", "ASCENDING")
        return [key, " DESC" if descending else ""]

    def _call(self) -> Tree:
        if self._text() == "{":
            raise self._expected("a procedure; subqueries are not supported")
        name = self._name("a procedure")
        while self._skip("."):
            name += f".{self._name('a name')}"
        arguments = self._arguments() if self._skip("(") else None
        outputs: list[Any] = []
        if self._skip("YIELD"):
            outputs = self._separated(self._output)
        return ["call", name, arguments, outputs, self._where() if outputs else []]

    def _output(self) -> list[Any]:
        field = self._name("a result of the procedure")
        return [["key", field], self._variable() if self._skip("AS") else ["var", field]]

    def _merge(self) -> Tree:
        pattern = self._pattern()
        actions = []
        while self._skip("ON"):
            event = self._take().upper()
            if event not in ("CREATE", "MATCH"):
                self._at -= 1
                raise self._expected("CREATE or MATCH")
            self._expect("SET")
            actions.append([event, ["set", self._separated(self._assignment)]])
        return ["merge", pattern, actions]

    def _assignment(self) -> Tree:
        left = self._postfix()
        sign = next((sign for sign in ("=", "+=") if self._skip(sign)), None)
        if sign is not None:
            return ["set", left, sign, self._expression()]
        if left[0] != "labels":
            raise self._expected("'='")
        return left

    # patterns

    def _pattern(self) -> Tree:
        name = None
        if self._text(1) == "=":
            name = self._variable()
            self._expect("=")
        function = None
        if self._text() in ("SHORTESTPATH", "ALLSHORTESTPATHS"):
            function = {"SHORTESTPATH": "shortestPath"}.get(self._take().upper(), "allShortestPaths")
            self._expect("(")
        parts = self._chain()
        if function:
            self._expect(")")
        return ["pattern", name, function, parts]

    def _chain(self) -> list[Tree]:
        parts = [self._node()]
        while self._text() == "-" or (self._text() == "<" and self._text(1) == "-"):
            parts += [self._edge(), self._node()]
        return parts

    def _node(self) -> Tree:
        self._expect("(")
        variable = self._variable() if self._kind() in ("word", "quoted") else None
        labels = []
        while self._skip(":"):
            labels.append(_printed_name(self._name("a label")))
        properties = self._properties()
        self._expect(")")
        return ["node", variable, tuple(sorted(set(labels))), properties]

    def _properties(self) -> Tree | None:
        if self._kind() == "parameter":
            return ["literal", self._take()]
        return self._map() if self._text() == "{" else None

    def _edge(self) -> Tree:
        to_left = self._skip("<")
        self._expect("-")
        variable, types, span, properties = None, list[str](), "", None
        if self._skip("["):
            variable = self._variable() if self._kind() in ("word", "quoted") else None
            while self._skip(":") or (types and self._skip("|")):
                self._skip(":")
                types.append(_printed_name(self._name("a type")))
            span = self._span() if self._skip("*") else ""
            properties = self._properties()
            self._expect("]")
        self._expect("-")
        to_right = self._skip(">")
        direction = "" if to_left == to_right else "<" if to_left else ">"
        return ["edge", variable, tuple(sorted(set(types))), span, properties, direction]

    def _span(self) -> str:
        low = self._take() if self._kind() == "number" else ""
        if not self._skip(".."):
            return f"*{low}"
        return f"*{low}..{self._take() if self._kind() == 'number' else ''}"

    # expressions

    def _expression(self, level: int = 0) -> Tree:
        if level == len(_LEVELS):
            return self._signed()
        if level == _NOT:
            return self._negation()
        depth = self._depth
        self._depth += level == 0
        if self._depth > MAX_DEPTH:
            raise self._expected(f"at most {MAX_DEPTH} levels")
        left = self._expression(level + 1)
        left = self._comparison(left) if level == _COMPARISON else self._chained(left, level)
        self._depth = depth
        return left

    def _chained(self, left: Tree, level: int) -> Tree:
        while self._text() in _LEVELS[level]:
            sign = self._take().upper()
            right = self._expression(level + 1)
            if left[:2] == ["op", sign] and sign in ("AND", "OR", "XOR"):
                left.append(right)
            else:
                self._deeper()
                left = ["op", sign, left, right]
        return left

    def _comparison(self, left: Tree) -> Tree:
        """Read comparisons after `left`; `a < b < c` is `a < b AND b < c`."""
        found: list[Tree] = []
        while True:
            sign = self._text()
            if sign in _LEVELS[_COMPARISON]:
                self._at += 1
                right = self._expression(_COMPARISON + 1)
                found.append(["op", sign, copy.deepcopy(left), right])
                left = right
            elif (test := self._test(left)) is not None:
                left = test
                if found:
                    found[-1][3] = left
            else:
                break
            if len(found) > MAX_DEPTH:
                raise self._expected(f"at most {MAX_DEPTH} comparisons")
        return left if not found else found[0] if len(found) == 1 else ["op", "AND", *found]

    def _test(self, left: Tree) -> Tree | None:
        """Read one test of text, list or null after `left`."""
        if self._skip("IS", "NOT", "NULL"):
            return ["after", left, "IS NOT NULL"]
        if self._skip("IS", "NULL"):
            return ["after", left, "IS NULL"]
        for words in (("IN",), ("STARTS", "WITH"), ("ENDS", "WITH"), ("CONTAINS",), ("=~",)):
            if self._skip(*words):
                self._deeper()
                return ["op", " ".join(words), left, self._expression(_COMPARISON + 1)]
        return None

    def _negation(self) -> Tree:
        if not self._skip("NOT"):
            return self._expression(_NOT + 1)
        self._deeper()
        part = self._negation()
        self._depth -= 1
        return ["before", "NOT", part]

    def _signed(self) -> Tree:
        if self._skip("-"):
            self._deeper()
            part = self._signed()
            self._depth -= 1
            return (
                ["literal", f"-{part[1]}"] if part[0] == "literal" and part[1][0].isdigit() else ["before", "-", part]
            )
        self._skip("+")
        return self._postfix()

    def _postfix(self) -> Tree:
        part = self._atom()
        n_steps = 0
        while True:
            if self._skip("."):
                part = ["property", part, self._name("a property")]
            elif self._text() == ":" and part[0] in ("var", "labels"):
                self._at += 1
                label = _printed_name(self._name("a label"))
                known = part if part[0] == "labels" else ["labels", part, ()]
                part = ["labels", known[1], tuple(sorted({*known[2], label}))]
            elif self._skip("["):
                part = self._indexed(part)
            else:
                return part
            n_steps += 1
            if n_steps > MAX_DEPTH:
                raise self._expected(f"at most {MAX_DEPTH} levels")

    def _indexed(self, part: Tree) -> Tree:
        low = None if self._text() == ".." else self._expression()
        if self._skip(".."):
            high = None if self._text() == "]" else self._expression()
            self._expect("]")
            return ["slice", part, low, high]
        self._expect("]")
        return ["at", part, low]

    def _atom(self) -> Tree:  # noqa: PLR0911 - one return a kind of atom
        kind, text = self._kind(), self._text()
        if kind in ("number", "parameter"):
            return ["literal", self._take()]
        if kind == "text":
            return ["literal", _requoted(self._take())]
        if text in ("TRUE", "FALSE", "NULL"):
            return ["literal", self._take().lower()]
        if text == "CASE":
            return self._case()
        if text == "[":
            return self._list()
        if text == "{":
            return self._map()
        if text == "(":
            if self._is_pattern():
                return ["pattern", None, None, self._chain()]
            self._at += 1
            expression = self._expression()
            self._expect(")")
            return expression
        if text in ("SHORTESTPATH", "ALLSHORTESTPATHS") and self._text(1) == "(":
            return self._pattern()
        if kind in ("word", "quoted") and self._text(1) in ("(", ".") and self._function_ahead():
            return self._function()
        return ["var", self._name("an expression", _NO_NAME)]

    def _is_pattern(self) -> bool:
        """Return whether the bracket that opens here is a node with an edge after it."""
        depth = ahead = 0
        while self._at + ahead < len(self._tokens) - 1:
            depth += (self._text(ahead) == "(") - (self._text(ahead) == ")")
            ahead += 1
            if depth == 0:
                break
        ahead += self._text(ahead) == "<"
        return self._text(ahead) == "-" and self._text(ahead + 1) in ("[", "-")

    def _function_ahead(self) -> bool:
        ahead = 1
        while (
            self._text(ahead) == "." and self._tokens[min(self._at + ahead + 1, len(self._tokens) - 1)].kind == "word"
        ):
            ahead += 2
        return self._text(ahead) == "("

    def _function(self) -> Tree:
        name = self._name("a function")
        while self._skip("."):
            name += f".{self._name('a name')}"
        name = name if "." in name else name.lower()
        self._expect("(")
        if name in _QUANTIFIERS and self._text(1) == "IN":
            return self._each(name, ")")
        if name == "reduce":
            return self._reduce()
        if self._text() == "*" and name == "count":
            self._at += 1
            self._expect(")")
            return ["call", "count", False, [["literal", "*"]]]
        distinct = self._skip("DISTINCT")
        return ["call", name, distinct, self._arguments()]

    def _arguments(self) -> list[Tree]:
        arguments = [] if self._text() == ")" else self._separated(self._expression)
        self._expect(")")
        return arguments

    def _each(self, name: str, end: str) -> Tree:
        variable = self._variable()
        self._expect("IN")
        items = self._expression()
        condition = self._expression() if self._skip("WHERE") else None
        result = self._expression() if not name and self._skip("|") else None
        self._expect(end)
        return ["each", name, variable, items, condition, result]

    def _reduce(self) -> Tree:
        total = self._variable()
        self._expect("=")
        start = self._expression()
        self._expect(",")
        variable = self._variable()
        self._expect("IN")
        items = self._expression()
        self._expect("|")
        result = self._expression()
        self._expect(")")
        return ["reduce", total, start, variable, items, result]

    def _list(self) -> Tree:
        self._expect("[")
        if self._kind() in ("word", "quoted") and self._text(1) == "IN":
            return self._each("", "]")
        items = [] if self._text() == "]" else self._separated(self._expression)
        self._expect("]")
        return ["list", *items]

    def _map(self) -> Tree:
        self._expect("{")
        entries: list[Any] = []
        while self._text() != "}":
            key = ["key", self._name("a property")]
            self._expect(":")
            entries.append([key, self._expression()])
            if not self._skip(","):
                break
        self._expect("}")
        return ["map", *entries]

    def _case(self) -> Tree:
        self._expect("CASE")
        subject = None if self._text() == "WHEN" else self._expression()
        branches = []
        while self._skip("WHEN"):
            condition = self._expression()
            self._expect("THEN")
            branches.append([condition, self._expression()])
        if not branches:
            raise self._expected("WHEN")
        otherwise = self._expression() if self._skip("ELSE") else None
        self._expect("END")
        return ["case", subject, branches, otherwise]


def _conjuncts(expression: Tree) -> list[Tree]:
    if expression[:2] == ["op", "AND"]:
        return [part for inner in expression[2:] for part in _conjuncts(inner)]
    return [expression]


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def _requoted(token: str) -> str:
    """Return a text in double quotes, escaped no more than it must be."""
    decoded = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", lambda m: _decoded(m[1]), token[1:-1], flags=re.DOTALL)
    return json.dumps(decoded, ensure_ascii=False)


def _decoded(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) > 1 else _ESCAPES.get(escape, escape)


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
