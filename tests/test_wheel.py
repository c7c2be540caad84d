"""A wheel, installed outside the checkout: what it holds, and that its commands work there."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests import pip

ROOT = Path(__file__).parents[1]
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the tracked files, so that the checkout stays as it is."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return pip.wheel(copy, out)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in a new virtual environment that sees this one's libraries, but not its editable project."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place)}))
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = [sys.executable, "-m", "pip", "--python", str(place), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--ignore-installed", str(wheel)], check=True, capture_output=True)
    return place / "bin"


def call(installed: Path, folder: Path, *arguments: str, program: str = "symbol-llm", given: str = "") -> Done:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SYMBOL_LLM", "MLFLOW"))}
    command = [str(installed / program), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False, timeout=120
    )


def test_wheel_claims_no_name_but_its_own_and_says_who_made_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    assert {name.split("/")[0] for name in names} == {"symbol_llm", "symbol_llm-0.1.0.dist-info"}
    assert {"symbol_llm/params.yaml", "symbol_llm/profiles/math.yaml", "symbol_llm/__main__.py"} <= set(names)
    for field in (
        "Author:",
        "Project-URL:",
        "Classifier: Programming Language :: Python :: 3.11",
        "License-Expression:",
    ):
        assert f"\n{field}" in metadata


def test_code_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path, "-c", "import symbol_llm; print(symbol_llm.__file__)", program="python")
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)


def test_commands_work_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert len(json.loads(call(installed, tmp_path, "tasks", "--json").stdout)) > 80
    assert json.loads(call(installed, tmp_path, "doctor", "--json").stdout)["symbol-llm"] == "0.1.0"
    judged = call(
        installed, tmp_path, "judge", "--task", "word_problems", "--answer", "23", "--json", given="answer = 14 + 9"
    )
    assert (judged.returncode, json.loads(judged.stdout)["status"]) == (0, "accepted")
    few = ("--tasks", "scan", "--set", "collect.n_train=3", "--set", "collect.n_test=2", "--json")
    collected = call(installed, tmp_path, "collect", "out", *few)
    assert json.loads(collected.stdout)["n_train"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "runs"]


def test_package_is_a_command_too(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path, "-m", "symbol_llm", "--help", program="python")
    assert done.stdout.startswith("Usage: ")


def test_profile_is_known_by_name_before_and_behind_a_command(installed: Path, tmp_path: Path) -> None:
    for words in (("--profile", "math", "rollback"), ("rollback", "--profile", "math")):
        done = call(installed, tmp_path, *words)
        assert "model 'symbol-llm' has no previous champion to roll back to" in done.stderr
    assert (
        "unknown profile 'maths'; have math, published-13b, published-7b, symbolic-34"
        in call(installed, tmp_path, "rollback", "--profile", "maths").stderr
    )


def test_missing_library_names_its_extra_in_one_line(installed: Path, tmp_path: Path) -> None:
    """The import fails as it does where the library is not installed."""
    code = "import sys; sys.modules['mlflow'] = None; from symbol_llm.cli import main; main()"
    done = call(installed, tmp_path, "-c", code, "collect", "out", "--tasks", "scan", program="python")
    said = [line for line in done.stderr.splitlines() if line.startswith("symbol-llm: ")]
    assert said == ["symbol-llm: this needs mlflow, which is not installed: pip install 'symbol-llm[tracking]'"]
    assert (done.returncode, "Traceback" in done.stderr, done.stdout) == (3, False, "")
