"""Preflight finds each thing that is amiss in a cluster, says what to do, and finds nothing in one that is ready."""

from __future__ import annotations

import base64
import copy
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from pipelines import placement as placements
from pipelines import preflight
from pipelines.checks import objects, pods
from pipelines.checks import services as checks
from pipelines.checks.probe import IN_CLUSTER, Finding, View
from pipelines.place import ADDRESSES, KEYS
from pipelines.placement import Placement
from symbol_llm import machine
from symbol_llm.ground.errors import MissingDependency
from tests import git_server, services
from tests.cluster.apiserver import Kind, Object, User
from tests.cluster.players import Server, namespace

ROOT = Path(__file__).parents[2]
ANY = {
    "type": "object",
    "properties": {
        "spec": {"x-kubernetes-preserve-unknown-fields": True},
        "status": {"x-kubernetes-preserve-unknown-fields": True},
    },
}
CUSTOM = (
    Kind("argoproj.io", "v1alpha1", "Workflow", "workflows", ANY, False),
    Kind("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices", ANY, True),
    Kind("trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs", ANY, True),
    Kind("trainer.kubeflow.org", "v1alpha1", "TrainingRuntime", "trainingruntimes", ANY, False),
    Kind("kueue.x-k8s.io", objects.APIS["kueue.x-k8s.io"][0], "LocalQueue", "localqueues", ANY, True),
)
PLACEMENT = Placement.model_validate(
    {
        "light": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        "sample": {
            "image": "gpu",
            "requests": {"cpu": "2", "memory": "8Gi"},
            "limits": {"cpu": "4", "memory": "16Gi"},
            "accelerator": {"count": 1},
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "nvidia.com/gpu"}],
            "shared_memory": "2Gi",
        },
        "tune_job": {"nodes": 2, "processes_per_node": 2},
        "explore_shards": 4,
        "queue": "gpus",
        "service_account": "trainer",
    }
)
RUNNER = (
    {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["kfp-launcher"], "verbs": ["get"]},
    {
        "apiGroups": ["trainer.kubeflow.org"],
        "resources": ["trainjobs"],
        "verbs": ["create", "get", "list", "watch", "delete"],
    },
)


NODE: Object = {
    "containers": [
        {
            "name": "node",
            "image": "localhost/symbol-llm/gpu:0.1.0",
            "resources": {
                "requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2"},
                "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2"},
            },
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "tolerations": [{"operator": "Exists"}],
}
JOBS: list[Object] = [{"name": "node", "template": {"spec": {"template": {"spec": NODE}}}}]
RUNTIME: Object = {"template": {"spec": {"replicatedJobs": JOBS}}}


def made(kind: str, name: str, version: str = "v1", **more: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **more.pop("metadata", {})}, **more}


def kueue(pod: Object) -> None:
    """Hold a pod back that names a queue, as Kueue with the integration `pod` does."""
    if "kueue.x-k8s.io/queue-name" in pod["metadata"].get("labels", {}):
        pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]


@pytest.fixture
def ready(server: Server) -> Server:
    """Give a cluster that has all that the placement needs."""
    cluster = server.cluster
    cluster.webhooks = [kueue]
    cluster.kinds = [k for k in cluster.kinds if k.schema is None] + list(CUSTOM)
    cluster.put(namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}))
    cluster.put(made("ServiceAccount", "trainer"))
    cluster.users["runner"] = User("system:serviceaccount:symbol-llm:trainer", RUNNER)
    cluster.put(made("ConfigMap", "storage", data={key: "http://x" for key in ADDRESSES}))
    cluster.put(made("ConfigMap", "kfp-launcher", data={"defaultPipelineRoot": "s3://b/kfp", "providers": "s3: {}"}))
    cluster.put(made("ConfigMap", "artifact-repositories", data={"logs": "archiveLogs: true"}))
    secret = {key: base64.b64encode(b"word").decode() for key in KEYS}
    cluster.put(made("Secret", "credentials", data=secret))
    claim = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "shared",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    cluster.put(made("PersistentVolumeClaim", "state", spec=claim, status={"phase": "Pending"}))
    cluster.put(made("StorageClass", "shared", "storage.k8s.io/v1", provisioner="nfs"))
    hard = {"requests.cpu": "16", "requests.memory": "64Gi", "pods": "20", "requests.nvidia.com/gpu": "4"}
    cluster.put(made("ResourceQuota", "q", spec={"hard": hard}, status={"used": {"requests.cpu": "4", "pods": "3"}}))
    taint = [{"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"}]
    gpus = {"allocatable": {"nvidia.com/gpu": "2"}}
    cluster.put(made("Node", "small", spec={}, status={"allocatable": {"cpu": "4"}}))
    for name in ("large", "larger"):
        cluster.put(made("Node", name, metadata={"labels": {"pool": "gpu"}}, spec={"taints": taint}, status=gpus))
    version = CUSTOM[-1].api_version
    active = [{"type": "Active", "status": "True", "message": "Can submit new workloads to clusterQueue"}]
    cluster.put(made("LocalQueue", "gpus", version, spec={"clusterQueue": "all"}, status={"conditions": active}))
    cluster.put(made("TrainingRuntime", "symbol-llm-torch", "trainer.kubeflow.org/v1alpha1", spec=RUNTIME))
    return server


def view(server: Server, placement: Placement = PLACEMENT, who: str = "admin", **more: Any) -> View:
    runner = server.api(who)
    runner.set_default_header("Impersonate-User", f"system:serviceaccount:symbol-llm:{placement.service_account}")
    return View(placement, "symbol-llm", server.api(who), runner, **more)


def failed(server: Server, placement: Placement = PLACEMENT, who: str = "admin", **more: Any) -> list[Finding]:
    found = list(preflight.check(view(server, placement, who, **more)))
    assert all((one.state == "failed") == bool(one.remedy) for one in found)
    return [one for one in found if one.state == "failed"]


def test_cluster_that_is_ready_passes_and_what_was_not_looked_at_is_said(ready: Server) -> None:
    found = {one.check: one.state for one in preflight.check(view(ready))}
    unchecked = {"podmonitors.monitoring.coreos.com", "addresses", "network policies", "MLflow", "Kubeflow Pipelines"}
    assert {name for name, state in found.items() if state != "passed"} == unchecked
    assert {found[name] for name in unchecked} == {"unchecked"}
    assert found.keys() >= {
        "cluster",
        "rights",
        "pod light",
        "pod sample",
        "claim state",
        "storage class shared",
        "quota",
    }
    assert ready.cluster.all("pods") == []


def test_nothing_is_changed(ready: Server) -> None:
    before = {key: made["metadata"]["resourceVersion"] for key, made in ready.cluster.objects.items()}
    list(preflight.check(view(ready)))
    assert {key: made["metadata"]["resourceVersion"] for key, made in ready.cluster.objects.items()} == before


def without(plural: str, name: str, of: str = "symbol-llm") -> Callable[[Server], None]:
    def edit(server: Server) -> None:
        key = next(k for k in server.cluster.objects if (k[1], k[3]) == (plural, name))
        server.cluster.remove(key)

    return edit


def both(*edits: Callable[[Server], None]) -> Callable[[Server], None]:
    def edit(server: Server) -> None:
        for one in edits:
            one(server)

    return edit


def changed(plural: str, name: str, *path: str, to: Any) -> Callable[[Server], None]:
    def edit(server: Server) -> None:
        def change(object_: Object) -> None:
            place = object_
            for part in path[:-1]:
                place = place[part]
            if to is None:
                del place[path[-1]]
            else:
                place[path[-1]] = to

        server.cluster.change(plural, name, change)

    return edit


def unserved(group: str) -> Callable[[Server], None]:
    def edit(server: Server) -> None:
        server.cluster.kinds = [k for k in server.cluster.kinds if k.group != group]

    return edit


def old(server: Server) -> None:
    server.cluster.kinds = [
        k._replace(version="v1alpha9") if k.group == "serving.kserve.io" else k for k in server.cluster.kinds
    ]


def role_without(verb: str) -> Callable[[Server], None]:
    def edit(server: Server) -> None:
        rules = tuple({**rule, "verbs": [v for v in rule["verbs"] if v != verb]} for rule in RUNNER)
        server.cluster.users["runner"] = User("system:serviceaccount:symbol-llm:trainer", rules)

    return edit


def runtime(**more: Any) -> Object:
    found = copy.deepcopy(RUNTIME)
    found["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"].update(more)
    return found


def with_devices(n: int) -> Object:
    container = copy.deepcopy(NODE["containers"][0])
    for side in container["resources"].values():
        side["nvidia.com/gpu"] = str(n)
    return runtime(containers=[container])


MAINTAINED = {"key": "maintenance", "effect": "NoExecute"}
AMISS = {
    "KServe is absent": (unserved("serving.kserve.io"), "inferenceservices.serving.kserve.io: v1beta1 is not served"),
    "KServe is too old": (old, "inferenceservices.serving.kserve.io: v1beta1 is not served"),
    "Argo is absent": (unserved("argoproj.io"), "workflows.argoproj.io: v1alpha1 is not served"),
    "the role lacks a verb": (role_without("watch"), "rights: trainer may not watch trainjobs.trainer.kubeflow.org"),
    "the account is absent": (
        without("serviceaccounts", "trainer"),
        "error looking up service account symbol-llm/trainer",
    ),
    "a ConfigMap is absent": (without("configmaps", "storage"), "ConfigMap storage: is not there"),
    "the launcher is not set up": (without("configmaps", "kfp-launcher"), "ConfigMap kfp-launcher: is not there"),
    "the launcher has no root": (
        changed("configmaps", "kfp-launcher", "data", "defaultPipelineRoot", to=None),
        "ConfigMap kfp-launcher: lacks defaultPipelineRoot",
    ),
    "Argo is not told where logs go": (
        without("configmaps", "artifact-repositories"),
        "ConfigMap artifact-repositories: is not there",
    ),
    "the Secret is absent": (without("secrets", "credentials"), "Secret credentials: is not there"),
    "the Secret lacks a key": (
        changed("secrets", "credentials", "data", "AWS_ACCESS_KEY_ID", to=None),
        "Secret credentials: lacks AWS_ACCESS_KEY_ID",
    ),
    "the Secret has an empty key": (
        changed("secrets", "credentials", "data", "AWS_ACCESS_KEY_ID", to=""),
        "Secret credentials: lacks AWS_ACCESS_KEY_ID",
    ),
    "the claim is absent": (without("persistentvolumeclaims", "state"), "claim state: is not there"),
    "the claim is of one node": (
        changed("persistentvolumeclaims", "state", "spec", "accessModes", to=["ReadWriteOnce"]),
        "claim state: is ReadWriteOnce, and 4 tasks explore at once and a TrainJob has 2 nodes",
    ),
    "the claim is lost": (
        changed("persistentvolumeclaims", "state", "status", "phase", to="Lost"),
        "its volume is lost",
    ),
    "the class is absent": (without("storageclasses", "shared"), "storage class shared: is not there"),
    "the quota is too small for all shards": (
        changed("resourcequotas", "q", "spec", "hard", "requests.cpu", to="11"),
        "quota: tasks at once ask for requests.cpu 8 of 7 left",
    ),
    "the quota is too small for one task": (
        changed("resourcequotas", "q", "spec", "hard", "requests.memory", to="6Gi"),
        'pod sample: pods "preflight-sample" is forbidden: exceeded quota: q',
    ),
    "the devices are too few": (
        both(*(changed("nodes", n, "status", "allocatable", "nvidia.com/gpu", to="0") for n in ("large", "larger"))),
        "accelerators of sample: 1 nvidia.com/gpu: 0 of 3 nodes have as many and take it, 1 needed; the most is 0",
    ),
    "the nodes are too few for the job": (
        changed("nodes", "large", "status", "allocatable", "nvidia.com/gpu", to="1"),
        "accelerators of symbol-llm-torch: 2 nvidia.com/gpu: 1 of 3 nodes have as many and take it, 2 needed; the most is 2",
    ),
    "the nodes are labelled otherwise": (
        both(*(changed("nodes", n, "metadata", "labels", "pool", to="other") for n in ("large", "larger"))),
        "accelerators of sample: 1 nvidia.com/gpu: 0 of 3 nodes",
    ),
    "the nodes are tainted": (
        both(*(changed("nodes", n, "spec", "taints", to=[MAINTAINED]) for n in ("large", "larger"))),
        "accelerators of sample: 1 nvidia.com/gpu: 0 of 3 nodes",
    ),
    "the queue is absent": (without("localqueues", "gpus"), "queue gpus: is not there"),
    "the queue is stopped": (
        changed(
            "localqueues",
            "gpus",
            "status",
            "conditions",
            to=[{"type": "Active", "status": "False", "message": "stopped"}],
        ),
        "queue gpus: lets nothing in: stopped",
    ),
    "the queue is not asked by pods": (
        lambda server: server.cluster.webhooks.clear(),
        "queue of pods: tasks do not wait for gpus: Kueue lets their pods alone",
    ),
    "the runtime is absent": (
        without("trainingruntimes", "symbol-llm-torch"),
        "runtime symbol-llm-torch: is not there",
    ),
    "the runtime is another's": (
        changed("trainingruntimes", "symbol-llm-torch", "spec", to={"template": {"spec": {"replicatedJobs": []}}}),
        "runtime symbol-llm-torch: has no job 'node'",
    ),
    "the runtime's pods may be root": (
        changed("trainingruntimes", "symbol-llm-torch", "spec", to=runtime(securityContext={})),
        'pod node: pods "preflight-node" is forbidden: violates PodSecurity',
    ),
    "the runtime has fewer devices than processes": (
        changed("trainingruntimes", "symbol-llm-torch", "spec", to=with_devices(1)),
        "processes of symbol-llm-torch: 2 processes a node share 1 devices",
    ),
}


@pytest.mark.parametrize("amiss", AMISS)
def test_what_is_amiss_is_found(ready: Server, amiss: str) -> None:
    edit, told = AMISS[amiss]
    edit(ready)
    assert [one for one in failed(ready) if told in f"{one.check}: {one.said}"], failed(ready)


def test_pods_that_the_namespace_refuses_are_found_before_any_runs(
    ready: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pods.pod

    def as_kubeflow_alone_makes_them(*arguments: Any) -> Object:
        found = real(*arguments)
        del found["spec"]["containers"][0]["securityContext"]["runAsNonRoot"]
        return found

    monkeypatch.setattr(pods, "pod", as_kubeflow_alone_makes_them)
    first, second = failed(ready)
    assert [one.check for one in (first, second)] == ["pod light", "pod sample"]
    assert 'violates PodSecurity "restricted:latest": runAsNonRoot != true' in first.said
    assert "labels of manifests/base/namespace.yaml" in first.remedy


def test_what_one_may_not_see_is_unchecked_and_no_failure(ready: Server) -> None:
    ready.cluster.users["guest"] = User("guest", ())
    found = {one.check: one for one in preflight.check(view(ready, who="guest"))}
    assert {one.state for one in found.values()} == {"passed", "unchecked"}
    assert 'cannot impersonate resource "serviceaccounts"' in found["rights"].said
    assert 'cannot list resource "nodes"' in found["accelerators"].said


def test_token_that_nobody_knows_and_a_cluster_that_is_away_are_one_failure(ready: Server) -> None:
    (found,) = preflight.check(view(ready, who="stale"))
    assert (found.check, found.state, found.said) == ("cluster", "failed", "Unauthorized")
    configuration = client.Configuration(host="http://127.0.0.1:1")
    configuration.retries = False
    nowhere = client.ApiClient(configuration)
    (found,) = preflight.check(View(PLACEMENT, "symbol-llm", nowhere, nowhere))
    assert (found.state, found.said) == ("failed", "no answer from the cluster (NewConnectionError)")


def test_one_task_at_a_time_needs_no_shared_volume_and_no_trainer(ready: Server) -> None:
    one = PLACEMENT.model_dump(exclude={"tune_job", "queue"}) | {"explore_shards": 1, "tune": PLACEMENT.sample}
    changed("persistentvolumeclaims", "state", "spec", "accessModes", to=["ReadWriteOnce"])(ready)
    unserved("trainer.kubeflow.org")(ready)
    unserved("kueue.x-k8s.io")(ready)
    assert failed(ready, Placement.model_validate(one)) == []


@pytest.mark.parametrize("name", placements.names())
def test_every_placement_that_ships_has_pods_that_a_restricted_namespace_lets_in(ready: Server, name: str) -> None:
    wanted = placements.load(name)
    ready.cluster.put(made("ServiceAccount", wanted.service_account))
    ready.cluster.remove(("", "resourcequotas", "symbol-llm", "q"))
    found = [one for one in preflight.check(view(ready, wanted)) if one.check.startswith("pod ")]
    assert {one.state for one in found} == {"passed"}


class Guarded(BaseHTTPRequestHandler):
    """A server that knows one name and password, one token and one cookie; it shows others a page if asked for one."""

    def do_GET(self) -> None:
        known = ("Basic " + base64.b64encode(b"word:word").decode(), "Bearer t0ken")
        is_known = self.headers.get("Authorization") in known or self.headers.get("Cookie") == "session=abc"
        has_page = self.path.startswith("/behind-a-page/")
        body = b'{"runs": []}' if is_known else b"<html>Log in</html>" if has_page else b""
        self.send_response(200 if body else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def guarded() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_mlflow_and_kubeflow_have_to_answer_and_to_know_us(
    ready: Server, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert failed(ready, mlflow=guarded, host=guarded, token="t0ken") == []
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    first, second = failed(ready, mlflow=guarded, host=guarded)
    assert (first.check, first.said) == ("MLflow", "answers 401 Unauthorized")
    assert (second.check, second.said) == ("Kubeflow Pipelines", "answers 401 Unauthorized")
    (away,) = failed(ready, mlflow="http://127.0.0.1:1")
    assert away.said.startswith("no answer: <urlopen error [Errno 111]")
    behind = f"{guarded}/behind-a-page"
    assert failed(ready, host=behind, cookie="session=abc") == []
    (page,) = failed(ready, host=behind)
    assert page.said == "answers with a page instead of JSON; is a login before it?"
    assert page.remedy == "give --token or --cookie, or another --namespace"


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give what a task of the cluster has no way to, and which here any process reaches."""
    monkeypatch.setenv(IN_CLUSTER, "10.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(checks, "GUARDED", listening.getsockname())
        yield listening


def policies(server: Server) -> Finding:
    (found,) = [one for one in preflight.check(view(server)) if one.check == "network policies"]
    return found


def test_network_policies_that_nobody_enforces_are_found(
    ready: Server, database: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(checks.time, "sleep", pauses.append)
    found = policies(ready)
    assert (found.state, found.said.partition(":")[0]) == ("failed", "are not enforced")
    assert found.remedy.startswith("use a network plug-in that enforces NetworkPolicies")
    assert pauses == [0, 5.0, 5.0]


def test_network_policies_hold_at_once_or_a_little_later(
    ready: Server, database: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks.time, "sleep", lambda pause_s: database.close() if pause_s else None)
    assert policies(ready).state == "passed"
    assert policies(ready).state == "passed"
    monkeypatch.setattr(checks, "GUARDED", ("mlflow-db.invalid", 5432))
    assert policies(ready).state == "unchecked"


def test_inside_the_cluster_names_and_ports_are_tried(
    ready: Server, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IN_CLUSTER, "10.0.0.1")
    addresses = dict(zip(ADDRESSES, (guarded, "http://127.0.0.1:1", "http://object-store.invalid:9000"), strict=False))
    for name in ADDRESSES:
        monkeypatch.setenv(name, addresses.get(name, ""))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "word")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "word")
    found = {one.check: one for one in preflight.check(view(ready))}
    assert (found[guarded].state, found["MLflow"].state) == ("passed", "passed")
    assert "no connection" in found["http://127.0.0.1:1"].said
    assert "no such name" in found["http://object-store.invalid:9000"].said


def test_inside_the_cluster_the_environment_says_what_config_map_and_secret_have(
    ready: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account of a run may read neither, and the first task starts without them."""
    ready.cluster.users["task"] = User("system:serviceaccount:symbol-llm:trainer", ())
    monkeypatch.setenv(IN_CLUSTER, "10.0.0.1")
    for name in (*ADDRESSES, *KEYS):
        monkeypatch.setenv(name, "word")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    for name in KEYS:
        monkeypatch.delenv(name)
    found = {one.check: one for one in preflight.check(view(ready, who="task"))}
    assert (found["ConfigMap storage"].state, found["ConfigMap storage"].said) == ("failed", "lacks AWS_DEFAULT_REGION")
    assert (found["Secret credentials"].state, found["Secret credentials"].said) == (
        "failed",
        f"lacks {', '.join(KEYS)}",
    )
    assert found["ConfigMap kfp-launcher"].state == "unchecked"


# --- the data repository -----------------------------------------------------------------------------------------------

HTTPS, SSH = "https://git.example.org/team/data.git", "git@git.example.org:team/data.git"


def data_repository(address: str, *keys: str) -> Callable[[Server], None]:
    """Have the ConfigMap name a shared repository, and the Secret have `keys`; without any there is no Secret."""

    def edit(server: Server) -> None:
        changed("configmaps", "storage", "data", "SYMBOL_LLM_DATA_REPO", to=address)(server)
        if keys:
            secret = {key: base64.b64encode(b"word").decode() for key in keys}
            server.cluster.put(made("Secret", "data-repository", data=secret))

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (data_repository(HTTPS), "is not there"),
        (data_repository(HTTPS, "SYMBOL_LLM_DATA_KEY"), "lacks SYMBOL_LLM_DATA_TOKEN"),
        (data_repository(SSH, "SYMBOL_LLM_DATA_KEY"), "lacks SYMBOL_LLM_DATA_KNOWN_HOSTS"),
        (
            data_repository("ssh://git@git.example.org/d", "SYMBOL_LLM_DATA_TOKEN"),
            "lacks SYMBOL_LLM_DATA_KEY, SYMBOL_LLM_DATA_KNOWN_HOSTS",
        ),
    ],
)
def test_shared_data_repository_needs_a_secret_with_the_keys_of_its_protocol(
    ready: Server, edit: Callable[[Server], None], told: str
) -> None:
    edit(ready)
    (found,) = failed(ready)
    assert (found.check, found.said) == ("Secret data-repository", told)
    assert found.remedy.startswith("kubectl create secret generic data-repository")


def test_data_repository_is_tried_from_inside_alone(ready: Server) -> None:
    data_repository(SSH, "SYMBOL_LLM_DATA_KEY", "SYMBOL_LLM_DATA_KNOWN_HOSTS")(ready)
    found = {one.check: one for one in preflight.check(view(ready))}
    assert found["Secret data-repository"].state == "passed"
    assert (found["data repository"].state, found["data repository"].said) == (
        "unchecked",
        f"{SSH} is tried inside the cluster alone, and DVC's remote with it",
    )


def test_data_sets_of_no_shared_repository_need_a_volume_that_outlives_their_task(ready: Server) -> None:
    found = {one.check: one for one in preflight.check(view(ready))}
    assert found["data repository"].said == "lies on the claim state"
    alone = PLACEMENT.model_dump(exclude={"tune_job"}) | {"tune": PLACEMENT.sample}
    alone["light"] = PLACEMENT.light.model_dump() | {"state": None}
    (lost,) = failed(ready, Placement.model_validate(alone))
    assert (lost.check, lost.said) == (
        "data repository",
        "data sets under version would go with the pod that records them",
    )
    data_repository(HTTPS, "SYMBOL_LLM_DATA_TOKEN")(ready)
    assert failed(ready, Placement.model_validate(alone)) == []


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with services.object_store() as found:
        yield found


@pytest.fixture
def inside(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the address of an empty repository behind a server that asks for a token, as the first task of a run sees it."""
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "data.git")], check=True)
    keys = {"AWS_ACCESS_KEY_ID": services.KEY, "AWS_SECRET_ACCESS_KEY": services.SECRET, "AWS_ENDPOINT_URL": store}
    with git_server.serving(tmp_path, "git", "t0ken") as address:
        where = {"SYMBOL_LLM_DATA_REPO": f"{address}/data.git", "SYMBOL_LLM_DATA_REMOTE": f"s3://{services.BUCKET}/dvc"}
        named = {IN_CLUSTER: "10.0.0.1", "SYMBOL_LLM_DATA_TOKEN": "t0ken", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in (where | keys | named).items():
            monkeypatch.setenv(name, value)
        yield where["SYMBOL_LLM_DATA_REPO"]


def of_data(server: Server) -> list[Finding]:
    return [one for one in preflight.check(view(server, who="nobody")) if "data" in one.check]


def test_inside_the_cluster_git_and_the_store_have_to_take_the_keys(
    ready: Server, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.cluster.users["nobody"] = User("system:serviceaccount:symbol-llm:trainer", ())
    key, repository = of_data(ready)
    assert (key.state, repository.state) == ("passed", "passed")
    assert repository.said == f"{inside}, files at s3://symbol-llm/dvc"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    _, repository = of_data(ready)
    assert (repository.state, "the store refuses the keys" in repository.said) == ("failed", True)
    assert repository.remedy.startswith("mend SYMBOL_LLM_DATA_REPO and SYMBOL_LLM_DATA_REMOTE in the ConfigMap storage")
    monkeypatch.setenv("SYMBOL_LLM_DATA_TOKEN", "wrong")
    assert "access is refused" in of_data(ready)[1].said
    monkeypatch.delenv("SYMBOL_LLM_DATA_TOKEN")
    (key,) = of_data(ready)
    assert (key.state, key.said) == ("failed", "lacks SYMBOL_LLM_DATA_TOKEN")


# --- the commands -----------------------------------------------------------------------------------------------------


def preflown(server: Server, folder: Path, *command: str, token: str = "admin") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "KF_"))}
    environment["KUBECONFIG"] = str(server.kubeconfig(folder / "kubeconfig", token))
    environment["SYMBOL_LLM_HOME"] = str(folder / "home")
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT if command[1].startswith("pipelines") else folder, env=environment,
        check=False, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_command_prints_a_line_a_check_and_ends_with_1_where_one_failed(ready: Server, tmp_path: Path) -> None:
    wanted = PLACEMENT.model_dump_json()
    good = preflown(ready, tmp_path, "-m", "pipelines.preflight", "--placement", wanted)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "✔ claim state: ReadWriteMany, Pending" in good.stdout.splitlines()
    without("localqueues", "gpus")(ready)
    bad = preflown(ready, tmp_path, "-m", "pipelines.preflight", "--placement", wanted)
    assert bad.returncode == 1
    assert "✘ queue gpus: is not there\n  → apply an overlay with the component `queueing`" in bad.stdout
    listed = preflown(ready, tmp_path, "-m", "pipelines.preflight", "--placement", wanted, "--json")
    assert [one["check"] for one in json.loads(listed.stdout) if one["state"] == "failed"] == ["queue gpus"]


def test_doctor_asks_the_cluster_too(ready: Server, tmp_path: Path) -> None:
    ready.cluster.put(made("ServiceAccount", "pipeline-runner"))
    (tmp_path / "pipelines").mkdir()
    for name in ("__init__", "preflight"):
        (tmp_path / "pipelines" / f"{name}.py").write_text("raise SystemExit('that of the working folder')")
    done = preflown(ready, tmp_path, "-m", "symbol_llm", "doctor", "--cluster", "--placement", "laptop")
    assert "✔ cluster: Kubernetes v1.33.0" in done.stdout.splitlines(), done.stderr
    assert done.returncode == 1  # the account pipeline-runner has no role here
    assert "✘ rights: pipeline-runner may not create workflowtaskresults.argoproj.io" in done.stdout


def test_doctor_without_the_pipelines_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "symbol_llm" / "machine.py"))
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(MissingDependency, match="pipelines.preflight, which is in the checkout and in the images"):
        machine.preflight()
