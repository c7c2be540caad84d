"""Programs of thought: which programs are the same, and which answers match gold."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.families.python import canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import ISOLATION
from tests.problems import problem as make

LIMITS = Limits(timeout_s=10)


def problem(answer: Any, **environment: Any) -> Problem:
    return make("python", answer=answer, environment=environment)


def accepts(program: str, answer: Any) -> bool:
    return score(program, problem(answer), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("0", 0),
        ("0.0", 0),
        ("-0.0", 0),
        ("3", 3.0),
        ("0.1 * 30", 3),
        ("1e12 + 0.2", 10**12),
        ("1/3", 0.33333),
        ("'1,200'", 1200),
        ("1200", "1,200"),
        ("'3/4'", 0.75),
        ("'2^3'", 8),
        ("__import__('sympy').pi / 3", 1.0471976),
        ("0.75", "3/4"),
        ("__import__('fractions').Fraction(3, 4)", "3/4"),
        ("__import__('fractions').Fraction(3, 4)", 0.75),
        ("__import__('decimal').Decimal('0.10')", 0.1),
        ("__import__('numpy').float64(2.5)", 2.5),
        ("__import__('numpy').arange(3)", [0, 1, 2]),
        ("10**30", 10**30),
        ("True", True),
        ("'  New   York '", "new york"),
        ("(1, 2.0, 'x')", [1, 2, "X"]),
        ("[[1], []]", [[1], []]),
        ("__import__('datetime').date(2024, 2, 29)", "2024-02-29"),
    ],
)
def test_values_that_match(value: str, answer: Any) -> None:
    assert accepts(f"answer = {value}", answer)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("1", 0),
        ("0", 0.00005),
        ("0.00005", 0),
        ("3.0002", 3),
        ("2.99995", 3),
        ("1e12 + 0.5", 10**12),
        ("0", 3e-36),
        ("0.0", 3e-36),
        ("0.333333", "1/3"),
        ("1e6 + 0.5", 1_000_000),
        ("10**30 + 1", 10**30),
        ("__import__('fractions').Fraction(333333, 10**6)", "1/3"),
        ("float('nan')", 0),
        ("float('inf')", 10**400),
        ("float('inf')", "inf"),
        ("None", 0),
        ("None", "None"),
        ("True", 1),
        ("1", True),
        ("'True'", True),
        ("''", 0),
        ("'1,20'", 120),
        ("[3]", 3),
        ("3", [3]),
        ("[1, 2]", [2, 1]),
        ("[1]", [1, 2]),
        ("'a'", "b"),
        ("'42 or 43'", 42),
        ("{1}", 1),
        ("lambda: 1", 1),
    ],
)
def test_values_that_do_not_match(value: str, answer: Any) -> None:
    assert not accepts(f"answer = {value}", answer)


@pytest.mark.parametrize(
    ("value", "answer", "same"),
    [
        ("2*x + 2", "2*(x + 1)", True),
        ("sympy.sin(x)**2 + sympy.cos(x)**2", "1", True),
        ("sympy.sqrt(8)", "2*sqrt(2)", True),
        ("8 ** 0.5", "2*sqrt(2)", True),
        ("'x^2 + 1'", "1 + x**2", True),
        ("sympy.Rational(3, 4)", 0.75, True),
        ("sympy.Integer(7)", 7, True),
        ("(x, 2)", "[x, 2]", False),
        ("[x, 2]", "[x, 2]", True),
        ("2*x + 1", "2*(x + 1)", False),
        ("sympy.Symbol('y')", "x", False),
        ("sympy.nan", 0, False),
        ("sympy.oo", "oo", False),
        ("'__import__(\"os\").getcwd() + x'", "x + 1", False),
    ],
)
def test_expressions_are_compared_as_mathematics(value: str, answer: Any, same: bool) -> None:
    assert accepts(f"import sympy\nx = sympy.Symbol('x')\nanswer = {value}", answer) is same


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("1024", "2^10"),
        ("40", "(3^4-1)/2"),
        ("math.pi", "pi"),
        ("math.e ** 2", "e^2"),
        ("abs(-3) + 2 * abs(4)", "|-3|+2|4|"),
        ("'abs(x - 1)'", "|1-x|"),
        ("sympy.Abs(sympy.Abs(x) - 1)", "||x|-1|"),
        ("'|x - 1|'", r"\left|x-1\right|"),
        ("'Abs(x) / 2'", r"\frac{\lvert x\rvert}{2}"),
        ("'max(x, 2)'", r"\max(2, x)"),
        ("'asin(1/2)'", "arcsin(1/2)"),
        ("3.75", r"3\frac{3}{4}"),
        ("Fraction(15, 4)", "3 3/4"),
        ("-2.5", r"-2\frac12"),
        ("'15/4'", r"3\frac{3}{4}"),
        ("math.sqrt(3) / 2", r"\frac{\sqrt{3}}{2}"),
        ("2 ** (1/3)", r"\sqrt[3]{2}"),
        ("90", r"90^\circ"),
        ("50", r"50\%"),
        ("0.5", r"50\%"),
        ("'50%'", r"50\%"),
        ("32348", r"\$32,\!348"),
        ("5", r"5\text{ cm}"),
        ("'5 cm'", r"5\text{ cm}"),
        ("3 + 4j", "3+4i"),
        ("'4i + 3'", "3+4i"),
        ("sympy.I * 4 + 3", "3+4i"),
        ("1j", "i"),
        ("[[1, 2], [3, 4]]", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        ("sympy.Matrix([[1, 2], [3, 4]])", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"),
        ("3", "x=3"),
        ("'x = 3'", "x=3"),
        ("sympy.Eq(x, 3)", "x=3"),
        ("'4x + 6y = 10'", "2x+3y=5"),
        ("'2x + 3y - 5 = 0'", "2x+3y=5"),
        ("'[0, 1)'", "[0,1)"),
        ("sympy.Interval.Ropen(0, 1)", "[0,1)"),
        ("(0, 1)", "(0,1)"),
        ("[0, 1]", "[0,1]"),
        ("sympy.Interval(0, 1)", r"x \in [0,1]"),
        ("sympy.Interval.open(-sympy.oo, 3)", "x < 3"),
        (
            "sympy.Union(sympy.Interval.open(2, sympy.oo), sympy.Interval.open(-sympy.oo, 1))",
            r"(-\infty,1) \cup (2,\infty)",
        ),
        ("{2, 1}", r"\{1,2\}"),
        ("[2, 1]", "1,2"),
        ("[2, 1]", r"\{1, 2\}"),
        ("sympy.FiniteSet(1, 2)", "2, 1"),
        ("{1, 2}", [1, 2]),
        ("[1 - 2**0.5, 1 + 2**0.5]", r"1 \pm \sqrt{2}"),
        ("(1, 2)", "x=1, y=2"),
        ("15", r"\sum_{k=1}^{5} k"),
        ("sympy.Sum(x, (x, 1, 5))", 15),
        ("sympy.Integral(x, (x, 0, 2))", 2),
        ("1/3", r"0.\overline{3}"),
        ("120", "5!"),
        ("'Evelyn'", r"\text{Evelyn}"),
        ("'even'", r"\text{Even}"),
        ("'12_8'", "12_{8}"),
        ("'2*a*b*c'", "2cba"),
    ],
)
def test_gold_of_mathematics_is_read(value: str, answer: Any) -> None:
    program = f"import math, sympy\nfrom fractions import Fraction\nx = sympy.Symbol('x')\nanswer = {value}"
    assert accepts(program, answer)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("1025", "2^10"),
        ("7", "|-3|+2|4|"),
        ("'x - 1'", "|x-1|"),
        ("'|x + 1|'", "|x-1|"),
        ("'||x - 1||'", "||x|-1|"),
        ("'min(2, x)'", r"\max(2, x)"),
        ("'{x | x > 1}'", "{x | x > 0}"),
        ("'a'", "a|b"),
        ("2.25", r"3\frac{3}{4}"),
        ("3.14", "pi"),
        ("22/7", r"\pi"),
        ("3 - 4j", "3+4i"),
        ("'5 m'", r"5\text{ cm}"),
        ("'5%'", r"50\%"),
        ("'y = 3'", "x=3"),
        ("'0*x = 0'", "2x+3y=5"),
        ("'2x + 3y = 6'", "2x+3y=5"),
        ("'(0, 1)'", "[0,1)"),
        ("(0, 1)", "[0,1]"),
        ("'(0, 1]'", "[0,1)"),
        ("sympy.Interval(0, 1)", "(0,1)"),
        ("(2, 1)", "(1,2)"),
        ("{1, 2}", "(1,2)"),
        ("[1, 1]", r"\{1,2\}"),
        ("[1]", "1,2"),
        ("[1, 2, 3]", "1,2"),
        ("{1, 2}", [2, 1]),
        ("(2, 1)", "x=1, y=2"),
        ("[[1, 3], [2, 4]]", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        ("'x > 3'", "x < 3"),
        ("'x <= 3'", "x < 3"),
        ("14", r"\sum_{k=1}^{5} k"),
        ("1983", "2024-12-29"),
        ("'act'", "cat"),
        ("1", "1 million"),
        ("42", "42 or 43"),
        ("10", "1 0"),
        ("1000", "1,00"),
    ],
)
def test_gold_of_mathematics_is_not_what_is_near(value: str, answer: Any) -> None:
    assert not accepts(f"import sympy\nanswer = {value}", answer)


@pytest.mark.parametrize(
    "program",
    [
        "def solution():\n    return 5",
        "answer = 4\ndef solution():\n    return 5",
        "def solution(): return 5\nanswer = 4",
        "if __name__ == '__main__':\n    answer = 5",
        "import math\nanswer = math.isqrt(25)",
    ],
)
def test_solution_wins_over_answer(program: str) -> None:
    assert accepts(program, 5)


def test_modules_the_problem_names_are_there() -> None:
    assert score("answer = math.isqrt(25)", problem(5, imports=["math"]), LIMITS).score == 1.0
    assert score("answer = math.isqrt(25)", problem(5), LIMITS).score == 0.0


def test_a_value_that_lies_about_itself_is_data() -> None:
    lie = (
        "class Lie(int):\n    def __eq__(self, other): return True\n    def __repr__(self): return '5'\nanswer = Lie(4)"
    )
    assert not accepts(lie, 5)
    assert accepts(lie, 4)


def test_a_forged_value_nested_beyond_reason_is_rejected() -> None:
    forged = '{"status": "ok", "stdout": "", "value": ' + '["list", [' * 400 + "]]" * 400 + "}\n"
    assert not accepts(f"import os\nos.write(0, {forged.encode()!r})", [])


def test_equal_values_run_to_equal_text() -> None:
    texts = {run(f"answer = {value}", problem(None), LIMITS).value for value in ("17", "17.0", "34 / 2", "170 * 0.1")}
    assert texts == {"17"}
    assert run("answer = None", problem(None), LIMITS) == (None, "the answer is None", ISOLATION)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a = 1\nanswer = a", "# one\nx=1;answer=(x)"),
        ("import math, json\nanswer = 1", "import json\nimport math\nanswer = 1"),
        ("import math\nanswer = math.pi", "import math as m\nanswer = m.pi"),
        ("def solution():\n    'Doc.'\n    n = 'x'\n    return n", 'def solution():\n    k = "x"\n    return k'),
        ("answer = sum(i for i in [1])", "answer = sum(j for j in [1])"),
        ("def f(a, *b): return a\nanswer = f(1)", "def g(x, *y): return x\nanswer = g(1)"),
    ],
)
def test_layout_comments_and_local_names_do_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a = 1\nb = 2\nanswer = a", "a = 1\nb = 2\nanswer = b"),
        ("answer = 1", "answer = 1.0"),
        ("answer = abs(-1)", "answer = int(-1)"),
        ("def f(a): return a\nanswer = f(a=1)", "def f(b): return b\nanswer = f(a=1)"),
        ("a = 1\nanswer = eval('a')", "b = 1\nanswer = eval('a')"),
        ("a = 1\nanswer = a", "answer = 1\na = answer"),
        ("def g(a): return a\nx = 1\nanswer = g(x)", "def g(a): return x\nx = 1\nanswer = g(x)"),
        ("from math import *\nfrom cmath import *\nanswer = 1", "from cmath import *\nfrom math import *\nanswer = 1"),
    ],
)
def test_programs_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("answer = (", r"line 1, column 10: '\(' was never closed"),
        ("x = 1\n  y = 2", "line 2, column .: unexpected indent"),
        ("answer = 1\0", "null bytes"),
        ("answer = " + "-" * 50_000 + "1", "not Python"),
        ("answer = " + "9" * 5000, "line 1"),
    ],
)
def test_ill_formed_programs_are_refused_with_the_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_odd_escapes_are_not_errors() -> None:
    assert accepts("import re\nanswer = len(re.findall('\\d', 'a1b2'))", 2)


def function_problem(calls: list[str], results: list[str]) -> Problem:
    return problem(results, function="f", calls=calls)


@pytest.mark.parametrize(
    ("body", "calls", "results", "right"),
    [
        ("return xs[::-1]", ["[1, 2]", "[]", "'ab'"], ["[2, 1]", "[]", "'ba'"], True),
        ("return xs[::-1]", ["[1, 2]", "[1]"], ["[2, 1]", "[2]"], False),
        ("return tuple(xs)", ["[1, 2]"], ["[1, 2]"], False),
        ("return {x: len(x) for x in xs}", ["['a', 'bc']"], ["{'bc': 2, 'a': 1}"], True),
        ("return {(x, 1) for x in xs}", ["[3, 4]"], ["{(4, 1), (3, 1)}"], True),
        ("return sum(xs) / 3", ["[1]", "[0.1, 0.2]"], ["0.3333333", "0.1"], True),
        ("return sum(xs)", ["[1, 2]"], ["3.0"], True),
        ("return 1500000.5", ["1"], ["1500000"], False),
        ("return 1500000.5", ["1"], ["1500000.0"], False),
        ("return complex(0.1 + 0.2, 1)", ["1"], ["0.3+1j"], True),
        ("return 10**30 + xs", ["1"], ["1000000000000000000000000000000"], False),
        ("return 'Ab'", ["1"], ["'ab'"], False),
        ("return '3'", ["1"], ["3"], False),
        ("return None", ["1"], ["None"], True),
        ("return", ["1"], ["0"], False),
        ("return xs > 1", ["1", "2"], ["False", "True"], True),
        ("return 1 / xs", ["1", "0"], ["1.0", "0"], False),
        ("return float('nan')", ["1"], ["0.0"], False),
        ("return object()", ["1"], ["1"], False),
        ("return [[]] * 2", ["1"], ["[[], []]"], True),
    ],
)
def test_functions_are_judged_by_what_their_calls_give(
    body: str, calls: list[str], results: list[str], right: bool
) -> None:
    assert score(f"def f(xs):\n    {body}", function_problem(calls, results), LIMITS).score == float(right)


def test_a_function_of_two_arguments_and_of_none() -> None:
    assert score("def f(a, b):\n    return a - b", function_problem(["5, 3"], ["2"]), LIMITS).score == 1.0
    assert score("def f():\n    return 2", function_problem([""], ["2"]), LIMITS).score == 1.0


def test_a_call_cannot_spoil_the_arguments_of_the_next() -> None:
    program = "def f(xs):\n    xs.append(1)\n    return xs"
    assert score(program, function_problem(["[]", "[]"], ["[1]", "[1]"]), LIMITS).score == 1.0


@pytest.mark.parametrize(
    "program",
    [
        # Nothing in the child knows the results, so that the best a program can do is to look for them, or to guess.
        "import sys\nwanted = sys._getframe(1).f_locals['args'].get('answer')\ndef f(x): return int(wanted[0])",
        "import gc\nfound = [o for o in gc.get_objects() if isinstance(o, list) and '1764' in o]\n"
        "def f(x): return int(found[0][0])",
        "class Any:\n    def __eq__(self, other): return True\n    def __call__(self, x): return self\nf = Any()",
        "import symbol_llm.sandbox.interpreter as interpreter\ninterpreter._encode_result = lambda value, depth=0: ['any', 1]\n"
        "def f(x): return 0",
        "import symbol_llm.families.python as family\nfamily._equals = lambda a, b: True\ndef f(x): return 0",
        'import os\nos.write(0, b\'{"status": "ok", "stdout": "", "value": true}\\n\')\ndef f(x): return 0',
        "def f(x):\n    raise SystemExit(0)",
    ],
)
def test_forged_results_of_calls_are_rejected(program: str) -> None:
    assert score(program, function_problem(["42"], ["1764"]), LIMITS).score == 0.0


@pytest.mark.parametrize("value", ['["dict", [1]]', '["set", [["list", []]]]', '["bytes", "f()"]', '["tuple", 3]', "7"])
def test_a_malformed_result_is_no_value(value: str) -> None:
    forged = f'{{"status": "ok", "stdout": "", "value": ["list", [{value}]]}}\n'
    program = f"import os\nos.write(0, {forged.encode()!r})\ndef f(x): return 1"
    assert score(program, function_problem(["42"], ["2"]), LIMITS).score == 0.0


@pytest.mark.parametrize(("calls", "results"), [(["1"], []), ([], []), (["1"], ["f()"])])
def test_a_function_problem_without_matching_results_is_ours_to_mend(calls: list[str], results: list[str]) -> None:
    with pytest.raises(InvalidInput):
        score("def f(x): return x", function_problem(calls, results), LIMITS)


def test_running_a_function_shows_its_results() -> None:
    ran = run("def f(x):\n    return [x, None]", function_problem(["1", "'a'"], ["0", "0"]), LIMITS)
    assert ran.value == "[1, None], ['a', None]"


def test_names_that_a_module_offers_count() -> None:
    assert canonical("def f(a):\n    return a") == canonical("def f(b):\n    return b")
    assert canonical("def f(a):\n    return a") != canonical("def g(a):\n    return a")
    assert canonical("f = len") != canonical("g = len")


def test_form_is_compared_where_there_is_no_test() -> None:
    gold = make("python", program="def f(a):\n    'Add.'\n    return a + 1", environment={"compare": "form"})
    assert score("def f(x):  # same\n    return x + 1", gold, LIMITS).score == 1.0
    assert score("def f(x):\n    return 1 + x", gold, LIMITS).score == 0.0
    with pytest.raises(InvalidInput, match="gold"):
        score("def f(x): return x", make("python", program="def", environment={"compare": "form"}), LIMITS)


def test_a_result_that_prints_as_what_no_literal_is_is_rejected() -> None:
    asked = make("python", answer=["b'x'"], environment={"function": "f", "calls": ["1"]})
    program = "class Text(bytes):\n    __repr__ = lambda self: '{[]: 1}'\ndef f(n):\n    return Text()"
    assert score(program, asked, LIMITS).score == 0.0


def test_a_mutant_is_off_by_less_than_any_whole_number() -> None:
    assert "answer = 1500000 + 0.5" in mutants("answer = 1500000", random.Random(0))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abx=+-*/()[]{}:,.'\" \n0123456789#\\@", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        assert canonical(text) == canonical(text + "\n# comment")
    except Unparsable as e:
        assert str(e)
