"""Compiles a pipeline, or submits it to Kubeflow Pipelines on a cluster, once or to be run at set times.

python -m pipelines.submit --output self_training.yaml                            compile only
python -m pipelines.submit --host http://localhost:8888 --placement one-gpu       submit
python -m pipelines.submit --host http://localhost:8888 --cron "0 3 * * 1"        run every Monday at three
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import tempfile
import warnings
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import click

from pipelines import placement as placements
from pipelines import settings
from pipelines.settings import Job
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable

CRON = {5: "0 {}", 6: "{}"}
"""Number of fields, and what Kubeflow is given: its first field are seconds."""
ASKS_WHO = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER)
"""Answers of who wants to know whom it speaks to; some send to a page for that."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@settings.with_profile
@click.option(
    "--pipeline",
    type=click.Choice(settings.PIPELINES),
    default="self_training",
    show_default=True,
    help="What is run.",
)
@click.option(
    "--placement",
    default="laptop",
    show_default=True,
    help=f"Where it is run: {', '.join(placements.names())}, or a YAML file.",
)
@click.option(
    "--checkpoint",
    default="",
    metavar="REFERENCE",
    help="For the pipelines evaluation and promotion: what is measured. Default: the challenger.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Compile the pipeline to this file and stop."
)
@click.option(
    "--output-all",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Compile each pipeline for each shipped placement to this folder and stop.",
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
@click.option(
    "--ca",
    envvar="KF_PIPELINES_CA",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Certificate that signed the API's, where it is not one that everybody trusts.",
)
@click.option("--namespace", default="symbol-llm", show_default=True, help="Namespace of the run.")
@click.option("--experiment", default="symbol-llm", show_default=True, help="Experiment that the run belongs to.")
@click.option("--run-name", default="", help="Name of the run. Default: that of the pipeline.")
@click.option(
    "--cron",
    default="",
    metavar="TIMES",
    help='Run it at these times, as a rule in UTC, instead of now: "0 3 * * 1" is Mondays at three.',
)
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
    pipeline: str,
    placement: str,
    checkpoint: str,
    output: Path | None,
    folder: Path | None,
    host: str | None,
    token: str | None,
    cookie: str | None,
    ca: Path | None,
    namespace: str,
    experiment: str,
    run_name: str,
    cron: str,
    timeout: float,
) -> None:
    """Compile a pipeline, or submit it to Kubeflow Pipelines.

    Options in capitals in the environment: KF_PIPELINES_ENDPOINT, KF_PIPELINES_TOKEN, KF_PIPELINES_COOKIE, KF_PIPELINES_CA. In a
    pod with a projected token, KF_PIPELINES_SA_TOKEN_PATH names its file. Kubeflow's own variables for IAP and its file with a
    cookie or a header (~/.config/kfp/context.json) are read, too.
    """
    try:
        parameters = settings.load(file, profile, strategy, source, overrides)
        times = _times(cron)
        job = Job(parameters, placements.load(placement), pipeline, checkpoint, bool(times))
        if folder is not None:
            for name, where in itertools.product(settings.PIPELINES, placements.names()):
                one = job._replace(pipeline=name, placement=placements.load(where), checkpoint="")
                settings.compile_to(one, folder / f"{name}-{where}.yaml")
            click.echo(f"compiled {len(settings.PIPELINES)} pipelines for {len(placements.names())} places to {folder}")
        elif output is not None:
            settings.compile_to(job, output)
            click.echo(f"compiled to {output}")
        elif host:
            run = Run(run_name or pipeline.replace("_", "-"), experiment, namespace, times)
            click.echo(submit(job, run, host, who=Identity(token, cookie, ca), timeout_s=timeout))
        else:
            raise click.UsageError(
                "give --output FILE to compile, or --host ADDRESS to submit; on this machine alone: make run"
            )
    except SymbolLLMError as e:
        click.echo(f"pipelines.submit: {e}", err=True)
        sys.exit(e.exit_code)


class Identity(NamedTuple):
    """What a multi-user Kubeflow is shown; neither token nor cookie: the token of the service account, where a pod has one."""

    token: str | None = None
    cookie: str | None = None
    ca: Path | None = None
    """What it has to show us: a certificate that this one signed."""

    def given(self) -> dict[str, Any]:
        """Return it as Kubeflow's client takes it."""
        from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        found: dict[str, Any] = {"existing_token": self.token, "cookies": self.cookie}
        path = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH)
        if not (self.token or self.cookie) and Path(path).is_file():
            found["credentials"] = ServiceAccountTokenVolumeCredentials(path)
        found["ssl_ca_cert"] = str(self.ca) if self.ca else None
        return {name: value for name, value in found.items() if value}


class Run(NamedTuple):
    """What Kubeflow is told of a run beside the pipeline."""

    name: str
    experiment: str = "symbol-llm"
    namespace: str = "symbol-llm"
    times: str = ""
    """When it is run, as Kubeflow writes it; empty: once, now."""


def _times(cron: str) -> str:
    """Return the times `cron` as Kubeflow writes them; InvalidInput unless they have five fields, or its six."""
    fields = cron.split()
    if fields and (len(fields) not in CRON or not all(re.fullmatch(r"[\dA-Za-z*?/,-]+", field) for field in fields)):
        raise InvalidInput(f"times {cron!r}: expected minute, hour, day, month and weekday, such as '0 3 * * 1'")
    return CRON[len(fields)].format(" ".join(fields)) if fields else ""


def submit(job: Job, run: Run, host: str, *, who: Identity, timeout_s: float = 60) -> str:
    """Submit the pipeline of `job` and return the id of its run, or of what starts it at set times.

    Unavailable if no Kubeflow Pipelines is at `host`, or it does not answer a request within `timeout_s`; InvalidInput if it
    refuses.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Kubeflow to its own authors
        from kfp.client import Client
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{job.pipeline}.yaml"
        settings.compile_to(job, package)
        try:
            client = Client(host=host, namespace=run.namespace, **who.given())
            _end_requests_after(timeout_s, client)
            return _start(client, str(package), run, job.placement.service_account)
        except ApiException as e:
            raise _refusal(e, host) from e
        except (HTTPError, OSError) as e:
            raise Unavailable(
                f"no Kubeflow Pipelines answers at {host} within {timeout_s:g} s ({type(e).__name__}); is the address right, "
                "or does it need `kubectl port-forward -n kubeflow svc/ml-pipeline 8888`?"
            ) from e


def _start(client: Any, package: str, run: Run, account: str) -> str:
    if not run.times:
        more = {"run_name": run.name, "experiment_name": run.experiment, "namespace": run.namespace}
        return _known(client.create_run_from_pipeline_package(package, service_account=account, **more).run_id)
    experiment = client.create_experiment(run.experiment, namespace=run.namespace)
    recurring = client.create_recurring_run(
        _known(experiment.experiment_id),
        run.name,
        cron_expression=run.times,
        no_catchup=True,  # a round over the data of now takes the place of those that were missed
        pipeline_package_path=package,
        service_account=account,
    )
    return _known(recurring.recurring_run_id)


def _known(identity: str | None) -> str:
    """Return `identity`; InvalidInput if there is none, since Kubeflow's client takes any page for an answer (2.17)."""
    if not identity:
        raise InvalidInput("what answers is no Kubeflow Pipelines; a login page? Give --token or --cookie")
    return identity


def _refusal(e: Any, host: str) -> SymbolLLMError:
    """Return what the API's answer `e` means for who asked, in one line."""
    said = " ".join(str(e.body or "").split())[:200]
    if e.status in ASKS_WHO:
        why = "is a token or a cookie needed (--token, --cookie), or another --namespace?"
        return InvalidInput(f"{host} answers {e.status} {e.reason}: {why} {said}".rstrip())
    kind = Unavailable if e.status is None or e.status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidInput
    return kind(f"{host} answers {e.status} {e.reason}: {said}")


def _end_requests_after(timeout_s: float, client: Any) -> None:
    """Have each request of `client` end after `timeout_s`, tried once; as Kubeflow makes it (2.17), it waits for ever.

    InvalidInput if the other side cannot prove who it is; Kubeflow's client stumbles over that.
    """
    from kfp_server_api.exceptions import ApiException

    rest = client._run_api.api_client.rest_client
    rest.pool_manager.connection_pool_kw["retries"] = False
    request = rest.request

    def limited(*args: Any, **more: Any) -> Any:
        try:
            return request(*args, **{**more, "_request_timeout": (timeout_s, timeout_s)})
        except ApiException as e:
            if e.status:
                raise
            said = " ".join(str(e.reason).split())
            raise InvalidInput(f"no trusted certificate; --ca names the one that signed it: {said}") from e

    rest.request = limited


if __name__ == "__main__":
    main()
