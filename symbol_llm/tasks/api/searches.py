"""Shopping goals to the words for a search box: WebShop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Row, Task, read_rows
from symbol_llm.tasks.api.data import shots

WEBSHOP_INSTRUCTION = (
    "Write the words that a shopper types into the search box of a web shop to find this, nothing else."
)


class GoalRow(Row):
    """A shopping goal of WebShop, and the queries that people typed."""

    id: str
    goal: str
    query: list[str]


def read_webshop(folder: Path) -> Iterator[Problem]:
    """Yield the shopping goals of WebShop in `folder`, all of them test rows; any of the typed queries is right."""
    for _, row in read_rows(folder, GoalRow):
        queries = [query.strip() for query in row.query if query.strip()]
        yield Problem.of(
            task="webshop_goals",
            family="choice",
            instruction=WEBSHOP_INSTRUCTION,
            question=row.goal.strip(),
            program=queries[0] if queries else None,
            answer=queries or None,
            split="test",
            source=f"webshop_goals {row.id}",
            licence="MIT",
        )


TASKS = (
    Task(
        "webshop_goals",
        "choice",
        WEBSHOP_INSTRUCTION,
        shots=shots("webshop_goals"),
        licence="MIT",
        citation="Yao et al. 2022, WebShop",
        folder="web/webshop_goals",
        read=read_webshop,
        evaluation_only=True,  # a query that nobody typed may be right too, so rejections must not be learned from
    ),
)
