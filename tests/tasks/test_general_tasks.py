"""General ability: shipped items and readers."""

from collections import Counter

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tasks.general import CHOICES, PROMPTS, SOURCES, TEXTS, shipped

READ = {source.name: source.read for source in SOURCES}


def test_shipped_prompts_are_many_and_distinct():
    assert len(set(PROMPTS)) == len(PROMPTS) == 96


def test_shipped_choices_have_four_options_and_the_right_one_moves():
    assert len({question for question, _, _ in CHOICES}) >= 60
    assert all(len(set(options)) == 4 for _, options, _ in CHOICES)
    assert set(Counter(correct for _, _, correct in CHOICES).values()) == {17}


def test_right_option_is_marked_after_moving():
    by_question = {question: options[correct] for question, options, correct in CHOICES}
    assert by_question["How many days are there in a week?"] == "Seven"
    assert by_question["Which animal says meow?"] == "The cat"
    assert by_question["What is the capital of France?"] == "Paris"


def test_shipped_texts_are_short_paragraphs():
    assert len(TEXTS) == 20
    assert all(60 <= len(text.split()) <= 90 and "\n" not in text for _, text in TEXTS)


def test_shipped_items_train_on_prompts_only():
    items = shipped()
    train = [item for item in items if item.split == "train"]
    assert len({item.id for item in items}) == len(items)
    assert {item.reply for item in train} == {None}
    assert len(train) == len(PROMPTS)


def test_alpaca_input_follows_the_instruction(data_set):
    row = {"id": "a-0", "instruction": "Say it backwards.", "input": "abc", "output": "cba"}
    train, test = READ["alpaca_en_demo"](data_set([row], [{**row, "input": ""}]))
    assert (train.prompt, train.reply) == ("Say it backwards.\n\nabc", "cba")
    assert (test.prompt, test.split) == ("Say it backwards.", "test")


def test_flan_reply_is_reason_then_answer(data_set):
    row = {"id": "c-0", "question": "Is ice cold?", "answer": "yes", "rationale": "Ice is frozen. "}
    (item,) = READ["flan_cot"](data_set([row], []))
    assert item.reply == "Ice is frozen. The answer is yes."


SAID = [
    {"role": role, "content": text} for role, text in (("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"))
]


@pytest.mark.parametrize(
    ("row", "prompt", "reply"),
    [
        ({"instruction": "Add.", "input": "2, 2", "output": "4"}, "Add.\n\n2, 2", "4"),
        ({"instruction": "Add.", "output": "4"}, "Add.", "4"),
        ({"prompt": "2 + 2?", "completion": "4", "template": "x"}, "2 + 2?", "4"),
        ({"messages": [*SAID, {"role": "user", "content": "Sure?"}]}, "Be brief.\n\n2 + 2?", "4"),
    ],
)
def test_instructions_of_the_published_mixture_come_in_any_usual_shape(data_set, row, prompt, reply):
    first, second = READ["flan"](data_set([row | {"id": 7}], [row]))
    assert (first.prompt, first.reply, first.source) == (prompt, reply, "flan 7")
    assert (second.split, second.source) == ("test", "flan 1")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Add."},
        {"instruction": "Add.", "output": ""},
        {"text": "x"},
        {"messages": SAID[:2]},
        {"messages": SAID[2:]},
    ],
)
def test_instruction_in_no_shape_or_without_a_reply_is_refused(data_set, row):
    with pytest.raises(InvalidInput, match=r"train\.jsonl:1: row: expected instruction \(input\) output, prompt"):
        list(READ["code_alpaca"](data_set([row], [])))


def test_seed_task_uses_its_first_instance(data_set):
    row = {
        "id": "s-0",
        "instruction": "Rhyme.",
        "instances": [{"input": "cat", "output": "hat"}, {"input": "", "output": "-"}],
    }
    (item,) = READ["self_instruct_seed"](data_set([row], []))
    assert (item.prompt, item.reply) == ("Rhyme.\n\ncat", "hat")


def test_mmlu_gives_test_rows_with_the_index_of_the_letter(data_set):
    row = {"id": "m-0", "question": "2 + 2?", "A": "1", "B": "2", "C": "4", "D": "8", "answer": "C"}
    (item,) = READ["mmlu"](data_set([row], [row]))
    assert (item.choices, item.correct, item.split, item.reply) == (("1", "2", "4", "8"), 2, "test", None)


def test_mmlu_train_rows_are_checked_though_not_used(data_set):
    row = {"id": "m-0", "question": "2 + 2?", "A": "1", "B": "2", "C": "4", "D": "8", "answer": "E"}
    with pytest.raises(InvalidInput, match=r"train\.jsonl:1: answer: .*got 'E'"):
        list(READ["mmlu"](data_set([row], [])))


def test_seed_task_without_instances_is_refused(data_set):
    with pytest.raises(InvalidInput, match=r"test\.jsonl:1: instances: "):
        list(READ["self_instruct_seed"](data_set([], [{"id": "s", "instruction": "Rhyme.", "instances": []}])))
