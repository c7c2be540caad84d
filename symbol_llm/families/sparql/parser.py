"""Parser of SPARQL queries (SELECT and ASK) to a tree with prefixes expanded. Does not decide which queries are equal.

As in Virtuoso, `SELECT COUNT(?x)` is accepted, with or without `AS ?n`. Refused: CONSTRUCT, DESCRIBE, updates, FROM,
SERVICE, RDF collections.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

from symbol_llm.ground.errors import LimitExceeded, Unparsable
from symbol_llm.notation.tokens import TokenParser

MAX_TOKENS = 4000
MAX_DEPTH = 40
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
"""Prefixes declared in every query."""

Tree = list[Any]
"""A JSON tree: ["var", name], ["iri", iri], ["text", quoted, tag], ["number", digits] ...; see `__init__.py`."""

TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<iri><[^<>"{}|^`\\\s]*>)
    |(?P<text>\"{3}(?:(?:\"{1,2})?(?:[^"\\]|\\.))*\"{3}|'{3}(?:(?:'{1,2})?(?:[^'\\]|\\.))*'{3}
        |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<variable>[?$]\w+)
    |(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<tag>@[A-Za-z]+(?:-[A-Za-z0-9]+)*)
    |(?P<blank>_:\w[\w.-]*)
    |(?P<name>(?:[^\W\d_][\w-]{0,99})?:(?:(?:[\w:%.-]|\\[_~.!$&'()*+,;=/?\#@%-])*(?:[\w:%-]|\\[_~.!$&'()*+,;=/?\#@%-]))?)
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


def parse(program: str) -> Tree:
    """Return ["select", ...] or ["ask", ...]; raises Unparsable with line and column."""
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


class _Parser(TokenParser):
    """Recursive-descent parser of a query."""

    def __init__(self, program: str) -> None:
        super().__init__(program, TOKEN, MAX_DEPTH)
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

    def _text(self, ahead: int = 0) -> str:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)].text

    def _word(self) -> str:
        return self._text().upper() if self._kind() == "word" else ""

    def _skip(self, text: str) -> bool:
        found = self._kind() in ("word", "sign") and self._text().upper() == text
        self._at += found
        return found

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            raise self._expected(repr(text))

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
                parts.append([word.lower(), _plain(self._take())])
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
        """Return the elements of a group; nested groups of triple patterns are merged into it."""
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
        """Return a subquery; variables that it does not select are distinct from those outside."""
        self._deeper()
        query = self._query()
        self._depth -= 1
        if not query[2]:
            return query
        shown = {item[-1][1] if item[0] == "as" else item[1] for item in query[2]}
        self._n_new += 1
        for node in nodes(query):
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
        """Return the properties and inverse properties after a `!`, already printed."""
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
            return ["number", _plain(quoted[1:-1])]
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


def _plain(digits: str) -> str:
    """Return a whole number, however long, without a plus sign and leading zeros."""
    plain = digits.lstrip("+-").lstrip("0") or "0"
    return f"-{plain}" if digits.startswith("-") and plain != "0" else plain
