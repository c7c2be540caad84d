"""Candidates and verdicts of one round as an artifact."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, install_kfp_package=False)
def explore(
    collection: Input[Dataset],
    checkpoint: Input[Model],
    params: dict,
    number: int,
    label: str,
    explored: Output[Dataset],
    metrics: Output[Metrics],
    shard: str = "1/1",
) -> None:
    """Sample K programs a problem of the shard in round `number`, run them, refine each once, run those."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Explore
    from symbol_llm.ground.shards import Shard
    from symbol_llm.tracking import runs

    part, how = Shard.parse(shard), Explore(**params).in_round(number)
    paths = {"collection": Path(collection.path), "checkpoint": Path(checkpoint.path), "out": Path(explored.path)}
    named = part.label(label)
    runs.tracked(stages.explore, label=named, metrics=metrics, params=how, shard=part, **paths)
