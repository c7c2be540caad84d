"""Files that are whole or absent: JSON Lines, atomic replacement, an append-only ledger, hashes, manifests.

Nothing here knows what a row means; `records.py` does. A reader's error names file, line and field.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from symbol_llm import __version__
from symbol_llm.errors import Busy, InvalidInput

MANIFEST = "manifest.json"
MAX_LINE_BYTES = 64 * 2**20

R = TypeVar("R", bound=BaseModel)


Fault = Callable[[InvalidInput], None]
"""Told of each malformed line instead of stopping at the first."""


def read_json_lines(path: Path, on_fault: Fault | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON Lines file.

    InvalidInput names file and line of what is malformed; with `on_fault` it is handed over and reading goes on.
    """
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file; a JSON Lines file was expected here")
    with path.open("rb") as lines:
        n = 0
        while line := lines.readline(MAX_LINE_BYTES + 1):
            n += 1
            try:
                value = _object(line, f"{path}:{n}")
            except InvalidInput as e:
                if on_fault is None:
                    raise
                on_fault(e)
                while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):  # the rest of a line that is too long
                    line = lines.readline(MAX_LINE_BYTES + 1) or b"\n"
                continue
            if value is not None:
                yield n, value


def _object(line: bytes, place: str) -> dict[str, Any] | None:
    if len(line) > MAX_LINE_BYTES:
        raise InvalidInput(f"{place}: line is longer than {MAX_LINE_BYTES} bytes")
    if not line.strip():
        return None
    try:
        value = json.loads(line)
    except UnicodeDecodeError as e:
        raise InvalidInput(f"{place}: not UTF-8 at byte {e.start}") from e
    except json.JSONDecodeError as e:
        raise InvalidInput(f"{place}: not JSON, {e.msg} at column {e.colno}") from e
    if not isinstance(value, dict):
        raise InvalidInput(f"{place}: expected a JSON object, got {type(value).__name__}")
    return value


def read_records(path: Path, kind: type[R], on_fault: Fault | None = None) -> Iterator[R]:
    """Yield the rows of `path` as `kind`; faults as in `read_json_lines`, with field and what was expected."""
    for n, value in read_json_lines(path, on_fault):
        try:
            row = kind.model_validate(value)
        except ValidationError as e:
            fault = InvalidInput(f"{path}:{n}: {explain(e)}")
            if on_fault is None:
                raise fault from e
            on_fault(fault)
        else:
            yield row


def explain(error: ValidationError) -> str:
    """Return the first fault of a pydantic error as `field: message, got value`."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"]) or "row"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}, got {str(first['input'])[:80]!r}{more}"


def write_records(path: Path, rows: Iterable[BaseModel]) -> int:
    """Write `rows` as JSON Lines, whole or not at all; return how many."""
    n = 0
    with replacing(path) as out:
        for row in rows:
            out.write(row.model_dump_json().encode() + b"\n")
            n += 1
    return n


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as out:
        out.write(text.encode())


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`; InvalidInput if it is missing or malformed."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as e:
        raise InvalidInput(f"{path}: no such file") from e
    except json.JSONDecodeError as e:
        raise InvalidInput(f"{path}:{e.lineno}: not JSON, {e.msg}") from e


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """Open a temporary file beside `path` for binary writing; move it over `path` if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as e:
        raise InvalidInput(f"{path}: cannot be written: {e.strerror}") from e
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Give a fresh folder to fill; it becomes `folder` if the block ends well, else it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield draft
        draft.chmod(0o755)
        if folder.is_dir():
            shutil.rmtree(folder)
        elif folder.exists():
            folder.unlink()
        draft.rename(folder)
    except OSError as e:
        raise InvalidInput(f"{folder}: cannot be written: {e.strerror or e}") from e
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def hash_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and contents (manifests and hidden files left out)."""
    if path.is_file():
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    if not path.is_dir():
        raise InvalidInput(f"{path}: no such file or folder")
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path)
        if file.name != MANIFEST and not any(part.startswith(".") for part in name.parts):
            whole.update(f"{name.as_posix()}\0{hash_path(file)}\n".encode())
    return whole.hexdigest()


def write_manifest(
    folder: Path, *, stage: str, inputs: Mapping[str, Path | None], params: BaseModel, metrics: Mapping[str, float]
) -> None:
    """Write `manifest.json` into `folder`: what it was made from, with which parameters and code, and what came out.

    Metrics in seconds (`..._s`) are left out, so that equal work gives equal bytes.
    """
    write_json(
        folder / MANIFEST,
        {
            "stage": stage,
            "version": __version__,
            "inputs": {name: hash_path(path) for name, path in inputs.items() if path is not None},
            "params": params.model_dump(mode="json"),
            "metrics": {k: v for k, v in metrics.items() if not k.endswith("_s")},
            "output": hash_path(folder),
        },
    )


def state_dir() -> Path:
    """Return the folder for all that is made and can be made again: `SYMBOL_LLM_HOME`, or `runs` in the working folder."""
    return Path(os.environ.get("SYMBOL_LLM_HOME") or "runs").absolute()


class Ledger:
    """An append-only JSON Lines file: each line is flushed, a torn last line is cut off when it is opened.

    >>> with Ledger(path) as ledger:
    ...     done = {row["key"] for row in ledger.rows}
    ...     ledger.append({"key": "a", "text": "..."})
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it if absent; `rows` holds what is there, `n_torn` is 1 if a line was cut off."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            self._file.close()
            raise Busy(f"{path}: another process is writing this ledger; wait for it or stop it") from e
        self.rows: list[dict[str, Any]] = []
        self.n_torn = 0
        self._load()

    def _load(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            try:
                self.rows.append(json.loads(line) if line.endswith(b"\n") else json.loads(""))
            except ValueError:
                self.n_torn = 1
                self._file.truncate(whole)
                break
            whole += len(line)
        self._file.seek(0, os.SEEK_END)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line and flush it."""
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Ledger:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, which releases its lock."""
        self._file.close()


@contextlib.contextmanager
def lock(folder: Path, owner: str) -> Iterator[None]:
    """Hold `folder` for this process; Busy at once if another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            file.seek(0)
            raise Busy(
                f"{folder}: in use by {file.read().strip() or 'another process'}; wait for it or name another folder"
            ) from e
        file.truncate(0)
        file.write(f"{owner}, process {os.getpid()}")
        file.flush()
        yield
