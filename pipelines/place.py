"""Gives a task of a pipeline what its place has for it: on a cluster what the placement says, on this machine nothing.

Of `manifests/base` each task takes addresses, keys and the place of its state; what its namespace asks of a pod, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from kfp import dsl, kubernetes

from components.finish.component import finish
from components.preflight.component import preflight
from pipelines.placement import Claim, Placement, Role, Volume

Kind = Literal["light", "sample", "tune"]

ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
WITH_TLS = ("MLFLOW_TRACKING_SERVER_CERT_PATH",)
DATA_ADDRESSES = ("SYMBOL_LLM_DATA_REPO", "SYMBOL_LLM_DATA_REMOTE")
DATA_KEYS = ("SYMBOL_LLM_DATA_KEY", "SYMBOL_LLM_DATA_KNOWN_HOSTS", "SYMBOL_LLM_DATA_TOKEN")
DATA_SECRET = DATA_LABEL = "data-repository"  # noqa: S105 - a name
"""Where sets are shared by git and DVC: who may write there is a Secret of its own, which only tasks `OF_DATA` see."""
OF_DATA = ("version", "preflight")
"""Tasks that record sets, and the one that asks first whether they could; neither runs what a model wrote."""
AUTHORITY, TRUSTED = "mlflow-ca", "/tls"
"""Where MLflow speaks HTTPS: the certificate of who signed its own, and where tasks find it."""
SIGNING_SECRET, SIGNING = "signing-key", "/signing"  # noqa: S105 - a name
"""The private key that checkpoints are signed with, which only tasks that promote see."""
LABELS = {"KFP_RUN_ID": "pipeline/runid", "KFP_RUN_NAME": "workflows.argoproj.io/workflow"}
"""What Kubeflow says of the run in the labels of its pods: all tasks of one run hang under one run in MLflow."""
QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
STATE, SHARED_MEMORY = "/state", "/dev/shm"  # noqa: S108 - where Linux has it
YEAR_S = 365 * 24 * 60 * 60
"""Argo starts no task again that long after its first start, time in queues included; by default it is an hour."""
SHORT_S = 30 * 60
"""When a try of a task ends that only asks or says something, the pull of its image included."""
KEPT_S = {"ttl_seconds_after_success": 60 * 60, "ttl_seconds_after_failure": 3 * 24 * 60 * 60}
"""How long Argo keeps the pods of a run, and with them their logs and volumes of their own, once it has ended."""
USER = 65532
"""The user of the images, said again in the pod: Pod Security does not look into images."""


class Place(NamedTuple):
    """Where tasks run and what they find there."""

    environment: dict[str, str] = {}
    """Set for every task; part of its key in Kubeflow's cache."""
    placement: Placement | None = None
    """Of a cluster; None: this machine."""
    recurs: bool = False
    """Whether the pipeline is run time and again, and has to look anew at what lies outside it."""
    first: Any = None
    """The task that looks at the cluster, in a pipeline that has one."""

    @property
    def n_shards(self) -> int:
        """Tasks that an exploration is divided among."""
        return self.placement.explore_shards if self.placement else 1

    @property
    def root(self) -> str | None:
        """Where artifacts go, if the placement says so."""
        return self.placement.pipeline_root if self.placement else None

    @property
    def config(self) -> Any:
        """How long what a run leaves on a cluster is kept."""
        return dsl.PipelineConfig(**KEPT_S) if self.placement else None

    def task(self, made: Any, name: str, kind: Kind = "light", *, deadline_s: int | None = None) -> Any:
        """Return `made` under `name`, with what tasks of its kind get; `deadline_s` instead of the deadline of the kind."""
        made.set_display_name(name)
        for key, value in self.environment.items():
            made.set_env_variable(key, value)
        if self.placement:
            role: Role = getattr(self.placement, kind)
            _size(made, role, self.placement)
            _schedule(made, role, self.placement, deadline_s or role.deadline_s)
            _provide(made, role, self.placement)
        return made

    def outside(self, made: Any, name: str, *, moves: bool = False) -> Any:
        """Return the task `made`, which reads what lies outside the pipeline: done anew where that `moves` or the run recurs.

        All others come after such a task, and it comes after the first look at the cluster.
        """
        task = self.task(made, name)
        if self.first:
            task.after(self.first)
        if self.recurs or moves:
            task.set_caching_options(False)
        return task

    @contextlib.contextmanager
    def run(self) -> Iterator[Place]:
        """Give the place to all tasks of a pipeline, between a first one that looks at the cluster and a last one.

        The last ends the pipeline's run in MLflow, failed or not. The local runner knows no such task, and ends the run itself.
        """
        if not self.placement:
            yield self
            return
        last = self.task(finish(), "finish", deadline_s=SHORT_S)
        last.set_caching_options(False)
        with dsl.ExitHandler(last, name="pipeline"):
            first = None
            if self.placement.preflight:
                bare = self._replace(placement=_bare(self.placement))
                look = preflight(placement=self.placement.model_dump_json())
                first = bare.task(look, "preflight", deadline_s=SHORT_S)
                first.set_caching_options(False)
            yield self._replace(first=first)


def _bare(placement: Placement) -> Placement:
    """Return `placement` for the first look, which starts where the claim, the queue or the nodes that it looks for are missing."""
    light = placement.light.model_copy(update={"node_selector": {}, "tolerations": (), "state": None})
    return placement.model_copy(update={"light": light, "queue": None, "priority": None})


def _size(task: Any, role: Role, placement: Placement) -> None:
    unpacks = task.component_spec.name == "fetch" and role.image == "light"
    task.set_container_image(placement.images.cpu if unpacks else getattr(placement.images, role.image))
    task.set_cpu_request(role.requests.cpu).set_memory_request(role.requests.memory)
    task.set_cpu_limit(role.limits.cpu).set_memory_limit(role.limits.memory)
    if role.accelerator:
        task.set_accelerator_type(role.accelerator.type).set_accelerator_limit(role.accelerator.count)
    if role.shared_memory:
        kubernetes.empty_dir_mount(task, "shm", SHARED_MEMORY, medium="Memory", size_limit=role.shared_memory)


def _schedule(task: Any, role: Role, placement: Placement, deadline_s: int) -> None:
    """Say on which nodes `task` runs, in which queue it waits, when it ends and how often it is started again."""
    for key, value in role.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for taint in role.tolerations:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value, taint.effect)
    for label, name in ((QUEUE, placement.queue), (PRIORITY, placement.priority)):
        if name:
            kubernetes.add_pod_label(task, label, name)
    kubernetes.set_timeout(task, deadline_s)
    again = role.retries
    task.set_retry(again.n, f"{again.first_s}s", again.factor, f"{YEAR_S}s")


def _provide(task: Any, role: Role, placement: Placement) -> None:
    """Give `task` its user, addresses, keys and state; what it had found lies there when it is started again."""
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    if placement.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(placement.image_pull_secrets))
    looks = task.component_spec.name == "preflight"  # and says what is missing, instead of not starting
    kubernetes.use_config_map_as_env(task, placement.config, {key: key for key in ADDRESSES}, optional=looks)
    kubernetes.use_config_map_as_env(task, placement.config, {key: key for key in WITH_TLS}, optional=True)
    kubernetes.use_config_map_as_volume(task, AUTHORITY, TRUSTED, optional=True)
    kubernetes.use_secret_as_env(task, placement.keys, {key: key for key in KEYS}, optional=looks)
    if isinstance(role.state, Claim):
        kubernetes.mount_pvc(task, role.state.claim, STATE)
    elif isinstance(role.state, Volume):
        how = {"size": role.state.size, "storage_class_name": role.state.storage_class}
        kubernetes.add_ephemeral_volume(task, "state", STATE, ["ReadWriteOnce"], **how)
    else:
        kubernetes.empty_dir_mount(task, "state", STATE)
    if task.component_spec.name in OF_DATA:
        kubernetes.use_config_map_as_env(task, placement.config, {key: key for key in DATA_ADDRESSES}, optional=True)
        kubernetes.use_secret_as_env(task, DATA_SECRET, {key: key for key in DATA_KEYS}, optional=True)
        kubernetes.add_pod_label(task, f"symbol-llm/{DATA_LABEL}", "true")
    if task.component_spec.name == "promote":
        kubernetes.use_secret_as_volume(task, SIGNING_SECRET, SIGNING, optional=True)
    for variable, label in LABELS.items():
        kubernetes.use_field_path_as_env(task, variable, f"metadata.labels['{label}']")
    task.set_env_variable("SYMBOL_LLM_HOME", STATE)
