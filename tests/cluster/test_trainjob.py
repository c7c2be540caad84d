"""Tuning on several nodes: the job is started once, followed through whatever happens, and its output brought home."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from components.tune_on_nodes import trainjob
from symbol_llm.ground import files, locks, outputs, params
from symbol_llm.ground.errors import Busy, InvalidInput, Unavailable
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import TrainingRow
from symbol_llm.tracking import runs
from tests.cluster.apiserver import User
from tests.cluster.players import CRDS, Server, Trainer

ROOT = Path(__file__).parents[2]
HOW = Tune(epochs=1, learning_rate=2e-5, batch=4, device_batch=2, max_length=64, zero=3)
SHAPE = trainjob.Shape(2, 1, "symbol-llm-torch", "gpus")
pytestmark = pytest.mark.skipif(not CRDS.is_dir(), reason="no CRDs; set CRDS to the folder that holds Trainer's")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(trainjob, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(trainjob, "LOOK_S", 0.05)
    monkeypatch.setattr(trainjob, "DRAIN_S", 5.0)


@pytest.fixture
def inputs(tmp_path: Path, home: Path) -> dict[str, Path]:
    """Give a training set and a checkpoint, which no test here looks into, as stages leave them."""
    for name, stage in (("training_set", "select"), ("checkpoint", "fetch")):
        with outputs.building(tmp_path / name, stage, {}, {}) as draft:
            (draft.folder / "content").write_text(name)
    return {name: tmp_path / name for name in ("training_set", "checkpoint")}


@pytest.fixture
def script(server: Server, trainer: Trainer) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Give a way to say what happens once the job is there; it happens in a thread, and what it raises fails the test."""
    raised: list[BaseException] = []
    threads: list[threading.Thread] = []

    def play(act: Callable[[], None]) -> None:
        def acting() -> None:
            until(lambda: bool(server.cluster.all("trainjobs")))
            try:
                act()
            except BaseException as e:  # noqa: BLE001 - told to the test below
                raised.append(e)

        threads.append(threading.Thread(target=acting, daemon=True))
        threads[-1].start()

    yield play
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive()
    assert raised == []


def until(holds: Callable[[], bool], patience_s: float = 30) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def output_of(job: dict[str, Any]) -> Path:
    return Path(job["spec"]["trainer"]["command"][-1])


def work(trainer: Trainer) -> None:
    """Leave what the stage would have left."""
    command = trainer.job["spec"]["trainer"]["command"]
    given = {"training_set": Path(command[-3]), "checkpoint": Path(command[-2])}
    with outputs.building(output_of(trainer.job), "tune", HOW, given) as draft:
        (draft.folder / "model.safetensors").write_text("weights")
        draft.metrics = {"n_rows": 8.0, "loss": 0.5}


def run(server: Server, inputs: dict[str, Path], out: Path, token: str = "admin") -> dict[str, float]:
    return trainjob.tune(inputs, out, HOW, "tune round 2", SHAPE, trainjob.Place(server.api(token), "symbol-llm"))


def made(server: Server) -> int:
    return sum(method == "POST" and "/trainjobs" in path for method, path in server.cluster.requests)


def nothing_is_left(server: Server, home: Path) -> bool:
    return server.cluster.all("trainjobs") == [] and list((home / outputs.TRAINJOBS).iterdir()) == []


def test_job_is_started_followed_and_its_output_brought_home(
    server: Server, trainer: Trainer, script: Any, inputs: dict[str, Path], tmp_path: Path, home: Path, capfd: Any
) -> None:
    def act() -> None:
        first, _ = trainer.start()
        server.cluster.log(first, "step 1", "step 2")
        work(trainer)
        trainer.end(first, 0, "Completed")
        trainer.complete()

    script(act)
    assert run(server, inputs, tmp_path / "tuned") == {"n_rows": 8.0, "loss": 0.5}
    assert (tmp_path / "tuned" / "model.safetensors").read_text() == "weights"
    assert outputs.fault(tmp_path / "tuned") == ""
    assert nothing_is_left(server, home)
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("step")] == ["step 1", "step 2"]
    (asked,) = [path for method, path in server.cluster.requests if method == "POST" and "/trainjobs" in path]
    assert "fieldValidation=Strict" in asked  # else a field that the cluster does not know would be dropped in silence
    assert said[0].endswith(": started")
    assert sum(line.endswith(": complete") for line in said) == 1


def test_job_says_what_is_to_be_done_and_by_how_many(
    server: Server, trainer: Trainer, script: Any, inputs: dict[str, Path], tmp_path: Path, home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("KFP_RUN_ID", "1234")
    jobs = []

    def act() -> None:
        jobs.append(trainer.job)
        work(trainer)
        trainer.complete()

    script(act)
    run(server, inputs, tmp_path / "tuned")
    (job,) = jobs
    assert job["metadata"]["labels"] == {"app.kubernetes.io/part-of": "symbol-llm", "kueue.x-k8s.io/queue-name": "gpus"}
    assert re.fullmatch("tune-[0-9a-f]{16}", job["metadata"]["name"])
    runtime = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": "symbol-llm-torch"}
    spec, folder = job["spec"], home / "trainjobs" / job["metadata"]["name"]
    assert spec["runtimeRef"] == runtime
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (2, 1)
    assert spec["trainer"]["env"] == [
        {"name": "SYMBOL_LLM_HOME", "value": str(home)},
        {"name": "KFP_RUN_ID", "value": "1234"},
    ]
    command = spec["trainer"]["command"]
    assert command[:4] == ["torchrun", "-m", "symbol_llm", "--set"]
    assert command[5:] == [
        "tune", "tune", "--label", "tune round 2",
        str(folder / "training_set"), str(folder / "checkpoint"), str(folder / "tuned"),
    ]  # fmt: skip
    assert params.load(overrides=[command[4]]).tune == HOW


def test_name_changes_with_inputs_parameters_and_nodes_and_with_nothing_else(inputs: dict[str, Path]) -> None:
    name = trainjob.job_name(inputs, HOW, SHAPE)
    assert trainjob.job_name(inputs, HOW, SHAPE._replace(queue="other")) == name
    others = [
        trainjob.job_name(inputs, HOW.model_copy(update={"seed": 1}), SHAPE),
        trainjob.job_name(inputs, HOW, SHAPE._replace(nodes=3)),
        trainjob.job_name(inputs | {"general": inputs["training_set"]}, HOW, SHAPE),
        trainjob.job_name(inputs | {"training_set": inputs["checkpoint"]}, HOW, SHAPE),
    ]
    assert len({name, *others}) == 5


def test_job_in_the_queue_or_put_out_of_its_nodes_is_waited_for(
    server: Server, trainer: Trainer, script: Any, inputs: dict[str, Path], tmp_path: Path, capfd: Any
) -> None:
    def act() -> None:
        trainer.suspend()
        first, _ = trainer.start()
        server.cluster.log(first, "step 1")
        until(lambda: any("/log" in path for _, path in server.cluster.requests))
        trainer.suspend()
        first, _ = trainer.start()
        server.cluster.log(first, "goes on after step 1", "step 2")
        trainer.end(first, 0, "Completed")
        work(trainer)
        trainer.complete()

    script(act)
    run(server, inputs, tmp_path / "tuned")
    said = capfd.readouterr().err
    assert "suspended; it goes on from its last checkpoint when its queue lets it in" in said
    assert [line for line in said.splitlines() if "step" in line] == ["step 1", "goes on after step 1", "step 2"]
    assert made(server) == 1


def test_watch_that_breaks_off_or_comes_too_late_is_taken_up_again(
    server: Server, trainer: Trainer, script: Any, inputs: dict[str, Path], tmp_path: Path, capfd: Any
) -> None:
    def watches() -> int:
        return sum("watch=True" in path for _, path in server.cluster.requests)

    def act() -> None:
        first, _ = trainer.start()
        server.cluster.log(first, "step 1")
        until(lambda: watches() > 0 and any("/log" in path for _, path in server.cluster.requests))
        n = watches()
        server.cluster.fail(503, times=2, when=lambda method, path: method == "GET" and "watch" not in path)
        server.cluster.fail(0, times=2, when=lambda method, path: "watch" in path)
        server.cluster.break_watches()
        until(lambda: watches() > n + 2)
        n = watches()
        server.cluster.compact()
        server.cluster.break_watches()
        until(lambda: watches() > n)
        server.cluster.log(first, "step 2", close=True)
        trainer.end(first, 0, "Completed")
        work(trainer)
        trainer.complete()

    script(act)
    run(server, inputs, tmp_path / "tuned")
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("step")] == ["step 1", "step 2"]
    assert server.cluster.faults == []


def test_job_that_fails_is_one_error_with_the_node_that_failed_first_and_its_last_lines(
    server: Server, trainer: Trainer, script: Any, inputs: dict[str, Path], tmp_path: Path
) -> None:
    def act() -> None:
        first, second = trainer.start()
        server.cluster.log(first, "connection closed by peer")
        server.cluster.log(second, *(f"step {n}" for n in range(40)), "CUDA out of memory")
        trainer.end(first, 1, "Error", at="2026-01-01T00:00:09Z")
        trainer.end(second, 137, "OOMKilled", at="2026-01-01T00:00:05Z")
        trainer.fail()

    script(act)
    with pytest.raises(trainjob.JobFailed) as e:
        run(server, inputs, tmp_path / "tuned")
    first, *lines = str(e.value).splitlines()
    assert re.fullmatch(
        r"TrainJob tune-\w+ failed: jobset failed due to one or more job failures \(FailedJobs\); "
        r"tune-\w+-node-0-1-1 ended with 137 \(OOMKilled\)",
        first,
    )
    assert lines == [*(f"    step {n}" for n in range(21, 40)), "    CUDA out of memory"]
    assert not (tmp_path / "tuned").exists()


def test_job_that_failed_before_is_replaced_by_the_next_try(
    server: Server, trainer: Trainer, script: Any, inputs: dict[str, Path], tmp_path: Path, home: Path
) -> None:
    script(trainer.fail)
    with pytest.raises(trainjob.JobFailed):
        run(server, inputs, tmp_path / "tuned")
    uid = trainer.job["metadata"]["uid"]

    def act() -> None:
        until(lambda: [job["metadata"]["uid"] for job in server.cluster.all("trainjobs")] not in ([], [uid]))
        work(trainer)
        trainer.complete()

    script(act)
    run(server, inputs, tmp_path / "tuned")
    assert (made(server), nothing_is_left(server, home)) == (2, True)


def test_job_that_somebody_deletes_is_an_error(
    server: Server, trainer: Trainer, script: Any, inputs: dict[str, Path], tmp_path: Path
) -> None:
    group, plural = "trainer.kubeflow.org", "trainjobs"
    script(lambda: server.cluster.remove((group, plural, "symbol-llm", trainer.job["metadata"]["name"])))
    with pytest.raises(trainjob.JobFailed, match="was deleted by somebody else"):
        run(server, inputs, tmp_path / "tuned")


def test_output_that_a_killed_component_had_not_brought_home_is_not_made_again(
    server: Server, inputs: dict[str, Path], tmp_path: Path, home: Path
) -> None:
    with outputs.building(
        outputs.claim(home / "trainjobs" / trainjob.job_name(inputs, HOW, SHAPE)) / "tuned", "tune", HOW, {}
    ) as d:
        (d.folder / "model.safetensors").write_text("weights")
    run(server, inputs, tmp_path / "tuned")
    assert (made(server), nothing_is_left(server, home)) == (0, True)


def test_two_components_never_follow_one_job(
    server: Server, inputs: dict[str, Path], tmp_path: Path, home: Path
) -> None:
    folder = outputs.claim(home / "trainjobs" / trainjob.job_name(inputs, HOW, SHAPE))
    with locks.hold(folder / ".lock", "the first"), pytest.raises(Busy, match="a component that follows tune-"):
        run(server, inputs, tmp_path / "tuned")
    assert server.cluster.requests == []


def test_what_the_role_does_not_allow_is_said_at_once(server: Server, inputs: dict[str, Path], tmp_path: Path) -> None:
    rules = ({"apiGroups": ["trainer.kubeflow.org"], "resources": ["trainjobs"], "verbs": ["get"]},)
    server.cluster.users["t0ken"] = User("system:serviceaccount:symbol-llm:pipeline-runner", rules)
    told = 'the cluster answers 403: trainjobs is forbidden: User "system:serviceaccount:symbol-llm:pipeline-runner" cannot create'
    with pytest.raises(InvalidInput, match=told):
        run(server, inputs, tmp_path / "tuned", "t0ken")


def test_cluster_that_stays_away_is_given_up(
    server: Server, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainjob, "PATIENCE_S", 0.3)
    server.cluster.fail(503, times=1000)
    with pytest.raises(Unavailable, match="the cluster does not answer: 503"):
        run(server, inputs, tmp_path / "tuned")


# --- in a process of its own ------------------------------------------------------------------------------------------

COMPONENT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from components.tune_on_nodes.component import tune_on_nodes
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import TrainingRow
folder = Path(sys.argv[1])
given = {name: SimpleNamespace(path=str(folder / name)) for name in ("training_set", "checkpoint", "tuned")}
metrics = SimpleNamespace(path=str(folder / "metrics"), log_metric=lambda key, value: print(key, value))
how = json.loads(sys.argv[2])
tune_on_nodes.python_func(
    params=how, label="tune round 2", nodes=2, processes_per_node=1, runtime="symbol-llm-torch", queue="gpus",
    metrics=metrics, **given,
)
"""


def component(server: Server, folder: Path, home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "KUBECONFIG": str(server.kubeconfig(folder / "kubeconfig")),
        "SYMBOL_LLM_HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", COMPONENT, str(folder), HOW.model_dump_json()]
    return subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_component_that_was_killed_finds_its_own_job_again(
    server: Server, trainer: Trainer, inputs: dict[str, Path], tmp_path: Path, home: Path
) -> None:
    with component(server, tmp_path, home) as first:
        until(lambda: any("watch=True" in path for _, path in server.cluster.requests))
        first.kill()
    uid = trainer.job["metadata"]["uid"]
    with component(server, tmp_path, home) as second:
        until(lambda: sum("watch=True" in path for _, path in server.cluster.requests) > 1)
        assert trainer.job["metadata"]["uid"] == uid
        work(trainer)
        trainer.complete()
        said, log = second.communicate(timeout=60)
    assert (second.returncode, made(server)) == (0, 1), log
    assert "found under way, followed from here" in log
    assert said.splitlines() == ["loss 0.5", "n_rows 8.0"]
    assert files.read_json(tmp_path / "metrics") == {"n_rows": 8.0, "loss": 0.5}
    assert nothing_is_left(server, home)


def test_component_that_is_told_to_end_deletes_the_job(
    server: Server, trainer: Trainer, inputs: dict[str, Path], tmp_path: Path, home: Path
) -> None:
    with component(server, tmp_path, home) as running:
        until(lambda: any("watch=True" in path for _, path in server.cluster.requests))
        trainer.start()
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate(timeout=60)
    assert running.returncode == 143, log
    assert "Traceback" not in log
    assert (server.cluster.all("trainjobs"), server.cluster.all("pods")) == ([], [])


@pytest.mark.model
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles a kernel and needs g++")
def test_two_nodes_do_what_the_job_says_and_tune_together(
    server: Server, trainer: Trainer, script: Any, tiny: Path, tmp_path: Path, tracked_home: Path, capfd: Any
) -> None:
    """Each node runs the command of the job with the variables that Trainer sets, and they meet, under ZeRO-3."""
    rows = [
        TrainingRow.of(
            kind="injection", problem=str(n), messages=[{"role": "user", "content": f"{n}?"}], completion="a"
        )
        for n in range(8)
    ]
    with outputs.building(tmp_path / "training_set", "select", {}, {}) as draft:
        files.write_records(draft.folder / "training_set.jsonl", rows)
    with outputs.building(tmp_path / "checkpoint", "fetch", {}, {}) as draft:
        shutil.copytree(tiny, draft.folder, dirs_exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def node(rank: int) -> subprocess.Popen[str]:
        given = trainer.job["spec"]["trainer"]
        pet = {"NNODES": given["numNodes"], "NPROC_PER_NODE": given["numProcPerNode"], "NODE_RANK": rank}
        pet |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {one["name"]: one["value"] for one in given["env"]}
        environment |= {f"PET_{name}": str(value) for name, value in pet.items()}
        environment |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment["TORCH_EXTENSIONS_DIR"] = str(ROOT / "runs" / "torch_extensions")
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            given["command"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def act() -> None:
        pods = trainer.start()
        running = [node(rank) for rank in range(len(pods))]
        for pod, one in zip(pods, running, strict=True):
            log, _ = one.communicate(timeout=200)
            server.cluster.log(pod, *log.splitlines())
            trainer.end(pod, one.returncode, "Completed" if one.returncode == 0 else "Error")
        if any(one.returncode for one in running):
            trainer.fail()
        else:
            trainer.complete()

    script(act)
    given = {name: tmp_path / name for name in ("training_set", "checkpoint")}
    numbers = run(server, given, tmp_path / "tuned")
    assert (numbers["n_rows"], numbers["n_steps"], numbers["zero_stage"]) == (8, 2, 3)
    assert len(load_file(tmp_path / "tuned" / "model.safetensors")) == 20
    made = files.read_json(tmp_path / "tuned" / files.MANIFEST)
    assert Tune.model_validate(made["params"]) == HOW
    assert nothing_is_left(server, tracked_home)
    assert re.search("^zero_stage +3$", capfd.readouterr().err, re.MULTILINE)
    (found,) = [
        r for r in runs.client().search_runs([runs.experiment(runs.client())]) if r.info.run_name == "tune round 2"
    ]
    assert found.info.status == "FINISHED"
