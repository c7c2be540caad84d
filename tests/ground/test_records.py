"""Records: frozen, strict, with ids made from content."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from symbol_llm.ground.records import Problem, Verdict, content_id


def test_id_depends_on_task_context_and_question_alone(problem: Callable[..., Problem]) -> None:
    assert problem().id == problem(answer=5, split="test").id
    assert problem().id != problem(question="What is 3 + 2?").id
    assert problem().id != problem(context="x").id


def test_id_of_content_is_the_same_on_every_machine() -> None:
    assert content_id("a", {"b": 1, "a": 2}) == content_id("a", {"a": 2, "b": 1}) == "f9a050fb433e4c37"


def test_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Verdict(candidate="a", problem="b", status="accepted", verifier="python@1", colour="red")  # type: ignore[call-arg]


def test_record_cannot_be_changed(problem: Callable[..., Problem]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        problem().answer = 5  # type: ignore[misc]


def test_score_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Verdict(candidate="a", problem="b", status="accepted", score=1.5, verifier="python@1")
