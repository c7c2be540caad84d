"""Where the served weights come from, whether there are others by now, and whose signature they have to bear."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol

from symbol_llm.engines import weights
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tracking import lineage, registry, signing

AGAIN_S, SELDOM_S = 60.0, 3600.0
"""Seconds after which what was refused is fetched again, since it may have been mended where it lies: at first, and in the end."""


class Source(Protocol):
    """Weights that may change while they are served."""

    may_change: ClassVar[bool]
    """Whether other weights may come, or the same ones mended."""

    def now(self) -> str | None:
        """Return what names the weights to serve now, for comparison alone; None while there are none."""

    def fetch(self) -> Path:
        """Return the folder of those weights."""

    def data(self) -> str:
        """Return the collection that those weights were measured on, by hash and revision; empty where it is not known."""

    def put_back(self, weights: str, in_place_of: str, why: str) -> None:
        """Name `weights` again, as `now` called them, unless others than `in_place_of` are named by now; raises if it cannot."""


def of(model: str, key: Path | None = None) -> Source:
    """Return what `model` names: an alias in the registry, which may move, or weights that stay.

    With a public `key`, weights that are not signed by its owner are not handed over: InvalidInput.
    """
    name, at, alias = model.removeprefix("models:/").partition("@")
    return Alias(name, alias, key) if model.startswith("models:/") and at else Fixed(model, key)


class Fixed:
    """Weights that stay: a folder, a package, a revision, a version."""

    may_change: ClassVar[bool] = False

    def __init__(self, model: str, key: Path | None = None) -> None:
        """Name them as `weights.resolve` takes it."""
        self.model = model
        self._key = key

    def now(self) -> str:
        """See `Source`."""
        return self.model

    def fetch(self) -> Path:
        """See `Source`. A folder has its signature in it, as `symbol-llm export` writes it."""
        folder = weights.resolve(self.model)
        if self._key:
            kept = self.model.startswith("models:/")
            signature = _kept(*registry.named(self.model)) if kept else signing.read(folder)
            signing.verify(folder, signature, self._key)
        return folder

    def data(self) -> str:
        """See `Source`."""
        return ""

    def put_back(self, weights: str, in_place_of: str, why: str) -> None:
        """See `Source`."""
        raise InvalidInput(f"{self.model} names one set of weights for good")


class Alias:
    """The version that an alias of the registry names, such as the champion."""

    may_change: ClassVar[bool] = True

    def __init__(
        self, name: str, alias: str, key: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Follow `alias` of the registered model `name`."""
        self.name, self.alias = name, alias
        self._key = key
        self._clock = clock
        self._found: registry.Version | None = None
        self._refused: tuple[registry.Version, str] | None = None
        """The version that was not handed over, and its signature then."""
        self._why = ""
        self._again_at, self._wait_s = 0.0, AGAIN_S
        """When, on the clock, it is fetched again, and how long after that."""
        self._numbers: dict[str, str] = {}

    def now(self) -> str | None:
        """See `Source`."""
        self._found = registry.by_alias(self.name, self.alias)
        if self._refused and self._refused[0] != self._found:  # the alias has moved, and may come back
            self._refused, self._wait_s = None, AGAIN_S
        if self._found is None:
            return None
        called = f"version {self._found.number}, {self._found.digest}"
        self._numbers[called] = self._found.number
        return called

    def fetch(self) -> Path:
        """Return the folder of the version that `now` found last; InvalidInput if it found none.

        What is refused, with InvalidInput, is refused with the same words until the alias has moved, the version has another
        signature, or it is time to see whether it was mended: after `AGAIN_S`, then after twice as long, up to `SELDOM_S`.
        """
        found = self._found
        if found is None:
            raise InvalidInput(f"models:/{self.name}@{self.alias}: there is no such alias")
        signature = _kept(self.name, found) if self._key else ""
        if self._refused == (found, signature) and self._clock() < self._again_at:
            raise InvalidInput(self._why)
        try:
            folder = weights.check(registry.fetch(found.source, found.digest))
            if self._key:
                signing.verify(folder, signature, self._key)
        except InvalidInput as e:
            self._refused, self._why = (found, signature), self._refusal(found, e)
            self._again_at, self._wait_s = self._clock() + self._wait_s, min(2 * self._wait_s, SELDOM_S)
            raise InvalidInput(self._why) from e
        self._refused, self._wait_s = None, AGAIN_S
        return folder

    def data(self) -> str:
        """See `Source`."""
        return lineage.facts(self._found.digest).data if self._found else ""

    def _refusal(self, version: registry.Version, error: InvalidInput) -> str:
        """Return why `version` is not handed over, and what helps."""
        back = " (`symbol-llm rollback`)" if self.alias == registry.CHAMPION else ""
        return f"version {version.number} is refused: {error}; mend it where it lies, or move the alias{back}"

    def put_back(self, weights: str, in_place_of: str, why: str) -> None:
        """See `Source`: a rollback of the champion, with its entry in the log."""
        if self.alias != registry.CHAMPION:
            raise InvalidInput(
                f"the alias {self.alias!r} of {self.name!r} is moved by hand; a rollback moves the champion's"
            )
        registry.rollback(self.name, self._numbers[weights], of=self._numbers[in_place_of], why=why)


def _kept(name: str, version: registry.Version) -> str:
    return registry.signature(name, version.number)
