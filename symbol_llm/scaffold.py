"""Skeletons of packages that add a notation or a task from outside: they work as they are, with tests, and are then changed.

The skeleton of a notation compares sets of words; that of a task asks for the double of a number, in Python. Each is found
by its entry point once it is installed (`pip install ./NAME`).
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import Literal

from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput

Kind = Literal["family", "task"]


def create(kind: Kind, name: str, folder: Path) -> list[Path]:
    """Write the package `name` to `folder / name` and return its files; InvalidInput if the name is taken or no module's."""
    from symbol_llm import families, tasks

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InvalidInput(f"name {name!r}: expected a name of a module, such as 'roman_numerals'")
    taken = {*families.names(), *tasks.domains(), *tasks.all_tasks()}
    if name in taken:
        raise InvalidInput(f"name {name!r}: a family, domain or task is called so already")
    place = folder / name
    if place.exists():
        raise InvalidInput(f"{place}: is there already; name another folder with --folder, or another {kind}")
    made = []
    for path, text in {**COMMON, **(FAMILY if kind == "family" else TASK)}.items():
        file = place / Template(path).substitute(name=name)
        files.write_text(file, Template(text).substitute(name=name, kind=kind, group=GROUPS[kind]))
        made.append(file)
    return made


GROUPS = {"family": "symbol_llm.families", "task": "symbol_llm.tasks"}
COMMON = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=78"]
build-backend = "setuptools.build_meta"

[project]
name = "symbol-llm-$name"
version = "0.1.0"
description = "A $kind for symbol-llm."
requires-python = ">=3.11"
dependencies = ["symbol-llm"]

[project.entry-points."$group"]
$name = "$name"

[tool.setuptools]
py-modules = ["$name"]
""",
}
FAMILY = {
    "$name.py": '''\
"""Sets of lower-case words, such as `green red`. Equal means: the same words, in any order and however often."""

import random
import re
from collections.abc import Iterator

from symbol_llm.families import Example, Needs, Ran, Result, needs, read_gold
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 1
METRIC = "the same set of words"
_WORD = re.compile(r"[a-z]+")


class Environment(Needs):
    """What judging needs besides program and gold."""

    vocabulary: tuple[str, ...] | None = None
    """The words there are; None: any."""


program_of = replies.up_to_a_blank_line


def canonical(program: str) -> str:
    """Return the words, each once, sorted; Unparsable at the first that is none."""
    words = program.split()
    if not words:
        raise Unparsable("no word")
    for n, word in enumerate(words, 1):
        if not _WORD.fullmatch(word):
            raise Unparsable(f"word {n}: {word[:40]!r} is not made of the letters a to z")
    return " ".join(sorted(set(words)))


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form; Unparsable at a word that the problem does not know."""
    del limits
    found = canonical(program)
    vocabulary = needs(problem, Environment).vocabulary
    if unknown := set(found.split()) - set(vocabulary or found.split()):
        raise Unparsable(f"unknown word {min(unknown)!r}")
    return Ran(found)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the words are those of the gold program, else 0.0."""
    found = run(program, problem, limits).value
    return Result(float(found == read_gold(problem, canonical)), found)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one word less, in random order, then with one more."""
    words = canonical(program).split()
    for n in rng.sample(range(len(words)), len(words)):
        if len(words) > 1:
            yield " ".join([*words[:n], *words[n + 1 :]])
    yield " ".join([*words, "".join(words)])


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="$name", family="$name", split="test", instruction="Answer with words.", question="Which colours?",
        program="red green blue", source="generated", licence="Apache-2.0",
    )
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", "red green blue", 1.0),
    _example("different-looking equal", "blue  green red red", 1.0),
    _example("similar-looking different", "red green", 0.0),
    _example("ill-formed", "red, green", None),
)
''',
    "tests/test_$name.py": '''\
"""The family keeps its contract: examples have their scores, near misses are refused, nothing hostile gets through."""

import random

import pytest

from symbol_llm import families
from symbol_llm.families import Example
from symbol_llm.ground.params import Limits
from symbol_llm.judging.verify import judge

FAMILY = families.get("$name")


def test_family_is_found() -> None:
    assert "$name" in families.names()


@pytest.mark.parametrize("example", FAMILY.EXAMPLES, ids=lambda example: example.name)
def test_example_has_its_score(example: Example) -> None:
    verdict = judge(example.problem, example.program, Limits())
    assert verdict.status == {1.0: "accepted", 0.0: "rejected", None: "unparsable"}[example.score]


def test_near_misses_are_refused() -> None:
    gold = FAMILY.EXAMPLES[0]
    near = list(FAMILY.mutants(gold.program, random.Random(0)))
    assert len(near) >= 3
    assert [program for program in near if judge(gold.problem, program, Limits()).status == "accepted"] == []
''',
}
TASK = {
    "$name.py": '''\
"""A domain with one task: numbers are doubled, in Python."""

import random
from collections.abc import Iterator
from pathlib import Path

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Row, Task, read_rows

INSTRUCTION = "Write Python that sets `answer`."


class Asked(Row):
    """One row of `train.jsonl` or `test.jsonl` in the folder `$name/$name` of a source."""

    id: str
    question: str
    answer: int


def _read(folder: Path) -> Iterator[Problem]:
    """Yield the rows of the data set in `folder`."""
    for split, row in read_rows(folder, Asked):
        yield _problem(row.question, row.answer, split=split, source=f"$name {row.id}")


def _generate(rng: random.Random, level: int) -> Problem:
    """Return a true problem; the numbers of level 1 have two digits, of level 2 three, and so on."""
    number = rng.randrange(10**level, 10 ** (level + 1))
    text = f"A pond has {number} frogs. Their number doubles each year. How many are there after {level} years?"
    return _problem(text, number * 2**level, program=f"answer = {number}{' * 2' * level}", level=level)


def _problem(question: str, answer: int, *, split: str = "train", source: str = "generated", **fields: object) -> Problem:
    return Problem.of(
        task="$name", family="python", split=split, instruction=INSTRUCTION, question=question, answer=answer,
        source=source, licence="Apache-2.0", **fields,
    )


TASKS = (
    Task(
        "$name", "python", INSTRUCTION, (("", "Two hens lay twice as many eggs as before. They laid 5.", "answer = 5 * 2"),),
        licence="Apache-2.0", citation="written for this package", folder="$name/$name", read=_read, generate=_generate,
    ),
)
''',
    "tests/test_$name.py": '''\
"""The task is found, its generated problems are true, and rows of a file are read."""

import random
from pathlib import Path

from symbol_llm import tasks
from symbol_llm.ground.params import Limits
from symbol_llm.judging.verify import judge

TASK = tasks.get("$name")


def test_generated_gold_is_accepted() -> None:
    for level in tasks.LEVELS:
        problem = TASK.generate(random.Random(level), level)
        assert judge(problem, problem.program, Limits()).status == "accepted"


def test_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"id": "1", "question": "Twice 4?", "answer": 8}\\n')
    (problem,) = TASK.read(tmp_path)
    assert (problem.split, problem.answer) == ("test", 8)
    assert judge(problem, "answer = 2 * 4", Limits()).status == "accepted"
''',
}
