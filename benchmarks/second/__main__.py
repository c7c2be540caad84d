"""Compare verdicts with second methods, on real gold, near misses of it, and what a model wrote.

    python -m benchmarks.second --source DIR [--family sql] [--rows 10]
    python -m benchmarks.second --explored RUN/explored --collection RUN/collection --differing

Precision is the share of accepted programs that the second method calls right, recall the share of those it calls right
that are accepted, each with Wilson's 95 % interval. What the verifier leaves unscored, or the second method undecided, is
counted and left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.second import methods, rewritings
from symbol_llm import families
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.files import read_records
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem, Verdict
from symbol_llm.ground.stats import wilson
from symbol_llm.judging import verify
from symbol_llm.sandbox.confinement import N_CORES
from symbol_llm.tasks import all_tasks

LIMITS = Limits(timeout_s=20)
MUTANTS = 3


class Case(NamedTuple):
    """A program to be judged in two ways."""

    kind: str
    """`gold`, `rewritten`, `near miss` or `model`."""
    problem: Problem
    program: str


class Compared(NamedTuple):
    """A case, the verdict on it, and the second opinion."""

    case: Case
    verdict: Verdict
    opinion: methods.Opinion

    @property
    def counts(self) -> bool:
        """Return whether both have said something."""
        return self.verdict.status != "unscored" and self.opinion.is_right is not None

    @property
    def differs(self) -> bool:
        """Return whether they have said different things."""
        return self.counts and self.opinion.is_right != (self.verdict.status == "accepted")


def real(source: Path, names: Sequence[str], n_rows: int) -> Iterator[Case]:
    """Yield gold of `n_rows` rows of each data set, spread over it, rewritings of it, and near misses."""
    for task in all_tasks().values():
        if task.family not in names or not task.read or not task.folder or not (source / task.folder).is_dir():
            continue
        rows = sorted((row for row in task.read(source / task.folder) if row.program), key=lambda row: row.id)
        for row in rows[:: max(1, len(rows) // n_rows)][:n_rows]:
            yield Case("gold", row, row.program or "")
            if other := rewritings.rewritten(row):
                yield Case("rewritten", row, other)
            yield from (Case("near miss", row, mutant) for mutant in _mutants(row))


def _mutants(problem: Problem) -> list[str]:
    program = problem.program or ""
    drawn = families.get(problem.family).mutants(program, random.Random(f"0 {problem.id}"))
    try:
        return list(dict.fromkeys(itertools.islice(drawn, MUTANTS)))
    except Unparsable:
        return []


def written(explored: Path, collection: Path, names: Sequence[str]) -> Iterator[Case]:
    """Yield each program that a model wrote in a stage, once a problem."""
    splits = ("train", "dev", "test")
    problems = {row.id: row for split in splits for row in read_records(collection / f"{split}.jsonl", Problem)}
    verdicts = read_records(explored / "verdicts.jsonl", Verdict)
    found = dict.fromkeys((verdict.problem, verdict.program) for verdict in verdicts if verdict.program)
    for key, program in found:
        if key in problems and problems[key].family in names:
            yield Case("model", problems[key], program)


def compared(cases: Iterable[Case]) -> list[Compared]:
    """Return what both say of each case."""
    cases = list(cases)
    items = (verify.Item(case.problem, case.program, is_program=True) for case in cases)
    verdicts = list(verify.judge_all(items, LIMITS))
    with ThreadPoolExecutor(N_CORES) as pool:
        opinions = list(pool.map(lambda case: methods.ask(case.problem, case.program), cases))
    return [Compared(*one) for one in zip(cases, verdicts, opinions, strict=True)]


def table(found: Sequence[Compared]) -> str:
    """Return a Markdown table, a row for each notation and kind of program."""
    lines = [
        "| Notation | Programs | Number | Undecided | Agree | Precision, % | Recall, % |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(one.case.problem.family, one.case.kind) for one in found})
    for family, kind in [*keys, *((family, "all") for family in dict.fromkeys(family for family, _ in keys))]:
        some = [one for one in found if one.case.problem.family == family and kind in (one.case.kind, "all")]
        known = [one for one in some if one.counts]
        accepted = [one for one in known if one.verdict.status == "accepted"]
        right = [one for one in known if one.opinion.is_right]
        both = sum(one.opinion.is_right is True for one in accepted)
        agree = sum(not one.differs for one in known)
        shares = " | ".join(_share(both, len(part)) for part in (accepted, right))
        lines.append(
            f"| {family} | {kind} | {len(some)} | {len(some) - len(known)} | {agree} of {len(known)} | {shares} |"
        )
    return "\n".join(lines)


def _share(part: int, n: int) -> str:
    if not n:
        return ""
    share = wilson(part / n, n)
    return f"{100 * share.mean:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of public data sets")
    parser.add_argument("--rows", type=int, default=10, help="of each data set (default: %(default)s)")
    parser.add_argument(
        "--explored", type=Path, action="append", default=[], help="what a stage wrote; may be repeated"
    )
    parser.add_argument("--collection", type=Path, help="the problems that it was written for")
    parser.add_argument("--family", choices=methods.METHODS, action="append", help="only these (default: all)")
    parser.add_argument("--differing", action="store_true", help="list the programs on which the two differ")
    parser.add_argument("--undecided", action="store_true", help="list why the second method could not say")
    args = parser.parse_args()
    names = args.family or list(methods.METHODS)
    if (args.source is None) == (not args.explored) or bool(args.explored) != bool(args.collection):
        parser.error("expected --source, or --explored and --collection")
    cases = list(real(args.source, names, args.rows)) if args.source else []
    cases += [case for explored in args.explored for case in written(explored, args.collection, names)]
    cases = list({(case.problem.id, case.program, case.kind): case for case in cases}.values())
    found = compared(cases)
    print(table(found))
    for one in found:
        if (args.differing and one.differs) or (args.undecided and not one.counts):
            print(_line(one))


def _line(one: Compared) -> str:
    problem, verdict = one.case.problem, one.verdict
    said = {"verdict": verdict.status, "value": verdict.value, "detail": verdict.detail, "second": one.opinion}
    return json.dumps(
        {"kind": one.case.kind, "source": problem.source, "gold": problem.program, "program": one.case.program} | said
    )


if __name__ == "__main__":
    main()
