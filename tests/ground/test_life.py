"""Ending: how a process is told to, what it may finish, and that what it started ends with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from symbol_llm.ground import life

PATIENCE_S = 60


def start(code: str, *before: str) -> "subprocess.Popen[str]":
    """Start Python code that says a line once it is ready."""
    command = [*before, sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    return bool(life._started(pid))


STOPPABLE = """
from symbol_llm.ground import life
try:
    with life.stoppable():
        print("ready", flush=True)
        input()
        print("went on", flush=True)
finally:
    print("cleaning up", flush=True)
    input()
    print("clean", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_process_that_is_told_to_end_finishes_its_clean_up_however_often_it_is_told(number: int) -> None:
    with start(STOPPABLE) as process:
        assert process.stdout is not None
        process.send_signal(number)
        assert process.stdout.readline() == "cleaning up\n"
        for again in (signal.SIGTERM, signal.SIGHUP, number):
            process.send_signal(again)
        assert process.communicate("\n")[0] == "clean\n"
    assert process.returncode == 128 + number


def test_signal_that_a_process_was_told_to_ignore_stays_ignored() -> None:
    """As by nohup."""
    with start(STOPPABLE, "sh", "-c", 'trap "" HUP; exec "$@"', "sh") as process:
        process.send_signal(signal.SIGHUP)
        assert process.communicate("\n\n")[0] == "went on\ncleaning up\nclean\n"
    assert process.returncode == 0


def test_signals_are_as_before_after_a_block_that_none_ended() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    with life.stoppable(), life.stoppable():
        assert signal.getsignal(signal.SIGTERM) == life._leave
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


def test_command_that_is_started_for_a_parent_ends_with_it_however_it_ends() -> None:
    """Any command, not only ours; here one of a shell and what that waits for."""
    code = f"""
import os, subprocess, sys
command = [sys.executable, "-m", "{life.__name__}", str(os.getpid()), "sleep", "600"]
child = subprocess.Popen(command)
while os.readlink(f"/proc/{{child.pid}}/exe").endswith("python" + sys.version[:4]):
    pass
print("ready", flush=True)
print(child.pid, flush=True)
input()
"""
    with start(code) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert is_alive(child)
        process.kill()
    wait_for(lambda: not is_alive(child))


def test_command_whose_parent_is_gone_already_is_not_begun() -> None:
    command = [sys.executable, "-m", life.__name__, "1", "echo", "begun"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "")


def test_tree_that_does_not_end_when_it_is_told_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "GRACE_S", 0.1)
    stubborn = 'trap "" TERM; sleep 600 & echo ready; wait; wait; sleep 600'
    with subprocess.Popen(["sh", "-c", stubborn], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (child,) = life._children(process.pid)
        life.end(process.pid)
        assert not is_alive(child)
        assert not is_alive(process.pid)
    assert process.returncode == -signal.SIGKILL


def test_number_that_another_process_has_by_now_is_not_that_process() -> None:
    me = life.this_process()
    assert life.is_there(me)
    assert not life.is_there(f"{os.getpid()}-1")
    assert not life.is_there(f"{Path('/proc/sys/kernel/pid_max').read_text().strip()}-1")
