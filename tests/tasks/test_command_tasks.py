"""SCAN and COGS: semantics, readers, generators."""

import random
import re

import pytest

from symbol_llm.ground.errors import InvalidInput
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


@pytest.mark.parametrize(("level", "fewest", "most"), [(1, 1, 6), (2, 7, 12), (3, 13, 32)])
def test_generated_commands_mean_their_answer_and_grow_with_the_level(level, fewest, most):
    for i in range(100):
        problem = generate(random.Random(i), level)
        actions = problem.answer.split()
        assert meaning(problem.question) == problem.answer == problem.program
        assert fewest - 1 <= len(actions) <= most
        assert set(actions) <= set(VOCABULARY) == set(problem.environment["vocabulary"]) == set(problem.symbols)


def test_length_split_is_for_testing_only(data_set):
    folder = data_set([{"id": "l-0", "IN": "run", "OUT": "I_RUN"}], [{"id": "l-1", "IN": "jump", "OUT": "I_JUMP"}])
    rows = list(get("scan_length").read(folder))
    assert [(row.source, row.split) for row in rows] == [("scan_length l-0", "test"), ("scan_length l-1", "test")]


def test_instruction_lists_every_action():
    assert all(action in get("scan").instruction for action in VOCABULARY)


def test_cogs_reader_keeps_sentence_and_form(data_set):
    form = "* fox ( x _ 1 ) ; nap . agent ( x _ 2 , x _ 1 )"
    row = {"id": "g-0", "sentence": "The fox napped .", "logical_form": form, "distribution": "in_distribution"}
    (problem,) = get("cogs").read(data_set([row], []))
    assert (problem.question, problem.program, problem.source) == ("The fox napped .", form, "cogs g-0")


def test_cogs_row_without_a_form_names_file_line_and_field(data_set):
    with pytest.raises(InvalidInput, match=r"test\.jsonl:1: logical_form: field required"):
        list(get("cogs").read(data_set([], [{"id": "g-0", "sentence": "The fox napped ."}])))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_cogs_variables_are_places_of_words_of_the_sentence(level):
    """Nouns stand as they are at their place; a noun is definite where `the` stands before it; names are words."""
    for i in range(100):
        problem = get("cogs").generate(random.Random(i), level)
        words = problem.question.split()
        for star, noun, place in re.findall(r"(\* )?(\w+) \( x _ (\d+) \)", problem.program):
            article = words[int(place) - 1].lower()
            assert (words[int(place)], article) == (noun, "the" if star else "a")
        for name in re.findall(r", ([A-Z]\w*) \)", problem.program):
            assert name in words
        n_nouns = sum(word.lower() in ("a", "the") for word in words)
        assert n_nouns == len(re.findall(r"\w+ \( x _ \d+ \)", problem.program))


def test_cogs_level_3_nests_clauses():
    rows = [get("cogs").generate(random.Random(i), 3) for i in range(50)]
    assert all("ccomp" in row.program and " that " in row.question for row in rows)
    assert any(row.program.count("ccomp") == 2 for row in rows)
