"""Questions about tables: readers, generator."""

import random
import sqlite3

import pytest

from symbol_llm.errors import InvalidInput
from symbol_llm.tasks import get
from symbol_llm.tasks.sql import TEMPLATES, generate, schema


def database(path):
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.executescript("CREATE TABLE boot (\n  id INT,\n\t name TEXT\n);\nCREATE TABLE hafen (ort TEXT);")
    connection.close()


def spider_row(**changes):
    return {"id": "d-0", "db_id": "see", "match": "How many?", "question": "Wie viele?", "query": "SELECT 1;"} | changes


def test_schema_has_one_line_a_table(tmp_path):
    database(tmp_path / "db" / "see.sqlite")
    assert (
        schema(tmp_path / "db" / "see.sqlite")
        == "CREATE TABLE boot ( id INT, name TEXT );\nCREATE TABLE hafen (ort TEXT);"
    )


def test_spider_row_gets_schema_and_database(data_set, tmp_path):
    database(tmp_path / "db" / "see.sqlite")
    (problem,) = get("spider_de").read(data_set([], [spider_row()]))
    assert problem.context.startswith("CREATE TABLE boot (")
    assert (problem.question, problem.program, problem.answer) == ("Wie viele?", "SELECT 1", None)
    assert problem.environment["database"] == str(tmp_path / "db" / "see.sqlite")


def test_missing_database_is_named(data_set):
    with pytest.raises(InvalidInput, match=r"see\.sqlite: no such database"):
        list(get("spider_de").read(data_set([spider_row()], [])))


def test_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.sqlite").write_text("not a database, just some words")
    with pytest.raises(InvalidInput, match="not an SQLite database"):
        schema(tmp_path / "x.sqlite")


def test_defog_answers_are_split_and_instructions_follow_the_question(data_set, tmp_path):
    database(tmp_path / "db" / "see.sqlite")
    row = {
        "id": "q-0",
        "db_name": "see",
        "question": "Which?",
        "instructions": "Use LIKE.",
        "query": "SELECT 1; SELECT 2;",
    }
    (problem,) = get("defog_sql_eval").read(data_set([row], []))
    assert (problem.question, problem.program) == ("Which? Use LIKE.", "SELECT 1")
    assert problem.environment["gold"] == ["SELECT 1", "SELECT 2"]


def test_row_without_query_names_file_line_and_field(data_set, tmp_path):
    database(tmp_path / "db" / "see.sqlite")
    row = spider_row()
    del row["query"]
    with pytest.raises(InvalidInput, match=r"test\.jsonl:2: query: field required"):
        list(get("spider_de").read(data_set([], [spider_row(), row])))


def test_generated_answer_is_what_the_query_gives():
    for i in range(200):
        problem = generate(random.Random(i), 1 + i % 3)
        connection = sqlite3.connect(":memory:")
        connection.executescript(problem.environment["script"])
        assert [list(row) for row in connection.execute(problem.program)] == problem.answer != []
        connection.close()


def test_generated_context_is_the_table_and_hides_its_rows():
    for i in range(50):
        problem = generate(random.Random(i), 1 + i % 3)
        assert problem.environment["script"].startswith(problem.context + "\nINSERT INTO ")
        assert problem.context.count("\n") == 0


def test_generated_conditions_leave_some_rows_out():
    for i in range(300):
        problem = generate(random.Random(i), 1 + i % 3)
        connection = sqlite3.connect(":memory:")
        connection.executescript(problem.environment["script"])
        without, found, _ = problem.program.partition(" WHERE ")
        if found and "MAX" not in without and "MIN" not in without:
            assert connection.execute(without).fetchall() != [tuple(row) for row in problem.answer], problem
        connection.close()


def test_generated_questions_vary_and_repeat_for_one_state():
    problems = [generate(random.Random(i), 1 + i % 3) for i in range(200)]
    assert len({(p.context, p.question) for p in problems}) >= 180
    assert len({p.program for p in problems}) >= 150
    assert len(TEMPLATES) >= 15
    assert generate(random.Random("a"), 2) == generate(random.Random("a"), 2)


def test_worked_examples_run_on_their_tables():
    for create, _, query in get("table_questions").shots:
        connection = sqlite3.connect(":memory:")
        connection.executescript(create)
        connection.execute(query)
        connection.close()
