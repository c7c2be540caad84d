"""Progress of long work: a bar on a terminal, or lines in the file named by SYMBOL_LLM_PROGRESS for a parent that draws.

for row in track(rows, "judging gold", total=len(rows)): ...
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

from symbol_llm.ground import files

T = TypeVar("T")
FILE_VARIABLE = "SYMBOL_LLM_PROGRESS"
MIN_INTERVAL_S = 0.25


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how many are done; `total` defaults to their length where they have one."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if FILE_VARIABLE in os.environ:
        return _reported(items, label, total)
    if sys.stderr.isatty():
        return _drawn(items, label, total)
    return iter(items)


def event(**fields: Any) -> None:
    """Add one line to the progress file, if there is one. A short append is atomic, so processes may share the file."""
    if name := os.environ.get(FILE_VARIABLE):
        with files.saying_unwritable(Path(name)), open(name, "a") as out:
            out.write(json.dumps(fields) + "\n")


def _reported(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    last, n = 0.0, 0
    for n, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > MIN_INTERVAL_S:
            last = time.monotonic()
            event(event="progress", label=label, done=n, total=total)
    event(event="progress", label=label, done=n, total=total)


def _drawn(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        for item in items:
            yield item
            bar.advance(task)
