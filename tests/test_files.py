"""Files: whole or absent, readable or refused with the place."""

import json
import os
from pathlib import Path

import pytest

from symbol_llm import files
from symbol_llm.errors import Busy, InvalidInput
from symbol_llm.params import Select
from symbol_llm.records import GeneralItem, Interval


def item(n: int) -> Interval:
    return Interval(n=n, mean=0.5, low=0.25, high=0.75)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert files.write_records(tmp_path / "a.jsonl", [item(1), item(2)]) == 2
    assert list(files.read_records(tmp_path / "a.jsonl", Interval)) == [item(1), item(2)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"n": 1,', "a.jsonl:2: not JSON"),
        (b"[1]", "a.jsonl:2: expected a JSON object, got list"),
        (b'{"n": "\xff"}', "a.jsonl:2: not UTF-8"),
        (b'{"n": "many", "mean": 0.5, "low": 0, "high": 1}', "a.jsonl:2: n: input should be a valid integer"),
        (b'{"n": 1, "mean": 0.5, "low": 0}', "a.jsonl:2: high: field required"),
        (b'{"n": 1, "mean": 0.5, "low": 0, "high": 1, "odd": 2}', "a.jsonl:2: odd: extra inputs"),
    ],
)
def test_malformed_line_is_refused_with_file_line_and_field(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(item(1).model_dump_json().encode() + b"\n" + line + b"\n")
    with pytest.raises(InvalidInput) as e:
        list(files.read_records(path, Interval))
    assert message in str(e.value)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere.jsonl: no such file"):
        list(files.read_records(tmp_path / "nowhere.jsonl", Interval))


def test_line_too_long_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 50)
    (tmp_path / "a.jsonl").write_text("{" + " " * 100 + "}")
    with pytest.raises(InvalidInput, match=r"a.jsonl:1: line is longer than 50 bytes"):
        list(files.read_json_lines(tmp_path / "a.jsonl"))


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    files.write_records(path, [item(1)])

    def rows():  # noqa: ANN202
        yield item(2)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        files.write_records(path, rows())
    assert list(files.read_records(path, Interval)) == [item(1)]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    with files.building(tmp_path / "out") as draft:
        (draft / "a").write_text("1")
    with pytest.raises(RuntimeError), files.building(tmp_path / "out") as draft:
        (draft / "b").write_text("2")
        raise RuntimeError("stop")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_full_disk_says_which_file(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with pytest.raises(InvalidInput, match="cannot be written: No space left"), files.replacing(tmp_path / "a") as out:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
        out.write(b"never")
    assert list(tmp_path.iterdir()) == []


def test_hash_of_a_folder_sees_names_and_contents_but_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = files.hash_path(tmp_path)
    files.write_manifest(tmp_path, stage="x", inputs={}, params=Select(), metrics={"n": 1.0})
    assert files.hash_path(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert files.hash_path(tmp_path) != first


def test_manifest_names_inputs_parameters_and_counts_without_timings(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1")
    (tmp_path / "out").mkdir()
    numbers = {"n_rows": 3.0, "train_s": 1.2}
    files.write_manifest(
        tmp_path / "out", stage="x", inputs={"rows": tmp_path / "in", "pool": None}, params=Select(), metrics=numbers
    )
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found["inputs"] == {"rows": files.hash_path(tmp_path / "in")}
    assert (found["metrics"], found["params"]["max_pairs"]) == ({"n_rows": 3.0}, 2)


def test_ledger_cuts_off_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": ')
    with files.Ledger(path) as ledger:
        assert (ledger.rows, ledger.n_torn) == ([{"a": 1}, {"a": 2}], 1)
        ledger.append({"a": 3})
    with files.Ledger(path) as ledger:
        assert [r["a"] for r in ledger.rows] == [1, 2, 3]


def test_second_writer_of_a_ledger_is_refused(tmp_path: Path) -> None:
    with files.Ledger(tmp_path / "l"), pytest.raises(Busy, match="another process"):
        files.Ledger(tmp_path / "l")


def test_second_run_in_a_folder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    told = rf"in use by a run, process {os.getpid()}"
    with files.lock(tmp_path, "a run"), pytest.raises(Busy, match=told), files.lock(tmp_path, "another"):
        pass


def test_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    files.write_records(tmp_path / "a", [item(1)])
    with pytest.raises(InvalidInput, match=r"a:1: id: field required"):
        list(files.read_records(tmp_path / "a", GeneralItem))
