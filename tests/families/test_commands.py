"""Action sequences."""

import pytest

from symbol_llm.families.commands import canonical, score
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make


def problem(answer: str, **environment: list[str]) -> Problem:
    return make("commands", answer=answer, environment=environment)


def test_white_space_does_not_count() -> None:
    assert canonical(" I_WALK\n\tI_JUMP ") == "I_WALK I_JUMP"


def test_an_unknown_action_is_refused_with_its_place() -> None:
    with pytest.raises(Unparsable, match="action 2: 'I_HOP'; expected one of I_TURN_LEFT, I_TURN_RIGHT"):
        score("I_WALK I_HOP", problem("I_WALK"), Limits())


def test_renamed_actions_replace_the_usual_ones() -> None:
    renamed = problem("x7 q2", vocabulary=["x7", "q2"])
    assert score("x7 q2", renamed, Limits()).score == 1.0
    assert score("q2 x7", renamed, Limits()).score == 0.0
    with pytest.raises(Unparsable, match="action 1: 'I_WALK'; expected one of x7, q2"):
        score("I_WALK", renamed, Limits())


@pytest.mark.parametrize("program", ["I_WALK", "I_WALK I_WALK I_WALK", "I_JUMP I_WALK"])
def test_longer_shorter_and_swapped_sequences_are_rejected(program: str) -> None:
    assert score(program, problem("I_WALK I_JUMP"), Limits()).score == 0.0
