"""Scene graphs of named things, as in GQA, and questions about them with the steps of a program and the answer.

A description (`One`) is worded, written as the steps that find it, and looked up in the scene (`Photo`). No program is
run here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import yaml

_DATA = yaml.safe_load(resources.files("symbol_llm.tasks.visual").joinpath("photos.yaml").read_text(encoding="utf-8"))


class Photo(NamedTuple):
    """Named things with attributes, and the relations between them."""

    names: Sequence[str]
    attributes: Sequence[Mapping[str, str]]
    relations: Sequence[tuple[int, str, int]]

    def scene(self) -> dict[str, Any]:
        """Return the scene graph in GQA's format."""
        objects = {
            str(n): {
                "name": name,
                "attributes": dict(self.attributes[n]),
                "relations": [{"name": how, "object": str(other)} for one, how, other in self.relations if one == n],
            }
            for n, name in enumerate(self.names)
        }
        return {"objects": objects}


class One(NamedTuple):
    """A thing by its name, an attribute, and its relation to another."""

    name: str
    attribute: tuple[str, str] | None = None
    how: str = ""
    is_subject: bool = True
    of: One | None = None

    def steps(self) -> list[str]:
        """Return the steps that find it."""
        found = [f"select: {self.name}"]
        if self.of:
            found = [*self.of.steps(), f"relate: {self.name},{self.how},{'s' if self.is_subject else 'o'}"]
        return [*found, f"filter {self.attribute[0]}: {self.attribute[1]}"] if self.attribute else found

    def found(self, photo: Photo) -> set[int]:
        """Return the things in `photo` that it may describe."""
        found = {n for n, name in enumerate(photo.names) if name == self.name}
        if self.of:
            near = self.of.found(photo)
            pairs = [(s, o) if self.is_subject else (o, s) for s, how, o in photo.relations if how == self.how]
            found &= {this for this, that in pairs if that in near}
        if self.attribute:
            found = {n for n in found if photo.attributes[n].get(self.attribute[0]) == self.attribute[1]}
        return found

    def __str__(self) -> str:
        text = f"{self.attribute[1]} {self.name}" if self.attribute else self.name
        if not self.of:
            return text
        return (
            f"{text} that is {self.how} the {self.of}"
            if self.is_subject
            else f"{text} that the {self.of} is {self.how}"
        )


PHOTO_WORDS: Mapping[str, list[str]] = {kind: names.split() for kind, names in _DATA["photos"].items()}
PHOTO_ATTRIBUTES: Mapping[str, list[str]] = {name: values.split() for name, values in _DATA["photo_attributes"].items()}
ACTIONS, PLACES = _DATA["actions"].split(), [place.strip() for place in _DATA["places"].split(";")]


def photo(rng: random.Random) -> Photo:
    """Return a scene of six to nine things, some of the same name."""
    n = rng.randint(6, 9)
    kinds = [*rng.choices(("people", "animals"), k=rng.randint(1, 3))]
    names = [rng.choice(PHOTO_WORDS[kind]) for kind in kinds]
    names += rng.sample(PHOTO_WORDS["things"], n - len(names))
    names[-2:] = rng.choice((names[-2:], [names[-3], names[-4]], [names[-3]] * 2))
    attributes = [
        {name: rng.choice(values) for name, values in PHOTO_ATTRIBUTES.items() if rng.random() < 0.7} for _ in names
    ]
    relations = []
    for _ in range(n + 3):
        one, other = rng.sample(range(n), 2)
        how = rng.choice(ACTIONS if one < len(kinds) and rng.random() < 0.6 else PLACES)
        relations.append((one, how, other))
    return Photo(names, attributes, sorted(set(relations)))


def _one(rng: random.Random, scene: Photo, n: int, depth: int) -> One | None:
    """Return a description of thing `n` by `depth` relations; None if there is none that only it meets."""
    attribute = None  # named only to distinguish things of one name: elsewhere a verifier could not see its effect
    if scene.attributes[n] and scene.names.count(scene.names[n]) > 1:
        attribute = rng.choice(list(scene.attributes[n].items()))
    found = One(scene.names[n], attribute)
    if depth:
        ways = [(how, s == n, o if s == n else s) for s, how, o in scene.relations if n in (s, o)]
        rng.shuffle(ways)
        for how, is_subject, other in ways:
            of = _one(rng, scene, other, depth - 1)
            if of:
                found = One(scene.names[n], attribute, how, is_subject, of)
                break
        else:
            return None
    return found if found.found(scene) == {n} else None


GQA_ASK: Mapping[str, Sequence[str]] = _DATA["gqa_ask"]
GQA_FORMS = {
    1: (("query", 0), ("exist", 0), ("verify", 0), ("choose", 0)),
    2: (("query", 1), ("exist", 1), ("verify", 1), ("choose", 1), ("verify rel", 0), ("name", 0), ("same", 0), ("different", 0)),
    3: (("query", 2), ("verify", 2), ("choose", 2), ("name", 1), ("same", 1), ("different", 1), ("and", 1), ("or", 1), ("verify rel", 1)),
}  # fmt: skip
Looked = tuple[str, list[str], bool | str]


def asked_of_photo(rng: random.Random, scene: Photo, ask: str, depth: int) -> Looked | None:  # noqa: PLR0911 - one return a form
    """Return question, steps and answer of one of `GQA_FORMS`; None if the drawn things cannot be described."""
    n, other = rng.sample(range(len(scene.names)), 2)
    one = _one(rng, scene, n, depth)
    if one is None:
        return None
    words, path = rng.choice(GQA_ASK[ask]), one.steps()
    if ask in ("and", "or", "exist"):
        return _existing(rng, scene, ask, one, _one(rng, scene, other, depth if rng.random() < 0.5 else 0))
    if ask == "name":
        return _named(rng, scene, words, n, one)
    two = _one(rng, scene, other, 0 if ask == "verify rel" else depth)
    if ask in ("verify rel", "same", "different"):
        return _compared(rng, scene, ask, (n, other), (one, two)) if two else None
    free = [name for name in scene.attributes[n] if not one.attribute or name != one.attribute[0]]
    if not free:
        return None
    attribute = rng.choice(free)
    value = scene.attributes[n][attribute]
    wrong = rng.choice([word for word in PHOTO_ATTRIBUTES[attribute] if word != value])
    if ask == "query":
        return words.format(one, attribute), [*path, f"query: {attribute}"], value
    if ask == "verify":
        said = rng.choice((value, wrong))
        return words.format(one, said), [*path, f"verify {attribute}: {said}"], said == value
    first, second = rng.sample((value, wrong), 2)
    return words.format(one, first, second), [*path, f"choose {attribute}: {first}|{second}"], value


def _existing(rng: random.Random, scene: Photo, ask: str, one: One, two: One | None) -> Looked | None:
    hows = [how for _, how, _ in scene.relations]
    if rng.random() < 0.5:  # perhaps there is none
        one = one._replace(name=rng.choice(PHOTO_WORDS["things"])) if not one.of else one._replace(how=rng.choice(hows))
    words = rng.choice(GQA_ASK[ask])
    if ask == "exist":
        return words.format(one), [*one.steps(), "exist"], bool(one.found(scene))
    if two is None or one == two:
        return None
    there = [bool(part.found(scene)) for part in (one, two)]
    path = [*one.steps(), "exist", *two.steps(), "exist", ask]
    return (
        words.format(two, one) if not two.of else words.format(one, two),
        path,
        all(there) if ask == "and" else any(there),
    )


def _named(rng: random.Random, scene: Photo, words: str, n: int, one: One) -> Looked | None:
    """Ask for the name of the thing that is in a relation to this one."""
    found = [(how, s) for s, how, o in scene.relations if o == n]
    if not found:
        return None
    how, _ = rng.choice(found)
    names = {scene.names[s] for h, s in found if h == how}
    path = [*one.steps(), f"relate: _,{how},s", "query: name"]
    return (words.format(one, how), path, names.pop()) if len(names) == 1 else None


def _compared(
    rng: random.Random, scene: Photo, ask: str, pair: tuple[int, int], both: tuple[One, One]
) -> Looked | None:
    (n, other), (one, two) = pair, both
    words = rng.choice(GQA_ASK[ask])
    if ask == "verify rel":
        there = [how for s, how, o in scene.relations if (s, o) == (n, other)]
        how = rng.choice(there) if there and rng.random() < 0.7 else rng.choice([how for _, how, _ in scene.relations])
        if two.attribute or scene.names.count(two.name) > 1:
            return None
        return words.format(one, how, two), [*one.steps(), f"verify rel: {two.name},{how},o"], how in there
    shared = sorted(scene.attributes[n].keys() & scene.attributes[other].keys())
    shared = [a for a in shared if all(part.attribute is None or part.attribute[0] != a for part in both)]
    if not shared:
        return None
    attribute = rng.choice(shared)
    same = scene.attributes[n][attribute] == scene.attributes[other][attribute]
    return (
        words.format(one, two, attribute),
        [*one.steps(), *two.steps(), f"{ask} {attribute}"],
        same == (ask == "same"),
    )
