"""Disks that are full or read-only, real ones in a mount namespace: a stage says which file could not be written, in a line."""

import subprocess
import sys
from pathlib import Path

import pytest

from symbol_llm.ground import outputs

ROOT = Path(__file__).parents[1]
STAGE = """
import os, sys
from pathlib import Path
from symbol_llm import stages
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Collect
try:
    stages.collect(Path(sys.argv[1]), Collect(tasks=("scan",), n_train=400, n_test=5))
except InvalidInput as e:
    print(e)
"""
RUN = 'mount -t tmpfs -o "size=$1" tmpfs disk && mkdir disk/deep && if [ $1 = 1m ]; then mount -o remount,ro disk; fi && exec "$2" -c "$3" "$4"'


def in_namespace(folder: Path, size: str, out: str, home: str) -> "subprocess.CompletedProcess[str]":
    """Collect into `folder/out` with state in `folder/home`, where `folder/disk` holds `size` bytes; 1m is read-only."""
    (folder / "disk").mkdir()
    probe = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", folder / "disk"], check=False)
    if probe.returncode != 0:
        pytest.skip("no mount namespaces here")
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", RUN, "run", size, sys.executable, STAGE, str(folder / out)],
        cwd=folder,
        env={"SYMBOL_LLM_HOME": str(folder / home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("size", "told"),
    [("8k", "No space left on device"), ("60k", "No space left on device"), ("1m", "Read-only file system")],
)
@pytest.mark.parametrize(
    ("out", "home"), [("disk/deep/out", "home"), ("out", "disk/deep/home"), ("disk/out", "disk/home")]
)
def test_stage_on_a_full_or_read_only_disk_says_what_could_not_be_written(
    tmp_path: Path, size: str, told: str, out: str, home: str
) -> None:
    done = in_namespace(tmp_path, size, out, home)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1), done
    place, _, said = done.stdout.strip().partition(": cannot be written: ")
    assert (Path(place).is_relative_to(tmp_path), said) == (True, told)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
    assert left <= {
        "disk",
        "home",
        "home/ledgers",
        f"home/{outputs.MARK}",
        *(p for p in left if p.startswith("home/ledgers/")),
    }
