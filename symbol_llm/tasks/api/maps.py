"""Questions about places to queries of OpenStreetMap: NLmaps."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Published, Row, Task, read_rows
from symbol_llm.tasks.api.data import DATA, OWN, shots

NLMAPS_INSTRUCTION = (
    "Write the map query: query(PLACES,qtype(ASKED)). PLACES is area(keyval('name','Town')),nwr(keyval(...)), in"
    " north/south/east/west(...) for a part of town, or around(center(area(...),nwr(...)),search(nwr(...)),maxdist(METRES or"
    " DIST_INTOWN),topx(1) for the closest). ASKED is latlong, count, findkey('key') or least(topx(N)) for N or more. "
    "dist(query,query) asks how far."
)
DIRECTIONS = ("north", "south", "east", "west")
DISTANCES = (100, 150, 200, 250, 300, 400, 500, 600, 750, 800, 1000, 1200, 1500, 2000, 2500, 3000, 4000, 5000)
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 10: "ten", 12: "twelve"}


class NlmapsRow(Row):
    """A question to OpenStreetMap."""

    id: str
    en: str
    mrl: str


def read_nlmaps(folder: Path) -> Iterator[Problem]:
    """Yield the rows of NLmaps in `folder`."""
    for split, row in read_rows(folder, NlmapsRow):
        fields = {"split": split, "source": f"nlmaps {row.id}", "licence": "CC BY-NC-SA 4.0"}
        yield _map_problem(row.en, row.mrl, "", **fields)


def _map_problem(question: str, query: str, tags: str, **fields: Any) -> Problem:
    text = {"instruction": NLMAPS_INSTRUCTION, "context": tags, "question": question, "program": query}
    return Problem.of(task="nlmaps", family="mrl", **text, **fields)


_KEYVAL = "keyval('{}')"


class Kind(NamedTuple):
    """A kind of place on a map."""

    one: str
    many: str
    tags: str

    def nwr(self) -> str:
        """Return the operator that finds places of this kind."""
        pairs = [tag.replace("=", "','") for tag in self.tags.split()]
        return f"nwr({','.join(map(_KEYVAL.format, pairs))})"


KINDS = tuple(Kind(*row) for row in DATA["kinds"])


class Asked(NamedTuple):
    """A question about some places: the qtype, and the wordings around {where}."""

    qtype: str
    wordings: tuple[str, ...]


def generate_nlmaps(rng: random.Random, level: int) -> Problem:
    """Level 1 asks about a town, 2 about a part of it or nearby places, 3 about the closest or two places."""
    kinds = rng.sample(KINDS, 4)
    town = rng.choice(DATA["towns"])
    area = f"area(keyval('name','{town}'))"
    if level == 3 and rng.random() < 0.25:
        question, query = _distance(rng, town, area)
    else:
        where, places = _places(rng, level, kinds, town, area)
        asked = _asked_of_one(rng, kinds[0]) if "topx" in places else _asked(rng, level, kinds[0])
        query = f"query({places},qtype({asked.qtype}))"
        question = rng.choice(asked.wordings).format(where=where)
    shown = sorted(kinds[: 2 if level == 1 else 4])
    tags = "; ".join(f"{kind.one}: {kind.tags}" for kind in shown)
    keys = re.findall(r"findkey\(and\('(.+?)','(.+?)'\)|findkey\('(.+?)'\)", query)
    names = {key: name for name, key in DATA["properties"]}
    tags += "".join(f"; {names[key]}: key {key}" for found in keys for key in found if key in names)
    return _map_problem(question, query, f"Tags: {tags}", **OWN)


def _places(rng: random.Random, level: int, kinds: list[Kind], town: str, area: str) -> tuple[str, str]:
    kind = kinds[0].nwr()
    if level == 1:
        return rng.choice((f"in {town}", f"in the town of {town}")), f"{area},{kind}"
    if level == 2 and rng.random() < 0.5:
        way = rng.choice(DIRECTIONS)
        return rng.choice((f"in the {way} of {town}", f"in {way}ern {town}")), f"{way}({area},{kind})"
    spot, metres = rng.choice(DATA["spots"]), rng.choice(DISTANCES)
    centre, near = f"nwr(keyval('name','{spot}'))", f"the {spot}"
    if level == 3 and rng.random() < 0.4:
        centre, near = kinds[1].nwr(), f"a {kinds[1].one}"
    limit, within = rng.choice(((str(metres), f"within {metres} metres of"), ("DIST_INTOWN", "around")))
    closest, way = "", ""
    if level == 3 and rng.random() < 0.5 and not near.startswith("a "):
        closest, limit, within = ",topx(1)", "DIST_INTOWN", "closest to"
    around = f"around(center({area},{centre}),search({kind}),maxdist({limit}){closest})"
    if level == 3 and not closest and rng.random() < 0.4:
        way = rng.choice(DIRECTIONS)
        return f"{within} {near} in the {way} of {town}", f"{way}({around})"
    return f"{within} {near} in {town}", around


def _asked(rng: random.Random, level: int, kind: Kind) -> Asked:
    (name, key), (other, second) = rng.sample(DATA["properties"], 2)
    number, word = rng.choice(list(NUMBERS.items()))
    plain = [
        Asked("count", (f"How many {kind.many} are there {{where}}?", f"Count the {kind.many} {{where}}.",
                        f"What is the number of {kind.many} {{where}}?")),
        Asked("latlong", (f"Where are the {kind.many} {{where}}?", f"Show me the {kind.many} {{where}}.",
                          f"Give me the locations of {kind.many} {{where}}.")),
        Asked("findkey('name')", (f"What are the {kind.many} {{where}} called?", f"Name the {kind.many} {{where}}.",
                                  f"What are the names of the {kind.many} {{where}}?")),
        Asked("least(topx(1))", (f"Is there a {kind.one} {{where}}?", f"Are there any {kind.many} {{where}}?")),
    ]  # fmt: skip
    further = [
        Asked(f"findkey('{key}')", (f"What is the {name} of the {kind.many} {{where}}?",
                                    f"Tell me the {name} of each {kind.one} {{where}}.")),
        Asked(f"least(topx({number}))", (f"Are there {word} or more {kind.many} {{where}}?",
                                         f"Are there at least {number} {kind.many} {{where}}?")),
        Asked(f"findkey(and('name','{key}'))", (f"Give me name and {name} of the {kind.many} {{where}}.",)),
        Asked(f"findkey(and('{key}','{second}'))", (f"What are {name} and {other} of the {kind.many} {{where}}?",)),
    ]  # fmt: skip
    return rng.choice(plain if level == 1 else further + plain)


def _asked_of_one(rng: random.Random, kind: Kind) -> Asked:
    name, key = rng.choice([("name", "name"), *DATA["properties"]])
    place = Asked("latlong", (f"Where is the {kind.one} {{where}}?", f"Show me the {kind.one} {{where}}."))
    wordings = f"What is the {name} of the {kind.one} {{where}}?", f"Give me the {name} of the {kind.one} {{where}}."
    return rng.choice((place, Asked(f"findkey('{key}')", wordings)))


def _distance(rng: random.Random, town: str, area: str) -> tuple[str, str]:
    one, two = rng.sample(DATA["spots"], 2)
    parts = ",".join(f"query({area},nwr(keyval('name','{spot}')),qtype(latlong))" for spot in (one, two))
    unit, words = rng.choice((("", ""), (",unit(km)", " in kilometres"), (",unit(mi)", " in miles")))
    wordings = (
        f"How far is the {one} from the {two} in {town}{words}?",
        f"What is the distance{words} between the {one} and the {two} in {town}?",
    )
    return rng.choice(wordings), f"dist({parts}{unit})"


TASKS = (
    Task(
        "nlmaps",
        "mrl",
        NLMAPS_INSTRUCTION,
        shots=shots("nlmaps"),
        licence="CC BY-NC-SA 4.0",
        citation="Haas and Riezler 2016, A Corpus and Semantic Parser for Multilingual NL Querying of OpenStreetMap",
        folder="api/nlmaps",
        read=read_nlmaps,
        generate=generate_nlmaps,
        published=Published(18, "EM", 1500, 10594),
    ),
)
