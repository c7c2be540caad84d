"""The command line: verdicts and exit codes of `judge`, lists, messages, and an answer to --help without the heavy libraries."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from symbol_llm import families, machine, tasks
from symbol_llm.cli import main
from symbol_llm.ground import outputs

HEAVY = ("torch", "transformers", "mlflow", "dvc", "kfp", "kubernetes", "sympy", "z3", "matplotlib", "pydantic")
JUDGE = ("judge", "--task", "word_problems", "--answer", "4")


def call(*arguments: str, program: str | bytes = "") -> Result:
    """Run the command line in this process; whatever it does not turn into a message is raised here."""
    return CliRunner().invoke(main, arguments, input=program, catch_exceptions=False)


def answer(*arguments: str, program: str | bytes = "") -> Any:
    return json.loads(call(*arguments, "--json", program=program).stdout)


@pytest.mark.parametrize(
    ("program", "status", "exit_code"),
    [
        ("answer = 2 + 2", "accepted", 0),
        ("answer = 5", "rejected", 1),
        ("answer = 1 / 0", "rejected", 1),
        ("answer = (", "unparsable", 1),
        ("", "unparsable", 1),
        ("while True: pass", "timeout", 1),
    ],
)
def test_judge_says_what_the_verifier_says(program: str, status: str, exit_code: int) -> None:
    done = call(*JUDGE, "--json", program=program)
    verdict = json.loads(done.stdout)
    assert (verdict["status"], done.exit_code) == (status, exit_code)
    assert verdict["score"] == (1.0 if status == "accepted" else 0.0)
    assert re.fullmatch(r"python@\d+", verdict["verifier"])


def test_reply_says_nothing_of_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    done = call("judge", "--rows", str(tmp_path / "rows.jsonl"), "--reply")
    assert (done.exit_code, "a row says itself which it is" in done.stderr) == (2, True)


def test_judge_takes_its_input_as_a_program_unless_told_that_it_is_a_reply() -> None:
    text = "Sure:\n```python\nanswer = 8 / 2\n```"
    assert json.loads(call(*JUDGE, "--json", program=text).stdout)["status"] == "unparsable"
    assert json.loads(call(*JUDGE, "--json", "--reply", program=text).stdout)["status"] == "accepted"


@pytest.mark.parametrize(("program", "exit_code"), [("a(c, b)", 1), ("R(B, C); r(a, b)", 0), ("r(a b)", 1)])
def test_notation_without_a_task_is_judged_against_a_gold_program(program: str, exit_code: int) -> None:
    assert call("judge", "--family", "triples", "--gold", "r(a, b)\nr(b, c)", program=program).exit_code == exit_code


def test_what_cannot_be_judged_is_neither_right_nor_wrong() -> None:
    done = call("judge", "--family", "triples", "--gold", "no triple", "--json", program="r(a, b)")
    assert (json.loads(done.stdout)["status"], done.exit_code) == ("unscored", 3)


@pytest.mark.parametrize(
    "harm",
    [
        "open('/etc/passwd').read()",
        "open('/tmp/symbol-llm-escaped', 'w')",
        "import os\nassert os.system('true') == 0",
        "import subprocess\nsubprocess.run(['true'])",
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "import os\nos.kill(os.getppid(), 9)",
        "import os\nos.fork()",
    ],
)
def test_hostile_program_is_never_accepted_though_it_gives_the_right_answer(harm: str) -> None:
    done = call(*JUDGE, "--json", program=f"{harm}\nanswer = 4")
    assert json.loads(done.stdout)["status"] in ("rejected", "unparsable", "resource")
    assert done.exit_code == 1
    assert not Path("/tmp/symbol-llm-escaped").exists()


def test_judge_takes_a_file_and_prints_a_line_a_field(tmp_path: Path) -> None:
    (tmp_path / "program.txt").write_text("answer = 4")
    done = call(*JUDGE, str(tmp_path / "program.txt"))
    fields = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line.strip())
    assert (done.exit_code, fields["status"], fields["value"]) == (0, "accepted", "4")


def test_judge_takes_bare_words_schemas_and_environments() -> None:
    assert (
        answer("judge", "--task", "scan", "--answer", "I_WALK I_JUMP", program="I_WALK  I_JUMP")["status"] == "accepted"
    )
    script = {"script": "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1), (2);"}
    sql = ("judge", "--task", "table_questions", "--answer", "[[2]]", "--environment", json.dumps(script))
    assert answer(*sql, program="SELECT COUNT(*) FROM t")["status"] == "accepted"
    assert answer(*sql, program="SELECT 3")["status"] == "rejected"


def test_program_that_is_no_text_is_no_program() -> None:
    assert answer(*JUDGE, program=b"\xff\xfe answer = 4")["status"] == "unparsable"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("judge", "--task", "riddles", "--answer", "4"), "unknown task 'riddles'; have "),
        (("judge", "--family", "riddles", "--answer", "4"), "unknown family 'riddles'; have "),
        (("judge", "--answer", "4"), "expected either a task or a family"),
        (("judge", "--task", "scan", "--family", "commands", "--answer", "4"), "expected either a task or a family"),
        (("judge", "--task", "scan"), "nothing to judge by: give an answer, gold, or both"),
        ((*JUDGE, "--environment", "{"), "'{': not JSON, "),
        ((*JUDGE, "--environment", "[1]"), "environment"),
        (("--set", "explore.kk=5", "rollback"), "explore.kk: extra inputs are not permitted"),
        (("--set", "explore.k=0", "rollback"), "explore.k: input should be greater than or equal to 1"),
        (("--set", "explore", "rollback"), "override 'explore': expected section.key=value"),
        (("--set", "explore.k=[1", "rollback"), "explore.k=[1"),
        (("--params", "none.yaml", "rollback"), "none.yaml: no such parameter file"),
        (("--params", "tests", "rollback"), "tests: "),
    ],
)
def test_what_the_caller_can_mend_is_one_line_and_exit_code_2(
    in_root: Path, home: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("symbol-llm: ")
    assert message in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")


def test_option_that_is_not_there_and_missing_file_are_exit_code_2() -> None:
    assert call("judge", "--nonsense").exit_code == 2
    done = call("explore", "no-collection", "no-checkpoint", "out")
    assert (done.exit_code, "'no-collection' does not exist" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--source", "no-folder", "'no-folder' does not exist"),
        ("--source", "hf://org/name", "source 'hf://org/name': expected hf://datasets/org/name@revision, with"),
        ("--licence", "commercial", "'commercial' is not one of 'any', 'permissive'"),
    ],
)
def test_collect_refuses_a_source_or_licence_that_it_does_not_know(
    in_root: Path, tracked_home: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    done = call("collect", str(tmp_path / "out"), option, value)
    assert (done.exit_code, message in done.stderr) == (2, True)


def test_families_are_listed_with_version_and_metric() -> None:
    rows = answer("families")
    assert [row["family"] for row in rows] == families.names()
    assert {row["family"]: (row["version"], row["missing"]) for row in rows}["python"] == (
        families.get("python").VERSION,
        None,
    )
    assert all(row["metric"] for row in rows if row["missing"] is None)
    lines = call("families").stdout.splitlines()
    assert lines[0].split() == ["family", "version", "metric", "missing"]
    assert [line.split(maxsplit=2) for line in lines if line.startswith("commands ")] == [
        ["commands", str(families.get("commands").VERSION), "exact sequence of actions"]
    ]


def test_tasks_are_listed_with_domain_family_and_licence() -> None:
    rows = {row.pop("task"): row for row in answer("tasks")}
    assert list(rows) == [task.name for task in sorted(tasks.all_tasks().values(), key=tasks.published_first)]
    found = rows["gsm8k"]
    assert (found["domain"], found["family"], found["generator"], found["reader"], found["licence"]) == (
        "math",
        "python",
        True,
        "math/gsm8k",
        "MIT",
    )
    assert (found["number"], found["metric"], rows["svamp"]["number"]) == (31, "BLEU", None)
    assert (rows["svamp"]["generator"], rows["humaneval"]["evaluation_only"]) == (False, True)


def test_history_without_a_decision_is_empty(tracked_home: Path) -> None:
    assert answer("history") == []


def test_history_prints_a_line_a_decision(tracked_home: Path) -> None:
    (tracked_home / "promotions.jsonl").write_text(
        '{"time": "1", "action": "promote", "version": "1"}\n{"time": "2", "action": "rollback", "version": "2"}\n'
    )
    lines = [line.split() for line in call("history").stdout.splitlines()]
    named = ["time", "model", "action", "version", "sha256", "reason"]
    assert lines == [named, ["1", "promote", "1"], ["2", "rollback", "2"]]


def test_rollback_takes_a_version(tracked_home: Path) -> None:
    done = call("rollback", "--to", "3")
    assert done.exit_code == 2
    assert "model 'symbol-llm' has no previous champion to roll back to" in done.stderr


def test_export_names_the_version_that_is_not_there(tracked_home: Path, tmp_path: Path) -> None:
    done = call("export", "champion", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert (
        "model 'symbol-llm' has no version 'champion'; expected a number, or an alias such as 'champion'" in done.stderr
    )


def test_version_is_the_packages() -> None:
    assert call("--version").stdout.endswith(", version 0.1.0\n")


def test_doctor_names_what_the_machine_has_and_lacks() -> None:
    found = answer("doctor")
    assert list(found)[:8] == ["symbol-llm", "python", "machine", "cores", "memory_gib", "gpu", "engine", "sandbox"]
    assert {
        "torch",
        "transformers",
        "vllm",
        "mlflow",
        "dvc",
        "kfp",
        "kserve",
        "kubernetes",
        "git",
        "kubectl",
        "g++",
        "jdk",
        "go",
    } < set(found)
    assert (found["symbol-llm"], found["python"]) == ("0.1.0", sys.version.split()[0])
    assert found["engine"] in ("vllm", "transformers")


def test_help_lists_the_stages_and_imports_nothing_heavy(in_root: Path) -> None:
    code = "import sys; from symbol_llm.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, _, modules = done.stdout.rstrip().rpartition("\n")
    assert not set(HEAVY) & set(modules.split())
    assert set(re.findall(r"^  ([a-z]+)  ", said, re.MULTILINE)) == set(main.commands)


@pytest.mark.parametrize("name", ["", *sorted(main.commands)])
def test_help_fits_into_eighty_columns_and_breaks_off_nowhere(name: str) -> None:
    said = CliRunner().invoke(main, [*name.split(), "--help"], terminal_width=80).output
    assert [line for line in said.splitlines() if len(line) > 80] == []
    assert [
        line for line in said.splitlines() if line.endswith("...") and not line.startswith(("Usage: ", "  Run "))
    ] == []


def test_help_of_every_command_goes_to_standard_output(in_root: Path) -> None:
    done = [
        subprocess.run([sys.executable, "-m", "symbol_llm", name, "--help"], capture_output=True, text=True, check=True)
        for name in ("judge", "collect")
    ]
    assert [d.stdout.split()[:2] for d in done] == [["Usage:", "python"]] * 2, [d.stderr for d in done]


def test_installed_command_answers_help(in_root: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "symbol-llm", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(
        "Usage: symbol-llm [OPTIONS] COMMAND [ARGS]...\n\n  Turn a weak language model into a strong writer of symbols."
    )


def test_what_libraries_print_does_not_reach_the_result(in_root: Path, home: Path, tmp_path: Path) -> None:
    """Python's print, and a write to descriptor 1 as libraries in C do it."""
    code = """
import os, sys
from symbol_llm import machine
from symbol_llm.cli import main
def inspect():
    print("noise"); os.write(1, b"more noise\\n")
    return {"a": 1}
machine.inspect = inspect
main(["doctor", "--json"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"a": 1}
    assert "noise" in done.stderr
    assert "more noise" in done.stderr


def test_path_that_is_not_utf_8_is_one_line(home: Path, tmp_path: Path) -> None:
    for place in (b"\xff", b""):
        done = call("collect", os.fsdecode(os.fsencode(tmp_path) + b"/" + place if place else b""), "--tasks", "scan")
        assert done.exit_code == 2
        assert ("is not UTF-8" if place else "an empty path; name a folder") in done.stderr


def test_clean_asks_first_and_says_what_it_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "runs"))
    state = outputs.state_dir()
    (state / "mlflow.db").touch()
    (state / "mine.txt").touch()
    refused = call("clean", str(state), program="n\n")
    assert (refused.exit_code, str(state / "mlflow.db") in refused.stderr) == (1, True)
    assert (state / "mlflow.db").exists()
    done = call("clean", str(state), "--yes", "--json")
    assert json.loads(done.stdout)["left"] == [str(state / "mine.txt")]
    assert [p.name for p in state.iterdir()] == ["mine.txt"]


def test_root_is_told_once_that_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv(machine.ROOT_VARIABLE, "")
    assert " ".join(call("families").stderr.split()) == machine.ROOT
    assert call("families").stderr == ""
    assert machine.ROOT in call("doctor").stdout
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv(machine.ROOT_VARIABLE, "")
    assert call("families").stderr == ""
    assert machine.ROOT not in call("doctor").stdout
