"""The command `symbol-llm`: one sub-command per stage, and judge, families, tasks, rollback, history, doctor.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from symbol_llm import __version__
from symbol_llm.ground.errors import InvalidInput, MissingDependency, SymbolLLMError


class Utf8Path(click.Path):
    """A path whose name is UTF-8, since it is written into reports and manifests."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a name in another encoding, or none, is refused."""
        found = super().convert(value, param, ctx)
        try:
            str(found).encode()
        except UnicodeEncodeError:
            self.fail(f"path {os.fsencode(found)!r} is not UTF-8", param, ctx)
        if not str(value):
            self.fail("an empty path; name a folder", param, ctx)
        return found


Folder = Utf8Path(path_type=Path, file_okay=False)
Existing = Utf8Path(path_type=Path, exists=True)


class Source(Utf8Path):
    """A folder that exists, or a reference to the hub, which is asked later."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the reference as it is."""
        return value if str(value).startswith("hf:") else super().convert(value, param, ctx)


def _note(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Put what a command was given of the options that all commands share behind what the program itself was given."""
    ctx.ensure_object(dict)
    for name, empty in (("params", None), ("profile", ()), ("strategy", ()), ("set", ()), ("json", False)):
        ctx.obj.setdefault(name, empty)
    if not value:
        return
    key = str(parameter.name)
    ctx.obj[key] = ctx.obj[key] + value if isinstance(value, tuple) else value


def _shared() -> list[click.Option]:
    """Return the options that stand before or behind any command."""
    return [
        click.Option(
            ["--params"],
            type=Utf8Path(path_type=Path),
            expose_value=False,
            callback=_note,
            help="Parameter file. Default: params.yaml in the working folder, or the one in the package.",
        ),
        click.Option(
            ["--profile"],
            multiple=True,
            metavar="NAME|FILE",
            expose_value=False,
            callback=_note,
            help="Profile of the package, or YAML file, laid over the parameters. Repeatable.",
        ),
        click.Option(
            ["--strategy"],
            multiple=True,
            metavar="NAME",
            expose_value=False,
            callback=_note,
            help="Method of self-training laid over the profiles; see `symbol-llm strategies`.",
        ),
        click.Option(
            ["--set"],
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            expose_value=False,
            callback=_note,
            help="Set one parameter. Repeatable.",
        ),
        click.Option(["--json"], is_flag=True, expose_value=False, callback=_note, help="Print the result as JSON."),
    ]


class Command(click.Command):
    """A command whose help is a result, and goes where results go."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; `--help` prints and ends here."""
        with contextlib.redirect_stdout(_results[-1] if _results else sys.stdout):
            return super().parse_args(ctx, args)


class Commands(click.Group):
    """A group whose commands share options and end with our errors as one line and their exit code, never a traceback."""

    command_class = Command

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command and give it the options that all share."""
        cmd.params += _shared()
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from symbol_llm import machine

        machine.warn_if_root()
        try:
            with _quiet_stdout():
                return super().invoke(ctx)
        except SymbolLLMError as e:
            click.echo(f"symbol-llm: {e}", err=True)
            ctx.exit(e.exit_code)
        except ModuleNotFoundError as e:
            if (missing := machine.missing(e.name or "")) is None:
                raise
            click.echo(f"symbol-llm: {missing}", err=True)
            ctx.exit(MissingDependency.exit_code)
        except KeyboardInterrupt:
            click.echo("symbol-llm: stopped; the same command goes on from here", err=True)
            ctx.exit(130)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep standard output for results: what libraries print there goes to standard error for the block."""
    results: Any = sys.stdout
    real: Any = sys.__stdout__
    with contextlib.ExitStack() as stack:
        if results is real:  # a real stream, which libraries in C reach by its number
            results.flush()
            own = stack.enter_context(os.fdopen(os.dup(1), "w", encoding=results.encoding, errors=results.errors))
            terminal = os.dup(1)
            stack.callback(os.close, terminal)
            stack.callback(os.dup2, terminal, 1)
            os.dup2(2, 1)
            results = own
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        _results.append(results)
        stack.callback(_results.pop)
        yield


def _print(text: str = "") -> None:
    """Print a result."""
    click.echo(text, file=_results[-1])


_results: list[Any] = []
"""Where results go, the innermost last."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Turn a weak language model into a strong writer of symbols.

    \b
    Run the whole pipeline:      make run
    Run it stage by stage:       symbol-llm fetch base; symbol-llm collect data/collection; ...
    Judge a program:             symbol-llm judge --task word_problems --answer 4 program.txt
    """  # noqa: D301 - click wants the character that \b stands for


main.params += _shared()


def _params(ctx: click.Context) -> Any:
    from symbol_llm.ground import params
    from symbol_llm.training import strategies

    overlays: list[Any] = [params.profile(name) for name in ctx.obj["profile"]]
    overlays += [strategies.overlay(name) for name in ctx.obj["strategy"]]
    return params.load(ctx.obj["params"], overlays=overlays, overrides=ctx.obj["set"])


def _stage(ctx: click.Context, stage: Any, label: str, /, **arguments: Any) -> None:
    from symbol_llm.tracking import runs

    _show(ctx, runs.tracked(stage, label=label, **arguments))


def _show(ctx: click.Context, value: Any) -> None:
    if ctx.obj["json"]:
        _print(json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False))
    elif isinstance(value, dict):
        width = max((len(k) for k in value), default=0)
        for key, one in value.items():
            _print(f"{key:<{width}}  {f'{one:g}' if isinstance(one, float) else one}")
    else:
        shown = [list(value[0]), *([_cell(v) for v in row.values()] for row in value)] if value else []
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for cells in shown:
            _print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


@main.command()
@click.argument("out", type=Folder)
@click.pass_context
def fetch(ctx: click.Context, out: Path) -> None:
    """Fetch the weights of the base model into the folder OUT."""
    from symbol_llm import stages

    _stage(ctx, stages.fetch, "fetch", out=out, model=_params(ctx).model)


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
    params = _params(ctx).collect.model_copy(update={key: one for key, one in given.items() if one is not None})
    _stage(ctx, stages.collect, "collect", out=out, params=params)


@main.command()
@click.argument("collection", type=Existing)
@click.argument("out", type=Folder)
@click.option("--k", default=4, show_default=True, type=click.IntRange(1), help="Replies per problem.")
@click.option("--shots", default=4, show_default=True, type=click.IntRange(0), help="Worked examples in the prompt.")
@click.option("--temperature", default=0.7, show_default=True, type=click.FloatRange(0), help="Sampling temperature.")
@click.option("--max-tokens", default=512, show_default=True, type=click.IntRange(1), help="Longest reply in tokens.")
@click.pass_context
def write(ctx: click.Context, /, collection: Path, out: Path, **asked: Any) -> None:
    """Have a stronger model write programs for training problems that have none.

    Programs that the verifier accepts are written to OUT. The model is the one behind OPENAI_BASE_URL. To use the
    programs, build the collection again with --set collect.written=OUT.
    """
    from symbol_llm.collection.write import write as ask
    from symbol_llm.ground.params import Write

    _stage(ctx, ask, "write", collection=collection, out=out, params=Write(**asked))


@main.command()
@click.argument("collection", type=Existing)
@click.argument("checkpoint", type=Existing)
@click.argument("out", type=Folder)
@click.pass_context
def replay(ctx: click.Context, collection: Path, checkpoint: Path, out: Path) -> None:
    """Have CHECKPOINT answer everyday prompts, which infusion mixes in."""
    from symbol_llm import stages

    _stage(
        ctx, stages.replay, "replay", collection=collection, checkpoint=checkpoint, out=out, params=_params(ctx).replay
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
    """Tune CHECKPOINT on TRAINING_SET with the parameters of SECTION."""
    from symbol_llm import stages

    paths = {"training_set": training_set, "checkpoint": checkpoint, "out": out, "general": general}
    _stage(ctx, stages.tune, label or f"tune {section}", params=getattr(_params(ctx), section), **paths)


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
    """Sample programs for the training problems, run them, and let the model repair each once."""
    from symbol_llm import stages
    from symbol_llm.ground.shards import Shard

    paths = {"collection": collection, "checkpoint": checkpoint, "out": out}
    part, params = Shard.parse(shard), _params(ctx).explore_in(number)
    _stage(ctx, stages.explore, part.label(f"explore round {number}"), params=params, shard=part, **paths)


@main.command()
@click.argument("shards", type=Existing, nargs=-1, required=True)
@click.argument("out", type=Folder)
@click.pass_context
def merge(ctx: click.Context, shards: tuple[Path, ...], out: Path) -> None:
    """Put the SHARDS of one exploration together in the folder OUT, as if it had been one."""
    from symbol_llm import stages

    _stage(ctx, stages.merge, "merge", shards=shards, out=out)


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
    _stage(ctx, stages.select, f"select round {number}", params=_params(ctx).select, round_=number, **paths)


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

    params = _params(ctx)
    chosen = params.evaluate_original() if stage == "original" else params.evaluate
    paths = {"collection": collection, "checkpoint": checkpoint, "out": out, "previous": previous, "selected": selected}
    _stage(ctx, stages.evaluate, f"evaluate {stage}", params=chosen, stage=stage, **paths)


@main.command()
@click.argument("collection", type=Existing)
@click.argument("checkpoint", type=Existing)
@click.argument("out", type=Folder)
@click.option("--source", type=Existing, help="Folder of public data sets with general/mmlu and general/bbh.")
@click.pass_context
def suite(ctx: click.Context, collection: Path, checkpoint: Path, out: Path, source: Path | None) -> None:
    """Evaluate CHECKPOINT on the suites symbolic-34 and delegation, and on general if --source is given.

    Each suite becomes a table in OUT. It has the tasks for which COLLECTION has test problems, in the order of the paper
    and beside the figures that the paper printed.
    """
    from symbol_llm.evaluation.suites import evaluate_on_suites

    paths = {"collection": collection, "checkpoint": checkpoint, "out": out, "source": source}
    _stage(ctx, evaluate_on_suites, "suite", params=_params(ctx).evaluate, **paths)
    if not ctx.obj["json"]:
        for name in sorted(out.glob("*.md")):
            _print(f"\n{name.read_text()}")


@main.command()
@click.argument("checkpoint", type=Existing)
@click.argument("report", type=Existing)
@click.argument("original", type=Existing)
@click.argument("out", type=Folder)
@click.pass_context
def promote(ctx: click.Context, checkpoint: Path, report: Path, original: Path, out: Path) -> None:
    """Put CHECKPOINT and its REPORT to the promotion gate. ORIGINAL is the report on the original model."""
    from symbol_llm import stages

    paths = {"checkpoint": checkpoint, "report": report, "original": original, "out": out}
    _stage(ctx, stages.promote, "promote", params=_params(ctx).promote, **paths)


@main.command()
@click.option("--to", metavar="VERSION", help="A version that was champion once. Default: the previous champion.")
@click.pass_context
def rollback(ctx: click.Context, to: str | None) -> None:
    """Make the previous champion the champion again."""
    from symbol_llm.tracking import registry

    _show(ctx, registry.rollback(_params(ctx).promote.name, to)._asdict())


@main.command()
@click.pass_context
def history(ctx: click.Context) -> None:
    """List promotions, refusals and rollbacks of all models in the registry, oldest first.

    What a killed promotion or rollback left half done is finished.
    """
    from symbol_llm.tracking import registry

    _show(ctx, registry.history())


@main.command()
@click.argument("version")
@click.argument("key", type=Existing)
@click.pass_context
def sign(ctx: click.Context, version: str, key: Path) -> None:
    """Sign VERSION, a number or an alias such as `champion`, with the private KEY, a PEM file.

    For versions that were promoted without a key, and when the key changes: a version has one signature.
    """
    from symbol_llm.tracking import registry, signing

    name = _params(ctx).promote.name
    found = registry.by_either(name, version)
    registry.keep_signature(name, found.number, signing.signer(key)(registry.fetch(found.source, found.digest)))
    _show(ctx, {"signed": f"version {found.number}", "sha256": found.digest})


@main.command()
@click.argument("version")
@click.argument("out", type=Folder)
@click.option(
    "--verify-key", type=Existing, help="Refuse a version that is not signed by the owner of this public key."
)
@click.pass_context
def export(ctx: click.Context, version: str, out: Path, verify_key: Path | None) -> None:
    """Write VERSION, a number or an alias such as `champion`, to the folder OUT, with a model card.

    transformers, `vllm serve` and other programs that read the hub's format load the folder as it is.
    """
    from symbol_llm.tracking.export import export as write_out

    _show(ctx, write_out(_params(ctx).promote.name, version, out, verify_key))


@main.command()
@click.argument("program", type=click.File(encoding="utf-8", errors="replace"), default="-")
@click.option("--task", help="Task that the program solves; see `symbol-llm tasks`.")
@click.option("--family", help="Notation of the program, in place of a task; see `symbol-llm families`.")
@click.option("--answer", help="Value that a right program gives, as JSON (a bare word is taken as text), or @FILE.")
@click.option("--gold", help="A right program, for notations that compare programs, or @FILE.")
@click.option("--question", default="", help="The question that was asked.")
@click.option("--context", default="", help="Schema, theory or similar shown with the question.")
@click.option(
    "--environment",
    default="{}",
    help='JSON object with what the program needs to run, e.g. {"database": "shop.sqlite"}.',
)
@click.option("--reply", is_flag=True, help="PROGRAM is a model's reply: the program in it is looked for.")
@click.option("--rows", type=Existing, help="JSON Lines file with a reply per line; all are judged at once.")
@click.option("--out", type=Utf8Path(path_type=Path, dir_okay=False), help="File for the verdicts of --rows.")
@click.pass_context
def judge(
    ctx: click.Context,
    /,
    program: Any,
    reply: bool,
    rows: Path | None,
    out: Path | None,
    environment: str,
    **asked: Any,
) -> None:
    """Judge PROGRAM, a file or standard input, with the verifier that training uses; or all rows of a file.

    \b
    symbol-llm judge --task gsm8k --answer 4 program.txt
    symbol-llm judge --rows replies.jsonl --out verdicts.jsonl
    {"task": "gsm8k", "question": "...", "answer": 4, "reply": "answer = 2 + 2"}     a line of replies.jsonl

    In a `reply`, the program is looked for between prose and fences; `"program": ...` in its place is judged as it is.

    The exit code is 0 if the program was accepted, 1 if it was not, and 3 if it could not be judged. With --rows it is 0 if
    all replies could be judged, otherwise 3.
    """  # noqa: D301 - click wants the character that \b stands for
    from symbol_llm.ground.params import Limits
    from symbol_llm.judging import verify
    from symbol_llm.judging.rows import Asked

    if rows is not None:
        if reply:
            raise InvalidInput("--reply is about one text; a row says itself which it is, by `reply` or `program`")
        _judge_rows(ctx, rows, out)
    if out is not None:
        raise InvalidInput("--out goes with --rows; one verdict is printed")
    needs = _json(environment)
    if not isinstance(needs, dict):
        raise InvalidInput(f"environment {environment!r}: expected a JSON object")
    answer, gold = (_text_or_file(asked.pop(name)) for name in ("answer", "gold"))
    given = None if answer is None else _json(answer, bare=True)
    problem = Asked(**asked, answer=given, gold=gold, environment=needs).as_problem()
    verdict = verify.judge(problem, program.read(), Limits(), is_program=not reply)
    _show(ctx, {k: v for k, v in verdict.model_dump().items() if k not in ("candidate", "problem")})
    ctx.exit({"accepted": 0, "unscored": 3}.get(verdict.status, 1))


def _judge_rows(ctx: click.Context, rows: Path, out: Path | None) -> NoReturn:
    """Judge a file of replies, show how many of each task came out how, and end."""
    from symbol_llm.ground import files, outputs
    from symbol_llm.ground.params import Limits
    from symbol_llm.judging.rows import judge_rows, summary

    if out is not None:
        outputs.refuse_file(out, lambda text: b'"verifier"' in text.partition(b"\n")[0])
    found = list(judge_rows(rows, Limits()))
    if out is not None:
        files.write_records(out, (verdict for _, verdict in found))
    _show(ctx, summary(found))
    ctx.exit(3 if any(verdict.status == "unscored" for _, verdict in found) else 0)
    raise AssertionError("exit does not return")


def _text_or_file(value: str | None) -> str | None:
    """Return `value`, or the text of the file it names after an @."""
    from symbol_llm.ground import files

    return files.read_text(Path(value[1:])) if value and value.startswith("@") else value


def _json(text: str, *, bare: bool = False) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        if bare:
            return text
        raise InvalidInput(f"{text!r}: not JSON, {e.msg} at column {e.colno}") from e


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
    _show(ctx, rows)


@main.command()
@click.argument("name", metavar="ID")
@click.argument("folders", nargs=-1, type=Existing)
@click.pass_context
def why(ctx: click.Context, name: str, folders: tuple[Path, ...]) -> None:
    """Tell what became of a problem: each try and its verdict, the rows it became, the checkpoints that learnt from them.

    ID is of a problem, a candidate or a training row; its first 6 characters are enough. FOLDERS are where stages wrote:
    by default the state of runs, and `data`.
    """
    from symbol_llm.evaluation import why as history
    from symbol_llm.ground import outputs

    places = folders or tuple(p for p in (outputs.state_path(), Path("data")) if p.is_dir())
    story = history.why(name, history.outputs_in(places))
    _show(ctx, story.model_dump(mode="json")) if ctx.obj["json"] else _print(history.in_words(story))


@main.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("folders", nargs=-1, type=Existing)
def explorer(out: Path, folders: tuple[Path, ...]) -> None:
    """Write OUT, a page on which all explored problems of a run can be searched: each try, its verdict, what it gave.

    FOLDERS are where stages wrote: by default the state of runs, and `data`.
    """
    from symbol_llm.evaluation import explorer as pages
    from symbol_llm.evaluation.why import outputs_in
    from symbol_llm.ground import files, outputs

    outputs.refuse_file(out, lambda text: text.startswith(b"<!doctype html>") and b"<title>Explored</title>" in text)
    places = folders or tuple(p for p in (outputs.state_path(), Path("data")) if p.is_dir())
    files.write_text(out, pages.page(outputs_in(places)))
    _print(f"open {out}")


@main.command()
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the curves to this file."
)
@click.pass_context
def compare(ctx: click.Context, runs: tuple[str, ...], out: Path | None) -> None:
    """Compare RUNS with the first of them on the test problems that they share.

    A run is a report.json, a folder that has one, the folder of a finished run (runs/default), or the id of a pipeline's run
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
        _show(ctx, [row.model_dump(mode="json") for row in rows])
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
        _show(ctx, shown)
    if out is not None:
        files.write_text(out, comparing.page(found))
        if not ctx.obj["json"]:
            _print(f"open {out}")


@main.command()
@click.pass_context
def strategies(ctx: click.Context) -> None:
    """List the methods of self-training that --strategy takes, and what each is."""
    from symbol_llm.training.strategies import STRATEGIES

    _show(ctx, [{"strategy": k, "source": s.source or None, "about": s.about} for k, s in STRATEGIES.items()])


@main.command()
@click.option("--family", help="Only this notation. Default: all.")
@click.option("--source", type=Existing, help="Folder of public data sets. Default: generated problems.")
@click.option("--per-task", default=100, show_default=True, type=click.IntRange(1), help="Gold programs per data set.")
@click.option("--refused", is_flag=True, help="List the gold programs that were refused, with reasons.")
@click.pass_context
def selftest(ctx: click.Context, family: str | None, source: Path | None, per_task: int, refused: bool) -> None:
    """Judge gold programs, which must be accepted, and near misses of them, which must not.

    The exit code is 0 if every data set has at least 99 % of its gold accepted and every notation refuses at least 97 % of
    the near misses and accepts at least 98 % of its listed equivalents; otherwise it is 1.
    """
    import logging

    from symbol_llm.ground.params import Limits
    from symbol_llm.judging.selftest import selftest as judge_all

    logger = logging.getLogger("symbol_llm.judging.verify")
    before = logger.level
    logger.setLevel(logging.ERROR)  # what is unscored stands in the table
    try:
        found = judge_all(family, source, per_task, Limits(timeout_s=20))
    finally:
        logger.setLevel(before)
    if ctx.obj["json"]:
        _show(ctx, found.model_dump())
    else:
        _show(ctx, [row.model_dump() for row in found.rows])
        if refused and found.refused:
            _print()
            _show(ctx, [row.model_dump() for row in found.refused])
        elif found.refused:
            _print(f"{len(found.refused)} gold programs were refused; --refused lists them")
    ctx.exit(0 if found.passed() else 1)


@main.command()
@click.pass_context
def tasks(ctx: click.Context) -> None:
    """List the tasks with their number among Symbol-LLM's 34, notation, domain, source and licence."""
    from symbol_llm import tasks as known

    domain = known.domain_of()
    _show(
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
@click.argument("kind", type=click.Choice(["family", "task"]))
@click.argument("name")
@click.option("--folder", type=Folder, default=Path(), help="Where to create the folder of the package. Default: here.")
@click.pass_context
def new(ctx: click.Context, kind: Any, name: str, folder: Path) -> None:
    """Create a package that adds the notation (family) or task NAME.

    The package works as it is and has tests. Change it and install it with `pip install ./NAME`; nothing in symbol-llm
    needs to be edited.
    """
    from symbol_llm import scaffold

    _show(ctx, [{"file": str(file)} for file in scaffold.create(kind, name, folder)])


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
        _show(ctx, {"removed": ours, "left": left})
    else:
        _print(f"{len(ours)} removed")
        _print("\n".join(f"left, not known to be ours: {place}" for place in left) or "nothing else is there")


@main.command()
@click.option(
    "--cluster", is_flag=True, help="Ask the cluster of kubectl's context instead; see docs/guides/kubernetes.md."
)
@click.option("--placement", default="laptop", show_default=True, help="What the cluster has to have room for.")
@click.pass_context
def doctor(ctx: click.Context, cluster: bool, placement: str) -> None:
    """Report what this machine has and lacks: engine, cores, memory, GPU, versions, sandbox; or what a cluster does."""
    from symbol_llm import machine

    if cluster:
        code, said = machine.preflight("--placement", placement, *(["--json"] if ctx.obj["json"] else []))
        _print(said)
        ctx.exit(code)
    found = machine.inspect()
    _show(ctx, found)
    if not ctx.obj["json"]:
        for line in machine.advice(found):
            _print(line)


if __name__ == "__main__":
    sys.exit(main())
