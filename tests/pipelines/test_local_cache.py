"""Components under Kubeflow's own local runner: they run, run again they come from its cache, and the screen shows which."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import dsl, local
from rich.console import Console

from components.collect.component import collect
from pipelines.local import _run_pipeline, following
from pipelines.screen import Screen
from pipelines.self_training import Place, dump
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
