"""Rows of Symbol-LLM's published collection, sorted among the 34 tasks that it was made of. A row does not say its task.

The collection is a JSON Lines file of `instruction`, `input` and `output`, hf://datasets/Symbol-LLM/Symbolic_Collection. The
instruction names the notation, and often the vocabulary; the input is in words, the output in symbols. The first of `ROUTES`
whose words are in the instruction and whose signs are in the output says the task. Where several tasks share a notation and
nothing names one of them, the row goes to the largest. Rows that no route takes are handed over with a reason.

Not here: databases, graphs, scenes and answers, which the rows lack. So queries of SQL are judged on tables filled by the
verifier, if the row has a schema, and all else by its form. Programs of word problems that are right in another form count
as wrong. The wording of the instructions was not at hand when the routes were written: see what is counted as unrouted.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import MAX_LINE_BYTES
from symbol_llm.ground.records import Problem, Split, content_id
from symbol_llm.tasks import Chosen, Row, get

NAME = "symbolic_collection"
INSTRUCTION = "Do as the instruction says. Answer with symbols alone."
MAX_CHARS = 20_000
"""Longest row that is looked at."""
ONE_IN = 10
"""The rows are training rows; this fraction, by a hash of its text, is held out as test rows."""


class CollectionRow(Row):
    """A row of the collection."""

    instruction: str
    input: str = ""
    output: str


class Route(NamedTuple):
    """What makes a row one of a task: words of its instruction, signs of its output, hints in its instruction or input."""

    task: str
    words: re.Pattern[str]
    signs: re.Pattern[str]
    hints: re.Pattern[str]


def _route(task: str, words: str, signs: str, hints: str = "") -> Route:
    return Route(task, *(re.compile(pattern, re.IGNORECASE | re.DOTALL) for pattern in (words, signs, hints)))


SQL, QUERY = r"\bsql\b", r"^\s*(select|with)\b"
AMR, GRAPH = r"\bamr\b|abstract meaning", r"^\s*\(\S+ / "
TRIPLES, FACT = r"triple|ontology", r"\w\([^()\n]+,[^()\n]+\)"
REQUEST = r"^\s*\[IN:"
LOGIC = r"first[- ]order|\bfol\b|logic(al)? (form|formula|expression|representation|rule)"
FORMULA = r"[∀∃¬∧∨→⊕]|forall|exists|[a-z]\w*\("
PAL = r"math|arithmetic|problem|python"
PROGRAM = r"def solution\(|\banswer\s*="
SCENE = r"functional|program|image|picture|scene|visual"

ROUTES: Sequence[Route] = (
    _route("blocksworld", r"pddl|planning", r"\(:domain\s+[\w-]*block"),
    _route("termes", r"pddl|planning", r"\(:domain\s+[\w-]*termes"),
    _route("floortile", r"pddl|planning", r"\(:domain\s+[\w-]*floor"),
    _route("grippers", r"pddl|planning", r"\(:domain\s+[\w-]*gripper"),
    _route("compwebq", r"sparql", r"^\s*(prefix|select|ask)\b"),
    _route("cosql", SQL, QUERY, r"cosql|dialog"),
    _route("sparc", SQL, QUERY, r"sparc|multi-?turn|previous|interaction|conversation|history"),
    _route("spider", SQL, QUERY),
    _route("webqsp", r"webqsp", r"^\s*\((join|and|r|argm\w+|count)\s"),
    _route(
        "grailqa", r"s-?expression|knowledge|freebase|logical form", r"^\s*\((join|and|argm\w+|count|[lg][te]|tc|r)\s"
    ),
    _route("bioamr", rf"\A(?=.*({AMR})).*(bio|medic)", GRAPH),
    _route("amr2", rf"\A(?=.*({AMR})).*\b2\.0", GRAPH),
    _route("amr3", AMR, GRAPH),
    _route("webnlg", rf"\A(?=.*({TRIPLES})).*(webnlg|dbpedia)", FACT),
    _route("tekgen", TRIPLES, FACT),
    _route("mtop", r"\bmtop\b", REQUEST),
    _route("topv2", "", REQUEST + r"\w+ (?!\[SL:|\])"),  # which keeps words outside of slots
    _route("mtop", "", REQUEST),
    _route("nlmaps", r"map|\bosm\b|\bapi\b|geograph", r"^\s*(query|dist)\("),
    _route("scan", r"action|command", r"^\s*[a-z]\w*(\s+[a-z]\w*)*\s*$"),
    _route("nl2bash", r"\bbash\b|shell|command[- ]line", r"\S"),
    _route("nl2rx", r"regular expression|\bregex", r"\S"),
    _route("aqua", PAL, PROGRAM, r"options|choices|\(a\)|\ba\)"),
    _route("math", PAL, PROGRAM, r"\$|\\[a-z]+\{"),
    _route("gsm8k", PAL, PROGRAM),
    _route("nl2python", r"\bpython\b", r"\bdef \w+\("),
    _route("nl2java", r"\bjava\b", r"\}\s*$"),
    _route("nl2go", r"\bgo(lang)?\b", r"\bfunc\b"),
    _route("geometry3k", r"geometr", r"\b(find|equals|lengthof|measureof|line|angle|triangle|circle)\("),
    _route("gqa", SCENE, r"^\s*select\s*:"),
    _route("clevr", SCENE, r"\bscene\b"),
    _route("folio", rf"\A(?=.*({LOGIC})).*folio", FORMULA),
    _route("logicnli", rf"\A(?=.*({LOGIC})).*logicnli", FORMULA),
    _route("malls", LOGIC, FORMULA),
    _route("chebi20", r"smiles|molecul", r"^\s*\S+\s*$"),
)
"""Searched in this order: those that a row must name come before those that take what else has the notation."""


class Left(NamedTuple):
    """A line of the file that no task takes, and why."""

    line: int
    why: str


class Sorted(NamedTuple):
    """The lines of a file by task."""

    tasks: Mapping[str, Sequence[int]]
    """Where in the file the lines of each task begin."""
    left: Sequence[Left]


def sort(file: Path) -> Sorted:
    """Return which lines of `file` are of which task. Memory holds a number a line, and a reason for each that is left."""
    tasks: dict[str, array[int]] = defaultdict(lambda: array("Q"))
    left = []
    for number, (offset, line) in enumerate(_lines(file), 1):
        try:
            row = CollectionRow.model_validate_json(line)
        except ValidationError as e:
            left.append(Left(number, f"malformed: {e.errors()[0]['msg']}"))
            continue
        if len(line) > MAX_CHARS:
            left.append(Left(number, f"more than {MAX_CHARS} characters"))
        elif (task := task_of(row)) is None:
            left.append(Left(number, f"no task for {_said(row)!r}"))
        elif get(task).family == "sql" and schema_of(row) is None:
            left.append(Left(number, f"no schema of the tables of {_said(row)!r}"))
        else:
            tasks[task].append(offset)
    return Sorted(tasks, left)


def chosen(file: Path, found: Sorted, names: Sequence[str]) -> list[Chosen]:
    """Return the tasks `names`, or all that `found` has lines of, each with a reader of those lines.

    InvalidInput if it has lines of none.
    """
    if not found.tasks:
        why = f"; line {found.left[0].line}: {found.left[0].why}" if found.left else ""
        raise InvalidInput(f"{file}: no row of a task known here, expected `instruction`, `input` and `output`{why}")
    there = sorted(set(names) or found.tasks)
    return [Chosen(get(name)._replace(read=partial(_read, name, found.tasks.get(name, ()))), file) for name in there]


def task_of(row: CollectionRow) -> str | None:
    """Return the task that `row` is one of, or None."""
    asked = f"{row.instruction}\n{row.input}"
    for task, words, signs, hints in ROUTES:
        if words.search(row.instruction) and signs.search(row.output) and hints.search(asked):
            return task
    return None


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as lines:
        offset = 0
        while line := lines.readline(MAX_LINE_BYTES):
            yield offset, line
            offset += len(line)


def _said(row: CollectionRow) -> str:
    return " ".join(row.instruction.split())[:80]


def _read(task: str, offsets: Sequence[int], file: Path) -> Iterator[Problem]:
    with file.open("rb") as lines:
        for offset in offsets:
            lines.seek(offset)
            yield problem(task, CollectionRow.model_validate_json(lines.readline(MAX_LINE_BYTES)), offset)


def problem(task: str, row: CollectionRow, offset: int) -> Problem:
    """Return `row` as a problem of `task`, with its instruction as context."""
    context, question, output = row.instruction.strip(), row.input.strip(), row.output.strip()
    split: Split = "train" if int(content_id(context, question), 16) % ONE_IN else "test"
    return Problem.of(
        task=task,
        family=get(task).family,
        split=split,
        instruction=INSTRUCTION,
        context=context,
        question=question,
        program=output,
        answer=output if task == "scan" else None,
        environment=_environment(task, row),
        source=f"{NAME} {offset}",
        licence=get(task).licence,
    )


def _environment(task: str, row: CollectionRow) -> dict[str, Any]:
    """Return what judging the row needs; PDDL is judged without its domain, of which the row has at most a description."""
    match get(task).family:
        case "pddl":
            return {"fixed_names": True}
        case "sql":
            return {"schema": schema_of(row)}
        case "commands":
            return {"vocabulary": sorted(set(row.output.split()))}
        case "python":
            return {"compare": "form"}
    return dict(get(task).environment)


# --- schemas ----------------------------------------------------------------------------------------------------------

_CREATE = re.compile(r"CREATE TABLE\s+\S+?\s*\((?:[^()]|\([^()]*\))*\)", re.IGNORECASE)
_TABLE = re.compile(
    r"(?:^|[|;:\n.])[ \t]*(\w+)[ \t]*(?::((?:[^|;:\n()]|\(\w+\))+)(?=[|;\n.]|$)|\(((?:[^()]|\(\w+\))+)\))"
)
_COLUMN = re.compile(
    r"\s*(\w+)(?:\s+\(?(int|integer|bigint|number|numeric|real|float|double|text|varchar|char|date|datetime|time|bool|boolean)\)?)?\s*"
)
_USED = re.compile(r"\b(?:from|join)\s+[\"'`]?(\w+)", re.IGNORECASE)


def schema_of(row: CollectionRow) -> str | None:
    """Return the schema in instruction or input as CREATE TABLE lines; None unless it has every table of the query.

    Read are CREATE TABLE itself, `table: column, column` and `table(column, column)`, one after the other, on lines of their
    own or divided by `|`, `;` or full stops.
    """
    text = f"{row.instruction}\n{row.input}"
    if created := _CREATE.findall(text):
        return "\n".join(f"{' '.join(one.split())};" for one in created)
    tables = {
        name.casefold(): _columns(colon or brackets, row.output) for name, colon, brackets in _TABLE.findall(text)
    }
    used = {name.casefold() for name in _USED.findall(row.output)}
    if not used or not all(tables.get(name) for name in used):
        return None
    return "\n".join(f'CREATE TABLE "{name}" ({", ".join(columns)});' for name, columns in tables.items() if columns)


def _columns(text: str, query: str) -> list[str]:
    """Return the columns that are listed in `text`, as CREATE TABLE has them; none if it is no list of names and types.

    One without a type is a number if its name ends in `id` or `query` uses it as one, else a text.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        named = _COLUMN.fullmatch(part.casefold())
        if named is None:
            return []
        used = rf"\b{named[1]}\b\s*([<>=!]+|between)\s*-?\d|\b(sum|avg)\s*\(\s*(\w+\.)?{named[1]}\s*\)"
        is_number = named[1].endswith("id") or re.search(used, query, re.IGNORECASE)
        found.setdefault(named[1], named[2] or ("integer" if is_number else "text"))
    return [f'"{name}" {kind}' for name, kind in found.items()]
