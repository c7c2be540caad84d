"""Prompts word for word: of every family the plain, the few-shot and the repair prompt, beside what they were.

The snapshots are `prompts/<family>.txt`. A change of theirs changes what models are trained on and asked, so read the
difference before you keep it. To write them anew:

    UPDATE_SNAPSHOTS=1 .venv/bin/python -m pytest tests/engines/test_prompts.py
"""

import os
import pkgutil
from pathlib import Path

import pytest

from symbol_llm import families, tasks
from symbol_llm.engines import prompts
from symbol_llm.ground.params import Feedback
from symbol_llm.ground.records import Messages, Problem, Status
from symbol_llm.judging.verify import Execution
from tests import problems
from tests.problems import problem

SNAPSHOTS = Path(__file__).with_name("prompts")
OURS = sorted(module.name for module in pkgutil.iter_modules(families.__path__))
"""Families of this package; other packages may add theirs."""
UPDATE = os.environ.get("UPDATE_SNAPSHOTS") == "1"


def asked(family: str) -> tuple[Problem, list[prompts.Shot]]:
    """Return the last worked example of the family's first task as a problem, and those before it as shots.

    A task of one example has it as its shot too; a family without a task gives its first example, likewise.
    """
    task = next((task for task in tasks.all_tasks().values() if task.family == family), None)
    if task is None:
        own = problems.family(family).EXAMPLES[0]
        return own.problem, [(own.problem.context, own.problem.question, own.program)]
    context, question, _ = task.shots[-1]
    fields = {"instruction": task.instruction, "context": context, "question": question}
    return problem(family, **fields, program="GOLD PROGRAM", answer="GOLD ANSWER"), list(task.shots[:-1] or task.shots)


def written(title: str, chat: Messages) -> str:
    turns = "".join(f"--- {turn['role']}\n{turn['content']}\n" for turn in chat)
    return f"=== {title}\n{turns}"


def rendered(family: str) -> str:
    found, shots = asked(family)
    first_try = shots[0][2]
    return (
        written("plain", prompts.messages(found))
        + written("few-shot", prompts.messages(found, shots))
        + written("repair", prompts.repair_messages(found, first_try))
    )


@pytest.mark.parametrize("family", OURS)
def test_prompts_of_a_family_are_those_of_its_snapshot(family: str) -> None:
    snapshot = SNAPSHOTS / f"{family}.txt"
    if UPDATE:
        snapshot.write_bytes(rendered(family).encode())
    assert snapshot.is_file(), f"{snapshot} is missing; write it with UPDATE_SNAPSHOTS=1"
    assert rendered(family) == snapshot.read_bytes().decode()


def test_every_snapshot_is_of_a_family() -> None:
    assert sorted(path.stem for path in SNAPSHOTS.iterdir()) == OURS


SHOT = ("", "One and one?", "answer = 1 + 1")


def test_hint_stands_behind_the_question_as_it_is_and_not_behind_a_worked_example() -> None:
    asked = problem("python", question="Whose?", answer="Zoë")
    chat = prompts.hinted_messages(asked, [SHOT])
    assert chat[:-1] == prompts.messages(asked, [SHOT])[:-1]
    assert chat[-1]["content"] == 'Whose?\n\nThe answer is "Zoë"'


RAN = Execution("ran", "answer = 7", "7", "", 0.1, "none")
FAILED = Execution("error", "answer = 1 / 0", None, "ZeroDivisionError", 0.1, "none")


@pytest.mark.parametrize(
    ("status", "ran", "level", "expected"),
    [
        ("rejected", RAN, "none", ""),
        ("rejected", RAN, "status", "It is wrong."),
        ("rejected", RAN, "message", "It is wrong."),
        ("rejected", RAN, "value", "It is wrong. It gives 7."),
        ("accepted", RAN, "value", "It is right. It gives 7."),
        ("rejected", FAILED, "status", "It is wrong."),
        ("rejected", FAILED, "message", "It is wrong. ZeroDivisionError"),
        ("rejected", FAILED, "value", "It is wrong. ZeroDivisionError"),
        ("timeout", FAILED._replace(detail=""), "value", "It does not end in time."),
        ("resource", None, "status", "It takes too much."),
        ("unscored", FAILED, "value", ""),
        ("rejected", RAN._replace(value="7" * 999), "value", f"It is wrong. It gives {'7' * 200}."),
        ("unparsable", FAILED._replace(detail="x" * 999), "message", f"It is not well-formed. {'x' * 200}"),
    ],
)
def test_feedback_says_as_much_as_its_level(status: Status, ran: Execution, level: Feedback, expected: str) -> None:
    assert prompts.feedback(status, ran, level) == expected
