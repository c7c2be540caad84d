"""Word problems: readers, arithmetic, generator."""

import keyword
import random
import re

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Problem
from symbol_llm.tasks import get
from symbol_llm.tasks.math import (
    ANSWERS,
    MATH,
    TEMPLATES,
    generate,
    number_of,
    value_of_latex,
)
from symbol_llm.tasks.math.arithmetic import run
from symbol_llm.tasks.math.stories import NAMES, THINGS


def read(name, folder) -> list[Problem]:
    return list(get(name).read(folder))


def test_gsm8k_answer_is_the_number_after_the_hashes(data_set):
    rows = [
        {"id": "g-0", "question": "Kai has 1,200 nuts and finds 50.", "answer": "1200+50=<<1200+50=1250>>\n#### 1,250"}
    ]
    train, test = read("gsm8k", data_set(rows, rows))
    assert (train.answer, train.split, train.source, train.program) == (
        1250,
        "train",
        "gsm8k g-0",
        "answer = 1200 + 50",
    )
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
        problem = generate(random.Random(i), 1 + i % 2)
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


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("27", 27),
        ("$1,250.50", 1250.5),
        ("Rs. 4000", 4000),
        ("10,80,000", 1080000),
        ("25 %", 25),
        ("4 1/3 km/h", 13 / 3),
        ("3/4", 0.75),
        ("-16.2", -16.2),
        ("88,000$.", 88000),
        ("x=14", 14),
        ("None of these", None),
        ("2:3", None),
        ("12.1 million", None),
        ("40*pi", None),
        ("4^5", None),
        ("5K/4", None),
        ("59, 43", None),
        ("11:53", None),
        ("7!", None),
    ],
)
def test_option_counts_as_its_number(option, value):
    assert number_of(option) == pytest.approx(value) if value is not None else number_of(option) is None


def test_aqua_answer_is_the_right_option_and_options_stay_hidden(data_set):
    row = {"id": "q-0", "question": "What is 3 * 5?", "options": ["A)15 km", "B)8 km"], "rationale": "", "correct": "A"}
    told = {**row, "question": "Which of the following is 3 * 5?"}
    hidden, shown = read("aqua", data_set([row, told], []))
    assert (hidden.answer, hidden.program, hidden.context) == (15, None, "")
    assert shown.context == "Options: A)15 km; B)8 km"


def test_aqua_cot_options_are_cut_off_the_question(data_set):
    row = {"id": "q", "question": "How many?\\nOptions:\\n(A) 4\\n(B) 7 sec\\n(C) 5", "answer": "(B)", "rationale": ""}
    (problem,) = read("aqua_cot", data_set([row], []))
    assert (problem.question, problem.answer) == ("How many?", 7)


@pytest.mark.parametrize(
    ("latex", "value"),
    [
        ("12", 12),
        ("-0.5", -0.5),
        ("1,200", 1200),
        (r"\frac{3}{4}", "3/4"),
        (r"-\dfrac{1}{2}", "-1/2"),
        (r"\frac34", "3/4"),
        (r"3\sqrt{2}", "3*sqrt(2)"),
        (r"\frac{\sqrt{3}}{2}", "((sqrt(3))/(2))"),
        (r"2\pi", "2*pi"),
        (r"\left(1, 2\right)", [1, 2]),
        (r"1,-3", [1, -3]),
        (r"\$5.50", 5.5),
        (r"45^\circ", 45),
        (r"12\text{ cm}^2", 12),
        (r"\text{(B)}", "B"),
        ("x=4", 4),
        ("x^2+2x", "x^2+2*x"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", None),
        ("", None),
    ],
)
def test_boxed_answer_becomes_a_value(latex, value):
    assert value_of_latex(latex) == value


def test_math_answer_stands_in_the_last_box(data_set):
    row = {
        "problem": "Find x.",
        "solution": r"So \boxed{7}, no: $\boxed{\frac{1}{2}}$.",
        "level": "Level 1",
        "type": "Algebra",
    }
    (problem,) = read("math", data_set([row], []))
    assert (problem.answer, problem.program, problem.source) == ("1/2", None, "math 0")


def test_gsm_hard_is_for_evaluation_and_needs_no_train_file(data_set):
    row = {"id": "h-0", "input": "How many?", "code": "\ndef solution():\n    return 4\n\n", "target": 4.0}
    folder = data_set([], [row])
    (folder / "train.jsonl").unlink()
    (problem,) = read("gsm_hard", folder)
    assert (problem.split, problem.answer, problem.program) == ("test", 4, "def solution():\n    return 4")


def test_mathqa_body_becomes_the_program_and_its_test_the_answer(data_set):
    body = "    n0 = 6.0\n    answer = n0 * 2.0\n    return answer\n"
    row = {
        "id": "m-0",
        "description": "twice 6 ?",
        "canonical_solution": body,
        "test": "assert compare(candidate(), 12.0)\n",
    }
    (problem,) = read("mathqa_python", data_set([row], []))
    assert (problem.answer, problem.program) == (12, "n0 = 6.0\nanswer = n0 * 2.0")


@pytest.mark.parametrize("answer", [1.5, 3, True, [0, 5], "(b)"])
def test_theoremqa_rows_are_test_rows_whatever_their_file(data_set, answer):
    (problem,) = read("theoremqa", data_set([{"id": "t-0", "Question": "What?", "Answer": answer}], []))
    assert problem.split == "test"
    assert (problem.answer, type(problem.answer)) == (answer, type(answer))


@pytest.mark.parametrize("name", ["gsm8k", "aqua", "math"])
def test_generated_program_gives_the_answer_found_another_way(name):
    for i in range(240):
        problem = get(name).generate(random.Random(i), 1 + i % 3)
        found: dict[str, float] = {}
        exec(problem.program, found)  # our own templates
        expected = found["answer"] if isinstance(problem.answer, str) else problem.answer
        assert found["answer"] == pytest.approx(expected), problem
        assert not isinstance(problem.answer, str) or str(found["answer"]) == problem.answer


def test_every_kind_of_mathematics_can_be_answered_and_no_other():
    assert {kind.kind for kind in MATH} == set(ANSWERS)


def test_no_name_of_a_story_is_a_word_of_python():
    assert not any(keyword.iskeyword(name.lower()) or name.lower() in ("total", "money") for name in NAMES + THINGS)


@pytest.mark.parametrize("name", ["gsm8k", "aqua", "math", "word_problems"])
def test_every_number_of_a_generated_question_is_filled_in(name):
    for i in range(300):
        assert not re.search(r"[{}]|\d\.\d{5}", get(name).generate(random.Random(i), 1 + i % 3).question)
