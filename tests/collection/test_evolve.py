"""Symbol-evol: renamed rows are still right, say what their names stand for, and can be restored."""

import random
import re

import pytest

from symbol_llm.collection.evolve import evolved, restored
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.judging import verify
from symbol_llm.tasks import all_tasks
from tests.problems import problem

DECLARING = [task for task in all_tasks().values() if task.generate and task.generate(random.Random(0), 1).symbols]


def scan(**fields):
    rest = {"instruction": "Use: I_RUN I_JUMP I_WALK.", "symbols": ("I_RUN", "I_JUMP", "I_WALK")}
    rest |= {"question": "run and I_RUNs", "program": "I_RUN I_JUMP I_RUN", "answer": "I_RUN I_JUMP I_RUN"}
    return problem("commands", **(rest | {"environment": {"vocabulary": ["I_RUN", "I_JUMP", "I_WALK"]}} | fields))


def test_names_are_replaced_everywhere_but_in_the_question():
    row = evolved(scan(), random.Random(1))
    new = row.renamed
    assert list(new) == ["I_RUN", "I_JUMP", "I_WALK"]
    assert row.instruction == f"Use: {new['I_RUN']} {new['I_JUMP']} {new['I_WALK']}."
    assert row.program == row.answer == f"{new['I_RUN']} {new['I_JUMP']} {new['I_RUN']}"
    assert row.environment == {"vocabulary": list(new.values())}
    assert row.question == "run and I_RUNs"
    assert row.context == f"Names: {', '.join(f'{name} is {old}' for old, name in new.items())}."
    assert all(re.fullmatch(r"[a-z][a-z0-9]{4,7}", name) for name in new.values())
    assert row.id != scan().id


def test_a_prefix_that_the_notation_demands_stays():
    row = evolved(scan(symbols=("IN:SET",), instruction="IN:SET", program="[IN:SET now ]"), random.Random(1))
    assert re.fullmatch(r"\[IN:[a-z][a-z0-9]{4,7} now \]", row.program)


def test_a_row_that_uses_none_of_its_names_stays_as_it_is():
    assert evolved(scan(program="I_LOOK"), random.Random(1)) is None
    assert evolved(scan(symbols=()), random.Random(1)) is None


def test_at_most_eight_names_are_renamed_those_in_use_first():
    names = tuple(f"r{i}" for i in range(20))
    row = evolved(scan(symbols=names, instruction=" ".join(names), program="r19 r18"), random.Random(1))
    assert len(row.renamed) == 8
    assert {"r18", "r19"} <= set(row.renamed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"symbols": ("I_RUN", "I_RUN")}, "'I_RUN' is declared twice"),
        ({"symbols": ("I_FLY",)}, "'I_FLY' stands neither in instruction nor in context"),
    ],
)
def test_a_vocabulary_that_cannot_be_renamed_is_told(fields, message):
    with pytest.raises(InvalidInput, match=message):
        evolved(scan(**fields), random.Random(1))


@pytest.mark.parametrize("task", DECLARING, ids=lambda task: task.name)
def test_renamed_rows_of_every_task_are_accepted_and_restored(task):
    for i in range(6):
        row = task.generate(random.Random(f"evolve {i}"), 1 + i % 3)
        new = evolved(row, random.Random(i))
        if new is None:
            continue
        verdict = verify.judge(new, new.program, Limits(timeout_s=20))
        assert verdict.status == "accepted", (new.program, verdict)
        assert restored(new) == row
