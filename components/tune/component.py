"""One supervised stage: training set and checkpoint in, checkpoint out."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, install_kfp_package=False)
def tune(
    training_set: Input[Dataset],
    checkpoint: Input[Model],
    params: dict,
    label: str,
    tuned: Output[Model],
    metrics: Output[Metrics],
    general: Input[Dataset] = None,
) -> None:
    """Tune the checkpoint on the training set, and on general rows where given."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Tune
    from symbol_llm.tracking import runs

    paths: dict[str, Path | None] = {
        "training_set": Path(training_set.path),
        "checkpoint": Path(checkpoint.path),
        "out": Path(tuned.path),
    }
    paths["general"] = Path(general.path) if general else None
    runs.tracked(stages.tune, label=label, metrics=metrics, params=Tune(**params), **paths)
