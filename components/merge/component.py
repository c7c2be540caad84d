"""The shards of one exploration as one artifact."""

from typing import List  # noqa: UP035 - the word that Kubeflow knows

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def merge(shards: Input[List[Dataset]], label: str, explored: Output[Dataset], metrics: Output[Metrics]) -> None:  # noqa: UP006
    """Put the shards of an exploration together, as if it had been one."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.tracking import runs

    folders = tuple(Path(shard.path) for shard in shards)
    runs.tracked(stages.merge, label=label, metrics=metrics, shards=folders, out=Path(explored.path))
