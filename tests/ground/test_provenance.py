"""What results are named by: the code, the packages, the git revision."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from symbol_llm.ground import provenance


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    known = (provenance.code, provenance.packages, provenance.revision)
    for function in known:
        function.cache_clear()
    yield
    for function in known:
        function.cache_clear()


def test_packages_are_those_that_results_depend_on_and_no_tools_of_development() -> None:
    found = provenance.packages()
    assert {"sympy", "torch", "transformers", "z3-solver", "mlflow"} <= found.keys()
    assert not {"pytest", "ruff", "mypy", "symbol-llm"} & found.keys()


def test_a_package_that_is_on_the_path_and_not_installed_names_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", unknown)
    assert provenance.packages() == {}


@pytest.mark.parametrize("changed", ["version", "code"])
def test_identity_changes_with_a_library_and_with_the_code(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = provenance.identity()
    if changed == "version":
        monkeypatch.setattr(provenance, "packages", lambda: {"sympy": "0.1"})
    else:
        monkeypatch.setattr(provenance, "code", lambda: "0" * 16)
    assert provenance.identity() != before


def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with a package in it, which takes the place of ours."""
    made = folder / "package"
    made.mkdir()
    (made / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "PACKAGE", made)
    subprocess.run(["git", "init", "-q", folder], check=True)
    return made


def commit(folder: Path) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", folder, *who, "commit", "-q", "-m", "t"], check=True)
    return subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_revision_is_the_commit_and_says_whether_the_package_differs_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = package(tmp_path, monkeypatch)
    subprocess.run(["git", "-C", tmp_path, "add", "package"], check=True)
    clean = commit(tmp_path)
    (tmp_path / "notes.txt").write_text("outside the package")
    assert provenance.revision() == clean
    (made / "more.py").write_text("x = 1")
    provenance.revision.cache_clear()
    assert provenance.revision() == f"{clean}-dirty"


def test_a_package_installed_into_another_repository_has_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, monkeypatch)
    (tmp_path / "theirs.py").write_text("")
    subprocess.run(["git", "-C", tmp_path, "add", "theirs.py"], check=True)
    commit(tmp_path)
    assert provenance.revision() is None


def test_without_git_the_revision_is_unknown_and_the_variable_of_an_image_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert provenance.revision() is None
    provenance.revision.cache_clear()
    monkeypatch.setenv(provenance.REVISION_VARIABLE, "abc")
    assert provenance.revision() == "abc"
