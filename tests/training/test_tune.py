"""Tuning the real 135M model: the loss falls on completions, the checkpoint loads, ZeRO-2 runs in two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from symbol_llm import engines, stages
from symbol_llm.ground import files
from symbol_llm.ground.errors import Busy, InvalidInput
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
    done = tune.tune([row(n) for n in range(16)], smollm, tmp_path / "tuned", FEW, tmp_path / "state")
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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "set"]


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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "out", "set"]
    assert list((home / "tuning").iterdir()) == []
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
        tune.tune([row(1)], endless, tmp_path / "out", FEW, tmp_path / "state")


@pytest.mark.model
def test_rows_all_too_long_are_refused_with_the_parameter_to_raise(smollm: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="raise it"):
        tune.tune([row(1)], smollm, tmp_path / "tuned", Tune(max_length=16), tmp_path / "state")
    assert not (tmp_path / "tuned").exists()


# --- stopped, and gone on ---------------------------------------------------------------------------------------------


STOPPED = """
import os, signal, sys
from pathlib import Path
import torch
from symbol_llm import stages
from symbol_llm.ground.params import Tune
from symbol_llm.training import tune

def work(folder, base, die, step, more=None):
    event, save, n_saves = tune.event, torch.save, 0

    def dying(**fields):
        event(**fields)
        if die == "between" and fields["done"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def torn(what, file, *more, **options):
        nonlocal n_saves
        n_saves += 1
        if die == "saving" and n_saves == step:
            Path(file).write_bytes(b"half a fi")
            os.kill(os.getpid(), signal.SIGKILL)
        save(what, file, *more, **options)

    tune.event, torch.save = dying, torn
    how = Tune(epochs=3, learning_rate=1e-2, batch=4, device_batch=2, max_length=64, checkpoint_s=1e-9, **more or {})
    return stages.tune(folder / "set", base, folder / "out", how)["n_resumed"]
"""

ONE_BY_ONE = (
    STOPPED
    + """
import contextlib, importlib, json, traceback
import transformers
for name in ("AutoModelForCausalLM", "AutoTokenizer", "LlamaForCausalLM", "Trainer"):
    getattr(transformers, name)
for name in ("deepspeed", "mlflow"):  # which Trainer asks for where they are installed
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

def apart(folder, *how):
    "Work in a child, which need not import all that again; give how it ended, and after how many steps it went on."
    child = os.fork()
    if not child:
        try:
            os.environ["SYMBOL_LLM_HOME"] = str(folder / "home")
            (folder / "resumed").write_text(str(work(folder, base, *how)))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, (folder / "resumed").read_text() if code == 0 else None

base, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
for folder, *tries in cases:
    print(json.dumps([folder, [apart(Path(folder), *how) for how in tries]]), flush=True)
"""
)
PACKED: dict[str, Any] = {}
PADDED = {"batching": "padded"}
ADAPTED = {"lora_rank": 4}
WEIGHED = {"loss": "clipped"}
UNTOUCHED = {"never": PACKED, "never-padded": PADDED, "never-adapted": ADAPTED, "never-weighed": WEIGHED}
KILLS = {
    "between-3": ("between", 3, 2, "never"),  # within the first of three epochs, of five steps each
    "between-8": ("between", 8, 7, "never-padded"),  # within the second
    "between-11": ("between", 11, 10, "never"),  # where two epochs meet
    "saving-18": ("saving", 18, 4, "never"),  # four files a save: in the middle of the fifth
    "adapted-8": ("between", 8, 7, "never-adapted"),
    "weighed-8": ("between", 8, 7, "never-weighed"),  # what it is weighed against is of the weights before step 1
}
"""How it dies, when, after which step the next start goes on, and which untouched stage it must end as."""


def of_many_lengths(n: int) -> list[TrainingRow]:
    return [row(i).model_copy(update={"completion": "zebra " * (1 + i % 5)}) for i in range(n)]


def with_advantages(n: int) -> list[TrainingRow]:
    return [r.model_copy(update={"advantage": 1.0 if i % 3 else -2.0}) for i, r in enumerate(of_many_lengths(n))]


@pytest.fixture(scope="module")
def endings(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Any]]]:
    """Give the folder of each case, and how its starts ended: one never killed, and one killed and started again each."""
    folder, cases = tmp_path_factory.mktemp("endings"), []
    for name in (*UNTOUCHED, *KILLS):
        how = UNTOUCHED[KILLS[name][3] if name in KILLS else name]
        rows_file(folder / name / "set", with_advantages(18) if how is WEIGHED else of_many_lengths(18))
        die = [(*KILLS[name][:2], how)] if name in KILLS else []
        cases.append([str(folder / name), *die, ("never", 0, how)])
    command = [sys.executable, "-c", ONE_BY_ONE, str(tiny), json.dumps(cases)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["/')]
    assert len(found) == len(cases), done.stderr[-3000:]
    return {Path(place).name: (Path(place), tries) for place, tries in found}


@pytest.mark.model
@pytest.mark.parametrize("kill", KILLS)
def test_killed_stage_goes_on_and_ends_as_one_that_was_never_killed(
    endings: dict[str, tuple[Path, list[Any]]], kill: str
) -> None:
    (never, first), (folder, tries) = endings[KILLS[kill][3]], endings[kill]
    assert (first, tries) == ([[0, "0.0"]], [[-9, None], [0, f"{KILLS[kill][2]}.0"]])
    whole, mended = (load_file(place / "out" / "model.safetensors") for place in (never, folder))
    assert whole.keys() == mended.keys()
    assert all(bool((whole[name] == mended[name]).all()) for name in whole)
    metrics = [files.read_json(place / "out" / files.MANIFEST)["metrics"] for place in (never, folder)]
    assert metrics[0] == metrics[1]
    assert list((folder / "home" / "tuning").iterdir()) == []


def test_torn_checkpoint_is_never_gone_on_from(tmp_path: Path) -> None:
    for step, text in ((4, "1234"), (9, "12"), (10, "1234"), (20, "1234")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").write_text(text)
        if step < 20:
            files.write_json(tmp_path / f"checkpoint-{step}" / tune.WHOLE, {"optimizer.pt": 4})
    (tmp_path / "checkpoint-10" / tune.WHOLE).write_text('{"optimizer.pt": 4')
    (tmp_path / "checkpoint-x").mkdir()
    assert tune.last_step(tmp_path) == 4


def test_state_of_a_stage_is_removed_when_it_ends_well_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "tuning" / "theirs").mkdir(parents=True)
    state = tmp_path / "tuning" / "ours"
    with pytest.raises(InvalidInput, match="it broke"), tune.going_on(state):
        (state / "checkpoint-1").mkdir()
        raise InvalidInput("it broke")
    assert (state / "checkpoint-1").is_dir()
    with pytest.raises(InvalidInput, match="refused"), tune.going_on(tmp_path / "tuning" / "nothing in it"):
        raise InvalidInput("refused")
    with tune.going_on(state), pytest.raises(Busy, match="in use by the stage 'tune'"), tune.going_on(state):
        pytest.fail("two at once")
    assert [p.name for p in (tmp_path / "tuning").iterdir()] == ["theirs"]


def test_state_that_is_a_link_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("mine")
    (tmp_path / "ours").symlink_to(tmp_path / "theirs")
    with pytest.raises(InvalidInput, match="is a symbolic link, and not ours"), tune.going_on(tmp_path / "ours"):
        pytest.fail("the work began")
    assert [p.name for p in (tmp_path / "theirs").iterdir()] == ["thesis.tex"]


@pytest.mark.model
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles a kernel and needs g++")
def test_two_processes_tune_under_zero_2_and_3_alike_and_go_on_when_one_is_killed(tiny: Path, tmp_path: Path) -> None:
    """Some rows have a rejected completion, on which the untuned model is asked while ZeRO-3 has its weights in shards.

    ZeRO-3 also runs with what saves memory and changes no result: offload, and activations that are computed again.
    """
    rows = [r.model_copy(update={"rejected": "lion"}) if i % 3 == 0 else r for i, r in enumerate(of_many_lengths(8))]
    (tmp_path / "work.py").write_text(STOPPED + BY_TORCHRUN)
    for zero in (2, 3):
        rows_file(tmp_path / str(zero) / "set", rows)
    saving = {"gradient_checkpointing": True, "offload": True, "zero": 3}
    assert in_two_processes(tmp_path / "2", tiny, "never", 0, {"zero": 2}) == 0
    assert in_two_processes(tmp_path / "3", tiny, "between", 4, saving) != 0
    assert not (tmp_path / "3" / "out").exists()
    assert in_two_processes(tmp_path / "3", tiny, "never", 0, saving) == 0
    found = {zero: files.read_json(tmp_path / str(zero) / "out" / files.MANIFEST)["metrics"] for zero in (2, 3)}
    assert {zero: (m["zero_stage"], m["n_rows"], m["n_steps"]) for zero, m in found.items()} == {
        2: (2, 8, 6),
        3: (3, 8, 6),
    }
    assert found[3]["loss"] == pytest.approx(found[2]["loss"], rel=0.02)
    whole, sharded = (load_file(tmp_path / str(zero) / "out" / "model.safetensors") for zero in (2, 3))
    assert {name: w.shape for name, w in whole.items()} == {name: w.shape for name, w in sharded.items()}
    assert max(float((whole[name] - sharded[name]).abs().max()) for name in whole) < 0.01
    assert [files.read_text(tmp_path / "log").count(word) for word in ("goes on after step 3",)] == [1]
    assert list((tmp_path / "home" / "tuning").iterdir()) == []


@pytest.mark.model
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles a kernel and needs g++")
def test_two_processes_tune_adapters_under_zero_2_as_one_process_does(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(STOPPED + BY_TORCHRUN)
    rows_file(tmp_path / "two" / "set", of_many_lengths(8))
    assert in_two_processes(tmp_path / "two", tiny, "between", 4, ADAPTED) != 0
    assert in_two_processes(tmp_path / "two", tiny, "never", 0, ADAPTED) == 0
    assert "goes on after step 3" in files.read_text(tmp_path / "log")
    how = Tune(epochs=3, learning_rate=1e-2, batch=4, device_batch=2, max_length=64, lora_rank=4)
    one = tune.tune(of_many_lengths(8), tiny, tmp_path / "one", how, tmp_path / "state")
    two = files.read_json(tmp_path / "two" / "out" / files.MANIFEST)["metrics"]
    assert (two["zero_stage"], two["n_steps"], one.n_steps) == (2, 6, 6)
    assert two["loss"] == pytest.approx(one.loss, rel=0.02)
    before, alone, shared = (
        load_file(place / "model.safetensors") for place in (tiny, tmp_path / "one", tmp_path / "two" / "out")
    )
    moved = {name for name in before if not bool((before[name] == shared[name]).all())}
    assert moved == {name for name in before if not bool((before[name] == alone[name]).all())}
    assert max(float((alone[name] - shared[name]).abs().max()) for name in alone) < 0.01


BY_TORCHRUN = """
import json
folder, base, die, step, more = sys.argv[1:]
work(Path(folder), Path(base), die, int(step), json.loads(more))
"""


def in_two_processes(folder: Path, base: Path, die: str, step: int, more: dict[str, Any]) -> int:
    root = folder.parent
    environment = os.environ | {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "SYMBOL_LLM_HOME": str(root / "home"),
        "TORCH_EXTENSIONS_DIR": str(ROOT / "runs" / "torch_extensions"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29519"]
    arguments = [str(root / "work.py"), str(folder), str(base), die, str(step), json.dumps(more)]
    with (root / "log").open("a") as log:
        done = subprocess.run(
            [*command, *arguments], check=False, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=400
        )
    return done.returncode
