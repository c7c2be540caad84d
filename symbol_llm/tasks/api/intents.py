"""Intents and slots: MTOP and TOPv2, in the bracket form of task-oriented parsing.

The generators draw a tree, then write it twice, as words and as symbols. Readers declare the labels of a row's domain.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from symbol_llm.ground.records import Problem, Split
from symbol_llm.tasks import Published, Row, Task, read_rows
from symbol_llm.tasks.api.data import DATA, OWN, shots

MTOP_INSTRUCTION = (
    "Parse the request into [IN:intent [SL:slot words ] ] from the labels given. Words outside of slots are left out; a slot"
    " may hold an intent."
)
TOPV2_INSTRUCTION = (
    "Bracket the request as [IN:intent words [SL:slot words ] ] with the labels given. Keep every word in its place; a slot"
    " may hold an intent."
)
_LABEL = re.compile(r"\[((?:IN|SL):\w+)")


class MtopRow(Row):
    """A line of MTOP: the decoupled form, or the nested one with every word."""

    id: str
    utterance: str
    domain: str
    decoupled_form: str | None = None
    logical_form: str | None = Field(default=None, alias="logical form")


class TopV2Row(Row):
    """A line of TOPv2, which has no ids."""

    domain: str
    utterance: str
    semantic_parse: str


class _Parse(NamedTuple):
    split: Split
    id: str
    domain: str
    utterance: str
    form: str | None
    free: bool


def read_mtop(folder: Path) -> Iterator[Problem]:
    """Yield the rows of MTOP in `folder`; slots may be in any order if the form is decoupled."""
    rows = [
        _Parse(
            split, row.id, row.domain, row.utterance, row.decoupled_form or row.logical_form, bool(row.decoupled_form)
        )
        for split, row in read_rows(folder, MtopRow)
    ]
    yield from _parses("mtop", rows, "CC BY-SA 4.0")


def read_topv2(folder: Path) -> Iterator[Problem]:
    """Yield the rows of TOPv2 in `folder`, numbered consecutively."""
    rows = [
        _Parse(split, str(n), row.domain, row.utterance, row.semantic_parse, free=False)
        for n, (split, row) in enumerate(read_rows(folder, TopV2Row))
    ]
    yield from _parses("topv2", rows, "CC BY-SA 4.0")


def _parses(name: str, rows: list[_Parse], licence: str) -> Iterator[Problem]:
    """Declare in each row all labels of its domain in the data, so that the row's own are not given away."""
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.domain].update(_LABEL.findall(row.form or ""))
    for row in rows:
        wording = MTOP_INSTRUCTION if row.free else TOPV2_INSTRUCTION
        fields = {"split": row.split, "source": f"{name} {row.id}", "licence": licence}
        yield _parse_problem(name, wording, labels[row.domain], row.utterance, row.form, free=row.free, **fields)


def _parse_problem(
    name: str, instruction: str, labels: Iterable[str], utterance: str, form: str | None, *, free: bool, **fields: Any
) -> Problem:
    ordered = sorted(labels)
    lines = [" ".join(label for label in ordered if label.startswith(kind)) for kind in ("IN:", "SL:")]
    return Problem.of(
        task=name,
        family="top",
        instruction=instruction,
        context="\n".join(lines),
        question=utterance,
        program=form,
        environment={"order": "free" if free else "ordered"},
        symbols=tuple(ordered),
        **fields,
    )


class Tree(NamedTuple):
    """An intent or a slot over words and trees."""

    label: str
    parts: list[Tree | str]

    def words(self) -> str:
        """Return the request."""
        return " ".join(part if isinstance(part, str) else part.words() for part in self.parts)

    def form(self, *, every_word: bool) -> str:
        """Return the bracket form; without `every_word`, an intent keeps only its slots."""
        kept = [p for p in self.parts if every_word or self.label.startswith("SL:") or not isinstance(p, str)]
        texts = [part if isinstance(part, str) else part.form(every_word=every_word) for part in kept]
        return " ".join([f"[{self.label}", *texts, "]"])


def generate_mtop(rng: random.Random, level: int) -> Problem:
    """Return one request with its decoupled form."""
    domain, tree = _request(rng, level)
    form = tree.form(every_word=False)
    labels = _labels(domain) | set(_LABEL.findall(form))
    return _parse_problem("mtop", MTOP_INSTRUCTION, labels, tree.words(), form, free=True, **OWN)


def generate_topv2(rng: random.Random, level: int) -> Problem:
    """Return one request with the form that keeps every word."""
    domain, tree = _request(rng, level)
    form = tree.form(every_word=True)
    labels = _labels(domain) | set(_LABEL.findall(form))
    return _parse_problem("topv2", TOPV2_INSTRUCTION, labels, tree.words(), form, free=False, **OWN)


def _labels(domain: str) -> set[str]:
    intents = DATA["domains"][domain]
    slots = {slot for asks in intents.values() for ask in asks for slot in re.findall(r"{(\w+)}", ask)}
    return {f"IN:{intent}" for intent in intents} | {f"SL:{slot}" for slot in slots}


def _request(rng: random.Random, level: int) -> tuple[str, Tree]:
    """Level 1 has one slot, 2 two or more, 3 an intent in a slot."""
    domain = rng.choice(list(DATA["domains"]))
    found = []
    for intent, asks in DATA["domains"][domain].items():
        for ask in asks:
            slots = re.findall(r"{(\w+)}", ask)
            n = 3 if level == 3 and set(slots) & set(DATA["nested"]) else min(2, len(slots))
            found += [(intent, ask)] if n == level else []
    if not found:
        return _request(rng, level)
    intent, ask = rng.choice(found)
    tree = _filled(rng, intent, ask, depth=2 if level == 3 else 0)
    if level > 1 and rng.random() < 0.4:
        tree.parts.insert(0, rng.choice(DATA["openings"]))
    elif level > 1 and rng.random() < 0.2:
        tree.parts.append(rng.choice(DATA["closings"]))
    return domain, tree


def _filled(rng: random.Random, intent: str, ask: str, depth: int) -> Tree:
    """Fill the slots of `ask`; `depth` 2: nest wherever possible, 1: sometimes, 0: never."""
    parts: list[Tree | str] = []
    for piece in re.split(r"({\w+})", ask):
        slot = piece.strip("{}")
        if not piece.startswith("{"):
            parts += [piece.strip()] if piece.strip() else []
        elif slot in DATA["nested"] and rng.random() < (0, 0.4, 1)[depth]:
            inner = rng.choice(DATA["nested"][slot])
            asks = DATA["inner"][inner]
            parts.append(Tree(f"SL:{slot}", [_filled(rng, inner, rng.choice(asks), depth=max(0, depth - 1))]))
        else:
            parts.append(Tree(f"SL:{slot}", [_expanded(rng, rng.choice(DATA["fillers"][slot]))]))
    return Tree(f"IN:{intent}", parts)


def _expanded(rng: random.Random, text: str) -> str:
    return re.sub(r"<(\w+)>", lambda part: str(rng.choice(DATA["parts"][part[1]])), text)


TASKS = (
    Task(
        "mtop",
        "top",
        MTOP_INSTRUCTION,
        environment={"order": "free"},
        shots=shots("mtop"),
        licence="CC BY-SA 4.0",
        citation="Li et al. 2021, MTOP",
        folder="api/mtop",
        read=read_mtop,
        generate=generate_mtop,
        published=Published(16, "EM", 18784, 500),
    ),
    Task(
        "topv2",
        "top",
        TOPV2_INSTRUCTION,
        environment={"order": "ordered"},
        shots=shots("topv2"),
        licence="CC BY-SA 4.0",
        citation="Chen et al. 2020, Low-Resource Domain Adaptation for Compositional Task-Oriented Semantic Parsing",
        folder="api/topv2",
        read=read_topv2,
        generate=generate_topv2,
        published=Published(17, "EM", 149696, 500),
    ),
)
