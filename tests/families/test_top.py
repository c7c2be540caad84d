"""Task-oriented parses: trees of intents and slots."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families.top import MAX_DEPTH, canonical, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make

GOLD = "[IN:SET_ALARM wake [SL:PERSON me ] [SL:DATE_TIME at 7 am ] ]"


def problem(program: str | None = GOLD, **environment: Any) -> Problem:
    return make("top", program=program, environment=environment)


def accepts(program: str, gold: str = GOLD, **environment: Any) -> bool:
    return score(program, problem(gold, **environment), Limits()).score == 1.0


def test_white_space_does_not_count() -> None:
    assert accepts(" [IN:SET_ALARM\n wake[SL:PERSON me][SL:DATE_TIME at\t7 am]]\n")
    assert canonical("[IN:A[SL:B x]]") == "[IN:A [SL:B x ] ]"
    assert canonical("[IN:GET_WEATHER]") == "[IN:GET_WEATHER ]"


@pytest.mark.parametrize(
    "program",
    [
        "[IN:SET_TIMER wake [SL:PERSON me ] [SL:DATE_TIME at 7 am ] ]",
        "[IN:SET_ALARM wake [SL:PERSON me ] [SL:TIME at 7 am ] ]",
        "[IN:SET_ALARM wake [SL:PERSON me ] at [SL:DATE_TIME 7 am ] ]",
        "[IN:SET_ALARM wake [SL:PERSON me ] [SL:DATE_TIME at 7 AM ] ]",
        "[IN:SET_ALARM wake [SL:PERSON me ] [SL:DATE_TIME at 7am ] ]",
        "[IN:SET_ALARM wake [SL:PERSON me ] ]",
        "[IN:SET_ALARM [SL:PERSON me ] [SL:DATE_TIME at 7 am ] ]",
    ],
)
def test_labels_words_and_their_places_count(program: str) -> None:
    assert not accepts(program)
    assert not accepts(program, order="free")


def test_siblings_may_stand_in_any_order_only_where_that_is_free() -> None:
    turned = "[IN:SET_ALARM [SL:DATE_TIME at 7 am ] wake [SL:PERSON me ] ]"
    assert not accepts(turned)
    assert not accepts(turned, order="ordered")
    assert accepts(turned, order="free")
    assert run(turned, problem(order="free"), Limits()).value == run(GOLD, problem(order="free"), Limits()).value


def test_free_order_holds_at_each_level_and_never_for_words() -> None:
    gold = "[IN:A [SL:B [IN:C [SL:D x y ] [SL:E z ] ] ] ]"
    assert accepts("[IN:A [SL:B [IN:C [SL:E z ] [SL:D x y ] ] ] ]", gold, order="free")
    assert not accepts("[IN:A [SL:B [IN:C [SL:E z ] [SL:D y x ] ] ] ]", gold, order="free")
    assert not accepts("[IN:A b a [SL:S c ] ]", "[IN:A a b [SL:S c ] ]", order="free")


def test_what_is_ours_to_mend_is_our_fault() -> None:
    for given_problem, detail in [
        (problem(order="any"), "order: input should be 'ordered' or 'free', got 'any'"),
        (problem(None), "has no gold program"),
        (problem("[IN:A"), "gold program: the text ends"),
    ]:
        with pytest.raises(InvalidInput, match=detail) as error:
            score(GOLD, given_problem, Limits())
        assert not isinstance(error.value, Unparsable)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "no tree; expected"),
        ("IN:A", r"line 1, column 1: expected \[IN: and a name, got 'IN:A'"),
        ("[SL:A x ]", r"line 1, column 1: expected \[IN: and a name, got '\[SL:A'"),
        ("]", r"column 1: expected \[IN: and a name, got '\]'"),
        ("[IN: x ]", r"expected \[IN: and a name, got '\[IN:'"),
        ("[IN:A ] x", "column 9: expected the end after the root's ']', got 'x'"),
        ("[IN:A ] [IN:B ]", "column 9: expected the end"),
        ("[IN:A\n [IN:B ] ]", r"line 2, column 2: expected \[SL: and a name, got '\[IN:B'"),
        ("[IN:A [SL:B [SL:C x ] ] ]", r"column 13: expected \[IN: and a name, got '\[SL:C'"),
        ("[IN:A [SL:B x ]", r"the text ends before 1 bracket\(s\) close, the last one \[IN:A"),
        ("[IN:A [SL:B " * 60, f"expected at most {MAX_DEPTH} levels"),
        ("[" * 60000, "column 1: expected"),
    ],
)
def test_what_is_no_tree_is_refused_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(text)


words = st.sampled_from(["at", "7", "pm", "IN:A", "é", "("])
slots = st.deferred(
    lambda: st.builds(
        lambda n, cs: f"[SL:{n} {' '.join(cs)} ]", st.sampled_from("XYZ"), st.lists(words | intents, max_size=3)
    )
)
intents = st.builds(
    lambda n, cs: f"[IN:{n} {' '.join(cs)} ]", st.sampled_from("AB"), st.lists(words | slots, max_size=3)
)


@given(intents, st.randoms(use_true_random=False))
def test_a_mutant_is_a_tree_that_differs_in_any_order(program: str, rng: random.Random) -> None:
    form = canonical(program)
    assert canonical(form) == form
    assert accepts(program, form) and accepts(form, program, order="free")
    for mutant in mutants(program, rng):
        assert canonical(mutant) != form
        assert not accepts(mutant, program, order="free")
