"""Building the collection: the 34 generated tasks, and a million rows from files.

    python -m benchmarks.collection                # make bench-collect

Each part runs in a process of its own, so that its peak memory is its own. The rows from files are word problems of 30
to 60 words made here; reading, normalising, dropping repeats and copies, splitting and writing count, running gold does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = (
    "mill harbour nuts bag walks sells buys finds counts apples market rain morning train ticket blue old river".split()
)


def main() -> None:
    """Measure the parts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows from files (default: %(default)s)")
    parser.add_argument("--per-task", type=int, default=300, help="generated problems a task (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--part", choices=["generated", "files"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(_measure(args.part, args.folder, args.per_task)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_rows(folder / "source" / "math" / "gsm8k", args.rows)
        found = {part: _run(part, folder, args) for part in ("generated", "files")}
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for part, row in found.items():
        print(f"{part:<10} {row['n_rows']:>9,} rows  {row['seconds']:7.1f} s  {row['n_rows'] / row['seconds']:8,.0f} rows/s"
              f"  peak {row['peak_mib']:6,.0f} MiB  {row['note']}")  # fmt: skip


def _run(part: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.collection", "--part", part, "--folder", str(folder)]
    environment = {**os.environ, "SYMBOL_LLM_HOME": str(folder / "home")}
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, "--per-task", str(args.per_task)], env=environment, check=True, stdout=subprocess.PIPE
    )
    return dict(json.loads(done.stdout))


def _measure(part: str, folder: Path, per_task: int) -> dict[str, float | str]:
    from symbol_llm.collection.collect import collect
    from symbol_llm.ground.params import Collect

    if part == "generated":
        params = Collect(n_train=per_task, n_test=25)
    else:
        params = Collect(source=folder / "source", tasks=("gsm8k",), check_gold=False, evolved_share=0)
    start = time.monotonic()
    numbers = collect(folder / part, params)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = (
        f"gold judged: {numbers['gold_per_s']:,.0f}/s"
        if numbers["gold_per_s"]
        else f"dropped: {numbers['n_dropped']:,.0f}"
    )
    return {"n_rows": numbers["n_train"] + numbers["n_test"], "seconds": seconds, "peak_mib": peak, "note": rate}


def _write_rows(folder: Path, n: int) -> None:
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for split, count in (("train", n - 1000), ("test", 1000)):
        with (folder / f"{split}.jsonl").open("w") as out:
            for i in range(count):
                text = " ".join(rng.choices(WORDS, k=rng.randint(30, 60)))
                row = {"id": f"{split}-{i}", "question": f"{text} {rng.randint(1, 999)}?", "answer": f"So.\n#### {i}"}
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
