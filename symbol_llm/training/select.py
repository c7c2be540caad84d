"""The trajectory filter, the pools over rounds, and the training rows (ENVISIONS, steps 8-10). No model, no running.

Of each original and its repair one is kept. Kept programs join the pool of their problem, right ones as positives, wrong
ones as negatives. L1 rows teach the best positives; pairs of a confident negative and a positive become L2 rows, which
show the one and ask for the other, or rows of preference. Or each sample of the round becomes a row with its advantage.
`strategies.py` says which published method is which choice.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

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

    @property
    def reward(self) -> float:
        """What the verifier gave it, in [0, 1]."""
        return self.verdict.score or 0.0


class Trajectory(NamedTuple):
    """One original and its repair; None where none was made or our own failure left it unscored."""

    original: Judged | None
    repair: Judged | None
    hinted: Judged | None = None
    """A candidate for which the model was shown the answer."""


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
        out[problem].append(Trajectory(pair.get("explore"), pair.get("refine"), pair.get("hint")))
    return out


def kept(trajectory: Trajectory, *, keep_repaired: bool) -> Iterator[Judged]:
    """Yield the repair if only it is right, or if both are and it is likelier; else the original.

    With `keep_repaired` a wrong original stays as a negative beside its right repair; the published filter drops it.
    What was found with the answer in sight is kept if it is right.
    """
    original, repair, hinted = trajectory
    if hinted is not None and hinted.accepted:
        yield hinted
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


def grow(
    pool: Sequence[PoolEntry],
    found: Trajectories,
    problems: Mapping[str, Problem],
    round_: int,
    params: Select,
) -> list[PoolEntry]:
    """Return `pool` with the programs kept in this round that it lacks, by problem, positives first, likeliest first.

    Of equal programs in one round the shortest text wins, then the one sampled first. Of equal ones in two rounds that of the
    earlier one stays; if only the latest round is taught, that of the later one.
    """
    entries = [e for p in sorted(found) for t in found[p] for e in _entries(t, problems[p], round_, params)]
    grown = [*pool, *entries] if params.duplicates == "kept" else _distinct(pool, entries, params)
    return sorted(grown, key=lambda e: (e.problem, not e.accepted, -e.logprob, e.canonical))


def _distinct(pool: Sequence[PoolEntry], entries: Sequence[PoolEntry], params: Select) -> list[PoolEntry]:
    """Return `pool` and those of `entries`, which are by problem, that count as other programs."""
    if params.duplicates == "canonical":
        entries = sorted(entries, key=lambda e: (e.problem, len(e.program)))
    held = {_key(e, params) for e in pool}
    new: dict[tuple[str, ...], PoolEntry] = {}
    for entry in entries:
        if params.scope == "latest" or _key(entry, params) not in held:
            new.setdefault(_key(entry, params), entry)
    return [*(e for e in pool if _key(e, params) not in new), *new.values()]


def _key(entry: PoolEntry, params: Select) -> tuple[str, ...]:
    return (entry.problem, entry.canonical) if params.duplicates == "canonical" else (entry.program,)


def _entries(trajectory: Trajectory, problem: Problem, round_: int, params: Select) -> Iterator[PoolEntry]:
    told = trajectory.repair.candidate.feedback if trajectory.repair else ""
    for candidate, verdict in kept(trajectory, keep_repaired=params.keep_repaired):
        if not verdict.program or verdict.agrees is False:
            continue
        if candidate.origin == "hint" and _states_answer(verdict.program, problem):
            continue
        accepted = verdict.status == "accepted"
        if round_ <= params.question_rounds:
            accepted = accepted and problem.question in verdict.program
        yield PoolEntry(
            problem=candidate.problem,
            canonical=verdict.canonical or content_id("unparsable", verdict.program),
            program=verdict.program,
            logprob=candidate.logprob,
            accepted=accepted,
            origin=candidate.origin,
            round=round_,
            feedback="" if accepted else told,
        )


def _states_answer(program: str, problem: Problem) -> bool:
    """Say whether `program`, written with the answer in sight, names it as the question does not."""
    answer = re.compile(rf"(?<![\w.]){re.escape(str(problem.answer))}(?!\w|\.\d)")
    return bool(answer.search(program)) and not answer.search(f"{problem.context}\n{problem.question}")


def training_set(
    pool: Iterable[PoolEntry], problems: Mapping[str, Problem], round_: int, params: Select
) -> list[TrainingRow]:
    """Return the rows that `pool` teaches in `round_`, by problem: L1, then those of its pairs."""
    by_problem: dict[str, tuple[list[PoolEntry], list[PoolEntry]]] = defaultdict(lambda: ([], []))
    for entry in pool:
        if params.scope == "all" or entry.round == round_:
            by_problem[entry.problem][0 if entry.accepted else 1].append(entry)
    rows: list[TrainingRow] = []
    for name, (positives, negatives) in sorted(by_problem.items()):
        if params.order == "random":
            rng = random.Random(f"{params.seed}:{round_}:{name}")
            rng.shuffle(positives)
            rng.shuffle(negatives)
        problem, asked = problems[name], prompts.messages(problems[name])
        n1, n2 = counts(len(positives), len(negatives), params)
        rows += [TrainingRow.of(kind="L1", problem=name, messages=asked, completion=e.program) for e in positives[:n1]]
        paired = positives[n1:] if params.pairs == "repair" else positives
        rows += [_pair(problem, wrong, right, params) for wrong, right in zip(negatives[:n2], paired, strict=False)]
    return rows


def weighed(found: Trajectories, problems: Mapping[str, Problem], max_tokens: int) -> list[TrainingRow]:
    """Return a row for each sample of this round, by problem, with its advantage: its reply as sampled, right or wrong.

    The advantage is the reward, a verdict's score, less the mean of the rewards of the problem's samples, over their
    standard deviation (Shao et al. 2024, DeepSeekMath, section 4.1.2); of n samples that with n - 1, as in TRL. Problems
    whose samples all have the same reward are left out. Repairs and what was found with the answer in sight are no samples:
    they answer other prompts. One of `max_tokens` tokens, the most that could be sampled, was cut off.
    """
    rows: list[TrainingRow] = []
    for name, group in _groups(found):
        rewards = [j.reward for j in group]
        if len(set(rewards)) < 2:
            continue
        mean, spread = fmean(rewards), stdev(rewards)
        how: dict[str, Any] = {"kind": "sample", "problem": name, "messages": prompts.messages(problems[name])}
        rows += [
            TrainingRow.of(
                completion=j.candidate.reply,
                advantage=(reward - mean) / spread,
                is_cut=bool(j.candidate.reply) and j.candidate.n_tokens >= max_tokens,
                **how,
            )
            for j, reward in zip(group, rewards, strict=True)
        ]
    return rows


def _groups(found: Trajectories) -> Iterator[tuple[str, list[Judged]]]:
    """Yield each problem with its samples, without those that were right by chance."""
    for name, ts in sorted(found.items()):
        originals = [t.original for t in ts if t.original]
        yield name, [j for j in originals if j.verdict.agrees is not False]


def taught(copies: Iterable[Problem]) -> list[TrainingRow]:
    """Return an L1 row for each problem that has its program."""
    return [
        TrainingRow.of(kind="L1", problem=c.id, messages=prompts.messages(c), completion=c.program)
        for c in copies
        if c.program
    ]


def _pair(problem: Problem, wrong: PoolEntry, right: PoolEntry, params: Select) -> TrainingRow:
    how: dict[str, Any] = {"problem": problem.id, "completion": right.program}
    if params.pairs == "preference":
        return TrainingRow.of(kind="pair", messages=prompts.messages(problem), rejected=wrong.program, **how)
    asked = prompts.repair_messages(problem, wrong.program, wrong.feedback)
    return TrainingRow.of(kind="L2", messages=asked, **how)


def counts(n_positive: int, n_negative: int, params: Select) -> tuple[int, int]:
    """Return (n1, n2): rows of L1 and pairs for one problem (ENVISIONS, step 9).

    A pair that asks for a repair takes a right program that is not an L1 row, so one is held back for it.

    >>> [counts(p, 9, Select()) for p in (0, 1, 2, 11, 12)]
    [(0, 0), (1, 0), (1, 1), (10, 1), (10, 2)]
    """
    held_back = params.max_pairs > 0 and params.pairs == "repair"
    most = n_positive if params.max_positives == "all" else params.max_positives
    n1 = min(most, max(1, n_positive - held_back), n_positive)
    free = n_positive - n1 if params.pairs == "repair" else n_positive
    return n1, max(0, min(params.max_pairs, free, n_negative))


def metrics(
    before: Sequence[PoolEntry], pool: Sequence[PoolEntry], found: Trajectories, rows: Sequence[TrainingRow]
) -> dict[str, float]:
    """Return the figures of a round: what was solved, what refinement changed, how the pool grew.

    `n_even` are the problems whose samples all have the same reward, of which `weighed` makes no row.
    """
    solved_before = {e.problem for e in before if e.accepted}
    solved_now = {p for p, ts in found.items() if any(j and j.accepted for t in ts for j in t[:2])}
    originals = [t.original for ts in found.values() for t in ts if t.original]
    pairs = [(t.original.accepted, t.repair.accepted) for ts in found.values() for t in ts if t.original and t.repair]
    statuses = Counter(j.verdict.status for ts in found.values() for t in ts for j in t[:2] if j)
    right = {
        (p, j.verdict.canonical or j.verdict.program)
        for p, ts in found.items()
        for t in ts
        for j in t[:2]
        if j and j.accepted
    }
    positives, negatives = [e for e in pool if e.accepted], [e for e in pool if not e.accepted]
    kinds = Counter(r.kind for r in rows)
    numbers = {
        "n_problems": len(found),
        "pass_1": _mean(j.accepted for j in originals),
        "pass_k": _mean(any(t.original and t.original.accepted for t in ts) for ts in found.values()),
        "n_solved": len(solved_now),
        "n_newly_solved": len(solved_now - solved_before),
        "n_forgotten": len((solved_before & set(found)) - solved_now),
        "distinct_per_solved": len(right) / max(1, len(solved_now)),
        "n_solved_ever": len(solved_before | solved_now),
        "n_to_repair": sum(not a for a, _ in pairs),
        "n_repaired": sum(not a and b for a, b in pairs),
        "n_spoiled": sum(a and not b for a, b in pairs),
        "n_hinted": sum(t.hinted.accepted for ts in found.values() for t in ts if t.hinted),
        "n_positives": len(positives),
        "n_negatives": len(negatives),
        "positives_per_solved": len(positives) / max(1, len({e.problem for e in positives})),
        "logprob_positives": _mean(e.logprob for e in positives),
        "logprob_negatives": _mean(e.logprob for e in negatives),
        "n_L1": kinds["L1"],
        "n_L2": kinds["L2"],
        "n_pairs": kinds["pair"],
        "n_samples": kinds["sample"],
        "n_even": sum(len({j.reward for j in group}) == 1 for _, group in _groups(found)),
    }
    numbers["logprob_margin"] = numbers["logprob_positives"] - numbers["logprob_negatives"]
    return {k: float(v) for k, v in numbers.items()} | {
        f"n_{s}": float(statuses[s]) for s in STATUSES if s != "unscored"
    }


def _mean(values: Iterable[float]) -> float:
    numbers = [float(v) for v in values]
    return fmean(numbers) if numbers else 0.0
