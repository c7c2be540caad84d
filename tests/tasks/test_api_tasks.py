"""Requests as intents, map queries and calls: readers, generators."""

import ast
import json
import random
import re

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.judging.verify import judge
from symbol_llm.tasks import get, in_domain
from symbol_llm.tasks.api.maps import KINDS
from tests.problems import family

LEVELS = (1, 2, 3)


def draws(name, level, n=60):
    generate = get(name).generate
    return [generate(random.Random(f"{name} {i}"), level) for i in range(n)]


def mtop_row(**changes):
    form = "[IN:LOCK_DOOR [SL:DOOR back ] ]"
    row = {"id": "m-0", "utterance": "lock the back door", "domain": "home", "decoupled_form": form}
    return row | changes


def test_mtop_declares_all_labels_of_the_domain_and_none_of_another(data_set):
    rows = [
        mtop_row(),
        mtop_row(id="m-1", decoupled_form="[IN:DIM [SL:LAMP hall ] ]"),
        mtop_row(id="m-2", domain="sea", decoupled_form="[IN:SAIL ]"),
    ]
    first, *_, last = get("mtop").read(data_set(rows[:1], rows[1:]))
    assert first.context == "IN:DIM IN:LOCK_DOOR\nSL:DOOR SL:LAMP"
    assert first.symbols == ("IN:DIM", "IN:LOCK_DOOR", "SL:DOOR", "SL:LAMP")
    assert (first.source, first.split, first.program) == ("mtop m-0", "train", "[IN:LOCK_DOOR [SL:DOOR back ] ]")
    assert (last.context, last.split, last.environment) == ("IN:SAIL\n", "test", {"order": "free"})


def test_mtop_form_with_every_word_is_ordered(data_set):
    row = mtop_row(decoupled_form=None) | {"logical form": "[IN:LOCK_DOOR lock the [SL:DOOR back ] door ]"}
    (problem,) = get("mtop").read(data_set([row], []))
    assert problem.environment == {"order": "ordered"}
    assert "every word" in problem.instruction


def test_mtop_row_without_a_form_has_no_program(data_set):
    (problem,) = get("mtop").read(data_set([mtop_row(decoupled_form=None)], []))
    assert (problem.program, problem.answer) == (None, None)


def test_topv2_row_is_numbered(data_set):
    row = {"domain": "home", "utterance": "dim the lamp", "semantic_parse": "[IN:DIM dim the [SL:LAMP lamp ] ]"}
    first, second = get("topv2").read(data_set([row], [row | {"utterance": "dim it"}]))
    assert (first.source, second.source, second.split) == ("topv2 0", "topv2 1", "test")
    assert first.program == "[IN:DIM dim the [SL:LAMP lamp ] ]"


def test_nlmaps_row(data_set):
    query = "query(area(keyval('name','Bath')),nwr(keyval('shop','tea')),qtype(count))"
    (problem,) = get("nlmaps").read(data_set([{"id": "n-0", "en": "How many?", "mrl": query}], []))
    assert (problem.question, problem.program, problem.source, problem.context) == (
        "How many?",
        query,
        "nlmaps n-0",
        "",
    )


FUNCTION = {
    "name": "tea.brew",
    "description": "Brew tea.",
    "parameters": {
        "type": "dict",
        "properties": {"cups": {"type": "integer", "description": "How many."}, "milk": {"type": "boolean"}},
        "required": ["cups"],
    },
}


def test_bfcl_row_has_signatures_and_its_first_allowed_call(data_set):
    row = {
        "id": "b-0",
        "question": [[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tea for two."}]],
        "function": [FUNCTION],
        "ground_truth": [{"tea.brew": {"cups": [2, "2"], "milk": ["", False]}}],
    }
    (problem,) = get("bfcl").read(data_set([row], []))
    assert problem.context == "Be kind.\ntea.brew(cups: integer, milk?: boolean): Brew tea.\n- cups: How many."
    assert (problem.question, problem.program, problem.symbols) == ("Tea for two.", "tea.brew(cups=2)", ("tea.brew",))
    assert problem.answer == row["ground_truth"]


def test_bfcl_nested_allowed_values_become_plain_ones(data_set):
    truth = [{"tea.brew": {"cups": [{"n": [3], "size": ["", "big"]}]}}, {"tea.brew": {"cups": [[1, 2]]}}]
    row = {
        "id": "b-0",
        "question": [[{"role": "user", "content": "Tea."}]],
        "function": [FUNCTION],
        "ground_truth": truth,
    }
    (problem,) = get("bfcl").read(data_set([row], []))
    assert problem.program == "[tea.brew(cups={'n': 3}), tea.brew(cups=[1, 2])]"


def test_api_bank_gives_a_problem_for_each_call(data_set):
    call = {"role": "API", "api_name": "Brew", "param_dict": {"cups": "2"}, "result": {"output": "ok"}}
    pay = {"role": "API", "api_name": "Pay", "param_dict": {"sum": "4"}, "result": {"output": None}}
    row = {"id": "x-0", "dialogue": [{"role": "User", "text": "Tea, please."}, call, pay]}
    first, second = get("api_bank").read(data_set([row], []))
    assert (first.question, first.program, first.source) == ("User: Tea, please.", "Brew(cups='2')", "api_bank x-0#0")
    assert second.question == "User: Tea, please.\nAPI: Brew(cups='2') gives \"ok\""
    assert second.context == "Brew(cups?: string)\nPay(sum?: string)"


def test_api_bank_dialogue_without_a_call_has_no_program(data_set):
    row = {"id": "x-0", "dialogue": [{"role": "User", "text": "Tea, please."}, {"role": "AI", "text": "No."}]}
    (problem,) = get("api_bank").read(data_set([row], [{"id": "x-1", "dialogue": []}]))
    assert (problem.question, problem.program) == ("User: Tea, please.\nAI: No.", None)


def turn(index, **changes):
    row = {"id": f"s-{index}", "dialogue_id": "s", "turn_index": index, "user_utterance": f"ask {index} ",
           "agent_utterance": f"say {index}", "lispress": f"(Yield ({index} f))"}  # fmt: skip
    return row | changes


def test_smcalflow_turn_stands_after_the_one_before_it(data_set):
    rows = [turn(0), turn(1), turn(3), turn(4, dialogue_id="t")]
    first, second, apart, other = get("smcalflow").read(data_set(rows, []))
    assert (first.context, first.question, first.program) == ("", "ask 0", "(Yield (0 f))")
    assert (second.context, second.source) == ("User: ask 0 \nAgent: say 0", "smcalflow s-1")
    assert (apart.context, other.context) == ("", "")


def test_smcalflow_turn_to_skip_is_told_to_the_next_but_has_no_gold(data_set):
    skipped, after = get("smcalflow").read(data_set([turn(0, skip=True), turn(1)], []))
    assert (skipped.program, skipped.answer) == (None, None)
    assert after.context.startswith("User: ask 0")


def test_webshop_wish_takes_any_query_that_was_typed(data_set):
    rows = [{"id": "w-0", "goal": "find me a red kite ", "query": ["red kite", " kite (red)"]},
            {"id": "w-1", "goal": "find me a drum", "query": []}]  # fmt: skip
    problem, nothing = get("webshop_goals").read(data_set(rows, []))
    assert (problem.question, problem.program, problem.split) == ("find me a red kite", "red kite", "test")
    assert [judge(problem, q, Limits()).status for q in ("Kite, red", "kite", "red  kite")] == [
        "accepted",
        "rejected",
        "accepted",
    ]
    assert (nothing.program, nothing.answer) == (None, None)


@pytest.mark.parametrize(
    ("name", "row", "field"),
    [
        ("mtop", {"id": "m-0", "domain": "home"}, "utterance: field required"),
        ("topv2", {"domain": "home", "utterance": "dim"}, "semantic_parse: field required"),
        ("nlmaps", {"id": "n-0", "en": "Where?", "mrl": 3}, "mrl: input should be a valid string"),
        ("bfcl", {"id": "b-0", "question": [], "function": [FUNCTION]}, "question: list should have at least 1 item"),
        ("api_bank", {"id": "x-0"}, "dialogue: field required"),
        ("smcalflow", turn("0"), "turn_index: input should be a valid integer"),
        ("webshop_goals", {"id": "w-0", "goal": "find", "query": "a"}, "query: input should be a valid list"),
    ],
)
def test_wrong_row_names_file_line_and_field(data_set, name, row, field):
    with pytest.raises(InvalidInput, match=rf"train\.jsonl:1: {field}"):
        list(get(name).read(data_set([row], [])))


@pytest.mark.parametrize("level", LEVELS)
def test_topv2_form_without_brackets_is_the_request(level):
    for problem in draws("topv2", level):
        words = re.sub(r"\[(IN|SL):\w+|\]", "", problem.program).split()
        assert words == problem.question.split()


@pytest.mark.parametrize("name", ["mtop", "topv2"])
@pytest.mark.parametrize("level", LEVELS)
def test_labels_of_a_form_are_declared_and_level_3_nests(name, level):
    for problem in draws(name, level):
        used = set(re.findall(r"(?:IN|SL):\w+", problem.program))
        assert used <= set(problem.context.split())
        assert set(problem.context.split()) == set(problem.symbols)
        assert len([label for label in problem.context.split() if label.startswith("IN:")]) >= 3
        assert (problem.program.count("[IN:") > 1) == (level == 3)


@pytest.mark.parametrize("level", LEVELS)
def test_mtop_slots_are_words_of_the_request_in_order(level):
    for problem in draws("mtop", level):
        rest = problem.question
        for words in re.findall(r"\[SL:\w+ ([^\[\]]+) \]", problem.program):
            assert words in rest, problem
            rest = rest[rest.index(words) + len(words) :]


WORDED = (
    (r"qtype\(count\)", r"How many|Count|number of"),
    (r"qtype\(latlong\)", r"Where|Show|locations|How far|distance"),
    (r"least\(topx\(1\)\)", r"^Is there|^Are there any"),
    (r"findkey\(and\(", r" and "),
    (r"topx\(1\)\),qtype", r"closest to"),
    (r"maxdist\((\d+)\)", r"within {} metres"),
    (r"area\(keyval\('name','(\w+)'\)\)", r"{}"),
    (r"\b(north|south|east|west)\(", r"{}"),
    (r"least\(topx\(([2-9]|1\d)\)\)", r"or more|at least {}"),
)
"""Where a query has what stands left, its question has what stands right."""


@pytest.mark.parametrize("level", LEVELS)
def test_map_query_and_question_say_the_same(level):
    for problem in draws("nlmaps", level, 200):
        for symbols, words in WORDED:
            if symbols == r"qtype\(latlong\)" and problem.program.startswith("dist("):
                continue
            found = re.search(symbols, problem.program)
            asked = re.search(words.format(found[1] if found and found.groups() else ""), problem.question)
            assert (found is None) or asked, (problem, words)
        kinds = [kind for kind in KINDS if kind.nwr() in problem.program]
        assert all(kind.one in problem.question or kind.many in problem.question for kind in kinds)
        assert all(f"{kind.one}: {kind.tags}" in problem.context for kind in kinds)


@pytest.mark.parametrize("level", LEVELS)
def test_arguments_of_generated_calls_stand_in_the_request(level):
    for problem in draws("function_calls", level, 150):
        tree = ast.parse(problem.program, mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        assert len(calls) == 1 or level == 3
        known = {f["name"]: f["parameters"] for f in problem.environment["functions"]}
        for call in calls:
            parameters = known[call.func.id]
            arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            assert set(parameters["required"]) <= set(arguments) <= set(parameters["properties"])
            assert all(value is True or str(value) in problem.question for value in arguments.values())


def test_level_3_declares_functions_that_are_not_called():
    for problem in draws("function_calls", 3):
        uncalled = [name for name in problem.symbols if f"{name}(" not in problem.program]
        assert len(problem.symbols) == 5
        assert len(uncalled) >= 2


def test_changed_argument_is_rejected():
    problem = get("function_calls").generate(random.Random(1), 1)
    name, value = next(iter(json.loads(json.dumps(re.findall(r"(\w+)=('[^']*'|\d+)", problem.program)))))
    wrong = problem.program.replace(f"{name}={value}", f"{name}='elsewhere'")
    assert judge(problem, problem.program, Limits()).status == "accepted"
    assert judge(problem, wrong, Limits()).status == "rejected"


@pytest.mark.parametrize("task", in_domain("api"), ids=lambda task: task.name)
def test_worked_examples_are_programs_of_their_notation(task):
    assert len(task.shots) >= 3
    for _, _, program in task.shots:
        assert family(task.family).canonical(program)
