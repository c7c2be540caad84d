"""The benchmarks start: each imports what it measures and explains itself."""

import pkgutil
import subprocess
import sys

import pytest

import benchmarks

PROGRAMS = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_benchmark_explains_itself(name):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


@pytest.mark.parametrize("name", ["notes.json", "notes.svg"])
def test_curve_takes_the_place_of_no_other_file(tmp_path, name):
    (tmp_path / name).write_text("mine")
    command = [sys.executable, "-m", "benchmarks.curve", str(tmp_path), str(tmp_path / "notes"), "--command", "x"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "holds something that symbol-llm did not write" in done.stderr
    assert (tmp_path / name).read_text() == "mine"
