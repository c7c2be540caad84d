"""The base model's own answers to everyday prompts as an artifact."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, install_kfp_package=False)
def replay(
    collection: Input[Dataset],
    checkpoint: Input[Model],
    params: dict,
    general: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Let the checkpoint answer everyday prompts, to be mixed into infusion."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Replay
    from symbol_llm.tracking import runs

    paths = {"collection": Path(collection.path), "checkpoint": Path(checkpoint.path), "out": Path(general.path)}
    runs.tracked(stages.replay, label="replay", metrics=metrics, params=Replay(**params), **paths)
