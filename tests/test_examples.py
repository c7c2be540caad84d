"""The examples do what their READMEs say: through the shell where a user would, in copies, so that the tree stays as it is."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from symbol_llm import stages
from symbol_llm.ground.params import Collect, Tune
from tests import pip

EXAMPLES = Path(__file__).parents[1] / "examples"
Done = subprocess.CompletedProcess[str]


def run(home: Path, *arguments: str | Path, site: Path | None = None, given: str = "") -> Done:
    """Run Python with `arguments`, packages of `site` at hand, state in `home`."""
    command = [sys.executable, *map(str, arguments)]
    path = os.pathsep.join(filter(None, (str(site or ""), str(EXAMPLES.parent))))
    environment = os.environ | {"PYTHONPATH": path, "SYMBOL_LLM_HOME": str(home)}
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=home.parent, env=environment)  # fmt: skip


def symbol_llm(home: Path, *arguments: str | Path, site: Path | None = None, given: str = "") -> Done:
    return run(home, "-m", "symbol_llm", *arguments, site=site, given=given)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder into which copies of the packages among the examples were installed."""
    made, site = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("site")
    pip.install(site, *(shutil.copytree(EXAMPLES / name, made / name) for name in ("own_task", "own_notation")))
    return site


def test_every_example_is_listed_and_described() -> None:
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    listed = re.findall(r"^\| \[`(\w+)`\]\((\w+)/README\.md\)", (EXAMPLES / "README.md").read_text(), flags=re.M)
    assert sorted(listed) == [(name, name) for name in folders]
    assert [name for name in folders if not (EXAMPLES / name / "README.md").is_file()] == []


# --- judge_answers ----------------------------------------------------------------------------------------------------

ROWS = EXAMPLES / "judge_answers" / "replies.jsonl"
VERDICTS = {
    "sum": "accepted", "sum-off": "rejected", "sum-endless": "timeout", "bikes": "accepted", "bikes-broken": "unparsable",
    "rule": "accepted", "rule-turned": "rejected", "pattern": "accepted", "pattern-empty": "rejected", "moves": "accepted",
}  # fmt: skip


def test_replies_get_their_verdicts_on_the_command_line(home: Path, tmp_path: Path) -> None:
    done = symbol_llm(home, "judge", "--rows", ROWS, "--out", tmp_path / "verdicts.jsonl")
    verdicts = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert {verdict["candidate"]: verdict["status"] for verdict in verdicts} == VERDICTS
    shown = re.search(r"```text\n(.*?)```", (EXAMPLES / "judge_answers" / "README.md").read_text(), flags=re.S)
    assert shown is not None
    assert [line.split() for line in done.stdout.splitlines()] == [line.split() for line in shown[1].splitlines()]


def test_replies_get_the_same_verdicts_through_the_library(home: Path) -> None:
    done = run(home, EXAMPLES / "judge_answers" / "judge.py", ROWS)
    table = [line.split() for line in done.stdout.splitlines()]
    assert table == [
        ["task", "n", "accepted"], ["word_problems", "3", "1"], ["table_questions", "2", "1"], ["malls", "2", "1"],
        ["command", "line", "2", "1"], ["scan", "1", "1"],
    ]  # fmt: skip
    told = {line.split()[0]: line.split()[1] for line in done.stderr.splitlines()}
    assert told == {name: status for name, status in VERDICTS.items() if status != "accepted"}


# --- own_task, own_notation -------------------------------------------------------------------------------------------


def test_own_task_is_collected_and_all_its_gold_is_right(site: Path, home: Path, tmp_path: Path) -> None:
    collect = ("collect", tmp_path / "invoices", "--tasks", "invoices", "--per-task", "30", "--json")
    numbers = json.loads(symbol_llm(home, *collect, site=site).stdout)
    assert (numbers["n_train"], numbers["n_dropped"]) == (30, 0)
    assert "invoices" in (tmp_path / "invoices" / "card.md").read_text()


def test_own_task_is_judged(site: Path, home: Path, tmp_path: Path) -> None:
    rows = ("--rows", EXAMPLES / "own_task" / "replies.jsonl", "--out", tmp_path / "verdicts.jsonl")
    assert symbol_llm(home, "judge", *rows, site=site).returncode == 0
    verdicts = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert {verdict["candidate"]: verdict["status"] for verdict in verdicts} == {
        "plain": "accepted", "discount": "accepted", "tax-on-goods-alone": "rejected"
    }  # fmt: skip


def test_own_rows_of_own_task_are_read(site: Path, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source" / "office" / "invoices"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text('{"id": "1", "invoice": "Ordered: 2 x pen at 1.10.", "due": 2.2}\n')
    ask = "from symbol_llm import tasks; from pathlib import Path; print(*(p.question for p in tasks.get('invoices').read(Path('.'))))"
    done = run(folder / "home", "-c", ask, site=site)
    assert done.stdout == "Ordered: 2 x pen at 1.10. How much is due?\n"


def test_own_notation_passes_its_tests(site: Path, home: Path) -> None:
    done = run(home, "-m", "pytest", EXAMPLES / "own_notation" / "tests", "-q", "-p", "no:cacheprovider", site=site)
    assert done.returncode == 0, done.stdout


def test_own_notation_keeps_the_contract_of_all_families(site: Path, home: Path) -> None:
    contract = EXAMPLES.parent / "tests" / "families" / "test_contract.py"
    done = run(home, "-m", "pytest", contract, "-q", "-k", "cron", "-p", "no:cacheprovider", site=site)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.rsplit(" passed", 1)[0].split()[-1]) >= 40


def test_own_notation_is_judged_as_its_readme_says(site: Path, home: Path) -> None:
    text = (EXAMPLES / "own_notation" / "README.md").read_text()
    lines = re.findall(r"echo '(.*)' \| symbol-llm judge --family cron --gold '(.*)' +# (\w+)", text)
    assert [status for _, _, status in lines] == ["accepted", "rejected"]
    for program, gold, status in lines:
        done = symbol_llm(home, "judge", "--family", "cron", "--gold", gold, "--json", site=site, given=program)
        assert json.loads(done.stdout)["status"] == status


# --- own_rows ---------------------------------------------------------------------------------------------------------

BAKERY = EXAMPLES / "own_rows" / "rows"


def test_own_rows_pass_the_selftest_and_are_collected(home: Path, tmp_path: Path) -> None:
    tested = symbol_llm(home, "selftest", "--source", BAKERY, "--json")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["rows"][0]["n_gold"] == 10
    settings = ("--set", "collect.dev_share=0.25", "--set", "collect.gold_share=1", "--json")
    done = symbol_llm(home, "collect", tmp_path / "bakery", "--source", BAKERY, "--tasks", "gsm8k", *settings)
    numbers = json.loads(done.stdout)
    assert [numbers[f"n_{name}"] for name in ("train", "dev", "test", "injection", "dropped")] == [6, 2, 2, 6, 0]


@pytest.mark.model
def test_own_rows_are_trained_on(home: Path, tmp_path: Path, smollm: Path) -> None:
    stages.collect(tmp_path / "bakery", Collect(source=BAKERY, tasks=("gsm8k",), dev_share=0.25, gold_share=1))
    numbers = stages.tune(tmp_path / "bakery", smollm, tmp_path / "tuned", Tune(batch=8, max_length=256))
    assert (numbers["n_rows"], numbers["n_too_long"], numbers["n_steps"]) == (6, 0, 1)
    assert (tmp_path / "tuned" / "model.safetensors").is_file()


# --- notebook ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own libraries
def test_notebook_runs_and_shows_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = nbformat.read(EXAMPLES / "notebook" / "one_round.ipynb", as_version=4)
    assert [cell for cell in stored.cells if cell.get("outputs")] == []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = nbclient.NotebookClient(
        stored, timeout=120, resources={"metadata": {"path": str(EXAMPLES.parent)}}
    ).execute()
    shown = ["".join(o.get("text") or o["data"]["text/plain"] for o in cell.outputs if o.output_type != "stream" or o.name == "stdout")
             for cell in done.cells if cell.cell_type == "code"]  # fmt: skip
    assert shown[-1] == "{'problems': 3, 'candidates': 24, 'accepted': 9, 'pool': 12, 'rows': 6}"
    assert [
        sum(status in line for line in shown[3].splitlines()) for status in ("accepted", "rejected", "unparsable")
    ] == [3, 4, 1]
    assert [line[0] for line in shown[4].splitlines()] == ["+", "+", "-", "-"]
    assert re.findall(r"^--- (\w+)$", shown[5], flags=re.M) == ["L1", "L2"]
