"""Files that are whole or absent: JSON Lines, atomic replacement, an append-only ledger, hashes.

Nothing here knows what a row means; `records.py` does. A reader's error names file, line and field. Output folders are
`outputs.py`'s.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from symbol_llm.ground import locks
from symbol_llm.ground.errors import InvalidInput

MANIFEST = "manifest.json"
MAX_LINE_BYTES = 64 * 2**20
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Error numbers that speak of the disk, whoever raises them."""
UMASK = os.umask(0)
os.umask(UMASK)

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


def explain(error: ValidationError, whole: str = "row") -> str:
    """Return the first fault of a pydantic error as `field: message, got value`; `whole` stands for what has the fields."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"]) or whole
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said[:1].lower()}{said[1:]}, got {str(first['input'])[:80]!r}{more}"


def write_records(path: Path, rows: Iterable[BaseModel]) -> int:
    """Write `rows` as JSON Lines, whole or not at all; return how many."""
    n = 0
    with replacing(path) as out:
        for row in rows:
            out.write(row.model_dump_json().encode() + b"\n")
            n += 1
    return n


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all; ValueError for a number that is not finite."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as out:
        out.write(text.encode())


def read_text(path: Path) -> str:
    """Return the text in `path`; InvalidInput if it cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError as e:
        raise InvalidInput(f"{path}: no such file") from e
    except OSError as e:
        raise InvalidInput(f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise InvalidInput(f"{path}: not UTF-8 at byte {e.start}; save it as UTF-8") from e


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`; InvalidInput if it is missing or malformed."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as e:
        raise InvalidInput(f"{path}:{e.lineno}: not JSON, {e.msg}") from e


def read_record(path: Path, kind: type[R]) -> R:
    """Return the JSON object in `path` as `kind`; InvalidInput names the field that is wrong."""
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as e:
        raise InvalidInput(f"{path}: {explain(e)}") from e


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` for binary writing; move it over `path` if the block ends well.

    InvalidInput if it cannot be written; whatever else goes wrong in the block passes through.
    """
    with saying_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as out:
            with saying_unwritable(path, DISK_FAULTS):
                yield out
            with saying_unwritable(path):
                out.flush()
                os.fsync(out.fileno())
        with saying_unwritable(path):
            os.chmod(name, 0o666 & ~UMASK)
            os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


@contextlib.contextmanager
def saying_unwritable(path: Path, errnos: Container[int] | None = None) -> Iterator[None]:
    """Turn an OSError inside the block (of `errnos` alone, where given) into InvalidInput: `path` cannot be written.

    A block that does more than work on files must name `errnos`: a refused connection is an OSError too.
    """
    try:
        yield
    except OSError as e:
        if errnos is not None and e.errno not in errnos:
            raise
        raise InvalidInput(f"{path}: cannot be written: {e.strerror or e}") from e


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


class Ledger:
    """An append-only JSON Lines file: each line is flushed; what a killed process left torn is cut off when it is opened.

    >>> with Ledger(path) as ledger:
    ...     done = {row["key"] for row in ledger.rows}
    ...     ledger.append({"key": "a", "text": "..."})
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it if absent; `rows` holds what is there, `n_torn` is 1 if a line was cut off."""
        self.path = path
        self._open = contextlib.ExitStack()
        self._file = self._open.enter_context(locks.open_held(path, "a run that writes this ledger"))
        self.rows: list[dict[str, Any]] = []
        self.n_torn = 0
        self._load()

    def _load(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            row = _row(line)
            if row is None:
                self.n_torn = 1
                self._file.truncate(whole)
                break
            self.rows.append(row)
            whole += len(line)
        self._file.seek(0, os.SEEK_END)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line and flush it; InvalidInput if it cannot be written."""
        with saying_unwritable(self.path):
            self._file.write(json.dumps(row, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
            self._file.flush()

    def __enter__(self) -> Ledger:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, which releases its lock."""
        self._open.close()

    def remove(self) -> None:
        """Delete the file, whose work is done; call it after the output that came of it is in place."""
        self.path.unlink()


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the object in a whole line of a ledger; None for a line that is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line.decode(errors="surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
