"""Java: local names and layout do not count, all else does, unless tests tell; without a JDK they leave a verdict open."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.problems import EXTRA

pytest.importorskip("tree_sitter_java", reason=EXTRA)

from symbol_llm.families.java import _HEAD, _wanted, canonical, mutants, run, score
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
        (method("int a = (n + 1); a = (n); return ((a));"), method("int a = n + 1; a = n; return a;")),
        (
            method("if ((n > 1)) g((n - 1)); return (n > 1) ? n : 1;"),
            method("if (n > 1) g(n - 1); return n > 1 ? n : 1;"),
        ),
        (method("for (final String s : ss) g(s);", "int f(final int n)"), method("for (String s : ss) g(s);")),
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
        (method("return (n + 1) * 2;"), method("return n + 1 * 2;")),
        (method("return (n > 1 ? true : false) ? 1 : 2;"), method("return n > 1 ? true : false ? 1 : 2;")),
        (method("return -(n - 1);"), method("return -n - 1;")),
        (method("int a = 1; (a)++;"), method("int a = 1; a++;")),
        (method('final String a = "x";'), method('String a = "x";')),
        ("class A { final int k = 1; int f() { return k; } }", "class A { int k = 1; int f() { return k; } }"),
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


def test_tests_that_cannot_be_run_leave_another_form_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
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


# --- tests that are run -----------------------------------------------------------------------------------------------

with_jdk = pytest.mark.skipif(toolchain.jdk("Judged") is None, reason="no JDK: apt-get install default-jdk-headless")


def with_tests(*cases: tuple[str, str, str]) -> Problem:
    """Give a problem whose tests are (type, call, result), written as MBXP does."""
    text = "\n".join(
        f"        {kind} x{n} = {call};\n        {kind} v{n} = {result};\n        if (!(compare(x{n}, v{n}))) {{\n"
        f'            throw new java.lang.Exception("case {n}: " + x{n});\n        }}\n'
        for n, (kind, call, result) in enumerate(cases)
    )
    return problem(None, test=f"{_HEAD}{text}\n}}\n}}\n", entry_point="f")


SQUARES = with_tests(("int", "A.f(3)", "9"), ("int", "A.f(-4)", "16"))
RIGHT = method("return n * n;")


@with_jdk
@pytest.mark.parametrize(
    "program",
    [
        f"public {RIGHT} class B {{ }}",
        f"import java.util.*;\n{RIGHT} class Main {{ public static void main(String[] args) {{ }} }}",
        f"{RIGHT} class String {{ }} class List {{ }} class Objects {{ }}",
        method("System.out.println(n); System.err.print(n); new Thread(() -> { for (;;); }).start();"
               " Runtime.getRuntime().addShutdownHook(new Thread(() -> { for (;;); })); return n * n; /* é */"),
        method("var squares = java.util.stream.IntStream.range(0, 9).map(i -> i * i).toArray(); return squares[Math.abs(n)];"),
    ],
)  # fmt: skip
def test_another_form_is_accepted_where_its_tests_pass(program: str) -> None:
    assert score(program, SQUARES, LIMITS)[:3] == (1.0, "[9, 16]", ISOLATION)


@with_jdk
@pytest.mark.parametrize(
    ("program", "value"),
    [
        (method("return n * 3;"), "[9, -12]"),
        (method("return m * n;"), "Program.java:1: error: cannot find symbol"),
        (method("return n * n;", "long f(int n)"), "Judged.java:25: error: incompatible types: possible lossy conversion from long to int"),
        (f"package a; {RIGHT}", "error: "),
        (RIGHT[RIGHT.index("static") : -2], "error: "),
        (f"class Judged {{ }} {RIGHT}", "Judged.java:5: error: duplicate class: Judged"),
        (method("return n / 0;"), "error: java.lang.ArithmeticException: / by zero"),
        (method("return f(n);"), "error: java.lang.StackOverflowError"),
        (RIGHT.replace("int k;", "static { System.exit(0); }"), "ended before it gave a result"),
        (method("System.exit(3); return 0;"), "ended with status 3"),
        (method("return new java.io.File(\"/tmp\").list() == null ? 0 : n * n;"), "[0, 0]"),
        (method("return ProcessHandle.current().parent().map(p -> p.destroyForcibly()).orElse(false) ? n * n : 0;"), "[0, 0]"),
    ],
)  # fmt: skip
def test_what_is_not_built_or_gives_something_else_is_rejected(program: str, value: str) -> None:
    result = score(program, SQUARES, LIMITS)
    assert result.score == 0.0
    assert value in (result.value or "")


def claiming(line: str, status: int = 0) -> str:
    """Give a program that says `line` for itself and ends with `status` before its function is called."""
    says = f'new java.io.FileOutputStream(java.io.FileDescriptor.out).write("{line}\\n".getBytes());'
    return RIGHT.replace("int k;", f"static {{ try {{ {says} }} catch (Exception e) {{ }} System.exit({status}); }}")


@with_jdk
def test_a_claim_is_worth_what_it_says() -> None:
    mark = toolchain.MARK.replace("\x02", "\\u0002")
    for line in ("[9, 16]", f"{mark}[9, 16, 25]", f"{mark}[*]"):
        assert score(claiming(line), SQUARES, LIMITS).score == 0.0
    assert score(claiming(f"{mark}[9, 16]"), SQUARES, LIMITS).score == 1.0


@with_jdk
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("for (;;);", "timeout"),
        ("for (;;) new Thread(() -> { for (;;); }).start();", "timeout or resource"),
        ("var all = new java.util.ArrayList<byte[]>(); for (;;) all.add(new byte[1 << 20]);", "resource"),
        ("var all = new java.util.ArrayList<Object>(); for (;;) all.add(java.nio.ByteBuffer.allocateDirect(1 << 20));", "resource"),
        ("var out = new java.io.FileOutputStream(java.io.FileDescriptor.out); for (;;) out.write(new byte[1 << 16]);", "resource"),
        ("new java.io.FileOutputStream(\"f\").write(new byte[3000000]); return n * n;", "rejected"),
        ("Runtime.getRuntime().exec(\"/bin/true\"); return n * n;", "rejected"),
        ("java.nio.file.Files.readAllBytes(java.nio.file.Path.of(\"/etc/passwd\")); return n * n;", "rejected"),
        ("new java.io.FileOutputStream(\"/tmp/symbol-llm-escaped-java\"); return n * n;", "rejected"),
        ("new java.net.ServerSocket(0); return n * n;", "rejected"),
        ("new java.net.Socket(\"127.0.0.1\", 80); return n * n;", "rejected"),
        ("var u = sun.misc.Unsafe.class.getDeclaredField(\"theUnsafe\"); u.setAccessible(true);"
         " ((sun.misc.Unsafe) u.get(null)).putLong(0, 1); return n * n;", "rejected"),
    ],
)  # fmt: skip
def test_a_hostile_program_is_contained_and_the_next_is_judged_right(body: str, status: str) -> None:
    """Only what never ends is given little time: the others end by themselves, however slow the machine is.

    Threads without number run out of time or out of threads, whichever comes first with so many cores.
    """
    hostile = method(body, "int f(int n) throws Exception")
    limits = Limits(timeout_s=2) if "timeout" in status else LIMITS
    assert judge(SQUARES, hostile, limits).status in status.split(" or ")
    assert not Path("/tmp/symbol-llm-escaped-java").exists()
    assert judge(SQUARES, RIGHT, LIMITS).status == "accepted"


@with_jdk
@pytest.mark.parametrize(
    "complaint",
    [
        "# There is insufficient memory for the Java Runtime Environment to continue.",
        "java.lang.OutOfMemoryError: unable to create native thread",
    ],
)
def test_a_machine_that_says_it_is_out_of_memory_was_stopped_by_a_limit(complaint: str) -> None:
    """The JVM words it by where the memory gave out first, which a test cannot choose: so the program says it."""
    assert judge(SQUARES, claiming(complaint, status=1), LIMITS).status == "resource"


VALUES = [  # type, what the program gives, what equals it, what does not
    ("long", "3L", "3", "4"),
    ("Object", "3", "3", "3L"),
    ("double", "0.1 + 0.2", "0.30000000000000004", "0.3"),
    ("Double", "-0.0", "-0.0", "0.0"),
    ("double", "Double.NaN", "0.0 / 0.0", "1.0 / 0.0"),
    ("Object", "2f", "2f", "2.0"),
    ("Object", "'a'", "'a'", '"a"'),
    ("String", '"a\\"é"', '"a\\"\\u00e9"', '"a\\"e"'),
    ("Object", "null", "null", '"null"'),
    ("Object", 'new BigDecimal("1.0")', 'new BigDecimal("1.0")', 'new BigDecimal("1.00")'),
    ("List<Object>", "new LinkedList<Object>(Arrays.asList(1, null))", "Arrays.asList(1, null)", "Arrays.asList(null, 1)"),
    ("Object", "new TreeSet<>(Arrays.asList(3, 1, 2))", "new HashSet<>(Arrays.asList(1, 2, 3))", "Arrays.asList(1, 2, 3)"),
    ("Object", 'new TreeMap<>(Map.of("b", 1, "a", 2))', 'new HashMap(){{put("b", 1); put("a", 2);}}', 'Map.of("a", 1, "b", 2)'),
    ("Object", "Map.of()", "new HashMap<>()", "new HashSet<>()"),
]  # fmt: skip


@with_jdk
def test_results_are_equal_as_java_finds_them() -> None:
    functions = " ".join(f"static {kind} f{n}() {{ return {gives}; }}" for n, (kind, gives, _, _) in enumerate(VALUES))
    program = f"import java.util.*; import java.math.*; class A {{ {functions} static void f() {{ }} }}"
    equal = with_tests(*((kind, f"A.f{n}()", same) for n, (kind, _, same, _) in enumerate(VALUES)))
    unequal = with_tests(*((kind, f"A.f{n}()", other) for n, (kind, _, _, other) in enumerate(VALUES)))
    found = score(program, equal, LIMITS)
    assert found.score == 1.0
    assert found.value == (
        "[3L, 3, 0.30000000000000004d, -0.0d, NaNd, 2.0f, 'a', \"a\\u0022\\u00e9\", null, 1.0m, [1, null], set[1, 2, 3],"
        ' map["a": 2, "b": 1], map[]]'
    )
    jdk = toolchain.jdk("Judged")
    assert jdk is not None
    assert _wanted(unequal.environment["test"], jdk) == (
        '[4L, 3L, 0.3d, 0.0d, Infinityd, 2.0d, "a", "a\\u0022e", "null", 1.00m, [null, 1], [1, 2, 3],'
        ' map["a": 1, "b": 2], set[]]'
    )


@with_jdk
def test_an_object_that_is_equal_to_everything_is_not() -> None:
    program = (
        "class A { static Object f() { return new java.util.ArrayList<Object>() {"
        " public boolean equals(Object o) { return true; } }; } }"
    )
    assert score(program, with_tests(("Object", "A.f()", "Arrays.asList(1)")), LIMITS).value == "[[]]"
    assert "is not compared" in str(score(program.replace("java.util.ArrayList<Object>", "Object"), with_tests(("Object", "A.f()", "1")), LIMITS))  # fmt: skip


@with_jdk
def test_tests_of_another_shape_leave_another_form_open() -> None:
    test = SQUARES.environment["test"]
    for other in (
        test.replace("obj1.equals(obj2)", "true"),
        test.replace("int v1", "int w1"),
        test.replace("v0 = 9;", "v0 = 9"),
        "class Main { }",
    ):
        with pytest.raises(Unavailable, match="shape"):
            score(RIGHT, problem(None, test=other, entry_point="f"), LIMITS)
    with pytest.raises(Unavailable, match="cannot be worked out: Judged.java:25: error: incompatible types"):
        score(RIGHT, with_tests(("int", "A.f(3)", '"9"')), LIMITS)


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
