"""A problem for a test, with the fields that do not matter to it filled in."""

from typing import Any

from symbol_llm.ground.records import Problem


def problem(family: str, **fields: Any) -> Problem:
    """Return a problem of `family` with `fields`."""
    rest = {"task": "t", "split": "test", "instruction": "", "question": "q", "source": "s", "licence": "l"}
    return Problem.of(family=family, **(rest | fields))
