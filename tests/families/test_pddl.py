"""PDDL problems: what renaming keeps, what it does not, and what a domain refuses."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.families.pddl import canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import strips
from tests.problems import problem as make

LIMITS = Limits()
DOMAIN = """; two kinds of vehicle
(define (domain roads) (:requirements :typing)
  (:types car van - vehicle vehicle town - object)
  (:constants depot - town)
  (:predicates (at ?v - vehicle ?t - town) (road ?x ?y - town) (red ?c - car) (raining))
  (:functions (length ?x ?y - town) (total-cost)))"""


def problem(program: str | None = None, **environment: Any) -> Problem:
    return make("pddl", program=program, environment={"domain": DOMAIN} | environment)


def text(init: str = "", goal: str = "", objects: str = "c - car v - van p q - town", more: str = "") -> str:
    return f"(define (problem x) (:domain roads) (:objects {objects}) (:init {init}) (:goal (and {goal})){more})"


def accepts(program: str, gold: str, **environment: Any) -> bool:
    return score(program, problem(gold, **environment), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("program", "gold"),
    [
        (text("(at c p) (road p q)", "(at c q)"), text("(road Q P) (at C Q)", "(at c p)")),
        (text("(at c p)", "(at c q)", "p - town v - van q - town c - car"), text("(at c p) (at c p)", "(at c q)")),
        (text("(at c p) (not (red c))", "(at c q)"), text("(and (at c p))", "(and (at c q)) (at c q)")),
        (
            text("(at c p)", "(forall (?t - town) (road p ?t))"),
            text("(at c p)", "(forall (?x - town) (road p ?x))"),
        ),
        (text("(at c p)", "(or (red c) (at c q))"), text("(at c p)", "(or (at c q) (red c))")),
        (text("(at c p)", "(not (not (= p q)))"), text("(at c p)", "(= q p)")),
        (text("(at c p) (= (length p q) 3)", "(at c q)"), text("(= (length p q) 3.0) (at c p)", "(at c q)")),
        (
            "(define (problem y) (:domain ROADS) (:requirements :strips) (:init) (:goal (raining))) ; no objects",
            "(define (problem z) (:goal (and (raining))) (:init) (:domain roads))",
        ),
    ],
)
def test_names_order_layout_and_repetition_do_not_count(program: str, gold: str) -> None:
    assert accepts(program, gold)
    assert accepts(gold, program)


@pytest.mark.parametrize(
    ("program", "gold"),
    [
        (text("(at c p)", "(at c p)"), text("(at c p)", "(at c q)")),
        (text("(at c p) (at v p)", "(at c q)"), text("(at c p) (at v q)", "(at c q)")),
        (text("(at c p)", "(at c q)"), text("(at c p)", "(at v q)")),
        (text("(at c p)", "(at c q)", "c - car p q - town"), text("(at c p)", "(at c q)")),
        (text("(at c p) (road p q)", "(at c q)"), text("(at c p) (road q p)", "(at c q)")),
        (text("(at c p)", "(at c depot)"), text("(at c p)", "(at c q)")),
        (text("(at c depot)", "(at c p)"), text("(at c p)", "(at c depot)")),
        (text("(at c p)", "(or (at c q))"), text("(at c p)", "(not (at c q))")),
        (text("(at c p)", "(imply (red c) (at c q))"), text("(at c p)", "(imply (at c q) (red c))")),
        (text("(= (length p q) 3)", "(at c q)"), text("(= (length p q) 4)", "(at c q)")),
        (
            text("(at c p)", "(forall (?x - town) (exists (?y - town) (road ?x ?y)))"),
            text("(at c p)", "(exists (?y - town) (forall (?x - town) (road ?x ?y)))"),
        ),
        (
            text("(at c p)", "(at c q)", more="(:metric minimize (total-cost))"),
            text("(at c p)", "(at c q)"),
        ),
    ],
)
def test_what_renaming_cannot_mend_is_rejected(program: str, gold: str) -> None:
    assert not accepts(program, gold)
    assert not accepts(gold, program)


def test_names_count_where_the_question_gives_them() -> None:
    gold, renamed = text("(at c p)", "(at c q)"), text("(at c q)", "(at c p)")
    assert [accepts(renamed, gold, fixed_names=fixed) for fixed in (False, True)] == [True, False]
    assert accepts(text("(at c p)", "(at c q)", "q p - town v - van c - car"), gold, fixed_names=True)


def circle(*names: str) -> str:
    return " ".join(f"(road {one} {other})" for one, other in zip(names, (*names[1:], names[0]), strict=True))


def test_one_circle_of_six_is_not_two_of_three() -> None:
    towns = "a b c d e f - town"
    one = text(circle(*"abcdef"), "(raining)", towns)
    two = text(f"{circle(*'abc')} {circle(*'def')}", "(raining)", towns)
    assert not accepts(one, two)
    assert accepts(text(circle(*"fbdcae"), "(raining)", towns), one)
    assert accepts(text(f"{circle(*'ace')} {circle(*'fbd')}", "(raining)", towns), two)


def test_many_alike_objects_are_no_burden() -> None:
    cars = [f"c{n}" for n in range(150)]
    gold = text(" ".join(f"(at {c} p)" for c in cars), "(at c0 q)", f"{' '.join(cars)} - car p q - town")
    assert accepts(gold.replace("(at c0 q)", "(at c77 q)"), gold)
    assert not accepts(gold.replace("(at c0 q)", "(at c77 depot)"), gold)


def test_hopeless_symmetry_is_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symbol_llm.families.pddl.MAX_WORK", 100)
    towns = "a b c d e f g h - town"
    with pytest.raises(Unavailable, match="too symmetric"):
        accepts(text(circle(*"abcdefgh"), "(raining)", towns), text(circle(*"badcfehg"), "(raining)", towns))


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        (text("(on c p)", "(at c q)"), r"line 1, column 83: expected one of the predicates at, raining.*, got 'on'"),
        (text("(at c)", "(at c q)"), r"column 82: expected at with 2 arguments, got '\(at c\)'"),
        (text("(at c p)", "(at p q)"), "column 108: expected an argument of type vehicle, got 'p'"),
        (text("(red v)", "(at c q)"), "expected an argument of type car, got 'v'"),
        (text("(at c x)", "(at c q)"), "expected a declared object, got 'x'"),
        (text("(at c ?x)", "(at c q)"), r"expected a bound variable or an object, got '\?x'"),
        (text("", "(raining)", "c - lorry"), "expected a declared type, not 'lorry', for the object, got 'c'"),
        (text("", "(raining)", "c - car c - van"), "expected an object of one type, got 'c'"),
        (text("", "(raining)", "- car"), "expected an object before and a type after '-'"),
        (text("(= (speed c) 3)", "(raining)"), "expected a declared function, got 'speed'"),
        (text("", "(not)"), "expected not with 1 parts"),
        (text("", "((raining))"), "expected a fact such as"),
        (text("", "(raining)", more="(:constraints)"), "expected one of :domain"),
        (text("", "(raining)", more="(:goal (raining))"), "expected :goal only once"),
        (text("", "(raining)") + "(raining)", "expected nothing after the definition"),
        ("(define (domain roads))", r"expected \(define \(problem ...\) ...\)"),
        ("(define (problem x) (:domain roads) (:init))", "no :goal section"),
        ("(define (problem x)\n  (:domain roads)))", r"line 2, column 19: '\)' closes nothing"),
        ("(define (problem x)\n  (:domain roads)", r"line 1, column 1: '\(' is never closed"),
        ("(" * 5000, "line 1, column 61: more than 60 levels"),
        ("; nothing", "nothing here"),
    ],
)
def test_what_the_grammar_or_the_domain_refuses_is_told_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        run(program, problem(), LIMITS)


def test_without_a_domain_only_arities_are_kept() -> None:
    anything = make("pddl", program=text("(near c x)", "(far c x)"))
    assert score(text("(near c x)", "(far c x)"), anything, LIMITS).score == 1.0
    with pytest.raises(Unparsable, match="expected near with 2 arguments"):
        run(text("(near c x)", "(near c)"), anything, LIMITS)


def test_gold_or_domain_that_is_wrong_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match=r"gold program: line 1.*got 'on'") as caught:
        accepts(text("(at c p)"), text("(on c p)"))
    assert not isinstance(caught.value, Unparsable)
    with pytest.raises(InvalidInput, match="domain: line 1") as caught:
        accepts(text("(at c p)"), text("(at c p)"), domain="(define")
    assert not isinstance(caught.value, Unparsable)


def test_a_long_problem_is_compared_quickly() -> None:
    towns = [f"t{n}" for n in range(3000)]
    rows = [
        " ".join(f"(road {one} {other})" for one, other in zip(t, t[1:], strict=False)) for t in (towns, towns[::-1])
    ]
    first, second = (text(row, "(raining)", f"{' '.join(towns)} - town") for row in rows)
    assert accepts(first, second)


ATOMS = st.sampled_from(["(at c p)", "(at v q)", "(red c)", "(road p q)", "(road q p)", "(raining)"])
GOALS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, max_size=3)).map(
            lambda p: f"({p[0]} {' '.join(p[1])})"
        ),
        inner.map(lambda part: f"(not {part})"),
        inner.map(lambda part: f"(forall (?x ?y - town) (imply (road ?x ?y) {part}))"),
        inner.map(lambda part: f"(exists (?x - town) (and (at c ?x) {part}))"),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ATOMS, max_size=6), GOALS, st.integers())
def test_canonical_is_idempotent_equal_and_no_mutant_has_it(init: list[str], goal: str, seed: int) -> None:
    program = text(" ".join(init), goal)
    form = canonical(program)
    assert canonical(form) == form
    assert accepts(form, program)
    for mutant in mutants(program, random.Random(seed)):
        assert canonical(mutant) != form
        assert not _accepts_or_unparsable(mutant, program)


def _accepts_or_unparsable(mutant: str, gold: str) -> bool:
    try:
        return accepts(mutant, gold)
    except Unparsable:
        return False


def test_a_quantifier_of_thousands_of_variables_is_refused() -> None:
    names = " ".join(f"?x{n}" for n in range(6000))
    with pytest.raises(Unparsable, match="at most 60 variables bound at once"):
        canonical(text(goal=f"(forall ({names}) (raining))"))


@given(st.text(alphabet="(ab) -?:;\n=", max_size=40))
def test_any_text_is_read_or_refused(garbage: str) -> None:
    try:
        strips.read_instance(garbage, None)
    except Unparsable as e:
        assert str(e)


@pytest.mark.parametrize(
    "section",
    [
        "(:derived (far ?x ?y - town) (not (road ?x ?y)))",
        "(:durative-action drive :parameters () :duration (= ?duration 1) :condition () :effect ())",
        "(:constraints (always (raining)))",
        "(:process rain :parameters ())",
        "(:action go :parameters () :effect (raining)) (:action go :parameters () :effect (and))",
    ],
)
def test_a_domain_with_a_section_that_is_not_understood_is_ours(section: str) -> None:
    gold = text("(at c p)", "(at c q)")
    with pytest.raises(InvalidInput, match="domain: ") as caught:
        accepts(gold, gold, domain=f"{DOMAIN[:-1]} {section})")
    assert not isinstance(caught.value, Unparsable)


def test_symmetry_of_the_program_alone_is_its_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    towns = "a b c d e f g h - town"
    gold, rings = circle(*"abcdefgh"), f"{circle(*'abcd')} {circle(*'efgh')}"
    monkeypatch.setattr("symbol_llm.families.pddl.MAX_WORK", 400)
    assert accepts(text(gold, "(raining)", towns), text(gold, "(raining)", towns))
    with pytest.raises(LimitExceeded, match="too symmetric"):
        accepts(text(rings, "(raining)", towns), text(gold, "(raining)", towns))


def test_numbers_too_long_to_be_told_apart_are_refused() -> None:
    with pytest.raises(Unparsable, match=r"\(= \(function"):
        canonical(text(f"(= (total-cost) {'9' * 5000})", "(at c q)"))
