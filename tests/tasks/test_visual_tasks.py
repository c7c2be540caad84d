"""Scenes and figures: readers of CLEVR, GQA and Geometry3K, generators."""

import json
import random
import re

import pytest

from symbol_llm import families
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.judging import verify
from symbol_llm.tasks import LEVELS, get
from symbol_llm.tasks.visual import Operation, steps


def status(problem, reply):
    return verify.judge(problem, reply, Limits()).status


# --- CLEVR ------------------------------------------------------------------------------------------------------------

CUBE = {"color": "red", "shape": "cube", "size": "large", "material": "metal", "3d_coords": [0, 0, 0]}
BALL = {"color": "blue", "shape": "sphere", "size": "small", "material": "rubber", "rotation": 3}
SCENE = {
    "image_filename": "a.png", "objects": [CUBE, BALL],
    "relationships": {"left": [[1], []], "right": [[], [0]], "front": [[], []], "behind": [[], []]},
}  # fmt: skip
NODES = [
    {"type": "scene", "inputs": [], "value_inputs": [], "_output": [0, 1]},
    {"type": "filter_color", "inputs": [0], "value_inputs": ["red"], "_output": [0]},
    {"type": "count", "inputs": [1], "value_inputs": [], "_output": 1},
]


def clevr(id_, nodes=NODES):
    return {
        "id": id_, "split": "train", "question": "How many red things?", "image_filenames": ["a.png", "b.png"],
        "answers": [1, 2], "program": [nodes, nodes],
    }  # fmt: skip


def test_clevr_takes_the_first_scene_where_the_row_has_one(data_set):
    folder = data_set([clevr("clevr-v0-train-1")], [clevr("clevr-icml-val-1")])
    (folder / "scenes.jsonl").write_text(json.dumps(SCENE) + "\n")
    first, second = get("clevr").read(folder)
    assert (first.program, first.answer, first.split) == ("count(filter_color[red](scene()))", 1, "train")
    assert first.environment["scene"]["objects"][1] == {k: BALL[k] for k in ("size", "color", "material", "shape")}
    assert [status(first, p) for p in (first.program, "count(filter_shape[sphere](scene()))")] == [
        "accepted",
        "rejected",
    ]
    assert (second.answer, second.environment, second.split) == (None, {}, "test")
    assert status(second, "scene -> filter color: red -> count") == "accepted"
    assert "color: gray, red, blue" in first.context


def test_clevr_row_whose_filter_lacks_its_value_keeps_its_answer_alone(data_set):
    broken = [NODES[0], {**NODES[1], "value_inputs": []}, NODES[2]]
    folder = data_set([clevr("clevr-v0-train-1", broken)], [])
    (folder / "scenes.jsonl").write_text(json.dumps(SCENE) + "\n")
    (problem,) = get("clevr").read(folder)
    assert (problem.program, problem.answer) == (None, 1)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("clevr", {**clevr("c"), "answers": 1}, r"train\.jsonl:1: answers: input should be a valid list"),
        (
            "gqa",
            {"id": "1", "question": "q", "semantic": [{"operation": "select", "argument": "x"}]},
            r"train\.jsonl:1: semantic\.0\.dependencies",
        ),
        ("geometry3k", {"id": "1"}, r"train\.jsonl:1: text_logic_forms: field required"),
    ],
)
def test_readers_name_what_is_wrong(data_set, name, row, message):
    with pytest.raises(InvalidInput, match=message):
        list(get(name).read(data_set([row], [])))


def test_broken_scene_is_named_by_file_and_line(data_set):
    folder = data_set([clevr("clevr-v0-train-1")], [])
    (folder / "scenes.jsonl").write_text(json.dumps({**SCENE, "objects": [{"color": "red"}]}))
    with pytest.raises(InvalidInput, match=r"scenes\.jsonl:1: expected objects with size, color, material, shape"):
        list(get("clevr").read(folder))


# --- GQA --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "text"),
    [
        ([("select", "boy (12)", []), ("relate", "shirt,wearing,o (3)", [0]), ("query", "color", [1])], "select: boy -> relate: shirt,wearing,o -> query: color"),
        ([("select", "cat (-) ", []), ("exist", "?", [0])], "select: cat -> exist"),
        (
            [("select", "cat", []), ("exist", "", [0]), ("select", "dog", []), ("exist", "", [2]), ("or", "", [1, 3])],
            "select: cat -> exist -> select: dog -> exist -> or",
        ),
        (
            [("select", "cat", []), ("select", "dog", []), ("exist", "", [0]), ("exist", "", [1]), ("or", "", [2, 3])],
            "select: cat -> select: dog -> exist [0] -> exist [1] -> or",
        ),
    ],
)  # fmt: skip
def test_gqa_steps_tell_inputs_only_where_they_are_not_the_last_free_ones(operations, text):
    made = steps([Operation(operation=o, argument=a, dependencies=d) for o, a, d in operations])
    assert made == text


def test_gqa_is_read_and_judged_without_a_scene(data_set):
    semantic = [
        {"operation": "select", "argument": "mug (7)", "dependencies": []},
        {"operation": "filter color", "argument": "red", "dependencies": [0]},
        {"operation": "exist", "argument": "?", "dependencies": [1]},
    ]
    row = {"id": "07", "question": "Is there a red mug?", "answer": "yes", "imageId": "5", "semantic": semantic}
    (problem,) = get("gqa").read(data_set([], [row]))
    assert (problem.program, problem.split) == ("select: mug -> filter color: red -> exist", "test")
    assert status(problem, "exist(filter_color[red](select[mug]()))") == "accepted"
    assert status(problem, "select: mug -> exist") == "rejected"


# --- generated scenes -------------------------------------------------------------------------------------------------


def drawn(name, n=60):
    for level in LEVELS:
        for i in range(n):
            yield get(name).generate(random.Random(f"t{i}"), level)


@pytest.mark.parametrize("name", ["clevr", "gqa"])
def test_running_a_generated_program_gives_the_answer_that_looking_gave(name):
    for problem in drawn(name):
        run = families.get("scene").run(problem.program, problem, Limits())
        assert run.value == str(problem.answer).lower(), (problem.question, problem.program)


@pytest.mark.parametrize("name", ["clevr", "gqa"])
def test_generated_answers_are_of_all_kinds(name):
    answers = [problem.answer for problem in drawn(name)]
    assert {True, False} <= {a for a in answers if isinstance(a, bool)}
    assert len({a for a in answers if isinstance(a, str)}) >= 12
    no = answers.count(False)
    assert no == 0 or 0.25 <= no / sum(isinstance(a, bool) for a in answers) <= 0.75


def test_clevr_questions_speak_of_every_value_of_the_program():
    for problem in drawn("clevr"):
        for value in re.findall(r"filter_\w+\[([\w-]+)\]", problem.program):
            assert re.search(rf"\b{value}s?\b", problem.question), (value, problem.question)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_geometry_row_with_a_text_keeps_it_and_one_without_is_put_into_english(data_set):
    row = {
        "id": "1",
        "text_logic_forms": ["Circle(O)", "Find(x)"],
        "diagram_logic_forms": ["Equals(LengthOf(Line(A, O)), 2x)"],
    }
    first, second = get("geometry3k").read(data_set([{**row, "problem_text": " Given circle O, find x. "}], [row]))
    assert (first.question, first.program) == ("Given circle O, find x.", "Circle(O)\nFind(x)")
    assert second.program == "Equals(LengthOf(Line(A, O)), 2x)\nCircle(O)\nFind(x)"
    assert "circle O" in second.question
    assert "2x" in second.question
    assert status(second, "Find(x)\nCircle(O)\nEquals(2x, LengthOf(Line(O,A)))") == "accepted"
    assert status(second, "Find(x)\nCircle(A)\nEquals(2x, LengthOf(Line(O,A)))") == "rejected"


def test_generated_figures_name_every_point_and_number_and_give_nothing_two_sizes():
    for problem in drawn("geometry3k"):
        assert problem.program.count("Find(") == 1
        assert problem.program.splitlines()[-1].startswith("Find(")
        for point in re.findall(r"(?<=[(,] )[A-Z](?=[,)])|(?<=\()[A-Z](?=[,)])", problem.program):
            assert point in re.sub(r"\b[A-Z][a-z]+", "", problem.question), (point, problem.question)
        for number in re.findall(r"\d+", problem.program):
            assert number in problem.question
        sized = re.findall(r"^Equals\((.*), [^,]*\)$", problem.program, re.MULTILINE)
        assert len(sized) == len(set(sized))
