"""Compiles the pipeline, or submits it to a cluster's Kubeflow Pipelines.

python -m pipelines.submit --output self_training.yaml             compile only
python -m pipelines.submit --host http://localhost:8888 --gpus 1   submit
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import click

from pipelines import settings
from symbol_llm.ground.errors import SymbolLLMError, Unavailable
from symbol_llm.ground.params import Parameters


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings.with_profile
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the compiled YAML here and stop."
)
@click.option("--host", help="Address of the Kubeflow Pipelines API, e.g. http://localhost:8888.")
@click.option("--namespace", default="symbol-llm", show_default=True)
@click.option("--experiment", default="symbol-llm", show_default=True)
@click.option("--run-name", default="self-training", show_default=True)
@click.option("--gpus", default=0, show_default=True, help="GPUs for each task that samples or tunes.")
def main(
    file: Path | None,
    profile: str,
    source: Path | str | None,
    overrides: tuple[str, ...],
    output: Path | None,
    host: str | None,
    namespace: str,
    experiment: str,
    run_name: str,
    gpus: int,
) -> None:
    """Compile the self-training pipeline, or submit it to a cluster."""
    try:
        parameters = settings.load(file, profile, source, overrides)
        if output is not None:
            settings.compile_to(parameters, output, gpus)
            click.echo(f"compiled to {output}")
        elif host:
            click.echo(submit(parameters, host, gpus, namespace=namespace, experiment=experiment, run_name=run_name))
        else:
            raise click.UsageError(
                "give --output FILE to compile, or --host ADDRESS to submit; on this machine alone: make run"
            )
    except SymbolLLMError as e:
        click.echo(f"pipelines.submit: {e}", err=True)
        sys.exit(e.exit_code)


def submit(parameters: Parameters, host: str, gpus: int, *, namespace: str, experiment: str, run_name: str) -> str:
    """Submit the pipeline and return the id of its run; Unavailable if no Kubeflow Pipelines answers at `host`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Kubeflow to its own authors
        from kfp.client import Client
    from urllib3.exceptions import HTTPError

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "self_training.yaml"
        settings.compile_to(parameters, package, gpus)
        try:
            client = Client(host=host, namespace=namespace)
            run = client.create_run_from_pipeline_package(
                str(package),
                run_name=run_name,
                experiment_name=experiment,
                namespace=namespace,
                service_account="pipeline-runner",
            )
        except (HTTPError, OSError) as e:
            raise Unavailable(
                f"no Kubeflow Pipelines answers at {host} ({type(e).__name__}); is the address right, "
                "or does it need `kubectl port-forward -n kubeflow svc/ml-pipeline 8888`?"
            ) from e
    return str(run.run_id)


if __name__ == "__main__":
    main()
