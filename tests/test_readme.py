"""README.md says nothing that is not there: targets, command lines, paths and parameters are checked against the tree."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from symbol_llm import cli
from symbol_llm.ground import params
from symbol_llm.ground.params import Parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROGRAMS = ("pipelines.local", "pipelines.submit", "serving", "serving.ask", "manifests.check")
MADE_BY_RUNS = ("runs", "data", ".venv")
NOT_OURS = ("symbol-llm", "org", "math", "sql", "logic", "command", "general", "db", "svc", "deployment")
"""First words of what looks like a path and is not: images, labels, kinds of Kubernetes, folders of real data."""
SUFFIXES = ("py", "yaml", "md", "toml", "txt", "Dockerfile")


def blocks() -> list[str]:
    """Return the lines of commands, continuation lines joined: fenced, or indented by four."""
    text = re.sub(r"^```\w*\n(.*?)^```", lambda m: re.sub("^", "    ", m[1], flags=re.M), README, flags=re.M | re.S)
    found = re.findall(r"^ {4}(?:\$ )?(.*)", text.replace("\\\n", " "), flags=re.M)
    return [line.strip() for line in found if line.strip()]


def spans() -> list[str]:
    """Return what stands between backticks in the prose."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README)


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


ALL = [command for text in (*blocks(), *spans()) for command in commands(text)]


def programs() -> list[list[str]]:
    """Return command lines of `symbol-llm` and of our modules, the module's name in the first place."""
    own = [command for command in ALL if command[0] == "symbol-llm"]
    modules = [command[2:] for command in ALL if command[:2] == ["python", "-m"]]
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
    assert len(blocks()) > 30
    assert len(programs()) > 12
    assert ["symbol-llm", "history"] in ALL


@pytest.mark.parametrize("target", sorted({c[1] for c in ALL if c[0] == "make" and len(c) > 1}))
def test_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)


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
        if arguments in (["judge"],):  # named in prose, without its arguments
            return
        command: click.Command = cli.main
    else:
        assert program in PROGRAMS
        module = program if program != "serving" else "serving.__main__"
        command = importlib.import_module(module).main
    parse(command, arguments)


@pytest.mark.parametrize("line", sorted({shlex.join(command) for command in ALL if command[0] == "dvc"}))
def test_dvc_command_parses(line: str) -> None:
    from dvc.cli import parse_args

    arguments = parse_args(shlex.split(line)[1:])
    stages = (ROOT / "dvc.yaml").read_text()
    for target in getattr(arguments, "targets", None) or ():
        name, _, key = target.partition("@")
        assert re.search(rf"^  {name}:\n", stages, flags=re.M), target
        assert not key or re.search(rf"^      {key}: ", stages, flags=re.M), target


def paths() -> set[str]:
    """Return words of commands and spans that name a file or folder of the tree."""
    found = set()
    for word in {word for command in ALL for word in command}:
        if not re.fullmatch(r"[\w.@-]+(/[\w.@-]+)*/?", word):
            continue
        first, suffix = word.split("/")[0], word.rsplit(".", 1)[-1]
        if first not in (*MADE_BY_RUNS, *NOT_OURS) and ("/" in word or suffix in SUFFIXES):
            found.add(word)
    return found


def test_every_path_exists() -> None:
    inside = {file.name for folder in ("symbol_llm", "pipelines") for file in (ROOT / folder).rglob("*.py")}
    of_data = {"card.md", "train.jsonl", "dev.jsonl", "test.jsonl", "log.txt"}
    missing = {p for p in paths() if not (ROOT / p).exists() and p not in inside | of_data}
    assert missing == set()
    assert {"manifests/overlays/laptop", "components/images/gpu.Dockerfile", "dvc.yaml", "weights.py"} <= paths()


def test_map_names_every_folder_of_the_tree() -> None:
    for folder in ("symbol_llm", "components", "pipelines", "serving", "manifests", "tests"):
        assert f"| `{folder}/` |" in README


def test_components_table_names_every_component() -> None:
    text = (ROOT / "components" / "README.md").read_text()
    for file in (ROOT / "components").glob("*/component.py"):
        name = file.parent.name
        role = "gpu" if "GPU_IMAGE" in file.read_text() else "cpu"
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.startswith(f"| `{name}` | {role} |")
        assert row.endswith(f"| `stages.{name}` |")
        module = importlib.import_module(f"components.{name}.component")
        spec = getattr(module, name).component_spec
        names = {*spec.inputs, *(spec.outputs or {})} - {"params", "metrics"}
        assert {n for n in names if f"`{n}" not in row} == set()


@pytest.mark.parametrize("override", sorted({pair for command in ALL for pair in overrides(command)}))
def test_parameter_is_accepted(override: str) -> None:
    params.load(ROOT / "params.yaml", overrides=[override])


def test_keys_named_alone_exist() -> None:
    keys = [s for s in spans() if re.fullmatch(r"[a-z_]+\.[a-z_]+", s) and s.split(".")[0] in Parameters.model_fields]
    assert {"rounds.n", "collect.levels", "explore.problems"} <= set(keys)
    for key in keys:
        section, _, name = key.partition(".")
        assert name in Parameters.model_fields[section].annotation.model_fields, key  # type: ignore[union-attr]


def test_published_settings_are_the_other_choice() -> None:
    shipped = params.load(ROOT / "params.yaml")
    named = [w for c in ALL for w in c if re.fullmatch(r"(select|explore|rounds)\.\w+=(published|false|original)", w)]
    assert len(named) == 5
    for override in named:
        assert params.load(ROOT / "params.yaml", overrides=[override]) != shipped


def test_readme_has_no_badge_and_no_long_page() -> None:
    assert "![" not in README.split("## Map")[0] or "shields" not in README
    assert len(README.splitlines()) <= 270
