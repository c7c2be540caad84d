"""What every task promises: its generator makes true, varied problems; its reader reads every row of the real slices.

What its reader makes of single rows is in `test_small_rows.py`.
"""

import random
import re
from collections import Counter

import pytest

from symbol_llm import families
from symbol_llm.engines.prompts import messages
from symbol_llm.ground.params import Limits
from symbol_llm.judging import verify
from symbol_llm.tasks import LEVELS, all_tasks

TASKS = all_tasks()
GENERATED = [task for task in TASKS.values() if task.generate]
READ = [task for task in TASKS.values() if task.read and task.folder]
PER_LEVEL = 60
JUDGED = 12
MAX_PROMPT_CHARS = {1: 1200, 2: 2000, 3: 3000}


def problems(task, level, n=PER_LEVEL):
    return [task.generate(random.Random(f"0 {task.name} {i}"), level) for i in range(n)]


@pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)
def test_generated_gold_is_accepted_by_its_own_verifier(task):
    rows = [row for level in LEVELS for row in problems(task, level, JUDGED)]
    golds = [verify.Item(row, row.program, is_program=True) for row in rows]
    for row, verdict in zip(rows, verify.judge_all(golds, Limits()), strict=True):
        assert verdict.status == "accepted", (row.question, row.program, verdict)


@pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)
def test_generated_problems_are_whole_and_follow_from_seed_and_level(task):
    for level in LEVELS:
        for one, again in zip(problems(task, level, 5), problems(task, level, 5), strict=True):
            assert one == again
            assert (one.task, one.family, one.source, one.split) == (task.name, task.family, "generated", "train")
            assert one.question.strip() == one.question != ""
            assert one.program and one.program.strip() == one.program
            assert one.instruction.strip()
            text = "\n".join(message["content"] for message in messages(one))
            assert len(text) <= MAX_PROMPT_CHARS[level]
            for symbol in one.symbols:
                assert re.search(rf"(?<![\w-]){re.escape(symbol)}(?![\w-])", f"{one.instruction}\n{one.context}"), (
                    symbol
                )


@pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)
def test_generated_problems_vary_and_grow_with_the_level(task):
    """Hardness shows as longer programs; variety as distinct problems."""
    rows = {level: problems(task, level) for level in LEVELS}
    for level in LEVELS:
        asked = Counter((row.context, row.question) for row in rows[level])
        assert len(asked) >= 0.6 * PER_LEVEL, asked.most_common(3)
    length = {level: sum(len(row.program) for row in rows[level]) for level in LEVELS}
    assert length[1] < length[2] < length[3], length


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.shots], ids=lambda task: task.name)
def test_worked_examples_are_asked_nowhere_else(small, task):
    """As they would be answered by copying: neither what is generated nor what is read repeats one."""
    shown = {(context, question) for context, question, _ in task.shots}
    asked = problems(task, 1) if task.generate else []
    asked += task.read(small / task.folder) if task.read else []
    assert asked
    assert not shown & {(row.context, row.question) for row in asked}


@pytest.mark.parametrize("task", READ, ids=lambda task: task.name)
def test_every_row_of_the_real_slice_is_read(real, task):
    """A source of several problems a row says which by `#i`."""
    folder = real / task.folder
    if not folder.is_dir():
        pytest.skip(f"no slice of {task.name}")
    lines = [line for split in ("train", "test") if (folder / f"{split}.jsonl").is_file()
             for line in (folder / f"{split}.jsonl").read_bytes().splitlines()]  # fmt: skip
    rows = list(task.read(folder))
    assert len({row.source.split("#")[0] for row in rows}) >= 0.99 * len(lines)
    assert all(row.question.strip() and (row.task, row.family) == (task.name, task.family) for row in rows)
    assert not task.evaluation_only or {row.split for row in rows} == {"test"}


@pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)
def test_what_all_problems_of_a_task_need_alike_is_the_tasks_own(task):
    """So that `judge --task` judges as in training."""
    rows = [row.environment for level in LEVELS for row in problems(task, level, 8)]
    alike = {key: value for key, value in rows[0].items() if all(row.get(key) == value for row in rows)}
    assert {key: task.environment.get(key) for key in alike} == alike
    for level in LEVELS:
        for row in problems(task, level, 8):
            families.needs(row, families.get(task.family).Environment)
