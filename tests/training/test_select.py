"""The trajectory filter, pools and training sets, by hand (ENVISIONS, steps 8-10)."""

from collections.abc import Callable

import pytest

from symbol_llm.ground.params import Select
from symbol_llm.ground.records import Candidate, PoolEntry, Problem, Verdict
from symbol_llm.training import select
from symbol_llm.training.select import Judged, Trajectory


def judged(
    index: int, status: str, logprob: float, *, origin: str = "explore", program: str = "", problem: str = "p"
) -> Judged:
    program = program or f"answer = {index}"
    name = f"{problem}{origin}{index}{program}"
    candidate = Candidate(
        id=name, problem=problem, origin=origin, index=index, reply=program, n_tokens=3, logprob=logprob
    )
    verdict = Verdict(
        candidate=name,
        problem=problem,
        status=status,
        program=program,
        canonical=program.replace(" ", ""),
        verifier="t@1",
    )
    return Judged(candidate, verdict)


def chosen(original: Judged, repair: Judged, *, keep_repaired: bool = False) -> list[str]:
    found = select.kept(Trajectory(original, repair), keep_repaired=keep_repaired)
    return [f"{j.candidate.origin} {j.verdict.status}" for j in found]


def test_right_repair_of_a_wrong_original_is_kept() -> None:
    pair = judged(0, "rejected", -0.1), judged(0, "accepted", -0.9, origin="refine")
    assert chosen(*pair) == ["refine accepted"]
    assert chosen(*pair, keep_repaired=True) == ["refine accepted", "explore rejected"]


def test_of_two_right_ones_the_likelier_is_kept() -> None:
    assert chosen(judged(0, "accepted", -0.5), judged(0, "accepted", -0.4, origin="refine")) == ["refine accepted"]
    assert chosen(judged(0, "accepted", -0.4), judged(0, "accepted", -0.4, origin="refine")) == ["explore accepted"]


def test_wrong_repair_is_never_kept() -> None:
    assert chosen(judged(0, "accepted", -0.9), judged(0, "rejected", -0.1, origin="refine")) == ["explore accepted"]
    assert chosen(judged(0, "timeout", -0.9), judged(0, "rejected", -0.1, origin="refine")) == ["explore timeout"]


def test_unscored_verdicts_are_skipped() -> None:
    rows = [judged(0, "unscored", -0.1), judged(0, "accepted", -0.2, origin="refine"), judged(1, "unscored", -0.1)]
    found = select.trajectories([r.candidate for r in rows], [r.verdict for r in rows])
    assert [(t.original, t.repair.candidate.origin if t.repair else None) for t in found["p"]] == [(None, "refine")]


@pytest.mark.parametrize(
    ("n_positive", "n_negative", "expected"),
    [
        (0, 5, (0, 0)),
        (1, 5, (1, 0)),
        (2, 5, (1, 1)),
        (11, 5, (10, 1)),
        (12, 5, (10, 2)),
        (40, 1, (10, 1)),
        (12, 0, (10, 0)),
    ],
)
def test_published_counts(n_positive: int, n_negative: int, expected: tuple[int, int]) -> None:
    assert select.counts(n_positive, n_negative, Select()) == expected


def pools(*rows: Judged, params: Select | None = None) -> list[PoolEntry]:
    found = select.trajectories([r.candidate for r in rows], [r.verdict for r in rows])
    return select.grow([], found, 1, params or Select())


def test_equal_programs_of_one_problem_count_once_the_shortest_text_wins() -> None:
    grown = pools(
        judged(0, "accepted", -0.1, program="answer  =  4"), judged(1, "accepted", -0.2, program="answer = 4")
    )
    assert [e.program for e in grown] == ["answer = 4"]


def test_equal_programs_of_two_problems_both_count_unless_the_published_rule_is_asked_for() -> None:
    rows = (
        judged(0, "rejected", -0.1, program="answer = 4", problem="a"),
        judged(0, "accepted", -0.2, program="answer = 4", problem="b"),
    )
    assert [(e.problem, e.accepted) for e in pools(*rows)] == [("a", False), ("b", True)]
    published = Select(duplicates="published")
    assert [(e.problem, e.accepted) for e in pools(*rows, params=published)] == [("a", False)]


def test_pool_keeps_earlier_rounds_and_is_ordered_by_likelihood() -> None:
    first = pools(judged(0, "accepted", -0.5))
    rows = [judged(0, "accepted", -0.1), judged(1, "accepted", -0.3), judged(2, "rejected", -0.2)]
    grown = select.grow(first, select.trajectories([r.candidate for r in rows], [r.verdict for r in rows]), 2, Select())
    assert [(e.program, e.round, e.accepted) for e in grown] == [
        ("answer = 1", 2, True),
        ("answer = 0", 1, True),
        ("answer = 2", 2, False),
    ]


def test_training_set_teaches_the_likeliest_and_pairs_the_most_confident_wrong_with_the_next_right(
    problem: Callable[..., Problem],
) -> None:
    p = problem()
    rows = [
        judged(0, "accepted", -0.1, problem=p.id),
        judged(1, "accepted", -0.2, problem=p.id),
        judged(2, "rejected", -0.3, problem=p.id),
        judged(3, "rejected", -0.9, problem=p.id),
    ]
    made = select.training_set(pools(*rows), {p.id: p}, Select())
    assert [(r.kind, r.completion) for r in made] == [("L1", "answer = 0"), ("L2", "answer = 1")]
    assert "answer = 2" in made[1].messages[-1]["content"]
    assert "answer = 3" not in made[1].messages[-1]["content"]


def test_gold_never_reaches_a_training_row(problem: Callable[..., Problem]) -> None:
    p = problem(question="How many?", answer=123456, program="answer = 123400 + 56")
    made = select.training_set(pools(judged(0, "accepted", -0.1, problem=p.id)), {p.id: p}, Select())
    assert "1234" not in "".join(r.model_dump_json() for r in made)


def test_figures_of_a_round() -> None:
    before = [
        PoolEntry(problem=n, canonical="c", program="x", logprob=-1, accepted=True, origin="explore", round=1)
        for n in "pq"
    ]
    rows = [
        judged(0, "rejected", -0.1, problem="r"),
        judged(0, "accepted", -0.2, origin="refine", problem="r"),
        judged(0, "accepted", -0.2, problem="p"),
        judged(0, "rejected", -0.2, origin="refine", problem="p"),
        judged(0, "rejected", -0.2, problem="q"),
        judged(1, "timeout", -0.2, problem="q"),
    ]
    found = select.trajectories([r.candidate for r in rows], [r.verdict for r in rows])
    m = select.metrics(before, select.grow(before, found, 2, Select()), found, [])
    assert (m["n_solved"], m["n_newly_solved"], m["n_forgotten"], m["n_solved_ever"]) == (2, 1, 1, 3)
    assert (m["n_repaired"], m["n_spoiled"]) == (1, 1)
    assert (m["pass_1"], m["pass_k"]) == (0.25, pytest.approx(1 / 3))
    assert (m["n_accepted"], m["n_rejected"], m["n_timeout"]) == (2, 3, 1)
