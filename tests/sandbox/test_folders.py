"""Private folders of programs: where they lie, and that they are gone when their process is, however it ended."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from symbol_llm.sandbox import folders

MAKES = "from symbol_llm.sandbox import folders; print(folders.make(), flush=True)"
RUNS = (
    "import pathlib, tempfile, threading, time\n"
    "from symbol_llm.ground.params import Limits\n"
    "from symbol_llm.sandbox import executor\n"
    "asked = 'symbol_llm.sandbox.interpreter:execute', {'program': 'import time; time.sleep(60)'}, Limits(timeout_s=60)\n"
    "threading.Thread(target=executor.run, args=asked, daemon=True).start()\n"
    "while len(list(pathlib.Path(tempfile.gettempdir()).glob('*/*'))) < 2:\n"  # the lock and the program's folder
    "    time.sleep(0.1)\n"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder for temporary ones of this process and those it starts; no program's folder is in it yet."""
    folders.close()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def killed(code: str) -> Path:
    """Run `code` in a process that is killed once it has printed the folder that it made."""
    with subprocess.Popen(
        [sys.executable, "-c", code + "; import time; time.sleep(60)"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        made = Path(process.stdout.readline().decode().strip())
        process.kill()
    return made


def test_folders_are_private_and_go_with_their_process(temporary: Path) -> None:
    made = [Path(folders.make()) for _ in range(2)]
    (place,) = temporary.iterdir()
    assert {folder.parent for folder in made} == {place}
    assert {folder.stat().st_mode & 0o777 for folder in (place, *made)} == {0o700}
    (made[0] / "sub").mkdir()
    folders.remove(str(made[0]))
    assert [p for p in made if p.exists()] == [made[1]]
    folders.close()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_when_the_next_begins(temporary: Path) -> None:
    left = killed(MAKES)
    assert left.exists()
    mine = Path(folders.make())
    assert list(temporary.iterdir()) == [mine.parent]
    folders.close()


def test_what_a_living_process_uses_stays(temporary: Path) -> None:
    command = [sys.executable, "-c", MAKES + "; input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().decode().strip())
        folders.remove_left()
        assert theirs.exists()
        other.kill()
    folders.remove_left()
    assert not theirs.exists()


@pytest.mark.parametrize(
    "what", ["a link", "open to others", "a file", "without a lock", "with a lock that names nobody"]
)
def test_what_is_not_certainly_ours_stays(temporary: Path, what: str) -> None:
    place = temporary / f"{folders.PREFIX}x"
    if what == "a link":
        left = killed(MAKES).parent
        left.rename(temporary / "elsewhere")
        place.symlink_to(temporary / "elsewhere")
    elif what == "a file":
        place.write_text("kept")
    elif what == "open to others":
        left = killed(MAKES).parent
        left.chmod(0o755)
    else:
        place.mkdir(mode=0o700)
        if "lock" in what and "without" not in what:
            (place / folders.LOCK).write_text("")
    before = sorted(temporary.rglob("*"))
    folders.remove_left()
    assert sorted(temporary.rglob("*")) == before


def test_a_process_that_ends_while_a_program_runs_leaves_nothing(temporary: Path) -> None:
    subprocess.run([sys.executable, "-c", RUNS], check=True, timeout=120)
    assert list(temporary.iterdir()) == []


def test_a_forked_copy_has_a_place_of_its_own(temporary: Path) -> None:
    mine = Path(folders.make())
    receive, send = os.pipe()
    if not (child := os.fork()):
        os.write(send, folders.make().encode() if folders._place is None else b"")
        os._exit(0)
    os.waitpid(child, 0)
    theirs = Path(os.read(receive, 4096).decode())
    os.close(receive)
    os.close(send)
    assert theirs.parent.name.startswith(folders.PREFIX)
    assert theirs.parent != mine.parent
    assert mine.exists()
    folders.remove_left()
    assert not theirs.parent.exists()
    folders.close()
