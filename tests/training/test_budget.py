"""Samples where they are worth it: who gets more, that no more are taken than K each, that neither kills nor shards show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.params import Explore
from symbol_llm.ground.records import Messages, Problem
from symbol_llm.ground.shards import Shard
from symbol_llm.training.budget import Tried, next_step, worth
from symbol_llm.training.explore import Explored, explore

RIGHT = ("answer = 4", "answer = 1 + 3", "answer = 2 + 2", "answer = 2 * 2")
K = 4

Make = Callable[..., Problem]


class Writer(FakeEngine):
    """Solves easy problems in ever new ways, dull ones always alike, rare ones at the fifth sample, hard ones never."""

    def __init__(self) -> None:
        super().__init__(self.write)
        self.n_written: dict[str, int] = {}

    def write(self, messages: Messages, index: int) -> str:
        question = messages[-1]["content"].splitlines()[-1]
        n = self.n_written[question] = self.n_written.get(question, 0) + 1
        if "easy" in question:
            return RIGHT[n % len(RIGHT)]
        if "dull" in question or ("rare" in question and n >= 5):
            return RIGHT[0]
        return "answer = 5"


@pytest.fixture
def problems(problem: Make) -> list[Problem]:
    return [
        problem(f"A question that is {kind} {at}?", 4) for kind in ("easy", "dull", "rare", "hard") for at in range(3)
    ]


def search(path: Path, problems: Sequence[Problem], shard: Shard | None = None, **params: object) -> Explored:
    with Ledger(path) as ledger:
        how = Explore(k=K, refine=False, budget="worth", **params)
        return explore(problems, Writer(), ledger, how, *([shard] if shard else []))


def taken(found: Explored, problems: Sequence[Problem], kind: str) -> list[int]:
    return [found.tried(p).n for p in problems if kind in p.question]


# --- who gets more -----------------------------------------------------------------------------------------------------


def test_worth_is_chance_of_a_right_one_that_is_new_and_needed() -> None:
    assert worth(Tried(0, 0, 0)) == pytest.approx(1 / 2)
    assert worth(Tried(8, 0, 0)) == pytest.approx(1 / 10)
    assert worth(Tried(2, 1, 1)) == pytest.approx(2 / 4 / 2)
    assert worth(Tried(4, 4, 1)) == pytest.approx(5 / 6 / 4 / 2)
    assert worth(Tried(4, 4, 2)) == pytest.approx(5 / 6 / 2 / 3)


def test_worthier_half_is_chosen_and_ties_go_by_id() -> None:
    tried = {"d": Tried(2, 0, 0), "c": Tried(2, 0, 0), "b": Tried(4, 0, 0), "a": Tried(2, 2, 1), "full": Tried(4, 4, 3)}
    assert next_step(tried, 2, 100, 3, 32) == ["c", "d"]
    assert next_step(tried, 2, 3, 3, 32) == ["c"]
    assert next_step(tried, 2, 1, 3, 32) == []


def test_none_that_has_enough_or_would_pass_the_most_is_chosen() -> None:
    assert next_step({"a": Tried(2, 2, 2)}, 2, 9, 2, 32) == []
    assert next_step({"a": Tried(2, 0, 0)}, 2, 9, 2, 3) == []
    assert next_step({"a": Tried(2, 0, 0)}, 2, 9, 2, 4) == ["a"]


# --- exploring ---------------------------------------------------------------------------------------------------------


def test_what_easy_problems_leave_goes_to_those_that_none_solved(tmp_path: Path, problems: list[Problem]) -> None:
    found = search(tmp_path / "l", problems, enough=2)
    assert taken(found, problems, "easy") == [2, 2, 2]
    assert len(found.candidates) == K * len(problems)
    unsolved = taken(found, problems, "hard") + taken(found, problems, "rare")
    assert min(unsolved) >= K
    assert any(found.tried(p).n_right for p in problems if "rare" in p.question)
    assert sum(taken(found, problems, "dull")) < sum(unsolved) / 2


def test_indices_of_a_problem_have_no_gap(tmp_path: Path, problems: list[Problem]) -> None:
    found = search(tmp_path / "l", problems)
    for p in problems:
        assert [c.index for c in found.of(p, "explore")] == list(range(found.tried(p).n))


def test_once_all_have_enough_the_rest_is_not_spent(tmp_path: Path, problem: Make) -> None:
    found = search(tmp_path / "l", [problem(f"An easy one {at}?", 4) for at in range(4)], enough=2)
    assert len(found.candidates) == 4 * 2


def test_repairs_are_as_many_as_samples(tmp_path: Path, problems: list[Problem]) -> None:
    with Ledger(tmp_path / "l") as ledger:
        found = explore(problems, Writer(), ledger, Explore(k=K, budget="worth"))
    for p in problems:
        assert len(found.of(p, "refine")) == found.tried(p).n


def written(found: Explored) -> list[str]:
    return sorted(row.model_dump_json() for rows in found.ordered() for row in rows)


class Fixed(FakeEngine):
    """Writes the same for the same question and index, however often it was asked before."""

    def __init__(self) -> None:
        super().__init__(lambda messages, index: RIGHT[index % 2] if len(messages[-1]["content"]) % 2 else "answer = 5")


def test_killed_after_any_line_it_ends_with_the_same_bytes(tmp_path: Path, problem: Make) -> None:
    problems, how = [problem(f"{'x' * at}?", 4) for at in range(6)], Explore(k=K, refine=False, budget="worth")

    def found(path: Path) -> list[str]:
        with Ledger(path) as ledger:
            return written(explore(problems, Fixed(), ledger, how))

    expected = found(tmp_path / "whole")
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    assert len(expected) > 2 * 2 * len(problems)
    for n in range(0, len(lines), 3):
        (tmp_path / "killed").write_bytes(b"".join(lines[:n]))
        assert found(tmp_path / "killed") == expected, f"killed after line {n}"


@pytest.mark.parametrize("n", [2, 3])
def test_shards_together_find_the_same(tmp_path: Path, problem: Make, n: int) -> None:
    problems = [problem(f"{'x' * at}?", 4) for at in range(8)]
    how = Explore(k=K, refine=False, budget="worth", batch=4)

    def found(name: str, *shard: Shard) -> list[str]:
        with Ledger(tmp_path / name) as ledger:
            return written(explore(problems, Fixed(), ledger, how, *shard))

    parts = [found(f"{at}", Shard(at, n)) for at in range(1, n + 1)]
    assert sorted(line for part in parts for line in part) == found("whole")
