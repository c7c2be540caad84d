"""Asks a cluster, before a pipeline runs there, whether it has what a placement needs. Changes nothing: pods are dry runs.

python -m pipelines.preflight --placement one-gpu                   as whoever kubectl is
python -m pipelines.preflight --placement one-gpu --host ADDRESS    Kubeflow Pipelines too

Each check is one line, and a remedy where it failed; the exit code is 1 if one did. What cannot be seen from here (names of
the cluster's own network from outside it, nodes without the right to list them) is said to be unchecked, and is no failure.
Whether network policies are enforced is not asked: that takes pods which run. Nothing here knows how pipelines are built.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click
from kubernetes.utils.quantity import parse_quantity

from components.tune_on_nodes import trainjob
from pipelines import placement as placements
from pipelines.place import ADDRESSES, KEYS, SHARED_MEMORY, STATE, USER
from pipelines.placement import Claim, Placement, Role
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError

ANSWER_S = 10
KUBERNETES = (1, 30)
LAUNCHER = "kfp-launcher"
AUTHORITY = "MLFLOW_TRACKING_SERVER_CERT_PATH"
"""Variable with the file of the certificate that signed MLflow's, as MLflow's own client reads it."""
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
SIGNS = {"passed": "✔", "failed": "✘", "unchecked": "–"}
APIS = {
    "argoproj.io": ("v1alpha1", "workflows", "install Kubeflow Pipelines"),
    "serving.kserve.io": ("v1beta1", "inferenceservices", "install KServe 0.16 or newer"),
    "trainer.kubeflow.org": (
        "v1alpha1",
        "trainjobs",
        "install Kubeflow Trainer 2, or tune on one node: `tune` for `tune_job`",
    ),
    "kueue.x-k8s.io": ("v1beta2", "localqueues", "install Kueue, or leave `queue` out of the placement"),
    "monitoring.coreos.com": (
        "v1",
        "podmonitors",
        "install the Prometheus operator, or leave the component `monitoring` out",
    ),
}
"""Group: its version, a resource of it, and how to get it."""


class Finding(NamedTuple):
    """What came of one check: it passed, failed, or was left `unchecked`; `remedy` says what to do where it failed."""

    check: str
    state: str
    said: str
    remedy: str = ""


class View(NamedTuple):
    """What is looked at: a placement, in a namespace, with a client that is whoever asks, and one that is the run's account."""

    placement: Placement
    namespace: str
    api: Any
    runner: Any
    mlflow: str = ""
    host: str = ""
    token: str = ""

    @property
    def roles(self) -> dict[str, Role]:
        """Return the roles that make pods."""
        found = {"light": self.placement.light, "sample": self.placement.sample, "tune": self.placement.tune}
        return {name: role for name, role in found.items() if role}

    @property
    def is_inside(self) -> bool:
        """Say whether this runs in a pod of the cluster."""
        return IN_CLUSTER in os.environ


class Unseen(Exception):
    """The cluster does not let us look; the message says why."""


class Absent(Exception):
    """There is no such object."""


def look(call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Return `call(...)`; Absent, Unseen, or InvalidInput with the words of the cluster."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return call(*arguments, **more, _request_timeout=(ANSWER_S, ANSWER_S))
    except HTTPError as e:
        raise Unseen(f"no answer from the cluster ({type(e).__name__})") from e
    except ApiException as e:
        said = _message(e)
        if e.status == HTTPStatus.NOT_FOUND:
            raise Absent(said) from e
        if e.status == HTTPStatus.UNAUTHORIZED or (e.status == HTTPStatus.FORBIDDEN and " cannot " in said):
            raise Unseen(said) from e
        raise InvalidInput(said) from e


def _message(e: Any) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return " ".join(str(json.loads(e.body)["message"]).split())
    return f"{e.status} {e.reason}"


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
    for one in CHECKS:
        name = one.__name__.removeprefix("_").replace("_", " ")
        try:
            yield from one(view)
        except Unseen as e:
            yield Finding(name, "unchecked", str(e))


def _apis(view: View) -> Iterator[Finding]:
    """Whether the kinds that we make are served, in the versions that we write."""
    from kubernetes import client

    optional = {"monitoring.coreos.com"}
    optional |= set() if view.placement.tune_job else {"trainer.kubeflow.org"}
    optional |= set() if view.placement.queue else {"kueue.x-k8s.io"}
    for group, (version, plural, remedy) in APIS.items():
        name = f"{plural}.{group}"
        try:
            found = look(client.CustomObjectsApi(view.api).get_api_resources, group, version)
            served = any(one.name == plural for one in found.resources)
        except (Absent, InvalidInput):
            served = False
        if served:
            yield Finding(name, "passed", version)
        elif group in optional:
            yield Finding(name, "unchecked", f"{version} is not served; the placement does not need it")
        else:
            yield Finding(name, "failed", f"{version} is not served", remedy)


def rights(placement: Placement) -> Iterator[tuple[str, str, str, str]]:
    """Yield group, resource (with its subresource), name and verb of what the tasks of a run ask of the API server."""
    yield from (("argoproj.io", "workflowtaskresults", "", verb) for verb in ("create", "patch"))
    yield "", "pods", "", "get"
    yield "", "configmaps", LAUNCHER, "get"
    if placement.tune_job:
        verbs = ("create", "get", "list", "watch", "delete")
        yield from ((trainjob.GROUP, trainjob.PLURAL, "", verb) for verb in verbs)
        yield "", "pods", "", "list"
        yield "", "pods/log", "", "get"


def _rights(view: View) -> Iterator[Finding]:
    """Whether the account of a run may do what its tasks do."""
    from kubernetes import client

    account, missing = view.placement.service_account, []
    for group, whole, name, verb in rights(view.placement):
        resource, _, sub = whole.partition("/")
        asked = {
            "namespace": view.namespace,
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": sub,
            "name": name,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = look(client.AuthorizationV1Api(view.runner).create_self_subject_access_review, body)
        if not answer.status.allowed:
            missing.append(f"{verb} {whole}{'.' + group if group else ''}")
    if missing:
        remedy = f"bind the Roles of the manifests to the account {account}"
        if view.placement.tune_job:
            remedy += "; for TrainJobs they are in the component `training`"
        yield Finding("rights", "failed", f"{account} may not {', '.join(missing)}", remedy)
    else:
        yield Finding("rights", "passed", f"{account} may do what tasks ask")


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


def _pods(view: View) -> Iterator[Finding]:
    """Whether pods such as tasks have are let in: Pod Security, quota, account; asked by a dry run of each."""
    for name, role in view.roles.items():
        yield _let_in(view, f"pod {name}", pod(name, role, view.placement))


def _let_in(view: View, title: str, made: Mapping[str, Any]) -> Finding:
    from kubernetes import client

    create = client.CoreV1Api(view.api).create_namespaced_pod
    try:
        look(create, view.namespace, made, dry_run="All", field_validation="Strict")
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


def _settings(view: View) -> Iterator[Finding]:
    """Whether ConfigMaps and Secrets are there, with the keys that tasks and Kubeflow's launcher look for."""
    from kubernetes import client

    core, wanted = client.CoreV1Api(view.api), view.placement
    apply = "apply an overlay of the manifests"
    maps: dict[str, tuple[str, ...]] = {
        wanted.config: ADDRESSES,
        LAUNCHER: () if wanted.pipeline_root else ("defaultPipelineRoot", "providers"),
    }
    for name, keys in maps.items():
        yield _keyed(f"ConfigMap {name}", core.read_namespaced_config_map, name, view.namespace, keys, apply)
    made = "kubectl create secret generic; its keys are in manifests/overlays/laptop/secret.example.env"
    yield _keyed(f"Secret {wanted.keys}", core.read_namespaced_secret, wanted.keys, view.namespace, KEYS, made)
    for name in wanted.image_pull_secrets:
        yield _keyed(
            f"Secret {name}",
            core.read_namespaced_secret,
            name,
            view.namespace,
            (),
            "kubectl create secret docker-registry",
        )


def _keyed(title: str, call: Any, name: str, namespace: str, keys: tuple[str, ...], remedy: str) -> Finding:
    try:
        data = look(call, name, namespace).data or {}
    except Unseen as e:
        return Finding(title, "unchecked", str(e))
    except Absent:
        return Finding(title, "failed", "is not there", remedy)
    missing = [key for key in keys if not data.get(key)]
    if missing:
        return Finding(title, "failed", f"lacks {', '.join(missing)}", remedy)
    return Finding(title, "passed", f"has {', '.join(keys)}" if keys else "is there")


def _state(view: View) -> Iterator[Finding]:
    """Whether the claims are there, of a class there is, and can be mounted by as many nodes as run tasks at once."""
    from kubernetes import client

    core, wanted = client.CoreV1Api(view.api), view.placement
    claims = {role.state.claim: name for name, role in view.roles.items() if isinstance(role.state, Claim)}
    for name in claims:
        title = f"claim {name}"
        try:
            found = look(core.read_namespaced_persistent_volume_claim, name, view.namespace)
        except Absent:
            yield Finding(
                title, "failed", "is not there", "apply the manifests, or set `state` of the roles to a volume or null"
            )
            continue
        modes = set(found.spec.access_modes)
        several = wanted.explore_shards > 1 and _shares(wanted.sample, name) and not _on_one_node(view, name)
        many = [f"{wanted.explore_shards} tasks explore at once"] if several else []
        if wanted.tune_job and wanted.tune_job.nodes > 1 and _shares(wanted.light, name):
            many.append(f"a TrainJob has {wanted.tune_job.nodes} nodes")
        if many and "ReadWriteMany" not in modes:
            remedy = "make it anew with the component `shared-state`, of a class that nodes can share; or explore in one shard"
            yield Finding(title, "failed", f"is {', '.join(sorted(modes))}, and {' and '.join(many)}", remedy)
        elif found.status.phase == "Lost":
            yield Finding(
                title, "failed", "its volume is lost", "restore the volume, or delete the claim and apply the manifests"
            )
        else:
            yield Finding(title, "passed", f"{', '.join(sorted(modes))}, {found.status.phase}")
        if found.spec.storage_class_name and found.status.phase != "Bound":
            yield from _storage_class(view, found.spec.storage_class_name)


def _on_one_node(view: View, claim: str) -> bool:
    """Return whether all roles that mount `claim` are taken by one and the same node, as far as nodes can be listed."""
    from kubernetes import client

    try:
        nodes = look(client.CoreV1Api(view.api).list_node).items
    except Unseen:
        return False
    taking = [
        {node.metadata.name for node in nodes if _takes(node, pod(name, role, view.placement)["spec"])}
        for name, role in view.roles.items()
        if _shares(role, claim)
    ]
    return bool(taking) and all(len(names) == 1 and names == taking[0] for names in taking)


def _shares(role: Role, claim: str) -> bool:
    return isinstance(role.state, Claim) and role.state.claim == claim


def _storage_class(view: View, name: str) -> Iterator[Finding]:
    from kubernetes import client

    try:
        look(client.StorageV1Api(view.api).read_storage_class, name)
        yield Finding(f"storage class {name}", "passed", "is there")
    except Absent:
        yield Finding(
            f"storage class {name}",
            "failed",
            "is not there",
            "kubectl get storageclass; name one of them in the overlay",
        )
    except Unseen as e:
        yield Finding(f"storage class {name}", "unchecked", str(e))


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


def _quota(view: View) -> Iterator[Finding]:
    """Whether the quota has room for the tasks that run at once."""
    from kubernetes import client

    short, quotas = [], look(client.CoreV1Api(view.api).list_namespaced_resource_quota, view.namespace).items
    needs = at_once(view.placement)
    for quota in quotas:
        used = (quota.status.used if quota.status else None) or {}
        for resource, limit in (quota.spec.hard or {}).items():
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


def _accelerators(view: View) -> Iterator[Finding]:
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
    have = [int((node.status.allocatable or {}).get(kind, "0")) for node in nodes if _takes(node, spec)]
    enough = [n for n in have if n >= count]
    said = f"{count} {kind}: {len(enough)} of {len(nodes)} nodes have as many and take it"
    if len(enough) >= n_nodes:
        return Finding(title, "passed", said)
    remedy = "check the device plugin, and node selector, tolerations and accelerator of what is to run there"
    return Finding(title, "failed", f"{said}, {n_nodes} needed; the most is {max(have, default=0)}", remedy)


def _takes(node: Any, spec: Mapping[str, Any]) -> bool:
    """Return whether labels and taints of `node` let in a pod of `spec`."""
    labels = node.metadata.labels or {}
    hard = [taint for taint in node.spec.taints or () if taint.effect != "PreferNoSchedule"]
    selected = all(labels.get(key) == value for key, value in spec.get("nodeSelector", {}).items())
    return selected and all(any(_tolerates(one, taint) for one in spec.get("tolerations", ())) for taint in hard)


def _tolerates(one: Mapping[str, Any], taint: Any) -> bool:
    if one.get("key") not in (None, taint.key) or one.get("effect") not in (None, taint.effect):
        return False
    return one.get("operator") == "Exists" or one.get("value", "") == (taint.value or "")


def _train_job(view: View) -> Iterator[Finding]:
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


def _queue(view: View) -> Iterator[Finding]:
    """Whether the queue is there and lets work in."""
    from kubernetes import client

    if not view.placement.queue:
        return
    title = f"queue {view.placement.queue}"
    where = ("kueue.x-k8s.io", APIS["kueue.x-k8s.io"][0], view.namespace, "localqueues", view.placement.queue)
    try:
        found = look(client.CustomObjectsApi(view.api).get_namespaced_custom_object, *where)
    except Absent:
        remedy = "apply an overlay with the component `queueing`, or name a queue of kubectl get localqueues"
        yield Finding(title, "failed", "is not there", remedy)
        return
    conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", ())}
    state = conditions.get("Active", {"status": "Unknown", "message": "Kueue has not said so yet"})
    if state["status"] == "True":
        yield Finding(title, "passed", "lets work in")
    else:
        remedy = "kubectl describe localqueue, and the ClusterQueue that it names"
        yield Finding(title, "failed", f"lets nothing in: {state['message']}", remedy)


def _addresses(view: View) -> Iterator[Finding]:
    """Whether MLflow and the object store have names and answer, as tasks know them; seen from inside the cluster alone."""
    found = {key: os.environ[key] for key in ADDRESSES if "://" in os.environ.get(key, "")}
    if not view.is_inside:
        yield Finding("addresses", "unchecked", "names of services are known inside the cluster alone")
    elif not found:
        yield Finding(
            "addresses", "failed", "none in the environment", f"give the task the ConfigMap {view.placement.config}"
        )
    for address in sorted(set(found.values())) if view.is_inside else ():
        place = urlsplit(address)
        port = place.port or (443 if place.scheme == "https" else 80)
        try:
            with socket.create_connection((place.hostname or "", port), timeout=ANSWER_S):
                yield Finding(address, "passed", "answers")
        except socket.gaierror as e:
            yield Finding(
                address, "failed", f"no such name ({e.strerror})", "check the Service, and that egress to DNS is open"
            )
        except OSError as e:
            yield Finding(
                address, "failed", f"no connection ({e})", "check its pods, and the network policies of both ends"
            )


def _mlflow(view: View) -> Iterator[Finding]:
    """Whether MLflow answers, and takes the name and password of the tasks."""
    uri = view.mlflow or (os.environ.get("MLFLOW_TRACKING_URI", "") if view.is_inside else "")
    if not uri.startswith(("http://", "https://")):
        said = "--mlflow ADDRESS is not given; kubectl port-forward service/mlflow 5000 makes one"
        yield Finding("MLflow", "unchecked", said)
        return
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (os.environ.get(name) or _secret(view, name) for name in names)
    headers = {}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    remedy = f"check {' and '.join(names)} in the Secret {view.placement.keys}"
    yield _answers("MLflow", f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1", headers, remedy)


def _secret(view: View, key: str) -> str:
    from kubernetes import client

    with contextlib.suppress(Unseen, Absent, InvalidInput):
        data = look(client.CoreV1Api(view.api).read_namespaced_secret, view.placement.keys, view.namespace).data or {}
        return base64.b64decode(data.get(key, "")).decode()
    return ""


def _pipelines(view: View) -> Iterator[Finding]:
    """Whether Kubeflow Pipelines answers, and knows who asks."""
    if not view.host:
        yield Finding("Kubeflow Pipelines", "unchecked", "--host ADDRESS is not given")
        return
    headers = {"Authorization": f"Bearer {view.token}"} if view.token else {}
    address = f"{view.host.rstrip('/')}/apis/v2beta1/runs?page_size=1&namespace={view.namespace}"
    yield _answers("Kubeflow Pipelines", address, headers, "give --token, or another --namespace")


def _answers(title: str, address: str, headers: Mapping[str, str], remedy: str) -> Finding:
    request = urllib.request.Request(address, headers=dict(headers))  # noqa: S310 - http and https, by who starts it
    try:
        trusted = ssl.create_default_context(cafile=os.environ.get(AUTHORITY) or None)
        with urllib.request.urlopen(request, timeout=ANSWER_S, context=trusted):  # noqa: S310
            return Finding(title, "passed", "answers, and knows us")
    except urllib.error.HTTPError as e:
        if e.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Finding(title, "failed", f"answers {e.code} {e.reason}", remedy)
        return Finding(title, "failed", f"answers {e.code} {e.reason}", f"look at its log; {address} was asked for")
    except (OSError, ValueError) as e:
        return Finding(title, "failed", f"no answer: {e}", f"is {address} right, and its pod ready?")


CHECKS = (
    _apis,
    _rights,
    _pods,
    _settings,
    _state,
    _quota,
    _accelerators,
    _train_job,
    _queue,
    _addresses,
    _mlflow,
    _pipelines,
)


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
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def main(placement: str, namespace: str, mlflow: str, host: str, token: str, as_json: bool) -> None:
    """Check that the cluster has what pipelines with this placement need; exit 1 if anything is amiss."""
    try:
        wanted = _placement(placement)
        api, there = trainjob.here()
    except SymbolLLMError as e:
        click.echo(f"pipelines.preflight: {e}", err=True)
        sys.exit(e.exit_code)
    space = namespace or there
    view = View(wanted, space, api, _as_account(api, space, wanted.service_account), mlflow, host, token)
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
