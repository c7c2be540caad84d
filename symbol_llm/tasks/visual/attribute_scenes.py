"""Scenes of things with attributes and places, as in CLEVR, and questions about them with program and answer.

A description (`Things`) is worded, written as the part of a program that finds it, and looked up in the scene (`Seen`).
No program is run here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import yaml

_DATA = yaml.safe_load(
    resources.files("symbol_llm.tasks.visual").joinpath("attribute_scenes.yaml").read_text(encoding="utf-8")
)

Attributes = Mapping[str, Sequence[str]]
"""Values by attribute; the last attribute is the kind of thing."""
ATTRIBUTE_SCENES: Sequence[Attributes] = [
    {attribute: values.split() for attribute, values in row.items()} for row in _DATA["attribute_scenes"]
]
DIRECTIONS = ("left", "right", "front", "behind")


class Plain(NamedTuple):
    """Things with some attributes, among all or among those in some place."""

    values: Mapping[str, str]
    place: Place | None = None


class Place(NamedTuple):
    """In a direction from one thing, or with the same attribute as it."""

    how: str
    """A direction, or an attribute."""
    of: Plain


class Joined(NamedTuple):
    """Things of either kind, or of both."""

    either: bool
    one: Plain
    other: Plain


Things = Plain | Joined


class Seen(NamedTuple):
    """Things with their attributes and coordinates, right and back."""

    attributes: Attributes
    objects: Sequence[Mapping[str, str]]
    at: Sequence[tuple[int, int]]

    def standing(self, how: str, n: int) -> set[int]:
        """Return the things in that direction from thing `n`."""
        x, y = self.at[n]
        test: Callable[[int, int], bool] = {
            "left": lambda a, b: a < x, "right": lambda a, b: a > x, "front": lambda a, b: b < y, "behind": lambda a, b: b > y
        }[how]  # fmt: skip
        return {i for i, (a, b) in enumerate(self.at) if test(a, b)}

    def scene(self) -> dict[str, Any]:
        """Return the scene in CLEVR's format."""
        found = {how: [sorted(self.standing(how, n)) for n in range(len(self.objects))] for how in DIRECTIONS}
        return {"objects": [dict(one) for one in self.objects], "relationships": found}

    def meant(self, things: Things) -> set[int] | None:
        """Return the things described; None if a single one is described and there is not exactly one."""
        if isinstance(things, Joined):
            one, other = self.meant(things.one), self.meant(things.other)
            return None if one is None or other is None else one | other if things.either else one & other
        found = set(range(len(self.objects)))
        if things.place:
            anchor = self.meant(things.place.of)
            if anchor is None or len(anchor) != 1:
                return None
            (n,) = anchor
            how = things.place.how
            same = {i for i in found - {n} if self.objects[i].get(how) == self.objects[n].get(how)}
            found = self.standing(how, n) if how in DIRECTIONS else same
        return {i for i in found if things.values.items() <= self.objects[i].items()}


def seen(rng: random.Random) -> Seen:
    """Return a scene of four to nine things."""
    attributes = rng.choice(ATTRIBUTE_SCENES) if rng.random() < 0.7 else ATTRIBUTE_SCENES[0]
    n = rng.randint(4, 9)
    objects = [{attribute: rng.choice(values) for attribute, values in attributes.items()} for _ in range(n)]
    return Seen(attributes, objects, list(zip(rng.sample(range(100), n), rng.sample(range(100), n), strict=True)))


def program_of(things: Things) -> str:
    """Return the part of a program that finds `things`."""
    if isinstance(things, Joined):
        return f"{'union' if things.either else 'intersect'}({program_of(things.one)}, {program_of(things.other)})"
    text = "scene()"
    if things.place:
        how = f"relate[{things.place.how}]" if things.place.how in DIRECTIONS else f"same_{things.place.how}"
        text = f"{how}(unique({program_of(things.place.of)}))"
    for attribute, value in things.values.items():
        text = f"filter_{attribute}[{value}]({text})"
    return text


WHERE: Mapping[str, Sequence[str]] = _DATA["where"]


def _said(rng: random.Random, scene: Seen, things: Things, *, many: bool = True) -> str:
    if isinstance(things, Joined):
        if not things.either:
            return _both(rng, scene, things, many=many)
        return " or ".join(_said(rng, scene, part, many=many) for part in (things.one, things.other))
    noun = things.values.get(list(scene.attributes)[-1], rng.choice(_DATA["things"].split()))
    words = [things.values[a] for a in list(scene.attributes)[:-1] if a in things.values]
    other = ["other"] if things.place and things.place.how not in DIRECTIONS else []
    text = " ".join([*other, *words, noun + "s" * many])
    return f"{text} that {'are' if many else 'is'} {_place(rng, scene, things.place)}" if things.place else text


def _place(rng: random.Random, scene: Seen, place: Place) -> str:
    of = f"the {_said(rng, scene, place.of, many=False)}"
    return rng.choice(WHERE[place.how]).format(of) if place.how in DIRECTIONS else f"of the same {place.how} as {of}"


def _both(rng: random.Random, scene: Seen, things: Joined, *, many: bool) -> str:
    """Describe things with the same attributes in two places."""
    one, where = _said(rng, scene, things.one, many=many), things.other.place
    return f"{one} and {_place(rng, scene, where)}" if where else one


def _plain(rng: random.Random, scene: Seen, n: int, size: int, depth: int = 0) -> Plain | None:
    """Return a description of thing `n` by `size` attributes, and by another thing if `depth`."""
    attributes = sorted(rng.sample(list(scene.attributes), size), key=list(scene.attributes).index)
    values = {attribute: scene.objects[n][attribute] for attribute in attributes}
    if not depth:
        return Plain(values)
    for other in rng.sample(range(len(scene.objects)), len(scene.objects)):
        how = rng.choice([how for how in DIRECTIONS if n in scene.standing(how, other)] or [""])
        shared = [a for a in scene.attributes if scene.objects[n][a] == scene.objects[other][a] and a not in values]
        how = rng.choice(shared) if shared and depth == 1 and rng.random() < 0.3 else how
        anchor = _single(rng, scene, other, depth - 1) if other != n and how else None
        if anchor:
            return Plain(values, Place(how, anchor))
    return None


def _single(rng: random.Random, scene: Seen, n: int, depth: int = 0) -> Plain | None:
    """Return a description that only thing `n` meets."""
    for size in (1, 2, 3, 2, 3):
        found = _plain(rng, scene, n, size, depth)
        if found and scene.meant(found) == {n}:
            return found
    return None


ASK: Mapping[str, Sequence[str]] = _DATA["clevr_ask"]
CLEVR_FORMS = {
    1: ("count", "count", "exist", "query"),
    2: ("count placed", "exist placed", "query placed", "count either", "less_than", "greater_than"),
    3: (
        "count both",
        "count twice",
        "query twice",
        "equal",
        "less_than placed",
        "greater_than placed",
        "equal_integer placed",
    ),
}


def asked_of_scene(rng: random.Random, scene: Seen, form: str) -> tuple[str, str, bool | int | str] | None:  # noqa: PLR0911 - one return a form
    """Return question, program and answer of one of `CLEVR_FORMS`; None if the drawn things cannot be described."""
    ask, _, how = form.partition(" ")
    depth = {"placed": 1, "twice": 2}.get(how, 0)
    n, other = rng.sample(range(len(scene.objects)), 2)
    words = rng.choice(ASK[ask])
    if ask in ("query", "equal"):
        one, two = _single(rng, scene, n, depth), _single(rng, scene, other, 1)
        attribute = rng.choice(list(scene.attributes))
        if not one or not two or attribute in one.values or (ask == "equal" and attribute in two.values):
            return None
        values = [scene.objects[i][attribute] for i in (n, other)]
        texts = [f"query_{attribute}(unique({program_of(part)}))" for part in (one, two)]
        said = [_said(rng, scene, part, many=False) for part in (one, two)]
        if ask == "query":
            return words.format(said[0], attribute), texts[0], values[0]
        return words.format(*said, attribute), f"equal_{attribute}({', '.join(texts)})", values[0] == values[1]
    sizes = [rng.randint(1, 2) + (ask == "exist"), rng.randint(1, 2)]
    if how in ("either", "both"):
        one, two = _plain(rng, scene, n, sizes[0], how == "both"), _plain(rng, scene, other, sizes[1], how == "both")
        if not one or not two or one.values == two.values:
            return None
        two = Plain(one.values, two.place) if how == "both" else two
        if any(part.place and part.place.how not in DIRECTIONS for part in (one, two)):
            return None
        joined = Joined(how == "either", one, two)
        return words.format(_said(rng, scene, joined)), f"count({program_of(joined)})", len(scene.meant(joined) or ())
    parts = [_plain(rng, scene, i, size, depth) for i, size in zip((n, other), sizes, strict=True)]
    if not all(parts):
        return None
    return _counted(rng, scene, ask, words, [part for part in parts if part])


def _counted(
    rng: random.Random, scene: Seen, ask: str, words: str, parts: Sequence[Plain]
) -> tuple[str, str, bool | int] | None:
    if ask == "exist" and rng.random() < 0.5:  # something that may or may not be there
        attribute = rng.choice(list(parts[0].values))
        parts = [parts[0]._replace(values={**parts[0].values, attribute: rng.choice(scene.attributes[attribute])})]
    numbers = [len(scene.meant(part) or ()) for part in parts]
    texts = [f"count({program_of(part)})" for part in parts]
    if ask == "count":
        return words.format(_said(rng, scene, parts[0])), texts[0], numbers[0]
    if ask == "exist":
        return words.format(_said(rng, scene, parts[0])), f"exist({program_of(parts[0])})", numbers[0] > 0
    if parts[0] == parts[1]:
        return None
    one, other = numbers
    answer = {"less_than": one < other, "greater_than": one > other, "equal_integer": one == other}[ask]
    return words.format(*(_said(rng, scene, part) for part in parts)), f"{ask}({', '.join(texts)})", answer
