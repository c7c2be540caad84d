"""Programs put to redrawn problems: which agree, which were right by chance, and what new problems they make."""

from collections.abc import Callable
from typing import Any

import pytest

from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.redraws import _like, disagreeing, redrawn

Make = Callable[..., Problem]
LIMITS = Limits(memory_mib=256)
SUM = ("Ann has 2 cats and 4 dogs. How many pets has she?", 6)
RIGHT, SWAPPED, CHANCE, CONSTANT = "answer = 2 + 4", "answer = 4 + 2", "answer = 4 // 2 * 3", "answer = 6"


def test_program_that_is_right_by_chance_disagrees_with_the_majority(problem: Make) -> None:
    agree, differ = disagreeing(problem(*SUM), {RIGHT: 2, SWAPPED: 1, CHANCE: 2}, 3, LIMITS, 0)
    assert (agree, differ) == ({RIGHT, SWAPPED}, {CHANCE})


def test_majority_is_of_samples_and_a_tie_keeps_all(problem: Make) -> None:
    assert disagreeing(problem(*SUM), {RIGHT: 1, CHANCE: 2}, 3, LIMITS, 0) == ({CHANCE}, {RIGHT})
    assert disagreeing(problem(*SUM), {RIGHT: 1, CHANCE: 1}, 3, LIMITS, 0) == ({RIGHT, CHANCE}, set())


def test_one_program_alone_says_nothing_and_a_constant_is_not_asked(problem: Make) -> None:
    assert disagreeing(problem(*SUM), {RIGHT: 5, CONSTANT: 9}, 3, LIMITS, 0) == (set(), set())
    assert disagreeing(problem("How many?", 6), {RIGHT: 1, SWAPPED: 1}, 3, LIMITS, 0) == (set(), set())


def test_program_that_fails_on_other_numbers_disagrees(problem: Make) -> None:
    fragile = "assert 4 - 2 < 3\nanswer = 6"
    assert disagreeing(problem(*SUM), {RIGHT: 1, SWAPPED: 1, fragile: 1}, 3, LIMITS, 0)[1] == {fragile}


def test_copies_are_new_problems_with_their_gold(problem: Make) -> None:
    asked = problem(*SUM)
    copies = list(redrawn(asked, RIGHT, 3, LIMITS, 0))
    assert len({c.id for c in copies} | {asked.id}) == 4
    for copy in copies:
        cats, dogs = (int(word) for word in copy.question.split() if word.isdigit())
        assert (copy.answer, copy.program) == (cats + dogs, f"answer = {cats} + {dogs}")
        assert (copy.split, copy.licence, copy.source) == ("train", asked.licence, "test, redrawn")
    assert copies == list(redrawn(asked, RIGHT, 3, LIMITS, 0))


def test_copies_keep_a_whole_answer_whole_and_a_positive_one_positive(problem: Make) -> None:
    shared = problem("5 boys share 20 sweets and eat 3 each. How many are left to each?", 1)
    for copy in redrawn(shared, "answer = 20 / 5 - 3", 5, LIMITS, 0):
        assert copy.answer > 0
        assert copy.answer == int(copy.answer)


def test_no_copies_of_a_program_that_does_not_follow_its_text(problem: Make) -> None:
    assert list(redrawn(problem(*SUM), CONSTANT, 3, LIMITS, 0)) == []


@pytest.mark.parametrize(
    ("answer", "value", "expected"),
    [
        (6, "7", 7),
        (6.0, "7", 7),
        (6, "7.5", None),
        (7.5, "6.25", 6.25),
        (7.5, "6", None),
        (6, "-1", None),
        (6, "0", None),
        (0, "-3", -3),
        (-2, "-3", -3),
        (-2, "1", None),
        (6, "true", None),
        (6, "seven", None),
        (6, "Infinity", None),
        (6, "1", 1),
        (0.5, "0.25", 0.25),
        ("I_WALK", "I_RUN", "I_RUN"),
        ("I_WALK", None, None),
        (6, None, None),
        (None, "7", None),
        ([1], "7", None),
    ],
)
def test_answer_of_a_copy_is_of_the_kind_of_the_first(answer: Any, value: str | None, expected: Any) -> None:
    assert _like(answer, value) == expected
