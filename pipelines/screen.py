"""What a person sees while a pipeline runs on this machine: a line a stage with a bar, and closing tables.

Stages run in processes of their own and report through the file that `symbol_llm.ground.progress` writes. No line is
wider than the terminal, and none is cut: what does not fit is laid out otherwise or left out whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from symbol_llm.ground.records import Report, Summary

POLL_S = 0.3
BAR_WIDTH = 24
"""At most; the note beside the bar goes first."""


class Screen:
    """Follows the progress file in a thread while the block runs; counts what ran and what came from the cache."""

    def __init__(self, console: Console, progress_file: Path) -> None:
        """Follow `progress_file`, which need not exist yet."""
        self.console, self.file = console, progress_file
        self.n_run = self.n_cached = 0
        self._at = 0
        self._reading = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(None, table_column=Column(max_width=BAR_WIDTH)),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            _Left(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            redirect_stdout=False,  # else whatever this process prints would stand above the bar, not in the log
            redirect_stderr=False,
        )
        self._bar: Any = None

    def __enter__(self) -> Screen:
        """Begin to follow."""
        self._bars.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show what is left and stop."""
        try:
            self._stop.set()
            self._thread.join()
            self._read()
        finally:
            self._bars.stop()

    def begin(self, stage: str) -> None:
        """Show a bar for `stage`, whose process is not there yet; stages before it have ended."""
        with self._reading:
            self._read()
            self._show(stage)

    def cached(self, stage: str) -> None:
        """Note a stage whose result came from the cache."""
        with self._reading:
            self._read()
            self._hide()
            self.n_cached += 1
            self.console.print(f"[dim]↺ {stage:<22} cached[/]")

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._read()

    def _read(self) -> None:
        if not self.file.is_file():
            return
        with self._reading, self.file.open() as lines:
            lines.seek(self._at)
            while (line := lines.readline()).endswith("\n"):
                self._at = lines.tell()
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "start":
            self._show(event["stage"])
        elif event["event"] == "progress" and self._bar is not None:
            note = event["label"] + (f", loss {event['loss']:.3f}" if "loss" in event else "")
            self._bars.update(self._bar, completed=event["done"], total=event["total"], note=note)
        elif event["event"] == "end":
            self._hide()
            good = event["status"] == "FINISHED"
            self.n_run += good
            mark = "[green]✔[/]" if good else "[red]✘[/]"
            done = f"{event['stage']:<22} {event['seconds']:6.1f} s"
            said = _fitting(event.get("said", ""), self.console.width - len(f"* {done}  "))
            self.console.print(f"{mark} {done}  [dim]{escape(said)}[/]")

    def _show(self, stage: str) -> None:
        description = f"[bold]{stage:<22}[/]"
        if self._bar is None:
            self._bar = self._bars.add_task(description, total=None, note="starting")
        else:
            self._bars.update(self._bar, description=description)
        self._bars.refresh()

    def _hide(self) -> None:
        if self._bar is not None:
            self._bars.remove_task(self._bar)
            self._bar = None
            self._bars.refresh()


class _Left(TimeRemainingColumn):
    """The time that a stage still takes, once there is an estimate."""

    def render(self, task: Task) -> Text:
        return Text("") if task.time_remaining is None else super().render(task).append(" left")


def _fitting(said: str, width: int) -> str:
    """Return as many of the clauses in `said`, first to last, as `width` characters hold."""
    while len(said) > width:
        said = said.rpartition(", ")[0]
    return said


def closing_tables(report: Report, console: Console) -> list[Table]:
    """Return the learning curve as tables that `console` shows whole.

    It is one table, a row a point, a column a family; if that is too wide, families are rows of a second table, or of
    as many as the points need.
    """
    curve = (*report.history, report.summary)
    families = sorted(report.summary.families)
    together = _curve_table(curve, families)
    if _fits(together, console):
        return [together]
    return [_curve_table(curve, []), *_family_tables(curve, families, console)]


def _curve_table(curve: Sequence[Summary], families: Sequence[str]) -> Table:
    table = Table(title="Accuracy, %; families: of test problems", title_justify="left")
    table.add_column("stage")
    for heading in ("dev", "n", "test", "95 % interval", *families, "choice", "perplexity"):
        table.add_column(heading, justify="right")
    for s in curve:
        by_family = [_of_family(s, name) for name in families]
        on_dev = f"{100 * s.dev.mean:.1f}" if s.dev else ""
        choice = f"{100 * s.general.choice.mean:.0f}" if s.general.choice else ""
        perplexity = f"{s.general.perplexity:.1f}" if s.general.perplexity else ""
        between = f"{100 * s.overall.low:.1f} - {100 * s.overall.high:.1f}"
        table.add_row(
            s.stage,
            on_dev,
            str(s.overall.n),
            f"[bold]{100 * s.overall.mean:.1f}[/]",
            between,
            *by_family,
            choice,
            perplexity,
        )
    return table


def _family_tables(curve: Sequence[Summary], families: Sequence[str], console: Console) -> Iterator[Table]:
    """Yield tables with a row a family and a column a point of `curve`, each with as many points as fit."""
    now = curve[-1].families

    def table(points: Sequence[Summary]) -> Table:
        made = Table(title="By family, %", title_justify="left")
        made.add_column("family")
        for heading in ("n", *(s.stage for s in points)):
            made.add_column(heading, justify="right")
        for name in families:
            made.add_row(name, str(now[name].accuracy.n), *(_of_family(s, name) for s in points))
        return made

    shown: list[Summary] = []
    for point in curve:
        if shown and not _fits(table([*shown, point]), console):
            yield table(shown)
            shown = []
        shown.append(point)
    yield table(shown)


def _fits(table: Table, console: Console) -> bool:
    unlimited = console.options.update(max_width=10_000)
    return console.measure(table, options=unlimited).maximum <= console.width


def _of_family(summary: Summary, name: str) -> str:
    return f"{100 * summary.families[name].accuracy.mean:.0f}" if name in summary.families else ""
