"""Visual questions to symbols: CLEVR's and GQA's programs over scenes, Geometry3K's logic forms. No images.

The scene is in the environment, where programs are run, not in the prompt: a program must hold for any scene. The
prompt declares attributes and their values. For CLEVR, the first of a question's scenes is used; if a node lacks its
value, as in some of the released programs, the problem has no program. GQA is read as released, one question per line,
without its scene graphs, since running its programs would need its own ontology. Generated scenes and questions come
from `attribute_scenes.py` and `photos.py`.

The slice of Geometry3K has no problem texts. If a row has none (`problem_text`), its forms, those of the diagram first,
are put into English by `geometry_forms.verbalised`, as the generator's are; the task is then to read that English back.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from symbol_llm.families.scene import from_nodes
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import read_json_lines
from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Published, Row, Task, read_rows
from symbol_llm.tasks.visual.attribute_scenes import (
    ATTRIBUTE_SCENES,
    CLEVR_FORMS,
    DIRECTIONS,
    Attributes,
    asked_of_scene,
    seen,
)
from symbol_llm.tasks.visual.geometry_forms import Form, parsed, verbalised, written
from symbol_llm.tasks.visual.photos import GQA_FORMS, PHOTO_ATTRIBUTES, asked_of_photo, photo

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

_DATA = yaml.safe_load(resources.files("symbol_llm.tasks.visual").joinpath("visual.yaml").read_text(encoding="utf-8"))


def _problem(name: str, instruction: str, question: str, **fields: Any) -> Problem:
    family = "geometry" if name == "geometry3k" else "scene"
    fields = {"split": "train", "source": "generated", "licence": "Apache-2.0", **fields}
    return Problem.of(task=name, family=family, instruction=instruction, question=question, **fields)


# --- CLEVR ------------------------------------------------------------------------------------------------------------


class ClevrRow(Row):
    """A question of CLEVR asked of several scenes."""

    id: str
    question: str
    image_filenames: list[str]
    answers: list[Any]
    program: list[list[dict[str, Any]]]


CLEVR_LICENCE = "CC BY 4.0"


def _declared(attributes: Attributes) -> str:
    lines = [f"{attribute}: {', '.join(values)}" for attribute, values in attributes.items()]
    return "\n".join([*lines, f"direction: {', '.join(DIRECTIONS)}"])


def _scenes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the scenes by image; empty if there is no file of scenes."""
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
    """Yield CLEVR's questions, with scene and answer if `scenes.jsonl` is next to them and has the row's scene."""
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


def generate_clevr(rng: random.Random, level: int) -> Problem:
    """Return a question about a random scene, with its answer there."""
    while True:
        scene = seen(rng)
        found = asked_of_scene(rng, scene, rng.choice(CLEVR_FORMS[level]))
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
    """Yield GQA's questions, which are compared in normal form, since they have no scenes."""
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
    """Return the operations as steps; inputs are named unless they are the last unused results."""
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


def generate_gqa(rng: random.Random, level: int) -> Problem:
    """Return a question about a random scene, with its answer there."""
    while True:
        scene = photo(rng)
        found = asked_of_photo(rng, scene, *rng.choice(GQA_FORMS[level]))
        if found:
            question, program, answer = found
            question = re.sub(r"\ba (?=[aeiou])", "an ", question)
            needed = [name for name in PHOTO_ATTRIBUTES if re.search(rf"\b{name}\b", " ".join(program))]
            told = {*needed, *rng.sample(list(PHOTO_ATTRIBUTES), 2)}
            context = "\n".join(f"{name}: {', '.join(PHOTO_ATTRIBUTES[name])}" for name in sorted(told))
            fields = {"context": context, "program": " -> ".join(program), "answer": answer}
            return _problem("gqa", GQA, question, environment={"scene": scene.scene()}, **fields)


# --- geometry ---------------------------------------------------------------------------------------------------------


class GeometryRow(Row):
    """Logic forms of one problem, and its text if the row has one."""

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


def _call(text: str, **names: str) -> Form:
    """Return a form from `text`, in which capitals in braces stand for points."""
    return parsed(text.format(**names))


OPENINGS: Sequence[str] = _DATA["openings"]
QUADRILATERALS = ("Parallelogram", "Rectangle", "Rhombus", "Square", "Kite", "Trapezoid", "Quadrilateral")
FIGURES: Sequence[tuple[str, Sequence[str]]] = _DATA["figures"]
GIVENS: Sequence[str] = _DATA["givens"]
TARGETS: Sequence[str] = _DATA["targets"]
OF_FIGURE = ("AreaOf({})", "PerimeterOf({})")
N_GIVEN = {1: (0, 1), 2: (2, 3), 3: (4, 6)}


def generate_geometry(rng: random.Random, level: int) -> Problem:
    """Return a figure with some of its possible givens, and something to find."""
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
