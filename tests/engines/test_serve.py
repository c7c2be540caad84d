"""Requests that come while others are answered, by the real 135M model: they join, and are given up, and change no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from symbol_llm import engines
from symbol_llm.engines import Engine, Request, Sampling, Written
from symbol_llm.engines.decoding import growing_cache
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground.records import Messages
from tests.engines.intake import Script

FRANCE: Messages = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
COUNT: Messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count from one to five."}]
LONG: Messages = [{"role": "user", "content": "Tell me a story about a fox, a crow and a piece of cheese. " * 3}]


def asked(*prompts: Messages, n: int = 1, temperature: float = 0.0, max_tokens: int = 8, seed: int = 0) -> Request:
    return Request(prompts, Sampling(n, temperature, 1.0, max_tokens), seed)


@pytest.fixture(scope="module")
def engine(smollm: Path) -> Engine:
    made = engines.start("transformers", smollm, batch=8)
    made.model.float()  # type: ignore[attr-defined] # in bf16, rounding hides what this is about
    return made


def texts(written: Iterator[Written]) -> dict[tuple[int, int, int], str]:
    """Return what has ended, each reply once."""
    ended = [w for w in written if w.has_ended]
    found = {(w.request, w.place, w.nth): w.completion.text for w in ended}
    assert len(found) == len(ended)
    return found


def alone(engine: Engine, request: Request) -> dict[tuple[int, int, int], str]:
    return texts(engine.serve(Script([request])))


REQUESTS = (
    asked(COUNT, max_tokens=12),
    asked(FRANCE, n=3, temperature=1.0, seed=5),
    asked(LONG, COUNT, n=2, temperature=0.8, max_tokens=10, seed=7),
    asked(FRANCE, n=2, max_tokens=6),
)


@pytest.mark.model
@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([[*REQUESTS]], id="at once"),
        pytest.param([[one] for one in REQUESTS], id="a token apart"),
        pytest.param([[REQUESTS[0]], [], [], [], [REQUESTS[1]], [], [*REQUESTS[2:]]], id="in the midst"),
        pytest.param([[REQUESTS[0]], *[[]] * 30, [*REQUESTS[1:]]], id="after the end"),
    ],
)
def test_replies_are_the_same_whenever_others_join(engine: Engine, looks: Any) -> None:
    script = Script(*looks)
    found = texts(engine.serve(script))
    rest = [request for look in script.looks for request in look]  # where nothing was left, the engine has ended
    found |= {(len(REQUESTS) - len(rest) + n, p, i): t for (n, p, i), t in texts(engine.serve(Script(rest))).items()}
    for number, request in enumerate(REQUESTS):
        own = {(number, place, nth): text for (_, place, nth), text in alone(engine, request).items()}
        assert {key: text for key, text in found.items() if key[0] == number} == own


@pytest.mark.model
def test_greedy_replies_are_those_of_generate(engine: Engine) -> None:
    whole = engine.generate([FRANCE, COUNT], n=1, temperature=0, top_p=1, max_tokens=8, seed=0)
    found = alone(engine, asked(FRANCE, COUNT))
    assert [found[0, place, 0] for place in (0, 1)] == [row[0].text for row in whole]


@pytest.mark.model
def test_more_than_a_batch_holds_is_answered_in_the_order_in_which_it_came(engine: Engine) -> None:
    requests = [asked(COUNT, n=5, temperature=1.0, max_tokens=4, seed=seed) for seed in range(4)]
    ended = [w for w in engine.serve(Script(requests)) if w.has_ended]
    last = [max(at for at, w in enumerate(ended) if w.request == number) for number in range(4)]
    assert (len(ended), last) == (20, sorted(last))


@pytest.mark.model
def test_what_nobody_wants_any_more_is_given_up_and_the_others_go_on(engine: Engine) -> None:
    script = Script([asked(LONG, max_tokens=200), asked(COUNT, max_tokens=12)])
    found: list[Written] = []
    for written in engine.serve(script):
        found.append(written)
        script.unwanted.add((0, 0))
    assert [(w.request, w.has_ended) for w in found] == [(1, True)]
    assert found[0].completion.text == alone(engine, asked(COUNT, max_tokens=12))[0, 0, 0]


@pytest.mark.model
def test_nothing_is_left_of_an_intake_that_was_left_in_the_midst(engine: Engine) -> None:
    written = engine.serve(Script([asked(LONG, max_tokens=50), asked(FRANCE)], watched=[0]))
    next(written)
    written.close()  # type: ignore[attr-defined] # it is a generator
    assert alone(engine, asked(FRANCE)) == alone(engine, asked(FRANCE))


@pytest.mark.model
def test_watched_replies_are_told_token_by_token(engine: Engine) -> None:
    told = list(engine.serve(Script([asked(COUNT, max_tokens=12), asked(FRANCE)], watched=[0])))
    grown = [w.completion for w in told if w.request == 0]
    assert [c.n_tokens for c in grown] == list(range(1, len(grown) + 1))
    assert all(after.text.startswith(before.text) for before, after in zip(grown, grown[1:], strict=False))
    assert [w.has_ended for w in told if w.request == 1] == [True]
    assert [w.has_ended for w in told if w.request == 0] == [False] * (len(grown) - 1) + [True]


@pytest.mark.model
def test_batch_that_is_joined_for_ever_does_not_grow_for_ever(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    step: Callable[..., Any] = engine._step  # type: ignore[attr-defined]
    monkeypatch.setattr(engine, "_step", lambda batch: (widths.append(batch.width), step(batch))[1])
    looks = [[asked(FRANCE, max_tokens=6)] if n % 3 == 0 else [] for n in range(60)]
    assert len(texts(engine.serve(Script(*looks)))) == 20
    assert max(widths) <= widths[0] + 2 * 6


def test_engine_that_cannot_have_requests_join_answers_them_next() -> None:
    fake = FakeEngine(lambda messages, index: f"{messages[-1]['content']} {index}")
    script = Script([asked(FRANCE, n=2, temperature=1.0)], [asked(COUNT)])
    assert [key for key, _ in sorted(texts(fake.serve(script)).items())] == [(0, 0, 0), (0, 0, 1), (1, 0, 0)]


def test_joined_caches_hold_each_row_at_its_right_end() -> None:
    def filled(n_rows: int, width: int, first: int) -> Any:
        cache = growing_cache()
        states = torch.arange(first, first + n_rows * width, dtype=torch.float)
        cache.update(*[states.view(n_rows, 1, width, 1)] * 2, 0)
        return cache

    ours, theirs = filled(2, 5, 1), filled(1, 2, 100)
    ours.layers[0].join(theirs.layers[0], 2)
    assert ours.layers[0].keys[:, 0, :, 0].tolist() == [[3, 4, 5], [8, 9, 10], [0, 100, 101]]
    ours.update(torch.full((3, 1, 1, 1), 7.0), torch.full((3, 1, 1, 1), 7.0), 0)
    assert ours.layers[0].values[:, 0, :, 0].tolist() == [[3, 4, 5, 7], [8, 9, 10, 7], [0, 100, 101, 7]]
