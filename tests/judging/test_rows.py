"""Files of replies judged at once, and what a task brings to a single verdict."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from symbol_llm.cli import main
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import read_records
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Verdict
from symbol_llm.judging.rows import Asked, judge_rows, summary
from tests.problems import problem


def rows_file(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"


def call(*arguments: str, program: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=program, catch_exceptions=False)


SUM = {"task": "gsm8k", "question": "What is 2 + 2?", "answer": 4}


def test_every_row_has_its_verdict_in_order_under_its_name(tmp_path: Path) -> None:
    rows = [SUM | {"reply": "answer = 2 + 2", "id": "a"}, SUM | {"reply": "answer = 5"}, SUM | {"reply": "answer = ("}]
    found = list(judge_rows(rows_file(tmp_path, *rows), Limits()))
    assert [(task, v.candidate, v.status) for task, v in found] == [
        ("gsm8k", "a", "accepted"),
        ("gsm8k", "2", "rejected"),
        ("gsm8k", "3", "unparsable"),
    ]


def test_row_may_hold_a_whole_problem_whose_database_lies_beside_the_file(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "d.sqlite") as database:
        database.execute("CREATE TABLE t (a INTEGER)")
        database.execute("INSERT INTO t VALUES (7)")
    whole = problem("sql", task="table_questions", answer=[[7]], environment={"database": "d.sqlite"})
    row = {"problem": whole.model_dump(mode="json"), "reply": "SELECT a FROM t"}
    ((task, verdict),) = judge_rows(rows_file(tmp_path, row), Limits())
    assert (task, verdict.status, verdict.problem) == ("table_questions", "accepted", whole.id)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (SUM, "rows.jsonl:2: row: expected `reply`, or `program`, not both"),
        (SUM | {"reply": "x", "anwser": 4}, "rows.jsonl:2: anwser: extra inputs are not permitted"),
        ({"task": "gsm8k", "reply": "x"}, "rows.jsonl, row 2: nothing to judge by"),
        ({"answer": 4, "reply": "x"}, "rows.jsonl, row 2: expected either a task or a family"),
        ({"task": "gsm9k", "answer": 4, "reply": "x"}, "rows.jsonl, row 2: unknown task 'gsm9k'"),
        (SUM | {"reply": "x", "environment": {"functoin": "f"}}, "functoin: extra inputs are not permitted"),
    ],
)
def test_malformed_row_stops_before_anything_is_judged(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput) as e:
        next(judge_rows(rows_file(tmp_path, SUM | {"reply": "answer = 4"}, row), Limits()))
    assert told in str(e.value)


def test_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no rows; expected lines such as"):
        next(judge_rows(rows_file(tmp_path), Limits()))


def test_summary_counts_by_task_and_leaves_our_failures_out_of_the_share() -> None:
    def verdict(status: Any) -> Verdict:
        return Verdict(candidate="c", problem="p", status=status, verifier="v")

    found = [
        ("a", verdict("accepted")),
        ("a", verdict("unscored")),
        ("b", verdict("rejected")),
        ("b", verdict("timeout")),
    ]
    rows = {row["task"]: row for row in summary(found)}
    assert (rows["a"]["n"], rows["a"]["share_accepted"], rows["a"]["unscored"]) == (2, 1.0, 1)
    assert (rows["b"]["share_accepted"], rows["all"]["n"]) == (0.0, 4)
    assert rows["all"]["share_accepted"] == pytest.approx(1 / 3)
    assert summary([("a", verdict("unscored"))])[0]["share_accepted"] is None


def test_command_writes_verdicts_and_shows_a_summary(tmp_path: Path) -> None:
    rows = rows_file(tmp_path, SUM | {"reply": "answer = 4"}, SUM | {"reply": "answer = 5"})
    done = call("judge", "--rows", str(rows), "--out", str(tmp_path / "v.jsonl"), "--json")
    assert (done.exit_code, json.loads(done.stdout)[0]["share_accepted"]) == (0, 0.5)
    assert [v.status for v in read_records(tmp_path / "v.jsonl", Verdict)] == ["accepted", "rejected"]
    again = call("judge", "--rows", str(rows), "--out", str(tmp_path / "v.jsonl"))
    assert again.exit_code == 0


def test_verdicts_take_the_place_of_verdicts_alone(tmp_path: Path) -> None:
    rows = rows_file(tmp_path, SUM | {"reply": "answer = 4"})
    for name in ("rows.jsonl", "notes.txt"):
        (tmp_path / "notes.txt").write_text("mine\n")
        before = (tmp_path / name).read_bytes()
        done = call("judge", "--rows", str(rows), "--out", str(tmp_path / name))
        assert (done.exit_code, "did not write" in done.stderr) == (2, True)
        assert (tmp_path / name).read_bytes() == before


def test_row_that_could_not_be_scored_is_exit_code_3(tmp_path: Path) -> None:
    rows = rows_file(tmp_path, {"family": "triples", "gold": "no triple", "reply": "r(a, b)"})
    assert call("judge", "--rows", str(rows)).exit_code == 3


@pytest.mark.parametrize(
    ("task", "gold", "program", "exit_code"),
    [
        ("nl2rx", "(dog).*", "(dog)(.*)", 0),
        ("nl2python", "def f(b):\n    return b", "def f(a):\n    return a", 0),
        ("nl2python", "def f(b):\n    return b", "def f(a):\n    return -a", 1),
    ],
)
def test_task_brings_the_environment_of_its_problems(task: str, gold: str, program: str, exit_code: int) -> None:
    assert call("judge", "--task", task, "--gold", gold, program=program).exit_code == exit_code


def test_task_says_that_objects_keep_their_names() -> None:
    gold = "(define (problem p) (:domain blocksworld) (:objects {0} b) (:init (arm-empty) (on-table {0}) (clear b)) (:goal (on {0} b)))"
    right, renamed = gold.format("a"), gold.format("c")
    assert call("judge", "--task", "blocksworld", "--gold", right, program=right).exit_code == 0
    assert call("judge", "--task", "blocksworld", "--gold", right, program=renamed).exit_code == 1


def test_gold_and_answer_may_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "gold").write_text("r(a, b)\n")
    (tmp_path / "answer").write_text("4")
    assert call("judge", "--family", "triples", "--gold", f"@{tmp_path / 'gold'}", program="r(a, b)").exit_code == 0
    assert call("judge", "--task", "gsm8k", "--answer", f"@{tmp_path / 'answer'}", program="answer = 4").exit_code == 0
    done = call("judge", "--task", "gsm8k", "--answer", f"@{tmp_path / 'none'}", program="answer = 4")
    assert (done.exit_code, "none: no such file" in done.stderr) == (2, True)


def test_what_a_problem_itself_says_wins_over_its_task() -> None:
    asked = Asked(task="nl2rx", gold="a", environment={"dialect": "python"})
    assert asked.as_problem().environment == {"dialect": "python"}


def test_a_program_is_judged_from_its_first_character_to_its_last_and_a_reply_is_searched(tmp_path: Path) -> None:
    text = "answer = 4\n\nThis is right."
    rows = rows_file(tmp_path, SUM | {"reply": text}, SUM | {"program": text}, SUM | {"program": "answer = 4"})
    assert [v.status for _, v in judge_rows(rows, Limits())] == ["accepted", "unparsable", "accepted"]
