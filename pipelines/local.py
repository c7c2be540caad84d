"""The whole pipeline on this machine, no cluster: Kubeflow's own local runner, its cache, a screen, and a first question.

    python -m pipelines.local [--profile math --source DIR] [--set section.key=value]

All it makes lies under one folder (`runs`, or SYMBOL_LLM_HOME). A second start takes finished stages from the cache and
goes on; inside a killed exploration it goes on with what is missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from pipelines import settings
from pipelines.ask import first_question
from pipelines.screen import Screen, closing_tables
from symbol_llm import machine
from symbol_llm.evaluation.evaluate import read_report
from symbol_llm.ground import files, life, locks, outputs, progress
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.ground.params import Parameters
from symbol_llm.tracking import registry, runs

CACHE_HIT = re.compile(r"Task (\S+) cache hit")
BEGUN = re.compile(r"Executing task [^']*'([^']+)'")
FAILED_TASK = re.compile(r"Inner task failed: [^']*'([^']+)'")
PROBLEM = re.compile(r"\bproblem [0-9a-f]{16}\b")
PLAIN_WIDTH = 110
QUESTION = "Mia has 14 stamps. She buys 9 more stamps. How many stamps does Mia have now?"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings.with_profile
@click.option("--name", default="", help="Name of the run; runs of one name share a cache. Default: the profile's.")
@click.option(
    "--question", default=QUESTION, show_default=True, help="Put to the champion at the end; empty: no server."
)
def main(
    file: Path | None, profile: str, source: Path | str | None, overrides: tuple[str, ...], name: str, question: str
) -> None:
    """Run the whole loop on this machine, from a weak model to a promoted one that answers."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(file=os.fdopen(os.dup(sys.stdout.fileno()), "w"), highlight=False, width=width)
    machine.warn_if_root()
    try:
        parameters = settings.load(file, profile, source, overrides)
        home = outputs.claim(outputs.state_dir() / _checked(name or Path(profile).stem or "default"))
        with locks.hold(home / outputs.LOCK, "a run of the pipeline"):
            promotion = run(parameters, home, console)
            finish(parameters, promotion, home, console)
            champion = registry.by_alias(parameters.promote.name, registry.CHAMPION)
            if champion is None:
                console.print(
                    "No checkpoint has passed the gate yet, so none is served. More problems or rounds may help."
                )
            elif question:
                first_question(f"models:/{parameters.promote.name}@champion", question, home / "server.log", console)
    except SymbolLLMError as e:
        console.print(Text(f"✘ {e}", style="red"))
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        console.print("\nStopped. The same command goes on from the finished stages.")
        sys.exit(130)


def _checked(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name) or name in outputs.STATE_NAMES:
        raise InvalidInput(f"name {name!r}: expected letters, digits, '.', '_' and '-', as in 'second-try'")
    return name


def run(parameters: Parameters, home: Path, console: Console) -> Path:
    """Run the pipeline of `parameters` under `home`; return the folder that `promote` wrote."""
    progress_file = home / "progress.jsonl"
    progress_file.unlink(missing_ok=True)
    os.environ["SYMBOL_LLM_HOME"] = str(outputs.state_dir())
    os.environ[progress.FILE_VARIABLE] = str(progress_file)
    os.environ[life.RUNNER_VARIABLE] = str(os.getpid())
    began = time.monotonic()
    log = home / "log.txt"
    console.print(f"Run [bold]{home.name}[/], log {_short(log)}")
    with Screen(console, progress_file) as screen, redirected(log):
        pipeline, names = _compiled(parameters, screen)
        with runs.parent(home.name, parameters), following(screen, names):
            if failed := _run_pipeline(pipeline, home):  # raised in here, so that the run in MLflow has failed too
                sys.stdout.flush()
                raise SymbolLLMError(f"{_cause(log, names.get(failed, failed))}\n  the whole log: {_short(log)}")
    minutes = (time.monotonic() - began) / 60
    console.print(f"\n{screen.n_run} stages ran, {screen.n_cached} came from the cache, {minutes:.1f} min in all.\n")
    return max(home.glob("kfp/*/promote*/promotion"), key=lambda p: p.stat().st_mtime)


def _compiled(parameters: Parameters, screen: Screen) -> tuple[Any, dict[str, str]]:
    """Return the pipeline and what its tasks are called; meanwhile `screen` shows the one that runs first."""
    screen.begin("preparing")
    from kfp.local import graph_utils

    from pipelines.self_training import Place, build

    pipeline = build(parameters, Place(settings.cache_environment(parameters)))
    spec = pipeline.pipeline_spec  # type: ignore[attr-defined]
    names = display_names(spec)
    screen.begin(names[graph_utils.topological_sort_tasks(spec.root.dag.tasks)[-1]])
    return pipeline, names


def _run_pipeline(pipeline: Any, home: Path) -> str:
    """Return the task that failed; empty if none did."""
    from kfp import local

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(home / "kfp"), enable_caching=True)
    try:
        pipeline()
    except RuntimeError as e:
        logging.error("%s", e)
        found = FAILED_TASK.search(str(e))
        return found[1] if found else "a stage"
    return ""


def finish(parameters: Parameters, promotion: Path, home: Path, console: Console) -> None:
    """Show the curve and the gate's word, and leave the page at `home/report.html`."""
    report = read_report(promotion)
    shutil.copyfile(promotion / "report.html", home / "report.html")
    for table in closing_tables(report, console):
        console.print(table)
    decision = files.read_json(promotion / "promotion.json")
    mark = "[green]promoted[/]" if decision["promoted"] else "[yellow]not promoted[/]"
    console.print(
        f"\nVersion {decision['version']} of {parameters.promote.name!r} ({decision['stage']}): {mark}, {escape(decision['reason'])}."
    )
    console.print(f"Report: {_short(home / 'report.html')}")
    console.print(f"MLflow: mlflow ui --backend-store-uri {os.environ['MLFLOW_TRACKING_URI']}\n")


@contextlib.contextmanager
def redirected(log: Path) -> Iterator[None]:
    """Send all that this process and its children print to `log` for the block.

    The descriptors themselves are turned, so that whoever holds the old `sys.stderr`, a logging handler for one, writes
    to `log` too. A terminal is reached only through a duplicate made before.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for fd, old in enumerate(kept, 1):
                os.dup2(old, fd)
                os.close(old)


@contextlib.contextmanager
def following(screen: Screen, names: dict[str, str]) -> Iterator[None]:
    """Tell `screen` by their `names` of the tasks that Kubeflow's runner begins or takes from its cache: only its log says so.

    It clears the root logger's handlers while it works, but not its filters.
    """

    def note(record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if found := CACHE_HIT.match(said):
            screen.cached(names.get(found[1], found[1]))
        elif found := BEGUN.match(said):
            screen.begin(names.get(found[1], found[1]))
        return True

    root = logging.getLogger()
    level = root.level
    root.addFilter(note)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeFilter(note)
        root.setLevel(level)


def display_names(spec: Any) -> dict[str, str]:
    """Return what the tasks of a compiled pipeline, conditions included, are called on the screen, by task name."""
    dags = [spec.root.dag, *(c.dag for c in spec.components.values() if c.HasField("dag"))]
    return {name: task.task_info.name for dag in dags for name, task in dag.tasks.items()}


def _cause(log: Path, stage: str) -> str:
    """Return why `stage` failed: the last line of `log` that names an exception, without ids of problems."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if re.search(r"\w", line)]
    named = [
        line
        for line in lines
        if re.match(
            r"^[\w.]*(Error|Exception|InvalidInput|Unavailable|LimitExceeded|Busy|MissingDependency)\b.*:", line
        )
    ]
    own = [line for line in named if line.startswith("symbol_llm.ground.errors.")]
    if not named:
        return (
            f"{stage} ended without naming an error. If the kernel killed it for memory, lower `batch` of a stage that "
            f"samples, `device_batch` of one that tunes. Its last words: {lines[-1] if lines else 'none'}"
        )
    return PROBLEM.sub("a problem", (own or named)[-1].removeprefix("symbol_llm.ground.errors."))


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
