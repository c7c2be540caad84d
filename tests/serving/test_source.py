"""What an alias names is fetched once, whatever comes of it; a real registry, and a store that counts what is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.source import Alias
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput, Unavailable
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
    assert said.pop().endswith("it was altered")
    champion("s3://bucket/b", "0" * 64)
    refused(source)
    assert store.n == 2
    (store.folder / "model.safetensors").write_bytes(whole)  # somebody mends the store, and moves the alias back
    runs.client().set_registered_model_alias(NAME, registry.CHAMPION, first.number)
    source.now()
    assert files.hash_path(source.fetch()) == first.digest
    assert store.n == 3


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
