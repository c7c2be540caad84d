"""Files that are whole or absent: JSON Lines, atomic replacement, an append-only ledger, hashes.

Nothing here knows what a row means; `records.py` does. A reader's error names file, line and field. Output folders are
`outputs.py`'s.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from symbol_llm.ground import life, locks
from symbol_llm.ground.errors import Busy, InvalidInput

MANIFEST = "manifest.json"
MAX_LINE_BYTES = 64 * 2**20
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Error numbers that speak of the disk, whoever raises them."""
RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust, of tensors and tokenizers, name the error number of the system."""
SQLITE_ERRORS = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
}
"""What SQLite says, whatever error of whatever library its words come in."""
UMASK = os.umask(0)
os.umask(UMASK)
SETTLED_NS = 2 * 10**9
"""Age of a file from which on a change shows in its times, whatever the file system's clock counts in."""

logger = logging.getLogger(__name__)

LEDGER_LINE = re.compile(rb"([0-9a-f]{8}) (\{.*\})\n", re.DOTALL)

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
    except RecursionError as e:
        raise InvalidInput(f"{place}: JSON that is nested too deeply") from e
    if not isinstance(value, dict):
        raise InvalidInput(f"{place}: expected a JSON object, got {type(value).__name__}")
    return value


def read_records(path: Path, kind: type[R], on_fault: Fault | None = None) -> Iterator[R]:
    """Yield the rows of `path` as `kind`; faults as in `read_json_lines`, with field and what was expected."""
    return (row for _, row in read_numbered(path, kind, on_fault))


def read_numbered(path: Path, kind: type[R], on_fault: Fault | None = None) -> Iterator[tuple[int, R]]:
    """Yield the rows of `path` as in `read_records`, each with its line number."""
    for n, value in read_json_lines(path, on_fault):
        try:
            row = kind.model_validate(value)
        except ValidationError as e:
            fault = InvalidInput(f"{path}:{n}: {explain(e)}")
            if on_fault is None:
                raise fault from e
            on_fault(fault)
        else:
            yield n, row


def explain(error: ValidationError, whole: str = "row") -> str:
    """Return the first fault of a pydantic error as `field: message, got value`; `whole` stands for what has the fields.

    Of fields that do not go together, the message says which, and the value is left out.
    """
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"]) or whole
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    said = re.sub(r"\b[Tt]uple\b", "list", first["msg"].removeprefix("Value error, "))  # JSON and YAML have lists alone
    got = (
        f", got {str(first['input'])[:80]!r}"
        if first["type"] != "value_error" or not isinstance(first["input"], dict)
        else ""
    )
    return f"{place}: {said[:1].lower()}{said[1:]}{got}{more}"


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
    except RecursionError as e:
        raise InvalidInput(f"{path}: JSON that is nested too deeply") from e


def read_record(path: Path, kind: type[R]) -> R:
    """Return the JSON object in `path` as `kind`; InvalidInput names the field that is wrong."""
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as e:
        raise InvalidInput(f"{path}: {explain(e)}") from e


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` for binary writing; move it over `path` if the block ends well.

    InvalidInput if it cannot be written; whatever else goes wrong in the block passes through. What writers of `path` that
    were killed left beside it is removed.
    """
    with saying_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{_here()}-{life.this_process()}.")
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


def _sweep(path: Path) -> None:
    """Remove the drafts of `path` whose name says that a process of this machine wrote them which is no longer there."""
    draft = re.compile(rf"\.{re.escape(path.name)}\.{_here()}-(\d+-\d+)\.[a-z0-9_]{{8}}")
    for name in os.listdir(path.parent):
        found = draft.fullmatch(name)
        if found and not life.is_there(found[1]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.parent / name)


@functools.cache
def _here() -> str:
    """Return 8 hexadecimal digits for where process numbers mean what they mean here: host, start of the machine, namespace."""
    where = [socket.gethostname()]
    with contextlib.suppress(OSError):
        where += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\0".join(where).encode()).hexdigest()[:8]


@contextlib.contextmanager
def saying_unwritable(path: Path, errnos: Container[int] | None = None) -> Iterator[None]:
    """Turn an OSError inside the block (of `errnos` alone, where given) into InvalidInput: `path` cannot be written.

    A block that does more than work on files must name `errnos`: a refused connection is an OSError too. An error of
    another type counts if its text names one of `errnos`, as those of libraries in Rust and of SQLite do.
    """
    try:
        yield
    except OSError as e:
        if errnos is not None and e.errno not in errnos:
            raise
        raise InvalidInput(f"{path}: cannot be written: {e.strerror or e}") from e
    except Exception as e:
        number = _named_in(str(e))
        if errnos is None or number not in errnos:
            raise
        raise InvalidInput(f"{path}: cannot be written: {os.strerror(number)}") from e


def _named_in(text: str) -> int:
    """Return the error number of the system that the text of a library's error names; 0 if there is none."""
    found = RUST_ERROR.search(text)
    return int(found[1]) if found else next((n for said, n in SQLITE_ERRORS.items() if said in text), 0)


def hash_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and contents (manifests and hidden files left out)."""
    if path.is_file():
        return _digest(path)
    if not path.is_dir():
        raise InvalidInput(f"{path}: no such file or folder")
    return whole(digests(path))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in `folder`, by its path in there."""
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): _digest(p) for p in found}


def whole(found: Mapping[str, str]) -> str:
    """Return the SHA-256 that `hash_path` gives a folder whose files have the digests `found`."""
    made = hashlib.sha256()
    for name in sorted(filter(counts, found), key=lambda name: name.split("/")):
        made.update(f"{name}\0{found[name]}\n".encode())
    return made.hexdigest()


def counts(name: str) -> bool:
    """Return whether the file `name` of a folder counts for the folder's hash: it is neither hidden nor a manifest."""
    parts = name.split("/")
    return parts[-1] != MANIFEST and not any(part.startswith(".") for part in parts)


_known: dict[tuple[int, ...], str] = {}
"""Digests that this process has made, by what changes when the file does, so that no file is read twice for them."""


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            key, now = _state(file), time.time_ns()
            if key not in _known:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                if _state(file) != key or now - key[-1] < SETTLED_NS:
                    return found
                _known[key] = found
            return _known[key]
    except OSError as e:
        raise InvalidInput(f"{path}: cannot be read: {e.strerror}") from e


def _state(file: IO[bytes]) -> tuple[int, ...]:
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class Ledger:
    """An append-only file of JSON objects, a line each behind its checksum, so that work that was stopped can go on.

    Each line is flushed. When it is opened, lines that are torn or altered are left out, with a warning, and the good ones
    behind them are kept: whoever goes on finds those rows missing and makes them again.

    >>> with Ledger(path) as ledger:
    ...     done = {row["key"] for row in ledger.rows}
    ...     ledger.append({"key": "a", "text": "..."})
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it if absent; `rows` holds what is there, `n_bad` how many lines were left out."""
        self.path = path
        self._open = contextlib.ExitStack()
        self._file = self._open.enter_context(locks.open_held(path, "a run that writes this ledger"))
        self.rows: list[dict[str, Any]] = []
        self.n_bad = 0
        self._load()

    def _load(self) -> None:
        """Read the rows; what follows the last good line is cut off."""
        self._file.seek(0)
        at = good = 0
        for line in self._file:
            at += len(line)
            row = _row(line)
            if row is None:
                self.n_bad += 1
                continue
            self.rows.append(row)
            good = at
        if good < at:
            with saying_unwritable(self.path):
                self._file.truncate(good)
        self._file.seek(0, os.SEEK_END)
        if self.n_bad:
            logger.warning("%s: %d damaged lines left out; what they held is made again", self.path, self.n_bad)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line and flush it; InvalidInput if it cannot be written."""
        text = json.dumps(row, ensure_ascii=False).encode(errors="surrogatepass")
        with saying_unwritable(self.path):
            self._file.write(b"%08x %b\n" % (zlib.crc32(text), text))
            self._file.flush()

    def __enter__(self) -> Ledger:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, which releases its lock."""
        with saying_unwritable(self.path):
            self._open.close()


def remove_ledger(path: Path) -> None:
    """Delete the ledger `path`, whose work is done, unless it is absent or somebody works with it again."""
    if path.is_file() and not path.is_symlink():
        with contextlib.suppress(Busy), locks.open_held(path, "a run that writes this ledger"):
            path.unlink()


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the object in a line of a ledger; None for a line that is torn or altered."""
    match = LEDGER_LINE.fullmatch(line)
    if match is None or zlib.crc32(match[2]) != int(match[1], 16):
        return None
    try:
        value = json.loads(match[2].decode(errors="surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
