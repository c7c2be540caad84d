"""A notation and a task in packages of their own, made by `new` and installed by pip: listed, judged, attacked, served."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from symbol_llm import scaffold
from symbol_llm.ground.errors import InvalidInput
from tests import pip
from tests.checkpoints import whole_checkpoint

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write both skeletons and install them into a folder for packages."""
    made, site = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("site")
    scaffold.create("family", "colour_words", made)
    scaffold.create("task", "frogs", made)
    pip.install(site, made / "colour_words", made / "frogs")
    return site


def environment(site: Path, home: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "SYMBOL_LLM_HOME": str(home)}


def call(site: Path, home: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, cwd=ROOT, env=environment(site, home)
    )


def test_family_and_task_are_listed(site: Path, tmp_path: Path) -> None:
    families = {
        row["family"]: row for row in json.loads(call(site, tmp_path, "-m", "symbol_llm", "families", "--json").stdout)
    }
    tasks = {row["task"]: row for row in json.loads(call(site, tmp_path, "-m", "symbol_llm", "tasks", "--json").stdout)}
    assert families["colour_words"] == {
        "family": "colour_words", "version": 1, "metric": "the same set of words", "missing": None
    }  # fmt: skip
    assert (tasks["frogs"]["domain"], tasks["frogs"]["family"], tasks["frogs"]["generator"]) == (
        "frogs",
        "python",
        True,
    )


@pytest.mark.parametrize(
    ("program", "environment", "exit_code"),
    [("blue red", "{}", 0), ("blue", "{}", 1), ("blue, red", "{}", 1), ("blue red", '{"vocabulary": ["red"]}', 1)],
)
def test_family_is_judged(site: Path, tmp_path: Path, program: str, environment: str, exit_code: int) -> None:
    how = ("--family", "colour_words", "--gold", "red blue", "--environment", environment)
    assert call(site, tmp_path, "-m", "symbol_llm", "judge", *how, given=program).returncode == exit_code


def test_misspelt_key_of_the_environment_is_an_error(site: Path, tmp_path: Path) -> None:
    how = ("--family", "colour_words", "--gold", "red", "--environment", '{"vocabulry": ["red"]}')
    done = call(site, tmp_path, "-m", "symbol_llm", "judge", *how, given="red")
    assert (done.returncode, done.stdout) == (2, "")
    assert "vocabulry: extra inputs are not permitted" in done.stderr


def test_contract_and_hostile_programs_of_all_families_are_put_to_it(site: Path, tmp_path: Path) -> None:
    contract = (
        str(ROOT / "tests" / "families" / "test_contract.py"),
        "-q",
        "-k",
        "colour_words",
        "-p",
        "no:cacheprovider",
    )
    done = call(site, tmp_path, "-m", "pytest", *contract)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.rsplit(" passed", 1)[0].split()[-1]) >= 40


def test_skeletons_bring_tests_that_pass(site: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    scaffold.create("family", "shade_words", tmp_path)
    tests = tmp_path / "shade_words" / "tests"
    (site / "again").mkdir(exist_ok=True)
    pip.install(site / "again", tmp_path / "shade_words")
    done = call(site / "again", tmp_path / "home", "-m", "pytest", str(tests), "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout


def test_collection_of_the_task_is_built_and_the_task_is_served(site: Path, tmp_path: Path) -> None:
    few = ("--tasks", "frogs", "--set", "collect.n_train=3", "--set", "collect.n_test=2", "--json")
    done = call(site, tmp_path / "home", "-m", "symbol_llm", "collect", str(tmp_path / "out"), *few)
    assert json.loads(done.stdout)["n_train"] == 3, done.stderr
    checkpoint = whole_checkpoint(tmp_path / "checkpoint")
    (checkpoint / "replies.json").write_text(json.dumps({"frogs": ["answer = 2 * 21"]}))
    assert served(site, tmp_path, checkpoint)["answer"] == "42"


def served(site: Path, tmp_path: Path, checkpoint: Path) -> Any:
    """Return the answer of a server whose task is the plug-in's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "serving", "--model", str(checkpoint), "--engine", "fake", "--task", "frogs"]
    with subprocess.Popen(
        [*command, "--port", str(port)], cwd=ROOT, env=environment(site, tmp_path / "home")
    ) as server:
        try:
            body = json.dumps({"instances": [{"question": "21 frogs double. How many?"}]}).encode()
            url = f"http://127.0.0.1:{port}/v1/models/symbol-llm:predict"
            while server.poll() is None:
                request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
                try:
                    with urllib.request.urlopen(request, timeout=60) as response:
                        return json.load(response)["predictions"][0]
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.2)
        finally:
            server.terminate()
    raise AssertionError("the server ended")


@pytest.mark.parametrize("name", ["Roman", "class", "a-b", "../up", "", "sql", "gsm8k", "math"])
def test_name_that_is_no_modules_or_taken_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"name {name!r}: "):
        scaffold.create("family", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidInput, match="is there already"):
        scaffold.create("family", "mine", tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []
