"""Sampling and running: K candidates a problem, each executed, each refined once, each repair executed (ENVISIONS, steps 1-7).

Of problems that no candidate solved one more may be sampled with the answer in sight (STaR).

Everything is keyed by (problem, origin, index) in an append-only ledger, so that a run that was killed goes on with what
is missing. Groups of problems are fixed by their order and are a request each, with a seed of its own: how often the work
was interrupted leaves no trace in the result. Which candidates are kept is `select.py`'s affair.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from symbol_llm import families, tasks
from symbol_llm.engines import Engine, Request, Sampling, prompts
from symbol_llm.engines.rollout import Asked, Reply, rollout
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.outputs import LEDGERS
from symbol_llm.ground.params import Explore
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import Candidate, Origin, Problem, Verdict, content_id
from symbol_llm.judging import redraws, verify

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
        self.copies: list[Problem] = []
        """Redrawn problems with gold, made of solved ones."""
        self.n_resumed = len(self.candidates)

    def _keep(self, candidate: Candidate) -> None:
        self.candidates[candidate.problem, candidate.origin, candidate.index] = candidate

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
    _sample(found, groups, "explore", engine, params)
    if params.refine:
        _sample(found, groups, "refine", engine, params)
        if params.rescore == "plain":
            for group in track(groups, "scoring repairs"):
                _rescore(found, group, engine, params.k)
    if params.hint:
        unsolved = [[p for p in group if not _is_solved(found, p, params.k)] for group in groups]
        _sample(found, [group for group in unsolved if group], "hint", engine, params)
    _redraw(found, problems, params)
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


def _sample(
    found: Explored, groups: Sequence[Sequence[Problem]], origin: Origin, engine: Engine, params: Explore
) -> None:
    """Sample and judge what is missing of `origin`; Unavailable once more of it than allowed is unscored."""
    kinds: dict[Origin, tuple[str, Callable[[Sequence[Problem], Explore], Asked], int]] = {
        "explore": ("sampling and running", _plain, params.k),
        "refine": ("repairing and running", partial(_repairs, found), params.k),
        "hint": ("sampling with the answer in sight", _hinted, 1),
    }
    label, ask, k = kinds[origin]
    due = [group for group in groups if not _complete(found, group, origin, k)]
    asked = [ask(group, params) for group in due]
    replies = rollout(asked, engine, partial(verify.judge, limits=params.limits))
    for n, reply in enumerate(track(replies, label, k * sum(map(len, due))), 1):
        feedback = found.told.get((reply.problem.id, reply.index), "") if origin == "refine" else ""
        found.add(candidate := _candidate(origin, reply, feedback))
        found.note(candidate, reply.verdict)
        if n % CHECKED == 0:
            verify.check_unscored(found.verdicts.values(), params.max_unscored)
    left = [(p, c) for g in groups for p in g for c in found.of(p, origin, k) if c.id not in found.verdicts]
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


def _plain(group: Sequence[Problem], params: Explore) -> Asked:
    asked = [prompts.messages(p, _shots(p, params)) for p in group]
    sampling = Sampling(params.k, params.temperature, params.top_p, params.max_tokens)
    return Asked(Request(asked, sampling, _seed(group, params)), group)


def _shots(problem: Problem, params: Explore) -> Sequence[prompts.Shot]:
    return tasks.get(problem.task).shots[: params.shots] if params.shots else ()


def _hinted(group: Sequence[Problem], params: Explore) -> Asked:
    asked = [prompts.hinted_messages(p, _shots(p, params)) for p in group]
    sampling = Sampling(1, params.temperature, params.top_p, params.max_tokens)
    return Asked(Request(asked, sampling, _seed(group, params) + 2), group)


def _repairs(found: Explored, group: Sequence[Problem], params: Explore) -> Asked:
    firsts = [(p, c) for p in group for c in found.of(p, "explore", params.k)]
    if params.feedback != "none":
        found.told |= _feedback(found, firsts, params)
    told = [found.told.get((p.id, c.index), "") for p, c in firsts]
    programs = [families.get(p.family).program_of(c.reply) or c.reply for p, c in firsts]
    asked = [prompts.repair_messages(p, *shown) for (p, _), *shown in zip(firsts, programs, told, strict=True)]
    sampling = Sampling(1, params.temperature, params.top_p, params.refine_max_tokens or params.max_tokens)
    request = Request(asked, sampling, _seed(group, params) + 1)
    return Asked(request, [p for p, _ in firsts], [c.index for _, c in firsts])


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


def _is_solved(found: Explored, problem: Problem, k: int) -> bool:
    return any(found.verdicts[c.id].status == "accepted" for c in found.of(problem, "explore", k))


def _seed(group: Sequence[Problem], params: Explore) -> int:
    return int(content_id(params.seed, group[0].id)[:8], 16)


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


def ledger_path(home: Path, *parts: object) -> Path:
    """Return where the ledger of this work lies: its name is made from all that the work depends on."""
    return home / LEDGERS / f"{content_id(*map(str, parts))}.jsonl"
