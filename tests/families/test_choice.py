"""Short answers: options by letter and text, normal texts, numbers by value."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families.choice import canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make

LIMITS = Limits()
CITIES = ["Rome", "Paris", "the Hague", "-19", "19", "a < b"]


def problem(answer: Any = "B", options: Any = CITIES) -> Problem:
    return make("choice", answer=answer, environment={} if options is None else {"options": options})


def letter(program: str, options: Any = CITIES) -> str | None:
    return run(program, problem(options=options), LIMITS).value


@pytest.mark.parametrize(
    "program",
    [
        "B",
        "b",
        "B.",
        "(B)",
        "[b]",
        "B)",
        "B:",
        "Answer: B",
        "The answer is (B).",
        "Final answer: b",
        "B) Paris",
        "(b) Paris.",
    ]
    + [
        "B. Paris",
        "B: paris",
        "Paris",
        " PARIS! ",
        "I think it is (B)",
        "The correct option is B",
        "B. It lies on the Seine.",
    ]
    + ["Answer: B\n\nIt is not Rome.", "(B) (B)", "Answer: Paris"]
    + ["**B**", "$B$", r"\boxed{B}", r"$\boxed{\text{B}}$", "<answer>B</answer>", r"\(B\)", "*B*", "**Answer: B**"]
    + ["Answer: **B**", "**B) Paris**", "The answer is **B**.", r"\boxed{Paris}", "<answer> (B) </answer>", "__B__"]
    + [
        "Option B",
        "Option B: Paris",
        "B - Paris",
        "(B) – Paris",
        "B, Paris",
        "## Answer: B",
        "I'd choose B.",
        "I’ll go with option B",
        "（Ｂ）",
        "Ⓑ",
        "Choice (B)",
        '"B"',
        "“B”",
        "I choose B",
        "I would go with option B.",
        "It's B",
        "I think it is B",
        "it’s (B).",
    ],
)
def test_one_option_may_be_named_in_many_ways(program: str) -> None:
    assert letter(program) == "B"
    assert score(program, problem("B"), LIMITS).score == 1.0
    assert score(program, problem("Paris"), LIMITS).score == 1.0
    assert score(program, problem("(A)"), LIMITS).score == 0.0


def test_an_answer_in_tags_is_found_behind_its_reasons_and_two_different_ones_are_none() -> None:
    assert program_of("Rome is in Italy.\n\nSo:\n<answer>B</answer>\nDone.") == "B"
    assert program_of("<answer>A</answer> or <answer>B</answer>") != "A"
    with pytest.raises(Unparsable):
        letter("<answer>A</answer> or <answer>B</answer>, (A) (B)")


def test_dashes_before_numbers_are_signs_and_stars_between_them_are_not_marks() -> None:
    assert canonical("–5") == canonical("-5") != canonical("5")
    assert canonical("—1,200.0") == "-1200"
    assert canonical("10–20") == canonical("10-20")
    assert canonical("2**3**4") != canonical("234")
    assert canonical("$5") != canonical("5")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("–19", "D"),
        ("—19", "D"),
        ("**19**", "E"),
        ("$-19$", "D"),
        ("hague", "C"),
        ("The Hague", "C"),
        ("-19", "D"),
        ("−19", "D"),
        ("19.0", "E"),
        ("a < b", "F"),
        ("A", "A"),
    ],
)
def test_the_text_of_an_option_names_it(program: str, expected: str) -> None:
    assert letter(program) == expected


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("(A) (B)", "options A, B at once in '"),
        ("A. B.", "options A, B at once"),
        ("B) Rome", "options A, B at once"),
        ("(B) or (C)", "options B, C at once"),
        ("It is (A) and not (B)", "options A, B at once"),
        ("A or B", "no option in 'A or B'; expected one of A, B, C, D, E, F"),
        ("G", "no option"),
        ("Lyon", "no option"),
        ("Paris and Rome", "no option"),
        ("A city", "no option"),
        ("A - Paris", "options A, B at once"),
        ("A, Paris", "options A, B at once"),
        ("B, C", "no option"),
        ("B, or C", "no option"),
        ("Option A: Paris", "options A, B at once"),
        ("anything but (B)", "an option denied"),
    ],
)
def test_two_options_or_none_are_refused(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        letter(program)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"A": "Paris", "b": "Rome"}, "A"),
        (["A) Paris", "B) Rome"], "A"),
        (["(A) Rome", "(B) Paris"], "B"),
        (["Rome", "Lyon", "Paris"], "C"),
    ],
)
def test_options_may_be_given_in_several_ways(options: Any, expected: str) -> None:
    assert letter("Paris", options) == expected
    assert letter(expected, options) == expected


def test_letters_alone_have_no_texts() -> None:
    assert letter("c", ["A", "B", "C"]) == "C"
    assert letter("(C) Paris", ["A", "B", "C"]) == "C"
    with pytest.raises(Unparsable):
        letter("Paris", ["A", "B", "C"])


def test_options_with_one_normal_text_are_told_apart_by_their_writing() -> None:
    same = ["the sun", "a sun", "moon"]
    assert letter("A SUN", same) == "B"
    with pytest.raises(Unparsable):
        letter("sun", same)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("don't", "dont"),
        ("well-known", "Well known"),
        ("Paris (France)", "Paris, France"),
        ("1,200.50", "1200.5"),
        (".5", "0.5"),
        ("+1200", "1,200"),
        ("= 1200", "1200"),
        ("1{,}200", "1200"),
        (r"1,\!200", "1200"),
        ("1\u202f200", "1200"),
        ("１２００", "1200"),
        ("1.2e3", "1200"),
        (r"1.2 \times 10^{3}", "1200"),
        ("1.2 × 10^-3", "0.0012"),
        ("# 1200", "1200"),
        ("-0", "0"),
        ("007", "7"),
        ("−5", "-5"),
        ("12,000 people", "12000 people"),
        ("July 4, 1776", "july 4 1776"),
        ("Answer: yes", "Yes."),
        ("so the answer is 3", "3"),
        ("(A)", "a"),
        ("A.", "a"),
        (") ] >", ")]>"),
        ("[0, 1)", "[0,1)"),
        ("E. coli", "E coli"),
    ],
)
def test_what_does_not_count_in_a_text(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)
    assert score(one, problem(two, None), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("-5", "5"),
        ("3.5", "35"),
        (".5", "5"),
        ("1.2e3", "1 2e3"),
        ("1e3", "13"),
        ("x +1", "x 1"),
        ("1 200", "1200"),
        ("0,5", "0.5"),
        ("1.5", "15"),
        ("x + 1", "x - 1"),
        ("x - 1", "x 1"),
        ("2(3+4)", "2 3+4"),
        ("(1, 2)", "(12)"),
        ("5!", "5"),
        ("50%", "50"),
        ("a", "the"),
        ("a + b", "b"),
        ("p → q", "p q"),
        ("yes", "no"),
        ("(a) Paris", "Paris"),
        (") ]", "] )"),
        ("the answer", "the"),
    ],
)
def test_texts_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)
    assert score(one, problem(two, None), LIMITS).score == 0.0


def test_gold_may_be_a_number_a_truth_value_or_one_of_a_list() -> None:
    assert score("1,200", problem(1200, None), LIMITS).score == 1.0
    assert score("0.50", problem(0.5, None), LIMITS).score == 1.0
    assert score("True", problem(True, None), LIMITS).score == 1.0
    assert score("colour", problem(["color", "colour"], None), LIMITS).score == 1.0
    assert score("C", problem(["A", "C"]), LIMITS).score == 1.0
    assert score("the colours", problem(["color", "colour"], None), LIMITS).score == 0.0


@pytest.mark.parametrize("answer", [None, "", [], [None], {"a": 1}, "Lyon", "(A", "A or B"])
def test_gold_that_is_no_answer_is_our_fault(answer: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        score("B", problem(answer), LIMITS)
    assert not isinstance(caught.value, Unparsable)


@pytest.mark.parametrize("options", [[], ["one"], ["x"] * 27, {"1": "x", "2": "y"}, ["A", "A"]])
def test_options_that_cannot_be_told_apart_are_our_fault(options: Any) -> None:
    with pytest.raises(InvalidInput, match="expected 2 to 26 texts or letters"):
        letter("A", options)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("yes (or no", r"column 5: '\(' is never closed"),
        ("yes or no)", r"column 10: '\)' closes nothing"),
        ("{x)", r"column 3: '\)' closes nothing"),
        ("...", "no word or number in '...'"),
        ("+ -", "no word or number"),
        ("()", "no word or number"),
        ("A" * 10_001, "10001 characters; expected an option or a short text"),
    ],
)
def test_what_is_no_answer_is_refused(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


@pytest.mark.parametrize(
    "text", ["answer: " * 1200, "(a)" * 3000, "answer is: " * 900 + "3", "A. " * 3000, "1,111" * 1900 + "x"]
)
def test_long_repetitions_are_read_in_one_go(text: str) -> None:
    form = canonical(text)
    assert canonical(form) == form


@given(st.text(alphabet="aAbB the()[].,:-+1209'é→ \n", min_size=1, max_size=30), st.integers())
def test_canonical_is_idempotent_and_no_mutant_has_it(text: str, seed: int) -> None:
    try:
        form = canonical(text)
    except Unparsable as e:
        assert str(e)
        return
    assert canonical(form) == form
    for mutant in mutants(text, random.Random(seed)):
        assert _canonical(mutant) != form


@pytest.mark.parametrize(
    "program",
    ["It is not (B).", "(B) is wrong.", "Anything except option B", "(B) isn't right", "I doubt it; never answer B"],
)
def test_an_option_that_is_denied_is_not_chosen(program: str) -> None:
    with pytest.raises(Unparsable, match="an option denied"):
        letter(program)


@pytest.mark.parametrize(
    "program", ["(B) because it is not in Italy", "It is (B), not Rome", "I don't know, but I would say (B)"]
)
def test_a_denial_of_something_else_leaves_the_option_chosen(program: str) -> None:
    assert letter(program) == "B"


def _canonical(text: str) -> str | None:
    try:
        return canonical(text)
    except Unparsable:
        return None
