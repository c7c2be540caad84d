"""Stories with other numbers: what is kept, what is not touched, what is left alone."""

import random
import re
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm import families
from symbol_llm.families import Redrawn
from symbol_llm.ground.records import Problem

Make = Callable[..., Problem]
STAMPS = "Mia has 14 stamps and three albums of $1,250 each, at 2.50 a stamp; one is lost."


def redrawn(problem: Problem, *programs: str, seed: int = 0) -> Redrawn | None:
    return families.redraw(problem, programs, random.Random(seed))


def numbers(text: str) -> list[Fraction]:
    return [Fraction(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


@pytest.mark.parametrize("seed", range(20))
def test_numbers_keep_their_form_and_how_they_stand_to_each_other(problem: Make, seed: int) -> None:
    drawn = redrawn(problem(STAMPS), seed=seed)
    assert drawn
    shape = r"Mia has (\d\d) stamps and (two|three|four|five|six|seven|eight|nine) albums of \$(\d,\d{3}) each, at (\d\.\d\d) a stamp; one is lost\."
    found = re.fullmatch(shape, drawn.question)
    assert found, drawn.question
    stamps, price, each = (numbers(found[n])[0] for n in (1, 3, 4))
    assert each < stamps < price
    assert price % stamps != 0  # as 1250 is no multiple of 14


def test_programs_change_with_the_text_and_constants_stay(problem: Make) -> None:
    asked = problem("A dozen eggs cost 3 dollars. How much are 24 eggs?")
    drawn = redrawn(asked, "# 12 in a dozen\nanswer = 24 / 12 * 3", "answer = 3.0 * (24 // 12)")
    assert drawn
    price, eggs = numbers(drawn.question)
    assert eggs % price == 0
    assert drawn.programs == (
        f"# 12 in a dozen\nanswer = {eggs} / 12 * {price}",
        f"answer = {price} * ({eggs} // 12)",
    )


@pytest.mark.parametrize(
    "program",
    [
        "answer = 6",
        "answer = 3 * 3",
        "answer = 2 * 3 * 2",
        "answer = sum([2, 2, 3])",
        "answer = (",
    ],
)
def test_program_that_takes_no_number_or_one_twice_is_not_changed(problem: Make, program: str) -> None:
    drawn = redrawn(problem("2 boys have 3 dogs each. How many dogs?"), program)
    assert drawn
    assert drawn.programs == (None,)


def test_number_that_no_program_takes_stays_in_words_and_changes_in_digits(problem: Make) -> None:
    drawn = redrawn(problem("The two boys, 15 years old, have 3 dogs and 4 cats."), "answer = 3 + 4")
    assert drawn
    assert re.fullmatch(r"The two boys, \d\d years old, have \d dogs and \d cats\.", drawn.question)
    assert drawn.programs == (f"answer = {' + '.join(str(n) for n in numbers(drawn.question)[1:])}",)


@pytest.mark.parametrize(
    "question",
    [
        "How many are they?",
        "2 boys and 2 girls: how many?",
        "He eats 3/4 of 8 pies.",
        "From 10:30 to 11:45, how long?",
        "The 5th of 7 rows?",
        "Room 12b has 4 seats.",
        "Call 030.123.4 for 5 seats.",
        "1234567890123 and 4?",
        "²3 and 4?",
    ],
)
def test_text_that_is_not_read_for_sure_is_left_alone(problem: Make, question: str) -> None:
    assert redrawn(problem(question), "answer = 2") is None


def test_problems_with_a_context_a_function_or_another_answer_than_a_number_are_left_alone(problem: Make) -> None:
    for fields in ({"context": "A table."}, {"answer": "x + 2"}, {"environment": {"function": "f", "calls": []}}):
        assert redrawn(problem(**({"question": "Add 2 and 3.", "answer": 5} | fields)), "answer = 2 + 3") is None


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True), st.integers(0, 2**32))
def test_whatever_the_numbers_they_keep_digits_and_order(values: list[int], seed: int) -> None:
    question = " and ".join(map(str, values))
    asked = Problem.of(
        task="t", family="python", split="train", instruction="", question=question, answer=1, source="", licence=""
    )
    drawn = families.redraw(asked, [f"answer = sum([{question.replace(' and ', ', ')}])"], random.Random(seed))
    if drawn is None:
        return
    after = [int(n) for n in drawn.question.split(" and ")]
    assert [len(str(n)) for n in after] == [len(str(n)) for n in values]
    assert sorted(range(len(after)), key=after.__getitem__) == sorted(range(len(values)), key=values.__getitem__)
    assert drawn.programs == (f"answer = sum([{', '.join(map(str, after))}])",)


def test_scan_commands_exchange_moves_and_turns(problem: Make) -> None:
    asked = problem("jump around left after walk", "I_WALK I_TURN_LEFT I_JUMP", task="scan", family="commands")
    drawn = redrawn(asked, "I_WALK I_TURN_LEFT  I_JUMP")
    assert drawn
    jump, left, walk = re.fullmatch(r"(\w+) around (left|right) after (\w+)", drawn.question).groups()
    assert drawn.programs == (f"I_{walk} I_TURN_{left} I_{jump}".upper(),)
    assert jump != walk


def test_families_without_a_way_to_redraw_offer_none(problem: Make) -> None:
    assert redrawn(problem("Which city has 3 rivers?", family="sql"), "SELECT 1") is None
