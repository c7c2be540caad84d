"""What an alias names is fetched once, whatever comes of it; a real registry, and a store that counts what is fetched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest

from serving.solver import Settings, Solver
from serving.source import AGAIN_S, SELDOM_S, Alias, Fixed
from symbol_llm.engines import Engine
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput, MissingDependency, Unavailable
from symbol_llm.tracking import registry, runs, signing
from tests.checkpoints import whole_checkpoint
from tests.keys import key_pair
from tests.serving.promoted import NAME, report
from tests.stores import Store


@pytest.fixture
def store(tracked_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Give a store that every remote address leads to, with a checkpoint in it that is champion."""
    made = Store(whole_checkpoint(tmp_path / "store"))
    made.take_over(monkeypatch)
    champion("s3://bucket/a", files.hash_path(made.folder))
    return made


def champion(source: str, digest: str) -> str:
    """Register a version and have it champion."""
    mlflow = runs.client()
    run = str(mlflow.create_run(runs.experiment(mlflow)).info.run_id)
    version = registry.register(NAME, source, report(1, digest), run)
    mlflow.set_registered_model_alias(NAME, registry.CHAMPION, version.number)
    return version.number


def refused(source: Alias) -> str:
    """Return why `source` hands nothing over, when looked at again."""
    source.now()
    with pytest.raises(InvalidInput) as e:
        source.fetch()
    return str(e.value)


def test_altered_weights_are_fetched_once_and_again_when_the_alias_has_moved(store: Store) -> None:
    first = registry.by_alias(NAME, registry.CHAMPION)
    assert first is not None
    whole = (store.folder / "model.safetensors").read_bytes()
    (store.folder / "model.safetensors").write_bytes(whole + b" ")
    source = Alias(NAME, registry.CHAMPION)
    said = {refused(source) for _ in range(3)}
    assert (len(said), store.n) == (1, 1)
    assert re.fullmatch(
        r"version 1 is refused: s3://bucket/a: its files have the digest \w{64}, the registered version \w{64}; it was altered; "
        r"mend it where it lies, or move the alias \(`symbol-llm rollback`\)",
        said.pop(),
    )
    champion("s3://bucket/b", "0" * 64)
    refused(source)
    assert store.n == 2
    (store.folder / "model.safetensors").write_bytes(whole)  # somebody mends the store, and moves the alias back
    runs.client().set_registered_model_alias(NAME, registry.CHAMPION, first.number)
    source.now()
    assert files.hash_path(source.fetch()) == first.digest
    assert store.n == 3


def test_altered_weights_are_fetched_again_more_and_more_seldom_and_taken_once_they_are_mended(store: Store) -> None:
    now = [0.0]
    source = Alias(NAME, registry.CHAMPION, clock=lambda: now[0])
    whole = (store.folder / "model.safetensors").read_bytes()
    (store.folder / "model.safetensors").write_bytes(whole + b" ")
    refused(source)
    for wait_s, n in ((AGAIN_S, 2), (2 * AGAIN_S, 3), (4 * AGAIN_S, 4)):
        now[0] += wait_s - 1
        refused(source)
        now[0] += 1
        refused(source)
        refused(source)
        assert store.n == n
    (store.folder / "model.safetensors").write_bytes(whole)
    refused(source)
    now[0] += SELDOM_S
    source.now()
    assert files.hash_path(source.fetch()) == files.hash_path(store.folder)
    assert store.n == 5


def test_altered_copy_is_fetched_anew_once(store: Store) -> None:
    source = Alias(NAME, registry.CHAMPION)
    source.now()
    copy = source.fetch() / "model.safetensors"
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1] + b"x")
    assert (source.fetch() / "model.safetensors").read_bytes() == whole
    assert (source.fetch(), store.n) == (copy.parent, 2)


def test_weights_without_a_good_signature_are_looked_at_again_once_they_have_another(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (private, public), (other, _) = key_pair(tmp_path), key_pair(tmp_path, "other")
    n_verified, verify = [0], signing.verify

    def counted(*arguments: object) -> None:
        n_verified[0] += 1
        verify(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(signing, "verify", counted)
    source = Alias(NAME, registry.CHAMPION, public)
    assert {("is not signed" in refused(source)) for _ in range(3)} == {True}
    registry.keep_signature(NAME, "1", signing.signer(other)(store.folder))
    assert {("with another key" in refused(source)) for _ in range(3)} == {True}
    assert n_verified == [2]
    registry.keep_signature(NAME, "1", signing.signer(private)(store.folder))
    source.now()
    assert files.hash_path(source.fetch()) == files.hash_path(store.folder)
    assert store.n == 1


def test_store_that_was_away_is_asked_again(store: Store) -> None:
    source = Alias(NAME, registry.CHAMPION)
    store.is_away = True
    for _ in range(2):
        source.now()
        with pytest.raises(Unavailable):
            source.fetch()
    store.is_away = False
    source.now()
    assert source.fetch().is_dir()
    assert store.n == 3


def never(place: Path) -> Engine:
    raise AssertionError(f"{place} was not handed over")


class Away:
    """Weights that are not to be had."""

    may_change: ClassVar[bool] = True

    def __init__(self, error: Exception) -> None:
        self.error = error

    def now(self) -> str:
        return "version 1"

    def fetch(self) -> Path:
        raise self.error

    def put_back(self, weights: str, in_place_of: str, why: str) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("error", [InvalidInput("it was altered"), Unavailable("the store is away")])
def test_server_waits_for_weights_that_may_come_and_ends_where_none_can(error: Exception) -> None:
    waits = Solver(Settings(follow_s=3600), never, Away(error))
    waits.begin()
    assert (waits.why_not(), waits.ready) == (f"no model is served: {error}", False)
    with pytest.raises(type(error)):
        Solver(Settings(follow_s=0), never, Away(error)).begin()


def test_server_ends_for_what_no_other_weights_would_mend() -> None:
    with pytest.raises(MissingDependency):
        Solver(Settings(follow_s=3600), never, Away(MissingDependency("model-signing"))).begin()


def test_server_of_weights_that_stay_ends_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        Solver(Settings(follow_s=3600), never, Fixed(str(tmp_path / "none"))).begin()


def test_data_behind_an_aliass_weights_are_those_that_its_checkpoint_was_measured_on(
    store: Store, tmp_path: Path
) -> None:
    def evaluate(collection: Path, checkpoint: Path) -> dict[str, float]:
        return {}

    source = Alias(NAME, registry.CHAMPION)
    assert source.data() == ""  # nothing was looked for yet
    source.now()
    assert source.data() == ""
    (tmp_path / "collection").mkdir()
    (tmp_path / "collection" / "train.jsonl").write_text("{}\n")
    runs.tracked(evaluate, label="e", collection=tmp_path / "collection", checkpoint=store.folder)
    assert source.data() == files.hash_path(tmp_path / "collection")[:16]
    assert Fixed("models:/x/1").data() == ""


def test_weights_are_served_where_nothing_can_be_said_of_their_data(tmp_path: Path) -> None:
    class Silent(Fixed):
        def fetch(self) -> Path:
            return tmp_path

        def data(self) -> str:
            raise Unavailable("the registry is away")

    solver = Solver(
        Settings(follow_s=0), lambda place: FakeEngine(lambda messages, index: "answer = 1"), Silent("here")
    )
    solver.begin()
    assert (solver.serves, solver.data) == ("here", {"here": ""})
