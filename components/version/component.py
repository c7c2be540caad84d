"""A set under version in the data repository."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def version(dataset: Input[Dataset], name: str, metrics: Output[Metrics]) -> None:
    """Keep `dataset` as `data/<name>` with git and DVC: one commit, one tag."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.tracking import runs

    runs.tracked(
        stages.version, label=f"version {name.partition('/')[0]}", metrics=metrics, name=name, folder=Path(dataset.path)
    )
