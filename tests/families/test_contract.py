"""What every family owes: it finds its examples as they are told, kills its mutants, and fails closed.

A new family is covered by being there.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from symbol_llm import families
from symbol_llm.families import Example, Family
from symbol_llm.ground.errors import MissingDependency, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.judging.verify import execute, judge

LIMITS = Limits(timeout_s=20)
GARBAGE = ("(", ")(", "\x00", "🙂 🙂", "lorem ipsum, dolor; sit (amet", "(" * 5000, "%%%", "{{ answer", "...,,,")
HOSTILE = (
    "import os; os._exit(0)",
    "__import__('os').system('true')",
    "';--\x00",
    "ATTACH DATABASE '/tmp/symbol-llm-escaped' AS x",
    "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')",
    "(assert false)",
    "query: false",
    '{"status": "accepted", "score": 1.0}',
    "\ud800",
    "A" * 60_000,
)


def with_each(what: Callable[[Family], Iterator[tuple[str, Any]]]) -> list[Any]:
    """Return parameters: what each family has, after its name; a family that lacks its library is a skipped one."""
    found: list[Any] = []
    for name in families.names():
        try:
            found += [pytest.param(one, id=f"{name}{more}") for more, one in what(families.get(name))]
        except MissingDependency as e:
            found.append(pytest.param(None, id=name, marks=pytest.mark.skip(str(e))))
    return found


each_family = pytest.mark.parametrize("family", with_each(lambda family: iter([("", family)])))
EXAMPLES = with_each(lambda family: ((f": {example.name}", example) for example in family.EXAMPLES))


def gold(family: Family) -> Example:
    return family.EXAMPLES[0]


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_has_the_score_it_tells(example: Example) -> None:
    verdict = judge(example.problem, example.program, LIMITS, is_program=True)
    if example.score is None:
        assert verdict.status == "unparsable"
        assert verdict.detail
    else:
        assert (verdict.score, verdict.status) == (example.score, "accepted" if example.score == 1 else "rejected")


@each_family
def test_a_family_says_what_it_is_and_shows_each_kind_of_example(family: Family) -> None:
    assert family.VERSION >= 1
    assert family.METRIC
    assert family.__doc__
    scores = [example.score for example in family.EXAMPLES]
    assert gold(family).score == 1
    assert scores.count(1.0) >= 2
    assert min(score for score in scores if score is not None) < 1
    assert None in scores


@each_family
def test_every_mutant_of_gold_is_refused(family: Family) -> None:
    mutants = set(family.mutants(gold(family).program, random.Random(0)))
    assert len(mutants) >= 3
    assert gold(family).program not in mutants
    assert [m for m in mutants if judge(gold(family).problem, m, LIMITS).status == "accepted"] == []


@each_family
def test_mutants_depend_on_the_seed_alone(family: Family) -> None:
    first, again = (list(family.mutants(gold(family).program, random.Random(7))) for _ in range(2))
    assert first == again


@each_family
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_unparsable(family: Family, garbage: str) -> None:
    with pytest.raises(Unparsable):
        family.canonical(garbage)
    assert judge(gold(family).problem, garbage, LIMITS).status == "unparsable"


@each_family
@pytest.mark.parametrize("empty", ["", " \n\t", "```\n```", "<|im_end|>"])
@pytest.mark.parametrize("answer", ["gold", None, "", 0, []])
def test_nothing_is_never_an_answer(family: Family, empty: str, answer: object) -> None:
    problem = gold(family).problem
    if answer != "gold":
        problem = problem.model_copy(update={"answer": answer, "program": None})
    assert judge(problem, empty, LIMITS).status == "unparsable"


@each_family
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_contained_and_gold_is_accepted_after_it(family: Family, hostile: str) -> None:
    verdict = judge(gold(family).problem, hostile, LIMITS.model_copy(update={"timeout_s": 2}))
    assert verdict.status in ("rejected", "unparsable", "resource", "timeout")
    assert judge(gold(family).problem, gold(family).program, LIMITS).status == "accepted"


@each_family
def test_without_gold_nothing_is_accepted(family: Family) -> None:
    problem = gold(family).problem.model_copy(update={"answer": None, "program": None})
    assert judge(problem, gold(family).program, LIMITS).status == "unscored"


@each_family
def test_gold_runs_to_a_value_without_gold(family: Family) -> None:
    problem = gold(family).problem.model_copy(update={"answer": None, "program": None})
    ran = execute(problem, gold(family).program, LIMITS)
    assert ran.status == "ran"
    assert ran.value


@each_family
def test_the_verdict_is_the_same_twenty_times_under_load(family: Family) -> None:
    items = [example for example in family.EXAMPLES for _ in range(20)]
    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(lambda e: judge(e.problem, e.program, LIMITS), items))
    seen = {(e.name, v.status, v.score, v.value, v.canonical, v.detail) for e, v in zip(items, verdicts, strict=True)}
    assert len(seen) == len(family.EXAMPLES)
