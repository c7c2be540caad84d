"""Sampling and running: K candidates a problem, each executed, each refined once, each repair executed (ENVISIONS, steps 1-7).

Everything is keyed by (problem, origin, index) in an append-only ledger, so that a run that was killed goes on with what
is missing. Groups of problems are fixed by their order and carry their own seed: how often the work was interrupted
leaves no trace in the result. Which candidates are kept is `select.py`'s affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from symbol_llm import families, tasks
from symbol_llm.engines import Completion, Engine, prompts
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.params import Explore
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import Candidate, Messages, Origin, Problem, Verdict, content_id
from symbol_llm.judging import verify

Key = tuple[str, Origin, int]
"""Problem id, origin, index."""

GROUPS_PER_BATCH = 2
"""Batches of sequences in a group: more means fuller batches, fewer means less work lost when killed."""


class Explored:
    """Candidates and verdicts found so far, backed by a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        """Take up what `ledger` holds."""
        self.ledger = ledger
        self.candidates: dict[Key, Candidate] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.rescored: dict[str, float] = {}
        for row in ledger.rows:
            if "candidate" in row:
                self._keep(Candidate.model_validate(row["candidate"]))
            elif "rescored" in row:
                self.rescored[row["rescored"]] = row["logprob"]
            else:
                verdict = Verdict.model_validate(row["verdict"])
                if verdict.status != "unscored":  # our own failure may be over: judged again
                    self.verdicts[verdict.candidate] = verdict
        self.n_resumed = len(self.candidates)

    def _keep(self, candidate: Candidate) -> None:
        self.candidates[candidate.problem, candidate.origin, candidate.index] = candidate

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Note new candidates; a later one with the same key replaces the earlier."""
        for candidate in candidates:
            self._keep(candidate)
            self.ledger.append({"candidate": candidate.model_dump()})

    def judge(self, problems: Sequence[Problem], origin: Origin, params: Explore) -> None:
        """Judge what has no verdict yet; Unavailable once more of it than allowed is unscored."""
        due = [(p, c) for p in problems for c in self.of(p, origin, params.k) if c.id not in self.verdicts]
        for verdict in verify.judge_all(due, params.limits):
            self.verdicts[verdict.candidate] = verdict
            self.ledger.append({"verdict": verdict.model_dump()})
        verify.check_unscored(self.verdicts.values(), params.max_unscored)

    def rescore(self, candidate: Candidate, logprob: float) -> None:
        """Note the log-probability of `candidate` under the plain prompt, which takes the place of the sampled one."""
        self.rescored[candidate.id] = logprob
        self.ledger.append({"rescored": candidate.id, "logprob": logprob})

    def of(self, problem: Problem, origin: Origin, k: int) -> list[Candidate]:
        """Return the candidates of `problem` in order of index."""
        found = (self.candidates.get((problem.id, origin, i)) for i in range(k))
        return [c for c in found if c is not None]

    def ordered(self) -> tuple[list[Candidate], list[Verdict]]:
        """Return candidates and verdicts by problem, origin and index; running times are left out, they differ each time."""
        sampled = [self.candidates[key] for key in sorted(self.candidates)]
        candidates = [c.model_copy(update={"logprob": self.rescored.get(c.id, c.logprob)}) for c in sampled]
        return candidates, [self.verdicts[c.id].model_copy(update={"seconds": 0.0}) for c in candidates]


def explore(problems: Sequence[Problem], engine: Engine, ledger: Ledger, params: Explore) -> Explored:
    """Return K judged candidates a problem and, if `params.refine`, as many judged repairs."""
    found = Explored(ledger)
    problems = sorted(problems, key=lambda p: p.id)
    size = max(1, GROUPS_PER_BATCH * params.batch // params.k)
    groups = [problems[at : at + size] for at in range(0, len(problems), size)]
    for group in track(groups, "sampling and running"):
        _explore_group(found, group, engine, params)
    return found


def _explore_group(found: Explored, group: Sequence[Problem], engine: Engine, params: Explore) -> None:
    seed = int(content_id(params.seed, group[0].id)[:8], 16)
    if not _complete(found, group, "explore", params.k):
        plain = [prompts.messages(p, tasks.get(p.task).shots[: params.shots] if params.shots else ()) for p in group]
        replies = _sample(engine, plain, params.k, seed, params)
        found.add(
            _candidate(p, "explore", i, c) for p, row in zip(group, replies, strict=True) for i, c in enumerate(row)
        )
    if params.refine and not _complete(found, group, "refine", params.k):
        firsts = [(p, c) for p in group for c in found.of(p, "explore", params.k)]
        asked = [prompts.repair_messages(p, families.get(p.family).program_of(c.reply) or c.reply) for p, c in firsts]
        repairs = _sample(engine, asked, 1, seed + 1, params)
        found.add(_candidate(p, "refine", c.index, row[0]) for (p, c), row in zip(firsts, repairs, strict=True))
    found.judge(group, "explore", params)
    if params.refine:
        found.judge(group, "refine", params)
        if params.rescore == "plain":
            _rescore(found, group, engine, params.k)


def _rescore(found: Explored, group: Sequence[Problem], engine: Engine, k: int) -> None:
    """Take the log-probability of accepted repairs (no other can be kept) under the plain prompt, as the originals have it."""
    repairs = [(p, c) for p in group for c in found.of(p, "refine", k) if found.verdicts[c.id].status == "accepted"]
    due = (
        repairs if any(c.id not in found.rescored for _, c in repairs) else []
    )  # scores depend on the batch: all or none
    scored = engine.score([prompts.messages(p) for p, _ in due], [c.reply for _, c in due]) if due else []
    for (_, candidate), completion in zip(due, scored, strict=True):
        found.rescore(candidate, completion.logprob)


def _complete(found: Explored, group: Sequence[Problem], origin: Origin, k: int) -> bool:
    return all(len(found.of(p, origin, k)) == k for p in group)


def _sample(engine: Engine, asked: Sequence[Messages], n: int, seed: int, params: Explore) -> list[list[Completion]]:
    return engine.generate(
        asked, n=n, temperature=params.temperature, top_p=params.top_p, max_tokens=params.max_tokens, seed=seed
    )


def _candidate(problem: Problem, origin: Origin, index: int, c: Completion) -> Candidate:
    return Candidate(
        id=content_id(problem.id, origin, index, c.text),
        problem=problem.id,
        origin=origin,
        index=index,
        reply=c.text,
        n_tokens=c.n_tokens,
        logprob=c.logprob,
    )


def ledger_path(home: Path, *parts: object) -> Path:
    """Return where the ledger of this work lies: its name is made from all that the work depends on."""
    return home / "ledgers" / f"{content_id(*map(str, parts))}.jsonl"
