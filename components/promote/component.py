"""Registration, the gate, the champion alias, and the page that shows the run."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Model, Output

from components import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def promote(
    checkpoint: Input[Model],
    report: Input[Artifact],
    original: Input[Artifact],
    params: dict,
    promotion: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
    earlier_checkpoint: Input[Model] = None,
    earlier_report: Input[Artifact] = None,
) -> None:
    """Put the better of the last two checkpoints, if there are two, to the gate against the champion."""
    import shutil
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Promote
    from symbol_llm.tracking import runs

    named = {"checkpoint": checkpoint, "report": report, "original": original, "out": promotion}
    sources = {"source": checkpoint.uri}
    if earlier_checkpoint and earlier_report:
        named |= {"earlier_checkpoint": earlier_checkpoint, "earlier_report": earlier_report}
        sources["earlier_source"] = earlier_checkpoint.uri
    paths = {name: Path(artifact.path) for name, artifact in named.items()}
    runs.tracked(stages.promote, label="promote", metrics=metrics, params=Promote(**params), **sources, **paths)
    shutil.copyfile(paths["out"] / "report.html", page.path)
