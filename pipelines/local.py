"""The whole pipeline on this machine, no cluster: Kubeflow's own local runner, its cache, a screen, and a first question.

    python -m pipelines.local [--profile math --source DIR] [--set section.key=value]

All it makes lies under one folder (`runs`, or SYMBOL_LLM_HOME). A second start takes finished stages from the cache and
goes on; inside a killed exploration it goes on with what is missing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import shutil
import subprocess
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
from symbol_llm.evaluation.health import alarms
from symbol_llm.ground import files, life, locks, outputs, progress
from symbol_llm.ground.errors import Busy, InvalidInput, SymbolLLMError
from symbol_llm.ground.params import Parameters
from symbol_llm.tracking import registry, runs

PROBLEM = re.compile(r"\bproblem [0-9a-f]{16}\b")
PLAIN_WIDTH = 110
PATIENCE_S = 60.0
"""For the end of a stage whose runner was killed; it is killed itself after `life.GRACE_S`."""
QUESTION = "Mia has 14 stamps. She buys 9 more stamps. How many stamps does Mia have now?"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings.with_profile
@click.option(
    "--name",
    default="",
    help="Name of the run. Runs of the same name share a cache. Default: the names of profile and strategy.",
)
@click.option(
    "--question", default=QUESTION, show_default=True, help="Question for the champion at the end; empty to skip it."
)
def main(
    file: Path | None,
    profile: str,
    strategy: str,
    source: Path | str | None,
    overrides: tuple[str, ...],
    name: str,
    question: str,
) -> None:
    """Run the whole pipeline on this machine, from a base model to a promoted one that answers a question."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    shown = io.TextIOWrapper(io.BufferedWriter(_Shown(os.dup(sys.stdout.fileno()), "w")))
    console = Console(file=shown, highlight=False, width=width)
    machine.warn_if_root()
    try:
        with life.stoppable():
            parameters = settings.load(file, profile, strategy, source, overrides)
            laid = [part for part in (Path(profile).stem, strategy) if part]
            home = outputs.claim(outputs.state_dir() / _checked(name or "-".join(laid) or "default"))
            with _held(home, console):
                promotion = run(parameters, home, console)
                finish(parameters, promotion, home, console)
                ask(parameters.promote.name, question, home, console)
    except SymbolLLMError as e:
        console.print(Text(f"✘ {e}", style="red"))
        sys.exit(e.exit_code)
    except (KeyboardInterrupt, SystemExit) as e:
        console.print("\nStopped. The same command goes on from the finished stages.")
        sys.exit(e.code if isinstance(e, SystemExit) else 130)


class _Shown(io.FileIO):
    """A terminal, or what stands for it; one that has been closed takes what is written and shows it to nobody."""

    def write(self, data: Any) -> int:
        """Write `data`; return how many bytes were taken."""
        try:
            return int(super().write(data) or 0)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            return len(data)


def _checked(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name) or name in outputs.STATE_NAMES:
        raise InvalidInput(f"name {name!r}: expected letters, digits, '.', '_' and '-', as in 'second-try'")
    return name


@contextlib.contextmanager
def _held(home: Path, console: Console) -> Iterator[None]:
    """Hold `home` for this run, once the last stage of a run that was killed has ended."""
    stages = home / outputs.STAGES
    with files.saying_unwritable(home, files.DISK_FAULTS), locks.hold(home / outputs.LOCK, "a run of the pipeline"):
        try:
            locks.wait_until_free(stages, 0)
        except Busy:
            console.print("Waiting for the stage of a run that was killed to end.")
            locks.wait_until_free(stages, PATIENCE_S)
        outputs.remove_drafts(home / "kfp")
        life.be_runner(stages)
        yield


def ask(model: str, question: str, home: Path, console: Console) -> None:
    """Put `question`, if there is one, to the champion of `model`, if there is one."""
    if registry.by_alias(model, registry.CHAMPION) is None:
        console.print("No checkpoint has passed the gate yet, so none is served. More problems or rounds may help.")
    elif question:
        first_question(f"models:/{model}@champion", question, home / "server.log", console)


def run(parameters: Parameters, home: Path, console: Console) -> Path:
    """Run the pipeline of `parameters` under `home`; return the folder that `promote` wrote."""
    progress_file = home / "progress.jsonl"
    with files.saying_unwritable(progress_file):
        progress_file.unlink(missing_ok=True)
    os.environ["SYMBOL_LLM_HOME"] = str(outputs.state_dir())
    os.environ[progress.FILE_VARIABLE] = str(progress_file)
    began = time.monotonic()
    log = home / "log.txt"
    console.print(f"Run [bold]{home.name}[/], log {_short(log)}")
    with Screen(console, progress_file) as screen, redirected(log):
        pipeline, names = _compiled(parameters, screen)
        with (
            runs.parent(home.name, parameters),
            outputs.scratch(home) as scratch,
            supervised(scratch),
            following(screen, names) as unfinished,
        ):
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

    from pipelines.place import Place
    from pipelines.self_training import build

    pipeline = build(parameters, Place(settings.cache_environment(parameters)))
    spec = pipeline.pipeline_spec
    names = display_names(spec)
    screen.begin(names[graph_utils.topological_sort_tasks(spec.root.dag.tasks)[-1]])
    return pipeline, names


def _run_pipeline(pipeline: Any, home: Path) -> bool:
    """Return whether a task failed."""
    from kfp import local

    local.init(
        local.SubprocessRunner(use_venv=False), pipeline_root=str(home / "kfp"), workspace_root="", enable_caching=True
    )
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
    for alarm in alarms((*report.history, report.summary)):
        console.print(f"[yellow]note:[/] {escape(alarm)}", highlight=False)
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
    with files.saying_unwritable(log):
        out = log.open("wb")
    with out:
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
def supervised(scratch: Path) -> Iterator[None]:
    """Have Kubeflow's runner start tasks as processes that end with this one, with their temporary files in `scratch`."""
    from kfp.local import subprocess_task_handler

    def run_task(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        command = [sys.executable, "-m", life.__name__, str(os.getpid()), *full_command]
        environment = os.environ | {"TMPDIR": str(scratch)} | (env_vars or {})
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "errors": "replace"}
        with subprocess.Popen(command, bufsize=1, text=True, env=environment, **pipes) as process:  # noqa: S603 - Kubeflow's own
            try:
                for line in process.stdout or ():
                    print(line, end="")
                print("\n")
                return process.wait()
            except BaseException:
                life.end(process.pid)
                raise

    kubeflows = subprocess_task_handler.run_local_subprocess
    subprocess_task_handler.run_local_subprocess = run_task
    try:
        yield
    finally:
        subprocess_task_handler.run_local_subprocess = kubeflows


@contextlib.contextmanager
def following(screen: Screen, names: dict[str, str]) -> Iterator[list[str]]:
    """Tell `screen` by their `names` of the tasks that Kubeflow's runner begins or has in its cache; yield the unfinished.

    What is in the cache is checked; see `CheckedCache`.
    The runner (kfp 2.17) tells nobody but its log. So what it calls for each task, and in that for each that is not in its
    cache, is watched: what they return says the rest, and one that is called otherwise is an AttributeError here.
    """
    from kfp.local import cache, config, status, task_dispatcher
    from kfp.local.orchestrator import task_executor

    from pipelines.cache import CheckedCache

    kubeflows = cache.get_local_cache
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

    def doubted(why: str) -> None:
        logging.warning("task %s is done again: %s", here.name, why)
        screen.console.print(f"[yellow]↻ {escape(here.name):<22} done again: {escape(why)}[/]")

    def checked() -> Any:
        return CheckedCache(Path(config.LocalExecutionConfig.instance.pipeline_root) / ".checked_cache", doubted)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    task_executor.execute_single_task, task_dispatcher.run_single_task_implementation = watched_task, watched_dispatch
    cache.get_local_cache = checked
    try:
        yield unfinished
    finally:
        task_executor.execute_single_task, task_dispatcher.run_single_task_implementation = one_task, dispatch
        cache.get_local_cache = kubeflows
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
