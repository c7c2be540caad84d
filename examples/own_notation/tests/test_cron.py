"""Cron expressions: what is equal, what is not, what is none; the family keeps its contract."""

import random

import cron
import pytest

from symbol_llm import families
from symbol_llm.families import Example
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.judging.verify import judge


def test_family_is_found() -> None:
    assert families.get("cron") is cron


@pytest.mark.parametrize("example", cron.EXAMPLES, ids=lambda example: example.name)
def test_example_has_its_score(example: Example) -> None:
    verdict = judge(example.problem, example.program, Limits())
    assert verdict.status == {1.0: "accepted", 0.0: "rejected", None: "unparsable"}[example.score]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("@hourly", "0 0-23 * * *"),
        ("@weekly", "0 0 * * 7"),
        ("*/20 * * * *", "0,20,40 * * * *"),
        ("0 0 1-31 * *", "0 0 * 1-12 0-6"),
        ("0 0 30 2 *", "0 0 31 4,6,9,11 *"),  # never
        ("0 12 1-7 * *", "0 12 1,2,3,4,5,6,7 JAN-DEC *"),
    ],
)
def test_what_fires_at_the_same_minutes_is_equal(one: str, two: str) -> None:
    assert cron.canonical(one) == cron.canonical(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("0 0 13 * 5", "0 0 13 * *"),  # the 13th, and every Friday
        ("0 0 29 2 *", "0 0 28 2 *"),
        ("*/7 * * * *", "0-55/7 * * * *"),
        ("0 0 * * 1", "0 0 */2 * 1"),
    ],
)
def test_what_fires_at_other_minutes_is_not(one: str, two: str) -> None:
    assert cron.canonical(one) != cron.canonical(two)


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "* * 0 * *", "5/2 * * * *", "*/0 * * * *", "9-5 * * * *",
                                  "* * * FOO *", "* * * * MON TUE", "1,,2 * * * *", "@noon", "9" * 10_000])  # fmt: skip
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        cron.canonical(text)


@pytest.mark.parametrize("gold", ["30 8 * * 1-5", "@monthly", "*/5 9-17 * * *"])
def test_near_misses_are_other_expressions(gold: str) -> None:
    near = list(cron.mutants(gold, random.Random(0)))
    assert len(near) >= 10
    assert cron.canonical(gold) not in {cron.canonical(program) for program in near}
