"""Notations. One module or package each, found by its name; none is imported before it is asked for.

A family provides what `Family` lists. It may import `notation`, `sandbox`, `ground` and its own libraries; never another
family, torch, mlflow or subprocess. A family of another package is found by its entry point:

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


class Redrawn(NamedTuple):
    """A question that differs from another in its numbers or names, and programs with the same change."""

    question: str
    programs: tuple[str | None, ...]
    """None for a program of which it is not known how to change it."""


class Example(NamedTuple):
    """One line of a family's contract. `score` None means: refused as unparsable."""

    name: str
    problem: Problem
    program: str
    score: float | None


class Needs(BaseModel):
    """What judging needs besides program and gold. Each family has a subclass `Environment`; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def asks_for_a_value(self) -> bool:
        """Say whether every program that gives the answer is right, so that a near miss may be right by chance."""
        return False

    def held_to(self, gold: str) -> Self | None:
        """Return the environment in which programs are held against `gold` too; None where that makes no difference."""
        del gold
        return None


N = TypeVar("N", bound=Needs)


def needs(problem: Problem, kind: type[N]) -> N:
    """Return the environment of `problem` as `kind`; InvalidInput names the key that is unknown, missing or malformed."""
    try:
        return kind.model_validate(problem.environment)
    except ValidationError as e:
        raise InvalidInput(f"problem {problem.id}: {explain(e, 'environment')}") from e


class Family(Protocol):
    """All that is known of a notation: a module here, or one that another package names as an entry point."""

    VERSION: int
    METRIC: str
    EXAMPLES: Sequence[Example]
    Environment: type[Needs]

    def program_of(self, reply: str) -> str:
        """Return the program in a model's reply, empty if there is none; text alone, bounded by the reply's length."""

    def canonical(self, program: str) -> str:
        """Return a form in which equal strings mean equal programs; raise Unparsable with the position."""

    def run(self, program: str, problem: Problem, limits: Limits) -> Ran:
        """Run `program`, or return its canonical form where nothing is run; look at no gold; raise as `score` does."""

    def score(self, program: str, problem: Problem, limits: Limits) -> Result:
        """Run or compare `program`; raise Unparsable, TimedOut, LimitExceeded (the program's fault), Unavailable (ours)."""

    def mutants(self, program: str, rng: random.Random) -> Iterator[str]:
        """Yield near misses of a right program that must not be accepted."""


def redraw(problem: Problem, programs: Sequence[str], rng: random.Random) -> Redrawn | None:
    """Return `problem`'s question redrawn, with each of `programs`; None where its family or its text offers no such change.

    A family may have `redraw(programs, problem, rng)` for that. A program that solves the one should solve the other.
    """
    hook = getattr(get(problem.family), "redraw", None)
    found: Redrawn | None = hook(programs, problem, rng) if hook else None
    return found


def read_gold(problem: Problem, read: Callable[[str], T]) -> T:
    """Return what `read` makes of the gold program; InvalidInput if there is none or it fails, since gold is ours."""
    if not problem.program:
        raise InvalidInput(f"problem {problem.id} has no gold program")
    try:
        return read(problem.program)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold program: {e}") from e


def names() -> list[str]:
    """Return the families there are, those of other packages among them, sorted."""
    return sorted({m.name for m in pkgutil.iter_modules(__path__)} | _elsewhere().keys())


@functools.cache
def _elsewhere() -> dict[str, str]:
    """Return the modules that installed packages name in the group `symbol_llm.families`, by family."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def available(name: str) -> bool:
    """Say whether the library that the family needs is installed."""
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
