"""Whose fault it is: whatever a program answers or holds, it is the program's, and never ours."""

from typing import Any

import pytest

from symbol_llm.ground.params import Limits
from symbol_llm.judging.verify import judge
from tests import problems

LIMITS = Limits(timeout_s=1)
ANSWERS = (
    "10**5000", "1e999", "'1e999'", "'9' * 5000", "'\\ud800'", "float('nan')", "complex(1e308, 1e308) * 10", "[[[[]]]] * 5",
    "'exp(exp(exp(20)))'", "'9**9**9**9'", "'factorial(10**9)'", "'2**(3**(4**5))'", "'1e999999999'", "'(' * 400",
    "'-' * 499 + '1'", "'\\x00'", "'sqrt(' * 90 + '2' + ')' * 90", "'\\\\frac{1}{' * 50 + '2' + '}' * 50", "'x±' * 200",
    "'[0,1)∪' * 50", "'{' * 500", "'x' * 10**6", "['x'] * 10**6", "{1: 2}", "{1, 'a', None}", "b'\\xff'", "lambda: 1",
    "__import__('decimal').Decimal('1E+999999')", "__import__('decimal').Decimal('sNaN')",
    "__import__('fractions').Fraction(10**5000, 3)", "__import__('sympy').Integer(10)**6000", "__import__('sympy').zoo",
)  # fmt: skip
PROGRAMS = (
    "import sys\nsys.set_int_max_str_digits(0)\nanswer = 10**5000",
    "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nanswer = f(0)",
    "answer = []\nfor _ in range(10**5): answer = [answer]",
    "answer = []\nanswer.append(answer)",
    "import sys\nsys.stdout.write('\\ud800')",
    "raise RecursionError('\\ud800')",
    "class E(Exception):\n    def __str__(self): raise E\nraise E",
)
RESULTS = (
    "10**5000", "'\\ud800'", "{'\\ud800': 1}", "float('inf')", "complex('nan')", "b'\\xff' * 5000", "{frozenset([1]): 3}",
    "{1.0, float('nan')}", "__import__('decimal').Decimal('1e9999')",
)  # fmt: skip
PIECES = (
    "9" * 5000, "1e999", "\ud800", "(" * 3000 + ")" * 3000, "[" * 3000 + "]" * 3000, "{" * 3000, "a{9999999999}", "\x00",
    "(a{1000}){1000}", "𝟗" * 100, "٣" * 50, "\\ud800", "'" * 999, "[^" * 999, "(?P<" * 999, "/*" * 3000, "-" * 5000 + "1",
)  # fmt: skip


@pytest.mark.parametrize("gold", [17, "2*(x + 1)"])
@pytest.mark.parametrize("value", ANSWERS)
def test_an_answer_that_cannot_be_read_is_a_wrong_one(value: str, gold: Any) -> None:
    verdict = judge(problems.problem("python", answer=gold), f"answer = {value}", LIMITS, is_program=True)
    assert verdict.status in ("rejected", "timeout", "resource"), verdict.detail


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_cannot_end_well_is_a_wrong_one(program: str) -> None:
    verdict = judge(problems.problem("python", answer=17), program, LIMITS, is_program=True)
    assert verdict.status in ("rejected", "timeout", "resource"), verdict.detail


@pytest.mark.parametrize("wanted", ["42", "[1.5]", "{'a': 1.0}"])
@pytest.mark.parametrize("result", RESULTS)
def test_a_result_that_cannot_be_read_is_a_wrong_one(result: str, wanted: str) -> None:
    asked = problems.problem("python", answer=[wanted], environment={"function": "f", "calls": ["1"]})
    verdict = judge(asked, f"def f(x):\n    return {result}", LIMITS, is_program=True)
    assert verdict.status == "rejected", verdict.detail


@pytest.mark.parametrize("piece", PIECES, ids=range(len(PIECES)))
@pytest.mark.parametrize("name", ["calls", "choice", "commands", "go", "java", "python", "regex"])
def test_a_text_that_cannot_be_read_is_its_own_fault(name: str, piece: str) -> None:
    gold = problems.family(name).EXAMPLES[0]
    middle = len(gold.program) // 2
    for text in (piece, gold.program[:middle] + piece + gold.program[middle:], gold.program + piece):
        verdict = judge(gold.problem, text, LIMITS, is_program=True)
        assert verdict.status != "unscored", verdict.detail


@pytest.mark.parametrize("program", ["a:" * 16_000, "a: " * 10_900, "int f() {" + "a:" * 16_000 + ";}"])
def test_a_program_that_brings_the_parser_down_is_to_blame(program: str) -> None:
    """The grammar is C code and overflows the stack at a run of labels."""
    verdict = judge(problems.family("java").EXAMPLES[0].problem, program, LIMITS, is_program=True)
    assert verdict.status in ("resource", "unparsable", "timeout"), verdict.detail
