"""Whether the pods of tasks are let in, and whether quota and nodes have room and devices for them. Pods are dry runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from components.tune_on_nodes import trainjob
from pipelines.checks.probe import Absent, Finding, Unseen, View, look
from pipelines.place import QUEUE, SHARED_MEMORY, STATE, USER
from pipelines.placement import Claim, Placement, Role
from symbol_llm.ground.errors import InvalidInput

GATE = "kueue.x-k8s.io/admission"
"""By which Kueue holds a pod back until its queue lets it in."""


def pod(name: str, role: Role, placement: Placement) -> dict[str, Any]:
    """Return a pod such as Kubeflow makes for a task of `role`: what the placement says, within what it sets itself."""
    resources = {side: dict(getattr(role, side).model_dump()) for side in ("requests", "limits")}
    if role.accelerator:
        for side in resources.values():
            side[role.accelerator.type] = str(role.accelerator.count)
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
    }
    volumes: list[dict[str, Any]] = [{"name": "state", "emptyDir": {}}]
    if isinstance(role.state, Claim):
        volumes = [{"name": "state", "persistentVolumeClaim": {"claimName": role.state.claim}}]
    if role.shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": role.shared_memory}})
    container = {
        "name": "main",
        "image": getattr(placement.images, role.image),
        "resources": resources,
        "securityContext": context,
        "volumeMounts": [
            {"name": v["name"], "mountPath": STATE if v["name"] == "state" else SHARED_MEMORY} for v in volumes
        ],
    }
    spec: dict[str, Any] = {
        "serviceAccountName": placement.service_account,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": volumes,
        "nodeSelector": dict(role.node_selector),
        "tolerations": [one.model_dump(exclude_none=True) for one in role.tolerations],
        "imagePullSecrets": [{"name": one} for one in placement.image_pull_secrets],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"preflight-{name}"}, "spec": spec}


def tasks(view: View) -> Iterator[Finding]:
    """Whether pods such as tasks have are let in: Pod Security, quota, account; asked by a dry run of each."""
    for name, role in view.roles.items():
        yield _let_in(view, f"pod {name}", pod(name, role, view.placement))


def queued(view: View) -> Iterator[Finding]:
    """Whether Kueue holds pods of tasks back until the queue lets them in; as it is installed, it lets pods alone."""
    title, queue = "queue of pods", view.placement.queue
    if not queue:
        return
    made = pod("queued", view.placement.light, view.placement)
    made["metadata"]["labels"] = {QUEUE: queue}
    try:
        gates = _tried(view, made).spec.scheduling_gates or ()
    except (InvalidInput, Absent, Unseen) as e:
        yield Finding(title, "unchecked", str(e))
        return
    if GATE in [gate.name for gate in gates]:
        yield Finding(title, "passed", "tasks wait until it lets them in")
    else:
        remedy = "add `pod` to the integrations in Kueue's configuration, or leave `queue` out of the placement"
        yield Finding(title, "failed", f"tasks do not wait for {queue}: Kueue lets their pods alone", remedy)


def _tried(view: View, made: Mapping[str, Any]) -> Any:
    """Return the pod `made` as the cluster would take it, without making one."""
    from kubernetes import client

    create = client.CoreV1Api(view.api).create_namespaced_pod
    return look(create, view.namespace, made, dry_run="All", field_validation="Strict")


def _let_in(view: View, title: str, made: Mapping[str, Any]) -> Finding:
    try:
        _tried(view, made)
    except (InvalidInput, Absent) as e:
        return Finding(title, "failed", str(e), _remedy(str(e), view))
    except Unseen as e:
        return Finding(title, "unchecked", str(e))
    return Finding(title, "passed", "let in")


def _remedy(said: str, view: View) -> str:
    if "violates PodSecurity" in said:
        return (
            "give the namespace the labels of manifests/base/namespace.yaml, and look for a webhook that changes pods"
        )
    if "quota" in said:
        return "lower requests and limits of the role in the placement, or raise the ResourceQuota"
    if "service account" in said:
        return f"apply the manifests, which have the account {view.placement.service_account}"
    if "namespaces" in said:
        return f"kubectl apply -f manifests/base/namespace.yaml, or name another than {view.namespace}"
    return "change the placement so that the cluster takes it"


def at_once(placement: Placement) -> dict[str, Any]:
    """Return the requests of the tasks that run at the same time, at most: the shards of an exploration, or one task."""
    sums = [_times(role, n) for role, n in ((placement.sample, placement.explore_shards), (placement.tune, 1)) if role]
    return {key: max(one.get(key, 0) for one in sums) for key in {key for one in sums for key in one}}


def _times(role: Role, n: int) -> dict[str, Any]:
    found = {f"requests.{kind}": parse_quantity(getattr(role.requests, kind)) for kind in ("cpu", "memory")}
    found |= {f"limits.{kind}": parse_quantity(getattr(role.limits, kind)) for kind in ("cpu", "memory")}
    if role.accelerator:
        found[f"requests.{role.accelerator.type}"] = role.accelerator.count
    return {"pods": n} | {key: n * amount for key, amount in found.items()}


def quota(view: View) -> Iterator[Finding]:
    """Whether the quota has room for the tasks that run at once."""
    from kubernetes import client

    short, quotas = [], look(client.CoreV1Api(view.api).list_namespaced_resource_quota, view.namespace).items
    needs = at_once(view.placement)
    for one in quotas:
        used = (one.status.used if one.status else None) or {}
        for resource, limit in (one.spec.hard or {}).items():
            need = needs.get(f"requests.{resource}" if resource in ("cpu", "memory") else resource)
            left = parse_quantity(limit) - parse_quantity(used.get(resource, "0"))
            if need is not None and need > left:
                short.append(
                    f"{resource} {need:f} of {left:f} left" if resource != "pods" else f"{need} pods of {left:f} left"
                )
    if short:
        remedy = "raise the ResourceQuota, or lower `explore_shards` or the requests"
        yield Finding("quota", "failed", "tasks at once ask for " + ", ".join(short), remedy)
    else:
        yield Finding("quota", "passed", "has room for the tasks that run at once" if quotas else "there is none")


def accelerators(view: View) -> Iterator[Finding]:
    """Whether nodes that tasks may run on have the devices that they ask for."""
    from kubernetes import client

    wanted = [(name, role, role.accelerator) for name, role in view.roles.items() if role.accelerator]
    if not wanted:
        return
    nodes = look(client.CoreV1Api(view.api).list_node).items
    for name, role, device in wanted:
        spec = pod(name, role, view.placement)["spec"]
        yield _devices(f"accelerators of {name}", nodes, spec, device.type, device.count, 1)


def _devices(title: str, nodes: list[Any], spec: Mapping[str, Any], kind: str, count: int, n_nodes: int) -> Finding:
    """Say whether `n_nodes` of `nodes` take a pod of `spec` and have `count` devices of `kind`, used or not."""
    have = [int((node.status.allocatable or {}).get(kind, "0")) for node in nodes if takes(node, spec)]
    enough = [n for n in have if n >= count]
    said = f"{count} {kind}: {len(enough)} of {len(nodes)} nodes have as many and take it"
    if len(enough) >= n_nodes:
        return Finding(title, "passed", said)
    remedy = "check the device plugin, and node selector, tolerations and accelerator of what is to run there"
    return Finding(title, "failed", f"{said}, {n_nodes} needed; the most is {max(have, default=0)}", remedy)


def takes(node: Any, spec: Mapping[str, Any]) -> bool:
    """Return whether labels and taints of `node` let in a pod of `spec`."""
    labels = node.metadata.labels or {}
    hard = [taint for taint in node.spec.taints or () if taint.effect != "PreferNoSchedule"]
    selected = all(labels.get(key) == value for key, value in spec.get("nodeSelector", {}).items())
    return selected and all(any(_tolerates(one, taint) for one in spec.get("tolerations", ())) for taint in hard)


def _tolerates(one: Mapping[str, Any], taint: Any) -> bool:
    if one.get("key") not in (None, taint.key) or one.get("effect") not in (None, taint.effect):
        return False
    return one.get("operator") == "Exists" or one.get("value", "") == (taint.value or "")


def train_job(view: View) -> Iterator[Finding]:
    """Whether the runtime of TrainJobs is there, its pods are let in, and there are as many nodes with its devices."""
    from kubernetes import client

    wanted = view.placement.tune_job
    if not wanted:
        return
    title, where = f"runtime {wanted.runtime}", (trainjob.GROUP, trainjob.VERSION, view.namespace, "trainingruntimes")
    try:
        found = look(client.CustomObjectsApi(view.api).get_namespaced_custom_object, *where, wanted.runtime)
    except Absent:
        yield Finding(title, "failed", "is not there", "apply an overlay with the component `training`")
        return
    jobs = found["spec"].get("template", {}).get("spec", {}).get("replicatedJobs", ())
    specs = [one["template"]["spec"]["template"]["spec"] for one in jobs if one["name"] == trainjob.CONTAINER]
    if not specs:
        yield Finding(title, "failed", f"has no job {trainjob.CONTAINER!r}", "take that of the component `training`")
        return
    yield Finding(title, "passed", "is there")
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "preflight-node"},
        "spec": specs[0] | {"restartPolicy": "Never"},
    }
    yield _let_in(view, "pod node", made)
    limits = [one for c in specs[0]["containers"] for one in c.get("resources", {}).get("limits", {}).items()]
    devices = [(kind, int(amount)) for kind, amount in limits if "/" in kind]
    nodes = look(client.CoreV1Api(view.api).list_node).items if devices else []
    for kind, count in devices:
        yield _devices(f"accelerators of {wanted.runtime}", nodes, specs[0], kind, count, wanted.nodes)
    if devices and all(count < wanted.processes_per_node for _, count in devices):
        said = f"{wanted.processes_per_node} processes a node share {max(count for _, count in devices)} devices"
        yield Finding(
            f"processes of {wanted.runtime}", "failed", said, "make `processes_per_node` the devices of the runtime"
        )
