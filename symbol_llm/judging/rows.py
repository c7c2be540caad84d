"""Many replies judged at once: rows of a file, each a problem (or a task and what was asked) with a reply.

{"task": "gsm8k", "question": "...", "answer": 4, "reply": "answer = 2 + 2"}
{"problem": {...a row of a collection...}, "reply": "..."}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from symbol_llm import families, tasks
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import read_records
from symbol_llm.ground.params import Limits
from symbol_llm.ground.problems import with_database
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import STATUSES, Problem, Verdict
from symbol_llm.judging import verify


class Asked(BaseModel):
    """What was asked, as far as judging needs it. A task brings its notation and the environment that all its problems share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str | None = None
    family: str | None = None
    question: str = ""
    context: str = ""
    answer: Any = None
    gold: str | None = None
    """A right program."""
    environment: dict[str, Any] = {}

    def as_problem(self) -> Problem:
        """Return the problem; InvalidInput says what is unknown, missing or misspelt."""
        if (self.task is None) == (self.family is None):
            raise InvalidInput(
                "expected either a task or a family; `symbol-llm tasks` and `symbol-llm families` list them"
            )
        if self.answer is None and self.gold is None:
            raise InvalidInput("nothing to judge by: give an answer, gold, or both")
        task = tasks.get(self.task) if self.task else None
        family = task.family if task else self.family or ""
        problem = Problem.of(
            task=self.task or "command line",
            family=family,
            split="test",
            instruction="",
            question=self.question,
            context=self.context,
            answer=self.answer,
            program=self.gold,
            environment={**(task.environment if task else {}), **self.environment},
            source="command line",
            licence="",
        )
        families.needs(problem, families.get(family).Environment)
        return problem


class Row(Asked):
    """One line of a file of replies."""

    id: str | None = None
    """Given back with the verdict; none: the line's number."""
    problem: Problem | None = None
    """A whole row of a collection, in place of the fields above; its database lies beside the file of replies."""
    reply: str | None = None
    program: str | None = None
    """In place of `reply`: judged as it is, where a reply is searched for the program that it holds."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if self.problem is not None and (self.task or self.family):
            raise ValueError("expected `problem`, or `task` and what was asked, not both")
        if (self.reply is None) == (self.program is None):
            raise ValueError("expected `reply`, or `program`, not both")
        return self


def judge_rows(path: Path, limits: Limits) -> Iterator[tuple[str, Verdict]]:
    """Yield the task and the verdict on each row of `path`, in order; InvalidInput names the line that is malformed.

    `Verdict.candidate` is the row's id. All rows are read before the first is judged, so a malformed one stops at once.
    """
    items = [_item(n, row, path) for n, row in enumerate(read_records(path, Row), 1)]
    if not items:
        raise InvalidInput(f'{path}: no rows; expected lines such as {{"task": ..., "answer": ..., "reply": ...}}')
    verdicts = verify.judge_all(items, limits)
    for item, verdict in zip(items, track(verdicts, "judging", total=len(items)), strict=True):
        yield item.problem.task, verdict


def _item(n: int, row: Row, path: Path) -> verify.Item:
    try:
        problem = row.problem or row.as_problem()
        problem = with_database(problem, lambda place: str((path.parent / place).absolute()))
    except InvalidInput as e:
        raise InvalidInput(f"{path}, row {n}: {e}") from e
    is_program = row.program is not None
    return verify.Item(problem, row.program or row.reply or "", row.id or str(n), is_program)


def summary(found: Iterable[tuple[str, Verdict]]) -> list[dict[str, Any]]:
    """Return a row a task, and one over all if there are several: how many verdicts of each status, and the share accepted.

    The share is of what was scored; None where nothing was.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for task, verdict in found:
        counts[task][verdict.status] += 1
    if len(counts) > 1:
        counts["all"] = sum(counts.values(), Counter())
    return [_line(task, count) for task, count in counts.items()]


def _line(task: str, count: Counter[str]) -> dict[str, Any]:
    n_scored = count.total() - count["unscored"]
    share = count["accepted"] / n_scored if n_scored else None
    return {"task": task, "n": count.total(), "share_accepted": share} | {status: count[status] for status in STATUSES}
