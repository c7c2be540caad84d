"""The gate's rules one by one, its statistics by hand, and what it costs to try again and again."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import General, Interval, Report, Scores, Summary
from symbol_llm.ground.stats import bootstrap, wilson
from symbol_llm.tracking import lineage, registry, runs
from symbol_llm.tracking.gate import Decision, gate, resampled, spent
from symbol_llm.tracking.lineage import Facts
from symbol_llm.tracking.registry import Contender

PARAMS = Promote(name="m")


def report(
    outcomes: str | Sequence[int],
    *,
    stage: str = "round 1",
    domains: dict[str, tuple[float, int]] | None = None,
    **more: Any,
) -> Report:
    """Make the report of a checkpoint that solves problem i where `outcomes[i]` is 1; `domains` are (accuracy, n)."""
    scores = {f"{i:04x}": float(c) for i, c in enumerate(outcomes)}
    by_domain = {name: Scores(accuracy=wilson(*one)) for name, one in (domains or {}).items()}
    overall = wilson(sum(scores.values()) / len(scores), len(scores))
    fields = {"checkpoint": stage, "tasks": {}, "families": {}, "general": General()} | more
    return Report(summary=Summary(stage=stage, overall=overall, domains=by_domain, **fields), outcomes=scores)


NONE = report("0" * 20, stage="original")


def rule(decision: Decision, name: str) -> dict[str, Any]:
    (found,) = (dict(rule) for rule in decision.rules if rule["rule"] == name)
    return found


# --- statistics ------------------------------------------------------------------------------------------------------


def test_exact_bootstrap_by_hand() -> None:
    """Two draws of (1, 0) have means 0, 1/2 and 1 with 1/4, 1/2 and 1/4."""
    assert resampled([1.0, 0.0], 0.95) == Interval(n=2, mean=0.5, low=0.0, high=1.0)
    assert resampled([1.0, 0.0], 0.4) == Interval(n=2, mean=0.5, low=0.5, high=0.5)
    assert resampled([-1.0], 0.95) == Interval(n=1, mean=-1.0, low=-1.0, high=-1.0)


def test_exact_bootstrap_is_what_drawing_comes_near_to() -> None:
    rng = random.Random(0)
    for _ in range(5):
        gains = rng.choices((-1.0, 0.0, 1.0), (1, 3, 2), k=200)
        exact, drawn = resampled(gains, 0.95), bootstrap(gains, 0.95)
        assert (exact.n, exact.mean) == (200, pytest.approx(drawn.mean))
        assert exact.low == pytest.approx(drawn.low, abs=0.015)
        assert exact.high == pytest.approx(drawn.high, abs=0.015)


def test_far_tail_is_exact_too() -> None:
    """Of 10 gains 5 are 1: none is drawn in 2^-10 of resamples, which is more than a tail of 0.0005."""
    assert resampled([1.0, 0.0] * 5, 0.999).low == 0.0
    assert resampled([1.0, 0.0] * 5, 0.998).low == 0.1


def test_outcome_between_right_and_wrong_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"differs by 0\.5; expected outcomes of 0 or 1"):
        resampled([0.5, 1.0], 0.95)


def test_confidence_is_spent_over_all_candidates_and_never_more_than_all_of_it() -> None:
    assert spent(0.9, 1) == pytest.approx(0.95)
    assert spent(0.9, 4) == pytest.approx(0.995)
    errors = [1 - spent(0.95, n) for n in range(1, 10_000)]
    assert sum(errors) == pytest.approx(0.05, rel=1e-3)
    assert sum(errors) < 0.05


def test_candidates_that_are_no_better_do_not_get_through_by_coming_often() -> None:
    """Four hundred pairs of coins: as first candidates 1.25 % of them should pass; counted, none does."""
    rng = random.Random(1)
    pairs = [[report([rng.randrange(2) for _ in range(100)]) for _ in range(2)] for _ in range(400)]
    first = [gate(coin, other, NONE, PARAMS).promoted for coin, other in pairs]
    counted = [gate(coin, other, NONE, PARAMS, n_tested=n).promoted for n, (coin, other) in enumerate(pairs, 2)]
    assert (sum(first), sum(counted)) == (4, 0)


# --- rules -----------------------------------------------------------------------------------------------------------


def test_same_gain_is_enough_for_the_first_candidate_and_not_for_the_tenth() -> None:
    """5 of 20: none is drawn in 0.75^20 = 0.32 % of resamples; the first may leave 1.25 %, the tenth 0.023 %."""
    found = report("1" * 5 + "0" * 15)
    assert gate(found, NONE, NONE, PARAMS).promoted
    tenth = gate(found, NONE, NONE, PARAMS, n_tested=10)
    assert tenth.reason == (
        "not proved better than the 'original' checkpoint: +25.0% [+0.0%, +60.0%] on 20 test problems, "
        "at 99.955% confidence as candidate 10 on them"
    )
    assert rule(tenth, "gain")["value"] == 0.0


@pytest.mark.parametrize(
    ("now", "then", "promoted"),
    [
        ((0.50, 200), (0.80, 200), False),
        ((0.74, 200), (0.80, 200), True),  # -6 points, within chance
        ((0.76, 2000), (0.80, 2000), True),  # more than chance, within the margin
        ((0.60, 10), (0.80, 10), True),  # beyond the margin, within chance
        ((0.90, 200), (0.80, 200), True),
    ],
)
def test_domain_may_not_fall_by_more_than_its_margin_and_chance(
    now: tuple[float, int], then: tuple[float, int], promoted: bool
) -> None:
    champion = report("0" * 20, domains={"sql": then, "math": (0.1, 50)})
    decision = gate(report("1" * 20, domains={"sql": now, "math": (0.9, 50)}), champion, NONE, PARAMS)
    assert decision.promoted is promoted
    assert rule(decision, "domain sql")["value"] == pytest.approx(now[0] - then[0])
    assert promoted or decision.reason == "sql: -30.0% [-38.5%, -20.8%], allowed -5%"


def test_domain_that_the_champion_was_not_asked_about_cannot_have_fallen() -> None:
    decision = gate(report("1" * 20, domains={"sql": (0.0, 50)}), NONE, NONE, PARAMS)
    assert decision.promoted
    assert not [r for r in decision.rules if r["rule"].startswith("domain")]


@pytest.mark.parametrize(("unscored", "promoted"), [(2, True), (3, False)])
def test_too_many_problems_without_a_verdict_are_refused(unscored: int, promoted: bool) -> None:
    tasks = {"t": Scores(accuracy=wilson(1.0, 100 - unscored), accepted=100 - unscored, unscored=unscored)}
    decision = gate(report("1" * 20, tasks=tasks), NONE, NONE, PARAMS)
    assert decision.promoted is promoted
    assert rule(decision, "unscored")["value"] == pytest.approx(unscored / 100)
    assert promoted or decision.reason == "3.0% of the test problems have no verdict, allowed 2.0%"


def test_what_is_required_must_be_known() -> None:
    params = PARAMS.model_copy(update={"required": ("code", "licence")})
    assert gate(report("1" * 20), NONE, NONE, PARAMS).promoted
    refused = gate(report("1" * 20), NONE, NONE, params, facts=Facts(code="abc"))
    assert refused.reason == "not known of the checkpoint: licence; promote.required names what must be"
    known = gate(report("1" * 20), NONE, NONE, params, facts=Facts("abc", "def", "apache-2.0"))
    assert known.promoted
    assert rule(known, "known")["words"] == "code abc, data def, licence apache-2.0"


def test_refusal_names_every_rule_and_the_decision_is_json() -> None:
    champion = report("1" * 20, stage="champion", domains={"sql": (0.9, 100)}, general=General(perplexity=10.0))
    found = report("0" * 20, domains={"sql": (0.1, 100)}, general=General(perplexity=20.0), isolation=("rlimits",))
    decision = gate(found, champion, champion, PARAMS)
    assert decision.reason == (
        "programs ran under rlimits alone; promote.weak_isolation=true lets such verdicts count "
        "(and 3 more: gain, domain sql, perplexity)"
    )
    said = json.loads(json.dumps(decision.rules, allow_nan=False))
    assert [(one["rule"], one["passed"]) for one in said] == [
        ("isolation", False),
        ("unscored", True),
        ("gain", False),
        ("domain sql", False),
        ("perplexity", False),
        ("known", True),
    ]
    assert (said[4]["value"], said[4]["bound"]) == (1.0, 0.25)


# --- the count, and what is known ------------------------------------------------------------------------------------


def contest(tracked_home: Path, digest: str, problems: range) -> registry.Contest:
    outcomes = {f"{i:08x}": 0.0 for i in problems}
    found = report("0").model_copy(update={"outcomes": outcomes})
    found = found.model_copy(update={"summary": found.summary.model_copy(update={"checkpoint": digest})})
    return registry.contend([Contender(found, "s3://checkpoints")], NONE, PARAMS, "")


def test_candidates_are_counted_by_the_test_problems_they_were_put_to(tracked_home: Path) -> None:
    assert contest(tracked_home, "a", range(100)).n_tested == 1
    assert contest(tracked_home, "b", range(100)).n_tested == 2
    assert contest(tracked_home, "b", range(2, 100)).n_tested == 2  # two verdicts are missing this time
    assert contest(tracked_home, "c", range(1000, 1100)).n_tested == 1  # drawn afresh
    assert contest(tracked_home, "a", range(1000, 1100)).n_tested == 2
    assert contest(tracked_home, "d", range(100)).n_tested == 3


def test_version_from_before_such_counting_counts(tracked_home: Path) -> None:
    mlflow = runs.client()
    mlflow.create_registered_model("m")
    mlflow.create_model_version("m", "s3://a", tags={"sha256": "old", "gate": "better"})
    assert contest(tracked_home, "a", range(100)).n_tested == 2


CARD = "---\npretty_name: x\nlicense: other\nlicense_name: per source, see the table\n---\n\n# Data card\n"


def collect(out: Path) -> dict[str, float]:
    """Stand in for the stage."""
    out.mkdir()
    (out / "train.jsonl").write_text("{}\n")
    (out / "card.md").write_text(CARD)
    return {}


def version(folder: Path) -> dict[str, float]:
    """Stand in for the stage."""
    runs.tag(runs.stage_run() or "", {"dvc.tag": "collection-1"})
    return {}


def evaluate(collection: Path, checkpoint: Path) -> dict[str, float]:
    """Stand in for the stage."""
    return {}


def test_facts_are_found_by_hash_over_the_runs_of_the_stages(tracked_home: Path, tmp_path: Path) -> None:
    from symbol_llm.ground import files, provenance

    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "model.safetensors").write_bytes(b"weights")
    digest = files.hash_path(tmp_path / "tuned")
    assert lineage.facts(digest) == Facts()
    runs.tracked(collect, label="collect", out=tmp_path / "collection")
    runs.tracked(evaluate, label="e", collection=tmp_path / "collection", checkpoint=tmp_path / "tuned")
    data = files.hash_path(tmp_path / "collection")[:16]
    code = str(provenance.revision() or f"sources {provenance.code()}")
    assert lineage.facts(digest) == Facts(code, data, "per source, see the table")
    runs.tracked(version, label="v", folder=tmp_path / "collection")
    assert lineage.facts(digest).data == f"{data} (collection-1)"


# --- word for word ---------------------------------------------------------------------------------------------------


def test_gain_is_said_with_its_numbers_whether_it_is_enough_or_not() -> None:
    better = gate(report("1" * 20), NONE, NONE, PARAMS)
    words = "better than the 'original' checkpoint: +100.0% [+100.0%, +100.0%] on 20 test problems"
    assert rule(better, "gain") == {"rule": "gain", "passed": True, "value": 1.0, "bound": 0.0, "words": words}
    assert (better.promoted, better.reason) == (True, words)
    assert better.difference == Interval(n=20, mean=1.0, low=1.0, high=1.0)
    equal = gate(report("0" * 20), NONE, NONE, PARAMS, 2)
    words = (
        "not proved better than the 'original' checkpoint: +0.0% [+0.0%, +0.0%] on 20 test problems, "
        "at 99.167% confidence as candidate 2 on them"
    )
    assert (equal.promoted, equal.reason, rule(equal, "gain")["words"]) == (False, words, words)
    assert equal.difference == Interval(n=20, mean=0.0, low=0.0, high=0.0)


def test_without_outcomes_or_with_few_in_common_nothing_is_gained() -> None:
    none = report("1" * 20).model_copy(update={"outcomes": {}})
    words = "no test problem has a verdict"
    expected = {"rule": "gain", "passed": False, "value": None, "bound": 0.0, "words": words}
    assert rule(gate(none, NONE, NONE, PARAMS), "gain") == expected
    half, fewer = (NONE.model_copy(update={"outcomes": dict(list(NONE.outcomes.items())[:n])}) for n in (10, 9))
    assert gate(report("1" * 20), half, NONE, PARAMS).promoted
    refused = gate(report("1" * 20), fewer, NONE, PARAMS)
    words = "only 9 of 20 test problems were also put to 'original'"
    assert rule(refused, "gain") == expected | {"words": words}
    assert (refused.promoted, refused.difference) == (False, None)


def test_refusal_names_one_more_rule_and_several() -> None:
    weak = {"isolation": ("rlimits",)}
    one, two = gate(report("0" * 20, **weak), NONE, NONE, PARAMS), gate(report("1" * 20, **weak), NONE, NONE, PARAMS)
    assert one.reason.endswith("(and 1 more: gain)")
    assert "more:" not in two.reason


@pytest.mark.parametrize(
    ("isolation", "passed", "words"),
    [
        (("landlock6+seccomp+rlimits",), True, "programs ran under landlock6+seccomp+rlimits"),
        ((), True, "programs ran under nothing, since none had to run"),
        (("landlock6+rlimits",), False, "programs ran under landlock6+rlimits alone"),
        (("seccomp+rlimits",), False, "programs ran under seccomp+rlimits alone"),
        (("landlock6+seccomp+rlimits", "rlimits", "seccomp"), False, "programs ran under rlimits, seccomp alone"),
    ],
)
def test_isolation_is_whole_only_with_both(isolation: tuple[str, ...], passed: bool, words: str) -> None:
    found = rule(gate(report("1" * 20, isolation=isolation), NONE, NONE, PARAMS), "isolation")
    n_weak = sum(not ("landlock" in level and "seccomp" in level) for level in isolation)
    more = "" if passed else "; promote.weak_isolation=true lets such verdicts count"
    assert found == {"rule": "isolation", "passed": passed, "value": n_weak, "bound": 0.0, "words": words + more}
    allowed = gate(report("1" * 20, isolation=isolation), NONE, NONE, Promote(name="m", weak_isolation=True))
    assert allowed.promoted


def general(choice: float | None = None, perplexity: float | None = None) -> General:
    return General(choice=None if choice is None else wilson(choice, 100), perplexity=perplexity)


@pytest.mark.parametrize(
    ("now", "then", "name", "expected"),
    [
        (general(0.55), general(0.6), "multiple choice", (True, -0.05, -0.05, "fell from 60.0% to 55.0%, allowed 5%")),
        (general(0.54), general(0.6), "multiple choice", (False, -0.06, -0.05, "fell from 60.0% to 54.0%, allowed 5%")),
        (general(0.6), general(0.6), "multiple choice", (True, 0.0, -0.05, "rose from 60.0% to 60.0%, allowed 5%")),
        (
            general(None, 50.0),
            general(None, 40.0),
            "perplexity",
            (True, 0.25, 0.25, "rose from 40.0 to 50.0, allowed 25%"),
        ),
        (
            general(None, 51.0),
            general(None, 40.0),
            "perplexity",
            (False, 0.275, 0.25, "rose from 40.0 to 51.0, allowed 25%"),
        ),
        (
            general(None, 30.0),
            general(None, 40.0),
            "perplexity",
            (True, -0.25, 0.25, "fell from 40.0 to 30.0, allowed 25%"),
        ),
    ],
)
def test_general_ability_is_held_to_its_margins_to_the_last_digit(
    now: General, then: General, name: str, expected: tuple[bool, float, float, str]
) -> None:
    original = report("0" * 20, stage="original", general=then)
    decision = gate(report("1" * 20, general=now), original, original, PARAMS)
    passed, value, bound, words = expected
    found = rule(decision, name)
    assert (found["passed"], found["words"]) == (passed, f"{name} {words}")
    assert (found["value"], found["bound"]) == (pytest.approx(value), bound)
    assert decision.promoted is passed


@pytest.mark.parametrize(
    ("now", "rival", "original", "words"),
    [
        (general(), general(0.5), general(), "was not measured, though that of the model it is compared with was"),
        (
            general(),
            general(),
            general(None, 9.0),
            "was not measured, though that of the model it is compared with was",
        ),
        (
            general(0.5),
            general(0.5, 9.0),
            general(0.5),
            "was not measured, though that of the model it is compared with was",
        ),
    ],
)
def test_general_ability_that_was_not_measured_counts_as_lost(
    now: General, rival: General, original: General, words: str
) -> None:
    rest = (report("0" * 20, stage="r", general=rival), report("0" * 20, stage="original", general=original))
    found = rule(gate(report("1" * 20, general=now), *rest, PARAMS), "general")
    expected = {"rule": "general", "passed": False, "value": None, "bound": None}
    assert found == expected | {"words": f"general ability {words}"}


def test_nothing_measured_anywhere_is_nothing_lost() -> None:
    assert gate(report("1" * 20), NONE, NONE, PARAMS).promoted


def test_what_must_be_known_and_is_not_is_named() -> None:
    asked = Promote(name="m", required=("code", "licence"))
    found = rule(gate(report("1" * 20), NONE, NONE, asked, 1, Facts(code="abc")), "known")
    words = "not known of the checkpoint: licence; promote.required names what must be"
    assert found == {"rule": "known", "passed": False, "value": 1.0, "bound": 2.0, "words": words}
    assert rule(gate(report("1" * 20), NONE, NONE, PARAMS), "known") == {
        "rule": "known",
        "passed": True,
        "value": 0.0,
        "bound": 0.0,
        "words": "nothing is known of how it was made",
    }
