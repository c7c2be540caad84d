"""Engines: one file each behind one protocol. `start` opens the one asked for; `weights.py` finds the weights."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Messages

NAMES = ("transformers", "vllm", "openai", "fake")


class Completion(NamedTuple):
    """One sampled reply: its text, its token count (end of turn included), its mean log-probability per token."""

    text: str
    n_tokens: int
    logprob: float


class Engine(Protocol):
    """What every engine does. Log-probabilities are the model's own, at temperature 1, whatever the sampling."""

    name: str

    def generate(
        self, prompts: Sequence[Messages], *, n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[Completion]]:
        """Return `n` replies a prompt, in order; temperature 0 is greedy. Equal arguments give equal replies."""

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """Return each reply with its token count and mean log-probability under its prompt."""

    def load(self, checkpoint: Path) -> None:
        """Take the weights of `checkpoint` in place of the present ones."""


def start(name: str, checkpoint: Path, *, batch: int = 64) -> Engine:
    """Return an engine on `checkpoint`; `auto` takes vLLM where it can be imported, else transformers."""
    if name == "auto":
        name = "vllm" if importlib.util.find_spec("vllm") else "transformers"
    if name not in NAMES:
        raise InvalidInput(f"unknown engine {name!r}; have auto, {', '.join(NAMES)}")
    engine: Engine = importlib.import_module(f"{__name__}.{name}").start(checkpoint, batch=batch)
    return engine
