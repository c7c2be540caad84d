"""Where tasks run on a cluster: images, node pools, sizes, storage, queue. One YAML file a placement, in `placements/`.

A profile (`symbol_llm/profiles`) says *what* is run: the model, its data, learning rates. A placement says *where*. They are
two files and two options, `--profile published-7b --placement 8xa100`, since they change for different reasons: a laptop and
a GPU node run the same profile, and the library that reads profiles knows no cluster. A placement changes no code.

Three things Kubeflow (2.17) has no word for are missing here. Ephemeral storage: give a role a volume for its `state`, or
set defaults in a LimitRange. A pod's priority class: `priority` is that of Kueue. Which failures to retry: Argo's policy
decides. Kubeflow installs Argo with `OnError`: a pod that was deleted, as by preemption or with its node, is started again,
and a container that failed is not, one out of memory neither. With Argo's own default, `OnFailure`, it is the other way round.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from kubernetes.utils.quantity import parse_quantity
from pydantic import AfterValidator, Field, ValidationError, model_validator

from components import CPU_IMAGE, GPU_IMAGE, LIGHT_IMAGE
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import explain, read_text
from symbol_llm.ground.params import Section

SHIPPED = Path(__file__).parent / "placements"
IMAGE = re.compile(r"[\w.-]+(:\d+)?(/[\w.-]+)+(@sha256:[0-9a-f]{64}|:[\w][\w.-]*)")
DAY_S = 24 * 60 * 60


def _image(value: str) -> str:
    if not IMAGE.fullmatch(value) or value.endswith(":latest"):
        raise ValueError("expected registry/name@sha256:..., or registry/name:tag with a tag other than latest")
    return value


def _quantity(form: str, example: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(form, value, re.ASCII) or parse_quantity(value) <= 0:
            raise ValueError(f"expected a quantity above 0, such as {example}")
        return value

    return AfterValidator(check)


Image = Annotated[str, AfterValidator(_image)]
Cpu = Annotated[str, _quantity(r"\d+(\.\d+|m)?", "2 or 500m")]
Bytes = Annotated[str, _quantity(r"\d+(Ki|[MGTPE]i?)?", "8Gi or 512Mi")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
"""Of an object in Kubernetes."""


class Images(Section):
    """What containers are made of. By default the tags of this version in `SYMBOL_LLM_REGISTRY`."""

    light: Image = LIGHT_IMAGE
    cpu: Image = CPU_IMAGE
    gpu: Image = GPU_IMAGE


class Resources(Section):
    """Processor and memory, as Kubernetes writes them: 500m, 8Gi."""

    cpu: Cpu
    memory: Bytes


class Accelerator(Section):
    """Devices of one kind."""

    type: str = "nvidia.com/gpu"
    count: int = Field(default=1, ge=1)


class Toleration(Section):
    """A taint that does not keep tasks off a node."""

    key: str
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"

    @model_validator(mode="after")
    def _agree(self) -> Toleration:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("a value goes with the operator Equal, and with no other")
        return self


class Retries(Section):
    """How often a task that failed is started again, and after how long."""

    n: int = Field(default=2, ge=0)
    first_s: int = Field(default=30, ge=0)
    """Wait before the first."""
    factor: int = Field(default=2, ge=1)
    """Each wait is this many times the one before; Argo takes no fraction."""


class Claim(Section):
    """A PersistentVolumeClaim, which outlives tasks: one that is started again goes on where it was."""

    claim: Name


class Volume(Section):
    """A volume of a task's own, gone with its pod."""

    size: Bytes
    storage_class: Name | None = None


class Role(Section):
    """Tasks of one kind."""

    image: Literal["light", "cpu", "gpu"] = "cpu"
    """`light` has no torch; fetch, which unpacks weights, runs in `cpu` all the same."""
    requests: Resources
    limits: Resources
    accelerator: Accelerator | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    shared_memory: Bytes | None = None
    """Of `/dev/shm`, over which processes talk; part of the memory limit. Null: the container runtime's 64 MiB."""
    state: Claim | Volume | None = Claim(claim="state")
    """What lies under SYMBOL_LLM_HOME: ledgers, weights, the data repository. Null: a folder on the node, gone with the pod."""
    deadline_s: int = Field(default=DAY_S, ge=60)
    """When a try is ended, from the start of its pod; waiting in a queue does not count."""
    retries: Retries = Retries()

    @model_validator(mode="after")
    def _fit(self) -> Role:
        for kind in ("cpu", "memory"):
            asked, most = getattr(self.requests, kind), getattr(self.limits, kind)
            if parse_quantity(asked) > parse_quantity(most):
                raise ValueError(f"requests.{kind} {asked} is above limits.{kind} {most}")
        if self.shared_memory and parse_quantity(self.shared_memory) > parse_quantity(self.limits.memory):
            raise ValueError(f"shared_memory {self.shared_memory} is above limits.memory {self.limits.memory}")
        return self


class TrainJob(Section):
    """Tuning by several processes, on one node or more, as a job of Kubeflow Trainer that one light task starts and follows.

    Image, sizes, nodes and volumes of its pods are said by its runtime; see `manifests/components/training`.
    """

    nodes: int = Field(default=1, ge=1)
    processes_per_node: int = Field(ge=1)
    """One a device."""
    runtime: Name = "symbol-llm-torch"
    deadline_s: int = Field(default=7 * DAY_S, ge=60)
    """When the task that follows it is ended, and the job with it; waiting in a queue counts."""


class Placement(Section):
    """The whole of a file in `placements/`."""

    images: Images = Images()
    light: Role
    """Of fetch, collect, version, merge, select, promote and finish, and of what starts and follows a TrainJob."""
    sample: Role
    """Of explore, evaluate and replay."""
    tune: Role | None = None
    """Of tuning by one process in a pod of its own."""
    tune_job: TrainJob | None = None
    """Tuning by several, instead."""
    explore_shards: int = Field(default=1, ge=1)
    """Tasks that an exploration is divided among."""
    queue: Name | None = None
    """Kueue's LocalQueue. Null: tasks do not queue."""
    priority: Name | None = None
    """Kueue's WorkloadPriorityClass."""
    preflight: bool = True
    """Whether a run begins by looking whether the cluster has what it needs."""
    service_account: Name = "pipeline-runner"
    """Of all tasks of a run: Kubeflow sets one a run. With `tune_job` it has to be one that may start TrainJobs: `trainer`."""
    image_pull_secrets: tuple[Name, ...] = ()
    config: Name = "storage"
    """ConfigMap with the addresses."""
    keys: Name = "credentials"
    """Secret with the keys."""
    pipeline_root: str | None = Field(default=None, pattern=r"^(s3|gs|minio)://")
    """Where artifacts go. Null: where the ConfigMap `kfp-launcher` says."""

    @model_validator(mode="after")
    def _share(self) -> Placement:
        if self.priority and not self.queue:
            raise ValueError("priority is Kueue's and wants a queue")
        if (self.tune is None) == (self.tune_job is None):
            raise ValueError("expected one of tune and tune_job")
        if self.tune_job and not isinstance(self.light.state, Claim):
            raise ValueError("a TrainJob and the task that starts it share files, so light.state has to be a claim")
        return self


def names() -> list[str]:
    """Return the shipped placements."""
    return sorted(p.stem for p in SHIPPED.glob("*.yaml"))


def load(name: str) -> Placement:
    """Return a shipped placement, or that of a YAML file; InvalidInput names what is unknown or does not fit."""
    is_file = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_file else SHIPPED / f"{name}.yaml"
    if not path.is_file() or (not is_file and name not in names()):
        raise InvalidInput(f"unknown placement {name!r}; have {', '.join(names())}, or name a YAML file")
    try:
        values: Any = yaml.safe_load(read_text(path))
        return Placement.model_validate(values)
    except yaml.YAMLError as e:
        raise InvalidInput(f"{path}: not YAML: {' '.join(str(e).split())}") from e
    except ValidationError as e:
        raise InvalidInput(f"{path}: {explain(e, 'placement')}") from e
