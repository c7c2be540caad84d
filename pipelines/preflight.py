"""Asks a cluster, before a pipeline runs there, whether it has what a placement needs. Changes nothing: pods are dry runs.

python -m pipelines.preflight --placement one-gpu                   as whoever kubectl is
python -m pipelines.preflight --placement one-gpu --host ADDRESS    Kubeflow Pipelines too

Each check (`checks/`) is one line, and a remedy where it failed; the exit code is 1 if one did. What cannot be seen from here
(names of the cluster's own network from outside it, nodes without the right to list them) is said to be unchecked, and is no
failure. Whether network policies are enforced is tried by the first task of a run. Nothing here knows how pipelines are built.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from components.tune_on_nodes import trainjob
from pipelines import placement as placements
from pipelines.checks import objects, pods, services, storage
from pipelines.checks.probe import IN_CLUSTER, Finding, Unseen, View, look
from pipelines.placement import Placement
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError

KUBERNETES = (1, 30)
SIGNS = {"passed": "✔", "failed": "✘", "unchecked": "–"}
CHECKS: Mapping[str, Callable[[View], Iterator[Finding]]] = {
    "apis": objects.apis,
    "rights": objects.account,
    "pods": pods.tasks,
    "settings": objects.settings,
    "state": storage.state,
    "quota": pods.quota,
    "accelerators": pods.accelerators,
    "train job": pods.train_job,
    "queue": objects.queue,
    "queue of pods": pods.queued,
    "addresses": services.addresses,
    "network policies": services.isolation,
    "mlflow": services.mlflow,
    "pipelines": services.pipelines,
    "data repository": services.data_repository,
}


def check(view: View) -> Iterator[Finding]:
    """Yield the findings of all checks; of none but the first if the cluster does not answer."""
    from kubernetes import client

    try:
        found = look(client.VersionApi(view.api).get_code)
    except (Unseen, InvalidInput) as e:
        yield Finding("cluster", "failed", str(e), "check KUBECONFIG, its context, and that you are logged in")
        return
    version = int(found.major), int(found.minor.rstrip("+"))
    is_new = version >= KUBERNETES
    remedy = "" if is_new else f"Kubernetes {'.'.join(map(str, KUBERNETES))} or newer is needed"
    yield Finding("cluster", "passed" if is_new else "failed", f"Kubernetes {found.git_version}", remedy)
    for name, one in CHECKS.items():
        try:
            yield from one(view)
        except Unseen as e:
            yield Finding(name, "unchecked", str(e))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--placement", default="laptop", show_default=True, help=f"{', '.join(placements.names())}, a YAML file, or JSON."
)
@click.option(
    "--namespace", default="", help="Namespace of the runs. Default: that of kubectl's context, or of this pod."
)
@click.option("--mlflow", default="", help="Address of MLflow from here, e.g. http://localhost:5000.")
@click.option("--host", envvar="KF_PIPELINES_ENDPOINT", default="", help="Address of Kubeflow Pipelines from here.")
@click.option("--token", envvar="KF_PIPELINES_TOKEN", default="", help="Bearer token for Kubeflow Pipelines.")
@click.option("--cookie", envvar="KF_PIPELINES_COOKIE", default="", help="Session cookie for it instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def main(placement: str, namespace: str, mlflow: str, host: str, token: str, cookie: str, as_json: bool) -> None:
    """Check that the cluster has what pipelines with this placement need; exit 1 if anything is amiss."""
    try:
        wanted = _placement(placement)
        api, there = trainjob.here()
    except SymbolLLMError as e:
        click.echo(f"pipelines.preflight: {e}", err=True)
        sys.exit(e.exit_code)
    space = namespace or there
    view = View(wanted, space, api, _as_account(api, space, wanted.service_account), mlflow, host, token, cookie)
    found = list(check(view))
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found], indent=2, ensure_ascii=False))
    else:
        for one in found:
            click.echo(f"{SIGNS[one.state]} {one.check}: {one.said}" + (f"\n  → {one.remedy}" if one.remedy else ""))
    sys.exit(int(any(one.state == "failed" for one in found)))


def _placement(given: str) -> Placement:
    """Return the placement that `given` is in JSON, or names."""
    from pydantic import ValidationError

    from symbol_llm.ground.files import explain

    if not given.lstrip().startswith("{"):
        return placements.load(given)
    try:
        return Placement.model_validate_json(given)
    except ValidationError as e:
        raise InvalidInput(f"--placement: {explain(e, 'placement')}") from e


def _as_account(api: Any, namespace: str, account: str) -> Any:
    """Return a client that asks as the account of a run; in a pod, as the pod's own."""
    from kubernetes import client

    if IN_CLUSTER in os.environ:
        return api
    made = client.ApiClient(api.configuration)
    made.set_default_header("Impersonate-User", f"system:serviceaccount:{namespace}:{account}")
    return made


if __name__ == "__main__":
    main()
