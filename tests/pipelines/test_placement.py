"""Each pipeline at each place, as compiled: images, nodes, sizes, queue, deadlines, retries, state, security of every pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from components import CPU_IMAGE, GPU_IMAGE, LIGHT_IMAGE
from pipelines import placement, settings
from pipelines.placement import Placement
from symbol_llm import __version__
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tracking import git, runs, versions
from tests.pipelines.compiled import ROOT, Compiled, Task, compile_to, compiled

SAMPLES = {"explore", "evaluate", "replay"}
DAY_S = 24 * 60 * 60
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
ANY_GPU = {"nvidia.com/gpu.present": "true"}
TAINT = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
NOWHERE: dict[str, str] = {}
WANTED: dict[str, dict[str, Any]] = {
    "laptop": {
        "light": (LIGHT_IMAGE, "100m", "512Mi", "2", "4Gi", None, NOWHERE, None),
        "sample": (CPU_IMAGE, "1", "2Gi", "2", "8Gi", None, NOWHERE, None),
        "tune": (CPU_IMAGE, "1", "4Gi", "2", "8Gi", None, NOWHERE, None),
        "queue": None,
        "shards": 1,
        "functions": {"tune"},
    },
    "one-gpu": {
        "light": (LIGHT_IMAGE, "250m", "1Gi", "4", "8Gi", None, ANY_GPU, None),
        "sample": (GPU_IMAGE, "2", "8Gi", "8", "32Gi", "1", ANY_GPU, "2Gi"),
        "tune": (GPU_IMAGE, "2", "8Gi", "8", "32Gi", "1", ANY_GPU, "2Gi"),
        "queue": None,
        "shards": 1,
        "functions": {"tune"},
    },
    "8xa100": {
        "light": (LIGHT_IMAGE, "500m", "2Gi", "4", "16Gi", None, A100, None),
        "sample": (GPU_IMAGE, "8", "48Gi", "12", "96Gi", "1", A100, "8Gi"),
        "queue": "symbol-llm",
        "shards": 8,
        "functions": {"tune_on_nodes"},
    },
    "multi-node-13b": {
        "light": (LIGHT_IMAGE, "500m", "2Gi", "4", "16Gi", None, NOWHERE, None),
        "sample": (GPU_IMAGE, "8", "64Gi", "12", "96Gi", "1", A100, "8Gi"),
        "queue": "symbol-llm",
        "shards": 16,
        "functions": {"tune_on_nodes"},
    },
}
"""Of each role: image, cpu and memory asked for, cpu and memory at most, GPUs, node selector, shared memory."""
OF_TUNING = {"preflight", "fetch", "collect", "version", "evaluate", "replay", "finish"}
FUNCTIONS = {
    "self_training": OF_TUNING | {"explore", "select", "promote"},
    "tuning": OF_TUNING,
    "evaluation": OF_TUNING - {"replay"},
    "promotion": OF_TUNING - {"replay"} | {"promote"},
}


@pytest.fixture(scope="module", params=[(where, name) for where in WANTED for name in FUNCTIONS], ids=" ".join)
def placed(request: pytest.FixtureRequest) -> tuple[str, str, Compiled]:
    """Give the name of a placement and of a pipeline, and the pipeline compiled for it."""
    where, name = request.param
    return where, name, compiled(where=where, pipeline=name)


def role(task: Task) -> str:
    return "sample" if task.function in SAMPLES else "tune" if task.function == "tune" else "light"


def sizes(task: Task) -> tuple[Any, ...]:
    has = task.container["resources"]
    gpus = has.get("accelerator")
    assert gpus is None or gpus["resourceType"] == "nvidia.com/gpu"
    shared = {m["mountPath"]: m for m in task.pod.get("emptyDirMounts", [])}.get("/dev/shm")
    assert shared is None or shared["medium"] == "Memory"
    asked, most = ([has[f"resource{kind}{which}"] for kind in ("Cpu", "Memory")] for which in ("Request", "Limit"))
    selector = task.pod.get("nodeSelector", {}).get("labels", {})
    return (
        task.container["image"],
        *asked,
        *most,
        gpus and gpus["resourceCount"],
        selector,
        shared and shared["sizeLimit"],
    )


def test_every_shipped_placement_is_looked_at() -> None:
    assert sorted(WANTED) == placement.names()
    assert sorted(FUNCTIONS) == sorted(settings.PIPELINES)


def test_pipeline_has_the_tasks_it_is_made_of(placed: tuple[str, str, Compiled]) -> None:
    where, name, pipeline = placed
    wanted = set(FUNCTIONS[name])
    if name in ("self_training", "tuning"):
        wanted |= WANTED[where]["functions"]
    if name == "self_training" and WANTED[where]["shards"] > 1:
        wanted.add("merge")
    assert {task.function for task in pipeline.tasks} == wanted
    assert pipeline.spec["pipelineInfo"]["name"] == name.replace("_", "-")


def test_tasks_have_image_sizes_and_nodes_of_their_role(placed: tuple[str, str, Compiled]) -> None:
    where, _, pipeline = placed
    for task in pipeline.tasks:
        found, wanted = sizes(task), WANTED[where][role(task)]
        if task.function == "preflight":
            assert found[:6] == (wanted[0], *wanted[1:6]), task.title
            continue
        image = CPU_IMAGE if task.function == "fetch" else wanted[0]  # unpacking weights takes torch
        assert found == (image, *wanted[1:]), task.title
        assert task.pod.get("tolerations", []) == (TAINT if wanted[6] else []), task.title
        assert parse_quantity(found[1]) < parse_quantity(found[3]), "asked for less than it may take"
        assert parse_quantity(found[2]) < parse_quantity(found[4]), "asked for less than it may take"


OF_DATA = {"version", "preflight"}
"""Tasks that see the data repository: one that records a set, and one that asks whether that will do."""
IMAGES = [LIGHT_IMAGE, CPU_IMAGE, GPU_IMAGE]


def test_images_are_tagged_with_the_version_of_the_package() -> None:
    assert __version__ != "latest"
    assert [f"localhost/symbol-llm/{kind}:{__version__}" for kind in ("light", "cpu", "gpu")] == IMAGES


def test_tasks_wait_in_the_queue_that_the_placement_names(placed: tuple[str, str, Compiled]) -> None:
    where, _, pipeline = placed
    queue = WANTED[where]["queue"]
    wanted = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    for task in pipeline.tasks:
        more = {"symbol-llm/data-repository": "true"} if task.function in OF_DATA else {}
        labels = more if task.function == "preflight" else wanted | more
        assert task.pod.get("podMetadata", {}).get("labels", {}) == labels, task.title


def test_first_look_starts_where_what_it_looks_for_is_missing(placed: tuple[str, str, Compiled]) -> None:
    """A pod without its claim, ConfigMap, Secret, queue or node never starts, and would say nothing of what is missing."""
    for task in placed[2].of("preflight"):
        taken = [*task.pod["configMapAsEnv"], *task.pod["secretAsEnv"], *task.pod["configMapAsVolume"]]
        assert {one["optional"] for one in taken} == {True}
        assert not task.pod.keys() & {"pvcMount", "genericEphemeralVolume", "nodeSelector"}
        assert [one["mountPath"] for one in task.pod["emptyDirMounts"]] == ["/state"]


def test_tasks_end_at_last_and_are_started_again_until_then(placed: tuple[str, str, Compiled]) -> None:
    """Argo counts `backoffMaxDuration` from the first start: what ran or waited for longer would not be started again."""
    for task in placed[2].tasks:
        deadline_s = int(task.pod["activeDeadlineSeconds"])
        short = {"tune_on_nodes": 7 * DAY_S, "preflight": 1800, "finish": 1800}
        assert deadline_s == short.get(task.function, DAY_S), task.title
        assert task.retry == {
            "maxRetryCount": 2,
            "backoffDuration": "30s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": f"{365 * DAY_S}s",
        }
        assert 10 * deadline_s < 365 * DAY_S


def test_pods_of_a_run_are_cleaned_up_and_of_one_that_failed_later(placed: tuple[str, str, Compiled]) -> None:
    assert placed[2].config == {"resourceTtlOnSuccess": 3600, "resourceTtlOnFailure": 3 * DAY_S}


def test_pod_security_of_the_namespace_admits_every_task(placed: tuple[str, str, Compiled]) -> None:
    """`restricted` asks each container for a user that is not root; the launcher brings the rest of what it asks."""
    enforced = (ROOT / "manifests" / "base" / "namespace.yaml").read_text()
    assert "pod-security.kubernetes.io/enforce: restricted" in enforced
    for task in placed[2].tasks:
        found = {key: int(value) for key, value in task.pod["securityContext"].items()}
        assert found == {"runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": 1}, task.title


def test_tasks_take_addresses_keys_and_state_from_the_manifests(placed: tuple[str, str, Compiled]) -> None:
    storage = (ROOT / "manifests" / "base" / "storage.yaml").read_text()
    secret = (ROOT / "manifests" / "overlays" / "laptop" / "secret.example.env").read_text()
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH: /tls/" in (ROOT / "manifests/components/tls/address.yaml").read_text()
    for task in placed[2].tasks:
        addresses, tls, *where = task.pod["configMapAsEnv"]
        keys, *who = task.pod["secretAsEnv"]
        is_first = task.function == "preflight"
        assert (len(where), len(who)) == ((1, 1) if task.function in OF_DATA else (0, 0)), task.title
        named = [k["configMapKey"] for k in addresses["keyToEnv"]]
        assert (addresses["configMapName"], len(named)) == ("storage", 4)
        assert all(f"  {key}:" in storage for key in named)
        named = [k["secretKey"] for k in keys["keyToEnv"]]
        assert (keys["secretName"], len(named)) == ("credentials", 4)
        assert all(f"{key}=" in secret for key in named)
        assert (addresses["optional"], keys["optional"]) == (is_first, is_first)
        assert (tls["configMapName"], tls["optional"]) == ("storage", True)
        assert [k["configMapKey"] for k in tls["keyToEnv"]] == ["MLFLOW_TRACKING_SERVER_CERT_PATH"]
        (mounted,) = task.pod["configMapAsVolume"]
        assert (mounted["configMapName"], mounted["mountPath"], mounted["optional"]) == ("mlflow-ca", "/tls", True)
        state = [(one["constant"], one["mountPath"]) for one in task.pod.get("pvcMount", [])]
        assert state == ([] if is_first else [("state", "/state")])
        told = {field["name"]: field["fieldPath"] for field in task.pod["fieldPathAsEnv"]}
        assert told[runs.PIPELINE_VARIABLE] == "metadata.labels['pipeline/runid']"
        assert set(told) == {runs.PIPELINE_VARIABLE, runs.PIPELINE_NAME_VARIABLE}


def test_only_tasks_that_record_sets_and_the_first_look_see_the_data_repository_and_its_key(
    placed: tuple[str, str, Compiled],
) -> None:
    """Where none is set, the repository lies beside the other state."""
    _, profile, pipeline = placed
    of_data = [task for task in pipeline.tasks if task.function in OF_DATA]
    assert {task.function for task in of_data} == OF_DATA
    for task in of_data:
        where, who = task.pod["configMapAsEnv"][2], task.pod["secretAsEnv"][1]
        assert (where["configMapName"], where["optional"]) == ("storage", True)
        assert {k["configMapKey"]: k["envVar"] for k in where["keyToEnv"]} == {
            name: name for name in (git.REPO_VARIABLE, versions.REMOTE_VARIABLE)
        }
        assert (who["secretName"], who["optional"]) == ("data-repository", True)
        assert {k["secretKey"]: k["envVar"] for k in who["keyToEnv"]} == {
            name: name for name in (git.KEY_VARIABLE, git.HOSTS_VARIABLE, git.TOKEN_VARIABLE)
        }
    policy = yaml.safe_load((ROOT / "manifests/components/data-repository/network.yaml").read_text())
    (label,) = policy["spec"]["podSelector"]["matchLabels"].items()
    others = [task for task in pipeline.tasks if task.function not in OF_DATA]
    assert not any("data-repository" in str(task.pod) for task in others)
    assert not any(label in task.pod.get("podMetadata", {}).get("labels", {}).items() for task in others)
    assert all(label in task.pod["podMetadata"]["labels"].items() for task in of_data)


def test_an_exploration_is_a_loop_over_its_shards_which_are_merged() -> None:
    for where, wanted in WANTED.items():
        found, n = compiled(where=where), wanted["shards"]
        explored = found.of("explore")
        assert len(explored) == 2
        if n == 1:
            assert (found.loops, found.of("merge")) == ({}, [])
            continue
        assert list(found.loops.values()) == [[f"{i}/{n}" for i in range(1, n + 1)]] * 2
        assert {task.group for task in explored} == set(found.loops)
        for task in explored:
            assert "loop-item" in task.parameters["shard"]["componentInputParameter"]
        assert found.titles("merge") == ["merge explore round 1", "merge explore round 2"]
        for task in found.of("merge"):
            source = task.artifacts["shards"]["taskOutputArtifact"]["producerTask"]
            assert source.startswith("for-loop-")
        for task in found.of("select"):
            assert task.artifacts["explored"]["taskOutputArtifact"]["producerTask"].startswith("merge")


@pytest.mark.parametrize(
    ("where", "profile", "nodes"), [("8xa100", "published-7b", 1), ("multi-node-13b", "published-13b", 2)]
)
def test_published_sizes_at_the_place_that_is_made_for_them(
    tmp_path: Path, where: str, profile: str, nodes: int
) -> None:
    """Ten rounds, K = 5, batch 128, learning rate 2e-5 (arXiv 2406.11736)."""
    path = tmp_path / "pipeline.yaml"
    found = compile_to(path, "rounds.stop_early=true", where=where, profile=profile, strategy="envisions")
    model = {"published-7b": "Llama-2-7b", "published-13b": "Llama-2-13b"}[profile]
    assert model in found.inputs["model"]["defaultValue"]
    tuning, exploring = (found.inputs[name]["defaultValue"] for name in ("tuning", "exploring"))
    assert (tuning["batch"], tuning["learning_rate"], exploring["k"]) == (128, 2e-5, 5)
    jobs = found.of("tune_on_nodes")
    assert len(jobs) == len(found.of("merge")) == 10
    for task in jobs:
        given = {name: value["runtimeValue"]["constant"] for name, value in task.parameters.items() if name != "params"}
        assert (given["nodes"], given["processes_per_node"]) == (nodes, 8)
        assert (given["runtime"], given["queue"]) == ("symbol-llm-torch", "symbol-llm")
    assert path.stat().st_size < 1_000_000


def test_a_trainjob_names_a_runtime_and_an_account_of_the_manifests() -> None:
    for where in ("8xa100", "multi-node-13b"):
        found = placement.load(where)
        assert found.tune_job
        texts = {path.name: path.read_text() for path in (ROOT / "manifests" / "components" / "training").iterdir()}
        assert f"name: {found.tune_job.runtime}\n" in texts["runtime.yaml"]
        assert (
            f"kind: ServiceAccount\nmetadata:\n  namespace: symbol-llm\n  name: {found.service_account}\n"
            in texts["accounts.yaml"]
        )


# --- a placement of one's own -----------------------------------------------------------------------------------------

OWN = """
images:
  cpu: registry.example:5000/team/cpu@sha256:{digest}
  gpu: registry.example/team/gpu:2.1
light:
  requests: {{cpu: 100m, memory: 1Gi}}
  limits: {{cpu: "1", memory: 2Gi}}
sample:
  image: gpu
  requests: {{cpu: "1", memory: 8Gi}}
  limits: {{cpu: "4", memory: 16Gi}}
  accelerator: {{type: amd.com/gpu, count: 2}}
  tolerations:
    - {{key: team, operator: Equal, value: nlp, effect: NoExecute}}
  state: null
  deadline_s: 3600
  retries: {{n: 5, first_s: 10, factor: 3}}
tune:
  requests: {{cpu: "1", memory: 8Gi}}
  limits: {{cpu: "4", memory: 16Gi}}
  state: {{size: 50Gi, storage_class: fast}}
queue: nlp
priority: urgent
service_account: team
image_pull_secrets: [registry-key]
config: addresses
keys: passwords
pipeline_root: s3://team/runs
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Give a file with a placement that uses what the shipped ones do not."""
    (tmp_path / "own.yaml").write_text(OWN.format(digest="0" * 64))
    return tmp_path / "own.yaml"


def test_a_placement_of_ones_own_is_followed_to_the_letter(own: Path) -> None:
    found = compiled(where=str(own))
    assert found.spec["defaultPipelineRoot"] == "s3://team/runs"
    (tune, *_), (explore, *_), (fetch,) = (found.of(name) for name in ("tune", "explore", "fetch"))
    for task in found.tasks:
        assert [s["secretName"] for s in task.pod["imagePullSecret"]] == ["registry-key"]
        assert {taken["configMapName"] for taken in task.pod["configMapAsEnv"]} == {"addresses"}
        assert task.pod["secretAsEnv"][0]["secretName"] == "passwords"
        labels = {"kueue.x-k8s.io/queue-name": "nlp", "kueue.x-k8s.io/priority-class": "urgent"}
        labels = {} if task.function == "preflight" else labels
        more = {"symbol-llm/data-repository": "true"} if task.function in OF_DATA else {}
        assert task.pod["podMetadata"]["labels"] == labels | more
    assert fetch.container["image"] == f"registry.example:5000/team/cpu@sha256:{'0' * 64}"
    assert explore.container["image"] == "registry.example/team/gpu:2.1"
    assert explore.container["resources"]["accelerator"] == {
        "type": "amd.com/gpu",
        "count": "2",
        "resourceType": "amd.com/gpu",
        "resourceCount": "2",
    }
    assert explore.pod["tolerations"] == [{"key": "team", "operator": "Equal", "value": "nlp", "effect": "NoExecute"}]
    assert explore.pod["activeDeadlineSeconds"] == "3600"
    again = [explore.retry[name] for name in ("maxRetryCount", "backoffDuration", "backoffFactor")]
    assert again == [5, "10s", 3.0]


def test_state_is_a_claim_a_volume_of_the_tasks_own_or_a_folder_on_its_node(own: Path) -> None:
    found = compiled(where=str(own))
    (tune, *_), (explore, *_), (fetch,) = (found.of(name) for name in ("tune", "explore", "fetch"))
    kinds = ("pvcMount", "genericEphemeralVolume", "emptyDirMounts")
    for task, kind in ((fetch, kinds[0]), (tune, kinds[1]), (explore, kinds[2])):
        (mount,) = task.pod[kind]
        assert mount["mountPath"] == "/state"
        assert [other for other in kinds if other in task.pod] == [kind]
    (volume,) = tune.pod["genericEphemeralVolume"]
    assert (volume["size"], volume["storageClassName"], volume["accessModes"]) == ("50Gi", "fast", ["ReadWriteOnce"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"light.memory": 1}, "light.memory: extra inputs are not permitted"),
        ({"light.requests.cpu": "3"}, "light: requests.cpu 3 is above limits.cpu 1"),
        ({"sample.requests.memory": "17Gi"}, "sample: requests.memory 17Gi is above limits.memory 16Gi"),
        ({"light.limits.cpu": "1x"}, "light.limits.cpu: expected a quantity above 0, such as 2 or 500m"),
        ({"light.limits.cpu": "0"}, "light.limits.cpu: expected a quantity above 0"),
        ({"light.limits.memory": "8gb"}, "light.limits.memory: expected a quantity above 0, such as 8Gi or 512Mi"),
        ({"sample.shared_memory": "20Gi"}, "sample: shared_memory 20Gi is above limits.memory 16Gi"),
        ({"sample.accelerator.count": 0}, "sample.accelerator.count: input should be greater than or equal to 1"),
        ({"images.cpu": "registry.example/team/cpu"}, "images.cpu: expected registry/name@sha256:"),
        ({"images.cpu": "registry.example/team/cpu:latest"}, "images.cpu: expected registry/name@sha256:"),
        ({"images.gpu": "registry.example/gpu@sha256:12"}, "images.gpu: expected registry/name@sha256:"),
        (
            {"light.tolerations": [{"key": "a", "value": "b"}]},
            "light.tolerations.0: a value goes with the operator Equal",
        ),
        ({"light.retries": {"factor": 1.5}}, "light.retries.factor: input should be a valid integer"),
        ({"queue": None}, "priority is Kueue's and wants a queue"),
        ({"queue": "Not A Name"}, "queue: string should match pattern"),
        ({"explore_shards": 0}, "explore_shards: input should be greater than or equal to 1"),
        ({"tune": None}, "expected one of tune and tune_job"),
        ({"tune_job": {"processes_per_node": 8}}, "expected one of tune and tune_job"),
        ({"tune": None, "tune_job": {"processes_per_node": 8}, "light.state": None}, "light.state has to be a claim"),
        ({"pipeline_root": "/tmp"}, "pipeline_root: string should match pattern"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(own: Path, change: dict[str, Any], message: str) -> None:
    values = yaml.safe_load(own.read_text())
    for key, value in change.items():
        *above, last = key.split(".")
        inner = values
        for part in above:
            inner = inner[part]
        inner[last] = value
    own.write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidInput) as e:
        placement.load(str(own))
    assert message in str(e.value)
    assert str(own) in str(e.value)


@pytest.mark.parametrize("name", ["lap-top", "none.yaml", "../placements/laptop"])
def test_an_unknown_placement_is_refused_and_the_shipped_ones_named(name: str) -> None:
    with pytest.raises(InvalidInput, match="have 8xa100, laptop, multi-node-13b, one-gpu, or name a YAML file"):
        placement.load(name)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "light: 1"])
def test_a_file_that_holds_no_placement_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InvalidInput, match="p.yaml"):
        placement.load(str(tmp_path / "p.yaml"))


def test_a_placement_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        placement.load("laptop").queue = "other"  # type: ignore[misc]
    assert isinstance(placement.load("laptop"), Placement)


def test_only_tasks_that_promote_see_the_key_that_signs(placed: tuple[str, str, Compiled]) -> None:
    for task in placed[2].tasks:
        seen = [(v["secretName"], v["mountPath"], v["optional"]) for v in task.pod.get("secretAsVolume", [])]
        assert seen == ([("signing-key", "/signing", True)] if task.function == "promote" else []), task.title
