"""COGS logical forms: conjunctions over things and events of a sentence. Equal means: the same up to variable names.

    * cat ( x _ 1 ) ; see . agent ( x _ 2 , x _ 1 ) AND see . theme ( x _ 2 , x _ 4 ) AND dog ( x _ 4 )

`*` marks definite things. COGS numbers variables by the positions of words in the sentence. These numbers have no
meaning in the form itself, so they do not count here, nor do the order of conjuncts, repetition and white space. Wu et
al. 2023 (ReCOGS) measure the same; Kim and Linzen 2020 (COGS) compare strings: accuracy here is no lower than theirs.
Single words have the forms `LAMBDA a . LAMBDA e . see . agent ( e , a )`, where the order of the lambdas counts, or a
bare name, `Emma`. Gold is `problem.program`. Nothing is run.

Missed: two equal forms so regular that colour refinement cannot pair their variables; no sentence has such a form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, read_gold
from symbol_llm.ground.errors import LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import refinement, replies

VERSION = 3
METRIC = "exact match up to variable names"

MAX_VARIABLES = 100


class Atom(NamedTuple):
    """`cat ( x _ 1 )`, `* cat ( x _ 1 )` or `see . agent ( x _ 2 , Emma )`."""

    definite: bool
    predicate: str
    arguments: tuple[str, ...]
    """A variable is represented by its number; a name starts with a capital."""


class Form(NamedTuple):
    """A parsed program. A bare name has no atoms, and itself as its only argument."""

    lambdas: int
    """The variables bound by LAMBDA, in this order."""
    atoms: frozenset[Atom]
    name: str = ""


class Environment(Needs):
    """What judging needs besides program and gold: nothing."""


def canonical(program: str) -> str:
    """Return the form with variables renumbered, definite atoms first, all sorted."""
    return _print(_parse(program))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the form is that of `problem.program`, else 0.0."""
    gold = read_gold(problem, canonical)
    found = canonical(program)
    return Result(float(found == gold), found)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with an atom removed, a predicate or argument changed, two exchanged, or `*` added or removed."""
    form = _parse(program)
    changed = list(_changes(form))
    rng.shuffle(changed)
    for mutant in changed:
        if _print(mutant) != _print(form) and (mutant.name or any(not atom.definite for atom in mutant.atoms)):
            yield _print(mutant)


_SWAPS = {
    "agent": "theme", "theme": "agent", "recipient": "theme", "ccomp": "xcomp", "xcomp": "ccomp", "on": "in",
    "in": "beside", "beside": "on",
}  # fmt: skip


def _changes(form: Form) -> Iterator[Form]:
    if form.name:
        yield form._replace(name=f"{form.name}a")
    terms = sorted({argument for atom in form.atoms for argument in atom.arguments})
    for atom in sorted(form.atoms):
        others = form.atoms - {atom}
        words = atom.predicate.split(" . ")
        yield form._replace(atoms=others)
        yield form._replace(atoms=others | {atom._replace(predicate=" . ".join([f"{words[0]}s", *words[1:]]))})
        if len(words) > 1:
            role = _SWAPS.get(words[-1], f"{words[-1]}s")
            yield form._replace(atoms=others | {atom._replace(predicate=" . ".join([*words[:-1], role]))})
            for term in terms:
                yield form._replace(atoms=others | {atom._replace(arguments=(atom.arguments[0], term))})
            if atom.arguments[1].isdigit():
                yield form._replace(atoms=others | {atom._replace(arguments=atom.arguments[::-1])})
            else:
                yield form._replace(
                    atoms=others | {atom._replace(arguments=(atom.arguments[0], f"{atom.arguments[1]}a"))}
                )
        elif not form.lambdas:
            yield form._replace(atoms=others | {atom._replace(definite=not atom.definite)})


# --- the canonical form -----------------------------------------------------------------------------------------------


def _print(form: Form) -> str:
    if form.name:
        return form.name
    names = {str(n): chr(ord("a") + n) for n in range(form.lambdas)}
    if not form.lambdas:
        names = {variable: f"x _ {n + 1}" for variable, n in _order(form.atoms).items()}
    shown = sorted(
        (not atom.definite, f"{atom.predicate} ( {' , '.join(names.get(term, term) for term in atom.arguments)} )")
        for atom in form.atoms
    )
    lambdas = "".join(f"LAMBDA {name} . " for name in names.values()) if form.lambdas else ""
    definite = "".join(f"* {text} ; " for indefinite, text in shown if not indefinite)
    return lambdas + definite + " AND ".join(text for indefinite, text in shown if indefinite)


def _order(atoms: frozenset[Atom]) -> dict[str, int]:
    """Number the variables; see `refinement.number`."""
    variables = {term for atom in atoms for term in atom.arguments if term.isdigit()}
    around: dict[str, list[tuple[str, bool, str]]] = {variable: [] for variable in variables}
    own: dict[str, list[tuple[bool, str, str]]] = {variable: [] for variable in variables}
    for definite, predicate, (first, *rest) in atoms:
        if rest and rest[0].isdigit():
            around[first].append((predicate, False, rest[0]))
            around[rest[0]].append((predicate, True, first))
        else:
            own[first].append((definite, predicate, rest[0] if rest else ""))
    return refinement.number({v: tuple(sorted(facts)) for v, facts in own.items()}, around, key=int)


# --- parsing ----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*(?:([^\W\d_]+)|([0-9]{1,6})|([*;.,()_])|(\S))")
_KEYWORDS = ("AND", "LAMBDA")


class _Parser:
    """One pass over the tokens; nothing in a form is nested."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._tokens = [(token[0].strip(), token.end()) for token in _TOKEN.finditer(program.rstrip())]
        self._at = 0
        self._bound: list[str] = []

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _error(self, expected: str) -> Unparsable:
        text, end = self._tokens[self._at] if self._peek() else ("", len(self._program))
        start = end - len(text)
        line, column = self._program.count("\n", 0, start) + 1, start - self._program.rfind("\n", 0, start)
        return Unparsable(f"line {line}, column {column}: expected {expected}, got {text[:40] or 'the end'!r}")

    def _take(self, *expected: str) -> None:
        for text in expected:
            if self._peek() != text:
                raise self._error(repr(text))
            self._at += 1

    def _word(self, expected: str) -> str:
        word = self._peek()
        if not word.isalpha() or word in _KEYWORDS:
            raise self._error(expected)
        self._at += 1
        return word

    def form(self) -> Form:
        """Parse the whole program as one form."""
        if len(self._tokens) == 1 and self._peek()[0].isupper():
            return Form(0, frozenset(), self._word("a name"))
        while self._peek() == "LAMBDA":
            self._at += 1
            self._bound.append(self._word("a variable"))
            self._take(".")
        if len(set(self._bound)) < len(self._bound) or len(self._bound) > 20:
            raise self._error("different variables, at most 20")
        atoms = set()
        while self._peek() == "*" and not self._bound:
            self._at += 1
            atoms.add(Atom(True, self._word("a noun"), self._arguments(1)))
            self._take(";")
        atoms.add(self._atom())
        while self._peek() == "AND":
            self._at += 1
            atoms.add(self._atom())
        if self._peek():
            raise self._error("AND or the end")
        return Form(len(self._bound), frozenset(atoms))

    def _atom(self) -> Atom:
        words = [self._word("a predicate")]
        while self._peek() == ".":
            self._at += 1
            words.append(self._word("a role"))
        return Atom(False, " . ".join(words), self._arguments(1 if len(words) == 1 else 2))

    def _arguments(self, count: int) -> tuple[str, ...]:
        self._take("(")
        arguments = [self._variable()]
        if count > 1:
            self._take(",")
            is_name = self._peek()[:1].isupper() and self._peek() not in self._bound
            arguments.append(self._word("a name") if is_name else self._variable())
        self._take(")")
        return tuple(arguments)

    def _variable(self) -> str:
        if self._bound:
            if self._peek() not in self._bound:
                raise self._error(f"one of {', '.join(self._bound)}")
            self._at += 1
            return str(self._bound.index(self._tokens[self._at - 1][0]))
        if self._peek() != "x":
            raise self._error("x _ and a number")
        self._take("x", "_")
        if not (self._peek().isascii() and self._peek().isdigit()):
            raise self._error("a number")
        self._at += 1
        return str(int(self._tokens[self._at - 1][0]))


def _parse(program: str) -> Form:
    form = _Parser(program).form()
    n_variables = len({term for atom in form.atoms for term in atom.arguments if term.isdigit()})
    if n_variables > MAX_VARIABLES:
        raise LimitExceeded(f"the form has {n_variables} variables; at most {MAX_VARIABLES} are compared")
    return form


_CAT = "* cat ( x _ 1 ) ; see . agent ( x _ 2 , x _ 1 ) AND see . theme ( x _ 2 , x _ 4 ) AND dog ( x _ 4 )"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="cogs", split="train", instruction="Write the logical form.", program=_CAT,
        question="The cat saw a dog .", source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _CAT, 1.0),
    _example(
        "different-looking equal",
        "*cat(x_5); dog(x_3) AND see.theme(x_1, x_3) AND see.agent(x_1, x_5)",
        1.0,
    ),
    _example("similar-looking different", _CAT.replace("agent", "recipient"), 0.0),
    _example(
        "agent and theme exchanged",
        _CAT.replace("x _ 2 , x _ 1", "x _ 2 , x _ 9")
        .replace("x _ 2 , x _ 4", "x _ 2 , x _ 1")
        .replace("x _ 9", "x _ 4"),
        0.0,
    ),
    _example("not definite", _CAT.replace("* cat ( x _ 1 ) ; ", "cat ( x _ 1 ) AND "), 0.0),
    _example("prefix of gold", _CAT.removesuffix(" AND dog ( x _ 4 )"), 0.0),
    _example("conjunct without an argument", _CAT.replace(" x _ 4 )", " )"), None),
    _example("ill-formed", _CAT[:-1], None),
)
