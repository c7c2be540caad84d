"""What `submit` and `local` share: profiles, the hashes that keep Kubeflow's cache honest, compiling."""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from symbol_llm.cli import Source
from symbol_llm.ground import files, outputs, params, provenance
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Parameters
from symbol_llm.training import strategies
from symbol_llm.training.strategies import STRATEGIES

if TYPE_CHECKING:
    from pipelines.placement import Placement

PIPELINES = ("self_training", "tuning", "evaluation", "promotion")
"""Modules of this package, each with a `build`."""
OF_A_CHECKPOINT = ("evaluation", "promotion")
"""Those that are about one checkpoint."""
COMPILED = b"# PIPELINE DEFINITION"
"""How each file that Kubeflow's compiler writes begins."""

profile_options = [
    click.option(
        "--params",
        "file",
        type=click.Path(path_type=Path),
        help="Parameter file. Default: params.yaml.",
    ),
    click.option(
        "--profile",
        default="",
        help=f"Profile laid over the parameters: {', '.join(params.profiles())}, or a YAML file.",
    ),
    click.option(
        "--strategy",
        default="",
        help=f"Method of self-training laid over the profile: {', '.join(STRATEGIES)}.",
    ),
    click.option(
        "--source",
        type=Source(path_type=Path, exists=True),
        help="Folder of public data sets, file of rows, or hf://datasets/org/name@revision.",
    ),
    click.option(
        "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Set one parameter. Repeatable."
    ),
]


def with_profile(command: Any) -> Any:
    """Add the options that choose parameters to a click command."""
    for option in reversed(profile_options):
        command = option(command)
    return command


def load(
    file: Path | None, profile: str, strategy: str, source: Path | str | None, overrides: tuple[str, ...]
) -> Parameters:
    """Return the parameters of `file` under the profile, the strategy, the source and the overrides."""
    given = list(overrides)
    if source is not None:
        place = source.absolute() if isinstance(source, Path) else source
        given.append(f"collect.source={json.dumps(str(place))}")
    overlays: list[Path | dict[str, Any]] = [params.profile(profile)] if profile else []
    if strategy:
        overlays.append(strategies.overlay(strategy))
    return params.load(file, overlays=overlays, overrides=given)


def cache_environment(parameters: Parameters) -> dict[str, str]:
    """Return variables that change when code, packages or source data do: Kubeflow's cache sees names of files, not what is in them.

    Of a data set repository it sees the reference alone, which should name a commit.
    """
    found = {"SYMBOL_LLM_CODE": provenance.identity()}
    if isinstance(parameters.collect.source, Path):
        found["SYMBOL_LLM_SOURCE"] = files.hash_path(parameters.collect.source)[:16]
    return found


class Job(NamedTuple):
    """What is to be compiled: which pipeline, with which parameters, for where."""

    parameters: Parameters
    placement: Placement
    pipeline: str = "self_training"
    checkpoint: str = ""
    """Reference, for a pipeline about one checkpoint."""
    recurs: bool = False


def compile_to(job: Job, path: Path) -> None:
    """Write the pipeline of `job` as Kubeflow's YAML to `path`, in place of nothing but a compiled pipeline."""
    from kfp import compiler

    from pipelines.place import Place

    if path.absolute().is_relative_to(outputs.state_path()):
        outputs.state_dir()  # made before anything is in it, so that it is known as ours
    outputs.refuse_file(path, lambda text: text.startswith(COMPILED))
    if job.checkpoint and job.pipeline not in OF_A_CHECKPOINT:
        raise InvalidInput(
            f"pipeline {job.pipeline!r} is about no single checkpoint; {' and '.join(OF_A_CHECKPOINT)} are"
        )
    place = Place(cache_environment(job.parameters), job.placement, job.recurs)
    build = importlib.import_module(f"pipelines.{job.pipeline}").build
    pipeline = build(job.parameters, place, *filter(None, [job.checkpoint]))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(made))
        files.write_text(path, made.read_text())
