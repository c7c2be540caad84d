"""Rule theories: grammar, three-valued labels, and the guards against empty proofs."""

import random
from typing import Any

import pytest

from symbol_llm.families.rules import canonical, mutants, run, score
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make

LIMITS = Limits(timeout_s=20)


def problem(answer: str | None = None, **environment: Any) -> Problem:
    return make("rules", answer=answer, environment=environment)


def label(program: str, **environment: Any) -> str | None:
    return run(program, problem(**environment), LIMITS).value


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("Furry(bob)\nall x. (Furry(x) -> Nice(x))\nquery: Nice(bob)", "True"),
        ("Furry(bob)\n∀x (Furry(x) → ¬Nice(x))\nquery: Nice(bob)", "False"),
        ("Furry(bob)\nNice(anne)\nquery: Nice(bob)", "Unknown"),
        ("forall x exists y Likes(x, y)\nquery: exists z Likes(bob, z)", "True"),
        ("exists y. all x. Likes(x, y)\nquery: all x. exists y. Likes(x, y)", "True"),
        ("P(a) | Q(a)\n~P(a)\nquery: Q(a)", "True"),
        ("P(a) ^ Q(a)\nP(a)\nquery: Q(a)", "False"),
        ("P(a) <-> Q(a)\n~Q(a)\ngoal: P(a)", "False"),
        ("Raining -> Wet\nRaining\nconclusion: Wet", "True"),
        ("a = b\nP(a)\nquery: P(b)", "True"),
        ("a ≠ b\nP(a)\nquery: P(b)", "Unknown"),
        ("# theory\nPremises:\nP(a). ::: a is P\nquery: P(a)", "True"),
        ("P(a) and not Q(a)\nquery: Q(a) or P(a)", "True"),
        ("P(a) implies (Q(a) iff R(a))\nP(a)\nR(a)\nquery: Q(a)", "True"),
        ("all x, y. (R(x, y) -> R(y, x))\nR(a, b)\nquery: R(b, a)", "True"),
        ("all x. P(x) -> Q(x)\nP(a)\nquery: Q(a)", "True"),
        ("(all x P(x)) -> Q(a)\nP(b)\nquery: Q(a)", "Unknown"),
        ("P(a) -> Q(a) -> R(a)\nP(a)\nQ(a)\nquery: R(a)", "True"),
    ],
)
def test_the_label_is_what_follows(program: str, expected: str) -> None:
    assert label(program) == expected


def test_precedence_is_not_and_or_implies_iff() -> None:
    assert canonical("~P & Q | R -> S <-> T\nquery: P") == canonical("((((~P) & Q) | R) -> S) <-> T\nquery: P")


def test_premises_that_contradict_each_other_prove_nothing() -> None:
    ran = run("P(a)\n~P(a)\nquery: Q(a)", problem(), LIMITS)
    assert ran.value is None
    assert ran.detail == "Contradiction, but premises that contradict each other prove everything"


@pytest.mark.parametrize("query", ["Q(a) | ~Q(a)", "Q(a) & ~Q(a)"])
def test_a_query_that_needs_no_premise_is_not_accepted(query: str) -> None:
    program = f"P(a)\nquery: {query}"
    assert [score(program, problem(answer), LIMITS).score for answer in ("True", "False")] == [0.0, 0.0]


def test_unknown_about_what_no_premise_speaks_of_is_not_accepted_unless_declared() -> None:
    program = "P(a)\nquery: Q(a)"
    assert score(program, problem("Unknown"), LIMITS).score == 0.0
    assert score(program, problem("Unknown", symbols=["P", "Q", "a"]), LIMITS).score == 1.0


def test_fewer_premises_than_the_theory_has_are_not_accepted() -> None:
    program = "P(a)\nP(a)\nquery: P(a)"
    assert score(program, problem("True", n_premises=1), LIMITS).score == 1.0
    assert score(program, problem("True", n_premises=2), LIMITS).score == 0.0


THEORY = "all x. (P(x) -> Q(x))\nP(a)\nquery: Q(a)"


@pytest.mark.parametrize(
    ("program", "score_"),
    [
        (THEORY, 1.0),
        ("P(a) & all x. (~Q(x) -> ~P(x))\nquery: ~~Q(a)", 1.0),
        ("Q(a)\nquery: Q(a)", 0.0),
        ("P(a)\nall x. (P(x) -> Q(x))\nQ(a)\nquery: Q(a)", 0.0),
        ("Q(b)\nP(a)\nP(a) -> Q(a)\nquery: Q(a)", 0.0),
        ("P(a)\nquery: P(a)", 0.0),
    ],
)
def test_against_a_formal_theory_nothing_may_be_invented(program: str, score_: float) -> None:
    assert score(program, problem("True", theory=THEORY), LIMITS).score == score_


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("P(a)", "no query"),
        ("query: P(a)", "no premise"),
        ("P(a)\nquery: P(a)\nP(b)", "line 3: nothing may follow the query"),
        ("P(x)\nquery: P(a)", "line 1, column 3: expected a bound variable or a constant"),
        ("all x P(x) -> Q(y)\nquery: P(a)", "line 1, column 17"),
        ("P(a)\nP(a, b)\nquery: P(a)", "line 2: P has 2 terms here and 1 before"),
        ("P(a\nquery: P(a)", r"line 2, column 1: expected '\)', got 'query'"),
        ("P(a) $ Q(a)\nquery: P(a)", r"line 1, column 6: unexpected '\$'"),
        ("P(a) Q(a)\nquery: P(a)", "line 1, column 6: expected an operator"),
        ("P(f(a))\nquery: P(a)", "line 1, column 4"),
        ("~" * 200 + "P(a)\nquery: P(a)", "at most 60 levels"),
        ("(" * 200 + "P(a)\nquery: P(a)", "at most 60 levels"),
        ("P -> " * 5000 + "P\nquery: P", "at most 100 operators"),
        ("P | P ^ " * 5000 + "P\nquery: P", "at most 100 operators"),
    ],
)
def test_ill_formed_programs_are_refused_with_the_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("all x. P(x)\nquery: Q", "∀y P(y)\nquery: Q"),
        ("P & Q\nR\nquery: Q", "R\nQ ∧ P\nR\nquery: ~~Q"),
        ("(P | Q) | R\nquery: Q", "R or (Q or P)\nquery: Q"),
        ("a = b\nquery: Q", "b = a\nquery: Q"),
    ],
)
def test_names_of_variables_and_order_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("P -> Q\nquery: Q", "Q -> P\nquery: Q"),
        ("all x. exists y. R(x, y)\nquery: Q", "exists y. all x. R(x, y)\nquery: Q"),
        ("all x. (P(x) & exists x. Q(x))\nquery: Q(a)", "all x. (P(x) & exists y. Q(x))\nquery: Q(a)"),
        ("all x. exists x. all y. R(x, y)\nquery: Q", "all x. exists y. all y. R(y, y)\nquery: Q"),
        ("P(a)\nquery: Q", "P(b)\nquery: Q"),
    ],
)
def test_programs_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


TEXT = {
    "context": "Bob is furry. Erin is quiet and round. If Erin is round then Bob is kind. Furry things are nice.",
    "question": "Is this true? Bob is nice.",
}


@pytest.mark.parametrize(
    ("program", "score_"),
    [
        ("Furry(bob)\nall x. (Furry(x) -> Nice(x))\nquery: Nice(bob)", 1.0),
        ("IsFurry(Bob)\n∀x (isFurry(x) → BeNice(x))\nIsFurry(Bob) -> isFurry(Bob)\nquery: BeNice(Bob)", 1.0),
        ("Nice(bob)\nquery: Nice(bob)", 0.0),
        ("Furry(bob)\nQuiet(erin) & Nice(bob)\nquery: Nice(bob)", 0.0),
        ("Furry(bob)\n~~Nice(bob) | Nice(bob)\nquery: Nice(bob)", 0.0),
        ("all x. Nice(x)\nquery: Nice(bob)", 0.0),
        ("P(bob)\nall x. (P(x) -> Q(x))\nquery: Q(bob)", 0.0),
        ("Furry(bob)\nquery: Furry(tom)", 0.0),
        ("Quiet(erin)\nRound(erin)\nquery: Round(erin)", 0.0),
    ],
)
def test_premises_and_query_come_from_the_text(program: str, score_: float) -> None:
    asked = make("rules", answer="True", **TEXT)
    assert score(program, asked, LIMITS).score == score_


def test_what_a_sentence_says_may_be_asked() -> None:
    for question, query, expected in (
        ("Bob is furry.", "Furry(bob)", 1.0),
        ("Erin is round.", "Round(erin)", 1.0),
        ("Bob is kind.", "Kind(bob)", 0.0),  # said of him under a condition
    ):
        asked = make("rules", answer="True", **TEXT | {"question": f"Is this true? {question}"})
        assert score(f"{query}\nquery: {query}", asked, LIMITS).score == expected


def test_uncertain_is_another_word_for_unknown() -> None:
    assert score("P(a) | Q(a)\nquery: Q(a)", problem("Uncertain"), LIMITS).score == 1.0


def test_numbered_lines_and_the_signs_of_textbooks_are_read() -> None:
    assert label("1. Furry(bob).\n2. (∀x)(Furry(x) ⇒ Nice(x)).\n3. query: Nice(bob).") == "True"


def test_premises_and_query_go_on_over_lines() -> None:
    program = "all x. (Bird(x)\n  -> Flies(x))\nBird(tweety)\nquery:\n  Flies(tweety)"
    assert canonical(program) == canonical("all x. (Bird(x) -> Flies(x))\nBird(tweety)\nquery: Flies(tweety)")


def test_a_mutant_takes_the_query_for_a_premise() -> None:
    found = set(mutants("Furry(bob)\nall x. (Furry(x) -> Nice(x))\nquery: Nice(bob)", random.Random(0)))
    assert "Furry(bob)\nNice(bob)\nquery: Nice(bob)" in found


# --- as Logic-LM has programs written ---------------------------------------------------------------------------------

COWS = """
Predicates:
Chases($x, $y, bool) ::: Does x chase y?
Calm($x, bool) ::: Is x calm?

Facts:
Chases(Cow, Dog, True) ::: The cow chases the dog.
Calm(Dog, False) ::: The dog is not calm.

Rules:
Chases($x, $y, True) && Calm($y, False) >>> Calm($x, True) ::: What chases something that is not calm is calm.
Calm(Cow, True) >>> Chases(Dog, Cow, True) ::: If the cow is calm, the dog chases the cow.

Query:
QUERY ::: in words
"""
OURS = """
Chases(Cow, Dog)
~Calm(Dog)
all x. all y. (Chases(x, y) & ~Calm(y) -> Calm(x))
Calm(Cow) -> Chases(Dog, Cow)
query: """


@pytest.mark.parametrize(
    ("theirs", "ours", "label"),
    [
        ("Chases(Dog, Cow, True)", "Chases(Dog, Cow)", "True"),
        ("Calm(Cow, False)", "~Calm(Cow)", "False"),
        ("Chases(Cow, Cow, True)", "Chases(Cow, Cow)", "Unknown"),
    ],
)
def test_programs_for_a_rule_engine_are_read_as_first_order_logic(theirs: str, ours: str, label: str) -> None:
    program = COWS.replace("QUERY", theirs)
    assert canonical(program) == canonical(OURS + ours)
    assert run(program, problem(), LIMITS).value == label


def test_sections_with_headings_are_read() -> None:
    program = """
    Predicates:
    Tall(x) ::: x is tall
    Premises:
    ∀x (Tall(x) → Slow(x)) ::: All tall people are slow.
    Tall(ann) ::: Ann is tall.
    Conclusion:
    Slow(ann) ⊕ ¬Tall(ann) ::: Ann is either slow or not tall.
    """
    assert canonical(program) == canonical("all x. (Tall(x) -> Slow(x))\nTall(ann)\nquery: Slow(ann) ^ ~Tall(ann)")
    assert run(program, problem(), LIMITS).value == "True"


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        (COWS.replace("QUERY", "Calm(Cow, True)\nCalm(Dog, True)"), "nothing may follow the query"),
        (COWS.partition("Query")[0], "no query"),
        (COWS.replace("QUERY", "Calm($x, Maybe)"), r"line 15, column 6: unexpected"),
        ("Predicates:\nTall(ann)\nQuery:\nTall(ann)", "no premise before the query"),
    ],
)
def test_sections_that_say_nothing_of_use_are_refused(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)
