"""The registered model: versions by reference, the aliases champion, challenger and previous; promotion and the way back.

A checkpoint is registered as challenger and put to the gate (`gate.py`). What is decided goes to the promotion log, which
moves the aliases (`promotions.py`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import Busy, InvalidInput
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import Report, content_id
from symbol_llm.tracking import lineage, promotions, runs
from symbol_llm.tracking.gate import Decision, gate
from symbol_llm.tracking.promotions import EMPTY, LOG, MOVES, Entry

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER, PREVIOUS = promotions.CHAMPION, "challenger", promotions.PREVIOUS
OLD_LOG = "promotions.jsonl"
"""Where the log lay before it lay in the registry; read, never written."""
TOLD = ("time", "model", "action", "version", "sha256", "reason")
SIGNATURE = "signature"
"""Tag of a version that holds its signature (`signing.py`), up to MLflow's 100,000 characters: about 300 files."""
SKETCH = 32
"""Test problems by which a set of them is known again: those with the smallest ids, which are hashes."""


class Version(NamedTuple):
    """One registered checkpoint."""

    number: str
    source: str
    """Where the checkpoint lies: a folder or an object-store URI."""
    digest: str
    """SHA-256 of the folder."""
    run: str


def resolve(reference: str) -> Path:
    """Return the folder of `models:/name@alias` or `models:/name/version`."""
    _, version = named(reference)
    return fetch(version.source, version.digest)


def named(reference: str) -> tuple[str, Version]:
    """Return name and version of `models:/name@alias` or `models:/name/version`; InvalidInput if there is none."""
    name, _, alias = reference.removeprefix("models:/").partition("@")
    if alias:
        version = by_alias(name, alias)
        if version is None:
            raise InvalidInput(
                f"{reference}: model {name!r} has no alias {alias!r} yet; `make run` promotes a first champion"
            )
        return name, version
    name, _, number = name.partition("/")
    if not number:
        raise InvalidInput(f"{reference}: expected models:/name@alias or models:/name/version")
    return name, by_number(name, number)


def fetch(source: str, digest: str) -> Path:
    """Return the local folder of a version's source, downloaded once if it is remote; Kubeflow's `minio://` is S3.

    What is downloaded lies beside the other state, which has the room, under its digest. InvalidInput if the files have
    another digest: they are not what was registered.
    """
    path = source.removeprefix("file://").replace("minio://", "s3://", 1)
    if not _is_remote(path):
        return _unaltered(Path(path), source, digest)
    place = outputs.state_dir() / "weights" / f"registry-{digest[:16]}"
    whole = place / "checkpoint"
    if whole.is_dir():
        if files.hash_path(whole) == digest:
            return whole
        logger.warning(
            "%s: not what was downloaded, fetched anew: %s", place, outputs.fault(place) or "it is another's"
        )
    with outputs.building(place, "download", {"source": source}, {}) as draft:
        _unaltered(runs.download(path, draft.folder / "checkpoint"), source, digest)
    return whole


def fetch_output(uri: str) -> Path:
    """Return the local folder of what a stage left at `uri` in an object store, downloaded once; of no version's, as yet.

    InvalidInput unless it has the manifest of a stage of ours, and is what that says.
    """
    path = uri.replace("minio://", "s3://", 1)
    place = outputs.state_dir() / "weights" / f"store-{content_id(path)}"
    whole = place / "output"
    if whole.is_dir() and not outputs.fault(whole):
        return whole
    with outputs.building(place, "download", {"source": uri}, {}) as draft:
        if outputs.verified(runs.download(path, draft.folder / "output")) is None:
            raise InvalidInput(f"{uri}: no {files.MANIFEST} of ours in it; expected a folder that a stage wrote")
    return whole


def _unaltered(folder: Path, source: str, digest: str) -> Path:
    if (found := files.hash_path(folder)) != digest:
        why = outputs.fault(folder) or "it was altered"
        raise InvalidInput(f"{source}: its files have the digest {found}, the registered version {digest}; {why}")
    return folder


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
    promotions.made(name)
    same = [v for v in _versions(name) if v.tags.get("sha256") == digest and _is_there(v.source)]
    asked = sketch(report)
    if same:
        version = same[0]
        if more := asked - _asked(version):
            asked = _asked(version) | more
            promotions.put(mlflow.set_model_version_tag, name, version.version, "asked", " ".join(sorted(asked)))
    else:
        tags = {"sha256": digest, "accuracy": f"{report.summary.overall.mean:.4f}", "stage": report.summary.stage}
        tags |= {"isolation": ", ".join(report.summary.isolation) or "none", "asked": " ".join(sorted(asked))}
        if run:
            mlflow.log_text(run, report.model_dump_json(), "report.json")
        version = mlflow.create_model_version(name, _in_reach(source, run), run, tags=tags)
    promotions.put(mlflow.set_registered_model_alias, name, CHALLENGER, version.version)
    return _version(version)


def _in_reach(source: str, run: str) -> str:
    """Return where whoever asks the registry finds the checkpoint at `source`.

    A server keeps its registry for others, who do not see a folder of this machine (nor would MLflow take it): it goes among
    the artifacts of `run`.
    """
    folder = Path(source.removeprefix("file://"))
    if not (run and runs.is_served() and folder.is_dir()):
        return source
    return runs.keep(run, folder)


def _versions(name: str) -> list[Any]:
    """Return all versions of the model `name`, in the order of their numbers."""
    return sorted(runs.search(runs.client().search_model_versions, f"name = '{name}'"), key=lambda v: int(v.version))


def sketch(report: Report) -> set[str]:
    """Return what the test problems of `report` are known by again, even where a verdict or two is missing."""
    return {problem[:8] for problem in sorted(report.outcomes)[:SKETCH]}


def _asked(version: Any) -> set[str]:
    return set(version.tags.get("asked", "").split())


def _is_there(source: str) -> bool:
    path = source.removeprefix("file://")
    return _is_remote(path) or Path(path).is_dir()


def _is_remote(path: str) -> bool:
    return re.match(r"[a-z][\w+.-]+:/", path) is not None


class Contender(NamedTuple):
    """A checkpoint that may be put to the gate: the report on it, and where a reader of the registry finds it."""

    report: Report
    source: str
    folder: Path | None = None
    """Where it lies on this machine, to be signed; None: nowhere."""


def contender(report: Report, checkpoint: Path, source: str = "") -> Contender:
    """Return `checkpoint`, which others find at `source`, by default its path; InvalidInput if `report` is on another one."""
    if (found := files.hash_path(checkpoint)) != report.summary.checkpoint:
        raise InvalidInput(
            f"{checkpoint}: its report is on a checkpoint with the hash {report.summary.checkpoint[:12]}, and it has "
            f"{found[:12]}; evaluate it again"
        )
    return Contender(report, source or str(checkpoint.absolute()), checkpoint)


class Contest(NamedTuple):
    """Who was put to the gate, as which version, and what was decided."""

    contender: Contender
    version: Version
    decision: Decision
    n_tested: int
    """Checkpoints that were ever put to the gate with these test problems."""
    name: str
    base: Entry | None
    """The move of the log that the decision stands on; None where there was nothing to decide."""

    @property
    def metrics(self) -> dict[str, float]:
        """Return whether it was promoted, as which version, and its accuracy."""
        accuracy = self.contender.report.summary.overall.mean
        return {
            "promoted": float(self.decision.promoted),
            "version": float(self.version.number),
            "accuracy": accuracy,
        }

    def told(self) -> dict[str, Any]:
        """Return the decision with its figures, as it is kept in `promotion.json`."""
        stage, difference = self.contender.report.summary.stage, self.decision.difference
        told = {"version": self.version.number, "stage": stage, "n_tested": self.n_tested, **self.decision._asdict()}
        return told | {"difference": difference.model_dump() if difference else None}

    def words(self) -> str:
        """Return the decision in a line."""
        word = "promoted" if self.decision.promoted else "not promoted"
        return f"{self.contender.report.summary.stage} was {word}: {self.decision.reason}"

    def sign(self, sign: Callable[[Path], str]) -> None:
        """Keep the signature that `sign` makes, if it was promoted; before the alias moves, which servers follow."""
        folder = self.contender.folder
        if self.decision.promoted and folder:
            keep_signature(self.name, self.version.number, sign(folder))

    def conclude(self) -> None:
        """Put the decision into effect. Call it when all that is said of it is written; raises as `promote`."""
        if self.base is not None:
            promote(self.version, self.decision, self.name, self.base)


def contend(contenders: Sequence[Contender], original: Report, params: Promote, run: str) -> Contest:
    """Register the best of `contenders` by dev accuracy, the last of equals, and put it to the gate, which reads test.

    Its rival is the champion, or before there is one the model that `original` reports on. A contest that was killed after
    its decision was logged is held again, against the rival it had, and not logged twice. `run` is where the report is kept.
    No alias but challenger is moved before the contest is concluded. InvalidInput if there is a choice and no dev
    problems to make it by.
    """
    if len(contenders) > 1 and not all(c.report.summary.dev for c in contenders):
        raise InvalidInput(
            "no dev problems to choose the better checkpoint by; see `collect.n_dev` and `collect.dev_share`"
        )
    best = max(reversed(contenders), key=lambda c: c.report.summary.dev.mean if c.report.summary.dev else 0.0)
    _same(best)
    begun = promotions.head(params.name)
    last = promotions.settle(params.name)
    version = register(params.name, best.source, best.report, run)
    n = n_tested(params.name, best.report)
    finished = (begun.action, begun.version, begun.applied) == ("promote", version.number, False)
    number = last.previous if finished else last.champion
    champion = by_number(params.name, number) if number else None
    if champion is not None and champion.digest == version.digest:
        decision = Decision(False, f"version {version.number} is the champion already", None)
        return Contest(best, version, decision, n, params.name, None)
    rival = report(champion) if champion else original
    decision = gate(best.report, rival, original, params, n, lineage.facts(version.digest))
    return Contest(best, version, decision, n, params.name, None if finished else last)


def _same(contender: Contender) -> None:
    """Raise InvalidInput if what lies at the contender's source is not what its report is on; looked at where it is local."""
    place, expected = Path(contender.source.removeprefix("file://")), contender.report.summary.checkpoint
    if place.is_dir() and (digest := files.hash_path(place)) != expected:
        raise InvalidInput(
            f"{place}: its digest is {digest}; it is not the checkpoint that was evaluated, whose digest is {expected}"
        )


def n_tested(name: str, report: Report) -> int:
    """Return how many versions of the model `name` were put to the gate with test problems that `report` shares.

    Versions of which that is not recorded count.
    """
    asked = sketch(report)
    return sum(bool(_asked(v) & asked) or ("asked" not in v.tags and "gate" in v.tags) for v in _versions(name))


def promote(version: Version, decision: Decision, name: str, base: Entry) -> None:
    """Write the decision on `version` to the log; if it says so, `version` becomes champion, and the champion previous.

    Busy, with nothing moved, if there was another move after `base`, which the decision stands on.
    """
    promotions.put(runs.client().set_model_version_tag, name, version.number, "gate", decision.reason)
    entry = EMPTY._replace(version=version.number, sha256=version.digest, reason=decision.reason)
    if not decision.promoted:
        promotions.append(name, entry._replace(action="refuse"))
        return
    entry = entry._replace(action="promote", base=base.number, applied=False)
    _move(name, entry._replace(champion=version.number, previous=base.champion))


def rollback(name: str, to: str | None = None, *, of: str = "", why: str = "") -> Version:
    """Make the previous champion, or version `to`, champion again and return it; the champion becomes previous.

    A rollback that was begun and killed is finished, and that is all: called again, it is done once. `why` goes into the log.
    InvalidInput if there is none, or if `to` never was champion; Busy if another move comes first, or if the champion is not
    the version `of`, where that is given.
    """
    begun = promotions.head(name)
    last = promotions.settle(name)
    if of and last.champion != of:
        raise Busy(
            f"model {name!r}: version {last.champion or 'none'} is champion by now, not version {of}; nothing was moved"
        )
    if begun == last._replace(applied=False) and begun.action == "rollback" and to in (None, begun.champion):
        return by_number(name, begun.champion)
    if not last.champion or not (to or last.previous):
        raise InvalidInput(f"model {name!r} has no previous champion to roll back to")
    number = to or last.previous
    once = {entry.champion for entry in promotions.entries(name) if entry.action in MOVES} | {last.previous}
    if number == last.champion:
        raise InvalidInput(f"version {number} of {name!r} is the champion already")
    if number not in once:
        held = ", ".join(sorted(once - {last.champion, ""}, key=int))
        raise InvalidInput(f"version {number} of {name!r} never was champion; these were: {held}")
    version = by_number(name, number)
    reason = f"from version {last.champion}" + (f": {why}" if why else "")
    entry = EMPTY._replace(action="rollback", version=number, sha256=version.digest, reason=reason)
    _move(name, entry._replace(base=last.number, champion=number, previous=last.champion, applied=False))
    return version


def _move(name: str, entry: Entry) -> None:
    """Put a move into the log and into effect."""
    if promotions.append(name, entry).action == "lost":
        now = promotions.settle(name)
        raise Busy(
            f"model {name!r}: while version {entry.version} was decided on, version {now.champion} became champion "
            f"({now.action}); nothing was moved, run it again"
        )
    promotions.settle(name)


def history() -> list[dict[str, Any]]:
    """Return what was ever decided, on all models of the registry, oldest first.

    A move that a killed process left half done is finished. A log file of earlier versions is read too; of a line that is
    torn, a warning is all that is left.
    """
    path = outputs.state_dir() / OLD_LOG
    old = files.read_json_lines(path, lambda e: logger.warning("%s", e)) if path.is_file() else ()
    rows = [{key: row.get(key, "") for key in TOLD} for _, row in old]
    names = runs.search(runs.client().search_registered_models, f"name LIKE '%{LOG}'")
    for name in sorted(found.name.removesuffix(LOG) for found in names):
        promotions.settle(name)
        told = [entry._asdict() | {"model": name} for entry in promotions.entries(name)]
        rows += [{key: entry[key] for key in TOLD} for entry in told]
    return sorted(rows, key=lambda row: str(row["time"]))


def signature(name: str, number: str) -> str:
    """Return the signature that is kept with version `number` of the model `name`; empty if it is not signed."""
    found = runs.client().get_model_version(name, number)
    return str(found.tags.get(SIGNATURE, ""))


def keep_signature(name: str, number: str, text: str) -> None:
    """Keep the signature `text` with version `number` of the model `name`, in place of one that it had."""
    promotions.put(runs.client().set_model_version_tag, name, number, SIGNATURE, text)


def by_either(name: str, version: str) -> Version:
    """Return the version of the model `name` with the number or the alias `version`; InvalidInput if there is none."""
    if version.isdecimal():
        return by_number(name, version)
    found = by_alias(name, version)
    if found is None:
        raise InvalidInput(
            f"model {name!r} has no version {version!r}; expected a number, or an alias such as 'champion'"
        )
    return found


def by_number(name: str, number: str) -> Version:
    """Return version `number` of the model `name`; InvalidInput if there is none."""
    found = runs.absent_is_none(runs.client().get_model_version, name, number)
    if found is None:
        raise InvalidInput(f"models:/{name}/{number}: model {name!r} has no version {number!r}")
    return _version(found)


def _version(found: Any) -> Version:
    return Version(str(found.version), str(found.source), str(found.tags.get("sha256", "")), str(found.run_id))
