"""Families are found by file name: one file adds a notation, one missing library takes away only its own."""

import shutil
import subprocess
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
    assert (
        judge(problem("moves", answer="I_WALK I_RUN"), "I_RUN", Limits()).verifier
        == f"moves@{families.get('moves').VERSION}"
    )
    monkeypatch.delitem(sys.modules, "symbol_llm.families.moves")


def test_missing_library_disables_its_family_alone_and_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "penman", None)
    monkeypatch.delitem(sys.modules, "symbol_llm.families.amr", raising=False)
    with pytest.raises(MissingDependency, match=r"family 'amr' needs the module 'penman': .*symbol-llm\[families\]"):
        families.get("amr")
    verdict = judge(problem("amr", program="(d / dog)"), "(d / dog)", Limits())
    assert (verdict.status, verdict.score) == ("unscored", None)
    assert judge(problem("commands", answer="I_RUN"), "I_RUN", Limits()).status == "accepted"


def test_tests_of_a_family_that_lacks_its_library_are_skipped_and_name_the_extra(in_root: Path) -> None:
    """In a session of its own, where penman cannot be imported."""
    files = ["tests/families/test_contract.py", "tests/families/test_amr.py"]
    options = ["-k", "says_what_it_is", "-p", "no:cacheprovider", "-p", "no:xdist"]
    code = f"import sys, pytest; sys.modules['penman'] = None; sys.exit(pytest.main({[*files, *options]}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=in_root)
    skips = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert done.returncode == 0, done.stdout
    assert len(skips) == 2, done.stdout
    assert all("pip install 'symbol-llm[families]'" in line for line in skips)
    assert f"{len(families.names()) - 1} passed, 2 skipped" in done.stdout


def test_unknown_family_is_told_which_there_are() -> None:
    with pytest.raises(InvalidInput, match="unknown family 'amrr'; have amr, "):
        families.get("amrr")
