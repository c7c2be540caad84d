"""Planning: scenes to PDDL problems, and PDDL problems to plans.

Four scene tasks are Symbol-LLM's: their sets (Liu et al. 2023, LLM+P) are folders of text; here each is read from rows
with the fields `id`, `domain` (the domain file), `nl` (the scene) and `pddl` (its problem file). Their generators build
text and problem file from one state. Five plan tasks are only read: from a domain, an initial state and a goal, given
as text (PlanBench) or as a problem file (pddlgym), to a plan.

PDDL ignores case but the renaming of symbols does not, so everything read is put in lower case. PlanBench's texts use
other names for objects than its problem files: `environment["names"]` maps them back, and gold plans use the text's
names. pddlgym has problems without scenes and plans: its rows are plan tasks of which it is only known that a plan
exists.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import yaml

from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.records import Problem, Split
from symbol_llm.notation import strips
from symbol_llm.tasks import Published, Row, Task, read_rows

WRITE_PROBLEM = "Write the scene as a PDDL problem file of this domain. :init lists all that holds."
WRITE_PLAN = "Write a plan, one action a line, for this PDDL domain."
_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("planning.yaml").read_text(encoding="utf-8"))
STACKS = tuple((one, many, names.split()) for one, many, names in _DATA["stacks"])
WORDS: Mapping[str, list[str]] = {key: text.split() for key, text in _DATA.items() if isinstance(text, str)}
SAY: Mapping[str, list[str]] = _DATA["say"]
DOMAINS: Mapping[str, str] = _DATA["domains"]
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()

Fact = tuple[str, ...]


class Scene(NamedTuple):
    """A state and a goal in one domain, and the text that describes both."""

    domain: str
    objects: Mapping[str, Sequence[str]]
    """Objects by type; "" is no type."""
    facts: Sequence[Fact]
    goal: Sequence[Fact]
    text: str

    def program(self) -> str:
        """Return the problem file."""
        name = strips.read_domain(self.domain).name
        listed = (f"{' '.join(names)}{type_ and f' - {type_}'}" for type_, names in self.objects.items() if names)
        lines = (
            f"(define (problem p) (:domain {name})",
            f"(:objects {' '.join(listed)})",
            f"(:init {_listed(self.facts)})",
            f"(:goal (and {_listed(self.goal)})))",
        )
        return "\n".join(lines)


def _listed(facts: Iterable[Fact]) -> str:
    return " ".join(f"({' '.join(fact)})" for fact in facts)


def declaration(domain: str) -> str:
    """Return name, types and predicates as written in the domain file, in three lines at most."""
    sections = {section.head: section.parts or () for section in strips.read(domain)[0].parts or ()}
    lines = [f"Domain: {sections['domain'][1]}"]
    for head in (":types", ":predicates"):
        if head in sections:
            lines.append(f"{head[1:].capitalize()}: {' '.join(map(str, sections[head][1:]))}")
    return "\n".join(lines)


# --- public sets ------------------------------------------------------------------------------------------------------


class SceneRow(Row):
    """A scene and its problem file, from the sets of LLM+P."""

    id: str
    domain: str
    nl: str
    pddl: str


class PlanRow(Row):
    """A problem of PlanBench or pddlgym."""

    id: str
    domain: str
    problem: str
    query: str | None = None
    """PlanBench's prompt: the domain in words, a solved problem, and this problem in words."""
    ground_truth_plan: str | None = None


def _plain(text: str) -> str:
    """Return PDDL in lower case without comments, one action per line."""
    words = " ".join(re.sub(r";[^\n]*", "", text).lower().split())
    words = re.sub(r"(?<= )-(?=[a-z])", "- ", words)  # pddlgym writes `?b -ball`
    words = re.sub(r"(?<=\() | (?=\))", "", words)
    return re.sub(r" (?=\(:action )", "\n", words)


def _domain(text: str, where: str) -> strips.Domain:
    try:
        return strips.read_domain(text)
    except Unparsable as e:
        raise InvalidInput(f"{where}: domain: {e}") from e


def _scene_problem(name: str, question: str, domain: str, program: str, *, split: Split, source: str) -> Problem:
    return Problem.of(
        task=name,
        family="pddl",
        split=split,
        instruction=WRITE_PROBLEM,
        context=declaration(domain),
        question=question,
        program=program,
        environment={"domain": domain, "fixed_names": True},
        symbols=tuple(strips.read_domain(domain).predicates),
        source=source,
        licence="Apache-2.0" if source == "generated" else SCENE_LICENCE,
    )


def _read_scenes(name: str, folder: Path) -> Iterator[Problem]:
    for split, row in read_rows(folder, SceneRow):
        source = f"{name} {row.id}"
        domain = _plain(row.domain)
        _domain(domain, source)
        yield _scene_problem(name, row.nl.strip(), domain, _plain(row.pddl), split=split, source=source)


_COLOURS = "red blue orange yellow white magenta black cyan green violet silver gold".split()
COLOUR_NAMES = dict(zip(_COLOURS, "abcdefghijkl", strict=True))
"""Names of blocks in PlanBench's texts and plans, and in its problem files."""
_LOGISTICS = {"p": "package", "t": "truck", "a": "airplane", "c": "city", "l": "location"}
_LAST_STATEMENT = re.compile(r"\[STATEMENT\](?:(?!\[STATEMENT\]).)*?(As initial.*?)\s*My plan is as follows", re.DOTALL)


def _names(name: str, objects: Iterable[str]) -> dict[str, str]:
    """Return the text's names for `objects`, where they differ."""
    if name == "planbench_blocksworld":
        return {colour: letter for colour, letter in COLOUR_NAMES.items() if letter in objects}
    if name == "planbench_logistics":
        spelled = {o: re.fullmatch(r"([ptacl])(\d+)(?:-(\d+))?", o) for o in objects}
        return {"_".join([_LOGISTICS[m[1]], *filter(None, m.groups()[1:])]): o for o, m in spelled.items() if m}
    return {}


def _read_plans(task: str, licence: str, folder: Path) -> Iterator[Problem]:
    evaluation_only = task in EVALUATION_ONLY
    for split, row in read_rows(folder, PlanRow):
        source = f"{task} {row.id}"
        domain, problem = _plain(row.domain), _plain(row.problem)
        actions = tuple(_domain(domain, source).actions)
        told = _LAST_STATEMENT.findall(row.query or "")
        names = _names(task, _objects(problem))
        spoken = {o: name for name, o in names.items()} if told else names
        plan = _called(row.ground_truth_plan or "", spoken).strip()
        yield Problem.of(
            task=task,
            family="plan",
            split="test" if evaluation_only else split,
            instruction=WRITE_PLAN,
            context=domain if told else f"{domain}\n{problem}",
            question=" ".join(told[-1].split()) if told else "Reach the goal of this problem.",
            answer=None if "(probabilistic " in domain else True,
            program=plan or None,
            environment={"domain": domain, "problem": problem, "names": names},
            symbols=actions,
            source=source,
            licence=licence,
        )


def _objects(problem: str) -> list[str]:
    sections = strips.read(problem)[0].parts or ()
    return [part.name for section in sections if section.head == ":objects" for part in (section.parts or ())[1:]]


def _called(plan: str, names: Mapping[str, str]) -> str:
    """Return `plan` with the text's names for objects; the names of actions stay."""
    return re.sub(r"(?<= )[\w-]+", lambda word: names.get(word[0], word[0]), plan.lower())


# --- blocks -----------------------------------------------------------------------------------------------------------

Stacks = Sequence[Sequence[str]]
"""Each stack from the table upwards."""

N_BLOCKS = {1: (2, 3), 2: (4, 6), 3: (7, 11)}


def blocks_scene(rng: random.Random, kind: tuple[str, str], stacks: Stacks, held: str | None, goal: Stacks) -> Scene:
    """Return the scene with `stacks`, the arm holding `held`, and the stacks of `goal` as the goal."""
    names = sorted([*(name for stack in stacks for name in stack), *([held] if held else [])])
    facts: list[Fact] = [("holding", held)] if held else [("arm-empty",)]
    for stack in stacks:
        facts += [("on-table", stack[0]), *_on(stack), ("clear", stack[-1])]
    wanted = [fact for stack in goal for fact in _on(stack)]
    one, many = kind
    parts = [rng.choice(SAY["held"]).format(held) if held else rng.choice(SAY["empty"])]
    for stack in stacks:
        parts += _stack_text(rng, stack)
        if rng.random() < 0.3:
            parts.append(rng.choice(SAY["clear"]).format(stack[-1]))
    rng.shuffle(parts)
    opening = (f"There are {NUMBERS[len(names)]} {many}: {_and(names)}.", f"A {one} is one of {_and(names)}.", "")
    ends = [_wanted(rng, stack) for stack in goal]
    text = f"{rng.choice(opening)} {_sentences(rng, parts)} {rng.choice(SAY['goal']).format(_and(sum(ends, [])))}"
    return Scene(DOMAINS["blocksworld"], {"": names}, facts, wanted, text.strip())


def _on(stack: Sequence[str]) -> list[Fact]:
    return [("on", upper, lower) for lower, upper in zip(stack, stack[1:], strict=False)]


def _stack_text(rng: random.Random, stack: Sequence[str]) -> list[str]:
    if len(stack) > 2 and rng.random() < 0.4:
        return [rng.choice(SAY["stack"]).format(_and(stack))]
    return [
        rng.choice(SAY["on_table"]).format(stack[0]),
        *(rng.choice(SAY["upon"]).format(*fact[1:]) for fact in _on(stack)),
    ]


def _wanted(rng: random.Random, stack: Sequence[str]) -> list[str]:
    return [rng.choice(SAY["upon"][:3]).format(*fact[1:]) for fact in _on(stack)]


def _blocks(rng: random.Random, level: int) -> Scene:
    one, many, names = rng.choice(STACKS)
    chosen = rng.sample(names, rng.randint(*N_BLOCKS[level]))
    held = chosen[-1] if level > 1 and rng.random() < 0.25 else None
    stacks = _piled(rng, [name for name in chosen if name != held])
    while True:
        goal = [stack for stack in _piled(rng, rng.sample(chosen, len(chosen))) if len(stack) > 1]
        wanted = {fact for stack in goal for fact in _on(stack)}
        if wanted - {fact for stack in stacks for fact in _on(stack)}:
            return blocks_scene(rng, (one, many), stacks, held, goal)


def _piled(rng: random.Random, names: Sequence[str]) -> list[list[str]]:
    stacks: list[list[str]] = []
    for name in names:
        if stacks and rng.random() < 0.6:
            rng.choice(stacks).append(name)
        else:
            stacks.append([name])
    return stacks


# --- grippers ---------------------------------------------------------------------------------------------------------

SIZES = {1: ((1,), (1,), (2, 2), (1, 2)), 2: ((1, 2), (1, 2), (2, 4), (2, 4)), 3: ((2, 3), (2,), (4, 6), (5, 9))}
"""Numbers of robots, of grippers each, of rooms and of items, by level."""


class Robot(NamedTuple):
    """A robot's room, and the items that its grippers carry."""

    room: str
    grippers: Mapping[str, str | None]


def grippers_scene(
    rng: random.Random,
    rooms: Sequence[str],
    robots: Mapping[str, Robot],
    items: Mapping[str, str],
    goal: Sequence[Fact],
) -> Scene:
    """Return the scene with `robots`, `items` by room, and the facts `at` and `at-robby` of `goal`."""
    facts: list[Fact] = []
    parts = []
    for name, robot in robots.items():
        facts.append(("at-robby", name, robot.room))
        hands = list(robot.grippers)
        parts.append(
            rng.choice(SAY["robot"]).format(name, robot.room, f"gripper{'s' * (len(hands) > 1)} {_and(hands)}")
        )
        for gripper, item in robot.grippers.items():
            facts.append(("carry", name, item, gripper) if item else ("free", name, gripper))
            parts += [rng.choice(SAY["carried"]).format(name, item, gripper)] if item else []
    for room in rooms:
        here = [item for item, its in items.items() if its == room]
        facts += [("at", item, room) for item in here]
        parts += [rng.choice(SAY["in"]).format(_and(here), room, be="are" if len(here) > 1 else "is")] if here else []
    rng.shuffle(parts)
    carried = [item for robot in robots.values() for item in robot.grippers.values() if item]
    rest = rng.choice(("All other grippers are free.", "What carries nothing is free.") if carried else SAY["free"])
    opening = f"There are {NUMBERS[len(rooms)]} rooms: {_and(rooms)}. The robot{'s are' if len(robots) > 1 else ' is'} {_and(robots)}."
    ends = _and([rng.choice(SAY["ends_in"]).format(*fact[1:]) for fact in goal])
    objects = {
        "room": list(rooms),
        "item": sorted([*items, *carried]),
        "robot": list(robots),
        "gripper": [gripper for robot in robots.values() for gripper in robot.grippers],
    }
    text = " ".join(filter(None, [opening, _sentences(rng, parts), rest, rng.choice(SAY["goal"]).format(ends)]))
    return Scene(DOMAINS["grippers"], objects, facts, goal, text)


def _grippers(rng: random.Random, level: int) -> Scene:
    n_robots, n_hands, n_rooms, n_items = (rng.randint(sizes[0], sizes[-1]) for sizes in SIZES[level])
    rooms, items = rng.sample(WORDS["rooms"], n_rooms), rng.sample(WORDS["items"], n_items)
    hand, at, n = rng.choice(WORDS["hands"]), {item: rng.choice(rooms) for item in items}, 0
    robots = {}
    for name in rng.sample(WORDS["robots"], n_robots):
        grippers: dict[str, str | None] = {}
        for _ in range(n_hands):
            n += 1
            taken = rng.choice(list(at)) if level > 1 and len(at) > 1 and rng.random() < 0.2 else None
            at.pop(taken or "", None)
            grippers[f"{hand}{n}"] = taken
        robots[name] = Robot(rng.choice(rooms), grippers)
    moved = rng.sample(items, rng.randint(1, n_items))
    goal: list[Fact] = [("at", item, rng.choice([room for room in rooms if room != at.get(item)])) for item in moved]
    if level == 3:
        goal += [("at-robby", name, rng.choice(rooms)) for name in robots if rng.random() < 0.5]
    return grippers_scene(rng, rooms, robots, at, goal)


# --- grids ------------------------------------------------------------------------------------------------------------

Cell = tuple[int, int]
GRIDS = {1: ((1, 2), (2, 1), (1, 3)), 2: ((2, 2), (2, 3), (3, 2)), 3: ((3, 3), (3, 4), (4, 3))}


class Grid(NamedTuple):
    """Names of places by row and column."""

    prefix: str
    rows: int
    columns: int

    def cells(self) -> list[Cell]:
        """Return all places, row by row."""
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]

    def name(self, cell: Cell) -> str:
        """Return the name of `cell`: its row and column after the prefix."""
        return f"{self.prefix}{cell[0]}-{cell[1]}"

    def text(self, rng: random.Random, many: str) -> str:
        """Return a sentence that gives size and names."""
        last = (self.rows - 1, self.columns - 1)
        return rng.choice(SAY["grid"]).format(
            many=many, Many=many.capitalize(), rows=self.rows, columns=self.columns, s="s" * (self.rows > 1),
            first=self.name((0, 0)), last=self.name(last), r=last[0], c=last[1],
        )  # fmt: skip

    def pairs(self, down: int, right: int) -> list[tuple[str, str]]:
        """Return the names of each place and the one `down` rows and `right` columns further, if there is one."""
        cells = self.cells()
        return [
            (self.name((r, c)), self.name((r + down, c + right))) for r, c in cells if (r + down, c + right) in cells
        ]


def floortile_scene(
    rng: random.Random,
    grid: Grid,
    robots: Mapping[str, tuple[Cell, str]],
    colours: Sequence[str],
    goal: Mapping[Cell, str],
) -> Scene:
    """Return the scene with `robots` by place and paint, the available `colours`, and `goal` to be painted."""
    facts: list[Fact] = [("available-color", colour) for colour in colours]
    for name, (cell, colour) in robots.items():
        facts += [("robot-at", name, grid.name(cell)), ("robot-has", name, colour)]
    taken = {cell for cell, _ in robots.values()}
    facts += [("clear", grid.name(cell)) for cell in grid.cells() if cell not in taken]
    for predicate, step in (("up", (-1, 0)), ("down", (1, 0)), ("right", (0, -1)), ("left", (0, 1))):
        facts += [(predicate, one, other) for one, other in grid.pairs(*step)]
    wanted: list[Fact] = [("painted", grid.name(cell), colour) for cell, colour in sorted(goal.items())]
    parts = [
        rng.choice(SAY["painter"]).format(name, grid.name(cell), colour) for name, (cell, colour) in robots.items()
    ]
    rng.shuffle(parts)
    ends = [rng.choice(SAY["painted"]).format(*fact[1:]) for fact in wanted]
    text = " ".join((
        grid.text(rng, "tiles"), rng.choice(SAY["upwards"]), _sentences(rng, parts),
        f"{rng.choice(('Paint can be', 'The colors to be had are', 'There is paint in'))} {_and(colours)}.",
        f"{rng.choice(('All other tiles are clear.', 'A tile without a robot is clear.'))}",
        rng.choice(SAY["goal"]).format(_and(ends)),
    ))  # fmt: skip
    objects = {"tile": [grid.name(cell) for cell in grid.cells()], "robot": list(robots), "color": list(colours)}
    return Scene(DOMAINS["floortile"], objects, facts, wanted, text)


def _floortile(rng: random.Random, level: int) -> Scene:
    grid = Grid(rng.choice(WORDS["tiles"]), *rng.choice(GRIDS[level]))
    colours = rng.sample(WORDS["colours"], rng.randint(1, min(3, level + 1)))
    n_robots = 1 if level == 1 or grid.columns == 1 else rng.randint(1, 2)
    places = rng.sample(grid.cells(), n_robots)
    names = rng.sample(WORDS["robots"], n_robots)
    robots = {name: (cell, rng.choice(colours)) for name, cell in zip(names, places, strict=True)}
    upper = [cell for cell in grid.cells() if cell[0] > 0 or grid.rows == 1 and cell not in places]
    painted = rng.sample(upper, rng.randint(1, min(len(upper), 2 * level)))
    return floortile_scene(rng, grid, robots, colours, {cell: rng.choice(colours) for cell in painted})


def termes_scene(
    rng: random.Random,
    grid: Grid,
    robot: Cell,
    depot: Cell,
    piles: tuple[Mapping[Cell, int], Mapping[Cell, int]],
    most: int,
) -> Scene:
    """Return the scene with the robot, the depot, and the nonzero heights at start and in the goal, at most `most`."""
    numbers = [f"n{n}" for n in range(most + 1)]
    start, goal = piles
    names = {cell: grid.name(cell) for cell in grid.cells()}
    facts: list[Fact] = [("at", names[robot]), ("is-depot", names[depot])]
    facts += [("height", name, numbers[start.get(cell, 0)]) for cell, name in names.items()]
    facts += [("succ", numbers[n + 1], numbers[n]) for n in range(most)]
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        facts += [("neighbor", one, other) for one, other in grid.pairs(*step)]
    wanted: list[Fact] = [("height", name, numbers[goal[cell]]) for cell, name in names.items() if cell in goal]
    parts = [rng.choice(SAY["termes_robot"]).format(names[robot]), rng.choice(SAY["depot"]).format(names[depot])]
    parts += [rng.choice(SAY["height"]).format(names[cell], height) for cell, height in start.items()]
    rng.shuffle(parts)
    ends = [rng.choice(SAY["height"]).format(names[cell], goal[cell]) for cell in names if cell in goal]
    site = rng.choice(SAY["site"]).format(rng.choice(WORDS["bricks"]), rng.choice(WORDS["sites"]))
    text = " ".join((
        *([site] if site else []), grid.text(rng, "positions"), f"Heights are n0 to n{most}{', all others n0 now' if start else ', all n0 now'}.",
        "Positions side by side in a row or column are neighbors.", _sentences(rng, parts), rng.choice(SAY["goal"]).format(_and(ends)),
    ))  # fmt: skip
    return Scene(DOMAINS["termes"], {"numb": numbers, "position": list(names.values())}, facts, wanted, text)


def _termes(rng: random.Random, level: int) -> Scene:
    grid = Grid(rng.choice(WORDS["positions"]), *rng.choice(GRIDS[level]))
    robot, depot, *rest = [rng.choice(grid.cells()), *rng.sample(grid.cells(), grid.rows * grid.columns)]
    most = rng.randint(1, level + 1)
    heaps = [cell for cell in rest if cell != robot]
    start = {cell: rng.randint(1, most) for cell in heaps[: rng.randint(0, level - 1)]}
    goal = {cell: rng.randint(0, most) for cell in rng.sample(rest, rng.randint(1, min(len(rest), level + 1)))}
    if all(start.get(cell, 0) == height for cell, height in goal.items()):
        goal[rest[0]] = rng.choice([n for n in range(most + 1) if n != start.get(rest[0], 0)])
    return termes_scene(rng, grid, robot, depot, (start, goal), most)


# --- English ----------------------------------------------------------------------------------------------------------


def _and(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _sentences(rng: random.Random, parts: Sequence[str]) -> str:
    """Join clauses into sentences of one to three each."""
    sentences, at = [], 0
    while at < len(parts):
        n = rng.choice((1, 1, 2, 3))
        sentences.append(", ".join(parts[at : at + n]) + ".")
        at += n
    return re.sub(
        r"(?:^|(?<=\. ))(?:the|nothing|from|one|piled|in|new)\b", lambda word: word[0].capitalize(), " ".join(sentences)
    )


# --- tasks ------------------------------------------------------------------------------------------------------------

Make = Callable[[random.Random, int], Scene]
SCENE_LICENCE = "none stated by its repository"
_SHOT = random.Random(0)
_K, _GRID = ("block", "blocks"), Grid("k", 1, 2)
_SHOTS: Mapping[str, Sequence[Scene]] = {
    "blocksworld": (
        blocks_scene(_SHOT, _K, [["k1"], ["k2"]], None, [["k1", "k2"]]),
        blocks_scene(_SHOT, _K, [["k1", "k2"]], "k3", [["k2", "k1"]]),
        blocks_scene(_SHOT, _K, [["k3", "k1"], ["k2"]], None, [["k1", "k2", "k3"]]),
    ),
    "grippers": (
        grippers_scene(_SHOT, ["west", "east"], {"r1": Robot("west", {"g1": None})}, {"o1": "east"}, [("at", "o1", "west")]),
        grippers_scene(
            _SHOT, ["west", "east"], {"r1": Robot("east", {"g1": "o1", "g2": None})}, {"o2": "west"},
            [("at", "o1", "west"), ("at", "o2", "east")],
        ),
        grippers_scene(
            _SHOT, ["west", "east", "south"], {"r1": Robot("west", {"g1": None}), "r2": Robot("south", {"g2": None})},
            {"o1": "east", "o2": "east"}, [("at", "o1", "south"), ("at-robby", "r1", "east")],
        ),
    ),
    "floortile": (
        floortile_scene(_SHOT, _GRID, {"r1": ((0, 0), "mauve")}, ["mauve"], {(0, 1): "mauve"}),
        floortile_scene(_SHOT, _GRID._replace(rows=2, columns=1), {"r1": ((1, 0), "ochre")}, ["mauve", "ochre"], {(1, 0): "mauve"}),
        floortile_scene(_SHOT, _GRID._replace(rows=2), {"r1": ((0, 1), "mauve")}, ["mauve", "ochre"], {(1, 0): "ochre", (1, 1): "mauve"}),
    ),
    "termes": (
        termes_scene(_SHOT, _GRID, (0, 0), (0, 0), ({}, {(0, 1): 1}), 1),
        termes_scene(_SHOT, _GRID._replace(rows=2, columns=1), (1, 0), (0, 0), ({(1, 0): 1}, {(1, 0): 0}), 1),
        termes_scene(_SHOT, _GRID._replace(columns=3), (0, 2), (0, 0), ({(0, 1): 1}, {(0, 1): 0, (0, 2): 1}), 2),
    ),
}  # fmt: skip


def _scenes(name: str, number: int, make: Make) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        return _read_scenes(name, folder)

    def generate(rng: random.Random, level: int) -> Problem:
        scene = make(rng, level)
        return _scene_problem(name, scene.text, scene.domain, scene.program(), split="train", source="generated")

    shots = tuple((declaration(scene.domain), scene.text, scene.program()) for scene in _SHOTS[name])
    return Task(
        name, "pddl", WRITE_PROBLEM, shots, SCENE_LICENCE, "Liu et al. 2023, LLM+P",
        folder=f"planning/{name}", read=read, generate=generate, published=Published(number, "BLEU", 37600, 20),
        environment={"domain": DOMAINS[name], "fixed_names": True},
    )  # fmt: skip


EVALUATION_ONLY = ("planbench_mystery_blocksworld",)


def _plans(name: str, citation: str) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        return _read_plans(name, "MIT", folder)

    ferry = DOMAINS["ferry"]
    shots = tuple((f"{ferry}\n{more}".strip(), question, plan) for more, question, plan in _DATA["plan_shots"])
    return Task(
        name, "plan", WRITE_PLAN, shots, "MIT", citation,
        folder=f"planning/{name}", read=read, evaluation_only=name in EVALUATION_ONLY,
    )  # fmt: skip


TASKS = (
    _scenes("blocksworld", 1, _blocks),
    _scenes("termes", 2, _termes),
    _scenes("floortile", 3, _floortile),
    _scenes("grippers", 4, _grippers),
    *(
        _plans(f"planbench_{name}", "Valmeekam et al. 2023, PlanBench")
        for name in ("blocksworld", "mystery_blocksworld", "logistics", "depots")
    ),
    _plans("pddlgym", "Silver and Chitnis 2020, PDDLGym"),
)
