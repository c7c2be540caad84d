"""The story of a problem, told from what stages wrote: who tried it, what came of each try, who learnt from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from symbol_llm import cli
from symbol_llm.evaluation.why import in_words, outputs_in, why
from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Candidate, General, PoolEntry, Problem, Report, Summary, TrainingRow, Verdict
from symbol_llm.ground.stats import wilson

ROWS = "training_set.jsonl"


def wrote(out: Path, stage: str, rows: dict[str, list[Any]], **inputs: Path) -> Path:
    """Write the output of a stage as stages do."""
    with outputs.building(out, stage, {}, inputs) as draft:
        for name, records in rows.items():
            files.write_records(draft.folder / name, records)
    return out


def tried(problem: Problem, index: int, status: str, program: str, **more: Any) -> tuple[Candidate, Verdict]:
    name = f"{index}{status}{'0' * 12}"[:16]
    shared = {"origin": "explore", "index": index, "n_tokens": 3, "logprob": -0.5}
    candidate = Candidate(id=name, problem=problem.id, reply=program, **shared)
    verdict = Verdict(candidate=name, problem=problem.id, status=status, program=program, verifier="python@4", **more)
    return candidate, verdict


def row(problem: Problem, kind: str, completion: str, **more: Any) -> TrainingRow:
    return TrainingRow.of(kind=kind, problem=problem.id, messages=[], completion=completion, **more)


def report(checkpoint: Path, stage: str, asked: Problem) -> Report:
    summary = Summary(
        stage=stage,
        checkpoint=files.hash_path(checkpoint),
        overall=wilson(0.5, 2),
        tasks={},
        families={},
        domains={},
        general=General(),
    )
    return Report(summary=summary, outcomes={asked.id: 1.0})


@pytest.fixture
def run(tmp_path: Path, problem: Callable[..., Problem]) -> tuple[Path, Problem, Problem]:
    """Give a run of one round on one problem, and the problem it is tested on."""
    learnt, asked = problem("How many?", 4), problem("How many more?", 5, split="test")
    home = tmp_path / "run"
    collection = wrote(home / "collection", "collect", {"train.jsonl": [learnt], "test.jsonl": [asked]})
    (base := home / "base").mkdir(parents=True)
    (base / "weights").write_text("base")
    tries = [
        tried(learnt, 0, "rejected", "answer = 7", value="7"),
        tried(learnt, 1, "accepted", "answer = 2 + 2", value="4", agrees=True),
        tried(learnt, 2, "accepted", "answer = 8 / 2", value="4", agrees=False),
        tried(learnt, 3, "unparsable", "answer = ( # \x1b[2J", detail="line 1: '(' was never closed"),
    ]
    found = {"candidates.jsonl": [c for c, _ in tries], "verdicts.jsonl": [v for _, v in tries]}
    explored = wrote(home / "explored", "explore", found, collection=collection, checkpoint=base)
    kept = PoolEntry(
        problem=learnt.id, canonical="c", program="answer = 2 + 2", logprob=-1, accepted=True, origin="explore", round=1
    )
    rows = [row(learnt, "L1", "answer = 2 + 2"), row(learnt, "sample", "answer = 7", advantage=-0.5)]
    made = {"pool.jsonl": [kept], ROWS: rows}
    selected = wrote(home / "selected", "select", made, explored=explored)
    tuned = wrote(home / "tuned", "tune", {"weights.jsonl": []}, training_set=selected, checkpoint=base)
    for checkpoint, stage in ((base, "original"), (tuned, "round 1")):
        with outputs.building(home / f"report {stage}", "evaluate", {}, {"checkpoint": checkpoint}) as draft:
            files.write_text(draft.folder / "report.json", report(checkpoint, stage, asked).model_dump_json())
    return home, learnt, asked


def test_a_problem_is_followed_from_its_tries_to_the_checkpoints_that_learnt_from_it(
    run: tuple[Path, Problem, Problem],
) -> None:
    home, learnt, _ = run
    story = why(learnt.id, outputs_in([home]))
    assert [(a.by, a.index, a.status, a.agrees) for a in story.attempts] == [
        ("original", 0, "rejected", None),
        ("original", 1, "accepted", True),
        ("original", 2, "accepted", False),
        ("original", 3, "unparsable", None),
    ]
    assert [e.program for e in story.kept] == ["answer = 2 + 2"]
    taught = [(t.kind, t.advantage, t.made_by, t.learnt_by) for t in story.taught]
    assert taught == [("L1", None, "select", ("round 1",)), ("sample", -0.5, "select", ("round 1",))]
    assert story.asked_by == ()


def test_a_test_problem_names_who_was_asked(run: tuple[Path, Problem, Problem]) -> None:
    home, _, asked = run
    assert why(asked.id, outputs_in([home])).asked_by == ("original", "round 1")


def test_candidates_rows_and_beginnings_of_ids_lead_to_their_problem(run: tuple[Path, Problem, Problem]) -> None:
    home, learnt, _ = run
    found = outputs_in([home])
    for name in (learnt.id[:6], "1accepted00", row(learnt, "L1", "answer = 2 + 2").id):
        assert why(name, found).problem == learnt


@pytest.mark.parametrize(
    ("name", "message"),
    [("abc", "give at least 6 characters"), ("f" * 16, "no problem, candidate or training row has this id in")],
)
def test_what_is_not_there_is_said(run: tuple[Path, Problem, Problem], name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        why(name, outputs_in([run[0]]))


def test_folder_without_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no stage has written anything there; name the folder of a run"):
        why("abcdef", outputs_in([tmp_path]))


def test_words_say_why_each_try_failed(run: tuple[Path, Problem, Problem]) -> None:
    home, learnt, _ = run
    text = in_words(why(learnt.id, outputs_in([home])))
    assert "original, explore 0: rejected  gives 7\n    answer = 7" in text
    assert "original, explore 2: accepted; right by chance  gives 4" in text
    assert "original, explore 3: unparsable  line 1: '(' was never closed" in text
    assert "learnt by round 1: 'answer = 2 + 2'" in text
    assert ", advantage -0.50, learnt by round 1: 'answer = 7'" in text


def test_command_prints_words_or_json(run: tuple[Path, Problem, Problem]) -> None:
    home, learnt, _ = run
    done = CliRunner().invoke(cli.main, ["why", learnt.id, str(home)])
    assert (done.exit_code, f"problem   {learnt.id}" in done.output) == (0, True)
    assert "answer = ( # \\u001b[2J" in done.output
    done = CliRunner().invoke(cli.main, ["why", learnt.id, str(home), "--json"])
    assert len(json.loads(done.stdout)["attempts"]) == 4
