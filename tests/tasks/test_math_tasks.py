"""Word problems: readers, arithmetic, generator."""

import random
import re

import pytest

from symbol_llm.errors import InvalidInput
from symbol_llm.records import Problem
from symbol_llm.tasks import get
from symbol_llm.tasks.math import TEMPLATES, generate, program_of, run


def read(name, folder) -> list[Problem]:
    return list(get(name).read(folder))


def test_gsm8k_answer_is_the_number_after_the_hashes(data_set):
    rows = [
        {"id": "g-0", "question": "Kai has 1,200 nuts and finds 50.", "answer": "1200+50=<<1200+50=1250>>\n#### 1,250"}
    ]
    train, test = read("gsm8k", data_set(rows, rows))
    assert (train.answer, train.split, train.source, train.program) == (1250, "train", "gsm8k g-0", None)
    assert test.split == "test"


def test_gsm8k_answer_without_hashes_names_file_line_and_field(data_set):
    good = {"id": "g-0", "question": "How many?", "answer": "#### -2.5"}
    folder = data_set([good, {**good, "answer": "It is 5."}], [])
    with pytest.raises(InvalidInput, match=r"train\.jsonl:2: answer: .*ends with '#### number'.*got 'It is 5\.'"):
        read("gsm8k", folder)


def test_svamp_joins_body_and_question_and_keeps_its_equation(data_set):
    row = {"id": "s-1", "Body": "Kai has 9 nuts", "Question": "How many are left if he eats 4?"}
    rest = {"Equation": "( 9.0 - 4.0 )", "Answer": 5.0}
    (problem,) = read("svamp", data_set([row | rest], []))
    assert problem.question == "Kai has 9 nuts. How many are left if he eats 4?"
    assert (problem.program, problem.answer) == ("answer = 9 - 4", 5)
    assert isinstance(problem.answer, int)


def test_svamp_equation_that_does_not_give_the_answer_is_no_gold(data_set):
    row = {"id": "s-1", "Body": "Kai has 9 nuts.", "Question": "How many?", "Equation": "( 9.0 + 4.0 )", "Answer": 5.0}
    assert read("svamp", data_set([row], []))[0].program is None


@pytest.mark.parametrize(
    ("answer", "formula", "value", "program"),
    [
        ("15 (balls)", "6+9=15", 15, "answer = 6 + 9"),
        ("1,250", "1200+50=1250", 1250, "answer = 1200 + 50"),
        ("40 (min)", "2 (hour)*20 (min/hour)=40 (min)", 40, "answer = 2 * 20"),
        ("1/4", "2/8=1/4", 0.25, "answer = 2 / 8"),
        ("6 (boxes)", "20/3=6 r2", 6, None),
        ("5 (plates)", "GCD(10,15)=5", 5, None),
        ("Yes", "4+5=9 > 8", None, None),
        ("5:6", "15:18=5:6", None, None),
        ("7 (ft); 9 (ft)", "x+y=16", None, None),
        ("3:30 p.m.", "3+0", None, None),
    ],
)
def test_asdiv_answer_and_formula(data_set, answer, formula, value, program):
    row = {"id": "a-1", "Body": "Kai counts.", "Question": "How many?", "Answer": answer, "Formula": formula}
    (problem,) = read("asdiv", data_set([row], []))
    assert (problem.answer, problem.program) == (value, program)


@pytest.mark.parametrize("name", ["singleop", "addsub", "singleeq", "multiarith"])
def test_mawps_part_keeps_its_number(data_set, name):
    rows = [{"id": f"{name}-0", "input": "Kai has 3 nuts and 4 figs. How many?", "target": 7.0}]
    train, _ = read(name, data_set(rows, rows))
    assert (train.task, train.answer, train.program) == (name, 7, None)


def test_mawps_target_that_is_no_number_is_refused(data_set):
    folder = data_set([], [{"id": "x", "input": "How many?", "target": "7"}])
    with pytest.raises(InvalidInput, match=r"test\.jsonl:1: target: .*expected a number, got '7'"):
        read("addsub", folder)


def test_row_without_a_field_names_the_field(data_set):
    with pytest.raises(InvalidInput, match=r"train\.jsonl:1: Question: field required"):
        read("svamp", data_set([{"id": "s", "Body": "b", "Equation": "1", "Answer": 1}], []))


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


def test_generated_answer_follows_from_the_program():
    for i in range(300):
        problem = generate(random.Random(i), 1 + i % 3)
        found: dict[str, float] = {}
        exec(problem.program, {}, found)  # our own templates
        assert found["answer"] == pytest.approx(problem.answer)
        assert problem.answer >= 0


def test_generated_programs_use_only_numbers_of_the_question_and_constants_of_the_template():
    constants = {number for template in TEMPLATES for number in re.findall(r"\d+", template.solution)}
    for i in range(300):
        problem = generate(random.Random(i), 1 + i % 3)
        given = set(re.findall(r"\d+(?:\.\d+)?", problem.question)) | constants
        assert set(re.findall(r"\d+(?:\.\d+)?", problem.program)) <= given, problem


def test_generated_problems_vary():
    problems = [generate(random.Random(i), 1 + i % 3) for i in range(200)]
    assert len({p.question for p in problems}) >= 195
    assert len({p.program for p in problems}) >= 180
    assert len(TEMPLATES) >= 30


def test_generated_problem_follows_from_its_random_state():
    assert generate(random.Random("a"), 2) == generate(random.Random("a"), 2)
    assert generate(random.Random("a"), 2) != generate(random.Random("b"), 2)


def test_worked_examples_are_arithmetic():
    assert [run(program)["answer"] for _, _, program in get("word_problems").shots] == [23, 19, 9, 48, 32]
