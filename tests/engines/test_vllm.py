"""The vLLM engine against the real vLLM: `make test-vllm`. Skipped where vLLM is not installed."""

import importlib.util
from pathlib import Path

import pytest

from symbol_llm import engines
from symbol_llm.engines import Engine
from symbol_llm.ground.records import Messages

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
    """Give the same model with its last layer's output silenced, so that it says other things."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(smollm, folder)
    weights = load_file(folder / "model.safetensors")
    for name in [n for n in weights if n.startswith("model.layers.29.") and n.endswith("down_proj.weight")]:
        weights[name].zero_()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


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
