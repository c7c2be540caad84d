"""Families are found by file name: one file adds a notation, one missing library takes away only its own."""

import shutil
import sys
from pathlib import Path

import pytest

from symbol_llm import families
from symbol_llm.ground.errors import InvalidInput, MissingDependency
from symbol_llm.ground.params import Limits
from symbol_llm.judging.verify import judge
from tests.problems import problem


def test_one_file_adds_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(families.__file__).with_name("commands.py"), tmp_path / "moves.py")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    assert "moves" in families.names()
    assert judge(problem("moves", answer="I_WALK I_RUN"), "I_WALK  I_RUN", Limits()).status == "accepted"
    assert judge(problem("moves", answer="I_WALK I_RUN"), "I_RUN", Limits()).verifier == "moves@1"
    monkeypatch.delitem(sys.modules, "symbol_llm.families.moves")


def test_missing_library_disables_its_family_alone_and_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "penman", None)
    monkeypatch.delitem(sys.modules, "symbol_llm.families.amr", raising=False)
    with pytest.raises(MissingDependency, match=r"family 'amr' needs the module 'penman': .*symbol-llm\[families\]"):
        families.get("amr")
    verdict = judge(problem("amr", program="(d / dog)"), "(d / dog)", Limits())
    assert (verdict.status, verdict.score) == ("unscored", None)
    assert judge(problem("commands", answer="I_RUN"), "I_RUN", Limits()).status == "accepted"


def test_unknown_family_is_told_which_there_are() -> None:
    with pytest.raises(InvalidInput, match="unknown family 'amrr'; have amr, "):
        families.get("amrr")
