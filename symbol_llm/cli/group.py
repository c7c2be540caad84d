"""The group of commands: the options that all share, what becomes of errors, and where results are printed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from symbol_llm import __version__
from symbol_llm.ground.errors import MissingDependency, SymbolLLMError
from symbol_llm.ground.terminal import shown

SUBJECTS = {
    "stages": "Stages of the pipeline",
    "results": "What came of a run",
    "registry": "Registry",
    "judging": "Judging",
    "catalogue": "What there is to choose from",
    "upkeep": "This machine",
}
"""The modules with commands, in the order of `--help`."""


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by subject, in the order in which they are defined, which is that of use."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for module, subject in SUBJECTS.items():
            ours = {
                k: c
                for k, c in self.commands.items()
                if getattr(c.callback, "__module__", "") == f"{__package__}.{module}"
            }
            with formatter.section(subject):
                formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in ours.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from symbol_llm import machine

        machine.warn_if_root()
        try:
            with _quiet_stdout():
                return super().invoke(ctx)
        except SymbolLLMError as e:
            click.echo(f"symbol-llm: {shown(str(e))}", err=True)
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


def say(text: str = "") -> None:
    """Print a result. What would act in the terminal is shown as an escape."""
    click.echo(shown(text), file=_results[-1])


_results: list[Any] = []
"""Where results go, the innermost last."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Turn a weak language model into a strong writer of symbols.

    \b
    Run the whole pipeline:   make run
    Run it stage by stage:    symbol-llm fetch base, symbol-llm collect data, ...
    Judge a program:          symbol-llm judge --task gsm8k --answer 4 FILE
    """  # noqa: D301 - click wants the character that \b stands for


main.params += _shared()


def parameters(ctx: click.Context) -> Any:
    """Return the parameters: the file, with profiles, strategies and single settings laid over it in this order."""
    from symbol_llm.ground import params
    from symbol_llm.training import strategies

    overlays: list[Any] = [params.profile(name) for name in ctx.obj["profile"]]
    overlays += [strategies.overlay(name) for name in ctx.obj["strategy"]]
    return params.load(ctx.obj["params"], overlays=overlays, overrides=ctx.obj["set"])


def track(ctx: click.Context, stage: Any, label: str, /, **arguments: Any) -> None:
    """Run `stage` as a run named `label` in MLflow, and print its numbers."""
    from symbol_llm.tracking import runs

    show(ctx, runs.tracked(stage, label=label, **arguments))


def show(ctx: click.Context, value: Any) -> None:
    """Print a result: as JSON if that was asked for, else a dictionary as lines and a list of dictionaries as a table."""
    if ctx.obj["json"]:
        say(json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False))
    elif isinstance(value, dict):
        width = max((len(k) for k in value), default=0)
        for key, one in value.items():
            say(f"{key:<{width}}  {f'{one:g}' if isinstance(one, float) else one}")
    else:
        shown = [list(value[0]), *([_cell(v) for v in row.values()] for row in value)] if value else []
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for cells in shown:
            say("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
