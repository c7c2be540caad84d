"""Sets under version: the collection and each round's filtered set, in a data repository of git and DVC. Only importer of dvc.

The repository is `SYMBOL_LLM_DATA_REPO`, a folder or a git URL, by default a local one beside the other state with a
folder as its remote. Sets lie there at the paths `dvc.yaml` uses, so equal sets have equal hashes in both. One commit and
one tag a set; the same content twice is one commit. Wherever a recording is killed, the next one goes on: the repository
is made beside its place and moved there whole, and lock files of git are taken over once no process works with them.

One that is named by its URL may be shared by many: the files go to DVC's remote first, then commit and tag to git, both or
neither. Where others pushed in between, the commit is put upon theirs and the push is tried again, so history is a line. An
empty repository is begun, with `SYMBOL_LLM_DATA_REMOTE` as DVC's remote.
"""

from __future__ import annotations

import getpass
import logging
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from symbol_llm.ground import files, locks, outputs
from symbol_llm.ground.errors import Busy, InvalidInput, Unavailable
from symbol_llm.tracking import store
from symbol_llm.tracking.git import REPO_VARIABLE, Moved, hidden
from symbol_llm.tracking.git import run as _git

REMOTE_VARIABLE = "SYMBOL_LLM_DATA_REMOTE"
REMOTE = "storage"
ANSWER_S = 60.0
"""How long git may take each time where nothing is sent."""
PATIENCE_S = 900.0
"""How long to wait for another recording on this machine."""
WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0)
"""Before each new try to push, where others were faster; shortened by chance, lest two keep in step."""
T = TypeVar("T")
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
    repo = _patiently(repository)
    with ExitStack() as stack:
        lock = repo / ".git" / "symbol-llm" / outputs.LOCK
        _patiently(lambda: stack.enter_context(locks.hold(lock, f"recording {name}")))
        _take_over_locks(repo)
        if shared := is_url(_where()):
            _pull(repo)
        target = repo / "data" / name
        outputs.copy(folder, target)
        pointer = _add(repo, target)
        _commit(repo, pointer, name)
        tag = _tag(name, _md5(pointer))
        if shared:
            _publish(repo)
        else:
            _tag_unless_there(repo, tag, "HEAD")
            if _git(repo, "remote"):
                _git(repo, "push", "--atomic", "origin", "HEAD", tag)
        return Versioned(_md5(pointer), _git(repo, "rev-parse", "HEAD"), tag)


def _patiently(call: Callable[[], T]) -> T:
    """Return `call()`, tried again while another recording is busy there, for `PATIENCE_S`."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except Busy:
            if time.monotonic() > ends:
                raise
        time.sleep(locks.WAIT_S)


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
    if is_url(where):
        folder = outputs.state_dir() / "data-clone"
        if not folder.is_dir():
            with outputs.placing_new(folder) as new:
                _git(new.parent, "clone", where, new.name)
                if not (new / ".dvc").is_dir():
                    _begin(new)
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
            new.mkdir()
            _git(new, "init", "--initial-branch", "main")
            _init(new, str(folder.parent / f"{folder.name}-remote"))
    return folder


def ask() -> str:
    """Return where a repository that is named by its URL lies, and its files, once both have taken what we have to show.

    Nothing is changed: a push is tried without being made, and a store in S3 is asked for a list, which keys that may not write
    may get, too. Another kind of remote is not asked. Raises as `record`.
    """
    where = _where()
    with tempfile.TemporaryDirectory(prefix="symbol-llm-data-") as name:
        clone = Path(name) / "clone"
        _git(clone.parent, "clone", "--depth", "1", where, clone.name, timeout_s=ANSWER_S)
        remote = _known_remote(clone) if (clone / ".dvc").is_dir() else {"url": _first_remote(clone)}
        _git(clone, "commit", "--allow-empty", "--message", "Never pushed")
        _git(clone, "push", "--dry-run", "origin", "HEAD:refs/heads/symbol-llm-asks", timeout_s=ANSWER_S)
    if _is_s3(remote):
        store.ask(remote)
    return f"{hidden(where)}, files at {remote['url']}"


def _known_remote(repo: Path) -> dict[str, Any]:
    from dvc.repo import Repo

    with Repo(str(repo)) as dvc:
        return _remote(dvc)


def _begin(clone: Path) -> None:
    """Make the first commit of an empty repository; where another recording was faster, take its."""
    _init(clone, _first_remote(clone))
    branch = _git(clone, "symbolic-ref", "--short", "HEAD")
    try:
        _git(clone, "push", "origin", f"HEAD:refs/heads/{branch}")
    except Moved:
        _git(clone, "fetch", "origin")
        _git(clone, "reset", "--hard", f"origin/{branch}")


def _first_remote(clone: Path) -> str:
    """Return where the files of a repository go that is still empty; InvalidInput if it is not, or nothing says so."""
    if _git(clone, "branch", "--all"):
        raise InvalidInput(
            f"{REPO_VARIABLE}: a repository of git alone; `dvc init` and `dvc remote add` make it one of DVC, too"
        )
    remote = os.environ.get(REMOTE_VARIABLE)
    if not remote:
        raise InvalidInput(
            f"{REPO_VARIABLE}: the repository is empty; say where its files go: {REMOTE_VARIABLE}=s3://bucket/dvc"
        )
    return remote


def _where() -> str:
    return os.environ.get(REPO_VARIABLE) or str(outputs.state_dir() / "data-repo")


def is_url(where: str) -> bool:
    """Return whether `where` is the address of a repository, and no folder."""
    return "://" in where or where.startswith("git@")


def _init(folder: Path, remote: str) -> None:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    with Repo.init(str(folder)) as repo, repo.config.edit("repo") as config:
        config["core"] = {"remote": REMOTE, "analytics": False, "autostage": False}
        config["remote"] = {REMOTE: {"url": remote}}
    _git(folder, "add", "--all")
    _git(folder, "commit", "--message", "Begin the data repository")


def _pull(repo: Path) -> None:
    """Put the commits that are not pushed upon what others pushed, whatever a recording that was killed left behind.

    Where both recorded a set of one name, ours comes later; lines of both stay in `.gitignore`. Tags become those of the
    server. What was not committed goes to git's stash.
    """
    if any((repo / ".git" / name).is_dir() for name in ("rebase-merge", "rebase-apply")):
        _git(repo, "rebase", "--abort")
    if _git(repo, "status", "--porcelain"):
        _git(repo, "stash", "push", "--include-untracked", "--message", "left by a recording that was killed")
    (repo / ".git" / "info").mkdir(exist_ok=True)
    files.write_text(repo / ".git" / "info" / "attributes", ".gitignore merge=union\n")
    _git(repo, "fetch", "--prune", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    _git(repo, "rebase", "--strategy-option", "theirs", _upstream(repo))


def _upstream(repo: Path) -> str:
    return f"origin/{_git(repo, 'symbolic-ref', '--short', 'HEAD')}"


def _publish(repo: Path) -> None:
    """Push the commits that the server lacks, each with its tag; Moved if others were faster at every try."""
    branch = _git(repo, "symbolic-ref", "--short", "HEAD")
    for wait_s in (*WAITS_S, None):
        commits = _git(repo, "rev-list", "--reverse", f"{_upstream(repo)}..HEAD").split()
        if not commits:
            return
        tags = [tag for commit in commits for tag in _tag_all(repo, commit)]
        try:
            _git(repo, "push", "--atomic", "origin", f"HEAD:refs/heads/{branch}", *(f"refs/tags/{tag}" for tag in tags))
            return
        except Moved:
            if wait_s is None:
                raise
        time.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
        _pull(repo)


def _tag_all(repo: Path, commit: str) -> list[str]:
    """Tag the sets in `commit` whose content has none yet, one of a recording that was killed too; return the new tags."""
    shown = _git(repo, "show", "--format=", "--name-only", "--diff-filter=AM", "-z", commit, "--", "data")
    paths = [path for path in shown.split("\0") if path.endswith(".dvc")]
    tags = [
        _tag(path.removeprefix("data/").removesuffix(".dvc"), _md5_in(_git(repo, "show", f"{commit}:{path}")))
        for path in paths
    ]
    return [tag for tag in tags if _tag_unless_there(repo, tag, commit)]


def _tag_unless_there(repo: Path, tag: str, commit: str) -> bool:
    """Tag `commit` and return True, unless there is such a tag: it names the same content, recorded earlier."""
    if tag in _git(repo, "tag", "--list", tag).split():
        return False
    _git(repo, "tag", tag, commit)
    return True


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
    """Have DVC keep `target`, and push it; return its pointer."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)

    pointer = target.with_name(f"{target.name}.dvc")
    try:
        with Repo(str(repo)) as dvc:
            remote = _remote(dvc)
            dvc.add(str(target))
            if _is_s3(remote):
                store.push(Path(dvc.cache.local.path), _md5(pointer), remote)
            else:
                dvc.push(str(target))
    except DvcException as e:
        raise Unavailable(f"{target}: DVC could not keep it: {' '.join(str(e).split())}") from e
    return pointer


def _remote(dvc: Any) -> dict[str, Any]:
    """Return the section of the repository's own remote; InvalidInput if tasks are told of another."""
    name = dvc.config.get("core", {}).get("remote")
    remote = dict(dvc.config.get("remote", {}).get(name, {}))
    wanted, is_at = os.environ.get(REMOTE_VARIABLE, "").rstrip("/"), str(remote.get("url", "")).rstrip("/")
    if wanted and is_url(_where()) and wanted != is_at:
        raise InvalidInput(
            f"{REMOTE_VARIABLE}={wanted}: the data repository has its files at {is_at or 'no remote'}, where every clone looks; "
            f"make them agree, here or with `dvc remote modify`"
        )
    return remote


def _is_s3(remote: Mapping[str, Any]) -> bool:
    return str(remote.get("url", "")).startswith("s3://")


def _commit(repo: Path, pointer: Path, name: str) -> None:
    _git(repo, "add", "--", str(pointer), str(pointer.with_name(".gitignore")))
    if _git(repo, "diff", "--cached", "--name-only"):
        _git(repo, "commit", "--message", f"Record {name}")


def _tag(name: str, md5: str) -> str:
    return f"{name.replace('/', '-')}-{md5[:12]}"


def _md5(pointer: Path) -> str:
    return _md5_in(pointer.read_text())


def _md5_in(pointer: str) -> str:
    return str(yaml.safe_load(pointer)["outs"][0]["md5"])
