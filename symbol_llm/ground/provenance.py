"""What work is done with: the code, the packages it stands on, the git revision. Caches and manifests name it.

`identity` is what a result may depend on: it changes with every line of this package and every version of a package
that it uses. The git revision is for people; a commit that touches nothing here leaves the identity as it was.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from symbol_llm.ground.records import content_id

PACKAGE = Path(__file__).parents[1]
REVISION_VARIABLE = "SYMBOL_LLM_REVISION"
"""Set in images, where there is no repository to ask."""
GIT_TIMEOUT_S = 30


def identity() -> str:
    """Return 16 hexadecimal digits that stand for `code` and `packages`."""
    return content_id(code(), packages())


def provenance() -> dict[str, Any]:
    """Return what manifests say: Python, revision, code and the versions of packages."""
    return {"revision": revision(), "code": code(), "python": platform.python_version(), "packages": packages()}


@functools.cache
def code() -> str:
    """Return a hash of this package's sources: its modules and the data beside them, but no parameter files."""
    sources = hashlib.sha256()
    for file in sorted(p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".yaml"}):
        if file.name != "params.yaml" and file.parent.name != "profiles":
            sources.update(file.read_bytes())
    return sources.hexdigest()[:16]


@functools.cache
def packages() -> dict[str, str]:
    """Return the versions of the packages that this one names and that are installed, tools of development left out.

    Empty where this one is not installed but found on the path, which says nothing of what it needs.
    """
    try:
        requires = importlib.metadata.requires("symbol-llm") or ()
    except importlib.metadata.PackageNotFoundError:
        requires = ()
    named = (r for r in requires if not re.search(r"extra == .(dev|docs)\b", r))
    names = {match[0].lower() for r in named if (match := re.match(r"[\w.-]+", r))} - {"symbol-llm"}
    found = {}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def revision() -> str | None:
    """Return the git commit of this package, with `-dirty` if its files differ from it; None where that is not known."""
    if given := os.environ.get(REVISION_VARIABLE):
        return given
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed into somebody else's repository
        return None
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ".")
    return commit and commit + ("-dirty" if changed else "")


def _git(*words: str) -> str | None:
    """Return what git says in the package's folder, or None if it fails or is not there."""
    command = ["git", "-C", str(PACKAGE), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)  # noqa: S603 - our own words
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
