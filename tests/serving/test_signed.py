"""A server with a public key serves what is signed by its owner, and nothing else: real keys, registry and processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from symbol_llm.tracking import registry, signing
from symbol_llm.tracking.export import export
from tests.keys import key_pair
from tests.serving.promoted import NAME, Served, promote, writer
from tests.serving.scripted import until

ASKED = {"question": "What is 3 + 4?", "k": 1}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path)


def test_signed_champion_is_served_with_the_right_key_and_refused_with_another(
    tracked_home: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    promote(writer(tmp_path / "w", "answer = 7"), 15, keys[0])
    served = Served("--verify-key", keys[1]).up()
    try:
        assert served.get("/v1/solve", ASKED)[1]["answer"] == "7"
    finally:
        served.stop()
    other = key_pair(tmp_path, "other")
    refused = Served("--verify-key", other[1]).there()
    try:
        status, told = refused.get("/v1/solve", ASKED)
        assert (status, "its signature was made with another key" in told["error"]) == (503, True)
        assert refused.get("/v1/models/symbol-llm")[0] == 503
    finally:
        assert "Traceback" not in refused.stop()


def test_champion_that_is_not_signed_does_not_go_live_until_it_is(
    tracked_home: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    promote(writer(tmp_path / "first", "answer = 1"), 10, keys[0])
    served = Served("--verify-key", keys[1]).up()
    try:
        second = promote(writer(tmp_path / "second", "answer = 2"), 20)
        until(lambda: "is not signed" in served.health()["trouble"])
        assert served.get("/v1/solve", ASKED)[1]["answer"] == "1"
        registry.keep_signature(NAME, second.number, signing.signer(keys[0])(tmp_path / "second"))
        until(lambda: served.get("/v1/solve", ASKED)[1]["answer"] == "2")
        assert served.health()["trouble"] == ""
    finally:
        served.stop()


def test_champion_that_was_altered_is_refused_and_the_next_one_served_without_a_restart(
    tracked_home: Path, tmp_path: Path
) -> None:
    promote(writer(tmp_path / "first", "answer = 1"), 10)
    with (tmp_path / "first" / "replies.json").open("a") as file:
        file.write(" ")
    served = Served().there()
    try:
        assert served.get("/v1/models/symbol-llm")[0] == 503
        for path, body in (("/v1/solve", ASKED), ("/v1/models/symbol-llm:predict", {"instances": [ASKED]})):
            status, told = served.get(path, body)
            assert status == 503
            assert told["error"].startswith(
                f"no model is served: version 1 is refused: {tmp_path / 'first'}: its files have"
            )
            assert told["error"].endswith("mend it where it lies, or move the alias (`symbol-llm rollback`)")
        assert served.get("/v1/judge", {"task": "word_problems", "answer": 4, "reply": "answer = 4"})[0] == 200
        promote(writer(tmp_path / "second", "answer = 2"), 20)
        until(lambda: served.get("/v1/solve", ASKED)[0] == 200)
        assert served.get("/v1/solve", ASKED)[1]["answer"] == "2"
        assert served.health()["trouble"] == ""
    finally:
        said = served.stop()
    assert said.count("version 1 is refused") == 1


def test_exported_folder_and_numbered_version_are_verified_too(
    tracked_home: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    promote(writer(tmp_path / "w", "answer = 7"), 15, keys[0])
    export(NAME, "champion", tmp_path / "out", keys[1])
    for model in (str(tmp_path / "out"), f"models:/{NAME}/1"):
        served = Served("--verify-key", keys[1], model=model).up()
        served.stop()
    with (tmp_path / "out" / "replies.json").open("a") as file:
        file.write(" ")
    said = Served("--verify-key", keys[1], model=str(tmp_path / "out")).said()
    assert said.splitlines()[-1].startswith(f"{tmp_path / 'out'}: replies.json was altered (checked with the key ")
    shutil.copytree(tmp_path / "w", tmp_path / "bare")
    assert "is not signed" in Served("--verify-key", keys[1], model=str(tmp_path / "bare")).said()
