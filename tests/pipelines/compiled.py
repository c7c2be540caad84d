"""Reads compiled pipelines: all tasks, wherever they are nested, with what Kubernetes is told of each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from pipelines import placement, settings
from symbol_llm.ground.params import Parameters

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


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
    config: dict[str, Any]
    """What the cluster is told of the run as a whole."""

    def titles(self, function: str) -> list[str]:
        return sorted(task.title for task in self.tasks if task.function == function)

    def of(self, function: str) -> list[Task]:
        return [task for task in self.tasks if task.function == function]


def load(*overrides: str, profile: str = "", strategy: str = "") -> Parameters:
    return settings.load(ROOT / "params.yaml", profile, strategy, None, overrides)


def compile_to(path: Path, *overrides: str, **chosen: Any) -> Compiled:
    """Compile the job that is asked for to `path`; read what was written."""
    on_short_stack(settings.compile_to, job_of(*overrides, **chosen), path)
    return read(path)


def compiled(*overrides: str, **chosen: Any) -> Compiled:
    """Return the job that is asked for, compiled; a job that was compiled before is not compiled again."""
    job = job_of(*overrides, **chosen)
    if (key := repr(job)) not in _DONE:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new" / "pipeline.yaml"
            on_short_stack(settings.compile_to, job, path)
            _DONE[key] = read(path)
    return _DONE[key]


_DONE: dict[str, Compiled] = {}


def job_of(*overrides: str, where: str = "laptop", **more: Any) -> settings.Job:
    """Return the job for the placement `where`, with the parameters and the fields of `Job` that are given."""
    chosen = {key: more.pop(key) for key in ("profile", "strategy") if key in more}
    return settings.Job(load(*overrides, **chosen), placement.load(where), **more)


def on_short_stack(call: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """Return `call(...)`, made in a thread: Kubeflow's compiler reads the source of every frame, hundreds of times."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call, *arguments, **more).result()


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
    spec, platform = yaml.load_all(path.read_text(), yaml.CSafeLoader)  # noqa: S506 - safe, and fast
    executors = spec["deploymentSpec"]["executors"]
    kubernetes = platform["platforms"]["kubernetes"]
    pods = kubernetes["deploymentSpec"]["executors"]
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
    inputs, config = spec["root"]["inputDefinitions"]["parameters"], kubernetes.get("pipelineConfig", {})
    return Compiled(tasks, sorted(conditions), inputs, loops, spec, config)
