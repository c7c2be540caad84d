"""The promotion log under kills and under two writers, on a real registry: processes that are really killed, really at once."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from symbol_llm import stages
from symbol_llm.evaluation import page
from symbol_llm.ground import files
from symbol_llm.ground.errors import Busy, InvalidInput
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import General, Report, Scores, Summary
from symbol_llm.ground.stats import wilson
from symbol_llm.tracking import promotions, registry, runs
from symbol_llm.tracking.gate import Decision
from symbol_llm.tracking.promotions import EMPTY
from symbol_llm.tracking.registry import Contender
from tests import services

NAME = "m"
PARAMS = Promote(name=NAME)
WRITES = {
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
}
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the server of processes imports it
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mlflow", "symbol_llm.tracking.registry"])


def report(n_right: int, digest: str, n: int = 20) -> Report:
    """Make the report of a checkpoint that solves the first `n_right` of `n` problems."""
    outcomes = {f"{i:04x}": float(i < n_right) for i in range(n)}
    overall = wilson(n_right / n, n)
    fields = {"tasks": {}, "domains": {}, "families": {"python": Scores(accuracy=overall)}, "general": General()}
    summary = Summary(stage=digest[:8], checkpoint=digest, overall=overall, **fields)
    return Report(summary=summary, outcomes=outcomes)


ORIGINAL = report(0, "original")


def promoted(digest: str, n_right: int) -> registry.Contest:
    """Put a checkpoint to the gate and conclude."""
    contest = registry.contend(
        [Contender(report(n_right, digest), f"s3://checkpoints/{digest}")], ORIGINAL, PARAMS, run()
    )
    contest.conclude()
    return contest


def run() -> str:
    mlflow = runs.client()
    return str(mlflow.create_run(runs.experiment(mlflow)).info.run_id)


def state() -> tuple[str, str]:
    return promotions.aliases(NAME)


def told() -> list[tuple[str, str]]:
    return [(row["action"], row["version"]) for row in registry.history()]


# --- killed ----------------------------------------------------------------------------------------------------------


class Deadly:
    """An MLflow client that kills its process with SIGKILL in place of its n-th writing call."""

    def __init__(self, client: Any, calls: list[str], n: int) -> None:
        self._client, self._calls, self._n = client, calls, n

    def __getattr__(self, name: str) -> Any:
        if name in WRITES:
            self._calls.append(name)
            if len(self._calls) == self._n:
                os.kill(os.getpid(), signal.SIGKILL)
        return getattr(self._client, name)


def do(uri: str, home: str, action: str, n: int) -> None:
    """Promote version c or roll back, and be killed in place of the `n`-th writing call; runs in a process of its own."""
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "SYMBOL_LLM_HOME": home}
    real, calls = runs.client, list[str]()
    if action == "promote":
        contest = registry.contend([Contender(report(20, "c"), "s3://checkpoints/c")], ORIGINAL, PARAMS, run())
    runs.client = lambda: Deadly(real(), calls, n)
    if action == "promote":
        contest.conclude()
    else:
        registry.rollback(NAME)


def exit_code(*arguments: object) -> int | None:
    process = PROCESSES.Process(target=do, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture
def two(tracked_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a registry in which version 2 is champion and version 1 was before it."""
    ready, database = tmp_path_factory.getbasetemp() / "two-champions.db", tracked_home / "mlflow.db"
    if ready.exists():
        shutil.copyfile(ready, database)
    else:
        promoted("a", 5)
        promoted("b", 12)
        shutil.copyfile(database, ready)
    assert state() == ("2", "1")
    return tracked_home


def uri(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


@pytest.mark.parametrize("n", range(1, 7))
def test_promotion_killed_at_any_call_is_undone_or_completed_by_the_next_command(two: Path, n: int) -> None:
    """Five calls: the sentence on the version, the entry, two aliases, the mark. Killed in place of the sixth, it is through."""
    code = exit_code(uri(two), str(two), "promote", n)
    assert code == (-signal.SIGKILL if n < 6 else 0)
    began = [("promote", "1"), ("promote", "2")]
    if n <= 2:
        assert told() == began
        assert state() == ("2", "1")
        assert promoted("c", 20).decision.promoted
    assert told() == [*began, ("promote", "3")]
    assert state() == ("3", "2")
    again = promoted("c", 20)
    assert again.decision.reason == "version 3 is the champion already"
    assert told() == [*began, ("promote", "3")]


@pytest.mark.parametrize("n", range(1, 6))
def test_rollback_killed_at_any_call_loses_no_version(two: Path, n: int) -> None:
    """Four calls: the entry, two aliases, the mark."""
    code = exit_code(uri(two), str(two), "rollback", n)
    assert code == (-signal.SIGKILL if n < 5 else 0)
    assert told()[2:] == ([] if n == 1 else [("rollback", "1")])
    assert state() == (("2", "1") if n == 1 else ("1", "2"))


@pytest.mark.parametrize("n", range(1, 5))
def test_rollback_that_was_killed_and_is_called_again_is_done_once(two: Path, n: int) -> None:
    assert exit_code(uri(two), str(two), "rollback", n) == -signal.SIGKILL
    assert registry.rollback(NAME).number == "1"
    assert state() == ("1", "2")
    assert told()[2:] == [("rollback", "1")]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_promotion_that_was_killed_and_is_run_again_ends_as_if_it_had_not_been(two: Path, n: int) -> None:
    assert exit_code(uri(two), str(two), "promote", n) == -signal.SIGKILL
    decision = promoted("c", 20).decision
    assert decision.promoted
    assert decision.reason.startswith("better than the 'b' checkpoint: +40.0% ")
    assert told()[2:] == [("promote", "3")]
    assert state() == ("3", "2")


def test_next_promotion_completes_the_one_that_was_killed_before_it_decides(two: Path) -> None:
    assert exit_code(uri(two), str(two), "promote", 3) == -signal.SIGKILL
    assert state() == ("2", "1")
    assert promoted("d", 20).decision.reason.startswith("not proved better than the 'c' checkpoint")
    assert state() == ("3", "2")


def test_writer_that_was_overtaken_leaves_the_aliases_as_the_log_says(two: Path) -> None:
    """It stops between entry and aliases; another one finishes for it and promotes; then it goes on."""
    contest = registry.contend([Contender(report(20, "c"), "s3://checkpoints/c")], ORIGINAL, PARAMS, run())
    real = promotions._apply
    overtaken = list[str]()

    def slow(name: str, entry: promotions.Entry) -> None:
        if not overtaken:
            overtaken.append("")
            registry.rollback(NAME)
        real(name, entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotions, "_apply", slow)
        contest.conclude()
    assert told()[2:] == [("promote", "3"), ("rollback", "2")]
    assert state() == ("2", "3")


def test_rollback_of_another_champion_than_was_meant_moves_nothing(two: Path) -> None:
    """Two servers that find the same version wanting: the second must not undo what the first has done."""
    registry.rollback(NAME, "1", of="2", why="canary: 7 worse")
    with pytest.raises(Busy, match="version 1 is champion by now, not version 2"):
        registry.rollback(NAME, "1", of="2", why="canary: 8 worse")
    assert state() == ("1", "2")
    assert [(row["action"], row["reason"]) for row in registry.history()][2:] == [
        ("rollback", "from version 2: canary: 7 worse")
    ]


# --- at once ---------------------------------------------------------------------------------------------------------


def promote_pairs(uri: str, home: str, me: str, n_pairs: int, barrier: Any, results: Any) -> None:
    """Promote in step with another process: both have decided before either concludes."""
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "SYMBOL_LLM_HOME": home}
    for pair in range(n_pairs):
        found = report(30 * (pair + 1), f"{me}{pair}", n=300)
        barrier.wait()
        contest = registry.contend(
            [Contender(found, f"s3://checkpoints/{me}{pair}")], report(0, "o", 300), PARAMS, run()
        )
        barrier.wait()
        try:
            contest.conclude()
        except Busy as e:
            results.put((pair, contest.version.number, str(e)))
        else:
            results.put((pair, contest.version.number, ""))


def race(uri: str, home: Path, n_pairs: int) -> None:
    """Have two processes promote at once `n_pairs` times, and look at what is left."""
    barrier, results = PROCESSES.Barrier(2, timeout=120), PROCESSES.SimpleQueue()
    given = [(uri, str(home), me, n_pairs, barrier, results) for me in "ab"]
    processes = [PROCESSES.Process(target=promote_pairs, args=one) for one in given]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    found = sorted(results.get() for _ in range(2 * n_pairs))
    winners = [number for _, number, said in found if not said]
    losers = [(number, said) for _, number, said in found if said]
    assert [pair for pair, _, said in found if not said] == list(range(n_pairs))
    assert all(f"while version {number} was decided on, version " in said for number, said in losers)
    history = told()
    assert [version for action, version in history if action == "promote"] == winners
    assert sorted(version for action, version in history if action == "lost") == sorted(number for number, _ in losers)
    assert len(history) == 2 * n_pairs
    assert state() == (winners[-1], winners[-2])
    assert [e.previous for e in promotions.entries(NAME) if e.action == "promote"] == ["", *winners[:-1]]


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(tracked_home: Path) -> None:
    race(uri(tracked_home), tracked_home, 10)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the address of a PostgreSQL server of our own."""
    with services.postgres() as address:
        yield address


def test_of_two_promotions_at_once_one_wins_on_postgres_too(
    home: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres)
    runs.client().create_experiment(runs.EXPERIMENT, artifact_location=(home / "artifacts").as_uri())
    race(postgres, home, 10)


# --- by hand, and from before ------------------------------------------------------------------------------------------


def test_aliases_moved_by_hand_stay_and_are_entered(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotions, "BY_HAND_S", 0.01)
    runs.client().set_registered_model_alias(NAME, "champion", "1")
    assert told()[2:] == [("set by hand", "1")]
    assert registry.history()[-1]["reason"] == "champion was 2"
    assert state() == ("1", "1")
    assert told()[2:] == [("set by hand", "1")]
    assert promoted("c", 20).decision.promoted
    assert state() == ("3", "1")


def test_champion_taken_away_by_hand_leaves_none(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotions, "BY_HAND_S", 0.01)
    runs.client().delete_registered_model_alias(NAME, "champion")
    assert told()[2:] == [("set by hand", "")]
    assert promoted("c", 20).decision.reason.startswith("better than the 'original' checkpoint")
    assert state() == ("3", "")


def test_version_that_is_deleted_between_entry_and_aliases_stops_nobody(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotions, "BY_HAND_S", 0.01)
    assert exit_code(uri(two), str(two), "promote", 3) == -signal.SIGKILL
    runs.client().delete_model_version(NAME, "3")
    assert told()[2:] == [("promote", "3"), ("set by hand", "2")]
    assert state() == ("2", "2")
    assert promoted("d", 20).decision.promoted


def test_model_that_is_deleted_begins_anew_and_its_log_stays(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotions, "BY_HAND_S", 0.01)
    runs.client().delete_registered_model(NAME)
    assert told()[2:] == [("set by hand", "")]
    assert promoted("a", 5).decision.promoted
    assert state() == ("1", "")
    assert told()[3:] == [("promote", "1")]


def test_champion_of_a_registry_without_a_log_is_taken_over(
    tracked_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotions, "BY_HAND_S", 0.01)
    version = registry.register(NAME, "s3://checkpoints/a", report(8, "a"), run())
    runs.client().set_registered_model_alias(NAME, "champion", version.number)
    assert promoted("b", 16).decision.promoted
    assert told() == [("set by hand", "1"), ("promote", "2")]
    assert state() == ("2", "1")


def test_log_file_of_earlier_versions_is_read_on_and_a_torn_line_breaks_nothing(
    two: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = {
        "time": "2020-01-01T00:00:00Z",
        "model": "m",
        "action": "promote",
        "version": "7",
        "sha256": "s",
        "reason": "r",
    }
    text = str(old).replace("'", '"') + "\n"
    (two / "promotions.jsonl").write_text(text + text[:30])
    assert told() == [("promote", "7"), ("promote", "1"), ("promote", "2")]
    assert "promotions.jsonl:2: not JSON" in caplog.text
    assert registry.history()[0] == old


# --- the way back ----------------------------------------------------------------------------------------------------


def test_rollback_goes_to_any_version_that_was_champion(two: Path) -> None:
    promoted("c", 20)
    assert registry.rollback(NAME, "1").number == "1"
    assert state() == ("1", "3")
    assert registry.history()[-1]["reason"] == "from version 3"
    assert registry.rollback(NAME, "2").number == "2"
    assert state() == ("2", "1")


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("3", "version 3 of 'm' never was champion; these were: 1"),
        ("9", "version 9 of 'm' never was champion"),
        ("2", "version 2 of 'm' is the champion already"),
    ],
)
def test_rollback_to_what_never_was_champion_is_refused(two: Path, to: str, message: str) -> None:
    assert not promoted("c", 16).decision.promoted
    with pytest.raises(InvalidInput, match=message):
        registry.rollback(NAME, to)
    assert state() == ("2", "1")


def test_refusal_moves_nothing_and_does_not_stand_in_the_way_of_a_promotion(two: Path) -> None:
    contest = registry.contend([Contender(report(20, "c"), "s3://checkpoints/c")], ORIGINAL, PARAMS, run())
    version = registry.register(NAME, "s3://checkpoints/d", report(1, "d"), run())
    registry.promote(version, Decision(False, "worse", None), NAME, EMPTY)
    contest.conclude()
    assert told()[2:] == [("refuse", "4"), ("promote", "3")]


def test_stage_that_fails_while_it_writes_its_page_has_moved_nothing(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> str:
        raise OSError("no space left on device")

    paths = {name: tmp_path / name for name in ("checkpoint", "report", "original")}
    for path in paths.values():
        path.mkdir()
    (paths["checkpoint"] / "model.safetensors").write_bytes(b"weights")
    digest = files.hash_path(paths["checkpoint"])
    (paths["report"] / "report.json").write_text(report(20, digest).model_dump_json())
    (paths["original"] / "report.json").write_text(ORIGINAL.model_dump_json())
    with monkeypatch.context() as patch:
        patch.setattr(page, "render", breaks)
        with pytest.raises(OSError, match="no space left"):
            stages.promote(**paths, out=tmp_path / "out", params=PARAMS)
    assert (state(), told()[2:]) == (("2", "1"), [])
    assert stages.promote(**paths, out=tmp_path / "out", params=PARAMS)["promoted"] == 1.0
    assert state() == ("3", "2")


def test_report_on_another_checkpoint_is_refused(two: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(InvalidInput, match="is not the checkpoint that was evaluated, whose digest is c"):
        registry.contend([Contender(report(20, "c"), str(tmp_path))], ORIGINAL, PARAMS, run())
    assert len(runs.client().search_model_versions(f"name = '{NAME}'")) == 2


def test_nothing_is_moved_before_the_contest_is_concluded(two: Path) -> None:
    contest = registry.contend([Contender(report(20, "c"), "s3://checkpoints/c")], ORIGINAL, PARAMS, run())
    assert contest.decision.promoted
    assert (state(), told()[2:]) == (("2", "1"), [])
