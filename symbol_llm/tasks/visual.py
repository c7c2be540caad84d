"""What is seen, to symbols: CLEVR's and GQA's programs over scenes, Geometry3K's logic forms. No images.

The scene stands in the environment, where programs are run, not in the prompt: a program must hold for any scene. The
prompt declares attributes and their values. Of CLEVR the first of a question's scenes is taken; a node that lacks its value, as
some of the released programs do, leaves the problem without a program. GQA is read as released, one question a line,
without its scene graphs: its own ontology would be needed to run its programs.

The slice of Geometry3K holds no problem texts. Where a row has none (`problem_text`), its forms, those of the diagram first, are put
into English by `verbalised`, as the generator's are: the task then is to read that English back.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from symbol_llm.errors import InvalidInput
from symbol_llm.families.scene import from_nodes
from symbol_llm.files import read_json_lines
from symbol_llm.records import Problem
from symbol_llm.tasks import Published, Row, Task, read_rows

CLEVR = (
    "Write the question as a program such as count(filter_color[red](relate[left](unique(filter_shape[cube](scene()))))). "
    "Functions: scene, filter_ATTRIBUTE[value], unique, relate[direction], same_ATTRIBUTE, union, intersect, count, exist, "
    "query_ATTRIBUTE, equal_ATTRIBUTE, equal_integer, less_than, greater_than."
)
GQA = (
    "Write the question as steps joined by ->, such as select: man -> relate: mug,holding,o -> query: color. Steps: select, "
    "filter ATTRIBUTE, relate and verify rel (name or _, relation, s if found is the subject, o if the object), exist, query, "
    "verify ATTRIBUTE, choose ATTRIBUTE: a|b, same ATTRIBUTE, different ATTRIBUTE, and, or."
)
GEOMETRY = (
    "Write the problem as logic forms, one a line: Equals(LengthOf(Line(A, B)), 2x+3), MeasureOf(Angle(A, B, C)), "
    "MeasureOf(Arc(A, B)), Parallel, Perpendicular, Congruent, Similar, PointLiesOnLine, IsMidpointOf, Tangent, InscribedIn, "
    "Triangle(A, B, C), Circle(O), RadiusOf, AreaOf, PerimeterOf, ... Last comes Find(what is asked)."
)

_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("visual.yaml").read_text(encoding="utf-8"))


def _problem(name: str, instruction: str, question: str, **fields: Any) -> Problem:
    family = "geometry" if name == "geometry3k" else "scene"
    fields = {"split": "train", "source": "generated", "licence": "Apache-2.0", **fields}
    return Problem.of(task=name, family=family, instruction=instruction, question=question, **fields)


# --- CLEVR: reading ---------------------------------------------------------------------------------------------------


class ClevrRow(Row):
    """A question of CLEVR asked of several scenes."""

    id: str
    question: str
    image_filenames: list[str]
    answers: list[Any]
    program: list[list[dict[str, Any]]]


Attributes = Mapping[str, Sequence[str]]
"""Values by attribute; the last attribute is the kind of thing."""
ATTRIBUTE_SCENES: Sequence[Attributes] = [
    {attribute: values.split() for attribute, values in row.items()} for row in _DATA["attribute_scenes"]
]
DIRECTIONS = ("left", "right", "front", "behind")
CLEVR_LICENCE = "CC BY 4.0"


def _declared(attributes: Attributes) -> str:
    lines = [f"{attribute}: {', '.join(values)}" for attribute, values in attributes.items()]
    return "\n".join([*lines, f"direction: {', '.join(DIRECTIONS)}"])


def _scenes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what programs ask about, by image; nothing where there is no file of scenes."""
    path = folder / "scenes.jsonl"
    found = {}
    for n, row in read_json_lines(path) if path.is_file() else ():
        try:
            objects = [{attribute: one[attribute] for attribute in ATTRIBUTE_SCENES[0]} for one in row["objects"]]
            found[row["image_filename"]] = {"objects": objects, "relationships": row["relationships"]}
        except (KeyError, TypeError) as e:
            raise InvalidInput(f"{path}:{n}: expected objects with {', '.join(ATTRIBUTE_SCENES[0])}: {e!r}") from e
    return found


def read_clevr(folder: Path) -> Iterator[Problem]:
    """Yield CLEVR's questions; with a scene, its answer, if `scenes.jsonl` is beside them and the row is of those scenes."""
    scenes = _scenes(folder)
    for split, row in read_rows(folder, ClevrRow):
        try:
            program: str | None = from_nodes(row.program[0])
        except InvalidInput:
            program = None
        scene = scenes.get(row.image_filenames[0]) if "-v0-" in row.id else None
        yield _problem(
            "clevr",
            CLEVR,
            row.question.strip(),
            split=split,
            context=_declared(ATTRIBUTE_SCENES[0]),
            answer=row.answers[0] if scene else None,
            program=program,
            environment={"scene": scene} if scene else {},
            source=f"clevr {row.id}",
            licence=CLEVR_LICENCE,
        )


# --- CLEVR: generating ------------------------------------------------------------------------------------------------


class Plain(NamedTuple):
    """Things of some attributes, of those that stand somewhere, or of all."""

    values: Mapping[str, str]
    place: Place | None = None


class Place(NamedTuple):
    """In a direction of one thing, or of the same attribute as it."""

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
        """Return what is in that direction of thing `n`."""
        x, y = self.at[n]
        test: Callable[[int, int], bool] = {
            "left": lambda a, b: a < x, "right": lambda a, b: a > x, "front": lambda a, b: b < y, "behind": lambda a, b: b > y
        }[how]  # fmt: skip
        return {i for i, (a, b) in enumerate(self.at) if test(a, b)}

    def scene(self) -> dict[str, Any]:
        """Return the scene as CLEVR writes it."""
        found = {how: [sorted(self.standing(how, n)) for n in range(len(self.objects))] for how in DIRECTIONS}
        return {"objects": [dict(one) for one in self.objects], "relationships": found}

    def meant(self, things: Things) -> set[int] | None:
        """Return the things meant; None where a single one is spoken of and there is not one."""
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
    """Say things of the same attributes in two places."""
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


def generate_clevr(rng: random.Random, level: int) -> Problem:
    """Return a question about a random scene, with its answer there."""
    while True:
        scene = seen(rng)
        found = _asked(rng, scene, rng.choice(CLEVR_FORMS[level]))
        if found:
            question, program, answer = found
            environment = {"scene": scene.scene()}
            return _problem(
                "clevr",
                CLEVR,
                question,
                context=_declared(scene.attributes),
                program=program,
                answer=answer,
                environment=environment,
            )


def _asked(rng: random.Random, scene: Seen, form: str) -> tuple[str, str, bool | int | str] | None:  # noqa: PLR0911 - one return a form
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
    if ask == "exist" and rng.random() < 0.5:  # something there may be or not
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


# --- GQA --------------------------------------------------------------------------------------------------------------


class Operation(Row):
    """A step of GQA's programs."""

    operation: str
    argument: str
    dependencies: list[int]


class GqaRow(Row):
    """A question of GQA, with its key as `id`."""

    id: str
    question: str
    semantic: list[Operation]


def read_gqa(folder: Path) -> Iterator[Problem]:
    """Yield GQA's questions; compared in normal form, since no scene comes with them."""
    for split, row in read_rows(folder, GqaRow):
        yield _problem(
            "gqa",
            GQA,
            row.question.strip(),
            split=split,
            program=steps(row.semantic) or None,
            source=f"gqa {row.id}",
            licence=GQA_LICENCE,
        )


GQA_LICENCE = "CC BY 4.0"


def steps(operations: Sequence[Operation]) -> str:
    """Return the operations as steps; inputs are told where they are not the last results that no step has taken."""
    free: list[int] = []
    texts = []
    for n, one in enumerate(operations):
        argument = re.sub(r"\s*\([\d, -]*\)\s*$|^\?$", "", one.argument.strip()).strip()  # numbers of objects
        text = f"{one.operation}: {argument}" if argument else one.operation
        needed = one.dependencies
        if needed and free[len(free) - len(needed) :] != needed:
            text = f"{text} {needed}"
        free = [*(i for i in free if i not in needed), n]
        texts.append(text)
    return " -> ".join(texts)


class Photo(NamedTuple):
    """Named things with attributes, and who stands in which relation to whom."""

    names: Sequence[str]
    attributes: Sequence[Mapping[str, str]]
    relations: Sequence[tuple[int, str, int]]

    def scene(self) -> dict[str, Any]:
        """Return the scene graph as GQA writes it."""
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
        """Return the things it may be in `photo`."""
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
    attribute = None  # said only where it tells things of one name apart: a verifier cannot see what it adds elsewhere
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


def generate_gqa(rng: random.Random, level: int) -> Problem:
    """Return a question about a random scene, with its answer there."""
    while True:
        scene = photo(rng)
        found = _looked(rng, scene, *rng.choice(GQA_FORMS[level]))
        if found:
            question, program, answer = found
            question = re.sub(r"\ba (?=[aeiou])", "an ", question)
            needed = [name for name in PHOTO_ATTRIBUTES if re.search(rf"\b{name}\b", " ".join(program))]
            told = {*needed, *rng.sample(list(PHOTO_ATTRIBUTES), 2)}
            context = "\n".join(f"{name}: {', '.join(PHOTO_ATTRIBUTES[name])}" for name in sorted(told))
            fields = {"context": context, "program": " -> ".join(program), "answer": answer}
            return _problem("gqa", GQA, question, environment={"scene": scene.scene()}, **fields)


Looked = tuple[str, list[str], bool | str]


def _looked(rng: random.Random, scene: Photo, ask: str, depth: int) -> Looked | None:  # noqa: PLR0911 - one return a form
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
    """Ask for the name of what stands in a relation to the thing."""
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


# --- geometry: forms and English ---------------------------------------------------------------------------------------

Form = tuple[Any, ...] | str
"""A predicate with its arguments, or algebra and names as they are written."""


class GeometryRow(Row):
    """Logic forms of one problem; its text where the row has it."""

    id: str
    text_logic_forms: list[str]
    diagram_logic_forms: list[str] = []
    problem_text: str | None = None


def read_geometry(folder: Path) -> Iterator[Problem]:
    """Yield Geometry3K's problems: the text and its forms, or all forms and what they say in English."""
    for split, row in read_rows(folder, GeometryRow):
        forms = row.text_logic_forms if row.problem_text else [*row.diagram_logic_forms, *row.text_logic_forms]
        forms = list(dict.fromkeys(form.strip() for form in forms if form.strip()))
        question = row.problem_text or verbalised(random.Random(row.id), [parsed(form) for form in forms])
        yield _problem(
            "geometry3k",
            GEOMETRY,
            question.strip(),
            split=split,
            program="\n".join(forms),
            source=f"geometry3k {row.id}",
            licence="MIT",
        )


def parsed(text: str) -> Form:
    """Return a form as a tree; whatever is no predicate with brackets is kept as text."""
    head = re.match(r"\s*([A-Z][A-Za-z]+)\(", text)
    if not head or not text.rstrip().endswith(")"):
        return text.strip()
    parts, depth, start = [], 0, head.end()
    for n, sign in enumerate(text.rstrip()):
        depth += (sign in "({") - (sign in ")}")
        if (sign == "," and depth == 1) or (sign == ")" and depth == 0):
            if depth == 0 and n < len(text.rstrip()) - 1:
                return text.strip()  # more follows: a sum, a product
            parts.append(parsed(text[start:n]))
            start = n + 1
    return (head[1], *parts)


def written(form: Form) -> str:
    """Return a form as the notation has it."""
    return form if isinstance(form, str) else f"{form[0]}({', '.join(map(written, form[1:]))})"


STATES: Mapping[str, Sequence[str]] = _DATA["states"]
ADJECTIVES = "Isosceles Equilateral Regular Right Shaded Minor Major Red Blue Green".split()
MEASURES: Mapping[str, Sequence[str]] = _DATA["measures"]
TERMS: Mapping[str, str] = _DATA["terms"]
OPENINGS: Sequence[str] = _DATA["openings"]


def verbalised(rng: random.Random, forms: Sequence[Form], opening: str = "") -> str:
    """Return the forms in English: what is given, in their order, one or two a sentence, then what is asked."""
    given = [_statement(rng, form) for form in forms if form[0] != "Find"]
    asked = [_statement(rng, form) for form in forms if form[0] == "Find"]
    sentences: list[str] = []
    while given:
        n = min(len(given), rng.choice((1, 1, 2)))
        sentences.append(" and ".join(given[:n]))
        given = given[n:]
    if sentences:
        sentences[0] = opening + sentences[0]
    ends = [text if text.endswith("?") else f"{text}." for text in asked]
    return " ".join([*(f"{text[:1].upper()}{text[1:]}." for text in sentences), *ends])


def _statement(rng: random.Random, form: Form) -> str:  # noqa: PLR0911 - one return a kind of form
    if isinstance(form, str):
        return form
    name, *parts = form
    said = [_term(part) for part in parts]
    if (
        name == "Equals"
        and parts[0][0] in ("LengthOf", "MeasureOf")
        and parts[0][1][0] in MEASURES
        and isinstance(parts[1], str)
    ):
        return rng.choice((*MEASURES[parts[0][1][0]], "{2} is {1}")).format(_term(parts[0][1]), said[1], said[0])
    if name in STATES:
        return rng.choice(STATES[name]).format(*said)
    if name == "IntersectAt":
        return f"{_listed(said[:-1])} intersect at {said[-1]}"
    if name.startswith("Is") and name.endswith("Of"):
        return f"{said[0]} is {_article(_words(name[2:-2]))} of {_listed(said[1:])}"
    if name in ADJECTIVES:
        return f"{said[0]} is {name.lower()}"
    if name == "Circle":
        return f"there is a {_term(form)}"
    if name == "UseTheorem":
        return f"the theorem to use is {said[0]}"
    return f"{_letters(parts)} is {_article(_words(name))}" if _letters(parts) else f"there is {_article(_words(name))}"


def _term(form: Form) -> str:  # noqa: PLR0911 - as above
    if isinstance(form, str):
        return form
    name, *parts = form
    if name == "Line":
        return _letters(parts) if len(parts) > 1 else f"line {_letters(parts)}" if _letters(parts) else "the line"
    if name == "Point":
        return _term(parts[0])
    if name in ADJECTIVES:
        return f"the {name.lower()} {_term(parts[0]).removeprefix('the ')}"
    said = [_term(part) for part in parts]
    if name in TERMS and ("{0}" not in TERMS[name] or len(said) == 2):
        return TERMS[name].format(*(said if "{0}" in TERMS[name] else [_listed(said)]))
    if name.endswith("Of"):
        return f"the {_words(name[:-2])} of {_listed(said)}"
    return f"{_words(name)} {_letters(parts)}".strip() if _letters(parts) else f"the {_words(name)}"


def _letters(parts: Sequence[Form]) -> str:
    """Return names in a row; those of a placeholder are none."""
    said = [_term(part).removeprefix("$") for part in parts]
    return "".join(said) if all(len(name) == 1 for name in said) else " ".join(said).strip()


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _listed(said: Sequence[str]) -> str:
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)


# --- geometry: generating ----------------------------------------------------------------------------------------------


def _call(text: str, **names: str) -> Form:
    """Return a form of `text`, in which capitals in braces stand for points."""
    return parsed(text.format(**names))


QUADRILATERALS = ("Parallelogram", "Rectangle", "Rhombus", "Square", "Kite", "Trapezoid", "Quadrilateral")
FIGURES: Sequence[tuple[str, Sequence[str]]] = _DATA["figures"]
GIVENS: Sequence[str] = _DATA["givens"]
TARGETS: Sequence[str] = _DATA["targets"]
OF_FIGURE = ("AreaOf({})", "PerimeterOf({})")
N_GIVEN = {1: (0, 1), 2: (2, 3), 3: (4, 6)}


def generate_geometry(rng: random.Random, level: int) -> Problem:
    """Return a figure with some of what may be given of it, and something to find."""
    shape, own = rng.choice(FIGURES)
    points = dict(zip("ABCDEFGHO", rng.sample("ABCDEFGHJKLMNPQRSTUVWXYZ", 9), strict=True))
    quad, variable, number = rng.choice(QUADRILATERALS), rng.choice("xyzabkm"), str(rng.randint(1, 12))

    def form(text: str) -> Form:
        a, b, n = rng.randint(2, 9), rng.randint(1, 30), rng.randint(3, 150)
        plain = (f"{a}{variable}{rng.choice('+-')}{b}", f"{variable}+{b}", f"{a}{variable}")
        words = {
            "quad": quad,
            "x": variable,
            "i": number,
            "n": str(n),
            "e": rng.choice((*plain, str(n))),
            "q": f"{a}/{b}",
        }
        return _call(text, **words, **points)

    figure = form(shape)
    pool = [form(text) for text in (*own, *GIVENS)]
    rng.shuffle(pool)
    told = {form[1] if form[0] == "Equals" else form: form for form in reversed(pool)}  # nothing has two sizes
    given = [form for form in pool if form in told.values()][: rng.randint(*N_GIVEN[level])]
    forms = [figure] if level > 1 or not given or rng.random() < 0.5 else []
    forms += given
    is_closed = not shape.startswith("Parallel(")
    asked = form(rng.choice(TARGETS)) if not is_closed or rng.random() < 0.7 else None
    target = asked or _call(
        rng.choice(OF_FIGURE[:1] if shape.startswith("Circle") else OF_FIGURE).format(written(figure))
    )
    forms.append(("Find", target))
    forms = list(dict.fromkeys(forms))
    opening = rng.choice(OPENINGS).format(rng.choice(_DATA["drawings"].split()))
    return _problem("geometry3k", GEOMETRY, verbalised(rng, forms, opening), program="\n".join(map(written, forms)))


# --- tasks ------------------------------------------------------------------------------------------------------------

_CUBES = _declared(ATTRIBUTE_SCENES[0])
TASKS = (
    Task(
        "gqa", "scene", GQA,
        shots=(
            ("color: pink, khaki", "What color is the sock?", "select: sock -> query: color"),
            ("size: small, large", "Is the large cup that the judge is holding behind the plant?",
             "select: judge -> relate: cup,holding,o -> filter size: large -> verify rel: plant,behind,o"),
            ("color: pink, khaki", "Are there both a pony and a pink cart?", "select: cart -> filter color: pink -> exist -> select: pony -> exist -> and"),
        ),
        licence=GQA_LICENCE, citation="Hudson and Manning 2019, GQA", folder="visual/gqa", read=read_gqa, generate=generate_gqa,
        published=Published(28, "EM", 36086, 2000),
    ),
    Task(
        "clevr", "scene", CLEVR,
        shots=(
            (_CUBES, "How many red spheres does one see?", "count(filter_shape[sphere](filter_color[red](scene())))"),
            (_CUBES, "What is the color of the small metal thing behind the one cube?",
             "query_color(unique(filter_size[small](filter_material[metal](relate[behind](unique(filter_shape[cube](scene())))))))"),
            (_CUBES, "Do fewer things share the size of the cylinder than are blue or green?",
             "less_than(count(same_size(unique(filter_shape[cylinder](scene())))), count(union(filter_color[blue](scene()), filter_color[green](scene()))))"),
        ),
        licence=CLEVR_LICENCE, citation="Johnson et al. 2017, CLEVR", folder="visual/clevr_programs", read=read_clevr,
        generate=generate_clevr, published=Published(29, "EM", 47081, 2000),
    ),
    Task(
        "geometry3k", "geometry", GEOMETRY,
        shots=(
            ("", "The side IJ has length 4. Find w.", "Equals(LengthOf(Line(I, J)), 4)\nFind(w)"),
            ("", "ILJK is a rhombus with angle LIK of 3w+6 degrees. How large is its area?",
             "Rhombus(I, L, J, K)\nEquals(MeasureOf(Angle(L, I, K)), 3w+6)\nFind(AreaOf(Rhombus(I, L, J, K)))"),
            ("", "IJ is a diameter of circle L, and the line IK is tangent to it. How long is IK?",
             "Circle(L)\nIsDiameterOf(Line(I, J), Circle(L))\nTangent(Line(I, K), Circle(L))\nFind(LengthOf(Line(I, K)))"),
        ),
        licence="MIT", citation="Lu et al. 2021, Inter-GPS", folder="visual/geometry3k", read=read_geometry, generate=generate_geometry,
        published=Published(30, "EM", 2864, 601),
    ),
)  # fmt: skip
