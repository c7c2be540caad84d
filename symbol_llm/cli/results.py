"""Commands that look at what runs have left."""

from __future__ import annotations

from pathlib import Path

import click

from symbol_llm.cli.group import Existing, main, say, show


@main.command()
@click.argument("name", metavar="ID")
@click.argument("folders", nargs=-1, type=Existing)
@click.pass_context
def why(ctx: click.Context, name: str, folders: tuple[Path, ...]) -> None:
    """Tell what became of a problem, try by try.

    Each try comes with its verdict, the rows that it became, and the checkpoints that learnt from them. ID is of a problem, a candidate or a training row; its first 6 characters are enough. FOLDERS are where stages wrote:
    by default the state of runs, and `data`.
    """
    from symbol_llm.evaluation import why as history
    from symbol_llm.ground import outputs

    places = folders or tuple(p for p in (outputs.state_path(), Path("data")) if p.is_dir())
    story = history.why(name, history.outputs_in(places))
    show(ctx, story.model_dump(mode="json")) if ctx.obj["json"] else say(history.in_words(story))


@main.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("folders", nargs=-1, type=Existing)
def explorer(out: Path, folders: tuple[Path, ...]) -> None:
    """Write a page to search all explored problems of a run.

    OUT has each try, its verdict, and what it gave. FOLDERS are where stages wrote: by default the state of runs, and `data`.
    """
    from symbol_llm.evaluation import explorer as pages
    from symbol_llm.evaluation.why import outputs_in
    from symbol_llm.ground import files, outputs

    outputs.refuse_file(out, lambda text: text.startswith(b"<!doctype html>") and b"<title>Explored</title>" in text)
    places = folders or tuple(p for p in (outputs.state_path(), Path("data")) if p.is_dir())
    files.write_text(out, pages.page(outputs_in(places)))
    say(f"open {out}")


@main.command()
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the curves to this file."
)
@click.pass_context
def compare(ctx: click.Context, runs: tuple[str, ...], out: Path | None) -> None:
    """Compare runs on the test problems that they share.

    The first of RUNS is what the others are compared with. A run is a report.json, a folder that has one, the folder of a finished run (runs/default), or the id of a pipeline's run
    in MLflow; NAME=RUN gives it a name. Differences are paired, with 95 % intervals.
    """
    from symbol_llm.evaluation import compare as comparing
    from symbol_llm.ground import files, outputs
    from symbol_llm.tracking import curves

    if out is not None:
        outputs.refuse_file(
            out, lambda text: text.startswith(b"<!doctype html>") and b"<title>Runs compared</title>" in text
        )
    found = []
    for given in runs:
        name, _, place = given.rpartition("=")
        report = comparing.read(Path(place)) if Path(place).exists() else curves.fetch(place)
        found.append(comparing.Run(name or Path(place).name, report))
    rows = comparing.compare(found)
    if ctx.obj["json"]:
        show(ctx, [row.model_dump(mode="json") for row in rows])
    else:
        shown = [
            {
                "run": row.run,
                "dev %": row.dev and f"{100 * row.dev.mean:.1f}",
                "test %": f"{100 * row.test.mean:.1f}",
                "n": row.test.n,
                f"difference to {rows[0].run}, points": comparing.in_words(row.gain),
                "verified": row.n_samples,
            }
            for row in rows
        ]
        show(ctx, shown)
    if out is not None:
        files.write_text(out, comparing.page(found))
        if not ctx.obj["json"]:
            say(f"open {out}")
