"""Locks: one holder, named to whoever comes second, and free when its process is gone, whatever that process left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from symbol_llm.ground import locks
from symbol_llm.ground.errors import Busy, InvalidInput

HOLDER = """
import os, sys, time
from pathlib import Path
from symbol_llm.ground import locks
with locks.hold(Path(sys.argv[1]), "a run"):
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(60)
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def holder(path: Path, *more: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), *more], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_second_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    process, pid = holder(tmp_path / ".lock")
    try:
        told = rf"in use by a run, process {pid} on .*, since \d{{4}}-.*; wait for it, stop it, or name another folder"
        with pytest.raises(Busy, match=told), locks.hold(tmp_path / ".lock", "mine"):
            pass
    finally:
        end(process)


def test_lock_of_a_killed_process_is_taken_over_and_said_though_a_child_lives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process, pid = holder(tmp_path / ".lock", "fork")
    try:
        os.kill(pid, signal.SIGKILL)
        process.wait()  # its child lives on
        with locks.hold(tmp_path / ".lock", "mine"):
            assert f"taken over from a run, process {pid}" in caplog.text
    finally:
        end(process)


def test_lock_that_was_given_back_is_taken_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with locks.hold(tmp_path / ".lock", "a run"):
            pass
    assert caplog.text == ""


def test_own_process_is_refused_too_and_its_lock_stays(tmp_path: Path) -> None:
    """Record locks never refuse their own process, and are lost when it closes any descriptor of the file."""
    code = HOLDER.replace("time.sleep(60)", "pass")
    with locks.hold(tmp_path / ".lock", "a run"):
        with pytest.raises(Busy, match="in this very process"), locks.hold(tmp_path / ".lock", "again"):
            pass
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / ".lock")], capture_output=True, text=True, check=False
        )
        assert "Busy" in done.stderr


def test_text_that_is_no_owner_is_no_owner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".lock").write_text("a run of the pipeline, process 12")
    with locks.hold(tmp_path / ".lock", "mine"):
        assert caplog.text == ""


SHARER = """
import sys
from pathlib import Path
from symbol_llm.ground import locks
with locks.share(Path(sys.argv[1])):
    print("sharing", flush=True)
    sys.stdin.read()
"""


def sharer(path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SHARER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "sharing\n"
    return process


def test_lock_that_is_shared_is_free_once_the_last_is_gone(tmp_path: Path) -> None:
    path = tmp_path / ".stages.lock"
    locks.wait_until_free(path, 0)
    with sharer(path) as one, sharer(path) as other:
        one.kill()
        one.wait()
        with pytest.raises(Busy):
            locks.wait_until_free(path, 0)
        other.communicate("")
        locks.wait_until_free(path, 0)
    with locks.hold(path, "a run"):
        command = [sys.executable, "-c", SHARER, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Busy" in done.stderr


def test_lock_in_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for call in (lambda path: locks.hold(path, "a run"), locks.share):
        with (
            pytest.raises(InvalidInput, match="cannot be written: Not a directory"),
            call(tmp_path / "file" / "deep" / ".lock"),
        ):
            pass
