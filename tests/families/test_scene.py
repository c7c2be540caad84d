"""Programs over scenes: both notations, what they give, accidents that are found out."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.families.scene import canonical, from_nodes, mutants, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make

LIMITS = Limits()
CLEVR = {
    "objects": [
        {"color": "red", "shape": "cube", "size": "large", "material": "metal", "rotation": 3.5},
        {"color": "red", "shape": "sphere", "size": "small", "material": "rubber"},
        {"color": "blue", "shape": "cube", "size": "small", "material": "rubber"},
    ],
    "relationships": {"left": [[], [0], [0, 1]], "right": [[1, 2], [2], []]},
}
GQA = {
    "objects": {
        "11": {"name": "boy", "attributes": {"height": "tall"}, "relations": [{"name": "holding", "object": "12"}]},
        "12": {"name": "ball", "attributes": {"color": "Red", "shape": "round"}},
        "13": {"name": "dog", "attributes": {"color": "brown"}, "relations": [{"name": "near", "object": "11"}]},
        "14": {"name": "car", "attributes": ["red", "parked"], "relations": [{"name": "behind", "object": "11"}]},
        "15": {"name": "shirt", "attributes": {"color": "red"}},
    }
}
REDS = "count(filter_color[red](scene()))"


def problem(scene: Any = CLEVR, **fields: Any) -> Problem:
    return make("scene", **({"environment": {} if scene is None else {"scene": scene}} | fields))


def answer(program: str, scene: Any = CLEVR) -> str | None:
    return run(program, problem(scene), LIMITS).value


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (REDS, "2"),
        ("exist(filter_size[large](filter_material[rubber](scene())))", "false"),
        ("query_shape(unique(filter_size[large](scene())))", "cube"),
        ("count(relate[left](unique(filter_color[blue](scene()))))", "2"),
        ("query_color(unique(relate[right](unique(filter_shape[sphere](scene())))))", "blue"),
        ("count(same_shape(unique(filter_color[blue](scene()))))", "1"),
        ("count(union(filter_shape[cube](scene()), filter_color[red](scene())))", "3"),
        ("count(intersect(filter_shape[cube](scene()), filter_color[red](scene())))", "1"),
        ("less_than(count(filter_shape[sphere](scene())), count(filter_shape[cube](scene())))", "true"),
        ("equal_integer(count(scene()), count(filter_shape[cube](scene())))", "false"),
        (
            "equal_color(query_color(unique(filter_shape[sphere](scene()))), query_color(unique(filter_size[large](scene()))))",
            "true",
        ),
        ("scene -> filter_color: red -> count", "2"),
        ("scene\nfilter shape: cube\nfilter size: small\nunique\nquery: color", "blue"),
        ("scene; unique; query_color", None),
    ],
)
def test_clevr_functions(program: str, expected: str | None) -> None:
    assert answer(program) == expected


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("select: boy (11) -> relate: _,holding,o (12) -> query: color", "red"),
        ("select: boy -> relate: dog,near -> exist", "true"),
        ("select: boy -> relate: cat,near,s -> exist", "false"),
        ("select: boy -> relate: near -> query: name", "dog"),
        ("select: ball -> verify color: red", "true"),
        ("select: car -> filter: red -> exist", "true"),
        ("select: car -> filter color: red -> exist", "false"),
        ("select: boy -> verify rel: ball,holding,o", "true"),
        ("select: dog -> choose color: red|brown", "brown"),
        ("select: car -> choose rel: boy,behind|near,o", "behind"),
        ("select: boy -> exist -> select: cat -> exist -> and", "false"),
        ("select: boy -> exist -> select: cat -> exist -> or", "true"),
        ("select: ball -> select: shirt -> same: color", "true"),
        ("select: ball -> select: dog -> different color: [0, 1]", "true"),
        ("select: ball -> select: shirt -> common", "color"),
        ("select: ball -> query: color [0]", "red"),
        ("query_color(relate[_,holding,o](select[boy]()))", "red"),
        ("select: car -> query: color", None),
        ("select: cat -> verify color: red", None),
    ],
)
def test_gqa_functions(program: str, expected: str | None) -> None:
    assert answer(program, GQA) == expected


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("counts(scene())", "line 1, column 1: expected a function such as filter_color or query, got 'counts'"),
        ("count(\n  filter_color(scene()))", "line 2, column 3: filter_color: expected a value, got ''"),
        ("count[3](scene())", "line 1, column 1: count: expected no argument, got '3'"),
        ("count(unique(scene()))", r"line 1, column 1: count takes \(set\), got \(object\)"),
        ("count()", r"count takes \(set\), got \(\)"),
        ("less_than(count(scene()))", r"less_than takes \(integer, integer\), got \(integer\)"),
        (
            "equal_color(query_color(scene()), query_size(scene()))",
            r"equal_color takes \(value of color, value of color\), got \(value of color, value of size\)",
        ),
        ("count(scene()", r"line 1, column 14: expected ',' or '\)', got 'the end'"),
        ("count(scene()))", r"line 1, column 15: expected the end, got '\)'"),
        ("count(scene(),)", r"line 1, column 15: expected a function such as scene\(\)"),
        ("scene()", "the program ends in scene, which gives objects"),
        ("scene -> fly -> count", "step 1: expected a function such as filter_color or query, got 'fly'"),
        ("count -> scene", r"step 0: count takes \(set\), got \(\)"),
        ("scene -> scene -> count", "step 0: no step takes what it gives"),
        ("scene -> count [4]", r"step 1: expected numbers of earlier steps, from 0, got 'count \[4\]'"),
        ("select: boy -> relate: a,b,c,s -> exist", "step 1: relate: expected name,relation,s or o, got 'a,b,c,s'"),
        ("select: boy -> choose color: red -> and", r"step 1: choose_color: expected two values such as red\|blue"),
        ("->", "no step"),
        ("scene -> count ->", "arrow at the end"),
        ("count(filter_color[red](blue, scene()))", r"line 1, column 25: expected a function such as scene\(\)"),
        ("count(filter_color(red, blue, scene()))", r"line 1, column 24: expected a function such as scene\(\)"),
        ("count(red, scene())", "line 1, column 1: count: expected no argument, got 'red'"),
        ("count(filter_color(red))", r"filter_color takes \(set\), got \(\)"),
        ("count(" * 500, "at most 100 functions"),
        ("scene -> count; " * 500, "more than 100 steps"),
        ("scene\n" + "union [0, 0]\n" + "".join(f"union [{n}, {n}]\n" for n in range(1, 9)) + "count", "written out"),
    ],
)
def test_ill_formed_programs_are_refused_with_the_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


@pytest.mark.parametrize(
    ("program", "accepted"),
    [
        (REDS, True),
        ("scene -> filter color: RED -> count", True),
        ("count(union(filter_color[red](scene()), filter_color[red](filter_shape[cube](scene()))))", True),
        ("count(filter_shape[cube](scene()))", False),
        ("count(relate[left](unique(filter_color[blue](scene()))))", False),
        ("count(filter_color[blue](scene()))", False),
        ("query_color(unique(scene()))", False),
    ],
)
def test_an_accident_on_this_scene_is_found_out_on_others(program: str, accepted: bool) -> None:
    assert (score(program, problem(program=REDS), LIMITS).score == 1.0) == accepted
    assert (score(program, problem(program=REDS, answer=2), LIMITS).score == 1.0) == accepted


def test_without_gold_program_the_answer_alone_counts() -> None:
    assert score("count(filter_shape[cube](scene()))", problem(answer=2), LIMITS).score == 1.0
    assert score("count(scene())", problem(answer=2), LIMITS).score == 0.0


@pytest.mark.parametrize(
    ("given", "accepted"),
    [(True, True), ("yes", True), ("Yes", True), ("true", True), (1, False), ("no", False), (False, False)],
)
def test_answers_of_yes_or_no(given: Any, accepted: bool) -> None:
    assert (score("exist(scene())", problem(answer=given), LIMITS).score == 1.0) == accepted


@pytest.mark.parametrize(("given", "accepted"), [(3, True), ("3", True), (True, False), (2, False)])
def test_answers_that_are_numbers(given: Any, accepted: bool) -> None:
    assert (score("count(scene())", problem(answer=given), LIMITS).score == 1.0) == accepted


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (
            "count(filter_color[red](filter_size[big](scene())))",
            "scene -> filter size: big -> filter color: red -> count",
        ),
        ("count(union(scene(), filter_color[red](scene())))", "count(union(filter_color[red](scene()), scene()))"),
        ("greater_than(count(scene()), count(select[a]()))", "less_than(count(select[a]()), count(scene()))"),
        ("count(filter_color[red](filter_color[red](scene())))", REDS),
        ("select: a -> relate: on -> exist", "select: A (3) -> relate: _, on , s (-) -> exist"),
        ("select: a -> choose color: red|blue", "select: a -> choose color: blue | red"),
        ("select: a -> query: color", "query_color(select[a]())"),
        ("count(filter_color['red'](scene))", REDS),
        ('count(filter_color(scene(), "red"));', REDS),
        ("count(filter_color(red, scene))", REDS),
        ("scene() -> filter_color[red] -> count()", REDS),
        ("scene → filter color(red) → count.", REDS),
        ("1. scene\n2. filter_color: 'red'\n3. count", REDS),
        ("- scene()\n- filter_color[red]()\n- count", REDS),
        ("query(color, select('a'))", "select: a -> query: color"),
        (
            "equal_color(query_color(select(a)), query_color(select(b)))",
            "equal_color(query_color(select[a]()), query_color(select[b]()))",
        ),
    ],
)
def test_without_a_scene_normal_forms_are_compared(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)
    assert score(one, problem(None, program=two), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("less_than(count(scene()), count(select[a]()))", "less_than(count(select[a]()), count(scene()))"),
        ("select: a -> relate: on,s -> exist", "select: a -> relate: on,o -> exist"),
        ("select: a -> relate: b,on,s -> exist", "select: a -> relate: on -> exist"),
        ("select: a -> filter: red -> exist", "select: a -> filter color: red -> exist"),
        ("count(filter_color(blue, scene))", REDS),
        ("scene -> filter_size[red] -> count", REDS),
        ("scene -> filter_color[red] -> filter_color[blue] -> count", REDS),
        (
            "count(filter_color[red](relate[left](unique(filter_size[big](scene())))))",
            "count(filter_size[big](relate[left](unique(filter_color[red](scene())))))",
        ),
    ],
)
def test_programs_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)
    assert score(one, problem(None, program=two), LIMITS).score == 0.0


def test_gold_or_scene_that_is_wrong_is_our_fault() -> None:
    for bad, detail in (
        (problem(program="count("), "gold: "),
        (problem(program=REDS, answer=5), "gold gives 2 instead of 5"),
        (problem(program="query_color(unique(scene()))"), "gold is undefined on its own scene"),
        (problem(answer=[2]), "expected true or false, a number or a word"),
        (problem(), "neither an answer nor a gold program"),
        (problem(None, answer=2), "neither a scene nor a gold program"),
        (problem({"objects": 3}, answer=2), "scene is not as CLEVR or GQA have it"),
        (problem({"objects": {"1": {}}}, answer=2), "scene is not as CLEVR or GQA have it"),
    ):
        with pytest.raises(InvalidInput, match=detail) as caught:
            score(REDS, bad, LIMITS)
        assert not isinstance(caught.value, Unparsable)


def test_json_of_clevr_becomes_text() -> None:
    nodes = [
        {"type": "scene", "inputs": []},
        {"function": "filter_color", "inputs": [0], "value_inputs": ["red"]},
        {"function": "union", "inputs": [0, 1], "value_inputs": []},
        {"function": "count", "inputs": [2]},
    ]
    assert from_nodes(nodes) == "count(union(scene(), filter_color[red](scene())))"
    with pytest.raises(InvalidInput, match=r"node 1: filter_color with values \[\]"):
        from_nodes([nodes[0], {"type": "filter_color", "inputs": [0], "value_inputs": []}])


SETS = st.recursive(
    st.just("scene()"),
    lambda inner: st.one_of(
        inner.map(lambda s: f"filter_color[red]({s})"),
        inner.map(lambda s: f"filter_size[small]({s})"),
        inner.map(lambda s: f"relate[left](unique({s}))"),
        inner.map(lambda s: f"same_shape(unique({s}))"),
        st.tuples(st.sampled_from(["union", "intersect"]), inner, inner).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
    ),
    max_leaves=5,
)
ANSWERS = st.one_of(
    SETS.map(lambda s: f"count({s})"),
    SETS.map(lambda s: f"query_color(unique({s}))"),
    st.tuples(SETS, SETS).map(lambda p: f"greater_than(count({p[0]}), count({p[1]}))"),
)


@settings(max_examples=100, deadline=None)
@given(ANSWERS, st.integers())
def test_canonical_is_idempotent_means_the_same_and_no_mutant_has_it(program: str, seed: int) -> None:
    form = canonical(program)
    assert canonical(form) == form
    assert answer(form) == answer(program)
    assert form not in map(canonical, mutants(program, random.Random(seed)))


@given(st.text(alphabet="scount()[]->:, \n1", max_size=40))
def test_any_text_is_read_or_refused(garbage: str) -> None:
    try:
        canonical(garbage)
    except Unparsable as e:
        assert str(e)


@pytest.mark.parametrize("direction", [",", ",,,", "left,", "a,left,s,s"])
def test_a_direction_in_parts_has_all_of_them(direction: str) -> None:
    with pytest.raises(Unparsable, match="expected name,relation,s or o"):
        canonical(f"scene -> unique -> relate: {direction} -> count")
