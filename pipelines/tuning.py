"""Supervised tuning in two stages as a Kubeflow pipeline: collect, injection, infusion, and a report after each. No gate."""

from typing import Any

from kfp import dsl

from pipelines.loop import Loop, collected, dump, fetched
from pipelines.place import Place
from symbol_llm.ground.params import Parameters


def build(parameters: Parameters, place: Place) -> Any:
    """Return the pipeline for `parameters`."""
    p = parameters

    @dsl.pipeline(
        name="tuning",
        description="Injection of symbols, then infusion with general replies.",
        pipeline_root=place.root,
        pipeline_config=place.config,
    )
    def tuning(
        model: str = p.model,
        collecting: dict = dump(p.collect),
        replaying: dict = dump(p.replay),
        injecting: dict = dump(p.injection),
        infusing: dict = dump(p.infusion),
        evaluating_original: dict = dump(p.evaluate_original()),
        evaluating: dict = dump(p.evaluate),
    ) -> None:
        with place.run() as here:
            base = fetched(here, model, moves=p.model.startswith("models:"))
            loop = Loop(here, collected(here, collecting), evaluating)
            original = loop.evaluated(base, "original", params=evaluating_original)
            loop.two_stages(original, replaying, injecting, infusing)

    return tuning
