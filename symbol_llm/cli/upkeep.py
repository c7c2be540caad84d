"""Commands about this machine, its folders, and a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from symbol_llm.cli.group import Utf8Path, main, say, show


@main.command()
@click.argument("folders", nargs=-1, type=Utf8Path(path_type=Path, file_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_context
def clean(ctx: click.Context, folders: tuple[Path, ...], yes: bool) -> None:
    """Remove what runs and stages have made in FOLDERS.

    The default is the state folder (`runs`) and `data`. Whatever symbol-llm does not recognise as its own is left in
    place and listed.
    """
    from symbol_llm.ground import outputs

    chosen = folders or (outputs.state_path(), Path("data"))
    found = [outputs.removable(folder) for folder in chosen]
    ours, left = ([str(place) for pair in found for place in pair[n]] for n in (0, 1))
    if ours and not yes:
        click.echo("\n".join(["To be removed:", *(f"  {place}" for place in ours)]), err=True)
        click.confirm("Remove them?", abort=True, err=True)
    for folder in chosen:
        outputs.clean(folder)
    if ctx.obj["json"]:
        show(ctx, {"removed": ours, "left": left})
    else:
        say(f"{len(ours)} removed")
        say("\n".join(f"left, not known to be ours: {place}" for place in left) or "nothing else is there")


@main.command()
@click.option(
    "--cluster", is_flag=True, help="Ask the cluster of kubectl's context instead; see docs/guides/kubernetes.md."
)
@click.option("--placement", default="laptop", show_default=True, help="What the cluster has to have room for.")
@click.pass_context
def doctor(ctx: click.Context, cluster: bool, placement: str) -> None:
    """Report what this machine, or a cluster, has and lacks.

    Of this machine: engine, cores, memory, GPU, versions, sandbox.
    """
    from symbol_llm import machine

    if cluster:
        code, said = machine.preflight("--placement", placement, *(["--json"] if ctx.obj["json"] else []))
        say(said)
        ctx.exit(code)
    found = machine.inspect()
    show(ctx, found)
    if not ctx.obj["json"]:
        for line in machine.advice(found):
            say(line)
