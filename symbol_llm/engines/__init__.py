"""Engines: one file each behind one interface. `start` opens the one asked for; `weights.py` finds the weights."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

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


class Ended(NamedTuple):
    """The replies to one prompt, all of which have ended."""

    request: int
    place: int
    """Of the prompt in its request."""
    completions: list[Completion]


class Engine(ABC):
    """What every engine does. Log-probabilities are the model's own, at temperature 1, whatever the sampling."""

    name: ClassVar[str]
    runs_on: str
    """What it runs on: `cpu`, the name of a GPU, the address of an endpoint."""
    together: bool = False
    """Let prompts of several requests share a batch: faster for many small requests, and what else is asked then changes
    replies by rounding. vLLM always does."""

    @abstractmethod
    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        """Yield the replies to each prompt as they end. Equal requests give equal replies, in any order."""

    @abstractmethod
    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """Return each reply with its token count and mean log-probability under its prompt."""

    @abstractmethod
    def load(self, checkpoint: Path) -> None:
        """Take the weights of `checkpoint` in place of the present ones."""

    def generate(
        self, prompts: Sequence[Messages], *, n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[Completion]]:
        """Return `n` replies a prompt, in the order of `prompts`: one request, waited for."""
        ended = self.stream([Request(prompts, Sampling(n, temperature, top_p, max_tokens), seed)])
        return [e.completions for e in sorted(ended, key=lambda e: e.place)]


def ran(engine: Engine, split: str) -> dict[str, str]:
    """Return what a manifest says of the work of `engine` on the problems of `split`."""
    return {"engine": engine.name, "device": engine.runs_on, "split": split}


def start(name: str, checkpoint: Path, *, batch: int = 64) -> Engine:
    """Return an engine on `checkpoint`; `auto` takes vLLM where it can be imported, else transformers."""
    if name == "auto":
        name = "vllm" if importlib.util.find_spec("vllm") else "transformers"
    if name not in NAMES:
        raise InvalidInput(f"unknown engine {name!r}; have auto, {', '.join(NAMES)}")
    engine: Engine = importlib.import_module(f"{__name__}.{name}").start(checkpoint, batch=batch)
    return engine
