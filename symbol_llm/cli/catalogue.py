"""Commands that list what there is to choose from, and start what is to be added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from symbol_llm.cli.group import Folder, main, show


@main.command()
@click.pass_context
def families(ctx: click.Context) -> None:
    """List the notations, and what is missing to use them."""
    from symbol_llm import families as known
    from symbol_llm.ground.errors import MissingDependency

    rows: list[dict[str, Any]] = []
    for name in known.names():
        try:
            family = known.get(name)
        except MissingDependency as e:
            rows.append({"family": name, "version": None, "metric": None, "missing": str(e)})
        else:
            rows.append({"family": name, "version": family.VERSION, "metric": family.METRIC, "missing": None})
    show(ctx, rows)


@main.command()
@click.pass_context
def tasks(ctx: click.Context) -> None:
    """List the tasks, with notation, source and licence.

    Those of Symbol-LLM's 34 come first, with their numbers.
    """
    from symbol_llm import tasks as known

    domain = known.domain_of()
    show(
        ctx,
        [
            {
                "number": t.published.number if t.published else None,
                "task": t.name,
                "domain": domain[t.name],
                "family": t.family,
                "generator": t.generate is not None,
                "reader": t.folder,
                "metric": t.published.metric if t.published else None,
                "evaluation_only": t.evaluation_only,
                "licence": t.licence,
                "citation": t.citation,
            }
            for t in sorted(known.all_tasks().values(), key=known.published_first)
        ],
    )


@main.command()
@click.pass_context
def strategies(ctx: click.Context) -> None:
    """List the methods of self-training that --strategy takes."""
    from symbol_llm.training.strategies import STRATEGIES

    show(ctx, [{"strategy": k, "source": s.source or None, "about": s.about} for k, s in STRATEGIES.items()])


@main.command()
@click.argument("kind", type=click.Choice(["family", "task"]))
@click.argument("name")
@click.option("--folder", type=Folder, default=Path(), help="Where to create the folder of the package. Default: here.")
@click.pass_context
def new(ctx: click.Context, kind: Any, name: str, folder: Path) -> None:
    """Create a package that adds a notation or a task.

    KIND says which of the two (`family` is a notation), NAME what it is called. The package works as it is and has tests. Change it and install it with `pip install ./NAME`; nothing in symbol-llm
    needs to be edited.
    """
    from symbol_llm import scaffold

    show(ctx, [{"file": str(file)} for file in scaffold.create(kind, name, folder)])
