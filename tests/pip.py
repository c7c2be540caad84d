"""pip, for tests that build or install packages: nothing is fetched, and setuptools is that of this environment."""

import subprocess
import sys
from pathlib import Path

ALONE = ("--quiet", "--no-deps", "--no-build-isolation")


def install(site: Path, *folders: Path) -> None:
    """Install the packages in `folders` into the folder `site`."""
    _pip("install", "--target", site, *folders)


def wheel(folder: Path, out: Path) -> Path:
    """Build the wheel of the package in `folder` into `out`, and return it."""
    _pip("wheel", "--wheel-dir", out, folder)
    (made,) = out.glob("*.whl")
    return made


def _pip(command: str, *arguments: object) -> None:
    words = [sys.executable, "-m", "pip", command, *ALONE, *map(str, arguments)]
    subprocess.run(words, check=True, capture_output=True)
