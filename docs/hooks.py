"""Fills the pages that would go stale if they were written by hand. MkDocs calls the functions named `on_...`.

A comment `<!-- generated: NAME -->` in a page is replaced by what the function of that name in `GENERATED` returns.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel

from symbol_llm import cli, families, tasks
from symbol_llm.ground import params
from symbol_llm.ground.errors import MissingDependency
from symbol_llm.training.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"^<!-- generated: (.*) -->$", re.MULTILINE)
MODULES = ("pipelines.local", "pipelines.submit", "serving", "serving.ask", "manifests.check")
BEFORE = (112, 39, 176, 339, 1, 3)
"""Figures of commit 2dba2f2, in the order of `import_graph.Graph.counts`."""


def on_startup(**_: Any) -> None:
    """Make benchmarks, pipelines, serving and manifests importable, which are not installed."""
    sys.path.insert(0, str(ROOT))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its generated parts."""
    return PLACE.sub(lambda found: GENERATED[found[1]](), markdown)


def commands() -> str:
    """Return what `--help` prints of every command."""
    parts = ["## symbol-llm", _help(cli.main, "symbol-llm")]
    for name, command in sorted(cli.main.commands.items()):
        parts += [f"### symbol-llm {name}", _help(command, f"symbol-llm {name}")]
    parts.append("## Modules of a checkout")
    for module in MODULES:
        loaded = importlib.import_module(f"{module}.__main__" if module == "serving" else module)
        parts += [f"### python -m {module}", _help(loaded.main, f"python -m {module}")]
    return "\n\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
    return f"```text\n{command.get_help(context)}\n```"


def parameters() -> str:
    """Return a table for each section of the parameters."""
    shipped = params.load(params.SHIPPED)
    top = {name: field for name, field in params.Parameters.model_fields.items() if not _is_section(field.annotation)}
    parts = ["## Outside of sections", _rows(params.Parameters(), shipped, top)]
    for name, field in params.Parameters.model_fields.items():
        if _is_section(field.annotation):
            section, now = getattr(params.Parameters(), name), getattr(shipped, name)
            parts += [
                f"## {name}",
                inspect.getdoc(type(section)) or "",
                _rows(section, now, type(section).model_fields),
            ]
    limits = params.Limits()
    parts += ["## limits", f"{params.Limits.__doc__} Set as `explore.limits.timeout_s=10`, for example."]
    return "\n\n".join([*parts, _rows(limits, limits, params.Limits.model_fields)])


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _rows(section: BaseModel, now: BaseModel, fields: Any) -> str:
    rows = []
    for name, field in fields.items():
        default, value = getattr(section, name), getattr(now, name)
        shown = "see [limits](#limits)" if _is_section(field.annotation) else _code(default)
        changed = "" if value == default else _code(value)
        rows.append((f"`{name}`", shown, changed, _allowed(field), field.description or ""))
    return _table(("Key", "Default", "`params.yaml`", "Allowed", "Meaning"), rows)


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _allowed(field: Any) -> str:
    """Return the bounds of a number, or the words to choose from; empty if neither is declared."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(field.annotation))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [(sign, getattr(one, key, None)) for one in field.metadata for key, sign in signs.items()]
    return ", ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)


def notations() -> str:
    """Return a section for each notation: its docstring, its metric, and the tasks that are written in it."""
    parts = []
    for name in families.names():
        try:
            family = families.get(name)
        except MissingDependency as e:
            parts += [f"## {name}", str(e)]
            continue
        written = [
            f"`{t.name}`" for t in sorted(tasks.all_tasks().values(), key=tasks.published_first) if t.family == name
        ]
        facts = [
            f"**Metric:** {family.METRIC}. **Version:** {family.VERSION}.",
            f"**Tasks:** {', '.join(written) or 'none'}.",
        ]
        parts += [f"## {name}", inspect.getdoc(family) or "", " ".join(facts)]
    return "\n\n".join(parts)


def strategy_table() -> str:
    """Return the strategies with their sources and settings."""
    rows = []
    for name, (about, source, settings) in STRATEGIES.items():
        keys = [f"`{part}.{key}={json.dumps(value)}`" for part, one in settings.items() for key, value in one.items()]
        rows.append((f"`{name}`", about, source, ", ".join(keys)))
    return _table(("Strategy", "What it does", "Source", "Settings"), rows)


def task_table() -> str:
    """Return Symbol-LLM's 34 tasks and the others as two tables."""
    domain = tasks.domain_of()
    ordered = sorted(tasks.all_tasks().values(), key=tasks.published_first)
    heads = ("", "Task", "Domain", "Notation", "Generated", "Data set", "Licence", "Source")

    def rows(published: bool) -> Iterator[Sequence[str]]:
        for t in ordered:
            if bool(t.published) == published:
                number = str(t.published.number) if t.published else "evaluation only" if t.evaluation_only else ""
                notation = f"[{t.family}](notations.md#{t.family})"
                folder = f"`{t.folder}`" if t.folder else ""
                made = "yes" if t.generate else ""
                yield number, f"`{t.name}`", domain[t.name], notation, made, folder, t.licence, t.citation

    parts = ["## Symbol-LLM's 34 tasks", _table(heads, rows(True)), "## Further tasks", _table(heads, rows(False))]
    return "\n\n".join(parts)


def import_graph() -> str:
    """Return the figures of the import graph before and now."""
    from benchmarks import import_graph as graphs

    now = graphs.read(ROOT).counts()
    rows = [(key.replace("_", " "), str(then), str(now[key])) for key, then in zip(now, BEFORE, strict=True)]
    return _table(("", "2dba2f2", "now"), rows)


def import_graph_drawn() -> str:
    """Return the drawing of the present import graph."""
    from benchmarks import import_graph as graphs

    return graphs.svg(graphs.read(ROOT)).replace("\n", "")


def _table(heads: Sequence[str], rows: Any) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in lines
    )


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "parameters": parameters,
    "notations": notations,
    "strategies": strategy_table,
    "tasks": task_table,
    "import graph": import_graph,
    "import graph drawn": import_graph_drawn,
}
