"""The last word: the pipeline's run in MLflow ends as the pipeline did, whatever that was."""

from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus

from components import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def finish(status: PipelineTaskFinalStatus) -> None:
    """End the run in MLflow; where no stage has begun one, there is nothing to end."""
    from symbol_llm.tracking import runs

    runs.end_pipeline(succeeded=status.state == "SUCCEEDED", why=status.error_message or "")
