"""What the shards of one exploration found, put together. That they are of one, and all of it, is said by their manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Candidate, Verdict
from symbol_llm.ground.shards import WHOLE, Shard


class Part(NamedTuple):
    """One shard of an exploration."""

    folder: Path
    shard: Shard
    of: dict[str, Any]
    """What all shards of one exploration have in common: parameters and inputs."""
    metrics: dict[str, float]
    ran: dict[str, str]


def parts(folders: Sequence[Path]) -> list[Part]:
    """Return the shards in `folders` by number; InvalidInput unless they are all shards of one exploration, each once."""
    found = sorted((_part(folder) for folder in folders), key=lambda part: part.shard)
    if not found:
        raise InvalidInput("no shards; name the folders of all shards of one exploration")
    n = found[0].shard.n
    if [part.shard for part in found] != [Shard(number, n) for number in range(1, n + 1)]:
        have = ", ".join(str(part.shard) for part in found)
        raise InvalidInput(f"shards {have}: expected each of 1/{n} to {n}/{n} once")
    for part in found:
        if part.of != found[0].of:
            raise InvalidInput(
                f"{part.folder}: of another exploration than {found[0].folder}: other parameters or inputs"
            )
    return found


def _part(folder: Path) -> Part:
    outputs.verified(folder)
    if (stage := outputs.stage_of(folder)) != "explore":
        raise InvalidInput(f"{folder}: holds the output of the stage {stage!r}, not of 'explore'")
    manifest = files.read_json(folder / files.MANIFEST)
    params = dict(manifest["params"])
    shard = Shard.parse(params.pop("shard", str(WHOLE)))
    common = {"params": params, "inputs": manifest["inputs"]}
    return Part(folder, shard, common, manifest["metrics"], manifest["ran"])


def judged(found: Sequence[Part]) -> tuple[list[Candidate], list[Verdict]]:
    """Return candidates and their verdicts by problem, origin and index, as one exploration of all problems has them."""
    pairs = [pair for part in found for pair in _pairs(part.folder)]
    pairs.sort(key=lambda pair: (pair[0].problem, pair[0].origin, pair[0].index))
    return [candidate for candidate, _ in pairs], [verdict for _, verdict in pairs]


def _pairs(folder: Path) -> list[tuple[Candidate, Verdict]]:
    candidates = list(files.read_records(folder / "candidates.jsonl", Candidate))
    verdicts = {v.candidate: v for v in files.read_records(folder / "verdicts.jsonl", Verdict)}
    if left := {c.id for c in candidates} - verdicts.keys():
        raise InvalidInput(f"{folder / 'verdicts.jsonl'}: no verdict on candidate {min(left)!r}; explore again")
    return [(c, verdicts[c.id]) for c in candidates]
