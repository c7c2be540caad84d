"""The promotion log. It lies in the registry, so that it is the same from anywhere, and it decides who is champion.

An entry is a version of the registered model `NAME.promotions`, with what happened as its tags. MLflow numbers the versions of
a model in one transaction, whoever makes them and on whichever database, which is all that a log with many writers needs:

- *One writer.* An entry that moves the champion names the entry before it, `base`. Of two with one base the first counts and
  the other has lost: a compare-and-set without a lock, hence without a lock that a dead process holds.
- *Intent first.* An entry that counts is a decision; then the aliases are moved, then the entry is marked as applied. Each
  step may be done twice. What a killed process left undone is done by whoever comes next (`settle`).
- *Append-only.* Nothing but that mark is ever changed. Aliases moved by hand are noticed, and become an entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from symbol_llm.tracking import runs

CHAMPION, PREVIOUS = "champion", "previous"
LOG = ".promotions"
"""What the name of a model's log ends with."""
MOVES = frozenset({"promote", "rollback", "set by hand"})
"""Actions that say who is champion. The others are `refuse`, and what has `lost` against a move that came first."""
SOURCE = "promotions:/"
"""MLflow wants to know where a version lies. An entry lies nowhere, and the version it is about may be deleted."""
KEPT = ("action", "version", "sha256", "reason", "base", "champion", "previous")
TRIES = 3
BY_HAND_S = 1.0
"""Aliases that differ from the log for so long were moved by hand, and not by a process that is about to see the log."""


class Entry(NamedTuple):
    """One line of the log. Versions are numbers as text, empty for none."""

    number: int
    """From 1; 0 stands for the empty log."""
    time: str
    action: str
    version: str
    """Whom it is about."""
    sha256: str
    reason: str
    base: int
    """The move it was decided on."""
    champion: str = ""
    previous: str = ""
    applied: bool = True


EMPTY = Entry(0, "", "", "", "", "", 0)


def entries(name: str) -> list[Entry]:
    """Return the log of the model `name`, oldest first; `lost` is the action of a move that another one came before."""
    found = runs.search(runs.client().search_model_versions, f"name = '{name}{LOG}'")
    last, out = 0, []
    for entry in sorted(map(_entry, found)):
        moves = entry.action in MOVES
        out.append(entry._replace(action="lost") if moves and entry.base != last else entry)
        last = entry.number if moves and entry.base == last else last
    return out


def _entry(found: Any) -> Entry:
    tags, began = found.tags, time.gmtime(found.creation_timestamp / 1000)
    return Entry(
        number=int(found.version),
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", began),
        action=tags.get("action", ""),
        version=tags.get("version", ""),
        sha256=tags.get("sha256", ""),
        reason=tags.get("reason", ""),
        base=int(tags.get("base", 0)),
        champion=tags.get("champion", ""),
        previous=tags.get("previous", ""),
        applied="applied" in tags,
    )


def head(name: str) -> Entry:
    """Return the last entry that counts as a move, which says who is champion; `EMPTY` if there is none."""
    return next((entry for entry in reversed(entries(name)) if entry.action in MOVES), EMPTY)


def append(name: str, entry: Entry) -> Entry:
    """Add `entry` to the log of `name`; return it as it stands there: as `lost` if another move came first."""
    mlflow = runs.client()
    made(f"{name}{LOG}", f"The promotion log of {name}, a version a decision; `symbol-llm history` prints it.")
    tags = {key: str(value) for key, value in entry._asdict().items() if key in KEPT and value != ""}
    if entry.applied:
        tags["applied"] = "true"
    added = mlflow.create_model_version(
        f"{name}{LOG}", f"{SOURCE}{name}/{entry.version}", tags=tags, description=entry.reason
    )
    return next(one for one in entries(name) if one.number == int(added.version))


def made(name: str, description: str = "") -> None:
    """Make the registered model `name`, unless it is there."""
    from mlflow.exceptions import MlflowException

    mlflow = runs.client()
    if runs.absent_is_none(mlflow.get_registered_model, name) is not None:
        return
    try:
        mlflow.create_registered_model(name, description=description)
    except MlflowException as e:
        if e.error_code != "RESOURCE_ALREADY_EXISTS":  # another process made it just now
            raise


def settle(name: str) -> Entry:
    """Finish what the last move began, and return it: after this the aliases are what it says.

    Aliases that were moved by hand since are left as they are, and entered in the log as a move of their own.
    """
    moved, seen = 0, None
    while True:
        last = head(name)
        if not last.applied or (moved and moved != last.number):  # who was overtaken may have moved the aliases back
            _apply(name, last)
            moved = last.number
            continue
        found = aliases(name)
        if found == (last.champion, last.previous):
            return last
        if seen == (last.number, found):
            reason = f"champion was {last.champion or 'none'}" if last.number else "found where there was no log"
            entry = EMPTY._replace(action="set by hand", version=found[0], reason=reason, base=last.number)
            append(name, entry._replace(champion=found[0], previous=found[1]))
        seen = last.number, found
        time.sleep(BY_HAND_S)


def _apply(name: str, last: Entry) -> None:
    """Move the aliases of `name` as the entry `last` says, and mark it as applied; twice is as good as once."""
    mlflow = runs.client()
    for alias, version, now in zip((CHAMPION, PREVIOUS), (last.champion, last.previous), aliases(name), strict=True):
        if version:  # unless it was deleted meanwhile
            runs.absent_is_none(put, mlflow.set_registered_model_alias, name, alias, version)
        elif now:
            put(mlflow.delete_registered_model_alias, name, alias)
    put(mlflow.set_model_version_tag, f"{name}{LOG}", str(last.number), "applied", "true")


def put(call: Callable[..., Any], *arguments: str) -> None:
    """Call what sets a value. MLflow looks for it, then inserts it, and fails where another process does so in between."""
    from mlflow.exceptions import MlflowException

    for left in reversed(range(TRIES)):
        try:
            call(*arguments)
            return
        except MlflowException:
            if not left:
                raise
            time.sleep(0.1)


def aliases(name: str) -> tuple[str, str]:
    """Return the versions that champion and previous name, empty for none."""
    found = runs.absent_is_none(runs.client().get_registered_model, name)
    held = found.aliases if found else {}
    return str(held.get(CHAMPION, "")), str(held.get(PREVIOUS, ""))
