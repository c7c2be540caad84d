"""A run in a real terminal, at two sizes: what stands on the screen, what in the log, and how the terminal is left.

Entry, screen, redirection, tracking and Kubeflow's local runner are the real ones. The pipeline is a small one of noisy
stages, the first of which waits for a file, so that nothing here depends on how fast the machine is.
"""

import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pexpect
import pytest
from kfp import dsl
from kfp.dsl import Artifact, Metrics, Output

from symbol_llm.ground import files
from symbol_llm.ground.records import General, Interval, Report
from tests.pipelines.test_screen import summary

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
FAMILIES = {"commands": 0.2, "python": 0.92, "rules": 0.24, "sql": 0.56}
FOLDER, FAILING = "TEST_FOLDER", "TEST_FAILING"


# --- the run, in a process of its own ---------------------------------------------------------------------------------


@dsl.component(base_image="python", install_kfp_package=False)
def select(folder: str, failing: bool, metrics: Output[Metrics]) -> None:
    """Make noise, and go on once the file `go` is in `folder`."""
    import sys
    import time
    from pathlib import Path

    from symbol_llm.ground.errors import InvalidInput
    from symbol_llm.ground.progress import event

    event(event="start", stage="select round 1")
    print("NOISE of a stage, out", flush=True)
    print("NOISE of a stage, err", file=sys.stderr)
    event(event="progress", label="answering everyday prompts", done=1, total=4, loss=0.5)
    while not Path(folder, "go").exists():
        time.sleep(0.05)
    status = "FAILED" if failing else "FINISHED"
    said = "70 problems solved, 14 for the first time, 467 accepted"
    event(event="end", stage="select round 1", status=status, seconds=133.2, said=said)
    if failing:
        raise InvalidInput("problem 0123456789abcdef: gold program: it is empty")
    Path(metrics.path).write_text("{}")


@dsl.component(base_image="python", install_kfp_package=False)
def promote(folder: str, promotion: Output[Artifact]) -> None:
    """Give what a promotion leaves."""
    import shutil
    from pathlib import Path

    from symbol_llm.ground.progress import event

    event(event="start", stage="promote")
    shutil.copytree(Path(folder, "given"), promotion.path)
    event(event="end", stage="promote", status="FINISHED", seconds=2.0, said="")


def build(*_: Any) -> Callable[..., Any]:
    """Return the small pipeline; this process makes noise too, while it is compiled."""
    print("NOISE of the runner, out")
    print("NOISE of the runner, err", file=sys.stderr)
    logging.getLogger("captured").warning("NOISE of a handler")

    @dsl.pipeline(name="small")
    def small() -> None:
        first = select(folder=os.environ[FOLDER], failing=FAILING in os.environ).set_display_name("select round 1")
        promote(folder=os.environ[FOLDER]).after(first).set_caching_options(False)

    return small


def drive() -> None:
    """Run `pipelines.local` on the small pipeline."""
    from pipelines import local, self_training

    logging.getLogger("captured").addHandler(logging.StreamHandler(sys.stderr))
    self_training.build = build
    local.main(["--question", ""])


# --- the terminal -----------------------------------------------------------------------------------------------------


class Terminal(NamedTuple):
    """A terminal in which a run goes on."""

    process: Any
    folder: Path
    columns: int

    def wait_for_bar(self) -> None:
        self.process.expect("answering")

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def end(self) -> int:
        """Wait for the end of the run; return its exit status."""
        self.process.expect(pexpect.EOF)
        self.process.wait()
        return int(self.process.exitstatus)

    @property
    def sent(self) -> str:
        """All that the terminal was sent until the run ended."""
        return str(self.process.logfile_read.getvalue())

    @property
    def log(self) -> str:
        return (self.folder / "home" / "default" / "log.txt").read_text()


def start(folder: Path, columns: int, rows: int, **more: str) -> Terminal:
    """Start a run in a terminal of its own; its state lies in `folder`."""
    (folder / "given").mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "given" / "report.json", report().model_dump(mode="json"))
    (folder / "given" / "report.html").write_text("")
    decision = {"version": "1", "stage": "round 1", "promoted": False, "reason": "no better than 'original'"}
    files.write_json(folder / "given" / "promotion.json", decision)
    ours = ("SYMBOL_LLM_", "MLFLOW_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "PYTHONPATH": str(ROOT),
        "SYMBOL_LLM_HOME": str(folder / "home"),
        "SYMBOL_LLM_SAID_ROOT": "1",
        "TMPDIR": str(folder),
        "TERM": "xterm-256color",
        FOLDER: str(folder),
    }
    process = pexpect.spawn(
        sys.executable,
        ["-c", "from tests.pipelines.test_terminal import drive; drive()"],
        cwd=folder,
        env=environment | more,
        dimensions=(rows, columns),
        encoding="utf-8",
        timeout=PATIENCE_S,
    )
    process.logfile_read = io.StringIO()
    return Terminal(process, folder, columns)


def report() -> Report:
    def general(choice: float, perplexity: float) -> General:
        return General(choice=Interval(n=40, mean=choice, low=0.3, high=0.7), perplexity=perplexity)

    before = summary("injection", 0.19, FAMILIES, general(0.48, 138.62))
    return Report(summary=summary("round 1", 0.48, FAMILIES, general(0.57, 144.0)), history=(before,), outcomes={})


def drawn(sent: str) -> list[str]:
    """Return all lines that were ever on the screen, those of passing bars included."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)) if line.strip()]


def left(sent: str) -> list[str]:
    """Return the lines that the terminal shows in the end: it knows line feeds, erasing a line and going one up."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", sent):
        if token == "\n":
            row += 1
            rows += [""] * (row == len(rows))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            rows[row] = ""
        elif token == "\x1b[1A":
            row -= 1
        elif not token.startswith("\x1b"):
            rows[row] = rows[row].ljust(column)[:column] + token + rows[row][column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in rows if line.strip()]


@pytest.fixture(scope="module", params=[(80, 24), (120, 40)], ids=["80x24", "120x40"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Give a terminal in which a whole run was shown."""
    terminal = start(tmp_path_factory.mktemp("run"), *request.param)
    terminal.wait_for_bar()
    terminal.go_on()
    assert terminal.end() == 0, terminal.sent
    yield terminal
    terminal.process.close(force=True)


NOISE = ("of the runner, out", "of the runner, err", "of a handler", "of a stage, out", "of a stage, err")


def test_all_that_is_printed_is_in_the_log_and_nothing_of_it_on_the_screen(finished: Terminal) -> None:
    assert [noise for noise in NOISE if f"NOISE {noise}" not in finished.log] == []
    assert "Executing task" in finished.log
    assert "NOISE" not in finished.sent
    assert "Executing task" not in finished.sent
    assert "Warning" not in finished.sent


def test_screen_keeps_one_line_a_stage(finished: Terminal) -> None:
    lines = left(finished.sent)
    said = "70 problems solved, 14 for the first time"
    assert lines[:3] == [
        "Run default, log home/default/log.txt",
        f"✔ select round 1          133.2 s  {said}{', 467 accepted' if finished.columns == 120 else ''}",
        "✔ promote                   2.0 s",
    ]
    assert lines[3].startswith("2 stages ran, 0 came from the cache, ")
    assert lines[4] == "Accuracy, %; families: of test problems"


def test_bar_of_each_stage_is_drawn_and_passes(finished: Terminal) -> None:
    bars = [line for line in drawn(finished.sent) if re.search("━|╸|╺", line) and "┃" not in line]
    stages = list(dict.fromkeys(line[:22].rstrip() for line in bars if line[0].isalpha()))
    assert stages == ["preparing", "select round 1", "promote"]
    assert any("answering everyday prompts, loss 0.500 " in line for line in bars)
    assert not any("starting" in line or "answering" in line for line in left(finished.sent))


def test_no_line_is_wider_than_the_terminal_and_none_is_cut(finished: Terminal) -> None:
    assert [line for line in drawn(finished.sent) if len(line) > finished.columns] == []
    assert "…" not in finished.sent


def test_closing_tables_are_whole(finished: Terminal) -> None:
    rows = [re.split("[│┃]", line)[1:-1] for line in left(finished.sent) if line[0] in "│┃"]
    cells = [[cell.strip() for cell in row] for row in rows]
    curve = ["stage", "dev", "n", "test", "95 % interval", "choice", "perplexity"]
    points = [
        ["injection", "19.0", "100", "19.0", "14.0 - 24.1", "48", "138.6"],
        ["round 1", "48.0", "100", "48.0", "43.0 - 53.1", "57", "144.0"],
    ]
    if finished.columns == 120:
        by_family = ["20", "92", "24", "56"]
        assert cells == [
            [*curve[:5], *FAMILIES, *curve[5:]],
            *([*point[:5], *by_family, *point[5:]] for point in points),
        ]
    else:
        assert cells == [
            curve,
            *points,
            ["family", "n", "injection", "round 1"],
            ["commands", "100", "20", "20"],
            ["python", "100", "92", "92"],
            ["rules", "100", "24", "24"],
            ["sql", "100", "56", "56"],
        ]


def test_terminal_has_its_cursor_again(finished: Terminal) -> None:
    assert shown_last(finished.sent, "\x1b[?25h", "\x1b[?25l")


@pytest.mark.parametrize("finished", [(80, 24)], ids=["80x24"], indirect=True)
def test_second_run_shows_what_came_from_the_cache(finished: Terminal) -> None:
    again = start(finished.folder, finished.columns, 24)
    assert again.end() == 0, again.sent
    lines = left(again.sent)
    assert lines[1:3] == ["↺ select round 1         cached", "✔ promote                   2.0 s"]
    assert lines[3].startswith("1 stages ran, 1 came from the cache, ")


def test_interrupted_run_leaves_one_word_and_the_cursor(tmp_path: Path) -> None:
    terminal = start(tmp_path, 80, 24)
    terminal.wait_for_bar()
    terminal.process.sendintr()
    assert terminal.end() == 130
    assert left(terminal.sent)[-1] == "Stopped. The same command goes on from the finished stages."
    assert "Traceback" not in terminal.sent
    assert shown_last(terminal.sent, "\x1b[?25h", "\x1b[?25l")


def test_failed_stage_is_told_in_words_and_leaves_the_cursor(tmp_path: Path) -> None:
    terminal = start(tmp_path, 80, 24, **{FAILING: "1"})
    terminal.go_on()
    assert terminal.end() == 1
    lines = left(terminal.sent)
    assert lines[-3].startswith("✘ select round 1          133.2 s")
    assert lines[-2:] == [
        "✘ InvalidInput: a problem: gold program: it is empty",
        "  the whole log: home/default/log.txt",
    ]
    assert not re.search("[0-9a-f]{16}", terminal.sent)
    assert "Traceback" not in terminal.sent
    assert "Traceback" in terminal.log
    assert shown_last(terminal.sent, "\x1b[?25h", "\x1b[?25l")


def shown_last(sent: str, this: str, other: str) -> bool:
    """Return whether `this` was sent, and after the last `other`."""
    return sent.rfind(this) > sent.rfind(other) > -1
