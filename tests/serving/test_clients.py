"""What the guide says of clients, run as it stands there against a running server: curl, OpenAI's SDK, LangChain, lm-eval."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.promoted import ROOT, Served, writer

GUIDE = (ROOT / "docs" / "guides" / "serve.md").read_text()
SECTION = GUIDE.partition("### Clients\n")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^    (.+)$", re.sub(r"```.*?```", "", SECTION, flags=re.DOTALL), flags=re.MULTILINE)
PROGRAMS = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)
ADDRESS = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    weights = writer(tmp_path_factory.mktemp("weights") / "w", "answer = 14 + 9")
    started = Served(model=str(weights)).up()
    yield started
    started.stop()


def ran(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_guide_shows_the_four_clients() -> None:
    assert [shlex.split(line)[0] for line in COMMANDS] == ["curl", "curl", "lm_eval"]
    assert ["openai.OpenAI(" in PROGRAMS[0], "ChatOpenAI(" in PROGRAMS[1], len(PROGRAMS)] == [True, True, 2]
    assert all(ADDRESS in text for text in (*COMMANDS, *PROGRAMS))


@pytest.mark.parametrize("number", [0, 1])
def test_curl_completes(served: Served, tmp_path: Path, number: int) -> None:
    command = shlex.split(COMMANDS[number].replace(ADDRESS, served.url))
    (choice,) = json.loads(ran([*command, "--silent", "--fail"], tmp_path))["choices"]
    assert (choice.get("text") or choice["message"]["content"]) == "answer = 14 + 9"


@pytest.mark.parametrize(
    ("number", "package", "printed"),
    [(0, "openai", "answer = 14 + 9"), (1, "langchain_openai", "answer = 14 + 9\n23\n")],
)
def test_program_of_the_guide_prints_what_the_model_says(
    served: Served, tmp_path: Path, number: int, package: str, printed: str
) -> None:
    pytest.importorskip(package)
    assert ran([sys.executable, "-c", PROGRAMS[number].replace(ADDRESS, served.url)], tmp_path) == printed


def test_langchain_streams_batches_and_is_told_what_is_wrong(served: Served) -> None:
    pytest.importorskip("langchain_openai")
    import openai
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=f"{served.url}/openai/v1", api_key="none", model="symbol-llm", max_retries=0)
    assert "".join(str(chunk.content) for chunk in model.stream("What is 14 plus 9?")) == "answer = 14 + 9"
    turns = [("system", "Answer in Python."), ("human", "What is 14 plus 9?")]
    assert [found.content for found in model.batch([turns, turns])] == ["answer = 14 + 9"] * 2
    assert model.bind(stop=[" +"]).invoke("What is 14 plus 9?").content == "answer = 14"
    with pytest.raises(openai.BadRequestError, match="tools"):
        model.bind_tools([{"type": "function", "function": {"name": "f", "parameters": {}}}]).invoke("What is 1?")


TASK = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n\\n"], do_sample: false, max_gen_toks: 32}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


def test_lm_eval_scores_the_served_model_on_a_task_that_generates(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guide's command, on a task that lies here: one of three rows has what the model says as its answer."""
    pytest.importorskip("lm_eval")
    rows = [{"question": f"What is 14 plus {n}?", "answer": f"answer = 14 + {n}"} for n in (8, 9, 10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.yaml").write_text(TASK.replace("ROWS", str(tmp_path / "rows.jsonl")))
    for name, value in {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    program, *command = shlex.split(COMMANDS[2].replace(ADDRESS, served.url))
    command[command.index("--tasks") + 1] = "sums"
    more = ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    ran([str(Path(sys.executable).with_name(program)), *command, *more], tmp_path)
    (found,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(found.read_text())
    assert results["results"]["sums"]["exact_match,none"] == pytest.approx(1 / 3)
    assert results["n-samples"]["sums"]["effective"] == 3
