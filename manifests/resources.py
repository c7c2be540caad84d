"""Rendered overlays: resources, the pods they make or cause, and whom a selector means. What may be wrong with them is not said here."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml

NAMESPACE = "symbol-llm"
TEMPLATES = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "InferenceService": ("spec", "predictor"),
}

Resource = dict[str, Any]


class CannotRender(click.ClickException):
    """kubectl is missing or refuses an overlay."""


class Fault(NamedTuple):
    """One thing that is wrong, and with what."""

    resource: str
    message: str


class Pod(NamedTuple):
    """A pod that a resource of the render makes."""

    owner: str
    labels: Mapping[str, str]
    spec: Resource

    @property
    def containers(self) -> list[Resource]:
        """Return its containers, those of initialization too."""
        return [*self.spec.get("initContainers", ()), *self.spec.get("containers", ())]

    @property
    def account(self) -> str:
        """Return the name of its service account."""
        return str(self.spec.get("serviceAccountName", "default"))


KUBEFLOW_TASK = Pod(
    owner="a task of Kubeflow Pipelines",
    labels={"pipelines.kubeflow.org/v2_component": "true", "workflows.argoproj.io/workflow": "self-training-x7b2q"},
    spec={
        "serviceAccountName": "pipeline-runner",
        "containers": [{"name": "main", "envFrom": [{"configMapRef": {"name": "storage"}}]}],
    },
)
"""What Kubeflow makes in our namespace, as far as its policies and its addresses go (KFP 2.17, Argo 3)."""
RECORDING_TASK = KUBEFLOW_TASK._replace(
    owner="a task that records a data set", labels={**KUBEFLOW_TASK.labels, "symbol-llm/data-repository": "true"}
)
"""What `version` is, by its placement."""


def render(overlay: Path) -> list[Resource]:
    """Return what `kubectl kustomize` makes of `overlay`; secret.example.env stands in for a missing secret.env."""
    if not shutil.which("kubectl"):
        raise CannotRender(
            "kubectl is not installed; it renders the overlays, see https://kubernetes.io/docs/tasks/tools/"
        )
    with tempfile.TemporaryDirectory() as copy:
        root = shutil.copytree(overlay.parent.parent, Path(copy) / "manifests")
        place = root / overlay.relative_to(overlay.parent.parent)
        if (place / "secret.example.env").exists() and not (place / "secret.env").exists():
            shutil.copy(place / "secret.example.env", place / "secret.env")
        done = subprocess.run(["kubectl", "kustomize", str(place)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise CannotRender(f"{overlay}: {done.stderr.strip()}")
    return [resource for resource in yaml.load_all(done.stdout, yaml.CSafeLoader) if resource]  # noqa: S506


def name_of(resource: Resource) -> str:
    """Return `Kind/name`."""
    return f"{resource['kind']}/{resource['metadata']['name']}"


def annotation(resource: Resource, key: str) -> str:
    """Return the annotation `key` of `resource`, empty if it has none."""
    return str(resource["metadata"].get("annotations", {}).get(key, ""))


def pods(resources: Sequence[Resource]) -> Iterator[Pod]:
    """Yield the pods that `resources` make, with the labels that KServe and JobSet give theirs."""
    for resource in resources:
        if resource["kind"] == "TrainingRuntime":
            for job in resource["spec"]["template"]["spec"]["replicatedJobs"]:
                template = job["template"]["spec"]["template"]
                labels = {**template.get("metadata", {}).get("labels", {}), "jobset.sigs.k8s.io/jobset-name": "tune"}
                yield Pod(name_of(resource), labels, template["spec"])
        elif path := TEMPLATES.get(resource["kind"]):
            *above, last = path
            parent = resource
            for key in above:
                parent = parent[key]
            labels = parent.get("metadata", {}).get("labels", {})
            if resource["kind"] == "InferenceService":
                name = resource["metadata"]["name"]
                labels = {
                    "serving.kserve.io/inferenceservice": name,
                    "component": "predictor",
                    "app": f"isvc.{name}-predictor",
                }
            yield Pod(name_of(resource), labels, parent[last])


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector, empty for all, means what has `labels`."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for one in selector.get("matchExpressions", ()):
        key, operator, there = one["key"], one["operator"], one["key"] in labels
        held = {
            "Exists": there,
            "DoesNotExist": not there,
            "In": there and labels.get(key) in one.get("values", ()),
            "NotIn": labels.get(key) not in one.get("values", ()),
        }
        if not held[operator]:
            return False
    return True


def environment(container: Resource, resources: Sequence[Resource]) -> dict[str, str]:
    """Return what `container` has in its environment, `$(NAME)` replaced; a value that a Secret holds is empty here."""
    maps = {r["metadata"]["name"]: r.get("data", {}) for r in resources if r["kind"] == "ConfigMap"}
    values: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if ref := source.get("configMapRef"):
            values |= maps.get(ref["name"], {})
    for variable in container.get("env", ()):
        if ref := variable.get("valueFrom", {}).get("configMapKeyRef"):
            values[variable["name"]] = maps.get(ref["name"], {}).get(ref["key"], "")
        else:
            values[variable["name"]] = re.sub(
                r"\$\((\w+)\)", lambda m: values.get(m[1], m[0]), variable.get("value", "")
            )
    return values
