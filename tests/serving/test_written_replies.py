"""Replies as they are written: what is held back, where they are cut, and when no more is written of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.replies import Choice, Replies
from serving.sampler import Sampler
from symbol_llm import engines
from symbol_llm.engines import Completion, Engine, Intake, Request, Sampling, Written
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Messages

HELLO: Messages = [{"role": "user", "content": "Count from one to five."}]


class Typing(FakeEngine):
    """Writes `texts`, a character at each step and in turn, and counts the characters that it wrote."""

    def __init__(self, *texts: str) -> None:
        super().__init__(lambda messages, index: "")
        self.texts = texts
        self.n_written = 0

    def serve(self, intake: Intake) -> Iterator[Written]:
        (request,) = intake.take()
        prompts = range(len(request.prompts))
        for n in itertools.count(1):
            intake.take()
            open_ = [
                (p, i) for p in prompts for i, text in enumerate(self.texts) if n <= len(text) and intake.wants(0, p)
            ]
            if not open_:
                return
            for place, nth in open_:
                self.n_written += 1
                has_ended = n == len(self.texts[nth])
                if has_ended or intake.watches(0):
                    yield Written(0, place, nth, Completion(self.texts[nth][:n], n, 0.0), has_ended)


def shown(engine: Engine, request: Request, *stops: str, as_written: bool = True) -> tuple[list[Choice], Replies]:
    async def ask() -> tuple[list[Choice], Replies]:
        sampler = Sampler()
        await asyncio.wrap_future(sampler.call(lambda: sampler.take(engine)))
        replies = Replies(request, stops, as_written=as_written)
        return [choice async for choice in replies.by(sampler)], replies

    return asyncio.run(ask())


def asking(n: int, max_tokens: int = 99, n_prompts: int = 1) -> Request:
    return Request([HELLO] * n_prompts, Sampling(n, 1.0, 1.0, max_tokens), 0)


def test_reply_grows_and_ends_once() -> None:
    found, _ = shown(Typing("abc"), asking(1))
    assert found == [Choice(0, "a", None), Choice(0, "ab", None), Choice(0, "abc", "stop")]


def test_only_whole_replies_are_shown_unless_they_are_watched() -> None:
    found, _ = shown(Typing("abc", "de"), asking(2), as_written=False)
    assert sorted(found) == [Choice(0, "abc", "stop"), Choice(1, "de", "stop")]


def test_replies_to_several_prompts_are_numbered_through() -> None:
    found, _ = shown(Typing("abc", "de"), asking(2, n_prompts=2), as_written=False)
    assert {c.number: c.text for c in found} == {0: "abc", 1: "de", 2: "abc", 3: "de"}


@pytest.mark.parametrize("as_written", [True, False])
@pytest.mark.parametrize(
    ("text", "stops", "cut"),
    [
        ("one\n\ntwo", ["\n\n"], "one"),
        ("one two three", ["three", "two"], "one "),
        ("a-b--c", ["--"], "a-b"),
        ("one", ["x", ""], "one"),
        ("onetwo", ["one"], ""),
    ],
)
def test_reply_is_cut_at_the_first_stop_and_nothing_of_it_is_shown_before(
    text: str, stops: list[str], cut: str, as_written: bool
) -> None:
    found, _ = shown(Typing(text), asking(1), *stops, as_written=as_written)
    assert found[-1] == Choice(0, cut, "stop")
    assert all(cut.startswith(choice.text) for choice in found)


def test_no_more_is_written_once_all_replies_to_a_prompt_are_cut() -> None:
    engine = Typing("stop" + "x" * 10_000, "and stop" + "x" * 10_000)
    _, replies = shown(engine, asking(2), "stop")
    assert engine.n_written < 10_000
    assert replies.usage is None  # there is no tokenizer that would count the prompt


def test_half_a_character_is_held_back() -> None:
    found, _ = shown(Typing("a\ufffdb"), asking(1))
    assert [c.text for c in found] == ["a", "a", "a\ufffdb"]


def test_reply_that_took_all_its_tokens_says_so() -> None:
    assert shown(Typing("abc"), asking(1, max_tokens=3))[0][-1].finish == "length"


def test_what_the_engine_raises_comes_out() -> None:
    class Refusing(FakeEngine):
        def serve(self, intake: Intake) -> Iterator[Written]:
            intake.take()
            raise InvalidInput("not this")

    with pytest.raises(Exception, match="not this"):
        shown(Refusing(lambda messages, index: ""), asking(1))


@pytest.mark.model
def test_real_model_is_shown_token_by_token_and_its_tokens_are_counted(smollm: Path) -> None:
    engine: Any = engines.start("transformers", smollm, batch=8)
    request = Request([HELLO], Sampling(1, 0.0, 1.0, 12), 0)
    found, replies = shown(engine, request)
    assert len(found) == 12
    assert [c.text for c in found] == sorted(c.text for c in found)
    whole = engine.generate([HELLO], n=1, temperature=0, top_p=1, max_tokens=12, seed=0)[0][0]
    assert found[-1].text == whole.text
    assert replies.usage is not None
    assert replies.usage["completion_tokens"] == whole.n_tokens
