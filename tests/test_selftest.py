"""The selftest: gold, mutants and equivalents counted; a broken row is found; what falls short gives exit code 1."""

import json

import pytest
from click.testing import CliRunner

from symbol_llm.cli import main
from symbol_llm.errors import InvalidInput
from symbol_llm.params import Limits
from symbol_llm.selftest import selftest

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
