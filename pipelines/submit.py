"""Compiles the pipeline, or submits it to Kubeflow Pipelines on a cluster.

python -m pipelines.submit --output self_training.yaml             compile only
python -m pipelines.submit --host http://localhost:8888 --gpus 1   submit
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import click

from pipelines import settings
from symbol_llm.ground.errors import SymbolLLMError, Unavailable
from symbol_llm.ground.params import Parameters


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings.with_profile
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Compile the pipeline to this file and stop."
)
@click.option("--host", help="Address of the Kubeflow Pipelines API, e.g. http://localhost:8888.")
@click.option("--namespace", default="symbol-llm", show_default=True, help="Namespace of the run.")
@click.option("--experiment", default="symbol-llm", show_default=True, help="Experiment that the run belongs to.")
@click.option("--run-name", default="self-training", show_default=True, help="Name of the run.")
@click.option("--gpus", default=0, show_default=True, help="Number of GPUs for each task that samples or tunes.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds to wait for each answer of the API.",
)
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
    timeout: float,
) -> None:
    """Compile the self-training pipeline, or submit it to Kubeflow Pipelines."""
    try:
        parameters = settings.load(file, profile, source, overrides)
        if output is not None:
            settings.compile_to(parameters, output, gpus)
            click.echo(f"compiled to {output}")
        elif host:
            place = {"namespace": namespace, "experiment": experiment, "run_name": run_name}
            click.echo(submit(parameters, host, gpus, timeout_s=timeout, **place))
        else:
            raise click.UsageError(
                "give --output FILE to compile, or --host ADDRESS to submit; on this machine alone: make run"
            )
    except SymbolLLMError as e:
        click.echo(f"pipelines.submit: {e}", err=True)
        sys.exit(e.exit_code)


def submit(
    parameters: Parameters,
    host: str,
    gpus: int,
    *,
    namespace: str,
    experiment: str,
    run_name: str,
    timeout_s: float = 60,
) -> str:
    """Submit the pipeline and return the id of its run.

    Unavailable if no Kubeflow Pipelines is at `host`, or it does not answer a request within `timeout_s`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Kubeflow to its own authors
        from kfp.client import Client
    from urllib3.exceptions import HTTPError

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "self_training.yaml"
        settings.compile_to(parameters, package, gpus)
        try:
            client = Client(host=host, namespace=namespace)
            _end_requests_after(timeout_s, client)
            run = client.create_run_from_pipeline_package(
                str(package),
                run_name=run_name,
                experiment_name=experiment,
                namespace=namespace,
                service_account="pipeline-runner",
            )
        except (HTTPError, OSError) as e:
            raise Unavailable(
                f"no Kubeflow Pipelines answers at {host} within {timeout_s:g} s ({type(e).__name__}); is the address right, "
                "or does it need `kubectl port-forward -n kubeflow svc/ml-pipeline 8888`?"
            ) from e
    return str(run.run_id)


def _end_requests_after(timeout_s: float, client: Any) -> None:
    """Have each request of `client` end after `timeout_s`, tried once; as Kubeflow makes it (2.17), it waits for ever."""
    rest = client._run_api.api_client.rest_client
    rest.pool_manager.connection_pool_kw["retries"] = False
    request = rest.request

    def limited(*args: Any, **more: Any) -> Any:
        return request(*args, **{**more, "_request_timeout": (timeout_s, timeout_s)})

    rest.request = limited


if __name__ == "__main__":
    main()
