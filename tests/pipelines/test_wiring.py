"""The three doors stay alike: a stage, its Kubeflow component, its command and its DVC stages take the same things."""

from __future__ import annotations

import ast
import importlib
import inspect
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from pipelines.place import Place
from pipelines.self_training import build
from symbol_llm import cli, stages
from symbol_llm.ground.params import Parameters
from symbol_llm.tracking import runs

ROOT = Path(__file__).parents[2]
STAGES = {
    name: f
    for name, f in vars(stages).items()
    if inspect.isfunction(f) and not name.startswith("_") and f.__annotations__["return"] == "Numbers"
}
NO_COMMAND = {"version"}
"""Recording in the data repository belongs to a run of the pipeline; on the command line it is `dvc add`."""
NO_DVC_STAGE = {"version", "promote", "merge"}
"""The first two change what lies outside `data`, which DVC can neither see nor restore; DVC explores in one piece."""
NO_STAGE = {"finish", "tune_on_nodes", "preflight"}
"""Components without a stage of their name: what ends a run of the pipeline, and what has `tune` done elsewhere."""


class Recorded(NamedTuple):
    """One call that went through a door."""

    stage: Callable[..., Any]
    label: str
    arguments: dict[str, Any]


class Line(NamedTuple):
    """One command line of `symbol-llm`, parsed but not converted."""

    command: click.Command
    values: dict[str, str]


class DvcStage(NamedTuple):
    """One stage as DVC resolves it."""

    cmd: str
    deps: list[str]
    outs: list[str]
    params: list[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """Give the calls that doors make; nothing behind them is run."""
    found: list[Recorded] = []

    def record(stage: Callable[..., Any], /, *, label: str, metrics: Any = None, **arguments: Any) -> dict[str, float]:
        found.append(Recorded(stage, label, arguments))
        return {"improved": 1.0}

    monkeypatch.setattr(runs, "tracked", record)
    return found


@pytest.fixture(scope="module")
def dvc_stages() -> dict[str, DvcStage]:
    """Give all stages of dvc.yaml, `foreach` unrolled by DVC itself."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    found = {}
    with Repo(str(ROOT)) as repo:
        for stage in repo.index.stages:
            deps = [d.def_path for d in stage.deps if not isinstance(d, ParamsDependency)]
            params = [key for d in stage.deps if isinstance(d, ParamsDependency) for key in d.params]
            found[stage.name] = DvcStage(stage.cmd, deps, [o.def_path for o in stage.outs], params)
    return found


def parse(line: str) -> Line:
    """Parse with click's own parser, which knows options and counts arguments but does not ask whether a path exists."""
    program, *rest = shlex.split(line)
    assert program == "symbol-llm"
    context = click.Context(cli.main)
    _, rest, _ = cli.main.make_parser(context).parse_args(rest)
    command = cli.main.commands[rest[0]]
    inner = click.Context(command, parent=context)
    values, left, _ = command.make_parser(inner).parse_args(rest[1:])
    assert left == [], f"{line}: too many arguments"
    given = {key: value for key, value in values.items() if isinstance(value, str)}
    for parameter in command.params:
        assert parameter.name in given or not parameter.required, f"{line}: {parameter.name} is missing"
        if parameter.name in given and not isinstance(parameter.type, click.Path):
            parameter.type.convert(given[parameter.name], parameter, inner)
    return Line(command, given)


def component(stage: str) -> Any:
    return getattr(importlib.import_module(f"components.{stage}.component"), stage)


def source(stage: str) -> Path:
    return ROOT / "components" / stage / "component.py"


def body(stage: str) -> ast.FunctionDef:
    module = ast.parse(source(stage).read_text())
    return next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == stage)


def bound(call: Recorded) -> dict[str, Any]:
    """Return the arguments as the stage would receive them; TypeError if it would refuse them."""
    return dict(inspect.signature(call.stage).bind(**call.arguments).arguments)


def check_values(call: Recorded) -> None:
    hints = get_type_hints(call.stage)
    for name, value in bound(call).items():
        values, wanted = (
            (value, get_args(hints[name])[0]) if get_origin(hints[name]) is tuple else ([value], hints[name])
        )
        for one in values:
            assert one is None or isinstance(one, wanted), f"{name}: {one!r} is no {wanted}"


# --- Kubeflow ---------------------------------------------------------------------------------------------------------


def test_stages_are_those_the_design_names() -> None:
    assert sorted(STAGES) == sorted(
        ["fetch", "collect", "replay", "version", "tune", "explore", "merge", "select", "evaluate", "promote"]
    )


def test_every_stage_has_a_component_folder_and_every_folder_but_three_a_stage() -> None:
    folders = {path.parent.name for path in (ROOT / "components").glob("*/component.py")}
    assert folders == set(STAGES) | NO_STAGE


@pytest.mark.parametrize("stage", STAGES)
def test_component_has_the_name_of_its_stage(stage: str) -> None:
    assert component(stage).name == stage


@pytest.mark.parametrize("stage", STAGES)
def test_component_is_short_and_makes_one_stage_call(stage: str) -> None:
    assert len(source(stage).read_text().splitlines()) <= 40
    nodes = list(ast.walk(body(stage)))
    calls = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "runs.tracked"]
    named = [ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "stages"]
    assert (len(calls), named) == (1, [f"stages.{stage}"])


@pytest.mark.parametrize("stage", STAGES)
def test_component_builds_the_section_that_its_stage_takes(stage: str) -> None:
    imported = [
        n for n in ast.walk(body(stage)) if isinstance(n, ast.ImportFrom) and n.module == "symbol_llm.ground.params"
    ]
    sections = [alias.name for node in imported for alias in node.names]
    wanted = get_type_hints(STAGES[stage]).get("params")
    assert sections == ([wanted.__name__] if wanted else [])


def artifacts(function: Callable[..., Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield an argument for each parameter of a component: an artifact on a path of its name, or a plausible value."""
    plain = {"params": {}, "model": "pypi:x", "name": "collection", "label": "a label", "stage": "round 1", "number": 1}
    plain |= {"shard": "2/3"}
    for name in inspect.signature(function).parameters:
        artifact = made(folder / name)
        yield name, [artifact, made(folder / "another")] if name == "shards" else plain.get(name, artifact)


def made(path: Path) -> SimpleNamespace:
    return SimpleNamespace(path=str(path), uri=str(path), log_metric=lambda key, value: None)


@pytest.mark.parametrize("optional", [True, False], ids=["all inputs", "required inputs"])
@pytest.mark.parametrize("stage", STAGES)
def test_component_calls_its_stage_with_what_it_takes(
    stage: str, optional: bool, tmp_path: Path, calls: list[Recorded]
) -> None:
    function = component(stage).python_func
    given = dict(artifacts(function, tmp_path))
    if not optional:
        defaults = inspect.signature(function).parameters
        given = {name: value for name, value in given.items() if defaults[name].default is inspect.Parameter.empty}
    if stage == "promote":
        (tmp_path / "promotion").mkdir()
        (tmp_path / "promotion" / "report.html").write_text("page")
    function(**given)
    (call,) = calls
    assert call.stage is STAGES[stage]
    check_values(call)
    written = {"promote": "promotion"}.get(stage)
    if written:
        assert bound(call)["out"] == tmp_path / written
        assert (tmp_path / "page").read_text() == "page"


@pytest.mark.parametrize("stage", STAGES)
def test_component_hands_every_input_folder_on(stage: str, tmp_path: Path, calls: list[Recorded]) -> None:
    function = component(stage).python_func
    (tmp_path / "promotion").mkdir()
    (tmp_path / "promotion" / "report.html").write_text("")
    given = dict(artifacts(function, tmp_path))
    function(**given)
    handed = {one for value in bound(calls[0]).values() for one in several(value) if isinstance(one, Path)}
    taken = [a for name, value in given.items() for a in several(value) if name not in ("metrics", "page")]
    folders = {Path(a.path) for a in taken if hasattr(a, "path")}
    assert handed == folders


def several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def test_evaluate_component_returns_whether_accuracy_improved(tmp_path: Path, calls: list[Recorded]) -> None:
    function = component("evaluate").python_func
    assert function(**dict(artifacts(function, tmp_path))) is True


def test_a_component_names_the_run_of_a_shard_by_its_shard(tmp_path: Path, calls: list[Recorded]) -> None:
    function = component("explore").python_func
    function(**dict(artifacts(function, tmp_path)))
    assert (calls[0].label, str(calls[0].arguments["shard"])) == ("a label 2/3", "2/3")


def test_pipeline_and_command_draw_alike_in_a_round_and_apart_in_two(tmp_path: Path, calls: list[Recorded]) -> None:
    given = dict(artifacts(component("explore").python_func, tmp_path)) | {"params": Parameters().explore.model_dump()}
    (tmp_path / "a").mkdir()
    seeds = []
    for number in ("1", "2"):
        component("explore").python_func(**given | {"number": int(number)})
        line = ["explore", *[str(tmp_path / name) for name in ("a", "a", "out")], "--round", number]
        CliRunner().invoke(cli.main, line, catch_exceptions=False)
        seeds.append({call.arguments["params"].seed for call in calls[-2:]})
    assert [len(drawn) for drawn in seeds] == [1, 1]
    assert seeds[0] != seeds[1]


# --- the command line -------------------------------------------------------------------------------------------------


def test_every_stage_has_a_command_and_only_version_has_none() -> None:
    assert set(STAGES) - set(cli.main.commands) == NO_COMMAND


# --- DVC --------------------------------------------------------------------------------------------------------------


def test_dvc_covers_every_stage_that_writes_only_folders(dvc_stages: Mapping[str, DvcStage]) -> None:
    assert {parse(stage.cmd).command.name for stage in dvc_stages.values()} == set(STAGES) - NO_DVC_STAGE


def test_dvc_goes_on_for_as_many_rounds_as_the_shipped_parameters(dvc_stages: Mapping[str, DvcStage]) -> None:
    from symbol_llm.ground import params

    rounds = range(1, params.load(ROOT / "params.yaml").rounds.n + 1)
    for name in ("explore", "select", "tune", "evaluate"):
        assert [s for s in dvc_stages if s.startswith(f"{name}@")] == [f"{name}@{n}" for n in rounds]


def test_dvc_deps_and_outs_are_the_paths_of_the_command(dvc_stages: Mapping[str, DvcStage]) -> None:
    for name, stage in dvc_stages.items():
        command, values = parse(stage.cmd)
        paths = {p.name: p.type.exists for p in command.params if isinstance(p.type, click.Path) and p.name in values}
        inputs = {values[p] for p, must_exist in paths.items() if must_exist}
        outputs = {values[p] for p, must_exist in paths.items() if not must_exist}
        assert (set(stage.deps), set(stage.outs)) == (inputs, outputs), name


def test_dvc_dep_is_out_of_another_stage(dvc_stages: Mapping[str, DvcStage]) -> None:
    made = {out for stage in dvc_stages.values() for out in stage.outs}
    assert {dep for stage in dvc_stages.values() for dep in stage.deps} <= made


def test_dvc_params_exist(dvc_stages: Mapping[str, DvcStage]) -> None:
    for key in {key for stage in dvc_stages.values() for key in stage.params}:
        place: Any = Parameters
        for part in key.split("."):
            assert part in place.model_fields, f"{key}: no such parameter"
            place = place.model_fields[part].annotation


def test_dvc_params_are_those_that_the_command_reads(dvc_stages: Mapping[str, DvcStage]) -> None:
    for name, stage in dvc_stages.items():
        command, values = parse(stage.cmd)
        wanted = {"fetch": {"model"}, "tune": {values.get("section")}}.get(command.name, {command.name})
        if command.name == "explore":
            wanted = wanted | {"rounds.start", "bootstrap_shots"}
        if values.get("stage") == "original":
            wanted = wanted | {"bootstrap_shots"}
        assert set(stage.params) == wanted, name


def test_dvc_commands_reach_their_stage_with_what_it_takes(
    dvc_stages: Mapping[str, DvcStage], calls: list[Recorded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for stage in dvc_stages.values():
        command, values = parse(stage.cmd)
        for parameter in command.params:
            if isinstance(parameter.type, click.Path) and parameter.type.exists and parameter.name in values:
                Path(values[parameter.name]).mkdir(parents=True, exist_ok=True)
        _, *arguments = shlex.split(stage.cmd)
        done = CliRunner().invoke(cli.main, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        call = calls.pop()
        assert call.stage is STAGES[command.name]
        check_values(call)
        params = bound(call).get("params")
        assert params is None or isinstance(params, BaseModel)


def test_every_round_is_tuned_from_the_same_start(dvc_stages: Mapping[str, DvcStage]) -> None:
    starts = {parse(s.cmd).values["checkpoint"] for name, s in dvc_stages.items() if name.startswith("tune@")}
    assert starts == {"data/round-0/tuned"}


def test_pool_of_a_round_comes_from_the_round_before(dvc_stages: Mapping[str, DvcStage]) -> None:
    assert "pool" not in parse(dvc_stages["select@1"].cmd).values
    assert parse(dvc_stages["select@2"].cmd).values["pool"] == "data/round-1/selected"


# --- labels -----------------------------------------------------------------------------------------------------------


def test_command_and_pipeline_name_runs_alike(calls: list[Recorded], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    lines = {
        "explore a a out --round 2": "explore round 2",
        "explore a a out --round 2 --shard 2/4": "explore round 2 2/4",
        "select a a out --round 2": "select round 2",
        "tune infusion a a out": "tune infusion",
        "evaluate a a out --stage injection": "evaluate injection",
    }
    for line, label in lines.items():
        arguments = [str(tmp_path / word) if word in ("a", "out") else word for word in line.split()]
        done = CliRunner().invoke(cli.main, ["--params", str(ROOT / "params.yaml"), *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert calls.pop().label == label
    spec = build(Parameters(), Place()).pipeline_spec
    dags = [spec.root.dag, *(c.dag for c in spec.components.values() if c.HasField("dag"))]
    given = [task.inputs.parameters["label"] for dag in dags for task in dag.tasks.values() if task.inputs.parameters]
    named = {label.runtime_value.constant.string_value for label in given}
    assert set(lines.values()) - {"evaluate injection", "explore round 2 2/4"} <= named
