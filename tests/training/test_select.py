"""The trajectory filter, pools and training sets, by hand (ENVISIONS, steps 8-10)."""

from collections.abc import Callable, Sequence

import pytest

from symbol_llm.engines import prompts
from symbol_llm.ground import params
from symbol_llm.ground.params import Select
from symbol_llm.ground.records import Candidate, PoolEntry, Problem, TrainingRow, Verdict
from symbol_llm.training import select, strategies
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
        score=None if status == "unscored" else float(status == "accepted"),
        verifier="t@1",
    )
    return Judged(candidate, verdict)


def chosen(original: Judged, repair: Judged, *, keep_repaired: bool = False) -> list[str]:
    kept = select.kept(Trajectory(original, repair), keep_repaired=keep_repaired)
    return [f"{j.candidate.origin} {j.verdict.status}" for j in kept]


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
    pairs = found(*rows)["p"]
    assert [(t.original, t.repair.candidate.origin if t.repair else None) for t in pairs] == [(None, "refine")]


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


def found(*rows: Judged) -> select.Trajectories:
    return select.trajectories([r.candidate for r in rows], [r.verdict for r in rows])


def pools(*rows: Judged, before: Sequence[PoolEntry] = (), round_: int = 1, **params: object) -> list[PoolEntry]:
    """Return the pool after `rows`, of problems that all ask the same."""
    asked = Problem.of(task="t", family="t", split="train", instruction="", question="Q?", source="", licence="")
    names = {r.candidate.problem for r in rows}
    return select.grow(before, found(*rows), dict.fromkeys(names, asked), round_, Select(**params))


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
    assert [(e.problem, e.accepted) for e in pools(*rows, duplicates="published")] == [("a", False)]


def test_pool_keeps_earlier_rounds_and_is_ordered_by_likelihood() -> None:
    first = pools(judged(0, "accepted", -0.5))
    rows = [judged(0, "accepted", -0.1), judged(1, "accepted", -0.3), judged(2, "rejected", -0.2)]
    grown = pools(*rows, before=first, round_=2)
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
    made = select.training_set(pools(*rows), {p.id: p}, 1, Select())
    assert [(r.kind, r.completion) for r in made] == [("L1", "answer = 0"), ("L2", "answer = 1")]
    assert "answer = 2" in made[1].messages[-1]["content"]
    assert "answer = 3" not in made[1].messages[-1]["content"]


def test_gold_never_reaches_a_training_row(problem: Callable[..., Problem]) -> None:
    p = problem(question="How many?", answer=123456, program="answer = 123400 + 56")
    made = select.training_set(pools(judged(0, "accepted", -0.1, problem=p.id)), {p.id: p}, 1, Select())
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
        judged(1, "rejected", -0.2, origin="refine", problem="q"),
        judged(1, "accepted", -0.2, program="answer = 0", problem="p"),
        judged(1, "accepted", -0.3, program="answer = 0", origin="refine", problem="p"),
    ]
    kinds = ["L1", "L1", "L1", "L2", "L2", "pair", "sample"]
    made = [TrainingRow.of(kind=kind, problem="p", messages=[], completion=str(n)) for n, kind in enumerate(kinds)]
    m = select.metrics(before, pools(*rows, before=before, round_=2), found(*rows), made)
    assert m == pytest.approx(
        {"n_problems": 3, "pass_1": 2 / 5, "pass_k": 1 / 3}
        | {"n_solved": 2, "n_newly_solved": 1, "n_forgotten": 1, "n_solved_ever": 3}
        | {"distinct_per_solved": 1}
        | {"n_to_repair": 2, "n_repaired": 1, "n_spoiled": 1, "n_hinted": 0}
        | {"n_positives": 4, "n_negatives": 2, "positives_per_solved": 4 / 3}
        | {"logprob_positives": -0.6, "logprob_negatives": -0.2, "logprob_margin": -0.4}
        | {"n_L1": 3, "n_L2": 2, "n_pairs": 1, "n_samples": 1, "n_even": 3}
        | {"n_accepted": 4, "n_rejected": 4, "n_unparsable": 0, "n_timeout": 1, "n_resource": 0}
    )


def test_figures_of_a_round_that_found_nothing() -> None:
    assert set(select.metrics([], [], {}, []).values()) == {0.0}


# --- methods of self-training -----------------------------------------------------------------------------------------

FIRST = [
    judged(0, "accepted", -0.3, program="answer = 2 + 2"),
    judged(1, "accepted", -0.1, program="answer = 2+2"),
    judged(2, "rejected", -0.2, program="answer = 5"),
    judged(3, "rejected", -0.4, program="answer = 6"),
]
SECOND = [
    judged(0, "accepted", -0.2, program="answer = 4"),
    judged(1, "rejected", -0.1, program="answer = 7"),
    judged(2, "accepted", -0.6, program="answer = 8 - 4"),
    judged(2, "rejected", -0.2, program="answer = 9", origin="refine"),
]


def taught(problem: Problem, how: Select, *rounds: Sequence[Judged]) -> list[str]:
    """Return what is taught after `rounds`: a program, `program | what it repairs` or `program > what it is preferred to`."""
    pool: list[PoolEntry] = []
    for number, rows in enumerate(rounds, 1):
        pool = select.grow(pool, found(*rows), {"p": problem}, number, how)
    said = []
    for row in select.training_set(pool, {"p": problem}, len(rounds), how):
        _, shown, repaired = row.messages[-1]["content"].partition(prompts.REPAIR)
        after = f" | {repaired.strip()}" if shown else f" > {row.rejected}" if row.rejected else ""
        said.append((row.completion + after).replace("answer = ", ""))
    return said


def choices(strategy: str) -> Select:
    return params.load(params.SHIPPED, overlays=[strategies.overlay(strategy)]).select


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("ours", ["2+2", "4", "8 - 4 | 7"]),  # one of two equal forms, the shorter text; one right program held back
        ("envisions", ["2+2", "4", "2 + 2", "8 - 4 | 7"]),  # equal texts alone count as equal
        ("rft", ["4", "8 - 4"]),
        ("raft", ["4"]),
        ("iter_sft", ["4", "8 - 4"]),
    ],
)
def test_two_rounds_by_hand(problem: Callable[..., Problem], strategy: str, expected: list[str]) -> None:
    assert taught(problem(), choices(strategy), FIRST, SECOND) == expected


@pytest.mark.parametrize(
    ("strategy", "expected"), [("star", {"2+2", "2 + 2", "4", "8 - 4"}), ("rest_em", {"4", "8 - 4"})]
)
def test_two_rounds_by_hand_in_random_order(problem: Callable[..., Problem], strategy: str, expected: set[str]) -> None:
    made = taught(problem(), choices(strategy), FIRST, SECOND)
    assert (len(made), set(made)) == (len(expected), expected)


def test_preference_pairs_wrong_programs_with_right_ones(problem: Callable[..., Problem]) -> None:
    (made,) = taught(problem(), choices("iter_dpo"), FIRST, SECOND)
    assert made in ("4 > 7", "8 - 4 > 7")


def test_caps_take_equal_programs_up_to_ten_and_another_ten_with_another_seed(problem: Callable[..., Problem]) -> None:
    many = [judged(n, "accepted", -0.1, program=f"answer = {n % 11}") for n in range(33)]
    how = choices("rest_em")
    drawn = [taught(problem(), how.model_copy(update={"seed": seed}), many) for seed in (0, 0, 1)]
    assert len(drawn[0]) == 10
    assert drawn[0] == drawn[1] != drawn[2]


def test_equal_programs_are_kept_if_asked_and_are_equal_over_rounds_if_not() -> None:
    twice = [judged(0, "accepted", -0.1, program="answer = 4"), judged(1, "accepted", -0.1, program="answer = 4")]
    first = pools(*twice, duplicates="kept")
    assert len(first) == 2
    for rule in ("canonical", "published"):
        assert len(pools(*twice, duplicates=rule)) == 1
        assert pools(*twice, before=first, round_=2, duplicates=rule) == first
    assert len(pools(*twice, before=first, round_=2, duplicates="kept")) == 4


def test_programs_that_do_not_parse_differ_by_their_text_and_from_what_does() -> None:
    broken = [
        judged(n, "unparsable", -0.1, program=text) for n, text in enumerate(["answer = (", "answer = [", "answer = ("])
    ]
    unread = [j._replace(verdict=j.verdict.model_copy(update={"canonical": None})) for j in broken]
    assert len({e.canonical for e in pools(*unread)}) == len(pools(*unread)) == 2


def test_wrong_original_of_a_right_repair_is_a_negative_only_if_asked() -> None:
    pair = judged(0, "rejected", -0.1), judged(0, "accepted", -0.9, program="answer = 4", origin="refine")
    assert [e.accepted for e in pools(*pair, keep_repaired=True)] == [True, False]
    assert [e.accepted for e in pools(*pair, keep_repaired=False)] == [True]


def test_what_is_not_kept_of_a_trajectory_hides_nothing_else_of_it(problem: Callable[..., Problem]) -> None:
    p = problem("Two and two?", 4)
    pair = [
        judged(0, "rejected", -0.1, problem=p.id),
        judged(0, "accepted", -0.9, program="answer = 4", origin="refine", problem=p.id),
    ]
    chance = pair[1]._replace(verdict=pair[1].verdict.model_copy(update={"agrees": False}))
    stated = judged(0, "accepted", -0.9, program="answer = 4", origin="hint", problem=p.id)
    for rows in ([pair[0], chance], [pair[0], stated]):
        grown = select.grow([], found(*rows), {p.id: p}, 1, Select())
        assert [(e.origin, e.accepted) for e in grown] == [("explore", False)]


def test_only_wrong_programs_carry_what_their_repair_was_told() -> None:
    told = judged(0, "rejected", -0.4, origin="refine", program="answer = 9")
    told = told._replace(candidate=told.candidate.model_copy(update={"feedback": "It is right."}))
    assert [(e.accepted, e.feedback) for e in pools(judged(0, "accepted", -0.1), told)] == [(True, "")]
    assert [(e.accepted, e.feedback) for e in pools(judged(0, "rejected", -0.1), told)] == [(False, "It is right.")]


def test_rows_of_all_problems_come_in_order_of_their_names(problem: Callable[..., Problem]) -> None:
    asked = {name: problem(f"Question {name}?") for name in "ba"}
    rows = [judged(0, "accepted", -0.1, problem="b"), judged(1, "accepted", -0.1, problem="a")]
    made = select.training_set(select.grow([], found(*rows), asked, 1, Select()), asked, 1, Select())
    assert [(r.problem, r.completion) for r in made] == [("a", "answer = 1"), ("b", "answer = 0")]


@pytest.mark.parametrize(
    ("most", "pairs", "kind", "expected"),
    [
        (10, 1, "repair", (3, 1)),  # one of four is held back
        (10, 0, "repair", (4, 0)),
        (10, 1, "preference", (4, 1)),
        (10, 9, "preference", (4, 4)),
        (0, 9, "preference", (0, 4)),
        ("all", 2, "repair", (3, 1)),
        (1, 9, "repair", (1, 3)),
    ],
)
def test_rows_of_a_problem_with_four_right_and_five_wrong(
    most: int | str, pairs: int, kind: str, expected: tuple[int, int]
) -> None:
    assert select.counts(4, 5, Select(max_positives=most, max_pairs=pairs, pairs=kind)) == expected


def test_preferred_program_may_be_taught_by_itself_too(problem: Callable[..., Problem]) -> None:
    rows = [judged(0, "accepted", -0.1), judged(1, "rejected", -0.2), judged(2, "rejected", -0.3)]
    assert taught(problem(), Select(pairs="preference"), rows) == ["0", "0 > 1"]


def test_programs_without_their_question_count_as_wrong_in_the_first_rounds_if_asked() -> None:
    rows = judged(0, "accepted", -0.1, program='"""Q?"""\nanswer = 4'), judged(1, "accepted", -0.2)
    first, later = pools(*rows, question_rounds=1), pools(*rows, question_rounds=1, round_=2)
    assert [(e.program[:3], e.accepted) for e in first] == [('"""', True), ("ans", False)]
    assert [e.accepted for e in later] == [True, True]


def test_hinted_program_is_kept_if_it_is_right_and_counts_for_no_rate() -> None:
    rows = [judged(0, "rejected", -0.1), judged(0, "accepted", -0.2, program="answer = 2 + 2", origin="hint")]
    grown = pools(*rows)
    assert [(e.origin, e.accepted) for e in grown] == [("hint", True), ("explore", False)]
    m = select.metrics([], grown, found(*rows), [])
    assert (m["n_hinted"], m["n_solved"], m["pass_1"], m["n_accepted"]) == (1, 0, 0, 0)


def test_hinted_program_that_just_states_the_answer_is_no_find(problem: Callable[..., Problem]) -> None:
    p = problem("Two and two?", 4)
    hinted = [
        judged(n, "accepted", -0.2, program=t, origin="hint") for n, t in enumerate(["answer = 4", "answer = 2 + 2"])
    ]
    assert [e.program for e in select.grow([], found(*hinted), {"p": p}, 1, Select())] == ["answer = 2 + 2"]


def test_what_was_right_by_chance_is_not_kept_at_all() -> None:
    rows = [judged(0, "accepted", -0.1), judged(1, "accepted", -0.2)]
    chance = rows[0]._replace(verdict=rows[0].verdict.model_copy(update={"agrees": False}))
    assert [e.program for e in pools(chance, rows[1])] == ["answer = 1"]


def test_copies_are_taught_with_their_programs(problem: Callable[..., Problem]) -> None:
    (made,) = select.taught([problem("Add 7 and 8.", 15, program="answer = 7 + 8"), problem("Without a program")])
    assert (made.kind, made.messages[-1]["content"], made.completion) == ("L1", "Add 7 and 8.", "answer = 7 + 8")


def test_repair_rows_say_what_the_repair_was_told(problem: Callable[..., Problem]) -> None:
    told = judged(2, "rejected", -0.4, origin="refine")
    told = told._replace(candidate=told.candidate.model_copy(update={"feedback": "It is wrong. It gives 7."}))
    rows = [judged(0, "accepted", -0.1), judged(1, "accepted", -0.2), judged(2, "rejected", -0.1, program="answer = 7")]
    assert taught(problem(), Select(), [*rows, told])[-1] == "1 | 7\n\nIt is wrong. It gives 7."


def test_program_found_again_is_of_the_latest_round_where_only_that_is_taught(problem: Callable[..., Problem]) -> None:
    """The first round's other program stays in the pool, which has each program once, and is not taught."""
    first = [judged(0, "accepted", -0.1), judged(1, "accepted", -0.2), judged(2, "rejected", -0.3)]
    again = [judged(0, "accepted", -0.4), judged(2, "rejected", -0.5)]
    for rule in ("canonical", "published"):
        pool = pools(*again, before=pools(*first), round_=2, scope="latest", duplicates=rule)
        assert [(e.program, e.round, e.logprob) for e in pool] == [
            ("answer = 1", 1, -0.2),
            ("answer = 0", 2, -0.4),
            ("answer = 2", 2, -0.5),
        ]
    assert taught(problem(), choices("raft"), first, again) == ["0"]
    assert taught(problem(), choices("iter_dpo"), first, again) == ["0 > 2"]
    assert pools(*again, before=pools(*first), round_=2) == pools(*first)


# --- advantages -------------------------------------------------------------------------------------------------------


def scored(index: int, score: float, *, n_tokens: int = 3, **more: str) -> Judged:
    made = judged(index, "accepted" if score == 1 else "rejected", -0.1, **more)
    candidate = made.candidate.model_copy(update={"n_tokens": n_tokens})
    return Judged(candidate, made.verdict.model_copy(update={"score": score}))


def weighed(problem: Problem, *rows: Judged) -> list[TrainingRow]:
    return select.weighed(found(*rows), dict.fromkeys("pqr", problem), max_tokens=9)


def advantages(problem: Problem, *rewards: float) -> list[float | None]:
    return [r.advantage for r in weighed(problem, *(scored(n, reward) for n, reward in enumerate(rewards)))]


def test_advantages_by_hand(problem: Callable[..., Problem]) -> None:
    """Of 1, 0, 0, 0 the mean is 1/4 and the variance (9/16 + 3/16) / 3 = 1/4; of 1, 1/2, 0 they are 1/2 and 1/4."""
    assert advantages(problem(), 1, 0, 0, 0) == [1.5, -0.5, -0.5, -0.5]
    assert advantages(problem(), 1, 0.5, 0) == [1.0, 0.0, -1.0]
    assert advantages(problem(), 0, 1) == pytest.approx([-(0.5**0.5), 0.5**0.5])


@pytest.mark.parametrize("rewards", [(1, 1, 1), (0, 0), (0.5, 0.5), (1,), ()])
def test_problem_whose_samples_have_the_same_reward_is_left_out_and_counted(
    problem: Callable[..., Problem], rewards: tuple[float, ...]
) -> None:
    even = [scored(n, reward) for n, reward in enumerate(rewards)]
    rows = [*even, scored(0, 1, problem="q"), scored(1, 0, problem="q")]
    made = weighed(problem(), *rows)
    assert [r.problem for r in made] == ["q", "q"]
    m = select.metrics([], [], found(*rows), made)
    assert (m["n_even"], m["n_samples"]) == (float(bool(rewards)), 2)


def test_every_sample_is_a_row_as_it_was_sampled_and_nothing_else_is(problem: Callable[..., Problem]) -> None:
    """The wrong one cannot even be parsed; both equal ones count; repair and hinted try answered other prompts."""
    p = problem("How many?", program="answer = 99")
    fenced = [scored(n, 1, program="```\nanswer = 4\n```") for n in (0, 1)]
    broken = judged(2, "unparsable", -0.1, program="Well, it is")
    broken = broken._replace(verdict=broken.verdict.model_copy(update={"program": None, "canonical": None}))
    others = [scored(0, 0, origin="refine", program="answer = 5"), scored(0, 1, origin="hint", program="answer = 6")]
    ours = judged(3, "unscored", -0.1)
    made = weighed(p, *fenced, broken, *others, ours)
    assert [(r.kind, r.completion) for r in made] == [
        ("sample", "```\nanswer = 4\n```"),
        ("sample", "```\nanswer = 4\n```"),
        ("sample", "Well, it is"),
    ]
    assert all(r.messages == prompts.messages(p) for r in made)
    assert sum(r.advantage or 0 for r in made) == pytest.approx(0)


def test_sample_that_was_right_by_chance_counts_for_nothing(problem: Callable[..., Problem]) -> None:
    chance = scored(2, 1)
    chance = chance._replace(verdict=chance.verdict.model_copy(update={"agrees": False}))
    assert [r.completion for r in weighed(problem(), scored(0, 1), scored(1, 0), chance)] == [
        "answer = 0",
        "answer = 1",
    ]


def test_sample_that_was_cut_off_is_known_by_its_length(problem: Callable[..., Problem]) -> None:
    rows = [scored(0, 1, n_tokens=8), scored(1, 0, n_tokens=9)]
    assert [r.is_cut for r in weighed(problem(), *rows)] == [False, True]


def test_rows_of_one_text_differ_by_their_advantages() -> None:
    same = {"kind": "sample", "problem": "p", "messages": [], "completion": "answer = 4"}
    assert len({TrainingRow.of(**same, advantage=a).id for a in (0.5, 0.5, 1.0, None)}) == 3


def test_two_rounds_of_grpo_by_hand_learn_from_the_samples_of_the_second_alone(problem: Callable[..., Problem]) -> None:
    """Of the rewards 1, 0, 1 the mean is 2/3 and the variance (1/9 + 4/9 + 1/9) / 2 = 1/3; the repair is no sample."""
    assert choices("grpo").pairs == "advantages"
    made = weighed(problem(), *SECOND)
    assert [r.completion for r in made] == ["answer = 4", "answer = 7", "answer = 8 - 4"]
    assert [r.advantage for r in made] == pytest.approx([3**-0.5, -2 * 3**-0.5, 3**-0.5])
