"""A small room: what is found in it, in words and in steps."""

import pytest

from symbol_llm.tasks.visual.photos import One, Photo

ROOM = Photo(["man", "mug", "mug"], [{}, {"color": "red"}, {"color": "blue"}], [(0, "holding", 1), (2, "near", 1)])
HELD = One("mug", None, "holding", False, One("man"))


@pytest.mark.parametrize(
    ("one", "found", "said", "path"),
    [
        (HELD, {1}, "mug that the man is holding", ["select: man", "relate: mug,holding,o"]),
        (One("man", None, "holding", True, One("mug", ("color", "red"))), {0}, "man that is holding the red mug",
         ["select: mug", "filter color: red", "relate: man,holding,s"]),
        (One("mug", ("color", "blue"), "near", True, HELD), {2}, "blue mug that is near the mug that the man is holding",
         ["select: man", "relate: mug,holding,o", "relate: mug,near,s", "filter color: blue"]),
    ],
)  # fmt: skip
def test_a_thing_of_a_small_room(one, found, said, path):
    assert (one.found(ROOM), str(one), one.steps()) == (found, said, path)
