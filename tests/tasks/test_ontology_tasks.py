"""Triples under an ontology: readers, generator."""

import json
import random
import re

import pytest

from symbol_llm.families import triples as family
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.tasks.ontology import ONTOLOGIES, PARTS, TASKS, entity, facts, printed, symbols_of, worded

BY_NAME = {task.name: task for task in TASKS}
ONTOLOGY = {
    "id": "ont_1_boats",
    "title": "Boats",
    "concepts": [{"qid": "Q1", "label": "boat"}, {"qid": "Q2", "label": "town"}],
    "relations": [
        {"pid": "P1", "label": "home port ", "domain": "Q1", "range": "Q2"},
        {"pid": "P2", "label": "built, launched in", "domain": "Q1", "range": ""},
    ],
}


def read(name, folder):
    (folder / "ontologies.jsonl").write_text(json.dumps(ONTOLOGY) + "\n")
    return list(BY_NAME[name].read(folder))


def test_train_row_of_tekgen_holds_one_triple_in_labels(data_set):
    row = {"id": "ont_1_boats_train_3", "sent": "Ada lies in Kiel.", "sub_label": "Ada", "rel_label": "home port ",
           "obj_label": "Kiel", "sub": "Q5", "rel": "P1", "obj": "Q6"}  # fmt: skip
    (problem,) = read("tekgen", data_set([row], []))
    assert problem.context == "Relations: home port(boat, town); built, launched in(boat, any)"
    assert (problem.program, problem.answer) == ("home port(Ada, Kiel)", [["Ada", "home port", "Kiel"]])
    assert problem.environment == {"relations": ["home port", "built, launched in"]}
    assert problem.source == "tekgen ont_1_boats_train_3"


def test_names_with_signs_are_quoted_so_that_the_verifier_reads_them(data_set):
    facts = [
        {"sub": "Ada", "rel": "built, launched in", "obj": '"May 1, 1921"'},
        {"sub": 'The "Bo" (boat)', "rel": "home port", "obj": "Kiel :)"},
    ]
    row = {"id": "ont_1_boats_test_0", "sent": "Ada ...", "triples": facts}
    (problem,) = read("webnlg", data_set([], [row]))
    assert problem.program == '"built, launched in"(Ada, "May 1, 1921")\nhome port("The \\"Bo\\" (boat)", "Kiel :)")'
    assert family.score(problem.program, problem, Limits()).score == 1.0


def test_row_without_triples_has_no_gold(data_set):
    (problem,) = read("tekgen", data_set([], [{"id": "ont_1_boats_test_1", "sent": "Nothing here.", "triples": []}]))
    assert (problem.answer, problem.program) == (None, None)


def test_row_with_a_fault_names_file_line_and_field(data_set):
    row = {"id": "ont_1_boats_test_1", "sent": "x", "triples": [{"sub": "a", "rel": "b"}]}
    with pytest.raises(InvalidInput, match=r"test\.jsonl:1: triples\.0\.obj: field required"):
        read("webnlg", data_set([], [row]))


def test_webnlg_original_row_gives_a_problem_a_text_with_relations_of_its_category(data_set):
    rows = [
        {"id": "w-1", "category": "Boat", "eid": "1", "size": "1", "modifiedtripleset": ['Ada_I | homePort | "Kiel"'], "lex": ["One.", "Two."]},
        {"id": "w-2", "category": "Boat", "eid": "2", "size": "1", "modifiedtripleset": ["Bo | crew | 5"], "lex": ["Bo."]},
        {"id": "w-3", "category": "Food", "eid": "3", "size": "1", "modifiedtripleset": ["Pie | origin | Wales"], "lex": ["Pie."]},
    ]  # fmt: skip
    one, two, three, _ = read("webnlg_original", data_set(rows, []))
    assert (one.question, two.question, two.source) == ("One.", "Two.", "webnlg_original w-1#2")
    assert one.context == two.context == three.context == "Relations: crew; homePort"
    assert two.program == "homePort(Ada_I, Kiel)"


def test_dart_row_keeps_its_triples(data_set):
    row = {
        "id": "d",
        "tripleset": [["Ada", "HOME_PORT", "Kiel"]],
        "annotations": [{"source": "x", "text": "Ada: Kiel"}],
    }
    (problem,) = read("dart", data_set([row], []))
    assert (problem.program, problem.symbols) == ("HOME_PORT(Ada, Kiel)", ("HOME_PORT",))


def test_e2e_attributes_are_relations_of_the_name(data_set):
    row = {"id": "e", "mr": "name[The Gull], customer rating[3 out of 5], area[riverside]", "ref": "The Gull ..."}
    (problem,) = read("e2e_nlg", data_set([row], []))
    assert problem.program == "customer rating(The Gull, 3 out of 5)\narea(The Gull, riverside)"


def test_only_relations_that_are_no_other_words_may_be_renamed():
    context = (
        "Relations: part of(boat, town); part(boat, boat); crew(boat, crew); town seal(town, any); rank(boat, any)"
    )
    relations = ["part of", "part", "crew", "town seal", "rank"]
    assert symbols_of(relations, context, [["rank 3", "rank", "x"]]) == ("part of", "town seal")


@pytest.mark.parametrize("name", ["tekgen", "webnlg"])
def test_a_generated_text_says_both_ends_of_every_triple_and_declares_the_relations(name):
    for i in range(200):
        problem = BY_NAME[name].generate(random.Random(i), 1 + i % 3)
        for subject, relation, object_ in problem.answer:
            assert f"{relation}(" in problem.context
            assert subject.replace("_", " ").lower() in problem.question.lower()
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", object_):
                assert object_.replace("_", " ") in problem.question
        assert len(problem.environment["relations"]) > len({relation for _, relation, _ in problem.answer}) - 1
        assert set(problem.symbols) <= set(problem.environment["relations"])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_generated_text_says_each_fact_in_one_of_its_wordings_and_nothing_else(level):
    kinds = [kind for row in ONTOLOGIES.values() for kind in row]
    for i in range(60):
        rng = random.Random(i)
        found = facts(rng.choice(list(ONTOLOGIES.values())), level + 1, rng)
        text = worded(found, rng)
        for fact in found:
            forms = [re.sub(r"\ba (?=[aeio])", "an ", w.format(o=fact.object.text)) for w in fact.kind.wordings]
            assert sum(text.count(form) for form in forms) >= 1, (text, forms)
        starts = [w.partition("{o}")[0] for kind in kinds for w in kind.wordings if w.partition("{o}")[0]]
        assert sum(text.count(start) for start in set(starts)) >= len(found)


def test_dates_are_said_in_words_and_written_in_numbers():
    said = entity("Date", random.Random(1))
    day, month, year = said.text.split()
    assert re.fullmatch(rf"{year}-\d\d-{int(day):02}", said.name)
    assert month.istitle()


def test_facts_hang_together():
    for i in range(100):
        rng = random.Random(i)
        first, *rest = facts(rng.choice(list(ONTOLOGIES.values())), 5, rng)
        named = {first.subject, first.object}
        for fact in rest:
            assert fact.subject in named
            named.add(fact.object)


def test_every_concept_has_names_and_every_relation_two_wordings():
    for row in ONTOLOGIES.values():
        for kind in row:
            assert {kind.domain, kind.range} <= set(PARTS)
            assert len(kind.wordings) == 2
            assert all(wording.count("{o}") == 1 for wording in kind.wordings)
        assert len({kind.label for kind in row}) == len({kind.camel for kind in row}) == len(row)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1],
        lambda t: [[t[0][2], t[0][1], t[0][0]], *t[1:]],
        lambda t: [*t, [t[0][0], t[0][1], "Nowhere"]],
    ],
    ids=["one less", "turned round", "one more"],
)
def test_near_misses_are_rejected(change):
    problem = BY_NAME["webnlg"].generate(random.Random(5), 3)
    assert family.score(printed(problem.answer), problem, Limits()).score == 1.0
    assert family.score(printed(change(problem.answer)), problem, Limits()).score < 1.0
