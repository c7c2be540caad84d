"""Rows in the shape of Symbol-LLM's collection, written by us: each finds its task, is judged, and what finds none is counted."""

import json
import logging
import random
from collections import Counter
from pathlib import Path

import pytest

from symbol_llm import tasks
from symbol_llm.collection import symbolic_collection
from symbol_llm.collection.cleaning import Dropped
from symbol_llm.collection.collect import choose, collect
from symbol_llm.collection.symbolic_collection import CollectionRow, Left, problem, schema_of, task_of
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import read_json, read_records
from symbol_llm.ground.params import Collect, Limits
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.records import TrainingRow
from symbol_llm.judging import verify
from tests.cpu import at_most

SCENE = "Turn the scene into a PDDL problem. Atoms: (on ?a ?b), (clear ?a) and others."
WORDINGS = {
    "blocksworld": (SCENE, "Planning: write the problem file for the description."),
    "termes": (SCENE, "Write the planning problem of the robot in Planning Domain Definition Language."),
    "floortile": (SCENE, "What is the pddl of this?"),
    "grippers": (SCENE, "Give the planning problem."),
    "spider": ("Translate the question into SQL.", "Write an SQL query for the schema."),
    "sparc": ("Given the previous questions, write the SQL of the last one.", "This is a multi-turn interaction. Answer in SQL."),
    "cosql": ("Given the dialogue, write the SQL of the last question.", "Answer the dialog's last turn in SQL."),
    "webqsp": ("WebQSP: give the s-expression.", "Query Freebase for a question of WebQSP."),
    "grailqa": ("Turn the question into an S-expression.", "Write the logical form to query the knowledge graph."),
    "compwebq": ("Write the SPARQL query of the question.", "Translate to SPARQL, with the prefixes given."),
    "amr3": ("Write the AMR graph of the sentence.", "Give the abstract meaning representation."),
    "amr2": ("Write the graph in the style of AMR 2.0.", "Abstract Meaning Representation, release 2.0:"),
    "bioamr": ("Write the AMR of the biomedical sentence.", "Give the abstract meaning representation of this text on medicine."),
    "tekgen": ("Find the triples of the ontology in the text.", "Ontology: people and books. Which triples does the text state?"),
    "webnlg": ("Find the triples of the DBpedia ontology in the text.", "WebNLG: list the triples."),
    "mtop": ("Write the API call of the request, in the form of MTOP.", "Parse the utterance; intents and slots are given."),
    "topv2": ("Write the API call of the request.", "Parse the utterance; intents and slots are given."),
    "nlmaps": ("Write the query to OpenStreetMap, a map.", "Which API call answers the geographic question?"),
    "scan": ("Translate the command into actions: I_WALK, I_RUN and others.", "Write the action sequence."),
    "nl2bash": ("Write a bash command line.", "Which shell command does this?"),
    "nl2rx": ("Write the regular expression.", "Turn the sentence into a regex."),
    "nl2python": ("Write the Python function of the docstring.", "Generate python code."),
    "nl2java": ("Write the Java method of the comment.", "Generate java code."),
    "nl2go": ("Write the Go function of the comment.", "Generate golang code."),
    "folio": ("Write the sentence in first-order logic (FOLIO).", "FOLIO: give the FOL of each sentence."),
    "malls": ("Write the sentence in first-order logic.", "Translate to FOL."),
    "logicnli": ("Write the sentence in first-order logic, as in LogicNLI.", "LogicNLI: give the logical form."),
    "gqa": ("Write the program of the question about the image.", "Which functional steps answer the question?"),
    "clevr": ("Write the program of the question about the scene.", "Which functional program answers the question?"),
    "geometry3k": ("Write the geometry problem as logical forms.", "Turn the geometric problem into predicates."),
    "gsm8k": ("Solve the math problem by a Python program.", "Write a solution of the word problem in python."),
    "aqua": ("Solve the math problem, which has options, by a Python program.", "Choices are given. Write a solution in python."),
    "math": (r"Solve the math problem, in $\LaTeX$, by a Python program.", "Write a solution in python. Formulas are between $."),
    "chebi20": ("Write the SMILES of the molecule.", "Which molecule is described?"),
}  # fmt: skip
TWO = [(name, wording) for name, both in WORDINGS.items() for wording in both]
QUICK = Limits()


def rows_of(name: str, wording: str) -> list[CollectionRow]:
    """Return three rows of a task in one wording; a schema stands in the instruction."""
    made = [tasks.get(name).generate(random.Random(seed), 1 + seed % 3) for seed in range(3)]
    contexts = [f"\n{p.context}" if p.family == "sql" else "" for p in made]
    return [
        CollectionRow(instruction=wording + context, input=p.question, output=p.program)
        for p, context in zip(made, contexts, strict=True)
    ]


def test_every_task_of_the_collection_has_a_route_and_no_other() -> None:
    published = {t.name for t in tasks.all_tasks().values() if t.published}
    assert set(WORDINGS) == {route.task for route in symbolic_collection.ROUTES} == published


@pytest.mark.parametrize(("name", "wording"), TWO, ids=[f"{name}-{n % 2}" for n, (name, _) in enumerate(TWO)])
def test_row_finds_its_task_and_its_own_output_alone_is_accepted(name: str, wording: str) -> None:
    rows = rows_of(name, wording)
    assert [task_of(row) for row in rows] == [name] * 3
    problems = [problem(name, row, 0) for row in rows]
    verdicts = {
        (a, b): verify.judge(p, q.program, QUICK, is_program=True)
        for a, p in enumerate(problems)
        for b, q in enumerate(problems)
    }
    forms = [verdicts[n, n].canonical for n in range(3)]
    for (a, b), verdict in verdicts.items():
        is_same = forms[a] == forms[b]
        assert verdict.status in (("accepted",) if is_same else ("rejected", "unparsable")), (name, verdict.detail)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("gsm8k", ("Write python code to solve the problem.", "Al has 2 pens and buys 3.", "def solution():\n    pens = 2 + 3\n    return pens")),
        ("aqua", ("Write python code to solve the problem.", "What is 2 + 3? Options: A) 5 B) 6", "def solution():\n    return 2 + 3")),
        ("math", ("Write python code to solve the problem.", r"What is $\frac{4}{2}$?", "def solution():\n    return 4 / 2")),
        ("malls", ("Give the first-order logic.", "All cats sleep.", "∀x (Cat(x) → Sleeps(x))")),
        ("scan", ("Command to actions. walk is xq7b1, twice repeats.", "walk twice", "xq7b1 xq7b1")),
        ("gqa", ("Write the program of the image question.", "Is there a cup?", "select: cup -> exist")),
        ("topv2", ("Parse the request.", "wake me at 7", "[IN:CREATE_ALARM wake me [SL:DATE_TIME at 7 ] ]")),
        ("mtop", ("Parse the request.", "wake me at 7", "[IN:CREATE_ALARM [SL:DATE_TIME at 7 ] ]")),
    ],
)  # fmt: skip
def test_forms_that_our_generators_do_not_write_are_taken_too(task: str, row: tuple[str, str, str]) -> None:
    made = CollectionRow(instruction=row[0], input=row[1], output=row[2])
    assert task_of(made) == task
    asked = problem(task, made, 0)
    assert (asked.context, asked.question, asked.program) == row
    assert verify.judge(asked, row[2], QUICK, is_program=True).status == "accepted"


UNROUTED = {
    "no notation is named": ("Tell a story.", "A cat.", "Once upon a time there was a cat."),
    "output is in words": ("Translate the question into SQL.", "How many cats?", "There are two cats."),
    "another notation": ("Write COBOL.", "Say hello.", "DISPLAY 'HELLO'."),
    "PDDL of another domain": ("Write the PDDL.", "Go.", "(define (problem p) (:domain rovers) (:init) (:goal (and)))"),
    "nothing at all": ("", "", ""),
}


@pytest.mark.parametrize("why", UNROUTED)
def test_row_of_no_task_finds_none(why: str) -> None:
    instruction, asked, output = UNROUTED[why]
    assert task_of(CollectionRow(instruction=instruction, input=asked, output=output)) is None


@pytest.mark.parametrize(
    "part", ["math ", "((", "w(", "a(b,", "logical form ", "CREATE TABLE a (", " ", "_", "(:domain ", "a: b (c) "]
)
def test_row_made_to_be_slow_is_not(part: str) -> None:
    text = (part * symbolic_collection.MAX_CHARS)[: symbolic_collection.MAX_CHARS]
    with at_most(2):
        for row in (
            CollectionRow(instruction=text, output="SELECT 1 FROM a"),
            CollectionRow(instruction="sql amr logic form", output=text),
        ):
            task_of(row)
            schema_of(row)


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Schema: | pets | cat : id , name | owner : id , cat_id |",
        "cat: id, name\nowner: id, cat_id",
        "cat(id, name); owner(id, cat_id)",
        "Tables: cat(id, name); owner(id, cat_id)",
        "cat: id (integer), name (text)\nowner: id (integer), cat_id (integer)",
        "The tables are as follows. cat (id integer, name text). owner (id integer, cat_id integer)",
        'CREATE TABLE "cat" ("id" integer, "name" text);\nCREATE TABLE "owner" ("id" integer, "cat_id" integer);',
    ],
)
def test_schema_is_read_in_the_ways_that_prompts_write_it(text: str) -> None:
    row = CollectionRow(instruction=f"Write SQL.\n{text}", input="Whose cat?", output="SELECT id FROM owner")
    assert schema_of(row) == (
        'CREATE TABLE "cat" ("id" integer, "name" text);\nCREATE TABLE "owner" ("id" integer, "cat_id" integer);'
    )


def test_query_is_judged_on_tables_that_the_verifier_fills() -> None:
    row = CollectionRow(
        instruction="Write SQL.",
        input="| pets | cat : id , name , age |\nNames of old cats?",
        output="SELECT name FROM cat WHERE age > 9",
    )
    asked = problem("spider", row, 0)
    tried = (
        "SELECT name FROM cat WHERE age > 9",
        "select c.name from cat c where not c.age <= 9",
        "SELECT name FROM cat",
    )
    assert [verify.judge(asked, one, QUICK, is_program=True).status for one in tried] == [
        "accepted",
        "accepted",
        "rejected",
    ]


def test_query_without_its_tables_is_of_no_use() -> None:
    for text in ("", "dog: id, name", "cat: the animal, of course"):
        assert schema_of(CollectionRow(instruction=text, output="SELECT name FROM cat")) is None


# --- a file -----------------------------------------------------------------------------------------------------------


def written(file: Path, rows: list[CollectionRow], *more: str) -> Path:
    lines = [json.dumps({**row.model_dump(), "id": n}, ensure_ascii=False) for n, row in enumerate(rows)]
    file.write_text("".join(f"{line}\n" for line in (*lines, *more)))
    return file


def many(name: str, n: int) -> list[CollectionRow]:
    made = (tasks.get(name).generate(random.Random(f"{name} {seed}"), 1 + seed % 3) for seed in range(n))
    return [CollectionRow(instruction=WORDINGS[name][0], input=p.question, output=p.program) for p in made]


def test_lines_are_sorted_and_what_is_left_is_told_with_its_line(tmp_path: Path) -> None:
    rows = [*many("scan", 2), *many("nl2rx", 1)]
    no_schema = CollectionRow(instruction="Write SQL.", input="Cats?", output="SELECT name FROM cat")
    story = CollectionRow(instruction="Tell a story.", output="Once.")
    long = CollectionRow(instruction="Write SQL.", input="x" * 20_000, output="SELECT 1")
    file = written(
        tmp_path / "rows.jsonl", [*rows, no_schema, story, long], "{", '{"instruction": "Write SQL.", "output": 4}'
    )
    found = symbolic_collection.sort(file)
    assert {task: len(at) for task, at in found.tasks.items()} == {"scan": 2, "nl2rx": 1}
    assert found.left[:3] == [
        Left(4, "no schema of the tables of 'Write SQL.'"),
        Left(5, "no task for 'Tell a story.'"),
        Left(6, "more than 20000 characters"),
    ]
    assert [(left.line, left.why.split(":")[0]) for left in found.left[3:]] == [(7, "malformed"), (8, "malformed")]
    chosen = {one.task.name: one for one in symbolic_collection.chosen(file, found, ())}
    assert [p.question for p in chosen["scan"].task.read(file)] == [row.input.strip() for row in rows[:2]]


def test_collection_is_built_of_one_file_and_says_what_it_could_not_use(
    tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 60 rows of SCAN a tenth, by their hashes, is held out; wrong gold goes, with its reason, as in any source."""
    rows = [*many("scan", 60), *many("chebi20", 40)]
    broken = CollectionRow(instruction=WORDINGS["chebi20"][0], input="A ring that never closes.", output="C1CC")
    story = CollectionRow(instruction="Tell a story.", output="Once.")
    file = written(tmp_path / "rows.jsonl", [story, *rows, broken])
    with caplog.at_level(logging.WARNING, logger="symbol_llm"):
        numbers = collect(tmp_path / "out", Collect(source=file, dev_share=0.2))
    assert (
        "1 of 102 rows are of no task, such as line 1 (no task for 'Tell a story.'); see dropped.jsonl" in caplog.text
    )
    assert numbers["n_unrouted"] == 1
    dropped = list(read_records(tmp_path / "out" / "dropped.jsonl", Dropped))
    assert [(d.task, d.source, d.detail) for d in dropped if d.reason == "unrouted"] == [
        ("none", "symbolic_collection line 1", "no task for 'Tell a story.'")
    ]
    assert [d.reason for d in dropped if d.task == "chebi20" and "gold" in d.reason] == ["gold unparsable"]
    splits = {split: read_problems(tmp_path / "out", split) for split in ("train", "dev", "test")}
    kept = [p for problems in splits.values() for p in problems]
    n_read = Counter(p.task for p in kept) + Counter(d.task for d in dropped)
    assert n_read == {"scan": 60, "chebi20": 41, "none": 1}
    held_out = {p.question for p in kept if p.split == "test"}
    assert held_out == {
        p.question for p in kept if int(symbolic_collection.content_id(p.context, p.question), 16) % 10 == 0
    }
    assert 0 < len(held_out) < 20 < len(splits["train"])
    taught = list(read_records(tmp_path / "out" / "training_set.jsonl", TrainingRow))
    assert {row.messages[1]["content"].split("\n")[0] for row in taught} == {
        WORDINGS[n][0] for n in ("scan", "chebi20")
    }
    assert set(read_json(tmp_path / "out" / "manifest.json")["inputs"]) == {"symbolic_collection"}


def test_tasks_of_the_file_can_be_chosen_by_name_and_domain(tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", [*many("scan", 3), *many("chebi20", 3), *many("nl2rx", 3)])

    def names(**how: object) -> list[str]:
        return [one.task.name for one in choose(Collect(source=file, **how))]

    assert names() == ["chebi20", "nl2rx", "scan"]
    assert names(tasks=("scan", "chebi20")) == ["chebi20", "scan"]
    assert names(domains=("code",)) == ["nl2rx"]
    with pytest.raises(InvalidInput, match="unknown task 'scam'"):
        names(tasks=("scam",))


def test_file_of_something_else_is_refused_with_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Write SQL.", "completion": "SELECT 1"}\n')
    with pytest.raises(
        InvalidInput, match="expected `instruction`, `input` and `output`; line 1: malformed: Field required"
    ):
        choose(Collect(source=tmp_path / "rows.jsonl"))
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(InvalidInput, match="none.jsonl: no row of a task known here"):
        choose(Collect(source=tmp_path / "none.jsonl"))
