"""Small programs of arithmetic, run and made of formulas."""

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tasks.math.arithmetic import program_of, program_of_steps, run


def test_run_keeps_every_name():
    assert run("a = 3\nb = a * 4 - 2\nanswer = b / 4") == {"a": 3, "b": 10, "answer": 2.5}


@pytest.mark.parametrize(
    "program", ["answer = open('x')", "import os", "answer = 2 ** 9", "answer = b", "answer = 1 / 0", "=", "x"]
)
def test_run_refuses_all_but_arithmetic(program):
    with pytest.raises(InvalidInput):
        run(program)


def test_formula_with_a_call_is_no_program():
    assert program_of("__import__('os').getcwd()", 3) is None


def test_gsm8k_steps_use_earlier_results_by_name():
    steps = "She has 48/2 = <<48/2=24>>24. So 48+24 = <<48+24=72>>72 in all.\n#### 72"
    assert program_of_steps(steps, 72) == "step1 = 48 / 2\nanswer = 48 + step1"


@pytest.mark.parametrize(
    "text", ["no steps #### 5", "<<2+2=4>>4 #### 5", "<<2 apples=4>>4 #### 4", "<<2+a=4>>4 #### 4"]
)
def test_gsm8k_steps_that_do_not_give_the_answer_are_no_gold(text):
    assert program_of_steps(text, 5) is None
