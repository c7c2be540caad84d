"""Lispress: programs of SMCalFlow as graphs of calls."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.families.lispress import MAX_BRACKETS, MAX_DEPTH, canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.cpu import at_most
from tests.problems import problem as make

GOLD = '(Yield (Make :day (^(Day) Next "a \\"b\\"") :at 2L))'


def problem(program: str | None = GOLD) -> Problem:
    return make("lispress", program=program)


def accepts(program: str, gold: str = GOLD) -> bool:
    return score(program, problem(gold), Limits()).score == 1.0


def test_layout_escapes_and_the_order_of_named_arguments_do_not_count() -> None:
    assert accepts('( Yield\n(Make :at 02L :day(^ ( Day )Next"a \\u0022b\\"")))')
    assert run(GOLD, problem(), Limits()).value == '(Yield (Make :at 2L :day (^(Day) Next "a \\"b\\"")))'


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("(f 2.50 -2.0 007 -0 0.5 12L -0L)", "(f 2.5 -2 7 0 0.5 12L 0L)"),
        ("(let (x5 (g) x3 (h x5 x5)) (f x3))", "(let (x0 (g)) (f (h x0 x0)))"),
        ("(f (let (day (g)) (h day day)))", "(let (x0 (g)) (f (h x0 x0)))"),
        ("(let (x0 (let (x0 (g)) (h x0 x0))) (f x0 x0))", "(let (x0 (g) x1 (h x0 x0)) (f x1 x1))"),
        ("(let (x0 (g) x1 x0) (f x0 x1))", "(let (x0 (g)) (f x0 x0))"),
        ("(let (x0 (g) x0 (h x0)) (f x0 (let (x0 1) x0)))", "(f (h (g)) 1)"),
        ("(let (x0 (g)) (do (h) (f)))", "(let (x0 (g)) (do (h) (f)))"),
        ("(& (c) (& (b) (a)))", "(& (& (a) (b)) (c))"),
        ("(let (x0 (& (c) (b))) (& (a) x0))", "(& (& (a) (b)) (c))"),
        ("(f ^(List Event) x.y ^Long 1)", "(f ^(List Event) x.y ^Long 1)"),
        ("(^((List (Set A))) f true)", "(^((List (Set A))) f true)"),
    ],
)
def test_the_normal_form_keeps_only_what_has_meaning(text: str, form: str) -> None:
    assert canonical(text) == canonical(form) == form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(f (Now) (Now))", "(let (x0 (Now)) (f x0 x0))"),
        ("(f 2)", "(f 2L)"),
        ("(f 2)", '(f "2")'),
        ("(f 4.25)", "(f 4.2)"),
        ('(f "a")', '(f "a ")'),
        ('(f "a")', '(f "A")'),
        ("(f :a 1)", "(f 1)"),
        ("(f :a 1 :b 2)", "(f :a 2 :b 1)"),
        ("(f a b)", "(f b a)"),
        ("(do (a) (b))", "(do (b) (a))"),
        ("(& (a) (b))", "(& (a) (& (b) (b)))"),
        ("(^(A) & (a) (b))", "(^(A) & (b) (a))"),
        ("(^(A) f)", "(^(B) f)"),
        ("(^A f)", "(^(A) f)"),
        ("(f)", "(let (x0 (g)) (f))"),
        ("(let (x0 (a) x1 (b)) (f x0 x0 x1 x1))", "(let (x0 (b) x1 (a)) (f x0 x0 x1 x1))"),
    ],
)
def test_what_may_mean_something_counts(one: str, other: str) -> None:
    assert not accepts(one, other)
    assert not accepts(other, one)


def test_what_is_ours_to_mend_is_our_fault() -> None:
    for given_problem, detail in [
        (problem(None), "has no gold program"),
        (problem("(f"), "gold program: the text ends"),
    ]:
        with pytest.raises(InvalidInput, match=detail) as error:
            score(GOLD, given_problem, Limits())
        assert not isinstance(error.value, Unparsable)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", r"ends before 0 bracket\(s\) close; expected an argument"),
        ("Now", "expected a call"),
        ("(let (x0 2) x0)", "expected a call"),
        ("(f\n (g)))", r"line 2, column 6: expected the end after the program, got '\)'"),
        ("(f (g)", r"ends before 1 bracket\(s\) close"),
        ("()", r"column 2: expected a function, got '\)'"),
        ("((f) 1)", r"column 2: expected a function, got '\('"),
        ("(2 f)", "column 2: expected a function, got '2'"),
        ("(:start (f))", "column 2: expected a function, got ':start'"),
        ('(f #(String "a"))', "column 4: expected an argument, got '#'"),
        ("(f x1)", "column 4: expected a variable that is bound, got 'x1'"),
        ("(let (x0 x0) (f x0))", "column 10: expected a variable that is bound"),
        ("(do (let (x0 (f)) (g x0)) (h x0))", "column 30: expected a variable that is bound"),
        ("(let (x0 (f)) (x0))", "column 16: expected a function, got 'x0'"),
        ("(let (x0 (f)) (g) (h))", r"column 19: expected '\)', got '\('"),
        ("(let (x0) (f))", r"column 9: expected an argument, got '\)'"),
        ("(f :a 1 2)", r"column 9: expected a named argument, or '\)', got '2'"),
        ("(f :a 1 :a 2)", "column 9: expected another name, got ':a'"),
        ("(f :a)", r"column 6: expected an argument, got '\)'"),
        ("(f let)", "column 4: expected an argument, got 'let'"),
        ("(do)", r"column 4: expected calls after 'do', got '\)'"),
        ("(& (a))", "column 7: expected two constraints"),
        ("(^() f)", r"column 4: expected a type, got '\)'"),
        ("(f ^A ^B c)", r"column 7: expected what has the type, got '\^'"),
        ('(f "a\\x")', "column 4: expected a string as in JSON"),
        ('(f "\\ud800")', "column 4: expected a string as in JSON"),
        ('(f "a', "column 4: expected a string as in JSON"),
        ("(f 1e5)", "column 4: expected an argument, got '1e5'"),
        ("(f " * 6000, f"expected at most {MAX_BRACKETS} brackets"),
        ("(f " * 101 + ")" * 101, f"more than {MAX_DEPTH} calls"),
        ("(let (x0 (f) " + " ".join(f"x{n + 1} (f x{n})" for n in range(101)) + ") x101)", "more than 100 calls"),
        ("(f " + "0" * 60000 + "x)", "column 4: expected an argument"),
        ('"\\' * 30000, "column 1: expected a string as in JSON"),
    ],
)
def test_what_is_no_program_is_refused_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(text)


def test_a_value_shared_over_and_over_is_written_once() -> None:
    shared = "(let (x0 (f) " + " ".join(f"x{n + 1} (f x{n} x{n})" for n in range(1000)) + ") (g x1000 x1000))"
    assert canonical(shared) == shared


leaves = st.sampled_from(["1", "2L", '"a b"', "true", "v", "w", "^(Day) 3"])


def called(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, inner)
    return (
        st.builds("(& {0[0]} {0[1]})".format, pairs)
        | st.builds("(f :b {0[0]} :a {0[1]})".format, pairs)
        | st.builds("(^(Event) g {0[0]} {0[1]})".format, pairs)
        | st.builds("(let (v {0[0]} w {0[1]}) (h v w))".format, pairs)
        | st.builds("(let (v {0[0]}) (do (g v) {0[1]}))".format, pairs)
    )


@settings(max_examples=100, deadline=None)
@given(called(st.recursive(leaves, called, max_leaves=12)), st.randoms(use_true_random=False))
def test_the_normal_form_is_its_own_and_a_mutant_has_another(program: str, rng: random.Random) -> None:
    form = canonical(program)
    assert canonical(form) == form
    assert accepts(program, form)
    for mutant in mutants(program, rng):
        assert canonical(mutant) != form
        assert not accepts(mutant, program)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("(let (x0 (A) x1 (B)) (f x0 x1 x0 x1))", "(let (x0 (B) x1 (A)) (f x1 x0 x1 x0))"),
        ("(let (x0 (A) x1 (B) x2 (h x0 x1)) (f x2 x0 x2 x1))", "(let (b (B) a (A) c (h a b)) (f c a c b))"),
        ("(let (x0 (A) x1 (B)) (f (& (p x0) (q x1)) x0 x1))", "(let (x0 (B) x1 (A)) (f (& (q x0) (p x1)) x1 x0))"),
        ("(let (x0 (B) x1 (A)) (f))", "(let (x0 (A) x1 (B)) (f))"),
    ],
)
def test_independent_bindings_stand_in_any_order(one: str, two: str) -> None:
    assert accepts(one, two)
    assert canonical(canonical(one)) == canonical(one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("(let (x0 (A) x1 (B)) (f x0 x1 x0 x1))", "(let (x0 (A) x1 (B)) (f x1 x0 x1 x0))"),
        ("(let (x0 (A) x1 (h x0 x0)) (f x1 x0 x1))", "(let (x0 (h (A) (A)) x1 (A)) (f x0 x1 x0))"),
        ("(let (x0 (A) x1 (A)) (f x0 x1 x0 x1))", "(let (x0 (A)) (f x0 x0 x0 x0))"),
        ("(let (x0 (A) x1 (A)) (f x0 x1 x0 x1))", "(let (x0 (A) x1 (A)) (f x0 x1 x1 x0))"),
    ],
)
def test_which_variable_stands_where_counts(one: str, two: str) -> None:
    assert not accepts(one, two)


def test_a_chain_of_thousands_of_bindings_is_no_burden() -> None:
    chain = "".join(f"x{n + 1} (f x{n} x{n}) " for n in range(2500))
    with at_most(2):
        assert canonical(f"(let (x0 (A) {chain}) (g x2500 x2500))").endswith("(g x2500 x2500))")
