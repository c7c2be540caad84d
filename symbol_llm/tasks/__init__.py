"""Tasks. Each domain is one module or package that lists its `TASKS`, and is imported only when asked for.

Other packages register a domain through an entry point in the group `symbol_llm.tasks`.

A task names its notation, words its instruction, reads its public source and may generate correct problems. It does not
judge (`verify.py`) and does not split or de-duplicate (`collect.py`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import Fault, read_records
from symbol_llm.ground.records import GeneralItem, Problem, Split

Reader = Callable[[Path], Iterator[Problem]]
"""Takes a set's folder (`DIR/<family>/<data set>`), yields its rows; official dev and test rows have that split."""
Generator = Callable[[random.Random, int], Problem]
"""Takes a level, 1 (easy) to 3 (hard), returns a correct problem with gold; its split is `train` until `collect`."""
GROUP = "symbol_llm.tasks"
LEVELS = (1, 2, 3)
PUBLISHED = 34


class Published(NamedTuple):
    """A task's place in Symbol-LLM's collection (arXiv 2311.09278, appendix)."""

    number: int
    """1 to 34, in the order of the paper's tables."""
    metric: str
    """The metric that the paper reports: BLEU, EM, F1, Smatch or LE (logical equivalence)."""
    n_train: int
    n_test: int


class Task(NamedTuple):
    """One task of a domain."""

    name: str
    family: str
    instruction: str
    shots: tuple[tuple[str, str, str], ...]
    """Worked examples, (context, question, program), written for this project; used for few-shot prompting only."""
    licence: str
    citation: str
    folder: str | None = None
    """`<group>/<data set>` under a source directory; None if the task is only generated."""
    read: Reader | None = None
    generate: Generator | None = None
    language: str = "en"
    """Language of the questions, as an ISO 639-1 code."""
    published: Published | None = None
    """None: not one of the 34."""
    environment: Mapping[str, Any] = MappingProxyType({})
    """What judging any of its problems needs; a problem may need more (see the family's `Environment`)."""
    evaluation_only: bool = False
    """Whether its rows are test rows, whatever file they come from: a set to measure transfer, never to train on."""


class Chosen(NamedTuple):
    """A task, and the folder it is read from, or None if it is generated."""

    task: Task
    folder: Path | None


class Row(BaseModel):
    """One row in the format of its source; fields that the reader does not name are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)


R = TypeVar("R", bound=Row)
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


_on_fault: ContextVar[Fault | None] = ContextVar("on_fault", default=None)


@contextlib.contextmanager
def tolerating(on_fault: Fault) -> Iterator[None]:
    """Make readers pass malformed rows to `on_fault` and continue, inside the `with` block."""
    token = _on_fault.set(on_fault)
    try:
        yield
    finally:
        _on_fault.reset(token)


def read_rows(folder: Path, kind: type[R]) -> Iterator[tuple[Split, R]]:
    """Yield split and row of `train.jsonl`, `dev.jsonl` and `test.jsonl`, some of which may be absent.

    InvalidInput names file, line and field; see `tolerating`.
    """
    files = {split: folder / f"{split}.jsonl" for split in SPLITS}
    there = [split for split, path in files.items() if path.is_file()]
    for split in there or SPLITS[:1]:
        for row in read_records(files[split], kind, _on_fault.get()):
            yield split, row


COMMERCIAL = re.compile(r"(?:MIT|Apache-2\.0|BSD|CC0|CC BY(?:-SA)? \d|GPL)", re.IGNORECASE)
"""Prefixes of licences that allow commercial use on their own terms, including share-alike and copyleft ones."""
RESERVED = re.compile(r"\bNC\b|non-commercial|LDC|not stated|unknown", re.IGNORECASE)


def commercial(licence: str) -> bool:
    """Return whether `licence`, as worded by a task, allows commercial use; unknown licences do not."""
    return bool(COMMERCIAL.match(licence)) and not RESERVED.search(licence)


class GeneralSource(NamedTuple):
    """One source of general ability, in `tasks/general.py`."""

    name: str
    licence: str
    citation: str
    folder: str
    read: Callable[[Path], Iterator[GeneralItem]]


def domains() -> list[str]:
    """Return the symbolic domains, sorted."""
    here = {m.name for m in pkgutil.iter_modules(__path__)} - {"general"}
    return sorted(here | _elsewhere().keys())


@functools.cache
def _elsewhere() -> dict[str, str]:
    """Return the modules that installed packages register in the group `symbol_llm.tasks`, by domain."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def in_domain(domain: str) -> tuple[Task, ...]:
    """Return the tasks of `domain`; InvalidInput lists the known domains."""
    if domain not in domains():
        raise InvalidInput(f"unknown domain {domain!r}; have {', '.join(domains())}")
    tasks: tuple[Task, ...] = importlib.import_module(_elsewhere().get(domain, f"{__name__}.{domain}")).TASKS
    return tasks


@functools.cache
def all_tasks() -> Mapping[str, Task]:
    """Return every task by name, in the order of domains."""
    return MappingProxyType({task.name: task for domain in domains() for task in in_domain(domain)})


def published_first(task: Task) -> tuple[int, str]:
    """Return the sort key that puts Symbol-LLM's 34 first, in the paper's order."""
    return (task.published.number if task.published else PUBLISHED + 1, task.name)


@functools.cache
def domain_of() -> Mapping[str, str]:
    """Return each task's domain."""
    return MappingProxyType({task.name: domain for domain in domains() for task in in_domain(domain)})


def get(name: str) -> Task:
    """Return the task `name`; InvalidInput lists the known tasks."""
    tasks = all_tasks()
    if name not in tasks:
        raise InvalidInput(f"unknown task {name!r}; have {', '.join(tasks)}")
    return tasks[name]
