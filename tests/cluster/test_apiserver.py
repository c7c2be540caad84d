"""The server that client code is tried against is itself strict: what the real one refuses, it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.cluster import apiserver
from tests.cluster.players import CRDS, Server, namespace

JOBS = ("trainer.kubeflow.org", "v1alpha1", "symbol-llm", "trainjobs")
needs_crds = pytest.mark.skipif(not CRDS.is_dir(), reason="no CRDs; set CRDS to the folder that holds Trainer's")


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def job(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "a"},
        "spec": {"runtimeRef": {"name": "torch"}, **spec},
    }


def pod(**context: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "localhost/a:1",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **context},
    }
    spec = {"containers": [container], "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}


def refusal(call: Any, *arguments: Any, **more: Any) -> tuple[int, str]:
    with pytest.raises(ApiException) as e:
        call(*arguments, **more)
    return e.value.status, e.value.body


def test_object_is_made_once_and_an_old_version_of_it_is_a_conflict(server: Server) -> None:
    core = client.CoreV1Api(server.api())
    first = core.create_namespaced_config_map("symbol-llm", config_map(x="1"))
    assert first.metadata.uid and first.metadata.creation_timestamp
    assert refusal(core.create_namespaced_config_map, "symbol-llm", config_map())[0] == 409
    first.data = {"x": "2"}
    second = core.replace_namespaced_config_map("a", "symbol-llm", first)
    assert int(second.metadata.resource_version) > int(first.metadata.resource_version)
    status, said = refusal(core.replace_namespaced_config_map, "a", "symbol-llm", first)
    assert (status, "the object has been modified" in said) == (409, True)
    core.delete_namespaced_config_map("a", "symbol-llm")
    assert refusal(core.read_namespaced_config_map, "a", "symbol-llm")[0] == 404
    assert refusal(core.create_namespaced_config_map, "elsewhere", config_map())[0] == 404


@needs_crds
def test_unknown_fields_are_refused_if_asked_and_dropped_otherwise(server: Server) -> None:
    jobs = client.CustomObjectsApi(server.api())
    body = job(trainer={"numNodes": 2, "numNods": 3}, suspended=True)
    status, said = refusal(jobs.create_namespaced_custom_object, *JOBS, body, field_validation="Strict")
    assert status == 400
    assert 'unknown field \\"spec.trainer.numNods\\", unknown field \\"spec.suspended\\"' in said
    made = jobs.create_namespaced_custom_object(*JOBS, body)
    assert made["spec"] == {
        "runtimeRef": {"name": "torch", "apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime"},
        "trainer": {"numNodes": 2},
        "suspend": False,
        "managedBy": "trainer.kubeflow.org/trainjob-controller",
    }


@needs_crds
def test_wrong_types_names_and_changes_of_fixed_fields_are_invalid(server: Server) -> None:
    jobs = client.CustomObjectsApi(server.api())
    assert refusal(jobs.create_namespaced_custom_object, *JOBS, job(trainer={"numNodes": "2"}))[0] == 422
    assert refusal(jobs.create_namespaced_custom_object, *JOBS, job() | {"metadata": {"name": "0a"}})[0] == 422
    made = jobs.create_namespaced_custom_object(*JOBS, job(trainer={"numNodes": 2}))
    change = {"spec": {"trainer": {"numNodes": 3}}}
    assert refusal(jobs.patch_namespaced_custom_object, *JOBS, "a", change)[0] == 422
    held = jobs.patch_namespaced_custom_object(*JOBS, "a", {"spec": {"suspend": True}})
    assert (made["metadata"]["generation"], held["metadata"]["generation"]) == (1, 2)


@needs_crds
def test_status_is_written_apart_and_changes_no_generation(server: Server) -> None:
    jobs = client.CustomObjectsApi(server.api())
    condition = {
        "type": "Complete",
        "status": "True",
        "reason": "Done",
        "message": "",
        "lastTransitionTime": apiserver.now(),
    }
    status = {"status": {"conditions": [condition]}}
    assert "status" not in jobs.create_namespaced_custom_object(*JOBS, job() | status)
    assert "status" not in jobs.patch_namespaced_custom_object(*JOBS, "a", status)
    made = jobs.patch_namespaced_custom_object_status(*JOBS, "a", status)
    assert (made["status"]["conditions"], made["metadata"]["generation"]) == ([condition], 1)


def test_role_decides_and_a_review_says_so(server: Server) -> None:
    rules = ({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]},)
    server.cluster.users["t0ken"] = apiserver.User("system:serviceaccount:symbol-llm:solver", rules)
    server.cluster.put(config_map())
    core = client.CoreV1Api(server.api("t0ken"))
    assert core.read_namespaced_config_map("a", "symbol-llm").metadata.name == "a"
    status, said = refusal(core.list_namespaced_config_map, "symbol-llm")
    assert (status, 'cannot list resource \\"configmaps\\"' in said) == (403, True)
    assert refusal(client.CoreV1Api(server.api("nobody")).list_namespaced_config_map, "symbol-llm")[0] == 401
    review = client.AuthorizationV1Api(server.api("t0ken"))
    for verb, name, allowed in (("get", "a", True), ("get", "b", False), ("list", "", False)):
        asked = {"namespace": "symbol-llm", "verb": verb, "resource": "configmaps", "name": name}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        answer = review.create_self_subject_access_review(body | {"spec": {"resourceAttributes": asked}})
        assert answer.status.allowed is allowed


def test_dry_run_is_checked_like_the_real_thing_and_stores_nothing(server: Server) -> None:
    server.cluster.put(namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}))
    core = client.CoreV1Api(server.api())
    status, said = refusal(core.create_namespaced_pod, "symbol-llm", pod(), dry_run="All")
    assert (status, "runAsNonRoot != true" in said) == (403, True)
    assert core.create_namespaced_pod("symbol-llm", pod(runAsNonRoot=True), dry_run="All").metadata.name == "a"
    assert core.list_namespaced_pod("symbol-llm").items == []
    hard = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"requests.cpu": "500m"}},
    }
    server.cluster.put(hard)
    status, said = refusal(core.create_namespaced_pod, "symbol-llm", pod(runAsNonRoot=True), dry_run="All")
    assert (status, "exceeded quota: q" in said) == (403, True)


def test_watch_tells_each_change_and_a_version_that_is_forgotten_is_gone(server: Server) -> None:
    from kubernetes import watch

    core = client.CoreV1Api(server.api())
    since = core.list_namespaced_config_map("symbol-llm").metadata.resource_version
    server.cluster.put(config_map(x="1"))
    server.cluster.put(config_map(x="2"))
    server.cluster.remove(("", "configmaps", "symbol-llm", "a"))
    seen = []
    for event in watch.Watch().stream(
        core.list_namespaced_config_map,
        "symbol-llm",
        resource_version=since,
        timeout_seconds=5,
        allow_watch_bookmarks=True,
    ):
        seen.append((event["type"], event["raw_object"].get("data")))
        if event["type"] == "BOOKMARK":
            break
    assert seen == [("ADDED", {"x": "1"}), ("MODIFIED", {"x": "2"}), ("DELETED", {"x": "2"}), ("BOOKMARK", None)]
    server.cluster.compact()
    answer = core.list_namespaced_config_map(
        "symbol-llm", watch=True, resource_version=since, _preload_content=False, timeout_seconds=5
    )
    assert '"code": 410' in answer.data.decode()


def test_log_is_followed_to_its_end_and_not_before_the_pod_runs(server: Server) -> None:
    core = client.CoreV1Api(server.api())
    server.cluster.put(pod())
    assert refusal(core.read_namespaced_pod_log, "a", "symbol-llm")[0] == 400
    server.cluster.change("pods", "a", lambda made: made.update(status={"phase": "Running"}))
    server.cluster.log("a", "one", "two")
    assert core.read_namespaced_pod_log("a", "symbol-llm", tail_lines=1) == "two\n"
    lines = core.read_namespaced_pod_log("a", "symbol-llm", follow=True, _preload_content=False).stream()
    assert next(lines) + next(lines) == b"one\ntwo\n"
    server.cluster.log("a", "three", close=True)
    assert b"".join(lines) == b"three\n"


def test_what_an_object_owns_goes_with_it(server: Server) -> None:
    owner = server.cluster.put(config_map())
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": owner["metadata"]["uid"]}
    owned = pod()
    owned["metadata"]["ownerReferences"] = [ref]
    server.cluster.put(owned)
    client.CoreV1Api(server.api()).delete_namespaced_config_map("a", "symbol-llm")
    assert server.cluster.all("pods") == []
