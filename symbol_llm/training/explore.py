"""Sampling and running: K candidates a problem, each executed, each refined once, each repair executed (ENVISIONS, steps 1-7).

Of problems that no candidate solved one more may be sampled with the answer in sight (STaR). Of how many samples a problem
gets, `budget.py` decides where K each is not what is wanted.

Everything is keyed by (problem, origin, index) in an append-only ledger, so that a run that was killed goes on with what
is missing. Groups of problems are fixed by their order and are a request each, with a seed of its own: how often the work
was interrupted leaves no trace in the result. A shard takes whole groups, so neither does how the work was divided. Which
candidates are kept is `select.py`'s affair.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from symbol_llm import families, tasks
from symbol_llm.engines import Engine, Request, Sampling, prompts
from symbol_llm.engines.rollout import Asked, Reply, rollout
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.outputs import LEDGERS
from symbol_llm.ground.params import Explore
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import Candidate, Origin, Problem, Verdict, content_id
from symbol_llm.ground.shards import WHOLE, Shard
from symbol_llm.judging import redraws, verify
from symbol_llm.training.budget import Tried, next_step

Key = tuple[str, Origin, int]
"""Problem id, origin, index."""

GROUPS_PER_BATCH = 2
"""Batches of sequences in a group: more means fuller batches, fewer means less work lost when killed."""
CHECKED = 256
"""Verdicts between two looks at how many are unscored."""


class Explored:
    """Candidates and verdicts found so far, backed by a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        """Take up what `ledger` holds."""
        self.ledger = ledger
        self.candidates: dict[Key, Candidate] = {}
        self._of: dict[tuple[str, Origin], dict[int, Candidate]] = defaultdict(dict)
        self.verdicts: dict[str, Verdict] = {}
        self.rescored: dict[str, float] = {}
        self.told: dict[tuple[str, int], str] = {}
        """What repairs are told of the candidates they repair, by problem and index."""
        for row in ledger.rows:
            if "candidate" in row:
                self._keep(Candidate.model_validate(row["candidate"]))
            elif "rescored" in row:
                self.rescored[row["rescored"]] = row["logprob"]
            else:
                verdict = Verdict.model_validate(row["verdict"])
                if verdict.status != "unscored":  # our own failure may be over: judged again
                    self.verdicts[verdict.candidate] = verdict
        self.problems: list[Problem] = []
        """Which were to be explored."""
        self.copies: list[Problem] = []
        """Redrawn problems with gold, made of solved ones."""
        self.n_resumed = len(self.candidates)

    def _keep(self, candidate: Candidate) -> None:
        self.candidates[candidate.problem, candidate.origin, candidate.index] = candidate
        self._of[candidate.problem, candidate.origin][candidate.index] = candidate

    def add(self, candidate: Candidate) -> None:
        """Note a new candidate; a later one with the same key replaces the earlier."""
        self._keep(candidate)
        self.ledger.append({"candidate": candidate.model_dump()})

    def note(self, candidate: Candidate, verdict: Verdict) -> None:
        """Note the verdict on `candidate`, whatever its verdict names."""
        self.verdicts[candidate.id] = verdict.model_copy(update={"candidate": candidate.id})
        self.ledger.append({"verdict": self.verdicts[candidate.id].model_dump()})

    def rescore(self, candidate: Candidate, logprob: float) -> None:
        """Note the log-probability of `candidate` under the plain prompt, which takes the place of the sampled one."""
        self.rescored[candidate.id] = logprob
        self.ledger.append({"rescored": candidate.id, "logprob": logprob})

    def of(self, problem: Problem, origin: Origin) -> list[Candidate]:
        """Return the candidates of `problem` in order of index."""
        found = self._of.get((problem.id, origin), {})
        return [found[index] for index in sorted(found)]

    def tried(self, problem: Problem, n: int | None = None) -> Tried:
        """Return what the samples of `problem` came to, or the first `n` of them."""
        sampled = self.of(problem, "explore")[:n]
        right = [v for c in sampled if (v := self.verdicts[c.id]).status == "accepted"]
        return Tried(len(sampled), len(right), len({v.canonical for v in right}))

    def ordered(self) -> tuple[list[Candidate], list[Verdict]]:
        """Return candidates and verdicts by problem, origin and index; running times are left out, they differ each time."""
        sampled = [self.candidates[key] for key in sorted(self.candidates)]
        candidates = [c.model_copy(update={"logprob": self.rescored.get(c.id, c.logprob)}) for c in sampled]
        return candidates, [self.verdicts[c.id].model_copy(update={"seconds": 0.0}) for c in candidates]


def explore(
    problems: Sequence[Problem], engine: Engine, ledger: Ledger, params: Explore, shard: Shard = WHOLE
) -> Explored:
    """Return K judged candidates a problem, or as many in all, and, if `params.refine`, a judged repair of each.

    `shard` takes its share of the groups, whose order is that of the problems' ids, which are hashes.
    """
    found = Explored(ledger)
    problems = sorted(problems, key=lambda p: p.id)
    size = max(1, GROUPS_PER_BATCH * params.batch // params.k)
    groups = shard.of([problems[at : at + size] for at in range(0, len(problems), size)])
    found.problems = [p for group in groups for p in group]
    if params.budget == "even":
        _sample(found, "explore", [_plain(group, params, params.k) for group in groups], engine, params)
    else:
        _by_worth(found, groups, engine, params)
    if params.refine:
        _sample(found, "refine", [_repairs(found, group, params) for group in groups], engine, params)
        if params.rescore == "plain":
            for group in track(groups, "scoring repairs"):
                _rescore(found, group, engine)
    if params.hint:
        unsolved = [[p for p in group if not found.tried(p).n_right] for group in groups]
        _sample(found, "hint", [_hinted(group, params) for group in unsolved if group], engine, params)
    _redraw(found, found.problems, params)
    return found


def _redraw(found: Explored, problems: Sequence[Problem], params: Explore) -> None:
    """Put right programs to redrawn problems, as far as `params` ask for it."""
    if not (params.redraws or params.copies):
        return
    right = _right(found)
    with ThreadPoolExecutor(verify.workers(), thread_name_prefix="redraw") as pool:
        done = pool.map(partial(_redrawn, params=params), problems, [right.get(p.id, []) for p in problems])
        for noted, copies in track(done, "redrawing problems", len(problems)):
            found.verdicts |= {v.candidate: v for v in noted}
            found.copies += copies


def _redrawn(
    problem: Problem, right: Sequence[tuple[Candidate, Verdict]], params: Explore
) -> tuple[list[Verdict], list[Problem]]:
    """Return the verdicts that say who agrees, and copies of the problem by the likeliest program that does not disagree."""
    agree: set[str] = set()
    differ: set[str] = set()
    if params.redraws:
        texts = Counter(v.program or "" for _, v in right)
        agree, differ = redraws.disagreeing(problem, texts, params.redraws, params.limits, params.seed)
    noted = [v.model_copy(update={"agrees": v.program in agree}) for _, v in right if v.program in agree | differ]
    sound = [(c.logprob, v.program) for c, v in right if v.program and v.program not in differ]
    if not sound or not params.copies:
        return noted, []
    _, program = max(sound)
    return noted, list(redraws.redrawn(problem, program, params.copies, params.limits, params.seed))


def _right(found: Explored) -> dict[str, list[tuple[Candidate, Verdict]]]:
    right: dict[str, list[tuple[Candidate, Verdict]]] = defaultdict(list)
    for key in sorted(found.candidates):
        candidate = found.candidates[key]
        if (verdict := found.verdicts[candidate.id]).status == "accepted":
            right[candidate.problem].append((candidate, verdict))
    return right


class Work(NamedTuple):
    """A request that is made unless all its replies are there."""

    wanted: Sequence[tuple[Problem, int]]
    """Problem and index of each reply."""
    ask: Callable[[], Asked]


def _by_worth(found: Explored, groups: Sequence[Sequence[Problem]], engine: Engine, params: Explore) -> None:
    """Sample half of K of each problem, then again those of each group that are worth it, up to K each on average.

    What a step is decided by are the samples of the steps before it alone, so a start that finds later ones decides the same.
    """
    step = (params.k + 1) // 2
    _sample(found, "explore", [_plain(group, params, step) for group in groups], engine, params)
    taken = {p.id: step for group in groups for p in group}
    left = [len(group) * (params.k - step) for group in groups]
    for number in count(1):
        work = []
        for at, group in enumerate(groups):
            tried = {p.id: found.tried(p, taken[p.id]) for p in group}
            chosen = set(next_step(tried, step, left[at], params.enough, params.k_max))
            left[at] -= step * len(chosen)
            if again := [p for p in group if p.id in chosen]:
                work.append(_plain(again, params, step, number, [taken[p.id] for p in again]))
            taken |= {name: taken[name] + step for name in chosen}
        if not work:
            return
        _sample(found, "explore", work, engine, params)


LABELS: Mapping[Origin, str] = {
    "explore": "sampling and running",
    "refine": "repairing and running",
    "hint": "sampling with the answer in sight",
}


def _sample(found: Explored, origin: Origin, work: Sequence[Work], engine: Engine, params: Explore) -> None:
    """Sample and judge what is missing of `work`; Unavailable once more of it than allowed is unscored."""
    due = [one for one in work if any((p.id, origin, index) not in found.candidates for p, index in one.wanted)]
    asked = [one.ask() for one in due]
    replies = rollout(asked, engine, partial(verify.judge, limits=params.limits))
    for n, reply in enumerate(track(replies, LABELS[origin], sum(len(one.wanted) for one in due)), 1):
        feedback = found.told.get((reply.problem.id, reply.index), "") if origin == "refine" else ""
        found.add(candidate := _candidate(origin, reply, feedback))
        found.note(candidate, reply.verdict)
        if n % CHECKED == 0:
            verify.check_unscored(found.verdicts.values(), params.max_unscored)
    sampled = [(p, found.candidates[p.id, origin, index]) for one in work for p, index in one.wanted]
    left = [(p, c) for p, c in sampled if c.id not in found.verdicts]
    items = [verify.Item(p, c.reply) for p, c in left]
    for (_, candidate), verdict in zip(left, verify.judge_all(items, params.limits), strict=True):
        found.note(candidate, verdict)
    verify.check_unscored(found.verdicts.values(), params.max_unscored)


def _candidate(origin: Origin, reply: Reply[Verdict], feedback: str) -> Candidate:
    text, n_tokens, logprob = reply.completion
    return Candidate(
        id=content_id(reply.problem.id, origin, reply.index, text),
        problem=reply.problem.id,
        origin=origin,
        index=reply.index,
        reply=text,
        n_tokens=n_tokens,
        logprob=logprob,
        feedback=feedback,
    )


def _plain(
    group: Sequence[Problem], params: Explore, n: int, step: int = 0, taken: Sequence[int] | None = None
) -> Work:
    """Ask for `n` more samples of each problem, which has as many as `taken` says."""
    first = taken or [0] * len(group)

    def ask() -> Asked:
        asked = [prompts.messages(p, _shots(p, params)) for p in group]
        sampling = Sampling(n, params.temperature, params.top_p, params.max_tokens)
        return Asked(Request(asked, sampling, _seed(group, params, step)), group, first)

    return Work([(p, at + index) for p, at in zip(group, first, strict=True) for index in range(n)], ask)


def _shots(problem: Problem, params: Explore) -> Sequence[prompts.Shot]:
    return tasks.get(problem.task).shots[: params.shots] if params.shots else ()


def _hinted(group: Sequence[Problem], params: Explore) -> Work:
    def ask() -> Asked:
        asked = [prompts.hinted_messages(p, _shots(p, params)) for p in group]
        sampling = Sampling(1, params.temperature, params.top_p, params.max_tokens)
        return Asked(Request(asked, sampling, _seed(group, params) + 2), group)

    return Work([(p, 0) for p in group], ask)


def _repairs(found: Explored, group: Sequence[Problem], params: Explore) -> Work:
    firsts = [(p, c) for p in group for c in found.of(p, "explore")]

    def ask() -> Asked:
        if params.feedback != "none":
            found.told |= _feedback(found, firsts, params)
        told = [found.told.get((p.id, c.index), "") for p, c in firsts]
        programs = [families.get(p.family).program_of(c.reply) or c.reply for p, c in firsts]
        asked = [prompts.repair_messages(p, *shown) for (p, _), *shown in zip(firsts, programs, told, strict=True)]
        sampling = Sampling(1, params.temperature, params.top_p, params.refine_max_tokens or params.max_tokens)
        request = Request(asked, sampling, _seed(group, params) + 1)
        return Asked(request, [p for p, _ in firsts], [c.index for _, c in firsts])

    return Work([(p, c.index) for p, c in firsts], ask)


def _feedback(
    found: Explored, firsts: Sequence[tuple[Problem, Candidate]], params: Explore
) -> dict[tuple[str, int], str]:
    """Return what is said of each candidate, run again where its outcome is told: the verdict's own words may hold gold."""

    def one(first: tuple[Problem, Candidate]) -> str:
        problem, candidate = first
        runs = params.feedback != "status"
        ran = verify.execute(problem, candidate.reply, params.limits) if runs else None
        return prompts.feedback(found.verdicts[candidate.id].status, ran, params.feedback)

    with ThreadPoolExecutor(verify.workers(), thread_name_prefix="execute") as pool:
        return {(p.id, c.index): said for (p, c), said in zip(firsts, pool.map(one, firsts), strict=True)}


def _seed(group: Sequence[Problem], params: Explore, step: int = 0) -> int:
    parts = (params.seed, group[0].id, step) if step else (params.seed, group[0].id)
    return int(content_id(*parts)[:8], 16)


def _rescore(found: Explored, group: Sequence[Problem], engine: Engine) -> None:
    """Take the log-probability of accepted repairs (no other can be kept) under the plain prompt, as the originals have it."""
    repairs = [(p, c) for p in group for c in found.of(p, "refine") if found.verdicts[c.id].status == "accepted"]
    due = (
        repairs if any(c.id not in found.rescored for _, c in repairs) else []
    )  # scores depend on the batch: all or none
    scored = engine.score([prompts.messages(p) for p, _ in due], [c.reply for _, c in due]) if due else []
    for (_, candidate), completion in zip(due, scored, strict=True):
        found.rescore(candidate, completion.logprob)


def ledger_path(home: Path, *parts: object) -> Path:
    """Return where the ledger of this work lies: its name is made from all that the work depends on."""
    return home / LEDGERS / f"{content_id(*map(str, parts))}.jsonl"
