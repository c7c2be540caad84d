"""Parser of Cypher to a tree. It resolves no names and does not decide which queries are equal.

The grammar is openCypher 9; the parsers on PyPI are large (ANTLR at run time), bound to one vendor, or no longer
maintained, and a tree with errors in it would be of no use here. Refused: subqueries in braces, FOREACH, LOAD CSV,
EXPLAIN, schema commands.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from symbol_llm.ground.errors import LimitExceeded, Unparsable
from symbol_llm.notation.tokens import TokenParser

MAX_TOKENS = 4000
MAX_DEPTH = 30

Tree = list[Any]
"""A tree whose first element is its kind, see `_Printer` in `__init__.py`; labels are a tuple, unlike any tree."""

TOKEN = re.compile(
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
KEYWORDS = frozenset((
    "MATCH OPTIONAL UNWIND WITH RETURN CALL CREATE MERGE SET REMOVE DELETE DETACH WHERE ORDER BY SKIP LIMIT AS DISTINCT"
    " AND OR XOR NOT IN STARTS ENDS CONTAINS IS NULL TRUE FALSE CASE WHEN THEN ELSE END UNION ALL YIELD ON ASC DESC"
    " ASCENDING DESCENDING"
).split())  # fmt: skip
_NO_NAME = KEYWORDS - {"ALL", "END", "ON", "BY", "CONTAINS", "SET", "ASC", "DESC", "SKIP", "LIMIT", "ORDER", "ENDS"}
"""Words that cannot be variables; labels and properties may have any name."""
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


def parse(program: str) -> Tree:
    """Return ["query", clauses or "UNION" ...]; raises Unparsable with line and column."""
    return _Parser(program).parse()


def nodes(tree: Tree) -> Iterator[Tree]:
    """Yield every node, in the order of the text."""
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            if node and isinstance(node[0], str):
                yield node
            stack += reversed(node)


def printed_name(name: str) -> str:
    """Return `name` as written in a query, in backquotes if needed."""
    plain = re.fullmatch(r"[^\W\d]\w*", name) and name.upper() not in KEYWORDS
    return name if plain else "`" + name.replace("`", "``") + "`"


class _Parser(TokenParser):
    """Recursive-descent parser of a query."""

    def __init__(self, program: str) -> None:
        super().__init__(program, TOKEN, MAX_DEPTH)
        self._n_copied = 0

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

    def _text(self, ahead: int = 0) -> str:
        token = self._tokens[min(self._at + ahead, len(self._tokens) - 1)]
        return token.text.upper() if token.kind in ("word", "sign") else ""

    def _skip(self, *texts: str) -> bool:
        found = all(self._text(n) == text for n, text in enumerate(texts))
        self._at += len(texts) * found
        return found

    def _expect(self, *texts: str) -> None:
        for text in texts:
            if not self._skip(text):
                raise self._expected(repr(text))

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
        return _conjuncts(_truth(self._expression())) if self._skip("WHERE") else []

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
            labels.append(printed_name(self._name("a label")))
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
                types.append(printed_name(self._name("a type")))
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
                found.append(["op", sign, self._copy(left) if found else left, right])
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

    def _copy(self, tree: Tree) -> Tree:
        """Return a copy of the middle operand of `a < b < c`; nesting doubles its size each time."""
        self._n_copied += sum(1 for _ in nodes(tree))
        if self._n_copied > MAX_TOKENS:
            raise LimitExceeded(f"comparisons within comparisons come to more than {MAX_TOKENS} parts")
        return copy.deepcopy(tree)

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
                label = printed_name(self._name("a label"))
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
        condition = _truth(self._expression()) if self._skip("WHERE") else None
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


_NEGATED = {"=": "<>", "<>": "=", "IS NULL": "IS NOT NULL", "IS NOT NULL": "IS NULL"}


def _truth(condition: Tree) -> Tree:  # noqa: PLR0911 - one return a kind of condition
    """Return `condition` with one spelling for what can be said in several: `r.paid` is `r.paid = true`.

    Also for null: `NOT a = b` is `a <> b`. A property that is no truth value is an error where one is called for.
    """
    match condition:
        case ["property", *_]:
            return ["op", "=", condition, ["literal", "true"]]
        case ["before", "NOT", ["property", *_] as part]:
            return ["op", "=", part, ["literal", "false"]]
        case ["call", "exists", False, [["property", *_] as part]]:
            return ["after", part, "IS NOT NULL"]
        case ["op", "AND" | "OR" | "XOR" as sign, *parts]:
            return ["op", sign, *map(_truth, parts)]
        case ["before", "NOT", part]:
            match _truth(part):
                case ["op", "=" | "<>" as sign, left, right]:
                    return ["op", _NEGATED[sign], left, right]
                case ["after", left, sign]:
                    return ["after", left, _NEGATED[sign]]
                case inner:
                    return ["before", "NOT", inner]
    return condition


def _conjuncts(expression: Tree) -> list[Tree]:
    if expression[:2] == ["op", "AND"]:
        return [part for inner in expression[2:] for part in _conjuncts(inner)]
    return [expression]


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def _requoted(token: str) -> str:
    """Return a text in double quotes, with no more escapes than needed."""
    decoded = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", lambda m: _decoded(m[1]), token[1:-1], flags=re.DOTALL)
    return json.dumps(decoded, ensure_ascii=False)


def _decoded(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) > 1 else _ESCAPES.get(escape, escape)
