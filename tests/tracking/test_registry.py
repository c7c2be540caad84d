"""Champion, challenger and previous on a real MLflow registry; the gate by hand."""

from pathlib import Path

import pytest

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Promote
from symbol_llm.ground.records import General, Interval, Report, Summary
from symbol_llm.ground.stats import bootstrap, wilson
from symbol_llm.tracking import promotions, registry, runs
from symbol_llm.tracking.gate import Decision, gate
from symbol_llm.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, Contender, Version
from tests.stores import Store

NAME = "m"
PARAMS = Promote(name=NAME)


def report(
    outcomes: str,
    *,
    stage: str = "round 1",
    digest: str = "d",
    choice: float | None = None,
    perplexity: float | None = None,
) -> Report:
    """Make the report of a checkpoint that solves problem i where `outcomes[i]` is 1; a `.` was not put to it."""
    scores = {f"p{i}": float(c) for i, c in enumerate(outcomes) if c != "."}
    general = General(choice=choice if choice is None else wilson(choice, 100), perplexity=perplexity)
    overall = wilson(sum(scores.values()) / len(scores), len(scores))
    summary = Summary(
        stage=stage, checkpoint=digest, overall=overall, tasks={}, families={}, domains={}, general=general
    )
    return Report(summary=summary, outcomes=scores)


def registered(tracked_home: Path, found: Report) -> Version:
    """Register a checkpoint from within a stage that leaves its report, as `stages.promote` does."""
    made: list[Version] = []

    def stage(out: Path) -> dict[str, float]:
        out.mkdir(parents=True)
        (out / "report.json").write_text(found.model_dump_json())
        made.append(registry.register(NAME, f"/checkpoints/{found.summary.checkpoint}", found, runs.stage_run() or ""))
        return {}

    runs.tracked(stage, label="promote", out=tracked_home / "promotions" / found.summary.checkpoint)
    return made[0]


def contend(tracked_home: Path, found: Report, original: Report) -> Decision:
    """Put `found` to the gate against the champion, or the original if there is none."""
    champion = registry.by_alias(NAME, CHAMPION)
    version = registered(tracked_home, found)
    decision = gate(found, registry.report(champion) if champion else original, original, PARAMS)
    registry.promote(version, decision, NAME, promotions.settle(NAME))
    return decision


def aliases() -> dict[str, str | None]:
    found = {alias: registry.by_alias(NAME, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)}
    return {alias: version and version.number for alias, version in found.items()}


# --- the registry --------------------------------------------------------------------------------------------------


def test_checkpoint_is_registered_by_reference_and_once(tracked_home: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.mkdir()
    first = registry.register(NAME, str(place), report("01", digest="a"), "")
    again = registry.register(NAME, "/elsewhere/a", report("11", digest="a"), "")
    other = registry.register(NAME, "/checkpoints/b", report("11", digest="b"), "")
    assert (first.number, first.source, first.digest) == ("1", str(place), "a")
    assert (again, other.number) == (first, "2")
    assert registry.by_alias(NAME, CHALLENGER) == other
    assert not (tracked_home / "mlartifacts").exists()


def test_checkpoint_whose_folder_is_gone_is_registered_again_where_it_lies_now(tracked_home: Path) -> None:
    registry.register(NAME, "/gone/a", report("01", digest="a"), "")
    assert registry.register(NAME, "/new/a", report("01", digest="a"), "").source == "/new/a"


def test_model_or_alias_that_is_not_there_is_none(tracked_home: Path) -> None:
    assert registry.by_alias(NAME, CHAMPION) is None
    registry.register(NAME, "/a", report("1"), "")
    assert registry.by_alias(NAME, CHAMPION) is None


def test_version_is_found_again_with_its_report(tracked_home: Path) -> None:
    found = report("0110", digest="a", choice=0.5, perplexity=9.5)
    version = registered(tracked_home, found)
    assert registry.report(version) == found


def test_first_champion_must_beat_the_original(tracked_home: Path) -> None:
    original = report("0000000000", stage="original")
    assert not contend(tracked_home, report("0000000000", digest="a"), original).promoted
    assert aliases() == {CHAMPION: None, CHALLENGER: "1", PREVIOUS: None}
    assert contend(tracked_home, report("1111111111", digest="b"), original).promoted
    assert aliases() == {CHAMPION: "2", CHALLENGER: "2", PREVIOUS: None}


def test_next_champion_must_beat_the_champion_and_the_old_one_becomes_previous(tracked_home: Path) -> None:
    original = report("0000000000", stage="original")
    contend(tracked_home, report("1111100000", digest="a"), original)
    refused = contend(tracked_home, report("1111100000", digest="b", stage="round 2"), original)
    assert refused.reason == "not proved better than the 'round 1' checkpoint: +0.0% [+0.0%, +0.0%] on 10 test problems"
    contend(tracked_home, report("1111111111", digest="c"), original)
    assert aliases() == {CHAMPION: "3", CHALLENGER: "3", PREVIOUS: "1"}


def test_rollback_changes_champion_and_previous_over(tracked_home: Path) -> None:
    for outcomes, digest in (("1111100000", "a"), ("1111111111", "b")):
        contend(tracked_home, report(outcomes, digest=digest), report("0000000000", stage="original"))
    assert registry.rollback(NAME).digest == "a"
    assert aliases() == {CHAMPION: "1", CHALLENGER: "2", PREVIOUS: "2"}
    assert registry.rollback(NAME).digest == "b"


def test_rollback_without_a_previous_champion_is_refused(tracked_home: Path) -> None:
    with pytest.raises(InvalidInput, match="model 'm' has no previous champion to roll back to"):
        registry.rollback(NAME)
    contend(tracked_home, report("1111111111"), report("0000000000"))
    with pytest.raises(InvalidInput, match="no previous champion"):
        registry.rollback(NAME)


def test_every_decision_is_a_line_of_the_log(tracked_home: Path) -> None:
    assert registry.history() == []
    original = report("0000000000", stage="original")
    for outcomes, digest in (("1111100000", "a"), ("1111100000", "b"), ("1111111111", "c")):
        contend(tracked_home, report(outcomes, digest=digest), original)
    registry.rollback(NAME)
    found = [(row["action"], row["version"], row["sha256"]) for row in registry.history()]
    assert found == [("promote", "1", "a"), ("refuse", "2", "b"), ("promote", "3", "c"), ("rollback", "1", "a")]
    assert registry.history()[-1]["reason"] == "from version 3"
    assert not (tracked_home / "promotions.jsonl").exists()


def test_gate_leaves_its_sentence_on_the_version(tracked_home: Path) -> None:
    contend(tracked_home, report("1111111111", digest="a"), report("0000000000", stage="original"))
    tags = runs.client().get_model_version(NAME, "1").tags
    said = "better than the 'original' checkpoint: +100.0% [+100.0%, +100.0%] on 10 test problems"
    asked = "p0 p1 p2 p3 p4 p5 p6 p7 p8 p9"
    about = {"sha256": "a", "accuracy": "1.0000", "stage": "round 1", "isolation": "none", "asked": asked}
    assert tags == about | {"gate": said}


def test_champion_keeps_its_report_when_the_stage_that_registered_it_died(tracked_home: Path) -> None:
    """The second run finds the version that the first one left, whose run holds no report."""
    found = report("1111111111", digest="a")

    def dies(**_: object) -> dict[str, float]:
        registry.register(NAME, "/checkpoints/a", found, runs.stage_run() or "")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        runs.tracked(dies, label="promote")
    assert contend(tracked_home, found, report("0000000000")).promoted
    champion = registry.by_alias(NAME, CHAMPION)
    assert champion is not None
    assert registry.report(champion) == found


# --- references ----------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Give the folder of a checkpoint."""
    (folder := tmp_path / "checkpoint").mkdir()
    (folder / "weights").write_text("first")
    return folder


def test_alias_and_number_both_resolve_to_the_folder(tracked_home: Path, weights: Path) -> None:
    version = registry.register(NAME, str(weights), report("1", digest=files.hash_path(weights)), "")
    assert registry.resolve(f"models:/{NAME}@challenger") == weights
    assert registry.resolve(f"models:/{NAME}/{version.number}") == weights
    assert registry.fetch(f"file://{weights}", version.digest) == weights


def test_local_checkpoint_that_was_altered_or_is_gone_is_not_served(tracked_home: Path, weights: Path) -> None:
    digest = files.hash_path(weights)
    (weights / "weights").write_text("fjrst")
    with pytest.raises(InvalidInput, match=f"the registered version {digest}; it was altered"):
        registry.fetch(str(weights), digest)
    with pytest.raises(InvalidInput, match="gone: no such file or folder"):
        registry.fetch(str(weights.with_name("gone")), digest)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Give a store that every remote address leads to, with a checkpoint in it."""
    folder = tmp_path / "store"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sub" / "tokenizer.json").write_text("{}")
    made = Store(folder)
    made.take_over(monkeypatch)
    return made


def test_remote_checkpoint_is_downloaded_once_and_beside_the_other_state(tracked_home: Path, store: Store) -> None:
    digest = files.hash_path(store.folder)
    registry.register(NAME, "minio://bucket/a", report("1", digest=digest), "")
    first, again = (registry.resolve(f"models:/{NAME}@challenger") for _ in range(2))
    assert (first, store.n) == (again, 1)
    assert first.is_relative_to(tracked_home)
    assert (first / "model.safetensors").read_bytes() == b"weights"
    (first / "model.safetensors").write_bytes(b"changed on this disk")
    assert files.hash_path(registry.resolve(f"models:/{NAME}@challenger")) == digest
    assert store.n == 2


@pytest.fixture
def left(store: Store) -> Store:
    """Give a store that has what a stage wrote, with its manifest."""
    made = store.folder.with_name("made")
    with outputs.building(made, "tune", {}, {}) as draft:
        (draft.folder / "model.safetensors").write_bytes(b"weights")
    store.folder = made
    return store


@pytest.mark.parametrize("uri", ["s3://bucket/kfp/run/tuned", "minio://bucket/kfp/run/tuned"])
def test_what_a_stage_left_in_the_store_is_downloaded_once(tracked_home: Path, left: Store, uri: str) -> None:
    first, again = registry.fetch_output(uri), registry.fetch_output(uri)
    assert (first, left.n) == (again, 1)
    assert first.is_relative_to(tracked_home / "weights")
    assert (first / "model.safetensors").read_bytes() == b"weights"
    (first / "model.safetensors").write_bytes(b"changed on this disk")
    assert (registry.fetch_output(uri) / "model.safetensors").read_bytes() == b"weights"
    assert left.n == 2
    registry.fetch_output("s3://bucket/kfp/another/tuned")
    assert left.n == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model.safetensors", "weight5", "model.safetensors was altered"),
        ("manifest.json", "{}", "no manifest.json of ours"),
    ],
)
def test_what_is_not_as_a_stage_left_it_is_refused_and_not_kept(
    tracked_home: Path, left: Store, name: str, text: str, message: str
) -> None:
    (left.folder / name).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        registry.fetch_output("s3://bucket/kfp/run/tuned")
    assert not list((tracked_home / "weights").glob("store-*"))


def test_local_copy_that_was_altered_is_fetched_anew_and_said(
    tracked_home: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register(NAME, "s3://bucket/a", report("1", digest=files.hash_path(store.folder)), "")
    copy = registry.resolve(f"models:/{NAME}@challenger")
    assert registry.resolve(f"models:/{NAME}@challenger") == copy
    assert not caplog.records
    (copy / "model.safetensors").write_bytes(b"weight5")
    assert files.hash_path(registry.resolve(f"models:/{NAME}@challenger")) == files.hash_path(store.folder)
    (said,) = caplog.messages
    assert "not what was downloaded, fetched anew: " in said
    assert "model.safetensors was altered" in said


def test_remote_checkpoint_that_was_altered_is_refused_and_not_kept(tracked_home: Path, store: Store) -> None:
    registry.register(NAME, "s3://bucket/a", report("1", digest=files.hash_path(store.folder)), "")
    (store.folder / "model.safetensors").write_bytes(b"weight5")
    with pytest.raises(InvalidInput, match="it was altered"):
        registry.resolve(f"models:/{NAME}@challenger")
    assert not list((tracked_home / "weights").glob("registry-*"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("models:/m@champion", "models:/m@champion: model 'm' has no alias 'champion' yet"),
        ("models:/other@champion", "models:/other@champion: model 'other' has no alias 'champion' yet"),
        ("models:/m", "models:/m: expected models:/name@alias or models:/name/version"),
        ("models:/m/7", "models:/m/7"),
        ("models:/other/1", "models:/other/1"),
    ],
)
def test_reference_to_nothing_is_refused_by_name(tracked_home: Path, reference: str, message: str) -> None:
    registry.register(NAME, "/checkpoints/a", report("1"), "")
    with pytest.raises(InvalidInput) as e:
        registry.resolve(reference)
    assert message in str(e.value)


# --- the gate ------------------------------------------------------------------------------------------------------


def test_all_gained_is_promoted() -> None:
    decision = gate(report("1111111111"), report("0000000000"), report("0000000000"), PARAMS)
    assert decision.promoted
    assert decision.difference == Interval(n=10, mean=1.0, low=1.0, high=1.0)


@pytest.mark.parametrize(
    ("isolation", "allowed", "promoted"),
    [
        (("landlock6+seccomp+rlimits",), False, True),
        (("landlock6+seccomp+rlimits", "rlimits"), False, False),
        (("seccomp+rlimits",), False, False),
        (("rlimits",), True, True),
        ((), False, True),
    ],
)
def test_verdicts_from_a_weak_sandbox_count_only_if_told_to(
    isolation: tuple[str, ...], allowed: bool, promoted: bool
) -> None:
    found, original = report("1" * 20), report("0" * 20, stage="original")
    found = found.model_copy(update={"summary": found.summary.model_copy(update={"isolation": isolation})})
    decision = gate(found, original, original, PARAMS.model_copy(update={"weak_isolation": allowed}))
    assert decision.promoted == promoted
    assert promoted or "programs ran under" in decision.reason


@pytest.mark.parametrize("outcomes", ["1000000000", "0000000000", "1100000000"])
def test_gain_whose_interval_includes_zero_is_refused(outcomes: str) -> None:
    """One in ten is drawn no time at all in 0.9^10 = 35 % of resamples, two in 0.8^10 = 11 %; both are over 2.5 %."""
    decision = gate(report(outcomes), report("0000000000", stage="original"), report("0000000000"), PARAMS)
    assert not decision.promoted
    assert decision.reason.startswith("not proved better than the 'original' checkpoint: +")
    assert decision.difference is not None
    assert decision.difference.low == 0.0


def test_four_of_ten_gained_is_promoted() -> None:
    """Four in ten is drawn no time at all in 0.6^10 = 0.6 % of resamples, once or never in 4.6 %: the lower end is 0.1."""
    decision = gate(report("1111000000"), report("0000000000"), report("0000000000"), PARAMS)
    assert decision.promoted
    assert decision.difference is not None
    assert (decision.difference.mean, decision.difference.low) == (pytest.approx(0.4), pytest.approx(0.1))


def test_gains_are_paired_so_a_loss_counts_against_them() -> None:
    decision = gate(report("1111100000"), report("0000011111"), report("0000000000"), PARAMS)
    assert not decision.promoted
    assert decision.difference is not None
    assert decision.difference.mean == 0.0


@pytest.mark.parametrize(("now", "promoted"), [(0.76, True), (0.74, False)])
def test_multiple_choice_may_fall_by_the_margin_and_no_further(now: float, promoted: bool) -> None:
    original = report("0000000000", choice=0.8)
    decision = gate(report("1111111111", choice=now), report("0000000000", choice=0.1), original, PARAMS)
    assert decision.promoted is promoted
    assert promoted or decision.reason == "multiple choice fell from 80.0% to 74.0%, allowed 5%"


@pytest.mark.parametrize(("now", "promoted"), [(12.5, True), (12.6, False)])
def test_perplexity_may_rise_by_the_margin_and_no_further(now: float, promoted: bool) -> None:
    original = report("0000000000", perplexity=10.0)
    decision = gate(report("1111111111", perplexity=now), report("0000000000", perplexity=99.0), original, PARAMS)
    assert decision.promoted is promoted
    assert promoted or decision.reason == "perplexity rose from 10.0 to 12.6, allowed 25%"


def test_reports_on_different_problems_are_not_compared() -> None:
    decision = gate(report("1111111111"), report("0000......", stage="round 3"), report("0000000000"), PARAMS)
    assert decision[:3] == (False, "only 4 of 10 test problems were also put to 'round 3'", None)
    half = gate(report("1111111111"), report("00000....."), report("0000000000"), PARAMS)
    assert half.difference == Interval(n=5, mean=1.0, low=1.0, high=1.0)


def test_bootstrap_of_two_problems_by_hand() -> None:
    """Resamples of (1, 0) have means 0, 1/2 and 1 in shares 1/4, 1/2 and 1/4."""
    assert bootstrap([1.0, 0.0], 0.95) == Interval(n=2, mean=0.5, low=0.0, high=1.0)
    assert bootstrap([1.0, 0.0], 0.4) == Interval(n=2, mean=0.5, low=0.5, high=0.5)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("figure", ["perplexity", "choice"])
def test_figure_that_is_not_finite_is_not_recorded_and_never_passes(broken: float, figure: str) -> None:
    with pytest.raises(ValueError, match="finite number"):
        General.model_validate({"perplexity": broken})
    general = General(perplexity=9.0, choice=wilson(0.5, 100))
    value = broken if figure == "perplexity" else wilson(0.5, 100).model_copy(update={"mean": broken})
    found = report("1111111111", perplexity=9.0, choice=0.5)
    summary = found.summary.model_copy(update={"general": general.model_copy(update={figure: value})})
    original = report("0000000000", perplexity=10.0, choice=0.5)
    decision = gate(found.model_copy(update={"summary": summary}), original, original, PARAMS)
    assert (decision.promoted, decision.reason) == (False, "general ability has a figure that is not finite")


@pytest.mark.parametrize("figure", ["perplexity", "choice"])
def test_what_was_measured_of_the_rival_alone_is_missed_too(figure: str) -> None:
    rival = report("0000000000", **{figure: 0.5})
    decision = gate(report("1111111111"), rival, report("0000000000"), PARAMS)
    assert decision.promoted is False
    assert decision.reason == "general ability was not measured, though that of the model it is compared with was"


def on_dev(found: Report, mean: float | None) -> Report:
    dev = None if mean is None else wilson(mean, 10)
    return found.model_copy(update={"summary": found.summary.model_copy(update={"dev": dev})})


def test_dev_chooses_who_is_put_to_the_gate_and_test_has_no_say(tracked_home: Path) -> None:
    """The first is better on test, the second on dev; of equals on dev the later goes."""
    first, second = report("1111111111", digest="first"), report("1110000000", digest="second")
    original = report("0000000000", stage="original")
    found = registry.contend(
        [Contender(on_dev(first, 0.4), "a"), Contender(on_dev(second, 0.5), "b")], original, PARAMS, ""
    )
    assert (found.contender.source, found.version.digest, found.n_tested) == ("b", "second", 1)
    equal = [Contender(on_dev(first, 0.5), "a"), Contender(on_dev(second, 0.5), "b")]
    assert registry.contend(equal, original, PARAMS, "").contender.source == "b"


def test_checkpoints_put_to_the_test_problems_are_counted(tracked_home: Path) -> None:
    original = report("0000000000", stage="original")
    for n, digest in enumerate(("a", "b", "b", "c"), 1):
        found = registry.contend(
            [Contender(report("0000000000", digest=digest), "s3://checkpoints")], original, PARAMS, ""
        )
        assert found.n_tested == len(set("abbc"[:n]))


def test_choice_without_dev_problems_is_refused(tracked_home: Path) -> None:
    pair = [Contender(report("11"), "a"), Contender(on_dev(report("10"), 0.5), "b")]
    with pytest.raises(InvalidInput, match="no dev problems to choose the better checkpoint by"):
        registry.contend(pair, report("00"), PARAMS, "")
