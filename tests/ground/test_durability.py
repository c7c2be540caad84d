"""Replacing a file survives a power cut: what is written reaches the disk before its name does."""

import errno
import os
from pathlib import Path

import pytest

from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput

WRITERS = {
    "text": lambda path: files.write_text(path, "new"),
    "json": lambda path: files.write_json(path, "new"),
    "records": lambda path: files.write_records(path, []),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Give the list of syncs and replacements as they come: what, of which inode, how many bytes it held."""
    made: list[tuple[str, int, int]] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(fd: int) -> None:
        made.append(("fsync", os.fstat(fd).st_ino, os.fstat(fd).st_size))
        fsync(fd)

    def note_replace(source: str | Path, target: str | Path) -> None:
        made.append(("replace", os.stat(source).st_ino, os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    return made


@pytest.mark.parametrize(("kind", "n_bytes"), [("text", 3), ("json", 6), ("records", 0)])
def test_all_bytes_are_synced_before_the_old_file_is_replaced(
    tmp_path: Path, calls: list[tuple[str, int, int]], kind: str, n_bytes: int
) -> None:
    (tmp_path / "a").write_text("old")
    WRITERS[kind](tmp_path / "a")
    inode = (tmp_path / "a").stat().st_ino
    assert calls == [("fsync", inode, n_bytes), ("replace", inode, n_bytes)]


def test_file_that_cannot_be_synced_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("old")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InvalidInput, match="a: cannot be written: Input/output error"):
        files.write_text(tmp_path / "a", "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]
