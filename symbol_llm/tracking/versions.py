"""Sets under version: the collection and each round's filtered set, in a data repository of git and DVC. Only importer of dvc.

The repository is `SYMBOL_LLM_DATA_REPO`, a folder or a git URL, by default a local one beside the other state with a
folder as its remote. Sets lie there at the paths `dvc.yaml` uses, so equal sets have equal hashes in both. One commit and
one tag a set; the same content twice is one commit. Wherever a recording is killed, the next one goes on: the repository
is made beside its place and moved there whole, and lock files of git are taken over once no process works with them.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from symbol_llm.ground import files, locks, outputs
from symbol_llm.ground.errors import InvalidInput, Unavailable

REPO_VARIABLE = "SYMBOL_LLM_DATA_REPO"
REMOTE = "storage"
LOCK_FILES = ("*.lock", "refs/**/*.lock")
"""Of git, in its folder."""

logger = logging.getLogger(__name__)


class Versioned(NamedTuple):
    """Where a set is kept."""

    dvc_md5: str
    revision: str
    """Git commit of the data repository."""
    tag: str


def record(name: str, folder: Path) -> Versioned:
    """Put `folder`, which a stage wrote, under version as `data/<name>` and push it; return hash, commit and tag."""
    _name_the_user()
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", name):
        raise InvalidInput(f"name {name!r}: expected words joined by '/', such as 'round-1/selected'")
    outputs.stage_of(folder)
    repo = repository()
    with locks.hold(repo / ".git" / "symbol-llm" / outputs.LOCK, f"recording {name}"):
        _take_over_locks(repo)
        if _is_url(_where()):
            _pull(repo)
        target = repo / "data" / name
        outputs.copy(folder, target)
        pointer = _add(repo, target)
        tag = _commit(repo, pointer, name)
        return Versioned(_md5(pointer), _git(repo, "rev-parse", "HEAD"), tag)


def _name_the_user() -> None:
    """Have a name and a home for a user whom the machine does not know, as on clusters that choose the number: DVC asks."""
    try:
        getpass.getuser()
    except (OSError, KeyError):
        os.environ["LOGNAME"] = "symbol-llm"
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = tempfile.gettempdir()


def repository() -> Path:
    """Return the folder of the data repository, made or cloned if absent."""
    where = _where()
    if _is_url(where):
        folder = outputs.state_dir() / "data-clone"
        if not folder.is_dir():
            with outputs.placing_new(folder) as new:
                _git(new.parent, "clone", where, new.name)
        return folder
    folder = Path(where).absolute()
    if not (folder / ".dvc").is_dir():
        if folder.is_dir() and any(folder.iterdir()):
            raise InvalidInput(
                f"{REPO_VARIABLE}={where}: expected a repository of git and DVC, or a folder that is empty or absent; "
                f"in a repository of git alone, `dvc init` makes it one"
            )
        if os.path.ismount(folder):
            raise InvalidInput(f"{REPO_VARIABLE}={where}: it is a mount point; name a folder inside it")
        with outputs.placing_new(folder) as new:
            _init(new, folder.parent / f"{folder.name}-remote")
    return folder


def _where() -> str:
    return os.environ.get(REPO_VARIABLE) or str(outputs.state_dir() / "data-repo")


def _is_url(where: str) -> bool:
    return "://" in where or where.startswith("git@")


def _init(folder: Path, remote: Path) -> None:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    folder.mkdir()
    _git(folder, "init", "--initial-branch", "main")
    with Repo.init(str(folder)) as repo, repo.config.edit("repo") as config:
        config["core"] = {"remote": REMOTE, "analytics": False, "autostage": False}
        config["remote"] = {REMOTE: {"url": str(remote)}}
    _git(folder, "add", "--all")
    _git(folder, "commit", "--message", "Begin the data repository")


def _pull(repo: Path) -> None:
    """Bring what others pushed, whatever a recording that was killed left staged or half rebased."""
    if any((repo / ".git" / name).is_dir() for name in ("rebase-merge", "rebase-apply")):
        _git(repo, "rebase", "--abort")
    _git(repo, "pull", "--rebase", "--autostash")


def _take_over_locks(repo: Path) -> None:
    """Remove lock files of git that no process works with, and say so; the caller holds the lock of recordings."""
    for pattern in LOCK_FILES:
        for lock in sorted((repo / ".git").glob(pattern)):
            if lock.is_file() and not lock.is_symlink() and not _is_used(lock, repo):
                with files.saying_unwritable(lock):
                    lock.unlink()
                logger.warning("%s: taken over from a git that was killed", lock)


def _is_used(lock: Path, repo: Path) -> bool:
    """Return whether a process of this machine has `lock` open, or is a git at work in `repo`; True if that cannot be told."""
    processes = [p for p in Path("/proc").glob("[0-9]*") if p.name != str(os.getpid())]
    return not processes or any(_may_use(process, lock, repo) for process in processes)


def _may_use(process: Path, lock: Path, repo: Path) -> bool:
    try:
        is_git = (process / "comm").read_text().startswith("git")
    except OSError:  # it is gone
        return False
    try:
        open_files = {os.readlink(fd) for fd in (process / "fd").iterdir()}
        works_in = [
            os.readlink(process / "cwd"),
            *(process / "cmdline").read_bytes().decode(errors="replace").split("\0"),
        ]
    except PermissionError:  # another user's
        return is_git
    except OSError:
        return False
    return (
        str(lock.resolve()) in open_files
        or is_git
        and any(Path(w).is_relative_to(repo.resolve()) for w in works_in if w)
    )


def _add(repo: Path, target: Path) -> Path:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)

    try:
        with Repo(str(repo)) as dvc:
            dvc.add(str(target))
            dvc.push(str(target))
    except DvcException as e:
        raise Unavailable(f"{target}: DVC could not keep it: {e}") from e
    return target.with_name(f"{target.name}.dvc")


def _commit(repo: Path, pointer: Path, name: str) -> str:
    _git(repo, "add", "--", str(pointer), str(pointer.with_name(".gitignore")))
    tag = f"{name.replace('/', '-')}-{_md5(pointer)[:12]}"
    if _git(repo, "diff", "--cached", "--name-only"):
        _git(repo, "commit", "--message", f"Record {name}")
    if tag not in _git(repo, "tag", "--list", tag).split():
        _git(repo, "tag", tag)
    if _git(repo, "remote"):
        _git(repo, "push", "--follow-tags", "origin", "HEAD", tag)
    return tag


def _md5(pointer: Path) -> str:
    return str(yaml.safe_load(pointer.read_text())["outs"][0]["md5"])


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=symbol-llm", "-c", "user.email=symbol-llm@localhost")
    command = ["git", "-C", str(folder), *identity, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)  # noqa: S603 - fixed words
    except FileNotFoundError as e:
        raise InvalidInput("git is not installed; versions of data sets need it") from e
    except subprocess.CalledProcessError as e:
        raise Unavailable(f"git {arguments[0]} in {folder} failed: {e.stderr.strip() or e.stdout.strip()}") from e
    return done.stdout.strip()
