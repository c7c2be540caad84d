"""Engines: one file each behind one interface. `start` opens the one asked for; `weights.py` finds the weights."""

from __future__ import annotations

import importlib
import importlib.util
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Messages

NAMES = ("transformers", "vllm", "openai", "fake")


class Completion(NamedTuple):
    """One sampled reply: its text, its token count (end of turn included), its mean log-probability per token."""

    text: str
    n_tokens: int
    logprob: float


class Sampling(NamedTuple):
    """How replies are drawn: `n` a prompt, each of at most `max_tokens`; temperature 0 is greedy."""

    n: int
    temperature: float
    top_p: float
    max_tokens: int


class Request(NamedTuple):
    """Prompts that are sampled together under one seed. Its replies do not depend on what else is asked."""

    prompts: Sequence[Messages]
    sampling: Sampling
    seed: int

    @property
    def n_drawn(self) -> int:
        """How many replies are drawn a prompt: one where all would be the same."""
        return self.sampling.n if self.sampling.temperature > 0 else 1

    def seed_of(self, place: int, nth: int | None = None) -> int:
        """Return the seed of the replies to the prompt at `place`, or of its reply number `nth` alone."""
        drawn = f"{self.seed}:{place}" if nth is None else f"{self.seed}:{place}:{nth}"
        return random.Random(drawn).getrandbits(31)  # noqa: S311 - sampling


class Ended(NamedTuple):
    """The replies to one prompt, all of which have ended."""

    request: int
    place: int
    """Of the prompt in its request."""
    completions: list[Completion]


class Written(NamedTuple):
    """One reply to one prompt, as far as it is written."""

    request: int
    place: int
    """Of the prompt in its request."""
    nth: int
    """Of the replies to the prompt, from 0."""
    completion: Completion
    has_ended: bool


class Intake(Protocol):
    """Requests that come while others are answered, numbered from 0 in the order in which they are taken."""

    def take(self) -> Sequence[Request]:
        """Return those that have come since, without waiting for any."""

    def ring(self, bell: Callable[[], None]) -> None:
        """Have `bell` called, in whichever thread, each time that there is something to take, for an engine that waits."""

    def wants(self, request: int, place: int) -> bool:
        """Return whether replies to the prompt at `place` are still waited for."""

    def watches(self, request: int) -> bool:
        """Return whether replies are waited for as they are written, and not only their ends."""

    def refuse(self, request: int, error: InvalidInput) -> None:
        """Hear that `request`, and no other, cannot be answered; nothing more comes of it."""


class Engine(ABC):
    """What every engine does. Log-probabilities are the model's own, at temperature 1, whatever the sampling."""

    name: ClassVar[str]
    runs_on: str
    """What it runs on: `cpu`, the name of a GPU, the address of an endpoint."""
    reads: int = 0
    """Tokens that it reads at most, the reply included, whatever the weights; 0: as many as the weights do."""

    @abstractmethod
    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        """Yield the replies to each prompt as they end. Equal requests give equal replies, in any order."""

    def serve(self, intake: Intake) -> Iterator[Written]:
        """Yield each reply to what `intake` has, until nothing is left; replies that nobody wants any more are given up.

        Requests join those that are being answered, where the engine can have them do so; what else is asked then changes
        replies by rounding. Where it cannot, as here, those that have come meanwhile are answered next, and all of them together.
        """
        first = 0
        while requests := intake.take():
            wanted = {(n, place) for n, request in enumerate(requests, first) for place in range(len(request.prompts))}
            for number, place, completions in self.stream(requests):
                wanted.discard((first + number, place))
                for index, completion in enumerate(completions):
                    yield Written(first + number, place, index, completion, has_ended=True)
                if not any(intake.wants(*prompt) for prompt in wanted):
                    break
            first += len(requests)

    @abstractmethod
    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """Return each reply with its token count and mean log-probability under its prompt."""

    @abstractmethod
    def load(self, checkpoint: Path) -> None:
        """Take the weights of `checkpoint` in place of the present ones."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give up what outlives this object, such as a process; it is not asked any more."""

    def generate(
        self, prompts: Sequence[Messages], *, n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[Completion]]:
        """Return `n` replies a prompt, in the order of `prompts`: one request, waited for."""
        ended = self.stream([Request(prompts, Sampling(n, temperature, top_p, max_tokens), seed)])
        return [e.completions for e in sorted(ended, key=lambda e: e.place)]


def ran(engine: Engine, split: str) -> dict[str, str]:
    """Return what a manifest says of the work of `engine` on the problems of `split`."""
    return {"engine": engine.name, "device": engine.runs_on, "split": split}


def start(name: str, checkpoint: Path, *, batch: int = 64, n_engines: int = 1) -> Engine:
    """Return an engine on `checkpoint`; `auto` takes vLLM where it can be imported, else transformers.

    Of `n_engines` that this process holds at once, and asks at once from a thread each, every one takes its share of a GPU.
    """
    if name == "auto":
        name = "vllm" if importlib.util.find_spec("vllm") else "transformers"
    if name not in NAMES:
        raise InvalidInput(f"unknown engine {name!r}; have auto, {', '.join(NAMES)}")
    engine: Engine = importlib.import_module(f"{__name__}.{name}").start(checkpoint, batch=batch, n_engines=n_engines)
    return engine
