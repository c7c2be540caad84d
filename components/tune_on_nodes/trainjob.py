"""A tuning stage as a job of Kubeflow Trainer: started, followed to its end, the log of its first node on standard error.

What the nodes read and write lies in the state folder, which all of them must see. The name of a job is a hash of what it
is made from: a component that is started again finds its own job, and goes on following it, instead of starting another.
A job that waits in a queue or was put out of its nodes is waited for; when it is let in again, the stage goes on from
its last checkpoint. Whoever tells the component to end deletes the job.

What a node is, its image, resources, volumes and accelerators, is the TrainingRuntime's to say. This module does not tune.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.ground import files, locks, outputs, provenance
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import content_id

GROUP, VERSION, PLURAL, KIND = "trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob"
QUEUE = "kueue.x-k8s.io/queue-name"
OF_JOB = "jobset.sigs.k8s.io/jobset-name"
FIRST_NODE = "jobset.sigs.k8s.io/replicatedjob-name=node,batch.kubernetes.io/job-completion-index=0"
CONTAINER = "node"
PASSED_ON = ("KFP_RUN_ID", "KFP_RUN_NAME", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME")
"""Variables by which the stage's run in MLflow finds the pipeline's."""
PATIENCE_S = 1800.0
"""For how long the API server may be away, or a job take to be deleted."""
BACKOFF_S = (1.0, 30.0)
ANSWER_S, WATCH_S, SILENCE_S = 30, 300, 600
LOOK_S, DRAIN_S = 2.0, 10.0
N_LINES = 20
TRANSIENT = (429, 500, 502, 503, 504)
Numbers = dict[str, float]
Object = dict[str, Any]


class Shape(NamedTuple):
    """How a job is spread: so many processes on each of so many nodes, as `runtime` describes them, let in by `queue`."""

    nodes: int
    processes_per_node: int
    runtime: str
    queue: str = ""


class Place(NamedTuple):
    """A namespace of a cluster, and a client of `kubernetes` that speaks to it."""

    api: Any
    namespace: str


class JobFailed(SymbolLLMError):
    """The job failed, or somebody deleted it; the message ends with the last lines of the node that failed first."""


def tune(
    inputs: Mapping[str, Path], out: Path, params: Tune, label: str, shape: Shape, place: Place | None = None
) -> Numbers:
    """Tune `inputs["checkpoint"]` on several nodes, write the checkpoint to `out`, and return the stage's numbers.

    `inputs` are outputs of stages: `training_set`, `checkpoint` and perhaps `general`. JobFailed as above; Unavailable if the
    API server stays away; InvalidInput if it refuses; Busy if another component, as of another run, does the same just now.
    """
    name = job_name(inputs, params, shape)
    folder = outputs.claim(outputs.state_dir() / outputs.TRAINJOBS / name)
    tuned = folder / "tuned"
    job = Job(place or here(), name)
    with locks.hold(folder / outputs.LOCK, f"a component that follows {name}"):
        if not _is_whole(tuned):
            copies = {key: _copied(path, folder / key) for key, path in inputs.items()}
            with _deleted_when_told_to_end(job):
                job.run(_body(name, copies, tuned, params, label, shape))
        outputs.copy(tuned, out)
        job.delete()  # before its folder, without which it would be done again
        outputs.clean(folder)
    return dict(files.read_json(out / files.MANIFEST)["metrics"])


def note(metrics: Any, numbers: Numbers) -> None:
    """Put `numbers` into Kubeflow's artifact `metrics`, and beside it, as the components of other stages do."""
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    files.write_json(Path(metrics.path), numbers)


def job_name(inputs: Mapping[str, Path], params: Tune, shape: Shape) -> str:
    """Return the name of the job: the same for the same inputs, parameters, nodes and code."""
    digests = {key: outputs.digest(path) for key, path in inputs.items()}
    spread = shape.nodes, shape.processes_per_node, shape.runtime
    return f"tune-{content_id(digests, params.model_dump(mode='json'), *spread, provenance.identity())}"


def here() -> Place:
    """Return the namespace that this pod is in, or else the one that kubectl speaks to; InvalidInput if there is neither."""
    from kubernetes import client, config
    from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME

    try:
        config.load_incluster_config()
        return Place(client.ApiClient(), Path(SERVICE_TOKEN_FILENAME).with_name("namespace").read_text().strip())
    except config.ConfigException:
        pass
    try:
        config.load_kube_config()
        context = config.list_kube_config_contexts()[1]["context"]
    except (config.ConfigException, OSError) as e:
        raise InvalidInput(f"no cluster: neither a service account's token nor a kubeconfig ({e})") from e
    return Place(client.ApiClient(), context.get("namespace") or "symbol-llm")


def _copied(folder: Path, to: Path) -> Path:
    """Return `to` with the files of `folder`, which a job that is under way may be reading."""
    if not _is_whole(to) or outputs.digest(to) != outputs.digest(folder):
        outputs.copy(folder, to)
    return to


def _is_whole(folder: Path) -> bool:
    return (folder / files.MANIFEST).is_file() and not outputs.fault(folder)


def _body(name: str, inputs: Mapping[str, Path], out: Path, params: Tune, label: str, shape: Shape) -> Object:
    """Return the TrainJob; Trainer gives torchrun its addresses and numbers in PET_* variables."""
    section = json.dumps(params.model_dump(mode="json"))
    command = ["torchrun", "-m", "symbol_llm", "--set", f"tune={section}", "tune", "tune", "--label", label]
    if general := inputs.get("general"):
        command += ["--general", str(general)]
    command += [str(inputs["training_set"]), str(inputs["checkpoint"]), str(out)]
    environment = {"SYMBOL_LLM_HOME": str(outputs.state_path())}
    environment |= {key: os.environ[key] for key in PASSED_ON if os.environ.get(key)}
    labels = {"app.kubernetes.io/part-of": "symbol-llm"} | ({QUEUE: shape.queue} if shape.queue else {})
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": name, "labels": labels, "annotations": {"symbol-llm/label": label}},
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": shape.runtime},
            "trainer": {
                "numNodes": shape.nodes,
                "numProcPerNode": shape.processes_per_node,
                "command": command,
                "env": [{"name": key, "value": value} for key, value in environment.items()],
            },
        },
    }


@contextlib.contextmanager
def _deleted_when_told_to_end(job: Job) -> Iterator[None]:
    """Delete `job` if this process is told to end within the block, and end."""

    def told(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    except KeyboardInterrupt:
        _say(f"{job.name}: told to end; the job is deleted")
        job.delete()
        sys.exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


class Job:
    """One TrainJob by name, there or not."""

    def __init__(self, place: Place, name: str) -> None:
        """Name the job; nothing is asked yet."""
        from kubernetes import client

        self.name, self.namespace = name, place.namespace
        self._jobs, self._core = client.CustomObjectsApi(place.api), client.CoreV1Api(place.api)
        self._where = (GROUP, VERSION, place.namespace, PLURAL)
        self._said = ""

    def run(self, body: Object) -> None:
        """Start `body`, unless it is under way already, and return when it has ended well; JobFailed otherwise.

        One that has ended before is of an earlier try: it is deleted first.
        """
        found = self.get()
        if found is not None and (ended(found) or "deletionTimestamp" in found["metadata"]):
            self.delete()
            found = None
        if found is None:
            self._create(body)
        else:
            _say(f"{self.name}: found under way, followed from here")
        logs = _Logs(self._core, self.namespace, self.name)
        logs.start()
        try:
            outcome = self._follow()
        except SymbolLLMError:
            logs.end()
            raise
        logs.end()
        if outcome.type == "Failed":
            raise JobFailed(f"{KIND} {self.name} failed: {outcome.message} ({outcome.reason}){self._why(logs.tail)}")

    def get(self) -> Object | None:
        """Return the job as it is, or None."""
        try:
            return dict(patiently(lambda: self._jobs.get_namespaced_custom_object(*self._where, self.name, **_LIMIT)))
        except _NotFound:
            return None

    def delete(self) -> None:
        """Delete the job and what belongs to it, and return when it is gone."""
        with contextlib.suppress(_NotFound):
            patiently(
                lambda: self._jobs.delete_namespaced_custom_object(
                    *self._where, self.name, propagation_policy="Foreground", **_LIMIT
                )
            )
        deadline = time.monotonic() + PATIENCE_S
        while self.get() is not None:
            if time.monotonic() > deadline:
                raise Unavailable(f"{KIND} {self.name} was deleted and is still there after {PATIENCE_S:g} s")
            time.sleep(LOOK_S)

    def _create(self, body: Object) -> None:
        try:
            patiently(
                lambda: self._jobs.create_namespaced_custom_object(
                    *self._where, body, field_validation="Strict", **_LIMIT
                )
            )
        except _Exists:  # a request that got no answer had arrived after all
            return
        _say(f"{self.name}: started")

    def _follow(self) -> Condition:
        """Return how the job ends; JobFailed if it vanishes. A watch that breaks off is taken up again."""
        while True:
            found = self.get()
            if found is None:
                raise JobFailed(f"{KIND} {self.name} was deleted by somebody else")
            if outcome := self._seen(found):
                return outcome
            with contextlib.suppress(_Broken):
                for event in self._events(found["metadata"]["resourceVersion"]):
                    if event["type"] == "DELETED":
                        break
                    if outcome := self._seen(event["object"]):
                        return outcome
            time.sleep(BACKOFF_S[0])

    def _events(self, since: str) -> Iterator[Object]:
        from kubernetes import watch

        more = {"field_selector": f"metadata.name={self.name}", "resource_version": since}
        limits = {"timeout_seconds": WATCH_S, "_request_timeout": (ANSWER_S, WATCH_S + ANSWER_S)}
        with _sorted_out():
            yield from watch.Watch().stream(self._jobs.list_namespaced_custom_object, *self._where, **more, **limits)

    def _seen(self, job: Object) -> Condition | None:
        """Say what is new of `job`; return how it ended, if it did."""
        now = state(job)
        if now != self._said:
            self._said = now
            _say(f"{self.name}: {now}")
        return ended(job)

    def _why(self, tail: list[str]) -> str:
        """Return which node failed first and the last lines of its log; of the first node's where no pod is left."""
        with contextlib.suppress(SymbolLLMError):
            pods = patiently(
                lambda: self._core.list_namespaced_pod(self.namespace, label_selector=f"{OF_JOB}={self.name}", **_LIMIT)
            ).items
            dead = [(end.finished_at, pod, end) for pod in pods if (end := _bad_end(pod))]
            if dead:
                _, pod, end = min(dead, key=lambda one: str(one[0]))
                text = patiently(
                    lambda: self._core.read_namespaced_pod_log(
                        pod.metadata.name, self.namespace, container=CONTAINER, tail_lines=N_LINES, **_LIMIT
                    )
                )
                return f"; {pod.metadata.name} ended with {end.exit_code} ({end.reason}){_indented(text.splitlines())}"
        return _indented(tail)


class Condition(NamedTuple):
    """A condition of a job that holds."""

    type: str
    reason: str
    message: str


def ended(job: Object) -> Condition | None:
    """Return the condition `Complete` or `Failed` of `job`, if it has one."""
    holds = {c["type"]: c for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}
    found = next((holds[kind] for kind in ("Complete", "Failed") if kind in holds), None)
    return Condition(found["type"], found["reason"], found["message"]) if found else None


def state(job: Object) -> str:
    """Return in words where `job` stands."""
    if outcome := ended(job):
        return outcome.type.lower()
    holds = {c["type"] for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}
    if job["spec"].get("suspend") or "Suspended" in holds:
        return "suspended; it goes on from its last checkpoint when its queue lets it in"
    n_active = sum(one["active"] for one in job.get("status", {}).get("jobsStatus", ()))
    return "running" if n_active else "waits for its pods"


class _Logs(threading.Thread):
    """Copies the log of a job's first node to standard error, through restarts and breaks; `tail` holds the last lines."""

    def __init__(self, core: Any, namespace: str, name: str) -> None:
        super().__init__(daemon=True, name="logs")
        self._core, self._namespace, self._selector = core, namespace, f"{OF_JOB}={name},{FIRST_NODE}"
        self._over, self._read = threading.Event(), set[str]()
        self._pod_uid = self._last = ""  # the pod that is read, and the time of the last line of it
        self._tail: deque[str] = deque(maxlen=N_LINES)

    @property
    def tail(self) -> list[str]:
        """Return the last lines."""
        return list(self._tail)

    def end(self) -> None:
        """Read what is left, for a short while, and stop."""
        self._over.set()
        self.join(DRAIN_S)

    def run(self) -> None:
        """Follow one pod after the other until told to end."""
        while True:
            is_over = self._over.is_set()
            with contextlib.suppress(_Broken, _NotFound, SymbolLLMError):
                if pod := self._pod():
                    self._copy(pod)
                    if pod.status.phase != "Running":
                        self._read.add(pod.metadata.uid)
                        continue
            if is_over:
                return
            self._over.wait(LOOK_S)

    def _pod(self) -> Any:
        """Return the newest pod whose log has not been read to its end, or None."""
        with _sorted_out():
            found = self._core.list_namespaced_pod(self._namespace, label_selector=self._selector, **_LIMIT).items
        begun = [p for p in found if p.status.phase in ("Running", "Succeeded", "Failed")]
        unread = [p for p in begun if p.metadata.uid not in self._read]
        return max(unread, key=lambda p: p.metadata.creation_timestamp, default=None)

    def _copy(self, pod: Any) -> None:
        """Copy the log of `pod` from where it was left."""
        if pod.metadata.uid != self._pod_uid:
            self._pod_uid, self._last = pod.metadata.uid, ""
        with _sorted_out():
            answer = self._core.read_namespaced_pod_log(
                pod.metadata.name,
                self._namespace,
                container=CONTAINER,
                follow=True,
                timestamps=True,
                _preload_content=False,
                _request_timeout=(ANSWER_S, SILENCE_S),
            )
            with contextlib.closing(answer):
                for raw in answer:
                    at, _, text = raw.decode(errors="replace").rstrip("\n").partition(" ")
                    if at > self._last:
                        self._last = at
                        self._tail.append(text)
                        _say(text)


_LIMIT = {"_request_timeout": (ANSWER_S, ANSWER_S)}


class _Broken(Exception):
    """No answer, or one that may be better in a while."""


class _NotFound(Exception):
    """There is no such object."""


class _Exists(Exception):
    """There is such an object already."""


@contextlib.contextmanager
def _sorted_out() -> Iterator[None]:
    """Turn what the client raises in the block into one of the above, or into InvalidInput for a refusal."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except HTTPError as e:
        raise _Broken(f"{type(e).__name__}: {e}") from e
    except ApiException as e:
        said = _message(e)
        if not e.status or e.status in TRANSIENT or e.status == 410:
            raise _Broken(f"{e.status} {said}") from e
        if e.status == 404:
            raise _NotFound(said) from e
        if e.status == 409:
            raise _Exists(said) from e
        raise InvalidInput(f"the cluster answers {e.status}: {said}") from e


def _message(e: Any) -> str:
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return str(json.loads(e.body)["message"])
    return str(e.reason)


def patiently(call: Callable[[], Any]) -> Any:
    """Return `call()`, tried again with growing pauses while the API server is away; Unavailable after `PATIENCE_S`."""
    deadline, pause = time.monotonic() + PATIENCE_S, BACKOFF_S[0]
    while True:
        try:
            with _sorted_out():
                return call()
        except _Broken as e:
            if time.monotonic() + pause > deadline:
                raise Unavailable(f"the cluster does not answer: {e}") from e
            time.sleep(pause)
            pause = min(2 * pause, BACKOFF_S[1])


def _bad_end(pod: Any) -> Any:
    ends = [c.state.terminated for c in pod.status.container_statuses or () if c.state and c.state.terminated]
    return next((end for end in ends if end.exit_code), None)


def _indented(lines: list[str]) -> str:
    return "".join(f"\n    {line}" for line in lines[-N_LINES:])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
