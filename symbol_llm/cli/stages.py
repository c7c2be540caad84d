"""A command for each stage of the pipeline, and for what can take the place of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from symbol_llm.cli.group import Existing, Folder, Source, main, parameters, say, track


@main.command()
@click.argument("out", type=Folder)
@click.pass_context
def fetch(ctx: click.Context, out: Path) -> None:
    """Fetch the weights of the base model into the folder OUT."""
    from symbol_llm import stages

    track(ctx, stages.fetch, "fetch", out=out, model=parameters(ctx).model)


@main.command()
@click.argument("out", type=Folder)
@click.option(
    "--source",
    type=Source(path_type=Path, exists=True),
    help="Folder of public data sets, or hf://datasets/org/name@revision.",
)
@click.option("--tasks", help="Task names, separated by commas; `all` for the 34, or for everything in the source.")
@click.option("--domains", help="Only tasks of these domains, separated by commas.")
@click.option(
    "--licence",
    type=click.Choice(["any", "permissive"]),
    help="`permissive` leaves out data that does not allow commercial use.",
)
@click.option("--per-task", type=click.IntRange(1), help="Number of training problems per task.")
@click.pass_context
def collect(  # noqa: PLR0913 - one a click option
    ctx: click.Context,
    out: Path,
    source: Path | str | None,
    tasks: str | None,
    domains: str | None,
    licence: str | None,
    per_task: int | None,
) -> None:
    """Build the collection in the folder OUT.

    The options override keys of the section `collect`.
    """
    from symbol_llm import stages

    given: dict[str, Any] = {"source": source, "licence": licence, "n_train": per_task}
    given["tasks"] = () if tasks == "all" else tasks and tuple(tasks.replace(" ", "").split(","))
    given["domains"] = domains and tuple(domains.replace(" ", "").split(","))
    params = parameters(ctx).collect.model_copy(update={key: one for key, one in given.items() if one is not None})
    track(ctx, stages.collect, "collect", out=out, params=params)


@main.command()
@click.argument("collection", type=Existing)
@click.argument("out", type=Folder)
@click.option("--k", default=4, show_default=True, type=click.IntRange(1), help="Replies per problem.")
@click.option("--shots", default=4, show_default=True, type=click.IntRange(0), help="Worked examples in the prompt.")
@click.option("--temperature", default=0.7, show_default=True, type=click.FloatRange(0), help="Sampling temperature.")
@click.option("--max-tokens", default=512, show_default=True, type=click.IntRange(1), help="Longest reply in tokens.")
@click.pass_context
def write(ctx: click.Context, /, collection: Path, out: Path, **asked: Any) -> None:
    """Have a stronger model write programs for problems without.

    What it writes for training problems, and the verifier accepts, goes to OUT. The model is the one behind OPENAI_BASE_URL. To use the
    programs, build the collection again with --set collect.written=OUT.
    """
    from symbol_llm.collection.write import write as ask
    from symbol_llm.ground.params import Write

    track(ctx, ask, "write", collection=collection, out=out, params=Write(**asked))


@main.command()
@click.argument("collection", type=Existing)
@click.argument("checkpoint", type=Existing)
@click.argument("out", type=Folder)
@click.pass_context
def replay(ctx: click.Context, collection: Path, checkpoint: Path, out: Path) -> None:
    """Have CHECKPOINT answer everyday prompts.

    Infusion mixes the answers in, so that general ability is not lost.
    """
    from symbol_llm import stages

    track(
        ctx,
        stages.replay,
        "replay",
        collection=collection,
        checkpoint=checkpoint,
        out=out,
        params=parameters(ctx).replay,
    )


@main.command()
@click.argument("section", type=click.Choice(["injection", "infusion", "tune"]))
@click.argument("training_set", type=Existing)
@click.argument("checkpoint", type=Existing)
@click.argument("out", type=Folder)
@click.option("--general", type=Existing, help="Folder with general rows to mix in.")
@click.option("--label", default="", help="Name of the stage's run in MLflow. Default: tune SECTION.")
@click.pass_context
def tune(
    ctx: click.Context, section: str, training_set: Path, checkpoint: Path, out: Path, general: Path | None, label: str
) -> None:
    """Tune CHECKPOINT on TRAINING_SET.

    SECTION names the parameters: those of one of Symbol-LLM's two stages, or of a round (`tune`).
    """
    from symbol_llm import stages

    paths = {"training_set": training_set, "checkpoint": checkpoint, "out": out, "general": general}
    track(ctx, stages.tune, label or f"tune {section}", params=getattr(parameters(ctx), section), **paths)


@main.command()
@click.argument("collection", type=Existing)
@click.argument("checkpoint", type=Existing)
@click.argument("out", type=Folder)
@click.option("--round", "number", default=1, show_default=True, help="Number of the round, starting at 1.")
@click.option(
    "--shard", metavar="I/N", default="1/1", help="Explore part I of N alone; `merge` puts the parts together."
)
@click.pass_context
def explore(ctx: click.Context, collection: Path, checkpoint: Path, out: Path, number: int, shard: str) -> None:
    """Sample programs for training problems and run them.

    The model is shown what became of each, and may repair it once.
    """
    from symbol_llm import stages
    from symbol_llm.ground.shards import Shard

    paths = {"collection": collection, "checkpoint": checkpoint, "out": out}
    part, params = Shard.parse(shard), parameters(ctx).explore_in(number)
    track(ctx, stages.explore, part.label(f"explore round {number}"), params=params, shard=part, **paths)


@main.command()
@click.argument("shards", type=Existing, nargs=-1, required=True)
@click.argument("out", type=Folder)
@click.pass_context
def merge(ctx: click.Context, shards: tuple[Path, ...], out: Path) -> None:
    """Put the SHARDS of an exploration together.

    The folder OUT is then what it would be without shards.
    """
    from symbol_llm import stages

    track(ctx, stages.merge, "merge", shards=shards, out=out)


@main.command()
@click.argument("collection", type=Existing)
@click.argument("explored", type=Existing)
@click.argument("out", type=Folder)
@click.option("--round", "number", default=1, show_default=True, help="Number of the round, starting at 1.")
@click.option("--pool", type=Existing, help="Output of `select` from the previous round.")
@click.pass_context
def select(ctx: click.Context, collection: Path, explored: Path, out: Path, number: int, pool: Path | None) -> None:
    """Filter the explored programs into a pool and a training set."""
    from symbol_llm import stages

    paths = {"collection": collection, "explored": explored, "out": out, "pool": pool}
    track(ctx, stages.select, f"select round {number}", params=parameters(ctx).select, round_=number, **paths)


@main.command()
@click.argument("collection", type=Existing)
@click.argument("checkpoint", type=Existing)
@click.argument("out", type=Folder)
@click.option(
    "--stage",
    default="original",
    show_default=True,
    help="Name of the point on the learning curve; `original` gets worked examples in its prompt.",
)
@click.option("--previous", type=Existing, help="Report of the previous point on the curve.")
@click.option("--selected", type=Existing, help="Output of `select` from this round.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    collection: Path,
    checkpoint: Path,
    out: Path,
    stage: str,
    previous: Path | None,
    selected: Path | None,
) -> None:
    """Measure CHECKPOINT on the dev and test problems of COLLECTION."""
    from symbol_llm import stages

    params = parameters(ctx)
    chosen = params.evaluate_original() if stage == "original" else params.evaluate
    paths = {"collection": collection, "checkpoint": checkpoint, "out": out, "previous": previous, "selected": selected}
    track(ctx, stages.evaluate, f"evaluate {stage}", params=chosen, stage=stage, **paths)


@main.command()
@click.argument("collection", type=Existing)
@click.argument("checkpoint", type=Existing)
@click.argument("out", type=Folder)
@click.option("--source", type=Existing, help="Folder of public data sets with general/mmlu and general/bbh.")
@click.pass_context
def suite(ctx: click.Context, collection: Path, checkpoint: Path, out: Path, source: Path | None) -> None:
    """Measure CHECKPOINT on the suites of the papers.

    These are symbolic-34 and delegation, and general if --source is given. Each suite becomes a table in OUT. It has the tasks for which COLLECTION has test problems, in the order of the paper
    and beside the figures that the paper printed.
    """
    from symbol_llm.evaluation.suites import evaluate_on_suites

    paths = {"collection": collection, "checkpoint": checkpoint, "out": out, "source": source}
    track(ctx, evaluate_on_suites, "suite", params=parameters(ctx).evaluate, **paths)
    if not ctx.obj["json"]:
        for name in sorted(out.glob("*.md")):
            say(f"\n{name.read_text()}")


@main.command()
@click.argument("collection", type=Existing)
@click.argument("out", type=Folder)
@click.argument("checkpoints", type=Existing, nargs=-1, required=True)
@click.pass_context
def spread(ctx: click.Context, collection: Path, out: Path, checkpoints: tuple[Path, ...]) -> None:
    """Measure how CHECKPOINTS represent the notations.

    The alignment and the uniformity of the gold programs of COLLECTION's test problems are written to OUT, for each notation:
    how close its programs lie together, and how evenly they are spread. Lower is closer, and more even.
    """
    from symbol_llm.evaluation.representations import measure_representations

    paths = {"collection": collection, "checkpoints": checkpoints, "out": out}
    track(ctx, measure_representations, "spread", params=parameters(ctx).evaluate, **paths)
    if not ctx.obj["json"]:
        say(f"\n{(out / 'spread.md').read_text()}")


@main.command()
@click.argument("checkpoint", type=Existing)
@click.argument("report", type=Existing)
@click.argument("original", type=Existing)
@click.argument("out", type=Folder)
@click.pass_context
def promote(ctx: click.Context, checkpoint: Path, report: Path, original: Path, out: Path) -> None:
    """Put CHECKPOINT and its REPORT to the promotion gate.

    ORIGINAL is the report on the original model.
    """
    from symbol_llm import stages

    paths = {"checkpoint": checkpoint, "report": report, "original": original, "out": out}
    track(ctx, stages.promote, "promote", params=parameters(ctx).promote, **paths)
