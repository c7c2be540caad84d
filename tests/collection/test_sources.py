"""Folders of data: on this machine, and from a hub that runs here."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from symbol_llm.collection.collect import collect
from symbol_llm.collection.sources import Source, find
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.files import read_json
from symbol_llm.ground.params import Collect
from symbol_llm.ground.problems import read_problems
from tests.hub import Hub, serving

COMMIT = "c0ffee" + "0" * 34
NAME = "hf://datasets/org/sums"


@pytest.fixture
def hub(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Give a hub with two rows of addsub, a picture and a script in its repository."""
    folder = tmp_path / "repository"
    (folder / "math" / "addsub").mkdir(parents=True)
    for split, text in (("train", "Kai has nuts."), ("test", "Lia has figs.")):
        row = {"id": split, "input": text, "target": 1}
        (folder / "math" / "addsub" / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "picture.png").touch()
    (folder / "load.py").touch()
    with serving(folder, "org/sums", COMMIT) as running:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_port}")
        yield running


def test_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find(tmp_path) == Source(tmp_path, tmp_path)
    assert find(str(tmp_path)).place == tmp_path


def test_repository_is_downloaded_without_what_is_no_data_and_named_by_its_commit(hub: Hub, home: Path) -> None:
    found = find(NAME)
    assert found.reference == f"{NAME}@{COMMIT}"
    assert found.place.is_relative_to(home / "sources")
    names = {file.relative_to(found.place).as_posix() for file in found.place.rglob("*") if file.is_file()}
    assert names == {"math/addsub/train.jsonl", "math/addsub/test.jsonl"}
    assert find(f"{NAME}@main") == found


def test_commit_that_was_downloaded_is_not_asked_for_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(NAME)
    hub.asked.clear()
    assert find(f"{NAME}@{COMMIT}") == found
    assert hub.asked == []
    hub.shutdown()
    hub.server_close()
    assert find(NAME) == found


def test_what_the_hub_does_not_give_is_told_with_what_to_do(hub: Hub) -> None:
    with pytest.raises(
        Unavailable, match=r"datasets/org/none': not downloaded before.*hf download org/none --repo-type"
    ):
        find("hf://datasets/org/none")
    hub.shutdown()
    hub.server_close()
    with pytest.raises(Unavailable, match=r"does not give it \(.*ConnectError.*\); where there is a network"):
        find(NAME)


def test_repository_of_another_layout_is_refused(hub: Hub) -> None:
    shutil.rmtree(hub.folder / "math")
    with pytest.raises(InvalidInput, match="the repository has another layout; expected <group>/<data set>"):
        find(NAME)


def test_repository_of_flat_files_is_refused_with_how_to_name_one(hub: Hub) -> None:
    (hub.folder / "math").rename(hub.folder / "all")
    (hub.folder / "rows.jsonl").write_text("{}\n")
    for split in ("train", "test"):
        (hub.folder / "all" / "addsub" / f"{split}.jsonl").unlink()
    with pytest.raises(InvalidInput, match=f"or name one of its files, such as {NAME}@{COMMIT}/rows.jsonl"):
        find(NAME)


def test_one_file_of_a_repository_is_downloaded_alone_and_named_by_the_commit(hub: Hub) -> None:
    for name in ("few.jsonl", "all.jsonl"):
        (hub.folder / name).write_text(f'"{name}"')
    few, every = (find(f"{NAME}@{revision}/{name}.jsonl") for revision, name in (("main", "few"), (COMMIT, "all")))
    assert few.reference == f"{NAME}@{COMMIT}/few.jsonl"
    assert (few.place.read_text(), every.place.read_text()) == ('"few.jsonl"', '"all.jsonl"')
    assert not [path for path in hub.asked if path.endswith(("addsub/train.jsonl", "picture.png"))]
    with pytest.raises(InvalidInput, match="the repository has no such file"):
        find(f"{NAME}@{COMMIT}/none.jsonl")


def test_file_of_this_machine_is_taken_if_it_holds_json_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "rows.csv").touch()
    assert find(tmp_path / "rows.jsonl") == Source(tmp_path / "rows.jsonl", tmp_path / "rows.jsonl")
    with pytest.raises(InvalidInput, match=r"rows.csv: no such folder; .*, or a file named \*.jsonl"):
        find(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    "reference",
    [
        "hf://org/name",
        "hf://datasets/org",
        "hf://datasets//x",
        "hf:datasets",
        "hf://",
        "hf://datasets/org/name/rows.jsonl",
    ],
)
def test_malformed_reference_is_refused_before_anything_is_asked(reference: str) -> None:
    with pytest.raises(
        InvalidInput, match="expected hf://datasets/org/name@revision, with /file.jsonl for one of its files"
    ):
        find(reference)


def test_name_that_no_repository_can_have_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"source 'hf://datasets/o rg/x': Repo id"):
        find("hf://datasets/o rg/x")


def test_collection_of_a_repository_names_its_commit_in_manifest_and_card(hub: Hub, tmp_path: Path) -> None:
    collect(tmp_path / "out", Collect(source=NAME))
    assert [row.question for row in read_problems(tmp_path / "out", "train")] == ["Kai has nuts."]
    assert read_json(tmp_path / "out" / "manifest.json")["params"]["source"] == f"{NAME}@{COMMIT}"
    for card in ("card.md", "card.html"):
        assert f"Read from {NAME}@{COMMIT}." in (tmp_path / "out" / card).read_text()
