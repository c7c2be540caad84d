"""Suites: the paper's order, its printed rows, what is absent; the harness on local rows with the real model."""

import json

import pytest

from symbol_llm.evaluation.suites import general, markdown, table
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import General, Interval, Scores, Summary
from symbol_llm.ground.stats import wilson
from symbol_llm.tasks import PUBLISHED, all_tasks


def summary(**tasks: Scores) -> Summary:
    whole = wilson(0.5, 10)
    return Summary(
        stage="suite", checkpoint="0", overall=whole, tasks=tasks, families={}, domains={}, general=General()
    )


def scores(share: float, metric: str | None = None) -> Scores:
    paper = Interval(n=4, mean=share / 2, low=0.1, high=0.9) if metric else None
    return Scores(accuracy=wilson(share, 4), metric=metric, paper=paper)


def test_the_34_stand_in_the_papers_order_with_its_printed_rows():
    found = table("symbolic-34", summary(scan=scores(0.5, "EM"), spider=scores(0.25, "EM")))
    assert [line.task for line in found.lines] == ["spider", "scan"]
    assert found.systems[4] == "Symbol-LLM-Instruct 7B"
    assert (found.lines[0].published[4], found.lines[1].published[4]) == (63.80, 98.35)
    assert len(found.absent) == PUBLISHED - 2
    text = markdown(found).splitlines()
    assert text[4].startswith("| spider | 4 | 25.0 [4.6, 69.9] | EM 12.5 [10.0, 90.0] | 42.60 | 32.70 |")
    assert text[6].startswith("| **mean** | 8 | 37.5 | 18.8 |")


def test_every_published_task_has_a_printed_row_and_the_numbers_are_1_to_34():
    published = sorted((t for t in all_tasks().values() if t.published), key=lambda t: t.published.number)
    absent = table("symbolic-34", summary()).absent
    assert tuple(task.name for task in published) == absent
    assert [task.published.number for task in published] == list(range(1, PUBLISHED + 1))


def test_delegation_counts_answers_and_knows_only_tasks_that_there_are():
    found = table("delegation", summary(svamp=scores(0.5), proofwriter=scores(0.5)))
    assert [(line.task, line.paper) for line in found.lines] == [("svamp", None), ("proofwriter", None)]
    assert "| proofwriter | 4 | 50.0 [15.0, 85.0] |  |  |  |  |  |" in markdown(found)
    assert set(found.absent) <= set(all_tasks())


def test_general_reads_local_rows_and_names_a_torn_one(tmp_path, smollm):
    pytest.importorskip("lm_eval")
    folder = tmp_path / "general" / "mmlu"
    folder.mkdir(parents=True)
    row = {"question": "What is 1 plus 1?", "A": "3", "B": "2", "C": "5", "D": "9", "answer": "B"}
    (folder / "train.jsonl").write_text("".join(json.dumps(row | {"id": f"t{i}"}) + "\n" for i in range(5)))
    (folder / "test.jsonl").write_text("".join(json.dumps(row | {"id": a, "answer": a}) + "\n" for a in "ABCD"))
    found = general(smollm, tmp_path, None)
    (line,) = found.lines
    assert (line.task, line.n, line.published[3], found.absent) == ("mmlu", 4, 49.30, ("bbh",))
    assert line.accepted.mean == 0.25  # one question with each of its four answers: the model is right once
    (folder / "test.jsonl").write_text('{"question": ')
    with pytest.raises(InvalidInput, match=r"test\.jsonl:1: not JSON"):
        general(smollm, tmp_path, None)
    with pytest.raises(InvalidInput, match=r"expected general/mmlu/test\.jsonl"):
        general(smollm, tmp_path / "nowhere", None)
