"""NLmaps' machine-readable language: a grammar, and arguments whose order does not count."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families.mrl import canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from tests.problems import problem

BARS = "query(area(keyval('name','Kiel')),nwr(keyval('amenity','bar')),qtype(latlong))"


def accepts(program: str, gold: str) -> bool:
    return score(program, problem("mrl", program=gold), Limits()).score == 1.0


def bars(tags: str, qtype: str = "latlong") -> str:
    return f"query(area(keyval('name','Kiel')),nwr({tags}),qtype({qtype}))"


A, B, C = "keyval('amenity','bar')", "keyval('shop','books')", "keyval('name','Paul's (old, red)')"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (bars(f"{A},{B}"), bars(f"{B},{A}")),
        (bars(f"and({A},{B})"), bars(f"and({B},{A})")),
        (bars(f"or(or({A},{B}),{C})"), bars(f"or({C},{B},{A})")),
        (bars(f"{C},or({A},{B})"), bars(f"or({B},{A}),{C}")),
        (bars("keyval('cuisine',or('greek','thai'))"), bars("keyval( 'cuisine' , or('thai','greek') )")),
        (bars(A, "findkey(and('name','phone'))"), bars(A, "findkey(and('phone','name'))")),
        (f"dist({BARS},{bars(B)},unit(km))", f"dist({bars(B)},unit(km),{BARS})"),
        (BARS, BARS.replace(",", " ,\n ").replace("(", " ( ")),
        (BARS, BARS.replace("'", '"')),
        (BARS, BARS.replace("('", "(‘").replace("'", "’")),
        (BARS, f"{BARS};"),
        (BARS, f"{BARS}.\n"),
        (bars(C), bars(C.replace("Paul's", "Paul\\'s"))),
        (bars(C), bars("""keyval("name", "Paul's (old, red)")""")),
    ],
)
def test_the_order_of_commutative_arguments_white_space_and_quotes_do_not_count(one: str, two: str) -> None:
    assert accepts(one, two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (bars(f"{A},{B}"), bars(f"and({A},{B})")),
        (bars(f"and({A},{B})"), bars(f"or({A},{B})")),
        (bars(f"or(and({A},{B}),{C})"), bars(f"and(or({A},{B}),{C})")),
        (bars(f"and({A},or({B},{C}))"), bars(f"or({A},and({B},{C}))")),
        (bars(A), bars("keyval('bar','amenity')")),
        (bars(A), bars("keyval('amenity','Bar')")),
        (bars(A), bars("keyval('amenity',' bar')")),
        (bars(A), bars("""keyval("amenity","bars")""")),
        (bars(C), bars(C.replace("Paul's", 'Paul"s'))),
        (bars(A, "latlong"), bars(A, "latlong(topx(1))")),
        (bars(A, "count,latlong"), bars(A, "latlong,count")),
        (BARS, BARS.replace("nwr", "area").replace("area", "nwr", 1)),
    ],
)
def test_terms_that_differ_stay_apart(one: str, two: str) -> None:
    assert not accepts(one, two)


def test_a_quote_ends_a_text_only_before_a_comma_or_bracket() -> None:
    assert canonical(bars(C)) == bars(C)
    assert not accepts(bars(C), bars(C.replace("'s", "s")))


def test_running_gives_the_form_and_gold_must_be_a_term() -> None:
    assert run(f" {BARS}\n", problem("mrl"), Limits()).value == BARS
    with pytest.raises(InvalidInput, match="has no gold program"):
        score(BARS, problem("mrl"), Limits())
    with pytest.raises(InvalidInput, match="gold program: line 1, column 1: expected query") as error:
        score(BARS, problem("mrl", program="nwr()"), Limits())
    assert not isinstance(error.value, Unparsable)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", r"line 1, column 1: expected query\( or dist\(, got the end"),
        ("nwr(keyval('a','b'))", r"column 1: expected query\( or dist\(, got \"nwr"),
        ("query", r"column 6: expected '\(' after query, got the end"),
        ("query()", r"column 7: expected area or nwr or .* in query, got '\)'"),
        ("query(qtype(count))", "column 19: expected ',': query has at least 2 arguments"),
        (BARS[:-1], r"expected ',' or '\)', got the end"),
        (BARS + ")", r"expected the end, got '\)'"),
        (BARS.replace("nwr", "way"), r"column 35: expected area or nwr .* in query, got \"way"),
        (BARS.replace(",nwr", "\n,town"), "line 2, column 2: expected"),
        (BARS.replace("'bar'", "bar"), "expected text or and or or in keyval, got 'bar"),
        (BARS.replace("'bar'", "'bar"), "expected text or and or or in keyval"),
        (BARS.replace("latlong", "latlong('x')"), "expected topx in latlong"),
        (BARS.replace("latlong", "latlong()"), r"expected topx in latlong, got '\)"),
        (BARS.replace("latlong", "count(topx(1))"), r"expected ',' or '\)', got '\(topx"),
        (bars("keyval('a','b','c')"), r"expected '\)': keyval has at most 2 arguments"),
        (bars("and(" * 60 + A), "expected at most 50 levels"),
        (bars(A, "least(topx(many))"), "expected number in topx, got 'many"),
        ("(" * 5000, "column 1"),
        ("query(area(" + "'" * 60000, "expected"),
    ],
)
def test_what_is_no_query_is_refused_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(text)


texts = st.sampled_from(["'bar'", "'it's'", "'x y'", "'é'"])
keyvals = st.builds("keyval({},{})".format, texts, texts)
tags = st.recursive(
    keyvals, lambda inner: st.builds(lambda name, two: f"{name}({','.join(two)})", st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)), max_leaves=6
)  # fmt: skip
queries = st.builds(
    lambda side, one, two, distance: f"query({side}(around(center(nwr({','.join(one)})),search(nwr({two})),maxdist({distance}))),qtype(findkey('name'),count))",
    st.sampled_from(["north", "west"]), st.lists(tags, min_size=1, max_size=2), tags, st.sampled_from(["500", "DIST_INTOWN"]),
)  # fmt: skip


@given(queries, st.randoms(use_true_random=False))
def test_a_form_is_its_own_form_and_a_mutant_always_differs(query: str, rng: random.Random) -> None:
    form = canonical(query)
    assert canonical(form) == form
    made = list(mutants(query, rng))
    assert made
    assert all(canonical(mutant) != form for mutant in made)
