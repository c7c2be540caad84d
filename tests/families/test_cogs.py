"""COGS logical forms: conjunctions up to the names of their variables."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families.cogs import canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from tests.problems import problem


def accepts(program: str, gold: str) -> bool:
    return score(program, problem("cogs", program=gold), Limits()).score == 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("cat ( x _ 1 ) AND run . agent ( x _ 2 , x _ 1 )", "run.agent(x_7,x_4) AND\n cat(x_4)"),
        ("* cat ( x _ 1 ) ; * dog ( x _ 4 ) ; see . agent ( x _ 2 , x _ 1 )", "* dog ( x _ 1 ) ; * cat ( x _ 2 ) ; see . agent ( x _ 3 , x _ 2 )"),
        ("cat ( x _ 1 ) AND cat ( x _ 01 )", "cat ( x _ 9 )"),
        ("run . agent ( x _ 1 , Emma ) AND see . agent ( x _ 3 , x _ 5 )", "see . agent ( x _ 1 , x _ 5 ) AND run . agent ( x _ 3 , Emma )"),
        ("LAMBDA a . LAMBDA e . run . agent ( e , a )", "LAMBDA y . LAMBDA x . run . agent ( x , y )"),
        ("LAMBDA a . cat ( a )", "LAMBDA b.cat(b)"),
        ("Emma", " Emma\n"),
        ("pea ( x _ 1 ) AND pea ( x _ 2 ) AND on ( x _ 1 ) AND eat . theme ( x _ 3 , x _ 1 )", "pea ( x _ 3 ) AND pea ( x _ 1 ) AND on ( x _ 1 ) AND eat . theme ( x _ 2 , x _ 1 )"),
    ],
)  # fmt: skip
def test_names_of_variables_order_and_white_space_do_not_count(one: str, two: str) -> None:
    assert accepts(one, two) and accepts(two, one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("* cat ( x _ 1 ) ; run . agent ( x _ 2 , x _ 1 )", "cat ( x _ 1 ) AND run . agent ( x _ 2 , x _ 1 )"),
        ("see . agent ( x _ 1 , x _ 2 ) AND see . theme ( x _ 1 , x _ 2 )", "see . agent ( x _ 1 , x _ 2 ) AND see . theme ( x _ 1 , x _ 3 )"),
        ("see . agent ( x _ 1 , x _ 2 ) AND cat ( x _ 2 )", "see . agent ( x _ 1 , x _ 2 ) AND cat ( x _ 1 )"),
        ("see . agent ( x _ 1 , Emma )", "see . agent ( x _ 1 , Liam )"),
        ("see . agent ( x _ 1 , Emma )", "see . agent ( x _ 1 , x _ 2 )"),
        ("cake . nmod . on ( x _ 1 , x _ 2 )", "cake . nmod . in ( x _ 1 , x _ 2 )"),
        ("LAMBDA a . LAMBDA e . run . agent ( e , a )", "LAMBDA e . LAMBDA a . run . agent ( e , a )"),
        ("LAMBDA a . cat ( a )", "cat ( x _ 1 )"),
        ("Emma", "emma ( x _ 1 )"),
        ("Emma", "EMMA"),
    ],
)  # fmt: skip
def test_forms_that_differ_stay_apart(one: str, two: str) -> None:
    assert not accepts(one, two) and not accepts(two, one)


def test_the_form_is_a_form_of_the_same_notation() -> None:
    form = "* cat ( x _ 2 ) ; dog ( x _ 1 ) AND see . agent ( x _ 3 , x _ 2 )"
    assert canonical(canonical(form)) == canonical(form)
    assert re.fullmatch(
        r"\* cat \( x _ \d \) ; dog \( x _ \d \) AND see \. agent \( x _ \d , x _ \d \)", canonical(form)
    )
    assert (
        run("LAMBDA q.LAMBDA r.run.agent(r,q)", problem("cogs"), Limits()).value
        == "LAMBDA a . LAMBDA b . run . agent ( b , a )"
    )


def test_gold_that_is_missing_or_no_form_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="has no gold program"):
        score("Emma", problem("cogs"), Limits())
    with pytest.raises(InvalidInput, match=r"gold program: line 1, column 4: expected '\('") as error:
        accepts("Emma", "cat")
    assert not isinstance(error.value, Unparsable)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "line 1, column 1: expected a predicate, got 'the end'"),
        ("emma", r"column 5: expected '\(', got 'the end'"),
        ("AND", "column 1: expected a name, got 'AND'"),
        ("* cat ( x _ 1 ) ;", "column 18: expected a predicate, got 'the end'"),
        ("* cat ( x _ 1 ) run ( x _ 1 )", "column 17: expected ';', got 'run'"),
        ("cat ( x _ 1 ) AND\n( x _ 2 )", r"line 2, column 1: expected a predicate, got '\('"),
        ("cat ( x _ 1 ) cat ( x _ 2 )", "column 15: expected AND or the end, got 'cat'"),
        ("cat ( x _ 1 , x _ 2 )", r"column 13: expected '\)', got ','"),
        ("cat ( Emma )", "column 7: expected x _ and a number, got 'Emma'"),
        ("run . agent ( x _ 1 )", r"column 21: expected ',', got '\)'"),
        ("run . agent ( Emma , x _ 1 )", "column 15: expected x _ and a number, got 'Emma'"),
        ("run . agent ( x _ 1 , emma )", "column 23: expected x _ and a number, got 'emma'"),
        ("run . agent ( x _ y , Emma )", "column 19: expected a number, got 'y'"),
        ("run . ( x _ 1 , Emma )", r"column 7: expected a role, got '\('"),
        ("LAMBDA a . cat ( b )", "column 18: expected one of a, got 'b'"),
        ("LAMBDA a . cat ( x _ 1 )", "expected one of a, got 'x'"),
        ("LAMBDA a . LAMBDA a . cat ( a )", "expected different variables"),
        ("LAMBDA a . * cat ( a ) ; cat ( a )", r"expected a predicate, got '\*'"),
        ("Emma Liam", r"column 6: expected '\(', got 'Liam'"),
        ("cat ( x _ 1 ) & dog ( x _ 2 )", "column 15: expected AND or the end, got '&'"),
        ("(" * 60000, "column 1: expected a predicate"),
    ],
)
def test_what_is_no_form_is_refused_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(text)


def test_a_form_over_the_limit_is_refused() -> None:
    alike = " AND ".join(f"cat ( x _ {n} )" for n in range(101))
    with pytest.raises(LimitExceeded, match="the form has 101 variables; at most 100 are compared"):
        canonical(alike)
    assert canonical(alike.removesuffix(" AND cat ( x _ 100 )")).count("cat") == 100


variables = st.integers(1, 5).map("x _ {}".format)
unary = st.builds("{} ( {} )".format, st.sampled_from(["cat", "dog"]), variables)
binary = st.builds(
    "{} ( {} , {} )".format,
    st.sampled_from(["see . agent", "cat . nmod . on"]),
    variables,
    variables | st.sampled_from(["Emma", "Liam"]),
)


@given(st.lists(unary, max_size=2), st.lists(unary | binary, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_renaming_changes_no_form_and_a_mutant_always_does(
    definite: list[str], rest: list[str], rng: random.Random
) -> None:
    program = "".join(f"* {atom} ; " for atom in definite) + " AND ".join(rest)
    form = canonical(program)
    assert canonical(form) == form
    numbers = rng.sample(range(10, 99), 6)
    rng.shuffle(rest)
    renamed = "".join(f"* {atom} ; " for atom in reversed(definite)) + " AND ".join(rest)
    assert canonical(re.sub(r"\d", lambda found: str(numbers[int(found[0])]), renamed)) == form
    assert all(canonical(mutant) != form for mutant in mutants(program, rng))


@pytest.mark.parametrize("number", ["²", "①", "٣"])
def test_a_number_that_is_none_is_the_programs_fault(number: str) -> None:
    with pytest.raises(Unparsable, match="expected a number"):
        canonical(f"cat ( x _ {number} ) AND dog ( x _ 1 )")
