"""Answers of SPARQL queries on the graph of a problem and on graphs made from it, by rdflib in children of their own.

Each of the `N_VARIANTS` graphs lacks some triples and has twins of its subjects that are a little different, so that two
queries do not pass for equal by accident. What answers are equal is not known here.
"""

from __future__ import annotations

import hashlib
import random
import re
from typing import Any, NamedTuple

import rdflib

from symbol_llm.families.sparql.parser import PREFIXES
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.sandbox import executor

N_VARIANTS = 12
MAX_TWINS = 100

Answer = bool | list[list[str | None]]
"""Of ASK, or the rows of SELECT; None is unbound."""


class Answers(NamedTuple):
    """What a query answers on the graph, and hashes of the answers there and on each variant, by rows as they come.

    The second hash of a pair is the same for the same rows in any order.
    """

    answer: Answer
    hashes: list[list[str]]
    isolation: str


def ask(query: str, numbers: list[float], problem: Problem, limits: Limits) -> Answers:
    """Return the answers of `query`, which parses; twins have numbers at and beside `numbers`."""
    args = {"query": query, "graph": _turtle(problem), "numbers": numbers}
    outcome = executor.run(f"{__name__}:answer", args, limits, preload=(f"{__name__}:warm_up",))
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
    answers = [_answer_on(args["query"], variant) for variant in variants]
    return {"answer": answers[0], "hashes": [_hashes(found) for found in answers]}


def _hashes(found: Answer) -> list[str]:
    rows = [repr(found)] if isinstance(found, bool) else [repr(row) for row in found]
    return [hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] for lines in (rows, sorted(rows))]


def _answer_on(query: str, triples: list[Any]) -> Answer:
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
