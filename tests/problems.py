"""A problem for a test, its family, and what its verdict says of the sandbox.

A family whose library is not installed skips the tests that ask for it, with the extra to install as the reason.
"""

from typing import Any

import pytest

from symbol_llm import families
from symbol_llm.families import Family
from symbol_llm.ground.errors import MissingDependency
from symbol_llm.ground.records import Problem
from symbol_llm.sandbox import confinement

ISOLATION = f"landlock{confinement.landlock_version()}+seccomp+rlimits"
"""What a verdict says of a sandbox that keeps nothing back on this kernel."""


def problem(family: str, **fields: Any) -> Problem:
    """Return a problem of `family` with `fields`."""
    rest = {"task": "t", "split": "test", "instruction": "", "question": "q", "source": "s", "licence": "l"}
    return Problem.of(family=family, **(rest | fields))


EXTRA = "pip install 'symbol-llm[families]'"
"""What brings the libraries of all families."""


def family(name: str) -> Family:
    """Return the family `name`; where its library is not installed, skip the test that asks."""
    try:
        return families.get(name)
    except MissingDependency as e:
        pytest.skip(str(e))
