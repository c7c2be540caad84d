"""The vLLM engine against the real vLLM: `make test-vllm`. Skipped where vLLM is not installed."""

import importlib.util
from pathlib import Path

import pytest

from symbol_llm import engines
from symbol_llm.engines import Engine, Request, Sampling
from symbol_llm.ground.records import Messages
from tests.checkpoints import muted
from tests.engines.intake import Script

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-vllm`"),
]
FRANCE: Messages = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]


@pytest.fixture(scope="module")
def engine(smollm: Path) -> Engine:
    """Give the engine that `auto` takes here."""
    return engines.start("auto", smollm, batch=8)


@pytest.fixture(scope="module")
def other(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give weights that say other things."""
    return muted(smollm, tmp_path_factory.mktemp("other") / "model", [29])


def greedy(engine: Engine) -> str:
    return engine.generate([FRANCE], n=1, temperature=0, top_p=1, max_tokens=12, seed=0)[0][0].text


def test_auto_takes_vllm_where_it_is_installed(engine: Engine) -> None:
    assert engine.name == "vllm"


def test_greedy_reply_knows_the_capital_of_france(engine: Engine) -> None:
    assert "Paris" in greedy(engine)


def test_equal_seeds_give_equal_samples(engine: Engine) -> None:
    def draw(seed: int) -> list[str]:
        rows = engine.generate([FRANCE, FRANCE], n=3, temperature=1, top_p=1, max_tokens=10, seed=seed)
        return [c.text for row in rows for c in row]

    assert draw(1) == draw(1) != draw(2)


def test_scored_logprob_is_the_sampled_one(engine: Engine) -> None:
    ((reply,),) = engine.generate([FRANCE], n=1, temperature=0, top_p=1, max_tokens=30, seed=0)
    (scored,) = engine.score([FRANCE], [reply.text])
    assert scored.n_tokens == reply.n_tokens
    assert scored.logprob == pytest.approx(reply.logprob, abs=0.15)


def test_weights_are_swapped_in_place_and_back(engine: Engine, smollm: Path, other: Path) -> None:
    before, llm = greedy(engine), engine.llm  # type: ignore[attr-defined]
    engine.load(other)
    assert greedy(engine) != before
    engine.load(smollm)
    assert greedy(engine) == before
    assert engine.llm is llm  # type: ignore[attr-defined]


def asked(n: int = 1, temperature: float = 0.0, max_tokens: int = 12, seed: int = 0) -> Request:
    return Request([FRANCE], Sampling(n, temperature, 1.0, max_tokens), seed)


def test_requests_join_those_under_way_and_each_reply_is_told_once(engine: Engine) -> None:
    told = [w for w in engine.serve(Script([asked(max_tokens=30)], [], [asked(n=3, temperature=1.0), asked(n=2)]))]
    assert sorted((w.request, w.nth) for w in told) == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    assert all(w.has_ended for w in told)
    assert {w.completion.text for w in told if w.request == 2} == {greedy(engine)}


def test_watched_reply_is_told_as_it_is_written(engine: Engine) -> None:
    told = [w for w in engine.serve(Script([asked()], watched=[0]))]
    assert [w.has_ended for w in told] == [False] * (len(told) - 1) + [True]
    counts = [w.completion.n_tokens for w in told]
    assert counts == sorted(counts)
    assert told[-1].completion.text == greedy(engine)


def test_what_nobody_wants_any_more_is_given_up(engine: Engine) -> None:
    script = Script([asked(max_tokens=500, temperature=1.0, n=4), asked()])
    told = []
    for written in engine.serve(script):
        told.append(written)
        script.unwanted.add((0, 0))
    assert sum(w.request == 1 for w in told) == 1
    assert sum(w.request == 0 for w in told) < 4
    assert not engine.llm.llm_engine.has_unfinished_requests()  # type: ignore[attr-defined]
