"""PDDL scenes and plans: readers, generators."""

import random
import re

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.judging import verify
from symbol_llm.notation import strips
from symbol_llm.tasks import LEVELS, get
from symbol_llm.tasks.planning import DOMAINS, Grid, blocks_scene, declaration, floortile_scene

SCENES = ("blocksworld", "termes", "floortile", "grippers")
LIFT = """(define (domain lift) ; a comment (with brackets
(:types floor person) (:predicates (AT ?p - person ?f - floor) (lift-at ?f - floor) (in ?p - person))
(:action Enter :parameters (?p - person ?f - floor) :precondition (and (at ?p ?f) (lift-at ?f))
 :effect (and (in ?p) (not (at ?p ?f))))
)"""
RIDE = """(define (problem r) (:domain lift) (:objects Zed - person f0 - floor)
(:init (at zed f0) (lift-at f0)) (:goal (in zed)))"""
BLOCKS = """(define (domain blocksworld-4ops) (:predicates (clear ?x) (ontable ?x) (handempty) (holding ?x))
(:action pick-up :parameters (?ob) :precondition (and (clear ?ob) (ontable ?ob) (handempty)) :effect (holding ?ob)))"""
ONE_BLOCK = """(define (problem one) (:domain blocksworld-4ops) (:objects a b)
(:init (clear b) (ontable b) (handempty)) (:goal (holding b)))"""
PROMPT = """Rules.\n[STATEMENT]\nAs initial conditions I have that, the other one.\nMy plan is as follows:\n[PLAN]\n...\n[STATEMENT]
As initial conditions I have that, the blue block is clear.\nMy goal is to have that I hold the blue block.\n
My plan is as follows:\n\n[PLAN]"""


def status(problem, reply):
    return verify.judge(problem, reply, Limits()).status


@pytest.mark.parametrize("name", SCENES)
def test_scene_reader_declares_the_domain_and_keeps_the_problem_file(data_set, name):
    row = {"id": "p01", "domain": LIFT, "nl": " Zed waits at f0, and so does the lift. Zed wants in.\n", "pddl": RIDE}
    (problem,) = get(name).read(data_set([row], []))
    assert problem.question == "Zed waits at f0, and so does the lift. Zed wants in."
    assert problem.context == (
        "Domain: lift\nTypes: floor person\nPredicates: (at ?p - person ?f - floor) (lift-at ?f - floor) (in ?p - person)"
    )
    assert problem.symbols == ("at", "lift-at", "in")
    assert (problem.family, problem.split, problem.source) == ("pddl", "train", f"{name} p01")
    assert status(problem, RIDE) == "accepted"
    assert (
        status(problem, RIDE.replace("(goal (in zed))", "(goal (at zed f0))").replace("lift-at f0", "lift-at F1"))
        != "accepted"
    )


def test_plan_reader_asks_in_the_words_of_the_last_statement_and_lets_plans_use_its_names(data_set):
    row = {
        "id": "blocksworld-1",
        "domain": BLOCKS,
        "problem": ONE_BLOCK,
        "query": PROMPT,
        "ground_truth_plan": "(pick-up blue)\n",
    }
    (problem,) = get("planbench_blocksworld").read(data_set([], [row]))
    assert problem.question.startswith("As initial conditions I have that, the blue block is clear. My goal is")
    assert "other one" not in problem.question
    assert "plan is" not in problem.question
    assert (problem.program, problem.environment["names"]) == ("(pick-up blue)", {"red": "a", "blue": "b"})
    assert problem.symbols == ("pick-up",)
    assert [status(problem, plan) for plan in ("(pick-up blue)", "(pick-up b)", "(pick-up red)")] == [
        "accepted", "accepted", "rejected",
    ]  # fmt: skip


def test_plan_of_a_row_without_words_names_what_its_problem_file_names(data_set):
    row = {"id": "blocksworld-1", "domain": BLOCKS, "problem": ONE_BLOCK, "ground_truth_plan": "(pick-up blue)"}
    (problem,) = get("planbench_blocksworld").read(data_set([row], []))
    assert problem.program == "(pick-up b)"
    assert problem.context.endswith("(:goal (holding b)))")


def test_logistics_plans_are_put_into_the_names_of_the_text(data_set):
    domain = (
        "(define (domain l) (:predicates (AT ?o ?l)) (:action DRIVE-TRUCK :parameters (?t ?l ?c) :effect (at ?t ?l)))"
    )
    task = "(define (problem x) (:domain l) (:objects t0 l0-1 c0 p12) (:init) (:goal (at t0 l0-1)))"
    row = {
        "id": "1",
        "domain": domain,
        "problem": task,
        "query": PROMPT,
        "ground_truth_plan": "(drive-truck t0 l0-1 c0)",
    }
    (problem,) = get("planbench_logistics").read(data_set([row], []))
    assert problem.program == "(drive-truck truck_0 location_0_1 city_0)"
    assert problem.environment["names"]["package_12"] == "p12"
    assert problem.symbols == ("drive-truck",)
    assert [status(problem, p) for p in (problem.program, row["ground_truth_plan"])] == ["accepted", "accepted"]


def test_rows_without_a_plan_ask_for_any_that_is_valid(data_set):
    (problem,) = get("pddlgym").read(data_set([{"id": "a", "domain": LIFT, "problem": RIDE}], []))
    assert (problem.program, problem.answer) == (None, True)
    assert problem.context.endswith("(:goal (in zed)))")
    assert [status(problem, plan) for plan in ("(enter zed f0)", "(enter f0 zed)")] == ["accepted", "unparsable"]


def test_mystery_rows_are_test_rows(data_set):
    row = {"id": "m", "domain": LIFT, "problem": RIDE, "ground_truth_plan": "(enter zed f0)"}
    assert [problem.split for problem in get("planbench_mystery_blocksworld").read(data_set([row], [row]))] == [
        "test",
        "test",
    ]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("termes", {"id": "1", "domain": LIFT, "nl": "x"}, r"train\.jsonl:1: pddl: field required"),
        (
            "pddlgym",
            {"id": "1", "domain": 3, "problem": RIDE},
            r"train\.jsonl:1: domain: input should be a valid string",
        ),
        ("grippers", {"id": "1", "domain": "(define (domain", "nl": "x", "pddl": RIDE}, "grippers 1: domain: line 1"),
    ],
)
def test_readers_name_what_is_wrong(data_set, name, row, message):
    with pytest.raises(InvalidInput, match=message):
        list(get(name).read(data_set([row], [])))


def drawn(name, n=60):
    for level in LEVELS:
        for i in range(n):
            problem = get(name).generate(random.Random(f"t{i}"), level)
            yield problem, strips.read_instance(problem.program, strips.read_domain(problem.environment["domain"]))


def towers_said(text, names):
    """Return which name stands on which, None for the table, by patterns that know nothing of the generator."""
    one = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    found = {(u, lo) for u, lo in re.findall(rf"\b({one}) (?:is on|is on top of|sits on) ({one})\b", text)}
    found |= {(u, lo) for lo, u in re.findall(rf"\b({one}) (?:is under|carries) ({one})\b", text)}
    found |= {
        (u, None)
        for u in re.findall(rf"\b({one}) (?:is on|stands on|lies on) the table|[Tt]he table carries ({one})\b", text)
        for u in u
        if u
    }
    for stack in re.findall(rf"(?:stack of|bottom up,|table are) ((?:(?:{one}), )*(?:{one}) and (?:{one}))\b", text):
        parts = [None, *re.split(", | and ", stack)]
        found |= set(zip(parts[1:], parts, strict=False))
    return found


def test_blocks_stand_in_the_problem_file_as_the_text_says():
    for problem, instance in drawn("blocksworld"):
        scene, goal = re.split(
            r"(?:Goal:|In the end,|It is to be reached that|At last it should be that|Make it so that) ",
            problem.question,
        )
        facts = {(f[1], f[2] if f[0] == "on" else None) for f in instance.facts if f[0] in ("on", "on-table")}
        assert towers_said(scene, instance.objects) == facts, problem.question
        assert {(atom[2], atom[3]) for atom in instance.goal[1:]} == towers_said(goal, instance.objects)


def test_every_block_is_somewhere_and_clear_just_if_nothing_is_on_it():
    for _, instance in drawn("blocksworld"):
        held = [fact[1] for fact in instance.facts if fact[0] == "holding"]
        assert (("arm-empty",) in instance.facts) == (not held)
        placed = [fact[1] for fact in instance.facts if fact[0] in ("on", "on-table")]
        assert sorted(placed + held) == sorted(instance.objects)
        covered = {fact[2] for fact in instance.facts if fact[0] == "on"}
        assert {fact[1] for fact in instance.facts if fact[0] == "clear"} == set(instance.objects) - covered - set(held)


def test_every_item_is_in_one_room_or_one_gripper_and_its_goal_elsewhere():
    for problem, instance in drawn("grippers"):
        items = [name for name, types in instance.objects.items() if types == ("item",)]
        at = {fact[1]: fact[2] for fact in instance.facts if fact[0] == "at"}
        carried = [fact[2] for fact in instance.facts if fact[0] == "carry"]
        assert sorted([*at, *carried]) == sorted(items)
        used = [fact[-1] for fact in instance.facts if fact[0] in ("free", "carry")]
        assert sorted(used) == sorted(name for name, types in instance.objects.items() if types == ("gripper",))
        assert all(atom[1] == "at-robby" or at.get(atom[2]) != atom[3] for atom in instance.goal[1:])
        assert all(re.search(rf"\b{name}\b", problem.question) for name in instance.objects)


def cell(name):
    return tuple(map(int, re.search(r"(\d+)-(\d+)$", name).groups()))


def test_tiles_lie_as_their_numbers_say():
    step = {"up": (1, 0), "down": (-1, 0), "right": (0, 1), "left": (0, -1)}
    for _, instance in drawn("floortile"):
        cells = {cell(name) for name, types in instance.objects.items() if types == ("tile",)}
        for predicate, (rows, columns) in step.items():
            found = {(cell(f[1]), cell(f[2])) for f in instance.facts if f[0] == predicate}
            assert found == {((r, c), (r - rows, c - columns)) for r, c in cells if (r - rows, c - columns) in cells}
        robots = {cell(f[2]) for f in instance.facts if f[0] == "robot-at"}
        assert {cell(f[1]) for f in instance.facts if f[0] == "clear"} == cells - robots


def test_positions_have_one_height_each_and_neighbors_at_distance_one():
    for _, instance in drawn("termes"):
        places = [name for name, types in instance.objects.items() if types == ("position",)]
        height = {fact[1]: fact[2] for fact in instance.facts if fact[0] == "height"}
        assert sorted(height) == sorted(places)
        near = {
            (a, b)
            for a in places
            for b in places
            if sum(abs(x - y) for x, y in zip(cell(a), cell(b), strict=True)) == 1
        }
        assert {fact[1:] for fact in instance.facts if fact[0] == "neighbor"} == near
        assert any(height[atom[2]] != atom[3] for atom in instance.goal[1:])


def test_heights_are_those_of_the_text():
    for problem, instance in drawn("termes"):
        said = re.findall(r"([\w-]+\d-\d) has height (\d)", problem.question)
        said += re.findall(r"([\w-]+\d-\d) is (\d) high", problem.question)
        said += re.findall(r"height at ([\w-]+\d-\d) is (\d)\b", problem.question)
        found = [(fact[1], fact[2][1:]) for fact in instance.facts if fact[0] == "height" and fact[2] != "n0"]
        found += [(atom[2], atom[3][1:]) for atom in instance.goal[1:]]
        assert sorted(said) == sorted(found), problem.question


def test_problem_with_the_goal_turned_round_is_refused():
    stacks = [["a"], ["b"]]
    scene = blocks_scene(random.Random(0), ("block", "blocks"), stacks, None, [["a", "b"]])
    problem = get("blocksworld").generate(random.Random(0), 1).model_copy(update={"program": scene.program()})
    assert status(problem, scene.program()) == "accepted"
    assert status(problem, scene.program().replace("(on b a)", "(on a b)")) == "rejected"


def test_small_floor_written_out():
    scene = floortile_scene(random.Random(0), Grid("t", 2, 1), {"r": ((0, 0), "red")}, ["red"], {(1, 0): "red"})
    assert set(scene.facts) == {
        ("available-color", "red"), ("robot-at", "r", "t0-0"), ("robot-has", "r", "red"), ("clear", "t1-0"),
        ("up", "t1-0", "t0-0"), ("down", "t0-0", "t1-0"),
    }  # fmt: skip
    assert scene.goal == [("painted", "t1-0", "red")]
    assert declaration(DOMAINS["floortile"]).startswith(
        "Domain: floor-tile\nTypes: robot tile color\nPredicates: (robot-at "
    )
