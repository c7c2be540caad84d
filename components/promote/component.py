"""Registration, the gate, the champion alias, and the page that shows the run."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Model, Output

from components import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def promote(
    checkpoint: Input[Model],
    report: Input[Artifact],
    earlier_checkpoint: Input[Model],
    earlier_report: Input[Artifact],
    original: Input[Artifact],
    params: dict,
    promotion: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Put the better of the last two checkpoints to the gate against the champion."""
    import shutil
    from pathlib import Path

    from symbol_llm import stages
    from symbol_llm.ground.params import Promote
    from symbol_llm.tracking import runs

    named = {"checkpoint": checkpoint, "earlier_checkpoint": earlier_checkpoint, "report": report}
    named |= {"earlier_report": earlier_report, "original": original, "out": promotion}
    paths = {name: Path(artifact.path) for name, artifact in named.items()}
    chosen = {"params": Promote(**params), "source": checkpoint.uri, "earlier_source": earlier_checkpoint.uri}
    runs.tracked(stages.promote, label="promote", metrics=metrics, **chosen, **paths)
    shutil.copyfile(paths["out"] / "report.html", page.path)
