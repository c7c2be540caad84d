"""The whole loop as one Kubeflow pipeline: collect, two-stage tuning, self-training rounds, promotion.

Kubeflow Pipelines has no loop with an end condition, so the rounds are unrolled when it is compiled: round r + 1 lies
inside the condition that round r was the best so far, and where the rounds end, for either reason, stands `promote`.
Every parameter section is an input of the compiled pipeline; the number of rounds and where they start are not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl, kubernetes
from pydantic import BaseModel

from components.collect.component import collect
from components.evaluate.component import evaluate
from components.explore.component import explore
from components.fetch.component import fetch
from components.promote.component import promote
from components.replay.component import replay
from components.select.component import select
from components.tune.component import tune
from components.version.component import version
from symbol_llm.params import Parameters

GPU = "nvidia.com/gpu"
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
STATE = "/state"


class Place(NamedTuple):
    """Where tasks run and what they find there."""

    environment: dict[str, str] = {}
    on_cluster: bool = False
    gpus: int = 0

    def task(self, made: Any, name: str, *, large: bool = False) -> Any:
        """Return `made` under `name` with its resources; `large` tasks sample or tune, and take the GPUs."""
        gpus = self.gpus if large else 0
        made.set_display_name(name).set_cpu_limit("8" if gpus else "2").set_memory_limit("16Gi" if large else "8Gi")
        if gpus:
            made.set_accelerator_type(GPU).set_accelerator_limit(gpus)
        for key, value in self.environment.items():
            made.set_env_variable(key, value)
        if self.on_cluster:
            provide(made)
        return made


class Point(NamedTuple):
    """A checkpoint of the curve and its report."""

    checkpoint: Any
    report: Any


def build(parameters: Parameters, place: Place) -> Callable[..., Any]:
    """Return the pipeline for `parameters`; what `place` sets in the environment is part of every task's cache key."""
    p, task = parameters, place.task

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
        base = task(fetch(model=model), "fetch").outputs["checkpoint"]
        collection = task(collect(params=collecting), "collect").outputs["collection"]
        task(version(dataset=collection, name="collection"), "version collection")

        def evaluated(checkpoint: Any, stage: str, params: Any, **after: Any) -> Any:
            made = evaluate(collection=collection, checkpoint=checkpoint, params=params, stage=stage, **after)
            return task(made, f"evaluate {stage}", large=True)

        original = evaluated(base, "original", evaluating_original).outputs["report"]
        start = Point(base, original)
        if p.rounds.start == "infused":
            answered = task(replay(collection=collection, checkpoint=base, params=replaying), "replay", large=True)
            made = tune(training_set=collection, checkpoint=base, params=injecting, label="tune injection")
            injected = task(made, "tune injection", large=True).outputs["tuned"]
            after = evaluated(injected, "injection", evaluating, previous=original).outputs["report"]
            general = answered.outputs["general"]
            made = tune(
                training_set=collection, checkpoint=injected, general=general, params=infusing, label="tune infusion"
            )
            infused = task(made, "tune infusion", large=True).outputs["tuned"]
            start = Point(infused, evaluated(infused, "infusion", evaluating, previous=after).outputs["report"])

        def close(last: Point, before: Point) -> None:
            made = promote(
                checkpoint=last.checkpoint,
                report=last.report,
                earlier_checkpoint=before.checkpoint,
                earlier_report=before.report,
                original=original,
                params=promoting,
            )
            task(made, "promote").set_caching_options(False)  # it moves an alias, which a cached result would not

        def round_(number: int, before: Point, pool: Any) -> None:
            name = f"round {number}"
            how = bootstrapping if number == 1 else exploring
            made = explore(collection=collection, checkpoint=before.checkpoint, params=how, label=f"explore {name}")
            explored = task(made, f"explore {name}", large=True).outputs["explored"]
            earlier = {} if pool is None else {"pool": pool}
            made = select(
                collection=collection,
                explored=explored,
                params=selecting,
                number=number,
                label=f"select {name}",
                **earlier,
            )
            selected = task(made, f"select {name}").outputs["selected"]
            task(version(dataset=selected, name=f"round-{number}/selected"), f"version {name}")
            made = tune(training_set=selected, checkpoint=start.checkpoint, params=tuning, label=f"tune {name}")
            tuned = task(made, f"tune {name}", large=True).outputs["tuned"]
            judged = evaluated(tuned, name, evaluating, previous=before.report, selected=selected)
            now = Point(tuned, judged.outputs["report"])
            if number == p.rounds.n:
                close(now, before)
            elif not p.rounds.stop_early:
                round_(number + 1, now, selected)
            else:
                with dsl.If(judged.outputs["Output"] == True, name=f"after-round-{number}"):  # noqa: E712 - a condition
                    round_(number + 1, now, selected)
                with dsl.Else(name=f"stop-after-round-{number}"):
                    close(now, before)

        round_(1, start, None)

    return self_training


def provide(task: Any) -> None:
    """Give `task` the addresses, keys and state volume that `manifests/base` defines."""
    kubernetes.use_config_map_as_env(task, "storage", {key: key for key in ADDRESSES})
    kubernetes.use_secret_as_env(task, "credentials", {key: key for key in KEYS})
    kubernetes.mount_pvc(task, "state", STATE)
    task.set_env_variable("SYMBOL_LLM_HOME", STATE)


def dump(section: BaseModel) -> dict[str, Any]:
    """Return a parameter section as Kubeflow carries it, which has no null: what is none is left to its default."""
    return section.model_dump(mode="json", exclude_none=True)
