"""Notations. Each is one module or package, found by its name and imported only when asked for.

A family provides what `Family` lists. It may import `notation`, `sandbox`, `ground` and its own libraries, but never
another family, torch, mlflow or subprocess. Other packages register a family through an entry point:

    [project.entry-points."symbol_llm.families"]
    roman = "roman_numerals.family"
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from symbol_llm.ground.errors import InvalidInput, LimitExceeded, MissingDependency, Unparsable
from symbol_llm.ground.files import explain
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem

T = TypeVar("T")
GROUP = "symbol_llm.families"


class Result(NamedTuple):
    """Outcome of scoring: the score in [0, 1], the program's result (for people) and the sandbox level it ran at."""

    score: float
    value: str | None = None
    isolation: str = "none"
    measure: float | None = None
    """The metric usually reported for this notation, in [0, 1], if softer than the score: Smatch, F1, LE ..."""


class Ran(NamedTuple):
    """Outcome of running without gold: the value as text, equal texts for equal values, or None and what went wrong."""

    value: str | None
    detail: str = ""
    isolation: str = "none"


class Redrawn(NamedTuple):
    """A variant of a question with other numbers or names, and the programs changed to match."""

    question: str
    programs: tuple[str | None, ...]
    """None for a program that could not be changed to match."""


class Example(NamedTuple):
    """One line of a family's contract. A `score` of None means that the program is refused as unparsable."""

    name: str
    problem: Problem
    program: str
    score: float | None


class Needs(BaseModel):
    """What judging needs besides program and gold. Each family subclasses it as `Environment`; unknown keys fail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def asks_for_a_value(self) -> bool:
        """Return whether any program that gives the answer is right, so that a near miss may be right by chance."""
        return False

    def held_to(self, gold: str) -> Self | None:
        """Return an environment that compares programs with `gold` too; None where that makes no difference."""
        del gold
        return None


N = TypeVar("N", bound=Needs)


def needs(problem: Problem, kind: type[N]) -> N:
    """Return the environment of `problem` as `kind`; InvalidInput names a key that is unknown, missing or malformed."""
    try:
        return kind.model_validate(problem.environment)
    except ValidationError as e:
        raise InvalidInput(f"problem {problem.id}: {explain(e, 'environment')}") from e


class Family(Protocol):
    """Everything that is known about a notation: a module here, or one that another package registers."""

    VERSION: int
    METRIC: str
    EXAMPLES: Sequence[Example]
    Environment: type[Needs]

    def program_of(self, reply: str) -> str:
        """Return the program in a model's reply, or an empty text; reads text only, in time bounded by its length."""

    def canonical(self, program: str) -> str:
        """Return a form in which equal strings mean equal programs; raise Unparsable with the position."""

    def run(self, program: str, problem: Problem, limits: Limits) -> Ran:
        """Run `program` without gold, or return its canonical form where nothing is run; raise as `score` does."""

    def score(self, program: str, problem: Problem, limits: Limits) -> Result:
        """Run or compare `program`; raise Unparsable, TimedOut, LimitExceeded (the program's fault), Unavailable (ours)."""

    def mutants(self, program: str, rng: random.Random) -> Iterator[str]:
        """Yield near misses of a right program that must not be accepted."""


def redraw(problem: Problem, programs: Sequence[str], rng: random.Random) -> Redrawn | None:
    """Return `problem`'s question and `programs` redrawn; None where the family or the text allows no such change.

    A family may define `redraw(programs, problem, rng)`. A program that solves one question should solve the other.
    """
    hook = getattr(get(problem.family), "redraw", None)
    found: Redrawn | None = hook(programs, problem, rng) if hook else None
    return found


def read_gold(problem: Problem, read: Callable[[str], T]) -> T:
    """Return `read` of the gold program; InvalidInput if there is none or it fails, since gold is ours."""
    if not problem.program:
        raise InvalidInput(f"problem {problem.id} has no gold program")
    try:
        return read(problem.program)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold program: {e}") from e


def names() -> list[str]:
    """Return the names of all families, including those of other packages, sorted."""
    return sorted({m.name for m in pkgutil.iter_modules(__path__)} | _elsewhere().keys())


@functools.cache
def _elsewhere() -> dict[str, str]:
    """Return the modules that installed packages register in the group `symbol_llm.families`, by family."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def available(name: str) -> bool:
    """Return whether the library that the family needs is installed."""
    try:
        get(name)
    except MissingDependency:
        return False
    return True


def get(name: str) -> Family:
    """Return the module `name`; InvalidInput if unknown, MissingDependency if its library is not installed."""
    module = _elsewhere().get(name, f"{__name__}.{name}")
    if module not in sys.modules and name not in names():
        raise InvalidInput(f"unknown family {name!r}; have {', '.join(names())}")
    try:
        return cast(Family, importlib.import_module(module))
    except ModuleNotFoundError as e:
        raise MissingDependency(
            f"family {name!r} needs the module {e.name!r}: pip install 'symbol-llm[families]'"
        ) from e
