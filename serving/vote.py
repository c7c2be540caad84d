"""The answer to a question, voted by the programs that ran. Nothing is sampled and nothing is run here.

Self-consistency (Wang et al., 2022) over executed programs: what most programs gave is the answer. At serving time
there is no gold, so the verdict says that the program ran, not that it is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from symbol_llm.ground.records import Record
from symbol_llm.judging.verify import Execution


class Votes(Record):
    """How many programs were asked for, ran to a value, and gave the answer."""

    k: int
    ran: int
    agreed: int
    spared: int = 0
    """Given up, because the others had decided the vote."""


class Ran(Record):
    """What the verifier says of the winning program."""

    status: Literal["ran"] = "ran"
    detail: str
    seconds: float
    isolation: str


class Reason(Record):
    """Why `n` of the programs have no vote."""

    status: str
    detail: str
    n: int


class Answer(Record):
    """What is sent back for one question."""

    status: Literal["answered", "unsolved", "unscored"]
    """`unsolved`: no program ran to a value. `unscored`: none could be run, which is our failure."""
    answer: str | None = None
    program: str | None = None
    votes: Votes
    verdict: Ran | None = None
    reasons: tuple[Reason, ...] = ()
    repaired: bool = False
    """Whether no program ran at first, and those that have voted are repairs."""


def is_decided(executions: Sequence[Execution], k: int) -> bool:
    """Return whether the answer stays what `executions` give most often, whatever the others of `k` programs give."""
    counts = Counter(e.value for e in executions if e.value is not None)
    first, second = ([n for _, n in counts.most_common(2)] + [0, 0])[:2]
    return first > second + k - len(executions)


def vote(executions: Sequence[Execution], k: int) -> Answer:
    """Return what most of `executions`, which are all or some of `k`, gave, with the first program that gave it.

    Values are compared as text. Of values with equally many votes the one given first wins, so order `executions`
    by trust. A program without a value has no vote.
    """
    ran = [e for e in executions if e.value is not None]
    failed = [e for e in executions if e.value is None]
    reasons = _reasons(failed)
    if not ran:
        ours = all(e.status == "unscored" for e in failed)
        votes = Votes(k=k, ran=0, agreed=0, spared=k - len(executions))
        return Answer(status="unscored" if ours else "unsolved", votes=votes, reasons=reasons)
    value, agreed = Counter(e.value for e in ran).most_common(1)[0]
    winner = next(e for e in ran if e.value == value)
    return Answer(
        status="answered",
        answer=value,
        program=winner.program,
        votes=Votes(k=k, ran=len(ran), agreed=agreed, spared=k - len(executions)),
        verdict=Ran(detail=winner.detail, seconds=winner.seconds, isolation=winner.isolation),
        reasons=reasons,
    )


def _reasons(failed: Sequence[Execution]) -> tuple[Reason, ...]:
    counts = Counter((e.status, e.detail) for e in failed)
    return tuple(Reason(status=status, detail=detail, n=n) for (status, detail), n in counts.most_common())
