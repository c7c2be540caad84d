"""Replies of the model alone, shown as they are written and cut at the texts where the caller wants them to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Literal, NamedTuple

from serving.programs import sampled, told
from serving.sampler import Job, Sampler
from symbol_llm.engines import Request, Written

TORN = "\ufffd"
"""Stands for the part of a character whose other part is in a token to come."""


class Choice(NamedTuple):
    """A reply as far as it may be shown."""

    number: int
    text: str
    finish: Literal["stop", "length"] | None
    """Why it has ended; None if it has not."""


class Replies:
    """The replies to the prompts of one request. To be made where the event loop runs."""

    def __init__(self, request: Request, stops: Sequence[str], *, as_written: bool) -> None:
        """Cut replies where one of `stops` comes; without `as_written`, only replies that have ended are shown."""
        self._request = request
        self._stops = [stop for stop in stops if stop]
        self._came: asyncio.Queue[Written | None] = asyncio.Queue()
        self._n_tokens: dict[int, int] = {}
        loop = asyncio.get_running_loop()

        def take(written: Written) -> None:
            loop.call_soon_threadsafe(self._came.put_nowait, written)

        self._as_written = as_written
        self._job = Job([request], take, watches=as_written or bool(self._stops))

    @property
    def usage(self) -> dict[str, int] | None:
        """The tokens of the prompts, once each, and those of the replies so far; None where the engine does not count them."""
        if self._job.n_prompt is None:
            return None
        n_written = sum(self._n_tokens.values())
        total = self._job.n_prompt + n_written
        return {"prompt_tokens": self._job.n_prompt, "completion_tokens": n_written, "total_tokens": total}

    async def by(self, sampler: Sampler) -> AsyncGenerator[Choice, None]:
        """Yield each reply as it grows, until all have ended. No more is written once the generator is closed.

        HTTP 400 and 503 as the engine raises.
        """
        n = self._request.sampling.n
        left = set(range(n * len(self._request.prompts)))
        sampling = asyncio.ensure_future(sampled(self._job, sampler))
        sampling.add_done_callback(lambda _: self._came.put_nowait(None))
        try:
            while left:
                written = await self._came.get()
                if written is None:
                    told(sampling)
                    continue
                choice = self._choice(written)
                if choice.number not in left:
                    continue
                self._n_tokens[choice.number] = written.completion.n_tokens
                if choice.finish:
                    left.discard(choice.number)
                    if not left & set(range(n * written.place, n * (written.place + 1))):
                        self._job.spared.add((0, written.place))
                if choice.finish or self._as_written:
                    yield choice
        finally:
            self._job.gone.set()
            sampling.cancel()

    def _choice(self, written: Written) -> Choice:
        sampling, text = self._request.sampling, written.completion.text
        index = written.place * sampling.n + written.nth
        ends = [text.index(stop) for stop in self._stops if stop in text]
        if ends:
            return Choice(index, text[: min(ends)], "stop")
        if written.has_ended:
            return Choice(index, text, "length" if written.completion.n_tokens >= sampling.max_tokens else "stop")
        return Choice(index, text[: len(text) - self._n_held(text)], None)

    def _n_held(self, text: str) -> int:
        """Return how many characters at the end of `text` may turn out to be part of a stop, or of a character."""
        begun = (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max([len(text) - len(text.rstrip(TORN)), *begun])
