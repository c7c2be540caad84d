"""The selftest: gold, mutants and equivalents counted; a broken row is found; what falls short gives exit code 1."""

import json

import pytest
from click.testing import CliRunner

from symbol_llm.cli import main
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.judging.selftest import selftest

LIMITS = Limits(timeout_s=20)


def scan(tmp_path, *actions):
    folder = tmp_path / "command" / "scan"
    folder.mkdir(parents=True)
    rows = [{"id": f"c{i}", "IN": "walk" + " twice" * i, "OUT": one} for i, one in enumerate(actions)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test.jsonl").write_text("")
    return tmp_path


def test_generators_pass_their_own_verifier():
    found = selftest("commands", None, 10, LIMITS)
    whole, one = found.rows
    assert (whole.family, whole.data, one.data) == ("commands", "all", "generated scan")
    assert (whole.n_gold, whole.gold_accepted, whole.mutants_refused, whole.equivalents_accepted) == (10, 1, 1, 1)
    assert whole.n_mutants > 10
    assert found.passed()


def test_a_broken_row_is_listed_with_its_reason_and_fails_the_set(tmp_path):
    source = scan(tmp_path, "I_WALK", "I_WALK I_STROLL")
    found = selftest("commands", source, 10, LIMITS)
    (row,) = (row for row in found.rows if row.data == "command/scan")
    assert (row.n_gold, row.gold_accepted) == (2, 0.5)
    (refused,) = found.refused
    assert (refused.task, refused.source, refused.status) == ("scan", "scan c1", "unparsable")
    assert "I_STROLL" in refused.detail
    assert not found.passed()
    done = CliRunner().invoke(main, ["selftest", "--family", "commands", "--source", str(source), "--refused"])
    assert done.exit_code == 1
    assert "scan c1" in done.stdout


def test_json_holds_all_figures():
    done = CliRunner().invoke(main, ["selftest", "--family", "mrl", "--per-task", "3", "--json"])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)["rows"]
    assert [row["data"] for row in rows] == ["all", "generated nlmaps"]
    assert {"per_s", "p50_s", "p99_s"} <= set(rows[0])


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(InvalidInput, match="unknown family 'sums'"):
        selftest("sums", None, 1, LIMITS)
    with pytest.raises(InvalidInput, match="no data set of mrl there"):
        selftest("mrl", scan(tmp_path, "I_WALK"), 1, LIMITS)


def sums(tmp_path, *programs):
    folder = tmp_path / "math" / "gsm_hard"
    folder.mkdir(parents=True)
    rows = [{"id": f"m{i}", "input": f"Sum {i}?", "code": code, "target": 4} for i, code in enumerate(programs)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_mutant_that_runs_to_the_very_value_asked_for_is_counted_apart(tmp_path):
    unused = "def solution():\n    result = 4\n    unused = 5\n    return result"
    near = "def solution():\n    return 4 + 0.000000001 * 0"
    found = selftest("python", sums(tmp_path, unused, near), 10, LIMITS)
    (row,) = (row for row in found.rows if row.data == "math/gsm_hard")
    assert (row.gold_accepted, row.n_mutants + row.n_same) == (1, 4)
    assert row.n_same >= 1  # 5 became 6
    assert row.mutants_refused < 1  # 1e-09 was added to 4: another value, but accepted


def test_theories_are_judged_again_with_gold_held_against_their_mutants():
    found = selftest("rules", None, 4, LIMITS)
    (held,) = (row for row in found.rows if row.data.endswith(", held to gold"))
    (free,) = (row for row in found.rows if row.data == held.data.removesuffix(", held to gold"))
    assert (held.n_gold, held.gold_accepted, held.n_mutants) == (0, None, free.n_mutants)
    assert held.mutants_refused >= free.mutants_refused
