"""The first step on a cluster: has it what the placement needs? A run that would end in hours for want of it ends at once."""

from kfp import dsl

from components import LIGHT_IMAGE


@dsl.container_component
def preflight(placement: str) -> dsl.ContainerSpec:
    """Check the cluster for `placement`, in JSON, from inside; what failed is in the log, with what to do."""
    return dsl.ContainerSpec(
        image=LIGHT_IMAGE, command=["python", "-m", "pipelines.preflight"], args=["--placement", placement]
    )
