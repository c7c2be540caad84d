"""Whether the volumes of tasks are there, of a class there is, and can be mounted wherever tasks run at once."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.checks.pods import pod, takes
from pipelines.checks.probe import Absent, Finding, Unseen, View, look
from pipelines.placement import Claim, Role


def state(view: View) -> Iterator[Finding]:
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
        {node.metadata.name for node in nodes if takes(node, pod(name, role, view.placement)["spec"])}
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
