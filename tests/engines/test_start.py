"""Which engine is started under which name; the engines themselves are stood in for."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from symbol_llm import engines
from symbol_llm.ground.errors import InvalidInput

Started = list[tuple[str, Path, int, int]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Give what is started: module, checkpoint, batch, and how many of the kind there are to be."""
    found: Started = []

    def starter(name: str) -> Callable[..., None]:
        return lambda checkpoint, batch, n_engines: found.append((name, checkpoint, batch, n_engines))

    for name in engines.NAMES:
        monkeypatch.setitem(sys.modules, f"symbol_llm.engines.{name}", SimpleNamespace(start=starter(name)))
    return found


def test_auto_takes_vllm_where_it_can_be_imported(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise AssertionError('it is looked for, not imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    engines.start("auto", tmp_path, batch=3)
    assert started == [("vllm", tmp_path, 3, 1)]


def test_auto_takes_transformers_where_vllm_cannot_be_imported(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    engines.start("auto", tmp_path, batch=3)
    assert started == [("transformers", tmp_path, 3, 1)]


@pytest.mark.parametrize("name", engines.NAMES)
def test_an_engine_is_started_by_its_name(started: Started, name: str, tmp_path: Path) -> None:
    engines.start(name, tmp_path)
    engines.start(name, tmp_path, n_engines=2)
    assert started == [(name, tmp_path, 64, 1), (name, tmp_path, 64, 2)]


def test_unknown_engine_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown engine 'vlm'; have auto, transformers, vllm, openai, fake"):
        engines.start("vlm", tmp_path)
