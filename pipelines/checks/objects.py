"""Whether the cluster serves the kinds that we make, and has the rights, settings, keys and queue that tasks count on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from components.tune_on_nodes import trainjob
from pipelines.checks.probe import Absent, Finding, Unseen, View, look
from pipelines.place import ADDRESSES, KEYS
from pipelines.placement import Placement
from symbol_llm.ground.errors import InvalidInput

LAUNCHER = "kfp-launcher"
LOGS = "artifact-repositories"
"""ConfigMap by which Argo knows where logs go; without one it takes Kubeflow's place, whose Secret other namespaces lack."""
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


def apis(view: View) -> Iterator[Finding]:
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


def account(view: View) -> Iterator[Finding]:
    """Whether the account of a run may do what its tasks do."""
    from kubernetes import client

    who, missing = view.placement.service_account, []
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
        remedy = f"bind the Roles of the manifests to the account {who}"
        if view.placement.tune_job:
            remedy += "; for TrainJobs they are in the component `training`"
        yield Finding("rights", "failed", f"{who} may not {', '.join(missing)}", remedy)
    else:
        yield Finding("rights", "passed", f"{who} may do what tasks ask")


def settings(view: View) -> Iterator[Finding]:
    """Whether ConfigMaps and Secrets are there, with the keys that tasks and Kubeflow's launcher look for."""
    from kubernetes import client

    core, wanted = client.CoreV1Api(view.api), view.placement
    apply = "apply an overlay of the manifests"
    made = "kubectl create secret generic; its keys are in manifests/overlays/laptop/secret.example.env"
    of_launcher = () if wanted.pipeline_root else ("defaultPipelineRoot", "providers")
    for told, needed in ((LAUNCHER, of_launcher), (LOGS, ())):
        yield keyed(f"ConfigMap {told}", core.read_namespaced_config_map, told, view.namespace, needed, apply)
    for title, read, name, keys, remedy in (
        ("ConfigMap", core.read_namespaced_config_map, wanted.config, ADDRESSES, apply),
        ("Secret", core.read_namespaced_secret, wanted.keys, KEYS, made),
    ):
        if view.is_inside:
            yield given(f"{title} {name}", keys, remedy)
        else:
            yield keyed(f"{title} {name}", read, name, view.namespace, keys, remedy)
    for name in wanted.image_pull_secrets:
        yield keyed(
            f"Secret {name}",
            core.read_namespaced_secret,
            name,
            view.namespace,
            (),
            "kubectl create secret docker-registry",
        )


def keyed(title: str, call: Any, name: str, namespace: str, keys: tuple[str, ...], remedy: str) -> Finding:
    """Say whether the ConfigMap or Secret that `call` reads is there, with `keys` that are not empty."""
    try:
        data = look(call, name, namespace).data or {}
    except Unseen as e:
        return Finding(title, "unchecked", str(e))
    except Absent:
        return Finding(title, "failed", "is not there", remedy)
    return _has(title, data, keys, remedy)


def given(title: str, keys: tuple[str, ...], remedy: str) -> Finding:
    """Say whether the environment has `keys`, as tasks get them of the ConfigMap or Secret `title`; inside the cluster."""
    return _has(title, os.environ, keys, remedy)


def _has(title: str, data: Mapping[str, str], keys: tuple[str, ...], remedy: str) -> Finding:
    missing = [key for key in keys if not data.get(key)]
    if missing:
        return Finding(title, "failed", f"lacks {', '.join(missing)}", remedy)
    return Finding(title, "passed", f"has {', '.join(keys)}" if keys else "is there")


def queue(view: View) -> Iterator[Finding]:
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
