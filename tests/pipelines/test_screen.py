"""What a person sees of a run: the screen that follows the progress file, the closing table, the helpers around them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines import local
from pipelines.local import _cause, redirected
from pipelines.screen import Screen, _fitting, closing_tables
from symbol_llm.ground.params import Parameters
from symbol_llm.ground.records import General, Interval, Report, Scores, Summary

END = {"event": "end", "stage": "collect", "status": "FINISHED", "seconds": 12.34, "said": "60 training problems"}


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120, highlight=False)


def lines(console: Console) -> list[str]:
    """Return what was printed, without empty lines and trailing blanks."""
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def follow(console: Console, file: Path, *events: dict[str, Any]) -> Screen:
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    with Screen(console, file) as screen:
        pass
    return screen


def test_finished_stage_is_one_line_with_time_and_what_came_out(console: Console, tmp_path: Path) -> None:
    progress = {"event": "progress", "label": "checking gold", "done": 3, "total": 9}
    screen = follow(console, tmp_path / "p", {"event": "start", "stage": "collect"}, progress, END)
    assert lines(console) == ["✔ collect                  12.3 s  60 training problems"]
    assert (screen.n_run, screen.n_cached) == (1, 0)


def test_failed_stage_is_shown_and_not_counted_as_run(console: Console, tmp_path: Path) -> None:
    failed = {"event": "end", "stage": "tune round 1", "status": "FAILED", "seconds": 2.0, "said": ""}
    screen = follow(console, tmp_path / "p", {"event": "start", "stage": "tune round 1"}, failed)
    assert lines(console) == ["✘ tune round 1              2.0 s"]
    assert screen.n_run == 0


def test_stages_are_counted_by_where_they_came_from(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "p"
    with Screen(console, file) as screen:
        screen.cached("fetch")
        screen.cached("collect")
        file.write_text(json.dumps({"event": "start", "stage": "collect"}) + "\n" + json.dumps(END) + "\n")
    assert (screen.n_run, screen.n_cached) == (1, 2)
    assert lines(console)[:2] == ["↺ fetch                  cached", "↺ collect                cached"]


def test_loss_is_shown_beside_the_bar(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "p"
    step = {"event": "progress", "label": "tuning", "done": 2, "total": 10, "loss": 0.51239}
    file.write_text("".join(json.dumps(e) + "\n" for e in ({"event": "start", "stage": "tune round 1"}, step)))
    screen = Screen(console, file)
    screen._read()
    (bar,) = screen._bars.tasks
    assert (bar.completed, bar.total, bar.fields["note"]) == (2, 10, "tuning, loss 0.512")


def test_stage_that_ended_is_told_before_the_next_begins(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "p"
    screen = Screen(console, file)
    screen.begin("collect")
    file.write_text("".join(json.dumps(e) + "\n" for e in ({"event": "start", "stage": "collect"}, END)))
    screen.begin("fetch")
    assert lines(console) == ["✔ collect                  12.3 s  60 training problems"]
    (bar,) = screen._bars.tasks
    assert bar.description == "[bold]fetch                 [/]"


@pytest.mark.parametrize(
    ("width", "kept"),
    [
        (41, "70 problems solved, 14 for the first time"),
        (40, "70 problems solved"),
        (18, "70 problems solved"),
        (17, ""),
    ],
)
def test_clauses_that_do_not_fit_are_left_out_whole(width: int, kept: str) -> None:
    assert _fitting("70 problems solved, 14 for the first time", width) == kept


def test_line_still_being_written_waits_for_its_end(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "p"
    text = json.dumps(END)
    screen = Screen(console, file)
    file.write_text(text[:20])
    screen._read()
    assert screen.n_run == 0
    file.write_text(text + "\n")
    screen._read()
    screen._read()
    assert screen.n_run == 1


def test_no_progress_file_is_no_fault(console: Console, tmp_path: Path) -> None:
    with Screen(console, tmp_path / "none") as screen:
        pass
    assert (screen.n_run, screen.n_cached, lines(console)) == (0, 0, [])


@pytest.mark.parametrize("text", ["[bold]", "[/]", "a [0-9] b"])
def test_what_a_stage_said_is_text_not_markup(text: str, console: Console, tmp_path: Path) -> None:
    follow(console, tmp_path / "p", {"event": "start", "stage": "collect"}, END | {"said": text})
    assert lines(console)[0].endswith(text)


# --- the closing table ------------------------------------------------------------------------------------------------


def summary(stage: str, mean: float, families: dict[str, float], general: General | None = None) -> Summary:
    def interval(value: float) -> Interval:
        return Interval(n=100, mean=value, low=value - 0.05, high=value + 0.051)

    scores = {name: Scores(accuracy=interval(value)) for name, value in families.items()}
    of = {"tasks": {}, "families": scores, "domains": {}, "general": general or General()}
    return Summary(stage=stage, checkpoint="0" * 64, overall=interval(mean), dev=interval(mean), **of)


def test_closing_table_has_a_row_a_point_and_a_column_a_family(console: Console) -> None:
    choice = Interval(n=40, mean=0.5, low=0.4, high=0.6)
    report = Report(
        summary=summary("round 1", 0.425, {"sql": 0.3, "python": 0.55}, General(choice=choice, perplexity=17.26)),
        history=(summary("original", 0.1, {"python": 0.2}),),
        outcomes={},
    )
    (table,) = closing_tables(report, console)
    assert [column.header for column in table.columns] == (
        ["stage", "dev", "n", "test", "95 % interval", "python", "sql", "choice", "perplexity"]
    )
    cells = [list(column.cells) for column in table.columns]
    rows = list(zip(*cells, strict=True))
    assert rows == [
        ("original", "10.0", "100", "[bold]10.0[/]", "5.0 - 15.1", "20", "", "", ""),
        ("round 1", "42.5", "100", "[bold]42.5[/]", "37.5 - 47.6", "55", "30", "50", "17.3"),
    ]
    console.print(table)
    assert lines(console)[0] == "Accuracy, %; families: of test problems"


def test_families_that_do_not_fit_are_rows_of_a_second_table(console: Console) -> None:
    means = {f"family{n:02}": n / 100 for n in range(7)}
    report = Report(
        summary=summary("round 1", 0.4, means), history=(summary("original", 0.1, {"family01": 0.2}),), outcomes={}
    )
    curve, by_family = closing_tables(report, console)
    assert [column.header for column in curve.columns][-2:] == ["choice", "perplexity"]
    assert [column.header for column in by_family.columns] == ["family", "n", "original", "round 1"]
    cells = zip(*(column.cells for column in by_family.columns), strict=True)
    assert [(name, before, after) for name, _, before, after in cells][:2] == [
        ("family00", "", "0"),
        ("family01", "20", "1"),
    ]


@pytest.mark.parametrize("n_families", [1, 4, 6, 26])
@pytest.mark.parametrize("n_rounds", [1, 3, 20])
@pytest.mark.parametrize("width", [80, 120])
def test_no_heading_or_number_of_the_closing_tables_is_cut(width: int, n_rounds: int, n_families: int) -> None:
    families = {f"family-{n:03}": 1.0 for n in range(n_families)}
    general = General(choice=Interval(n=40, mean=1.0, low=0.4, high=1.0), perplexity=12345.67)
    points = [summary(f"round {n}", 1.0, families, general) for n in range(1, n_rounds + 1)]
    early = [summary(stage, 0.949, families, general) for stage in ("original", "injection", "infusion")]
    report = Report(summary=points[-1], history=(*early, *points[:-1]), outcomes={})
    narrow = Console(file=io.StringIO(), width=width)
    for table in closing_tables(report, narrow):
        narrow.print(table)
    shown = lines(narrow)
    cells = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in shown if line[0] in "│┃"]
    headings = {cell for row in cells if row[0] in ("stage", "family") for cell in row}
    of_stage = {row[0]: row[1:] for row in cells if row[0].startswith(("round", "inj", "inf", "ori"))}
    wanted = {"stage", "dev", "n", "test", "95 % interval", "choice", "perplexity"}
    assert wanted <= headings
    assert headings - wanted - {"family"} - {*families} <= {s.stage for s in (*early, *points)}
    assert list(of_stage) == [s.stage for s in (*early, *points)]
    assert all(row[:4] == ["94.9", "100", "94.9", "89.9 - 100.0"] for row in list(of_stage.values())[:3])
    assert all(row[-2:] == ["100", "12345.7"] for row in of_stage.values())
    assert all(name in headings or name in {row[0] for row in cells} for name in families)
    assert max(map(len, shown)) <= width


# --- around a run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("noise\nValueError: bad\nmore\n", "ValueError: bad"),
        ("ValueError: first\nKeyError: 'last'\n", "KeyError: 'last'"),
        ("    symbol_llm.ground.errors.InvalidInput: task 'x' has no rows\nRuntimeError: Pipeline failed\n", None),
        ("torch.OutOfMemoryError: CUDA out of memory\nbye\n", "torch.OutOfMemoryError: CUDA out of memory"),
        ("ValueError: problem 0123456789abcdef has no gold\n", "ValueError: a problem has no gold"),
    ],
)
def test_cause_is_the_last_exception_and_our_own_before_others(log: str, cause: str | None, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log)
    assert _cause(tmp_path / "log", "tune") == (cause or "InvalidInput: task 'x' has no rows")


@pytest.mark.parametrize("log", ["", "Killed\n\n\n"])
def test_log_that_says_little_still_gives_a_cause(log: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log)
    assert "tune ended without naming an error" in _cause(tmp_path / "log", "tune")


def test_redirected_takes_what_children_print_and_gives_the_streams_back(tmp_path: Path) -> None:
    before = [os.fstat(fd).st_ino for fd in (1, 2)]
    with pytest.raises(KeyError), redirected(tmp_path / "log"):
        os.write(1, b"own line\n")
        subprocess.run(["sh", "-c", "echo child; echo trouble >&2"], check=True)
        raise KeyError("x")
    assert (tmp_path / "log").read_text() == "own line\nchild\ntrouble\n"
    assert [os.fstat(fd).st_ino for fd in (1, 2)] == before


def test_promotion_of_this_run_is_found_where_the_rounds_stopped_early(
    console: Console, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubeflow names the folder after the component: `promote-2` where two branches end in a promotion."""
    monkeypatch.setenv("SYMBOL_LLM_PROGRESS", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    folder = home / "default"
    older = folder / "kfp" / "self-training-1" / "promote" / "promotion"
    older.mkdir(parents=True)
    os.utime(older, (0, 0))
    newer = folder / "kfp" / "self-training-2" / "promote-2" / "promotion"
    monkeypatch.setattr(local, "_run_pipeline", lambda parameters, place: newer.mkdir(parents=True))
    assert local.run(Parameters(), folder, console) == newer
