"""A small table of things: what is meant on it, and the program that finds that."""

import pytest

from symbol_llm.tasks.visual.attribute_scenes import ATTRIBUTE_SCENES, Joined, Place, Plain, Seen, program_of

TABLE = Seen(
    ATTRIBUTE_SCENES[0],
    [
        {"size": "large", "color": "red", "material": "metal", "shape": "cube"},
        {"size": "small", "color": "red", "material": "rubber", "shape": "sphere"},
        {"size": "small", "color": "blue", "material": "metal", "shape": "cube"},
    ],
    [(0, 5), (1, 2), (2, 9)],
)
BLUE = Plain({"color": "blue"})


@pytest.mark.parametrize(
    ("things", "found", "program"),
    [
        (Plain({"color": "red"}), {0, 1}, "filter_color[red](scene())"),
        (Plain({}, Place("left", BLUE)), {0, 1}, "relate[left](unique(filter_color[blue](scene())))"),
        (
            Plain({"shape": "cube"}, Place("front", BLUE)),
            {0},
            "filter_shape[cube](relate[front](unique(filter_color[blue](scene()))))",
        ),
        (Plain({}, Place("behind", BLUE)), set(), "relate[behind](unique(filter_color[blue](scene())))"),
        (Plain({}, Place("material", BLUE)), {0}, "same_material(unique(filter_color[blue](scene())))"),
        (Plain({}, Place("left", Plain({"color": "red"}))), None, "relate[left](unique(filter_color[red](scene())))"),
        (
            Joined(True, BLUE, Plain({"size": "large"})),
            {0, 2},
            "union(filter_color[blue](scene()), filter_size[large](scene()))",
        ),
        (
            Joined(False, BLUE, Plain({"shape": "cube"})),
            {2},
            "intersect(filter_color[blue](scene()), filter_shape[cube](scene()))",
        ),
    ],
)
def test_things_of_a_small_table(things, found, program):
    assert TABLE.meant(things) == found
    assert program_of(things) == program
