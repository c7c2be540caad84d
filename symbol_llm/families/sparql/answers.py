"""Answers of SPARQL queries on a problem's graph and on variants of it, computed by Oxigraph in sandbox children.

Each of the `N_VARIANTS` graphs lacks some triples and has slightly different twins of its subjects, so that two queries
do not pass for equal by accident. Which answers are equal is not decided here.

Oxigraph follows SPARQL 1.1; rdflib 7.6 pushes outer bindings into subqueries with aggregates.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyoxigraph

from symbol_llm.families.sparql.parser import PREFIXES
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.sandbox import executor

N_VARIANTS = 12
MAX_TWINS = 100
DIGITS = 12
"""Significant digits of numbers that are not whole."""
BASE = "http://example.org/"
"""The base of relative IRIs."""

Answer = bool | list[list[str | None]]
"""The answer of ASK, or the rows of SELECT; None is unbound."""


class Answers(NamedTuple):
    """A query's answer on the graph, and hashes of its answers there and on each variant, with rows in order.

    The second hash of a pair is the same for the same rows in any order. `fault` is the engine's error, if any.
    """

    answer: Answer
    hashes: list[list[str]]
    isolation: str
    fault: str = ""
    names: Sequence[str] = ()
    """Names of the columns, in order."""


def ask(query: str, numbers: list[float], problem: Problem, limits: Limits, *, by_name: bool = False) -> Answers:
    """Return the answers of `query`, which must parse, with columns sorted by name if `by_name`.

    Twins have numbers equal to and next to `numbers`, which must be finite.
    """
    args = {"query": query, "by_name": by_name, "graph": _turtle(problem), "numbers": numbers}
    outcome = executor.run(f"{__name__}:answer", args, limits)
    outcome.check_limits()
    if outcome.crashed:  # the engine ends this way when memory or stack runs out, since it cannot raise an error then
        raise LimitExceeded(f"the engine {outcome.detail}", outcome.isolation)
    if outcome.status != "ok":
        raise Unavailable(f"not answered: {outcome.detail}")
    if "broken" in outcome.value:
        raise InvalidInput(f"problem {problem.id}: graph cannot be read: {outcome.value['broken']}")
    if "fault" in outcome.value:
        return Answers([], [], outcome.isolation, outcome.value["fault"])
    return Answers(**outcome.value, isolation=outcome.isolation)


def _turtle(problem: Problem) -> str:
    graph = problem.environment["graph"]
    lines = graph if isinstance(graph, str) else "\n".join(f"{' '.join(triple)} ." for triple in graph)
    return "".join(f"@prefix {name}: <{iri}> .\n" for name, iri in PREFIXES.items()) + lines


# --- in the child -----------------------------------------------------------------------------------------------------


def answer(args: dict[str, Any]) -> dict[str, Any]:
    """Return the query's answers on the graph and on each variant. Only ever called in a sandbox child."""
    try:
        read = pyoxigraph.parse(args["graph"], pyoxigraph.RdfFormat.TURTLE, base_iri=BASE)
        triples = sorted({(quad.subject, quad.predicate, quad.object) for quad in read}, key=_key)
    except (SyntaxError, ValueError) as e:
        return {"broken": f"{type(e).__name__}: {e}"[:200]}
    variants = [triples, *(_variant(triples, args["numbers"], seed) for seed in range(N_VARIANTS))]
    try:
        answers = [_answer_on(args["query"], variant, by_name=args["by_name"]) for variant in variants]
    except (SyntaxError, ValueError, RuntimeError, OSError) as e:
        return {"fault": f"{type(e).__name__}: {e}"[:200]}
    return {"answer": answers[0][1], "hashes": [_hashes(found) for _, found in answers], "names": answers[0][0]}


def _key(triple: Sequence[Any]) -> list[str]:
    return [str(term) for term in triple]


def _hashes(found: Answer) -> list[str]:
    rows = [repr(found)] if isinstance(found, bool) else [repr(row) for row in found]
    return [hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] for lines in (rows, sorted(rows))]


def _answer_on(query: str, triples: list[Any], *, by_name: bool) -> tuple[list[str], Answer]:
    store = pyoxigraph.Store()
    store.extend(pyoxigraph.Quad(*triple) for triple in triples)
    result = store.query(query, base_iri=BASE)
    if not isinstance(result, pyoxigraph.QuerySolutions):
        return [], bool(result)
    names = [variable.value for variable in result.variables]
    names = sorted(names) if by_name else names
    return names, [[_cell(row[name]) for name in names] for row in result]


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, pyoxigraph.BlankNode):
        return value and "_:"
    number = _number(value)
    if number is None:
        return str(value)
    return str(number) if isinstance(number, int) else f"{number:.{DIGITS}g}"


def _number(term: Any) -> int | float | None:
    """Return the number that a literal stands for, a whole one as an int; None if it is not one, or very long."""
    if (
        not isinstance(term, pyoxigraph.Literal)
        or not _NUMERIC.fullmatch(term.datatype.value)
        or len(term.value) > _LONG
    ):
        return None
    if re.fullmatch(r"[-+]?\d+(?:\.0*)?", term.value, re.ASCII):
        return int(term.value.partition(".")[0])
    try:
        number = float(term.value)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number == int(number) and abs(number) < 2**53 else number


_LONG = 300
_NUMERIC = re.compile(
    r"http://www\.w3\.org/2001/XMLSchema#(?:decimal|double|float|(?:nonNegative|positive|nonPositive|negative)?[iI]nteger"
    r"|(?:unsigned)?(?:[lL]ong|[iI]nt|[sS]hort|[bB]yte))"
)


def _variant(triples: list[Any], numbers: list[float], seed: int) -> list[Any]:
    """Return this graph without some triples and with slightly different twins of its subjects.

    A twin lacks some triples, has some objects of others, and numbers equal to and next to those in the queries.
    """
    rng = random.Random(seed)
    objects: dict[Any, list[Any]] = {}
    for triple in triples:
        objects.setdefault(triple[1], []).append(triple[2])
    links = sorted((p for p, things in objects.items() if all(map(_is_iri, things))), key=str)
    # Numbers stay distinct, or two right queries might order equal ones differently.
    taken = {p: {n for thing in things if (n := _number(thing)) is not None} for p, things in objects.items()}
    changed = [triple for triple in triples if rng.random() > 0.1]
    subjects = sorted({triple[0] for triple in triples}, key=str)
    sampled = rng.sample(subjects, min(len(subjects), MAX_TWINS))
    twins = {subject: pyoxigraph.NamedNode(f"urn:twin:{n}") for n, subject in enumerate(sampled)}
    for subject, predicate, thing in triples:
        draw = rng.random()
        if subject not in twins or draw < 0.15:
            continue
        new = twins.get(thing, thing) if draw < 0.5 else thing
        if (number := _number(thing)) is not None and math.isfinite(number):
            near = int(rng.choice(numbers)) + rng.choice((-1, 0, 1)) if numbers and draw < 0.8 else number
            new = _literal(_untaken(near, taken[predicate]))
        elif draw > 0.8:
            new = rng.choice(objects[predicate])
        other = rng.choice(links) if draw > 0.95 and predicate in links else predicate
        changed.append((twins[subject], other, new))
    return changed


def _is_iri(term: Any) -> bool:
    return isinstance(term, pyoxigraph.NamedNode)


def _literal(number: float) -> Any:
    if isinstance(number, int):
        return pyoxigraph.Literal(number)
    kind = pyoxigraph.NamedNode(f"{PREFIXES['xsd']}decimal")
    return pyoxigraph.Literal(f"{number:.6f}", datatype=kind) if math.isfinite(number) else pyoxigraph.Literal(number)


def _untaken(number: float, taken: set[float]) -> float:
    while number in taken:
        number = round(number + 0.001, 3)
    taken.add(number)
    return number
