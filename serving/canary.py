"""A trial of new weights on live questions, at the end of which they stay or go. Nothing is loaded or moved here.

While it lasts, the old weights and the new ones both answer each question. One answer goes out, that of the new weights for a
share of the requests; the other one is made in the shadow. Of each the programs are run and put to the vote, and the weights of
whose k programs more gave the answer did better on that question. There is no gold at this point: a trial finds weights that
broke, and none that are wrong with one voice, which is what the gate is for. Who may ask may sway it.

The test is a sign test that may be looked at after every question. Of n questions on which they differed, the new weights did
worse on w. If they are no worse, w is a coin's count of heads at most, and

    e(w, n - w) = 2 * integral over p from 1/2 to 1 of (2 p)^w (2 (1 - p))^(n - w) dp

the likelihood ratio against p = 1/2, mixed over all p that are worse, is a nonnegative supermartingale that starts at 1. It ever
reaches 1 / ALPHA with a probability of at most ALPHA (Ville 1939; Robbins 1970, "Statistical methods related to the law of the
iterated logarithm", section 3), however often one looks and whenever one stops. The same with the sides changed says that they are
better. What is not decided after `N_QUESTIONS` questions is kept: the gate has promoted it, and the trial found nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from prometheus_client import Counter, Gauge

from serving.programs import Run
from serving.vote import vote
from symbol_llm.judging.verify import Execution

log = logging.getLogger(__name__)
T = TypeVar("T")

ALPHA = 0.05
"""Bound on the probability that weights which are no worse are given up."""
N_QUESTIONS = 200

QUESTIONS = Counter("symbol_llm_canary_questions", "Questions of trials, by how the new weights did", ["outcome"])
RUNNING = Gauge("symbol_llm_canary_running", "1 while new weights are on trial")
ENDED = Counter("symbol_llm_canary_ended", "Trials of new weights that have ended, by how", ["state"])

End = Literal["kept", "rolled back", "not rolled back", "overtaken"]
State = Literal["running", End]
for _outcome in ("better", "worse", "alike"):  # a rate starts from a zero that was seen
    QUESTIONS.labels(_outcome)
for _end in get_args(End):
    ENDED.labels(_end)

Answering = Callable[[], AsyncGenerator[Run, None]]


class Score(NamedTuple):
    """On how many questions the new weights did better, worse, and as well."""

    better: int = 0
    worse: int = 0
    alike: int = 0


@functools.cache
def evidence(for_: int, against: int) -> float:
    """Return e(for_, against): how much more likely these counts are by a coin that favours the first, of any strength.

    In closed form, the sum over i = 0 ... for_ of C(n + 1, i), divided by (n + 1) C(n, for_), with n = for_ + against.

    >>> evidence(0, 0), evidence(1, 0), evidence(0, 1)
    (1.0, 1.5, 0.5)
    """
    n = for_ + against
    return sum(math.comb(n + 1, i) for i in range(for_ + 1)) / ((n + 1) * math.comb(n, for_))


def decided(score: Score, alpha: float = ALPHA, n_questions: int = N_QUESTIONS) -> Literal["", "worse", "kept"]:
    """Return what `score` says of the new weights; empty while it says nothing."""
    if evidence(score.worse, score.better) >= 1 / alpha:
        return "worse"
    if evidence(score.better, score.worse) >= 1 / alpha or sum(score) >= n_questions:
        return "kept"
    return ""


def agreement(runs: Sequence[Execution]) -> float | None:
    """Return the share of the programs that gave the answer, 0 where there is none; None if the fault is ours."""
    if not runs:
        return 0.0
    found = vote(runs, len(runs))
    return None if found.status == "unscored" else found.votes.agreed / found.votes.k


@dataclass
class Trial:
    """New weights on trial. Belongs to the event loop, but for `state`, which the thread that ends it sets."""

    name: str
    """What the source calls the new weights."""
    against: str
    share: float
    place: Path
    state: State = "running"
    score: Score = Score()
    shadows: set[asyncio.Task[Any]] = field(default_factory=set)
    """What is still made and compared, whether or not its request has been answered."""
    _n_turns: int = 0
    _asked: set[str] = field(default_factory=set)

    @property
    def says(self) -> Literal["", "worse", "kept"]:
        """What the questions so far come to."""
        return decided(self.score)

    @property
    def takes_part(self) -> bool:
        """Whether further questions are put to both."""
        return self.state == "running" and not self.says

    def next_is_new(self) -> bool:
        """Return whether the next request is answered by the new weights: evenly spaced, the given share of them."""
        self._n_turns += 1
        return math.floor(self._n_turns * self.share) > math.floor((self._n_turns - 1) * self.share)

    def hear(self, old: Iterable[Run], new: Iterable[Run], problems: Iterable[str]) -> None:
        """Count how both did on `problems`; what has failed gave no runs. A question that comes again counts once."""
        old, new = sorted(old, key=_place), sorted(new, key=_place)
        for problem in dict.fromkeys(problems):
            before, now = (agreement([run.execution for run in runs if run.problem == problem]) for runs in (old, new))
            if before is None or now is None or problem in self._asked or not self.takes_part:
                continue
            self._asked.add(problem)
            outcome = "alike" if before == now else "better" if now > before else "worse"
            self.score = self.score._replace(**{outcome: getattr(self.score, outcome) + 1})
            QUESTIONS.labels(outcome).inc()

    def __post_init__(self) -> None:
        """Show that it runs."""
        RUNNING.set(1)

    def end(self, state: End) -> None:
        """Note how it ended."""
        self.state = state
        ENDED.labels(state).inc()
        RUNNING.set(0)

    def words(self) -> str:
        """Return the evidence in a line."""
        better, worse, alike = self.score
        return (
            f"canary against {self.against.partition(',')[0]}: of {sum(self.score)} questions worse on {worse}, better on {better}, "
            f"alike on {alike}; evidence {evidence(worse, better):.3g}, bound {1 / ALPHA:g}"
        )

    def told(self) -> dict[str, Any]:
        """Return its state for `/health`."""
        found = {"weights": self.name, "against": self.against, "share": self.share, "state": self.state}
        return found | self.score._asdict() | {"evidence": round(evidence(self.score.worse, self.score.better), 3)}


@dataclass
class Turn:
    """Who answers a request."""

    weights: str | None
    """What the source calls the weights whose answer goes out."""
    trial: Trial | None = None
    """That it takes part in."""
    by_new: bool = False
    shadow: asyncio.Task[list[Run]] | None = None
    """In which the other weights answer it, too."""

    @property
    def other(self) -> str | None:
        """What the source calls the other weights; None where there is no trial."""
        return None if self.trial is None else self.trial.against if self.by_new else self.trial.name


async def both(
    trial: Trial, turn: Turn, problems: Sequence[str], old: Answering, new: Answering, deadline_s: float
) -> AsyncGenerator[Run, None]:
    """Yield what goes out for a request that takes part in `trial`, and have the trial hear of both once they are through.

    Where the new weights fail, or give nothing in half the time there is, `turn` says so and the old ones' answer goes out.
    """
    theirs = _begun(trial, _whole(new, deadline_s))
    mine: asyncio.Task[list[Run]] | None = None
    ours: list[Run] = []
    try:
        if turn.by_new:
            mine = _begun(trial, _whole(old, deadline_s))
            await asyncio.wait({theirs}, timeout=deadline_s / 2)
            if not theirs.done() or theirs.exception():
                turn.by_new, turn.weights = False, trial.against
            turn.shadow = mine if turn.by_new else theirs
            for run in theirs.result() if turn.by_new else await mine:
                yield run
        else:
            turn.shadow = theirs
            async with contextlib.aclosing(old()) as runs:
                async for run in runs:
                    ours.append(run)
                    yield run
    except BaseException:  # the client has left, or the old weights failed
        for task in filter(None, (theirs, mine)):
            task.cancel()
        raise

    async def compare() -> None:
        trial.hear(await or_nothing(mine) if mine else ours, await or_nothing(theirs), problems)

    _begun(trial, compare())


def _begun(trial: Trial, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.ensure_future(work)
    trial.shadows.add(task)
    task.add_done_callback(trial.shadows.discard)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is told where it is waited for
    return task


async def _whole(answering: Answering, deadline_s: float) -> list[Run]:
    async with asyncio.timeout(deadline_s), contextlib.aclosing(answering()) as runs:
        return [run async for run in runs]


async def or_nothing(task: asyncio.Future[list[Run]]) -> list[Run]:
    """Return what `task` gives, nothing if it fails."""
    try:
        return await task
    except Exception as e:  # of whichever engine; it has no program that ran
        log.warning("no programs for a question of the trial: %s", e)
        return []


def _place(run: Run) -> tuple[str, int]:
    return run[:2]
