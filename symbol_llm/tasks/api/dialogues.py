"""Turns of a dialogue to the program that the assistant runs: SMCalFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Row, Task, read_rows
from symbol_llm.tasks.api.data import shots

SMCALFLOW_INSTRUCTION = (
    "Write what the calendar assistant does next in Lispress: (Function argument :name argument), one in the other, (Yield"
    ' ...) around what is told to the user. "Texts" and whole numbers such as 3L are arguments; (let (x0 ...) ...) names what'
    " is used twice."
)


class DialogueRow(Row):
    """A turn of SMCalFlow 2.0."""

    id: str
    dialogue_id: str
    turn_index: int
    user_utterance: str
    agent_utterance: str
    lispress: str
    skip: bool = False
    """Whether the turn is only context for later ones; the source excludes it from training and testing."""


def read_smcalflow(folder: Path) -> Iterator[Problem]:
    """Yield the turns of SMCalFlow in `folder`, each after the previous one if present; those to skip have no gold."""
    before: DialogueRow | None = None
    for split, row in read_rows(folder, DialogueRow):
        follows = before and (before.dialogue_id, before.turn_index) == (row.dialogue_id, row.turn_index - 1)
        yield Problem.of(
            task="smcalflow",
            family="lispress",
            instruction=SMCALFLOW_INSTRUCTION,
            context=f"User: {before.user_utterance}\nAgent: {before.agent_utterance}" if before and follows else "",
            question=row.user_utterance.strip(),
            program=None if row.skip else row.lispress,
            split=split,
            source=f"smcalflow {row.id}",
            licence="CC BY-SA 4.0",
        )
        before = row


TASKS = (
    Task(
        "smcalflow",
        "lispress",
        SMCALFLOW_INSTRUCTION,
        shots=shots("smcalflow"),
        licence="CC BY-SA 4.0",
        citation="Andreas et al. 2020, Task-Oriented Dialogue as Dataflow Synthesis",
        folder="api/smcalflow",
        read=read_smcalflow,
    ),
)
