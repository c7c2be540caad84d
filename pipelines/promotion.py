"""One checkpoint before the gate as a Kubeflow pipeline: it and the original are measured on one collection, then compared.

The input `checkpoint` is a reference as `symbol-llm fetch` takes it, as for the pipeline `evaluation`. Reports are not
inputs: one that was made elsewhere may be of other problems, and the gate believes none that is not on the files it is given.
"""

from typing import Any

from kfp import dsl

from pipelines.loop import Loop, collected, dump, fetched, gated
from pipelines.place import Place
from symbol_llm.ground.params import Parameters


def build(parameters: Parameters, place: Place, reference: str = "") -> Any:
    """Return the pipeline for `parameters` and the checkpoint that `reference` names, by default the challenger."""
    p = parameters

    @dsl.pipeline(
        name="promotion",
        description="One checkpoint before the gate.",
        pipeline_root=place.root,
        pipeline_config=place.config,
    )
    def promotion(
        checkpoint: str = reference or f"models:/{p.promote.name}@challenger",
        model: str = p.model,
        collecting: dict = dump(p.collect),
        evaluating_original: dict = dump(p.evaluate_original()),
        evaluating: dict = dump(p.evaluate),
        promoting: dict = dump(p.promote),
    ) -> None:
        with place.run() as here:
            base = fetched(here, model, "fetch original", moves=p.model.startswith("models:"))
            found = fetched(here, checkpoint, "fetch checkpoint", moves=True)
            loop = Loop(here, collected(here, collecting), evaluating)
            original = loop.evaluated(base, "original", params=evaluating_original)
            candidate = loop.evaluated(found, "checkpoint", previous=original.report)
            gated(here, candidate, original, promoting)

    return promotion
