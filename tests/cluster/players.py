"""What tests of the cluster's clients share: a running server, and one who plays Kubeflow Trainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kubernetes import client

from tests.cluster import apiserver
from tests.cluster.apiserver import Cluster, Object

ROOT = Path(__file__).parents[2]
CRDS = Path(os.environ.get("CRDS") or ROOT / "manifests" / "crds")


class Server(NamedTuple):
    """A running server, and clients of it."""

    cluster: Cluster
    address: str

    def api(self, token: str = "admin") -> client.ApiClient:
        configuration = client.Configuration(host=self.address)
        configuration.api_key = {"authorization": f"Bearer {token}"}
        configuration.retries = False
        return client.ApiClient(configuration)

    def kubeconfig(self, file: Path, token: str = "admin") -> Path:
        """Write what kubectl would read to `file`."""
        names = {"cluster": "c", "user": "u", "namespace": "symbol-llm"}
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": names}],
            "clusters": [{"name": "c", "cluster": {"server": self.address}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        file.write_text(yaml.safe_dump(text))
        return file


def namespace(**labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "symbol-llm", "labels": labels}}


class Trainer:
    """Kubeflow Trainer, JobSet and kubelet for the one TrainJob of a test: what they would write, when the test says so."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.n_starts = 0

    @property
    def job(self) -> Object:
        """Return the job."""
        (found,) = self.cluster.all("trainjobs")
        return found

    def condition(self, kind: str, holds: bool, reason: str, message: str) -> None:
        """Set a condition of the job."""
        one = {
            "type": kind,
            "status": str(holds),
            "reason": reason,
            "message": message,
            "lastTransitionTime": apiserver.now(),
        }

        def edit(job: Object) -> None:
            conditions = job.setdefault("status", {}).setdefault("conditions", [])
            conditions[:] = [c for c in conditions if c["type"] != kind] + [one]

        self.cluster.change("trainjobs", self.job["metadata"]["name"], edit)

    def suspend(self) -> None:
        """Put the job out of its nodes, as Kueue does, or keep it in the queue."""
        name = self.job["metadata"]["name"]
        self.cluster.change("trainjobs", name, lambda job: job["spec"].update(suspend=True))
        self.condition("Suspended", True, "Suspended", "TrainJob is suspended")
        for pod in self.cluster.all("pods"):
            self.cluster.remove(("", "pods", "symbol-llm", pod["metadata"]["name"]))

    def start(self) -> list[str]:
        """Let the job in: a pod a node, which runs. Return the names of the pods."""
        self.n_starts += 1
        job = self.job
        name, meta = job["metadata"]["name"], job["metadata"]
        if job["spec"].get("suspend"):
            self.cluster.change("trainjobs", name, lambda job: job["spec"].update(suspend=False))
            self.condition("Suspended", False, "Resumed", "TrainJob is resumed")
        nodes = [f"{name}-node-0-{i}-{self.n_starts}" for i in range(job["spec"]["trainer"]["numNodes"])]
        for i, pod in enumerate(nodes):
            self.cluster.put(_pod(pod, i, name, meta["uid"]))
        counts = {"active": 1, "failed": 0, "ready": 1, "succeeded": 0, "suspended": 0}
        status = [{"name": "node", **counts}]
        self.cluster.change("trainjobs", name, lambda job: job.setdefault("status", {}).update(jobsStatus=status))
        return nodes

    def end(self, pod: str, code: int, reason: str, at: str = "2026-01-01T00:00:09Z") -> None:
        """Have a pod end with an exit code; its log ends too."""
        self.cluster.log(pod, close=True)
        end = {"exitCode": code, "reason": reason, "finishedAt": at}

        def edit(made: Object) -> None:
            made["status"]["phase"] = "Failed" if code else "Succeeded"
            made["status"]["containerStatuses"][0]["state"] = {"terminated": end}

        self.cluster.change("pods", pod, edit)

    def complete(self) -> None:
        """End the job well."""
        self.condition("Complete", True, "AllJobsCompleted", "jobset completed successfully")

    def fail(self) -> None:
        """End the job badly."""
        self.condition("Failed", True, "FailedJobs", "jobset failed due to one or more job failures")


def _pod(name: str, index: int, job: str, uid: str) -> Object:
    labels = {
        "jobset.sigs.k8s.io/jobset-name": job,
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": str(index),
    }
    owner = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "name": job, "uid": uid}
    state: dict[str, Any] = {
        "name": "node",
        "image": "a",
        "imageID": "a",
        "ready": True,
        "restartCount": 0,
        "state": {},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "node", "image": "a"}]},
        "status": {"phase": "Running", "containerStatuses": [state]},
    }
