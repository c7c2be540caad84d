"""Function calls: two notations, BFCL's rules for values, descriptions of functions."""

import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families.calls import canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.problems import problem as make

FUNCTIONS = [
    {"name": "book", "parameters": {"type": "dict", "properties": {"seat": {}, "at": {}}, "required": ["seat"]}},
    {"name": "a.b", "parameters": {"type": "dict", "properties": {}}},
]


def problem(program: str | None = None, answer: Any = None, **environment: Any) -> Problem:
    return make("calls", program=program, answer=answer, environment=environment)


def accepts(program: str, gold: str | list[Any]) -> bool:
    given_problem = problem(gold) if isinstance(gold, str) else problem(answer=gold)
    return score(program, given_problem, Limits()).score == 1.0


def allows(value: Any, *allowed: Any) -> bool:
    return accepts(json.dumps({"name": "f", "arguments": {"x": value}}), [{"f": {"x": list(allowed)}}])


ORDERED = {
    "name": "book",
    "parameters": {"type": "dict", "properties": {"seat": {}, "day": {}, "at": {}}, "required": ["seat", "day"]},
}
UNORDERED = {
    "name": "book",
    "parameters": {"type": "dict", "properties": {"at": {}, "seat": {}, "day": {}}, "required": ["seat", "day"]},
}
BOOKED = [{"book": {"seat": [3], "day": ["Monday"], "at": ["", 9]}}]


@pytest.mark.parametrize(
    "program",
    [
        'book(3, "Monday")',
        "book(3, 'monday', 9)",
        'book(3, day="Monday")',
        '[book(3, "Monday", at=9)]',
        '{"name": "book", "arguments": [3, "Monday"]}',
        '{"book": [3, "Monday", 9]}',
    ],
)
def test_arguments_without_names_are_in_the_order_of_the_description(program: str) -> None:
    assert score(program, problem(answer=BOOKED, functions=[ORDERED]), Limits()).score == 1.0
    for functions in ([UNORDERED], None):
        with pytest.raises(Unparsable):
            score(program, problem(answer=BOOKED, functions=functions), Limits())
    with pytest.raises(InvalidInput):
        score(program, problem(program, functions=[ORDERED]), Limits())


@pytest.mark.parametrize(
    "program",
    ['book("Monday", 3)', 'book(4, "Monday")', 'book(3, "Monday", 8)', 'book(3, at="Monday")', "book(3)", "book()"],
)
def test_arguments_without_names_in_another_order_are_others(program: str) -> None:
    assert score(program, problem(answer=BOOKED, functions=[ORDERED]), Limits()).score == 0.0


@pytest.mark.parametrize(
    "program",
    ['book(3, "Monday", 9, 1)', "book(3, seat=3)", "book(*[3])", "seat(3)", 'book(day="Monday", 3)', "book(3, x)"],
)
def test_arguments_without_names_that_no_function_takes_are_ill_formed(program: str) -> None:
    with pytest.raises(Unparsable):
        score(program, problem(answer=BOOKED, functions=[ORDERED]), Limits())


def test_a_call_without_names_ends_before_prose() -> None:
    assert program_of("book(3, 'Monday')\nThis books the seat.") == "book(3, 'Monday')"


def test_json_and_python_say_the_same() -> None:
    one = '[{"name": "a.b", "arguments": {"x": 1.0, "y": [true, null, {"k": "v"}]}}, {"name": "c"}]'
    two = "[c(), a.b(y=(True, None, {'k': 'v'}), x=+1)]"
    assert canonical(one) == canonical(two)
    assert accepts(one, two) and accepts(two, one)
    assert canonical("f(x=-2.5)") == '[{"arguments": {"x": -2.5}, "name": "f"}]'
    assert canonical('{"name": "f", "arguments": {"x": "é"}}') == canonical("f(x='é')")


@pytest.mark.parametrize(
    ("value", "gold"),
    [
        (5, 5.0),
        (-0.0, 0),
        ("New York", "new york"),
        ("R vs. Adams", "R_vs_Adams"),
        ("2024-05-01", "2024/05/01"),
        ("it's", 'it"s'),
        ("1,200", "1200"),
        (None, None),
        ([1, [2.0]], [1.0, [2]]),
        ({"a": 1}, {"a": [2, 1], "b": ["", "x"]}),
        ([{"a": "X"}], [{"a": ["x"]}]),
        ("", ""),
    ],
)
def test_values_that_count_as_equal(value: Any, gold: Any) -> None:
    assert allows(value, gold)
    assert allows(value, "other", gold)


@pytest.mark.parametrize(
    ("value", "gold"),
    [
        (True, 1),
        (0, False),
        ("5", 5),
        ("null", None),
        (5.0001, 5),
        ("-5", "5"),
        ("1.5", "15"),
        ("02139", "2139"),
        ("*", "/"),
        ("", "-"),
        ("New York City", "New York"),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        ([True], [1]),
        ([1], 1),
        ({"a": 1}, {"a": [1], "b": [2]}),
        ({"a": 1, "b": 2}, {"a": [1]}),
        ({"a": [1]}, {"a": [1]}),
        ({}, []),
    ],
)
def test_values_that_do_not(value: Any, gold: Any) -> None:
    assert not allows(value, gold)


@pytest.mark.parametrize(
    ("value", "gold"),
    [
        ("x**3", "x/3"),
        ("x**3", "x^3"),
        ("1.5 kg", "15 kg"),
        ("-5C", "5C"),
        ("1-10", "110"),
        ("1/2", "1-2"),
        ("a*b", "a/b"),
        ("3.10", "310"),
        ("2024-05-01", "2024/05/10"),
        ("a.b", "a/b"),
        ("–5", "5"),
        ("New York", "newyork"),
    ],
)
def test_signs_that_carry_meaning_count_except_for_the_published_measure(value: str, gold: str) -> None:
    call, one = json.dumps({"name": "f", "arguments": {"x": value}}), problem(answer=[{"f": {"x": [gold]}}])
    result = score(call, one, Limits())
    assert result.score == 0.0
    by_bfcl = [re.sub(r"[ ,./\-_*^]", "", text).lower() for text in (value, gold)]
    assert result.measure == float(by_bfcl[0] == by_bfcl[1])


def test_the_published_rule_is_the_measure() -> None:
    result = score("f(x='1-10')", problem(answer=[{"f": {"x": ["110"]}}]), Limits())
    assert (result.score, result.measure) == (0.0, 1.0)
    assert score("f(x='5')", problem(answer=[{"f": {"x": ["5"]}}]), Limits()).measure == 1.0


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "f", "arguments": {"x": true}}\n</tool_call>\n<tool_call>{"name": "g"}</tool_call>',
        "<tool_call>f(x=True)</tool_call>\n<tool_call>g()",
        '{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\\"x\\": true}"}},'
        ' {"type": "function", "function": {"name": "g", "arguments": "{}"}}]}',
        '[{"type": "function", "function": {"name": "f", "arguments": {"x": true}}}, {"name": "g", "parameters": {}}]',
        '{"name": "f", "arguments": {"x": true}}\n\n{"name": "g"}',
        '{"name": "f", "arguments": {"x": true}}; {"name": "g"}',
        "f(x=true)\n\ng()",
        "[{'name': 'f', 'arguments': {'x': True}}, {'name': 'g', 'arguments': {}}]",
        "[{'name': 'f', 'arguments': {\"x\": true}}, {'name': 'g'}]",
        "[f(x=True)]\n[g()]",
        '[{"f": {"x": true}}, {"g": {}}]',
        '{"f": {"x": true}}\n{"g": {}}',
        '{"function": "f", "arguments": {"x": true}}\n{"tool": "g"}',
        '[{"name": "f", "args": {"x": true}}, {"tool_name": "g", "tool_input": {}}]',
        '[{"type": "tool_use", "id": "1", "name": "f", "input": {"x": true}}, {"name": "g", "kwargs": "{}"}]',
        '[TOOL_CALLS] [{"name": "f", "arguments": {"x": true}}, {"name": "g"}]',
        "<|python_tag|>[f(x=true), g()]",
        '<functioncall> {"name": "f", "arguments": {"x": true}} </functioncall><function_call>{"name": "g"}</function_call>',
    ],
)
def test_shapes_that_models_write(text: str) -> None:
    assert canonical(text) == canonical("[f(x=True), g()]")
    assert canonical(program_of(text)) == canonical(text)
    assert canonical(program_of(f"I call both.\n{text}")) == canonical(text) if "<tool_call>" in text else True


def test_literals_of_json_stand_in_calls() -> None:
    assert canonical("f(x=[true, false, null])") == canonical("f(x=[True, False, None])")


def test_an_argument_may_be_left_out_where_gold_allows_it() -> None:
    gold = [{"f": {"x": [1], "y": ["", 2]}}]
    assert accepts("f(x=1)", gold) and accepts("f(x=1, y=2)", gold)
    assert not accepts("f(y=2)", gold) and not accepts("f(x=1, y=3)", gold) and not accepts("f(x=1, z=2)", gold)
    assert not accepts("f(x=1)", "f(x=1, y='')")


def test_calls_may_stand_in_any_order_and_each_counts_once() -> None:
    gold = [{"f": {"x": [1, 2]}}, {"f": {"x": [2, 3]}}, {"f": {"x": [1]}}]
    assert accepts("[f(x=2), f(x=3), f(x=1)]", gold) and accepts("[f(x=1), f(x=2), f(x=2)]", [*gold[:2], gold[0]])
    for program in ("[f(x=1), f(x=2)]", "[f(x=1), f(x=1), f(x=1)]", "[f(x=2), f(x=3), f(x=1), f(x=1)]"):
        assert not accepts(program, gold)


def test_functions_and_arguments_must_be_described_where_any_is() -> None:
    described = problem("book(seat='2a')", functions=FUNCTIONS)
    assert score("[book(seat='2A')]", described, Limits()).score == 1.0
    assert run("a.b()", described, Limits()).value == '[{"arguments": {}, "name": "a.b"}]'
    for text, detail in [
        ("[a.b(), fly(seat='2a')]", "call 2: unknown function 'fly'; have book, a.b"),
        ("book(seats='2a')", "call 1: unknown argument 'seats' of book; have at, seat"),
        ("a.b(x=1)", "call 1: unknown argument 'x' of a.b; have none"),
    ]:
        with pytest.raises(Unparsable, match=detail):
            score(text, described, Limits())
        assert not accepts(text, "book(seat='2a')")


def test_a_required_argument_may_not_be_left_out_though_gold_allows_it() -> None:
    described = problem(answer=[{"book": {"seat": ["", "2a"], "at": ["", 7]}}], functions=FUNCTIONS)
    assert score("book(seat='2a')", described, Limits()).score == 1.0
    assert score("book(at=7)", described, Limits()).score == 0.0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"program": "f(x=y)"},
        {"answer": []},
        {"answer": "f(x=1)"},
        {"answer": [{"f": {"x": 1}}]},
        {"answer": [{"f": {"x": [1]}, "g": {}}]},
        {"program": "fly()", "functions": FUNCTIONS},
        {"program": "book(seat=1)", "functions": ["book"]},
    ],
)
def test_gold_that_is_missing_or_wrong_is_our_fault(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as error:
        score("book(seat=1)", problem(**fields), Limits())
    assert not isinstance(error.value, Unparsable)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "no call"),
        ("call it", "line 1, column 6: invalid syntax"),
        ("[]", "no call"),
        ("f", "line 1, column 1: expected a call, .* got Name"),
        ("[f(x=1), 2]", "line 1, column 10: expected a call"),
        ("f(1)", "column 3: expected argument=value, got Constant"),
        ("f(*a)", "expected argument=value, got Starred"),
        ("f(**{'x': 1})", "column 5: expected each argument once"),
        ("f(x=1, x=2)", "column 10: expected each argument once"),
        ("f(x=y)", "column 5: expected a literal, got Name"),
        ("f(x=g())", "expected a literal, got Call"),
        ("f(x=1 + 2)", "expected a literal, got BinOp"),
        ("f(x=not 1)", "expected a literal, got UnaryOp"),
        ("f(x=-True)", "expected a literal, got UnaryOp"),
        ("f(x={1: 2})", "expected a dict whose keys are texts"),
        ("f(x={'a': 1, 'a': 2})", "expected a dict whose keys are texts, each once"),
        ("f(x={1, 2})", "expected a literal, got Set"),
        ("f(x=b'a')", "expected a literal, got Constant"),
        ("f(x=f'{y}')", "expected a literal, got JoinedStr"),
        ("f(x=1e999)", "call 1: a number is out of range"),
        ("f(x='\\ud800')", "surrogates not allowed"),
        ("f()(x=1)", "expected a name of a function, got Call"),
        ("f(x=1) g(x=2)", "line 1, column 8: invalid syntax"),
        ('[{"name": "f", "arguments": {"x": 1}]', "line 1, column 37: Expecting ',' delimiter"),
        ('[{"name": "f", "arguments": [1]}]', "call 1: expected"),
        ('[{"name": "f", "arguments": {}, "city": 1}]', "call 1: expected"),
        ('{"name": "f", "arguments": "x=1"}', "call 1: arguments in a text that is no JSON"),
        ('{"name": "f", "arguments": "[1]"}', "call 1: expected"),
        ("f(x=1)\ny = 2", "line 2, column 1: expected a call, .* got Assign"),
        ('{"f": 1}', "call 1: expected"),
        ('{"arguments": {"x": 1}}', "call 1: expected"),
        ('{"name": {"x": 1}}', "call 1: expected"),
        ('{"f": {"x": 1}, "g": {}}', "call 1: expected"),
        ('{"name": "f", "tool": "f"}', "call 1: expected"),
        ('{"name": "f", "input": {}, "arguments": {"x": 1}}', "call 1: expected"),
        ('{"name": "f", "name": "g"}', "a key stands twice"),
        ('{"name": "f", "arguments": {"x": NaN}}', "NaN is no JSON number"),
        ('{"name": "f", "arguments": {"x": 1e999}}', "a number is out of range"),
        ('{"name": "f", "arguments": {"x": %s}}' % ("9" * 5000), "not JSON that can be read"),
        ('{"name": "f", "arguments": {"x": %s}}' % ("[" * 60 + "]" * 60), "nested more than 50 levels"),
        ("f(x=%s)" % ("[" * 60 + "]" * 60), "nested more than 50 levels"),
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        score(text, problem("f(x=1)"), Limits())


@pytest.mark.parametrize(
    "text",
    [
        "[{" * 5000,
        "f(x=" + "-" * 60000 + "1)",
        "f" + ".a" * 30000 + "()",
        "f" + "()" * 30000,
        "f(x=" + "1+" * 30000 + "1)",
        "f(x=" + "[" * 60000,
    ],
)
def test_deep_text_is_refused_in_any_thread(text: str) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(Unparsable):
        pool.submit(canonical, text).result()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | st.text("aB1 .'\"\\é", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pq"), inner, max_size=2),
    max_leaves=5,
)
calls = st.lists(
    st.tuples(st.sampled_from(["f", "g.h"]), st.dictionaries(st.sampled_from("xyz"), values)), min_size=1, max_size=3
)


@given(calls, st.randoms(use_true_random=False))
def test_both_notations_have_one_form_that_accepts_itself(
    made: list[tuple[str, dict[str, Any]]], rng: random.Random
) -> None:
    program = (
        "[" + ", ".join(f"{name}({', '.join(f'{k}={v!r}' for k, v in args.items())})" for name, args in made) + "]"
    )
    form = canonical(program)
    assert canonical(form) == form == canonical(json.dumps([{"name": n, "arguments": a} for n, a in reversed(made)]))
    assert accepts(form, program)
    assert all(canonical(mutant) != form for mutant in mutants(program, rng))


@pytest.mark.parametrize(
    "text",
    ["{'name': 'f', 'arguments': {'x': 1 + 1}}", "{'name': 'f', 'arguments': {'x': 1, 'x': 2}}", "{'name': 'f', 'arguments': {'x': y}}",
     "[{'name': 'f'}", "{'f'}", "{**{}}", "{'name': 'f', 'arguments': {1: 2}}"],
)  # fmt: skip
def test_a_python_dict_that_is_no_call_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        canonical(text)
