"""The whole loop as one Kubeflow pipeline: collect, two-stage tuning, self-training rounds, promotion.

Every parameter section is an input of the compiled pipeline; the number of rounds and where they start are not.
"""

from typing import Any

from kfp import dsl

from pipelines.loop import Loop, Rounds, collected, dump, fetched, gated
from pipelines.place import Place
from symbol_llm.ground.params import Parameters


def build(parameters: Parameters, place: Place) -> Any:
    """Return the pipeline for `parameters`; what `place` sets in the environment is part of every task's cache key."""
    p = parameters

    @dsl.pipeline(
        name="self-training",
        description="A weak language model becomes a writer of symbols.",
        pipeline_root=place.root,
        pipeline_config=place.config,
    )
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
        with place.run() as here:
            base = fetched(here, model, moves=p.model.startswith("models:"))
            loop = Loop(here, collected(here, collecting), evaluating)
            original = loop.evaluated(base, "original", params=evaluating_original)
            start = original
            if p.rounds.start == "infused":
                start = loop.two_stages(original, replaying, injecting, infusing)
            if p.rounds.n:
                rounds = Rounds(loop, p.rounds, original, start, bootstrapping, exploring, selecting, tuning, promoting)
                rounds.run(1, start, None)
            else:
                gated(here, start, original, promoting)

    return self_training
