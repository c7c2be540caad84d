"""Constraint problems: what must hold, the guards against empty proofs, the grammar."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.families import Result
from symbol_llm.families.csp import canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.cpu import at_most
from tests.problems import problem as make

LIMITS = Limits(timeout_s=20)


def problem(answer: Any = None, **environment: Any) -> Problem:
    return make("csp", answer=answer, environment=environment)


def text(
    *constraints: str, options: str = "A) x == 1\nB) x == 2\nC) x == 3", variables: str = "x, y, z in 1..3"
) -> str:
    return "\n".join(["Variables:", variables, "Constraints:", *constraints, "Query:", options])


def letter(program: str, **environment: Any) -> str | None:
    return run(program, problem(**environment), LIMITS).value


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        (["x == 2"], "B"),
        (["x = 2"], "B"),
        (["all_different(x, y, z)", "x < y", "y < z"], "A"),
        (["AllDifferentConstraint([x, y, z])", "x > y > z"], "C"),
        (["x < y < z"], "A"),
        (["y == 2", "abs(x - y) == 1", "x != 3"], "A"),
        (["y == 2", "x - y == 1"], "C"),
        (["y == 2", "y - x == -1"], "C"),
        (["x * x == 4"], "B"),
        (["2 * x + 1 == 7"], "C"),
        (["not (x == 1 or x == 2)"], "C"),
        (["x >= 2", "not x == 3"], "B"),
        (["x ≠ 1 and x != 3"], "B"),
        (["x == 1 or y == 1 and z == 1", "y == 2"], "A"),
        (["x == y and y == z and all_different(x, 1) and x <= 2 # or so"], "B"),
        (["x == 2 ::: the second"], "B"),
    ],
)
def test_the_letter_is_that_of_the_option_that_must_hold(constraints: list[str], expected: str) -> None:
    assert letter(text(*constraints)) == expected
    assert score(text(*constraints), problem(expected), LIMITS).score == 1.0
    assert score(text(*constraints), problem("D"), LIMITS).score == 0.0


@pytest.mark.parametrize(
    "program",
    [
        "Domain: 1..3\nVariables: x, y\nConstraints: x == 2\nQuery: A) x == 1\nB) x == 2",
        "Domain:\n1: leftmost\n2:\n3: rightmost\nVariables:\nx [IN] [1, 2, 3]\ny\nConstraints:\nx == 2\nQuery:\nA) x < y\nB) x == 2",
        "VARIABLES:\nx in {3, 1, 2}\nconstraints:\nx == 2\noptions:\n(B) x == 2\n(A) x == 1",
        "Variables:\nx ∈ 1 to 3\nConstraints:\nx > 1\nx < 3\n\nQuery:\nA: x == 3\nB. x == 2",
    ],
)
def test_sections_may_be_laid_out_in_several_ways(program: str) -> None:
    assert letter(program) == "B"


LISTED = """Domain: 1..3
Variables: x, y
Constraints:
x < y
y == 2
Query:
A) x == 2
B) x == 1"""


@pytest.mark.parametrize("mark", ["- ", "* ", "• ", "  -   ", "{n}. ", "{n}) ", "({n}) "])
def test_lines_may_be_items_of_a_list(mark: str) -> None:
    listed = "\n".join(mark.format(n=n) + line for n, line in enumerate(LISTED.splitlines(), 1))
    assert canonical(listed) == canonical(LISTED)
    assert letter(listed) == "B"
    assert canonical(listed.replace("x < y", "x > y")) != canonical(LISTED)


@pytest.mark.parametrize(
    "program",
    [
        LISTED.replace("Constraints:", "**Constraints:**").replace("Query:", "**Query**:").replace("B)", "- **B)**"),
        LISTED.replace("Constraints:", "## Constraints").replace("Query:", "### Query:"),
        LISTED.replace("Constraints:", "Constraints (all must hold):")
        .replace("x < y", "`x < y`")
        .replace("2\n", "2;\n"),
        LISTED.replace("x < y", "x < y,  // left of it").replace("1..3", "1-3"),
        LISTED.replace("Domain: 1..3\n", "").replace("Variables: x, y", "Variables:\n- `x`: 1..3\n- **y** = {1, 2, 3}"),
        LISTED.replace("1..3", "\n- 1: leftmost\n- 2\n- 3"),
    ],
)
def test_marks_of_markdown_do_not_count(program: str) -> None:
    assert canonical(program) == canonical(LISTED)


@pytest.mark.parametrize("line", ["-x < y", "(2) < x", "2 * x > y", "x - y < 0", "-(x) > -3"])
def test_what_only_looks_like_an_item_is_part_of_the_line(line: str) -> None:
    assert canonical(LISTED.replace("x < y", line)) != canonical(LISTED)


@pytest.mark.parametrize("line", ["- x <", "1.", "x **2 < y", "1.5 x < y", "- * x < y", "- A", "**", "-"])
def test_an_item_that_is_no_condition_is_ill_formed(line: str) -> None:
    with pytest.raises(Unparsable):
        canonical(LISTED.replace("x < y", line))


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        (text("x == 2", "x < y", "y == 1"), "no solution meets the constraints"),
        (text("x == 4"), "no solution meets the constraints"),
        (text("x < y"), "no option holds in every solution"),
        (text("y == 1", options="A) x == 4\nB) x <= 3"), "option B needs no constraint"),
        (text("y == 1", options="A) x == 4\nB) all_different(1, 2)"), "option B needs no constraint"),
        (text("x == 2", options="A) x == 2\nB) x < 3\nC) x == 1"), "options A and B both hold in every solution"),
    ],
)
def test_what_proves_nothing_has_no_letter(program: str, detail: str) -> None:
    ran = run(program, problem(), LIMITS)
    assert (ran.value, ran.detail) == (None, detail)
    assert score(program, problem("B"), LIMITS) == Result(0.0, detail, ran.isolation)


def test_letters_of_the_question_and_number_of_constraints_may_be_asked_for() -> None:
    assert letter(text("x == 2"), options=["A", "B", "C"], n_constraints=1) == "B"
    assert letter(text("x == 2"), options=["A", "B"]) is None
    assert letter(text("x == 2", "2 == x", "x == 2 and x == 2"), n_constraints=2) is None
    assert letter(text("x == 2 and y != x"), n_constraints=2) == "B"


GOLD = text("x < y", "y == 2")


@pytest.mark.parametrize(
    ("program", "accepted"),
    [
        (text("not y <= x and y == 2"), True),
        (text("x == 1", "y == 2", variables="z, y, x in [1, 2, 3]"), True),
        (text("x == 1"), False),
        (text("x < y", "y == 2", "z == 3"), False),
        (text("x < y", "y == 2", options="A) x == 1\nB) z == 2\nC) x == 3"), False),
        (text("x < y", "y == 2", variables="x, y in 1..3"), False),
        (text("x < y", "y == 2", variables="x, y, z in 1..4"), False),
    ],
)
def test_against_a_gold_program_nothing_may_be_invented(program: str, accepted: bool) -> None:
    assert (score(program, problem("A", program=GOLD), LIMITS).score == 1.0) == accepted


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("x == 2", "line 1, column 1: expected a heading"),
        (text("w == 2"), "line 4, column 1: expected a declared variable, a number or a condition, got 'w == 2'"),
        (text("x == 2 y"), "line 4, column 8: expected an operator or the end of the line, got 'y'"),
        (text("x = = 2"), "line 4, column 5: expected a declared variable"),
        (text("x + 1"), r"line 4, column 1: expected a condition, not a number, got 'x \+ 1'"),
        (text("(x < y) + 1 == 2"), "line 4, column 1: expected a number, not a condition"),
        (text("x and y == 1"), "line 4, column 1: expected a condition, not a number"),
        (text("not x"), "line 4, column 5: expected a condition, not a number"),
        (text("x < (y < z)"), "line 4, column 5: expected a number, not a condition"),
        (text("abs(x == 1) == 1"), r"line 4, column 7: expected '\)'"),
        (text("x == 1 $"), r"line 4, column 8: expected a condition, got '\$'"),
        (text("(x == 1"), r"line 4, column 8: expected '\)', got 'the end'"),
        (text("x == 99999999999"), "expected a declared variable, a number"),
        (text("x == 1", variables="x, x in 1..3"), "line 2, column 4: expected the name of a new variable"),
        (text("x == 1", variables="x, not in 1..3"), "line 2, column 4: expected the name of a new variable"),
        (text("x == 1", variables="x in 1..3\ny"), "variable 'y' has no domain"),
        (text("x == 1", variables="x in 3..1"), "line 2, column 6: expected values such as 1..5"),
        (text("x == 1", variables="x in 1..100000"), "expected values such as 1..5"),
        (text("x == 1", options="A) x == 1\nA) x == 2"), "line 7, column 1: expected an option"),
        (text("x == 1", options="x == 1"), "line 6, column 1: expected an option"),
        (text("x == 1", options="A) x == 1"), "fewer than two options"),
        (text(), "no constraint"),
        (text("(" * 200 + "x == 1"), "at most 60 brackets open at once"),
        (text("not " * 200 + "x == 1"), "at most 60 brackets open at once"),
        (text("-" * 200 + "x == 1"), "at most 60 brackets open at once"),
        (text("(x == 1 or y == 2 and " * 20 + "x == 1" + ")" * 20), "a condition of more than 25 levels"),
    ],
)
def test_ill_formed_programs_are_refused_with_the_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_an_answer_that_is_no_letter_is_our_fault() -> None:
    for answer in (None, "", 1, "AB", True):
        with pytest.raises(InvalidInput, match="expected the letter of an option"):
            score(text("x == 1"), problem(answer), LIMITS)
    with pytest.raises(InvalidInput, match="gold: no constraint") as caught:
        run(text("x == 1"), problem(program=text()), LIMITS)
    assert not isinstance(caught.value, Unparsable)


def test_too_many_assignments_hit_a_limit() -> None:
    variables = ", ".join(f"v{n}" for n in range(30)) + " in 1..1000"
    total = " + ".join(f"v{n}" for n in range(30))
    program = text(f"{total} == 31", options="A) v1 == 1\nB) v1 == 2", variables=variables)
    with pytest.raises(LimitExceeded):
        run(program, problem(), Limits(timeout_s=0.5))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (text("x < y", "x == 1"), text("1 = x", "y > x", "x < y")),
        (text("x + 1 - y == 2"), text("2 == 1 + x + -y")),
        (text("abs(x - y) == 1"), text("1 == abs(y - x)")),
        (text("x == 1 or (y == 1 or z == 1)"), text("(z == 1 or y == 1) or x == 1")),
        (text("all_different(z, x, y)"), text("all_different(x, y, z)")),
        (text("not not x == 1"), text("x == 1")),
        (text("x == 1", variables="x, y, z in 1..3"), text("x == 1", variables="z in [1, 2, 3]\ny, x in {3, 2, 1}")),
    ],
)
def test_order_and_spelling_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (text("x < y"), text("y < x")),
        (text("x - y == 1"), text("y - x == 1")),
        (text("x == 1 or y == 1 and z == 1"), text("(x == 1 or y == 1) and z == 1")),
        (text("x + y * z == 1"), text("(x + y) * z == 1")),
        (text("all_different(x, x)"), text("all_different(x)")),
        (text("x == 1", variables="x, y, z in 1..3"), text("x == 1", variables="x, y, z in 1..4")),
        (text("x == 1", options="A) x == 1\nB) x == 2"), text("x == 1", options="A) x == 2\nB) x == 1")),
    ],
)
def test_programs_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


NUMBERS = st.recursive(
    st.sampled_from(["x", "y", "z", "1", "2"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda part: f"abs({part})"),
        inner.map(lambda part: f"-{part}"),
    ),
    max_leaves=5,
)
CONDITIONS = st.recursive(
    st.tuples(NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda part: f"not ({part})"),
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=3), st.integers())
def test_canonical_is_idempotent_and_no_mutant_has_it(constraints: list[str], seed: int) -> None:
    form = canonical(text(*constraints))
    assert canonical(form) == form
    single = canonical(text(constraints[0]))
    assert single not in map(canonical, mutants(single, random.Random(seed)))


@settings(max_examples=60, deadline=None)
@given(CONDITIONS)
def test_the_canonical_form_has_the_same_solutions(constraint: str) -> None:
    program = text(constraint)
    form = canonical(program)
    found, again = run(program, problem(program=form), LIMITS), run(form, problem(program=program), LIMITS)
    assert found == again
    assert "question" not in found.detail
    assert "asked" not in found.detail


def test_signs_one_in_the_other_take_no_time() -> None:
    term = "x"
    for _ in range(11):
        term = f"abs(y + {term})"
    with at_most(1):
        assert canonical(text(f"{term} == 1")) == canonical(text(f"{term.replace('y + x', 'x + y')} == 1"))


def test_values_without_end_are_not_listed() -> None:
    names = ", ".join(f"v{n}" for n in range(5000))
    with pytest.raises(LimitExceeded, match="more than 20000 values"):
        canonical(text("v1 == 1", options="A) v1 == 1\nB) v1 == 2", variables=f"{names} in 1..900"))
