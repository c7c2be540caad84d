"""One supervised stage: a checkpoint and rows in, a checkpoint out. The loss falls on the completion alone.

Injection, infusion and each self-training round are this function with other rows (Symbol-LLM, two-stage tuning;
ENVISIONS, L1 + L2). The transformers Trainer does the work; DeepSpeed ZeRO shards it where there is a GPU or more than
one process (`torchrun -m symbol_llm.cli tune ...`). It does not choose rows (`select.py`) and does not judge.
"""

from __future__ import annotations

import math
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.engines import precision
from symbol_llm.engines.chat import tokenizer
from symbol_llm.engines.memory import advising
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Tune
from symbol_llm.ground.progress import event
from symbol_llm.ground.records import TrainingRow
from symbol_llm.training import losses

CURVE = ("step", "loss", "learning_rate", "grad_norm")


class Tuned(NamedTuple):
    """What a tuning stage did."""

    n_rows: int
    n_too_long: int
    n_tokens: int
    """Tokens read in all epochs, prompts included."""
    n_steps: int
    loss: float
    """Mean over the last tenth of the steps, at least one."""
    seconds: float
    zero_stage: int
    """Of DeepSpeed; 0 where it did not shard."""
    curve: tuple[dict[str, float], ...]
    """Of each step its `step`, `loss`, `learning_rate` and `grad_norm`."""


def mixture(training_set: Path, general: Path | None, params: Tune) -> list[TrainingRow]:
    """Return `params.symbolic_share` of the training set, drawn by seed, and all general rows."""
    rows = list(files.read_records(training_set, TrainingRow))
    if params.symbolic_share < 1:
        n = round(len(rows) * params.symbolic_share)
        rows = random.Random(f"{params.seed}:mixture").sample(rows, n)
    if general is not None:
        rows += files.read_records(general, TrainingRow)
    if not rows:
        raise InvalidInput(f"{training_set}: no rows to tune on; explore more, or lower the bar of `select`")
    return rows


def tune(rows: Sequence[TrainingRow], base: Path, out: Path | None, params: Tune) -> Tuned:
    """Tune `base` on `rows` for `params.epochs` and write the checkpoint, bf16 safetensors with tokenizer, into `out`.

    `out` is None in all but the first of several processes. InvalidInput if loss, gradient or a weight stops being finite.
    """
    import torch
    from transformers import AutoModelForCausalLM, PrinterCallback, set_seed

    set_seed(params.seed)
    tok = tokenizer(base)
    encoded = [losses.example(tok, row) for row in rows]
    kept = [e for e in encoded if losses.length(e) <= params.max_length]
    if not kept:
        raise InvalidInput(f"every row is longer than max_length={params.max_length} tokens; raise it")
    has_pairs = any("rejected" in e for e in kept)
    with (
        advising(f"{params.device_batch} rows at once", "lower `device_batch` or `max_length` of this stage"),
        tempfile.TemporaryDirectory(prefix="symbol-llm-") as scratch,
    ):
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        model.config.use_cache = False
        trainer = losses.trainer_class(params, has_pairs=has_pairs)(
            model=model,
            args=_arguments(params, scratch),
            train_dataset=_Examples(kept),
            data_collator=losses.Collator(tok.pad_token_id),
            callbacks=[_watch()],
        )
        trainer.remove_callback(PrinterCallback)
        if has_pairs:
            losses.note_reference(trainer, kept)
        result = trainer.train()
    _save(trainer, tok, out)
    return _tuned(trainer, result, kept, len(rows), params)


def _tuned(trainer: Any, result: Any, kept: Sequence[losses.Example], n_rows: int, params: Tune) -> Tuned:
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    tail = [entry["loss"] for entry in logged[-max(1, len(logged) // 10) :]] or [float(result.training_loss)]
    sequences = [s for made in kept for s in (made, made.get("rejected")) if s]
    return Tuned(
        n_rows=len(kept),
        n_too_long=n_rows - len(kept),
        n_tokens=round(sum(len(s["input_ids"]) for s in sequences) * params.epochs),
        n_steps=int(result.global_step),
        loss=sum(tail) / len(tail),
        seconds=float(result.metrics["train_runtime"]),
        zero_stage=int(trainer.accelerator.state.deepspeed_plugin.zero_stage) if trainer.is_deepspeed_enabled else 0,
        curve=tuple({key: float(entry[key]) for key in CURVE if key in entry} for entry in logged),
    )


def deepspeed_config() -> dict[str, Any] | None:
    """Return the ZeRO-2 configuration where there is a GPU with DeepSpeed or more than one process, else None."""
    import importlib.util

    import torch

    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes == 1 and not torch.cuda.is_available():
        return None
    if importlib.util.find_spec("deepspeed") is None:
        return None
    return {
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 2, "overlap_comm": torch.cuda.is_available(), "contiguous_gradients": True},
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
    }


def split_batch(batch: int, device_batch: int, n_processes: int) -> tuple[int, int]:
    """Return how many rows a device holds at once and how many such turns make a step, so that a step takes `batch` rows.

    The rows held are the most that divide a process's share of the batch and are within `device_batch`. InvalidInput if
    the processes cannot share the batch evenly.

    >>> split_batch(6, 4, 1)
    (3, 2)
    """
    share, left = divmod(batch, n_processes)
    if left:
        raise InvalidInput(
            f"batch={batch} cannot be shared by {n_processes} processes; give a multiple of {n_processes}"
        )
    held = max(n for n in range(1, min(device_batch, share) + 1) if share % n == 0)
    return held, share // held


def _arguments(params: Tune, scratch: str) -> Any:
    import torch
    from transformers import TrainingArguments

    sharded = deepspeed_config()
    held, n_turns = split_batch(params.batch, params.device_batch, int(os.environ.get("WORLD_SIZE", "1")))
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=params.epochs,
        learning_rate=params.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=params.warmup,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        per_device_train_batch_size=held,
        gradient_accumulation_steps=n_turns,
        train_sampling_strategy="group_by_length" if params.shuffle else "sequential",
        bf16=sharded is not None or precision.has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        deepspeed=sharded,
        seed=params.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would print a loss that is not a number as 0
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


class _Examples:
    """A map-style data set that the Trainer can index."""

    def __init__(self, rows: list[losses.Example]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> losses.Example:
        return self.rows[i]


def _watch() -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Reports steps and loss, and stops at the first step whose loss or gradient is not finite."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            norm = logs.get("grad_norm", 0.0)
            if not (math.isfinite(logs["loss"]) and math.isfinite(norm)):
                raise InvalidInput(
                    f"tuning diverged at step {state.global_step} of {state.max_steps}: loss {logs['loss']:g}, gradient "
                    f"norm {norm:g}; lower `learning_rate` ({args.learning_rate:g}), or check the checkpoint it starts from"
                )
            if state.is_world_process_zero:
                event(
                    event="progress", label="tuning", done=state.global_step, total=state.max_steps, loss=logs["loss"]
                )

    return Watch()


def _save(trainer: Any, tok: Any, out: Path | None) -> None:
    import torch

    if out is not None:
        model = trainer.accelerator.unwrap_model(trainer.model).to(torch.bfloat16)
        for name, weight in model.named_parameters():
            if not torch.isfinite(weight).all():
                raise InvalidInput(f"tuning left {name} with values that are not finite; lower `learning_rate`")
        model.config.use_cache = True
        model.save_pretrained(out)
        tok.save_pretrained(out)
    trainer.accelerator.wait_for_everyone()
