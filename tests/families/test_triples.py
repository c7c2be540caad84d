"""Triples of an ontology: sets, names in and out of quotes, relations that the ontology has."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families import Result
from symbol_llm.families.triples import canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make

GOLD = "capital(France, Paris)\nriver(Paris, Seine)"


def problem(program: str | None = GOLD, answer: Any = None, **environment: Any) -> Problem:
    return make("triples", program=program, answer=answer, environment=environment)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a(b, c)\nd(e, f)", "d(e, f); a(b, c)"),
        ("a(b, c)\r\n\n a (b,c) ;", "a(b, c)"),
        ("birthPlace(Ada_Lovelace, London)", 'birthplace("Ada Lovelace", LONDON)'),
        ("planet(Venus_(planet), Sun)", 'planet("venus (planet)", sun)'),
        ("p(Smith_(Ada,_Countess), x)", 'p("smith (ada, countess)", x)'),
        (r'says(x, "he said \"no\" \\ yes")', r'SAYS("x", "He said \"no\" \\ yes")'),
        (r"path(x, C:\dir)", r'path(x, "C:\\dir")'),
        ('"area (km2)"(London, 1572)', '"AREA_(km2)"("London","1572")'),
        ("a(b, [TITLE])", 'a(b, "[title]")'),
        ("1. a(b, c).\n2) d(e, f).", "d(e, f)\na(b, c)"),
        ("- a(b, c)\n• d(e, f).\n* g(h, i.)", "d(e, f); a(b, c); g(h, i.)"),
        ("a(Cafe\u0301, c)", "a(Caf\u00e9, c)"),
        ("a('Ada Lovelace', ‘c’), d(e, f)", "a(Ada_Lovelace, c)\nd(e, f)"),
        ("a(b, 1815‑12‑10)  # born", "a(b, 1815-12-10)"),
        ("- `a(b, c)`\n- `d(e, f)`", "a(b, c); d(e, f)"),
        ("a(O’Brien, c)", "a(O'Brien, c)"),
    ],
)
def test_look_and_order_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)
    assert score(one, problem(two), Limits()).score == 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a(b, c)", "a(c, b)"),
        ("a(b, c)", "b(a, c)"),
        ("a(b, 1800)", "a(b, 1800.0)"),
        ("a(b, c d)", "a(b, cd)"),
        ("a(b, \"c, d\")", "a(b, c d)"),
        ("a(b, c.)", "a(b, c)"),
        ("a(b, 1. c)", "a(b, c)"),
        ('"1. a"(b, c)', "a(b, c)"),
        ("a(Cafe, c)", "a(Caf\u00e9, c)"),
    ],
)  # fmt: skip
def test_names_and_places_count(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)
    assert score(one, problem(two), Limits()).score == 0.0


def test_the_score_is_the_f1_of_the_sets() -> None:
    found = score("capital(France, Paris)\ncapital(Spain, Madrid)\nriver(Paris, Rhine)", problem(), Limits())
    assert found.score == pytest.approx(0.4)
    assert found.value == "F1 0.4000: 1 of 3 right, 2 in gold"
    assert score("capital(France, Paris); capital(France, Paris)", problem(), Limits()).score == pytest.approx(2 / 3)


def test_a_problem_may_accept_less_than_equality() -> None:
    one = "capital(France, Paris)"
    assert score(one, problem(threshold=0.6), Limits()) == Result(
        1.0, "F1 0.6667: 1 of 1 right, 2 in gold", "none", measure=2 / 3
    )
    assert score(one, problem(threshold=0.7), Limits()).score == pytest.approx(2 / 3)
    with pytest.raises(InvalidInput, match="threshold: input should be less than or equal to 1, got '2'"):
        score(one, problem(threshold=2), Limits())


def test_gold_may_be_an_answer() -> None:
    gold = problem(program="not, read", answer=[["France", "capital", "Paris"], ["Paris", "river", "Seine"]])
    assert score(GOLD, gold, Limits()).score == 1.0


@pytest.mark.parametrize(
    "answer", [[], "capital(France, Paris)", [["France", "capital"]], [["a", "b", 3]], [["a", "b", "_"]]]
)
def test_an_answer_that_is_no_list_of_triples_is_our_fault(answer: Any) -> None:
    with pytest.raises(InvalidInput) as error:
        score(GOLD, problem(answer=answer), Limits())
    assert not isinstance(error.value, Unparsable)


def test_gold_that_is_missing_or_outside_the_ontology_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="has neither an answer nor a program"):
        score(GOLD, problem(None), Limits())
    with pytest.raises(InvalidInput, match="gold triples: line 2, column 1: 'river' is no relation") as error:
        score("capital(France, Paris)", problem(relations=["capital"]), Limits())
    assert not isinstance(error.value, Unparsable)


def test_a_relation_outside_the_ontology_is_refused_with_its_place() -> None:
    known = problem(relations=["capital", "river", "flows_through"])
    assert score(GOLD, known, Limits()).score == 1.0
    assert run("Flows through(Seine, Paris)", known, Limits()).value == "flows through(seine, paris)"
    with pytest.raises(
        Unparsable, match="line 1, column 24: 'lake' is no relation; have capital, river, flows_through"
    ):
        score("capital(France, Paris);lake(France, Annecy)", known, Limits())


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "no triple; expected relation"),
        (" ;\n;", "no triple"),
        ("capital", r"line 1, column 8: expected '\(', got the end"),
        ("a(b, c)\n(d, e)", r"line 2, column 1: expected a relation, got '\(d, e\)'"),
        ("a(b)", r"line 1, column 4: expected ',', got '\)'"),
        ("a(b, c, d)", r"line 1, column 7: expected '\)'; quote a name that holds a comma, .* got ', d\)'"),
        ("a(b, )", r"line 1, column 6: expected a name, got '\)'"),
        ('a("", c)', "line 1, column 3: expected a name"),
        ("a(b, c", r"line 1, column 7: expected '\)'.*, got the end"),
        ("a(b, c) d(e, f)", "line 1, column 9: expected a new line or ';', got 'd"),
        ("a(b, c)..", "line 1, column 9: expected a new line or ';'"),
        ("a(b, c), d", r"line 1, column 11: expected '\('"),
        ("a(b (c, d", r"line 1, column 5: expected ',', got '\(c, d'"),
        ('a(b, say "no")', "line 1, column 10: expected '\\)'; quote a name"),
        ('a("b, c)', "line 1, column 3: expected a name"),
        ("a(b\n, c)", "line 1, column 4: expected ',', got"),
        ("a(" + "(" * 60000, "line 1, column 3: expected a name"),
    ],
)
def test_what_is_no_triple_is_refused_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(text)


names = st.text(st.sampled_from("ab_ B0(),;\"\\\t'é"), min_size=1, max_size=8).filter(lambda name: name.strip(" _\t"))


def quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.tuples(names, names, names), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_any_name_can_be_quoted_and_a_mutant_always_differs(
    triples: list[tuple[str, str, str]], rng: random.Random
) -> None:
    program = ";".join(f"{quoted(r)}({quoted(s)}, {quoted(o)})" for r, s, o in triples)
    form = canonical(program)
    assert canonical(form) == form
    assert form.count("\n") + 1 == len(
        {tuple(" ".join(n.replace("_", " ").lower().split()) for n in t) for t in triples}
    )
    assert all(canonical(mutant) != form for mutant in mutants(program, rng))
