"""The soak test in small: a run of the real pipeline is killed in a few ways, and its files are altered; nothing is silent."""

import random
import signal
from pathlib import Path

import pytest

from benchmarks import soak
from symbol_llm.ground.errors import Busy


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> soak.Run:
    """Give a small run that was finished without disturbance."""
    run = soak.Run(tmp_path_factory.mktemp("soak") / "undisturbed")
    finished, said = run.finish()
    assert finished, said
    return run


def test_run_that_was_killed_ends_with_the_same_bytes_and_leaves_nothing(
    undisturbed: soak.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "WHOM", ("run", "stage"))
    monkeypatch.setattr(soak, "SIGNALS", (signal.SIGKILL,))
    (life,) = soak.kills(undisturbed, tmp_path, 1, seed=0)
    assert {key: life[key] for key in ("finished", "equal", "bricked", "running", "left over")} == {
        "finished": 1,
        "equal": 1,
        "bricked": 0,
        "running": 0,
        "left over": 0,
    }, life


def test_no_alteration_of_what_a_run_made_is_taken_in_silence(
    undisturbed: soak.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "ALTERED", ("select/selected/pool.jsonl", "teach/strong/replies.json"))
    for row in soak.alterations(undisturbed, 10, seed=0):
        assert (row["silent"], row["redone"], row["equal"], row["bricked"]) == (0, 1, 1, 0), row


def test_no_alteration_of_a_ledger_changes_what_comes_of_it(
    undisturbed: soak.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMBOL_LLM_HOME", "")  # noted, so that what the soak test sets is undone
    numbers = soak.ledgers(undisturbed, tmp_path, 25, seed=0)
    assert (numbers["equal"], numbers["silent"], numbers["noticed"]) == (25, 0, 25)


def test_alterations_do_alter() -> None:
    draw = random.Random(0)
    whole = b"one\ntwo\nthree\n"
    made = [soak.altered(whole, draw) for _ in range(200)]
    assert whole not in made
    assert {b"", b"one\n", b"one\ntwo\n"} <= set(made)


@pytest.mark.parametrize(
    ("actions", "codes", "promoted", "right"),
    [
        (["lost", "promote"], [0, Busy.exit_code], (1, 0), True),
        (["lost", "promote"], [0, 0], (1, 1), False),
        (["promote", "refuse"], [0, 0], (1, 0), True),
        (["promote", "refuse"], [0, 0], (1, 1), False),
        (["promote"], [0, 0], (0, 1), True),
        (["promote"], [0, 0], (1, 1), True),
        (["promote"], [0, 0], (0, 0), False),
        (["promote"], [0, Busy.exit_code], (1, 0), False),
        (["promote", "promote"], [0, 0], (1, 1), False),
        ([], [0, 0], (1, 0), False),
    ],
)
def test_each_of_two_promotions_is_told_what_became_of_it(
    actions: list[str], codes: list[int], promoted: tuple[int, int], right: bool
) -> None:
    said = [f"promoted  {one}\nversion   1\n" for one in promoted]
    assert soak.is_right(actions, codes, said) is right


def test_of_two_promotions_at_once_one_is_the_champion_and_the_log_has_both(
    undisturbed: soak.Run, tmp_path: Path
) -> None:
    (pair,) = soak.pairs(undisturbed, tmp_path, 1)
    assert pair["finished"] == 1, pair["said"]
