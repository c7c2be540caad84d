"""Runs side by side: paired differences worked out by hand, where reports are found, the command and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from symbol_llm import cli
from symbol_llm.evaluation import compare
from symbol_llm.evaluation.compare import Run
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import General, Interval, Report, Scores, Summary
from symbol_llm.ground.stats import wilson
from symbol_llm.tracking import curves, runs


def report(n_right: int, n: int = 200, stage: str = "round 2", first: int = 0) -> Report:
    """Return the report of a run that solves problems `first` to `first + n_right` of `n`, after two rounds of 800 samples."""
    right = wilson(n_right / n, n)

    def point(name: str, accuracy: Interval, **of_round: float) -> Summary:
        groups = {"tasks": {}, "families": {"python": Scores(accuracy=accuracy)}, "domains": {}}
        return Summary(
            stage=name,
            checkpoint="0" * 64,
            overall=accuracy,
            dev=accuracy,
            general=General(perplexity=20.0),
            round=of_round,
            **groups,
        )

    rounds = {"n_accepted": 500.0, "n_rejected": 200.0, "n_unparsable": 100.0}
    history = (point("original", wilson(0.2, n)), point("round 1", wilson(0.4, n), **rounds))
    outcomes = {f"{at:03}": float(first <= at < first + n_right) for at in range(n)}
    return Report(summary=point(stage, right, **rounds), history=history, outcomes=outcomes)


def wrote(folder: Path, name: str, found: Report) -> Path:
    folder.mkdir(parents=True)
    files.write_json(folder / name, found.model_dump(mode="json"))
    return folder


def test_difference_is_paired() -> None:
    """120 and 100 of 200 right: apart by 10 points, whose interval depends on which problems they are."""
    nested = compare.compare([Run("a", report(100)), Run("b", report(120))])
    assert nested[0].gain is None
    assert nested[1].gain is not None
    assert nested[1].gain.n == 200
    assert nested[1].gain.mean == pytest.approx(0.10)
    assert 0.055 < nested[1].gain.low < 0.07 < 0.13 < nested[1].gain.high < 0.15
    apart = compare.compare([Run("a", report(100)), Run("b", report(120, first=80))])[1].gain
    assert apart is not None
    assert apart.mean == pytest.approx(0.10)
    assert apart.low < 0 < apart.high


def test_only_problems_that_both_have_count() -> None:
    gain = compare.compare([Run("a", report(10, n=40)), Run("b", report(20))])[1].gain
    assert gain is not None
    assert gain.n == 40
    assert gain.mean == pytest.approx(0.25)


def test_runs_on_other_problems_are_not_compared() -> None:
    other = report(10).model_copy(update={"outcomes": {"another": 1.0}})
    with pytest.raises(InvalidInput, match="b and a have no test problem in common"):
        compare.compare([Run("a", report(10)), Run("b", other)])


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.01, 0.09, "better"), (-0.09, -0.01, "worse"), (0.0, 0.1, "within chance")]
)
def test_difference_in_words(low: float, high: float, said: str) -> None:
    assert compare.in_words(Interval(n=9, mean=0.05, low=low, high=high)).endswith(f": {said}")


def test_samples_are_those_of_all_rounds_so_far() -> None:
    assert compare.samples(Run("a", report(10))) == [0, 800, 1600]


def test_report_is_found_in_a_file_a_folder_and_a_whole_run(tmp_path: Path) -> None:
    one = wrote(tmp_path / "evaluated", "report.json", report(1))
    wrote(tmp_path / "runs" / "default" / "kfp" / "a" / "promote" / "promotion", "curve.json", report(2))
    assert compare.read(one / "report.json") == compare.read(one) == report(1)
    assert compare.read(tmp_path / "runs" / "default") == report(2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no report there"):
        compare.read(tmp_path / "empty")


def test_command_shows_names_differences_and_a_page(tmp_path: Path) -> None:
    a, b = wrote(tmp_path / "a", "report.json", report(100)), wrote(tmp_path / "b", "report.json", report(120))
    out = tmp_path / "page.html"
    done = CliRunner().invoke(cli.main, ["compare", f"plain={a}", str(b), "--out", str(out)])
    assert done.exit_code == 0, done.output
    head, *lines = done.output.splitlines()
    assert "difference to plain, points" in head
    assert lines[0].split()[:4] == ["plain", "50.0", "50.0", "200"]
    assert lines[1].startswith("b") and lines[1].split()[-2:] == ["better", "1600"]
    page = out.read_text()
    assert page.count("<svg") == 2
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    out.write_text("mine")
    assert CliRunner().invoke(cli.main, ["compare", str(a), "--out", str(out)]).exit_code == 2
    assert out.read_text() == "mine"


def test_command_in_json(tmp_path: Path) -> None:
    a = wrote(tmp_path / "a", "report.json", report(100))
    found = json.loads(CliRunner().invoke(cli.main, ["--json", "compare", str(a), f"again={a}"]).output)
    assert [(row["run"], row["n_samples"], row["families"]) for row in found] == [
        ("a", 1600, {"python": 0.5}),
        ("again", 1600, {"python": 0.5}),
    ]
    assert found[1]["gain"] == {"n": 200, "mean": 0.0, "low": 0.0, "high": 0.0}


def test_name_on_a_page_is_text(tmp_path: Path) -> None:
    page = compare.page([Run("<script>alert(1)</script>", report(1)), Run("b", report(2))])
    assert "<script>" not in page


def test_run_is_fetched_from_mlflow_by_its_id(home: Path, tmp_path: Path) -> None:
    promoted = wrote(tmp_path / "promotion", "curve.json", report(100))
    (promoted / "report.html").write_text("page")
    files.write_json(promoted / "promotion.json", {"promoted": True, "version": "1", "reason": "better"})
    mlflow = runs.client()
    run = mlflow.create_run(runs.experiment(mlflow)).info.run_id
    with pytest.raises(InvalidInput, match="has it come to its end"):
        curves.fetch(run)
    curves.log(mlflow, run, "promote", promoted)
    assert curves.fetch(run) == report(100)
    with pytest.raises(InvalidInput, match="no run in MLflow has this id"):
        curves.fetch("0" * 32)
    done = CliRunner().invoke(cli.main, ["compare", "runs/no-such-run"])
    assert (done.exit_code, "no file or folder, and no id of a run" in done.output) == (2, True)
