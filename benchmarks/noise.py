"""What a verifier's precision is worth: one round of a finished run, again and again, with some of its verdicts turned round.

    python -m benchmarks.noise runs/default noise.jsonl --rates 2,5,10 --seeds 3

The first exploration under RUN is selected from, tuned on and evaluated as that run did it, but with a share of its wrong
programs taken for right (false accepts), or of its right ones for wrong (false refusals). A program that is turned round at one
rate is at every higher one. Each seed draws other programs, and another order of the training rows. OUT gets a line for each
round that has ended; what is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from symbol_llm import stages
from symbol_llm.evaluation.evaluate import read_report
from symbol_llm.evaluation.why import Output, outputs_in
from symbol_llm.ground import files, outputs
from symbol_llm.ground.params import Evaluate, Explore, Select, Tune
from symbol_llm.ground.records import Candidate, Problem, Verdict
from symbol_llm.ground.stats import bootstrap

KINDS = {"accept": ("rejected", "accepted"), "refuse": ("accepted", "rejected")}
"""What is turned round: the verdict that is, and the one that takes its place."""


class Round(NamedTuple):
    """What a round of the run read and wrote, with the parameters of each stage."""

    collection: Path
    checkpoint: Path
    explored: Path
    explore: Explore
    select: Select
    tune: Tune
    evaluate: Evaluate


class Arm(NamedTuple):
    """One round to be done: a kind of `KINDS`, a rate in percent, a seed."""

    kind: str
    rate: float
    seed: int


def main() -> None:
    """Do the rounds that are missing, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="file of JSON lines")
    parser.add_argument("--rates", default="2,5,10", help="percent, separated by commas (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="rounds for each rate (default: %(default)s)")
    args = parser.parse_args()
    outputs.refuse_file(args.out, lambda text: text.startswith(b'{"kind"'))
    done = list(map(json.loads, args.out.read_text().splitlines())) if args.out.is_file() else []
    round_ = first_round(outputs_in([args.run]))
    rates = [float(rate) for rate in args.rates.split(",")]
    for arm in arms(rates, args.seeds):
        if not any(Arm(row["kind"], row["rate"], row["seed"]) == arm for row in done):
            done.append(arm._asdict() | again(round_, arm))
            with args.out.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    print("\n".join(table(done)))


def arms(rates: Iterable[float], n_seeds: int) -> Iterator[Arm]:
    """Yield the rounds, one seed after the other, each first as it was."""
    for seed in range(n_seeds):
        yield Arm("none", 0.0, seed)
        yield from (Arm(kind, rate, seed) for kind in KINDS for rate in rates)


def first_round(found: list[Output]) -> Round:
    """Return the first round among the outputs of a run."""
    by_digest = {one.manifest["output"]: one for one in found}

    def first(stage: str, reads: str | None = None) -> Output:
        those = (one for one in found if one.manifest["stage"] == stage)
        return next(one for one in those if reads is None or reads in one.manifest["inputs"].values())

    explored = first("explore")
    selected = first("select", explored.manifest["output"])
    tuned = first("tune", selected.manifest["output"])
    report = first("evaluate", tuned.manifest["output"])
    inputs: Mapping[str, str] = explored.manifest["inputs"]
    return Round(
        by_digest[inputs["collection"]].folder,
        by_digest[inputs["checkpoint"]].folder,
        explored.folder,
        Explore(**explored.manifest["params"]),
        Select(**selected.manifest["params"]),
        Tune(**tuned.manifest["params"]),
        Evaluate(**report.manifest["params"]),
    )


def again(round_: Round, arm: Arm) -> dict[str, Any]:
    """Do the round once more as `arm` says; return what came of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SYMBOL_LLM_HOME"] = str(folder / "home")
        inputs = {"collection": round_.collection, "checkpoint": round_.checkpoint}
        verdicts = list(files.read_records(round_.explored / "verdicts.jsonl", Verdict))
        with outputs.building(folder / "explored", "explore", round_.explore, inputs) as draft:
            for kept, kind in (("candidates.jsonl", Candidate), ("copies.jsonl", Problem)):
                files.write_records(draft.folder / kept, files.read_records(round_.explored / kept, kind))
            files.write_records(draft.folder / "verdicts.jsonl", turned(verdicts, arm))
        stages.select(round_.collection, folder / "explored", folder / "selected", round_.select, round_=1)
        tune = round_.tune.model_copy(update={"seed": arm.seed})
        tuned = stages.tune(folder / "selected", round_.checkpoint, folder / "tuned", tune)
        evaluate = round_.evaluate.model_copy(update={"n_general": 0})
        stages.evaluate(round_.collection, folder / "tuned", folder / "report", evaluate, "round 1")
        report = read_report(folder / "report")
    changed = sum(a.status != b.status for a, b in zip(verdicts, turned(verdicts, arm), strict=True))
    dev = report.summary.dev
    return {
        "n_turned": changed,
        "n_rows": tuned["n_rows"],
        "dev": dev and dev.mean,
        "test": report.summary.overall.mean,
        "outcomes": report.outcomes,
    }


def turned(verdicts: Iterable[Verdict], arm: Arm) -> Iterator[Verdict]:
    """Yield `verdicts`, those drawn for `arm` turned round."""
    true, told = KINDS.get(arm.kind, ("", ""))
    for verdict in verdicts:
        draw = random.Random(f"{arm.seed}:{verdict.candidate}").random()  # noqa: S311 - no secret
        if verdict.status == true and draw < arm.rate / 100:
            yield verdict.model_copy(update={"status": told, "score": float(told == "accepted")})
        else:
            yield verdict


def table(done: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table in Markdown: means over the seeds, and the difference to no noise with its 95 % interval over problems."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in done:
        groups[row["kind"], row["rate"]].append(row)
    clean = means(groups["none", 0.0])
    yield "| verdicts turned round | % | programs | rows | dev, % | test, % | against none, points |"
    yield "|---|---|---|---|---|---|---|"
    for (kind, rate), rows in sorted(groups.items(), key=lambda one: (one[0][0] != "none", *one[0])):
        found = means(rows)
        gain = bootstrap([found[p] - clean[p] for p in sorted(clean.keys() & found.keys())])
        n_turned, n_rows, dev, test = (
            fmean(row[key] or 0.0 for row in rows) for key in ("n_turned", "n_rows", "dev", "test")
        )
        told = f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]" if kind != "none" else ""
        yield f"| {kind} | {rate:g} | {n_turned:.0f} | {n_rows:.0f} | {100 * dev:.1f} | {100 * test:.1f} | {told} |"


def means(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean outcome of each test problem over rounds that differ in their seed."""
    seen: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for problem, outcome in row["outcomes"].items():
            seen[problem].append(outcome)
    return {problem: fmean(found) for problem, found in seen.items()}


if __name__ == "__main__":
    main()
