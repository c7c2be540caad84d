"""Accuracy, intervals, pass@k and general ability, by hand."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from symbol_llm import stages, tasks
from symbol_llm.engines import Completion, prompts
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.evaluation import evaluate as evaluating
from symbol_llm.evaluation.evaluate import read_report
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.files import write_json, write_records
from symbol_llm.ground.params import Evaluate
from symbol_llm.ground.records import GeneralItem, Interval, Messages, Problem, Verdict
from symbol_llm.ground.stats import pass_at, wilson
from symbol_llm.sandbox import executor

Make = Callable[..., Problem]


class Scripted(FakeEngine):
    """Gives each reply the log-probability and token count that a table holds; notes what it was asked."""

    def __init__(self, table: dict[str, tuple[float, int]]) -> None:
        super().__init__(lambda messages, index: "")
        self.table = table
        self.asked: list[Messages] = []

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        self.asked += prompts
        return [Completion(r, self.table[r][1], self.table[r][0]) for r in replies]


def verdicts(*statuses: str) -> list[Verdict]:
    score = {"accepted": 1.0, "unscored": None}
    return [
        Verdict(candidate=str(n), problem=f"p{n}", status=s, score=score.get(s, 0.0), verifier="t@1")
        for n, s in enumerate(statuses)
    ]


def command(question: str, answer: str = "I_WALK", task: str = "scan") -> Problem:
    return Problem.of(
        task=task,
        family="commands",
        split="test",
        instruction="Write actions.",
        question=question,
        answer=answer,
        source="t",
        licence="t",
    )


# --- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "n", "low", "high"),
    [
        (0.5, 100, 0.4038, 0.5962),  # centre 0.5, half = 1.96 / 1.0384 * sqrt(0.0025 + 0.000096)
        (0.0, 10, 0.0, 0.2775),  # high = z^2 / (n + z^2) = 3.8415 / 13.8415
        (1.0, 10, 0.7225, 1.0),
        (0.0, 0, 0.0, 1.0),
        (1.0, 1, 0.2065, 1.0),  # low = n / (n + z^2) = 1 / 4.8415
    ],
)
def test_wilson_interval_by_hand(mean: float, n: int, low: float, high: float) -> None:
    found = wilson(mean, n)
    assert (found.n, found.mean) == (n, mean)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("k", "n", "n_right", "expected"),
    [(1, 4, 1, 0.25), (2, 4, 1, 0.5), (2, 4, 2, 1 - 1 / 6), (4, 4, 1, 1.0), (3, 4, 0, 0.0), (3, 4, 2, 1.0)],
)
def test_pass_at_k_by_hand(k: int, n: int, n_right: int, expected: float) -> None:
    assert pass_at(k, n, n_right) == pytest.approx(expected)


def test_unscored_verdicts_are_counted_and_not_averaged() -> None:
    found = evaluating.scores(
        verdicts("accepted", "rejected", "unscored", "timeout", "unparsable", "resource", "unscored")
    )
    assert (found.accuracy.n, found.accuracy.mean) == (5, 0.2)
    counts = (found.accepted, found.rejected, found.unparsable, found.timeout, found.resource, found.unscored)
    assert counts == (1, 1, 1, 1, 1, 2)
    assert evaluating.scores(verdicts("unscored")).accuracy == Interval(n=0, mean=0.0, low=0.0, high=1.0)


def test_pass_at_k_is_averaged_over_problems_and_needs_k_scored_samples() -> None:
    rows = [
        verdicts("accepted", "rejected", "rejected"),
        verdicts("accepted", "accepted", "unscored"),
        verdicts("unscored", "unscored", "unscored"),
    ]
    found = evaluating.scores([], rows)
    assert found.pass_at == {"1": pytest.approx((1 / 3 + 1) / 2), "3": 1.0}
    assert evaluating.scores([]).pass_at == {}


def test_choose_caps_each_task_at_its_smallest_ids() -> None:
    many = [command(f"walk {n}", task=task) for n in range(5) for task in ("scan", "other")]
    found = evaluating.choose(many, 2)
    assert [p.task for p in found] == ["other", "other", "scan", "scan"]
    assert [p.id for p in found[2:]] == sorted(p.id for p in many if p.task == "scan")[:2]
    assert evaluating.choose(many[::-1], None) == evaluating.choose(many, None)
    assert len(evaluating.choose(many, None)) == 10
    with pytest.raises(InvalidInput, match="no test problems"):
        evaluating.choose([], 3)


# --- answering -----------------------------------------------------------------------------------------------------


def test_greedy_answers_are_judged_over_batches() -> None:
    problems = [command(f"walk {n}") for n in range(5)]
    engine = FakeEngine(
        lambda messages, index: "I_WALK" if messages[-1]["content"] in ("walk 1", "walk 4") else "I_RUN"
    )
    found = evaluating.answer(problems, engine, Evaluate(batch=2))
    assert {p.question: found[p.id].status for p in problems if found[p.id].status != "rejected"} == {
        "walk 1": "accepted",
        "walk 4": "accepted",
    }
    assert len(found) == 5


def test_samples_stay_with_their_problem_whatever_the_batch() -> None:
    problems = [command(f"walk {n}") for n in range(3)]
    engine = FakeEngine(lambda messages, index: "I_WALK" if messages[-1]["content"] == f"walk {index}" else "I_RUN")
    for batch in (1, 6, 64):
        found = evaluating.sample(problems, engine, Evaluate(k=3, batch=batch))
        accepted = {p.question: [i for i, v in enumerate(found[p.id]) if v.status == "accepted"] for p in problems}
        assert accepted == {"walk 0": [0], "walk 1": [1], "walk 2": [2]}


def test_worked_examples_are_shown_when_shots_are_asked_for_and_the_gold_never() -> None:
    asked: list[Messages] = []

    def write(messages: Messages, index: int) -> str:
        asked.append(messages)
        return "I_WALK"

    one = command("jump", "I_RUN I_RUN I_RUN I_RUN I_RUN")
    for shots in (0, 3):
        evaluating.answer([one], FakeEngine(write), Evaluate(shots=shots))
    assert asked == [prompts.messages(one), prompts.messages(one, tasks.get("scan").shots[:3])]
    assert [m["content"] for m in asked[1] if m["role"] == "assistant"] == [
        f"```commands\n{program}\n```" for _, _, program in tasks.get("scan").shots[:3]
    ]
    assert "I_RUN I_RUN I_RUN I_RUN I_RUN" not in str(asked)


def test_broken_sandbox_stops_the_evaluation(problem: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise Unavailable("sandbox is down")

    monkeypatch.setattr(executor, "run", down)
    with pytest.raises(Unavailable, match="2 of 2 verdicts are unscored"):
        evaluating.answer([problem("a"), problem("b")], FakeEngine(lambda *_: "answer = 4"), Evaluate())


def test_groups_hold_their_own_problems_only() -> None:
    problems = [command("walk"), command("run", "I_RUN"), command("walk on", task="other")]
    found = evaluating.answer(problems, FakeEngine(lambda *_: "I_WALK"), Evaluate())
    groups = evaluating.grouped(problems, found, {}, lambda p: p.task)
    assert {name: (s.accuracy.n, s.accuracy.mean) for name, s in groups.items()} == {
        "other": (1, 1.0),
        "scan": (2, 0.5),
    }


def test_ten_problems_are_shown_the_same_for_every_checkpoint() -> None:
    problems = [command(f"walk {n}") for n in range(12)]
    shown = [
        evaluating.show(problems, evaluating.answer(problems, FakeEngine(lambda *_, r=reply: r), Evaluate()), seed=0)
        for reply in ("I_WALK", "I_RUN")
    ]
    assert len(shown[0]) == 10
    assert [s.question for s in shown[0]] == [s.question for s in shown[1]]
    assert {(s.status, s.program) for s in shown[1]} == {("rejected", "I_RUN")}


# --- general ability -----------------------------------------------------------------------------------------------


def item(
    prompt: str, reply: str | None = None, choices: tuple[str, ...] = (), correct: int | None = None
) -> GeneralItem:
    return GeneralItem.of(
        split="test", prompt=prompt, reply=reply, choices=choices, correct=correct, source="t", licence="t"
    )


def test_multiple_choice_takes_the_likeliest_by_mean_over_tokens() -> None:
    """`a long one` has the higher mean, though the sum over its 10 tokens, -5, is below that of `short`, -1."""
    engine = Scripted({"short": (-1.0, 1), "a long one": (-0.5, 10), "worse": (-3.0, 2)})
    right = item("Which?", choices=("short", "a long one", "worse"), correct=1)
    wrong = item("And which?", choices=("worse", "short"), correct=0)
    found = evaluating.general([right, wrong], engine, 10)
    assert found.choice == wilson(0.5, 2)
    assert sorted(m[0]["content"] for m in engine.asked) == ["And which?"] * 2 + ["Which?"] * 3


def test_perplexity_is_over_all_tokens_of_all_texts() -> None:
    """(2 * -1 + 6 * -3) / 8 = -2.5, not the mean of the means, -2."""
    engine = Scripted({"one text": (-1.0, 2), "another text": (-3.0, 6)})
    found = evaluating.general([item("a", "one text"), item("b", "another text")], engine, 10)
    assert found.perplexity == pytest.approx(math.exp(2.5))
    assert (found.n_text_tokens, found.choice) == (8, None)


def test_general_items_are_capped_by_kind_at_the_smallest_ids() -> None:
    texts = [item(f"t{n}", f"text {n}") for n in range(4)]
    engine = Scripted({f"text {n}": (-1.0, 1) for n in range(4)})
    assert evaluating.general(texts, engine, 3).n_text_tokens == 3
    smallest = sorted(texts, key=lambda i: i.id)[:3]
    assert [m[0]["content"] for m in engine.asked] == [i.prompt for i in smallest]
    assert evaluating.general(texts, engine, 0) == evaluating.General()


# --- the stage -----------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    write_records(tmp_path / "c" / "dev.jsonl", [command(f"dev {n}") for n in range(4)])
    write_records(tmp_path / "c" / "test.jsonl", [command(f"walk {n}") for n in range(4)])
    write_records(tmp_path / "c" / "general_test.jsonl", [])
    return tmp_path / "c"


def measure(collection: Path, n_right: int, previous: str | None = None, n_dev: int | None = None) -> dict[str, float]:
    """Evaluate a checkpoint that solves `n_right` of the four problems of each split, into a folder of that name."""
    folder, checkpoint = collection.parent, collection.parent / f"checkpoint {n_right}"
    checkpoint.mkdir()
    solved = {f"walk {n}": ["I_WALK"] for n in range(n_right)}
    solved |= {f"dev {n}": ["I_WALK"] for n in range(n_right if n_dev is None else n_dev)}
    write_json(checkpoint / "replies.json", solved)
    before = folder / previous if previous else None
    return stages.evaluate(
        collection, checkpoint, folder / str(n_right), Evaluate(engine="fake"), stage=f"s{n_right}", previous=before
    )


def test_improved_means_above_every_earlier_point(collection: Path) -> None:
    assert measure(collection, 2)["improved"] == 1.0
    assert measure(collection, 1, "2")["improved"] == 0.0
    assert measure(collection, 3, "1")["improved"] == 1.0
    assert [s.overall.mean for s in read_report(collection.parent / "3").history] == [0.5, 0.25]


def test_dev_alone_says_whether_a_round_improved(collection: Path) -> None:
    """Better on test and worse on dev is no improvement; the other way round is one."""
    measure(collection, 2)
    assert measure(collection, 3, "2", n_dev=1)["improved"] == 0.0
    assert measure(collection, 1, "2", n_dev=3)["improved"] == 1.0


def test_without_dev_problems_nothing_is_improved_and_test_is_measured_all_the_same(collection: Path) -> None:
    write_records(collection / "dev.jsonl", [])
    numbers = measure(collection, 2)
    assert (numbers["improved"], numbers["accuracy"], "accuracy_dev" in numbers) == (0.0, 0.5, False)


def test_equal_accuracy_is_no_improvement(collection: Path) -> None:
    measure(collection, 2)
    (collection.parent / "checkpoint 2").rename(collection.parent / "kept")
    (collection.parent / "2").rename(collection.parent / "first")
    assert measure(collection, 2, "first")["improved"] == 0.0


def test_numbers_and_outcomes_of_the_stage(collection: Path) -> None:
    numbers = measure(collection, 3)
    assert (numbers["accuracy"], numbers["n"], numbers["accuracy_scan"], numbers["accuracy_commands"]) == (
        0.75,
        4.0,
        0.75,
        0.75,
    )
    report = read_report(collection.parent / "3")
    assert sorted(report.outcomes.values()) == [0.0, 1.0, 1.0, 1.0]
    assert report.summary.domains["command"].unparsable == 1
