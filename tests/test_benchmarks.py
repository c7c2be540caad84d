"""The benchmarks start: each imports what it measures and explains itself."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks import import_graph

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


def test_import_graph_counts_rooms_arrows_and_cycles(tmp_path):
    modules = {
        "__init__": "", "top": "from symbol_llm.pair import one, two\nfrom symbol_llm import __init__",
        "pair/__init__": "", "pair/one": "from symbol_llm.pair import two\nfrom symbol_llm import back",
        "pair/two": "from symbol_llm import low", "back": "import symbol_llm.pair.two", "low": "",
    }  # fmt: skip
    for name, text in modules.items():
        (tmp_path / "symbol_llm" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "symbol_llm" / f"{name}.py").write_text(text)
    graph = import_graph.read(tmp_path)
    assert graph.arrows == {("top", "pair"): 2, ("pair", "back"): 1, ("back", "pair"): 1, ("pair", "low"): 1}
    assert graph.counts() == {
        "modules": 6, "rooms": 4, "arrows": 4, "imports": 5, "cycles": 1, "rooms_in_cycles": 2,
    }  # fmt: skip
    assert graph.cycles() == [{"pair", "back"}]
    assert import_graph.svg(graph).count("#c53030") == 2


def test_import_graph_draws_over_no_other_file(tmp_path):
    (tmp_path / "mine.svg").write_text("<svg>mine</svg>")
    command = [sys.executable, "-m", "benchmarks.import_graph", ".", "--svg", str(tmp_path / "mine.svg")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "holds something that symbol-llm did not write" in done.stderr
    assert (tmp_path / "mine.svg").read_text() == "<svg>mine</svg>"


def test_import_graph_of_the_library_has_no_cycle():
    graph = import_graph.read(Path(benchmarks.__file__).parents[1])
    assert graph.cycles() == []
    assert len(graph.rooms) > 10
