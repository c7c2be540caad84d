"""The whole loop as one Kubeflow pipeline: collect, two-stage tuning, self-training rounds, promotion.

Kubeflow Pipelines has no loop with an end condition, so the rounds are unrolled when it is compiled: round r + 1 lies
inside the condition that round r was the best so far, and where the rounds end, for either reason, stands `promote`.
Every parameter section is an input of the compiled pipeline; the number of rounds and where they start are not.
"""

import contextlib
from typing import Any, NamedTuple

from kfp import dsl, kubernetes
from pydantic import BaseModel

from components.collect.component import collect
from components.evaluate.component import evaluate
from components.explore.component import explore
from components.fetch.component import fetch
from components.finish.component import finish
from components.promote.component import promote
from components.replay.component import replay
from components.select.component import select
from components.tune.component import tune
from components.version.component import version
from symbol_llm.ground.params import Parameters
from symbol_llm.ground.params import Rounds as RoundsParams

GPU = "nvidia.com/gpu"
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
LABELS = {"KFP_RUN_ID": "pipeline/runid", "KFP_RUN_NAME": "workflows.argoproj.io/workflow"}
"""What Kubeflow says of the run in the labels of its pods: all tasks of one run hang under one run in MLflow."""
STATE = "/state"
USER = 65532
"""The user of the images, said again in the pod: Pod Security does not look into images."""
DAY_S = 24 * 60 * 60


class Place(NamedTuple):
    """Where tasks run and what they find there."""

    environment: dict[str, str] = {}
    on_cluster: bool = False
    gpus: int = 0

    def task(self, made: Any, name: str, *, large: bool = False) -> Any:
        """Return `made` under `name` with its resources; `large` tasks sample or tune, and take the GPUs."""
        gpus = self.gpus if large else 0
        made.set_display_name(name).set_cpu_limit("8" if gpus else "2").set_memory_limit("16Gi" if large else "8Gi")
        made.set_cpu_request("1" if large else "250m").set_memory_request("4Gi" if large else "1Gi")
        if gpus:
            made.set_accelerator_type(GPU).set_accelerator_limit(gpus)
        for key, value in self.environment.items():
            made.set_env_variable(key, value)
        if self.on_cluster:
            provide(made)
        return made

    def finishing(self) -> Any:
        """Return a context for all tasks of a pipeline, after which a last one ends its run in MLflow, failed or not.

        The local runner knows no such task, and ends the run itself.
        """
        if not self.on_cluster:
            return contextlib.nullcontext()
        last = self.task(finish(), "finish")
        last.set_caching_options(False)
        return dsl.ExitHandler(last, name="pipeline")


class Point(NamedTuple):
    """A checkpoint of the curve and its report."""

    checkpoint: Any
    report: Any


def build(parameters: Parameters, place: Place) -> Any:
    """Return the pipeline for `parameters`; what `place` sets in the environment is part of every task's cache key."""
    p = parameters

    @dsl.pipeline(name="self-training", description="A weak language model becomes a writer of symbols.")
    def self_training(
        model: str = p.model,
        collecting: dict = dump(p.collect),
        replaying: dict = dump(p.replay),
        injecting: dict = dump(p.injection),
        infusing: dict = dump(p.infusion),
        bootstrapping: dict = dump(p.explore_in(1)),
        exploring: dict = dump(p.explore),
        selecting: dict = dump(p.select),
        tuning: dict = dump(p.tune),
        evaluating_original: dict = dump(p.evaluate_original()),
        evaluating: dict = dump(p.evaluate),
        promoting: dict = dump(p.promote),
    ) -> None:
        with place.finishing():
            base = place.task(fetch(model=model), "fetch").outputs["checkpoint"]
            collection = place.task(collect(params=collecting), "collect").outputs["collection"]
            place.task(version(dataset=collection, name="collection"), "version collection")
            loop = Loop(place, collection, evaluating)
            original = loop.evaluated(base, "original", params=evaluating_original)
            start = original
            if p.rounds.start == "infused":
                start = loop.two_stages(original, replaying, injecting, infusing)
            rounds = Rounds(loop, p.rounds, original, start, bootstrapping, exploring, selecting, tuning, promoting)
            if p.rounds.n:
                rounds.run(1, start, None)
            else:
                rounds.close(start, original)

    return self_training


class Loop(NamedTuple):
    """The tasks that lead from one point of the curve to the next, over one collection."""

    place: Place
    collection: Any
    evaluating: Any

    def evaluated(self, checkpoint: Any, stage: str, **more: Any) -> Point:
        """Return the point of the curve that `checkpoint` is."""
        return Point(checkpoint, self.evaluation(checkpoint, stage, **more).outputs["report"])

    def evaluation(self, checkpoint: Any, stage: str, **more: Any) -> Any:
        """Return the task that measures `checkpoint`."""
        arguments = {"params": self.evaluating} | more
        made = evaluate(collection=self.collection, checkpoint=checkpoint, stage=stage, **arguments)
        return self.place.task(made, f"evaluate {stage}", large=True)

    def tuned(self, name: str, base: Any, rows: Any, params: Any, **more: Any) -> Any:
        """Return the checkpoint that tuning `base` on `rows` gives."""
        label = f"tune {name}"
        made = tune(training_set=rows, checkpoint=base, params=params, label=label, **more)
        return self.place.task(made, label, large=True).outputs["tuned"]

    def two_stages(self, original: Point, replaying: Any, injecting: Any, infusing: Any) -> Point:
        """Return the infused checkpoint: injection on symbols, then infusion with the model's own general replies."""
        made = replay(collection=self.collection, checkpoint=original.checkpoint, params=replaying)
        general = self.place.task(made, "replay", large=True).outputs["general"]
        injected = self.tuned("injection", original.checkpoint, self.collection, injecting)
        after = self.evaluated(injected, "injection", previous=original.report)
        infused = self.tuned("infusion", injected, self.collection, infusing, general=general)
        return self.evaluated(infused, "infusion", previous=after.report)


class Rounds(NamedTuple):
    """Self-training from `start`: explore, select, tune `start` again, evaluate; then the next round or the gate."""

    loop: Loop
    how: RoundsParams
    original: Point
    start: Point
    bootstrapping: Any
    exploring: Any
    selecting: Any
    tuning: Any
    promoting: Any

    def run(self, number: int, before: Point, pool: Any) -> None:
        """Lay out round `number` and all that may follow it."""
        name = f"round {number}"
        selected = self.selected(number, before, pool)
        base = before if self.how.tunes == "latest" else self.start
        tuned = self.loop.tuned(name, base.checkpoint, selected, self.tuning)
        judged = self.loop.evaluation(tuned, name, previous=before.report, selected=selected)
        now = Point(tuned, judged.outputs["report"])
        if number == self.how.n:
            self.close(now, before)
        elif not self.how.stop_early:
            self.run(number + 1, now, selected)
        else:
            with dsl.If(judged.outputs["Output"] == True, name=f"after-round-{number}"):  # noqa: E712 - a condition
                self.run(number + 1, now, selected)
            with dsl.Else(name=f"stop-after-round-{number}"):
                self.close(now, before)

    def selected(self, number: int, before: Point, pool: Any) -> Any:
        """Return the training set that the checkpoint `before` finds in round `number`; it is put under version."""
        place, collection, name = self.loop.place, self.loop.collection, f"round {number}"
        how = self.bootstrapping if number == 1 else self.exploring
        label = f"explore {name}"
        made = explore(collection=collection, checkpoint=before.checkpoint, params=how, label=label)
        explored = place.task(made, label, large=True).outputs["explored"]
        label, earlier = f"select {name}", {} if pool is None else {"pool": pool}
        made = select(
            collection=collection, explored=explored, params=self.selecting, number=number, label=label, **earlier
        )
        selected = place.task(made, label).outputs["selected"]
        place.task(version(dataset=selected, name=f"round-{number}/selected"), f"version round-{number}")
        return selected

    def close(self, last: Point, before: Point) -> None:
        """End with the gate, for the better of the last two points; the original is the gate's rival and no candidate.

        Kubeflow cannot take one artifact for two inputs either.
        """
        earlier = {} if before is self.original else {"checkpoint": before.checkpoint, "report": before.report}
        made = promote(
            checkpoint=last.checkpoint,
            report=last.report,
            original=self.original.report,
            params=self.promoting,
            **{f"earlier_{name}": artifact for name, artifact in earlier.items()},
        )
        task = self.loop.place.task(made, "promote")
        task.set_caching_options(False)  # it moves an alias, which a cached result would not


def provide(task: Any) -> None:
    """Give `task` what `manifests/base` defines: addresses, keys, the state volume; and what its namespace asks of a pod.

    A task that fails, or whose node goes away, is started again: what it had found lies in the state volume.
    """
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_timeout(task, DAY_S)
    task.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2, backoff_max_duration="10m")
    kubernetes.use_config_map_as_env(task, "storage", {key: key for key in ADDRESSES})
    kubernetes.use_secret_as_env(task, "credentials", {key: key for key in KEYS})
    kubernetes.mount_pvc(task, "state", STATE)
    for variable, label in LABELS.items():
        kubernetes.use_field_path_as_env(task, variable, f"metadata.labels['{label}']")
    task.set_env_variable("SYMBOL_LLM_HOME", STATE)


def dump(section: BaseModel) -> dict[str, Any]:
    """Return a parameter section as Kubeflow carries it, which has no null: what is none is left to its default."""
    return section.model_dump(mode="json", exclude_none=True)
