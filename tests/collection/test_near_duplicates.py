"""Contamination: texts of one template that differ in a number are different problems, and the cleaning counts them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from symbol_llm.collection.cleaning import Cleaner
from symbol_llm.collection.near_duplicates import Copies, Text, words
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.params import Collect
from symbol_llm.ground.records import Problem

STORY = "Kai walks from the old mill to the harbour and back again with a bag, which in the end holds {}"
"""Twenty words with the one filled in, so 13 8-grams; the last word is in one of them, and 12/13 is more than 0.8."""


def copied(text: str, test: str, context: str = "", test_context: str = "") -> bool:
    copies = Copies([Text("test row", words(test_context), words(test))])
    return copies.of(Text("training row", words(context), words(text)), overlap=0.8) == "test row"


@pytest.mark.parametrize(
    ("filling", "test_filling", "alike"),
    [
        ("8", "8", True),
        ("figs", "nuts", True),
        ("8", "9", False),
        ("8", "nuts", False),
        ("nuts", "8", False),
        ("8.5", "8", False),
        ("1,000", "1,001", False),
    ],
)
def test_long_texts_alike_but_for_one_word_are_copies_unless_it_is_a_number(
    filling: str, test_filling: str, alike: bool
) -> None:
    assert copied(STORY.format(filling), STORY.format(test_filling)) == alike


def test_same_question_of_contexts_that_differ_in_a_number_is_no_copy() -> None:
    question = "How many are in the bag?"
    assert copied(question, question, STORY.format("figs"), STORY.format("nuts"))
    assert not copied(question, question, STORY.format(8), STORY.format(9))


def test_number_given_once_is_not_equal_to_the_same_number_given_twice() -> None:
    """11 of 13 8-grams are in common when the first word and the last are changed, which is still above 0.8."""
    twice, once = (STORY.replace("Kai", first).format(8) for first in ("8", "Ned"))
    assert copied(once, STORY.format(8))
    assert not copied(twice, once)


def test_training_row_with_another_number_is_kept_and_counted_and_one_with_another_word_goes(
    tmp_path: Path, problem: Callable[..., Problem]
) -> None:
    rows = [problem(STORY.format(filling)) for filling in ("9", "8 nuts", "8")]
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        cleaner = Cleaner(Collect(check_gold=False), ledger, ())
        tests = [problem(STORY.format(filling), split="test") for filling in ("8 figs", "7")]
        cleaner.hold_against("test", tests)
        kept = list(cleaner.kept(rows, None))
    assert [row.question for row in kept] == [STORY.format(9)]
    assert cleaner.numbers["n_numbers_only"] == 1
    assert {row.id: row.reason for row in cleaner.dropped} == {
        rows[1].id: "copies of test rows",
        rows[2].id: "copies of test rows",
    }
