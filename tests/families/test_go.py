"""Go: local names and layout do not count, all else does, unless tests tell; without Go they leave a verdict open."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.problems import EXTRA

pytest.importorskip("tree_sitter_go", reason=EXTRA)

from symbol_llm.families.go import _HEAD, canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import judge
from symbol_llm.sandbox import toolchain
from tests.problems import ISOLATION
from tests.problems import problem as make

LIMITS = Limits(timeout_s=60)
"""Ample: nothing that these tests judge by it runs long, however slow the machine is."""


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
        (function("return n"), "func f(n int) int { return n }"),
        (function("if (n > 1) { return (n), 1 }\nreturn ((n + 1)), 2"), function("if n > 1 { return n, 1 }\nreturn n + 1, 2")),
        (function("for (n > 1) { n = (n - 1) }\nx := (g((n)))"), function("for n > 1 { n = n - 1 }\nx := g(n)")),
        (function("for i := (0); (i < n); i++ { }\nswitch (n) { }"), function("for i := 0; i < n; i++ { }\nswitch n { }")),
        (function("return - -n &\n^n + <-(<-c)"), function("return - - n & ^n + <-( <-c )")),
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
        (function("return (n + 1) * 2"), function("return n + 1 * 2")),
        (function("return -(n - 1)"), function("return -n - 1")),
        (function("return (\nn)"), function("return\nn")),
        (function("if (n == (P{1})) { }"), function("if (n == (Q{1})) { }")),
        (function("return n"), function("return n").replace("main", "other")),
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
        (function("x := n > 0\n&& n < 9"), "line 4, column 1: unexpected '&&'"),
        (function("return n\n\t&& g(n)"), "line 4, column 2: unexpected '&&'"),
        (function("return --n"), "line 3, column 8: unexpected '--'"),
        (function("return ++n"), "line 3, column 8: unexpected"),
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


def test_tests_that_cannot_be_run_leave_another_form_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    gold, other = function("return n + n"), function("return 2 * n")
    tested = problem(gold, test="func main() { }", entry_point="f")
    assert score(gold, tested, LIMITS).score == 1.0
    with pytest.raises(Unavailable, match="cannot be run without Go"):
        score(other, tested, LIMITS)
    assert judge(tested, other, LIMITS).status == "unscored"
    assert score(function("return 2 * n", "g(n int) int"), tested, LIMITS).score == 0.0
    assert score(other, problem(gold), LIMITS).score == 0.0


def test_gold_that_is_missing_or_broken_is_our_fault() -> None:
    for gold in (None, "func f() {"):
        with pytest.raises(InvalidInput, match="no gold program that parses"):
            score(function(""), problem(gold), LIMITS)


# --- tests that are run -----------------------------------------------------------------------------------------------

with_go = pytest.mark.skipif(toolchain.go() is None, reason="no Go with its packages built: apt-get install golang-go")


def with_tests(*cases: tuple[str, str]) -> Problem:
    """Give a problem whose tests are (call, result), written as MBXP does."""
    text = "\n".join(
        f'\tactual_{n} := {call}\n\texpected_{n} := {result}\n\tdeepCompare(actual_{n}, expected_{n}, "case {n}")\n'
        for n, (call, result) in enumerate(cases, 1)
    )
    return problem(None, test=f"{_HEAD}{text}\n}}\n", entry_point="f")


SQUARES = with_tests(("f(3)", "9"), ("f(-4)", "16"))
RIGHT = function("return n * n")


def importing(name: str, body: str, more: str = "") -> str:
    return f'package main\nimport "{name}"\nfunc f(n int) int {{\n{body}\n}}\n{more}'


@with_go
@pytest.mark.parametrize(
    "program",
    [
        RIGHT,
        RIGHT.removeprefix("package main\n"),
        RIGHT.replace("main\n", 'main\nimport (\n"encoding/json"\n"reflect"\n)\n'),
        RIGHT.replace("main\n", 'main\nimport js "encoding/json"\nvar x, _ = js.Marshal(1)\n'),
        importing("fmt", "fmt.Println(n); println(n); return n * n"),
        importing("math", "return int(math.Pow(float64(n), 2))"),
        function("c := make(chan int)\nfor range [4]int{} { go func() { c <- n * n }() }\n<-c\nreturn <-c"),
        function("go func() { for {} }()\nreturn n * n"),
        function("return g(n)") + "\nfunc g[T int](n T) T { return n * n } // a type of any kind",
    ],
)
def test_another_form_is_accepted_where_its_tests_pass(program: str) -> None:
    assert score(program, SQUARES, LIMITS)[:3] == (1.0, "[9,16]", ISOLATION)


@with_go
@pytest.mark.parametrize(
    ("program", "value"),
    [
        (function("return n * 3"), "[9,-12]"),
        (function("return m * n"), "program.go:3:8: undefined: m"),
        (function("return float64(n)", "f(n int) float64"), "[3,-4]"),
        (RIGHT.replace("main", "other"), "package other; expected"),
        (RIGHT + "\nfunc main() { }", "main redeclared in this block"),
        (RIGHT.replace("main\n", 'main\nimport "os"\n'), "imported and not used"),
        (RIGHT.replace("main\n", 'main\nimport "C"\n'), "could not import C"),
        (function("return g(n)") + "\nfunc g(n int) int", "missing function body"),
        (function("return n / (n - n)"), "panic: runtime error: integer divide by zero"),
        (function("select {}"), "fatal error: all goroutines are asleep - deadlock!"),
        (importing("os", "return n * n", "func init() { os.Exit(0) }"), "ended before it gave a result"),
        (importing("os", "os.Exit(3); return 0"), "ended with status 3"),
        (importing("os", 'all, _ := os.ReadDir("/tmp"); if all != nil { return n * n }; return 0'), "[0,0]"),
        (importing("syscall", "if syscall.Kill(syscall.Getppid(), 9) == nil { return n * n }; return 0"), "[0,0]"),
    ],
)
def test_what_is_not_built_or_gives_something_else_is_rejected(program: str, value: str) -> None:
    result = score(program, SQUARES, LIMITS)
    assert result.score == 0.0
    assert value in (result.value or "")


def claiming(line: str) -> str:
    """Give a program that says `line` for itself, wherever the judge may listen, and ends."""
    says = f'for fd := 1; fd < 20; fd++ {{ syscall.Write(fd, []byte("{line}\\n")) }}'
    return importing("syscall", f"{says}\nsyscall.Exit(0)\nreturn 0")


@with_go
def test_a_claim_is_worth_what_it_says() -> None:
    mark = toolchain.MARK.replace("\x02", "\\x02")
    for line in (
        "accepted",
        "[9,16]",
        f"{mark}[9]",
        f"{mark}[9,17]",
        f"{mark}[true,true]",
        f"{mark}{'[' * 5000}",
        f"{mark}NaN",
    ):
        assert score(claiming(line), SQUARES, LIMITS).score == 0.0
    assert score(claiming(f"{mark}[9,16]"), SQUARES, LIMITS).score == 1.0


@with_go
@pytest.mark.parametrize(
    ("imported", "body", "status"),
    [
        ("os", "_ = os.Args; for { }", "timeout"),
        ("os", "for { go func() { for { _ = os.Args } }() }", "timeout or resource"),
        ("os", "return make([]int, len(os.Args)<<28)[0]", "resource"),
        ("os", "for { os.Stderr.Write(make([]byte, 1 << 16)) }", "resource"),
        (
            "os",
            'if e := os.WriteFile("f", make([]byte, 3000000), 0600); e != nil { panic(e) }; return n * n',
            "rejected",
        ),
        ("os/exec", 'if e := exec.Command("/bin/true").Run(); e != nil { panic(e) }; return n * n', "rejected"),
        ("syscall", 'panic(syscall.Exec("/bin/true", []string{"true"}, nil))', "rejected"),
        ("os", 'if _, e := os.ReadFile("/etc/passwd"); e != nil { panic(e) }; return n * n', "rejected"),
        ("os", 'if _, e := os.Create("/tmp/symbol-llm-escaped-go"); e != nil { panic(e) }; return n * n', "rejected"),
        ("net", 'if _, e := net.Listen("tcp", "127.0.0.1:0"); e != nil { panic(e) }; return n * n', "rejected"),
        ("net", 'if _, e := net.Dial("udp", "127.0.0.1:80"); e != nil { panic(e) }; return n * n', "rejected"),
        ("unsafe", "*(*int)(unsafe.Pointer(uintptr(8))) = 1; return n * n", "rejected"),
    ],
)
def test_a_hostile_program_is_contained_and_the_next_is_judged_right(imported: str, body: str, status: str) -> None:
    """Only what never ends is given little time: the others end by themselves, however slow the machine is."""
    limits = Limits(timeout_s=2) if "timeout" in status else LIMITS
    assert judge(SQUARES, importing(imported, body), limits).status in status.split(" or ")
    assert not Path("/tmp/symbol-llm-escaped-go").exists()
    assert judge(SQUARES, RIGHT, LIMITS).status == "accepted"


@with_go
@pytest.mark.parametrize(
    ("gives", "equal", "unequal"),
    [
        ("3", "3.0", "4"),
        ("0.1 + 0.2 + n", "0.1 + 0.2", "0.31"),
        ("1", "1", "true"),
        ("nil", "nil", "[]int{}"),
        ("[]int(nil)", "nil", "[]int{}"),
        ('"a\\"é\\n"', '"a\\"é\\n"', '"a\\"e\\n"'),
        ("[]interface{}{1, nil}", "[2]interface{}{1.0, nil}", "[]interface{}{nil, 1}"),
        ('map[string]int{"a": 1, "b": 2}', 'map[string]float64{"b": 2, "a": 1}', 'map[string]int{"a": 2, "b": 1}'),
        ("struct{ A int }{1}", 'map[string]int{"A": 1}', 'map[string]int{"a": 1}'),
    ],
)
def test_results_are_equal_as_the_tests_find_them(gives: str, equal: str, unequal: str) -> None:
    program = f"var n = 0.0\nfunc f() interface{{}} {{ return {gives} }}"
    assert score(program, with_tests(("f()", equal)), LIMITS).score == 1.0
    assert score(program, with_tests(("f()", unequal)), LIMITS).score == 0.0


@with_go
def test_tests_of_another_shape_leave_another_form_open() -> None:
    test = SQUARES.environment["test"]
    for other in (
        test.replace("reflect.DeepEqual(a2, b2)", "true"),
        test.replace("expected_2 :=", "wanted_2 :="),
        test.replace("deepCompare(actual_2", "println(actual_2"),
        "func main() { }",
    ):
        with pytest.raises(Unavailable, match="shape"):
            score(RIGHT, problem(None, test=other, entry_point="f"), LIMITS)
    with pytest.raises(Unavailable, match="cannot be worked out: judged.go:.*overflows"):
        score(RIGHT, with_tests(("f(3)", "10000000000000000000000")), LIMITS)


@with_go
def test_a_limit_that_our_own_run_hits_is_not_put_down_to_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "OURS", Limits(timeout_s=0.2))
    endless = with_tests(("f(5)", "func() int { for { } }()"))
    verdict = judge(endless, RIGHT, LIMITS)
    assert verdict.status == "unscored" and "cannot be worked out" in verdict.detail
    monkeypatch.undo()
    assert judge(with_tests(("f(5)", "25")), RIGHT, LIMITS).status == "accepted"


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
