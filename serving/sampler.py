"""One thread that generates for all requests. Those that come while it is busy join what is being generated.

Weights are changed when nothing is being generated: what is asked after the change was is answered by the new ones.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from symbol_llm.engines import Engine, Request, Written
from symbol_llm.engines.chat import prompt_ids
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable
from symbol_llm.ground.records import Messages

log = logging.getLogger(__name__)
PROBE: Messages = [{"role": "user", "content": "1 + 1 ="}]


@dataclass
class Job:
    """What one caller wants generated."""

    requests: Sequence[Request]
    take: Callable[[Written], None]
    """Called in the generating thread with each reply, whose `request` is the place in `requests`."""
    watches: bool = False
    """Whether `take` is called with replies that are not whole, too."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once nobody waits for it any more."""
    spared: set[tuple[int, int]] = field(default_factory=set)
    """Prompts to which no more replies are needed, by their request and place."""
    done: Future[None] = field(default_factory=Future)
    began: float = 0.0
    """When it was begun, on the monotonic clock."""
    n_tokens: int = 0
    """Sampled for it so far, in replies that have ended."""
    n_prompt: int | None = None
    """Tokens of its prompts, once each; None while they are not counted, or where the engine has no tokenizer here."""

    def end(self, error: Exception | None = None) -> None:
        """Tell who waits for it that it is done or what went wrong, unless they were told or have left."""
        with contextlib.suppress(InvalidStateError):
            if error:
                self.done.set_exception(error)
            else:
                self.done.set_result(None)


class Sampler:
    """An engine and the thread that alone uses it."""

    def __init__(self) -> None:
        """Start the thread, which ends with the process; there is no engine yet."""
        self.engine: Engine | None = None
        self.reads = 0
        """Tokens that the model reads at most, the reply included; 0: not known."""
        self.is_broken = False
        self._work: deque[Job | Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self.bell: Callable[[], None] = _silent
        """Called when there is work."""
        threading.Thread(target=self._run, name="generate", daemon=True).start()

    def sample(self, job: Job) -> Future[None]:
        """Have `job` done. Its future raises what the engine raises, and is cancelled once it is gone."""
        self._add(job)
        return job.done

    def call(self, what: Callable[[], Any]) -> Future[Any]:
        """Have `what` called once all that was asked before is answered; what is asked later waits for it."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(what())
            except BaseException as e:  # the thread goes on; who waits is told
                done.set_exception(e)

        self._add(run)
        return done

    def take(self, engine: Engine | None, reads: int = 0) -> Engine | None:
        """Go on with `engine`, and return the one of before; runs in the thread, while nothing is generated."""
        self.engine, before = engine, self.engine
        self.reads, self.is_broken = reads, False
        return before

    def probe(self) -> None:
        """Generate one token, in the calling thread; whatever the engine raises passes through."""
        if self.engine is None:
            raise Unavailable("there is no engine yet")
        self.engine.generate([PROBE], n=1, temperature=0.0, top_p=1.0, max_tokens=1, seed=0)

    def next_job(self) -> Job | None:
        """Return the job that is next, None if there is none or something else is to be done first; in the thread alone."""
        with self._changed:
            if self._work and isinstance(self._work[0], Job):
                return self._work.popleft()  # type: ignore[return-value] # it was looked at
        return None

    def can_do(self, job: Job) -> bool:
        """Return whether `job` is to be done: not if it is gone, nor if the model cannot read it, which its caller alone is told."""
        if job.gone.is_set():
            job.done.cancel()
            return False
        tok = getattr(self.engine, "tok", None)
        if tok is None:
            return True
        try:
            job.n_prompt = sum(
                self._length(tok, prompt, r.sampling.max_tokens) for r in job.requests for prompt in r.prompts
            )
        except InvalidInput as e:
            job.end(e)
            return False
        return True

    def _add(self, work: Job | Callable[[], None]) -> None:
        with self._changed:
            self._work.append(work)
            self._changed.notify()
        self.bell()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work)
                work = None if isinstance(self._work[0], Job) else self._work.popleft()
            if callable(work):
                work()
            else:
                self._generate()

    def _generate(self) -> None:
        """Do the jobs that are next, and those that come meanwhile."""
        intake = _Jobs(self)
        try:
            if self.engine is None:
                intake.take()
                raise Unavailable("there is no model to ask yet")
            with contextlib.closing(self.engine.serve(intake)) as written:  # type: ignore[type-var]
                for one in written:
                    intake.give(one)
            intake.sweep()
        except Exception as e:  # of the engine; each caller is told
            if not isinstance(e, SymbolLLMError):
                self.is_broken = not self._gives_a_token()
            intake.fail(e)
        finally:
            self.bell = _silent

    def _length(self, tok: Any, prompt: Messages, max_tokens: int) -> int:
        try:
            n = len(prompt_ids(tok, prompt))
        except Exception as e:  # of a template that came with the model
            why = " ".join(str(e).split())
            raise InvalidInput(f"the model's chat template refuses the messages: {why}") from e
        if self.reads and n + max_tokens > self.reads:
            raise InvalidInput(f"{n} tokens and {max_tokens} for the reply: the model reads {self.reads} together")
        return n

    def _gives_a_token(self) -> bool:
        try:
            self.probe()
        except Exception:
            log.exception("the engine gives no token any more")
            return False
        return True


def _silent() -> None:
    """Nobody waits."""


class _Jobs:
    """The jobs under way, as an engine takes them in."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._n_taken = 0
        self._asked: dict[int, tuple[Job, int]] = {}
        """By the number of a request that was taken, its job and its place there, until the job has ended."""
        self._left: dict[int, Counter[tuple[int, int]]] = {}
        """By the first such number of a job, how many replies have not ended, by request and place."""

    def take(self) -> list[Request]:
        """See `Intake`."""
        self.sweep()
        return [request for job in iter(self._sampler.next_job, None) for request in self._begun(job)]

    def sweep(self) -> None:
        """End the jobs that need no more replies."""
        for first, left in list(self._left.items()):
            job, _ = self._asked[first]
            if job.gone.is_set() or left.keys() <= job.spared:
                self._end(first)

    def _begun(self, job: Job) -> Sequence[Request]:
        if not self._sampler.can_do(job):
            return []
        job.began = time.monotonic()
        left = {(n, place): r.sampling.n for n, r in enumerate(job.requests) for place in range(len(r.prompts))}
        self._left[self._n_taken] = Counter(left)
        self._asked |= {self._n_taken + number: (job, number) for number in range(len(job.requests))}
        self._n_taken += len(job.requests)
        return job.requests

    def ring(self, bell: Callable[[], None]) -> None:
        """See `Intake`."""
        self._sampler.bell = bell

    def wants(self, request: int, place: int) -> bool:
        """See `Intake`."""
        job, number = self._asked.get(request, (None, 0))
        return job is not None and not (job.gone.is_set() or job.done.done() or (number, place) in job.spared)

    def watches(self, request: int) -> bool:
        """See `Intake`."""
        job, _ = self._asked.get(request, (None, 0))
        return job is not None and job.watches

    def refuse(self, request: int, error: InvalidInput) -> None:
        """See `Intake`."""
        if request in self._asked:
            job, number = self._asked[request]
            job.end(error)
            self._end(request - number)

    def give(self, written: Written) -> None:
        """Hand `written` to who asked."""
        if written.request not in self._asked:
            return
        job, number = self._asked[written.request]
        if written.has_ended:
            job.n_tokens += written.completion.n_tokens
        if not self.wants(written.request, written.place):
            return
        job.take(written._replace(request=number))
        first = written.request - number
        if written.has_ended:
            self._left[first] -= Counter([(number, written.place)])
        if not self._left[first]:
            self._end(first)

    def _end(self, first: int) -> None:
        """End the job whose first request has the number `first`."""
        job, _ = self._asked[first]
        del self._left[first]
        for number in range(len(job.requests)):
            del self._asked[first + number]
        if job.gone.is_set():
            job.done.cancel()
        else:
            job.end()

    def fail(self, error: Exception) -> None:
        """Tell all whose jobs have not ended what went wrong."""
        if not self._n_taken:  # the engine broke before it took anything, and would again
            self.take()
        for first in self._left:
            self._asked[first][0].end(error)
