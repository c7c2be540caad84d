"""The documentation says nothing that is not there: targets, command lines, paths and parameters are checked against the tree."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from symbol_llm import cli, families, tasks
from symbol_llm.ground import params
from symbol_llm.ground.params import Parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS = ("docs", "components", "manifests", "serving", "benchmarks")
DOCUMENTS = {
    file: file.read_text()
    for file in sorted(
        [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(f for name in FOLDERS for f in (ROOT / name).rglob("*.md"))]
    )
    if file.parent.name != "results"  # written by a run
}
PROGRAMS = (
    "pipelines.local",
    "pipelines.preflight",
    "pipelines.submit",
    "serving",
    "serving.ask",
    "serving.callers",
    "manifests.check",
)
BENCHMARKS = (
    "benchmarks.beside",
    "benchmarks.curve",
    "benchmarks.import_graph",
    "benchmarks.noise",
    "benchmarks.verify",
)
MADE_BY_RUNS = ("runs", "data", "exported", ".venv", "site")
NOT_OURS = {
    "symbol-llm", "localhost", "org", "math", "sql", "logic", "command", "general", "db", "svc", "deployment", "kg", "visual", "code",
    "planning", "science", "amr", "ontology", "api", "web", "service", "DIR", ".", "group", "mine.yaml", "program.txt",
}  # fmt: skip
"""First words of what looks like a path and is not: images, labels, kinds of Kubernetes, folders of real data, a reader's own."""
SUFFIXES = ("py", "yaml", "md", "toml", "txt", "Dockerfile")


def blocks(text: str) -> list[str]:
    """Return the lines of commands, continuation lines joined: fenced, or indented by four."""
    text = re.sub(r"^```\w*\n(.*?)^```", lambda m: re.sub("^", "    ", m[1], flags=re.M), text, flags=re.M | re.S)
    found = re.findall(r"^ {4}(?:\$ )?(.*)", text.replace("\\\n", " "), flags=re.M)
    return [line.strip() for line in found if line.strip()]


def spans(text: str) -> list[str]:
    """Return what stands between backticks in the prose."""
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


def commands(line: str) -> Iterator[list[str]]:
    """Yield the simple commands of a shell line as words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a line of output with a lone quote
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if re.fullmatch(r"[|&;]+", word):
            if command:
                yield command
            command = []
        else:
            command.append(word)


BY_DOCUMENT = {
    file: [command for line in (*blocks(text), *spans(text)) for command in commands(line)]
    for file, text in DOCUMENTS.items()
}
ALL = [command for found in BY_DOCUMENT.values() for command in found]


def programs() -> list[list[str]]:
    """Return command lines of `symbol-llm` and of our modules, the module's name in the first place."""
    own = [command for command in ALL if command[0] == "symbol-llm"]
    modules = [command[2:] for command in ALL if command[:2] == ["python", "-m"] and len(command) > 2]
    return own + modules


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Parse with click's parser and its types, without asking whether paths exist and without running anything."""
    context = click.Context(command, parent=parent)
    values, left, _ = command.make_parser(context).parse_args(arguments)
    if isinstance(command, click.Group):
        assert left, "a command is missing"
        assert left[0] in command.commands, f"no command {left[0]!r}"
        parse(command.commands[left[0]], left[1:], context)
        return
    assert left == [], f"too many arguments: {left}"
    for parameter in command.params:
        value: Any = values.get(parameter.name)
        given = isinstance(value, (str, list, tuple))
        assert given or not parameter.required, f"{parameter.name} is missing"
        if isinstance(value, str) and not isinstance(parameter.type, (click.Path, click.File)):
            parameter.type.convert(value, parameter, context)


def overrides(words: list[str]) -> list[str]:
    found = [pair for word in words for pair in re.split(r"\s+", word.removeprefix("SET="))]
    return [pair for pair in found if re.match(r"[a-z_]+(\.[a-z_]+)+=|model=", pair)]


def test_lines_are_found() -> None:
    assert len(DOCUMENTS) > 20
    assert len(blocks(README)) > 30
    assert len(programs()) > 40
    assert ["symbol-llm", "history"] in ALL
    assert ["python", "-m", "benchmarks.import_graph", "."] in ALL


@pytest.mark.parametrize("target", sorted({c[1] for c in ALL if c[0] == "make" and len(c) > 1}))
def test_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)


def test_list_of_targets_fits_into_eighty_columns() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(said.stdout.splitlines()) > 20
    assert [line for line in said.stdout.splitlines() if len(line) > 80] == []


def test_variables_given_to_make_are_its_own() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in ALL:
        for word in command[2:] if command[0] == "make" else ():
            if found := re.match(r"([A-Z]+)=", word):
                assert re.search(rf"^{found[1]} \?=", makefile, flags=re.M), word


@pytest.mark.parametrize("line", sorted({shlex.join(command) for command in programs()}))
def test_command_line_parses(line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "symbol-llm":
        command: click.Command = cli.main
        if arguments[1:] in ([], ["--help"]):  # named in prose, without its arguments
            assert arguments in ([], ["--help"]) or arguments[0] in cli.main.commands
            return
    else:
        assert program in (*PROGRAMS, *BENCHMARKS)
        command = importlib.import_module(program if program != "serving" else "serving.__main__").main
        if program in BENCHMARKS and not arguments:
            return
    if isinstance(command, click.Command):
        parse(command, arguments)
    else:  # argparse
        text = (ROOT / f"{program.replace('.', '/')}.py").read_text()
        assert [a for a in arguments if a.startswith("--") and f'"{a}"' not in text] == []


@pytest.mark.parametrize("line", sorted({shlex.join(command) for command in ALL if command[0] == "dvc"}))
def test_dvc_command_parses(line: str) -> None:
    from dvc.cli import parse_args

    arguments = parse_args(shlex.split(line)[1:])
    stages = (ROOT / "dvc.yaml").read_text()
    for target in getattr(arguments, "targets", None) or ():
        name, _, key = target.partition("@")
        assert re.search(rf"^  {name}:\n", stages, flags=re.M), target
        assert not key or re.search(rf"^      {key}: ", stages, flags=re.M), target


def paths(file: Path) -> set[str]:
    """Return words of commands and spans of a document that name a file or folder of the tree."""
    found = set()
    for word in {word for command in BY_DOCUMENT[file] for word in command}:
        if not re.fullmatch(r"[\w.@-]+(/[\w.@-]+)*/?", word) or re.fullmatch(r"[\d/]+", word):
            continue
        first, suffix = word.split("/")[0], word.rsplit(".", 1)[-1]
        if "NAME" not in word and first not in (*MADE_BY_RUNS, *NOT_OURS) and ("/" in word or suffix in SUFFIXES):
            found.add(word)
    return found


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_path_exists(file: Path) -> None:
    inside = {file.name for folder in ("symbol_llm", "pipelines") for file in (ROOT / folder).rglob("*.py")}
    of_data = {"card.md", "DATA_CARD.md", "callers.txt", "train.jsonl", "dev.jsonl", "test.jsonl", "log.txt"}
    places = (ROOT, ROOT / "symbol_llm", file.parent)
    missing = {p for p in paths(file) if not any((place / p).exists() for place in places)}
    assert missing - inside - of_data == set()


def test_paths_are_found() -> None:
    assert {"manifests/overlays/laptop", "dvc.yaml", "weights.py"} <= paths(ROOT / "README.md")
    assert "components/images/gpu.Dockerfile" in paths(ROOT / "docs" / "guides" / "kubernetes.md")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_to_a_file(file: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", DOCUMENTS[file]))
    local = {target.partition("#")[0] for target in targets if not target.startswith(("http:", "https:", "#"))}
    assert {target for target in local if not (file.parent / target).is_file()} == set()


def test_readme_leads_to_every_page() -> None:
    pages = {str(file.relative_to(ROOT)) for file in DOCUMENTS if "docs" in file.parts and file.name != "index.md"}
    assert {page for page in pages if f"]({page})" not in README} == set()


def test_map_names_every_folder_of_the_tree() -> None:
    for folder in ("symbol_llm", "components", "pipelines", "serving", "manifests", "tests"):
        assert f"| `{folder}/` |" in README


def test_components_table_names_every_component() -> None:
    text = (ROOT / "components" / "README.md").read_text()
    for file in (ROOT / "components").glob("*/component.py"):
        name = file.parent.name
        role = next(role for role in ("light", "cpu", "gpu") if f"{role.upper()}_IMAGE" in file.read_text())
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.startswith(f"| `{name}` | {role} |")
        assert row.endswith(
            {"finish": "| none |", "preflight": "| none |", "tune_on_nodes": "| `stages.tune` |"}.get(
                name, f"| `stages.{name}` |"
            )
        )
        module = importlib.import_module(f"components.{name}.component")
        spec = getattr(module, name).component_spec
        names = {*spec.inputs, *(spec.outputs or {})} - {"params", "metrics"}
        assert {n for n in names if f"`{n}" not in row} == set()


@pytest.mark.parametrize("override", sorted({pair for command in ALL for pair in overrides(command)}))
def test_parameter_is_accepted(override: str) -> None:
    params.load(ROOT / "params.yaml", overrides=[override])


def test_keys_named_alone_exist() -> None:
    everything = [span for text in DOCUMENTS.values() for span in spans(text)]
    keys = [
        s for s in everything if re.fullmatch(r"[a-z_]+\.[a-z_]+", s) and s.split(".")[0] in Parameters.model_fields
    ]
    assert {"rounds.n", "collect.levels", "explore.problems"} <= set(keys)
    for key in keys:
        section, _, name = key.partition(".")
        assert name in Parameters.model_fields[section].annotation.model_fields, key  # type: ignore[union-attr]


def test_published_settings_are_the_other_choice() -> None:
    shipped = params.load(ROOT / "params.yaml")
    method = BY_DOCUMENT[ROOT / "docs" / "explanation" / "method.md"]
    named = [
        w for c in method for w in c if re.fullmatch(r"(select|explore|rounds)\.\w+=(published|false|original)", w)
    ]
    assert len(named) == 5
    for override in named:
        assert params.load(ROOT / "params.yaml", overrides=[override]) != shipped


def test_readme_has_no_badge_and_is_no_long_page() -> None:
    assert "shields" not in README
    assert len(README.splitlines()) <= 150


# --- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a warning is an error."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_site_has_a_page_for_every_document(site: Path) -> None:
    wanted = {f.relative_to(ROOT / "docs").with_suffix(".html") for f in DOCUMENTS if "docs" in f.parts}
    assert {page for page in wanted if not (site / page).is_file()} == set()


def test_site_lists_what_the_code_has(site: Path) -> None:
    pages = {
        name: (site / "reference" / f"{name}.html").read_text() for name in ("cli", "parameters", "notations", "tasks")
    }
    assert [name for name in cli.main.commands if f'id="symbol-llm-{name}"' not in pages["cli"]] == []
    assert [name for name in Parameters.model_fields if f">{name}<" not in pages["parameters"]] == []
    assert [name for name in families.names() if f'<h2 id="{name}">' not in pages["notations"]] == []
    assert [name for name in tasks.all_tasks() if f"<code>{name}</code>" not in pages["tasks"]] == []
    assert "<!-- generated:" not in "".join(file.read_text() for file in site.rglob("*.html"))


def test_site_takes_nothing_from_elsewhere(site: Path) -> None:
    loads = r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|<link[^>]*\shref="(?:https?:)?//'
    assert [str(file) for file in site.rglob("*.html") if re.search(loads, file.read_text())] == []
