"""An exploration in shards under Kubeflow's own local runner: a loop over shards, their artifacts collected and merged."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local

from components.collect.component import collect
from pipelines.loop import Loop, dump, fetched
from pipelines.place import Place
from symbol_llm import stages
from symbol_llm.ground.params import Collect, Explore
from tests.checkpoints import whole_checkpoint

COLLECT = Collect(tasks=("scan",), levels=(1,), evolved_share=0, n_train=5, n_dev=1, n_test=2, n_general=2)
EXPLORE = Explore(engine="fake", k=1, batch=1)


class Divided(Place):
    """This machine, on which explorations are divided all the same."""

    n_shards = 3  # type: ignore[assignment]


def exploring(model: str) -> Any:
    @dsl.pipeline(name="exploring")
    def pipeline(collecting: dict = dump(COLLECT), params: dict = dump(EXPLORE)) -> None:  # noqa: B006, B008
        place = Divided({"SYMBOL_LLM_CODE": "1"})
        base = fetched(place, model, moves=False)
        collection = place.task(collect(params=collecting), "collect").outputs["collection"]
        Loop(place, collection, {}).explored(base, params, 1)

    return pipeline


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_shards_run_in_a_loop_are_collected_and_merged(tracked_home: Path, tmp_path: Path) -> None:
    model = whole_checkpoint(tmp_path / "model")
    (model / "replies.json").write_text(json.dumps({"": ["I_WALK", "I_JUMP"]}))
    root = tmp_path / "kfp"
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), enable_caching=False)
    exploring(str(model))()
    assert len(list(root.glob("*/*/explore/explored"))) == 3
    (merged,) = root.glob("*/merge/explored")
    (collection,), (checkpoint,) = root.glob("*/collect/collection"), root.glob("*/fetch/checkpoint")
    numbers = stages.explore(collection, checkpoint, tmp_path / "whole", EXPLORE)
    assert numbers["n_candidates"] == 10
    for name in ("candidates.jsonl", "verdicts.jsonl", stages.COPIES):
        assert (merged / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
