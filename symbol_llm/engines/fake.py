"""An engine without a model, for tests of what is not about models. Replies come from a function of prompt and draw.

FakeEngine(lambda messages, index: "answer = 4")
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from symbol_llm.engines import Completion, Ended, Engine, Request
from symbol_llm.ground import files
from symbol_llm.ground.records import Messages, content_id

Writer = Callable[[Messages, int], str]


def start(checkpoint: Path, *, batch: int, n_engines: int = 1) -> FakeEngine:
    """Return an engine that answers from `checkpoint/replies.json`: question text to a list of replies, drawn by seed."""
    del batch, n_engines
    engine = FakeEngine(lambda messages, index: "")
    engine.load(checkpoint)
    return engine


class FakeEngine(Engine):
    """Replies by rule, deterministic in all arguments; log-probability falls with length."""

    name = "fake"
    runs_on = "none"

    def __init__(self, write: Writer) -> None:
        """`write(messages, index)` gives reply number `index` to a prompt."""
        self.write = write

    def load(self, checkpoint: Path) -> None:
        """Take the replies of `checkpoint/replies.json`; each key is looked for in the last message, the first found answers."""
        replies: dict[str, list[str]] = files.read_json(checkpoint / "replies.json")

        def write(messages: Messages, index: int) -> str:
            text = messages[-1]["content"]
            found = next((rows for key, rows in replies.items() if key in text), [""])
            return found[index % len(found)]

        self.write = write

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        """See `Engine.stream`."""
        for number, (prompts, sampling, _) in enumerate(requests):
            for place, prompt in enumerate(prompts):
                indices = range(sampling.n) if sampling.temperature else [0] * sampling.n
                texts = (self.write(prompt, i) for i in indices)
                cut = (" ".join(text.split(" ")[: sampling.max_tokens]) for text in texts)
                yield Ended(number, place, [_completion(prompt, text) for text in cut])

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """See `Engine.score`."""
        return [_completion(p, r) for p, r in zip(prompts, replies, strict=True)]


def _completion(messages: Messages, reply: str) -> Completion:
    noise = random.Random(content_id(messages, reply)).random()  # noqa: S311 - a stand-in for a probability
    return Completion(reply, len(reply.split()) + 1, -0.1 - noise / 10 - len(reply) / 1000)
