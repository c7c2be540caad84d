"""SCAN: semantics, reader, generator."""

import random

import pytest

from symbol_llm.errors import InvalidInput
from symbol_llm.tasks import get
from symbol_llm.tasks.command import VOCABULARY, generate, meaning

LEFT, RIGHT, WALK, RUN, JUMP, LOOK = "I_TURN_LEFT", "I_TURN_RIGHT", "I_WALK", "I_RUN", "I_JUMP", "I_LOOK"


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("walk", [WALK]),
        ("run left", [LEFT, RUN]),
        ("turn right", [RIGHT]),
        ("jump opposite left", [LEFT, LEFT, JUMP]),
        ("turn opposite right", [RIGHT, RIGHT]),
        ("look around right", [RIGHT, LOOK] * 4),
        ("turn around left", [LEFT] * 4),
        ("jump left twice", [LEFT, JUMP, LEFT, JUMP]),
        ("walk thrice", [WALK] * 3),
        ("walk and run twice", [WALK, RUN, RUN]),
        ("walk twice after run", [RUN, WALK, WALK]),
    ],
)
def test_meaning_of_a_command(command, actions):
    assert meaning(command).split() == actions


@pytest.mark.parametrize(
    "command", ["", "turn", "walk twice left", "walk and run and jump", "fly", "walk opposite", "twice"]
)
def test_command_outside_the_grammar_is_refused(command):
    with pytest.raises(InvalidInput, match="not made by SCAN's grammar"):
        meaning(command)


def test_reader_keeps_command_and_actions(data_set):
    folder = data_set([{"id": "c-0", "IN": "run", "OUT": "I_RUN"}], [{"id": "c-1", "IN": "jump", "OUT": "I_JUMP"}])
    train, test = get("scan").read(folder)
    assert (train.question, train.answer, train.program, train.split) == ("run", "I_RUN", "I_RUN", "train")
    assert (test.source, test.split, test.family) == ("scan c-1", "test", "commands")


def test_reader_names_the_field_that_is_wrong(data_set):
    with pytest.raises(InvalidInput, match=r"train\.jsonl:1: OUT: input should be a valid string, got"):
        list(get("scan").read(data_set([{"id": "c-0", "IN": "run", "OUT": ["I_RUN"]}], [])))


def test_generated_commands_mean_their_answer_and_are_short():
    for i in range(300):
        problem = generate(random.Random(i))
        actions = problem.answer.split()
        assert meaning(problem.question) == problem.answer == problem.program
        assert len(actions) <= 6
        assert set(actions) <= set(VOCABULARY) == set(problem.environment["vocabulary"])


def test_generated_commands_vary_and_repeat_for_one_state():
    assert len({generate(random.Random(i)).question for i in range(200)}) >= 80
    assert generate(random.Random("a")) == generate(random.Random("a"))


def test_instruction_lists_every_action():
    assert all(action in get("scan").instruction for action in VOCABULARY)
