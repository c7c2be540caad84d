"""Tuning the real 135M model: the loss falls on completions, the checkpoint loads, ZeRO-2 runs in two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from symbol_llm import files, models, tune
from symbol_llm.errors import InvalidInput
from symbol_llm.params import Tune
from symbol_llm.records import TrainingRow

ROOT = Path(__file__).parents[1]
FEW = Tune(epochs=2, learning_rate=2e-4, batch=4, device_batch=4, max_length=64)


def row(n: int, kind: str = "injection") -> TrainingRow:
    return TrainingRow.of(
        kind=kind, problem=str(n), messages=[{"role": "user", "content": f"Say the word for {n}."}], completion="zebra"
    )


def rows_file(folder: Path, rows: list[TrainingRow]) -> Path:
    files.write_records(folder / "training_set.jsonl", rows)
    return folder / "training_set.jsonl"


def test_mixture_draws_its_share_of_symbols_and_all_general_rows(tmp_path: Path) -> None:
    symbols = rows_file(tmp_path / "s", [row(n) for n in range(10)])
    general = rows_file(tmp_path / "g", [row(n, "general") for n in range(100, 104)])
    mixed = tune.mixture(symbols, general, Tune(symbolic_share=0.3))
    assert [r.kind for r in mixed] == ["injection"] * 3 + ["general"] * 4
    assert mixed == tune.mixture(symbols, general, Tune(symbolic_share=0.3))


def test_empty_training_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no rows to tune on"):
        tune.mixture(rows_file(tmp_path, []), None, Tune())


def test_batch_is_padded_left_and_labels_cover_completions_alone() -> None:
    rows = [{"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]}, {"input_ids": [5, 6], "labels": [-100, 6]}]
    batch = tune._Collator(0)(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [0, 0, 5, 6]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert batch["logits_to_keep"] == 3
    assert batch["labels"].tolist() == [[-100, 3, 4], [-100, -100, 6]]


@pytest.mark.model
def test_tuning_teaches_the_completion_and_leaves_a_checkpoint_that_loads(smollm: Path, tmp_path: Path) -> None:
    done = tune.tune([row(n) for n in range(16)], smollm, tmp_path / "tuned", FEW)
    assert (done.n_rows, done.n_too_long, done.n_steps) == (16, 0, 8)
    engine = models.start("transformers", tmp_path / "tuned", batch=4)
    ((reply,),) = engine.generate([row(99).messages], n=1, temperature=0, top_p=1, max_tokens=8, seed=0)
    assert reply.text == "zebra"
    assert not list(tmp_path.glob("tuned/*.bin"))


@pytest.mark.model
def test_rows_all_too_long_are_refused_with_the_parameter_to_raise(smollm: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="raise it"):
        tune.tune([row(1)], smollm, tmp_path / "tuned", Tune(max_length=16))
    assert not (tmp_path / "tuned").exists()


@pytest.mark.model
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles a kernel and needs g++")
def test_two_processes_tune_under_deepspeed_zero_2(smollm: Path, tmp_path: Path) -> None:
    rows_file(tmp_path / "set", [row(n) for n in range(8)])
    environment = os.environ | {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "SYMBOL_LLM_HOME": str(tmp_path / "home"),
        "TORCH_EXTENSIONS_DIR": str(ROOT / "runs" / "torch_extensions"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    few = [
        "--set",
        "tune.epochs=1",
        "--set",
        "tune.batch=4",
        "--set",
        "tune.device_batch=2",
        "--set",
        "tune.max_length=64",
    ]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-port=29519",
        "-m",
        "symbol_llm.cli",
    ]
    stage = ["tune", "tune", str(tmp_path / "set"), str(smollm), str(tmp_path / "tuned")]
    done = subprocess.run(
        [*command, *few, *stage], cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    manifest = json.loads((tmp_path / "tuned" / "manifest.json").read_text())
    assert (manifest["metrics"]["n_rows"], manifest["metrics"]["n_steps"]) == (8, 2)
    assert manifest["metrics"]["zero_stage"] == 2
    models.start("transformers", tmp_path / "tuned", batch=1)
