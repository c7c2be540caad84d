"""A small world written out: what is found in it, and one query in all notations."""

import random
import re

import pytest

from symbol_llm.tasks.kg.knowledge_graphs import (
    Bound,
    Found,
    Link,
    Query,
    Step,
    World,
    answer,
    cypher,
    english,
    sexpr,
    sparql,
)

OWNS = Link("farm.farmer.owns", "farmer", "cow", "cows", ["own"], ["belong to"])
NEAR = Link("farm.farmer.near", "farmer", "farmer", "neighbours", ["live near"], ["are near"])
FARM = World(
    "farm",
    {"farmer": "farmers", "cow": "cows"},
    [OWNS, NEAR],
    {"farm.cow.age": ("cow", "age")},
    {"farmer": ["m.a", "m.b", "m.c"], "cow": ["m.1", "m.2", "m.3"]},
    {"m.a": "Ann", "m.b": "Bob", "m.c": "Cy", "m.1": "One", "m.2": "Two", "m.3": "Three"},
    {"farm.farmer.owns": frozenset({("m.a", "m.1"), ("m.a", "m.2"), ("m.b", "m.3")}), "farm.farmer.near": frozenset({("m.b", "m.a"), ("m.c", "m.a")})},
    {"farm.cow.age": {"m.1": 3, "m.2": 9, "m.3": 5}},
)  # fmt: skip
ANNS = Step(OWNS, True, "m.a")
NEAR_ANN = Found("farmer", (Step(NEAR, False, "m.a"),))


@pytest.mark.parametrize(
    ("query", "found", "expression"),
    [
        (Query(Found("cow", (ANNS,))), ["m.1", "m.2"], "(AND farm.cow (JOIN (R farm.farmer.owns) m.a))"),
        (Query(Found("cow", (ANNS,)), "count"), [2], "(COUNT (AND farm.cow (JOIN (R farm.farmer.owns) m.a)))"),
        (
            Query(Found("cow", (ANNS,)), "most", "farm.cow.age"),
            ["m.2"],
            "(ARGMAX (AND farm.cow (JOIN (R farm.farmer.owns) m.a)) farm.cow.age)",
        ),
        (
            Query(Found("cow", (ANNS,)), "least", "farm.cow.age"),
            ["m.1"],
            "(ARGMIN (AND farm.cow (JOIN (R farm.farmer.owns) m.a)) farm.cow.age)",
        ),
        (
            Query(Found("cow", (Bound("farm.cow.age", "ge", 5),))),
            ["m.2", "m.3"],
            "(AND farm.cow (ge farm.cow.age 5^^xsd:integer))",
        ),
        (
            Query(Found("cow", (Bound("farm.cow.age", "lt", 5),))),
            ["m.1"],
            "(AND farm.cow (lt farm.cow.age 5^^xsd:integer))",
        ),
        (
            Query(Found("cow", (Step(OWNS, True, NEAR_ANN),))),
            ["m.3"],
            "(AND farm.cow (JOIN (R farm.farmer.owns) (JOIN farm.farmer.near m.a)))",
        ),
    ],
)
def test_answers_and_expressions_of_a_small_farm(query, found, expression):
    assert answer(FARM, query) == found
    assert sexpr(FARM, query, classes=True) == expression


def test_one_query_in_all_notations():
    query = Query(Found("cow", (Bound("farm.cow.age", "gt", 2), Step(OWNS, True, NEAR_ANN))), "most", "farm.cow.age")
    assert sexpr(FARM, query, classes=False) == (
        "(ARGMAX (AND (gt farm.cow.age 2^^xsd:integer) (JOIN (R farm.farmer.owns) (JOIN farm.farmer.near m.a))) farm.cow.age)"
    )
    assert sparql(query) == (
        "SELECT DISTINCT ?x WHERE { ?x ns:farm.cow.age ?y . ?z ns:farm.farmer.owns ?x . ?z ns:farm.farmer.near ns:m.a . "
        "?x ns:farm.cow.age ?n . FILTER(?y > 2) } ORDER BY DESC(?n) LIMIT 1"
    )
    assert cypher(FARM, query) == (
        "MATCH (x:Cow)<-[:OWNS]-(y:Farmer), (y)-[:NEAR]->(:Farmer {name: 'Ann'}) WHERE x.age > 2 "
        "RETURN x.name ORDER BY x.age DESC LIMIT 1"
    )
    said = english(random.Random(1), FARM, query)
    assert re.search("cows that have a age of more than 2 and belong to farmers that live near Ann", said)
