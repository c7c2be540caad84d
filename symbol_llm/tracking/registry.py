"""The registered model: versions by reference, the aliases champion, challenger and previous, the gate, the promotion log.

A challenger becomes champion when its score on the test problems beats the champion's by more than chance (paired bootstrap over the
problems both were asked), its general ability has not fallen past the margins, and its programs ran in a whole sandbox.
Each decision is a line in the log.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import Interval, Report
from symbol_llm.ground.stats import bootstrap
from symbol_llm.tracking import runs

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
LOG = "promotions.jsonl"


class Version(NamedTuple):
    """One registered checkpoint."""

    number: str
    source: str
    """Where the checkpoint lies: a folder or an object-store URI."""
    digest: str
    """SHA-256 of the folder."""
    run: str


class Decision(NamedTuple):
    """What the gate said."""

    promoted: bool
    reason: str
    difference: Interval | None
    """Test accuracy over the champion's (or the original model's), paired."""


def resolve(reference: str) -> Path:
    """Return the folder of `models:/name@alias` or `models:/name/version`."""
    name, _, alias = reference.removeprefix("models:/").partition("@")
    if alias:
        version = by_alias(name, alias)
        if version is None:
            raise InvalidInput(
                f"{reference}: model {name!r} has no alias {alias!r} yet; `make run` promotes a first champion"
            )
        return fetch(version.source, version.digest)
    name, _, number = name.partition("/")
    if not number:
        raise InvalidInput(f"{reference}: expected models:/name@alias or models:/name/version")
    found = runs.absent_is_none(runs.client().get_model_version, name, number)
    if found is None:
        raise InvalidInput(f"{reference}: model {name!r} has no version {number!r}")
    version = _version(found)
    return fetch(version.source, version.digest)


def fetch(source: str, digest: str) -> Path:
    """Return the local folder of a version's source, downloaded once if it is remote; Kubeflow's `minio://` is S3.

    It lies beside the other state, which has the room, under its digest. InvalidInput if what was downloaded has another:
    it is not what was registered.
    """
    path = source.removeprefix("file://").replace("minio://", "s3://", 1)
    if "://" not in path:
        return Path(path)
    place = outputs.state_dir() / "weights" / f"registry-{digest[:16]}"
    whole = place / "checkpoint"
    if whole.is_dir() and files.hash_path(whole) == digest:
        return whole
    with outputs.building(place, "download", {"source": source}, {}) as draft:
        found = runs.download(path, draft.folder / "checkpoint")
        if files.hash_path(found) != digest:
            raise InvalidInput(
                f"{source}: its files have the digest {files.hash_path(found)}, the registered version {digest}; it was altered"
            )
    return whole


def by_alias(name: str, alias: str) -> Version | None:
    """Return the version that `alias` names, or None."""
    found = runs.absent_is_none(runs.client().get_model_version_by_alias, name, alias)
    return None if found is None else _version(found)


def report(version: Version) -> Report:
    """Return the report a version was registered with, out of the artifacts of its run."""
    return files.read_record(runs.artifact(version.run, "report.json"), Report)


def register(name: str, source: str, report: Report, run: str) -> Version:
    """Return the version of the checkpoint at `source` that `report` is on, made a challenger; each is registered once."""
    digest = report.summary.checkpoint
    mlflow = runs.client()
    if runs.absent_is_none(mlflow.get_registered_model, name) is None:
        mlflow.create_registered_model(name)
    versions = mlflow.search_model_versions(f"name = '{name}'")
    same = [v for v in versions if v.tags.get("sha256") == digest and _is_there(v.source)]
    if same:
        version = same[0]
    else:
        tags = {"sha256": digest, "accuracy": f"{report.summary.overall.mean:.4f}", "stage": report.summary.stage}
        tags["isolation"] = ", ".join(report.summary.isolation) or "none"
        if run:
            mlflow.log_text(run, report.model_dump_json(), "report.json")
        version = mlflow.create_model_version(name, source, run, tags=tags)
    mlflow.set_registered_model_alias(name, CHALLENGER, version.version)
    return _version(version)


def _is_there(source: str) -> bool:
    path = source.removeprefix("file://")
    return "://" in path or Path(path).is_dir()


class Contender(NamedTuple):
    """A checkpoint that may be put to the gate: the report on it, and where a reader of the registry finds it."""

    report: Report
    source: str


class Contest(NamedTuple):
    """Who was put to the gate, as which version, and what was decided."""

    contender: Contender
    version: Version
    decision: Decision
    n_tested: int
    """Checkpoints that were ever put to the gate under this name: each looked at the test problems once."""


def contend(contenders: Sequence[Contender], original: Report, params: Promote, run: str) -> Contest:
    """Register the best of `contenders` by dev accuracy, the last of equals, and put it to the gate, which reads test.

    Its rival is the champion, or before there is one the model that `original` reports on. `run` is where its report is
    kept. InvalidInput if there is a choice and no dev problems to make it by.
    """
    if len(contenders) > 1 and not all(c.report.summary.dev for c in contenders):
        raise InvalidInput(
            "no dev problems to choose the better checkpoint by; see `collect.n_dev` and `collect.dev_share`"
        )
    best = max(reversed(contenders), key=lambda c: c.report.summary.dev.mean if c.report.summary.dev else 0.0)
    champion = by_alias(params.name, CHAMPION)
    version = register(params.name, best.source, best.report, run)
    if champion is not None and champion.digest == version.digest:
        decision = Decision(False, f"version {version.number} is the champion already", None)
        return Contest(best, version, decision, n_tested(params.name))
    decision = gate(best.report, report(champion) if champion else original, original, params)
    promote(version, decision, params.name)
    return Contest(best, version, decision, n_tested(params.name))


def n_tested(name: str) -> int:
    """Return how many versions of the model `name` were ever put to the gate."""
    return sum("gate" in v.tags for v in runs.client().search_model_versions(f"name = '{name}'"))


def gate(report: Report, rival: Report, original: Report, params: Promote) -> Decision:
    """Return whether `report` beats `rival` and keeps the general ability of `original`, and why."""
    if not params.weak_isolation and (weak := [level for level in report.summary.isolation if not _is_full(level)]):
        why = f"programs ran under {', '.join(weak)} alone; promote.weak_isolation=true lets such verdicts count"
        return Decision(False, why, None)
    shared = sorted(set(report.outcomes) & set(rival.outcomes))
    if not report.outcomes:
        return Decision(False, "no test problem has a verdict", None)
    if len(shared) < len(report.outcomes) / 2:
        return Decision(
            False,
            f"only {len(shared)} of {len(report.outcomes)} test problems were also put to {rival.summary.stage!r}",
            None,
        )
    gains = [report.outcomes[p] - rival.outcomes[p] for p in shared]
    difference = bootstrap(gains, params.confidence)
    said = f"{difference.mean:+.1%} [{difference.low:+.1%}, {difference.high:+.1%}] on {len(shared)} test problems"
    if not difference.low > 0:  # what is not a number is not above 0 either
        return Decision(False, f"not proved better than the {rival.summary.stage!r} checkpoint: {said}", difference)
    if why := _generality_lost(report, rival, original, params):
        return Decision(False, why, difference)
    return Decision(True, f"better than the {rival.summary.stage!r} checkpoint: {said}", difference)


def _is_full(isolation: str) -> bool:
    return "landlock" in isolation and "seccomp" in isolation


def _generality_lost(report: Report, rival: Report, original: Report, params: Promote) -> str:
    """Return why general ability counts as lost; empty if it is kept. What is not known to be kept is lost."""
    now, then = report.summary.general, original.summary.general
    for name in ("choice", "perplexity"):
        if getattr(now, name) is None and any(getattr(r.summary.general, name) is not None for r in (rival, original)):
            return "general ability was not measured, though that of the model it is compared with was"
    if not all(map(math.isfinite, (now.choice.mean if now.choice else 0.0, now.perplexity or 0.0))):
        return "general ability has a figure that is not finite"
    if now.choice and then.choice and now.choice.mean < then.choice.mean - params.general_margin:
        return f"multiple choice fell from {then.choice.mean:.1%} to {now.choice.mean:.1%}, allowed {params.general_margin:.0%}"
    if now.perplexity and then.perplexity and now.perplexity > then.perplexity * (1 + params.perplexity_margin):
        return f"perplexity rose from {then.perplexity:.1f} to {now.perplexity:.1f}, allowed {params.perplexity_margin:.0%}"
    return ""


def promote(version: Version, decision: Decision, name: str) -> None:
    """Write the decision to the log; if it says so, move champion to `version` and previous to the old champion."""
    mlflow = runs.client()
    champion = by_alias(name, CHAMPION)
    if decision.promoted:
        if champion is not None:
            mlflow.set_registered_model_alias(name, PREVIOUS, champion.number)
        mlflow.set_registered_model_alias(name, CHAMPION, version.number)
    mlflow.set_model_version_tag(name, version.number, "gate", decision.reason)
    _note(name, "promote" if decision.promoted else "refuse", version, decision.reason)


def rollback(name: str) -> Version:
    """Make the previous champion champion again and return it; InvalidInput if there is none."""
    mlflow = runs.client()
    previous, champion = by_alias(name, PREVIOUS), by_alias(name, CHAMPION)
    if previous is None or champion is None:
        raise InvalidInput(f"model {name!r} has no previous champion to roll back to")
    mlflow.set_registered_model_alias(name, CHAMPION, previous.number)
    mlflow.set_registered_model_alias(name, PREVIOUS, champion.number)
    _note(name, "rollback", previous, f"from version {champion.number}")
    return previous


def history() -> list[dict[str, Any]]:
    """Return the promotion log, oldest first."""
    path = outputs.state_dir() / LOG
    return [row for _, row in files.read_json_lines(path)] if path.is_file() else []


def _note(name: str, action: str, version: Version, reason: str) -> None:
    path = outputs.state_dir() / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "model": name, "action": action}
    with path.open("a") as out:
        out.write(json.dumps(row | {"version": version.number, "sha256": version.digest, "reason": reason}) + "\n")


def _version(found: Any) -> Version:
    return Version(str(found.version), str(found.source), str(found.tags.get("sha256", "")), str(found.run_id))
