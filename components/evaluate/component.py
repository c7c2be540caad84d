"""A checkpoint's held-out report as an artifact, and whether it is the best so far."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, install_kfp_package=False)
def evaluate(
    collection: Input[Dataset],
    checkpoint: Input[Model],
    params: dict,
    stage: str,
    report: Output[Artifact],
    metrics: Output[Metrics],
    previous: Input[Artifact] = None,
    selected: Input[Dataset] = None,
) -> bool:
    """Evaluate on dev and test problems, going on from the `previous` report; return whether it beats all before."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Evaluate
    from symbol_llm.tracking import runs

    paths: dict[str, Path | None] = {
        "collection": Path(collection.path),
        "checkpoint": Path(checkpoint.path),
        "out": Path(report.path),
    }
    paths["previous"] = Path(previous.path) if previous else None
    paths["selected"] = Path(selected.path) if selected else None
    label, chosen = f"evaluate {stage}", Evaluate(**params)
    numbers = runs.tracked(stages.evaluate, label=label, metrics=metrics, params=chosen, stage=stage, **paths)
    return numbers["improved"] > 0
