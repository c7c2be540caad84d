"""One supervised stage on several nodes: training set and checkpoint in, checkpoint out; the work is a TrainJob's."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def tune_on_nodes(
    training_set: Input[Dataset],
    checkpoint: Input[Model],
    params: dict,
    label: str,
    nodes: int,
    processes_per_node: int,
    runtime: str,
    queue: str,
    tuned: Output[Model],
    metrics: Output[Metrics],
    general: Input[Dataset] = None,
) -> None:
    """Tune the checkpoint on the training set with several nodes, and on general rows where given."""
    from pathlib import Path

    from components.tune_on_nodes import trainjob
    from symbol_llm.ground.params import Tune

    inputs = {"training_set": Path(training_set.path), "checkpoint": Path(checkpoint.path)}
    if general:
        inputs["general"] = Path(general.path)
    shape = trainjob.Shape(nodes, processes_per_node, runtime, queue)
    numbers = trainjob.tune(inputs, Path(tuned.path), Tune(**params), label, shape)
    trainjob.note(metrics, numbers)
