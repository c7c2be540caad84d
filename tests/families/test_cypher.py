"""Cypher: one form for names, sides and order; what a graph could tell apart stays apart."""

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.families.cypher import canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.cpu import at_most
from tests.problems import problem as make

LIMITS = Limits()


def problem(gold: str | None, **fields: Any) -> Problem:
    return make("cypher", program=gold, **fields)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("MATCH (n) RETURN n", "match (m)\nreturn m ; // all"),
        ("MATCH (a)-[r:R]->(b) RETURN a, r", "MATCH (y)<-[e:R]-(x) RETURN x, e"),
        ("MATCH (a)-[r]-(b) RETURN a, b", "MATCH (y)-[]-(x) RETURN y, x"),
        ("MATCH (a)-->(b)-->(c) RETURN b", "MATCH (z)<--(y), (x)-->(y) RETURN y"),
        ("MATCH (a:X {id: 1}) RETURN a", "MATCH (b) WHERE 1 = b.id AND b:X RETURN b"),
        ("MATCH (a:X:Y) RETURN a", "MATCH (a:Y) WHERE a:X RETURN a"),
        ("MATCH (a)-[:R {w: 2}]->() RETURN a", "MATCH ()<-[r:R]-(a) WHERE r.w = 2 RETURN a"),
        ("MATCH (a)-[:R]->() RETURN a", "MATCH (a)-[r]->() WHERE type(r) = 'R' RETURN a"),
        ("MATCH (a)-[:R]->() RETURN a", "MATCH (a)-[r]->() WHERE r:R AND 'R' = type(r) RETURN a"),
        ("MATCH (a)-[:R|S {w: 1}]->() RETURN a", "MATCH (a)-[r]->() WHERE type(r) IN ['S', 'R'] AND r.w = 1 RETURN a"),
        ("MATCH ()-[r:R]->() WHERE r.paid RETURN r.w", "MATCH ()-[e:R {paid: true}]->() RETURN e.w"),
        ("MATCH ()-[r]->() WHERE NOT r.paid RETURN r.w", "MATCH ()-[e]->() WHERE e.paid = false RETURN e.w"),
        ("MATCH ()-[r]->() WHERE exists(r.w) RETURN r", "MATCH ()-[r]->() WHERE NOT r.w IS NULL RETURN r"),
        (
            "MATCH ()-[r]->() WHERE NOT r.w = 1 OR r.x RETURN r",
            "MATCH ()-[r]->() WHERE r.x = true OR r.w <> 1 RETURN r",
        ),
        (
            "MATCH (a)-[r*]->() WHERE all(x IN r WHERE x.paid) RETURN a",
            "MATCH (a)-[r*]->() WHERE all(e IN r WHERE e.paid = true) RETURN a",
        ),
        ("MATCH (a)-[:A|B]->(b) RETURN a", "MATCH (a)-[:B|:A]->(b) RETURN a"),
        ("MATCH (a)-[:R*1..3]->(b) RETURN a", "MATCH (d)<-[:R*1..3]-(c) RETURN c"),
        ("MATCH (a) WHERE a.x > 1 OR a.y = 2 RETURN a", "MATCH (b) WHERE 2 = b.y OR 1 < b.x RETURN b"),
        ("MATCH (a) WHERE 1 < a.x < 5 RETURN a", "MATCH (a) WHERE a.x < 5 AND a.x > 1 RETURN a"),
        ("MATCH (a) RETURN a.x AS n ORDER BY n", "MATCH (b) RETURN b.x ORDER BY b.x ASC"),
        ("MATCH (a) RETURN COUNT(*)", "MATCH (q) RETURN count(*) AS n"),
        ("MATCH (a {s: 'it\\'s'}) RETURN a", 'MATCH (a {s: "it\'s"}) RETURN a'),
        ("MATCH (a {`k`: 1, j: 2}) RETURN a", "MATCH (a {j: 2, k: 1}) RETURN a"),
        ("MATCH (a) WITH a AS b RETURN b", "MATCH (x) WITH x AS y RETURN y"),
        ("MATCH (a) WITH count(a) AS n MATCH (a) RETURN a, n", "MATCH (a) WITH count(a) AS k MATCH (b) RETURN b, k"),
        ("UNWIND [1, 2] AS x RETURN x", "UNWIND [1,2] AS y RETURN y"),
        ("MATCH p = (a)-->(b) RETURN p", "MATCH q = (c)-[r]->() RETURN q"),
        ("RETURN [x IN [1] WHERE x > 0 | x + 1]", "RETURN [y IN [1] WHERE 0 < y | y + 1]"),
        ("CALL db.labels() YIELD label RETURN label", "CALL db.labels() YIELD label AS l RETURN l"),
        ("CREATE (a:X)-[:R]->(b)", "CREATE (d)<-[:R]-(c:X)"),
        ("MATCH (a {var: 1, each: 2}) RETURN a", "MATCH (b {each: 2, var: 1}) RETURN b"),
        ("MATCH (a:var) RETURN a", "MATCH (each:var) RETURN each"),
        ("MATCH (a), (b), (a)-->(b) RETURN a", "MATCH (a)-->(b) RETURN a"),
        (
            "MATCH (a)-->(b), (b)-->(c), (c)-->(a), (d)-->(d) RETURN a",
            "MATCH (w)-->(w), (y)-->(z), (z)-->(x), (x)-->(y) RETURN z",
        ),
    ],
)
def test_names_sides_and_order_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("MATCH (a)-->(b) RETURN a", "MATCH (a)-->(b) RETURN b"),
        ("MATCH (a)-->(b) RETURN a", "MATCH (a)--(b) RETURN a"),
        ("MATCH (a) RETURN a, a.x", "MATCH (a) RETURN a.x, a"),
        ("MATCH (a:X) RETURN a", "MATCH (a:x) RETURN a"),
        ("MATCH (a {id: 1}) RETURN a", "MATCH (a {id: '1'}) RETURN a"),
        ("MATCH (a) RETURN a.x", "MATCH (a) RETURN a.y"),
        ("MATCH ()-[r]->() RETURN r.x", "MATCH ()-[r]->() RETURN r.y"),
        ("MATCH ()-[r]->() WHERE r.x RETURN r.w", "MATCH ()-[r]->() WHERE r.y RETURN r.w"),
        ("MATCH ()-[r]->() WHERE r.x RETURN r.w", "MATCH ()-[r]->() WHERE NOT r.x RETURN r.w"),
        ("MATCH ()-[r]->() WHERE r.x RETURN r.w", "MATCH ()-[r]->() WHERE r.x IS NOT NULL RETURN r.w"),
        ("MATCH ()-[r]->(b) WHERE r.x = 1 RETURN r", "MATCH ()-[r]->(b) WHERE b.x = 1 RETURN r"),
        ("MATCH ()-[r]->()-[s]->() WHERE r.x > s.x RETURN r", "MATCH ()-[r]->()-[s]->() WHERE r.x > s.x RETURN s"),
        ("MATCH ()-[r]->() WHERE type(r) = 'R' RETURN r", "MATCH ()-[r]->() WHERE type(r) <> 'R' RETURN r"),
        ("MATCH ()-[r]->() WHERE type(r) = 'R' RETURN r", "MATCH ()-[r]->() WHERE NOT type(r) = 'R' RETURN r"),
        ("MATCH ()-[r]->() WHERE r:R AND r.x RETURN r", "MATCH ()-[r]->() WHERE r:R OR r.x RETURN r"),
        (
            "MATCH ()-[:R]->(), ()-[:S]->() RETURN 1",
            "MATCH ()-[r]->(), ()-[s]->() WHERE type(r) IN ['R', 'S'] RETURN 1",
        ),
        ("MATCH (a)-[r]->() RETURN a.x", "MATCH (a)-[r]->() RETURN a.x = true"),
        ("OPTIONAL MATCH (a) RETURN a", "MATCH (a) RETURN a"),
        ("MATCH (a) RETURN DISTINCT a", "MATCH (a) RETURN a"),
        ("MATCH (a) RETURN a ORDER BY a.x", "MATCH (a) RETURN a ORDER BY a.x DESC"),
        ("MATCH (a) RETURN a SKIP 1", "MATCH (a) RETURN a LIMIT 1"),
        ("MATCH p = (a)-->(b) RETURN p", "MATCH p = (b)<--(a) RETURN p"),
        ("MATCH (a)-[r*2]->(b) RETURN r", "MATCH (b)<-[r*2]-(a) RETURN r"),
        ("MATCH (a) RETURN a ORDER BY a.x", "MATCH (b) RETURN b ORDER BY a.x"),
        ("MATCH (a) WHERE a.x - 1 > 2 RETURN a", "MATCH (a) WHERE 1 - a.x > 2 RETURN a"),
        ("MATCH (a) WHERE NOT a.x = 1 AND a.y RETURN a", "MATCH (a) WHERE NOT (a.x = 1 AND a.y) RETURN a"),
        ("MATCH (a) WHERE (a)-->() RETURN a", "MATCH (a) WHERE (a)<--() RETURN a"),
        ("MATCH (a) RETURN a UNION MATCH (b) RETURN b", "MATCH (a) RETURN a UNION ALL MATCH (b) RETURN b"),
        ("MATCH (a)-->(b) MATCH (b)-->(c) RETURN a", "MATCH (a)-->(b), (b)-->(c) RETURN a"),
        ("MATCH (a)-->() RETURN *", "MATCH (a)-->(b) RETURN *"),
        ("MATCH (a) WITH a MATCH (a)-->(b) RETURN b", "MATCH (a) WITH a AS x MATCH (a)-->(b) RETURN b"),
        ("MATCH (a) RETURN v1", "MATCH (a) RETURN a"),
        ("CREATE (a:X) SET a.x = 1", "CREATE (a:X) SET a += 1"),
        ("MATCH (a) DELETE a", "MATCH (a) DETACH DELETE a"),
    ],
)
def test_what_a_graph_could_tell_apart_stays_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


@pytest.mark.parametrize(
    "program",
    [
        "MERGE (a:X {id: 1}) ON CREATE SET a.n = 0 ON MATCH SET a.n = a.n + 1 RETURN a",
        "MATCH (a) WITH a, count(*) AS n ORDER BY n DESC LIMIT 3 WHERE n > 1 RETURN a.x[0], a.y[1..], n",
        "RETURN CASE WHEN 1 = 2 THEN 'a' ELSE NULL END, CASE $x WHEN 1 THEN 2 END",
        "RETURN reduce(t = 0, x IN [1, 2] | t + x), all(x IN [1] WHERE x > 0), -x.y, -1, 2 ^ 3",
        "MATCH p = shortestPath((a {id: 1})-[*..5]-(b)) WHERE length(p) > 2 RETURN nodes(p)",
        "MATCH (a) WHERE a.s STARTS WITH 'x' XOR a.s =~ '.*' OR NOT a.t IS NULL RETURN a",
        "MATCH (a) WHERE a.x IN [1, 2] AND exists(a.y) AND (a)-[:R]->({z: 1}) SET a:Q, a.z = null REMOVE a.y",
        "CALL algo.path(1, 'x') YIELD cost AS c, path WHERE c > 1 RETURN path",
        "MATCH (a:`my label`)-[:`my type`]->(b) RETURN a.`my key`, `odd`.x",
        "CREATE (a)-[:R {w: 1.5}]->(b {k: [1, {m: 2}]}), (c)",
        "MATCH (人:人物 {名: '云'}) RETURN 人.岁",
        "MATCH (a) WHERE date.truncate('day', a.d) = 1 RETURN a {.x}".replace(" {.x}", ""),
        "MATCH (a)-[e]->(b) WHERE (a.x + 1) * 2 % 3 / 4 <> -(b.x - e.w) RETURN *",
    ],
)
def test_the_form_of_a_query_is_its_own(program: str) -> None:
    form = canonical(program)
    assert canonical(form) == form


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("", "no query"),
        ("MATCH (n)", "line 1, column 10: expected RETURN or an update, got 'the end'"),
        ("MATCH (n RETURN n", r"line 1, column 10: expected '\)', got 'RETURN'"),
        ("MATCH (n)\nRETURN n.", "line 2, column 10: expected a property, got 'the end'"),
        ("MATCH (n)-[r->(m) RETURN n", r"column 13: expected '\]', got '-'"),
        ("SELECT 1", "expected a clause such as MATCH, got 'SELECT'"),
        ("MATCH (n) RETURN n RETURN n", "expected a clause or the end, got 'RETURN'"),
        ("MATCH (n) WITH n.x RETURN 1", "expected AS and a name"),
        ("MATCH (n) WHERE RETURN n", "expected an expression, got 'RETURN'"),
        ("CALL { MATCH (n) RETURN n } RETURN n", "subqueries are not supported"),
        ("RETURN 'open", "column 8: unexpected"),
        ("RETURN CASE 1 END", "expected WHEN"),
        ("RETURN " + "(" * 2000, "at most 30 levels"),
        ("RETURN " + "[" * 2000, "at most 30 levels"),
        ("RETURN " + "{a: " * 2000, "at most 30 levels"),
        ("RETURN " + "NOT " * 2000, "at most 30 levels"),
        ("RETURN " + "- " * 2000, "at most 30 levels"),
        ("RETURN 1" + " + 1" * 900, "at most 30 levels"),
        ("RETURN a" + ".b" * 900, "at most 30 levels"),
        ("RETURN 1" + " < 1" * 900, "at most 30 comparisons"),
        ("RETURN " + "f(" * 2000, "at most 30 levels"),
        ("RETURN " + "CASE WHEN " * 2000, "at most 30 levels"),
        ("MATCH " + "(" * 2000, "expected"),
        ("RETURN 1" + " IN 1" * 900, "at most 30 levels"),
    ],
)
def test_what_is_refused_is_refused_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_a_query_of_too_many_tokens_is_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="4000"):
        canonical("MATCH " + "(a), " * 1500 + "(b) RETURN b")


def test_forms_that_could_not_be_decided_are_unscored_unless_equal() -> None:
    stars = [f"MATCH {', '.join(f'(s){edge}(o{n})' for n in range(25))} RETURN s" for edge in ("-[:R]->", "<-[:R]-")]
    with pytest.raises(Unavailable, match="too many ways"):
        score(stars[0], problem(stars[1]), LIMITS)
    assert score(stars[0], problem(stars[0]), LIMITS).score == 1.0
    assert canonical(canonical(stars[0])) == canonical(stars[0])


def test_gold_that_is_missing_or_broken_is_our_fault() -> None:
    for gold, detail in ((None, "no gold query"), ("MATCH (n)", "gold query fails: line 1, column 10")):
        with pytest.raises(InvalidInput, match=detail):
            score("MATCH (n) RETURN n", problem(gold), LIMITS)


def test_running_gives_the_form() -> None:
    assert run("match (m:X) return m", problem(None), LIMITS).value == "MATCH (v1) WHERE v1:X RETURN v1"


VARIABLES = list("abcd")
EDGES = st.lists(
    st.tuples(
        st.sampled_from(VARIABLES), st.sampled_from(["R", "S"]), st.sampled_from(["", ">"]), st.sampled_from(VARIABLES)
    ),
    min_size=1,
    max_size=5,
)


def test_a_query_of_too_many_names_is_wrong_where_no_naming_could_make_it_right() -> None:
    ring = ", ".join(f"(a{n})-[:near]->(b{n})-[:near]->(a{n})" for n in range(40))
    assert score(f"MATCH {ring} RETURN 1", problem("MATCH (a) RETURN a"), LIMITS).score == 0.0


@given(EDGES, st.permutations(VARIABLES), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_a_pattern_has_one_form_however_it_is_named_turned_and_ordered(
    edges: list[tuple[str, str, str, str]], names: list[str], rng: random.Random
) -> None:
    naming = dict(zip(VARIABLES, names, strict=True))
    straight = [f"({a})-[:{kind}]-{end}({b})" for a, kind, end, b in edges]
    turned = [f"({naming[b]}){'<' if end else ''}-[:{kind}]-({naming[a]})" for a, kind, end, b in edges]
    rng.shuffle(turned)
    used = [edge[0] for edge in edges][:2]
    one = f"MATCH {', '.join(straight)} WHERE {used[0]}.x > 1 RETURN {', '.join(used)}"
    two = f"MATCH {', '.join(turned)} WHERE 1 < {naming[used[0]]}.x RETURN {', '.join(naming[name] for name in used)}"
    form = canonical(one)
    assert canonical(two) == form
    assert canonical(form) == form
    assert form not in [canonical(mutant) for mutant in mutants(one, rng)]


def test_comparisons_within_comparisons_do_not_double_without_end() -> None:
    inner = "x"
    for _ in range(24):
        inner = f"a.b < ({inner}) < a.c"
    with at_most(1), pytest.raises((LimitExceeded, Unparsable)):
        canonical(f"MATCH (a) WHERE {inner} RETURN a")
    assert canonical("MATCH (a) WHERE 1 < a.b < 3 RETURN a") == canonical(
        "MATCH (b) WHERE 1 < b.b AND b.b < 3 RETURN b"
    )


@pytest.mark.parametrize(
    "text", ["()-[]-", "(a {b: ", "a.b ", "CASE WHEN ", "[x IN ", "NOT ", "- ", "a < ", "'", "`", "/*", "MATCH (a) RETURN a UNION ", "a:", "9" * 50]
)  # fmt: skip
def test_reading_a_long_text_takes_less_than_a_second(text: str) -> None:
    names = " ".join(f"(a{n})--(b{n})," for n in range(100))
    for long in (text * (32000 // len(text)), f"MATCH {names} (c) WHERE {text * (6000 // len(text))} RETURN c"):
        with at_most(1):
            with contextlib.suppress(Unparsable, LimitExceeded):
                canonical(long[:32768])
            with contextlib.suppress(Unparsable, LimitExceeded):
                program_of(long[:32768])
