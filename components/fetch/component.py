"""The base model's weights as an artifact."""

from kfp import dsl
from kfp.dsl import Metrics, Model, Output

from components import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def fetch(model: str, checkpoint: Output[Model], metrics: Output[Metrics]) -> None:
    """Bring the weights that `model` names, as safetensors."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.tracking import runs

    runs.tracked(stages.fetch, label="fetch", metrics=metrics, out=Path(checkpoint.path), model=model)
