"""Tuning the real 135M model: the loss falls on completions, the checkpoint loads, ZeRO-2 runs in two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from symbol_llm import engines, stages
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import TrainingRow
from symbol_llm.training import losses, tune

ROOT = Path(__file__).parents[2]
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
    batch = losses.Collator(0)(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [0, 0, 5, 6]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert batch["logits_to_keep"] == 3
    assert batch["labels"].tolist() == [[-100, 3, 4], [-100, -100, 6]]


@pytest.mark.model
def test_tuning_teaches_the_completion_and_leaves_a_checkpoint_that_loads(smollm: Path, tmp_path: Path) -> None:
    done = tune.tune([row(n) for n in range(16)], smollm, tmp_path / "tuned", FEW)
    assert (done.n_rows, done.n_too_long, done.n_steps) == (16, 0, 8)
    engine = engines.start("transformers", tmp_path / "tuned", batch=4)
    ((reply,),) = engine.generate([row(99).messages], n=1, temperature=0, top_p=1, max_tokens=8, seed=0)
    assert reply.text == "zebra"
    assert not list(tmp_path.glob("tuned/*.bin"))


@pytest.mark.model
def test_tuning_that_diverges_stops_with_the_step_and_leaves_no_checkpoint(
    smollm: Path, home: Path, tmp_path: Path
) -> None:
    rows_file(tmp_path / "set", [row(n) for n in range(16)])
    told = r"tuning diverged at step \d of 8: loss .*, gradient norm .*; lower `learning_rate` \(1e\+08\)"
    with pytest.raises(InvalidInput, match=told):
        stages.tune(tmp_path / "set", smollm, tmp_path / "out", FEW.model_copy(update={"learning_rate": 1e8}))
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.model
def test_weight_that_is_not_a_number_is_never_saved_or_answered_with(smollm: Path, home: Path, tmp_path: Path) -> None:
    """One broken weight of the last layer: every logit is NaN."""
    broken = shutil.copytree(smollm, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    (broken / files.MANIFEST).unlink()  # as a user's own, which is taken as it is
    rows_file(tmp_path / "set", [row(n) for n in range(4)])
    with pytest.raises(InvalidInput, match="at step 1 of 2: loss nan, .* or check the checkpoint it starts from"):
        stages.tune(tmp_path / "set", broken, tmp_path / "out", FEW)
    engine = engines.start("transformers", broken, batch=4)
    with pytest.raises(InvalidInput, match="log-probabilities that are not finite: its weights are broken"):
        engine.generate([row(1).messages], n=1, temperature=0, top_p=1, max_tokens=4, seed=0)
    with pytest.raises(InvalidInput, match="log-probabilities that are not finite"):
        engine.score([row(1).messages], ["zebra"])


@pytest.mark.model
def test_checkpoint_of_a_stage_is_whole_readable_and_alone(smollm: Path, home: Path, tmp_path: Path) -> None:
    """Six rows at batch 3 are two steps, whatever a device holds at once."""
    rows_file(tmp_path / "set", [row(n) for n in range(6)])
    how = FEW.model_copy(update={"batch": 3, "device_batch": 2, "epochs": 1})
    assert stages.tune(tmp_path / "set", smollm, tmp_path / "out", how)["n_steps"] == 2
    assert {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "out").iterdir() if p.suffix == ".safetensors"} == {
        "model.safetensors": 0o666 & ~files.UMASK
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set"]
    assert files.read_json(tmp_path / "out" / files.MANIFEST)["stage"] == "tune"


@pytest.mark.parametrize(
    ("batch", "device_batch", "n_processes", "held", "n_turns"),
    [(8, 8, 1, 8, 1), (3, 2, 1, 1, 3), (6, 4, 1, 3, 2), (128, 8, 2, 8, 8), (4, 8, 2, 2, 1), (7, 4, 1, 1, 7)],
)
def test_step_takes_exactly_the_batch(batch: int, device_batch: int, n_processes: int, held: int, n_turns: int) -> None:
    assert tune.split_batch(batch, device_batch, n_processes) == (held, n_turns)
    assert held * n_turns * n_processes == batch


def test_batch_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(InvalidInput, match="batch=5 cannot be shared by 2 processes; give a multiple of 2"):
        tune.split_batch(5, 8, 2)


@pytest.mark.model
def test_tokenizer_without_an_end_is_refused(smollm: Path, tmp_path: Path) -> None:
    endless = shutil.copytree(smollm, tmp_path / "endless")
    config = json.loads((endless / "tokenizer_config.json").read_text())
    (endless / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))
    with pytest.raises(InvalidInput, match="no end-of-sequence token, so no reply could end"):
        tune.tune([row(1)], endless, tmp_path / "out", FEW)


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
    engines.start("transformers", tmp_path / "tuned", batch=1)
