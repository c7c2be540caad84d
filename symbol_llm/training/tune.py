"""One supervised stage: a checkpoint and rows in, a checkpoint out. The loss falls on the completion alone.

Injection, infusion and each self-training round are this function with other rows (Symbol-LLM, two-stage tuning;
ENVISIONS, L1 + L2). The transformers Trainer does the work; DeepSpeed ZeRO shards it where there is a GPU or more than
one process (`torchrun -m symbol_llm tune ...`), on one node or several that see the same state folder. Now and then
the Trainer's whole state is kept there, and a stage that was stopped goes on from it: same rows in the same order, same
curve, same weights. It does not choose rows (`select.py`) and does not judge.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.engines import precision
from symbol_llm.engines.chat import tokenizer
from symbol_llm.engines.memory import advising
from symbol_llm.ground import files, locks, outputs
from symbol_llm.ground.errors import InvalidInput, MissingDependency
from symbol_llm.ground.params import Tune
from symbol_llm.ground.progress import event
from symbol_llm.ground.records import TrainingRow, content_id
from symbol_llm.training import adapters, losses
from symbol_llm.training.order import ordered, strategy

CURVE = ("step", "loss", "learning_rate", "grad_norm")
WHOLE = "whole.json"
"""Written last into a checkpoint of the Trainer's state, with the sizes of its files: one without it is torn."""
N_KEPT = 2

logger = logging.getLogger(__name__)


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
    n_resumed: int
    """Steps that an earlier start had made; `seconds` are those of the others."""


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


def state_folder(home: Path, *made_from: object) -> Path:
    """Return where in `home` the state lies of a stage that is made from `made_from`, by as many processes as now."""
    return home / outputs.TUNING / content_id(*made_from, os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def going_on(state: Path) -> Iterator[None]:
    """Hold the folder `state` for the block, which may find there how far an earlier one came.

    It is removed if the block ends well, or leaves nothing to go on from. Busy if another process holds it; InvalidInput
    if it is a symbolic link.
    """
    if state.is_symlink():
        raise InvalidInput(f"{state} is a symbolic link, and not ours; move it away")
    with locks.hold(state / outputs.LOCK, "the stage 'tune'"):
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if is_done or not any(state.glob("checkpoint-*")):
                outputs.remove(state)


def tune(rows: Sequence[TrainingRow], base: Path, out: Path | None, params: Tune, state: Path) -> Tuned:
    """Tune `base` on `rows` for `params.epochs` and write the checkpoint, bf16 safetensors with tokenizer, into `out`.

    `out` is None in all but the first of several processes, all of which see the folder `state`; the work goes on from what
    is there. InvalidInput if loss, gradient or a weight stops being finite.
    """
    import torch
    from transformers import PrinterCallback, set_seed

    adapters.check(params)
    losses.check(rows, params)
    set_seed(params.seed)
    tok = tokenizer(base)
    encoded = [losses.example(tok, row) for row in rows]
    kept = [e for e in encoded if losses.length(e) <= params.max_length]
    if not kept:
        raise InvalidInput(f"every row is longer than max_length={params.max_length} tokens; raise it")
    has_pairs = any("rejected" in e for e in kept)
    with advising(f"{params.device_batch} rows at once", "lower `device_batch` or `max_length` of this stage"):
        arguments = _arguments(params, state)
        step = _from_first(last_step(state) if out is not None else 0, arguments)
        if step and out is not None:
            logger.warning("%s: goes on after step %d", state, step)
        order = torch.Generator()
        trainer = ordered(losses.trainer_class(params, has_pairs=has_pairs), order)(
            model=_model(base, arguments, params),
            args=arguments,
            train_dataset=_Examples(kept),
            data_collator=losses.Packer() if params.batching == "packed" else losses.Collator(tok.pad_token_id),
            callbacks=[_watch(), _keep(params, order)],
        )
        trainer.remove_callback(PrinterCallback)
        if has_pairs or params.loss == "clipped":
            with _whole_weights(trainer):
                losses.note_reference(trainer, kept)
        result = trainer.train(resume_from_checkpoint=str(_checkpoint(state, step)) if step else None)
    _save(trainer, tok, out, base, params)
    return _tuned(trainer, result, kept, len(rows), params, step)


def _model(base: Path, arguments: Any, params: Tune) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from symbol_llm.training import packing

    if arguments.deepspeed:
        import deepspeed

        deepspeed.init_distributed()  # lest ZeRO-3, which shards the model while it is read, takes itself for alone
    dtype = torch.bfloat16 if arguments.deepspeed else torch.float32  # DeepSpeed makes itself a copy in fp32
    if params.lora_rank and not arguments.deepspeed:
        dtype = precision.dtype()  # frozen weights need no more; adapters are in float32 all the same
    is_packed = params.batching == "packed"
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=dtype,
        attn_implementation=packing.ATTENTION if is_packed else None,
        use_safetensors=True,
        trust_remote_code=False,
        **adapters.quantized(params, arguments.device),
    )
    if is_packed:
        packing.check(model)
    model.config.use_cache = False
    return adapters.attach(model, params) if params.lora_rank else model


def _tuned(
    trainer: Any, result: Any, kept: Sequence[losses.Example], n_rows: int, params: Tune, n_resumed: int
) -> Tuned:
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
        n_resumed=n_resumed,
    )


def deepspeed_config(params: Tune) -> dict[str, Any] | None:
    """Return the configuration of ZeRO where there is a GPU with DeepSpeed or more than one process, else None.

    MissingDependency if `params` ask for what DeepSpeed alone can do and it is not installed.
    """
    import importlib.util

    import torch

    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if (n_processes == 1 and not torch.cuda.is_available()) or params.quantize != "none":
        return None
    if importlib.util.find_spec("deepspeed") is None:
        if params.zero == 3 or params.offload:
            raise MissingDependency("ZeRO-3 and offload need DeepSpeed: pip install 'symbol-llm[deepspeed]'")
        return None
    zero = {"stage": params.zero, "overlap_comm": torch.cuda.is_available(), "contiguous_gradients": True}
    if params.zero == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if params.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if params.zero == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "bf16": {"enabled": True},
        "zero_optimization": zero,
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # which would have to be compiled
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


def _arguments(params: Tune, state: Path) -> Any:
    import torch
    from transformers import TrainingArguments

    sharded = deepspeed_config(params)
    held, n_turns = split_batch(params.batch, params.device_batch, int(os.environ.get("WORLD_SIZE", "1")))
    return TrainingArguments(
        output_dir=str(state),
        num_train_epochs=params.epochs,
        learning_rate=params.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=params.warmup,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        per_device_train_batch_size=held,
        gradient_accumulation_steps=n_turns,
        train_sampling_strategy=strategy(params),
        bf16=sharded is not None or precision.has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        deepspeed=sharded,
        seed=params.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would print a loss that is not a number as 0
        save_strategy="no",  # `_keep` says when
        save_total_limit=N_KEPT,
        gradient_checkpointing=params.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
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


def _keep(params: Tune, order: Any) -> Any:
    from transformers import TrainerCallback

    class Keep(TrainerCallback):  # type: ignore[misc]
        """Has the Trainer's state kept every so often, and gives each epoch an order of rows of its own."""

        kept_at = time.monotonic()

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            order.manual_seed(int(content_id(params.seed, int(state.epoch or 0)), 16) % 2**63)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            is_due = time.monotonic() - self.kept_at >= params.checkpoint_s and state.global_step < state.max_steps
            control.should_save = bool(_from_first(int(is_due), args))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _barrier()
            if state.is_world_process_zero:
                folder = _checkpoint(Path(args.output_dir), state.global_step)
                files.write_json(folder / WHOLE, _sizes(folder))
            self.kept_at = time.monotonic()

    return Keep()


def last_step(state: Path) -> int:
    """Return the step of the newest checkpoint in `state` that was written whole; 0 if there is none."""
    steps = (p.name.removeprefix("checkpoint-") for p in state.glob("checkpoint-*"))
    for step in sorted((int(s) for s in steps if s.isdecimal()), reverse=True):
        folder = _checkpoint(state, step)
        with contextlib.suppress(InvalidInput):
            if files.read_json(folder / WHOLE) == _sizes(folder):
                return step
    return 0


def _checkpoint(state: Path, step: int) -> Path:
    return state / f"checkpoint-{step}"


def _sizes(folder: Path) -> dict[str, int]:
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: p.stat().st_size for name, p in sorted(found.items()) if name != WHOLE}


def _from_first(value: int, arguments: Any) -> int:
    """Return the `value` of the first process to all of them."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    shared = torch.tensor([value], device=arguments.device)
    distributed.broadcast(shared, src=0)
    return int(shared.item())


def _barrier() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def _is_zero3(trainer: Any) -> bool:
    return bool(trainer.is_deepspeed_enabled and trainer.accelerator.state.deepspeed_plugin.zero_stage == 3)


def _whole_weights(trainer: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which each process has all weights, which ZeRO-3 shards from the moment they are read."""
    if not _is_zero3(trainer):
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(trainer.model.parameters()))  # type: ignore[no-any-return]


def _save(trainer: Any, tok: Any, out: Path | None, base: Path, params: Tune) -> None:
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model)
    if params.lora_rank:
        model = adapters.merged(model, base, params)
    if _is_zero3(trainer):
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # all processes take part
    else:
        model, weights = model.to(torch.bfloat16), None
    if out is not None:
        for name, weight in model.named_parameters() if weights is None else weights.items():
            if not torch.isfinite(weight).all():
                raise InvalidInput(f"tuning left {name} with values that are not finite; lower `learning_rate`")
        model.config.use_cache = True
        model.save_pretrained(out, state_dict=weights)
        tok.save_pretrained(out)
    trainer.accelerator.wait_for_everyone()
