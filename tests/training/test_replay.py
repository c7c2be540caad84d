"""Replay: which items are answered, in which batch, and that the order they come in does not matter."""

from collections.abc import Iterator, Sequence

import pytest

from symbol_llm.engines import Completion, Ended, Request
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground.params import Replay
from symbol_llm.ground.records import GeneralItem
from symbol_llm.training.replay import replay


class SeedEngine(FakeEngine):
    """Replies with the prompt and the seed it was asked with, as a model's reply depends on both."""

    def __init__(self) -> None:
        super().__init__(lambda messages, index: "")

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        for number, (prompts, sampling, seed) in enumerate(requests):
            for place, chat in enumerate(prompts):
                yield Ended(number, place, [Completion(f"{chat[-1]['content']} {seed}", 3, -0.1)] * sampling.n)


def item(name: str) -> GeneralItem:
    reply = "Brought along." if name == "b" else None
    return GeneralItem(id=name, split="train", prompt=f"Prompt {name}", reply=reply, source="t", licence="t")


@pytest.mark.parametrize("order", ["abcdef", "fedcba", "cfbead"])
def test_order_of_items_changes_neither_choice_nor_reply_nor_order_of_rows(order: str) -> None:
    """Of six items the first four by id are taken; b has its reply, a and c go in the first batch of two, d in the next."""
    rows = replay([item(name) for name in order], SeedEngine(), Replay(n=4, batch=2, seed=7))
    assert {row.problem: row.completion for row in rows} == {
        "a": "Prompt a 7",
        "b": "Brought along.",
        "c": "Prompt c 7",
        "d": "Prompt d 8",
    }
    assert [row.id for row in rows] == sorted(row.id for row in rows)
