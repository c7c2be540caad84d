"""Reads compiled pipelines: all tasks, wherever they are nested, with what Kubernetes is told of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipelines import placement, settings
from symbol_llm.ground.params import Parameters

ROOT = Path(__file__).parents[2]


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
    pod: dict[str, Any]
    """What Kubernetes is told of its pod."""
    group: str
    """The component that it is a task of."""


class Compiled(NamedTuple):
    """A compiled pipeline, flattened."""

    tasks: list[Task]
    conditions: list[str]
    inputs: dict[str, Any]
    loops: dict[str, Any]
    """What each loop goes over, by the component that it repeats."""
    spec: dict[str, Any]

    def titles(self, function: str) -> list[str]:
        return sorted(task.title for task in self.tasks if task.function == function)

    def of(self, function: str) -> list[Task]:
        return [task for task in self.tasks if task.function == function]


def load(*overrides: str, profile: str = "", strategy: str = "") -> Parameters:
    return settings.load(ROOT / "params.yaml", profile, strategy, None, overrides)


def compile_to(path: Path, *overrides: str, where: str = "laptop", **more: Any) -> Compiled:
    """Compile to `path` for the placement `where`, with the parameters that are left; read what was written."""
    chosen = {key: more.pop(key) for key in ("profile", "strategy") if key in more}
    job = settings.Job(load(*overrides, **chosen), placement.load(where), **more)
    settings.compile_to(job, path)
    return read(path)


def walk(spec: dict[str, Any], name: str, dag: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for task in dag["tasks"].values():
        reference = task["componentRef"]["name"]
        component = spec["components"][reference]
        yield name, task, component
        if "dag" in component:
            yield from walk(spec, reference, component["dag"])


def function_of(container: dict[str, Any]) -> str:
    """Return the function that a component calls, or, of one that is a command, the module that it runs."""
    marker, arguments = "--function_to_execute", container["args"]
    if marker in arguments:
        return str(arguments[arguments.index(marker) + 1])
    return str(container["command"][-1]).rpartition(".")[2]


def read(path: Path) -> Compiled:
    spec, platform = yaml.safe_load_all(path.read_text())
    executors = spec["deploymentSpec"]["executors"]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    tasks, conditions, loops = [], [], {}
    for group, task, component in walk(spec, "root", spec["root"]["dag"]):
        if "condition" in task.get("triggerPolicy", {}):
            conditions.append(task["taskInfo"]["name"])
        if "parameterIterator" in task:
            loops[task["componentRef"]["name"]] = yaml.safe_load(task["parameterIterator"]["items"]["raw"])
        if "executorLabel" in component:
            container = executors[component["executorLabel"]]["container"]
            function = function_of(container)
            inputs = task["inputs"]
            given, artifacts = inputs["parameters"], inputs.get("artifacts", {})
            name, caching = task["taskInfo"]["name"], task["cachingOptions"]
            retry, policy = task.get("retryPolicy", {}), task.get("triggerPolicy", {})
            pod = pods.get(component["executorLabel"], {})
            tasks.append(Task(name, function, caching, container, given, artifacts, retry, policy, pod, group))
    assert len(tasks) == len(executors)
    return Compiled(tasks, sorted(conditions), spec["root"]["inputDefinitions"]["parameters"], loops, spec)
