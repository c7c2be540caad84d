"""The report on one checkpoint as a Kubeflow pipeline: fetch, collect, evaluate. No gate, nothing is registered.

The input `checkpoint` is a reference as `symbol-llm fetch` takes it: a registered version, an alias, a hub snapshot, a folder
in the object store that a stage wrote.
"""

from typing import Any

from kfp import dsl

from pipelines.loop import Loop, collected, dump, fetched
from pipelines.place import Place
from symbol_llm.ground.params import Parameters


def build(parameters: Parameters, place: Place, reference: str = "") -> Any:
    """Return the pipeline for `parameters` and the checkpoint that `reference` names, by default the challenger."""
    p = parameters

    @dsl.pipeline(
        name="evaluation",
        description="The report on one checkpoint.",
        pipeline_root=place.root,
        pipeline_config=place.config,
    )
    def evaluation(
        checkpoint: str = reference or f"models:/{p.promote.name}@challenger",
        collecting: dict = dump(p.collect),
        evaluating: dict = dump(p.evaluate),
    ) -> None:
        with place.run() as here:
            found = fetched(here, checkpoint, moves=True)
            Loop(here, collected(here, collecting), evaluating).evaluation(found, "checkpoint")

    return evaluation
