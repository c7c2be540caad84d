"""S-expressions over a knowledge graph: a normal form, and answers on graphs."""

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families import Result
from symbol_llm.families.sexpr import EXAMPLES, canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import judge
from tests.cpu import at_most
from tests.problems import problem as make

XSD = "http://www.w3.org/2001/XMLSchema#"
TYPE = "type.object.type"
GRAPH = [
    ["ann", TYPE, "person"], ["bob", TYPE, "person"], ["cat", TYPE, "animal"],
    ["ann", "owns.pet", "cat"], ["bob", "owns.pet", "dog"], ["bob", "knows.who", "ann"], ["cat", "has.colour", "red"],
    ["ann", "has.age", 30], ["bob", "has.age", "30.0^^xsd:float"], ["cat", "has.age", f"4^^{XSD}integer"],
    ["ann", "has.birthday", f"1990-05-01^^{XSD}date"], ["bob", "has.birthday", f"1991^^{XSD}gYear"],
    ["job1", "job.from", f"2001^^{XSD}gYear"], ["job1", "job.to", f"2005^^{XSD}gYear"],
    ["job2", "job.from", f"2004-06-01^^{XSD}date"], ["job1", TYPE, "job"], ["job2", TYPE, "job"], ["job3", TYPE, "job"],
]  # fmt: skip


def problem(program: str | None = None, answer: Any = None, **environment: Any) -> Problem:
    return make("sexpr", program=program, answer=answer, environment=environment)


def answers(program: str, **environment: Any) -> str | None:
    return run(program, problem(graph=GRAPH, **environment), Limits()).value


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("(AND a.b c.d)", "(and c.d\n a.b)"),
        ("(AND a.b (AND c.d e.f))", "(AND e.f a.b c.d a.b)"),
        ("(AND a.b (AND a.b (JOIN r.s m.1)))", "(AND (JOIN r.s m.1) a.b)"),
        ("(JOIN (R (R r.s)) m.1)", "(JOIN r.s m.1)"),
        ("(JOIN (JOIN r.s t.u) m.1)", "(JOIN r.s (JOIN t.u m.1))"),
        ("(JOIN (R (JOIN r.s t.u)) m.1)", "(JOIN (R t.u) (JOIN (R r.s) m.1))"),
        ("(ARGMAX a.b (JOIN (JOIN r.s t.u) v.w))", "(ARGMAX a.b (JOIN r.s (JOIN t.u v.w)))"),
        ("(LT r.s 2.3e+06^^xsd:float)", f'(lt r.s "2300000"^^<{XSD}float>)'),
        ("(ge r.s 007^^integer)", f"(GE r.s 7^^{XSD}integer)"),
    ],
)
def test_one_meaning_has_one_form(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)
    assert score(one, problem(two), Limits()).score == 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("(JOIN r.s m.1)", "(JOIN (R r.s) m.1)"),
        ("(JOIN r.s (JOIN t.u m.1))", "(JOIN t.u (JOIN r.s m.1))"),
        ("(ARGMAX a.b r.s)", "(ARGMIN a.b r.s)"),
        ("(COUNT (JOIN r.s m.1))", "(JOIN r.s m.1)"),
        ("(lt r.s 5^^integer)", "(le r.s 5^^integer)"),
        ("(lt r.s 5^^integer)", "(lt r.s 5^^float)"),
        ("(AND a.b (JOIN r.s m.1))", "(JOIN r.s (AND a.b m.1))"),
        ('(JOIN r.s "a b"@en)', '(JOIN r.s "a b"@de)'),
    ],
)
def test_expressions_that_differ_stay_apart(one: str, two: str) -> None:
    assert score(one, problem(two), Limits()).score == 0.0


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("(AND person (JOIN owns.pet cat))", '["ann"]'),
        ("(JOIN owns.pet (JOIN has.colour red))", '["ann"]'),
        ("(JOIN (R owns.pet) (JOIN knows.who ann))", '["dog"]'),
        ("(AND person person)", '["ann", "bob"]'),
        ("(JOIN (R owns.pet) person)", '["cat", "dog"]'),
        ("(JOIN has.age 30^^integer)", '["ann", "bob"]'),
        ("(JOIN (R has.age) cat)", "[4.0]"),
        ("(ARGMAX person has.age)", '["ann", "bob"]'),
        ("(ARGMIN (AND person person) has.birthday)", '["ann"]'),
        ("(ARGMIN person (JOIN owns.pet has.age))", '["ann"]'),
        ("(ARGMAX person (JOIN (R knows.who) has.age))", '["ann"]'),
        ("(lt has.age 30)", '["cat"]'),
        ("(le has.age 30)", '["ann", "bob", "cat"]'),
        ("(gt has.birthday 1990-06-01)", '["bob"]'),
        ("(ge (JOIN owns.pet has.age) 4)", '["ann"]'),
        ("(JOIN (R has.birthday) (le has.birthday 1990-05-01))", '["1990-05-01"]'),
        ("(COUNT (JOIN has.age 30))", "[2.0]"),
        ("(TC job job.from 2003)", '["job1", "job3"]'),
        ("(TC job job.from 2004-12-31)", '["job1", "job2", "job3"]'),
        ("(TC job job.from NOW)", '["job2", "job3"]'),
        ("(COUNT (JOIN owns.pet horse))", None),
        ("(JOIN no.such cat)", None),
    ],
)
def test_each_operator_gives_the_answers_worked_out_by_hand(program: str, expected: str | None) -> None:
    assert answers(program) == expected
    assert answers(canonical(program)) == expected


def test_now_is_given_by_the_problem() -> None:
    assert answers("(TC job job.from NOW)", now="2002") == '["job1", "job3"]'


def test_agreement_on_one_graph_is_not_enough() -> None:
    gold = problem("(AND person (JOIN owns.pet cat))", answer=["ann"], graph=GRAPH)
    assert score("(AND (JOIN owns.pet cat) person)", gold, Limits()) == Result(1.0, '["ann"]', "none")
    assert score("(JOIN owns.pet (AND cat cat))", gold, Limits()).score < 1.0
    for program in ("(ARGMIN person has.birthday)", "(JOIN (R knows.who) bob)", "(AND ann ann)"):
        accident = score(program, gold, Limits())
        assert accident.value == '["ann"]'
        assert accident.score < 1.0


def test_another_form_is_accepted_that_agrees_on_every_graph() -> None:
    gold = problem("(ARGMAX person has.age)", graph=GRAPH)
    assert score("(ARGMAX (ARGMAX person has.age) has.age)", gold, Limits()).score == 1.0
    assert score("(TC (ARGMAX person has.age) no.such 2000)", gold, Limits()).score == 1.0


def test_another_form_is_not_accepted_that_is_equal_where_a_thing_has_one_age() -> None:
    gold = problem("(ARGMAX person has.age)", graph=GRAPH)
    for measure in ("has.age", "has.birthday"):
        found = score(f"(ARGMAX person (JOIN (JOIN has.age (R has.age)) {measure}))", gold, Limits())
        assert found.value == '["ann", "bob"]'
        assert found.score < 1.0


def test_the_score_below_acceptance_is_the_f1_of_the_answers() -> None:
    gold = problem("(JOIN has.age 30)", graph=GRAPH)
    assert score("(AND ann person)", gold, Limits()).score == pytest.approx(2 / 3)
    assert score("(AND cat cat)", gold, Limits()).score == 0.0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"program": "(AND a.b"},
        {"program": "(JOIN no.such cat)", "graph": GRAPH},
        {"program": "(AND person ann)", "graph": GRAPH, "answer": ["bob"]},
        {"program": "(AND person ann)", "graph": [["ann", "knows.who"]]},
        {"program": "(AND person ann)", "graph": [["ann", "knows.who", None]]},
        {"program": "(AND person ann)", "graph": [["ann", "has.age", "x^^xsd:integer"]]},
    ],
)
def test_gold_that_is_missing_or_wrong_is_our_fault(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as error:
        score("(AND person person)", problem(**fields), Limits())
    assert not isinstance(error.value, Unparsable)


def test_a_graph_too_small_to_tell_is_our_fault_unless_the_form_is_equal() -> None:
    chain = "".join(f"(JOIN r.s{n} " for n in range(30)) + "e30" + ")" * 30
    gold = problem(chain, graph=[[f"e{n}", f"r.s{n}", f"e{n + 1}"] for n in range(30)])
    assert score(f"(AND {chain} {chain})", gold, Limits()).score == 1.0
    with pytest.raises(InvalidInput, match="too few to tell"):
        score(f"(TC {chain} no.such 2000)", gold, Limits())


def test_an_expression_that_touches_too_much_hits_a_limit() -> None:
    dense = [[f"s{a}", "r.s", f"s{b}"] for a in range(60) for b in range(60)]
    everything = "(JOIN r.s " * 80 + "(AND s1 s1)" + ")" * 80
    with pytest.raises(LimitExceeded, match="touches more than"):
        run(f"(ARGMAX {everything} {'(JOIN r.s ' * 8}r.s{')' * 8})", problem(graph=dense), Limits())


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", r"line 1, column 1: expected '\(', got 'the end'"),
        ("m.1", r"column 1: expected '\(', got 'm.1'"),
        ("(AND a.b)", r"column 9: expected a set, got '\)'"),
        ("(AND a.b c.d", "column 13: expected '\\)', got 'the end'"),
        ("(AND a.b c.d))", "column 14: expected the end"),
        ("(OR a.b c.d)", r"column 2: expected AND, JOIN, .* got 'OR'"),
        ("(AND a.b\n (COUNT c.d))", "line 2, column 3: expected AND, JOIN"),
        ("(R r.s)", "column 2: expected AND, JOIN"),
        ("(JOIN m.1 m.2)", "column 7: expected a relation, got 'm.1'"),
        ("(JOIN (AND a.b c.d) m.2)", "column 8: expected a relation, R or JOIN, got 'AND'"),
        ("(JOIN r.s)", r"column 10: expected a set, got '\)'"),
        ("(JOIN r.s m.1 m.2)", r"column 15: expected '\)', got 'm.2'"),
        ("(lt r.s many)", "column 9: expected a number or date, got 'many'"),
        ("(lt r.s x^^xsd:integer)", "column 9: expected a value of its type"),
        ("(lt r.s may^^xsd:date)", r"column 9: expected a value of its type \(no date\)"),
        ("(lt r.s nan^^xsd:float)", r"column 9: expected a value of its type \(not finite\)"),
        ("(TC a.b r.s then)", "column 13: expected a date or NOW, got 'then'"),
        ('(JOIN r.s "open)', "column 11: expected a set, got '\"'"),
        ("(AND a.b " * 60 + ")" * 60, "expected a set"),
        ("(AND " + "a.b " * 101 + ")", "expected at most 100 names and literals"),
        ("(JOIN " + "(R " * 6000, "expected at most 105 levels"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(text)


names = st.sampled_from(["person", "ann", "cat", "4^^xsd:integer", '"a (b"@en'])
relations = st.recursive(
    st.sampled_from(["owns.pet", "has.age", "knows.who"]),
    lambda inner: st.builds("(R {})".format, inner) | st.builds("(JOIN {} {})".format, inner, inner),
    max_leaves=3,
)
sets = st.recursive(
    names,
    lambda inner: (
        st.builds("(AND {} {})".format, inner, inner)
        | st.builds("(JOIN {} {})".format, relations, inner)
        | st.builds("(ARGMAX {} {})".format, inner, relations)
        | st.builds("(le {} 30)".format, relations)
        | st.builds("(TC {} {} 2004)".format, inner, relations)
    ),
    max_leaves=6,
)


@given(sets, st.randoms(use_true_random=False))
def test_a_form_is_its_own_form_with_the_same_answers(expression: str, rng: random.Random) -> None:
    program = f"(COUNT {expression})" if rng.random() < 0.5 else f"(AND {expression} {expression})"
    form = canonical(program)
    assert canonical(form) == form
    assert answers(form) == answers(program)
    assert all(canonical(mutant) != form for mutant in mutants(form, rng))


@pytest.mark.parametrize(
    "text", ["(", "(AND ", "(JOIN a ", "(R ", "a ", '"', '"a', "^^", "(COUNT ", "((", "9" * 50, "(lt a 1^^xsd:integer "]
)
def test_reading_a_long_text_takes_less_than_a_second(text: str) -> None:
    for long in (text * (32000 // len(text)), text * 200 + ")" * 200):
        with at_most(1), contextlib.suppress(Unparsable, LimitExceeded):
            canonical(program_of(long))


@pytest.mark.parametrize(
    "odd",
    [
        "9" * 5000,
        "1e999",
        "1e99^^xsd:float",
        "\ud800",
        "²",
        "٣",
        "9999-99-99^^xsd:date",
        '"' + "9" * 5000 + '"^^xsd:integer',
    ],
)
def test_no_odd_atom_is_our_fault(odd: str) -> None:
    gold = EXAMPLES[0]
    for program in (
        f"(gt film.film.year {odd})",
        f"(JOIN film.film.directed_by {odd})",
        f"(TC film.film film.film.year {odd})",
    ):
        verdict = judge(gold.problem, program, Limits())
        assert verdict.status in ("rejected", "unparsable"), verdict.detail
