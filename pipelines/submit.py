"""Compiles the pipeline, or submits it to Kubeflow Pipelines on a cluster.

python -m pipelines.submit --output self_training.yaml             compile only
python -m pipelines.submit --host http://localhost:8888 --gpus 1   submit
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import click

from pipelines import settings
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable
from symbol_llm.ground.params import Parameters


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings.with_profile
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Compile the pipeline to this file and stop."
)
@click.option(
    "--host", envvar="KF_PIPELINES_ENDPOINT", help="Address of the Kubeflow Pipelines API, e.g. http://localhost:8888."
)
@click.option(
    "--token",
    envvar="KF_PIPELINES_TOKEN",
    help="Bearer token of a multi-user Kubeflow. Default: the service account's.",
)
@click.option(
    "--cookie", envvar="KF_PIPELINES_COOKIE", help="Session cookie instead, as Dex gives it: authservice_session=..."
)
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
    strategy: str,
    source: Path | str | None,
    overrides: tuple[str, ...],
    output: Path | None,
    host: str | None,
    token: str | None,
    cookie: str | None,
    namespace: str,
    experiment: str,
    run_name: str,
    gpus: int,
    timeout: float,
) -> None:
    """Compile the self-training pipeline, or submit it to Kubeflow Pipelines.

    Options in capitals in the environment: KF_PIPELINES_ENDPOINT, KF_PIPELINES_TOKEN, KF_PIPELINES_COOKIE. In a pod with a
    projected token, KF_PIPELINES_SA_TOKEN_PATH names its file. Kubeflow's own variables for IAP are read, too.
    """
    try:
        parameters = settings.load(file, profile, strategy, source, overrides)
        if output is not None:
            settings.compile_to(parameters, output, gpus)
            click.echo(f"compiled to {output}")
        elif host:
            place = {"namespace": namespace, "experiment": experiment, "run_name": run_name}
            who = Identity(token, cookie)
            click.echo(submit(parameters, host, gpus, who=who, timeout_s=timeout, **place))
        else:
            raise click.UsageError(
                "give --output FILE to compile, or --host ADDRESS to submit; on this machine alone: make run"
            )
    except SymbolLLMError as e:
        click.echo(f"pipelines.submit: {e}", err=True)
        sys.exit(e.exit_code)


class Identity(NamedTuple):
    """What a multi-user Kubeflow is shown; neither: the token of the service account, where a pod has one."""

    token: str | None = None
    cookie: str | None = None

    def given(self) -> dict[str, Any]:
        """Return it as Kubeflow's client takes it."""
        from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        found: dict[str, Any] = {"existing_token": self.token, "cookies": self.cookie}
        path = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH)
        if not (self.token or self.cookie) and Path(path).is_file():
            found["credentials"] = ServiceAccountTokenVolumeCredentials(path)
        return {name: value for name, value in found.items() if value}


def submit(
    parameters: Parameters,
    host: str,
    gpus: int,
    *,
    who: Identity,
    namespace: str,
    experiment: str,
    run_name: str,
    timeout_s: float = 60,
) -> str:
    """Submit the pipeline and return the id of its run.

    Unavailable if no Kubeflow Pipelines is at `host`, or it does not answer a request within `timeout_s`; InvalidInput if it
    refuses.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Kubeflow to its own authors
        from kfp.client import Client
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "self_training.yaml"
        settings.compile_to(parameters, package, gpus)
        try:
            client = Client(host=host, namespace=namespace, **who.given())
            _end_requests_after(timeout_s, client)
            run = client.create_run_from_pipeline_package(
                str(package),
                run_name=run_name,
                experiment_name=experiment,
                namespace=namespace,
                service_account="pipeline-runner",
            )
        except ApiException as e:
            raise _refusal(e, host) from e
        except (HTTPError, OSError) as e:
            raise Unavailable(
                f"no Kubeflow Pipelines answers at {host} within {timeout_s:g} s ({type(e).__name__}); is the address right, "
                "or does it need `kubectl port-forward -n kubeflow svc/ml-pipeline 8888`?"
            ) from e
    return str(run.run_id)


def _refusal(e: Any, host: str) -> SymbolLLMError:
    """Return what the API's answer `e` means for who asked, in one line."""
    said = " ".join(str(e.body or "").split())[:200]
    if e.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        why = "is a token or a cookie needed (--token, --cookie), or another --namespace?"
        return InvalidInput(f"{host} answers {e.status} {e.reason}: {why} {said}".rstrip())
    kind = Unavailable if e.status is None or e.status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidInput
    return kind(f"{host} answers {e.status} {e.reason}: {said}")


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
