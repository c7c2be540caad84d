"""The benchmarks start: each imports what it measures and explains itself."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks import import_graph, noise
from symbol_llm.ground.records import Verdict

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


def test_noise_turns_round_what_it_turned_at_a_lower_rate_and_nothing_else():
    verdicts = [
        Verdict(candidate=f"{n:016}", problem="p", status=status, score=score, verifier="python@6")
        for n, (status, score) in enumerate([("accepted", 1.0), ("rejected", 0.0), ("unparsable", 0.0)] * 200)
    ]
    changed = {}
    for kind, (true, told) in noise.KINDS.items():
        for rate in (0, 10, 20, 100):
            after = list(noise.turned(verdicts, noise.Arm(kind, rate, 0)))
            pairs = [(a, b) for a, b in zip(verdicts, after, strict=True) if a != b]
            assert {(a.status, b.status, b.score) for a, b in pairs} <= {(true, told, float(told == "accepted"))}
            changed[kind, rate] = {a.candidate for a, _ in pairs}
        assert not changed[kind, 0]
        assert 5 < len(changed[kind, 10]) < 40
        assert changed[kind, 10] < changed[kind, 20] < changed[kind, 100]
        assert len(changed[kind, 100]) == 200
    other = {
        a.candidate for a, b in zip(verdicts, noise.turned(verdicts, noise.Arm("accept", 10, 1)), strict=True) if a != b
    }
    assert other != changed["accept", 10]


def test_noise_compares_the_same_problems_over_seeds():
    def row(kind, rate, seed, **outcomes):
        test = sum(outcomes.values()) / len(outcomes)
        figures = {"n_turned": 3, "n_rows": 9, "dev": 0.5, "test": test, "outcomes": outcomes}
        return {"kind": kind, "rate": rate, "seed": seed, **figures}

    rows = [row("none", 0.0, 0, a=1, b=1), row("none", 0.0, 1, a=1, b=0)]
    rows += [row("accept", 5.0, 0, a=1, b=0), row("accept", 5.0, 1, a=0, b=0)]
    *_, first, second = noise.table(rows)
    assert first == "| none | 0 | 3 | 9 | 50.0 | 75.0 |  |"
    assert second.startswith("| accept | 5 | 3 | 9 | 50.0 | 25.0 | -50.0 [-50.0, -50.0] |")
