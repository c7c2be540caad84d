"""Who may ask, and how often: keys that only their hashes are kept of, and how many requests a caller holds at once.

    python -m serving.callers alice --file callers.txt --per-minute 60      prints alice's key, once

A line of the file is a name, the SHA-256 of a key and, if it is bounded, how many requests a minute it is good for. A key
has 256 random bits, so its plain hash gives nothing away. The file is read again when it changes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import saying_unwritable

log = logging.getLogger(__name__)

LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?P<digest>[0-9a-f]{64})(?:\s+(?P<per_minute>[1-9]\d{0,5}))?")
PREFIX = "sk-symbol-"
"""So that scanners for leaked secrets know a key when they see one."""


class Caller(NamedTuple):
    """Somebody with a key."""

    name: str
    per_minute: int | None
    """Requests that the key is good for in a minute, all at once if need be; None: not bounded."""


class Refused(Exception):
    """A request is not let in: the HTTP status, why, and after how many seconds it may be sent again (0: never)."""

    def __init__(self, status: int, why: str, after_s: int = 0) -> None:
        """Say why."""
        super().__init__(why)
        self.status = status
        self.after_s = after_s


class Callers:
    """Lets requests in, or not. Belongs to the event loop: no method waits, but to read a changed file."""

    def __init__(
        self, file: Path | None, n_each: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the keys in `file`; without one, everybody may ask. A caller may hold `n_each` requests at once; None: all.

        InvalidInput for a file that cannot be read or a line that says nothing.
        """
        self._file = file
        self._n_each = n_each
        self._clock = clock
        self._held: Counter[str] = Counter()
        self._left: dict[str, tuple[float, float]] = {}
        self._stamp: object = None
        self._known: Mapping[str, Caller] = {}
        if file is not None:
            self._known, self._stamp = read(file), _stamp(file)

    def name_of(self, authorization: str, address: str) -> str:
        """Return who sends a request: whose key `authorization` shows, or without keys the `address` it comes from.

        Refused with 401 for no key or an unknown one, with 429 for one that was used too often.
        """
        if self._file is None:
            return address
        self._reread(self._file)
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(
            key.strip().encode()
        ).hexdigest()  # looked up by hash: how long it takes tells nothing of a key
        caller = self._known.get(digest) if scheme.lower() == "bearer" else None
        if caller is None:
            raise Refused(
                401, "a key is needed: send the header `Authorization: Bearer KEY`, with a key that is known here"
            )
        self._spend(caller)
        return caller.name

    def enter(self, name: str) -> None:
        """Count a request that `name` holds from now on; Refused with 429 if they hold too many."""
        if self._n_each is not None and self._held[name] >= self._n_each:
            raise Refused(429, f"you hold {self._n_each} requests here already, the most for one caller", 1)
        self._held[name] += 1

    def leave(self, name: str) -> None:
        """Count a request of `name` as ended."""
        self._held[name] -= 1
        self._held += Counter()  # forgets those that hold none

    def _spend(self, caller: Caller) -> None:
        """Take one from what the key has left, which comes back evenly over a minute."""
        if caller.per_minute is None:
            return
        now, rate = self._clock(), caller.per_minute / 60
        left, since = self._left.get(caller.name, (float(caller.per_minute), now))
        left = min(float(caller.per_minute), left + (now - since) * rate)
        if left < 1:
            self._left[caller.name] = left, now
            after_s = int((1 - left) / rate) + 1
            raise Refused(429, f"the key is good for {caller.per_minute} requests a minute", after_s)
        self._left[caller.name] = left - 1, now

    def _reread(self, file: Path) -> None:
        """Take the keys of a file that changed; one that is broken changes nothing, and is logged once."""
        if (stamp := _stamp(file)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = read(file)
            log.info("%s: read again, %d keys", file, len(self._known))
        except InvalidInput as e:
            log.warning("%s; the keys of before stay in force", e)


def read(file: Path) -> dict[str, Caller]:
    """Return the callers in `file` by the hashes of their keys; InvalidInput names the line that says nothing."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InvalidInput(f"{file}: keys of callers cannot be read: {e}") from e
    found: dict[str, Caller] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if (match := LINE.fullmatch(text)) is None:
            raise InvalidInput(
                f"{file}:{number}: expected a name, the SHA-256 of a key and, if bounded, requests a minute"
            )
        bound = match["per_minute"]
        found[match["digest"]] = Caller(match["name"], int(bound) if bound else None)
    return found


def _stamp(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@click.command()
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File the server reads.")
@click.option("--per-minute", type=click.IntRange(1, 999_999), help="Requests a minute the key is good for.")
def main(name: str, file: Path, per_minute: int | None) -> None:
    """Make a key for NAME, who may ask the server: its hash goes to the file, the key is printed once and kept nowhere."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = " ".join(filter(None, (name, hashlib.sha256(key.encode()).hexdigest(), str(per_minute or ""))))
    if not LINE.fullmatch(line):
        raise click.UsageError(f"{name!r}: a name has at most 64 letters, digits, and . _ - @")
    with saying_unwritable(file):
        begun = file.exists() and not file.read_bytes().endswith(b"\n") and file.stat().st_size > 0
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as out:
            out.write(f"{chr(10) if begun else ''}{line}\n")
    click.echo(key)


if __name__ == "__main__":
    main()
