"""Components under Kubeflow's own local runner: they run, and run again they come from its cache."""

import logging
from pathlib import Path

import pytest
from kfp import dsl, local

from components.collect.component import collect
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
