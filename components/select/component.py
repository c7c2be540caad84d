"""The pool and the filtered training set of one round as an artifact."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def select(
    collection: Input[Dataset],
    explored: Input[Dataset],
    params: dict,
    number: int,
    label: str,
    selected: Output[Dataset],
    metrics: Output[Metrics],
    pool: Input[Dataset] = None,
) -> None:
    """Filter round `number`: grow the pool, choose positives and (wrong, right) pairs."""
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Select
    from symbol_llm.tracking import runs

    paths: dict[str, Path | None] = {
        "collection": Path(collection.path),
        "explored": Path(explored.path),
        "out": Path(selected.path),
    }
    paths["pool"] = Path(pool.path) if pool else None
    chosen = {"params": Select(**params), "round_": number}
    runs.tracked(stages.select, label=label, metrics=metrics, **chosen, **paths)
