"""Whether pods reach what they have the address of, by the NetworkPolicies of a render.

Policies are evaluated as Kubernetes defines them: what selects no pod lets all through, what is allowed adds up, and a
connection needs the one side's egress and the other's ingress. Of addresses outside the cluster only the port is compared,
since what a name resolves to is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from manifests.resources import KUBEFLOW_TASK, NAMESPACE, Fault, Pod, Resource, environment, matches, name_of, pods

PORTS = {"http": 80, "https": 443}
DNS = 53
API = 443
OWN_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Of the pod itself, where no policy applies."""
KUBEFLOW_PORTS = (8887, 8888, 8080)
"""Of KFP's own API and of its metadata store, which its driver and launcher ask."""


class Peer(NamedTuple):
    """The other end of a connection."""

    namespace: str | None
    """None: outside the cluster."""
    labels: Mapping[str, str] = {}


OUTSIDE = Peer(None)


def isolated(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every pod, caused by whom it may, has a policy on what comes in and one on what goes out."""
    policies = _policies(resources)
    for pod in _all(resources):
        for direction in ("Ingress", "Egress"):
            if not _applying(policies, direction, pod.labels):
                yield Fault(pod.owner, f"no NetworkPolicy says anything of its {direction.lower()}")


def reachable(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every pod reaches DNS, what its environment has the address of, and the API servers that its token is for."""
    policies = _policies(resources)
    tokens = _accounts_with_token(resources)
    for pod in _all(resources):
        if not allows(policies, "Egress", pod.labels, Peer("kube-system"), DNS, "UDP"):
            yield Fault(pod.owner, "may not ask the cluster's DNS")
        for host, port in sorted(_addresses(pod, resources)):
            yield from _unreached(pod, host, port, resources, policies)
        if pod.account in tokens and not allows(policies, "Egress", pod.labels, OUTSIDE, API):
            yield Fault(pod.owner, f"has a token and may not reach the Kubernetes API, port {API}")
    for port in KUBEFLOW_PORTS:
        if not allows(policies, "Egress", KUBEFLOW_TASK.labels, Peer("kubeflow"), port):
            yield Fault(KUBEFLOW_TASK.owner, f"may not reach Kubeflow, port {port}")


def allows(
    policies: Sequence[Resource],
    direction: str,
    labels: Mapping[str, str],
    peer: Peer,
    port: int,
    protocol: str = "TCP",
) -> bool:
    """Return whether a pod with `labels` may connect to `peer` (Egress), or be connected to by it (Ingress), at `port`."""
    applying = _applying(policies, direction, labels)
    side = {"Ingress": "from", "Egress": "to"}[direction]
    return not applying or any(
        _has_port(rule, port, protocol) and _has_peer(rule.get(side), peer)
        for policy in applying
        for rule in policy["spec"].get(direction.lower(), ())
    )


def _unreached(
    pod: Pod, host: str, port: int, resources: Sequence[Resource], policies: Sequence[Resource]
) -> Iterator[Fault]:
    if host in OWN_HOSTS:
        if not any(p["containerPort"] == port for c in pod.containers for p in c.get("ports", ())):
            yield Fault(pod.owner, f"has the address {host}:{port}, and none of its containers has port {port}")
        return
    service = next((r for r in resources if r["kind"] == "Service" and host in _names(r)), None)
    if service is None:
        if not allows(policies, "Egress", pod.labels, OUTSIDE, port):
            yield Fault(pod.owner, f"has the address {host}:{port} and may not connect to any network there")
        return
    target = next((p for p in service["spec"]["ports"] if p["port"] == port), None)
    if target is None:
        yield Fault(pod.owner, f"has the address {host}:{port}, and {name_of(service)} has no port {port}")
        return
    for server in pods(resources):
        if not service["spec"]["selector"].items() <= server.labels.items() or server.owner == pod.owner:
            continue
        number = _number(server, target.get("targetPort", port))
        if not allows(policies, "Egress", pod.labels, Peer(NAMESPACE, server.labels), number):
            yield Fault(pod.owner, f"has the address {host}:{port} and may not connect to {server.owner}")
        if not allows(policies, "Ingress", server.labels, Peer(NAMESPACE, pod.labels), number):
            yield Fault(server.owner, f"lets nothing in from {pod.owner}, which has the address {host}:{port}")


def _names(service: Resource) -> set[str]:
    name = service["metadata"]["name"]
    return {name, f"{name}.{NAMESPACE}", f"{name}.{NAMESPACE}.svc", f"{name}.{NAMESPACE}.svc.cluster.local"}


def _addresses(pod: Pod, resources: Sequence[Resource]) -> set[tuple[str, int]]:
    """Return hosts and ports in the environment of `pod`: of addresses with a scheme, and of PostgreSQL's own variables."""
    found = set()
    for container in pod.containers:
        values = environment(container, resources)
        for value in values.values():
            if "://" in value and (url := urlsplit(value)).hostname:
                found.add((url.hostname, url.port or PORTS[url.scheme]))
        if "PGHOST" in values:
            found.add((values["PGHOST"], int(values["PGPORT"])))
    return found


def _number(pod: Pod, port: int | str) -> int:
    """Return the number of a port of `pod` that may be given by name; 0 if it has none of that name."""
    named = {p.get("name"): p["containerPort"] for c in pod.containers for p in c.get("ports", ())}
    return port if isinstance(port, int) else int(named.get(port, 0))


def _all(resources: Sequence[Resource]) -> list[Pod]:
    return [*pods(resources), KUBEFLOW_TASK]


def _accounts_with_token(resources: Sequence[Resource]) -> set[str]:
    accounts = (r for r in resources if r["kind"] == "ServiceAccount")
    return {r["metadata"]["name"] for r in accounts if r.get("automountServiceAccountToken") is not False}


def _policies(resources: Sequence[Resource]) -> list[Resource]:
    return [r for r in resources if r["kind"] == "NetworkPolicy"]


def _applying(policies: Sequence[Resource], direction: str, labels: Mapping[str, str]) -> list[Resource]:
    return [
        policy
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and matches(policy["spec"]["podSelector"], labels)
    ]


def _has_port(rule: Resource, port: int, protocol: str) -> bool:
    return "ports" not in rule or any(
        one.get("protocol", "TCP") == protocol and one["port"] <= port <= one.get("endPort", one["port"])
        for one in rule["ports"]
    )


def _has_peer(peers: Sequence[Mapping[str, Any]] | None, peer: Peer) -> bool:
    if peers is None:
        return True
    for one in peers:
        if "ipBlock" in one:
            if peer.namespace is None:
                return True
            continue
        namespace = {"kubernetes.io/metadata.name": peer.namespace or ""}
        inside = (
            matches(one["namespaceSelector"], namespace) if "namespaceSelector" in one else peer.namespace == NAMESPACE
        )
        if peer.namespace is not None and inside and matches(one.get("podSelector", {}), peer.labels):
            return True
    return False
