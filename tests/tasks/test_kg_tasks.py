"""Questions over knowledge graphs: readers, generators."""

import json
import random
import re

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.judging import verify
from symbol_llm.tasks import LEVELS, get
from tests.problems import family

SPARQL_PREFIX = "PREFIX ns: <http://rdf.freebase.com/ns/>\n"


def status(problem, reply):
    return verify.judge(problem, reply, Limits()).status


# --- readers ----------------------------------------------------------------------------------------------------------


def grail(id_, relation, class_, mid, name):
    nodes = [
        {"nid": 0, "node_type": "class", "id": class_, "class": class_, "friendly_name": "x"},
        {"nid": 1, "node_type": "entity", "id": mid, "class": "a.b", "friendly_name": name},
    ]
    expression = f"(AND {class_} (JOIN {relation} {mid}))"
    graph = {"nodes": nodes, "edges": [{"start": 0, "end": 1, "relation": relation, "friendly_name": "y"}]}
    return {"id": id_, "qid": 1, "question": " which? ", "s_expression": expression, "graph_query": graph}


def test_grailqa_tells_the_vocabulary_with_some_of_the_same_domain_that_is_not_needed(data_set):
    rows = [
        grail("g1", "farm.animal.owner", "farm.animal", "m.01", "Bella"),
        grail("g2", "farm.field.crop", "farm.field", "m.02", "Acre"),
        grail("g3", "sea.ship.captain", "sea.ship", "m.03", "Ahab"),
    ]
    first, *_ = get("grailqa").read(data_set(rows[:2], rows[2:]))
    assert (
        first.context == "Relations: farm.animal.owner, farm.field.crop\nClasses: farm.animal\nEntities: m.01 = Bella"
    )
    assert first.symbols == ("farm.animal.owner", "farm.field.crop", "farm.animal")
    assert (first.question, first.split, first.source) == ("which?", "train", "grailqa g1")
    assert status(first, "(AND (JOIN farm.animal.owner m.01) farm.animal)") == "accepted"
    assert status(first, "(AND (JOIN farm.field.crop m.01) farm.animal)") == "rejected"


def web(**parse):
    whole = {
        "TopicEntityMid": "m.0t",
        "TopicEntityName": "Tom",
        "InferentialChain": ["a.b.c"],
        "Constraints": [],
        **parse,
    }
    return {
        "QuestionId": "WebQTrn-7",
        "ProcessedQuestion": "who is it",
        "Parses": [whole, {**whole, "InferentialChain": ["z.z.z"]}],
    }


KIND = {
    "Operator": "Equal", "ArgumentType": "Entity", "Argument": "m.0k", "EntityName": "Kay", "SourceNodeIndex": 0,
    "NodePredicate": "k.k.k",
}  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "program"),
    [
        ({}, "(JOIN (R a.b.c) m.0t)"),
        ({"InferentialChain": ["a.b.c", "d.e.f"]}, "(JOIN (R d.e.f) (JOIN (R a.b.c) m.0t))"),
        (
            {"InferentialChain": ["a.b.c", "d.e.f"], "Constraints": [KIND]},
            "(JOIN (R d.e.f) (AND (JOIN k.k.k m.0k) (JOIN (R a.b.c) m.0t)))",
        ),
        ({"Constraints": [{**KIND, "Operator": "LessThan", "ArgumentType": "Value"}]}, None),
        ({"InferentialChain": None}, None),
        ({"SExpr": "(ARGMAX (JOIN (R a.b.c) m.0t) d.e.f)"}, "(ARGMAX (JOIN (R a.b.c) m.0t) d.e.f)"),
        ({"SExpr": "null"}, None),
    ],
)
def test_webqsp_expression_is_given_or_made_of_chain_and_entities(data_set, parse, program):
    (problem,) = get("webqsp").read(data_set([], [web(**parse)]))
    assert (problem.program, problem.split, problem.source) == (program, "test", "webqsp WebQTrn-7")
    assert "m.0t = Tom" in problem.context
    assert program is None or status(problem, program) == "accepted"


def test_compwebq_query_loses_its_comment_and_virtuosos_or(data_set):
    query = (
        f"#MANUAL SPARQL\n{SPARQL_PREFIX}SELECT DISTINCT ?x WHERE {{\nFILTER (?x != ns:m.0a)\n"
        "FILTER (!isLiteral(?x) OR lang(?x) = '' OR langMatches(lang(?x), 'OR'))\nns:m.0a ns:farm.farmer.owns ?x .\n}"
    )
    (problem,) = get("compwebq").read(data_set([{"ID": "W-1", "question": "which?", "sparql": query}], []))
    assert problem.program.startswith("PREFIX ns:")
    assert "(!isLiteral(?x) || lang(?x) = '' || langMatches(lang(?x), 'OR'))" in problem.program
    assert problem.context == "Relations: farm.farmer.owns\nEntities: m.0a"
    assert problem.symbols == ("farm.farmer.owns",)
    assert status(problem, query.replace(" OR ", " || ").replace("?x", "?y")) == "accepted"


def test_lc_quad_is_shortened_by_prefixes_and_still_the_same_query(data_set):
    query = " SELECT ?uri WHERE { <http://dbpedia.org/resource/Mill_(film)> <http://dbpedia.org/property/maker> ?uri } "
    row = {"id": "q", "corrected_question": "Who made Mill ?", "sparql_query": query}
    (problem,) = get("lc_quad").read(data_set([row], []))
    assert problem.program == "SELECT ?uri WHERE { <http://dbpedia.org/resource/Mill_(film)> dbp:maker ?uri }"
    assert problem.context == "Terms: <http://dbpedia.org/resource/Mill_(film)>, dbp:maker"
    assert status(problem, query) == "accepted"


def test_qald_is_asked_in_english_and_only_to_test(data_set):
    folder = data_set([], [])
    (folder / "train.jsonl").unlink()
    query = "PREFIX onto: <http://dbpedia.org/ontology/> SELECT ?x WHERE { ?x a onto:Mill ; rdfs:label ?l }"
    texts = [{"language": "de", "string": "Welche?"}, {"language": "en", "string": "Which?"}]
    (folder / "test.jsonl").write_text(
        json.dumps({"id": "3", "question": texts, "query": {"sparql": query}, "answers": []})
    )
    (problem,) = get("qald9_plus").read(folder)
    assert (problem.question, problem.split, problem.context) == ("Which?", "test", "Terms: onto:Mill")


def test_tugraph_schema_becomes_context(data_set):
    row = {
        "id": "t",
        "instruction": "Be a database.\n##Instruction:\nfarm has nodes cow.\n\n",
        "input": "all cows",
        "output": "MATCH (n:cow) RETURN n",
    }
    (problem,) = get("tugraph_cypher").read(data_set([row], []))
    assert (problem.context, problem.question) == ("farm has nodes cow.", "all cows")
    assert status(problem, "match (c:cow) return c") == "accepted"


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        (
            "grailqa",
            {"id": "1", "question": "q", "s_expression": "(x)"},
            r"train\.jsonl:1: graph_query: field required",
        ),
        (
            "webqsp",
            {"QuestionId": "1", "ProcessedQuestion": "q", "Parses": []},
            r"train\.jsonl:1: Parses: list should have",
        ),
        (
            "lc_quad",
            {"id": "1", "corrected_question": "q", "sparql_query": 4},
            r"train\.jsonl:1: sparql_query: input should",
        ),
    ],
)
def test_readers_name_what_is_wrong(data_set, name, row, message):
    with pytest.raises(InvalidInput, match=message):
        list(get(name).read(data_set([row], [])))


# --- generators -------------------------------------------------------------------------------------------------------


def drawn(name, n=25):
    for level in LEVELS:
        for i in range(n):
            yield get(name).generate(random.Random(f"t{i}"), level)


@pytest.mark.parametrize("name", ["webqsp", "grailqa"])
def test_the_verifier_finds_the_answer_that_going_through_sets_gave(name):
    for problem in drawn(name):
        run = family("sexpr").run(problem.program, problem, Limits())
        assert json.loads(run.value) == problem.answer, problem.program


def test_sparql_finds_the_answer_that_going_through_sets_gave():
    for problem in drawn("compwebq", 3):
        found = family("sparql").run(problem.program, problem, Limits()).value
        assert sorted(re.findall(r"m\.0[a-z0-9_]+", found)) == problem.answer, problem.program


@pytest.mark.parametrize("name", ["webqsp", "grailqa", "compwebq", "graph_questions"])
def test_questions_name_just_the_entities_and_numbers_that_the_program_has(name):
    for problem in drawn(name):
        told = dict(re.findall(r"(m\.0\w+) = ([\w ]+)", problem.context))
        in_program = {told[id_] for id_ in re.findall(r"m\.0\w+", problem.program)} or set(
            re.findall(r"'([^']+)'", problem.program)
        )
        assert all(re.search(rf"\b{name_}\b", problem.question) for name_ in in_program)
        numbers = re.findall(r"(?<![\w.])\d+(?=\^\^|\)| |$)", re.sub(r"LIMIT 1|'[^']*'", "", problem.program))
        assert sorted(numbers) == sorted(re.findall(r"\b\d+\b", problem.question))


@pytest.mark.parametrize("name", ["grailqa", "graph_questions"])
def test_near_misses_of_a_generated_gold_are_refused_but_for_a_few_that_few_answers_cannot_tell(name):
    tried = []
    for problem in drawn(name, 6):
        mutants = family(problem.family).mutants(problem.program, random.Random(0))
        tried += [status(problem, mutant) for _, mutant in zip(range(3), mutants, strict=False)]
    assert tried.count("rejected") >= 0.9 * len(tried)
