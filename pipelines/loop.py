"""The tasks of which pipelines are made: what they begin with, what leads from one point of the curve to the next, the gate.

Kubeflow Pipelines has no loop with an end condition, so rounds are unrolled when a pipeline is compiled: round r + 1 lies
inside the condition that round r was the best so far, and where the rounds end, for either reason, stands `promote`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kfp import dsl
from pydantic import BaseModel

from components.collect.component import collect
from components.evaluate.component import evaluate
from components.explore.component import explore
from components.fetch.component import fetch
from components.merge.component import merge
from components.promote.component import promote
from components.replay.component import replay
from components.select.component import select
from components.tune.component import tune
from components.tune_on_nodes.component import tune_on_nodes
from components.version.component import version
from pipelines.place import Place
from symbol_llm.ground.params import Rounds as RoundsParams


class Point(NamedTuple):
    """A checkpoint of the curve and its report."""

    checkpoint: Any
    report: Any


def fetched(place: Place, reference: Any, name: str = "fetch", *, moves: bool) -> Any:
    """Return the checkpoint that `reference` names; fetched at each run if it `moves`, as an alias does."""
    return place.outside(fetch(model=reference), name, moves=moves).outputs["checkpoint"]


def collected(place: Place, params: Any) -> Any:
    """Return the collection, which is put under version."""
    collection = place.outside(collect(params=params), "collect").outputs["collection"]
    place.task(version(dataset=collection, name="collection"), "version collection")
    return collection


def gated(place: Place, last: Point, original: Point, params: Any, before: Point | None = None) -> None:
    """Put the better of the points `last` and `before` to the gate; the original is its rival and no candidate.

    Kubeflow cannot take one artifact for two inputs either.
    """
    earlier = {"earlier_checkpoint": before.checkpoint, "earlier_report": before.report} if before else {}
    made = promote(checkpoint=last.checkpoint, report=last.report, original=original.report, params=params, **earlier)
    task = place.task(made, "promote")
    task.set_caching_options(False)  # it moves an alias, which a cached result would not


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
        return self.place.task(made, f"evaluate {stage}", "sample")

    def tuned(self, name: str, base: Any, rows: Any, params: Any, **more: Any) -> Any:
        """Return the checkpoint that tuning `base` on `rows` gives; what takes several processes is a TrainJob's."""
        label, placement = f"tune {name}", self.place.placement
        arguments = {"training_set": rows, "checkpoint": base, "params": params, "label": label} | more
        if placement is None or placement.tune_job is None:
            return self.place.task(tune(**arguments), label, "tune").outputs["tuned"]
        job = placement.tune_job.model_dump()
        deadline_s = job.pop("deadline_s")
        made = tune_on_nodes(**arguments, **job, queue=placement.queue or "")
        return self.place.task(made, label, deadline_s=deadline_s).outputs["tuned"]

    def two_stages(self, original: Point, replaying: Any, injecting: Any, infusing: Any) -> Point:
        """Return the infused checkpoint: injection on symbols, then infusion with the model's own general replies."""
        made = replay(collection=self.collection, checkpoint=original.checkpoint, params=replaying)
        general = self.place.task(made, "replay", "sample").outputs["general"]
        injected = self.tuned("injection", original.checkpoint, self.collection, injecting)
        after = self.evaluated(injected, "injection", previous=original.report)
        infused = self.tuned("infusion", injected, self.collection, infusing, general=general)
        return self.evaluated(infused, "infusion", previous=after.report)

    def explored(self, checkpoint: Any, params: Any, number: int) -> Any:
        """Return what `checkpoint` finds in round `number`; in shards, which are merged, where the place has several."""
        label = f"explore round {number}"
        arguments = {"collection": self.collection, "checkpoint": checkpoint, "params": params}
        arguments |= {"number": number, "label": label}
        n = self.place.n_shards
        if n == 1:
            return self.place.task(explore(**arguments), label, "sample").outputs["explored"]
        with dsl.ParallelFor([f"{number}/{n}" for number in range(1, n + 1)], name=f"shards of {label}") as shard:
            one = self.place.task(explore(**arguments, shard=shard), label, "sample")
        made = merge(shards=dsl.Collected(one.outputs["explored"]), label=f"merge {label}")
        return self.place.task(made, f"merge {label}").outputs["explored"]


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
        place, collection = self.loop.place, self.loop.collection
        how = self.bootstrapping if number == 1 else self.exploring
        explored = self.loop.explored(before.checkpoint, how, number)
        label, earlier = f"select round {number}", {} if pool is None else {"pool": pool}
        made = select(
            collection=collection, explored=explored, params=self.selecting, number=number, label=label, **earlier
        )
        selected = place.task(made, label).outputs["selected"]
        place.task(version(dataset=selected, name=f"round-{number}/selected"), f"version round-{number}")
        return selected

    def close(self, last: Point, before: Point) -> None:
        """End with the gate, for the better of the last two points."""
        gated(self.loop.place, last, self.original, self.promoting, None if before is self.original else before)


def dump(section: BaseModel) -> dict[str, Any]:
    """Return a parameter section as Kubeflow carries it, which has no null: what is none is left to its default."""
    return section.model_dump(mode="json", exclude_none=True)
