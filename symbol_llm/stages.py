"""The stages: paths and one section of parameters in, a flat dict of numbers out. Nothing is printed.

A Kubeflow component, a DVC stage and a CLI command are three ways to call the same function. The work is done in the
modules named after the stages; here files are read and written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TypeVar

from symbol_llm.ground import files, outputs, provenance
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Collect, Evaluate, Explore, Promote, Replay, Select, Tune
from symbol_llm.ground.records import SPLITS, Candidate, GeneralItem, PoolEntry, Problem, TrainingRow, Verdict
from symbol_llm.ground.shards import WHOLE, Shard

Numbers = dict[str, float]
R = TypeVar("R", Candidate, PoolEntry)
COPIES = "copies.jsonl"
"""Of an exploration: redrawn problems with gold."""


def fetch(out: Path, model: str) -> Numbers:
    """Write the weights that `model` names to the folder `out`."""
    from symbol_llm.engines import weights

    folder = weights.resolve(model)
    with outputs.building(out, "fetch", {"model": model}, {"model": folder}) as draft:
        draft.inputs = {}  # equal to the output
        for file in sorted(p for p in folder.iterdir() if p.is_file() and p.name != files.MANIFEST):
            _link(file.resolve(), draft.folder / file.name)
        draft.metrics = {
            "size_mib": sum(p.stat().st_size for p in draft.folder.iterdir() if p.name != outputs.LOCK) / 2**20
        }
    return draft.metrics


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def collect(out: Path, params: Collect) -> Numbers:
    """Write the collection to the folder `out`; see `collect.collect`."""
    from symbol_llm.collection.collect import collect as build

    return build(out, params)


def replay(collection: Path, checkpoint: Path, out: Path, params: Replay) -> Numbers:
    """Write the general rows that `checkpoint` answers itself to `out/training_set.jsonl`."""
    from symbol_llm import engines
    from symbol_llm.training.replay import replay as answer

    inputs: dict[str, Path | None] = {"collection": collection, "checkpoint": checkpoint}
    with outputs.building(out, "replay", params, inputs) as draft:
        items = list(files.read_records(collection / "general_train.jsonl", GeneralItem))
        engine = engines.start(params.engine, checkpoint, batch=params.batch)
        draft.ran = engines.ran(engine, "train")
        rows = answer(items, engine, params)
        files.write_records(draft.folder / "training_set.jsonl", rows)
        draft.metrics = {"n_rows": float(len(rows)), "n_left_out": float(min(params.n, len(items)) - len(rows))}
    return draft.metrics


def version(name: str, folder: Path) -> Numbers:
    """Put `folder` under version as `data/<name>` in the data repository; its hash and revision go to the stage's run."""
    from symbol_llm.tracking import runs, versions

    kept = versions.record(name, folder)
    if run := runs.stage_run():
        runs.tag(run, {f"dvc.{key}": value for key, value in kept._asdict().items()})
    return {"n_files": float(sum(p.is_file() for p in folder.rglob("*")))}


def tune(training_set: Path, checkpoint: Path, out: Path, params: Tune, general: Path | None = None) -> Numbers:
    """Tune `checkpoint` on `training_set/training_set.jsonl`, and on that of `general`, and write the result to `out`."""
    from symbol_llm.engines import precision
    from symbol_llm.tracking import runs
    from symbol_llm.training import tune as tuning

    inputs = {"training_set": training_set, "checkpoint": checkpoint, "general": general}
    made_from = [outputs.digest(path) if path else "" for path in inputs.values()]
    state = tuning.state_folder(outputs.state_dir(), *made_from, params.model_dump_json(), provenance.identity())
    with contextlib.ExitStack() as stack:
        draft = None
        if os.environ.get("RANK", "0") == "0":
            stack.enter_context(tuning.going_on(state))
            draft = stack.enter_context(outputs.building(out, "tune", params, inputs))
        rows = tuning.mixture(_rows(training_set), _rows(general) if general else None, params)
        done = tuning.tune(rows, checkpoint, draft.folder if draft else None, params, state)
        numbers = {k: float(v) for k, v in done._asdict().items() if k not in ("seconds", "curve", "n_resumed")}
        n_tokens = done.n_tokens * (1 - done.n_resumed / done.n_steps)
        numbers |= {"train_s": done.seconds, "tokens_per_s": n_tokens / done.seconds}
        if draft:
            draft.metrics, draft.ran = numbers, {"device": precision.device(), "split": "train"}
            runs.series(done.curve)
    return numbers | {"n_resumed": float(done.n_resumed)}


def _rows(folder: Path) -> Path:
    return folder / "training_set.jsonl"


def explore(collection: Path, checkpoint: Path, out: Path, params: Explore, shard: Shard = WHOLE) -> Numbers:
    """Sample, run and refine on the training problems; write `candidates.jsonl` and `verdicts.jsonl` to `out`.

    Of several shards each has a ledger of its own and shares nothing with the others; `merge` puts them together.
    """
    from symbol_llm import engines
    from symbol_llm.ground.problems import read_problems
    from symbol_llm.training.explore import explore as search
    from symbol_llm.training.explore import ledger_path

    inputs: dict[str, Path | None] = {"collection": collection, "checkpoint": checkpoint}
    part = {} if shard.n == 1 else {"shard": str(shard)}
    with outputs.building(out, "explore", params.model_dump(mode="json") | part, inputs) as draft:
        problems = _to_explore(collection, params)
        engine = engines.start(params.engine, checkpoint, batch=params.batch)
        began = time.monotonic()
        draft.ran = engines.ran(engine, "train")
        identity = provenance.identity(), *draft.ran.values(), *part.values()
        made_from = files.hash_path(checkpoint), files.hash_path(collection), params.model_dump_json(), *identity
        path = ledger_path(outputs.state_dir(), *made_from)
        draft.ledger = path.name
        with files.Ledger(path) as ledger:
            found = search(problems, engine, ledger, params, shard)
        candidates, verdicts = found.ordered()
        taken = {p.id for split in SPLITS for p in read_problems(collection, split)}
        copies = [c for c in found.copies if c.id not in taken]
        seconds = time.monotonic() - began
        draft.metrics = {
            "n_problems": float(len(found.problems)),
            "n_candidates": float(len(candidates)),
            "n_accepted": float(sum(v.status == "accepted" for v in verdicts)),
            "n_unscored": float(sum(v.status == "unscored" for v in verdicts)),
            "n_tokens": float(sum(c.n_tokens for c in candidates)),
            "n_disagreeing": float(sum(v.agrees is False for v in verdicts)),
            "n_copies": float(len(copies)),
        }
        _write_explored(draft.folder, candidates, verdicts, copies)
    judging = sorted(v.seconds for v in found.verdicts.values())
    timings = {"explore_s": seconds, "judge_p50_s": _at(judging, 0.5), "judge_p99_s": _at(judging, 0.99)}
    resumed = {"n_resumed": float(found.n_resumed), "n_bad_lines": float(ledger.n_bad)}
    return draft.metrics | timings | resumed


def _to_explore(collection: Path, params: Explore) -> list[Problem]:
    from symbol_llm.ground.problems import read_problems

    problems = read_problems(collection, "train")
    if params.problems == "without_gold":
        learnt = {row.problem for row in files.read_records(_rows(collection), TrainingRow)}
        problems = [p for p in problems if p.id not in learnt]
        if not problems:
            raise InvalidInput("every training problem was in injection: lower `collect.gold_share`")
    return problems


def _write_explored(
    folder: Path, candidates: Iterable[Candidate], verdicts: Iterable[Verdict], copies: Iterable[Problem]
) -> None:
    """Write what an exploration found, copies in the order of their ids."""
    files.write_records(folder / "candidates.jsonl", candidates)
    files.write_records(folder / "verdicts.jsonl", verdicts)
    files.write_records(folder / COPIES, sorted(copies, key=Problem.model_dump_json))


def merge(shards: tuple[Path, ...], out: Path) -> Numbers:
    """Write to `out` what one exploration of all problems would have: the same rows in the same order.

    InvalidInput unless `shards` are the folders of all shards of one exploration, in any order.
    """
    from symbol_llm.training import merge as merging

    parts = merging.parts(shards)
    inputs: dict[str, Path | None] = {f"shard_{part.shard.number}": part.folder for part in parts}
    with outputs.building(out, "merge", parts[0].of["params"], inputs) as draft:
        copies = (copy for part in parts for copy in files.read_records(part.folder / COPIES, Problem))
        _write_explored(draft.folder, *merging.judged(parts), copies)
        draft.metrics = {key: sum(part.metrics[key] for part in parts) for key in parts[0].metrics}
        draft.ran = {key: ", ".join(sorted({part.ran[key] for part in parts})) for key in parts[0].ran}
    return draft.metrics


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def select(
    collection: Path, explored: Path, out: Path, params: Select, round_: int, pool: Path | None = None
) -> Numbers:
    """Filter what `explored` holds into `out/pool.jsonl` (after that of `pool`) and `out/training_set.jsonl`."""
    from symbol_llm.ground.problems import read_problems
    from symbol_llm.training import select as selecting

    inputs = {"collection": collection, "explored": explored, "pool": pool}
    with outputs.building(out, "select", params, inputs) as draft:
        problems = {p.id: p for p in read_problems(collection, "train")}
        before = _of(problems, pool / "pool.jsonl", PoolEntry) if pool else []
        candidates = _of(problems, explored / "candidates.jsonl", Candidate)
        verdicts = list(files.read_records(explored / "verdicts.jsonl", Verdict))
        if left := {c.id for c in candidates} - {v.candidate for v in verdicts}:
            raise InvalidInput(f"{explored / 'verdicts.jsonl'}: no verdict on candidate {min(left)!r}; explore again")
        found = selecting.trajectories(candidates, verdicts)
        grown = selecting.grow(before, found, problems, round_, params)
        if params.pairs == "advantages":
            rows = selecting.weighed(found, problems, _most_tokens(explored))
        else:
            rows = selecting.training_set(grown, problems, round_, params)
        rows += selecting.taught(files.read_records(explored / COPIES, Problem))
        draft.metrics = selecting.metrics(before, grown, found, rows)
        files.write_records(draft.folder / "pool.jsonl", grown)
        files.write_records(draft.folder / "training_set.jsonl", rows)
    return draft.metrics


def _most_tokens(explored: Path) -> int:
    """Return how many tokens a sample in `explored` could have; InvalidInput if it has no manifest of ours, which says it."""
    outputs.stage_of(explored)
    return int(files.read_json(explored / files.MANIFEST)["params"]["max_tokens"])


def _of(problems: Container[str], path: Path, kind: type[R]) -> list[R]:
    """Return the rows of `path`; InvalidInput for one on a problem that is not among `problems`."""
    rows = []
    for n, row in files.read_numbered(path, kind):
        if row.problem not in problems:
            raise InvalidInput(f"{path}:{n}: problem {row.problem!r} is no training problem of the collection")
        rows.append(row)
    return rows


def evaluate(
    collection: Path,
    checkpoint: Path,
    out: Path,
    params: Evaluate,
    stage: str,
    previous: Path | None = None,
    selected: Path | None = None,
) -> Numbers:
    """Write `out/report.json` on `checkpoint`, going on from the curve of the report in `previous`.

    The returned `improved` is 1.0 if dev accuracy is above that of every earlier point of the curve.
    """
    from symbol_llm.evaluation.evaluate import evaluate as measure

    return measure(collection, checkpoint, out, params, stage, previous, selected)


def promote(
    checkpoint: Path,
    report: Path,
    original: Path,
    out: Path,
    params: Promote,
    source: str = "",
    earlier_checkpoint: Path | None = None,
    earlier_report: Path | None = None,
    earlier_source: str = "",
) -> Numbers:
    """Register the better of two checkpoints, put it to the gate, and write curve, page and decision to `out`.

    `original` is the report on the original model, the first champion's rival. `source` is where a reader of the registry
    finds the checkpoint, by default its path. Dev accuracy chooses; of equals the later checkpoint goes. What is promoted is
    signed first, where `params` names a key.
    """
    from symbol_llm.evaluation import page
    from symbol_llm.evaluation.evaluate import read_report
    from symbol_llm.tracking import registry, runs, signing

    sign = signing.signer(Path(params.signing_key)) if params.signing_key else None
    inputs: dict[str, Path | None] = {"checkpoint": checkpoint, "report": report, "original": original}
    inputs |= {"earlier_checkpoint": earlier_checkpoint, "earlier_report": earlier_report}
    with outputs.building(out, "promote", params, inputs) as draft:
        latest = read_report(report)
        contenders = [registry.contender(latest, checkpoint, source)]
        if earlier_checkpoint and earlier_report:
            earlier = registry.contender(read_report(earlier_report), earlier_checkpoint, earlier_source)
            contenders.insert(0, earlier)
        contest = registry.contend(contenders, read_report(original), params, runs.stage_run() or "")
        draft.metrics = contest.metrics
        files.write_json(draft.folder / "curve.json", latest.model_dump(mode="json"))
        files.write_json(draft.folder / "promotion.json", contest.told())
        files.write_text(draft.folder / "report.html", page.render(latest, contest.words(), contest.n_tested))
        if sign:
            contest.sign(sign)
        contest.conclude()
    return draft.metrics
