"""The trajectory filter, the pools over rounds, and the two training sets (ENVISIONS, steps 8-10). No model, no running.

Of each original and its repair one is kept. Kept programs join the pool of their problem, right ones as positives, wrong
ones as negatives. L1 rows teach the best positives; L2 rows show a confident negative and ask for a positive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from symbol_llm.engines import prompts
from symbol_llm.ground.params import Select
from symbol_llm.ground.records import STATUSES, Candidate, PoolEntry, Problem, TrainingRow, Verdict, content_id


class Judged(NamedTuple):
    """A candidate and its verdict."""

    candidate: Candidate
    verdict: Verdict

    @property
    def accepted(self) -> bool:
        """Whether the verifier accepted it."""
        return self.verdict.status == "accepted"


class Trajectory(NamedTuple):
    """One original and its repair; None where none was made or our own failure left it unscored."""

    original: Judged | None
    repair: Judged | None


Trajectories = Mapping[str, Sequence[Trajectory]]
"""By problem id, in order of index."""


def trajectories(candidates: Iterable[Candidate], verdicts: Iterable[Verdict]) -> Trajectories:
    """Pair originals with repairs by problem and index; unscored verdicts are skipped."""
    by_id = {v.candidate: v for v in verdicts}
    found: dict[tuple[str, int], dict[str, Judged]] = defaultdict(dict)
    for c in candidates:
        if by_id[c.id].status != "unscored":
            found[c.problem, c.index][c.origin] = Judged(c, by_id[c.id])
    out: dict[str, list[Trajectory]] = defaultdict(list)
    for (problem, _), pair in sorted(found.items()):
        out[problem].append(Trajectory(pair.get("explore"), pair.get("refine")))
    return out


def kept(trajectory: Trajectory, *, keep_repaired: bool) -> Iterator[Judged]:
    """Yield the repair if only it is right, or if both are and it is likelier; else the original.

    With `keep_repaired` a wrong original stays as a negative beside its right repair; the published filter drops it.
    """
    original, repair = trajectory
    if original is None:
        if repair is not None and repair.accepted:
            yield repair
    elif repair is None or not repair.accepted:
        yield original
    elif not original.accepted:
        yield repair
        if keep_repaired:
            yield original
    else:
        yield repair if repair.candidate.logprob > original.candidate.logprob else original


def grow(pool: Sequence[PoolEntry], found: Trajectories, round_: int, params: Select) -> list[PoolEntry]:
    """Return `pool` with the programs kept in this round that it lacks, by problem, positives first, likeliest first.

    Of equal programs in one round the shortest text wins, then the one sampled first.
    """
    seen = {_key(e.problem, e.canonical, e.program, params) for e in pool}
    grown = list(pool)
    for problem in sorted(found):
        judged = [j for t in found[problem] for j in kept(t, keep_repaired=params.keep_repaired)]
        entries = [_entry(j, round_) for j in judged if j.verdict.program]
        if params.duplicates == "canonical":
            entries.sort(key=lambda e: len(e.program))
        for entry in entries:
            key = _key(problem, entry.canonical, entry.program, params)
            if key not in seen:
                seen.add(key)
                grown.append(entry)
    return sorted(grown, key=lambda e: (e.problem, not e.accepted, -e.logprob, e.canonical))


def _key(problem: str, canonical: str, program: str, params: Select) -> tuple[str, ...]:
    return (problem, canonical) if params.duplicates == "canonical" else (program,)


def _entry(judged: Judged, round_: int) -> PoolEntry:
    candidate, verdict = judged
    program = verdict.program or ""
    return PoolEntry(
        problem=candidate.problem,
        canonical=verdict.canonical or content_id("unparsable", program),
        program=program,
        logprob=candidate.logprob,
        accepted=judged.accepted,
        origin=candidate.origin,
        round=round_,
    )


def training_set(pool: Iterable[PoolEntry], problems: Mapping[str, Problem], params: Select) -> list[TrainingRow]:
    """Return the L1 and L2 rows of `pool`, by problem."""
    by_problem: dict[str, tuple[list[PoolEntry], list[PoolEntry]]] = defaultdict(lambda: ([], []))
    for entry in pool:
        by_problem[entry.problem][0 if entry.accepted else 1].append(entry)
    rows: list[TrainingRow] = []
    for name, (positives, negatives) in sorted(by_problem.items()):
        n1, n2 = counts(len(positives), len(negatives), params)
        problem = problems[name]
        for right in positives[:n1]:
            rows.append(
                TrainingRow.of(kind="L1", problem=name, messages=prompts.messages(problem), completion=right.program)
            )
        for wrong, right in zip(negatives[:n2], positives[n1 : n1 + n2], strict=True):
            asked = prompts.repair_messages(problem, wrong.program)
            rows.append(TrainingRow.of(kind="L2", problem=name, messages=asked, completion=right.program))
    return rows


def counts(n_positive: int, n_negative: int, params: Select) -> tuple[int, int]:
    """Return (n1, n2): rows of L1 and pairs of L2 for one problem (ENVISIONS, step 9).

    >>> [counts(p, 9, Select()) for p in (0, 1, 2, 11, 12)]
    [(0, 0), (1, 0), (1, 1), (10, 1), (10, 2)]
    """
    n1 = min(params.max_positives, max(1, n_positive - 1), n_positive)
    return n1, max(0, min(params.max_pairs, n_positive - n1, n_negative))


def metrics(
    before: Sequence[PoolEntry], pool: Sequence[PoolEntry], found: Trajectories, rows: Sequence[TrainingRow]
) -> dict[str, float]:
    """Return the figures of a round: what was solved, what refinement changed, how the pool grew."""
    solved_before = {e.problem for e in before if e.accepted}
    solved_now = {p for p, ts in found.items() if any(j and j.accepted for t in ts for j in t)}
    originals = [t.original for ts in found.values() for t in ts if t.original]
    pairs = [(t.original.accepted, t.repair.accepted) for ts in found.values() for t in ts if t.original and t.repair]
    statuses = Counter(j.verdict.status for ts in found.values() for t in ts for j in t if j)
    positives, negatives = [e for e in pool if e.accepted], [e for e in pool if not e.accepted]
    kinds = Counter(r.kind for r in rows)
    numbers = {
        "n_problems": len(found),
        "pass_1": _mean(j.accepted for j in originals),
        "pass_k": _mean(any(t.original and t.original.accepted for t in ts) for ts in found.values()),
        "n_solved": len(solved_now),
        "n_newly_solved": len(solved_now - solved_before),
        "n_forgotten": len((solved_before & set(found)) - solved_now),
        "n_solved_ever": len(solved_before | solved_now),
        "n_repaired": sum(not a and b for a, b in pairs),
        "n_spoiled": sum(a and not b for a, b in pairs),
        "n_positives": len(positives),
        "n_negatives": len(negatives),
        "positives_per_solved": len(positives) / max(1, len({e.problem for e in positives})),
        "logprob_positives": _mean(e.logprob for e in positives),
        "logprob_negatives": _mean(e.logprob for e in negatives),
        "n_L1": kinds["L1"],
        "n_L2": kinds["L2"],
    }
    numbers["logprob_margin"] = numbers["logprob_positives"] - numbers["logprob_negatives"]
    return {k: float(v) for k, v in numbers.items()} | {
        f"n_{s}": float(statuses[s]) for s in STATUSES if s != "unscored"
    }


def _mean(values: Iterable[float]) -> float:
    numbers = [float(v) for v in values]
    return fmean(numbers) if numbers else 0.0
