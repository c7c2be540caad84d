"""Java: local names and layout do not count, everything else does; tests that cannot be run leave a verdict open."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.families.java import canonical, mutants, run, score
from symbol_llm.params import Limits
from symbol_llm.records import Problem
from symbol_llm.verify import judge
from tests.problems import problem as make

LIMITS = Limits(timeout_s=10)


def problem(gold: str | None, **environment: Any) -> Problem:
    return make("java", program=gold, environment=environment)


def method(body: str, head: str = "int f(int n)") -> str:
    return f"class A {{ int k; static {head} {{ {body} }} }}"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (method("return n;"), "class A{int k;static int f(int m)\n{/* why */return m; // so\n}}"),
        (method("int[] a = {1, 2,}; return a[n];"), method("int[] b = {1, 2}; return b[n];")),
        (method("for (int i = 0;;) {} for (int i = 0;;) {}"), method("for (int i = 0;;) {} for (int j = 0;;) {}")),
        (method("for (String s : ss) g(s);"), method("for (String t : ss) g(t);")),
        (method("try (R r = g()) {} catch (E e) { h(e); }"), method("try (R q = g()) {} catch (E x) { h(x); }")),
        (method("F g = (p, q) -> p + q; G h = z -> z;"), method("F a = (b, c) -> b + c; G d = e -> e;")),
        (method("if (n instanceof B b) return b.x;"), method("if (n instanceof B c) return c.x;")),
        (
            method("switch (n) { case C c -> g(c); default -> {} }"),
            method("switch (n) { case C d -> g(d); default -> {} }"),
        ),
        ("int f(String... s) { return s.length; }", "int f(String... t) { return t.length; }"),
        (method("int v2 = 1; return v2 + v1;"), method("int a = 1; return a + v1;")),
    ],
)
def test_local_names_and_layout_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (method("return n;"), method("return k;")),
        (method("return n;"), method("return n;", "int g(int n)")),
        (method("int a = n; return a;"), method("int a = n; return n;")),
        (method("int k = n; this.k = k;"), method("int k = n; this.k = this.k;")),
        (method("int a = 1; { int b = 2; g(b); }"), method("int a = 1; { int b = 2; g(a); }")),
        (method("int x = 1; new B() { int x; int g() { return x; } };"), method("int y = 1; new B() { int x; int g() { return y; } };")),
        (method("return n.a;", "int f(B n)"), method("return n.b;", "int f(B n)")),
        (method('return "a b";'), method('return "a  b";')),
        (method("F g = A::f;"), method("F g = A::h;")),
        (method("a: for (;;) break a;"), method("b: for (;;) break b;")),
        (method("return v1;"), method("return n;")),
        (method("record R(int u) {} return u;"), method("record R(int w) {} return u;")),
    ],
)  # fmt: skip
def test_what_tests_could_see_counts(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("class A { int f( { } }", r"line 1, column 1\d: "),
        ("class A {\n  int é = ;\n}", "line 2, column 9: unexpected '='"),
        ("int x = 3;", "line 1, column 1: expected a class or a method, got 'int x = 3;'"),
        ("import java.util.*;", "expected a class or a method"),
        ("class A {", "expected '}'"),
        ("class A { } System.exit(0);", "line 1, column 13: expected a class"),
        ("// nothing", "expected a class or a method"),
        ("(" * 5000, "line 1, column"),
    ],
)
def test_what_is_no_program_is_refused_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_a_tree_too_deep_to_walk_is_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="400 levels"):
        canonical(method(f"return {'1 + ' * 1000}1;"))


def test_tests_that_cannot_be_run_leave_another_form_open() -> None:
    gold, other = method("return n + n;"), method("return 2 * n;")
    tested = problem(gold, test="class Main { }", entry_point="f")
    assert score(gold, tested, LIMITS).score == 1.0
    with pytest.raises(Unavailable, match="JDK"):
        score(other, tested, LIMITS)
    assert judge(tested, other, LIMITS).status == "unscored"
    assert score(method("return 2 * n;", "int g(int n)"), tested, LIMITS).score == 0.0
    assert score(other, problem(gold), LIMITS).score == 0.0


def test_gold_that_is_missing_or_broken_is_our_fault() -> None:
    for gold in (None, "class A {"):
        with pytest.raises(InvalidInput, match="no gold program that parses"):
            score(method(""), problem(gold), LIMITS)
    with pytest.raises(Unparsable):
        score("class A {", problem(None), LIMITS)


def test_running_gives_the_form() -> None:
    assert run("int f(int a){return a;}", problem(None), LIMITS).value == "int f ( int v1 ) { return v1 ; }"


EXPRESSIONS = st.recursive(
    st.sampled_from(["n", "m", "k", "v1", "3", '"s"', "this.n", "f(m)"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "<", "&&", "=="]), inner).map(" ".join),
    max_leaves=5,
)


@pytest.mark.parametrize("comment", [r"// \u000a k = 7;", r"/* \u002a/ k = 7; /* */", "\x0b"])
def test_what_java_reads_where_the_grammar_reads_a_blank_is_refused(comment: str) -> None:
    with pytest.raises(Unparsable, match="line 1"):
        canonical(method(f"return 1; {comment}\n"))


def test_an_escape_in_a_text_and_a_form_feed_are_fine() -> None:
    assert "\\u00e9" in canonical(method('String s = "\\u00e9";\fint n = 1;'))


@given(EXPRESSIONS, st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_form_is_its_own_and_no_mutant_has_it(expression: str, seed: int) -> None:
    program = method(f"int m = n; return {expression};")
    form = canonical(program)
    assert canonical(form) == form
    for mutant in list(mutants(program, random.Random(seed)))[:2]:
        assert canonical(mutant) != form
