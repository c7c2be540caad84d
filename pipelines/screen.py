"""What a person sees while a pipeline runs on this machine: a line a stage with a bar, and a closing table.

Stages run in processes of their own and report through the file that `symbol_llm.ground.progress` writes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from symbol_llm.ground.records import Report, Summary

POLL_S = 0.3
MOST_COLUMNS = 6
"""Families that are columns of the closing table."""


class Screen:
    """Follows the progress file in a thread while the block runs; counts what ran and what came from the cache."""

    def __init__(self, console: Console, progress_file: Path) -> None:
        """Follow `progress_file`, which need not exist yet."""
        self.console, self.file = console, progress_file
        self.n_run = self.n_cached = 0
        self._at = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bar: Any = None
        self._label = ""

    def __enter__(self) -> Screen:
        """Begin to follow."""
        self._bars.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show what is left and stop."""
        self._stop.set()
        self._thread.join()
        self._read()
        self._bars.stop()

    def cached(self, task: str) -> None:
        """Note a task whose result came from the cache."""
        self.n_cached += 1
        self.console.print(f"[dim]↺ {task:<22} cached[/]")

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._read()

    def _read(self) -> None:
        if not self.file.is_file():
            return
        with self.file.open() as lines:
            lines.seek(self._at)
            while (line := lines.readline()).endswith("\n"):
                self._at = lines.tell()
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "start":
            self._label = event["stage"]
            self._bar = self._bars.add_task(f"[bold]{self._label:<22}[/]", total=None, note="starting")
        elif event["event"] == "progress" and self._bar is not None:
            note = event["label"] + (f", loss {event['loss']:.3f}" if "loss" in event else "")
            self._bars.update(self._bar, completed=event["done"], total=event["total"], note=note)
        elif event["event"] == "end":
            if self._bar is not None:
                self._bars.remove_task(self._bar)
                self._bar = None
            good = event["status"] == "FINISHED"
            self.n_run += good
            mark = "[green]✔[/]" if good else "[red]✘[/]"
            self.console.print(
                f"{mark} {event['stage']:<22} {event['seconds']:6.1f} s  [dim]{escape(event.get('said', ''))}[/]"
            )


def closing_tables(report: Report) -> list[Table]:
    """Return the learning curve as a table, a row a point; families are columns of it, or rows of a second if they are many."""
    curve = (*report.history, report.summary)
    families = sorted(report.summary.families)
    if len(families) <= MOST_COLUMNS:
        return [_curve_table(curve, families)]
    by_family = Table(title="By family, %", title_justify="left")
    by_family.add_column("family")
    for heading in ("n", *(s.stage for s in curve)):
        by_family.add_column(heading, justify="right")
    for name in families:
        by_family.add_row(name, str(report.summary.families[name].accuracy.n), *(_of_family(s, name) for s in curve))
    return [_curve_table(curve, []), by_family]


def _curve_table(curve: Iterable[Summary], families: Sequence[str]) -> Table:
    table = Table(title="Held-out accuracy, %", title_justify="left")
    table.add_column("stage")
    for heading in ("n", "all", "95 % interval", *families, "choice", "perplexity"):
        table.add_column(heading, justify="right")
    for s in curve:
        by_family = [_of_family(s, name) for name in families]
        choice = f"{100 * s.general.choice.mean:.0f}" if s.general.choice else ""
        perplexity = f"{s.general.perplexity:.1f}" if s.general.perplexity else ""
        between = f"{100 * s.overall.low:.1f} - {100 * s.overall.high:.1f}"
        table.add_row(
            s.stage, str(s.overall.n), f"[bold]{100 * s.overall.mean:.1f}[/]", between, *by_family, choice, perplexity
        )
    return table


def _of_family(summary: Summary, name: str) -> str:
    return f"{100 * summary.families[name].accuracy.mean:.0f}" if name in summary.families else ""
