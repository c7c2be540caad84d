"""Tasks. One module a domain; each lists its `TASKS`. None is imported before it is asked for.

A task names its notation, words its instruction, reads its public source and may generate true problems. It does not
judge (`verify.py`) and does not split or de-duplicate (`collect.py`).
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from symbol_llm.errors import InvalidInput
from symbol_llm.files import read_records
from symbol_llm.records import GeneralItem, Problem, Split

Reader = Callable[[Path], Iterator[Problem]]
"""Takes the data set's own folder (`DIR/<family>/<data set>`), yields its rows; the official test rows have split `test`."""
Generator = Callable[[random.Random, int], Problem]
"""Takes a level, 1 (easy) to 3 (hard), and makes one true problem with gold; its split is `train`, `collect` decides it."""
LEVELS = (1, 2, 3)
PUBLISHED = 34


class Published(NamedTuple):
    """A task's place in Symbol-LLM's collection (arXiv 2311.09278, appendix)."""

    number: int
    """1 to 34, the order of the paper's tables."""
    metric: str
    """What the paper prints of it: BLEU, EM, F1, Smatch or LE (logical equivalence)."""
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
    published: Published | None = None
    """None: not one of the 34."""
    evaluation_only: bool = False
    """Its rows are test rows, whatever file they come from: a set to show transfer on, never to train on."""


class Row(BaseModel):
    """One row as its source has it; fields not named by the reader are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)


R = TypeVar("R", bound=Row)
SPLITS: tuple[Split, ...] = ("train", "test")


def read_rows(folder: Path, kind: type[R]) -> Iterator[tuple[Split, R]]:
    """Yield split and row of `train.jsonl`, then `test.jsonl`; InvalidInput names file, line and field."""
    for split in SPLITS:
        for row in read_records(folder / f"{split}.jsonl", kind):
            yield split, row


class GeneralSource(NamedTuple):
    """One source of general ability, in `tasks/general.py`."""

    name: str
    licence: str
    citation: str
    folder: str
    read: Callable[[Path], Iterator[GeneralItem]]


def domains() -> list[str]:
    """Return the symbolic domains, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "general")


def in_domain(domain: str) -> tuple[Task, ...]:
    """Return the tasks of `domain`."""
    tasks: tuple[Task, ...] = importlib.import_module(f"{__name__}.{domain}").TASKS
    return tasks


def all_tasks() -> dict[str, Task]:
    """Return every task by name, in the order of domains."""
    return {task.name: task for domain in domains() for task in in_domain(domain)}


def domain_of() -> dict[str, str]:
    """Return each task's domain."""
    return {task.name: domain for domain in domains() for task in in_domain(domain)}


def get(name: str) -> Task:
    """Return the task `name`; InvalidInput lists what there is."""
    tasks = all_tasks()
    if name not in tasks:
        raise InvalidInput(f"unknown task {name!r}; have {', '.join(tasks)}")
    return tasks[name]
