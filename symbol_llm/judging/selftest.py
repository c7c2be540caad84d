"""What the verifiers make of real gold programs and of near misses: the proof, in figures, that neither can be fooled.

For each data set of a source folder (or, without one, for each generator): gold programs must be accepted, their mutants
refused. For each family: listed equivalents must be accepted. Rows whose gold is refused are listed with the reason,
since a broken row is a finding about the data set.

What the mutation score is a share of. A mutant is gold with one thing changed, and the change may be one of text alone,
as of a line that has no bearing on the result. Where a problem asks for nothing but a value (a Python program for a
word problem), a mutant that runs to the very value that gold runs to, text for text, is therefore right; such are
counted as `n_same` and left out. One that is accepted with another value, within a tolerance, counts against the judge.
Nowhere else is a mutant left out for what it returns: rows of one database, tests that pass or one label out of three
are evidence of a program, not all that is asked for. So a score below 1 holds some mutants that are equivalents.

Theories whose label alone is judged are judged again as where gold is held against them (`environment["theory"]`),
on a row of its own: `rules` can tell more of them apart than self-training, which has no gold theory, makes use of.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from symbol_llm import families
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import Problem, Record, Verdict
from symbol_llm.judging import verify
from symbol_llm.tasks import LEVELS, Task, all_tasks

MUTANTS = 2
"""Tried of each gold program."""
GOLD, MUTATION_SCORE, EQUIVALENTS = 0.99, 0.97, 0.98
"""Least shares: of each data set, of each family, of each family."""


class Refused(Record):
    """A gold program that its own verifier did not accept."""

    task: str
    source: str
    status: str
    detail: str


class Row(Record):
    """The figures of one data set, or of one family over all its data sets. Shares are None where nothing was tried."""

    family: str
    data: str
    """Folder of the data set, `generated`, or `all`."""
    n_gold: int
    gold_accepted: float | None
    n_mutants: int
    """Those that could be judged: a form that differs from gold's says nothing where tests cannot be run."""
    mutants_refused: float | None
    """The mutation score."""
    n_same: int
    """Mutants besides that ran to gold's own value where no more is asked for."""
    n_equivalents: int | None = None
    equivalents_accepted: float | None = None
    per_s: float | None
    """Verdicts a second over all workers."""
    p50_s: float | None
    p99_s: float | None


class Outcome(Record):
    """What a selftest found."""

    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]

    def passed(self) -> bool:
        """Say whether every share reaches what is asked of it."""
        return all(
            share is None or share >= least
            for row in self.rows
            for share, least in (
                (row.gold_accepted, GOLD),
                (row.mutants_refused if row.data == "all" else None, MUTATION_SCORE),
                (row.equivalents_accepted, EQUIVALENTS),
            )
        )


class _Tried(Record):
    family: str
    data: str
    golds: tuple[Verdict, ...]
    mutants: tuple[Verdict, ...]
    n_same: int
    seconds: float


def selftest(family: str | None, source: Path | None, per_task: int, limits: Limits, seed: int = 0) -> Outcome:
    """Judge gold programs and mutants of every task of `family` (None: of all), `per_task` rows of each, drawn by id.

    InvalidInput for an unknown family or a folder that holds no data set of it; families whose library is missing are
    left out unless asked for by name.
    """
    if family:
        families.get(family)
    tasks = [task for task in all_tasks().values() if family in (None, task.family) and families.available(task.family)]
    if source:
        tasks = [task for task in tasks if task.read and task.folder and (source / task.folder).is_dir()]
    else:
        tasks = [task for task in tasks if task.generate]
    if not tasks:
        raise InvalidInput(f"{source or 'generators'}: no data set of {family or 'any family'} there")
    tried: list[_Tried] = []
    held: list[_Tried] = []
    refused: list[Refused] = []
    for task in track(tasks, "data sets"):
        problems = _problems(task, source, per_task, seed)
        if not problems:
            continue
        one, faults = _try(task, source, problems, limits, seed)
        tried.append(one)
        held += _try_held(one, problems, limits, seed)
        refused += faults
    names = sorted({one.family for one in tried})
    rows = [_row([one], None, None) for one in tried + held]
    rows += [_row([one for one in tried if one.family == name], name, _equivalents(name, limits)) for name in names]
    return Outcome(rows=tuple(sorted(rows, key=lambda row: (row.family, row.data))), refused=tuple(refused))


def _problems(task: Task, source: Path | None, per_task: int, seed: int) -> list[Problem]:
    """Return problems with a gold program: the first by id, so that a source's order does not matter."""
    if source and task.read and task.folder:
        found = {row.id: row for row in task.read(source / task.folder) if row.program is not None}
        return [found[key] for key in sorted(found)][:per_task]
    rngs = (random.Random(f"{seed} {task.name} {i}") for i in range(per_task))
    return [task.generate(rng, LEVELS[i % len(LEVELS)]) for i, rng in enumerate(rngs) if task.generate]


def _try(
    task: Task, source: Path | None, problems: list[Problem], limits: Limits, seed: int
) -> tuple[_Tried, list[Refused]]:
    start = time.monotonic()
    golds = list(verify.judge_all((_program(row, row.program or "") for row in problems), limits))
    accepted = {row.id: verdict for row, verdict in zip(problems, golds, strict=True) if verdict.status == "accepted"}
    tested = list(_mutants((row for row in problems if row.id in accepted), seed))
    verdicts = list(verify.judge_all(tested, limits))
    seconds = time.monotonic() - start
    mutants = tuple(
        verdict
        for item, verdict in zip(tested, verdicts, strict=True)
        if not (_asks_for_a_value(item.problem) and _same(verdict, accepted[item.problem.id]))
    )
    faults = [
        Refused(task=task.name, source=row.source, status=verdict.status, detail=verdict.detail or str(verdict.value))
        for row, verdict in zip(problems, golds, strict=True)
        if verdict.status != "accepted"
    ]
    data = task.folder if source and task.folder else f"generated {task.name}"
    n_same = len(verdicts) - len(mutants)
    tried = _Tried(family=task.family, data=data, golds=tuple(golds), mutants=mutants, n_same=n_same, seconds=seconds)
    return tried, faults


def _asks_for_a_value(problem: Problem) -> bool:
    """Say whether nothing but a value is asked for, of which there are many."""
    return problem.answer is not None and _environment(problem).asks_for_a_value()


def _environment(problem: Problem) -> families.Needs:
    return families.needs(problem, families.get(problem.family).Environment)


def _held(problem: Problem) -> Problem | None:
    """Return `problem` where its own gold is held against programs; None where that makes no difference."""
    held = _environment(problem).held_to(problem.program or "")
    if held is None:
        return None
    return problem.model_copy(update={"environment": held.model_dump(exclude_unset=True, by_alias=True)})


def _same(mutant: Verdict, gold: Verdict) -> bool:
    """Say whether `mutant` is accepted for gold's very value; not if that is too long to be kept whole."""
    value = mutant.value
    return mutant.status == "accepted" and value == gold.value and value is not None and len(value) < verify.MAX_TEXT


def _try_held(tried: _Tried, problems: list[Problem], limits: Limits, seed: int) -> list[_Tried]:
    """Return what becomes of the same mutants where gold is held against them."""
    accepted = {verdict.problem for verdict in tried.golds if verdict.status == "accepted"}
    start = time.monotonic()
    rows = [held for row in problems if row.id in accepted and (held := _held(row))]
    if not rows:
        return []
    mutants = tuple(verify.judge_all(_mutants(rows, seed), limits))
    seconds = time.monotonic() - start
    data = f"{tried.data}, held to gold"
    return [_Tried(family=tried.family, data=data, golds=(), mutants=mutants, n_same=0, seconds=seconds)]


def _program(problem: Problem, program: str) -> verify.Item:
    return verify.Item(problem, program, is_program=True)


def _mutants(problems: Iterable[Problem], seed: int) -> Iterator[verify.Item]:
    for problem in problems:
        family = families.get(problem.family)
        program = problem.program or ""
        drawn = family.mutants(program, random.Random(f"{seed} {problem.id}"))  # in random order, each at some cost
        try:
            chosen = list(itertools.islice(_distinct(drawn), MUTANTS))
        except Unparsable:
            continue
        yield from (_program(problem, mutant) for mutant in chosen)


def _distinct(texts: Iterable[str]) -> Iterator[str]:
    seen = set()
    for text in texts:
        if text not in seen:
            seen.add(text)
            yield text


def _equivalents(family: str, limits: Limits) -> list[Verdict]:
    examples = [example for example in families.get(family).EXAMPLES[1:] if example.score == 1]
    return [verify.judge(example.problem, example.program, limits, is_program=True) for example in examples]


def _row(tried: list[_Tried], family: str | None, equivalents: list[Verdict] | None) -> Row:
    golds = [verdict for one in tried for verdict in one.golds]
    mutants = [verdict for one in tried for verdict in one.mutants if verdict.status != "unscored"]
    times = sorted(verdict.seconds for verdict in golds + mutants)
    seconds = sum(one.seconds for one in tried)
    return Row(
        family=tried[0].family,
        data="all" if family else tried[0].data,
        n_gold=len(golds),
        gold_accepted=_share(golds, accepted=True),
        n_mutants=len(mutants),
        mutants_refused=_share(mutants, accepted=False),
        n_same=sum(one.n_same for one in tried),
        n_equivalents=None if equivalents is None else len(equivalents),
        equivalents_accepted=None if equivalents is None else _share(equivalents, accepted=True),
        per_s=len(times) / seconds if seconds else None,
        p50_s=times[len(times) // 2] if times else None,
        p99_s=times[min(len(times) - 1, int(0.99 * len(times)))] if times else None,
    )


def _share(verdicts: list[Verdict], *, accepted: bool) -> float | None:
    """Return the share of `verdicts` that are accepted, or that are not."""
    return sum((v.status == "accepted") == accepted for v in verdicts) / len(verdicts) if verdicts else None
