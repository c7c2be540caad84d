"""General sources and what is special to a set, on the real slices; `test_task_contract.py` reads every row of every task."""

import json

import pytest

from symbol_llm.tasks import all_tasks, general
from symbol_llm.tasks.command import meaning


def n_lines(folder) -> int:
    return sum(1 for split in ("train", "test") for _ in (folder / f"{split}.jsonl").read_bytes().splitlines())


@pytest.mark.parametrize("source", general.SOURCES, ids=lambda source: source.name)
def test_every_general_row_is_read(real, source):
    if not (real / source.folder).is_dir():
        pytest.skip(f"no slice of {source.name}")
    items = list(source.read(real / source.folder))
    n = n_lines(real / source.folder)
    assert len(items) == (
        n if source.name != "mmlu" else len((real / source.folder / "test.jsonl").read_bytes().splitlines())
    )
    assert all(item.choices or item.reply for item in items)


@pytest.mark.parametrize("folder", ["scan", "scan_length"])
def test_our_meaning_agrees_with_every_real_command(real, folder):
    for split in ("train", "test"):
        for line in (real / "command" / folder / f"{split}.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert meaning(row["IN"]) == row["OUT"]


@pytest.mark.parametrize(("name", "share"), [("svamp", 0.99), ("asdiv", 0.65)])
def test_formulas_become_programs(real, name, share):
    task = all_tasks()[name]
    problems = list(task.read(real / task.folder))
    assert sum(p.program is not None for p in problems) >= share * len(problems)
