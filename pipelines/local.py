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
import threading
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

PROBLEM = re.compile(r"\bproblem [0-9a-f]{16}\b")
PLAIN_WIDTH = 110
QUESTION = "Mia has 14 stamps. She buys 9 more stamps. How many stamps does Mia have now?"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings.with_profile
@click.option(
    "--name", default="", help="Name of the run. Runs of the same name share a cache. Default: the name of the profile."
)
@click.option(
    "--question", default=QUESTION, show_default=True, help="Question for the champion at the end; empty to skip it."
)
def main(
    file: Path | None, profile: str, source: Path | str | None, overrides: tuple[str, ...], name: str, question: str
) -> None:
    """Run the whole pipeline on this machine, from a base model to a promoted one that answers a question."""
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
        with runs.parent(home.name, parameters), following(screen, names) as unfinished:
            if _run_pipeline(pipeline, home):  # raised in here, so that the run in MLflow has failed too
                sys.stdout.flush()
                stage = unfinished[-1] if unfinished else "a stage"
                raise SymbolLLMError(f"{_cause(log, stage)}\n  the whole log: {_short(log)}")
    minutes = (time.monotonic() - began) / 60
    console.print(f"\n{screen.n_run} stages ran, {screen.n_cached} came from the cache, {minutes:.1f} min in all.\n")
    return max(home.glob("kfp/*/promote*/promotion"), key=lambda p: p.stat().st_mtime)


def _compiled(parameters: Parameters, screen: Screen) -> tuple[Any, dict[str, str]]:
    """Return the pipeline and what its tasks are called; meanwhile `screen` shows the one that runs first."""
    screen.begin("preparing")
    from kfp.local import graph_utils

    from pipelines.self_training import Place, build

    pipeline = build(parameters, Place(settings.cache_environment(parameters)))
    spec = pipeline.pipeline_spec
    names = display_names(spec)
    screen.begin(names[graph_utils.topological_sort_tasks(spec.root.dag.tasks)[-1]])
    return pipeline, names


def _run_pipeline(pipeline: Any, home: Path) -> bool:
    """Return whether a task failed."""
    from kfp import local

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(home / "kfp"), enable_caching=True)
    try:
        pipeline()
    except RuntimeError as e:
        logging.error("%s", e)
        return True
    return False


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
def following(screen: Screen, names: dict[str, str]) -> Iterator[list[str]]:
    """Tell `screen` by their `names` of the tasks that Kubeflow's runner begins or has in its cache; yield the unfinished.

    The runner (kfp 2.17) tells nobody but its log. So what it calls for each task, and in that for each that is not in its
    cache, is watched: what they return says the rest, and one that is called otherwise is an AttributeError here.
    """
    from kfp.local import status, task_dispatcher
    from kfp.local.orchestrator import task_executor

    one_task, dispatch = task_executor.execute_single_task, task_dispatcher.run_single_task_implementation
    unfinished: list[str] = []
    here = threading.local()

    def watched_task(task_name: str, *args: Any, **more: Any) -> Any:
        here.name, here.has_begun = names.get(task_name, task_name), False
        unfinished.append(here.name)
        outputs, ended = one_task(task_name, *args, **more)
        if ended == status.Status.SUCCESS:
            unfinished.remove(here.name)
            if not here.has_begun:
                screen.cached(here.name)
        return outputs, ended

    def watched_dispatch(*args: Any, **more: Any) -> Any:
        here.has_begun = True
        screen.begin(here.name)
        return dispatch(*args, **more)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    task_executor.execute_single_task, task_dispatcher.run_single_task_implementation = watched_task, watched_dispatch
    try:
        yield unfinished
    finally:
        task_executor.execute_single_task, task_dispatcher.run_single_task_implementation = one_task, dispatch
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
