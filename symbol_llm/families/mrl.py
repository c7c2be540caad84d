r"""NLmaps' machine-readable language for OpenStreetMap queries. Equal means: the same term up to commutative arguments.

    query(around(center(area(keyval('name','Bonn')),nwr(keyval('tourism','museum'))),
                 search(nwr(keyval('amenity','cafe'))),maxdist(500)),qtype(latlong))

The order of arguments does not count in `and`, `or`, `area`, `nwr` and `dist`; an `and` in an `and`, or an `or` in an
`or`, is merged; white space outside quotes does not count. `nwr(and(a,b))` is not `nwr(a,b)`: the first means both
kinds of thing, the second a thing that is both. A quote ends a text only before a comma or closing bracket, so that
`'Paul's'` is the text Paul's, as in the corpus; `'Paul\'s'` and `"Paul's"` are it too. Gold is `problem.program`.
Nothing is run, since there is no map here.

Missed: different terms that would find the same, such as another tag with the same meaning. Haas and Riezler 2016.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, read_gold
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 3
METRIC = "exact match of terms"

MAX_DEPTH = 50
MANY = 1000

COMMUTATIVE = ("and", "or", "area", "nwr", "dist")
ASSOCIATIVE = ("and", "or")
_PLACES = "area nwr around north east south west"
_TAGS = "keyval and or"
GRAMMAR: dict[str, tuple[int, int, str]] = {
    "query": (2, 3, f"{_PLACES} qtype"),
    "dist": (1, 4, "query for unit"),
    "north": (1, 2, _PLACES),
    "east": (1, 2, _PLACES),
    "south": (1, 2, _PLACES),
    "west": (1, 2, _PLACES),
    "around": (3, 4, "center search maxdist topx"),
    "center": (1, 2, "area nwr"),
    "search": (1, 2, "area nwr"),
    "area": (1, MANY, _TAGS),
    "nwr": (1, MANY, _TAGS),
    "and": (2, MANY, f"{_TAGS} text"),
    "or": (2, MANY, f"{_TAGS} text"),
    "keyval": (2, 2, "text and or"),
    "maxdist": (1, 1, "number name"),
    "topx": (1, 1, "number"),
    "qtype": (1, MANY, "latlong findkey count least nodup"),
    "latlong": (0, 1, "topx"),
    "count": (0, 0, ""),
    "findkey": (1, 2, "text and or topx"),
    "least": (1, 1, "topx"),
    "nodup": (1, 1, "findkey"),
    "for": (1, 1, "text"),
    "unit": (1, 1, "name"),
}
"""Fewest arguments, most arguments, and their kinds: operators, or `text`, `number`, `name`."""
ROOTS = ("query", "dist")


class Term(NamedTuple):
    """An operator with its arguments, or a leaf: a text with its quotes, a number, a name."""

    text: str
    arguments: tuple[Term, ...] = ()


class Environment(Needs):
    """What judging needs besides program and gold: nothing."""


def canonical(program: str) -> str:
    """Return the term without white space, commutative arguments flat and sorted."""
    return _print(_normal(_parse(program)))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the term is that of `problem.program`, else 0.0."""
    gold = read_gold(problem, canonical)
    found = canonical(program)
    return Result(float(found == gold), found)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a text, number or operator changed, or an argument removed if some remain."""
    term = _normal(_parse(program))
    changed = list(_changes(term))
    rng.shuffle(changed)
    for mutant in changed:
        if _print(_normal(mutant)) != _print(term):
            yield _print(mutant)


_SWAPS = {
    "north": "south", "south": "north", "east": "west", "west": "east", "and": "or", "or": "and", "count": "latlong",
    "latlong": "count", "DIST_INTOWN": "DIST_OUTTOWN", "DIST_OUTTOWN": "DIST_INTOWN", "km": "mi", "mi": "km",
}  # fmt: skip


def _changes(term: Term) -> Iterator[Term]:
    """Yield variants of `term`, all of them terms of the language."""
    text, arguments = term
    if text in _SWAPS and (arguments or GRAMMAR.get(text, (0,))[0] == 0):
        swapped = _SWAPS[text]
        yield Term(swapped, arguments if swapped != "count" else ())
    elif text.isdecimal():
        yield Term(str(int(text) + 1))
    elif text.startswith("'"):
        yield Term(f"{text[:-1]}s'")
    for n, argument in enumerate(arguments):
        before, after = arguments[:n], arguments[n + 1 :]
        for other in _changes(argument):
            yield Term(text, (*before, other, *after))
        if len(arguments) > GRAMMAR[text][0] and text not in ("query", "dist", "center", "findkey"):
            yield Term(text, before + after)
        if text == "around" and n == 0:
            yield Term(text, (Term("center", after[0].arguments), Term("search", argument.arguments), *after[1:]))


# --- the normal form --------------------------------------------------------------------------------------------------


def _normal(term: Term) -> Term:
    text = term.text
    arguments = [_normal(argument) for argument in term.arguments]
    if text in ASSOCIATIVE:
        arguments = [part for one in arguments for part in (one.arguments if one.text == text else (one,))]
    return Term(text, tuple(sorted(arguments, key=_print) if text in COMMUTATIVE else arguments))


def _print(term: Term) -> str:
    return f"{term.text}({','.join(map(_print, term.arguments))})" if term.arguments else term.text


# --- parsing ----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"(?P<text>(?:'.*?'|\".*?\"|[‘’].*?’)(?=\s*[,)]))|(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)|(?P<sign>[(),])", re.ASCII
)
_SPACE = re.compile(r"\s*")


class _Parser:
    """Recursive descent with one token of look-ahead."""

    def __init__(self, program: str) -> None:
        self._program, self._depth, self._at = program, 0, 0
        self._advance()

    def _advance(self) -> None:
        start = _SPACE.match(self._program, self._at)
        self._start = start.end() if start else self._at
        token = _TOKEN.match(self._program, self._start)
        self._kind = token.lastgroup if token else None
        self._text = token[0] if token else ""
        if token and token["text"]:
            inside = token[0][1:-1].replace("\\'", "'")
            self._text = f"'{inside}'"
        self._at = token.end() if token else self._start

    def _error(self, expected: str) -> Unparsable:
        before = self._program[: self._start]
        line, column = before.count("\n") + 1, self._start - before.rfind("\n")
        got = repr(self._program[self._start : self._start + 20]) if self._start < len(self._program) else "the end"
        return Unparsable(f"line {line}, column {column}: expected {expected}, got {got}")

    def program(self) -> Term:
        """Parse the whole program as one term."""
        if self._text not in ROOTS:
            raise self._error("query( or dist(")
        term = self._term(" ".join(ROOTS), "the program")
        if self._start < len(self._program):
            raise self._error("the end")
        return term

    def _term(self, allowed: str, parent: str) -> Term:
        text, kind = self._text, self._kind
        is_operator = kind == "name" and text in GRAMMAR
        if (text if is_operator else kind) not in allowed.split():
            raise self._error(f"{allowed.replace(' ', ' or ') or 'nothing'} in {parent}")
        self._advance()
        if not is_operator:
            return Term(text)
        least, most, inside = GRAMMAR[text]
        arguments: list[Term] = []
        if self._text == "(" and most:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self._error(f"at most {MAX_DEPTH} levels")
            while not arguments or self._text == ",":
                if len(arguments) == most:
                    raise self._error(f"')': {text} has at most {most} arguments")
                self._advance()
                arguments.append(self._term(inside, text))
            self._depth -= 1
            if self._text != ")":
                raise self._error("',' or ')'")
            if len(arguments) < least:
                raise self._error(f"',': {text} has at least {least} arguments")
            self._advance()
        elif least:
            raise self._error(f"'(' after {text}")
        return Term(text, tuple(arguments))


def _parse(program: str) -> Term:
    return _Parser(program.rstrip(" \t\n.;")).program()


_CAFES = (
    "query(around(center(area(keyval('name','Bonn')),nwr(keyval('tourism','museum'),keyval('name','King's House'))),"
    "search(nwr(and(keyval('amenity','cafe'),keyval('shop','bakery')))),maxdist(500)),qtype(latlong))"
)


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="mrl", split="train", instruction="Write the query.", program=_CAFES,
        question="Where are the cafes and bakeries within 500 metres of the museum King's House in Bonn?",
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _CAFES, 1.0),
    _example(
        "different-looking equal",
        "query( around(\n center(area(keyval('name', 'Bonn')),"
        " nwr(keyval('name','King's House'),keyval('tourism','museum'))),"
        "\n search(nwr(and(keyval('shop','bakery') , keyval('amenity','cafe')))), maxdist(500)),\n qtype(latlong) )",
        1.0,
    ),
    _example(
        "similar-looking different",
        _CAFES.replace(
            "nwr(and(keyval('amenity','cafe'),keyval('shop','bakery')))",
            "nwr(keyval('amenity','cafe'),keyval('shop','bakery'))",
        ),
        0.0,
    ),
    _example("another distance", _CAFES.replace("500", "5000"), 0.0),
    _example("unknown operator", _CAFES.replace("around", "near"), None),
    _example("ill-formed", _CAFES[:-1], None),
)
