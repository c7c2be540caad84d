"""SPARQL: one form for names, prefixes and order, answers on a graph, and what an accident may not pass for."""

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cpu import at_most
from tests.problems import EXTRA

pytest.importorskip("pyoxigraph", reason=EXTRA)

from symbol_llm.families.sparql import canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import judge
from tests.problems import problem as make

LIMITS = Limits(timeout_s=20)
GRAPH = """
dbr:Ann dbo:child dbr:Bob, dbr:Cem ; dbo:age 70 .
dbr:Bob dbo:child dbr:Dan ; dbo:age 40 ; rdfs:label "Bob"@en .
dbr:Cem dbo:age 41 ; rdfs:label "Cem"@tr .
dbr:Dan dbo:age 10.0 .
"""


def problem(gold: str | None, **environment: Any) -> Problem:
    return make("sparql", program=gold, environment=environment)


def answers(query: str) -> str | None:
    return run(query, problem(None, graph=GRAPH), LIMITS).value


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("SELECT ?x { ?x a dbo:City }", "PREFIX q: <http://dbpedia.org/ontology/> select ?c where{?c rdf:type q:City.}"),
        ("SELECT ?x { ?x dbo:a ?y ; dbo:b ?z , ?w }", "SELECT ?x { ?x dbo:b ?w . ?x dbo:b ?z . ?x dbo:a ?y }"),
        ("SELECT ?x { ?x ^dbo:a ?y }", "SELECT ?x { ?y dbo:a ?x }"),
        ("SELECT ?x { ?x dbo:a [ dbo:b ?y ] }", "SELECT ?x { ?x dbo:a ?n . ?n dbo:b ?y }"),
        ("SELECT ?x { {?x a dbo:A} UNION {?x a dbo:B} }", "SELECT ?x { {?x a dbo:B} UNION {?x a dbo:A} }"),
        ("SELECT ?x { ?x dbo:a ?y FILTER(?y > 1 && ?x != ?y) }", "SELECT ?x { FILTER(?y != ?x) ?x dbo:a ?y . FILTER(1 < ?y) }"),
        ("SELECT COUNT(?x) WHERE { ?x a dbo:A }", "SELECT (COUNT(?x) AS ?n) WHERE { ?x a dbo:A }"),
        ("SELECT Count(DISTINCT ?x) as ?c WHERE { ?x a dbo:A }", "SELECT (COUNT(DISTINCT ?y) AS ?n) { ?y a dbo:A }"),
        ("SELECT ?x { VALUES ?x { dbr:A dbr:B } }", "SELECT ?y { VALUES (?y) { (res:B) (res:A) } }"),
        ("SELECT ?x { ?x dbo:a 'q'@EN, '1'^^xsd:integer }", 'SELECT ?x { ?x dbo:a 1, "q"@en }'),
        ("SELECT ?x { ?x dbo:a ?y } ORDER BY ?y OFFSET 0 LIMIT 03", "SELECT ?x { ?x dbo:a ?y } ORDER BY ASC(?y) LIMIT 3"),
        ("SELECT ?x { { ?x a dbo:A } ?x dbo:b ?y }", "SELECT ?x { ?x a dbo:A ; dbo:b ?y }"),
        ("BASE <http://x/> SELECT ?x { ?x a <y> }", "SELECT ?x { ?x a <http://x/y> }"),
        ("SELECT ?x { ?x (dbo:a|dbo:b)+ ?y }", "SELECT ?x { ?x (dbo:b|dbo:a)+ ?y }"),
        (
            "SELECT ?a { ?a dbo:p ?b . ?b dbo:p ?c . ?c dbo:p ?a . ?d dbo:p ?e . ?e dbo:p ?f . ?f dbo:p ?d }",
            "SELECT ?z { ?y dbo:p ?x . ?w dbo:p ?z . ?x dbo:p ?v . ?z dbo:p ?u . ?v dbo:p ?y . ?u dbo:p ?w }",
        ),
        (
            "SELECT ?x { ?x dbo:a ?y { SELECT ?y { ?y dbo:b ?z } } }",
            "SELECT ?x { { SELECT ?y { ?y dbo:b ?x } } ?x dbo:a ?y }",
        ),
    ],
)  # fmt: skip
def test_names_prefixes_and_order_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("SELECT ?x { ?x dbo:a ?y }", "SELECT ?y { ?x dbo:a ?y }"),
        ("SELECT ?x ?y { ?x dbo:a ?y }", "SELECT ?y ?x { ?x dbo:a ?y }"),
        ("SELECT DISTINCT ?x { ?x a dbo:A }", "SELECT ?x { ?x a dbo:A }"),
        ("SELECT ?x { ?x a dbo:A }", "SELECT ?x { ?x a dbp:A }"),
        ("SELECT ?x { ?x dbo:a ?y . ?y dbo:a ?x }", "SELECT ?x { ?x dbo:a ?y . ?x dbo:a ?y }"),
        ("SELECT ?x { ?x dbo:a ?y OPTIONAL { ?y a dbo:B } }", "SELECT ?x { OPTIONAL { ?y a dbo:B } ?x dbo:a ?y }"),
        ("SELECT ?x { ?x dbo:a ?y FILTER(?y > 1) }", "SELECT ?x { ?x dbo:a ?y FILTER(?y < 1) }"),
        ("SELECT ?x { ?x dbo:a ?y } ORDER BY ?y", "SELECT ?x { ?x dbo:a ?y } ORDER BY DESC(?y)"),
        ("SELECT ?x { ?x dbo:a/dbo:b ?y }", "SELECT ?x { ?x dbo:b/dbo:a ?y }"),
        ("SELECT ?x { ?x dbo:a 'q'@en }", "SELECT ?x { ?x dbo:a 'q' }"),
        ("ASK { ?x dbo:a ?y FILTER(?y - 1 = 2) }", "ASK { ?x dbo:a ?y FILTER(1 - ?y = 2) }"),
        ("SELECT ?x { ?x dbo:a ?y FILTER(?y = 1 || ?y = 2) }", "SELECT ?x { ?x dbo:a ?y FILTER(?y = 1 && ?y = 2) }"),
        ("SELECT ?x { ?x dbo:a ?y { SELECT ?y { ?y dbo:b ?x } } }", "SELECT ?x { ?x dbo:a ?y { SELECT ?y ?x { ?y dbo:b ?x } } }"),
    ],
)  # fmt: skip
def test_what_changes_the_answers_counts(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("", "no query"),
        ("SELECT ?x\nWHERE { ?x a dbo:A", "line 2, column 19: expected '.' or '}', got 'the end'"),
        ("SELECT ?x { ?x nope:a ?y }", "line 1, column 16: expected a declared prefix, not 'nope'"),
        ("SELECT ?x { ?x a }", "column 18: expected a variable, an IRI or a literal, got '}'"),
        ("SELECT { ?x a ?y }", "column 8: expected a variable to select"),
        ("SELECT ?x { ?x a ?y ?z a ?w }", r"column 21: expected '.' or '}', got '\?z'"),
        ("CONSTRUCT { ?x a ?y } WHERE { ?x a ?y }", "expected SELECT or ASK, got 'CONSTRUCT'"),
        ("INSERT DATA { <a> <b> <c> }", "expected SELECT or ASK, got 'INSERT'"),
        ("SELECT ?x FROM <file:///etc/passwd> { ?x a ?y }", "FROM is not supported"),
        ("SELECT ?x { SERVICE <http://x/> { ?x a ?y } }", "no SERVICE"),
        ("SELECT ?x { ?x a ?y } LIMIT x", "expected a number, got 'x'"),
        ("SELECT ?x { ?x a ?y FILTER(nope(?y)) }", "expected an expression, got 'nope'"),
        ("SELECT ?x { ?x a ?y } ; DROP ALL", "expected the end, got 'DROP'"),
        ("SELECT ?x {" * 2000, "expected"),
        ("ASK {" + "{" * 2000, "at most 40 levels"),
        ("ASK { FILTER(" + "!" * 2000, "at most 40 levels"),
        ("ASK { ?x " + "(" * 2000, "at most 40 levels"),
        ("ASK { ?x a " + "[ a " * 2000, "at most 40 levels"),
    ],
)
def test_what_is_refused_is_refused_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_a_query_of_too_many_tokens_is_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="4000"):
        canonical("ASK { " + "?x a ?y . " * 1500 + "}")


def test_forms_that_could_not_be_decided_are_unscored_unless_equal() -> None:
    forms = ("?s dbo:p ?o{} .", "?o{} dbo:p ?s .")
    stars = ["SELECT ?s { " + " ".join(form.format(n) for n in range(25)) + " }" for form in forms]
    with pytest.raises(Unavailable, match="too many ways"):
        score(stars[0], problem(stars[1]), LIMITS)
    assert score(stars[0], problem(stars[0]), LIMITS).score == 1.0
    assert canonical(canonical(stars[0])) == canonical(stars[0])


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("SELECT ?x { ?x dbo:age ?a FILTER(?a > 40) }", "Ann|Cem"),
        ("SELECT ?x { ?x dbo:age ?a } ORDER BY DESC(?a) LIMIT 2", "Ann|Cem"),
        ("SELECT ?x { dbr:Ann dbo:child+ ?x }", "Bob|Cem|Dan"),
        ("SELECT ?x { ?x dbo:age ?a MINUS { ?x rdfs:label ?l } FILTER NOT EXISTS { ?x dbo:child ?c } }", "Dan"),
    ],
)
def test_a_query_is_answered_on_the_graph(query: str, value: str) -> None:
    found = answers(query)
    assert found is not None
    assert "|".join(sorted(name for name in ("Ann", "Bob", "Cem", "Dan") if f"/{name}>" in found)) == value


def test_numbers_are_compared_by_value_and_yes_is_true() -> None:
    assert answers("SELECT ?a { dbr:Dan dbo:age ?a }") == "[['10']]"
    assert answers("SELECT COUNT(?x) { ?x dbo:age ?a }") == "[['4']]"
    assert answers("ASK { dbr:Ann dbo:child dbr:Bob }") == "True"


def scored(program: str, gold: str) -> float:
    return score(program, problem(gold, graph=GRAPH), LIMITS).score


def test_answers_decide_where_there_is_a_graph() -> None:
    gold = "SELECT DISTINCT ?x { ?x dbo:child ?c . ?c dbo:age ?a FILTER(?a >= 40) }"
    assert scored("SELECT DISTINCT ?x { ?x dbo:child/dbo:age ?a FILTER(!(?a < 40)) }", gold) == 1.0
    assert scored("SELECT ?x { ?x dbo:child ?c . ?c dbo:age ?a FILTER(?a >= 40) }", gold) == 0.99
    assert scored("SELECT DISTINCT ?x { ?x dbo:child ?c . ?c dbo:age ?a FILTER(?a >= 10) }", gold) == pytest.approx(
        2 / 3
    )
    assert scored("SELECT DISTINCT ?x { ?x dbo:age ?c FILTER(?c > 99) }", gold) == 0.0


@pytest.mark.parametrize(
    "accident",
    ["SELECT ?x { ?x dbo:age 70 }", "SELECT ?x { VALUES ?x { dbr:Ann } }", "SELECT ?x { ?x dbo:child dbr:Cem }"],
)
def test_what_is_right_on_this_graph_by_accident_is_not_accepted(accident: str) -> None:
    assert scored(accident, "SELECT ?x { ?x dbo:age ?a FILTER(?a > 60) }") == 0.99


def test_the_order_of_rows_counts_where_gold_orders_them() -> None:
    gold = "SELECT ?x { ?x dbo:age ?a } ORDER BY ?a"
    assert scored("SELECT ?x { ?x dbo:age ?a } ORDER BY DESC(?a)", gold) == 0.99
    assert scored("SELECT ?x { ?x dbo:age ?a } ORDER BY ABS(?a)", gold) == 1.0
    assert scored("SELECT ?x { ?x dbo:age ?a } ORDER BY ?a", "SELECT ?x { ?x dbo:age ?a }") == 1.0


ELDEST = """
SELECT ?p ?c { ?p dbo:child ?c . ?c dbo:age ?a { SELECT ?p (MAX(?b) AS ?a) { ?p dbo:child/dbo:age ?b } GROUP BY ?p } }
"""


def test_an_aggregate_in_a_subquery_is_not_of_what_is_bound_outside() -> None:
    assert answers(ELDEST) == str([["<http://dbpedia.org/resource/Ann>", "<http://dbpedia.org/resource/Cem>"], ["<http://dbpedia.org/resource/Bob>", "<http://dbpedia.org/resource/Dan>"]])  # fmt: skip
    assert scored(ELDEST.replace("MAX", "MIN"), ELDEST) < 1
    assert scored(ELDEST.replace("?a { SELECT", "?y FILTER(?y = ?a) { SELECT"), ELDEST) == 1.0


@pytest.mark.parametrize(
    ("program", "gold", "same"),
    [
        ("SELECT * { ?b dbo:age ?n . ?a dbo:child ?b }", "SELECT * { ?a dbo:child ?b FILTER(1 = 1) ?b dbo:age ?n }", True),
        ("SELECT * { ?b dbo:age ?n . ?a dbo:child ?b }", "SELECT ?b ?n ?a { ?a dbo:child ?b . ?b dbo:age ?n }", True),
        ("SELECT ?n ?a ?b { ?b dbo:age ?n . ?a dbo:child ?b }", "SELECT * { ?a dbo:child ?b . ?b dbo:age ?n }", True),
        ("SELECT * { ?a dbo:age ?n . ?b dbo:child ?a }", "SELECT * { ?a dbo:child ?b FILTER(1 = 1) ?b dbo:age ?n }", False),
        ("SELECT * { ?b dbo:age ?n . ?a dbo:child ?b }", "SELECT ?a ?b { ?a dbo:child ?b . ?b dbo:age ?n }", False),
    ],
)  # fmt: skip
def test_columns_of_a_star_are_told_by_their_names(program: str, gold: str, same: bool) -> None:
    assert (scored(program, gold) == 1.0) == same


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("SELECT ?x { ?x dbo:child ?c FILTER(COUNT(?c) > 1) }", "unparsable"),
        ("SELECT ?x (COUNT(?c) AS ?n) { ?x dbo:child ?c }", "unparsable"),
        ("SELECT ?x (?x AS ?x) { ?x dbo:child ?c }", "unparsable"),
        ("SELECT ?x { ?x rdfs:label ?l FILTER(REGEX(?l, '(')) }", "rejected"),
        ("SELECT ?x { ?x dbo:age ?a FILTER(<http://x/f>(?a)) }", "rejected"),
        ("SELECT ?x { ?x dbo:age ?a FILTER(?a > 1e999) }", "rejected"),
        (f"SELECT ?x {{ ?x dbo:age ?a FILTER(?a < {'9' * 5000}) }}", "rejected"),
        (f"SELECT ?x {{ ?x dbo:age {'9' * 5000} }}", "rejected"),
        ("SELECT ?x { ?x dbo:age ?a } LIMIT " + "9" * 5000, "unparsable"),
        ("SELECT ?x { ?x dbo:age '" + "9" * 5000 + "'^^xsd:integer }", "rejected"),
        ("SELECT ?x { ?x rdfs:label '\ud800' }", "rejected"),
        ("SELECT ?x { ?x rdfs:label '\\uD800' }", "unparsable"),
        ("SELECT ?x { ?x rdfs:label '\\q' }", "unparsable"),
        ("SELECT ?x { ?x <http://x/ y> ?a }", "unparsable"),
        ("SELECT ?x { ?x <:::> ?a }", "unparsable"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_program_is_its_own_fault(program: str, status: str) -> None:
    one = problem("SELECT ?x { ?x dbo:child ?c . ?c dbo:age ?a FILTER(?a > 20) }", graph=GRAPH)
    verdict = judge(one, program, LIMITS)
    assert verdict.status == status, verdict.detail


def test_gold_that_the_engine_refuses_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="gold query fails: SyntaxError"):
        scored("SELECT ?x { ?x dbo:age ?a }", "SELECT ?x { ?x dbo:child ?c FILTER(COUNT(?c) > 1) }")


def test_whole_numbers_are_exact() -> None:
    graph = "dbr:A dbo:seen 1700000000 ; dbo:area 2.5 . dbr:B dbo:seen 1700000001 ; dbo:area 0.1 ."
    query = "SELECT ({}(?t) AS ?m) {{ ?x dbo:seen ?t }}"
    one = problem(query.format("MAX"), graph=graph)
    assert score(query.format("MIN"), one, LIMITS).score < 1
    total = problem("SELECT (SUM(?a) AS ?s) { ?x dbo:area ?a }", graph=graph)
    assert score("SELECT (SUM(?a * 1e0) AS ?s) { ?x dbo:area ?a }", total, LIMITS).score == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ?lake WHERE { ?lake a dbo:Lake",
        "?x ?y ?z . ",
        "{ ?x ?y ",
        "?x",
        "dbo:a/",
        "[ a ",
        "ill-formed",
        "a:",
        "a:..",
        '"' * 3,
        "<a",
        "\\",
        ";",
    ],
)
def test_reading_a_long_text_takes_less_than_a_second(text: str) -> None:
    for long in (text * (32000 // len(text)), "SELECT * {" + text * (3900 // (len(text.split()) + 1)) + "}"):
        with at_most(1), contextlib.suppress(Unparsable, LimitExceeded):
            canonical(long[:32768])


def test_yes_or_no_is_not_right_by_chance() -> None:
    gold = "ASK { dbr:Bob dbo:age ?a . dbr:Cem dbo:age ?b FILTER(?a < ?b) }"
    assert scored("ASK { dbr:Cem dbo:age ?b . dbr:Bob dbo:age ?a FILTER(?b > ?a) }", gold) == 1.0
    assert scored("ASK { dbr:Bob dbo:age ?a }", gold) == 0.0


def test_gold_without_answers_proves_nothing() -> None:
    empty = problem("SELECT ?x { ?x dbo:age ?a FILTER(?a > 99) }", graph=GRAPH)
    assert judge(empty, "SELECT ?y { ?y dbo:age ?b FILTER(99 < ?b) }", LIMITS).status == "accepted"
    assert judge(empty, "SELECT ?x { ?x a dbo:Nothing }", LIMITS).status != "accepted"
    constant = problem("ASK { ?x dbo:nothing ?y }", graph=GRAPH)
    with pytest.raises(Unavailable, match="proves nothing"):
        score("ASK { ?x dbo:other ?y }", constant, LIMITS)


def test_a_graph_may_be_a_list_of_triples() -> None:
    given_graph = problem("SELECT ?x { ?x a dbo:A }", graph=[["dbr:Q", "a", "dbo:A"], ["<http://x/y>", "a", "dbo:B"]])
    assert score("SELECT ?z { ?z rdf:type <http://dbpedia.org/ontology/A> }", given_graph, LIMITS).score == 1.0


def test_a_broken_graph_or_gold_is_our_fault() -> None:
    query = "SELECT ?x { ?x a dbo:A }"
    with pytest.raises(InvalidInput, match="graph cannot be read"):
        score(query, problem(query, graph="dbr:Q a"), LIMITS)
    with pytest.raises(InvalidInput, match="gold query fails: line 1"):
        score(query, problem("SELECT"), LIMITS)
    with pytest.raises(InvalidInput, match="no gold query"):
        score(query, problem(None), LIMITS)


VARIABLES = [f"?{name}" for name in "abcd"]
TRIPLES = st.lists(
    st.tuples(
        st.sampled_from(VARIABLES), st.sampled_from(["dbo:p", "dbo:q"]), st.sampled_from([*VARIABLES, "dbr:X", "3"])
    ),
    min_size=1,
    max_size=6,
)


def test_a_query_of_too_many_names_is_wrong_where_no_naming_could_make_it_right() -> None:
    ring = " ".join(f"?a{n} dbo:near ?b{n} . ?b{n} dbo:near ?a{n} ." for n in range(40))
    assert score(f"SELECT * WHERE {{ {ring} }}", problem("SELECT ?a WHERE { ?a dbo:near ?b }"), LIMITS).score == 0.0


@given(TRIPLES, st.permutations(VARIABLES), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_a_pattern_has_one_form_however_it_is_named_and_ordered(
    triples: list[tuple[str, str, str]], names: list[str], rng: random.Random
) -> None:
    naming = dict(zip(VARIABLES, names, strict=True))
    other = [tuple(naming.get(term, term) for term in triple) for triple in triples]
    rng.shuffle(other)
    queries = [
        f"SELECT {first} {{ {' . '.join(map(' '.join, pattern))} FILTER({first} != 3) }}"
        for first, pattern in (("?a", triples), (naming["?a"], other))
    ]
    form = canonical(queries[0])
    assert canonical(queries[1]) == form
    assert canonical(form) == form
    assert form not in [canonical(m) for m in mutants(queries[0], rng)]
