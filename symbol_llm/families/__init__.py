"""Notations. One module each, found by its file name; none is imported before it is asked for.

A family module has `VERSION`, `METRIC`, `canonical`, `run`, `score`, `mutants`, `EXAMPLES` (see `Family`). It may
import `sandbox`, `toolchain`, `records`, `errors` and its own libraries; never another family, torch, mlflow or subprocess.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar, cast

from symbol_llm.ground.errors import InvalidInput, LimitExceeded, MissingDependency, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem

T = TypeVar("T")


class Result(NamedTuple):
    """What scoring gave: the score in [0, 1], what running gave (for people), the sandbox level it ran at."""

    score: float
    value: str | None = None
    isolation: str = "none"
    measure: float | None = None
    """What the field prints of this notation, in [0, 1], where that is softer than the score: Smatch, F1, LE ..."""


class Ran(NamedTuple):
    """What running without gold gave: a value as text, equal texts for equal values, or None and what went wrong."""

    value: str | None
    detail: str = ""
    isolation: str = "none"


class Example(NamedTuple):
    """One line of a family's contract. `score` None means: refused as unparsable."""

    name: str
    problem: Problem
    program: str
    score: float | None


class Family(Protocol):
    """What every module here provides."""

    VERSION: int
    METRIC: str
    EXAMPLES: Sequence[Example]

    def canonical(self, program: str) -> str:
        """Return a form in which equal strings mean equal programs; raise Unparsable with the position."""

    def run(self, program: str, problem: Problem, limits: Limits) -> Ran:
        """Run `program`, or return its canonical form where nothing is run; look at no gold; raise as `score` does."""

    def score(self, program: str, problem: Problem, limits: Limits) -> Result:
        """Run or compare `program`; raise Unparsable, TimedOut, LimitExceeded (the program's fault), Unavailable (ours)."""

    def mutants(self, program: str, rng: random.Random) -> Iterator[str]:
        """Yield near misses of a right program that must not be accepted."""


def read_gold(problem: Problem, read: Callable[[str], T]) -> T:
    """Return what `read` makes of the gold program; InvalidInput if there is none or it fails, since gold is ours."""
    if not problem.program:
        raise InvalidInput(f"problem {problem.id} has no gold program")
    try:
        return read(problem.program)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold program: {e}") from e


def names() -> list[str]:
    """Return the families there are, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def available(name: str) -> bool:
    """Say whether the library that the family needs is installed."""
    try:
        get(name)
    except MissingDependency:
        return False
    return True


def get(name: str) -> Family:
    """Return the module `name`; InvalidInput if unknown, MissingDependency if its library is not installed."""
    if f"{__name__}.{name}" not in sys.modules and name not in names():
        raise InvalidInput(f"unknown family {name!r}; have {', '.join(names())}")
    try:
        return cast(Family, importlib.import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as e:
        raise MissingDependency(
            f"family {name!r} needs the module {e.name!r}: pip install -c constraints.txt 'symbol-llm[families]'"
        ) from e
