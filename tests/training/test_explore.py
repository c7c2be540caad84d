"""Sampling and running with a made-up engine: what is asked, what is kept, and that being killed leaves no trace."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from symbol_llm import tasks
from symbol_llm.engines import Completion, Ended, Request, prompts
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground.errors import Unavailable
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.params import Explore, Limits
from symbol_llm.ground.records import Messages, Problem, Verdict
from symbol_llm.judging.verify import check_unscored
from symbol_llm.sandbox import executor
from symbol_llm.training.explore import Explored, explore, ledger_path

K = 3
GOLD = "I_WALK I_JUMP"
REPLIES = ("I_WALK", "I_WALK I_JUMP", "hop 2 it!")
"""Reply number 0 is wrong, 1 right, 2 no program of the notation."""

Make = Callable[..., Problem]


def write(messages: Messages, index: int) -> str:
    """Repair `I_WALK`, spoil what is right, leave the rest."""
    asked = messages[-1]["content"]
    if prompts.REPAIR not in asked:
        return REPLIES[index]
    shown = asked.rpartition("\n")[2]
    return {"I_WALK": GOLD, GOLD: "I_JUMP"}.get(shown, shown)


class Recorder(FakeEngine):
    """The fake engine, which notes what it was asked; sampled replies have log-probability -1, scored ones -2."""

    def __init__(self) -> None:
        super().__init__(write)
        self.asked: list[Messages] = []
        self.seeds: list[int] = []
        self.scored: list[tuple[Messages, str]] = []

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        for request in requests:
            self.asked += request.prompts
            self.seeds.append(request.seed)
        for ended in super().stream(requests):
            yield ended._replace(completions=[c._replace(logprob=-1.0) for c in ended.completions])

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        self.scored += zip(prompts, replies, strict=True)
        return [Completion(r, 2, -2.0) for r in replies]


@pytest.fixture
def scan(problem: Make) -> Make:
    """Give a maker of command problems, which are judged without a process."""
    return lambda question="walk and jump": problem(
        question, GOLD, task="scan", family="commands", instruction="Write the actions."
    )


def search(path: Path, problems: Sequence[Problem], engine: FakeEngine | None = None, **params: object) -> Explored:
    with Ledger(path) as ledger:
        return explore(problems, engine or Recorder(), ledger, Explore(k=K, **params))


def written(found: Explored) -> str:
    return "\n".join(row.model_dump_json() for rows in found.ordered() for row in rows)


def statuses(found: Explored) -> list[tuple[str, int, str]]:
    candidates, verdicts = found.ordered()
    return [(c.origin, c.index, v.status) for c, v in zip(candidates, verdicts, strict=True)]


def test_each_problem_gets_k_judged_candidates_and_a_judged_repair_of_each(tmp_path: Path, scan: Make) -> None:
    assert statuses(search(tmp_path / "l", [scan()])) == [
        ("explore", 0, "rejected"),
        ("explore", 1, "accepted"),
        ("explore", 2, "unparsable"),
        ("refine", 0, "accepted"),
        ("refine", 1, "rejected"),
        ("refine", 2, "unparsable"),
    ]


def test_without_refinement_there_are_no_repairs_and_nothing_is_scored_again(tmp_path: Path, scan: Make) -> None:
    engine = Recorder()
    found = search(tmp_path / "l", [scan(), scan("jump")], engine, refine=False)
    assert [origin for origin, _, _ in statuses(found)] == ["explore"] * 6
    assert (len(engine.asked), engine.scored) == (2, [])


def test_python_candidates_are_run(tmp_path: Path, problem: Make) -> None:
    engine = FakeEngine(lambda messages, index: f"answer = {index + 3}")
    found = search(tmp_path / "l", [problem()], engine, refine=False, limits=Limits(memory_mib=256))
    assert [(v.status, v.value) for v in found.ordered()[1]] == [
        ("rejected", "3"),
        ("accepted", "4"),
        ("rejected", "5"),
    ]


def test_repair_is_asked_with_the_program_taken_from_the_reply(tmp_path: Path, scan: Make) -> None:
    engine = FakeEngine(
        lambda messages, index: (
            "Sure:\n```\nI_WALK\n```" if prompts.REPAIR not in messages[-1]["content"] else write(messages, 0)
        )
    )
    found = search(tmp_path / "l", [scan()], engine)
    assert [c.reply for c in found.of(scan(), "refine")] == [GOLD] * K


@pytest.mark.parametrize(("rescore", "repaired"), [("plain", -2.0), ("published", -1.0)])
def test_rescoring_changes_accepted_repairs_only_and_not_as_published(
    tmp_path: Path, scan: Make, rescore: str, repaired: float
) -> None:
    engine = Recorder()
    found = search(tmp_path / "l", [scan()], engine, rescore=rescore)
    logprobs = {(c.origin, c.index): c.logprob for c in found.ordered()[0]}
    assert logprobs.pop(("refine", 0)) == repaired
    assert set(logprobs.values()) == {-1.0}
    assert engine.scored == ([(prompts.messages(scan()), GOLD)] if rescore == "plain" else [])


def test_prompt_has_worked_examples_when_shots_are_asked_for_and_the_repair_prompt_never(
    tmp_path: Path, scan: Make
) -> None:
    engine = Recorder()
    search(tmp_path / "l", [scan()], engine, shots=2)
    assert engine.asked[0] == prompts.messages(scan(), tasks.get("scan").shots[:2])
    assert [len(m) for m in engine.asked] == [6, 2, 2, 2]
    plain = Recorder()
    search(tmp_path / "m", [scan()], plain)
    assert plain.asked[0] == prompts.messages(scan())


def test_gold_never_reaches_an_engine(tmp_path: Path, problem: Make) -> None:
    engine = Recorder()
    engine.write = lambda messages, index: "answer = 1"
    secret = problem("How many?", 987654, program="answer = 987000 + 654")
    search(tmp_path / "l", [secret], engine, shots=4)
    everything = json.dumps([engine.asked, engine.scored])
    assert not any(gold in everything for gold in ("987654", "987000", "654"))


# --- feedback, hints -------------------------------------------------------------------------------------------------

TRIES = ("answer = 7 - 2", "answer = 3 + (", "answer = 2 + 2", "answer = 1 / 0")
TOLD = {
    "none": ["", "", "", ""],
    "status": ["It is wrong.", "It is not well-formed.", "It is right.", "It is wrong."],
    "message": [
        "It is wrong.",
        r"It is not well-formed\. .*line 1",
        "It is right.",
        "It is wrong. .*ZeroDivisionError",
    ],
    "value": ["It is wrong. It gives 5.", "It is not", "It is right. It gives 4.", "It is wrong. .*ZeroDivisionError"],
}


@pytest.mark.parametrize("level", TOLD)
def test_repair_is_told_what_became_of_the_first_try(tmp_path: Path, problem: Make, level: str) -> None:
    engine = Recorder()
    engine.write = lambda messages, index: TRIES[index]
    with Ledger(tmp_path / "l") as ledger:
        found = explore([problem()], engine, ledger, Explore(k=len(TRIES), feedback=level))
    prompts_of_repairs = [m[-1]["content"] for m in engine.asked[1:]]
    noted = [c.feedback for c in found.of(problem(), "refine")]
    for asked, program, note, told in zip(prompts_of_repairs, TRIES, noted, TOLD[level], strict=True):
        assert re.match(told, note) if told else note == ""
        assert asked.endswith(f"{program}\n\n{note}" if note else program)


def test_feedback_of_one_that_is_wrong_never_holds_gold(tmp_path: Path, problem: Make) -> None:
    engine = Recorder()
    engine.write = lambda messages, index: "answer = 1"
    search(tmp_path / "l", [problem("How many?", 987654, program="answer = 987000 + 654")], engine, feedback="value")
    assert not any(gold in json.dumps(engine.asked) for gold in ("987654", "987000"))


def test_repairs_may_be_longer_than_first_tries(tmp_path: Path, scan: Make) -> None:
    class Lengths(Recorder):
        def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
            lengths.extend(r.sampling.max_tokens for r in requests)
            return super().stream(requests)

    lengths: list[int] = []
    search(tmp_path / "l", [scan()], Lengths(), max_tokens=10, refine_max_tokens=20)
    assert lengths == [10, 20]


def hinting(messages: Messages, index: int) -> str:
    """Solve the sum of two only with the answer in sight."""
    asked = messages[-1]["content"]
    return "answer = 2 + 2" if prompts.HINT in asked or "easy" in asked else "answer = 5"


def test_answer_is_shown_for_unsolved_problems_alone(tmp_path: Path, problem: Make) -> None:
    engine = Recorder()
    engine.write = hinting
    found = search(tmp_path / "l", [problem("An easy one?"), problem("A hard one?")], engine, refine=False, hint=True)
    assert [s for s in statuses(found) if s[0] == "hint"] == [("hint", 0, "accepted")]
    hinted = [m[-1]["content"] for m in engine.asked if prompts.HINT in m[-1]["content"]]
    assert hinted == ["A hard one?\n\nThe answer is 4"]


SUM = "Ann has 2 cats and 4 dogs. How many pets has she?"
SUMS = ("answer = 2 + 4", "answer = 4 + 2", "answer = 4 // 2 * 3")
"""The last is right by chance."""


def test_right_by_chance_is_noted_and_copies_come_from_what_agrees(tmp_path: Path, problem: Make) -> None:
    engine = FakeEngine(lambda messages, index: SUMS[index])
    found = search(tmp_path / "l", [problem(SUM, 6)], engine, refine=False, redraws=3, copies=2)
    assert [v.agrees for v in found.ordered()[1]] == [True, True, False]
    assert len(found.copies) == 2
    assert all("+" in (c.program or "") for c in found.copies)
    again = search(tmp_path / "l", [problem(SUM, 6)], engine, refine=False, redraws=3, copies=2)
    assert (written(again), again.copies) == (written(found), found.copies)


def test_nothing_is_redrawn_unless_asked(tmp_path: Path, problem: Make) -> None:
    found = search(tmp_path / "l", [problem(SUM, 6)], FakeEngine(lambda messages, index: SUMS[index]), refine=False)
    assert ([v.agrees for v in found.ordered()[1]], found.copies) == ([None] * 3, [])


def test_killed_among_repairs_with_feedback_and_hints_ends_with_the_same_bytes(tmp_path: Path, problem: Make) -> None:
    engine, problems = FakeEngine(hinting), [problem("An easy one?"), problem("A hard one?")]

    def found(path: Path) -> str:
        return written(search(path, problems, engine, batch=BATCH, feedback="value", hint=True))

    expected = found(tmp_path / "whole")
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    for n in range(0, len(lines), 3):
        (tmp_path / "killed").write_bytes(b"".join(lines[:n]))
        assert found(tmp_path / "killed") == expected, f"killed after line {n}"


def test_groups_of_problems_have_seeds_of_their_own_that_follow_from_the_parameters(tmp_path: Path, scan: Make) -> None:
    several = [scan(f"walk {n}") for n in range(4)]
    engines = [Recorder() for _ in range(3)]
    for n, (engine, seed) in enumerate(zip(engines, (0, 0, 1), strict=True)):
        search(tmp_path / str(n), several if n else several[::-1], engine, batch=3, seed=seed)
    assert len(set(engines[0].seeds)) == 4
    assert engines[0].seeds == engines[1].seeds
    assert not set(engines[0].seeds) & set(engines[2].seeds)


# --- being killed --------------------------------------------------------------------------------------------------

BATCH = 2
"""Two problems are two groups."""


def lines_of(tmp_path: Path, problems: Sequence[Problem]) -> tuple[list[bytes], str]:
    whole = search(tmp_path / "whole", problems, batch=BATCH)
    return (tmp_path / "whole").read_bytes().splitlines(keepends=True), written(whole)


def test_killed_after_any_line_or_within_it_ends_with_the_same_bytes(tmp_path: Path, scan: Make) -> None:
    problems = [scan("walk and jump"), scan("stroll and hüpf")]
    lines, expected = lines_of(tmp_path, problems)
    assert len(lines) == 2 * (6 + 6 + 1)
    for n, line in enumerate(lines):
        for torn in (b"", line[: len(line) // 2], line[:-1]):
            path = tmp_path / "killed"
            path.write_bytes(b"".join(lines[:n]) + torn)
            assert written(search(path, problems, batch=BATCH)) == expected, (
                f"killed in line {n + 1} after {len(torn)} bytes"
            )


def test_killed_in_the_middle_of_a_character_ends_with_the_same_bytes(tmp_path: Path, scan: Make) -> None:
    engine = FakeEngine(lambda messages, index: "I_HÜPF")
    expected = written(search(tmp_path / "whole", [scan()], engine))
    line = (tmp_path / "whole").read_bytes().splitlines(keepends=True)[0]
    (tmp_path / "killed").write_bytes(line[: line.index("Ü".encode()) + 1])
    assert written(search(tmp_path / "killed", [scan()], engine)) == expected


def test_finished_ledger_asks_the_engine_nothing(tmp_path: Path, scan: Make) -> None:
    problems = [scan(), scan("jump")]
    first = search(tmp_path / "l", problems)
    engine = Recorder()
    again = search(tmp_path / "l", problems, engine)
    assert (engine.asked, engine.scored, again.n_resumed) == ([], [], 12)
    assert written(again) == written(first)


class BatchDependent(Recorder):
    """As on a GPU, where padding makes the last digits depend on what else is in the batch; every repair is right."""

    def __init__(self) -> None:
        super().__init__()
        self.write = lambda messages, index: GOLD if prompts.REPAIR in messages[-1]["content"] else "I_WALK"

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        return [Completion(r, 2, -2.0 - 1e-7 * len(replies)) for r in replies]


def test_killed_between_two_scored_repairs_ends_with_the_same_bytes_though_scores_depend_on_the_batch(
    tmp_path: Path, scan: Make
) -> None:
    expected = written(search(tmp_path / "whole", [scan()], BatchDependent()))
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    assert [b"rescored" in line for line in lines[-K:]] == [True] * K
    (tmp_path / "killed").write_bytes(b"".join(lines[:-1]))
    assert written(search(tmp_path / "killed", [scan()], BatchDependent())) == expected


# --- our own failures ----------------------------------------------------------------------------------------------


def verdict(n: int, status: str) -> Verdict:
    return Verdict(
        candidate=str(n),
        problem="p",
        status=status,
        detail="sandbox is down" if status == "unscored" else "",
        verifier="t@1",
    )


@pytest.mark.parametrize(
    ("n_unscored", "n", "stops"), [(1, 1, False), (1, 1000, False), (2, 100, False), (3, 100, True), (2, 99, True)]
)
def test_share_of_unscored_verdicts_over_the_limit_stops(n_unscored: int, n: int, stops: bool) -> None:
    verdicts = [verdict(i, "unscored" if i < n_unscored else "rejected") for i in range(n)]
    if not stops:
        check_unscored(verdicts, 0.02)
        return
    with pytest.raises(
        Unavailable, match=rf"^{n_unscored} of {n} verdicts are unscored, allowed 2%; most often: sandbox is down$"
    ):
        check_unscored(verdicts, 0.02)


def break_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise Unavailable("sandbox is down")

    monkeypatch.setattr(executor, "run", down)


def test_broken_sandbox_stops_the_stage_and_says_why(
    tmp_path: Path, problem: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_sandbox(monkeypatch)
    engine = FakeEngine(lambda messages, index: "answer = 4")
    with pytest.raises(
        Unavailable, match="3 of 3 verdicts are unscored, allowed 2%; most often: Unavailable: sandbox is down"
    ):
        search(tmp_path / "l", [problem()], engine, refine=False)


def test_once_the_sandbox_is_mended_what_was_unscored_is_judged_again(
    tmp_path: Path, problem: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(lambda messages, index: "answer = 4")
    with monkeypatch.context() as broken, pytest.raises(Unavailable):
        break_sandbox(broken)
        search(tmp_path / "l", [problem()], engine, refine=False)
    found = search(tmp_path / "l", [problem()], engine, refine=False)
    assert [v.status for v in found.ordered()[1]] == ["accepted"] * K


def test_ledger_is_named_by_all_that_the_work_depends_on(tmp_path: Path) -> None:
    names = {ledger_path(tmp_path, *parts) for parts in (("a", "b"), ("a", "c"), ("ab", ""), ("a", "b", ""))}
    assert len(names) == 4
    assert ledger_path(tmp_path, "a", 1) == ledger_path(tmp_path, "a", "1")
