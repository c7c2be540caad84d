"""First-order formulas: what counts as the same name, the ways to write a formula, and what can not be afforded."""

import contextlib
import random
import re

import pytest

from symbol_llm.families.fol import canonical, mutants, score
from symbol_llm.ground.errors import TimedOut, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.notation.logic import statements
from tests.cpu import at_most
from tests.problems import problem

LIMITS = Limits(timeout_s=20)


def judged(program: str, gold: str, **environment: object) -> float:
    return score(program, problem("fol", program=gold, environment=environment), LIMITS).score


@pytest.mark.parametrize(
    "program",
    [
        "all x. (Student(x) & ~Unhappy(x) -> Likes(x, anna))",
        "all x. (Student(x) & ~NotHappy(x) -> Likes(x, anna))",
        "all x. (Student(x) & ~Happy(x) -> Dislikes(x, anna))",
        "all x. (NonStudent(x) & ~Happy(x) -> Likes(x, anna))",
        "all x. (Student(x) & ~Happy(x) -> LikedBy(x, anna))",
        "all x. (Student(x) & ~Happy(x) -> Likes(x, hanna))",
        "all x. (Student(x) & ~Happy(x) -> Likes(x, anna2))",
        "all x. (Pupil(x) & ~Happy(x) -> Likes(x, anna))",
    ],
)
def test_an_opposite_a_converse_or_another_individual_is_no_way_to_say_a_name(program: str) -> None:
    assert judged(program, "all x. (Student(x) & ~Happy(x) -> Likes(x, anna))") == 0.0


@pytest.mark.parametrize(
    "program",
    [
        "all x. (Students(x) & ~IsHappy(x) -> Like(x, Anna))",
        "all x. (is_student(x) & ~HAPPY(x) -> Liking(x, ANNA))",
    ],
)
def test_inflection_case_and_separators_do_not_make_another_name(program: str) -> None:
    assert judged(program, "all x. (Student(x) & ~Happy(x) -> Likes(x, anna))") == 1.0


def test_a_year_is_not_the_next_one() -> None:
    assert judged("Born(ada, year2019)", "Born(ada, year2018)") == 0.0


def test_where_two_names_would_fit_none_is_aligned() -> None:
    assert judged("Play(a) & ~Playing(a)", "Plays(a) & ~Play(a)") == 0.0
    assert judged("IsBird(a) -> Birds(b)", "Bird(a) -> Bird(b)") == 0.0


def test_declared_names_are_taken_at_their_word() -> None:
    with pytest.raises(Unparsable, match="'Birds' is not declared"):
        judged("Birds(tom)", "Bird(tom)", symbols=["Bird", "tom"])


def test_the_published_measure_still_aligns_by_likeness() -> None:
    result = score("all x. (A(x) -> B(x))", problem("fol", program="all x. (Cat(x) -> Meows(x))"), LIMITS)
    assert (result.score, result.measure) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("∀x (P(x) ⇒ Q(x))", "all x (P(x) -> Q(x))"),
        ("∀x (P(x) ⟶ Q(x))", "all x (P(x) -> Q(x))"),
        ("ForAll x (P(x) ==> Q(x))", "all x (P(x) -> Q(x))"),
        ("Exists x (P(x) --> Q(x))", "exists x (P(x) -> Q(x))"),
        ("P(a) <==> Q(a)", "P(a) <-> Q(a)"),
        ("∀x (P(x) ⊃ Q(x))", "all x (P(x) -> Q(x))"),
        ("P(a) ⇔ Q(a)", "P(a) <-> Q(a)"),
        ("P(a) ≡ Q(a)", "P(a) <-> Q(a)"),
        ("∀x [P(x) → (Q(x) ∨ [R(x) ∧ S(x)])]", "all x (P(x) -> (Q(x) | (R(x) & S(x))))"),
        ("(∀x)(P(x) → Q(x))", "all x (P(x) -> Q(x))"),
        ("(∀x)(∃y)R(x, y)", "all x (exists y R(x, y))"),
        ("(∀x) P(x) → Q(x)", "all x. P(x) -> Q(x)"),
        ("(∃x)(P(x)) ∧ Q(a)", "(exists x P(x)) & Q(a)"),
        ("∀xy R(x, y)", "all x all y R(x, y)"),
        ("∀x∀yR(x, y)", "all x all y R(x, y)"),
        ("∃!x P(x)", "exists y all x (P(x) <-> x = y)"),
        ("∃!x ∃!y R(x, y)", "exists a all x ((exists b all y (R(x, y) <-> y = b)) <-> x = a)"),
        (r"$\forall x \, (\text{Bird}(x) \land \lnot P(x) \rightarrow F(x))$", "all x (Bird(x) & ~P(x) -> F(x))"),
        (r"\[\exists x\left(P(x) \lor Q(x)\right) \leftrightarrow R(a)\]", "(exists x (P(x) | Q(x))) <-> R(a)"),
        (r"a \neq b \wedge P(a) \vee Q(a) \to R(a)", "~(a = b) & P(a) | Q(a) -> R(a)"),
        ("1. P(a).", "P(a)"),
        ("2) P(a)\n(3) Q(a)", "P(a)\nQ(a)"),
        ("- P(a)\n• Q(a).", "P(a)\nQ(a)"),
    ],
)
def test_signs_of_textbooks_and_latex_are_read(text: str, plain: str) -> None:
    assert canonical(text) == canonical(plain)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("for all x, P(x) and not Q(x) implies R(x)", "all x (P(x) & ~Q(x) -> R(x))"),
        ("For all x: P(x) AND NOT Q(x) -> R(x)", "all x (P(x) & ~Q(x) -> R(x))"),
        ("for every x (P(x) & R(x) -> Q(x))", "all x (P(x) & R(x) -> Q(x))"),
        ("FORALL X (P(X) IMPLIES Q(X))", "all x (P(x) -> Q(x))"),
        ("For each x, for some y, R(x, y) -> S(x, y)", "all x (exists y (R(x, y) -> S(x, y)))"),
        ("forall x, (P(x) | Q(x)) -> R(x)", "all x ((P(x) | Q(x)) -> R(x))"),
        ("∀x, ∀y, R(x, y) → R(y, x)", "all x all y (R(x, y) -> R(y, x))"),
        ("∀x, y R(x, y)", "all x all y R(x, y)"),
        ("there exists x such that P(x) and Q(x)", "exists x (P(x) & Q(x))"),
        ("There exists an x such that (P(x) ∧ Q(x))", "exists x (P(x) & Q(x))"),
        ("∃x s.t. P(x) ∧ Q(x)", "exists x (P(x) & Q(x))"),
        ("THERE IS x: P(x)", "exists x P(x)"),
        ("not there exists x such that P(x)", "~exists x P(x)"),
        ("P(a) XOR Q(a)", "P(a) ^ Q(a)"),
        ("P(a) ↮ Q(a)", "P(a) ^ Q(a)"),
        ("P(a) if and only if not Q(a)", "P(a) <-> ~Q(a)"),
        ("if P(a) then Q(a) and R(a)", "P(a) -> (Q(a) & R(a))"),
        ("∀x (if P(x) or Q(x), then R(x))", "all x ((P(x) | Q(x)) -> R(x))"),
        ("P(a) /\\ Q(a) \\/ ~R(a)", "P(a) & Q(a) | ~R(a)"),
        ("all x (P(x) & -Q(x) -> R(x)).", "all x (P(x) & ~Q(x) -> R(x))"),
        ("∀x {P(x) → [Q(x) ∧ R(x)]}", "all x (P(x) -> (Q(x) & R(x)))"),
        ("∀𝑥（P(𝑥) ⋀ ￢Q(𝑥) ➔ R(𝑥)）", "all x (P(x) & ~Q(x) -> R(x))"),
        ("R(\"anna\", 'Bob') & R(‘Bob’, “anna”)", "R(anna, Bob) & R(Bob, anna)"),
    ],
)
def test_words_and_look_alikes_that_can_mean_only_one_thing_are_read(text: str, plain: str) -> None:
    assert canonical(text) == canonical(plain)


@pytest.mark.parametrize(
    "text",
    [
        "there exists no x such that P(x)",
        "there does not exist x such that P(x)",
        "there exists exactly one x such that P(x)",
        "for all x such that P(x), Q(x)",
        "for all x such that P(x) and Q(x)",
        "not all x, P(x), Q(x)",
        "for all birds P(x)",
        "either P(a) or Q(a)",
        "unless P(a), Q(a)",
        "if P(a) then Q(a) -> R(a)",
        "if P(a) -> Q(a) then R(a)",
        "if P(a), Q(a)",
        "P(a) only if Q(a)",
        "-P(a)",
        "{P(a), Q(a)}",
        "P{a}",
        "(P(a)}",
        "R('anna, b)",
        "R('new york', b)",
    ],
)
def test_words_that_could_mean_something_else_are_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        canonical(text)


def test_exactly_one_is_not_some() -> None:
    assert judged("∃!x P(x)", "∃x P(x)") == 0.0
    assert judged("∃!x P(x)", "∃x (P(x) ∧ ∀y (P(y) → x = y))") == 1.0


@pytest.mark.parametrize(
    "program",
    [
        "∀x (\n  P(x) →\n  Q(x)\n)",
        "∀x (P(x)\n→ Q(x))",
        "all x.\n(P(x) -> Q(x))",
        "∀x\n(P(x) → Q(x))",
        "∀x (P(x) →  # if so,\n\n    Q(x))  # then so",
        "1. ∀x (P(x)\n   → Q(x)).",
        "$$\n\\forall x\n(P(x) \\rightarrow Q(x))\n$$",
        "\\[\n∀x (P(x) → Q(x))\n\\]",
    ],
)
def test_a_formula_goes_on_over_lines(program: str) -> None:
    assert canonical(program) == canonical("all x (P(x) -> Q(x))")


def test_lines_that_do_not_go_on_are_formulas_of_their_own() -> None:
    text = "P(a)\n~Q(a)  # a ->\n- R(a)\n(S(a) | T(a)\n  & U(a))\nV(a)"
    assert [n for n, _ in statements(text)] == [1, 2, 3, 4, 6]
    assert canonical(text).count("\n") == 4


@pytest.mark.parametrize(
    ("program", "where"),
    [
        ("∀x (P(x)\n  → Q(x) R(x))", "line 2, column 10: expected ')', got 'R'"),
        ("P(a)\n\n∀x (P(x) →\n  ?)", "line 4, column 3: unexpected '?'"),
        ("P(a) &\n", "line 1, column 7: expected a formula, got 'the end'"),
    ],
)
def test_a_fault_is_placed_in_its_own_line(program: str, where: str) -> None:
    with pytest.raises(Unparsable, match=re.escape(where)):
        canonical(program)


@pytest.mark.parametrize("text", ["[P(a))", "(∀x]P(x)", r"P(a) \foo Q(a)", "$P(a)", "∃!", "1.P(a)", "P[a]"])
def test_what_only_looks_like_them_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        canonical(text)


@pytest.mark.parametrize(
    "text",
    [
        " " * 60_000 + "x",
        "P(a)" + "\t" * 60_000 + "# comment",
        "P(a) & " + " " * 60_000 + "Q(a)",
        "all " + "".join(f"x{n}, " for n in range(8000)) + "y P(y)",
        "∃!x " * 15_000 + "P(x)",
        "P(" + "a, " * 20_000 + "a)",
        "P" * 60_000,
        "P(a)\\," + "\\," * 20_000,
        "$" * 60_000,
        "(\n" * 30_000,
        "P(a) &\n" * 8_000,
        "[" * 60_000,
        "if " * 20_000 + "then",
        "there exists " * 4_000,
        "s.t." * 15_000,
        "'a" * 30_000,
        "“a-" * 20_000,
    ],
)
def test_no_text_takes_long_or_is_walked_too_deep(text: str) -> None:
    with at_most(1), contextlib.suppress(Unparsable):
        canonical(text)


def test_thousands_of_names_are_compared_in_no_time() -> None:
    gold = problem("fol", program="all x. (Student(x) & Happy(x) -> Likes(x, anna))")
    with at_most(3):
        assert score("\n".join(f"Studen{n}(a{n})" for n in range(3000)), gold, Limits(timeout_s=60)).score == 0.0


def test_mutants_change_names_and_none_is_accepted() -> None:
    gold = "all x. (Student(x) -> Likes(x, anna))"
    found = list(mutants(gold, random.Random(0)))
    assert any("anna)" not in mutant for mutant in found)
    assert any(re.search(r"\wStudent\(|Student\w", mutant) for mutant in found)
    assert {judged(mutant, gold) for mutant in found} == {0.0}


@pytest.mark.parametrize(
    ("gold", "program"),
    [
        ("all x. exists y. Likes(x, y)", "exists y. all x. Likes(x, y)"),
        ("exists y. all x. (Dog(x) -> Likes(x, y))", "all x. (Dog(x) -> exists y. Likes(x, y))"),
        ("all x. exists y. (Dog(y) & Likes(x, y)) & Dog(rex)", "exists y. all x. (Dog(y) & Likes(x, y)) & Dog(rex)"),
    ],
)
def test_quantifiers_in_another_order_are_told_apart(gold: str, program: str) -> None:
    assert judged(program, gold) == 0.0
    assert judged(gold, gold) == 1.0


def test_a_mutant_exchanges_letters_of_a_name() -> None:
    found = set(mutants("Singing(ann) -> Walks(ann)", random.Random(1))) | set(
        mutants("Singing(ann) -> P(ann)", random.Random(2))
    )
    names = {name for text in found for name in re.findall(r"\w+(?=\()", text)}
    assert any(sorted(name) == sorted("Singing") and name != "Singing" for name in names)


_ENDLESS = "all x exists y Less(x, y)\nall x all y all z (Less(x, y) & Less(y, z) -> Less(x, z))\nall x ~Less(x, x)"
"""Formulas that hold of infinitely many things alone."""


def test_formulas_that_only_an_infinite_world_tells_apart_are_nobodys_fault() -> None:
    limits = Limits(timeout_s=2)
    given = f"{_ENDLESS}\nBird(anna)"
    with pytest.raises(Unavailable, match="did not decide"):
        score(given, problem("fol", program=f"{_ENDLESS}\nBird(bob)"), limits)
    with pytest.raises(TimedOut):
        score(given, problem("fol", program="Bird(anna) & ~Bird(anna)"), limits)
    assert score(given, problem("fol", program=given), limits).score == 1.0
