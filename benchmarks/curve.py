"""Keeps the learning curve of a finished run: the numbers with what made them as JSON, the picture as SVG.

python -m benchmarks.curve runs/math benchmarks/results/math --command "make run PROFILE=math SOURCE=DIR"
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import click

from symbol_llm import machine
from symbol_llm.evaluation import page
from symbol_llm.evaluation.evaluate import read_report
from symbol_llm.ground import files, outputs
from symbol_llm.ground.records import Interval, Summary


def interval(found: Interval | None) -> dict[str, float] | None:
    """Return mean, interval and n, rounded for reading."""
    if found is None:
        return None
    return {
        "n": found.n,
        "mean": round(found.mean, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
    }


def point(s: Summary) -> dict[str, Any]:
    """Return what a reader wants of one point of the curve."""
    return {
        "stage": s.stage,
        "dev": interval(s.dev),
        "accuracy": interval(s.overall),
        "tasks": {name: interval(scores.accuracy) for name, scores in s.tasks.items()},
        "choice": interval(s.general.choice),
        "perplexity": s.general.perplexity and round(s.general.perplexity, 2),
        "round": s.round,
    }


@click.command()
@click.argument("home", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--command", "said", required=True, help="What was typed.")
@click.option("--commit", default="", help="Of the code that ran. Default: that of the working folder.")
def main(home: Path, out: Path, said: str, commit: str) -> None:
    """Write OUT.json and OUT.svg for the last finished run under HOME."""
    kept_at, drawn_at = out.with_suffix(".json"), out.with_suffix(".svg")
    outputs.refuse_file(kept_at, lambda text: b'"curve"' in text and b'"promotion"' in text)
    outputs.refuse_file(drawn_at, lambda text: kept_at.is_file())
    promotions = sorted(home.glob("kfp/*/promote*/promotion"), key=lambda p: p.stat().st_mtime)
    if not promotions:
        raise click.ClickException(f"{home}: no run has come to its end there")
    report = read_report(promotions[-1])
    if not commit:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S607
    facts = {
        k: v for k, v in machine.inspect().items() if k in ("symbol-llm", "machine", "cores", "gpu", "torch", "vllm")
    }
    curve = [point(s) for s in (*report.history, report.summary)]
    promotion = files.read_json(promotions[-1] / "promotion.json")
    kept = {"command": said, "commit": commit, "machine": facts, "promotion": promotion, "curve": curve}
    files.write_text(kept_at, json.dumps(kept, indent=1) + "\n")
    files.write_text(drawn_at, page.figure(report))


if __name__ == "__main__":
    main()
