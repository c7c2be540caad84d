"""Every reader on a few rows in its source's fields: all are read, what is right is accepted, near misses are not."""

import itertools
import json
import random

import pytest

from symbol_llm import families
from symbol_llm.engines.prompts import messages
from symbol_llm.ground.params import Limits
from symbol_llm.judging import verify
from symbol_llm.tasks import all_tasks, general
from tests.problems import family
from tests.tasks.conftest import ROWS

READ = [task for task in all_tasks().values() if task.read]
LIMITS = Limits(timeout_s=20)
N_MUTANTS = 3


def lines(folder, name):
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def tried(folder, rows):
    """Yield problem, right replies and near misses: the gold program with mutants of it, what `replies.jsonl` has."""
    replies = {row["source"]: row for row in lines(folder, "replies")}
    for row in rows:
        right, near = ([replies[row.source][key]] if row.source in replies else [] for key in ("right", "near"))
        if row.program is not None:
            mutants = family(row.family).mutants(row.program, random.Random(0))
            right, near = [row.program, *right], [*itertools.islice(mutants, N_MUTANTS), *near]
        if right:
            yield row, right, near


def status(row, reply):
    verdict = verify.judge(row, reply, LIMITS)
    if verdict.status == "unscored" and row.family in ("java", "go"):
        pytest.skip(verdict.detail)
    return verdict.status


@pytest.mark.parametrize("task", READ, ids=lambda task: task.name)
def test_rows_are_read_right_replies_accepted_and_near_misses_refused(small, task):
    """A source of several problems a row says which by `#i`."""
    folder = small / task.folder
    n_rows = len(lines(folder, "train")) + len(lines(folder, "test"))
    rows = list(task.read(folder))
    assert len({row.source.split("#")[0] for row in rows}) == n_rows > 0
    for row in rows:
        assert (row.task, row.family) == (task.name, task.family)
        assert row.question.strip()
        assert messages(row)
        families.needs(row, family(task.family).Environment)
    assert {row.split for row in rows} <= ({"test"} if task.evaluation_only else {"train", "test"})
    found = list(tried(folder, rows))
    assert found
    for row, right, near in found:
        assert near, row
        assert {one: status(row, one) for one in right} == dict.fromkeys(right, "accepted")
        assert {one for one in near if status(row, one) not in ("rejected", "unparsable")} == set()


@pytest.mark.parametrize("source", general.SOURCES, ids=lambda source: source.name)
def test_general_rows_are_read(small, source):
    folder = small / source.folder
    items = list(source.read(folder))
    n_shots = len(lines(folder, "train")) if source.name == "mmlu" else 0  # worked examples, which are left out
    assert len(items) == len(lines(folder, "train")) + len(lines(folder, "test")) - n_shots > 0
    assert all(item.reply or item.choices[item.correct] for item in items)


def test_there_is_no_folder_of_rows_without_a_reader_and_no_reply_without_a_row(small):
    folders = {str(path.relative_to(ROWS)) for path in ROWS.glob("*/*")}
    assert folders == {task.folder for task in READ} | {source.folder for source in general.SOURCES}
    answered = {row["source"] for path in ROWS.glob("*/*") for row in lines(path, "replies")}
    assert answered <= {row.source for task in READ for row in task.read(small / task.folder)}
