"""A run on this machine that is killed, in each way and in each of its processes: nothing lives on, and the next start goes on.

Entry, lock, tracking and Kubeflow's local runner are the real ones; the processes are killed by real signals. The pipeline
is a small one, whose first stage waits for a file, so that nothing here depends on how fast the machine is.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from symbol_llm.ground import files
from tests.pipelines.test_terminal import report

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
FOLDER = "TEST_FOLDER"

# --- the run, in processes of its own ----------------------------------------------------------------------------------


@dsl.component(base_image="python", install_kfp_package=False)
def collect(folder: str, collection: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Say who works, and end once the file `go` is in `folder`."""
    import os
    import time
    from pathlib import Path

    from symbol_llm.ground import files, outputs
    from symbol_llm.tracking import runs

    def stage(out: Path) -> dict[str, float]:
        with outputs.building(out, "collect", {}, {}) as draft:
            (draft.folder / "half").write_text("half")
            files.write_text(Path(folder, "working"), str(os.getpid()))
            while not Path(folder, "go").exists():
                time.sleep(0.05)
            (draft.folder / "train.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
        return {"n_train": 2.0}

    runs.tracked(stage, label="collect", metrics=metrics, out=Path(collection.path))


@dsl.component(base_image="python", install_kfp_package=False)
def promote(folder: str, collection: Input[Dataset], promotion: Output[Artifact]) -> None:
    """Give what a promotion leaves."""
    import shutil
    from pathlib import Path

    from symbol_llm.ground import outputs
    from symbol_llm.ground.progress import event

    event(event="start", stage="promote")
    outputs.verified(Path(collection.path))
    shutil.copytree(Path(folder, "given"), promotion.path)
    event(event="end", stage="promote", status="FINISHED", seconds=2.0, said="")


def build(*_: Any) -> Callable[..., Any]:
    @dsl.pipeline(name="small")
    def small() -> None:
        made = collect(folder=os.environ[FOLDER]).set_display_name("collect").outputs["collection"]
        promote(folder=os.environ[FOLDER], collection=made).set_caching_options(False)

    return small


def drive() -> None:
    """Run `pipelines.local` on the small pipeline."""
    from pipelines import local, self_training

    self_training.build = build
    local.main(["--question", ""])


# --- what is done to it ------------------------------------------------------------------------------------------------


class Run:
    """A run in a folder of its own; started as often as need be."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        (folder / "given").mkdir()
        (folder / "tmp").mkdir()
        files.write_json(folder / "given" / "report.json", report().model_dump(mode="json"))
        (folder / "given" / "report.html").write_text("")
        decision = {"version": "1", "stage": "round 1", "promoted": False, "reason": "no better than 'original'"}
        files.write_json(folder / "given" / "promotion.json", decision)

    def start(self) -> "subprocess.Popen[str]":
        ours = ("SYMBOL_LLM_", "MLFLOW_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "PYTHONPATH": str(ROOT),
            "SYMBOL_LLM_HOME": str(self.home),
            "SYMBOL_LLM_SAID_ROOT": "1",
            "TMPDIR": str(self.folder / "tmp"),
            FOLDER: str(self.folder),
        }
        return subprocess.Popen(
            [sys.executable, "-c", "from tests.pipelines.test_killed import drive; drive()"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def until_it_works(self) -> tuple["subprocess.Popen[str]", int]:
        """Start, and return the run and the number of the process of its stage once that is at work."""
        (self.folder / "working").unlink(missing_ok=True)
        process = self.start()
        wait_for((self.folder / "working").exists, process)
        return process, int((self.folder / "working").read_text())

    @property
    def statuses(self) -> list[str]:
        """Of all runs in MLflow but the last parent and stage, from the first."""
        import sqlite3

        with sqlite3.connect(self.home / "mlflow.db") as database:
            return [row[0] for row in database.execute("SELECT status FROM runs ORDER BY start_time")]

    def left(self) -> list[str]:
        """Return what lies about that nobody needs: temporary files, drafts, locks with a name in them."""
        known = (".symbol-llm", ".checked_cache", ".lock", ".stages.lock")
        hidden = [p for p in self.home.rglob(".*") if p.name not in known]
        named = [p for p in self.home.rglob("*.lock") if p.stat().st_size]
        return [str(p) for p in (*(self.folder / "tmp").iterdir(), *hidden, *named)]


def wait_for(done: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    if (tmp_path / "working").exists() and is_alive(pid := int((tmp_path / "working").read_text())):
        os.kill(pid, signal.SIGKILL)


STOPPED = "Stopped. The same command goes on from the finished stages."


def test_run_killed_in_any_way_ends_with_all_its_processes_and_the_next_start_goes_on(run: Run) -> None:
    """By a signal to the run alone, or to the whole group, as a terminal does; `tests/test_soak.py` has more."""
    told = {signal.SIGTERM: 143, signal.SIGINT: 130}
    cases = [("run", signal.SIGKILL), ("run", signal.SIGTERM), ("group", signal.SIGINT)]
    for whom, number in cases:
        process, stage = run.until_it_works()
        if whom == "group":
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
        said = process.communicate(timeout=PATIENCE_S)[0]  # no sooner than all who hold the other end are gone
        case = (whom, number, said)
        assert "Traceback" not in said, case
        if number == signal.SIGKILL:
            assert process.returncode == -9, case
        else:
            assert (process.returncode, STOPPED in said) == (told[number], True), case
        wait_for(lambda: not is_alive(stage), run_is_over())  # noqa: B023 - called here
    (run.folder / "go").touch()
    process = run.start()
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, said
    assert "2 stages ran, 0 came from the cache" in said
    assert (run.statuses.count("RUNNING"), run.statuses.count("FINISHED")) == (0, 2)
    assert run.left() == []


def run_is_over() -> Any:
    class Over:
        def poll(self) -> None:
            return None

    return Over()


def test_stage_of_a_killed_run_that_does_not_end_is_waited_for_and_never_works_beside_another(run: Run) -> None:
    """Its process is stopped, so that it cannot end: the next start waits for it, and goes on once it is gone."""
    with run.until_it_works()[0] as process:
        stage = int((run.folder / "working").read_text())
        os.kill(stage, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        (run.folder / "go").touch()
        with run.start() as again:
            lines = iter(again.stdout or ())
            assert any(line == "Waiting for the stage of a run that was killed to end.\n" for line in lines)
            assert is_alive(stage)
            os.kill(stage, signal.SIGCONT)
            said = again.communicate(timeout=PATIENCE_S)[0]
        assert again.returncode == 0, said
        assert not is_alive(stage)
        assert run.left() == []
