"""What the server adds to the vLLM server that it stands in front of: the same questions to both, in turn.

    python -m benchmarks.beside

Needs vLLM (`make setup-vllm`). One vLLM server, asked directly and through ours (`--engine openai`): a plain chat completion by one caller and
by several, and the programs for a question, as many replies of vLLM against an answer of ours, which runs them and counts the votes. No
prompt comes twice, so that none is found in vLLM's cache. Medians over the turns.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.serving import MAX_TOKENS, MODEL, NAMES
from pipelines.ask import free_port, served
from serving.solver import TEMPERATURE
from symbol_llm import tasks
from symbol_llm.engines import prompts, weights
from symbol_llm.ground import outputs
from symbol_llm.ground.errors import Unavailable
from symbol_llm.ground.records import Problem

START_S = 600
Ask = Callable[[httpx.Client, str], Any]
_numbers = itertools.count(2)


def question() -> str:
    """Return a question that was not asked before."""
    n = next(_numbers)
    return f"{NAMES[n % len(NAMES)]} has {n} stamps and finds {n % 7 + 2} more. How many stamps are there now?"


@contextmanager
def vllm(model: Path, log: Path) -> Iterator[str]:
    """Have vLLM's own server serve `model` for the block; give its address once it answers."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model),
        "--served-model-name",
        "m",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16", "--max-model-len", "2048"]
    command += ["--generation-config", "vllm", "--max-num-seqs", "128", "--no-enable-chunked-prefill"]
    on_a_cpu = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "2"}
    env = os.environ | on_a_cpu | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=env) as server:  # noqa: S603
        try:
            ends = time.monotonic() + START_S
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if server.poll() is not None or time.monotonic() > ends:
                    raise Unavailable(f"vLLM did not come up; see {log}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def chats(base: str, model: str, n_tokens: int, n: int = 1) -> Ask:
    """Return what asks the OpenAI endpoint `base` for `n` replies to a question, put as the task puts it."""
    task = tasks.get("word_problems")
    fields = {"task": task.name, "family": task.family, "instruction": task.instruction, "source": "", "licence": ""}

    def ask(client: httpx.Client, text: str) -> Any:
        messages = prompts.messages(Problem.of(**fields, split="test", question=text))
        body = {"model": model, "messages": messages, "n": n, "max_tokens": n_tokens}
        return _post(client, f"{base}/chat/completions", body | {"temperature": TEMPERATURE if n > 1 else 0})

    return ask


def solves(url: str, k: int) -> Ask:
    """Return what asks the server at `url` for an answer on which `k` programs voted, all of them."""
    return lambda client, text: _post(client, f"{url}/v1/solve", {"question": text, "k": k, "whole": True})


def _post(client: httpx.Client, url: str, body: Any) -> Any:
    response = client.post(url, json=body)
    response.raise_for_status()
    return response.json()


def seconds(ask: Ask, n_callers: int, n_each: int) -> tuple[float, list[float]]:
    """Return the seconds in which `n_callers` at once ask `n_each` questions each, and those of each question."""

    def caller(texts: list[str]) -> list[float]:
        each = []
        with httpx.Client(timeout=START_S) as client:
            for text in texts:
                began = time.monotonic()
                ask(client, text)
                each.append(time.monotonic() - began)
        return each

    asked = [[question() for _ in range(n_each)] for _ in range(n_callers)]
    began = time.monotonic()
    with ThreadPoolExecutor(n_callers) as pool:
        each = list(pool.map(caller, asked))
    return time.monotonic() - began, list(itertools.chain.from_iterable(each))


def compared(name: str, direct: Ask, ours: Ask, n_callers: int, n_each: int, turns: int) -> dict[str, Any]:
    """Return how both do with `n_callers` at once, in turn: questions a second, and the median seconds of one."""
    rates: dict[str, list[float]] = {"direct": [], "ours": []}
    each: dict[str, list[float]] = {"direct": [], "ours": []}
    for turn in range(turns):
        pairs = [("direct", direct), ("ours", ours)]
        for who, ask in pairs[:: 1 if turn % 2 else -1]:
            whole, all_ = seconds(ask, n_callers, n_each)
            rates[who].append(n_callers * n_each / whole)
            each[who] += all_
    rate, p50 = ({who: statistics.median(found[who]) for who in found} for found in (rates, each))
    row = {"what": name, "callers": n_callers, "direct_per_s": rate["direct"], "ours_per_s": rate["ours"]}
    row |= {
        "ratio": rate["ours"] / rate["direct"],
        "direct_p50_ms": 1000 * p50["direct"],
        "ours_p50_ms": 1000 * p50["ours"],
    }
    return row | {"rates": rates}


@click.command()
@click.option("--turns", default=5, show_default=True, type=click.IntRange(1), help="Turns of each.")
@click.option("--k", default=5, show_default=True, type=click.IntRange(2, 32), help="Programs for each question.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(turns: int, k: int, as_json: bool) -> None:
    """Measure the server beside the vLLM server behind it, in turn."""
    logs = outputs.state_dir()
    with vllm(weights.resolve(MODEL), logs / "vllm.log") as base:
        os.environ |= {"OPENAI_BASE_URL": base}
        with served(MODEL, logs / "server.log", "--no-repair", "--n-waiting", "64", "--engine", "openai") as url:
            plain = chats(base, "m", 24), chats(f"{url}/openai/v1", "symbol-llm", 24)
            programs = chats(base, "m", MAX_TOKENS, k), solves(url, k)
            for ask in (*plain, *programs):
                seconds(ask, 1, 2)
            rows = [
                compared("chat", *plain, 1, 20, turns),
                compared("chat", *plain, 16, 2, turns),
                compared(f"{k} programs", *programs, 1, 3, turns),
                compared(f"{k} programs", *programs, 16, 1, turns),
            ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("asked for", "callers", "vLLM, /s", "through ours", "ratio", "vLLM p50, ms", "ours")
    for row in rows:
        figures = (f"{row['direct_per_s']:.2f}", f"{row['ours_per_s']:.2f}", f"{row['ratio']:.3f}")
        table.add_row(
            row["what"], str(row["callers"]), *figures, f"{row['direct_p50_ms']:.1f}", f"{row['ours_p50_ms']:.1f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
