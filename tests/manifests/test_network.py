"""Who may connect to whom, by the policies of each overlay: what a role needs, which is listed here, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from manifests.network import OUTSIDE, Peer, allows
from manifests.resources import KUBEFLOW_TASK, NAMESPACE, Pod, Resource, name_of, pods, render
from pipelines.checks import services
from tests.manifests.conftest import OVERLAYS, needs_kubectl

pytestmark = needs_kubectl
MLFLOW, DATABASE, STORE = "Deployment/mlflow", "StatefulSet/mlflow-db", "StatefulSet/object-store"
TASK = KUBEFLOW_TASK.owner
OF_THE_CLUSTER = {443, 6443}
"""Ports of the Kubernetes API, which is no pod."""
LAPTOP: Mapping[str, set[object]] = {
    MLFLOW: {DATABASE, STORE},
    DATABASE: set(),
    STORE: set(),
    "Job/make-bucket": {STORE},
    "Job/mlflow-upgrade": {DATABASE},
    "InferenceService/symbol-llm": {MLFLOW, STORE},
    TASK: {MLFLOW, STORE, *OF_THE_CLUSTER},
}
"""Pods and, of networks outside, ports that a pod may connect to."""
DEV: Mapping[str, set[object]] = {
    **LAPTOP,
    "CronJob/backup": {DATABASE, STORE},
    "CronJob/restore-database": {DATABASE, STORE},
    "CronJob/restore-bucket": {STORE},
    "InferenceService/symbol-llm": {MLFLOW, STORE, 443},
    "TrainingRuntime/symbol-llm-torch": {MLFLOW, STORE, 443},
}
PROD: Mapping[str, set[object]] = {
    MLFLOW: {DATABASE, 443},
    DATABASE: set(),
    "CronJob/backup": {DATABASE, 443},
    "CronJob/restore-database": {DATABASE, 443},
    "CronJob/restore-bucket": {443},
    "Job/mlflow-upgrade": {DATABASE},
    "InferenceService/symbol-llm": {MLFLOW, 443},
    "TrainingRuntime/symbol-llm-torch": {MLFLOW, 443},
    TASK: {MLFLOW, *OF_THE_CLUSTER},
}
"""The object store is outside, behind HTTPS."""
TRIED = (22, 53, 80, 443, 5432, 6443, 8080, 9000)


def reached(pod: Pod, all_there: list[Pod], policies: list[Resource]) -> Iterator[object]:
    """Yield what `pod` may connect to: pods by a port of theirs, and ports of networks outside."""
    for server in all_there:
        numbers = [port["containerPort"] for c in server.containers for port in c.get("ports", ())]
        there, back = Peer(NAMESPACE, server.labels), Peer(NAMESPACE, pod.labels)
        if server.owner != pod.owner and any(
            allows(policies, "Egress", pod.labels, there, n) and allows(policies, "Ingress", server.labels, back, n)
            for n in numbers
        ):
            yield server.owner
    yield from (n for n in TRIED if allows(policies, "Egress", pod.labels, OUTSIDE, n))


@pytest.mark.parametrize(
    ("overlay", "wanted"), [("laptop", LAPTOP), ("dev", DEV), ("prod", PROD), ("multi-node", PROD)]
)
def test_pods_reach_what_they_need_and_nothing_else(overlay: str, wanted: Mapping[str, set[object]]) -> None:
    resources = render(OVERLAYS / overlay)
    policies = [r for r in resources if r["kind"] == "NetworkPolicy"]
    all_there = [*pods(resources), KUBEFLOW_TASK]
    # DNS is asked of two addresses, a node's own cache among them, which is no pod.
    found = {pod.owner: set(reached(pod, all_there, policies)) - {53} for pod in all_there}
    assert found == wanted


def test_preflight_tries_policies_where_no_task_has_a_way_to() -> None:
    host, port = services.GUARDED
    for overlay in ("laptop", "dev", "prod"):
        there = {name_of(r): r for r in render(OVERLAYS / overlay)}
        assert [one["port"] for one in there[f"Service/{host}"]["spec"]["ports"]] == [port]
    assert f"StatefulSet/{host}" == DATABASE
    assert all(DATABASE not in wanted[TASK] for wanted in (LAPTOP, DEV, PROD))
