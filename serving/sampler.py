"""One thread that generates for all requests. Those that have come while it was busy share its next batch."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from symbol_llm.engines import Completion, Engine, Request
from symbol_llm.engines.chat import prompt_ids
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable
from symbol_llm.ground.records import Messages

log = logging.getLogger(__name__)
PROBE: Messages = [{"role": "user", "content": "1 + 1 ="}]


@dataclass
class Job:
    """What one caller wants generated."""

    requests: Sequence[Request]
    take: Callable[[int, int, list[Completion]], None]
    """Called in the generating thread with the number of the request, the place of the prompt, and its replies."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once nobody waits for it any more."""
    done: Future[None] = field(default_factory=Future)
    began: float = 0.0
    """When its batch began, on the monotonic clock."""
    n_tokens: int = 0
    """Sampled for it so far."""
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
        self._work: queue.SimpleQueue[Job | Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="generate", daemon=True).start()

    def sample(self, job: Job) -> Future[None]:
        """Have `job` done in the next batch. Its future raises what the engine raises, and is cancelled once it is gone."""
        self._work.put(job)
        return job.done

    def call(self, what: Callable[[], Any]) -> Future[Any]:
        """Have `what` called between two batches."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(what())
            except BaseException as e:  # the thread goes on; who waits is told
                done.set_exception(e)

        self._work.put(run)
        return done

    def take(self, engine: Engine | None, reads: int = 0) -> Engine | None:
        """Go on with `engine`, and return the one of before; runs in the thread, so between two batches."""
        self.engine, before = engine, self.engine
        self.reads, self.is_broken = reads, False
        return before

    def probe(self) -> None:
        """Generate one token, in the calling thread; whatever the engine raises passes through."""
        if self.engine is None:
            raise Unavailable("there is no engine yet")
        self.engine.generate([PROBE], n=1, temperature=0.0, top_p=1.0, max_tokens=1, seed=0)

    def _run(self) -> None:
        while True:
            work = [self._work.get()]
            while not self._work.empty():
                work.append(self._work.get())
            batch: list[Job] = []
            for one in work:
                if isinstance(one, Job):
                    batch.append(one)
                else:
                    self._batch(batch)
                    batch = []
                    one()
            self._batch(batch)

    def _batch(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if not (job.gone.is_set() and job.done.cancel()) and self._can_read(job)]
        if not jobs:
            return
        try:
            self._generate(jobs)
        except Exception as e:  # of the engine; each caller is told
            if not isinstance(e, SymbolLLMError):
                self.is_broken = not self._gives_a_token()
            for job in jobs:
                job.end(e)

    def _can_read(self, job: Job) -> bool:
        """Count the tokens of the prompts of `job`; what the model cannot read is refused here, to its caller alone."""
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

    def _length(self, tok: Any, prompt: Messages, max_tokens: int) -> int:
        try:
            n = len(prompt_ids(tok, prompt))
        except Exception as e:  # of a template that came with the model
            why = " ".join(str(e).split())
            raise InvalidInput(f"the model's chat template refuses the messages: {why}") from e
        if self.reads and n + max_tokens > self.reads:
            raise InvalidInput(f"{n} tokens and {max_tokens} for the reply: the model reads {self.reads} together")
        return n

    def _generate(self, jobs: list[Job]) -> None:
        if self.engine is None:
            raise Unavailable("there is no model to ask yet")
        for job in jobs:
            job.began = time.monotonic()
        asked = [(job, number) for job in jobs for number in range(len(job.requests))]
        left = {id(job): sum(len(request.prompts) for request in job.requests) for job in jobs}
        stream = self.engine.stream([job.requests[number] for job, number in asked])
        with contextlib.closing(stream) as replies:  # type: ignore[type-var]
            for at, place, completions in replies:
                job, number = asked[at]
                job.n_tokens += sum(completion.n_tokens for completion in completions)
                if not job.gone.is_set():
                    job.take(number, place, completions)
                left[id(job)] -= 1
                if not left[id(job)]:
                    job.end()
                if all(j.done.done() or j.gone.is_set() for j in jobs):
                    break
        for job in jobs:
            if not job.done.done():
                job.done.cancel()

    def _gives_a_token(self) -> bool:
        try:
            self.probe()
        except Exception:
            log.exception("the engine gives no token any more")
            return False
        return True
