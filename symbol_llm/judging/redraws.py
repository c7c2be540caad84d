"""Right programs put to the same problem with other numbers or names: which of them are right by chance, and new problems.

A program may give the answer by coincidence: 6 - 2 for 2 + 2. Of the right programs of a problem, those that give what most
of them give when the problem is redrawn agree; no label is used. One that agrees makes each redrawn problem a new one,
with its answer. (Not part of a published method.)
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping

from symbol_llm import families
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging import verify

MAX_TRIES = 4
"""Redrawn problems looked at for each that is wanted: some have no whole answer where the first has one."""


def disagreeing(
    problem: Problem, programs: Mapping[str, int], n: int, limits: Limits, seed: int
) -> tuple[set[str], set[str]]:
    """Return which of `programs` (with how often each was written) agree on `n` redrawn problems and which do not.

    A program that cannot be redrawn is in neither set, and none is where fewer than two can. Of groups of equal weight all
    agree.
    """
    rng = random.Random(f"{seed}:agreement:{problem.id}")
    texts = sorted(programs)
    given: dict[str, list[str | None]] = {text: [] for text in texts}
    for _ in range(n):
        drawn = families.redraw(problem, texts, rng)
        if drawn is None:
            return set(), set()
        asked = _copy(problem, drawn.question)
        for text, changed in zip(texts, drawn.programs, strict=True):
            if changed is None:
                given.pop(text, None)
            elif text in given:
                given[text].append(verify.execute(asked, changed, limits, is_program=True).value)
    if len(given) < 2:  # noqa: PLR2004
        return set(), set()
    weights: Counter[tuple[str | None, ...]] = Counter()
    for text, values in given.items():
        weights[tuple(values)] += programs[text]
    most = max(weights.values())
    agree = {text for text, values in given.items() if weights[tuple(values)] == most}
    return agree, set(given) - agree


def redrawn(problem: Problem, program: str, n: int, limits: Limits, seed: int) -> Iterator[Problem]:
    """Yield up to `n` problems like `problem`, with the answer that the changed `program` gives, which is their gold.

    Where the answer is positive or whole, so is that of the copies.
    """
    rng = random.Random(f"{seed}:copies:{problem.id}")
    seen = {problem.question}
    for _ in range(MAX_TRIES * n):
        drawn = families.redraw(problem, [program], rng)
        if drawn is None or drawn.programs[0] is None or len(seen) > n:
            return
        if drawn.question in seen:
            continue
        copy = _copy(problem, drawn.question)
        ran = verify.execute(copy, drawn.programs[0], limits, is_program=True)
        answer = _like(problem.answer, ran.value)
        if answer is not None:
            seen.add(copy.question)
            yield copy.model_copy(update={"answer": answer, "program": drawn.programs[0]})


def _copy(problem: Problem, question: str) -> Problem:
    fields = problem.model_dump(exclude={"id", "question", "program", "source"})
    return Problem.of(**fields, question=question, source=f"{problem.source}, redrawn")


def _like(answer: object, value: str | None) -> float | int | str | None:
    """Return the answer that running gave, `value`, if it is of the kind of `answer`; else None."""
    if value is None or isinstance(answer, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return None
    if not isinstance(found, (int, float)) or isinstance(found, bool) or not isinstance(answer, (int, float)):
        return None
    if not math.isfinite(found) or (answer > 0) != (found > 0) or (answer == int(answer)) != (found == int(found)):
        return None
    return found
