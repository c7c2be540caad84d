"""Go: local names and layout do not count, everything else does; tests that cannot be run leave a verdict open."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.families.go import canonical, mutants, run, score
from symbol_llm.params import Limits
from symbol_llm.records import Problem
from symbol_llm.verify import judge
from tests.problems import problem as make

LIMITS = Limits(timeout_s=10)


def problem(gold: str | None, **environment: Any) -> Problem:
    return make("go", program=gold, environment=environment)


def function(body: str, head: str = "f(n int) int") -> str:
    return f"package main\nfunc {head} {{\n{body}\n}}"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (function("return n"), "package main; func f(m int) int { /* why */ return m; } // so"),
        (function("a, b := g(n)\nreturn a + b"), function("x, y := g(n)\nreturn x + y")),
        (function("for i := 0; i < n; i++ {\n}\nfor i := range x {\n}"), function("for i := 0; i < n; i++ {}; for j := range x {}")),
        (function("if x, err := g(); err != nil { return x }"), function("if y, e := g(); e != nil { return y }")),
        (function("switch t := x.(type) { case int: return t }"), function("switch u := x.(type) { case int: return u }")),
        (function("select { case r := <-c: g(r) }"), function("select { case q := <-c: g(q) }")),
        (function("h := func(u int) int { return u }\nreturn h(n)"), function("k := func(w int) int { return w }\nreturn k(n)")),
        (function("var a, b int = 1, 2\nconst c = 3\nreturn a+b+c"), function("var x, y int = 1, 2\nconst z = 3\nreturn x+y+z")),
        (function("m := map[string]int{k: n}", "f(k string, n int)"), function("m := map[string]int{j: i}", "f(j string, i int)")),
        (function("x := []int{\n1,\n2,\n}\nreturn x[n]"), function("x := []int{1, 2}\nreturn x[n]")),
        ("func (p *P) G() (r int) { r = p.x; return }", "func (q *P) G() (s int) { s = q.x; return }"),
        (function("n, e := g()\nreturn n + e"), function("m, e := g()\nreturn m + e", "f(m int) int")),
        (function("x := 1\nx := x + 1"), function("y := 1\ny := y + 1")),
        (function("g(1)\n;\nreturn n"), function("g(1)\nreturn n")),
    ],
)  # fmt: skip
def test_local_names_and_layout_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (function("return n"), function("return k")),
        (function("return n"), function("return n", "g(n int) int")),
        (function("a := n\nreturn a"), function("a := n\nreturn n")),
        (function("x := 1\n{ x := 2; g(x) }\nreturn x"), function("x := 1\n{ x = 2; g(x) }\nreturn x")),
        (function("x := n\nreturn P{x: x}"), function("y := n\nreturn P{y: y}")),
        (function("x := n\nif x := x + 1; x > 0 { return x }"), function("x := n\nif y := x + 1; x > 0 { return y }")),
        (function("return n.a"), function("return n.b")),
        (function("return\nn"), function("return n")),
        (function('return "a b"'), function('return "a  b"')),
        (function("return v1"), function("return n")),
        (function("g(_)"), function("g(n)")),
    ],
)
def test_what_tests_could_see_counts(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("func f( {\n}", r"line 1, column 8: expected '\)'"),
        ("package main\n\nfunc é() {\n\tx := \n}", "line 4, column "),
        ("x := 3", "line 1, column 1: expected a function, got 'x := 3'"),
        ('package main\nimport "fmt"', "expected a function"),
        ("func f() {", "line 1, column 10: unexpected '{'"),
        ("func f() {}\nos.Exit(0)", r"line 2, column 1: unexpected 'os.Exit\(0\)'"),
        (function("g(n\n, n)"), "a line ends where a statement goes on"),
        ("(" * 5000, "line 1, column"),
    ],
)
def test_what_is_no_program_is_refused_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_a_tree_too_deep_to_walk_is_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="400 levels"):
        canonical(function(f"return {'1 + ' * 1000}1"))


def test_tests_that_cannot_be_run_leave_another_form_open() -> None:
    gold, other = function("return n + n"), function("return 2 * n")
    tested = problem(gold, test="func main() { }", entry_point="f")
    assert score(gold, tested, LIMITS).score == 1.0
    with pytest.raises(Unavailable, match="Go tool chain"):
        score(other, tested, LIMITS)
    assert judge(tested, other, LIMITS).status == "unscored"
    assert score(function("return 2 * n", "g(n int) int"), tested, LIMITS).score == 0.0
    assert score(other, problem(gold), LIMITS).score == 0.0


def test_gold_that_is_missing_or_broken_is_our_fault() -> None:
    for gold in (None, "func f() {"):
        with pytest.raises(InvalidInput, match="no gold program that parses"):
            score(function(""), problem(gold), LIMITS)


def test_running_gives_the_form() -> None:
    assert run("func f(a int) {\ng(a)\n}", problem(None), LIMITS).value == "func f ( v1 int ) { g ( v1 ) }"


EXPRESSIONS = st.recursive(
    st.sampled_from(["n", "m", "k", "v1", "3", '"s"', "p.n", "f(m)"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "<", "&&", "=="]), inner).map(" ".join),
    max_leaves=5,
)


@pytest.mark.parametrize("comment", ["//go:build ignore", "// +build ignore", "//go:linkname f runtime.f", "\f"])
def test_a_comment_that_the_tool_chain_reads_is_refused(comment: str) -> None:
    with pytest.raises(Unparsable, match="line 1"):
        canonical(f"{comment}\n\n{function('return n')}")


def test_a_comment_that_speaks_of_building_is_fine() -> None:
    assert canonical(f"// go:build is not here; a +build neither\n{function('return n')}") == canonical(
        function("return n")
    )


@given(EXPRESSIONS, st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_form_is_its_own_and_no_mutant_has_it(expression: str, seed: int) -> None:
    program = function(f"m := n\nreturn {expression}")
    form = canonical(program)
    assert canonical(form) == form
    for mutant in list(mutants(program, random.Random(seed)))[:2]:
        assert canonical(mutant) != form
