"""What became of one problem: who tried it, what each try gave, which rows it became, and which checkpoints learnt from them.

It reads what stages have written, wherever that lies: the folder of a run, or `data` of DVC. Nothing is kept for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import (
    SPLITS,
    Candidate,
    Origin,
    PoolEntry,
    Problem,
    Record,
    Report,
    TrainingRow,
    Verdict,
)

SHORTEST = 6
"""Characters of an id that must be given."""
SETS = ("training_set", "general")
"""Inputs of `tune` that hold rows."""


class Output(NamedTuple):
    """What a stage has written."""

    folder: Path
    manifest: dict[str, Any]


class Attempt(Record):
    """One candidate for the problem, with its verdict."""

    id: str
    by: str
    """The checkpoint: its stage in a report, or the beginning of its digest."""
    origin: Origin
    index: int
    status: str
    program: str | None
    value: str | None
    detail: str
    agrees: bool | None
    feedback: str
    verifier: str
    isolation: str


class Taught(Record):
    """One training row that was made of the problem."""

    id: str
    kind: str
    completion: str
    rejected: str | None
    advantage: float | None
    made_by: str
    """The stage that wrote the row."""
    learnt_by: tuple[str, ...]
    """Checkpoints that were tuned on it."""


class Story(Record):
    """All that is found of a problem."""

    problem: Problem
    attempts: tuple[Attempt, ...]
    kept: tuple[PoolEntry, ...]
    """Its programs in the latest pool."""
    taught: tuple[Taught, ...]
    asked_by: tuple[str, ...]
    """Checkpoints that were evaluated on it, where it is of dev or test."""


def outputs_in(folders: Iterable[Path]) -> list[Output]:
    """Return the outputs of stages beneath `folders`, the oldest first; hidden folders are passed over."""
    found = []
    for top in folders:
        for place, names, here in os.walk(top):
            names[:] = sorted(n for n in names if not n.startswith("."))
            if files.MANIFEST in here:
                manifest = files.read_json(Path(place) / files.MANIFEST)
                if isinstance(manifest, dict) and "stage" in manifest:
                    found.append(Output(Path(place), manifest))
    return sorted(found, key=lambda o: (o.folder / files.MANIFEST).stat().st_mtime)


def why(name: str, outputs: Sequence[Output]) -> Story:
    """Return the story of one problem. `name` is its id, that of one of its candidates or training rows, or 6 characters of it.

    InvalidInput if no problem matches, or several do.
    """
    problem, names = _problem(name, outputs), checkpoints(outputs)
    pools = [o for o in outputs if o.manifest["stage"] == "select"]
    kept = (
        [e for e in files.read_records(pools[-1].folder / "pool.jsonl", PoolEntry) if e.problem == problem.id]
        if pools
        else []
    )
    explored = [o for o in outputs if o.manifest["stage"] == "explore"]
    return Story(
        problem=problem,
        attempts=tuple(a for o in explored for name, a in attempts(o, names) if name == problem.id),
        kept=tuple(kept),
        taught=tuple(_taught(problem, outputs, names)),
        asked_by=tuple(report.summary.stage for report in _reports(outputs) if problem.id in report.outcomes),
    )


def _problem(name: str, outputs: Sequence[Output]) -> Problem:
    if len(name) < SHORTEST:
        raise InvalidInput(f"id {name!r}: give at least {SHORTEST} characters")
    if not outputs:
        raise InvalidInput("no stage has written anything there; name the folder of a run, such as runs/default")
    found = {p.id: p for o in outputs for p in problems(o)}
    ids = {p for p in found if p.startswith(name)}
    for output in outputs:
        ids |= {c.problem for c in _records(output, "candidates.jsonl", Candidate) if c.id.startswith(name)}
        ids |= {r.problem for r in _records(output, "training_set.jsonl", TrainingRow) if r.id.startswith(name)}
    known = sorted(ids & found.keys())
    if not known:
        where = ", ".join(sorted({str(o.folder.parent) for o in outputs})[:3])
        raise InvalidInput(f"id {name!r}: no problem, candidate or training row has this id in {where}")
    if len(known) > 1:
        raise InvalidInput(f"id {name!r}: {len(known)} problems match: {', '.join(known[:5])}; give more of it")
    return found[known[0]]


def problems(output: Output) -> Iterator[Problem]:
    """Yield the problems that a stage has written."""
    for name in (*(f"{split}.jsonl" for split in SPLITS), "copies.jsonl"):
        if output.manifest["stage"] in ("collect", "explore"):
            yield from _records(output, name, Problem)


def _records(output: Output, name: str, kind: type[files.R]) -> Iterable[files.R]:
    path = output.folder / name
    return files.read_records(path, kind) if path.is_file() else ()


def _reports(outputs: Sequence[Output]) -> list[Report]:
    return [files.read_record(o.folder / "report.json", Report) for o in outputs if o.manifest["stage"] == "evaluate"]


def checkpoints(outputs: Sequence[Output]) -> dict[str, str]:
    """Return what reports call the checkpoints, by digest."""
    return {report.summary.checkpoint: report.summary.stage for report in _reports(outputs)}


def attempts(output: Output, names: dict[str, str]) -> Iterator[tuple[str, Attempt]]:
    """Yield each candidate of an exploration with its problem's id; `names` are those of checkpoints."""
    verdicts = {v.candidate: v for v in _records(output, "verdicts.jsonl", Verdict)}
    digest = output.manifest["inputs"].get("checkpoint", "")
    for candidate in _records(output, "candidates.jsonl", Candidate):
        verdict = verdicts[candidate.id]
        shared = {key: getattr(verdict, key) for key in ("status", "program", "value", "detail", "agrees")}
        shared |= {key: getattr(candidate, key) for key in ("id", "origin", "index", "feedback")}
        how = {"verifier": verdict.verifier, "isolation": verdict.isolation}
        yield candidate.problem, Attempt(by=names.get(digest, digest[:8]), **shared, **how)


def _taught(problem: Problem, outputs: Sequence[Output], names: dict[str, str]) -> Iterator[Taught]:
    tuned = [o.manifest for o in outputs if o.manifest["stage"] == "tune"]
    for output in outputs:
        made = output.manifest
        learnt = [m["output"] for m in tuned if made["output"] in {m["inputs"].get(key) for key in SETS}]
        for row in _records(output, "training_set.jsonl", TrainingRow):
            if row.problem == problem.id:
                yield Taught(
                    **row.model_dump(include={"id", "kind", "completion", "rejected", "advantage"}),
                    made_by=made["stage"],
                    learnt_by=tuple(names.get(digest, digest[:8]) for digest in learnt),
                )


def in_words(story: Story) -> str:
    """Return the story as lines of text for a terminal."""
    p = story.problem
    lines = [
        f"problem   {p.id}  {p.task}, {p.family}, {p.split}; {p.source}, {p.licence}",
        *(f"context   {line}" for line in p.context.splitlines()),
        f"question  {' '.join(p.question.split())}",
        f"answer    {json.dumps(p.answer, ensure_ascii=False)}",
    ]
    for a in story.attempts:
        gave = f"gives {a.value}" if a.value is not None and not a.detail else a.detail
        chance = "; right by chance" if a.agrees is False else ""
        lines += ["", f"{a.by}, {a.origin} {a.index}: {a.status}{chance}  {gave or ''}".rstrip()]
        lines += [f"    {line}" for line in (a.program or "(no program)").splitlines()]
    lines.append("")
    lines += [f"kept      {'right' if e.accepted else 'wrong'}, round {e.round}: {e.program!r}" for e in story.kept]
    for row in story.taught:
        learnt = ", ".join(row.learnt_by) or "no checkpoint"
        weight = "" if row.advantage is None else f", advantage {row.advantage:+.2f}"
        lines.append(f"taught    {row.kind} {row.id}{weight}, learnt by {learnt}: {row.completion!r}")
    if story.asked_by:
        lines.append(f"asked     of {', '.join(story.asked_by)}")
    return "\n".join(line for n, line in enumerate(lines) if line or n < len(lines) - 1)
