"""Files: whole or absent, readable or refused with the place."""

import errno
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from symbol_llm.ground import files
from symbol_llm.ground.errors import Busy, InvalidInput
from symbol_llm.ground.params import Collect
from symbol_llm.ground.records import GeneralItem, Interval


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


@pytest.mark.parametrize(
    ("tasks", "message"),
    [(7, "tasks: input should be a valid list, got '7'"), ([7], "tasks.0: input should be a valid string, got '7'")],
)
def test_fault_is_told_in_the_words_of_the_file_not_in_pythons(tasks: object, message: str) -> None:
    with pytest.raises(ValidationError) as told:
        Collect(tasks=tasks)  # type: ignore[arg-type]
    assert files.explain(told.value) == message


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
    (tmp_path / files.MANIFEST).write_text("{}")
    assert files.hash_path(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert files.hash_path(tmp_path) != first


def test_what_fails_in_the_block_is_not_taken_for_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConnectionRefusedError), files.replacing(tmp_path / "a"):
        raise ConnectionRefusedError(111, "Connection refused")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    code = "import sys; from pathlib import Path; from symbol_llm.ground import files; files.write_text(Path(sys.argv[1]), 'x')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True, umask=umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"perplexity": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"n": "\xe9"}', "a.json: not UTF-8 at byte 7"),
        (b'{"n": 1,', "a.json:1: not JSON"),
        (b'{"n": 1, "mean": NaN, "low": 0, "high": 1}', "a.json: mean: input should be a finite number"),
    ],
)
def test_malformed_file_is_refused_with_its_fault(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        files.read_record(tmp_path / "a.json", Interval)


def a_ledger(path: Path, n: int = 5) -> list[bytes]:
    """Write a ledger of `n` rows; return its lines."""
    with files.Ledger(path) as ledger:
        for i in range(n):
            ledger.append({"a": i})
    return path.read_bytes().splitlines(keepends=True)


def rows_of(path: Path) -> list[int]:
    with files.Ledger(path) as ledger:
        return [row["a"] for row in ledger.rows]


def test_ledger_cuts_off_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    lines = a_ledger(tmp_path / "l", 2)
    (tmp_path / "l").write_bytes(b"".join(lines) + b'8bd3f9f5 {"a": ')
    with files.Ledger(tmp_path / "l") as ledger:
        assert ([row["a"] for row in ledger.rows], ledger.n_bad) == ([0, 1], 1)
        ledger.append({"a": 3})
    assert rows_of(tmp_path / "l") == [0, 1, 3]


def test_every_flipped_bit_of_a_ledger_costs_its_line_or_two_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two where the end of a line is hit, which then runs into the next one."""
    whole = b"".join(a_ledger(tmp_path / "l"))
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            (tmp_path / "l").write_bytes(flipped)
            caplog.clear()
            left, n = rows_of(tmp_path / "l"), whole[:at].count(b"\n")
            lost = {n, n + 1} if whole[at : at + 1] == b"\n" else {n}
            assert left == [i for i in range(5) if i not in lost], (at, bit)
            assert "damaged lines left out; what they held is made again" in caplog.text


def test_row_without_its_checksum_is_no_row_of_a_ledger(tmp_path: Path) -> None:
    lines = a_ledger(tmp_path / "l", 2)
    (tmp_path / "l").write_bytes(lines[0] + b'{"a": 7}\n' + lines[1])
    assert rows_of(tmp_path / "l") == [0, 1]


@pytest.mark.parametrize("tail", [b"\x000\x00\n", b"1\n", b"null\n", b"[" * 100_000 + b"\n", b"\xff\n", b"\0" * 4096])
def test_tail_of_a_ledger_that_is_no_object_is_no_row(tmp_path: Path, tail: bytes) -> None:
    (line,) = a_ledger(tmp_path / "l", 1)
    (tmp_path / "l").write_bytes(line + tail)
    with files.Ledger(tmp_path / "l") as ledger:
        assert (ledger.rows, ledger.n_bad) == ([{"a": 0}], 1)
    assert (tmp_path / "l").read_bytes() == line


def test_value_that_is_no_object_is_no_row_though_its_checksum_is_right(tmp_path: Path) -> None:
    text = b'{"a": }'
    (tmp_path / "l").write_bytes(b"%08x %b\n" % (zlib.crc32(text), text))
    assert rows_of(tmp_path / "l") == []


def test_ledger_is_removed_unless_somebody_works_with_it(tmp_path: Path) -> None:
    a_ledger(tmp_path / "l")
    with files.Ledger(tmp_path / "l"):
        files.remove_ledger(tmp_path / "l")
        assert (tmp_path / "l").exists()
    (tmp_path / "link").symlink_to(tmp_path / "l")
    for name in ("link", "absent", "l"):
        files.remove_ledger(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_half_a_character_is_kept_by_a_ledger(tmp_path: Path) -> None:
    with files.Ledger(tmp_path / "l") as ledger:
        ledger.append({"reply": "\ud83d"})
    with files.Ledger(tmp_path / "l") as ledger:
        assert ledger.rows == [{"reply": "\ud83d"}]


def test_second_writer_of_a_ledger_is_refused(tmp_path: Path) -> None:
    with files.Ledger(tmp_path / "l"), pytest.raises(Busy, match="in use by a run that writes this ledger"):
        files.Ledger(tmp_path / "l")


def test_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    files.write_records(tmp_path / "a", [item(1)])
    with pytest.raises(InvalidInput, match=r"a:1: id: field required"):
        list(files.read_records(tmp_path / "a", GeneralItem))


# --- drafts of writers that were killed --------------------------------------------------------------------------------

WRITER = """
import os, signal, sys
from pathlib import Path
from symbol_llm.ground import files
with files.replacing(Path(sys.argv[1])) as out:
    out.write(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """Start a process that is in the middle of writing `path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_next_writer_removes_the_draft_of_a_killed_one_and_no_other(tmp_path: Path) -> None:
    with writer(tmp_path / "a") as killed, writer(tmp_path / "a") as alive:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        theirs = {".a.swp", ".a.1234abcd", ".a.12345678-1-1.abcdefgh", ".ab.tmp", ".a"}
        for name in theirs:
            (tmp_path / name).touch()
        (dead,) = (p for p in tmp_path.iterdir() if f"-{killed.pid}-" in p.name)
        other = tmp_path / dead.name.replace(".a.", ".b.")
        other.touch()
        files.write_text(tmp_path / "a", "new")
        left = {p.name for p in tmp_path.iterdir()} - theirs - {"a", other.name}
        assert [f"-{alive.pid}-" in name for name in left] == [True]
        alive.communicate("")
    assert {p.name for p in tmp_path.iterdir()} == theirs | {"a", other.name}
    assert (tmp_path / "a").read_text() == "half"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", "No space left on device"),
        ("(sqlite3.OperationalError) database or disk is full\n[SQL: CREATE TABLE a]", "No space left on device"),
        ("(sqlite3.OperationalError) attempt to write a readonly database", "Read-only file system"),
    ],
)
def test_error_of_a_library_that_names_a_fault_of_the_disk_is_told_as_one(tmp_path: Path, text: str, told: str) -> None:
    """Tensors and tokenizers are written by libraries in Rust, runs by SQLite, whose errors are no OSErrors."""
    with (
        pytest.raises(InvalidInput, match=f"a: cannot be written: {told}$"),
        files.saying_unwritable(tmp_path / "a", files.DISK_FAULTS),
    ):
        raise RuntimeError(text)
    with pytest.raises(RuntimeError), files.saying_unwritable(tmp_path / "a", files.DISK_FAULTS):
        raise RuntimeError("Connection refused (os error 111)")


def test_weights_that_do_not_fit_are_told_as_a_full_disk(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import numpy
from safetensors.numpy import save_file
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with files.saying_unwritable(Path(sys.argv[1]), files.DISK_FAULTS):
        save_file({"w": numpy.zeros(10_000)}, sys.argv[1])
except InvalidInput as e:
    print(e)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'w'}: cannot be written: {os.strerror(errno.EFBIG)}\n", "")
