"""Signs of a round that teaches something else than it should: each said when it is so, and not otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from symbol_llm.evaluation import page
from symbol_llm.evaluation.health import alarms
from symbol_llm.ground.records import General, Report, Summary
from symbol_llm.ground.stats import wilson

SOUND = {
    "pass_1": 0.4,
    "n_solved": 60.0,
    "n_newly_solved": 12.0,
    "distinct_per_solved": 1.6,
    "n_to_repair": 300.0,
    "n_repaired": 30.0,
    "n_accepted": 200.0,
    "n_rejected": 250.0,
    "n_unparsable": 30.0,
    "n_timeout": 15.0,
    "n_resource": 5.0,
}


def point(stage: str, dev: float, **of_round: float) -> Summary:
    groups: dict[str, Any] = {"tasks": {}, "families": {}, "domains": {}}
    right = wilson(dev, 200)
    return Summary(
        stage=stage, checkpoint="0" * 64, overall=right, dev=right, general=General(), round=of_round, **groups
    )


def said(now: dict[str, float], dev: float = 0.6) -> list[str]:
    """Return what is said of a second round, after one with a dev accuracy of 60 %."""
    return alarms([point("original", 0.2), point("round 1", 0.6, **SOUND), point("round 2", dev, **SOUND | now)])


def test_nothing_is_said_of_a_sound_round_or_of_no_round() -> None:
    assert said({}) == []
    assert alarms([point("original", 0.2), point("injection", 0.1)]) == []
    assert alarms([point("round 1", 0.6, **SOUND)]) == []


def test_more_accepted_while_dev_falls() -> None:
    (alarm,) = said({"pass_1": 0.5}, dev=0.45)
    assert (
        "more programs were accepted on training problems (40 %, then 50 %) while dev accuracy fell (60 %, then 45 %)"
        in alarm
    )
    assert said({"pass_1": 0.5}, dev=0.57) == []  # within chance
    assert said({"pass_1": 0.3}, dev=0.45) == []


@pytest.mark.parametrize(
    ("now", "alarm"),
    [
        ({"distinct_per_solved": 1.1}, "a solved problem has 1.10 distinct right programs for 3.3 right samples"),
        ({"n_timeout": 200.0}, "30 % of the programs were ended by a limit"),
        ({"n_repaired": 5.0}, "5 of 300 wrong programs were mended"),
        ({"n_newly_solved": 0.0}, "no training problem was solved for the first time"),
    ],
)
def test_each_sign_is_said_alone(now: dict[str, float], alarm: str) -> None:
    (found,) = said(now)
    assert alarm in found
    assert found.startswith("round 2: ")


@pytest.mark.parametrize(
    "now",
    [
        {"distinct_per_solved": 1.1, "n_accepted": 70.0},  # too few to differ
        {"n_repaired": 0.0, "n_to_repair": 50.0},
        {"n_repaired": 0.0, "n_to_repair": 0.0},
    ],
)
def test_what_too_little_speaks_for_is_not_said(now: dict[str, float]) -> None:
    assert said(now) == []


def test_page_shows_them_as_text() -> None:
    rounds = SOUND | {
        "n_positives": 1.0,
        "n_negatives": 1.0,
        "n_forgotten": 0.0,
        "n_newly_solved": 0.0,
        "n_timeout": 200.0,
    }
    curve = [point("original", 0.2), point("round <b>1</b>", 0.6, **rounds)]
    shown = page.render(Report(summary=curve[1], history=(curve[0],), outcomes={}))
    assert "<li>round &lt;b&gt;1&lt;/b&gt;: no training problem was solved for the first time" in shown
    assert "were ended by a limit: see <code>explore.limits</code>, or what they do</li>" in shown
    assert '<ul class="alarms">' not in page.render(Report(summary=curve[0], outcomes={}))
