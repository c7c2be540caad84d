"""Output folders: whole or absent, and never in place of anything that this package did not make.

`building` is the one way to write an output, and this module is the only place that deletes folders. The rule: an output
is filled beside its place, under a hidden name, and moved in by rename; a folder that is there already gives way only
if it is empty, or holds the manifest of the same stage and nothing that the manifest does not list. The old folder is
removed last, through a descriptor of its parent, and no symbolic link is followed.

A folder with a manifest is believed only while its files are what the manifest says: `building` checks what it is given
as inputs. A folder without one, of a user's own, is taken as it is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Any, NamedTuple

from pydantic import BaseModel

from symbol_llm import __version__
from symbol_llm.ground import files, locks, provenance
from symbol_llm.ground.errors import Busy, InvalidInput
from symbol_llm.ground.files import DISK_FAULTS, MANIFEST, hash_path, saying_unwritable, write_json
from symbol_llm.ground.records import content_id

MARK = ".symbol-llm"
"""File in folders that hold state; `clean` looks for it."""
LOCK = ".lock"
STAGES = ".stages.lock"
"""Lock that the stages of a run share while they work, held by nobody once the last of them is gone."""
LEDGERS = "ledgers"
TUNING = "tuning"
TRAINJOBS = "trainjobs"
STATE_NAMES = frozenset(
    "data-clone data-repo data-repo-remote explored.html kfp ledgers log.txt mlartifacts mlflow.db mlflow.db.draft "
    "mlflow.db.draft-journal pipelines progress.jsonl promotions.jsonl report.html server.log sources tokenizers torch_extensions trainjobs tuning weights".split()
) | {LOCK, STAGES, MARK, "lost+found"}
"""What may lie in a marked folder beside marked folders. `lost+found` belongs to the file system and is never removed."""

KEYS = frozenset({"stage", "output", "files", "made_with"})
"""Keys of each manifest of ours. One that has all of them but one is ours and damaged."""
LEDGER_NAME = re.compile(r"([a-z]+-)?[0-9a-f]{16}\.jsonl")
MADE_ON_DEMAND = {"convert", "download"}
"""Stages that nobody starts: what they write is made when it is needed and absent."""

logger = logging.getLogger(__name__)


@dataclass
class Draft:
    """An output under way: fill `folder`, and set `metrics` (and `inputs`, once more is known of them) before the block ends.

    `ran` says on what it was done, where that is not plain from the parameters: engine, device, split. `ledger` names the
    ledger of the work, which the first stage that reads the output removes.
    """

    folder: Path
    inputs: dict[str, Path | None]
    metrics: dict[str, float] = field(default_factory=dict)
    ran: dict[str, str] = field(default_factory=dict)
    ledger: str = ""


@contextlib.contextmanager
def building(
    out: Path, stage: str, params: BaseModel | Mapping[str, Any], inputs: Mapping[str, Path | None]
) -> Iterator[Draft]:
    """Give a draft to fill; when the block ends well, it becomes `out`, with a manifest of what it was made from.

    Enter it before the work begins: `out` is refused at once, if at all. InvalidInput if `out` may not be replaced (see
    `refuse`), an input is not what its stage wrote (see `fault`), now or once the work is done, or the disk is full; Busy if
    another process is building the same folder. Other errors pass through, and leave what was there.
    """
    with _placing(out, stage, inputs) as folder:
        read = [verified(path) for path in inputs.values() if path is not None]
        draft = Draft(folder, dict(inputs))
        yield draft
        for path, before in filter(None, read):
            if hash_path(path) != before:
                raise InvalidInput(f"{path}: changed while the stage {stage!r} read it; run the stage again")
        with saying_unwritable(out):
            _write_manifest(draft, stage, params)


def refuse_file(path: Path, is_ours: Callable[[bytes], bool]) -> None:
    """Raise InvalidInput if the file `path` holds anything that `is_ours` does not know as written by us."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise InvalidInput(f"output {str(path)!r} is not a plain file; name another")
    if path.is_file() and (text := path.read_bytes()) and not is_ours(text):
        raise InvalidInput(
            f"output {str(path)!r} holds something that symbol-llm did not write; name another, or remove it"
        )


def copy(folder: Path, out: Path) -> None:
    """Write the files of `folder`, an output with its manifest, to `out`; refused as in `building`."""
    stage = stage_of(folder)
    verified(folder)
    with _placing(out, stage, {"folder": folder}) as draft, saying_unwritable(out):
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            place = draft / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


@contextlib.contextmanager
def _placing(out: Path, stage: str, inputs: Mapping[str, Path | None]) -> Iterator[Path]:
    """Give an empty hidden folder beside `out`, which takes its place when the block ends well."""
    refuse(out, stage, inputs)
    out = Path(os.path.realpath(out))
    draft = out.with_name(f".{out.name}.draft")
    with saying_unwritable(out):
        _only_ours(draft)
        out.parent.mkdir(parents=True, exist_ok=True)
    with locks.hold(draft / LOCK, f"the stage {stage!r}"):
        try:
            with saying_unwritable(out):
                _restore(out, stage)
                _empty(draft)
            with saying_unwritable(out, DISK_FAULTS):
                yield draft
            with saying_unwritable(out):
                _settle(draft)
                placed = _still_free(out, stage, inputs)
                _swap(draft, placed)
        finally:
            if draft.is_dir():
                _empty(draft)
                remove(draft)
    with contextlib.suppress(FileNotFoundError):
        (placed / LOCK).unlink()
    if placed != out:
        raise InvalidInput(f"output {str(out)!r} was filled by others meanwhile; what was made lies in {str(placed)!r}")


@contextlib.contextmanager
def placing_new(out: Path) -> Iterator[Path]:
    """Give the path of a folder to make, which becomes `out` when the block ends well, unless `out` has been made meanwhile.

    `out` is absent or empty. What a killed process left of it is removed. Busy if another process is making it.
    """
    draft = out.with_name(f".{out.name}.draft")
    with saying_unwritable(out):
        _only_ours(draft)
        out.parent.mkdir(parents=True, exist_ok=True)
    with locks.hold(draft / LOCK, f"a process that makes {out.name}"):
        try:
            with saying_unwritable(out):
                _empty(draft)
            with saying_unwritable(out, DISK_FAULTS):
                yield draft / out.name
            with saying_unwritable(out), _folder(out.parent) as parent:
                if not out.is_dir() or not any(out.iterdir()):
                    os.rename(draft / out.name, out)
                os.fsync(parent)
        finally:
            _empty(draft)
            remove(draft)


def remove_drafts(folder: Path) -> None:
    """Remove the drafts of stages that were killed in `folder`, of which the caller knows that no stage works in it."""
    for lock in sorted(folder.rglob(f".*.draft/{LOCK}")):
        draft = lock.parent
        if not draft.is_symlink() and not lock.is_symlink() and locks.is_named(lock):
            with contextlib.suppress(Busy), locks.hold(lock, "a run of the pipeline"):
                _empty(draft)
                remove(draft)


@contextlib.contextmanager
def scratch(home: Path) -> Iterator[Path]:
    """Give an empty folder among the system's temporary ones to the run that holds `home`; it is removed in the end.

    What a run of `home` that was killed left in it is removed first. InvalidInput if the place is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"symbol-llm-{content_id(str(home.absolute()), os.geteuid())}"
    with saying_unwritable(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    stat = folder.lstat()
    is_private = S_ISDIR(stat.st_mode) and stat.st_uid == os.geteuid() and not stat.st_mode & 0o077
    if not is_private or not _mark(folder):
        raise InvalidInput(f"{folder} is not ours and stands in the way; move it away")
    _empty(folder, keep=MARK)
    try:
        yield folder
    finally:
        remove(folder)


def _still_free(out: Path, stage: str, inputs: Mapping[str, Path | None]) -> Path:
    """Return `out`; or, if others have put something in it while the work was done, a new name beside it."""
    try:
        refuse(out, stage, inputs)
    except InvalidInput:
        return next(p for n in itertools.count(1) if not os.path.lexists(p := out.with_name(f"{out.name}-{n}")))
    return out


def refuse(out: Path, stage: str, inputs: Mapping[str, Path | None]) -> None:
    """Raise InvalidInput unless `stage` may write the folder `out`, which is empty, absent, or its own earlier output.

    Never: `/`, a mount point, a home folder, the working folder or one above it, the root of a repository, a symbolic link,
    a path that is not UTF-8, and what equals, contains or lies in one of `inputs`.
    """
    _refuse_always(out)
    if out.is_symlink():
        raise InvalidInput(f"output {str(out)!r} is a symbolic link; name the folder itself, or remove the link")
    if os.path.ismount(out):
        raise InvalidInput(f"output {str(out)!r} is a mount point; name a folder inside it")
    place = Path(os.path.realpath(out))
    for name, path in inputs.items():
        if path is None:
            continue
        read = Path(os.path.realpath(path))
        if place == read or place in read.parents or read in place.parents:
            how = "is" if place == read else "contains" if place in read.parents else "lies in"
            raise InvalidInput(f"output {str(out)!r} {how} the input {name} ({str(path)!r}); name another folder")
    if why := foreign(out, stage):
        raise InvalidInput(
            f"output {str(out)!r} {why}; nothing was changed: name another folder, or remove it yourself"
        )


def _refuse_always(folder: Path) -> None:
    try:
        str(folder).encode()
    except UnicodeEncodeError as e:
        raise InvalidInput(f"path {os.fsencode(folder)!r} is not UTF-8; name another folder") from e
    place, here = Path(os.path.realpath(folder)), Path(os.path.realpath("."))
    what = ""
    if place == Path(place.anchor):
        what = "the root of the file system"
    elif place in _homes():
        what = "a home folder"
    elif place == here:
        what = "the working folder"
    elif place in here.parents:
        what = "a folder above the working folder"
    elif (place / ".git").exists():
        what = "the root of a repository"
    if what:
        raise InvalidInput(f"output {str(folder)!r} is {what}; name a new folder inside it")


def _homes() -> set[Path]:
    homes = {os.path.expanduser("~")}
    with contextlib.suppress(KeyError):
        homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    return {Path(os.path.realpath(home)) for home in homes}


def foreign(folder: Path, stage: str | None = None) -> str:
    """Return what in `folder` is not the output of `stage` (None: of any stage), in words; empty if it may be replaced."""
    if not folder.is_dir():
        return "is a file" if os.path.lexists(folder) else ""
    if not any(folder.iterdir()):
        return ""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()} - {LOCK}
    manifest = _manifest(folder)
    if manifest is None:
        return f"holds files that symbol-llm did not write ({_some(found)})"
    if stage is not None and manifest["stage"] != stage:
        return f"holds the output of the stage {manifest['stage']!r}, not of {stage!r}"
    more = found - {MANIFEST, *manifest["files"]}
    return f"holds files beside the output of the stage {manifest['stage']!r} ({_some(more)})" if more else ""


def _manifest(folder: Path) -> dict[str, Any] | None:
    """Return our manifest in `folder`, or None where there is none."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    ours = (
        isinstance(found, dict) and isinstance(found.get("stage"), str) and isinstance(found.get("files"), list | dict)
    )
    return found if ours else None


class Read(NamedTuple):
    """A folder that a stage wrote, and its hash."""

    folder: Path
    digest: str


def verified(folder: Path) -> Read | None:
    """Return `folder` with its hash; None for a folder or file without a manifest of ours, which is taken as it is.

    InvalidInput if it is not what its stage wrote. If it is, the ledger of that work has served and goes.
    """
    if why := fault(folder):
        raise InvalidInput(f"{folder}: {why}; {_remedy(folder)}")
    manifest = _manifest(folder)
    if manifest is None or "output" not in manifest:
        return None
    ledger = manifest.get("ledger")
    if isinstance(ledger, str) and LEDGER_NAME.fullmatch(ledger):
        files.remove_ledger(state_path() / LEDGERS / ledger)
    return Read(folder, str(manifest["output"]))


def fault(folder: Path) -> str:
    """Return how `folder` differs from what the stage that wrote it left, in words.

    Empty if it does not, or if it has no manifest of ours. Hidden files that came later do not count.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError, RecursionError):
        return f"{MANIFEST} was altered: it is not JSON"
    if not isinstance(manifest, dict) or len(KEYS & manifest.keys()) < len(KEYS) - 1:
        return ""
    is_sealed = manifest.get("seal") in (None, _seal(manifest))  # older versions set none
    if not is_sealed or KEYS - manifest.keys() or _manifest(folder) is None:
        return f"{MANIFEST} was altered"
    return _difference(folder, manifest)


def _difference(folder: Path, manifest: Mapping[str, Any]) -> str:
    found = {name: one for name, one in files.digests(folder).items() if name not in (LOCK, MANIFEST)}
    listed, wrote = manifest["files"], f"the stage {manifest['stage']!r} wrote"
    if isinstance(listed, list):  # names alone, as older versions wrote them
        return "" if files.whole(found) == manifest["output"] else f"its files were altered since {wrote} them"
    if missing := listed.keys() - found.keys():
        return f"{_some(missing)}, which {wrote}, is missing"
    if altered := {name for name in listed if found[name] != listed[name]}:
        return f"{_some(altered)} was altered since {wrote} it"
    more = {name for name in found.keys() - listed.keys() if files.counts(name)}
    return f"{_some(more)} was not there when {wrote} it" if more else ""


def _seal(manifest: Mapping[str, Any]) -> str:
    """Return what the key `seal` of a manifest holds: a hash of the rest."""
    return content_id({key: value for key, value in manifest.items() if key != "seal"})


def _remedy(folder: Path) -> str:
    manifest = _manifest(folder)
    if manifest and manifest["stage"] in MADE_ON_DEMAND:
        return "remove the folder: it is made again when it is needed"
    stage = f"the stage {manifest['stage']!r}" if manifest else "the stage that wrote it"
    return (
        f"run {stage} again (a pipeline does so when it is started again), or, if you meant it, remove its {MANIFEST}"
    )


def digest(folder: Path) -> str:
    """Return the hash of `folder` that its manifest holds, or without one that of its files, or of a file."""
    manifest = _manifest(folder)
    return str(manifest["output"]) if manifest and "output" in manifest else hash_path(folder)


def stage_of(folder: Path) -> str:
    """Return the stage that wrote `folder`; InvalidInput if it has no manifest of ours."""
    manifest = _manifest(folder)
    if manifest is None:
        raise InvalidInput(f"{folder}: no {MANIFEST} of ours; expected a folder that a stage wrote")
    return str(manifest["stage"])


def ran(folder: Path) -> dict[str, str]:
    """Return on what the stage that wrote `folder` ran: engine, device, split, as far as it used them."""
    manifest = _manifest(folder)
    return dict(manifest.get("ran", {})) if manifest else {}


def _some(names: set[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > len(first) else "") if first else "folders"


def _write_manifest(draft: Draft, stage: str, params: BaseModel | Mapping[str, Any]) -> None:
    """Write what the draft was made from, with which parameters, code and packages, on what, and what came out.

    Metrics in seconds (`..._s`) are left out, so that equal work gives equal bytes.
    """
    found = {name: one for name, one in files.digests(draft.folder).items() if name not in (LOCK, MANIFEST)}
    manifest = {
        "stage": stage,
        "version": __version__,
        "made_with": provenance.provenance(),
        "ran": draft.ran,
        "inputs": {name: hash_path(path) for name, path in draft.inputs.items() if path is not None},
        "params": params.model_dump(mode="json") if isinstance(params, BaseModel) else dict(params),
        "metrics": {k: v for k, v in draft.metrics.items() if not k.endswith("_s")},
        "output": files.whole(found),
        "files": found,
    }
    if draft.ledger:
        manifest["ledger"] = draft.ledger
    write_json(draft.folder / MANIFEST, manifest | {"seal": _seal(manifest)})


def _settle(draft: Path) -> None:
    """Give all in `draft` the modes that the umask leaves, and sync it to disk; files shared by hard links stay as they are."""
    for place in (draft, *draft.rglob("*")):
        if place.is_symlink():
            raise InvalidInput(f"{place}: outputs hold no symbolic links")
        if place.is_dir():
            place.chmod(0o777 & ~files.UMASK)
        elif place.stat().st_nlink == 1:
            place.chmod(0o666 & ~files.UMASK)
        _sync(place)


def _sync(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _swap(draft: Path, out: Path) -> None:
    """Move `draft` to `out`; what was there is moved aside first and removed last."""
    aside = _aside(out)
    with _folder(out.parent) as parent:
        if out.is_dir():
            os.rename(out.name, aside.name, src_dir_fd=parent, dst_dir_fd=parent)
        os.rename(draft.name, out.name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    if aside.is_dir():
        _remove_output(aside)


def _restore(out: Path, stage: str) -> None:
    """Finish the swap of a process that was killed in it: the old folder goes back if there is no new one, else goes."""
    aside = _aside(out)
    if not aside.is_dir():
        return
    if why := foreign(aside, stage):
        raise InvalidInput(f"{aside} {why}; move it away")
    if out.exists():
        _remove_output(aside)
    else:
        aside.rename(out)


def _aside(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _only_ours(draft: Path) -> None:
    """Raise InvalidInput if something that is not a draft of ours stands where the draft is to be."""
    if not os.path.lexists(draft):
        return
    others = not draft.is_symlink() and draft.is_dir() and bool(set(os.listdir(draft)) - {LOCK})
    if draft.is_symlink() or not draft.is_dir() or (others and not locks.is_named(draft / LOCK)):
        raise InvalidInput(f"{draft} is not a draft of ours and stands in the way; move it away")


def _empty(folder: Path, keep: str = LOCK) -> None:
    """Remove what is in a folder of ours but the file `keep`, by which it is known as ours until the last moment."""
    for place in folder.iterdir():
        if place.is_dir() and not place.is_symlink():
            remove(place)
        elif place.name != keep:
            place.unlink()


def _remove_output(folder: Path) -> None:
    _empty(folder, keep=MANIFEST)
    remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder that was found to be ours, through a descriptor of its parent; links in it are not followed."""
    with _folder(folder.parent) as parent:
        shutil.rmtree(folder.name, dir_fd=parent)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


# --- state -----------------------------------------------------------------------------------------------------------


def state_dir() -> Path:
    """Return the folder for all that is made and can be made again: `SYMBOL_LLM_HOME`, or `runs` in the working folder.

    InvalidInput for a home folder, a repository, the working folder or one above it. It is made, and marked as ours if
    nobody else has put anything in it.
    """
    folder = state_path()
    if not (folder / MARK).is_file():
        _refuse_always(folder)
        if _mark(folder):
            logger.debug("%s: marked as state", folder)
    return folder


def state_path() -> Path:
    """Return where the state folder is, or would be."""
    return Path(os.environ.get("SYMBOL_LLM_HOME") or "runs").absolute()


def claim(folder: Path) -> Path:
    """Return `folder` for state of ours, made and marked; InvalidInput if it holds anything of somebody else's."""
    _refuse_always(folder)
    if not _mark(folder):
        others = set(os.listdir(folder)) - {"lost+found"}
        raise InvalidInput(f"{folder} holds files that symbol-llm did not write ({_some(others)}); choose another name")
    return folder


def _mark(folder: Path) -> bool:
    """Mark `folder` as ours, unless others have put something in it; return whether it is."""
    with saying_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / MARK).is_file():
            return True
        if set(os.listdir(folder)) - {"lost+found"}:
            return False
        files.write_text(
            folder / MARK, "State of symbol-llm. `symbol-llm clean` removes what it knows in this folder.\n"
        )
    return True


def removable(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what `clean` may remove in `folder`, and what it leaves since it is not known to be ours.

    Outputs with their manifest, and in marked folders what state is made of. Links are never followed.
    """
    ours: list[Path] = []
    left: list[Path] = []
    if folder.is_symlink() or not folder.is_dir():
        return ours, [folder] if os.path.lexists(folder) else left
    _refuse_always(folder)
    if _manifest(folder) and not foreign(folder):
        return [folder], left
    marked = (folder / MARK).is_file() and not (folder / MARK).is_symlink()
    for place in sorted(folder.iterdir()):
        if place.name == "lost+found":
            left.append(place)
        elif marked and place.name in STATE_NAMES and not place.is_symlink():
            ours.append(place)
        elif place.is_dir() and not place.is_symlink() and not (place / ".git").exists():
            more = removable(place)
            ours += more[0]
            left += more[1]
        else:
            left.append(place)
    return ours, left


def clean(folder: Path) -> None:
    """Remove what `removable` lists in `folder`, then the folders that this leaves empty."""
    for place in removable(folder)[0]:
        if place.is_dir():
            remove(place)
        else:
            place.unlink()
        for above in place.parents:
            if above == folder.parent or any(above.iterdir()):
                break
            above.rmdir()
