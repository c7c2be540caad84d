"""Trials of new weights: the test they are decided by, worked out and simulated; real ones on a real registry, decided for real."""

from __future__ import annotations

import asyncio
import math
import random
import re
import statistics
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from serving.canary import ALPHA, N_QUESTIONS, Run, Score, Trial, Turn, agreement, both, decided, evidence
from symbol_llm.judging.verify import Execution
from symbol_llm.tracking import registry, runs
from tests.checkpoints import whole_checkpoint
from tests.serving.promoted import NAME, Served, promote, writer
from tests.serving.scripted import until

# --- the test ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worse", "better", "expected"),
    [(0, 0, 1.0), (1, 0, 3 / 2), (0, 1, 1 / 2), (2, 0, 7 / 3), (1, 1, 2 / 3), (7, 0, 255 / 8), (3, 1, 26 / 20)],
)
def test_evidence_is_the_mixed_likelihood_ratio_worked_out_by_hand(worse: int, better: int, expected: float) -> None:
    """Of 3 to 1: 2 * 16 * [p^4 / 4 - p^5 / 5] from 1/2 to 1 is 32 * (1/20 - 3/320) = 1.3."""
    assert evidence(worse, better) == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_evidence_of_a_fair_coin_is_expected_to_stay_where_it_is(worse: int, better: int) -> None:
    """What Ville's inequality needs: a martingale at the edge of the hypothesis, and it falls inside of it."""
    up, down, now = evidence(worse + 1, better), evidence(worse, better + 1), evidence(worse, better)
    assert (up + down) / 2 == pytest.approx(now, rel=1e-9)
    assert up > now > down


@given(st.integers(0, 60), st.integers(0, 60))
def test_evidence_for_both_sides_is_that_of_any_other_coin(a: int, b: int) -> None:
    total = 2 * 2 ** (a + b) / ((a + b + 1) * math.comb(a + b, a))
    assert evidence(a, b) + evidence(b, a) == pytest.approx(total, rel=1e-9)


def simulated(rng: random.Random, worse: float, better: float) -> tuple[str, int]:
    """Return how a trial ends in which each question is worse or better with these probabilities, and after how many."""
    score = Score()
    while not (says := decided(score)):
        drawn = rng.random()
        outcome = "worse" if drawn < worse else "better" if drawn < worse + better else "alike"
        score = score._replace(**{outcome: getattr(score, outcome) + 1})
    return says, sum(score)


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.05])
def test_weights_that_are_no_worse_are_given_up_seldom(rate: float) -> None:
    """Two thousand trials; were the share of errors ALPHA, 1.3 of a hundred such samples would have more than 122."""
    rng = random.Random(f"equal {rate}")
    ended = Counter(simulated(rng, rate, rate)[0] for _ in range(2000))
    assert ended["worse"] <= ALPHA * 2000
    assert rate < 0.25 or ended["worse"] > 0  # the test has power at all


def test_weights_that_are_much_worse_are_found_in_time() -> None:
    rng = random.Random("worse")
    ended = [simulated(rng, 0.6, 0.1) for _ in range(500)]
    assert {says for says, _ in ended} == {"worse"}
    assert statistics.median(n for _, n in ended) < 25
    assert max(n for _, n in ended) <= N_QUESTIONS


def test_weights_that_broke_are_found_after_seven_questions_and_better_ones_kept_after_as_many() -> None:
    assert [decided(Score(worse=n)) for n in (6, 7)] == ["", "worse"]
    assert [decided(Score(better=n)) for n in (6, 7)] == ["", "kept"]
    assert [decided(Score(alike=n)) for n in (N_QUESTIONS - 1, N_QUESTIONS)] == ["", "kept"]


# --- what is counted ---------------------------------------------------------------------------------------------------


def ran(*values: str | None, status: str = "error") -> list[Execution]:
    return [Execution("ran" if v is not None else status, f"answer = {v}", v, "", 0.01, "none") for v in values]


def trial(share: float = 0.5) -> Trial:
    return Trial("version 2, b", "version 1, a", share, Path("new"))


def numbered(problem: str, executions: list[Execution]) -> list[Run]:
    return [Run(problem, index, one) for index, one in enumerate(executions)]


def test_agreement_is_the_share_of_all_programs_that_gave_the_answer() -> None:
    assert agreement(ran("7", "7", "5", None)) == 0.5
    assert agreement(ran(None, None)) == 0.0
    assert agreement([]) == 0.0
    assert agreement(ran(None, None, status="unscored")) is None


def test_questions_are_counted_once_and_not_where_the_fault_is_ours() -> None:
    one = trial()
    good, bad, ours = ran("7", "7"), ran("7", "5"), ran(None, None, status="unscored")
    one.hear(numbered("a", good), numbered("a", bad), ["a"])
    one.hear(numbered("a", good), numbered("a", bad), ["a"])
    one.hear(numbered("b", bad), numbered("b", good), ["b", "b"])
    one.hear(numbered("c", good), numbered("c", good), ["c"])
    one.hear(numbered("d", good), numbered("d", ours), ["d"])
    one.hear(numbered("e", good), [], ["e"])
    assert one.score == Score(better=1, worse=2, alike=1)


@pytest.mark.parametrize(("share", "expected"), [(0.0, "......"), (0.25, "...x...x"), (0.5, ".x.x.x"), (1.0, "xxx")])
def test_share_of_requests_is_spread_evenly(share: float, expected: str) -> None:
    one = trial(share)
    assert "".join("x" if one.next_is_new() else "." for _ in expected) == expected


# --- who answers -------------------------------------------------------------------------------------------------------


def answering(*values: str, fails: bool = False, waits: bool = False) -> Any:
    async def answer() -> AsyncGenerator[Run, None]:
        for one in numbered("p", ran(*values)):
            yield one
        if waits:
            await asyncio.Event().wait()
        if fails:
            raise RuntimeError("the device is gone")

    return answer


def asked(old: Any, new: Any, *, by_new: bool, deadline_s: float = 60) -> tuple[list[str | None], Turn, Trial]:
    """Return the values that went out, who is said to have answered, and the trial once all is compared."""
    one, turn = trial(), Turn("version 2, b" if by_new else "version 1, a", by_new=by_new)

    async def ask() -> list[str | None]:
        given = [run.execution.value async for run in both(one, turn, ["p"], old, new, deadline_s)]
        while one.shadows:
            await asyncio.wait(set(one.shadows))
        return given

    return asyncio.run(ask()), turn, one


@pytest.mark.parametrize(
    ("old", "new", "by_new", "who", "expected"),
    [
        (["1", "1"], ["2", "3"], False, "version 1, a", Score(worse=1)),
        (["1", "2"], ["3", "3"], True, "version 2, b", Score(better=1)),
    ],
)
def test_answer_of_those_whose_turn_it_is_goes_out_and_the_other_is_compared_in_the_shadow(
    old: list[str], new: list[str], by_new: bool, who: str, expected: Score
) -> None:
    given, turn, one = asked(answering(*old), answering(*new), by_new=by_new)
    assert (given, turn.weights, one.score) == (new if by_new else old, who, expected)


@pytest.mark.parametrize("fault", ["fails", "waits"])
def test_old_weights_answer_where_the_new_fail_or_hang(fault: str) -> None:
    given, turn, one = asked(answering("1"), answering("2", **{fault: True}), by_new=True, deadline_s=0.4)
    assert (given, turn.weights, one.score) == (["1"], "version 1, a", Score(worse=1))


def test_request_that_fails_or_is_left_ends_its_shadow_and_is_not_counted() -> None:
    one = trial()

    async def ask() -> None:
        with pytest.raises(RuntimeError):
            async for _ in both(one, Turn(None), ["p"], answering("1", fails=True), answering(waits=True), 60):
                pass
        left = both(one, Turn(None), ["p"], answering("1", "2"), answering(waits=True), 60)
        await anext(left)
        await left.aclose()
        await asyncio.wait(set(one.shadows), timeout=5)

    asyncio.run(ask())
    assert (one.shadows, one.score) == (set(), Score())


# --- for real ----------------------------------------------------------------------------------------------------------

GOOD = ("answer = 3 + 4",)
HALVES = ("answer = 7", "answer = 8", "answer = (", "answer = 7")
BAD = ("answer = (", "answer = 1 / 0", "answer = 3", "answer = 5")


@pytest.fixture
def load() -> Iterator[Any]:
    """Give what asks a server different questions from three clients until the test ends, and what was not answered well."""
    stop, failed = threading.Event(), list[Any]()

    def ask(served: Served, client: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            question = {"question": f"What is {client} + {number}?", "k": 4}
            path, body = [("/v1/solve", question), ("/v1/models/symbol-llm:predict", {"instances": [question]})][
                number % 2
            ]
            status, found = served.get(path, body)
            if status != 200:
                failed.append((status, found))

    with ThreadPoolExecutor(3) as pool:

        def start(served: Served) -> list[Any]:
            for client in range(3):
                pool.submit(ask, served, client)
            return failed

        yield start
        stop.set()


def aliases() -> tuple[str, str]:
    found = (registry.by_alias(NAME, alias) for alias in ("champion", "previous"))
    return tuple(v.number if v else "" for v in found)  # type: ignore[return-value]


def by_hand(weights: Path) -> str:
    """Register `weights` and have them champion past the gate, as somebody does in MLflow's UI; return the version."""
    from symbol_llm.ground import files
    from tests.serving.promoted import report

    mlflow = runs.client()
    run = str(mlflow.create_run(runs.experiment(mlflow)).info.run_id)
    version = registry.register(NAME, str(weights), report(1, files.hash_path(weights)), run)
    mlflow.set_registered_model_alias(NAME, "champion", version.number)
    return version.number


def test_worse_weights_promoted_by_hand_are_rolled_back_with_the_evidence_in_the_history(
    tracked_home: Path, tmp_path: Path, load: Any
) -> None:
    promote(writer(tmp_path / "good", *GOOD), 15)
    served = Served("--canary", "0.3").up()
    try:
        failed = load(served)
        number = by_hand(writer(tmp_path / "bad", *BAD))
        until(lambda: served.health().get("canary", {}).get("state") == "rolled back")
        assert aliases() == ("1", number)
        last = registry.history()[-1]
        assert (last["action"], last["version"]) == ("rollback", "1")
        assert last["reason"].startswith(f"from version {number}: canary against version 1: of ")
        canary = served.health()["canary"]
        assert canary["worse"] >= 7
        assert canary["evidence"] >= 1 / ALPHA
        assert served.health()["serves"].startswith("version 1,")
        assert served.get("/v1/solve", {"question": "What is 3 + 4?"})[1]["answer"] == "7"
        metrics = served.get("/metrics")[1]
        assert 'symbol_llm_canary_ended_total{state="rolled back"} 1.0' in metrics
        assert "symbol_llm_canary_running 0.0" in metrics
        assert failed == []
    finally:
        served.stop()


def test_better_weights_go_live_for_good_and_worse_ones_of_before_may_be_tried_again(
    tracked_home: Path, tmp_path: Path, load: Any
) -> None:
    promote(writer(tmp_path / "halves", *HALVES), 5)
    served = Served("--canary", "0.3").up()
    try:
        failed = load(served)
        promote(writer(tmp_path / "good", *GOOD), 20)
        until(lambda: served.health().get("canary", {}).get("state") == "kept")
        assert served.health()["serves"].startswith("version 2,")
        assert aliases() == ("2", "1")
        assert registry.history()[-1]["action"] == "promote"
        asked = {"question": "What is 3 + 4?", "k": 4, "whole": True}
        assert served.get("/v1/solve", asked)[1]["votes"] == {"k": 4, "ran": 4, "agreed": 4, "spared": 0}
        registry.rollback(NAME)
        until(lambda: served.health()["canary"]["against"].startswith("version 2,"))
        until(lambda: served.health()["canary"]["state"] == "rolled back")
        assert aliases() == ("2", "1")
        assert failed == []
    finally:
        served.stop()


def test_server_that_may_not_write_the_registry_stays_with_the_old_weights_and_says_so(
    tracked_home: Path, tmp_path: Path, load: Any
) -> None:
    """An alias that a rollback does not move stands for a registry that takes no writes: neither can be put back."""
    promote(writer(tmp_path / "good", *GOOD), 15)
    mlflow = runs.client()
    mlflow.set_registered_model_alias(NAME, "live", "1")
    served = Served("--canary", "0.5", model=f"models:/{NAME}@live").up()
    try:
        failed = load(served)
        number = by_hand(writer(tmp_path / "bad", *BAD))
        mlflow.set_registered_model_alias(NAME, "live", number)
        until(lambda: served.health().get("canary", {}).get("state") == "not rolled back")
        health = served.health()
        canary = health["canary"]
        assert health["serves"].startswith("version 1,")
        assert f"still serving {health['serves']}: version {number}, " in health["trouble"]
        assert "the alias 'live' of 'm' is moved by hand" in health["trouble"]
        mlflow.set_registered_model_alias(NAME, "live", "1")
        until(lambda: served.health()["trouble"] == "")
        bare = by_hand(whole_checkpoint(tmp_path / "bare"))  # which the engine cannot load
        mlflow.set_registered_model_alias(NAME, "live", bare)
        until(lambda: "replies.json: no such file" in served.health()["trouble"])
        assert served.health()["canary"] == canary
        assert failed == []
    finally:
        served.stop()


# --- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [(["--follow-s", "0"], "without it no new weights come"), (["--engine", "openai"], "an endpoint .* has one")],
)
def test_trial_that_cannot_be_is_refused_at_the_start(options: list[str], why: str) -> None:
    from serving.__main__ import main

    done = CliRunner().invoke(main, ["--model", "models:/m@champion", "--canary", "0.1", *options])
    assert done.exit_code == 2
    assert re.search(why, " ".join(done.output.split()))
