"""Questions about tables: readers, generator."""

import contextlib
import random
import sqlite3

import pytest

from symbol_llm.families import sql
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.tasks import get
from symbol_llm.tasks.sql import TEMPLATES, THEMES, generate
from tests.tasks.test_schemas import STATEMENTS, database, only_declared


def spider_row(**changes):
    return {"id": "d-0", "db_id": "see", "match": "How many?", "question": "Wie viele?", "query": "SELECT 1;"} | changes


def test_spider_row_gets_schema_and_database(data_set, tmp_path):
    database(tmp_path / "db" / "see.sqlite")
    (problem,) = get("spider_de").read(data_set([], [spider_row()]))
    assert problem.context.startswith("CREATE TABLE boot (")
    assert (problem.question, problem.program, problem.answer) == ("Wie viele?", "SELECT 1", None)
    assert problem.environment["database"] == str(tmp_path / "db" / "see.sqlite")


def test_missing_database_is_named(data_set):
    with pytest.raises(InvalidInput, match=r"see\.sqlite: no such database"):
        list(get("spider_de").read(data_set([spider_row()], [])))


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
        found = [list(row) for row in connection.execute(problem.program)]
        assert sorted(found, key=repr) == [pytest.approx(row) for row in sorted(problem.answer, key=repr)] != []
        connection.close()


def test_generated_context_is_the_table_and_hides_its_rows():
    for i in range(50):
        problem = generate(random.Random(i), 1 + i % 3)
        assert problem.environment["script"].startswith(problem.context + "\nINSERT INTO ")
        assert problem.context.count("CREATE TABLE") == problem.context.count("\n") + 1 <= 2


def test_generated_conditions_leave_some_rows_out():
    for i in range(300):
        problem = generate(random.Random(i), 1 + i % 3)
        connection = sqlite3.connect(":memory:")
        connection.executescript(problem.environment["script"])
        without, found, _ = problem.program.partition(" WHERE ")
        if (
            found
            and " JOIN " not in without
            and "SELECT" not in problem.program[6:]
            and "MAX" not in without
            and "MIN" not in without
        ):
            assert connection.execute(without).fetchall() != [tuple(row) for row in problem.answer], problem
        connection.close()


def test_generated_questions_vary_and_repeat_for_one_state():
    problems = [generate(random.Random(i), 1 + i % 3) for i in range(200)]
    assert len({(p.context, p.question) for p in problems}) >= 170
    assert len({p.program for p in problems}) >= 150
    assert len(TEMPLATES) >= 15
    assert generate(random.Random("a"), 2) == generate(random.Random("a"), 2)


def test_worked_examples_run_on_their_tables():
    for create, _, query in get("table_questions").shots:
        connection = sqlite3.connect(":memory:")
        connection.executescript(create)
        connection.execute(query)
        connection.close()


def test_spider_row_without_database_is_judged_on_its_schema(data_set, tmp_path):
    only_declared(tmp_path)
    row = spider_row(query="SELECT Town FROM harbor WHERE id > 3;")
    (problem,) = get("spider").read(data_set([], [row]))
    assert problem.context == STATEMENTS
    assert problem.environment == {"schema": STATEMENTS, "gold": ["SELECT Town FROM harbor WHERE id > 3"]}


@pytest.mark.parametrize(
    ("gold", "other", "score"),
    [
        ("SELECT Town FROM harbor WHERE id > 3", "SELECT h.town FROM harbor h WHERE NOT h.id <= 3", 1.0),
        ("SELECT Town FROM harbor WHERE id > 3", "SELECT Town FROM harbor WHERE id >= 3", 0.0),
        ("SELECT count(*) FROM boat WHERE \"order\" = 'Bonn'", "SELECT count(*) FROM boat", 0.0),
        ("SELECT Town FROM harbor", "SELECT DISTINCT Town FROM harbor", 0.0),
        ("SELECT count(*) FROM harbor", "SELECT count(*) FROM boat", 0.0),
        (
            "SELECT T1.Town FROM harbor T1 JOIN boat T2 ON T1.id = T2.harbor_id GROUP BY T1.id HAVING count(*) > 3",
            "SELECT Town FROM harbor WHERE (SELECT count(*) FROM boat WHERE harbor_id = harbor.id) > 3",
            1.0,
        ),
        (
            "SELECT Town FROM harbor WHERE id NOT IN (SELECT harbor_id FROM boat)",
            "SELECT Town FROM harbor EXCEPT SELECT Town FROM harbor JOIN boat ON id = harbor_id",
            0.0,
        ),
        ("SELECT Town FROM harbor WHERE Town LIKE '%ort%'", "SELECT Town FROM harbor WHERE Town = 'ort'", 0.0),
        ("SELECT Town FROM harbor ORDER BY id DESC LIMIT 1", "SELECT Town FROM harbor ORDER BY id LIMIT 1", 0.0),
    ],
)
def test_queries_are_told_apart_on_a_schema_alone(data_set, tmp_path, gold, other, score):
    only_declared(tmp_path)
    (problem,) = get("spider").read(data_set([], [spider_row(query=gold)]))
    assert sql.score(gold, problem, Limits()).score == 1.0
    assert sql.score(other, problem, Limits()).score == score


def test_dialogue_gives_a_problem_a_turn_with_the_earlier_questions(data_set, tmp_path):
    only_declared(tmp_path)
    turns = [
        {"utterance": "All towns?", "query": "SELECT Town FROM harbor"},
        {"utterance": "How many?", "query": "SELECT 2;"},
    ]
    folder = data_set([{"database_id": "see", "interaction": turns, "final": {"utterance": "x", "query": "y"}}], [])
    for name in ("sparc", "cosql"):
        one, two = get(name).read(folder)
        assert (one.question, one.context, one.source) == ("All towns?", STATEMENTS, f"{name} 0#1")
        assert (two.question, two.context) == ("How many?", f"{STATEMENTS}\nUser: All towns?")
        assert two.program == "SELECT 2"
        assert "last question" in two.instruction


def test_dialogue_without_turns_names_file_line_and_field(data_set, tmp_path):
    only_declared(tmp_path)
    with pytest.raises(InvalidInput, match=r"train\.jsonl:1: interaction"):
        list(get("sparc").read(data_set([{"database_id": "see", "interaction": []}], [])))


def test_wikisql_row_gets_columns_of_other_rows_beside_its_own(data_set):
    def row(n, column, value):
        sentence = {"original": "Who won?", "text": "Who won ?", "variables": {"var0": value}}
        query = f'SELECT COUNT TABLEalias0.{column}_FIELD FROM TABLE AS TABLEalias0 WHERE TABLEalias0.2ND_PLACE_FIELD = "var0" ;'
        return {"id": f"w-{n}", "sentences": [sentence], "sql": [query], "variables": []}

    one, _ = get("wikisql").read(data_set([row(0, "WINNER(S)", "O'Hara"), row(1, "YEAR", "1,200")], []))
    assert one.program == "SELECT COUNT(winner_s) FROM facts WHERE in_2nd_place = 'O''Hara'"
    assert set(one.context[20:-2].split(", ")) == {"winner_s TEXT", "in_2nd_place TEXT", "year TEXT"}


def test_advising_row_gives_a_problem_a_phrasing_with_its_values(data_set, tmp_path):
    (tmp_path / "advising-schema.csv").write_text(
        "Table Name, Field Name, Type, Is Foreign Key, Is Primary Key\nCOURSE, NAME, varchar(9), YES, -, NULL, -\n"
        "COURSE, NUMBER, int(11), YES, -, NULL, -\n-, -, -, -, -, -, -\n"
    )
    variables = [
        {"name": "number0", "example": "1", "location": "both", "type": "number"},
        {"name": "name0", "example": "Art", "location": "sql-only", "type": "name"},
    ]
    sentences = [
        {"text": f"Is number0 {w} ?", "variables": {"number0": n, "name0": ""}} for n, w in (("5", "on"), ("6", "off"))
    ]
    query = 'SELECT NAME FROM COURSE WHERE NUMBER = number0 AND NAME = "name0" ;'
    row = {"id": "a", "sentences": sentences, "sql": [query], "variables": variables}
    one, two = get("advising").read(data_set([row], []))
    assert one.context == "CREATE TABLE COURSE (NAME TEXT, NUMBER INTEGER);\n-- name is Art"
    assert (two.question, two.program) == ("Is 6 off ?", 'SELECT NAME FROM COURSE WHERE NUMBER = 6 AND NAME = "Art"')
    assert two.source == "advising a#2"


@pytest.mark.parametrize("name", ["spider", "sparc", "cosql"])
def test_rows_found_without_sqlite_are_what_sqlite_finds(name):
    """Rows of a query without ORDER BY come in any order; averages may differ in the last digits."""
    for i in range(150):
        problem = get(name).generate(random.Random(i), 1 + i % 3)
        connection = sqlite3.connect(":memory:")
        connection.executescript(problem.environment["script"])
        found = [list(row) for row in connection.execute(problem.program)]
        connection.close()
        expected = problem.answer
        if "ORDER BY" not in problem.program:
            found, expected = sorted(found, key=repr), sorted(expected, key=repr)
        assert [pytest.approx(row) for row in expected] == found, problem.program


def test_a_generated_conversation_grows_by_a_turn_a_level():
    for i in range(30):
        for level in (1, 2, 3):
            problem = get("sparc").generate(random.Random(i), level)
            assert problem.context.count("\nUser: ") == level
            assert problem.context.count("CREATE TABLE") == 2


def test_names_of_tables_and_columns_are_no_words_of_sql():
    connection = sqlite3.connect(":memory:")
    for theme in THEMES:
        columns = [theme.name, theme.group, *theme.numbers]
        connection.execute(f"CREATE TABLE {theme.table} ({', '.join(columns)})")
        connection.execute(f"SELECT {', '.join(columns)} FROM {theme.table}")
    connection.close()
    assert len({theme.table for theme in THEMES}) == len(THEMES) == 36


@pytest.mark.parametrize("name", ["spider", "sparc", "cosql"])
def test_generated_problems_tell_near_misses_apart(name):
    """They are judged on their own rows and on fillings; an aggregate of one row may still be its sum and its mean."""
    passed = 0
    for i in range(20):
        problem = get(name).generate(random.Random(f"miss {i}"), 1 + i % 3)
        mutant = next(sql.mutants(problem.program, random.Random(i)))
        with contextlib.suppress(Unparsable):
            passed += sql.score(mutant, problem, Limits()).score == 1.0
    assert passed <= 2


def test_an_answer_that_gold_does_not_give_is_no_problem():
    problem = get("spider").generate(random.Random(1), 2)
    wrong = problem.model_copy(update={"answer": [*problem.answer, problem.answer[0]]})
    with pytest.raises(InvalidInput, match="not the answer"):
        sql.score(problem.program, wrong, Limits())
