"""`python -m manifests.check` renders every overlay and says what a cluster, or our own rules, would refuse.

Fields are checked by `schemas.py`, the network by `network.py`. Rules: one function each, from a render to its faults; their first
lines are what they hold. No cluster is asked. The rules are ours because the tools there are do not see the pods that KServe makes of an
InferenceService, Trainer of a TrainingRuntime and Kubeflow of a pipeline, nor that a name leads nowhere or a policy stands
between a pod and the address it was given; and checkov 3.3 would bring 98 packages (291 MB) that contradict six of our
pins (among them networkx < 2.7 and packaging < 24), while kube-linter, Polaris and kubesec are no Python packages.
Two annotations speak to it:

    symbol-llm/external: "Secret/credentials"   on any resource: not in the render, the cluster has it
    symbol-llm/needs-token: "why"               on a ServiceAccount: its pods may hold a token
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from kubernetes.utils.quantity import parse_quantity
from rich.console import Console
from rich.table import Table

from manifests import network
from manifests.resources import (
    KUBEFLOW_TASK,
    NAMESPACE,
    RECORDING_TASK,
    Fault,
    Pod,
    Resource,
    annotation,
    matches,
    name_of,
    pods,
    render,
)
from manifests.schemas import Schemas, faults, load_schemas

HERE = Path(__file__).parent
EXTERNAL = "symbol-llm/external"
NEEDS_TOKEN = "symbol-llm/needs-token"  # noqa: S105
CLUSTER_WIDE = {"Namespace", "ResourceFlavor", "ClusterQueue", "ClusterTrainingRuntime", "PriorityClass"}
FORBIDDEN = {
    "apiGroups": {"*"},
    "resources": {"*", "secrets", "pods/exec", "serviceaccounts/token", "roles", "rolebindings"},
    "verbs": {"*", "escalate", "bind", "impersonate"},
}
"""Rights by which a pod would come to others."""


@click.command()
@click.option(
    "--crds",
    type=click.Path(path_type=Path),
    help="Folder of CRDs; without it custom resources' fields are not checked.",
)
@click.option("--root", type=click.Path(path_type=Path), default=HERE, help="Folder that holds overlays/.")
def main(crds: Path | None, root: Path) -> None:
    """Render every overlay, check it, print what is wrong; exit 1 if anything is."""
    schemas = load_schemas(crds) if crds and crds.is_dir() else None
    table = Table("overlay", "resources", "faults")
    lines: list[str] = []
    for overlay in sorted(p.parent for p in root.glob("overlays/*/kustomization.yaml")):
        resources = render(overlay)
        found = list(check(resources, schemas))
        table.add_row(overlay.name, str(len(resources)), str(len(found)))
        lines += [f"{overlay.name}: {fault.resource}: {fault.message}" for fault in found]
    failed = bool(lines) or not table.row_count
    if schemas is None:
        lines.append(f"no CRDs ({crds or '--crds not given'}): the fields of custom resources were not checked")
    Console().print(table)
    for line in lines:
        click.echo(line)
    sys.exit(1 if failed else 0)


def check(resources: Sequence[Resource], schemas: Schemas | None = None) -> Iterator[Fault]:
    """Yield the faults of one render: schemas first, then each of `RULES`."""
    for resource in resources:
        yield from faults(resource, schemas)
    for rule in RULES:
        yield from rule(resources)


def restricted(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every pod keeps the restricted Pod Security Standard, on a read-only root."""
    for pod in pods(resources):
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True:
            yield Fault(pod.owner, "pod securityContext.runAsNonRoot must be true")
        if context.get("runAsUser") == 0:
            yield Fault(pod.owner, "pod securityContext.runAsUser must not be 0")
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield Fault(pod.owner, "pod securityContext.seccompProfile.type must be RuntimeDefault or Localhost")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield Fault(pod.owner, f"pod {key} must not be set")
        for volume in pod.spec.get("volumes", ()):
            if "hostPath" in volume:
                yield Fault(pod.owner, f"volume {volume['name']!r} must not be a hostPath")
        for container in pod.containers:
            yield from _restricted_container(pod.owner, container)


def _restricted_container(owner: str, container: Resource) -> Iterator[Fault]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield _container_fault(owner, container, "must have securityContext.allowPrivilegeEscalation: false")
    if context.get("readOnlyRootFilesystem") is not True:
        yield _container_fault(owner, container, "must have securityContext.readOnlyRootFilesystem: true")
    if context.get("privileged") or context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
        yield _container_fault(owner, container, "must not be privileged or root")
    capabilities = context.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield _container_fault(owner, container, "must drop ALL capabilities and add none")


def _container_fault(owner: str, container: Resource, message: str) -> Fault:
    return Fault(owner, f"container {container['name']!r} {message}")


def bounded(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every container requests and limits cpu and memory, the request within the limit."""
    for pod in pods(resources):
        for container in pod.containers:
            given = container.get("resources", {})
            for what in ("cpu", "memory"):
                message = _size_fault(what, given.get("requests", {}).get(what), given.get("limits", {}).get(what))
                if message:
                    yield _container_fault(pod.owner, container, message)


def _size_fault(what: str, request: str | None, limit: str | None) -> str | None:
    if request is None or limit is None:
        return f"has no {what} {'request' if request is None else 'limit'}"
    try:
        within = parse_quantity(request) <= parse_quantity(limit)
    except ValueError:
        return f"has {what} from {request!r} to {limit!r}, which are not both quantities"
    return None if within else f"requests {request} {what}, more than its limit {limit}"


def tagged(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every image has a tag or a digest, and the tag is not `latest`."""
    for pod in pods(resources):
        for container in pod.containers:
            image = container.get("image", "")
            tag = re.search(r"[@:]([^/:@]+)$", image)
            if not tag:
                yield _container_fault(pod.owner, container, f"has image {image!r} without a tag; see images:")
            elif tag[1] == "latest":
                yield _container_fault(pod.owner, container, f"has image {image!r}; name a version, not latest")


def tokenless(resources: Sequence[Resource]) -> Iterator[Fault]:
    """No pod holds a service account's token, save where the account says why."""
    accounts = {r["metadata"]["name"]: r for r in resources if r["kind"] == "ServiceAccount"}
    may = {name for name, account in accounts.items() if annotation(account, NEEDS_TOKEN)}
    given = [(f"ServiceAccount/{name}", name, account) for name, account in accounts.items()]
    given += [(pod.owner, pod.account, pod.spec) for pod in pods(resources)]
    for owner, account, spec in given:
        if account not in may and spec.get("automountServiceAccountToken") is not False:
            yield Fault(owner, f"automountServiceAccountToken must be false, or {NEEDS_TOKEN} say why not")


def resolved(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every ConfigMap, Secret (and key), ServiceAccount, PersistentVolumeClaim and Role that is named exists."""
    there = {name_of(r): r for r in resources}
    external = {name for r in resources for name in annotation(r, EXTERNAL).replace(",", " ").split()}
    for owner, target, key in _references(resources):
        if target in external:
            continue
        if target not in there:
            yield Fault(owner, f"{target} is not in the render; add it, or declare it in {EXTERNAL}")
        elif key and key not in {**there[target].get("data", {}), **there[target].get("stringData", {})}:
            yield Fault(owner, f"{target} has no key {key!r}")


def _references(resources: Sequence[Resource]) -> Iterator[tuple[str, str, str | None]]:
    for pod in pods(resources):
        yield pod.owner, f"ServiceAccount/{pod.account}", None
        for container in pod.containers:
            for variable in container.get("env", ()):
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if (ref := variable.get("valueFrom", {}).get(field)) and not ref.get("optional"):
                        yield pod.owner, f"{kind}/{ref['name']}", ref["key"]
            for source in container.get("envFrom", ()):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if (ref := source.get(field)) and not ref.get("optional"):
                        yield pod.owner, f"{kind}/{ref['name']}", None
        yield from ((pod.owner, target, None) for target in _volume_targets(pod))
    for resource in resources:
        if resource["kind"] == "RoleBinding":
            yield name_of(resource), f"{resource['roleRef']['kind']}/{resource['roleRef']['name']}", None
            for subject in resource.get("subjects", ()):
                yield name_of(resource), f"{subject['kind']}/{subject['name']}", None


def _volume_targets(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.get("volumes", ()):
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            if config := source.get("configMap"):
                yield f"ConfigMap/{config['name']}"
            if secret := source.get("secret"):
                yield f"Secret/{secret.get('secretName') or secret.get('name')}"
        if claim := volume.get("persistentVolumeClaim"):
            yield f"PersistentVolumeClaim/{claim['claimName']}"


def selected(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every selector of labels finds a pod, and every port of a Service is one of its containers'."""
    made = [*pods(resources), KUBEFLOW_TASK, RECORDING_TASK]
    for resource in resources:
        selector = _selector(resource)
        if not selector:
            continue
        found = [pod for pod in made if matches(selector, pod.labels)]
        if not found:
            yield Fault(name_of(resource), f"its selector {selector} finds no pod")
        elif resource["kind"] == "Service":
            open_ports = {
                port.get(key)
                for pod in found
                for c in pod.containers
                for port in c.get("ports", ())
                for key in ("name", "containerPort")
            }
            for port in resource["spec"]["ports"]:
                if port.get("targetPort", port["port"]) not in open_ports:
                    yield Fault(
                        name_of(resource),
                        f"its target port {port.get('targetPort', port['port'])} is no port of its pods",
                    )


def _selector(resource: Resource) -> dict[str, Any]:
    spec = resource.get("spec", {})
    if resource["kind"] == "Service":
        return {"matchLabels": spec["selector"]} if spec.get("selector") else {}
    fields = {"NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector", "PodMonitor": "selector"}
    return dict(spec.get(fields.get(resource["kind"], ""), {}))


def placed(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Everything lies in our namespace, save what has none."""
    for resource in resources:
        namespace = resource["metadata"].get("namespace")
        if resource["kind"] in CLUSTER_WIDE:
            if namespace is not None:
                yield Fault(name_of(resource), f"belongs to the cluster and must have no namespace, not {namespace!r}")
        elif namespace != NAMESPACE:
            yield Fault(name_of(resource), f"must have the namespace {NAMESPACE!r}, not {namespace!r}")


def least(resources: Sequence[Resource]) -> Iterator[Fault]:
    """No role gives all of anything, a look at Secrets, a shell in a pod, or more roles."""
    for resource in resources:
        for rule in resource["rules"] if resource["kind"] in ("Role", "ClusterRole") else ():
            for key, forbidden in FORBIDDEN.items():
                if given := sorted(forbidden & set(rule.get(key, ()))):
                    yield Fault(name_of(resource), f"must not give {key} {', '.join(given)}")


def affordable(resources: Sequence[Resource]) -> Iterator[Fault]:
    """What always runs, and every volume, fits the quota; a LimitRange gives a size to containers that have none."""
    hard = {key: value for r in resources if r["kind"] == "ResourceQuota" for key, value in r["spec"]["hard"].items()}
    used = requested(resources)
    for key, amount in used.items():
        if key in hard and amount > parse_quantity(hard[key]):
            yield Fault("ResourceQuota/symbol-llm", f"{key} {hard[key]} is less than the {amount} of what always runs")
    defaults = {
        what
        for r in resources
        if r["kind"] == "LimitRange"
        for limit in r["spec"]["limits"]
        for what in limit.get("defaultRequest", {})
    }
    for key in sorted(hard):
        what = key.removeprefix("requests.")
        if what in ("cpu", "memory") and what not in defaults:
            yield Fault("LimitRange/symbol-llm", f"must have a defaultRequest of {what}, as the quota counts it")


def requested(resources: Sequence[Resource]) -> dict[str, Decimal]:
    """Return what the standing pods, each as often as it may be there, and the claims ask for, by the names of a quota."""
    most = {
        r["spec"]["scaleTargetRef"]["name"]: r["spec"]["maxReplicaCount"]
        for r in resources
        if r["kind"] == "ScaledObject"
    }
    counts: dict[str, int] = {}
    for r in resources:
        if r["kind"] in ("Deployment", "StatefulSet"):
            counts[name_of(r)] = r["spec"].get("replicas", 1)
        elif r["kind"] == "InferenceService":
            scaled = most.get(f"{r['metadata']['name']}-predictor", 0)
            counts[name_of(r)] = max(r["spec"]["predictor"].get("maxReplicas", 1), scaled)
    used: dict[str, Decimal] = {}
    for pod in pods(resources):
        n = counts.get(pod.owner, 0)
        _add(used, "pods", Decimal(n))
        for container in pod.spec["containers"]:
            for what, amount in container.get("resources", {}).get("requests", {}).items():
                _add(used, f"requests.{what}", n * parse_quantity(amount))
    for r in resources:
        if r["kind"] == "PersistentVolumeClaim":
            _add(used, "persistentvolumeclaims", Decimal(1))
            _add(used, "requests.storage", parse_quantity(r["spec"]["resources"]["requests"]["storage"]))
    return used


def _add(used: dict[str, Decimal], key: str, amount: Decimal) -> None:
    used[key] = used.get(key, Decimal(0)) + amount


RULES: tuple[Callable[[Sequence[Resource]], Iterator[Fault]], ...] = (
    restricted,
    bounded,
    tagged,
    tokenless,
    resolved,
    selected,
    placed,
    least,
    affordable,
    network.isolated,
    network.reachable,
)

if __name__ == "__main__":
    main()
