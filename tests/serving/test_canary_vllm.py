"""A trial of new weights by two real vLLM engines in one server: `make test-vllm`."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from symbol_llm.tracking import registry
from tests.checkpoints import muted
from tests.serving.promoted import NAME, Served, promote
from tests.serving.scripted import until

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-vllm`"),
]
START_S = 900


def engines_of(served: Served) -> int:
    """Return how many processes of `served` hold a model."""

    def holds_one(process: psutil.Process) -> bool:
        try:
            return "EngineCore" in " ".join(process.cmdline())
        except psutil.NoSuchProcess:  # it has just ended
            return False

    return sum(map(holds_one, psutil.Process(served.process.pid).children(recursive=True)))


def test_broken_weights_are_tried_beside_the_present_ones_and_rolled_back(
    tracked_home: Path, smollm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    first = promote(smollm, 10)
    options = ("--shots", "4", "--k", "4", "--no-repair", "--canary", "0.5", "--max-tokens", "32")
    served = Served("--engine", "vllm", "--deadline-s", str(START_S), *options)
    served.timeout_s = START_S  # however slow two engines are on these cores
    try:
        until(lambda: served.get("/v1/models/symbol-llm")[0] == 200 or served.process.poll() is not None, START_S)
        assert served.process.poll() is None, served.said()
        broken = promote(muted(smollm, tmp_path / "broken", range(30)), 20)
        until(lambda: "canary" in served.health(), START_S)
        assert served.health()["canary"]["weights"].startswith(f"version {broken.number}")

        def ask(n: int) -> int:
            question = f"Mia has {n} stamps. She buys {n + 3} more stamps. How many stamps does Mia have now?"
            return served.get("/v1/solve", {"question": question})[0]

        with ThreadPoolExecutor(3) as pool:
            statuses = list(pool.map(ask, range(2, 13)))
        assert set(statuses) == {200}
        until(lambda: served.health()["canary"]["state"] == "rolled back", 120)
        found = registry.by_alias(NAME, registry.CHAMPION)
        assert found
        assert found.number == first.number
        assert served.health()["serves"].startswith(f"version {first.number}")
        until(lambda: engines_of(served) == 1, 60)
    finally:
        served.stop()
