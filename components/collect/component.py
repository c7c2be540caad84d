"""The collection of problems and general rows as an artifact."""

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from components import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def collect(params: dict, collection: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Build the collection: read or generate, check the gold, clean the splits."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Collect
    from symbol_llm.tracking import runs

    runs.tracked(
        stages.collect,
        label="collect",
        metrics=metrics,
        out=Path(collection.path),
        params=Collect(**params),
    )
