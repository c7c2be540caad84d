"""`python -m manifests.check` renders every overlay and says what a cluster, or our own rules, would refuse.

Schemas: core kinds by kubernetes-validate, strict; custom resources by the CRDs in `--crds`, no unknown fields.
Rules: one function each, from a render to its faults; their first lines are what they hold. No cluster is asked, and
CEL rules of a CRD are not evaluated. The rules are ours because the tools there are do not see a pod that KServe makes of an
InferenceService, nor that a name leads nowhere; and checkov 3.3 would bring 98 packages (291 MB) that contradict six of our
pins (among them networkx < 2.7 and packaging < 24), while kube-linter, Polaris and kubesec are no Python packages.
Two annotations speak to it:

    symbol-llm/external: "Secret/credentials"   on any resource: not in the render, the cluster has it
    symbol-llm/needs-token: "why"               on a ServiceAccount: its pods may hold a token
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import jsonschema
import kubernetes_validate
import yaml
from kubernetes.utils.quantity import parse_quantity
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
KUBERNETES = "1.33"
EXTERNAL = "symbol-llm/external"
NEEDS_TOKEN = "symbol-llm/needs-token"  # noqa: S105
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
Schemas = Mapping[tuple[str, str], jsonschema.Draft7Validator]


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
        faults = list(check(resources, schemas))
        table.add_row(overlay.name, str(len(resources)), str(len(faults)))
        lines += [f"{overlay.name}: {fault.resource}: {fault.message}" for fault in faults]
    failed = bool(lines) or not table.row_count
    if schemas is None:
        lines.append(f"no CRDs ({crds or '--crds not given'}): the fields of custom resources were not checked")
    Console().print(table)
    for line in lines:
        click.echo(line)
    sys.exit(1 if failed else 0)


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
    return [resource for resource in yaml.safe_load_all(done.stdout) if resource]


def check(resources: Sequence[Resource], schemas: Schemas | None = None) -> Iterator[Fault]:
    """Yield the faults of one render: schemas first, then each of `RULES`."""
    for resource in resources:
        yield from schema_faults(resource, schemas)
    for rule in RULES:
        yield from rule(resources)


def schema_faults(resource: Resource, schemas: Schemas | None) -> Iterator[Fault]:
    """Unknown or ill-typed fields of one resource."""
    try:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as e:
        yield Fault(name_of(resource), f"{'.'.join(map(str, e.path)) or 'resource'}: {e.message[:200]}")
    except kubernetes_validate.SchemaNotFoundError:
        if schemas is None:
            return
        validator = schemas.get((resource["apiVersion"], resource["kind"]))
        if validator is None:
            yield Fault(name_of(resource), f"no schema for {resource['apiVersion']} {resource['kind']}")
            return
        for error in validator.iter_errors(resource):
            yield Fault(name_of(resource), f"{'.'.join(map(str, error.path)) or 'resource'}: {error.message[:200]}")


def load_schemas(crds: Path) -> Schemas:
    """Return a strict validator for each (apiVersion, kind) that the CRDs in `crds` serve."""
    schemas = {}
    for file in sorted(crds.rglob("*.yaml")):
        for crd in yaml.load_all(file.read_text(), _CrdLoader):  # noqa: S506
            if not crd or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema.setdefault("properties", {}).update(apiVersion={}, kind={}, metadata={"type": "object"})
                schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = jsonschema.Draft7Validator(
                    schema
                )
    return schemas


class _CrdLoader(yaml.CSafeLoader):
    """Reads a bare `=`, which some CRDs have in an enum, as text."""


_CrdLoader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def strict(schema: Any) -> Any:
    """Return an openAPIV3Schema as a JSON schema that refuses unknown fields, as a strict API server does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {
        key: {name: strict(field) for name, field in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if key not in ("default", "description", "x-kubernetes-validations")
    }
    if out.get("nullable") and "type" in out:
        out["type"] = [out["type"], "null"]
    if "properties" in out and not out.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


def name_of(resource: Resource) -> str:
    """Return `Kind/name`."""
    return f"{resource['kind']}/{resource['metadata']['name']}"


def pods(resources: Sequence[Resource]) -> Iterator[Pod]:
    """Yield the pods that `resources` make; those of an InferenceService with the labels KServe gives them."""
    for resource in resources:
        if path := TEMPLATES.get(resource["kind"]):
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
    may = {name for name, account in accounts.items() if _annotation(account, NEEDS_TOKEN)}
    given = [(f"ServiceAccount/{name}", name, account) for name, account in accounts.items()]
    given += [(pod.owner, pod.spec.get("serviceAccountName", "default"), pod.spec) for pod in pods(resources)]
    for owner, account, spec in given:
        if account not in may and spec.get("automountServiceAccountToken") is not False:
            yield Fault(owner, f"automountServiceAccountToken must be false, or {NEEDS_TOKEN} say why not")


def resolved(resources: Sequence[Resource]) -> Iterator[Fault]:
    """Every ConfigMap, Secret (and key), ServiceAccount, PersistentVolumeClaim and Role that is named exists."""
    there = {name_of(r): r for r in resources}
    external = {name for r in resources for name in _annotation(r, EXTERNAL).replace(",", " ").split()}
    for owner, target, key in _references(resources):
        if target in external:
            continue
        if target not in there:
            yield Fault(owner, f"{target} is not in the render; add it, or declare it in {EXTERNAL}")
        elif key and key not in {**there[target].get("data", {}), **there[target].get("stringData", {})}:
            yield Fault(owner, f"{target} has no key {key!r}")


def _references(resources: Sequence[Resource]) -> Iterator[tuple[str, str, str | None]]:
    for pod in pods(resources):
        yield pod.owner, f"ServiceAccount/{pod.spec.get('serviceAccountName', 'default')}", None
        for container in pod.containers:
            for variable in container.get("env", ()):
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if ref := variable.get("valueFrom", {}).get(field):
                        yield pod.owner, f"{kind}/{ref['name']}", ref["key"]
            for source in container.get("envFrom", ()):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if ref := source.get(field):
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
    made = list(pods(resources))
    for resource in resources:
        labels = _selector(resource)
        if not labels:
            continue
        found = [pod for pod in made if labels.items() <= pod.labels.items()]
        if not found:
            yield Fault(name_of(resource), f"its selector {labels} finds no pod")
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


def _selector(resource: Resource) -> dict[str, str]:
    spec = resource.get("spec", {})
    if resource["kind"] == "Service":
        return dict(spec.get("selector", {}))
    field = {"NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}.get(resource["kind"], "")
    return dict(spec.get(field, {}).get("matchLabels", {}))


def _annotation(resource: Resource, key: str) -> str:
    return str(resource["metadata"].get("annotations", {}).get(key, ""))


RULES: tuple[Callable[[Sequence[Resource]], Iterator[Fault]], ...] = (
    restricted,
    bounded,
    tagged,
    tokenless,
    resolved,
    selected,
)

if __name__ == "__main__":
    main()
