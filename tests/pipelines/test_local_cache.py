"""Components under Kubeflow's own local runner: they run, run again they come from its cache, and the screen shows which."""

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import dsl, local
from kfp.dsl import Dataset, Input, Metrics, Output
from rich.console import Console

from components.collect.component import collect
from pipelines.cache import CheckedCache
from pipelines.local import _run_pipeline, following
from pipelines.loop import dump
from pipelines.place import Place
from pipelines.screen import Screen
from symbol_llm.ground.params import Collect

TINY = Collect(tasks=("scan",), n_train=2, n_test=2)


@dsl.pipeline
def collecting(params: dict = dump(TINY)) -> None:  # noqa: B006, B008 - read when it is compiled
    """Collect, and nothing more."""
    Place({"SYMBOL_LLM_CODE": "1"}).task(collect(params=params), "collect")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # of limits and images it does not use
def test_second_run_takes_a_finished_stage_from_the_cache(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"), enable_caching=True)
    with caplog.at_level(logging.INFO):
        collecting()
        assert "cache hit" not in caplog.text
        collecting()
    assert "Task collect cache hit" in caplog.text
    assert len(list(tmp_path.glob("kfp/*/collect/collection/train.jsonl"))) == 1


@dsl.component(install_kfp_package=False)
def double(n: int) -> int:
    """Return twice the number; 13 is one too many."""
    if n == 13:
        raise ValueError("thirteen")
    return 2 * n


@dsl.pipeline
def doubling(n: int = 1) -> None:
    """Double twice."""
    double(n=double(n=n).output)


@dsl.pipeline
def failing() -> None:
    """Double, then fail."""
    first = double(n=4)
    double(n=13).after(first)


@pytest.fixture
def mute() -> Iterator[None]:
    """Have nothing logged, so that nothing can be read off a log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_the_screen_shows_what_runs_and_what_is_cached_without_a_log(tmp_path: Path, mute: None) -> None:
    names = {"double": "double once", "double-2": "double again"}
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"), enable_caching=True)
    console = Console(file=io.StringIO(), width=120, highlight=False)
    screen = Screen(console, tmp_path / "none")
    begun = []
    screen.begin = begun.append  # type: ignore[method-assign]
    with following(screen, names) as unfinished:
        doubling()
        assert (begun, screen.n_cached, unfinished) == (["double once", "double again"], 0, [])
        doubling()
    assert (begun, screen.n_cached, unfinished) == (["double once", "double again"], 2, [])
    said = [line.split("cached")[0].strip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert said == ["↺ double once", "↺ double again"]
    doubling()
    assert screen.n_cached == 2


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_a_task_that_fails_is_the_one_left_unfinished(tmp_path: Path, mute: None) -> None:
    screen = Screen(Console(file=io.StringIO()), tmp_path / "none")
    with following(screen, {"double-2": "fail"}) as unfinished:
        assert _run_pipeline(failing, tmp_path)
    assert unfinished == ["fail"]


# --- what is in the cache and cannot be believed -----------------------------------------------------------------------


@dsl.component(install_kfp_package=False)
def make(folder: str, made: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Write an output as stages do, and count how often."""
    from pathlib import Path

    from symbol_llm.ground import outputs

    with outputs.building(Path(made.path), "collect", {}, {}) as draft:
        (draft.folder / "train.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    Path(metrics.path).write_text('{"n": 2}')
    with Path(folder, "made").open("a") as counted:
        counted.write("x")


@dsl.component(install_kfp_package=False)
def read(folder: str, made: Input[Dataset]) -> int:
    """Return how long the output of `make` is, and count how often."""
    from pathlib import Path

    with Path(folder, "read").open("a") as counted:
        counted.write("x")
    return len(Path(made.path, "train.jsonl").read_bytes())


@dsl.pipeline
def chain(folder: str = "") -> None:
    """Make, then read."""
    read(folder=folder, made=make(folder=folder).outputs["made"])


class Started(NamedTuple):
    """What a start of the chain did: tasks made again, results taken, what the screen showed."""

    n_made: int
    n_read: int
    n_cached: int
    said: str


class Starts:
    """The chain, started as often as need be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> Started:
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(self.folder / "kfp"),
            workspace_root="",
            enable_caching=True,
        )
        console = Console(file=io.StringIO(), width=200, highlight=False)
        screen = Screen(console, self.folder / "none")
        before = self._counts()
        with following(screen, {}):
            chain(folder=str(self.folder))
        made, was_read = (now - then for now, then in zip(self._counts(), before, strict=True))
        return Started(made, was_read, screen.n_cached, console.file.getvalue())  # type: ignore[attr-defined]

    def _counts(self) -> tuple[int, int]:
        sizes = [
            (self.folder / name).stat().st_size if (self.folder / name).exists() else 0 for name in ("made", "read")
        ]
        return sizes[0], sizes[1]

    @property
    def newest(self) -> Path:
        """The folder of the last `make`."""
        return max(self.folder.glob("kfp/*/make/made"), key=lambda p: p.stat().st_mtime_ns).parent


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_result_that_is_missing_or_altered_is_made_again_aloud_and_those_behind_it_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = Starts(tmp_path)
    assert start()[:3] == (1, 1, 0)
    assert start()[:3] == (0, 0, 2)
    changes: list[tuple[str, Callable[[Path], object], str]] = [
        (
            "made/train.jsonl",
            lambda p: p.write_bytes(p.read_bytes().replace(b"2", b"3")),
            "made: train.jsonl was altered",
        ),
        ("made/train.jsonl", lambda p: p.write_bytes(p.read_bytes()[:9]), "made: train.jsonl was altered"),
        ("made/train.jsonl", lambda p: p.write_bytes(b""), "made: train.jsonl was altered"),
        ("made/train.jsonl", Path.unlink, "made: train.jsonl, which the stage 'collect' wrote, is missing"),
        ("made/manifest.json", lambda p: p.write_bytes(b""), "made: manifest.json was altered"),
        ("made/manifest.json", lambda p: (p.unlink(), p.with_name("train.jsonl").write_bytes(b"")), "made was altered"),
        ("made", lambda p: p.rename(p.with_name("elsewhere")), "made is missing"),
        ("metrics", lambda p: p.write_bytes(p.read_bytes().replace(b"2", b"3")), "metrics was altered"),
        ("metrics", Path.unlink, "metrics is missing"),
    ]
    for name, change, told in changes:
        change(start.newest / name)
        caplog.clear()
        done = start()
        assert done[:3] == (1, 0, 1), told  # what was read of it is the same still
        assert f"done again: {told}" in done.said
        assert f"task make is done again: {told}" in caplog.text
    assert start()[:3] == (0, 0, 2)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_entry_of_the_cache_that_was_altered_is_not_believed(tmp_path: Path) -> None:
    start = Starts(tmp_path)
    start()
    entries = sorted(tmp_path.glob("kfp/.checked_cache/*.json"))
    (entry,) = (path for path in entries if "made" in path.read_text())
    for change in (lambda text: text.replace("metrics", "metrixs", 1), lambda text: text[:-9], lambda text: ""):
        entry.write_text(change(entry.read_text()))
        done = start()
        assert done[:3] == (1, 0, 1)
        assert "done again: its entry in the cache was altered" in done.said
    assert start()[:3] == (0, 0, 2)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_other_content_is_another_argument_though_it_lies_where_the_old_lay(tmp_path: Path) -> None:
    """A user's folder without a manifest among the arguments of a task is named by what is in it."""
    (tmp_path / "a").write_text("1")
    cache = CheckedCache(tmp_path / "cache", pytest.fail)
    artifact = Dataset(name="a", uri=str(tmp_path / "a"))
    keys = []
    for text in ("1", "2", "1"):
        (tmp_path / "a").write_text(text)
        keys.append(
            cache.compute_key("read", "image", ["sh"], {"made": artifact, "many": [artifact], "n": 1}, {}, None)
        )
    assert (keys[0] == keys[2], keys[0] == keys[1]) == (True, False)
